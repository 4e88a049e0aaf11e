//! Comparison and arithmetic.

use std::cmp::Ordering;

use trough_reql::proto::term_type as t;

use super::val::Val;
use super::{Args, Exec};
use crate::datum::{Datum, time};
use crate::error::{QueryError, Result};

pub(super) fn compare(ex: &Exec, args: &mut Args) -> Result<Val> {
    let mut left = args.datum(ex, 0)?;
    let mut holds = true;
    for at in 1..args.len() {
        let right = args.datum(ex, at)?;
        let order = left.cmp(&right);
        holds = match args.call.op {
            t::EQ | t::NE => order == Ordering::Equal,
            t::LT => order == Ordering::Less,
            t::LE => order != Ordering::Greater,
            t::GT => order == Ordering::Greater,
            _ => order != Ordering::Less,
        };
        if !holds {
            break;
        }
        left = right;
    }
    Ok(Val::Datum(Datum::Bool(holds != (args.call.op == t::NE))))
}

pub(super) fn number(ex: &Exec, args: &mut Args) -> Result<Val> {
    let value = match args.call.op {
        t::ADD | t::SUB | t::MUL | t::DIV => {
            let mut value = args.datum(ex, 0)?;
            for at in 1..args.len() {
                let right = args.datum(ex, at)?;
                value = match args.call.op {
                    t::ADD => add(ex, &value, &right),
                    t::SUB => subtract(&value, &right),
                    t::MUL => multiply(ex, &value, &right),
                    _ => divide(&value, &right),
                }?;
            }
            value
        }
        t::MOD => {
            let (left, right) = (args.int(ex, 0)?, args.int(ex, 1)?);
            if right == 0 {
                return Err(QueryError::logic("Cannot take a number modulo 0."));
            }
            Datum::Num((left % right) as f64)
        }
        t::FLOOR => Datum::Num(args.num(ex, 0)?.floor()),
        t::CEIL => Datum::Num(args.num(ex, 0)?.ceil()),
        t::ROUND => Datum::Num(args.num(ex, 0)?.round()),
        _ => random(ex, args)?,
    };
    Ok(Val::Datum(value))
}

pub(super) fn add(ex: &Exec, left: &Datum, right: &Datum) -> Result<Datum> {
    match (left, right) {
        (Datum::Time(moment), other) | (other, Datum::Time(moment)) => {
            Ok(time::make(finite(moment.epoch + other.as_num()?)?, moment.zone.clone()))
        }
        (Datum::Num(a), b) => Datum::number(a + b.as_num()?),
        (Datum::Str(a), b) => {
            let b = b.as_str()?;
            let mut text = String::with_capacity(a.len() + b.len());
            text.push_str(a);
            text.push_str(b);
            Ok(text.into())
        }
        (Datum::Array(a), b) => {
            let b = b.as_array()?;
            ex.check_len(a.len() + b.len())?;
            Ok(Datum::array(a.iter().chain(b.iter()).cloned().collect()))
        }
        (other, _) => Err(other.expected("NUMBER")),
    }
}

fn finite(value: f64) -> Result<f64> {
    Datum::number(value).and_then(|number| number.as_num())
}

fn subtract(left: &Datum, right: &Datum) -> Result<Datum> {
    match (left, right) {
        (Datum::Time(a), Datum::Time(b)) => Ok(Datum::Num(time::difference(a.epoch, b.epoch))),
        (Datum::Time(a), b) => Ok(time::make(finite(a.epoch - b.as_num()?)?, a.zone.clone())),
        (a, b) => Datum::number(a.as_num()? - b.as_num()?),
    }
}

fn multiply(ex: &Exec, left: &Datum, right: &Datum) -> Result<Datum> {
    let (items, times) = match (left, right) {
        (Datum::Array(items), other) | (other, Datum::Array(items)) => (items, other.as_int()?),
        (a, b) => return Datum::number(a.as_num()? * b.as_num()?),
    };
    let Ok(times) = usize::try_from(times) else {
        return Err(QueryError::logic("Cannot multiply an ARRAY by a negative number."));
    };
    ex.check_len(items.len().saturating_mul(times))?;
    Ok(Datum::array(items.iter().cycle().take(items.len() * times).cloned().collect()))
}

fn divide(left: &Datum, right: &Datum) -> Result<Datum> {
    let (a, b) = (left.as_num()?, right.as_num()?);
    if b == 0.0 {
        return Err(QueryError::logic("Cannot divide by zero."));
    }
    Datum::number(a / b)
}

fn bounded(value: i64) -> Result<i64> {
    if (-(1 << 53)..1 << 53).contains(&value) {
        Ok(value)
    } else {
        Err(QueryError::logic(format!("Integer too large: {value}")))
    }
}

pub(super) fn bits(ex: &Exec, args: &mut Args) -> Result<Val> {
    let mut value = bounded(args.int(ex, 0)?)?;
    let result = match args.call.op {
        t::BIT_NOT => !value as f64,
        t::BIT_SAL | t::BIT_SAR => {
            let by = args.int(ex, 1)?;
            let Ok(by) = i32::try_from(by.min(4096)) else {
                return Err(QueryError::logic("Cannot bit-shift by a negative value"));
            };
            if by < 0 {
                return Err(QueryError::logic("Cannot bit-shift by a negative value"));
            }
            if args.call.op == t::BIT_SAR {
                (value >> by.min(63)) as f64
            } else if value == 0 {
                0.0
            } else {
                value as f64 * 2f64.powi(by)
            }
        }
        op => {
            for at in 1..args.len() {
                let right = bounded(args.int(ex, at)?)?;
                value = match op {
                    t::BIT_AND => value & right,
                    t::BIT_OR => value | right,
                    _ => value ^ right,
                };
            }
            value as f64
        }
    };
    Datum::number(result).map(Val::Datum)
}

fn random(ex: &Exec, args: &mut Args) -> Result<Datum> {
    let unit = super::seqs::random_u64()? as f64 / (u64::MAX as f64 + 1.0);
    let float = args.opt_bool(ex, "float")?;
    let (low, high) = match args.len() {
        0 => return Ok(Datum::Num(unit)),
        1 => (0.0, args.num(ex, 0)?),
        _ => (args.num(ex, 0)?, args.num(ex, 1)?),
    };
    if float {
        return Datum::number(low + unit * (high - low));
    }
    let (low, high) = (Datum::Num(low).as_int()?, Datum::Num(high).as_int()?);
    if low >= high {
        return Err(QueryError::logic(format!("Lower bound ({low}) is not less than upper bound ({high}).")));
    }
    Ok(Datum::Num(low as f64 + (unit * (high - low) as f64).floor()))
}
