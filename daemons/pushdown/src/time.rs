//! Dates and instants between PostgreSQL's numbers (days and microseconds since 2000-01-01) and the encodings that
//! SQLite databases use.

use trough_core::Value;

use crate::column::Encoding;

/// Microseconds in a day.
pub const DAY_US: i64 = 86_400_000_000;
/// Days from 1970-01-01 to 2000-01-01.
pub const EPOCH_DAYS: i32 = 10_957;
/// PostgreSQL's `infinity` of a timestamp; `-infinity` is `i64::MIN`.
pub const INFINITY: i64 = i64::MAX;
/// PostgreSQL's `infinity` of a date; `-infinity` is `i32::MIN`.
pub const DATE_INFINITY: i32 = i32::MAX;
/// The first instant PostgreSQL can hold: 4713-11-24 BC.
const MIN_TIMESTAMP: i64 = -211_813_488_000_000_000;
/// The first instant it cannot hold any more: 294277-01-01.
const END_TIMESTAMP: i64 = 9_223_371_331_200_000_000;
/// 0001-01-01 in days since 2000-01-01.
const YEAR_1: i32 = -730_119;
/// 10000-01-01 in days since 2000-01-01.
const YEAR_10000: i32 = 2_921_940;

/// A value of a date or timestamp column that its encoding cannot write or that is no such value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// ISO 8601 text here is for the years 1 to 9999.
    #[error("the encoding iso8601 holds the years 1 to 9999 only")]
    Unwritable,
    /// A number outside PostgreSQL's range.
    #[error("the value is out of range for a timestamp")]
    OutOfRange,
    /// A text in another form.
    #[error("the text is no ISO 8601 {0}")]
    Malformed(&'static str),
}

/// Days since 2000-01-01 of a day in the proleptic Gregorian calendar; none if there is no such day.
pub fn days_from_civil(year: i32, month: u32, day: u32) -> Option<i32> {
    const LENGTHS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = *LENGTHS.get(month.checked_sub(1)? as usize)? + u32::from(leap && month == 2);
    if day == 0 || day > length {
        return None;
    }
    let y = i64::from(year) - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = i64::from((153 * (month + if month > 2 { 0 } else { 12 } - 3) + 2) / 5 + day - 1);
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    i32::try_from(days - i64::from(EPOCH_DAYS)).ok()
}

/// Year, month and day of a number of days since 2000-01-01.
pub fn civil_from_days(days: i32) -> (i32, u32, u32) {
    let z = i64::from(days) + i64::from(EPOCH_DAYS) + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    ((year_of_era + era * 400 + i64::from(month <= 2)) as i32, month, day)
}

/// `YYYY-MM-DD`, for the years 1 to 9999.
pub fn format_date(days: i32) -> Result<String, TimeError> {
    if !(YEAR_1..YEAR_10000).contains(&days) {
        return Err(TimeError::Unwritable);
    }
    let (y, m, d) = civil_from_days(days);
    Ok(format!("{y:04}-{m:02}-{d:02}"))
}

/// `YYYY-MM-DDTHH:MM:SS.ffffff`, with `Z` for an instant: the canonical form, which sorts as the values do.
pub fn format_timestamp(us: i64, utc: bool) -> Result<String, TimeError> {
    let days = i32::try_from(us.div_euclid(DAY_US)).map_err(|_| TimeError::Unwritable)?;
    let date = format_date(days)?;
    let of_day = us.rem_euclid(DAY_US);
    let (s, us) = (of_day / 1_000_000, of_day % 1_000_000);
    let z = if utc { "Z" } else { "" };
    Ok(format!("{date}T{:02}:{:02}:{:02}.{us:06}{z}", s / 3600, s / 60 % 60, s % 60))
}

fn digits(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 9 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')))
}

/// The days of `YYYY-MM-DD`.
///
/// # Errors
/// [`TimeError::Malformed`] for anything else.
pub fn parse_date(text: &[u8]) -> Result<i32, TimeError> {
    let malformed = TimeError::Malformed("date");
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return Err(malformed);
    }
    let parts = (digits(&text[..4]), digits(&text[5..7]), digits(&text[8..]));
    let (Some(y @ 1..), Some(m), Some(d)) = parts else { return Err(malformed) };
    days_from_civil(y as i32, m, d).ok_or(malformed)
}

/// The microseconds of `YYYY-MM-DD[( |T)HH:MM[:SS[.f…]][ ][Z|±HH[[:]MM]]]`. Without a zone the text is UTC; with one it
/// counts for an instant (`utc`) and is passed over otherwise, as PostgreSQL does.
///
/// # Errors
/// [`TimeError::Malformed`] for anything else.
pub fn parse_timestamp(text: &[u8], utc: bool) -> Result<i64, TimeError> {
    let malformed = || TimeError::Malformed("timestamp");
    let date = parse_date(text.get(..10).ok_or_else(malformed)?).map_err(|_| malformed())?;
    let midnight = i64::from(date) * DAY_US;
    let rest = &text[10..];
    if rest.is_empty() {
        return Ok(midnight);
    }
    if !matches!(rest[0], b' ' | b'T' | b't') || rest.len() < 6 || rest[3] != b':' {
        return Err(malformed());
    }
    let (Some(h @ 0..=24), Some(m @ 0..=59)) = (digits(&rest[1..3]), digits(&rest[4..6])) else {
        return Err(malformed());
    };
    let mut us = (i64::from(h) * 3600 + i64::from(m) * 60) * 1_000_000;
    let mut rest = &rest[6..];
    if let [b':', a, b, more @ ..] = rest {
        let s = digits(&[*a, *b]).filter(|s| *s <= 60).ok_or_else(malformed)?;
        us += i64::from(s) * 1_000_000;
        rest = more;
        if let [b'.' | b',', more @ ..] = rest {
            let len = more.iter().take_while(|c| c.is_ascii_digit()).count();
            let (fraction, more) = more.split_at(len);
            let six = fraction.iter().chain(std::iter::repeat(&b'0')).take(6);
            us += six.fold(0, |n, d| n * 10 + i64::from(d - b'0'));
            us += i64::from(fraction.get(6).is_some_and(|d| *d >= b'5'));
            rest = more;
        }
    }
    if us > DAY_US {
        return Err(malformed());
    }
    if let [b' ', more @ ..] = rest {
        rest = more;
    }
    let offset = match rest {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), zone @ ..] => {
            let (h, m) = match zone {
                [_, _] => (digits(zone), Some(0)),
                [a, b, b':', m @ ..] => (digits(&[*a, *b]), digits(m)),
                [a, b, m @ ..] => (digits(&[*a, *b]), digits(m)),
                _ => (None, None),
            };
            let (Some(h @ 0..=15), Some(m @ 0..=59)) = (h, m) else { return Err(malformed()) };
            let seconds = i64::from(h * 3600 + m * 60);
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return Err(malformed()),
    };
    Ok(midnight + us - if utc { offset * 1_000_000 } else { 0 })
}

/// Whether a text is a timestamp in the form of [`format_timestamp`].
pub fn is_canonical_timestamp(text: &[u8], utc: bool) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00.000000";
    let (body, zone) = text.split_at(text.len().min(FORM.len()));
    let alike = |(c, form): (&u8, &u8)| if *form == b'0' { c.is_ascii_digit() } else { c == form };
    let whole = body.len() == FORM.len() && body.iter().zip(FORM).all(alike);
    // Midnight and whole minutes have one writing.
    whole && body[11..13] < b"24"[..] && body[17] < b'6' && zone == if utc { &b"Z"[..] } else { b"" }
}

/// Units of an epoch encoding in a microsecond's terms.
fn unit(encoding: Encoding) -> Option<i64> {
    match encoding {
        Encoding::EpochS => Some(1_000_000),
        Encoding::EpochMs => Some(1_000),
        Encoding::EpochUs => Some(1),
        _ => None,
    }
}

const EPOCH_US: i64 = EPOCH_DAYS as i64 * DAY_US;
/// The julian day number of 2000-01-01T00:00.
const JULIAN_2000: f64 = 2_451_544.5;

/// How a timestamp is stored.
///
/// # Errors
/// [`TimeError`] if the encoding cannot hold it (an infinity, a fraction of its unit, a year beyond 9999).
pub fn store_timestamp(us: i64, encoding: Encoding, utc: bool) -> Result<Value, TimeError> {
    if us == i64::MAX || us == i64::MIN {
        return Err(if encoding == Encoding::Iso8601 { TimeError::Unwritable } else { TimeError::OutOfRange });
    }
    Ok(match (unit(encoding), encoding) {
        (Some(unit), _) => {
            let us = us.checked_add(EPOCH_US).ok_or(TimeError::OutOfRange)?;
            match us.rem_euclid(unit) {
                0 => Value::Integer(us / unit),
                // The whole part apart: far from 1970 no double holds the microseconds.
                rest => Value::Real(us.div_euclid(unit) as f64 + rest as f64 / unit as f64),
            }
        }
        (None, Encoding::Julian) => Value::Real(us as f64 / DAY_US as f64 + JULIAN_2000),
        _ => Value::Text(format_timestamp(us, utc)?),
    })
}

/// What a timestamp compares as against stored values of an epoch encoding or canonical ISO texts. A fraction of the unit
/// becomes one half, which lies between the same integers; what ISO text cannot write lies beyond all that it can.
pub fn compare_timestamp(us: i64, encoding: Encoding, utc: bool) -> Value {
    match unit(encoding) {
        Some(_) if us == i64::MAX => Value::Real(f64::INFINITY),
        Some(_) if us == i64::MIN => Value::Real(f64::NEG_INFINITY),
        Some(unit) => epoch(us.into(), unit),
        None => Value::Text(format_timestamp(us, utc).unwrap_or_else(|_| beyond(us > 0))),
    }
}

fn epoch(us: i128, unit: i64) -> Value {
    let us = us + i128::from(EPOCH_US);
    let whole = us.div_euclid(unit.into());
    match (us.rem_euclid(unit.into()), i64::try_from(whole)) {
        (0, Ok(whole)) => Value::Integer(whole),
        (_, Ok(whole)) => Value::Real(whole as f64 + 0.5),
        // Only microseconds beyond 294247 AD do not fit; no stored integer reaches them.
        (_, Err(_)) => Value::Real(whole as f64),
    }
}

/// Sorts after (or before) every text that begins with a four-digit year.
fn beyond(after: bool) -> String {
    if after { ":".into() } else { String::new() }
}

/// What a date compares as against canonical ISO texts, or as its midnight against instants of an epoch encoding.
pub fn compare_date(days: i32, encoding: Encoding) -> Value {
    match unit(encoding) {
        Some(_) if days == DATE_INFINITY => Value::Real(f64::INFINITY),
        Some(_) if days == i32::MIN => Value::Real(f64::NEG_INFINITY),
        Some(unit) => epoch(i128::from(days) * i128::from(DAY_US), unit),
        None => Value::Text(format_date(days).unwrap_or_else(|_| beyond(days > 0))),
    }
}

/// A day text at or below every ISO writing, in any zone, of the instant and all later ones.
pub fn iso_day_from(us: i64) -> Value {
    Value::Text(shifted_day(us, -1))
}

/// A day text above every ISO writing, in any zone, of the instant and all earlier ones.
pub fn iso_day_after(us: i64) -> Value {
    Value::Text(shifted_day(us, 2))
}

/// The day text of the last midnight that is not after a timestamp, or (`after`) of the first that is not before.
pub fn iso_midnight(us: i64, after: bool) -> Value {
    Value::Text(shifted_day(us, i64::from(after && us.rem_euclid(DAY_US) != 0)))
}

fn shifted_day(us: i64, days: i64) -> String {
    let day = us.div_euclid(DAY_US).saturating_add(days);
    i32::try_from(day).ok().and_then(|day| format_date(day).ok()).unwrap_or_else(|| beyond(day > 0))
}

/// The timestamp of a stored number.
///
/// # Errors
/// [`TimeError::OutOfRange`]
pub fn timestamp_from_integer(n: i64, encoding: Encoding) -> Result<i64, TimeError> {
    let us = match (unit(encoding), encoding) {
        (Some(unit), _) => n.checked_mul(unit).and_then(|us| us.checked_sub(EPOCH_US)),
        (None, Encoding::Julian) => return timestamp_from_real(n as f64, encoding),
        _ => None,
    };
    us.filter(|us| (MIN_TIMESTAMP..END_TIMESTAMP).contains(us)).ok_or(TimeError::OutOfRange)
}

/// Microseconds since 1970 of a timestamp; an infinity is one.
pub fn since_1970(us: i64) -> Value {
    compare_timestamp(us, Encoding::EpochUs, true)
}

/// The timestamp of a stored real, rounded to the microsecond (to the millisecond for julian days, as SQLite does).
///
/// # Errors
/// [`TimeError::OutOfRange`]
pub fn timestamp_from_real(r: f64, encoding: Encoding) -> Result<i64, TimeError> {
    match r {
        f64::INFINITY => return Ok(INFINITY),
        f64::NEG_INFINITY => return Ok(i64::MIN),
        _ => {}
    }
    let us = match (unit(encoding), encoding) {
        // It is no number of 64 bits.
        (Some(_), _) if r.is_nan() || r.abs() >= -(i64::MIN as f64) => return Err(TimeError::OutOfRange),
        (Some(unit), _) => {
            // The whole part apart, so that the fraction keeps its precision.
            let whole = (r.trunc() as i64).checked_mul(unit).ok_or(TimeError::OutOfRange)?;
            let fraction = (r.fract() * unit as f64).round_ties_even() as i64;
            whole.checked_add(fraction).and_then(|us| us.checked_sub(EPOCH_US)).ok_or(TimeError::OutOfRange)?
        }
        (None, Encoding::Julian) => {
            let ms = ((r - JULIAN_2000) * 86_400_000.0).round();
            if ms.abs() > 9.2e15 || ms.is_nan() {
                return Err(TimeError::OutOfRange);
            }
            ms as i64 * 1000
        }
        _ => return Err(TimeError::OutOfRange),
    };
    if (MIN_TIMESTAMP..END_TIMESTAMP).contains(&us) { Ok(us) } else { Err(TimeError::OutOfRange) }
}

/// The start of the unit (`second` to `year`, as `date_trunc` takes them) that an instant lies in, in microseconds since
/// 1970; none for another unit.
pub fn trunc(unit: &str, us: i64) -> Option<i64> {
    let day = us.div_euclid(DAY_US);
    let within = |length: i64| us - us.rem_euclid(length);
    let civil = || i32::try_from(day - i64::from(EPOCH_DAYS)).ok().map(civil_from_days);
    let of = |year: i32, month: u32| {
        days_from_civil(year, month, 1).map(|days| (i64::from(days) + i64::from(EPOCH_DAYS)) * DAY_US)
    };
    match unit {
        "second" => Some(within(1_000_000)),
        "minute" => Some(within(60_000_000)),
        "hour" => Some(within(3_600_000_000)),
        "day" => Some(within(DAY_US)),
        // 1970-01-01 was a Thursday.
        "week" => Some((day - (day + 3).rem_euclid(7)) * DAY_US),
        "month" => civil().and_then(|(y, m, _)| of(y, m)),
        "quarter" => civil().and_then(|(y, m, _)| of(y, (m - 1) / 3 * 3 + 1)),
        "year" => civil().and_then(|(y, _, _)| of(y, 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_round_trip() {
        for days in (YEAR_1 - 800_000..YEAR_10000 + 100_000).step_by(97).chain([-1, 0, 59, 60, 365]) {
            let (y, m, d) = civil_from_days(days);
            assert_eq!(days_from_civil(y, m, d), Some(days));
        }
        assert_eq!(days_from_civil(2000, 1, 1), Some(0));
        assert_eq!(days_from_civil(1, 1, 1), Some(YEAR_1));
        assert_eq!(days_from_civil(10_000, 1, 1), Some(YEAR_10000));
        assert_eq!(days_from_civil(2023, 2, 29), None);
        assert_eq!(days_from_civil(2024, 13, 1), None);
    }

    #[test]
    fn midnights() {
        let text = |us, after| match iso_midnight(us, after) {
            Value::Text(text) => text,
            other => panic!("{other:?}"),
        };
        let noon = DAY_US / 2;
        assert_eq!((text(0, false), text(0, true)), ("2000-01-01".into(), "2000-01-01".into()));
        assert_eq!((text(noon, false), text(noon, true)), ("2000-01-01".into(), "2000-01-02".into()));
        assert_eq!((text(-1, false), text(-1, true)), ("1999-12-31".into(), "2000-01-01".into()));
        assert_eq!((text(INFINITY, false), text(INFINITY, true)), (":".into(), ":".into()));
        assert_eq!((text(i64::MIN, false), text(i64::MIN, true)), (String::new(), String::new()));
        let last = i64::from(YEAR_10000) * DAY_US - 1;
        assert_eq!((text(last, false), text(last, true)), ("9999-12-31".into(), ":".into()));
    }

    #[test]
    fn timestamps() {
        let us = |text: &str| parse_timestamp(text.as_bytes(), true);
        assert_eq!(us("2000-01-01T00:00:00Z"), Ok(0));
        assert_eq!(us("2000-01-01"), Ok(0));
        assert_eq!(us("2000-01-01 00:00"), Ok(0));
        assert_eq!(us("2000-01-01 01:00:00.5+01"), Ok(500_000));
        assert_eq!(us("1999-12-31T19:00:00-05:00"), Ok(0));
        assert_eq!(us("2000-01-01T00:00:00.0000015Z"), Ok(2));
        for bad in ["", "2000", "2000-02-30", "2000-01-01X00:00", "2000-01-01T25:00", "2000-01-01T00:00:00 noon", "now"]
        {
            assert!(us(bad).is_err(), "{bad}");
        }
        for t in [0, 1, -1, 123_456_789_012_345, -12_345_678_901_234] {
            let text = format_timestamp(t, true).expect("in range");
            assert_eq!(us(&text), Ok(t));
            assert_eq!(text.len(), 27);
        }
        assert!(format_timestamp(INFINITY, true).is_err());
        assert!(is_canonical_timestamp(b"2000-01-01T23:59:59.000000Z", true));
        for other in ["2000-01-01T24:00:00.000000Z", "2000-01-01T23:59:60.000000Z", "2000-01-01T23:59:59Z"] {
            assert!(!is_canonical_timestamp(other.as_bytes(), true), "{other}");
        }
    }

    #[test]
    fn epochs() {
        for encoding in [Encoding::EpochS, Encoding::EpochMs, Encoding::EpochUs] {
            for us in [0, 1_000_000, -86_400_000_000_000] {
                let Value::Integer(n) = store_timestamp(us, encoding, true).expect("fits") else { panic!("whole") };
                assert_eq!(timestamp_from_integer(n, encoding), Ok(us));
            }
        }
        assert_eq!(compare_timestamp(1, Encoding::EpochS, true), Value::Real(946_684_800.5));
        assert_eq!(compare_timestamp(-1, Encoding::EpochS, true), Value::Real(946_684_799.5));
        assert_eq!(compare_timestamp(i64::MAX, Encoding::EpochS, true), Value::Real(f64::INFINITY));
        assert_eq!(timestamp_from_real(2_451_545.0, Encoding::Julian), Ok(DAY_US / 2));
        assert!(timestamp_from_integer(i64::MAX, Encoding::EpochS).is_err());
        // A quarter of a second of the year 9999 is exact, and so are three of the year 3.
        for us in [252_455_615_999_250_000, -63_000_000_000_750_000] {
            let Ok(Value::Real(seconds)) = store_timestamp(us, Encoding::EpochS, true) else { panic!("a fraction") };
            assert_eq!(timestamp_from_real(seconds, Encoding::EpochS), Ok(us));
        }
        assert_eq!(timestamp_from_real(f64::INFINITY, Encoding::EpochS), Ok(INFINITY));
        for encoding in [Encoding::EpochS, Encoding::EpochMs, Encoding::EpochUs, Encoding::Julian] {
            for r in [f64::NAN, 1e19, -1e19, 1e300] {
                assert_eq!(timestamp_from_real(r, encoding), Err(TimeError::OutOfRange), "{r} in {encoding:?}");
            }
        }
        assert_eq!(compare_timestamp(INFINITY, Encoding::Iso8601, true), Value::Text(":".into()));
    }
}
