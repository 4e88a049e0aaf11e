//! Values as keys: an encoding whose bytes sort as the values do and of which none is a prefix of another, and the
//! rules about what may be a key.

use super::{Datum, print};
use crate::error::{QueryError, Result};

/// RethinkDB's limit on the text that it makes of a primary key.
const MAX_PRIMARY_KEY: usize = 128;

const MIN: u8 = 0x01;
const ARRAY: u8 = 0x10;
const BOOL: u8 = 0x20;
const NULL: u8 = 0x30;
const NUMBER: u8 = 0x40;
const OBJECT: u8 = 0x50;
const BINARY: u8 = 0x60;
const TIME: u8 = 0x70;
const STRING: u8 = 0x80;
const MAX: u8 = 0xfe;
/// Ends arrays and objects: below every type.
const END: u8 = 0x00;

/// Appended to an encoded value, makes a bound above every key that begins with the value.
pub(crate) const AFTER: u8 = 0xff;

/// Appends the encoding of any value.
pub(crate) fn encode(value: &Datum, out: &mut Vec<u8>) {
    match value {
        Datum::MinVal => out.push(MIN),
        Datum::MaxVal => out.push(MAX),
        Datum::Null | Datum::Literal(_) => out.push(NULL),
        Datum::Bool(value) => out.extend_from_slice(&[BOOL, u8::from(*value)]),
        Datum::Num(number) => {
            out.push(NUMBER);
            encode_number(*number, out);
        }
        Datum::Time(time) => {
            out.push(TIME);
            encode_number(time.epoch, out);
        }
        Datum::Str(text) => {
            out.push(STRING);
            encode_bytes(text.as_bytes(), out);
        }
        Datum::Binary(bytes) => {
            out.push(BINARY);
            encode_bytes(bytes, out);
        }
        Datum::Array(items) => {
            out.push(ARRAY);
            items.iter().for_each(|item| encode(item, out));
            out.push(END);
        }
        Datum::Object(object) => {
            out.push(OBJECT);
            for (name, value) in object.iter() {
                out.push(MIN);
                encode_bytes(name.as_bytes(), out);
                encode(value, out);
            }
            out.push(END);
        }
    }
}

/// The encoding of one value.
pub(crate) fn encoded(value: &Datum) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    encode(value, &mut out);
    out
}

fn encode_number(number: f64, out: &mut Vec<u8>) {
    // 0 and -0 are one key.
    let bits = (number + 0.0).to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits ^ (1 << 63) };
    out.extend_from_slice(&ordered.to_be_bytes());
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// The key under which a document with this primary key is stored.
pub(crate) fn primary(value: &Datum) -> Result<Vec<u8>> {
    let text = primary_text(value)?;
    if text.len() > MAX_PRIMARY_KEY {
        return Err(QueryError::logic(format!(
            "Primary key too long (max {} characters): {}",
            MAX_PRIMARY_KEY - 1,
            print::pretty(value)
        )));
    }
    Ok(encoded(value))
}

/// The text that RethinkDB makes of a primary key: what its limit and its order of unordered reads rest on.
pub(crate) fn primary_text(value: &Datum) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(32);
    match value {
        Datum::Null | Datum::Object(_) | Datum::Literal(_) => {
            return Err(value.type_error(format!(
                "Primary keys must be either a number, string, bool, pseudotype or array (got type {}):\n{}",
                value.type_name(),
                print::truncated(value)
            )));
        }
        _ => text(value, &mut out)?,
    }
    Ok(out)
}

fn text(value: &Datum, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Datum::MinVal | Datum::MaxVal => {
            return Err(QueryError::logic("`r.minval` and `r.maxval` cannot be written to disk."));
        }
        Datum::Num(number) => text_number(*number, out),
        Datum::Time(time) => {
            out.extend_from_slice(b"PTIME:");
            text_number(time.epoch, out);
        }
        Datum::Bool(value) => out.extend_from_slice(if *value { b"Bt" } else { b"Bf" }),
        Datum::Str(string) => {
            if let Some(at) = string.find('\0') {
                let shown: String = string.chars().take(20).collect();
                return Err(QueryError::logic(format!(
                    "String \"{}\" (truncated) contains NULL byte at offset {at} in index key.",
                    shown.replace('\0', "\\x00")
                )));
            }
            out.push(b'S');
            out.extend_from_slice(string.as_bytes());
        }
        Datum::Binary(bytes) => {
            out.extend_from_slice(b"PBINARY:");
            for byte in bytes.iter() {
                match byte {
                    0 => out.extend_from_slice(&[1, 1]),
                    1 => out.extend_from_slice(&[1, 2]),
                    other => out.push(*other),
                }
            }
        }
        Datum::Array(items) => {
            out.push(b'A');
            for item in items.iter() {
                text(item, out)?;
                out.push(0);
            }
        }
        Datum::Null | Datum::Object(_) | Datum::Literal(_) => {
            return Err(value.type_error(format!(
                "Array keys can only contain numbers, strings, bools,  pseudotypes, or arrays (got {} of type {}).",
                print::pretty(value),
                value.type_name()
            )));
        }
    }
    Ok(())
}

fn text_number(number: f64, out: &mut Vec<u8>) {
    let mut bits = Vec::with_capacity(8);
    encode_number(number, &mut bits);
    out.push(b'N');
    out.extend(bits.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()));
    out.push(b'#');
    out.extend_from_slice(print::general(number + 0.0).as_bytes());
}

/// Which of RethinkDB's eight parts of a table a document lies in: unordered reads give part after part.
pub(crate) fn shard(value: &Datum) -> u8 {
    let Ok(text) = primary_text(value) else { return 0 };
    let mut hash = 0x47a5_9e38_1fb2_dc06_u64;
    for byte in text {
        let spread = ((u64::from(byte).wrapping_mul(0x8020_0802) & 0x08_8442_2110).wrapping_mul(0x01_0101_0101)) << 23;
        hash = hash.wrapping_add(spread);
        hash = hash ^ (hash >> 11) ^ (hash << 21);
    }
    ((hash & 0x7fff_ffff_ffff_ffff) >> 60) as u8
}

/// Whether a value may be a secondary index's key; others are left out of the index.
pub(crate) fn indexable(value: &Datum) -> bool {
    match value {
        Datum::Num(_) | Datum::Str(_) | Datum::Bool(_) | Datum::Time(_) | Datum::Binary(_) => true,
        Datum::Array(items) => items.iter().all(indexable),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_datum() -> impl Strategy<Value = Datum> {
        let leaf = prop_oneof![
            Just(Datum::Null),
            any::<bool>().prop_map(Datum::Bool),
            any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(Datum::Num),
            (-3i32..3).prop_map(|x| Datum::Num(f64::from(x))),
            "[a-c\\x00-\\x02]{0,3}".prop_map(Datum::from),
            proptest::collection::vec(any::<u8>(), 0..3).prop_map(|bytes| Datum::Binary(bytes.into())),
            (-2i32..2).prop_map(|x| super::super::time::at(f64::from(x))),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Datum::array),
                proptest::collection::btree_map("[a-b\\x00]{0,2}", inner, 0..3).prop_map(|fields| {
                    let mut object = super::super::Object::default();
                    fields.into_iter().for_each(|(name, value)| object.set(name, value));
                    object.into()
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn bytes_sort_as_values(a in any_datum(), b in any_datum()) {
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.cmp(&b));
            if a != b {
                prop_assert!(!encoded(&b).starts_with(&encoded(&a)));
            }
        }

        #[test]
        fn json_round_trips(a in any_datum()) {
            let text = super::super::json::to_string(&a).expect("no bounds in it");
            let back = super::super::json::parse(text.as_bytes(), super::super::json::Pseudo::Convert);
            prop_assert_eq!(back.expect("own JSON parses"), a);
        }
    }

    #[test]
    fn parts_are_rethinkdbs() {
        let mut keys: Vec<_> = (1..=5).map(|n| Datum::Num(f64::from(n))).collect();
        keys.sort_by_key(shard);
        assert_eq!(keys, [4.0, 5.0, 3.0, 2.0, 1.0].map(Datum::Num));
    }
}
