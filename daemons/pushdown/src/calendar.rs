//! Functions of dates and times: `date_trunc`, `AT TIME ZONE 'UTC'`, and the parts that `extract` and `date_part` give.

use crate::{
    column::Encoding,
    expr::{Expr, Literal, Val},
    oid::{self, Oid},
    parts,
    rules::{Cmp, Family},
    scalar::{Term, instant},
    ship::{Encode, Refusal, Shipped, Shipper},
};

/// Units that `date_trunc` takes, as constants, in either case.
const UNITS: &[&str] = &["second", "minute", "hour", "day", "week", "month", "quarter", "year"];
/// Names of UTC.
const UTC: &[&str] = &["UTC", "Etc/UTC", "GMT"];
/// `date_part(text, timestamp)`
const DATE_PART: Oid = 2021;
/// `extract(text, date)`
const EXTRACT_DATE: Oid = 6199;
/// `extract(text, timestamp)`
const EXTRACT_TIMESTAMP: Oid = 6202;

impl Shipper<'_> {
    /// `date_trunc` of a timestamp, or of a timestamptz in UTC.
    pub(crate) fn truncate(
        &mut self,
        unit: &Expr,
        arg: &Expr,
        zone: Option<&Expr>,
        result: Oid,
    ) -> Result<Term, Refusal> {
        let unit = named(unit, UNITS)?;
        zone.map(|zone| named(zone, UTC)).transpose()?;
        let family = if result == oid::TIMESTAMPTZ { Family::Timestamptz } else { Family::Timestamp };
        let term = instant(self.term_of(arg, family)?)?;
        Term::new(format!("trough_trunc('{unit}', {})", term.sql), result)
    }

    /// `timezone` in UTC: the number stays what it is.
    pub(crate) fn at_utc(&mut self, zone: &Expr, arg: &Expr, from: Family, to: Oid) -> Result<Term, Refusal> {
        named(zone, UTC)?;
        let term = instant(self.term_of(arg, from)?)?;
        Ok(Term { nan: term.nan, ..Term::new(term.sql, to)? })
    }

    /// `date_part`, which gives a double.
    pub(crate) fn date_part(&mut self, field: &Expr, arg: &Expr) -> Result<Term, Refusal> {
        let term = self.part(field, arg, Family::Timestamp)?;
        Term::new(format!("CAST({} AS REAL)", term.sql), oid::FLOAT8)
    }

    /// A call of `extract`: a numeric that is a whole number, or infinite.
    pub(crate) fn extract(&mut self, expr: &Expr) -> Result<Term, Refusal> {
        let (family, args) = match expr {
            Expr::Call { function: EXTRACT_DATE, args, .. } => (Family::Date, args),
            Expr::Call { function: EXTRACT_TIMESTAMP, args, .. } => (Family::Timestamp, args),
            _ => return Err(Refusal("SQLite does not compute with numeric")),
        };
        let [field, arg] = args.as_slice() else { return Err(Refusal("a function without a rule")) };
        let term = self.part(field, arg, family)?;
        Ok(Term { type_oid: oid::NUMERIC, encoding: Encoding::Input, ..term })
    }

    /// What `extract` gives as another type.
    pub(crate) fn extract_as(&mut self, expr: &Expr, result: Oid) -> Result<Term, Refusal> {
        let term = self.extract(expr)?;
        match result {
            oid::FLOAT8 => Term::new(format!("CAST({} AS REAL)", term.sql), oid::FLOAT8),
            oid::INT8 => self.finite(term, result, "0A000", "cannot convert infinity to bigint"),
            _ => self.finite(term, result, "0A000", "cannot convert infinity to integer"),
        }
    }

    /// What `date_part` gives as an integer, which is the only double that is cast without rounding.
    pub(crate) fn date_part_as_int(&mut self, expr: &Expr) -> Result<Term, Refusal> {
        match expr {
            Expr::Call { function: DATE_PART, args, .. } if args.len() == 2 => {
                let term = self.part(&args[0], &args[1], Family::Timestamp)?;
                self.finite(term, oid::INT4, "22003", "integer out of range")
            }
            _ => Err(Refusal("a function without a rule")),
        }
    }

    /// A comparison of a numeric with a part of a date or time.
    pub(crate) fn compare_numeric(&mut self, cmp: Cmp, a: &Expr, b: &Expr) -> Result<Shipped, Refusal> {
        let (term, value, cmp) = match (a, b) {
            (Expr::Value(value), term) => (term, value, cmp.commuted()),
            (term, Expr::Value(value)) => (term, value, cmp),
            _ => return Err(Refusal("SQLite does not compute with numeric")),
        };
        let term = self.extract(term)?;
        if value.type_oid != oid::NUMERIC {
            return Err(Refusal("types of different families"));
        }
        let v = self.bind(value.slot, None, Encode::Numeric);
        Ok(Shipped { sql: format!("({} {} {v})", term.sql, cmp.sql()), exact: true })
    }

    /// A part of a date or time, as the number that it is: infinite for some fields of infinite times.
    fn part(&mut self, field: &Expr, arg: &Expr, family: Family) -> Result<Term, Refusal> {
        let known = if family == Family::Date { &parts::FIELDS[..parts::OF_DATES] } else { parts::FIELDS };
        let field = named(field, known)?;
        let term = instant(self.term_of(arg, family)?)?;
        let sql = format!("trough_part('{field}', {})", term.sql);
        Ok(Term { range: Some(parts::RANGE), ..Term::new(sql, oid::INT8)? })
    }

    /// A part of a date or time as an integer, which an infinite one cannot be.
    fn finite(&mut self, term: Term, result: Oid, sqlstate: &str, message: &str) -> Result<Term, Refusal> {
        let sql = if self.raises() {
            self.raised();
            format!("trough_whole({}, '{sqlstate}', '{message}')", term.sql)
        } else {
            self.doubts.push(format!("typeof({}) = 'real'", term.sql));
            term.sql
        };
        Ok(Term { range: Some(parts::RANGE), ..Term::new(sql, result)? })
    }
}

/// The one of some words that a constant is, in either case.
fn named(constant: &Expr, known: &'static [&'static str]) -> Result<&'static str, Refusal> {
    match constant {
        Expr::Value(Val { literal: Some(Literal::Text(text)), .. }) => {
            let found = known.iter().find(|known| known.eq_ignore_ascii_case(text));
            found.copied().ok_or(Refusal("a unit or zone without a rule"))
        }
        _ => Err(Refusal("a unit or zone that is no constant")),
    }
}
