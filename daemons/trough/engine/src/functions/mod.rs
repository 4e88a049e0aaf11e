//! The SQL functions that exist on every connection: those that the old trough defined, and those that shipped
//! expressions call.

mod text;
mod values;

use rusqlite::{
    Connection, Error, Result,
    functions::{Context, FunctionFlags},
    types::ValueRef,
};
use serde_json::Value as Json;

/// What the old trough's clients get to see when a function fails.
const RAISED: &str = "user-defined function raised exception";

/// Defines the functions on a connection.
pub(crate) fn register(conn: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    conn.create_scalar_function("regexp", 2, flags, regexp)?;
    conn.create_scalar_function("seedcrawledstatus", 1, flags, |ctx| {
        Ok(seed_crawled_status(&status_of(ctx.get_raw(0))?))
    })?;
    conn.create_scalar_function("trough_reject", 4, FunctionFlags::SQLITE_UTF8, reject)?;
    crate::fingerprint::register(conn)?;
    conn.create_scalar_function("buildredirectarray", 4, flags, build_redirect_array)?;
    text::register(conn, flags)?;
    values::register(conn, flags)
}

/// What the message of a refused value begins with.
pub(crate) const REJECTED: &str = "type mismatch: ";

/// `trough_reject(table, column, expected, found)`: fails. Shipped expressions call it for a stored value that a plain
/// scan would refuse.
fn reject(ctx: &Context<'_>) -> Result<bool> {
    let text = |i| ctx.get::<String>(i);
    let (table, column, expected, found) = (text(0)?, text(1)?, text(2)?, text(3)?);
    let article = if found == "integer" { "an" } else { "a" };
    Err(Error::UserFunctionError(
        format!("{REJECTED}table \"{table}\", column \"{column}\": {article} {found} cannot be read as {expected}")
            .into(),
    ))
}

/// What the message of an expression's own error begins with, before its SQLSTATE.
pub(crate) const FAULT: &str = "data exception ";

/// An error that PostgreSQL would raise for the same values.
fn fault(sqlstate: &str, message: &str) -> Error {
    Error::UserFunctionError(format!("{FAULT}{sqlstate}: {message}").into())
}

fn raised() -> Error {
    Error::UserFunctionError(RAISED.into())
}

/// A search as Python's `re` means it. What has look-around or back-references is searched by backtracking, with an end
/// to its patience; everything else in linear time.
enum Search {
    Linear(regex::Regex),
    Backtracking(Box<fancy_regex::Regex>),
}

impl Search {
    fn new(pattern: &str) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        match regex::Regex::new(pattern) {
            Ok(linear) => Ok(Self::Linear(linear)),
            Err(plain) => match fancy_regex::Regex::new(pattern) {
                Ok(other) => Ok(Self::Backtracking(Box::new(other))),
                Err(_) => Err(format!("REGEXP: {plain}").into()),
            },
        }
    }

    fn is_found_in(&self, text: &str) -> Result<bool> {
        match self {
            Self::Linear(regex) => Ok(regex.is_match(text)),
            Self::Backtracking(regex) => {
                regex.is_match(text).map_err(|e| Error::UserFunctionError(format!("REGEXP: {e}").into()))
            }
        }
    }
}

/// `text REGEXP expr`: whether `expr` is found anywhere in `text`; NULL gives false. A constant expression is
/// compiled once per statement.
fn regexp(ctx: &Context<'_>) -> Result<bool> {
    let number;
    let text = match ctx.get_raw(1) {
        ValueRef::Null => return Ok(false),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes),
        ValueRef::Integer(n) => {
            number = n.to_string();
            number.as_str().into()
        }
        ValueRef::Real(r) => {
            number = r.to_string();
            number.as_str().into()
        }
    };
    let search = ctx.get_or_create_aux(0, |pattern| match pattern {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Search::new(std::str::from_utf8(bytes)?),
        _ => Err(RAISED.into()),
    })?;
    search.is_found_in(&text)
}

/// A status as Python's `int()` reads it; NULL is none.
fn status_of(value: ValueRef<'_>) -> Result<Option<i64>> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(n) => Ok(Some(n)),
        ValueRef::Real(r) if r.is_finite() => Ok(Some(r as i64)),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| raised())?;
            text.trim().parse().map(Some).map_err(|_| raised())
        }
        ValueRef::Real(_) => Err(raised()),
    }
}

fn seed_crawled_status(status: &Option<i64>) -> String {
    match status {
        Some(300..=399) => "Redirected".into(),
        Some(n) if *n >= 400 => format!("Crawled (HTTP error {n})"),
        Some(n) if *n > 0 => "Crawled".into(),
        Some(0 | -5003 | -5004) => "Not crawled (queued)".into(),
        Some(-9998) => "Not crawled (blocked by robots)".into(),
        Some(n) => format!("Not crawled ({n})"),
        None => "Not crawled (None)".into(),
    }
}

/// `BUILDREDIRECTARRAY(url, status, hop_path, json_list)`: the list, null-padded to the hop path's length, with this
/// hop's `{"seed", "status"}` in its place.
fn build_redirect_array(ctx: &Context<'_>) -> Result<String> {
    let url = match ctx.get_raw(0) {
        ValueRef::Null => Json::Null,
        ValueRef::Integer(n) => n.into(),
        ValueRef::Real(r) => r.into(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into(),
    };
    let status = seed_crawled_status(&status_of(ctx.get_raw(1))?);
    let hops = match ctx.get_raw(2) {
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).map_err(|_| raised())?.chars().count(),
        _ => return Err(raised()),
    };
    let mut list = match ctx.get_raw(3) {
        ValueRef::Null => Vec::new(),
        ValueRef::Text(b"") => Vec::new(),
        ValueRef::Text(bytes) => match serde_json::from_slice(bytes).map_err(|_| raised())? {
            Json::Array(list) => list,
            _ => return Err(raised()),
        },
        _ => return Err(raised()),
    };
    let place = hops.checked_sub(1).ok_or_else(raised)?;
    if list.len() < hops {
        list.resize(hops, Json::Null);
    }
    list[place] = serde_json::json!({"seed": url, "status": status});
    let mut out = String::new();
    python_json(&Json::Array(list), &mut out);
    Ok(out)
}

/// JSON as Python's `json.dumps` spaces it.
fn python_json(value: &Json, out: &mut String) {
    match value {
        Json::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                python_json(item, out);
            }
            out.push(']');
        }
        Json::Object(fields) => {
            out.push('{');
            for (i, (name, item)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                python_json(&Json::String(name.clone()), out);
                out.push_str(": ");
                python_json(item, out);
            }
            out.push('}');
        }
        Json::String(text) => {
            let mut bytes = Vec::new();
            crate::json::string(text, &mut bytes);
            out.push_str(&String::from_utf8_lossy(&bytes));
        }
        other => out.push_str(&other.to_string()),
    }
}
