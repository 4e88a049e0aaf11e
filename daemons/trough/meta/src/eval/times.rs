//! Terms on times.

use trough_reql::proto::term_type as t;

use super::val::Val;
use super::{Args, Exec};
use crate::datum::time::{self, Part};
use crate::datum::{Datum, Time};
use crate::error::{QueryError, Result};

fn moment(ex: &Exec, args: &mut Args, at: usize) -> Result<Time> {
    args.datum(ex, at)?.as_time().cloned()
}

pub(super) fn time(ex: &Exec, args: &mut Args) -> Result<Val> {
    let op = args.call.op;
    let part = |part: Part, ex: &Exec, args: &mut Args| moment(ex, args, 0)?.part(part).map(Datum::Num);
    Ok(Val::Datum(match op {
        t::NOW => ex.query.now.clone(),
        t::ISO8601 => {
            let zone = args.opt_text(ex, "default_timezone")?;
            let text = args.text(ex, 0)?;
            time::parse(&text, zone.as_deref()).map_err(|error| error.at(crate::error::Frame::Arg(0)))?
        }
        t::TO_ISO8601 => moment(ex, args, 0)?.to_iso8601()?.into(),
        t::EPOCH_TIME => time::at(args.num(ex, 0)?),
        t::TO_EPOCH_TIME => Datum::Num(moment(ex, args, 0)?.epoch),
        t::IN_TIMEZONE => {
            let moment = moment(ex, args, 0)?;
            time::make(moment.epoch, time::zone(&args.text(ex, 1)?)?)
        }
        t::DURING => {
            let at = moment(ex, args, 0)?.epoch;
            let (from, to) = (moment(ex, args, 1)?.epoch, moment(ex, args, 2)?.epoch);
            let left = if args.open(ex, "left_bound", false)? { from < at } else { from <= at };
            let right = if args.open(ex, "right_bound", true)? { at < to } else { at <= to };
            Datum::Bool(left && right)
        }
        t::DATE => moment(ex, args, 0)?.date()?,
        t::TIME_OF_DAY => Datum::Num(moment(ex, args, 0)?.of_day()?),
        t::TIMEZONE => Datum::Str(moment(ex, args, 0)?.zone),
        t::YEAR => part(Part::Year, ex, args)?,
        t::MONTH => part(Part::Month, ex, args)?,
        t::DAY => part(Part::Day, ex, args)?,
        t::DAY_OF_WEEK => part(Part::DayOfWeek, ex, args)?,
        t::DAY_OF_YEAR => part(Part::DayOfYear, ex, args)?,
        t::HOURS => part(Part::Hours, ex, args)?,
        t::MINUTES => part(Part::Minutes, ex, args)?,
        t::SECONDS => part(Part::Seconds, ex, args)?,
        t::MONDAY..=t::SUNDAY => Datum::Num((op - t::MONDAY + 1) as f64),
        t::JANUARY..=t::DECEMBER => Datum::Num((op - t::JANUARY + 1) as f64),
        _ => {
            let count = args.len();
            if count != 4 && count != 7 {
                return Err(QueryError::logic(format!("Got {count} arguments to TIME (expected 4 or 7).")));
            }
            let date = (args.int(ex, 0)?, args.int(ex, 1)?, args.int(ex, 2)?);
            let clock = if count == 7 { (args.int(ex, 3)?, args.int(ex, 4)?, args.num(ex, 5)?) } else { (0, 0, 0.0) };
            time::from_parts(date, clock, &args.text(ex, count - 1)?)?
        }
    }))
}
