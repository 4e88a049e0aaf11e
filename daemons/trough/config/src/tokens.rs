//! Bearer tokens: who may do what, from TOKENS and from the file that TOKENS_FILE names.

use std::{path::Path, sync::Arc, time::SystemTime};

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::Role;

/// A pattern of segments is refused if it compiles to more than this many bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// A bearer token's role. The token itself is kept only where it was given in the clear.
#[derive(Clone)]
pub struct Token {
    /// Whose it is: named in the log instead of the token.
    pub name: Arc<str>,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// The token, if the settings hold it in the clear.
    pub clear: Option<String>,
    /// What it may do.
    pub role: Role,
    /// The segments that it may touch; none: all.
    pub segments: Option<Arc<Regex>>,
    /// When it ends.
    pub expires: Option<SystemTime>,
    /// The most requests a second; none: RATE_LIMIT.
    pub rate: Option<u32>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("name", &self.name).field("role", &self.role).finish_non_exhaustive()
    }
}

/// A token as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    token: Option<String>,
    token_sha256: Option<String>,
    role: Role,
    segments: Option<String>,
    expires: Option<String>,
    rate: Option<u32>,
}

/// Reads the file of TOKENS_FILE: a YAML list, hashes only.
///
/// # Errors
/// A text that names the file and what is wrong with it; it never holds a token.
pub fn read_file(path: &Path) -> Result<Vec<Token>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("read {}: {e}", path.display()))?;
    parse_file(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// [`read_file`], of its text.
///
/// # Errors
/// As [`read_file`].
pub fn parse_file(text: &str) -> Result<Vec<Token>, String> {
    let list: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).map_err(|e| match e.location() {
        // The parser's own text may quote what stands there.
        Some(at) => format!("line {}: this is no YAML", at.line()),
        None => "this is no YAML".to_owned(),
    })?;
    let tokens = parse_list(&list)?;
    match tokens.iter().find(|token| token.clear.is_some()) {
        Some(token) => Err(format!("token '{}' stands there in the clear: write token_sha256", token.name)),
        None => Ok(tokens),
    }
}

/// Reads a list of tokens.
pub(crate) fn parse_list(list: &serde_yaml_ng::Value) -> Result<Vec<Token>, String> {
    use serde_yaml_ng::Value;
    let items = match list {
        Value::Null => return Ok(Vec::new()),
        Value::Sequence(items) => items,
        _ => return Err(SHAPE.into()),
    };
    let tokens: Vec<Token> = items.iter().enumerate().map(|(i, item)| parse(i + 1, item)).collect::<Result<_, _>>()?;
    for (i, token) in tokens.iter().enumerate() {
        if tokens[..i].iter().any(|other| other.sha256 == token.sha256) {
            return Err(format!("token '{}' stands there twice", token.name));
        }
    }
    Ok(tokens)
}

const SHAPE: &str = "must be a list of {name, role, token_sha256 (or token), and if wanted segments, expires, rate}; see `trough token`";

fn parse(number: usize, item: &serde_yaml_ng::Value) -> Result<Token, String> {
    let written: Written = serde_yaml_ng::from_value(item.clone()).map_err(|e| match e.to_string() {
        // Which field is unknown or missing, but no value: it might be a token.
        text if ["unknown field", "missing field", "unknown variant"].iter().any(|known| text.contains(known)) => {
            format!("token {number}: {text}")
        }
        _ => format!("token {number}: {SHAPE}"),
    })?;
    let name = written.name.unwrap_or_else(|| format!("token-{number}"));
    if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
        return Err(format!("token {number}: a name has 1 to 64 characters"));
    }
    let bad = |what: &str| format!("token '{name}': {what}");
    let (sha256, clear) = match (written.token, written.token_sha256) {
        (Some(token), None) if token.is_empty() => return Err(bad("is empty")),
        (Some(token), None) => (Sha256::digest(&token).into(), Some(token)),
        (None, Some(hex)) => (decode_hex(&hex).ok_or_else(|| bad("token_sha256 must be 64 hexadecimal digits"))?, None),
        _ => return Err(bad("needs either token_sha256 or token")),
    };
    let segments = written.segments.map(|pattern| segments(&pattern)).transpose().map_err(|e| bad(&e))?;
    let expires = written.expires.map(|text| moment(&text)).transpose().map_err(|e| bad(&e))?;
    if written.rate == Some(0) {
        return Err(bad("rate must be 1 request a second or more"));
    }
    Ok(Token {
        name: name.clone().into(),
        sha256,
        clear,
        role: written.role,
        segments: segments.map(Arc::new),
        expires,
        rate: written.rate,
    })
}

/// A pattern of segments, which must match the whole id.
///
/// # Errors
/// A text that says what is wrong.
pub fn segments(pattern: &str) -> Result<Regex, String> {
    // Compiled by itself first, so that a parenthesis too many cannot escape the anchors.
    let compile = |text: &str| {
        RegexBuilder::new(text).size_limit(MAX_PATTERN_BYTES).build().map_err(|e| format!("segments {pattern:?}: {e}"))
    };
    compile(pattern)?;
    // The line break ends a comment that the flag x may have opened; without that flag it must not stand there.
    compile(&format!(r"\A(?:{pattern})\z")).or_else(|_| compile(&format!("\\A(?:{pattern}\n)\\z")))
}

/// A day or a time in RFC 3339; a day means its end, in UTC.
///
/// # Errors
/// A text that says what is wrong.
pub fn moment(text: &str) -> Result<SystemTime, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.into());
    }
    let day: jiff::civil::Date = text
        .parse()
        .map_err(|_| format!("expires {text:?} is neither a day, 2027-01-31, nor a time, 2027-01-31T12:00:00Z"))?;
    let end = day.tomorrow().and_then(|next| next.to_zoned(jiff::tz::TimeZone::UTC));
    end.map(|end| end.timestamp().into()).map_err(|e| format!("expires {text:?}: {e}"))
}

fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0u8; 32];
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_file_is_read() {
        let text = format!(
            "- {{name: alice, role: read, token_sha256: {HASH}, segments: 'a-.*|b', expires: 2027-01-31, rate: 5}}\n\
             # a comment\n- {{role: admin, token_sha256: {}}}\n",
            "0".repeat(64)
        );
        let tokens = parse_file(&text).expect("a list");
        assert_eq!((&*tokens[0].name, tokens[0].role, tokens[0].rate), ("alice", Role::Read, Some(5)));
        assert_eq!((&*tokens[1].name, tokens[1].role), ("token-2", Role::Admin));
        let pattern = tokens[0].segments.as_ref().expect("a pattern");
        let allowed: Vec<bool> = ["a-", "a-1", "b", "xa-1", "bb", "a"].map(|id| pattern.is_match(id)).into();
        assert_eq!(allowed, [true, true, true, false, false, false], "the whole id must match");
        let ends = tokens[0].expires.expect("an end").duration_since(SystemTime::UNIX_EPOCH).expect("later");
        assert_eq!(ends.as_secs(), 1_801_440_000);
        assert_eq!(parse_file("").map(|t| t.len()), Ok(0));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_token() {
        let mut cases: Vec<(String, &str)> = [
            ("- {name: a, role: read, token: SECRET}", "in the clear"),
            ("- {name: a, role: root, token_sha256: SECRET}", "`root`"),
            ("- {name: a, role: read, token_sha256: SECRET}", "64 hexadecimal"),
            ("- {name: a, role: read, tokens: SECRET}", "unknown field"),
            ("- {name: a, token: SECRET}", "missing field"),
            ("- SECRET", "must be a list"),
            ("SECRET", "must be a list"),
            ("- {name: a, role: [SECRET", "no YAML"),
        ]
        .map(|(text, why)| (text.to_owned(), why))
        .into();
        for (more, why) in [
            ("segments: '('", "segments"),
            ("segments: 'a)|(.*'", "segments"),
            ("segments: '(?x)a#'", ""),
            ("expires: soon", "expires"),
            ("rate: 0", "rate"),
            ("segments: '((a{1000}){1000}){1000}'", "segments"),
        ] {
            cases.push((format!("- {{name: a, role: read, token_sha256: {HASH}, {more}}}"), why));
        }
        cases.push((
            format!("- {{role: read, token_sha256: {HASH}}}\n- {{role: admin, token_sha256: {HASH}}}"),
            "twice",
        ));
        for (text, why) in cases {
            match parse_file(&text) {
                Ok(tokens) => {
                    assert!(why.is_empty() && !tokens[0].segments.as_ref().expect("set").is_match("ab"), "{text}")
                }
                Err(error) => assert!(error.contains(why) && !error.contains("SECRET"), "{text}: {error}"),
            }
        }
    }
}
