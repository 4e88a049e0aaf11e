//! Transition states and results of aggregates from what the segments computed, exactly as PostgreSQL's own partial
//! aggregates would hand them over.

use pgrx::{PgSqlErrorCode, pg_sys};
use trough_core::moments::{IntMoments, Overflow, PairMoments, RealMoments, State};
use trough_pushdown::{StateKind, fit::Unfit, oid, serial};

use crate::{
    aggfn::StateFunction,
    decode::{Arena, Decoder, Item},
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
                (count > 0).then(|| pg::make_varlena(&serial::sum_state(count, sum)))
            }
            StateKind::IntSum => bytes::<IntMoments>(first)?
                .map(|moments| pg::make_varlena(&serial::sum_state(moments.count, moments.sum))),
            StateKind::IntMoments { big } => {
                bytes::<IntMoments>(first)?.map(|moments| pg::make_varlena(&serial::moments_state(&moments, big)))
            }
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
