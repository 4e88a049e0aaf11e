//! What HELP says.

/// The help on one command.
pub(super) struct Topic {
    /// What it is asked for by, in lower case.
    pub name: &'static str,
    /// Its forms, a line each.
    pub usage: &'static str,
    /// What there is to say about it.
    pub about: &'static str,
    /// Lines that can be typed.
    pub examples: &'static [&'static str],
}

/// The help on a command; other names of it do, too.
pub(super) fn topic(name: &str) -> Option<&'static Topic> {
    let name = match name {
        "exit" | "bye" | "eof" | "\\q" => "quit",
        "insert" | "update" | "delete" | "create" | "drop" => "write",
        "with" | "values" | "explain" | "pragma" => "select",
        "timing" => "\\timing",
        "pager" => "\\pager",
        "\\d" => "show",
        "?" | "\\?" => "help",
        name => name.split_whitespace().next().unwrap_or_default(),
    };
    TOPICS.iter().find(|topic| topic.name == name)
}

/// The forms of all commands.
pub(super) fn overview() -> String {
    let mut text: String = TOPICS.iter().map(|topic| format!("{}\n", topic.usage)).collect();
    text.push_str(
        "\nHELP command tells more, with examples. Keywords are typed in either case; ids and patterns keep theirs.\n",
    );
    text
}

impl Topic {
    /// All of it.
    pub(super) fn text(&self) -> String {
        let examples: String = self.examples.iter().map(|line| format!("    {line}\n")).collect();
        format!("{}\n\n{}\n\nExamples:\n{examples}", self.usage, self.about)
    }
}

/// All topics, in the order in which they are listed.
pub(super) const TOPICS: &[Topic] = &[
    Topic {
        name: "show",
        usage: "\
SHOW TABLES                      tables of the connected segments
SHOW CREATE TABLE [name]         the statements that make them
SHOW CONNECTIONS                 where the connected segments are read and written
SHOW SCHEMAS                     registered schemas
SHOW SCHEMA name                 the script of one of them
SHOW SEGMENTS [MATCHING regex]   segments that are served
SHOW WORKERS                     the workers
SHOW LOCKS                       the segments that are being written",
        about: "\
Over several segments SHOW TABLES and SHOW CREATE TABLE tell in how many of them each is. The
regular expression is searched for anywhere in the id; ^ and $ hold it to the beginning and the
end.",
        examples: &["show segments matching ^N1", "SHOW CREATE TABLE flights", "show schema crawl"],
    },
    Topic {
        name: "connect",
        usage: "\
CONNECT segment [segment…]       use these segments from now on
CONNECT MATCHING regex           use all that match",
        about: "\
Those that match are found now; what is provisioned later is not among them until CONNECT is
said again. (Of more than 100,000 the pattern alone is kept, and each statement finds them
anew.)",
        examples: &["connect N14228", "connect N14228 N24211", "CONNECT MATCHING .*"],
    },
    Topic {
        name: "select",
        usage: "SELECT …;                        runs on each connected segment (also WITH, VALUES, EXPLAIN, PRAGMA)",
        about: "\
SQLite's SQL, ended by a semicolon. Each segment answers for itself, and answers are shown as
they come; MERGE makes one of them. :segment is the segment's id. Segments that fail are counted
and the first of them named. Ctrl-C cancels the query.",
        examples: &[
            "select count(*) from flights;",
            "select :segment, carrier, count(*) from flights group by carrier;",
            "explain query plan select * from flights where dest = 'BOS';",
        ],
    },
    Topic {
        name: "merge",
        usage: "\
MERGE SELECT …;                  one result of all connected segments
MERGE SELECT … REDUCE SELECT …;  the same, with a second statement that says how",
        about: "\
FROM and WHERE are each segment's own affair; grouping, DISTINCT, ORDER BY and LIMIT are over
all of them. count, sum, total, avg, min, max and group_concat are added up by themselves, on
the workers first. For any other aggregate say how: REDUCE runs over the table partial, which
has the rows that the first statement gives on all segments, once on each worker and once more
over what they gave; so it must give columns of the same names.",
        examples: &[
            "merge select carrier, count(*) from flights group by carrier order by 2 desc limit 5;",
            "merge select avg(distance), max(air_time) from flights;",
            "merge select count(*) as n from flights reduce select sum(n) as n from partial;",
        ],
    },
    Topic {
        name: "write",
        usage: "INSERT …; UPDATE …; any SQL      runs on the one connected segment (-w); WRITE before it makes it plain",
        about: "\
What is typed at once runs in one transaction: all of it or nothing. The segment is provisioned
if it has no writer, from the schema of -s if it is new.",
        examples: &["insert into crawl_log (status, url) values (200, 'http://example.com/');", "write vacuum;"],
    },
    Topic {
        name: "provision",
        usage: "PROVISION segment [segment…]     makes segments writable, from the schema of -s if they are new (-w)",
        about: "Each gets a worker that holds its write lock.",
        examples: &["provision 300124", "provision 300124 300125"],
    },
    Topic {
        name: "promote",
        usage: "\
PROMOTE                          promotes the connected segments to the canonical store (-w)
PROMOTE segment [segment…]       promotes these
PROMOTE MATCHING regex           promotes every write-locked one that matches",
        about: "Writing may go on meanwhile. Each line that is printed is one that is done, with where it lies.",
        examples: &["promote", "promote 300124", "PROMOTE MATCHING ^3001"],
    },
    Topic {
        name: "shred",
        usage: "SHRED SEGMENT id [id…]           deletes segments entirely; cannot be undone (-w)",
        about: "\
Copies, records and the canonical file go. It asks before it does so; -y on the command line
answers yes.",
        examples: &["shred segment 300124"],
    },
    Topic {
        name: "register",
        usage: "REGISTER SCHEMA name file        registers the SQL script in a file as a schema",
        about: "The script is tried on an empty database first. Segments that exist stay as they are.",
        examples: &["register schema crawl /etc/trough/crawl.sql"],
    },
    Topic {
        name: "infile",
        usage: "INFILE file                      runs the SQL script in a file on the connected segment (-w)",
        about: "It runs in one transaction: all of it or nothing.",
        examples: &["infile fixes.sql"],
    },
    Topic {
        name: "format",
        usage: "FORMAT [TABLE|PRETTY|RAW|CSV|NDJSON]  shows or sets the output",
        about: "\
TABLE is for people, PRETTY is indented JSON, RAW is JSON on one line, CSV has a header line,
NDJSON is a JSON object a line. Over several segments CSV and NDJSON put the segment before each
row's own columns.",
        examples: &["format csv", "FORMAT TABLE"],
    },
    Topic {
        name: "\\timing",
        usage: "\\timing [on|off]                 whether statements tell how long they took",
        about: "On at first.",
        examples: &["\\timing", "\\timing off"],
    },
    Topic {
        name: "\\pager",
        usage: "\\pager [on|off|command]          what shows output that is longer than the screen",
        about: "At first the program that TROUGH_PAGER or PAGER names, else less.",
        examples: &["\\pager off", "\\pager less -RSX"],
    },
    Topic {
        name: "help",
        usage: "HELP [command]                   all commands, or one with examples (also ?)",
        about: "\\d is SHOW TABLES, \\d name SHOW CREATE TABLE name, \\? HELP and \\q QUIT.",
        examples: &["help", "help merge"],
    },
    Topic {
        name: "quit",
        usage: "QUIT                             leaves the shell (also EXIT, BYE, EOF, Ctrl-D)",
        about: "A statement that was typed half is forgotten.",
        examples: &["quit"],
    },
];

#[cfg(test)]
mod tests {
    use super::{
        super::command::{self, Command},
        *,
    };

    #[test]
    fn every_example_is_understood() {
        for topic in TOPICS {
            for example in topic.examples {
                let parsed = command::parse(example);
                assert!(!matches!(parsed, Command::Wrong(_)), "{example}: {parsed:?}");
            }
        }
    }

    #[test]
    fn every_command_has_help() {
        for word in command::COMMANDS.iter().chain(["select", "merge", "insert", "\\timing", "\\pager", "\\d"].iter()) {
            assert!(topic(word).is_some(), "{word}");
        }
        assert!(topic("nothing").is_none());
        assert!(topic("show").is_some_and(|t| t.text().contains("Examples:\n    show segments")));
    }
}
