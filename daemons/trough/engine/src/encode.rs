//! SQLite's values in MessagePack, straight from the columns of a row.
//!
//! MessagePack and not a columnar format (Arrow): SQLite gives rows, and every value has a type of its own, so columns would
//! be unions built row by row; written this way, a scan takes as long as it takes SQLite alone to step through the rows.
//!
//! A text that is not UTF-8 is no MessagePack text: it travels as extension [`INVALID_TEXT`] with its bytes.

use rusqlite::{Row, types::ValueRef};
use trough_core::{ErrorCode, SegmentError, wire::INVALID_TEXT};

use crate::statement::Failure;

/// Appends one value.
pub(crate) fn value(value: ValueRef<'_>, out: &mut Vec<u8>) {
    match value {
        ValueRef::Null => out.push(0xc0),
        ValueRef::Integer(n) => integer(n, out),
        ValueRef::Real(r) => {
            out.push(0xcb);
            out.extend_from_slice(&r.to_be_bytes());
        }
        ValueRef::Text(bytes) => {
            if is_utf8(bytes) {
                match bytes.len() {
                    n @ 0..=31 => out.push(0xa0 | n as u8),
                    n => length(n, [0xd9, 0xda, 0xdb], out),
                }
            } else {
                length(bytes.len(), [0xc7, 0xc8, 0xc9], out);
                out.push(INVALID_TEXT as u8);
            }
            out.extend_from_slice(bytes);
        }
        ValueRef::Blob(bytes) => {
            length(bytes.len(), [0xc4, 0xc5, 0xc6], out);
            out.extend_from_slice(bytes);
        }
    }
}

fn is_utf8(bytes: &[u8]) -> bool {
    bytes.is_ascii() || std::str::from_utf8(bytes).is_ok()
}

fn length(n: usize, [one, two, four]: [u8; 3], out: &mut Vec<u8>) {
    if let Ok(n) = u8::try_from(n) {
        out.extend_from_slice(&[one, n]);
    } else if let Ok(n) = u16::try_from(n) {
        out.push(two);
        out.extend_from_slice(&n.to_be_bytes());
    } else {
        // SQLite's values are below 2^31 bytes.
        out.push(four);
        out.extend_from_slice(&(n as u32).to_be_bytes());
    }
}

/// An integer in the fewest bytes.
fn integer(n: i64, out: &mut Vec<u8>) {
    match n {
        0..=0x7f => out.push(n as u8),
        -32..=-1 => out.push(n as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, n as u8]),
        -0x80..=-33 => out.extend_from_slice(&[0xd0, n as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        -0x8000..=-0x81 => {
            out.push(0xd1);
            out.extend_from_slice(&(n as i16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
        -0x8000_0000..=-0x8001 => {
            out.push(0xd2);
            out.extend_from_slice(&(n as i32).to_be_bytes());
        }
        _ => {
            out.push(if n < 0 { 0xd3 } else { 0xcf });
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}

/// Appends a row's first `columns` values. SQLite bounds each of them, and no value follows after `most` bytes: `SELECT zeroblob(n), …` makes
/// no record, but each value takes its memory and time as it is read.
pub(crate) fn row(row: &Row<'_>, columns: usize, most: usize, out: &mut Vec<u8>) -> Result<(), Failure> {
    let begin = out.len();
    for i in 0..columns {
        check_row(out.len() - begin, most)?;
        value(row.get_ref(i)?, out);
    }
    Ok(())
}

/// Refuses a row of more than `most` bytes.
pub(crate) fn check_row(bytes: usize, most: usize) -> Result<(), Failure> {
    if bytes > most {
        let text = format!("a row has more than {most} bytes");
        return Err(Failure::Ours(SegmentError::new(ErrorCode::Limit, text)));
    }
    Ok(())
}

/// A decoded value, borrowed from the bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Decoded<'a> {
    /// One of SQLite's values.
    Value(ValueRef<'a>),
    /// A text that is not UTF-8.
    InvalidText(&'a [u8]),
}

/// Reads back what [`value`] wrote; only for bytes that this module made.
pub(crate) fn decode<'a>(bytes: &mut &'a [u8]) -> Option<Decoded<'a>> {
    fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
        let (head, tail) = bytes.split_at_checked(n)?;
        *bytes = tail;
        Some(head)
    }
    fn uint(bytes: &mut &[u8], n: usize) -> Option<u64> {
        Some(take(bytes, n)?.iter().fold(0, |acc, b| acc << 8 | u64::from(*b)))
    }
    let tag = take(bytes, 1)?[0];
    let value = match tag {
        0xc0 => ValueRef::Null,
        0x00..=0x7f => ValueRef::Integer(tag.into()),
        0xe0..=0xff => ValueRef::Integer((tag as i8).into()),
        0xcc => ValueRef::Integer(uint(bytes, 1)? as i64),
        0xcd => ValueRef::Integer(uint(bytes, 2)? as i64),
        0xce => ValueRef::Integer(uint(bytes, 4)? as i64),
        0xcf | 0xd3 => ValueRef::Integer(uint(bytes, 8)? as i64),
        0xd0 => ValueRef::Integer((uint(bytes, 1)? as i8).into()),
        0xd1 => ValueRef::Integer((uint(bytes, 2)? as i16).into()),
        0xd2 => ValueRef::Integer((uint(bytes, 4)? as i32).into()),
        0xcb => ValueRef::Real(f64::from_bits(uint(bytes, 8)?)),
        0xa0..=0xbf => ValueRef::Text(take(bytes, usize::from(tag & 0x1f))?),
        0xd9..=0xdb | 0xc4..=0xc6 | 0xc7..=0xc9 => {
            let width = match tag {
                0xd9 | 0xc4 | 0xc7 => 1,
                0xda | 0xc5 | 0xc8 => 2,
                _ => 4,
            };
            let n = uint(bytes, width)? as usize;
            match tag {
                0xd9..=0xdb => ValueRef::Text(take(bytes, n)?),
                0xc4..=0xc6 => ValueRef::Blob(take(bytes, n)?),
                _ => {
                    take(bytes, 1)?;
                    return Some(Decoded::InvalidText(take(bytes, n)?));
                }
            }
        }
        _ => return None,
    };
    Some(Decoded::Value(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(v: ValueRef<'_>) {
        let mut bytes = Vec::new();
        value(v, &mut bytes);
        let mut rest = bytes.as_slice();
        let expected = match v {
            ValueRef::Text(t) if std::str::from_utf8(t).is_err() => Decoded::InvalidText(t),
            other => Decoded::Value(other),
        };
        assert_eq!(decode(&mut rest), Some(expected));
        assert!(rest.is_empty());
    }

    #[test]
    fn every_width() {
        for shift in 0..63 {
            for n in [(1i64 << shift) - 1, 1 << shift, -(1 << shift), -(1 << shift) - 1] {
                round_trip(ValueRef::Integer(n));
                let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                integer(n, &mut ours);
                rmp::encode::write_sint(&mut theirs, n).expect("a Vec takes all");
                assert_eq!(ours, theirs, "{n}");
            }
        }
        for n in [0, 31, 32, 255, 256, 65_535, 65_536] {
            round_trip(ValueRef::Text(&vec![b'x'; n]));
            round_trip(ValueRef::Blob(&vec![7; n]));
            round_trip(ValueRef::Text(&vec![0xff; n.max(1)]));
        }
        for r in [0.0, -0.0, f64::INFINITY, 1e-300] {
            round_trip(ValueRef::Real(r));
        }
    }

    proptest! {
        #[test]
        fn any_value(n in any::<i64>(), bytes in any::<Vec<u8>>()) {
            round_trip(ValueRef::Integer(n));
            round_trip(ValueRef::Text(&bytes));
            round_trip(ValueRef::Blob(&bytes));
        }
    }
}
