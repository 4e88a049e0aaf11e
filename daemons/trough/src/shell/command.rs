//! What is typed: the Python shell's commands and ours, with the case of patterns and ids kept, and SQL.

use super::{help, lex};

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
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
    /// SQL that only reads, on each segment.
    Query(String),
    /// A SELECT whose results on all segments become one.
    Merge(String),
    /// SQL that writes.
    Write(String),
    /// None turns it over.
    Timing(Option<bool>),
    /// None shows it.
    Pager(Option<String>),
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
pub(super) const READS: [&str; 5] = ["select", "with", "values", "explain", "pragma"];
/// Statements that change something.
pub(super) const WRITES: [&str; 17] = [
    "insert",
    "update",
    "delete",
    "replace",
    "create",
    "drop",
    "alter",
    "begin",
    "commit",
    "end",
    "rollback",
    "savepoint",
    "release",
    "reindex",
    "vacuum",
    "analyze",
    "write",
];
/// The shell's own commands.
pub(super) const COMMANDS: [&str; 13] = [
    "show",
    "connect",
    "provision",
    "promote",
    "shred",
    "register",
    "infile",
    "format",
    "help",
    "exit",
    "quit",
    "bye",
    "eof",
];

/// How a text that begins with a word is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// It ends with its line, or with a semicolon before white space.
    Line,
    /// It ends with the semicolon of an SQL statement.
    Statement,
    /// It goes on to the end: a script, run in one transaction.
    Script,
}

fn extent(text: &str) -> Extent {
    match lex::first_word(text).as_str() {
        word if READS.contains(&word) || word == "merge" => Extent::Statement,
        word if WRITES.contains(&word) => Extent::Script,
        _ => Extent::Line,
    }
}

/// Cuts what was typed into commands. The last one may lack its end.
pub(super) fn split(text: &str) -> Vec<&str> {
    let mut rest = text;
    let mut all = Vec::new();
    while !lex::is_blank(rest) {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        let end = match extent(rest) {
            Extent::Line => line_end(rest),
            Extent::Statement => lex::statement_end(rest).unwrap_or(rest.len()),
            Extent::Script => rest.len(),
        };
        let (one, after) = rest.split_at(end);
        if !lex::is_blank(one) {
            all.push(one.trim());
        }
        rest = after;
    }
    all
}

fn line_end(text: &str) -> usize {
    let line = text.find('\n').unwrap_or(text.len());
    let semicolon = text[..line].match_indices(';').find(|(at, _)| text[at + 1..].starts_with(char::is_whitespace));
    semicolon.map_or(line, |(at, _)| at + 1)
}

/// Whether a text is SQL that goes on on the next line: its last statement has no semicolon yet. The shell's own commands end with
/// their line.
pub(super) fn is_open(text: &str) -> bool {
    let Some(last) = split(text).pop() else { return false };
    match extent(last) {
        Extent::Line => false,
        Extent::Statement => lex::statement_end(last).is_none(),
        Extent::Script => {
            let mut rest = last;
            while let Some(end) = lex::statement_end(rest) {
                rest = &rest[end..];
            }
            !lex::is_blank(rest)
        }
    }
}

/// Understands one command.
pub(super) fn parse(text: &str) -> Command {
    let whole = text.trim();
    let text = whole.trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    if let Some(rest) = text.strip_prefix('\\') {
        return backslash(rest);
    }
    let (keyword, rest) = match lex::first_word(text) {
        // Comments before SQL belong to it.
        sql if READS.contains(&sql.as_str()) => return Command::Query(text.to_owned()),
        sql if WRITES.contains(&sql.as_str()) && sql != "write" => return Command::Write(whole.to_owned()),
        _ => word(text),
    };
    match keyword.to_lowercase().as_str() {
        "show" => show(rest),
        "connect" => segments(rest).map_or_else(|| usage("connect"), Command::Connect),
        "provision" => match ids(rest) {
            ids if ids.is_empty() => usage("provision"),
            ids => Command::Provision(ids),
        },
        "promote" if rest.is_empty() => Command::Promote(None),
        "promote" => segments(rest).map_or_else(|| usage("promote"), |s| Command::Promote(Some(s))),
        "shred" => match word(rest) {
            (first, tail) if first.eq_ignore_ascii_case("segment") && !tail.is_empty() => Command::Shred(ids(tail)),
            _ => usage("shred"),
        },
        "register" => {
            let (first, tail) = word(rest);
            let (schema, file) = word(if first.eq_ignore_ascii_case("schema") { tail } else { rest });
            if schema.is_empty() || file.is_empty() {
                return usage("register");
            }
            Command::Register { schema: schema.to_owned(), file: unquote(file).to_owned() }
        }
        "infile" if rest.is_empty() => usage("infile"),
        "infile" => Command::Infile(unquote(rest).to_owned()),
        "format" if rest.is_empty() => Command::Format(None),
        "format" => match rest.to_lowercase().as_str() {
            format @ ("table" | "pretty" | "raw" | "csv" | "ndjson") => Command::Format(Some(format.to_owned())),
            _ => usage("format"),
        },
        "merge" if READS.contains(&lex::first_word(rest).as_str()) => Command::Merge(rest.to_owned()),
        "merge" => usage("merge"),
        "write" if rest.is_empty() => usage("write"),
        "write" => Command::Write(whole[keyword.len()..].trim().to_owned()),
        "help" | "?" => Command::Help((!rest.is_empty()).then(|| rest.to_lowercase())),
        "quit" | "exit" | "bye" | "eof" => Command::Quit,
        other => unknown(keyword, other),
    }
}

/// Commands that begin as psql's do.
fn backslash(text: &str) -> Command {
    let (name, rest) = word(text);
    match (name, rest.to_lowercase().as_str()) {
        ("timing", "") => Command::Timing(None),
        ("timing", "on") => Command::Timing(Some(true)),
        ("timing", "off") => Command::Timing(Some(false)),
        ("timing", _) => usage("\\timing"),
        ("pager", _) => Command::Pager((!rest.is_empty()).then(|| rest.to_owned())),
        ("d", "") => Command::ShowTables,
        ("d", _) => Command::ShowCreateTable(Some(unquote(rest).to_owned())),
        ("?" | "h", _) => Command::Help((!rest.is_empty()).then(|| rest.to_lowercase())),
        ("q", _) => Command::Quit,
        _ => Command::Wrong(format!("\\{name} is no command: there are \\timing, \\pager, \\d, \\? and \\q")),
    }
}

fn unknown(typed: &str, lower: &str) -> Command {
    let known = COMMANDS.iter().chain(&READS).chain(&WRITES).chain(&["merge"]);
    let nearest = known.map(|word| (strsim::damerau_levenshtein(lower, word), *word)).min();
    let hint = nearest
        .filter(|(distance, _)| *distance <= 2)
        .map_or_else(String::new, |(_, word)| format!("; did you mean {}?", word.to_uppercase()));
    let shown: String = typed.chars().take(30).collect();
    Command::Wrong(format!("{shown:?} is neither a command (HELP lists them) nor the beginning of SQL{hint}"))
}

fn show(rest: &str) -> Command {
    let (what, tail) = word(rest);
    match what.to_lowercase().as_str() {
        "tables" => Command::ShowTables,
        "create" => match word(tail) {
            (table, name) if table.eq_ignore_ascii_case("table") => {
                Command::ShowCreateTable((!name.is_empty()).then(|| unquote(name).to_owned()))
            }
            _ => usage("show"),
        },
        "schemas" => Command::ShowSchemas,
        "schema" if !tail.is_empty() => Command::ShowSchema(unquote(tail).to_owned()),
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

fn ids(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// `MATCHING regex`, or ids.
fn segments(text: &str) -> Option<Segments> {
    let (first, tail) = word(text);
    if first.eq_ignore_ascii_case("matching") {
        let pattern = unquote(tail);
        return (!pattern.is_empty()).then(|| Segments::Matching(pattern.to_owned()));
    }
    let ids = ids(text);
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
    let forms = help::topic(command).map_or("", |topic| topic.usage);
    Command::Wrong(format!("not understood; the forms are\n{forms}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ids: &[&str]) -> Segments {
        Segments::Ids(ids.iter().map(|s| (*s).to_owned()).collect())
    }

    #[test]
    fn keeps_the_case_of_ids_and_patterns() {
        assert_eq!(parse("CONNECT N14228 n14229;"), Command::Connect(list(&["N14228", "n14229"])));
        assert_eq!(parse("connect matching ^N[A-Z]+$"), Command::Connect(Segments::Matching("^N[A-Z]+$".into())));
        assert_eq!(parse("Show Segments Matching 'N1.*' ;"), Command::ShowSegments(Some("N1.*".into())));
        assert_eq!(parse("SHOW SCHEMA Crawl;"), Command::ShowSchema("Crawl".into()));
        assert_eq!(parse("shred SEGMENT A b"), Command::Shred(vec!["A".into(), "b".into()]));
        assert_eq!(parse("PROMOTE MATCHING ^N"), Command::Promote(Some(Segments::Matching("^N".into()))));
        assert_eq!(parse("promote Ab"), Command::Promote(Some(list(&["Ab"]))));
        assert_eq!(parse("provision Ab c"), Command::Provision(vec!["Ab".into(), "c".into()]));
    }

    #[test]
    fn the_python_shells_commands() {
        assert_eq!(parse("show tables;"), Command::ShowTables);
        assert_eq!(parse("SHOW create Table Foo;"), Command::ShowCreateTable(Some("Foo".into())));
        assert_eq!(parse("show create table"), Command::ShowCreateTable(None));
        assert_eq!(parse("SHOW connections"), Command::ShowConnections);
        assert_eq!(parse("show SCHEMAS;"), Command::ShowSchemas);
        assert_eq!(parse("show segments;"), Command::ShowSegments(None));
        assert_eq!(parse("promote"), Command::Promote(None));
        let register = |file: &str| Command::Register { schema: "s".into(), file: file.into() };
        assert_eq!(parse("REGISTER SCHEMA s f.sql"), register("f.sql"));
        assert_eq!(parse("register s f.sql"), register("f.sql"));
        assert_eq!(parse("register schema s 'my file.sql'"), register("my file.sql"));
        assert_eq!(parse("infile /tmp/a b.sql"), Command::Infile("/tmp/a b.sql".into()));
        assert_eq!(parse("format"), Command::Format(None));
        for format in ["table", "pretty", "raw", "csv", "ndjson"] {
            assert_eq!(parse(&format!("FORMAT {}", format.to_uppercase())), Command::Format(Some(format.into())));
        }
        assert_eq!(parse("select 1;"), Command::Query("select 1".into()));
        assert_eq!(parse("-- all\nselect 1;"), Command::Query("-- all\nselect 1".into()));
        assert_eq!(parse("insert into t values (';');"), Command::Write("insert into t values (';');".into()));
        assert_eq!(parse("WRITE delete from t;"), Command::Write("delete from t;".into()));
        assert_eq!(parse("HELP Show"), Command::Help(Some("show".into())));
        assert_eq!(parse("?"), Command::Help(None));
        for quit in ["bye", "QUIT", "exit;", "EOF", "\\q"] {
            assert_eq!(parse(quit), Command::Quit);
        }
    }

    #[test]
    fn ours() {
        assert_eq!(parse("merge SELECT count(*) from T;"), Command::Merge("SELECT count(*) from T".into()));
        assert_eq!(parse("\\timing"), Command::Timing(None));
        assert_eq!(parse("\\timing OFF"), Command::Timing(Some(false)));
        assert_eq!(parse("\\pager less -S"), Command::Pager(Some("less -S".into())));
        assert_eq!(parse("\\d Foo"), Command::ShowCreateTable(Some("Foo".into())));
        assert_eq!(parse("show workers"), Command::ShowWorkers);
        assert_eq!(parse("show LOCKS"), Command::ShowLocks);
    }

    #[test]
    fn what_is_wrong_says_what_would_be_right() {
        for wrong in [
            "show",
            "connect",
            "shred a",
            "register x",
            "format xml",
            "infile",
            "show create index",
            "merge",
            "merge into t",
            "\\nothing",
            "\\timing maybe",
            "frobnicate",
            "show segments x",
        ] {
            assert!(matches!(parse(wrong), Command::Wrong(text) if !text.trim_end().ends_with("are")), "{wrong}");
        }
        assert!(matches!(parse("shwo tables"), Command::Wrong(text) if text.contains("did you mean SHOW?")));
        assert!(matches!(parse("slect 1"), Command::Wrong(text) if text.contains("did you mean SELECT?")));
    }

    #[test]
    fn texts_are_cut_into_commands() {
        assert_eq!(split(" ; -- nothing\n"), Vec::<&str>::new());
        assert_eq!(split("connect a; select 1; show tables"), ["connect a;", "select 1;", "show tables"]);
        assert_eq!(split("select ';';select\n2"), ["select ';';", "select\n2"]);
        assert_eq!(split("show tables\nconnect a;b\nselect 1;"), ["show tables", "connect a;b", "select 1;"]);
        assert_eq!(split("insert into t values (1); delete from u;"), ["insert into t values (1); delete from u;"]);
        assert_eq!(split("-- first\nconnect a"), ["connect a"]);
    }

    #[test]
    fn sql_goes_on_until_its_semicolon() {
        for open in [
            "select 1",
            "insert into t\nvalues (1)",
            "select ';",
            "merge select 1",
            "connect a; select 1",
            "insert x; y",
        ] {
            assert!(is_open(open), "{open}");
        }
        for closed in ["select 1;", "", "show tables", "connect a", "help", "select 1; -- done", "shwo", "\\timing"] {
            assert!(!is_open(closed), "{closed}");
        }
    }
}
