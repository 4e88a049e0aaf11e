//! Times: ISO 8601 in and out, zones, and the parts of a date.

use super::{Datum, Time};
use crate::error::{QueryError, Result};

/// A time in UTC.
pub(crate) fn at(epoch: f64) -> Datum {
    make(epoch, "+00:00")
}

/// A time in a checked zone, to the millisecond.
pub(crate) fn make(epoch: f64, zone: impl Into<std::sync::Arc<str>>) -> Datum {
    Datum::Time(Time { epoch: (epoch * 1000.0).round() / 1000.0, zone: zone.into() })
}

/// The present moment in UTC, to the millisecond.
pub(crate) fn now() -> Datum {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    at(since.as_millis() as f64 / 1000.0)
}

/// The difference between two moments, to the millisecond.
pub(crate) fn difference(a: f64, b: f64) -> f64 {
    ((a - b) * 1000.0).round() / 1000.0
}

/// Checks a zone and gives it as `+hh:mm`.
pub(crate) fn zone(text: &str) -> Result<String> {
    if text == "Z" {
        return Ok("+00:00".into());
    }
    if text == "-00" || text == "-00:00" {
        return Err(QueryError::logic(format!("`{text}` is not a valid time offset.")));
    }
    let mut scan = Scan { text, at: 0 };
    let sign = match text.as_bytes().first() {
        Some(b'+') => '+',
        Some(b'-') => '-',
        _ => return Err(QueryError::logic(format!("Timezone `{text}` does not start with `-` or `+`."))),
    };
    scan.at = 1;
    let hours = scan.digits(2)?;
    let minutes = if scan.done() {
        0
    } else {
        scan.optional(b':');
        scan.digits(2)?
    };
    if !scan.done() {
        return Err(QueryError::logic(format!(
            "Garbage characters `{}` at end of timezone string `{text}`.",
            scan.rest()
        )));
    }
    if hours > 24 {
        return Err(QueryError::logic(format!("Hours out of range in `{text}`.")));
    }
    if minutes > 59 {
        return Err(QueryError::logic(format!("Minutes out of range in `{text}`.")));
    }
    Ok(format!("{sign}{hours:02}:{minutes:02}"))
}

/// Seconds that a checked zone is ahead of UTC.
pub(crate) fn offset(zone: &str) -> f64 {
    let part = |range: std::ops::Range<usize>| zone.get(range).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    let seconds = part(1..3) * 3600.0 + part(4..6) * 60.0;
    if zone.starts_with('-') { -seconds } else { seconds }
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl Scan<'_> {
    fn done(&self) -> bool {
        self.at >= self.text.len()
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn optional(&mut self, byte: u8) -> bool {
        let found = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn digits(&mut self, count: usize) -> Result<i64> {
        let mut value = 0;
        for _ in 0..count {
            match self.text.as_bytes().get(self.at) {
                None => {
                    return Err(QueryError::logic(format!(
                        "Invalid time zone string `{}`. Valid time zones are `+hh:mm`, `-hh:mm`, `+hhmm`, `-hhmm`, \
                         `+hh`, `-hh` and `Z`.",
                        self.text
                    )));
                }
                Some(digit @ b'0'..=b'9') => value = value * 10 + i64::from(digit - b'0'),
                Some(_) => {
                    let got = self.rest().chars().next().unwrap_or(' ');
                    return Err(QueryError::logic(format!(
                        "Invalid date string `{}` (got `{got}` but expected a digit).",
                        self.text
                    )));
                }
            }
            self.at += 1;
        }
        Ok(value)
    }
}

/// ISO8601: a moment from text; a text without a zone needs `default_zone`.
pub(crate) fn parse(text: &str, default_zone: Option<&str>) -> Result<Datum> {
    let (date, rest) = match text.split_once('T') {
        Some((date, rest)) => (date, Some(rest)),
        None => (text, None),
    };
    let days = parse_date(date)?;
    let (seconds, zone_text) = match rest {
        None => (0.0, None),
        Some(rest) => {
            let cut = rest.find('-').or_else(|| rest.find('+')).or_else(|| rest.find('Z'));
            let (clock, zone_text) = rest.split_at(cut.unwrap_or(rest.len()));
            (parse_clock(clock)?, (!zone_text.is_empty()).then_some(zone_text))
        }
    };
    let Some(zone_text) = zone_text.or(default_zone.filter(|zone| !zone.is_empty())) else {
        return Err(QueryError::logic("ISO 8601 string has no time zone, and no default time zone was provided."));
    };
    let zone = zone(zone_text)?;
    Ok(make(days as f64 * 86400.0 + seconds - offset(&zone), zone))
}

fn parse_date(text: &str) -> Result<i64> {
    let mut scan = Scan { text, at: 0 };
    let year = scan.digits(4)?;
    if scan.done() {
        return days_checked(year, 1, 1);
    }
    let first = scan.optional(b'-');
    if scan.optional(b'W') {
        return Err(QueryError::logic(
            "Due to limitations in the boost time library we use for parsing, we cannot support ISO week dates right \
             now.  Sorry about that!  Please use years, calendar dates, or ordinal dates instead.",
        ));
    }
    if scan.rest().len() == 3 {
        let day = scan.digits(3)?;
        let length = if leap(year) { 366 } else { 365 };
        if !(1..=length).contains(&day) {
            return Err(QueryError::logic("Error in time logic: Day of year value is out of range 1..366."));
        }
        return Ok(days_checked(year, 1, 1)? + day - 1);
    }
    let month = scan.digits(2)?;
    if first && scan.done() {
        return days_checked(year, month, 1);
    }
    let second = scan.optional(b'-');
    if first != second {
        return Err(QueryError::logic(format!("Date string `{text}` must have 0 or 2 hyphens.")));
    }
    let day = scan.digits(2)?;
    if !scan.done() {
        return Err(QueryError::logic(format!("Garbage characters `{}` at end of date string `{text}`.", scan.rest())));
    }
    days_checked(year, month, day)
}

fn parse_clock(text: &str) -> Result<f64> {
    let mut scan = Scan { text, at: 0 };
    let mut seconds = scan.digits(2)? as f64 * 3600.0;
    if scan.done() {
        return Ok(seconds);
    }
    let first = scan.optional(b':');
    seconds += scan.digits(2)? as f64 * 60.0;
    if scan.done() {
        return Ok(seconds);
    }
    let second = scan.optional(b':');
    if first != second {
        return Err(QueryError::logic(format!("Time string `{text}` must have 0 or 2 colons.")));
    }
    seconds += scan.digits(2)? as f64;
    if scan.optional(b'.') {
        let mut place = 0.1;
        while !scan.done() {
            seconds += scan.digits(1)? as f64 * place;
            place /= 10.0;
        }
    }
    if !scan.done() {
        return Err(QueryError::logic(format!("Garbage characters `{}` at end of time string `{text}`.", scan.rest())));
    }
    Ok((seconds * 1e6).round() / 1e6)
}

fn leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_checked(year: i64, month: i64, day: i64) -> Result<i64> {
    let bad = |what| Err(QueryError::logic(format!("Error in time logic: {what}.")));
    if !(1400..=9999).contains(&year) {
        return bad("Year is out of valid range: 1400..9999");
    }
    if !(1..=12).contains(&month) {
        return bad("Month number is out of range 1..12");
    }
    let length = match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=31).contains(&day) {
        return bad("Day of month value is out of range 1..31");
    }
    if day > length {
        return bad("Day of month is not valid for year");
    }
    Ok(days_from_civil(year, month, day))
}

/// Days since 1970-01-01 of a date of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// TIME: a moment from its parts.
pub(crate) fn from_parts(date: (i64, i64, i64), clock: (i64, i64, f64), zone_text: &str) -> Result<Datum> {
    let zone = zone(zone_text)?;
    let days = days_checked(date.0, date.1, date.2)?;
    let seconds = clock.0 as f64 * 3600.0 + clock.1 as f64 * 60.0 + clock.2;
    Ok(make(days as f64 * 86400.0 + seconds - offset(&zone), zone))
}

/// A part of a time, in its own zone.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Year,
    Month,
    Day,
    DayOfWeek,
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
}

impl Time {
    /// Days since the epoch and seconds of the day, in the time's zone.
    fn local(&self) -> Result<(i64, f64)> {
        let local = self.epoch + offset(&self.zone);
        let days = (local / 86400.0).floor();
        // The years that have names: 1400 to 9999.
        if !(-208_188.0..=2_932_896.0).contains(&days) {
            return Err(QueryError::logic("Error in time logic: Year is out of valid range: 1400..9999."));
        }
        Ok((days as i64, local - days * 86400.0))
    }

    pub(crate) fn part(&self, part: Part) -> Result<f64> {
        let (days, seconds) = self.local()?;
        let (year, month, day) = civil_from_days(days);
        let whole = seconds.floor() as i64;
        Ok(match part {
            Part::Year => year as f64,
            Part::Month => month as f64,
            Part::Day => day as f64,
            Part::DayOfWeek => ((days + 3).rem_euclid(7) + 1) as f64,
            Part::DayOfYear => (days - days_from_civil(year, 1, 1) + 1) as f64,
            Part::Hours => (whole / 3600) as f64,
            Part::Minutes => (whole % 3600 / 60) as f64,
            Part::Seconds => {
                let fraction = ((seconds - seconds.floor()) * 1000.0).round() / 1000.0;
                (whole % 60) as f64 + fraction
            }
        })
    }

    /// Midnight of the same day in the same zone.
    pub(crate) fn date(&self) -> Result<Datum> {
        let (days, _) = self.local()?;
        Ok(make(days as f64 * 86400.0 - offset(&self.zone), self.zone.clone()))
    }

    /// Seconds since midnight in the time's zone.
    pub(crate) fn of_day(&self) -> Result<f64> {
        Ok((self.local()?.1 * 1000.0).round() / 1000.0)
    }

    /// TO_ISO8601.
    pub(crate) fn to_iso8601(&self) -> Result<String> {
        let rounded = Time { epoch: (self.epoch * 1000.0).round() / 1000.0, zone: self.zone.clone() };
        let (days, seconds) = rounded.local()?;
        let (year, month, day) = civil_from_days(days);
        let millis = (seconds * 1000.0).round() as i64;
        let fraction = if millis % 1000 == 0 { String::new() } else { format!(".{:03}", millis % 1000) };
        Ok(format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}{fraction}{}",
            millis / 3_600_000,
            millis / 60_000 % 60,
            millis / 1000 % 60,
            self.zone
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_moments_agree() {
        for (text, epoch) in [
            ("1970-01-01T00:00:00Z", 0.0),
            ("2026-11-22T18:00:00+01:00", 1_795_366_800.0),
            ("20261122T180000.250Z", 1_795_370_400.25),
            ("1969-12-31T23:59:59.5Z", -0.5),
            ("2024-366T00:00Z", 1_735_603_200.0),
        ] {
            let Datum::Time(time) = parse(text, None).expect(text) else { panic!("{text}") };
            assert_eq!(time.epoch, epoch, "{text}");
            let again = parse(&time.to_iso8601().expect("in range"), None).expect("own text");
            assert_eq!(again, Datum::Time(time));
        }
        for bad in ["", "yesterday", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00", "2026é"] {
            assert!(parse(bad, None).is_err(), "{bad}");
        }
    }
}
