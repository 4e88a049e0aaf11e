//! What a line of the shell means: the Python shell's commands, with the case of patterns and ids kept.

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Nothing was typed.
    Nothing,
    ShowTables,
    /// The statement that makes a table, or all of them.
    ShowCreateTable(Option<String>),
    ShowSchemas,
    ShowSchema(String),
    ShowSegments(Option<String>),
    ShowConnections,
    ShowWorkers,
    ShowLocks,
    Connect(Segments),
    Provision(Vec<String>),
    Promote(Option<Segments>),
    Shred(Vec<String>),
    Register {
        schema: String,
        file: String,
    },
    Infile(String),
    /// None shows the format.
    Format(Option<String>),
    /// SQL that only reads.
    Query(String),
    /// SQL that writes.
    Write(String),
    Help(Option<String>),
    Quit,
    /// Not understood; the text says what would be right.
    Wrong(String),
}

/// Segments by id or by pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segments {
    Ids(Vec<String>),
    Matching(String),
}

/// Statements that SQLite runs on a read-only connection.
const READS: [&str; 5] = ["select", "with", "values", "explain", "pragma"];

/// Understands one line.
pub(super) fn parse(line: &str) -> Command {
    let whole = line.trim();
    let text = whole.trim_end_matches(';').trim_end();
    let (keyword, rest) = word(text);
    match keyword.to_lowercase().as_str() {
        "" => Command::Nothing,
        "show" => show(rest),
        "connect" => segments(rest).map_or_else(|| usage("connect"), Command::Connect),
        "provision" => match rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>() {
            ids if ids.is_empty() => usage("provision"),
            ids => Command::Provision(ids),
        },
        "promote" if rest.is_empty() => Command::Promote(None),
        "promote" => segments(rest).map_or_else(|| usage("promote"), |s| Command::Promote(Some(s))),
        "shred" => {
            let (first, ids) = word(rest);
            let ids: Vec<String> = ids.split_whitespace().map(str::to_owned).collect();
            if !first.eq_ignore_ascii_case("segment") || ids.is_empty() {
                return usage("shred");
            }
            Command::Shred(ids)
        }
        "register" => {
            let (first, tail) = word(rest);
            let arguments = if first.eq_ignore_ascii_case("schema") { tail } else { rest };
            match arguments.split_whitespace().collect::<Vec<_>>()[..] {
                [schema, file] => Command::Register { schema: schema.to_owned(), file: file.to_owned() },
                _ => usage("register"),
            }
        }
        "infile" if rest.is_empty() => usage("infile"),
        "infile" => Command::Infile(unquote(rest).to_owned()),
        "format" if rest.is_empty() => Command::Format(None),
        "format" => match rest.to_lowercase().as_str() {
            format @ ("table" | "pretty" | "raw") => Command::Format(Some(format.to_owned())),
            _ => usage("format"),
        },
        "write" if rest.is_empty() => usage("write"),
        "write" => Command::Write(whole[keyword.len()..].trim().to_owned()),
        "help" | "?" => Command::Help((!rest.is_empty()).then(|| rest.to_lowercase())),
        "quit" | "exit" | "bye" | "eof" => Command::Quit,
        read if READS.contains(&read) => Command::Query(text.to_owned()),
        _ => Command::Write(whole.to_owned()),
    }
}

fn show(rest: &str) -> Command {
    let (what, tail) = word(rest);
    match what.to_lowercase().as_str() {
        "tables" => Command::ShowTables,
        "create" => {
            let (table, name) = word(tail);
            if !table.eq_ignore_ascii_case("table") {
                return usage("show");
            }
            Command::ShowCreateTable((!name.is_empty()).then(|| unquote(name).to_owned()))
        }
        "schemas" => Command::ShowSchemas,
        "schema" if !tail.is_empty() => Command::ShowSchema(tail.to_owned()),
        "segments" if tail.is_empty() => Command::ShowSegments(None),
        "segments" => match segments(tail) {
            Some(Segments::Matching(pattern)) => Command::ShowSegments(Some(pattern)),
            _ => usage("show"),
        },
        "connections" => Command::ShowConnections,
        "workers" => Command::ShowWorkers,
        "locks" => Command::ShowLocks,
        _ => usage("show"),
    }
}

/// `MATCHING regex`, or ids.
fn segments(text: &str) -> Option<Segments> {
    let (first, tail) = word(text);
    if first.eq_ignore_ascii_case("matching") {
        let pattern = unquote(tail);
        return (!pattern.is_empty()).then(|| Segments::Matching(pattern.to_owned()));
    }
    let ids: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    (!ids.is_empty()).then_some(Segments::Ids(ids))
}

fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn unquote(text: &str) -> &str {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote)) {
            return inner;
        }
    }
    text
}

fn usage(command: &str) -> Command {
    Command::Wrong(help(command).unwrap_or_default().to_owned())
}

/// The help of one command.
pub(super) fn help(command: &str) -> Option<&'static str> {
    HELP.iter().find(|(name, _)| *name == command).map(|(_, text)| *text)
}

/// The names of all commands that have help.
pub(super) fn commands() -> impl Iterator<Item = &'static str> {
    HELP.iter().map(|(name, _)| *name)
}

const HELP: &[(&str, &str)] = &[
    (
        "show",
        "SHOW TABLES                      tables of the connected segments
SHOW CREATE TABLE [name]         the statements that make them
SHOW CONNECTIONS                 where the connected segments are read and written
SHOW SCHEMAS                     registered schemas
SHOW SCHEMA name                 one of them
SHOW SEGMENTS [MATCHING regex]   segments that are served
SHOW WORKERS                     the workers
SHOW LOCKS                       the segments that are being written",
    ),
    (
        "connect",
        "CONNECT segment [segment…]       use these segments from now on
CONNECT MATCHING regex           use all that match",
    ),
    ("select", "SELECT …                         runs on every connected segment (also WITH, VALUES, EXPLAIN, PRAGMA)"),
    ("write", "WRITE sql                        runs on the connected segment (-w); any other SQL does so too"),
    (
        "provision",
        "PROVISION segment [segment…]     makes segments writable, from the schema of -s if they are new (-w)",
    ),
    (
        "promote",
        "PROMOTE                          promotes the connected segments to the canonical store (-w)
PROMOTE segment [segment…]       promotes these
PROMOTE MATCHING regex           promotes every write-locked one that matches",
    ),
    ("shred", "SHRED SEGMENT id [id…]           deletes segments entirely; cannot be undone (-w)"),
    ("register", "REGISTER SCHEMA name file        registers the SQL script in a file as a schema"),
    ("infile", "INFILE file                      runs the SQL script in a file on the connected segment (-w)"),
    ("format", "FORMAT [TABLE | PRETTY | RAW]    shows or sets the output: a table, indented JSON, JSON on one line"),
    ("help", "HELP [command]"),
    ("quit", "QUIT                             leaves the shell (also EXIT, BYE, Ctrl-D)"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &[&str]) -> Segments {
        Segments::Ids(list.iter().map(|s| (*s).to_owned()).collect())
    }

    #[test]
    fn keeps_the_case_of_ids_and_patterns() {
        assert_eq!(parse("CONNECT N14228 n14229;"), Command::Connect(ids(&["N14228", "n14229"])));
        assert_eq!(parse("connect matching ^N[A-Z]+$"), Command::Connect(Segments::Matching("^N[A-Z]+$".into())));
        assert_eq!(parse("Show Segments Matching 'N1.*' ;"), Command::ShowSegments(Some("N1.*".into())));
        assert_eq!(parse("SHOW SCHEMA Crawl;"), Command::ShowSchema("Crawl".into()));
        assert_eq!(parse("shred SEGMENT A b"), Command::Shred(vec!["A".into(), "b".into()]));
        assert_eq!(parse("PROMOTE MATCHING ^N"), Command::Promote(Some(Segments::Matching("^N".into()))));
    }

    #[test]
    fn the_python_shells_commands() {
        assert_eq!(parse("  ; "), Command::Nothing);
        assert_eq!(parse("show tables;"), Command::ShowTables);
        assert_eq!(parse("show create table Foo;"), Command::ShowCreateTable(Some("Foo".into())));
        assert_eq!(parse("promote"), Command::Promote(None));
        let register = |schema: &str| Command::Register { schema: schema.into(), file: "f.sql".into() };
        assert_eq!(parse("REGISTER SCHEMA s f.sql"), register("s"));
        assert_eq!(parse("register s f.sql"), register("s"));
        assert_eq!(parse("infile /tmp/a b.sql"), Command::Infile("/tmp/a b.sql".into()));
        assert_eq!(parse("FORMAT Raw"), Command::Format(Some("raw".into())));
        assert_eq!(parse("select 1;"), Command::Query("select 1".into()));
        assert_eq!(parse("insert into t values (';');"), Command::Write("insert into t values (';');".into()));
        assert_eq!(parse("WRITE delete from t;"), Command::Write("delete from t;".into()));
        assert_eq!(parse("bye"), Command::Quit);
        for wrong in ["show", "connect", "shred a", "register x", "format xml", "infile", "show create index"] {
            assert!(matches!(parse(wrong), Command::Wrong(text) if !text.is_empty()), "{wrong}");
        }
    }
}
