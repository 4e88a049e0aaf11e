//! Just enough of SQLite's lexis to look at a client's text before SQLite does.

use trough_core::{ErrorCode, SegmentError};

use crate::options::Limits;

/// A piece of SQL text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Blank,
    Word,
    Parameter,
    Semicolon,
    Other,
}

/// The pieces of `sql`, in order: their kind, where they begin and where they end.
fn pieces(sql: &str) -> impl Iterator<Item = (Kind, usize, usize)> + '_ {
    let bytes = sql.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let first = *bytes.get(at)?;
        let word = |mut to: usize| {
            while bytes.get(to).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$') || *b >= 0x80) {
                to += 1;
            }
            to
        };
        let until = |from: usize, close: u8| {
            bytes[from..].iter().position(|b| *b == close).map_or(bytes.len(), |n| from + n + 1)
        };
        let kind;
        (kind, at) = match (first, bytes.get(at + 1)) {
            (b' ' | b'\t' | b'\n' | b'\r' | 0x0c, _) => (Kind::Blank, at + 1),
            (b'-', Some(b'-')) => (Kind::Blank, until(at, b'\n')),
            (b'/', Some(b'*')) => (Kind::Blank, sql[at + 2..].find("*/").map_or(bytes.len(), |n| at + 2 + n + 2)),
            // A doubled quote reads as two texts side by side, which is all the same here.
            (b'\'' | b'"' | b'`', _) => (Kind::Other, until(at + 1, first)),
            (b'[', _) => (Kind::Other, until(at + 1, b']')),
            (b';', _) => (Kind::Semicolon, at + 1),
            (b':' | b'@' | b'$' | b'#' | b'?', _) => (Kind::Parameter, word(at + 1)),
            (b, _) if b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80 => (Kind::Word, word(at)),
            _ => (Kind::Other, at + 1),
        };
        Some((kind, start, at))
    })
}

/// Whether there is nothing but blanks (comments count as something, as they always did).
pub(crate) fn is_blank(sql: &str) -> bool {
    sql.bytes().all(|b| b.is_ascii_whitespace() || b == b';')
}

/// The first word, if the text begins with one.
pub(crate) fn first_word(sql: &str) -> Option<&str> {
    let (kind, from, to) = pieces(sql).find(|(kind, ..)| *kind != Kind::Blank)?;
    (kind == Kind::Word).then(|| &sql[from..to])
}

/// Whether the text begins like a statement that reads.
pub(crate) fn reads(sql: &str) -> bool {
    first_word(sql).is_some_and(|word| {
        ["select", "with", "values", "explain", "pragma"].iter().any(|known| word.eq_ignore_ascii_case(known))
    })
}

/// Whether something other than blanks and semicolons follows the first statement's end. (A semicolon within a
/// trigger's body would count too, but only reading statements are asked about.)
pub(crate) fn has_second_statement(sql: &str) -> bool {
    let mut ended = false;
    for (kind, ..) in pieces(sql) {
        match kind {
            Kind::Blank => {}
            Kind::Semicolon => ended = true,
            _ if ended => return true,
            _ => {}
        }
    }
    false
}

/// Replaces the parameter `:segment` by a number above all others (and above `given`), so that it takes none of theirs;
/// gives the text and the number, or nothing if the text does not use it.
pub(crate) fn number_segment_parameter(sql: &str, given: usize) -> Option<(String, usize)> {
    if !sql.contains(":segment") {
        return None;
    }
    let parameters = pieces(sql).filter(|(kind, ..)| *kind == Kind::Parameter).map(|(_, from, to)| &sql[from..to]);
    let numbers = parameters.filter_map(|text| text.strip_prefix('?')?.parse::<usize>().ok());
    let number = numbers.max().unwrap_or(0).max(given) + 1;
    let mut out = String::with_capacity(sql.len() + 8);
    let mut found = false;
    for (kind, from, to) in pieces(sql) {
        if kind == Kind::Parameter && &sql[from..to] == ":segment" {
            found = true;
            out.push('?');
            out.push_str(&number.to_string());
        } else {
            out.push_str(&sql[from..to]);
        }
    }
    found.then_some((out, number))
}

/// How deep parentheses lie in each other.
fn depth(sql: &str) -> usize {
    let (mut depth, mut most) = (0usize, 0);
    for (kind, from, _) in pieces(sql) {
        match (kind, sql.as_bytes()[from]) {
            (Kind::Other, b'(') => {
                depth += 1;
                most = most.max(depth);
            }
            (Kind::Other, b')') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// Refuses text that SQLite would cut short, that is too long, or nested so deep that it would overflow the stack: SQLite counts
/// expressions within expressions, not SELECTs within SELECTs.
pub(crate) fn check_text(sql: &str, limits: &Limits) -> Result<(), SegmentError> {
    let most = limits.max_expr_depth as usize;
    if sql.bytes().filter(|b| *b == b'(').nth(most).is_some() && depth(sql) > most {
        let text = format!("parentheses lie in each other more than {most} deep");
        return Err(SegmentError::new(ErrorCode::Limit, text));
    }
    if sql.len() > limits.max_sql_bytes {
        let (have, most) = (sql.len(), limits.max_sql_bytes);
        let text = format!("the SQL text of {have} bytes is too long (at most {most}, MAX_SQL_BYTES)");
        return Err(SegmentError::new(ErrorCode::Limit, text));
    }
    if let Some(at) = sql.find('\0') {
        let text = format!("the SQL text holds a NUL character at byte {at}");
        return Err(SegmentError::new(ErrorCode::BadSql, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn knows_reading_statements() {
        for good in
            ["select 1", "  \n SeLeCt 1", "/* x */ with w as (select 1) select 1", "values(1)", "-- a\npragma x"]
        {
            assert!(reads(good), "{good}");
        }
        for bad in ["", "selec", "insert into t values(1)", "attach 'x' as y", "(select 1)", "'select'"] {
            assert!(!reads(bad), "{bad}");
        }
    }

    #[test]
    fn sees_a_second_statement() {
        for one in ["select 1", "select 1;", "select ';x' ; -- y\n ;", "select \"a;b\", [c;d], `e;f` /* ; */"] {
            assert!(!has_second_statement(one), "{one}");
        }
        assert!(has_second_statement("select 1; select 2"));
    }

    #[test]
    fn numbers_the_segment() {
        let numbered = |sql| number_segment_parameter(sql, 2);
        assert_eq!(numbered("select :segment, ?1"), Some(("select ?3, ?1".into(), 3)));
        assert_eq!(numbered("select :segment, ?7"), Some(("select ?8, ?7".into(), 8)));
        assert_eq!(numbered("select ':segment' -- :segment"), None);
        assert_eq!(numbered("select :segments, \":segment\""), None);
    }

    proptest! {
        #[test]
        fn pieces_cover_any_text(sql in "\\PC*") {
            let mut end = 0;
            for (_, from, to) in pieces(&sql) {
                prop_assert_eq!(from, end);
                prop_assert!(to > from && sql.is_char_boundary(to));
                end = to;
            }
            prop_assert_eq!(end, sql.len());
        }
    }
}
