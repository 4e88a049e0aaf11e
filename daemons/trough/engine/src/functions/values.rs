//! Functions over values of any kind that shipped expressions call.

use std::cmp::Ordering;

use rusqlite::{
    Connection, Error, Result,
    functions::{Context, FunctionFlags},
    types::{Value, ValueRef},
};

/// Defines the functions on a connection.
pub(crate) fn register(conn: &Connection, flags: FunctionFlags) -> Result<()> {
    conn.create_scalar_function("trough_greatest", -1, flags, |ctx| pick(ctx, Ordering::Greater))?;
    conn.create_scalar_function("trough_least", -1, flags, |ctx| pick(ctx, Ordering::Less))
}

/// `trough_greatest(…)`, `trough_least(…)`: of the arguments that are not NULL.
fn pick(ctx: &Context<'_>, wanted: Ordering) -> Result<Value> {
    let mut best: Option<ValueRef<'_>> = None;
    for i in 0..ctx.len() {
        let value = ctx.get_raw(i);
        if value != ValueRef::Null && best.is_none_or(|best| order(value, best) == wanted) {
            best = Some(value);
        }
    }
    Ok(match best {
        None | Some(ValueRef::Null) => Value::Null,
        Some(ValueRef::Integer(n)) => n.into(),
        Some(ValueRef::Real(r)) => r.into(),
        Some(ValueRef::Text(bytes)) => valid(bytes)?.to_owned().into(),
        Some(ValueRef::Blob(bytes)) => bytes.to_vec().into(),
    })
}

/// A stored text as PostgreSQL reads it.
///
/// # Errors
/// As of a plain scan, if it is not UTF-8 or holds NUL.
pub(crate) fn valid(bytes: &[u8]) -> Result<&str> {
    let refuse = |why| Error::UserFunctionError(format!("{}a text {why}", super::REJECTED).into());
    if bytes.contains(&0) {
        return Err(refuse("holds the character NUL"));
    }
    std::str::from_utf8(bytes).map_err(|_| refuse("is not UTF-8"))
}

/// SQLite's order of values: numbers, texts by bytes, blobs.
fn order(a: ValueRef<'_>, b: ValueRef<'_>) -> Ordering {
    use ValueRef::{Blob, Integer, Null, Real, Text};
    let class = |value| match value {
        Null => 0,
        Integer(_) | Real(_) => 1,
        Text(_) => 2,
        Blob(_) => 3,
    };
    match (a, b) {
        (Integer(a), Integer(b)) => a.cmp(&b),
        (Real(a), Real(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (Integer(a), Real(b)) => mixed(a, b),
        (Real(a), Integer(b)) => mixed(b, a).reverse(),
        (Text(a), Text(b)) | (Blob(a), Blob(b)) => a.cmp(b),
        _ => class(a).cmp(&class(b)),
    }
}

/// An integer against a real, without rounding.
fn mixed(a: i64, b: f64) -> Ordering {
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if b >= TWO_63 {
        return Ordering::Less;
    }
    if b < -TWO_63 {
        return Ordering::Greater;
    }
    let whole = b.trunc();
    a.cmp(&(whole as i64)).then(0.0f64.partial_cmp(&(b - whole)).unwrap_or(Ordering::Equal))
}
