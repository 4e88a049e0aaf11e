//! Colours of what is typed.

use nu_ansi_term::{Color, Style};
use reedline::{Highlighter, StyledText};

use super::{
    command,
    lex::{self, Kind},
};

/// Words of SQL that stand out.
const KEYWORDS: [&str; 46] = [
    "all",
    "and",
    "as",
    "asc",
    "between",
    "by",
    "case",
    "cast",
    "collate",
    "create",
    "delete",
    "desc",
    "distinct",
    "drop",
    "else",
    "end",
    "except",
    "exists",
    "from",
    "group",
    "having",
    "in",
    "insert",
    "intersect",
    "into",
    "is",
    "join",
    "left",
    "like",
    "limit",
    "not",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "reduce",
    "select",
    "set",
    "table",
    "then",
    "union",
    "update",
    "values",
    "when",
    "where",
];

/// Colours commands, keywords, texts and comments.
pub(super) struct Colours;

impl Highlighter for Colours {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut styled = StyledText::new();
        let mut at = 0;
        let mut first = true;
        for token in lex::tokens(line) {
            let text = &line[token.at.clone()];
            styled.push((Style::new(), line[at..token.at.start].to_owned()));
            styled.push((style(token.kind, text, first), text.to_owned()));
            first = text == ";" || first && token.kind == Kind::Comment;
            at = token.at.end;
        }
        styled.push((Style::new(), line[at..].to_owned()));
        styled
    }
}

fn style(kind: Kind, text: &str, first: bool) -> Style {
    let lower = text.to_lowercase();
    match kind {
        Kind::Word if first && (command::COMMANDS.contains(&lower.as_str()) || lower == "merge") => {
            Style::new().bold().fg(Color::Cyan)
        }
        Kind::Word if first && command::READS.contains(&lower.as_str()) => Style::new().bold().fg(Color::Blue),
        Kind::Word if first && command::WRITES.contains(&lower.as_str()) => Style::new().bold().fg(Color::Yellow),
        Kind::Word if KEYWORDS.contains(&lower.as_str()) => Style::new().bold(),
        Kind::Text => Style::new().fg(Color::Green),
        Kind::Comment => Style::new().dimmed(),
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_change_no_letter() {
        for line in ["select 'a' as b -- c", "show tables", "  x'0f' ; insert into é", ""] {
            let styled = Colours.highlight(line, 0);
            assert_eq!(styled.raw_string(), line);
        }
        assert_eq!(style(Kind::Word, "SHOW", true), Style::new().bold().fg(Color::Cyan));
        assert_eq!(style(Kind::Word, "shown", true), Style::new());
    }
}
