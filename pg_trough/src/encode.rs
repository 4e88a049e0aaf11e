//! Datums as SQLite's values: a statement's parameters, and the rows of an INSERT.

use pgrx::{PgSqlErrorCode, pg_sys};
use trough_core::Value;
use trough_pushdown::{Encode, Encoding, oid, parts, pattern, regex, time};

use crate::{errors::Failure, pg, zones};

/// The elements of an array, with its element type.
///
/// # Safety
/// `array` is a datum of an array type.
pub(crate) unsafe fn elements(array: pg_sys::Datum) -> (pg_sys::Oid, Vec<Option<pg_sys::Datum>>) {
    // SAFETY: deconstruct_array fills the out parameters with palloc'ed arrays of `count` elements.
    unsafe {
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let element = (*array).elemtype;
        let (mut len, mut by_value, mut align) = (0i16, false, 0 as std::ffi::c_char);
        pg_sys::get_typlenbyvalalign(element, &mut len, &mut by_value, &mut align);
        let (mut datums, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        pg_sys::deconstruct_array(array, element, len.into(), by_value, align, &mut datums, &mut nulls, &mut count);
        let items = (0..count as usize).map(|i| (!*nulls.add(i)).then(|| *datums.add(i))).collect();
        (crate::table::base_type(element), items)
    }
}

/// A text in UTF-8.
///
/// # Safety
/// `datum` is a text.
pub(crate) unsafe fn text(datum: pg_sys::Datum) -> String {
    // SAFETY: as for the caller; a conversion's result is NUL-terminated.
    unsafe {
        let bytes = pg::varlena_bytes(datum);
        if pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8 as i32 {
            return String::from_utf8_lossy(bytes).into_owned();
        }
        let converted =
            pg_sys::pg_server_to_any(bytes.as_ptr().cast(), bytes.len() as i32, pg_sys::pg_enc::PG_UTF8 as i32);
        if converted.cast_const() == bytes.as_ptr().cast() {
            return String::from_utf8_lossy(bytes).into_owned();
        }
        pg::text(converted)
    }
}

/// The value that a parameter is bound to.
///
/// # Safety
/// `datum` is of the type.
pub(crate) unsafe fn parameter(
    datum: Option<pg_sys::Datum>,
    type_oid: pg_sys::Oid,
    element: Option<usize>,
    encode: Encode,
) -> Value {
    let Some(datum) = datum else { return Value::Null };
    // SAFETY: as for the caller.
    unsafe {
        if let Some(at) = element {
            let (type_oid, items) = elements(datum);
            return match items.get(at) {
                Some(Some(item)) => parameter(Some(*item), type_oid, None, encode),
                _ => Value::Null,
            };
        }
        match encode {
            Encode::As(encoding) => compared(datum, type_oid.into(), encoding),
            Encode::Glob => match pattern::like_to_glob(&text(datum)) {
                Some(glob) => Value::Text(glob),
                None => Value::Null,
            },
            Encode::IsoDayFrom => time::iso_day_from(datum.value() as i64),
            Encode::IsoDayAfter => time::iso_day_after(datum.value() as i64),
            Encode::Midnight { after } => time::iso_midnight(datum.value() as i64, after),
            Encode::Instant { local } => instant(datum, type_oid.into(), local),
            Encode::Bound { cmp, dates, end } => zones::bound(datum.value() as i64, cmp, dates, end),
            Encode::Numeric => match plain(datum, type_oid.into(), Encoding::Input) {
                Value::Text(digits) => parts::compare_numeric(&digits),
                other => other,
            },
            Encode::Regex { folded } => match regex::translate(&text(datum), folded) {
                Some(translated) => Value::Text(translated.pattern),
                None => unreachable!("only constants that could be translated are bound so"),
            },
            Encode::JsonArray(encoding) => {
                let (type_oid, items) = elements(datum);
                let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
                let json = items.into_iter().map(|item| match item {
                    None => serde_json::Value::Null,
                    Some(item) => match compared(item, type_oid.into(), encoding) {
                        Value::Integer(n) => n.into(),
                        Value::Text(text) => text.into(),
                        Value::Real(r) => hex(&r.to_bits().to_be_bytes()).into(),
                        Value::Blob(bytes) => hex(&bytes).into(),
                        Value::Null => serde_json::Value::Null,
                    },
                });
                Value::Text(serde_json::Value::Array(json.collect()).to_string())
            }
        }
    }
}

/// A date or time as microseconds since 1970. `local`: as an instant in the session's time zone.
unsafe fn instant(datum: pg_sys::Datum, type_oid: u32, local: bool) -> Value {
    let mut overflow = 0;
    // SAFETY: the datum is of the type; the conversions only report overflows.
    let us = unsafe {
        match type_oid {
            oid::DATE if !local => return time::compare_date(datum.value() as i32, Encoding::EpochUs),
            oid::DATE => pg_sys::date2timestamptz_opt_overflow(datum.value() as i32, &mut overflow),
            oid::TIMESTAMP if local => pg_sys::timestamp2timestamptz_opt_overflow(datum.value() as i64, &mut overflow),
            _ => datum.value() as i64,
        }
    };
    match overflow {
        0 => time::since_1970(us),
        // Beyond all that is stored, but no infinity.
        more if more > 0 => Value::Real(f64::MAX),
        _ => Value::Real(f64::MIN),
    }
}

/// A value as it compares against stored ones.
unsafe fn compared(datum: pg_sys::Datum, type_oid: u32, encoding: Encoding) -> Value {
    // SAFETY: the datum is of the type; the match follows the type.
    unsafe {
        match type_oid {
            // Sorts above every number, as PostgreSQL's NaN does, and equals none.
            oid::FLOAT4 if f32::from_bits(datum.value() as u32).is_nan() => Value::Text("nan".into()),
            oid::FLOAT8 if f64::from_bits(datum.value() as u64).is_nan() => Value::Text("nan".into()),
            oid::DATE => time::compare_date(datum.value() as i32, encoding),
            oid::TIMESTAMP => time::compare_timestamp(datum.value() as i64, encoding, false),
            oid::TIMESTAMPTZ => time::compare_timestamp(datum.value() as i64, encoding, true),
            _ => plain(datum, type_oid, encoding),
        }
    }
}

unsafe fn plain(datum: pg_sys::Datum, type_oid: u32, encoding: Encoding) -> Value {
    // SAFETY: the datum is of the type; the match follows the type.
    unsafe {
        match type_oid {
            oid::BOOL => Value::Integer((datum.value() as u8 != 0).into()),
            oid::INT2 => Value::Integer((datum.value() as i16).into()),
            oid::INT4 => Value::Integer((datum.value() as i32).into()),
            oid::INT8 => Value::Integer(datum.value() as i64),
            oid::FLOAT4 => Value::Real(f32::from_bits(datum.value() as u32).into()),
            oid::FLOAT8 => Value::Real(f64::from_bits(datum.value() as u64)),
            oid::TEXT | oid::VARCHAR => Value::Text(text(datum)),
            oid::BYTEA => Value::Blob(pg::varlena_bytes(datum).to_vec()),
            oid::UUID => {
                let bytes = std::slice::from_raw_parts(datum.cast_mut_ptr::<u8>(), 16);
                match encoding {
                    Encoding::UuidBlob => Value::Blob(bytes.to_vec()),
                    _ => Value::Text(uuid_text(bytes)),
                }
            }
            type_oid => {
                let (mut function, mut varlena) = (pg_sys::InvalidOid, false);
                pg_sys::getTypeOutputInfo(type_oid.into(), &mut function, &mut varlena);
                let output = pg_sys::OidOutputFunctionCall(function, datum);
                Value::Text(pg::text(output))
            }
        }
    }
}

fn uuid_text(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A value as a column stores it.
///
/// # Safety
/// `datum` is of the column's type.
///
/// # Errors
/// Why the column's encoding cannot hold it.
pub(crate) unsafe fn stored(
    datum: pg_sys::Datum,
    column: &trough_pushdown::Column,
    relation: &str,
) -> Result<Value, Failure> {
    let refuse = |why: String| {
        Failure::new(
            PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            format!("column \"{}\" of foreign table \"{relation}\": {why}", column.name),
        )
    };
    let instant = |us: i64, utc: bool| {
        let value = time::store_timestamp(us, column.encoding, utc).map_err(|e| refuse(e.to_string()))?;
        match value {
            Value::Real(_) if column.storage == trough_pushdown::Storage::Integer => {
                Err(refuse("the value has a fraction, but the column stores whole units only".into()))
            }
            value => Ok(value),
        }
    };
    // SAFETY: as for the caller; the match follows the type.
    unsafe {
        match column.type_oid {
            oid::FLOAT4 | oid::FLOAT8 => match plain(datum, column.type_oid, column.encoding) {
                Value::Real(r) if r.is_nan() => Err(refuse("SQLite cannot store NaN".into())),
                value => Ok(value),
            },
            oid::DATE => {
                let days = datum.value() as i32;
                if column.encoding == Encoding::Iso8601 {
                    return time::format_date(days).map(Value::Text).map_err(|e| refuse(e.to_string()));
                }
                if days == i32::MAX || days == i32::MIN {
                    return Err(refuse("the encoding cannot hold an infinite date".into()));
                }
                instant(i64::from(days) * time::DAY_US, false)
            }
            oid::TIMESTAMP => instant(datum.value() as i64, false),
            oid::TIMESTAMPTZ => instant(datum.value() as i64, true),
            _ => Ok(plain(datum, column.type_oid, column.encoding)),
        }
    }
}
