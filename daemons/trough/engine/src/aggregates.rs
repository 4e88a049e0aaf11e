//! Aggregate functions for what SQLite's own cannot give exactly: sums and moments of reals in PostgreSQL's steps, moments
//! of integers, and bitwise ones. Those with the suffix `_merge` add up what the others made of several segments.

use std::panic::{RefUnwindSafe, UnwindSafe};

use rusqlite::{
    Connection, Error, Result,
    functions::{Aggregate, Context, FunctionFlags},
    types::{Value, ValueRef},
};
use trough_core::moments::{IntMoments, Overflow, PairMoments, RealMoments, RealSum, State};

/// Defines the functions on a connection.
pub(crate) fn register(conn: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    conn.create_aggregate_function("trough_sum_big", 1, flags, BigSum)?;
    conn.create_aggregate_function("trough_sum_real", 1, flags, Sum { single: false })?;
    conn.create_aggregate_function("trough_sum_single", 1, flags, Sum { single: true })?;
    conn.create_aggregate_function("trough_real_moments", 1, flags, Steps(real_step))?;
    conn.create_aggregate_function("trough_real_moments_merge", 1, flags, Steps(merge::<RealMoments>))?;
    conn.create_aggregate_function("trough_pair_moments", 2, flags, Steps(pair_step))?;
    conn.create_aggregate_function("trough_pair_moments_merge", 1, flags, Steps(merge::<PairMoments>))?;
    conn.create_aggregate_function("trough_int_moments", 1, flags, Steps(int_step))?;
    conn.create_aggregate_function("trough_int_moments_merge", 1, flags, Steps(merge::<IntMoments>))?;
    conn.create_aggregate_function("trough_bit_and", 1, flags, Bits(|a, b| a & b))?;
    conn.create_aggregate_function("trough_bit_or", 1, flags, Bits(|a, b| a | b))?;
    conn.create_aggregate_function("trough_bit_xor", 1, flags, Bits(|a, b| a ^ b))
}

fn unfit(value: ValueRef<'_>) -> Error {
    Error::UserFunctionError(
        format!("{}a {} cannot be aggregated so", crate::functions::REJECTED, value.data_type()).into(),
    )
}

fn real(value: ValueRef<'_>) -> Result<Option<f64>> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Real(r) => Ok(Some(r)),
        ValueRef::Integer(n) => Ok(Some(n as f64)),
        other => Err(unfit(other)),
    }
}

fn integer(value: ValueRef<'_>) -> Result<Option<i64>> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(n) => Ok(Some(n)),
        other => Err(unfit(other)),
    }
}

/// A state until it overflows; after that nothing changes it.
type Group<S> = std::result::Result<S, Overflow>;

/// The sum of reals. The result is a real, so that it adds up with others; what SQLite has no real for is a byte string:
/// NaN its eight bytes, an overflow none.
struct Sum {
    single: bool,
}

impl Aggregate<Group<RealSum>, Value> for Sum {
    fn init(&self, _ctx: &mut Context<'_>) -> Result<Group<RealSum>> {
        Ok(Ok(RealSum::default()))
    }

    fn step(&self, ctx: &mut Context<'_>, group: &mut Group<RealSum>) -> Result<()> {
        let number = match ctx.get_raw(0) {
            ValueRef::Blob([]) => {
                *group = Err(Overflow);
                return Ok(());
            }
            ValueRef::Blob(_) => f64::NAN,
            other => match real(other)? {
                Some(number) => number,
                None => return Ok(()),
            },
        };
        if let Ok(sum) = group
            && let Err(overflow) = sum.add(number, self.single)
        {
            *group = Err(overflow);
        }
        Ok(())
    }

    fn finalize(&self, _ctx: &mut Context<'_>, group: Option<Group<RealSum>>) -> Result<Value> {
        Ok(match group {
            None | Some(Ok(RealSum(None))) => Value::Null,
            Some(Ok(RealSum(Some(sum)))) if sum.is_nan() => Value::Blob(sum.to_be_bytes().to_vec()),
            Some(Ok(RealSum(Some(sum)))) => Value::Real(sum),
            Some(Err(Overflow)) => Value::Blob(Vec::new()),
        })
    }
}

/// The exact sum of integers: an integer, or a byte string of 16, the highest first, where it has more than 64 bits. Takes both,
/// so that results add up. SQLite's own sum fails there.
struct BigSum;

impl Aggregate<Option<i128>, Value> for BigSum {
    fn init(&self, _ctx: &mut Context<'_>) -> Result<Option<i128>> {
        Ok(None)
    }

    fn step(&self, ctx: &mut Context<'_>, sum: &mut Option<i128>) -> Result<()> {
        let value = ctx.get_raw(0);
        let number = match value {
            ValueRef::Null => return Ok(()),
            ValueRef::Integer(n) => i128::from(n),
            ValueRef::Blob(bytes) => i128::from_be_bytes(bytes.try_into().map_err(|_| unfit(value))?),
            other => return Err(unfit(other)),
        };
        *sum = Some(sum.unwrap_or(0).checked_add(number).ok_or_else(|| unfit(value))?);
        Ok(())
    }

    fn finalize(&self, _ctx: &mut Context<'_>, sum: Option<Option<i128>>) -> Result<Value> {
        Ok(match sum.flatten() {
            None => Value::Null,
            Some(sum) => i64::try_from(sum).map_or_else(|_| Value::Blob(sum.to_be_bytes().to_vec()), Value::Integer),
        })
    }
}

/// What travels as bytes: `State`s, by a step over the arguments. Nothing aggregated is NULL.
struct Steps<S>(fn(&Context<'_>, &mut S) -> Result<std::result::Result<(), Overflow>>);

impl<S: State + UnwindSafe + RefUnwindSafe + PartialEq> Aggregate<Group<S>, Value> for Steps<S> {
    fn init(&self, _ctx: &mut Context<'_>) -> Result<Group<S>> {
        Ok(Ok(S::default()))
    }

    fn step(&self, ctx: &mut Context<'_>, group: &mut Group<S>) -> Result<()> {
        if let Ok(state) = group
            && let Err(overflow) = (self.0)(ctx, state)?
        {
            *group = Err(overflow);
        }
        Ok(())
    }

    fn finalize(&self, _ctx: &mut Context<'_>, group: Option<Group<S>>) -> Result<Value> {
        Ok(match group {
            None => Value::Null,
            Some(Ok(state)) if state == S::default() => Value::Null,
            Some(Ok(state)) => Value::Blob(state.to_bytes()),
            Some(Err(Overflow)) => Value::Blob(Vec::new()),
        })
    }
}

fn real_step(ctx: &Context<'_>, state: &mut RealMoments) -> Result<std::result::Result<(), Overflow>> {
    Ok(match real(ctx.get_raw(0))? {
        Some(x) => state.add(x),
        None => Ok(()),
    })
}

/// `trough_pair_moments(y, x)`, in the order of PostgreSQL's `regr_` functions.
fn pair_step(ctx: &Context<'_>, state: &mut PairMoments) -> Result<std::result::Result<(), Overflow>> {
    Ok(match (real(ctx.get_raw(1))?, real(ctx.get_raw(0))?) {
        (Some(x), Some(y)) => state.add(x, y),
        _ => Ok(()),
    })
}

fn int_step(ctx: &Context<'_>, state: &mut IntMoments) -> Result<std::result::Result<(), Overflow>> {
    if let Some(n) = integer(ctx.get_raw(0))? {
        state.add(n);
    }
    Ok(Ok(()))
}

fn merge<S: State>(ctx: &Context<'_>, state: &mut S) -> Result<std::result::Result<(), Overflow>> {
    match ctx.get_raw(0) {
        ValueRef::Null => Ok(Ok(())),
        ValueRef::Blob([]) => Ok(Err(Overflow)),
        value @ ValueRef::Blob(bytes) => {
            let part = S::from_bytes(bytes).ok_or_else(|| unfit(value))?;
            Ok(state.merge(&part))
        }
        other => Err(unfit(other)),
    }
}

/// A bitwise operation over integers; NULL of none.
struct Bits(fn(i64, i64) -> i64);

impl Aggregate<Option<i64>, Option<i64>> for Bits {
    fn init(&self, _ctx: &mut Context<'_>) -> Result<Option<i64>> {
        Ok(None)
    }

    fn step(&self, ctx: &mut Context<'_>, bits: &mut Option<i64>) -> Result<()> {
        if let Some(n) = integer(ctx.get_raw(0))? {
            *bits = Some(bits.map_or(n, |bits| (self.0)(bits, n)));
        }
        Ok(())
    }

    fn finalize(&self, _ctx: &mut Context<'_>, bits: Option<Option<i64>>) -> Result<Option<i64>> {
        Ok(bits.flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one<T: rusqlite::types::FromSql>(sql: &str) -> T {
        let conn = Connection::open_in_memory().expect("a database in memory");
        register(&conn).expect("functions");
        conn.query_row(sql, [], |row| row.get(0)).expect(sql)
    }

    #[test]
    fn sums() {
        assert_eq!(one::<f64>("SELECT trough_sum_real(column1) FROM (VALUES (1.5), (NULL), (2))"), 3.5);
        assert_eq!(one::<Option<f64>>("SELECT trough_sum_real(NULL)"), None);
        assert_eq!(one::<Option<f64>>("SELECT trough_sum_real(1.0) WHERE 0"), None);
        assert!(one::<f64>("SELECT trough_sum_real(-0.0)").is_sign_negative());
        let overflow = "SELECT trough_sum_real(column1) FROM (VALUES (1.7e308), (1.7e308), (-1e308))";
        assert_eq!(one::<Vec<u8>>(overflow), b"");
        let again = format!("SELECT trough_sum_real(s) FROM (SELECT 1.0 AS s UNION ALL {overflow})");
        assert_eq!(one::<Vec<u8>>(&again), b"");
        assert_eq!(one::<f64>("SELECT trough_sum_real(column1) FROM (VALUES (9e999), (1))"), f64::INFINITY);
        let nan = "SELECT trough_sum_real(column1) FROM (VALUES (9e999), (-9e999))";
        assert_eq!(one::<Vec<u8>>(nan).len(), 8);
        assert_eq!(one::<f64>("SELECT trough_sum_single(column1) FROM (VALUES (16777216), (1))"), 16_777_216.0);
    }

    #[test]
    fn exact_sums() {
        assert_eq!(one::<i64>("SELECT trough_sum_big(column1) FROM (VALUES (1), (NULL), (-3))"), -2);
        assert_eq!(one::<Option<i64>>("SELECT trough_sum_big(NULL)"), None);
        assert_eq!(one::<Option<i64>>("SELECT trough_sum_big(1) WHERE 0"), None);
        let big = "SELECT trough_sum_big(column1) AS s FROM (VALUES (9223372036854775807), (1))";
        assert_eq!(one::<[u8; 16]>(big), (1i128 << 63).to_be_bytes());
        assert_eq!(
            one::<[u8; 16]>(&big.replace("(1)", "(9223372036854775807)")),
            (i128::from(i64::MAX) * 2).to_be_bytes()
        );
        let back = format!(
            "SELECT trough_sum_big(s) FROM ({big} UNION ALL {big} UNION ALL VALUES (-9223372036854775808), (-9223372036854775808), (-1))"
        );
        assert_eq!(one::<i64>(&back), -1);
        let conn = Connection::open_in_memory().expect("a database in memory");
        register(&conn).expect("functions");
        for unfit in ["'x'", "1.5", "x'01'"] {
            let sum = conn.query_row(&format!("SELECT trough_sum_big({unfit})"), [], |row| row.get::<_, i64>(0));
            assert!(sum.expect_err(unfit).to_string().contains("cannot be aggregated"), "{unfit}");
        }
    }

    #[test]
    fn moments_in_parts() {
        let map = |values: &str| format!("SELECT trough_real_moments(column1) AS m FROM (VALUES {values})");
        let parts = format!("{} UNION ALL {} UNION ALL {}", map("(1), (2)"), map("(NULL)"), map("(3.0)"));
        let bytes: Vec<u8> = one(&format!("SELECT trough_real_moments_merge(m) FROM ({parts})"));
        assert_eq!(RealMoments::from_bytes(&bytes).map(|m| m.parts()), Some([3.0, 6.0, 2.0]));
        let parts = "SELECT trough_int_moments(column1) AS m FROM (VALUES (3), (-4)) UNION ALL SELECT NULL";
        let bytes: Vec<u8> = one(&format!("SELECT trough_int_moments_merge(m) FROM ({parts})"));
        assert_eq!(IntMoments::from_bytes(&bytes), Some(IntMoments { count: 2, sum: -1, squares: (0, 25) }));
        let distinct = "SELECT trough_int_moments(DISTINCT column1) FROM (VALUES (3), (3), (NULL))";
        assert_eq!(IntMoments::from_bytes(&one::<Vec<u8>>(distinct)).map(|m| m.count), Some(1));
        let pair = "SELECT trough_pair_moments(column1, column2) FROM (VALUES (1, 2), (NULL, 5), (3, 6))";
        let bytes: Vec<u8> = one(pair);
        assert_eq!(PairMoments::from_bytes(&bytes).map(|m| m.parts()), Some([2.0, 8.0, 8.0, 4.0, 2.0, 4.0]));
        assert_eq!(one::<Option<Vec<u8>>>("SELECT trough_pair_moments_merge(NULL)"), None);
        let overflow = map("(1e160), (-1e160)");
        assert_eq!(one::<Vec<u8>>(&format!("SELECT trough_real_moments_merge(m) FROM ({overflow})")), b"");
    }

    #[test]
    fn bits() {
        assert_eq!(one::<i64>("SELECT trough_bit_and(column1) FROM (VALUES (6), (NULL), (3))"), 2);
        assert_eq!(one::<i64>("SELECT trough_bit_or(column1) FROM (VALUES (6), (3))"), 7);
        assert_eq!(one::<i64>("SELECT trough_bit_xor(column1) FROM (VALUES (6), (3))"), 5);
        assert_eq!(one::<Option<i64>>("SELECT trough_bit_and(NULL)"), None);
        let conn = Connection::open_in_memory().expect("a database in memory");
        register(&conn).expect("functions");
        let text = conn.query_row("SELECT trough_bit_or('x')", [], |row| row.get::<_, i64>(0));
        assert!(text.expect_err("no integer").to_string().contains("type mismatch"));
    }
}
