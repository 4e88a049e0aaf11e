//! Completion: commands and keywords, segments, schemas, tables, columns and files. What the cluster knows is asked for when it is wanted,
//! and only waited for a moment.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use reedline::{Completer, Span, Suggestion};
use tokio::runtime::Handle;
use trough_client::{Discovery, QueryClient, QueryOptions, QueryTemplate, SegmentPattern, SegmentSet};
use trough_core::{SegmentId, Value};

use super::{command, help, lex, render::Format};

/// How long the cluster may take.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// How many suggestions there are at most.
const MOST: usize = 100;

/// What is known of the connected segments.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The segment whose tables are offered.
    pub first: Option<SegmentId>,
    /// Its tables with their columns, once they were asked for.
    pub tables: Option<Vec<(String, Vec<String>)>>,
}

/// Words that come in SQL.
const KEYWORDS: [&str; 34] = [
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "HAVING",
    "LIMIT",
    "OFFSET",
    "AND",
    "OR",
    "NOT",
    "NULL",
    "IS",
    "IN",
    "LIKE",
    "BETWEEN",
    "DISTINCT",
    "AS",
    "JOIN",
    "LEFT JOIN",
    "ON",
    "UNION",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "ASC",
    "DESC",
    "VALUES",
    "SET",
    "INTO",
    "count(",
    "sum(",
    "REDUCE",
];

/// What may come at a place.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Words(Vec<&'static str>),
    Segments { matching: bool },
    Schemas,
    Tables,
    Files,
    Sql,
}

/// What may come where a text ends, and where the word begins that is being typed.
fn wanted(text: &str) -> (Wanted, usize) {
    let last = command::split(text).last().map_or(0, |last| last.as_ptr() as usize - text.as_ptr() as usize);
    let closed = text[last..].trim_end().ends_with(';') && text.ends_with([';', ' ', '\n']);
    let current = if closed { &text[text.len()..] } else { &text[last..] };
    let spaced = current.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let start = text.len() - current.len() + spaced;
    let words: Vec<String> = current[..spaced].split_whitespace().map(str::to_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let place = match words.as_slice() {
        [] => {
            let all = command::COMMANDS.iter().chain(&command::READS).chain(&command::WRITES);
            let ours = ["merge", "\\timing", "\\pager", "\\d", "\\q"];
            Wanted::Words(all.chain(&ours).filter(|word| **word != "eof").copied().collect())
        }
        ["show"] => Wanted::Words(vec![
            "tables",
            "create table",
            "connections",
            "schemas",
            "schema",
            "segments",
            "workers",
            "locks",
        ]),
        ["show", "create"] => Wanted::Words(vec!["table"]),
        ["show", "create", "table"] | ["\\d"] => Wanted::Tables,
        ["show", "schema"] => Wanted::Schemas,
        ["show", "segments"] => Wanted::Words(vec!["matching"]),
        ["connect" | "promote"] => Wanted::Segments { matching: true },
        ["connect" | "promote", first, ..] if *first != "matching" => Wanted::Segments { matching: false },
        ["provision", ..] | ["shred", "segment", ..] => Wanted::Segments { matching: false },
        ["shred"] => Wanted::Words(vec!["segment"]),
        ["register"] => Wanted::Words(vec!["schema"]),
        ["register", "schema"] => Wanted::Schemas,
        ["register", "schema", _] | ["infile"] => Wanted::Files,
        ["format"] => Wanted::Words(Format::NAMES.to_vec()),
        ["help" | "?"] => Wanted::Words(help::TOPICS.iter().map(|topic| topic.name).collect()),
        ["\\timing"] => Wanted::Words(vec!["on", "off"]),
        ["\\pager"] => Wanted::Words(vec!["on", "off"]),
        ["merge"] => Wanted::Words(vec!["select"]),
        [first, ..] if command::READS.contains(first) || command::WRITES.contains(first) || *first == "merge" => {
            Wanted::Sql
        }
        _ => Wanted::Words(Vec::new()),
    };
    if place != Wanted::Sql {
        return (place, start);
    }
    // In SQL a word also begins after a sign.
    let name = text
        .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    let before = lex::tokens(&text[..name.max(last)]);
    let in_text = before.last().is_some_and(|token| token.open);
    let table = before.last().is_some_and(|token| {
        let word = text[token.at.clone()].to_lowercase();
        matches!(word.as_str(), "from" | "join" | "into" | "update" | "table")
    });
    match (in_text, table) {
        (true, _) => (Wanted::Words(Vec::new()), name),
        (false, true) => (Wanted::Tables, name),
        (false, false) => (Wanted::Sql, name),
    }
}

/// Completes what is typed.
pub(super) struct Words {
    pub runtime: Handle,
    pub discovery: Discovery,
    pub queries: QueryClient,
    pub known: Arc<Mutex<Known>>,
}

impl Completer for Words {
    fn complete(&mut self, line: &str, position: usize) -> Vec<Suggestion> {
        let text = &line[..position];
        let (wanted, start) = wanted(text);
        let typed = &text[start..];
        let lower = typed.to_lowercase();
        // Words are given in the case in which one types.
        let small = text.chars().find(|c| c.is_alphabetic()).is_some_and(char::is_lowercase)
            && !typed.starts_with(char::is_uppercase)
            || typed.starts_with(char::is_lowercase);
        let keyword = |word: &&str| word.to_lowercase().starts_with(&lower);
        let cased = |word: &str| if small { word.to_lowercase() } else { word.to_uppercase() };
        let mut found: Vec<String> = match wanted {
            Wanted::Words(words) => words.iter().filter(|word| keyword(word)).map(|word| cased(word)).collect(),
            Wanted::Segments { matching } => {
                let word = ["matching"].iter().filter(|word| matching && keyword(word)).map(|word| cased(word));
                word.chain(self.segments(typed)).collect()
            }
            Wanted::Schemas => self.schemas().into_iter().filter(|id| id.starts_with(typed)).collect(),
            Wanted::Files => files(typed),
            Wanted::Tables => self
                .tables()
                .into_iter()
                .map(|(table, _)| table)
                .filter(|t| t.to_lowercase().starts_with(&lower))
                .collect(),
            Wanted::Sql => {
                let mut names: Vec<String> = Vec::new();
                for (table, columns) in self.tables() {
                    names.extend(columns);
                    names.push(table);
                }
                names.push(":segment".to_owned());
                names.retain(|name| name.to_lowercase().starts_with(&lower));
                let words = KEYWORDS.iter().filter(|word| !typed.is_empty() && keyword(word)).map(|word| cased(word));
                names.extend(words);
                names
            }
        };
        // In order, so that what others begin with comes first: the editor finds what all have in common by it.
        found.sort_unstable();
        found.dedup();
        found.truncate(MOST);
        let span = Span::new(start, position);
        let suggest = |value: String| {
            let append_whitespace = !value.ends_with(['(', '/']);
            Suggestion { value, span, append_whitespace, ..Suggestion::default() }
        };
        found.into_iter().map(suggest).collect()
    }
}

impl Words {
    /// Waits a moment for what is asked for.
    fn wait<T: Default>(&self, asked: impl Future<Output = Option<T>>) -> T {
        let waited = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await });
        waited.ok().flatten().unwrap_or_default()
    }

    fn segments(&self, prefix: &str) -> Vec<String> {
        self.wait(async {
            let mut scan = self.discovery.scan(SegmentPattern::Prefix(prefix.to_owned())).await.ok()?;
            let mut found = Vec::new();
            while found.len() < MOST
                && let Some(page) = scan.next_page(MOST - found.len()).await.ok()?
            {
                found.extend(page.into_iter().map(|served| served.segment.to_string()));
            }
            Some(found)
        })
    }

    fn schemas(&self) -> Vec<String> {
        self.wait(async { Some(self.discovery.catalog().schemas().await.ok()?.into_iter().map(|s| s.id).collect()) })
    }

    /// The tables and columns of the first connected segment.
    fn tables(&self) -> Vec<(String, Vec<String>)> {
        let first = match self.known.lock() {
            Ok(known) => match (&known.tables, &known.first) {
                (Some(tables), _) => return tables.clone(),
                (None, Some(first)) => first.clone(),
                (None, None) => return Vec::new(),
            },
            Err(_) => return Vec::new(),
        };
        let tables = self.wait(async { ask_tables(&self.queries, first.clone()).await });
        if let Ok(mut known) = self.known.lock()
            && known.first.as_ref() == Some(&first)
            && !tables.is_empty()
        {
            known.tables = Some(tables.clone());
        }
        tables
    }
}

async fn ask_tables(queries: &QueryClient, segment: SegmentId) -> Option<Vec<(String, Vec<String>)>> {
    let map = "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c \
               WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY m.name, c.cid";
    let template = QueryTemplate { map: map.to_owned(), ..QueryTemplate::default() };
    let mut stream = queries.fan_out(SegmentSet::Ids(vec![segment]), template, QueryOptions::default());
    let mut tables: Vec<(String, Vec<String>)> = Vec::new();
    while let Some(batch) = stream.next().await {
        for row in trough_sync::rows::rows(&batch.ok()?).ok()? {
            let [Value::Text(table), Value::Text(column)] = row.as_slice() else { continue };
            match tables.last_mut() {
                Some((last, columns)) if last == table => columns.push(column.clone()),
                _ => tables.push((table.clone(), vec![column.clone()])),
            }
        }
    }
    Some(tables)
}

/// Files whose paths begin so.
fn files(typed: &str) -> Vec<String> {
    let (folder, name) = typed.rsplit_once('/').map_or(("", typed), |(folder, name)| (folder, name));
    let shown = if typed.contains('/') { format!("{folder}/") } else { String::new() };
    let read = std::fs::read_dir(if shown.is_empty() { "." } else { shown.as_str() });
    let mut found: Vec<String> = read
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let hidden = file.starts_with('.') && !name.starts_with('.');
            let slash = if entry.path().is_dir() { "/" } else { "" };
            (file.starts_with(name) && !hidden).then(|| format!("{shown}{file}{slash}"))
        })
        .collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_come_depends_on_what_came() {
        let words = |text: &str| match wanted(text) {
            (Wanted::Words(words), start) => (words, start),
            other => panic!("{text}: {other:?}"),
        };
        assert!(words("").0.contains(&"show") && words("sel").0.contains(&"select"));
        assert_eq!(words("show segments ").0, ["matching"]);
        assert_eq!(words("show ta"), (words("show ").0, 5));
        assert!(words("show tables; conn").0.contains(&"connect"));
        assert_eq!(words("format ").0, Format::NAMES);
        assert!(words("select 'from ").0.is_empty());
        assert_eq!(wanted("connect a N1"), (Wanted::Segments { matching: false }, 10));
        assert_eq!(wanted("connect "), (Wanted::Segments { matching: true }, 8));
        assert_eq!(wanted("SHRED SEGMENT x"), (Wanted::Segments { matching: false }, 14));
        assert_eq!(wanted("show schema c"), (Wanted::Schemas, 12));
        assert_eq!(wanted("select * from fl"), (Wanted::Tables, 14));
        assert_eq!(wanted("merge select count(ca"), (Wanted::Sql, 19));
        assert_eq!(wanted("select 1;\nselect a, b"), (Wanted::Sql, 20));
        assert_eq!(wanted("infile /tm"), (Wanted::Files, 7));
        assert_eq!(wanted("register schema x f"), (Wanted::Files, 18));
    }

    #[test]
    fn files_are_found() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("a.sql"), "").expect("a file");
        std::fs::create_dir(dir.path().join("ab")).expect("a directory");
        let base = dir.path().display().to_string();
        assert_eq!(files(&format!("{base}/a")), [format!("{base}/a.sql"), format!("{base}/ab/")]);
        assert!(files(&format!("{base}/x")).is_empty());
    }
}
