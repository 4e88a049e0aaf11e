//! Boolean expressions.

use crate::{
    column::{Encoding, InvalidText},
    expr::{BoolTest, Expr},
    limits, oid,
    rules::{self, Cmp, Family, Rule},
    ship::{Encode, Faults, Refusal, Shipped, Shipper},
    stored::column_sql,
};

impl Shipper<'_> {
    /// A boolean expression that is what PostgreSQL computes wherever nothing is in doubt.
    pub(crate) fn exact(&mut self, expr: &Expr) -> Result<String, Refusal> {
        match self.predicate(expr, false)? {
            Shipped { sql, exact: true } => Ok(sql),
            Shipped { .. } => Err(Refusal("only a superset could be shipped")),
        }
    }

    /// A boolean expression. `loose`: a superset will do; then nothing stays in doubt.
    pub(crate) fn predicate(&mut self, expr: &Expr, loose: bool) -> Result<Shipped, Refusal> {
        let mark = self.doubts.len();
        let Shipped { sql, exact } = self.all_or_nothing(|s| s.logic(expr, loose))?;
        if !loose || self.doubts.len() == mark {
            return Ok(Shipped { sql, exact });
        }
        let mut tests: Vec<String> = Vec::new();
        for doubt in self.doubts.drain(mark..) {
            if !tests.contains(&doubt) {
                tests.push(doubt);
            }
        }
        tests.insert(0, sql);
        Ok(Shipped { sql: format!("({})", limits::joined(tests, " OR ")), exact: false })
    }

    fn logic(&mut self, expr: &Expr, loose: bool) -> Result<Shipped, Refusal> {
        let exactly = |sql| Ok(Shipped { sql, exact: true });
        match expr {
            Expr::And(args) => self.and(args, loose),
            Expr::Or(args) => {
                let mut parts = Vec::new();
                let mut exact = true;
                for arg in args {
                    let (part, raises) = self.operand(arg, loose)?;
                    exact &= part.exact;
                    parts.push((part.sql, raises));
                }
                Ok(Shipped { sql: format!("({})", in_order(parts, "OR", "IS TRUE THEN 1")), exact })
            }
            Expr::Not(arg) => {
                let sql = self.exact(arg)?;
                exactly(format!("NOT ({sql})"))
            }
            Expr::BoolTest(test, arg) => {
                let sql = self.exact(arg)?;
                let test = match test {
                    BoolTest::True => "IS TRUE",
                    BoolTest::NotTrue => "IS NOT TRUE",
                    BoolTest::False => "IS FALSE",
                    BoolTest::NotFalse => "IS NOT FALSE",
                    BoolTest::Unknown => "IS NULL",
                    BoolTest::NotUnknown => "IS NOT NULL",
                };
                exactly(format!("(({sql}) {test})"))
            }
            Expr::IsNull(arg) => exactly(format!("{} IS NULL", self.nullable(arg)?)),
            Expr::IsNotNull(arg) => exactly(format!("{} IS NOT NULL", self.nullable(arg)?)),
            Expr::Value(value) if value.type_oid == oid::BOOL => {
                exactly(self.bind(value.slot, None, Encode::As(Encoding::Boolean)))
            }
            Expr::Op { operator, collation, args } => match rules::operator(*operator) {
                Some(rule) if !matches!(rule, Rule::Call(_)) => self.operation(*operator, *collation, args),
                _ => self.truth(expr),
            },
            Expr::Distinct { operator, collation, args } => match (rules::operator(*operator), args.as_slice()) {
                (Some(Rule::Compare(Cmp::Eq, family)), [a, b]) => {
                    self.collation_allows(Cmp::Eq, family, *collation)?;
                    let (a, b) = self.pair(family, a, b)?;
                    exactly(format!("({a} IS NOT {b})"))
                }
                _ => Err(Refusal("an operator without a rule")),
            },
            Expr::AnyAll { operator, any, collation, left, array } => {
                self.in_list(*operator, *any, *collation, left, array, loose)
            }
            Expr::Value(_) | Expr::Opaque => Err(Refusal("an expression without a rule")),
            _ => self.truth(expr),
        }
    }

    /// A scalar of type boolean as a condition.
    fn truth(&mut self, expr: &Expr) -> Result<Shipped, Refusal> {
        let term = self.term(expr)?;
        match term.family {
            Family::Bool => Ok(Shipped { sql: format!("({} <> 0)", term.sql), exact: true }),
            _ => Err(Refusal("not a boolean")),
        }
    }

    fn and(&mut self, args: &[Expr], loose: bool) -> Result<Shipped, Refusal> {
        let mut parts = Vec::new();
        let mut exact = true;
        for arg in args {
            match self.operand(arg, loose) {
                Ok((part, raises)) => {
                    exact &= part.exact;
                    parts.push((part.sql, raises));
                }
                Err(_) if loose => exact = false,
                Err(refusal) => return Err(refusal),
            }
        }
        if parts.is_empty() {
            return Err(Refusal("nothing of the conjunction can be shipped"));
        }
        Ok(Shipped { sql: format!("({})", in_order(parts, "AND", "IS FALSE THEN 0")), exact })
    }

    /// An operand of AND or OR, and whether it can raise.
    fn operand(&mut self, expr: &Expr, loose: bool) -> Result<(Shipped, bool), Refusal> {
        match self.faults {
            Faults::Doubted => Ok((self.predicate(expr, loose)?, false)),
            Faults::Raised { any } => {
                self.faults = Faults::Raised { any: false };
                let part = self.predicate(expr, false);
                let raises = self.faults == Faults::Raised { any: true };
                self.faults = Faults::Raised { any: any || raises };
                Ok((part?, raises))
            }
        }
    }

    fn nullable(&mut self, arg: &Expr) -> Result<String, Refusal> {
        match arg {
            Expr::Column(index) => {
                let column = self.scope.column(*index).ok_or(Refusal("no such column"))?;
                if column.encoding.reads_text() && column.invalid_text != InvalidText::Error {
                    return Err(Refusal("invalid_text can turn a value into NULL"));
                }
                Ok(column_sql(column))
            }
            other => Ok(format!("({})", self.term(other)?.sql)),
        }
    }
}

/// Operands of AND or OR, of which each says whether it can raise. PostgreSQL looks at them from the left and stops at the
/// first that decides; SQLite may look at any.
fn in_order(parts: Vec<(String, bool)>, operator: &str, decided: &str) -> String {
    if parts.iter().skip(1).all(|(_, raises)| !raises) {
        return limits::joined(parts.into_iter().map(|(sql, _)| sql).collect(), &format!(" {operator} "));
    }
    let ordered = |before: String, (sql, raises): (String, bool)| match raises {
        true => format!("CASE WHEN ({before}) {decided} ELSE ({before} {operator} {sql}) END"),
        false => format!("({before} {operator} {sql})"),
    };
    let mut parts = parts.into_iter();
    let first = parts.next().map(|(sql, _)| sql).unwrap_or_default();
    parts.fold(first, ordered)
}
