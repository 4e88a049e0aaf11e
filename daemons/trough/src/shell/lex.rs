//! SQLite's tokens: as much of the language as it takes to know where a statement ends and what its clauses are.

use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword or a bare identifier.
    Word,
    /// An identifier in quotes: `"a"`, `` `a` ``, `[a]`.
    Quoted,
    /// A text or blob literal.
    Text,
    /// A number.
    Number,
    /// `?1`, `:name`, `@name`, `$name`.
    Parameter,
    /// Anything else, a character at a time; `||` and comparisons are two tokens.
    Sign,
    /// A comment.
    Comment,
}

/// A token and its place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub at: Range<usize>,
    /// Whether its closing quote or comment mark is missing.
    pub open: bool,
}

/// All tokens of a text, white space left out.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut all = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let rest = &text[start..];
        let (kind, length, open) = match bytes[start] {
            b if b.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'-' if rest.starts_with("--") => (Kind::Comment, rest.find('\n').unwrap_or(rest.len()), false),
            b'/' if rest.starts_with("/*") => match rest[2..].find("*/") {
                Some(end) => (Kind::Comment, end + 4, false),
                None => (Kind::Comment, rest.len(), true),
            },
            b'\'' => quoted(Kind::Text, rest, '\''),
            b'"' => quoted(Kind::Quoted, rest, '"'),
            b'`' => quoted(Kind::Quoted, rest, '`'),
            b'[' => match rest.find(']') {
                Some(end) => (Kind::Quoted, end + 1, false),
                None => (Kind::Quoted, rest.len(), true),
            },
            b'x' | b'X' if rest[1..].starts_with('\'') => {
                let (_, length, open) = quoted(Kind::Text, &rest[1..], '\'');
                (Kind::Text, length + 1, open)
            }
            b'?' => (Kind::Parameter, 1 + span(&rest[1..], |c| c.is_ascii_digit()), false),
            b':' | b'@' | b'$' if rest[1..].starts_with(is_word) => {
                (Kind::Parameter, 1 + span(&rest[1..], is_word), false)
            }
            b if b.is_ascii_digit() || (b == b'.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) => {
                (Kind::Number, number(rest), false)
            }
            _ if rest.starts_with(is_word) => (Kind::Word, span(rest, is_word), false),
            _ => (Kind::Sign, rest.chars().next().map_or(1, char::len_utf8), false),
        };
        at = start + length;
        all.push(Token { kind, at: start..at, open });
    }
    all
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || (c as u32) > 0x7f
}

fn span(text: &str, fits: impl Fn(char) -> bool) -> usize {
    text.find(|c| !fits(c)).unwrap_or(text.len())
}

fn number(text: &str) -> usize {
    let plain = span(text, |c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
    let exponent =
        text[..plain].ends_with(['e', 'E']) && !text.starts_with("0x") && text[plain..].starts_with(['+', '-']);
    if exponent { plain + 1 + span(&text[plain + 1..], |c| c.is_ascii_digit()) } else { plain }
}

/// A literal in quotes, in which two quotes mean one.
fn quoted(kind: Kind, text: &str, quote: char) -> (Kind, usize, bool) {
    let mut at = 1;
    while let Some(found) = text[at..].find(quote) {
        at += found + 1;
        if !text[at..].starts_with(quote) {
            return (kind, at, false);
        }
        at += 1;
    }
    (kind, text.len(), true)
}

/// Where the first statement ends: the place after its semicolon; none if it goes on. Semicolons inside a trigger's body end
/// nothing.
pub(super) fn statement_end(text: &str) -> Option<usize> {
    let all: Vec<Token> = tokens(text).into_iter().filter(|t| t.kind != Kind::Comment).collect();
    let word = |t: &Token, is: &str| t.kind == Kind::Word && text[t.at.clone()].eq_ignore_ascii_case(is);
    let trigger =
        all.first().is_some_and(|t| word(t, "create")) && all.iter().skip(1).take(3).any(|t| word(t, "trigger"));
    let semicolon = |t: &Token| t.kind == Kind::Sign && &text[t.at.clone()] == ";";
    // A trigger's body is closed by an END that follows a semicolon; the END of a CASE does not.
    let closed = |i: usize| i >= 2 && word(&all[i - 1], "end") && semicolon(&all[i - 2]);
    let end = (0..all.len()).find(|i| semicolon(&all[*i]) && (!trigger || closed(*i)));
    end.map(|i| all[i].at.end)
}

/// Whether there is nothing but white space, comments and semicolons.
pub(super) fn is_blank(text: &str) -> bool {
    tokens(text).iter().all(|t| t.kind == Kind::Comment && !t.open || &text[t.at.clone()] == ";")
}

/// The first word, in lower case; empty if the text begins with something else.
pub(super) fn first_word(text: &str) -> String {
    let first = tokens(text).into_iter().find(|t| t.kind != Kind::Comment);
    first.filter(|t| t.kind == Kind::Word).map(|t| text[t.at].to_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        tokens(text).into_iter().map(|t| &text[t.at]).collect()
    }

    #[test]
    fn tokens_are_told_apart() {
        let sql = "select x'0f', 'it''s', \"a\"\"b\", [c d], 1.5e-3, .5, :segment, ?12, née -- end;\n/* ; */ from t;";
        let expected = [
            "select",
            "x'0f'",
            ",",
            "'it''s'",
            ",",
            "\"a\"\"b\"",
            ",",
            "[c d]",
            ",",
            "1.5e-3",
            ",",
            ".5",
            ",",
            ":segment",
            ",",
            "?12",
            ",",
            "née",
            "-- end;",
            "/* ; */",
            "from",
            "t",
            ";",
        ];
        assert_eq!(texts(sql), expected);
        assert_eq!(texts("a.b>=1||'x'"), ["a", ".", "b", ">", "=", "1", "|", "|", "'x'"]);
        assert!(tokens("select 'open").last().is_some_and(|t| t.open));
    }

    #[test]
    fn statements_end_at_their_own_semicolon() {
        let end = |sql: &str| statement_end(sql).map(|at| sql[..at].to_owned());
        assert_eq!(end("select 1; select 2;").as_deref(), Some("select 1;"));
        assert_eq!(end("select ';' -- ;\n"), None);
        assert_eq!(end("select 'a;"), None);
        assert_eq!(end("select 1 /* ; "), None);
        let trigger = "create temp trigger t after insert on a begin update b set c = case when 1 then 2 end; delete from c; end;";
        assert_eq!(end(&format!("{trigger} select 1;")).as_deref(), Some(trigger));
        assert!(is_blank(" ;-- nothing\n") && !is_blank("x") && !is_blank("/* open"));
        assert_eq!(first_word("/* a */ Select 1"), "select");
    }
}
