//! Comparisons of what has no time zone with an instant: `timestamp < timestamptz` reads the timestamp in the session's time zone. Which
//! timestamps fulfil it is worked out here, by PostgreSQL's own conversion, and sent as ranges.
//!
//! The later a timestamp, the later its instant, but where clocks are put forward: PostgreSQL reads what the clocks leave out with
//! the offset before, so that the instants of the hour that follows come twice. So one range may not do.

use std::cmp::Ordering;

use pgrx::{PgSqlErrorCode, pg_sys};
use trough_core::Value;
use trough_pushdown::{
    rules::Cmp,
    time::{self, DAY_US},
};

use crate::errors::Failure;

/// A range of microseconds since 2000, both ends included; the least and the greatest number are the infinities.
type Range = (i64, i64);

/// The first timestamp that PostgreSQL holds, and the last.
const FIRST: i64 = -211_813_488_000_000_000;
const LAST: i64 = 9_223_371_331_199_999_999;
/// Farther from UTC than any zone.
const FAR: i64 = 2 * DAY_US;
/// No zone changes its offset twice in so short a time.
const STEP: i64 = DAY_US / 8;

/// An end of the ranges of timestamps (of dates at midnight, with `dates`) that compare so with an instant.
pub(crate) fn bound(instant: i64, cmp: Cmp, dates: bool, end: u8) -> Value {
    let ranges = ranges(instant, cmp, dates);
    // A range that holds nothing stands for none.
    let none = (i64::MAX, i64::MIN);
    if ranges.len() > 2 {
        let why = "the session's time zone changes too often around a value to compare it in the segments";
        Failure::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, why.to_owned())
            .hint("SET pg_trough.pushdown = off evaluates everything here.")
            .raise();
    }
    let (from, to) = ranges.get(usize::from(end / 2)).copied().unwrap_or(none);
    time::since_1970(if end.is_multiple_of(2) { from } else { to })
}

fn ranges(instant: i64, cmp: Cmp, dates: bool) -> Vec<Range> {
    let compared = |local| if dates { compare_date(local, instant) } else { compare_timestamp(local, instant) };
    // Within each of these ranges all compare alike.
    let mut pieces = vec![(i64::MIN, i64::MIN)];
    if instant == i64::MIN || instant == i64::MAX {
        pieces.push((i64::MIN + 1, i64::MAX - 1));
    } else {
        let low = (instant - FAR).max(FIRST);
        // There are dates beyond all timestamps.
        let high = if dates { instant + FAR } else { (instant + FAR).min(LAST) };
        let mut starts = if dates { days(low, high) } else { changes(low, high, instant) };
        starts.retain(|start| (low..=high).contains(start));
        starts.extend([low, high]);
        starts.sort_unstable();
        starts.dedup();
        // What is far before or after compares as the ends do.
        pieces.push((i64::MIN + 1, starts[0] - 1));
        pieces.extend(starts.windows(2).map(|two| (two[0], two[1] - 1)));
        pieces.push((high, i64::MAX - 1));
    }
    pieces.push((i64::MAX, i64::MAX));
    let mut ranges: Vec<Range> = Vec::new();
    for (from, to) in pieces {
        if from > to {
            continue;
        }
        // Of what begins before all finite ones, the last that PostgreSQL holds speaks for all.
        let speaks = if from == i64::MIN + 1 { to.clamp(FIRST, LAST) } else { from };
        if !fulfils(cmp, compared(speaks)) {
            continue;
        }
        match ranges.last_mut() {
            Some(last) if last.1 == from - 1 => last.1 = to,
            _ => ranges.push((from, to)),
        }
    }
    ranges
}

fn fulfils(cmp: Cmp, ordering: Ordering) -> bool {
    match cmp {
        Cmp::Eq => ordering.is_eq(),
        Cmp::Ne => ordering.is_ne(),
        Cmp::Lt => ordering.is_lt(),
        Cmp::Le => ordering.is_le(),
        Cmp::Gt => ordering.is_gt(),
        Cmp::Ge => ordering.is_ge(),
    }
}

/// Midnights.
fn days(low: i64, high: i64) -> Vec<i64> {
    (low.div_euclid(DAY_US)..=high.div_euclid(DAY_US) + 1).map(|day| day * DAY_US).collect()
}

/// Where the offset of local times changes, and the timestamps that read as the instant or as the one after it.
fn changes(low: i64, high: i64, instant: i64) -> Vec<i64> {
    let mut starts = Vec::new();
    let mut offsets = vec![offset(low)];
    let mut at = low;
    while at < high {
        let next = (at + STEP).min(high);
        let (before, after) = (offset(at), offset(next));
        if before != after {
            offsets.push(after);
            // The first timestamp with the new offset.
            let (mut old, mut new) = (at, next);
            while new - old > 1 {
                let middle = old + (new - old) / 2;
                if offset(middle) == before { old = middle } else { new = middle }
            }
            starts.push(new);
        }
        at = next;
    }
    for offset in offsets {
        starts.extend([instant.saturating_add(offset), instant.saturating_add(offset).saturating_add(1)]);
    }
    starts
}

/// How far a local time is ahead of UTC; 0 at the ends of what PostgreSQL holds.
fn offset(local: i64) -> i64 {
    let mut overflow = 0;
    // SAFETY: only reports overflows.
    let us = unsafe { pg_sys::timestamp2timestamptz_opt_overflow(local, &mut overflow) };
    if overflow == 0 { local - us } else { 0 }
}

fn compare_timestamp(local: i64, instant: i64) -> Ordering {
    // SAFETY: plain numbers.
    unsafe { pg_sys::timestamp_cmp_timestamptz_internal(local, instant) }.cmp(&0)
}

/// As PostgreSQL's date_cmp_timestamptz.
fn compare_date(midnight: i64, instant: i64) -> Ordering {
    let days = match midnight {
        i64::MIN => i32::MIN,
        i64::MAX => i32::MAX,
        us => us.div_euclid(DAY_US) as i32,
    };
    let mut overflow = 0;
    // SAFETY: only reports overflows.
    let us = unsafe { pg_sys::date2timestamptz_opt_overflow(days, &mut overflow) };
    match overflow {
        0 => us.cmp(&instant),
        // Beyond what is finite, but no infinity.
        more if more > 0 => {
            if instant == i64::MAX {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
        _ => {
            if instant == i64::MIN {
                Ordering::Greater
            } else {
                Ordering::Less
            }
        }
    }
}
