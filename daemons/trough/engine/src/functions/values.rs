//! Functions over values of any kind that shipped expressions call.

use std::cmp::Ordering;

use rusqlite::{
    Connection, Error, Result,
    functions::{Context, FunctionFlags},
    types::{Value, ValueRef},
};
use trough_pushdown::{Encoding, parts, time};

use super::fault;

/// Defines the functions on a connection.
pub(crate) fn register(conn: &Connection, flags: FunctionFlags) -> Result<()> {
    conn.create_scalar_function("trough_greatest", -1, flags, |ctx| pick(ctx, Ordering::Greater))?;
    conn.create_scalar_function("trough_least", -1, flags, |ctx| pick(ctx, Ordering::Less))?;
    conn.create_scalar_function("trough_number", 1, flags, number)?;
    conn.create_scalar_function("trough_single", 3, flags, single)?;
    conn.create_scalar_function("trough_int", 2, flags, integer)?;
    conn.create_scalar_function("trough_divisor", 1, flags, |ctx| match ctx.get::<Option<i64>>(0)? {
        Some(0) => Err(fault("22012", "division by zero")),
        other => Ok(other),
    })?;
    conn.create_scalar_function("trough_float", 3, flags, |ctx| float(ctx)?.transpose())?;
    conn.create_scalar_function("trough_float_or_null", 3, flags, |ctx| Ok(float(ctx)?.and_then(Result::ok)))?;
    conn.create_scalar_function("trough_float_fails", 3, flags, |ctx| Ok(float(ctx)?.map(|r| r.is_err())))?;
    conn.create_scalar_function("trough_instant", 5, flags, instant)?;
    conn.create_scalar_function("trough_trunc", 2, flags, trunc)?;
    conn.create_scalar_function("trough_form", 4, flags, form)?;
    conn.create_scalar_function("trough_part", 2, flags, part)?;
    conn.create_scalar_function("trough_whole", 3, flags, whole)?;
    conn.create_scalar_function("trough_uuid", 3, flags, uuid)
}

/// `trough_int(n, bytes)`: the integer of the arithmetic above it, if it is in the range of a type of so many bytes.
fn integer(ctx: &Context<'_>) -> Result<Option<i64>> {
    let (name, range) = match ctx.get::<i64>(1)? {
        2 => ("smallint", i16::MIN.into()..=i16::MAX.into()),
        4 => ("integer", i32::MIN.into()..=i32::MAX.into()),
        _ => ("bigint", i64::MIN..=i64::MAX),
    };
    match ctx.get_raw(0) {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(n) if range.contains(&n) => Ok(Some(n)),
        _ => Err(fault("22003", &format!("{name} out of range"))),
    }
}

/// A number as shipped expressions have it: NaN is the text `nan`.
fn real(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Integer(n) => Some(n as f64),
        ValueRef::Real(r) => Some(r),
        ValueRef::Text(b"nan") => Some(f64::NAN),
        _ => None,
    }
}

/// `trough_float(operator, a, b)` on doubles, with PostgreSQL's errors (float.h).
fn float(ctx: &Context<'_>) -> Result<Option<Result<Value>>> {
    let operator = ctx.get_raw(0).as_str()?.to_owned();
    let (Some(a), Some(b)) = (real(ctx.get_raw(1)), real(ctx.get_raw(2))) else { return Ok(None) };
    let r = match operator.as_str() {
        "+" => a + b,
        "-" => a - b,
        "*" => a * b,
        _ if b == 0.0 && !a.is_nan() => return Ok(Some(Err(fault("22012", "division by zero")))),
        _ => a / b,
    };
    let overflow = r.is_infinite() && !a.is_infinite() && !(b.is_infinite() && operator != "/");
    let underflow = match operator.as_str() {
        "*" => r == 0.0 && a != 0.0 && b != 0.0,
        "/" => r == 0.0 && a != 0.0 && !b.is_infinite(),
        _ => false,
    };
    Ok(Some(match () {
        () if overflow => Err(fault("22003", "value out of range: overflow")),
        () if underflow => Err(fault("22003", "value out of range: underflow")),
        () if r.is_nan() => Ok(Value::Text("nan".into())),
        () => Ok(r.into()),
    }))
}

/// `trough_number(n)`: an element of a JSON list; a real comes as the hexadecimal digits of its bits.
fn number(ctx: &Context<'_>) -> Result<Value> {
    Ok(match ctx.get_raw(0) {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => n.into(),
        ValueRef::Text(b"nan") => Value::Text("nan".into()),
        other => {
            let bits = u64::from_str_radix(other.as_str()?, 16);
            f64::from_bits(bits.map_err(|e| Error::UserFunctionError(e.into()))?).into()
        }
    })
}

/// A value that a plain scan would refuse, as `trough_reject` reports it; the last two arguments name table and column.
fn refuse(ctx: &Context<'_>, why: &str) -> Error {
    let name = |i| match ctx.get_raw(i) {
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    let (table, column) = (name(ctx.len() - 2), name(ctx.len() - 1));
    Error::UserFunctionError(format!("{}table \"{table}\", column \"{column}\": {why}", super::REJECTED).into())
}

fn kind(value: ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Null => "null",
        ValueRef::Integer(_) => "an integer",
        ValueRef::Real(_) => "a real",
        ValueRef::Text(_) => "a text",
        ValueRef::Blob(_) => "a blob",
    }
}

/// `trough_single(n, table, column)`: a stored number as a `real` reads it.
fn single(ctx: &Context<'_>) -> Result<Option<f64>> {
    let single = match ctx.get_raw(0) {
        ValueRef::Null => return Ok(None),
        ValueRef::Integer(n) => n as f32,
        ValueRef::Real(r) if (r as f32).is_infinite() && r.is_finite() => {
            return Err(refuse(ctx, "a value is out of range for type real"));
        }
        ValueRef::Real(r) => r as f32,
        other => return Err(refuse(ctx, &format!("{} cannot be read as real", kind(other)))),
    };
    Ok(Some(single.into()))
}

/// `trough_instant(value, encoding, type, table, column)`: a stored date or time in microseconds since 1970; a date at its
/// midnight.
fn instant(ctx: &Context<'_>) -> Result<Value> {
    let value = ctx.get_raw(0);
    let encoding = match ctx.get_raw(1).as_str()? {
        "epoch_s" => Encoding::EpochS,
        "epoch_ms" => Encoding::EpochMs,
        "epoch_us" => Encoding::EpochUs,
        "julian" => Encoding::Julian,
        _ => Encoding::Iso8601,
    };
    let type_name = ctx.get_raw(2).as_str()?;
    let iso = encoding == Encoding::Iso8601;
    let read = match (value, type_name) {
        (ValueRef::Null, _) => return Ok(Value::Null),
        (ValueRef::Text(bytes), "date") if iso => time::parse_date(bytes).map(|days| i64::from(days) * time::DAY_US),
        (ValueRef::Text(bytes), _) if iso => time::parse_timestamp(bytes, type_name == "timestamptz"),
        (ValueRef::Integer(n), _) if !iso => time::timestamp_from_integer(n, encoding),
        (ValueRef::Real(r), _) if !iso => time::timestamp_from_real(r, encoding),
        (other, _) => return Err(refuse(ctx, &format!("{} cannot be read as {type_name}", kind(other)))),
    };
    let us = read.map_err(|e| refuse(ctx, &e.to_string()))?;
    let finite = us != i64::MAX && us != i64::MIN;
    let us = if type_name == "date" && finite { us - us.rem_euclid(time::DAY_US) } else { us };
    Ok(match time::since_1970(us) {
        trough_core::Value::Integer(n) => n.into(),
        trough_core::Value::Real(r) => r.into(),
        _ => Value::Null,
    })
}

/// `trough_form(text, type, table, column)`: 1 for a text in canonical form.
fn form(ctx: &Context<'_>) -> Result<Option<bool>> {
    let bytes = match ctx.get_raw(0) {
        ValueRef::Null => return Ok(None),
        ValueRef::Text(bytes) => bytes,
        other => return Err(refuse(ctx, &format!("{} is not in the form that trusted promises", kind(other)))),
    };
    let canonical = match ctx.get_raw(1).as_str()? {
        "date" => time::parse_date(bytes).is_ok(),
        "uuid" => trough_pushdown::column::canonical_uuid(bytes).is_some_and(|text| text.as_bytes() == bytes),
        zoned => time::is_canonical_timestamp(bytes, zoned == "timestamptz"),
    };
    if canonical {
        return Ok(Some(true));
    }
    let text: String = String::from_utf8_lossy(bytes).chars().take(40).collect();
    Err(refuse(ctx, &format!("the text \"{text}\" is not in the form that trusted promises")))
}

/// `trough_trunc(unit, microseconds)`: `date_trunc`. An infinity is itself.
fn trunc(ctx: &Context<'_>) -> Result<Value> {
    Ok(match ctx.get_raw(1) {
        ValueRef::Integer(us) => match time::trunc(ctx.get_raw(0).as_str()?, us) {
            Some(start) => start.into(),
            None => return Err(fault("22008", "timestamp out of range")),
        },
        ValueRef::Real(r) => r.into(),
        _ => Value::Null,
    })
}

/// `trough_part(field, microseconds)`: `extract`. Of an infinity it is the infinity, or NULL for what comes again and again.
fn part(ctx: &Context<'_>) -> Result<Value> {
    let field = ctx.get_raw(0).as_str()?;
    Ok(match ctx.get_raw(1) {
        ValueRef::Integer(us) => match parts::part(field, us) {
            Some(n) => n.into(),
            None => return Err(fault("22008", "timestamp out of range")),
        },
        ValueRef::Real(r) if parts::is_endless(field) => r.into(),
        _ => Value::Null,
    })
}

/// `trough_whole(n, sqlstate, message)`: a number that is no infinity.
fn whole(ctx: &Context<'_>) -> Result<Option<i64>> {
    match ctx.get_raw(0) {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(n) => Ok(Some(n)),
        _ => Err(fault(ctx.get_raw(1).as_str()?, ctx.get_raw(2).as_str()?)),
    }
}

/// `trough_uuid(text, table, column)`: a stored uuid in its canonical writing.
fn uuid(ctx: &Context<'_>) -> Result<Option<String>> {
    match ctx.get_raw(0) {
        ValueRef::Null => Ok(None),
        ValueRef::Text(bytes) => match trough_pushdown::column::canonical_uuid(bytes) {
            Some(text) => Ok(Some(text)),
            None => Err(refuse(ctx, "a text that is no uuid cannot be read as uuid")),
        },
        other => Err(refuse(ctx, &format!("{} cannot be read as uuid", kind(other)))),
    }
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
