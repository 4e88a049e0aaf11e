//! Comparisons.

use crate::{
    column::{Column, Encoding},
    expr::{Expr, Val},
    oid::Oid,
    rules::{self, Cmp, Family, Rule},
    scalar::{Term, instant},
    ship::{Encode, Refusal, Shipped, Shipper},
    stored::{checked, column_sql, family_of, repr},
};

impl Shipper<'_> {
    /// A call of an operator that gives a boolean.
    pub(crate) fn operation(&mut self, operator: Oid, collation: Oid, args: &[Expr]) -> Result<Shipped, Refusal> {
        let [a, b] = args else { return Err(Refusal("an operator without a rule")) };
        match rules::operator(operator) {
            Some(Rule::Like { negated, folded }) => self.like(negated, folded, collation, a, b),
            Some(Rule::Regex { negated, folded }) => self.regex(negated, folded, collation, a, b),
            Some(Rule::Compare(cmp, family)) => {
                self.collation_allows(cmp, family, collation)?;
                let (left, right) = self.pair(family, a, b)?;
                let sql = format!("{left} {} {right}", cmp.sql());
                let sql = match self.prefilter(cmp, a, b) {
                    Some(bounds) => format!("({bounds} AND {sql})"),
                    None => format!("({sql})"),
                };
                Ok(Shipped { sql, exact: true })
            }
            Some(Rule::CompareTimes(cmp, left, right)) => self.compare_times(cmp, (left, a), (right, b)),
            Some(Rule::CompareNumeric(cmp)) => self.compare_numeric(cmp, a, b),
            _ => Err(Refusal("an operator without a rule")),
        }
    }

    /// For a column of ISO texts in any writing: bounds on the texts themselves, which an index can serve. Every writing of
    /// an instant begins with a day next to its own.
    fn prefilter(&mut self, cmp: Cmp, a: &Expr, b: &Expr) -> Option<String> {
        let (column, value, cmp) = match (a, b) {
            (Expr::Column(column), Expr::Value(value)) => (column, value, cmp),
            (Expr::Value(value), Expr::Column(column)) => (column, value, cmp.commuted()),
            _ => return None,
        };
        let column = self.scope.column(*column)?;
        if !is_any_iso(column) || family_of(value.type_oid) != family_of(column.type_oid) {
            return None;
        }
        let c = column_sql(column);
        self.days(&c, cmp, value)
    }

    /// The same for a column's text and a value that is less than a day from it.
    fn days(&mut self, c: &str, cmp: Cmp, value: &Val) -> Option<String> {
        let mut bounds = Vec::new();
        if matches!(cmp, Cmp::Eq | Cmp::Gt | Cmp::Ge) {
            bounds.push(format!("{c} >= {}", self.bind(value.slot, None, Encode::IsoDayFrom)));
        }
        if matches!(cmp, Cmp::Eq | Cmp::Lt | Cmp::Le) {
            bounds.push(format!("{c} < {}", self.bind(value.slot, None, Encode::IsoDayAfter)));
        }
        (!bounds.is_empty()).then(|| bounds.join(" AND "))
    }

    /// A comparison of a date, timestamp or timestamptz with one of another type. What depends on the time zone is worked
    /// out on values only.
    fn compare_times(
        &mut self,
        cmp: Cmp,
        (left, a): (Family, &Expr),
        (right, b): (Family, &Expr),
    ) -> Result<Shipped, Refusal> {
        let (expr, family, value, of_value, cmp) = match (a, b) {
            (Expr::Value(value), expr) => (expr, right, value, left, cmp.commuted()),
            (expr, Expr::Value(value)) => (expr, left, value, right, cmp),
            (a, b) if left != Family::Timestamptz && right != Family::Timestamptz => {
                let (a, b) = (instant(self.term_of(a, left)?)?, instant(self.term_of(b, right)?)?);
                return Ok(Shipped { sql: format!("({} {} {})", a.sql, cmp.sql(), b.sql), exact: true });
            }
            _ => return Err(Refusal("a comparison that depends on the time zone")),
        };
        if family_of(value.type_oid) != Some(of_value) {
            return Err(Refusal("types of different families"));
        }
        let term = self.term_of(expr, family)?;
        // A day is before an instant exactly if it is before the next midnight, and so on: the text that is stored compares.
        if (family, of_value, term.encoding) == (Family::Date, Family::Timestamp, Encoding::Iso8601)
            && cmp.is_ordering()
        {
            let after = matches!(cmp, Cmp::Lt | Cmp::Ge);
            let v = self.bind(value.slot, None, Encode::Midnight { after });
            return Ok(Shipped { sql: format!("({} {} {v})", term.sql, cmp.sql()), exact: true });
        }
        let x = instant(term)?.sql;
        if of_value != Family::Timestamptz {
            let local = family == Family::Timestamptz;
            let v = self.bind(value.slot, None, Encode::Instant { local });
            return Ok(Shipped { sql: format!("({x} {} {v})", cmp.sql()), exact: true });
        }
        // Which local times are before an instant depends on the zone's rules around it: where clocks are put forward, some
        // instants have two. The ranges of those that fulfil the comparison are worked out when the query begins.
        let (negated, cmp) = if cmp == Cmp::Ne { (true, Cmp::Eq) } else { (false, cmp) };
        let dates = family == Family::Date;
        let [a, b, c, d] = [0, 1, 2, 3].map(|end| self.bind(value.slot, None, Encode::Bound { cmp, dates, end }));
        let within = format!("({x} BETWEEN {a} AND {b} OR ({c} <= {d} AND {x} BETWEEN {c} AND {d}))");
        if negated {
            return Ok(Shipped { sql: format!("(NOT {within})"), exact: true });
        }
        // No zone is as far as a day from UTC.
        let bounds = self.iso_text(expr).and_then(|text| self.days(&text, cmp, value));
        let sql = bounds.map_or(within.clone(), |bounds| format!("({bounds} AND {within})"));
        Ok(Shipped { sql, exact: true })
    }

    /// A column of timestamps as ISO texts, as they are stored.
    fn iso_text(&self, expr: &Expr) -> Option<String> {
        let Expr::Column(index) = expr else { return None };
        let column = self.scope.column(*index)?;
        let timestamps = repr(column).is_some_and(|r| r.family == Family::Timestamp);
        (column.encoding == Encoding::Iso8601 && timestamps).then(|| column_sql(column))
    }

    /// Whether a collation compares texts as SQLite does.
    pub(crate) fn collation_allows(&self, cmp: Cmp, family: Family, collation: Oid) -> Result<(), Refusal> {
        if family != Family::Text {
            return Ok(());
        }
        let collation = (self.collation)(collation);
        match cmp.is_ordering() {
            true if !collation.bytewise => Err(Refusal("text sorts otherwise under this collation")),
            false if !collation.deterministic => Err(Refusal("text is equal otherwise under this collation")),
            true => {
                self.rely_on_bytes();
                Ok(())
            }
            false => Ok(()),
        }
    }

    /// Both operands of a comparison within a family, exactly.
    pub(crate) fn pair(&mut self, family: Family, a: &Expr, b: &Expr) -> Result<(String, String), Refusal> {
        let against = |s: &mut Self, value: &Val, term: &Term| s.value(value, family, term.encoding);
        let (a, b) = match (a, b) {
            (Expr::Value(a), b) => {
                let b = self.term(b)?;
                (against(self, a, &b)?, b)
            }
            (a, Expr::Value(b)) => {
                let a = self.term(a)?;
                let b = against(self, b, &a)?;
                (a, b)
            }
            (a, b) => {
                let (a, b) = (self.term(a)?, self.term(b)?);
                self.alike(a, b)?
            }
        };
        if a.family != family || b.family != family {
            return Err(Refusal("types of different families"));
        }
        Ok((a.sql, b.sql))
    }
}

/// Whether a column holds instants as ISO texts that are not known to be canonical.
fn is_any_iso(column: &Column) -> bool {
    column.encoding == Encoding::Iso8601
        && repr(column).is_some_and(|r| matches!(r.family, Family::Timestamp | Family::Timestamptz))
        && checked(column).is_err()
}
