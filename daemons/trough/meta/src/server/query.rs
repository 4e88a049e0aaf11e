//! One query, from its JSON to its first answer.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use super::response::{self, Batch, Cursor, Limits};
use crate::datum::{Datum, json};
use crate::error::{Class, QueryError, Result};
use crate::eval::val::Val;
use crate::eval::{About, Env, Exec, Query, eval};
use crate::store::Store;
use crate::term::{Term, compile, spec};

/// What running a query came to.
pub(crate) enum Reply {
    /// Nobody wants to know.
    None,
    Atom(Bytes),
    Cursor(Arc<Query>, Box<Cursor>, Batch),
}

/// Parses and runs a query up to its first answer.
pub(crate) fn run(
    store: &Arc<Store>,
    about: &Arc<About>,
    body: &[u8],
    cancelled: Arc<AtomicBool>,
    read_only: bool,
) -> Result<Reply> {
    let parsed = json::parse(body, json::Pseudo::Keep).map_err(|error| {
        QueryError::new(Class::Client, format!("Client is buggy (failed to parse query: {error})."))
    })?;
    let parts = parsed.as_array()?;
    let buggy = |what: &str| QueryError::new(Class::Client, format!("Client is buggy ({what})."));
    let term = parts.get(1).ok_or_else(|| buggy("a START query holds no term"))?;
    let mut opts = Vec::new();
    match parts.get(2) {
        None => {}
        Some(Datum::Object(object)) => {
            for (name, value) in object.iter() {
                if !spec::GLOBAL_OPTS.contains(&name.as_ref()) {
                    let message = format!("Unrecognized global optional argument `{name}`.");
                    return Err(QueryError::compile(message));
                }
                opts.push((name.clone(), compile(value)?));
            }
        }
        Some(_) => return Err(buggy("global optional arguments are not an object")),
    }
    let noreply = opts
        .iter()
        .any(|(name, term)| name.as_ref() == "noreply" && matches!(term, Term::Value(value) if value.truthy()));
    let query = Query::new(store.clone(), about.clone(), opts, cancelled, read_only);
    let outcome = query.and_then(|query| evaluate(&query, term));
    if noreply { Ok(Reply::None) } else { outcome }
}

fn evaluate(query: &Arc<Query>, term: &Datum) -> Result<Reply> {
    let term = compile(term)?;
    let ex = Exec::new(query);
    let stream = match eval(&ex, &term, &Env::default())? {
        value if value.is_datum() => return response::atom(&value.datum(&ex)?).map(Reply::Atom),
        Val::Grouped(groups) => return response::atom(&Val::grouped_datum(groups)).map(Reply::Atom),
        value @ (Val::Db(_) | Val::Func(_)) => {
            return Err(QueryError::logic(format!(
                "Query result must be of type DATUM, GROUPED_DATA, or STREAM (got {}).",
                value.kind()
            )));
        }
        value => value.stream(&ex)?,
    };
    if stream.array {
        return response::atom(&stream.collect(&ex)?).map(Reply::Atom);
    }
    let mut cursor = Cursor::new(stream, Limits::new(&ex)?);
    let first = cursor.batch(&ex)?;
    Ok(Reply::Cursor(query.clone(), Box::new(cursor), first))
}
