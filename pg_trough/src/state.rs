//! Transition states and results of aggregates from what the segments computed, exactly as PostgreSQL's own partial
//! aggregates would hand them over.

use pgrx::{PgSqlErrorCode, pg_sys};
use trough_pushdown::{StateKind, oid};

use crate::{
    decode::{Arena, Decoder, Item, Unfit},
    errors::Failure,
    pg,
    plandata::{Finish, Stored},
};

/// Makes an aggregate's states or results.
pub(crate) struct StateDecoder {
    kind: StateKind,
    finish: Option<Finish>,
    value: Decoder,
}

/// What the columns of a state hold, read from an answer.
struct Parts {
    count: i64,
    rest: [Option<f64>; 3],
    whole: [Option<i64>; 3],
}

impl StateDecoder {
    /// For states (`finish` none) or results.
    pub(crate) fn new(kind: StateKind, finish: Option<Finish>, stored: Stored) -> Self {
        Self { kind, finish, value: Decoder::new(stored) }
    }

    /// The argument's column.
    pub(crate) fn stored(&self) -> &Stored {
        self.value.stored()
    }

    /// The datum; none for NULL.
    ///
    /// # Errors
    /// Why the columns are no such state.
    pub(crate) fn decode(&mut self, items: &[Item<'_>], arena: &mut Arena) -> Result<Option<pg_sys::Datum>, Unfit> {
        if let StateKind::Value { .. } = self.kind {
            return self.value.decode(items[0], arena);
        }
        let parts = Parts::read(items)?;
        let average = self.finish == Some(Finish::Average);
        Ok(match self.kind {
            StateKind::Count => Some(pg_sys::Datum::from(parts.count)),
            StateKind::Int8 => parts.whole[0].or(integer(items[0])?).map(pg_sys::Datum::from),
            StateKind::Int128 | StateKind::IntPair if parts.count == 0 => match (self.kind, self.finish) {
                (StateKind::IntPair, None) => Some(int8_array(&[0, 0])),
                _ => None,
            },
            StateKind::Int128 => {
                let (high, low) = (parts.whole[0].unwrap_or(0), parts.whole[1].unwrap_or(0));
                let sum = (i128::from(high) << 32) + i128::from(low);
                Some(match self.finish {
                    None => pg::make_varlena(&int128_state(parts.count, sum)),
                    Some(_) if average => divide(numeric(&sum.to_string()), numeric(&parts.count.to_string())),
                    Some(_) => numeric(&sum.to_string()),
                })
            }
            StateKind::IntPair => {
                let sum = parts.whole[0].unwrap_or(0);
                Some(match self.finish {
                    None => int8_array(&[parts.count, sum]),
                    Some(_) => divide(numeric(&sum.to_string()), numeric(&parts.count.to_string())),
                })
            }
            StateKind::Real | StateKind::RealTriple => {
                let empty = parts.count == 0;
                let sum = if empty { 0.0 } else { parts.real_sum() };
                match (self.kind, self.finish) {
                    // As PostgreSQL's own states, whose third number is NaN once the sum is not finite.
                    (StateKind::RealTriple, None) => {
                        let spread = if sum.is_finite() { 0.0 } else { f64::NAN };
                        Some(float8_array(&[parts.count as f64, sum, spread]))
                    }
                    _ if empty => None,
                    _ if average => Some(float8(sum / parts.count as f64)),
                    _ => Some(float8(sum)),
                }
            }
            StateKind::Value { .. } => unreachable!("handled above"),
        })
    }
}

fn integer(item: Item<'_>) -> Result<Option<i64>, Unfit> {
    match item {
        Item::Null => Ok(None),
        Item::Integer(n) => Ok(Some(n)),
        _ => Err(Unfit::Is("something other than an integer")),
    }
}

impl Parts {
    fn read(items: &[Item<'_>]) -> Result<Self, Unfit> {
        let mut parts = Self { count: 0, rest: [None; 3], whole: [None; 3] };
        for (i, item) in items.iter().enumerate() {
            match (i, *item) {
                // The sum of no counts is NULL.
                (_, Item::Null) => {}
                (0, Item::Integer(n)) => parts.count = n,
                (i, Item::Integer(n)) => {
                    parts.whole[i - 1] = Some(n);
                    parts.rest[i - 1] = Some(n as f64);
                }
                (i, Item::Real(r)) if i > 0 => parts.rest[i - 1] = Some(r),
                _ => return Err(Unfit::Is("something other than a number")),
            }
        }
        Ok(parts)
    }

    /// The sum of reals: PostgreSQL reports an overflow where SQLite gives infinity, and sums infinities to themselves or
    /// NaN.
    fn real_sum(&self) -> f64 {
        let (positive, negative) = (self.rest[1].unwrap_or(0.0) > 0.0, self.rest[2].unwrap_or(0.0) > 0.0);
        match (positive, negative) {
            (true, true) => f64::NAN,
            (true, false) => f64::INFINITY,
            (false, true) => f64::NEG_INFINITY,
            (false, false) => match self.rest[0] {
                Some(sum) if sum.is_finite() => sum,
                _ => Failure::new(PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow")
                    .raise(),
            },
        }
    }
}

fn float8(r: f64) -> pg_sys::Datum {
    pg_sys::Datum::from(r.to_bits())
}

/// `int8_avg_serialize`'s form: the count, then a numeric variable as digits of base 10,000.
fn int128_state(count: i64, sum: i128) -> Vec<u8> {
    const POSITIVE: i32 = 0;
    const NEGATIVE: i32 = 0x4000;
    let mut digits: Vec<i16> = Vec::new();
    let mut rest = sum.unsigned_abs();
    while rest > 0 {
        digits.push((rest % 10_000) as i16);
        rest /= 10_000;
    }
    digits.reverse();
    let weight = digits.len().saturating_sub(1) as i32;
    let mut out = Vec::with_capacity(24 + 2 * digits.len());
    out.extend_from_slice(&count.to_be_bytes());
    for n in [digits.len() as i32, weight, if sum < 0 { NEGATIVE } else { POSITIVE }, 0] {
        out.extend_from_slice(&n.to_be_bytes());
    }
    digits.iter().for_each(|d| out.extend_from_slice(&d.to_be_bytes()));
    out
}

fn int8_array(items: &[i64]) -> pg_sys::Datum {
    array(items.iter().map(|n| pg_sys::Datum::from(*n)).collect(), oid::INT8)
}

fn float8_array(items: &[f64]) -> pg_sys::Datum {
    array(items.iter().map(|r| float8(*r)).collect(), oid::FLOAT8)
}

fn array(mut items: Vec<pg_sys::Datum>, element: u32) -> pg_sys::Datum {
    // SAFETY: eight-byte elements passed by value, aligned as doubles.
    unsafe {
        let array = pg_sys::construct_array(items.as_mut_ptr(), items.len() as i32, element.into(), 8, true, b'd' as _);
        pg_sys::Datum::from(array)
    }
}

fn numeric(text: &str) -> pg_sys::Datum {
    numeric_in(pg::pstrdup(text), -1)
}

/// A numeric of a C string, in the current memory context.
pub(crate) fn numeric_in(text: *mut std::ffi::c_char, typmod: i32) -> pg_sys::Datum {
    let args = [Some(pg_sys::Datum::from(text)), Some(pg_sys::Datum::from(0)), Some(pg_sys::Datum::from(typmod))];
    // SAFETY: numeric_in takes a C string, a type and a modifier, and gives no NULL.
    unsafe { pgrx::direct_function_call_as_datum(pg_sys::numeric_in, &args) }.expect("numeric_in gives a value")
}

fn divide(a: pg_sys::Datum, b: pg_sys::Datum) -> pg_sys::Datum {
    // SAFETY: both are numerics; numeric_div gives no NULL.
    unsafe { pgrx::direct_function_call_as_datum(pg_sys::numeric_div, &[Some(a), Some(b)]) }
        .expect("numeric_div gives a value")
}
