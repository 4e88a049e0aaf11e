//! Parts of dates and times as `extract` and `date_part` give them, as far as they are whole numbers.

use trough_core::Value;

use crate::time::{self, DAY_US, EPOCH_DAYS};

/// Fields of which every value is a whole number, of timestamps; those of dates come first. Constants, in either case.
pub(crate) const FIELDS: &[&str] = &[
    "year",
    "month",
    "day",
    "quarter",
    "week",
    "dow",
    "isodow",
    "doy",
    "isoyear",
    "decade",
    "century",
    "millennium",
    "hour",
    "minute",
];
/// How many of [`FIELDS`] a date has.
pub(crate) const OF_DATES: usize = 12;

/// Between which numbers the fields of all finite dates and times lie.
pub(crate) const RANGE: (i128, i128) = (-5000, 300_000);

/// Whether a field of an infinite time is infinite; others are NULL then.
pub fn is_endless(field: &str) -> bool {
    matches!(field, "year" | "isoyear" | "decade" | "century" | "millennium")
}

/// A field of an instant in microseconds since 1970; none for another field, or beyond what PostgreSQL holds.
pub fn part(field: &str, us: i64) -> Option<i64> {
    let day = us.div_euclid(DAY_US);
    let since_2000 = i32::try_from(day - i64::from(EPOCH_DAYS)).ok()?;
    let (year, month, day_of_month) = time::civil_from_days(since_2000);
    let year = i64::from(year);
    // 1970-01-01 was a Thursday: Monday is 0.
    let weekday = (day + 3).rem_euclid(7);
    let day_of_year = |days: i32, year: i32| time::days_from_civil(year, 1, 1).map(|first| i64::from(days - first) + 1);
    // The Thursday of a week says which year the week belongs to.
    let thursday = i32::try_from(i64::from(since_2000) - weekday + 3).ok()?;
    let iso_year = time::civil_from_days(thursday).0;
    // There is no year 0 in what people write: before 1 comes 1 BC, which is -1.
    let written = |year: i64| if year > 0 { year } else { year - 1 };
    let count = |length: i64| match year {
        1.. => (year + length - 1) / length,
        _ => -((length - 1 - (year - 1)) / length),
    };
    Some(match field {
        "year" => written(year),
        "month" => month.into(),
        "day" => day_of_month.into(),
        "quarter" => i64::from(month - 1) / 3 + 1,
        "week" => (day_of_year(thursday, iso_year)? - 1) / 7 + 1,
        "dow" => (weekday + 1) % 7,
        "isodow" => weekday + 1,
        "doy" => day_of_year(since_2000, i32::try_from(year).ok()?)?,
        "isoyear" => written(iso_year.into()),
        "decade" if year >= 0 => year / 10,
        "decade" => -((8 - (year - 1)) / 10),
        "century" => count(100),
        "millennium" => count(1000),
        "hour" => us.rem_euclid(DAY_US) / 3_600_000_000,
        "minute" => us.rem_euclid(DAY_US) / 60_000_000 % 60,
        _ => return None,
    })
}

/// What a numeric, as PostgreSQL writes it, compares as against whole numbers of fields. A fraction becomes one half.
pub fn compare_numeric(text: &str) -> Value {
    /// Beyond every field.
    const FAR: f64 = 1e15;
    let Ok(number) = text.parse::<f64>() else { return Value::Text("nan".into()) };
    match number {
        n if n.is_nan() => Value::Text("nan".into()),
        n if n.is_infinite() => Value::Real(n),
        n if n.abs() >= FAR => Value::Real(FAR.copysign(n)),
        // The double of a number this small has its whole part, but for one that rounds up to the next.
        _ => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            let Ok(truncated) = whole.parse::<i64>() else { return Value::Real(number) };
            match fraction.bytes().all(|digit| digit == b'0') {
                true => Value::Integer(truncated),
                false if text.starts_with('-') => Value::Real(truncated as f64 - 0.5),
                false => Value::Real(truncated as f64 + 0.5),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: i32, month: u32, day: u32) -> i64 {
        let days = time::days_from_civil(year, month, day).expect("a day");
        (i64::from(days) + i64::from(EPOCH_DAYS)) * DAY_US
    }

    #[test]
    fn fields() {
        for (us, field, expected) in [
            (at(2024, 2, 29), "doy", 60),
            (at(2024, 2, 29), "quarter", 1),
            (at(2021, 1, 3), "week", 53),
            (at(2021, 1, 3), "isoyear", 2020),
            (at(2021, 1, 3), "dow", 0),
            (at(2021, 1, 3), "isodow", 7),
            (at(2000, 12, 31), "century", 20),
            (at(2001, 1, 1), "century", 21),
            (at(2001, 1, 1), "millennium", 3),
            (at(0, 1, 1), "year", -1),
            (at(0, 1, 1), "decade", 0),
            (at(-1, 1, 1), "decade", -1),
            (at(0, 1, 1), "century", -1),
            (at(-99, 1, 1), "century", -1),
            (at(-100, 1, 1), "century", -2),
            (at(1970, 1, 1) - 1, "hour", 23),
            (at(1970, 1, 1) - 1, "minute", 59),
        ] {
            assert_eq!(part(field, us), Some(expected), "{field} of {us}");
        }
        assert_eq!(part("second", 0), None);
        assert!(FIELDS.iter().all(|field| part(field, 0).is_some()));
    }

    #[test]
    fn numerics() {
        for (text, expected) in [
            ("2000", Value::Integer(2000)),
            ("2000.00", Value::Integer(2000)),
            ("-3.5", Value::Real(-3.5)),
            ("-0.01", Value::Real(-0.5)),
            ("0.99999999999999999999999", Value::Real(0.5)),
            ("1e30", Value::Real(1e15)),
            ("-Infinity", Value::Real(f64::NEG_INFINITY)),
            ("NaN", Value::Text("nan".into())),
        ] {
            assert_eq!(compare_numeric(text), expected, "{text}");
        }
    }
}
