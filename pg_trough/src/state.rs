//! Transition states and results of aggregates from what the segments computed, exactly as PostgreSQL's own partial
//! aggregates would hand them over.

use pgrx::{PgSqlErrorCode, pg_sys};
use trough_core::moments::{IntMoments, Overflow, PairMoments, RealMoments, State};
use trough_pushdown::{StateKind, oid};

use crate::{
    aggfn::StateFunction,
    decode::{Arena, Decoder, Item, Unfit},
    errors::Failure,
    pg,
    plandata::{Finish, Stored},
};

/// Makes an aggregate's states or results.
pub(crate) struct StateDecoder {
    kind: StateKind,
    value: Decoder,
    /// What makes the result of a state, in this order.
    finish: Vec<StateFunction>,
}

impl StateDecoder {
    /// For states (`finish` none) or results.
    pub(crate) fn new(kind: StateKind, finish: Option<Finish>, stored: Stored) -> Self {
        let functions = match finish {
            None | Some(Finish::Same) => [None, None],
            Some(Finish::Function(function)) => [None, Some(function)],
            Some(Finish::Deserialized(deserialize, function)) => [Some(deserialize), Some(function)],
        };
        let finish = functions.into_iter().flatten().map(|f| StateFunction::new(f.into())).collect();
        Self { kind, value: Decoder::new(stored), finish }
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
        let mut datum = self.state(items, arena)?;
        for function in &mut self.finish {
            datum = datum.and_then(|datum| function.call(datum));
        }
        Ok(datum)
    }

    fn state(&mut self, items: &[Item<'_>], arena: &mut Arena) -> Result<Option<pg_sys::Datum>, Unfit> {
        let first = *items.first().ok_or(Unfit::Is("nothing"))?;
        Ok(match self.kind {
            StateKind::Value { .. } => return self.value.decode(first, arena),
            // The sum of no counts is NULL.
            StateKind::Count => Some(pg_sys::Datum::from(integer(first)?.unwrap_or(0))),
            StateKind::Int8 => integer(first)?.map(pg_sys::Datum::from),
            StateKind::IntPair => {
                let [count, sum] = integers(items)?;
                Some(array(&[count, sum].map(pg_sys::Datum::from), oid::INT8))
            }
            StateKind::Int128 => {
                let [count] = integers(items)?;
                let sum = match items.get(1) {
                    Some(Item::Blob(bytes)) => {
                        i128::from_be_bytes((*bytes).try_into().map_err(|_| Unfit::Is("something other than a sum"))?)
                    }
                    sum => i128::from(sum.map_or(Ok(None), |sum| integer(*sum))?.unwrap_or(0)),
                };
                (count > 0).then(|| pg::make_varlena(&sum_state(count, sum)))
            }
            StateKind::IntSum | StateKind::IntMoments { .. } => bytes::<IntMoments>(first)?.map(|moments| {
                let mut state = sum_state(moments.count, moments.sum);
                if let StateKind::IntMoments { big } = self.kind {
                    let (high, low) = moments.squares;
                    number(&mut state, false, [high, (low >> 64) as u64, low as u64]);
                    if big {
                        numeric_rest(&mut state, moments.count);
                    }
                }
                pg::make_varlena(&state)
            }),
            StateKind::RealSum { single } => {
                let sum = match first {
                    Item::Null => None,
                    Item::Real(r) => Some(r),
                    Item::Integer(n) => Some(n as f64),
                    Item::Blob([]) => overflow(Overflow),
                    Item::Blob(_) => Some(f64::NAN),
                    _ => return Err(Unfit::Is("something other than a sum")),
                };
                sum.map(|r| if single { pg_sys::Datum::from((r as f32).to_bits()) } else { float8(r) })
            }
            StateKind::RealMoments => {
                let parts = bytes::<RealMoments>(first)?.unwrap_or_default().parts();
                Some(array(&parts.map(float8), oid::FLOAT8))
            }
            StateKind::PairMoments => {
                let parts = bytes::<PairMoments>(first)?.unwrap_or_default().parts();
                Some(array(&parts.map(float8), oid::FLOAT8))
            }
        })
    }
}

/// Several integers, of which NULL is 0.
fn integers<const N: usize>(items: &[Item<'_>]) -> Result<[i64; N], Unfit> {
    let mut out = [0; N];
    for (out, item) in out.iter_mut().zip(items) {
        *out = integer(*item)?.unwrap_or(0);
    }
    Ok(out)
}

/// A state that came as bytes.
fn bytes<S: State>(item: Item<'_>) -> Result<Option<S>, Unfit> {
    match item {
        Item::Null => Ok(None),
        Item::Blob([]) => overflow(Overflow),
        Item::Blob(bytes) => S::from_bytes(bytes).map(Some).ok_or(Unfit::Is("another state")),
        _ => Err(Unfit::Is("something other than a state")),
    }
}

#[cold]
fn overflow(overflow: Overflow) -> ! {
    Failure::new(PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, overflow.to_string()).raise()
}

fn integer(item: Item<'_>) -> Result<Option<i64>, Unfit> {
    match item {
        Item::Null => Ok(None),
        Item::Integer(n) => Ok(Some(n)),
        _ => Err(Unfit::Is("something other than an integer")),
    }
}

fn float8(r: f64) -> pg_sys::Datum {
    pg_sys::Datum::from(r.to_bits())
}

/// The form of `int8_avg_serialize`: the count, then the sum; `numeric_poly_serialize` adds the sum of squares.
fn sum_state(count: i64, sum: i128) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&count.to_be_bytes());
    let magnitude = sum.unsigned_abs();
    number(&mut out, sum < 0, [0, (magnitude >> 64) as u64, magnitude as u64]);
    out
}

/// What `numeric_serialize` adds for integers: the greatest scale, how many have it, and how many are NaN or infinite.
fn numeric_rest(out: &mut Vec<u8>, count: i64) {
    out.extend_from_slice(&0i32.to_be_bytes());
    for n in [count, 0, 0, 0] {
        out.extend_from_slice(&n.to_be_bytes());
    }
}

/// A numeric variable as digits of base 10,000. The number's highest 64 bits come first.
fn number(out: &mut Vec<u8>, negative: bool, mut limbs: [u64; 3]) {
    const NEGATIVE: i32 = 0x4000;
    let mut digits: Vec<i16> = Vec::new();
    while limbs.iter().any(|limb| *limb > 0) {
        let mut rest = 0u128;
        for limb in &mut limbs {
            let part = rest << 64 | u128::from(*limb);
            *limb = (part / 10_000) as u64;
            rest = part % 10_000;
        }
        digits.push(rest as i16);
    }
    digits.reverse();
    let weight = digits.len().saturating_sub(1) as i32;
    for n in [digits.len() as i32, weight, if negative { NEGATIVE } else { 0 }, 0] {
        out.extend_from_slice(&n.to_be_bytes());
    }
    digits.iter().for_each(|d| out.extend_from_slice(&d.to_be_bytes()));
}

fn array(items: &[pg_sys::Datum], element: u32) -> pg_sys::Datum {
    let mut items = items.to_vec();
    // SAFETY: eight-byte elements passed by value, aligned as doubles.
    unsafe {
        let array = pg_sys::construct_array(items.as_mut_ptr(), items.len() as i32, element.into(), 8, true, b'd' as _);
        pg_sys::Datum::from(array)
    }
}

/// A numeric of a C string, in the current memory context.
pub(crate) fn numeric_in(text: *mut std::ffi::c_char, typmod: i32) -> pg_sys::Datum {
    let args = [Some(pg_sys::Datum::from(text)), Some(pg_sys::Datum::from(0)), Some(pg_sys::Datum::from(typmod))];
    // SAFETY: numeric_in takes a C string, a type and a modifier, and gives no NULL.
    unsafe { pgrx::direct_function_call_as_datum(pg_sys::numeric_in, &args) }.expect("numeric_in gives a value")
}
