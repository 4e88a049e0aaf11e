//! Datums as the bytes of a packed row.

use pgrx::pg_sys;
use trough_pushdown::{Column, Encoding, oid};

use crate::{encode, errors::Failure, pg, rows};

/// Appends a value as a column stores it. Common types are written straight from the datum.
///
/// # Safety
/// `datum` is of the column's type.
///
/// # Errors
/// Why the column's encoding cannot hold it.
#[inline]
pub(crate) unsafe fn put(
    datum: Option<pg_sys::Datum>,
    column: &Column,
    relation: &str,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    use rmp::encode as e;
    let Some(datum) = datum else {
        out.push(0xc0);
        return Ok(());
    };
    // Writing to a Vec cannot fail.
    let integer = |n: i64, out: &mut Vec<u8>| drop(e::write_sint(out, n));
    match column.type_oid {
        oid::INT8 => integer(datum.value() as i64, out),
        oid::INT4 => integer((datum.value() as i32).into(), out),
        oid::INT2 => integer((datum.value() as i16).into(), out),
        oid::BOOL => out.push((datum.value() as u8 != 0).into()),
        oid::FLOAT8 if !f64::from_bits(datum.value() as u64).is_nan() => {
            drop(e::write_f64(out, f64::from_bits(datum.value() as u64)));
        }
        oid::TEXT | oid::VARCHAR if column.encoding == Encoding::Text && pg::is_utf8() => {
            // SAFETY: the type is a varlena's; in UTF-8 a text's bytes are what is stored.
            let bytes = unsafe { pg::varlena_bytes(datum) };
            drop(e::write_str_len(out, bytes.len() as u32));
            out.extend_from_slice(bytes);
        }
        // SAFETY: as above.
        oid::BYTEA => drop(e::write_bin(out, unsafe { pg::varlena_bytes(datum) })),
        // SAFETY: as for the caller.
        _ => rows::put(&unsafe { encode::stored(datum, column, relation) }?, out),
    }
    Ok(())
}
