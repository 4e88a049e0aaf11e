//! Functions over texts as PostgreSQL means them. Each gives NULL if an argument is NULL.

use rusqlite::{
    Connection, Error, Result,
    functions::{Context, FunctionFlags},
    types::ValueRef,
};

use super::{fault, values::valid};

/// A text argument; none for NULL.
fn text<'a>(ctx: &'a Context<'_>, i: usize) -> Result<Option<&'a str>> {
    match ctx.get_raw(i) {
        ValueRef::Null => Ok(None),
        ValueRef::Text(bytes) => valid(bytes).map(Some),
        other => Err(Error::InvalidFunctionParameterType(i, other.data_type())),
    }
}

fn integer(ctx: &Context<'_>, i: usize) -> Result<Option<i64>> {
    ctx.get(i)
}

/// Calls a function of texts and integers unless one is NULL.
macro_rules! strict {
    ($ctx:ident, |$($name:ident: $read:ident),+| $body:expr) => {{
        let mut at = 0;
        $(
            let Some($name) = $read($ctx, at)? else { return Ok(None) };
            at += 1;
        )+
        let _ = at;
        Ok(Some($body))
    }};
}

/// Defines the functions on a connection.
pub(crate) fn register(conn: &Connection, flags: FunctionFlags) -> Result<()> {
    conn.create_scalar_function("trough_length", 1, flags, |ctx| strict!(ctx, |s: text| s.chars().count() as i64))?;
    conn.create_scalar_function("trough_lower", 1, flags, |ctx| strict!(ctx, |s: text| s.to_ascii_lowercase()))?;
    conn.create_scalar_function("trough_upper", 1, flags, |ctx| strict!(ctx, |s: text| s.to_ascii_uppercase()))?;
    conn.create_scalar_function("trough_not_ascii", 1, flags, |ctx| strict!(ctx, |s: text| !s.is_ascii()))?;
    conn.create_scalar_function("trough_reverse", 1, flags, |ctx| {
        strict!(ctx, |s: text| s.chars().rev().collect::<String>())
    })?;
    conn.create_scalar_function("trough_left", 2, flags, |ctx| {
        strict!(ctx, |s: text, n: integer| left(s, n).to_owned())
    })?;
    conn.create_scalar_function("trough_right", 2, flags, |ctx| {
        strict!(ctx, |s: text, n: integer| right(s, n).to_owned())
    })?;
    conn.create_scalar_function("trough_replace", 3, flags, |ctx| {
        strict!(ctx, |s: text, from: text, to: text| if from.is_empty() { s.to_owned() } else { s.replace(from, to) })
    })?;
    conn.create_scalar_function("trough_translate", 3, flags, |ctx| {
        strict!(ctx, |s: text, from: text, to: text| translate(s, from, to))
    })?;
    conn.create_scalar_function("trough_position", 2, flags, |ctx| {
        strict!(ctx, |s: text, sought: text| s.find(sought).map_or(0, |at| s[..at].chars().count() as i64 + 1))
    })?;
    conn.create_scalar_function("trough_starts_with", 2, flags, |ctx| {
        strict!(ctx, |s: text, prefix: text| s.starts_with(prefix))
    })?;
    conn.create_scalar_function("trough_substr", 2, flags, |ctx| {
        strict!(ctx, |s: text, from: integer| substr(s, from, None)?.to_owned())
    })?;
    conn.create_scalar_function("trough_substr", 3, flags, |ctx| {
        strict!(ctx, |s: text, from: integer, len: integer| substr(s, from, Some(len))?.to_owned())
    })?;
    conn.create_scalar_function("trough_substr_or_null", 3, flags, |ctx| {
        let part: Result<Option<String>> =
            strict!(ctx, |s: text, from: integer, len: integer| match substr(s, from, Some(len)) {
                Ok(part) => part.to_owned(),
                Err(_) => return Ok(None),
            });
        part
    })?;
    conn.create_scalar_function("trough_split_part", 3, flags, |ctx| {
        strict!(ctx, |s: text, by: text, n: integer| split_part(s, by, n)?.to_owned())
    })?;
    conn.create_scalar_function("trough_split_part_or_null", 3, flags, |ctx| {
        let part: Result<Option<String>> = strict!(ctx, |s: text, by: text, n: integer| match split_part(s, by, n) {
            Ok(part) => part.to_owned(),
            Err(_) => return Ok(None),
        });
        part
    })?;
    for (name, start, end) in
        [("trough_btrim", true, true), ("trough_ltrim", true, false), ("trough_rtrim", false, true)]
    {
        conn.create_scalar_function(name, 1, flags, move |ctx| {
            strict!(ctx, |s: text| trim(s, " ", start, end).to_owned())
        })?;
        conn.create_scalar_function(name, 2, flags, move |ctx| {
            strict!(ctx, |s: text, set: text| trim(s, set, start, end).to_owned())
        })?;
    }
    conn.create_scalar_function("trough_ends_in_escape", 1, flags, |ctx| {
        strict!(ctx, |pattern: text| !trough_pushdown::pattern::ends_well(pattern))
    })?;
    conn.create_scalar_function("trough_like", 2, flags, |ctx| {
        strict!(ctx, |s: text, pattern: text| like(s.as_bytes(), pattern.as_bytes())? == Like::Yes)
    })?;
    conn.create_scalar_function("trough_like_or_null", 2, flags, |ctx| {
        let found: Result<Option<bool>> =
            strict!(ctx, |s: text, pattern: text| match like(s.as_bytes(), pattern.as_bytes()) {
                Ok(found) => found == Like::Yes,
                Err(_) => return Ok(None),
            });
        found
    })?;
    conn.create_scalar_function("trough_matches", 2, flags, matches)
}

/// `trough_matches(text, pattern)`: a search; the pattern is in the language of the crate `regex`.
fn matches(ctx: &Context<'_>) -> Result<Option<bool>> {
    let Some(s) = text(ctx, 0)? else { return Ok(None) };
    if ctx.get_raw(1) == ValueRef::Null {
        return Ok(None);
    }
    let regex =
        ctx.get_or_create_aux(1, |pattern| -> std::result::Result<_, Box<dyn std::error::Error + Send + Sync>> {
            let pattern = pattern.as_str()?;
            Ok(regex::RegexBuilder::new(pattern).size_limit(64 << 20).build()?)
        })?;
    Ok(Some(regex.is_match(s)))
}

/// Where the character with an index begins; the end if there are fewer.
fn at(s: &str, chars: usize) -> usize {
    s.char_indices().nth(chars).map_or(s.len(), |(at, _)| at)
}

fn count(n: i64) -> usize {
    usize::try_from(n).unwrap_or(0)
}

/// The first `n` characters, or all but the last `-n`.
fn left(s: &str, n: i64) -> &str {
    let chars = if n >= 0 { count(n) } else { s.chars().count().saturating_sub(count(n.saturating_neg())) };
    &s[..at(s, chars)]
}

/// The last `n` characters, or all but the first `-n`.
fn right(s: &str, n: i64) -> &str {
    let chars = if n >= 0 { s.chars().count().saturating_sub(count(n)) } else { count(n.saturating_neg()) };
    &s[at(s, chars)..]
}

fn substr(s: &str, from: i64, len: Option<i64>) -> Result<&str> {
    let start = from.max(1);
    let end = match len {
        None => i64::MAX,
        Some(len) if len < 0 => return Err(fault("22011", "negative substring length not allowed")),
        Some(len) => from.saturating_add(len),
    };
    if end <= start {
        return Ok("");
    }
    let rest = &s[at(s, count(start - 1))..];
    Ok(&rest[..at(rest, count(end - start))])
}

fn split_part<'a>(s: &'a str, by: &str, n: i64) -> Result<&'a str> {
    if n == 0 {
        return Err(fault("22023", "field position must not be zero"));
    }
    if s.is_empty() {
        return Ok("");
    }
    if by.is_empty() {
        return Ok(if n == 1 || n == -1 { s } else { "" });
    }
    // Separators are found from the left, whichever way fields are counted.
    let mut fields = s.split(by);
    let field = if n > 0 {
        fields.nth(count(n - 1))
    } else {
        let fields: Vec<_> = fields.collect();
        fields.len().checked_sub(count(n.saturating_neg())).and_then(|i| fields.get(i).copied())
    };
    Ok(field.unwrap_or(""))
}

fn trim<'a>(mut s: &'a str, set: &str, start: bool, end: bool) -> &'a str {
    if start {
        s = s.trim_start_matches(|c| set.contains(c));
    }
    if end {
        s = s.trim_end_matches(|c| set.contains(c));
    }
    s
}

/// Each character of `from` becomes the one in its place in `to`, or nothing.
fn translate(s: &str, from: &str, to: &str) -> String {
    let to: Vec<char> = to.chars().collect();
    s.chars()
        .filter_map(|c| match from.chars().position(|f| f == c) {
            None => Some(c),
            Some(place) => to.get(place).copied(),
        })
        .collect()
}

/// What a comparison with a pattern found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Like {
    Yes,
    No,
    /// No, and more of the text would not help.
    Abort,
}

/// PostgreSQL's `MatchText` (like_match.c) over UTF-8: which characters are looked at decides whether a pattern's last
/// escape is an error.
fn like(mut t: &[u8], mut p: &[u8]) -> Result<Like> {
    let ends = || fault("22025", "LIKE pattern must not end with escape character");
    if p == b"%" {
        return Ok(Like::Yes);
    }
    while let (Some(first), Some(wanted)) = (t.first(), p.first()) {
        match wanted {
            b'\\' => {
                p = &p[1..];
                match p.first() {
                    None => return Err(ends()),
                    Some(c) if c != first => return Ok(Like::No),
                    Some(_) => {}
                }
            }
            b'%' => return like_rest(t, &p[1..]),
            b'_' => {
                t = after_char(t);
                p = &p[1..];
                continue;
            }
            c if c != first => return Ok(Like::No),
            _ => {}
        }
        (t, p) = (&t[1..], &p[1..]);
    }
    if !t.is_empty() {
        return Ok(Like::No);
    }
    Ok(if p.iter().all(|c| *c == b'%') { Like::Yes } else { Like::Abort })
}

/// Behind a `%`.
fn like_rest(mut t: &[u8], mut p: &[u8]) -> Result<Like> {
    loop {
        match p.first() {
            Some(b'%') => p = &p[1..],
            Some(b'_') if t.is_empty() => return Ok(Like::Abort),
            Some(b'_') => (t, p) = (after_char(t), &p[1..]),
            _ => break,
        }
    }
    let first = match p {
        [] => return Ok(Like::Yes),
        [b'\\'] => return Err(fault("22025", "LIKE pattern must not end with escape character")),
        [b'\\', c, ..] | [c, ..] => *c,
    };
    while let Some(c) = t.first() {
        if *c == first {
            let found = like(t, p)?;
            if found != Like::No {
                return Ok(found);
            }
        }
        t = after_char(t);
    }
    Ok(Like::Abort)
}

fn after_char(t: &[u8]) -> &[u8] {
    let len = 1 + t[1..].iter().take_while(|b| (**b & 0xc0) == 0x80).count();
    &t[len..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        assert_eq!((left("é中😀x", 2), left("é中😀x", -1), left("ab", -5), left("ab", 9)), ("é中", "é中😀", "", "ab"));
        assert_eq!(
            (right("é中😀x", 2), right("é中😀x", -1), right("ab", -5), right("ab", 9)),
            ("😀x", "中😀x", "", "ab")
        );
        let part = |from, len| substr("é中😀x", from, len).expect("positive");
        assert_eq!(
            (part(2, Some(2)), part(0, Some(2)), part(-5, Some(6)), part(-5, None)),
            ("中😀", "é", "", "é中😀x")
        );
        assert_eq!((part(2, Some(i64::MAX)), part(9, Some(1)), part(1, Some(0))), ("中😀x", "", ""));
        assert!(substr("a", 1, Some(-1)).is_err());
        let field = |n| split_part("a,b,,c", ",", n).expect("not zero");
        assert_eq!(
            (field(1), field(3), field(4), field(5), field(-1), field(-4), field(-5)),
            ("a", "", "c", "", "c", "a", "")
        );
        assert_eq!(translate("abcd", "abb", "x"), "xcd");
        assert_eq!(trim("xyaxy", "yx", true, false), "axy");
    }

    #[test]
    fn patterns() {
        let found = |t: &str, p: &str| like(t.as_bytes(), p.as_bytes()).map(|l| l == Like::Yes).ok();
        for (t, p, expected) in [
            ("abc", "a%", Some(true)),
            ("", "", Some(true)),
            ("", "%", Some(true)),
            ("", "_", Some(false)),
            ("中x", "_x", Some(true)),
            ("a%b", "a\\%b", Some(true)),
            ("axb", "a\\%b", Some(false)),
            ("aXbXc", "%X_", Some(true)),
            ("abc", "abc\\", Some(false)),
            ("abcd", "abc\\", None),
            ("x", "abc\\", Some(false)),
            ("abc", "%\\", None),
            ("abab", "%ab", Some(true)),
        ] {
            assert_eq!(found(t, p), expected, "{t} {p}");
        }
    }
}
