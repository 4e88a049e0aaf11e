//! Strings and conversions: MATCH, SPLIT, UPCASE, DOWNCASE, JSON, TO_JSON_STRING, BINARY, UUID, COERCE_TO.

use std::sync::Arc;

use trough_reql::proto::term_type as t;

use super::val::Val;
use super::{Args, Exec};
use crate::datum::{Datum, Object, json, object, print};
use crate::error::{Class, QueryError, Result};

pub(super) fn text(ex: &Exec, args: &mut Args) -> Result<Val> {
    Ok(Val::Datum(match args.call.op {
        t::MATCH => {
            let text = args.text(ex, 0)?;
            let pattern = args.text(ex, 1)?;
            matched(&text, &pattern)?
        }
        t::SPLIT => split(ex, args)?,
        t::UPCASE => args.text(ex, 0)?.to_ascii_uppercase().into(),
        t::DOWNCASE => args.text(ex, 0)?.to_ascii_lowercase().into(),
        t::JSON => {
            let text = args.text(ex, 0)?;
            json::parse(text.as_bytes(), json::Pseudo::Convert).map_err(|error| {
                let shown: String = text.chars().take(40).collect();
                QueryError::logic(format!("Failed to parse \"{shown}\" as JSON: {error}."))
            })?
        }
        t::TO_JSON_STRING => json::to_string(&args.datum(ex, 0)?)?.into(),
        t::BINARY => match args.datum(ex, 0)? {
            binary @ Datum::Binary(_) => binary,
            other => Datum::Binary(other.as_str()?.as_bytes().into()),
        },
        _ => {
            if args.len() == 0 {
                uuid::Uuid::new_v4().to_string().into()
            } else {
                named_uuid(&args.text(ex, 0)?)
            }
        }
    }))
}

/// The UUID that RethinkDB gives a name.
fn named_uuid(name: &str) -> Datum {
    const NAMESPACE: uuid::Uuid = uuid::uuid!("91461c99-f89d-49d2-af96-d8e2e14e9b58");
    uuid::Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string().into()
}

/// A compiled pattern, kept for the next row of the same query.
fn compiled(pattern: &str) -> Result<Arc<regex::Regex>> {
    type Cache = std::collections::HashMap<String, Arc<regex::Regex>>;
    thread_local! {
        static CACHE: std::cell::RefCell<Cache> = std::cell::RefCell::default();
    }
    CACHE.with_borrow_mut(|cache| {
        if let Some(found) = cache.get(pattern) {
            return Ok(found.clone());
        }
        let regex = regex::RegexBuilder::new(&ascii_classes(pattern)).size_limit(8 << 20).build();
        let regex = Arc::new(regex.map_err(|error| {
            let (portion, reason) = complaint(pattern, &error);
            QueryError::logic(format!("Error in regexp `{pattern}` (portion `{portion}`): {reason}: {portion}"))
        })?);
        if cache.len() >= 64 {
            cache.clear();
        }
        cache.insert(pattern.to_owned(), regex.clone());
        Ok(regex)
    })
}

/// RE2's classes are of ASCII: `\d`, `\w`, `\s` and `\b` and their opposites are spelled so.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('d') => out.push_str(if in_class { "0-9" } else { "[0-9]" }),
                Some('w') => out.push_str(if in_class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
                Some('s') => out.push_str(if in_class { r"\t\n\f\r " } else { r"[\t\n\f\r ]" }),
                Some('D') => out.push_str("[^0-9]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('S') => out.push_str(r"[^\t\n\f\r ]"),
                Some(escaped @ ('b' | 'B')) if !in_class => {
                    out.push_str("(?-u:\\");
                    out.push(escaped);
                    out.push(')');
                }
                Some('z') => out.push_str("\\z"),
                Some('Q') => {
                    // Literal text up to \E.
                    let rest: String = chars.clone().collect();
                    let (literal, skip) = match rest.find("\\E") {
                        Some(at) => (&rest[..at], at + 2),
                        None => (rest.as_str(), rest.len()),
                    };
                    out.push_str(&regex::escape(literal));
                    let count = rest[..skip].chars().count();
                    if let Some(last) = count.checked_sub(1) {
                        chars.nth(last);
                    }
                }
                Some('C') => out.push_str("(?s:.)"),
                Some(escaped) => {
                    out.push('\\');
                    out.push(escaped);
                }
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                let mut ahead = chars.clone();
                let mut next = ahead.next();
                if next == Some('^') {
                    out.push('^');
                    chars.next();
                    next = ahead.next();
                }
                // A bracket at the start stands for itself.
                if next == Some(']') {
                    out.push_str("\\]");
                    chars.next();
                }
            }
            '[' if chars.clone().next() != Some(':') => out.push_str("\\["),
            '[' => {
                // A named class such as [:alpha:].
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            // These have a meaning inside a class here, but not in RE2.
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            other => out.push(other),
        }
    }
    out
}

/// What is wrong with a pattern in RE2's words, with the part it is about.
fn complaint(pattern: &str, error: &regex::Error) -> (String, String) {
    let text = error.to_string();
    let has = |words: &str| text.contains(words);
    let reason = if has("unclosed group") {
        "missing )"
    } else if has("unopened group") {
        "unexpected )"
    } else if has("unclosed character class") {
        "missing ]"
    } else if has("repetition operator missing expression") {
        "no argument for repetition operator"
    } else if has("incomplete escape") {
        "trailing \\ at end of regexp"
    } else if has("unrecognized escape") {
        "invalid escape sequence"
    } else if has("invalid character class range") {
        "invalid character class range"
    } else if has("size limit") {
        "pattern too large - compile failed"
    } else {
        "invalid perl operator"
    };
    (pattern.to_owned(), reason.to_owned())
}

fn matched(text: &str, pattern: &str) -> Result<Datum> {
    let regex = compiled(pattern)?;
    let Some(found) = regex.captures(text) else { return Ok(Datum::Null) };
    let place = |group: regex::Match| {
        object([
            ("str", group.as_str().into()),
            ("start", Datum::count(group.start())),
            ("end", Datum::count(group.end())),
        ])
    };
    let whole = found.get(0).map_or(Datum::Null, place);
    let groups = (1..found.len()).map(|at| found.get(at).map_or(Datum::Null, place)).collect();
    let mut out = whole.as_object()?.as_ref().clone();
    out.set("groups", Datum::array(groups));
    Ok(out.into())
}

fn split(ex: &Exec, args: &mut Args) -> Result<Datum> {
    let text = args.text(ex, 0)?;
    let separator = if args.len() > 1 { Some(args.datum(ex, 1)?) } else { None };
    let separator = separator.filter(|value| !value.is_null());
    let limit = if args.len() > 2 {
        let limit = args.int(ex, 2)?;
        match limit {
            -1 => usize::MAX,
            limit => usize::try_from(limit)
                .map_err(|_| QueryError::logic("Error: `split` size argument cannot be negative."))?,
        }
    } else {
        usize::MAX
    };
    let parts: Vec<Datum> = match &separator {
        Some(separator) => {
            let separator = separator.as_str()?;
            if separator.is_empty() {
                let mut parts: Vec<&str> = Vec::new();
                for (at, c) in text.char_indices() {
                    if parts.len() == limit {
                        parts.push(&text[at..]);
                        break;
                    }
                    parts.push(&text[at..at + c.len_utf8()]);
                }
                parts.into_iter().map(Datum::from).collect()
            } else {
                text.splitn(limit.saturating_add(1), separator.as_ref()).map(Datum::from).collect()
            }
        }
        None => {
            let mut rest = text.trim_start();
            let mut parts = Vec::new();
            while !rest.is_empty() {
                let end = if parts.len() == limit {
                    rest.len()
                } else {
                    rest.find(char::is_whitespace).unwrap_or(rest.len())
                };
                parts.push(Datum::from(&rest[..end]));
                rest = rest[end..].trim_start();
            }
            parts
        }
    };
    ex.check_len(parts.len())?;
    Ok(Datum::array(parts))
}

const TYPES: &[&str] = &[
    "DB",
    "TABLE",
    "TABLE_SLICE",
    "SELECTION<STREAM>",
    "SELECTION<ARRAY>",
    "STREAM",
    "SELECTION<OBJECT>",
    "DATUM",
    "FUNCTION",
    "GROUPED_DATA",
    "NULL",
    "BINARY",
    "BOOL",
    "NUMBER",
    "STRING",
    "ARRAY",
    "OBJECT",
    "MINVAL",
    "MAXVAL",
];

pub(super) fn coerce(ex: &Exec, args: &mut Args) -> Result<Val> {
    let value = args.val(ex, 0)?;
    let wanted = args.text(ex, 1)?.to_ascii_uppercase();
    if !TYPES.contains(&wanted.as_str()) {
        return Err(QueryError::logic(format!("Unknown Type: {wanted}")));
    }
    if value.is_datum() {
        let datum = value.datum(ex)?;
        return coerce_datum(ex, datum, &wanted).map(Val::Datum);
    }
    let kind = value.type_name(ex)?;
    if kind == wanted {
        return Ok(value);
    }
    match wanted.as_str() {
        "BOOL" => Ok(Val::Datum(Datum::Bool(true))),
        "ARRAY" | "DATUM" => match value {
            Val::Db(_) | Val::Func(_) | Val::Grouped(_) => Err(cannot(kind, &wanted)),
            sequence => sequence.stream(ex)?.collect(ex).map(Val::Datum),
        },
        "STREAM" => Ok(Val::Seq(value.stream(ex)?)),
        "SELECTION<STREAM>" => {
            let (table, stream) = value.selection(ex)?;
            Val::from_selection(ex, table, stream)
        }
        "OBJECT" => match value {
            Val::Db(_) | Val::Func(_) | Val::Grouped(_) => Err(cannot(kind, &wanted)),
            sequence => {
                let items = sequence.stream(ex)?.collect(ex)?;
                pairs(items.as_array()?).map(Val::Datum)
            }
        },
        _ => Err(cannot(kind, &wanted)),
    }
}

fn cannot(from: &str, to: &str) -> QueryError {
    QueryError::logic(format!("Cannot coerce {from} to {to}."))
}

fn coerce_datum(ex: &Exec, datum: Datum, wanted: &str) -> Result<Datum> {
    let kind = match &datum {
        Datum::Binary(_) => "BINARY",
        Datum::Time(_) | Datum::Literal(_) => "OBJECT",
        other => other.type_name(),
    };
    if kind == wanted || wanted == "DATUM" {
        return Ok(datum);
    }
    match (wanted, &datum) {
        ("BOOL", value) => Ok(Datum::Bool(!value.is_null())),
        ("STRING", Datum::Binary(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.into()),
            Err(error) => Err(QueryError::logic(format!(
                "String is not a UTF-8 string; invalid byte at position {}.",
                error.valid_up_to()
            ))),
        },
        ("BINARY", Datum::Str(text)) => Ok(Datum::Binary(text.as_bytes().into())),
        ("STRING", value) => json::to_string(value).map(Datum::from),
        ("NUMBER", Datum::Str(text)) => match text.trim_start().parse::<f64>() {
            Ok(number) if number.is_finite() && !text.ends_with(char::is_whitespace) => Ok(Datum::Num(number)),
            _ => Err(QueryError::logic(format!("Could not coerce `{text}` to NUMBER."))),
        },
        ("ARRAY", Datum::Object(fields)) => {
            ex.check_len(fields.len())?;
            let pair = |field: &(Arc<str>, Datum)| Datum::array(vec![Datum::Str(field.0.clone()), field.1.clone()]);
            Ok(Datum::array(fields.iter().map(pair).collect()))
        }
        ("STREAM", Datum::Array(_)) => Ok(datum),
        ("OBJECT", Datum::Array(items)) => pairs(items),
        (_, value) => {
            let class = if value.is_null() { Class::NonExistence } else { Class::Logic };
            Err(QueryError::new(class, format!("Cannot coerce {kind} to {wanted}.")))
        }
    }
}

/// An object of name-value pairs.
fn pairs(items: &[Datum]) -> Result<Datum> {
    let mut out = Object::default();
    for item in items {
        let pair = item.as_array()?;
        let [name, value] = pair.as_ref().as_ref() as &[Datum] else {
            return Err(QueryError::logic(format!("Expected array of size 2, but got size {}.", pair.len())));
        };
        let name = name.as_str()?;
        if let Some(old) = out.get(name) {
            return Err(QueryError::logic(format!(
                "Duplicate key \"{name}\" in coerced object.  (got {} and {} as values)",
                print::truncated(old),
                print::truncated(value)
            )));
        }
        out.set(name.clone(), value.clone());
    }
    Ok(out.into())
}
