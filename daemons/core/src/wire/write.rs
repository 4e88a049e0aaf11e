//! The write protocol (`POST /v1/write`).

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{SegmentError, SegmentId, Value};

/// `POST /v1/write` on the write port: one transaction per element.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WriteRequest {
    /// What to write, one transaction a segment.
    pub writes: Vec<SegmentWrite>,
    /// How long the whole request may take, in milliseconds from its arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// The statements of one transaction on one segment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SegmentWrite {
    /// The segment; this node must hold its write lock.
    pub segment: SegmentId,
    /// Run in order, all or nothing.
    pub statements: Vec<WriteStatement>,
}

/// One statement, run once per row of parameters (once without, if there are no rows).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WriteStatement {
    /// One SQLite statement with `?1`, `?2`, … for a row's values; `:segment` is the segment's id.
    pub sql: String,
    /// Rows of parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Vec<Value>>,
    /// Rows of parameters in the form in which they are stored and forwarded without being looked at; instead of `rows`. What the
    /// statement returns then comes back so too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<Packed>,
    /// Each run must change exactly so many rows; else the transaction fails with [`crate::ErrorCode::Conflict`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<u64>,
}

/// Rows as the bytes of their MessagePack values, row after row, as in the rows frame of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// How many rows.
    pub count: u64,
    /// Values in each.
    pub columns: u32,
    /// `count × columns` values. In JSON: base64.
    #[serde(serialize_with = "serialize_bytes", deserialize_with = "deserialize_bytes")]
    pub data: Bytes,
}

fn serialize_bytes<S: Serializer>(bytes: &Bytes, s: S) -> Result<S::Ok, S::Error> {
    if s.is_human_readable() { s.serialize_str(&BASE64.encode(bytes)) } else { s.serialize_bytes(bytes) }
}

fn deserialize_bytes<'de, D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = Bytes;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a byte string, or its base64")
        }
        fn visit_bytes<E>(self, v: &[u8]) -> Result<Bytes, E> {
            Ok(Bytes::copy_from_slice(v))
        }
        fn visit_byte_buf<E>(self, v: Vec<u8>) -> Result<Bytes, E> {
            Ok(v.into())
        }
        fn visit_str<E: de::Error>(self, v: &str) -> Result<Bytes, E> {
            BASE64.decode(v).map(Bytes::from).map_err(E::custom)
        }
    }
    // Whoever buffers the document (an untagged enum) knows by itself what came.
    d.deserialize_any(Visitor)
}

/// The answer to [`WriteRequest`]: one result per element, in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WriteResponse {
    /// In the order of the request's writes.
    pub results: Vec<WriteResult>,
}

/// What became of one segment's transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WriteResult {
    /// Committed and durable.
    Ok {
        /// Rows changed.
        changes: u64,
        /// The rows that RETURNING gave, in order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        returned: Vec<Vec<Value>>,
        /// Those of statements whose rows were packed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        packed: Option<Packed>,
    },
    /// Nothing of it was kept.
    Err {
        /// Why.
        error: SegmentError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_rows_travel_in_json_too() {
        let packed = Packed { count: 2, columns: 1, data: Bytes::from_static(&[1, 0xc0]) };
        let statement = WriteStatement { sql: "s".into(), packed: Some(packed), ..WriteStatement::default() };
        let text = serde_json::to_string(&statement).expect("plain data");
        assert_eq!(text, r#"{"sql":"s","packed":{"count":2,"columns":1,"data":"AcA="}}"#);
        let back: WriteStatement = serde_json::from_str(&text).expect("written above");
        assert_eq!(back.packed, statement.packed);
        let old: WriteStatement = serde_json::from_str(r#"{"sql":"s"}"#).expect("rows may be left out");
        assert!(old.rows.is_empty() && old.packed.is_none() && old.each.is_none());
        let result = WriteResult::Ok { changes: 1, returned: Vec::new(), packed: statement.packed.clone() };
        let text = serde_json::to_string(&result).expect("plain data");
        let WriteResult::Ok { packed, .. } = serde_json::from_str(&text).expect("written above") else {
            panic!("{text}")
        };
        assert_eq!(packed, statement.packed);
    }
}
