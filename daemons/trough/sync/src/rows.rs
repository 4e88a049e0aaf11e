//! Reading the rows of a query's answer.

use rmp::{Marker, decode};
use trough_client::Batch;
use trough_core::Value;

/// Rows that cannot be read: the worker speaks something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rows cannot be read: {0}")]
pub struct RowsError(String);

/// The rows of a batch, each with one value a column. A text that is not UTF-8 comes with its bad bytes replaced.
///
/// # Errors
/// [`RowsError`] if the bytes are no rows.
pub fn rows(batch: &Batch) -> Result<Vec<Vec<Value>>, RowsError> {
    let mut bytes: &[u8] = &batch.data;
    let width = batch.columns.len();
    (0..batch.count).map(|_| (0..width).map(|_| value(&mut bytes)).collect()).collect()
}

fn value(bytes: &mut &[u8]) -> Result<Value, RowsError> {
    fn broken(what: impl std::fmt::Debug) -> RowsError {
        RowsError(format!("{what:?}"))
    }
    let marker = decode::read_marker(bytes).map_err(|e| broken(e.0))?;
    let mut take = |n: usize| -> Result<Vec<u8>, RowsError> {
        if bytes.len() < n {
            return Err(RowsError("they end too soon".into()));
        }
        let (head, tail) = bytes.split_at(n);
        *bytes = tail;
        Ok(head.to_vec())
    };
    let uint = |n: usize, take: &mut dyn FnMut(usize) -> Result<Vec<u8>, RowsError>| {
        take(n).map(|b| b.iter().fold(0u64, |acc, byte| acc << 8 | u64::from(*byte)))
    };
    let text = |b: Vec<u8>| {
        Value::Text(String::from_utf8(b).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    };
    let unsigned = |n: u64| i64::try_from(n).map(Value::Integer).map_err(|_| RowsError(format!("{n} is too large")));
    Ok(match marker {
        Marker::Null => Value::Null,
        Marker::True => Value::Integer(1),
        Marker::False => Value::Integer(0),
        Marker::FixPos(n) => Value::Integer(n.into()),
        Marker::FixNeg(n) => Value::Integer(n.into()),
        Marker::U8 => unsigned(uint(1, &mut take)?)?,
        Marker::U16 => unsigned(uint(2, &mut take)?)?,
        Marker::U32 => unsigned(uint(4, &mut take)?)?,
        Marker::U64 => unsigned(uint(8, &mut take)?)?,
        Marker::I8 => Value::Integer((uint(1, &mut take)? as i8).into()),
        Marker::I16 => Value::Integer((uint(2, &mut take)? as i16).into()),
        Marker::I32 => Value::Integer((uint(4, &mut take)? as i32).into()),
        Marker::I64 => Value::Integer(uint(8, &mut take)? as i64),
        Marker::F32 => Value::Real(f32::from_bits(uint(4, &mut take)? as u32).into()),
        Marker::F64 => Value::Real(f64::from_bits(uint(8, &mut take)?)),
        Marker::FixStr(n) => text(take(n.into())?),
        Marker::Str8 => {
            let n = uint(1, &mut take)? as usize;
            text(take(n)?)
        }
        Marker::Str16 => {
            let n = uint(2, &mut take)? as usize;
            text(take(n)?)
        }
        Marker::Str32 => {
            let n = uint(4, &mut take)? as usize;
            text(take(n)?)
        }
        Marker::Bin8 => {
            let n = uint(1, &mut take)? as usize;
            Value::Blob(take(n)?)
        }
        Marker::Bin16 => {
            let n = uint(2, &mut take)? as usize;
            Value::Blob(take(n)?)
        }
        Marker::Bin32 => {
            let n = uint(4, &mut take)? as usize;
            Value::Blob(take(n)?)
        }
        // Extension 1: a text that is not UTF-8.
        Marker::FixExt1 => text(take(2)?.split_off(1)),
        Marker::FixExt2 => text(take(3)?.split_off(1)),
        Marker::FixExt4 => text(take(5)?.split_off(1)),
        Marker::FixExt8 => text(take(9)?.split_off(1)),
        Marker::FixExt16 => text(take(17)?.split_off(1)),
        Marker::Ext8 => {
            let n = uint(1, &mut take)? as usize;
            text(take(n + 1)?.split_off(1))
        }
        Marker::Ext16 => {
            let n = uint(2, &mut take)? as usize;
            text(take(n + 1)?.split_off(1))
        }
        Marker::Ext32 => {
            let n = uint(4, &mut take)? as usize;
            text(take(n + 1)?.split_off(1))
        }
        other => return Err(broken(other)),
    })
}

#[cfg(test)]
mod tests {
    use rmp::encode as e;

    use super::*;

    #[test]
    fn every_kind_of_value_is_read() {
        let mut data = Vec::new();
        let long = "é".repeat(300);
        e::write_nil(&mut data).expect("to memory");
        e::write_sint(&mut data, -70_000).expect("to memory");
        e::write_uint(&mut data, 1 << 40).expect("to memory");
        e::write_f64(&mut data, 1.5).expect("to memory");
        e::write_str(&mut data, &long).expect("to memory");
        e::write_bin(&mut data, &[1, 2, 3]).expect("to memory");
        e::write_ext_meta(&mut data, 3, 1).expect("to memory");
        data.extend([b'a', 0xff, b'b']);
        e::write_sint(&mut data, -3).expect("to memory");
        let columns: Vec<String> = (0..4).map(|i| format!("c{i}")).collect();
        let batch = Batch { segment: None, columns: columns.into(), count: 2, data: data.into() };
        let read = rows(&batch).expect("rows");
        assert_eq!(read[0], [Value::Null, Value::Integer(-70_000), Value::Integer(1 << 40), Value::Real(1.5)]);
        let rest =
            [Value::Text(long), Value::Blob(vec![1, 2, 3]), Value::Text("a\u{fffd}b".into()), Value::Integer(-3)];
        assert_eq!(read[1], rest);
        assert!(rows(&Batch { count: 3, ..batch }).is_err());
    }
}
