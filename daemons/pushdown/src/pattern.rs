//! LIKE patterns as GLOB patterns. SQLite's own LIKE ignores ASCII case and knows no escape, so it is never used.

/// The GLOB pattern that matches exactly what a PostgreSQL LIKE pattern (escape `\`) matches; none for a pattern that
/// ends in its escape character, which PostgreSQL reports as an error while matching, and for one that is too long for
/// SQLite.
pub fn like_to_glob(like: &str) -> Option<String> {
    /// SQLite's default limit on the length of a pattern, in bytes.
    const LIMIT: usize = 50_000;
    let mut glob = String::with_capacity(like.len() + 8);
    let mut chars = like.chars();
    let literal = |glob: &mut String, c: char| match c {
        '*' | '?' | '[' => {
            glob.push('[');
            glob.push(c);
            glob.push(']');
        }
        c => glob.push(c),
    };
    while let Some(c) = chars.next() {
        match c {
            '%' => glob.push('*'),
            '_' => glob.push('?'),
            '\\' => literal(&mut glob, chars.next()?),
            c => literal(&mut glob, c),
        }
    }
    (glob.len() <= LIMIT).then_some(glob)
}

/// Whether a LIKE pattern does not end in its escape character, which PostgreSQL reports as an error when it gets there.
pub fn ends_well(like: &str) -> bool {
    like.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 0
}

/// The text that every match of a LIKE pattern begins with.
pub fn like_prefix(like: &str) -> String {
    let mut prefix = String::new();
    let mut chars = like.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' | '_' => break,
            '\\' => match chars.next() {
                Some(c) => prefix.push(c),
                None => break,
            },
            c => prefix.push(c),
        }
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (like, glob) in [
            ("abc%", Some("abc*")),
            ("a_c", Some("a?c")),
            ("100\\%", Some("100%")),
            ("a*b?c[d]", Some("a[*]b[?]c[[]d]")),
            ("\\_\\\\\\*", Some("_\\[*]")),
            ("bad\\", None),
            ("", Some("")),
        ] {
            assert_eq!(like_to_glob(like).as_deref(), glob, "{like}");
        }
        assert_eq!(like_prefix("a\\%b%c"), "a%b");
        assert_eq!(like_prefix("a\\"), "a");
    }
}
