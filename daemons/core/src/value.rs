//! SQLite's five kinds of value, as they travel in JSON and in MessagePack.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};

/// One SQLite value. In JSON: null, a number, a string, `{"blob": base64}`, and for reals that JSON
/// numbers cannot hold `{"real": "inf" | "-inf" | "nan"}`. In MessagePack each has its own type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// INTEGER: 64 bits, signed.
    Integer(i64),
    /// REAL: IEEE 754 double.
    Real(f64),
    /// TEXT.
    Text(String),
    /// BLOB.
    Blob(Vec<u8>),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => s.serialize_unit(),
            Self::Integer(i) => s.serialize_i64(*i),
            Self::Real(r) if s.is_human_readable() && !r.is_finite() => {
                let mut map = s.serialize_map(Some(1))?;
                map.serialize_entry(
                    "real",
                    if r.is_nan() {
                        "nan"
                    } else if *r > 0.0 {
                        "inf"
                    } else {
                        "-inf"
                    },
                )?;
                map.end()
            }
            Self::Real(r) => s.serialize_f64(*r),
            Self::Text(t) => s.serialize_str(t),
            Self::Blob(b) if s.is_human_readable() => {
                let mut map = s.serialize_map(Some(1))?;
                map.serialize_entry("blob", &BASE64.encode(b))?;
                map.end()
            }
            Self::Blob(b) => s.serialize_bytes(b),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("null, an integer, a real, a string, {\"blob\": base64} or {\"real\": \"inf\"}")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Integer(v.into()))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Integer(v))
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Value, E> {
        i64::try_from(v).map(Value::Integer).map_err(|_| E::custom(format!("integer {v} does not fit 64 signed bits")))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Real(v))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::Text(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::Text(v))
    }
    fn visit_bytes<E>(self, v: &[u8]) -> Result<Value, E> {
        Ok(Value::Blob(v.to_vec()))
    }
    fn visit_byte_buf<E>(self, v: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Blob(v))
    }
    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let (key, text): (String, String) =
            map.next_entry()?.ok_or_else(|| de::Error::custom("empty object where a value was expected"))?;
        let value = match (key.as_str(), text.as_str()) {
            ("blob", b64) => Value::Blob(BASE64.decode(b64).map_err(|e| de::Error::custom(format!("blob: {e}")))?),
            ("real", "inf") => Value::Real(f64::INFINITY),
            ("real", "-inf") => Value::Real(f64::NEG_INFINITY),
            ("real", "nan") => Value::Real(f64::NAN),
            ("real", other) => return Err(de::Error::custom(format!("real: {other:?} is none of inf, -inf, nan"))),
            (other, _) => return Err(de::Error::custom(format!("object key {other:?} is neither blob nor real"))),
        };
        match map.next_key::<String>()? {
            None => Ok(value),
            Some(extra) => Err(de::Error::custom(format!("unexpected second key {extra:?} in a value"))),
        }
    }
}
