//! Comparisons, and lists of values.

use crate::{
    column::Encoding,
    expr::{Expr, Literal, Val},
    oid::Oid,
    pattern,
    rules::{self, Cmp, Family, Rule},
    ship::{Encode, Refusal, Shipped, Shipper},
    stored::{Repr, array_in_family, checked, column_sql, in_family, known, repr},
};

/// Constant arrays of up to so many elements are bound one by one, longer ones as one JSON text.
const SHORT_LIST: usize = 64;

impl Shipper<'_> {
    pub(crate) fn operation(
        &mut self,
        operator: Oid,
        collation: Oid,
        args: &[Expr],
        loose: bool,
    ) -> Result<Shipped, Refusal> {
        let rule = rules::operator(operator).ok_or(Refusal("an operator without a rule"))?;
        match (rule, args) {
            (Rule::Like { negated }, [Expr::Column(index), Expr::Value(pattern)]) => {
                let column = self.scope.column(*index).ok_or(Refusal("no such column"))?;
                match repr(column) {
                    Some(Repr { family: Family::Text, .. }) => {}
                    _ => return Err(Refusal("LIKE on something other than a text column")),
                }
                match &pattern.literal {
                    Some(Literal::Text(like)) if pattern::like_to_glob(like).is_some() => {}
                    _ => return Err(Refusal("a LIKE pattern that is not constant")),
                }
                let column = if known(column) { column_sql(column) } else { checked(column)? };
                let glob = self.bind(pattern.slot, None, Encode::Glob);
                let not = if negated { "NOT " } else { "" };
                Ok(Shipped { sql: format!("({column} {not}GLOB {glob})"), exact: true })
            }
            (Rule::Compare(cmp, family), [a, b]) => {
                self.collation_allows(cmp, family, collation)?;
                match self.all_or_nothing(|s| s.pair(family, a, b)) {
                    Ok((a, b)) => Ok(Shipped { sql: format!("({a} {} {b})", cmp.sql()), exact: true }),
                    Err(refusal) if !loose => Err(refusal),
                    Err(refusal) => match (a, b) {
                        (Expr::Column(column), Expr::Value(value)) => self.loose(*column, cmp, value, refusal),
                        (Expr::Value(value), Expr::Column(column)) => {
                            self.loose(*column, cmp.commuted(), value, refusal)
                        }
                        _ => Err(refusal),
                    },
                }
            }
            _ => Err(Refusal("an operator without a rule")),
        }
    }

    /// A superset of `column cmp value`, for columns whose stored forms are many.
    fn loose(&mut self, column: usize, cmp: Cmp, value: &Val, refusal: Refusal) -> Result<Shipped, Refusal> {
        let column = self.scope.column(column).ok_or(Refusal("no such column"))?;
        let repr = repr(column).ok_or(refusal.clone())?;
        if !in_family(value.type_oid, repr.family) {
            return Err(refusal);
        }
        let c = column_sql(column);
        let sql = match (repr.family, repr.encoding) {
            (Family::Timestamp | Family::Timestamptz, Encoding::EpochS | Encoding::EpochMs | Encoding::EpochUs) => {
                let v = self.bind(value.slot, None, Encode::As(repr.encoding));
                format!("({c} {} {v} OR typeof({c}) NOT IN ('integer', 'null'))", cmp.sql())
            }
            (Family::Timestamp | Family::Timestamptz, Encoding::Iso8601) => {
                let mut bounds = Vec::new();
                if matches!(cmp, Cmp::Eq | Cmp::Gt | Cmp::Ge) {
                    bounds.push(format!("{c} >= {}", self.bind(value.slot, None, Encode::IsoDayFrom)));
                }
                if matches!(cmp, Cmp::Eq | Cmp::Lt | Cmp::Le) {
                    bounds.push(format!("{c} < {}", self.bind(value.slot, None, Encode::IsoDayAfter)));
                }
                if bounds.is_empty() {
                    return Err(refusal);
                }
                format!("({})", bounds.join(" AND "))
            }
            (Family::Uuid, Encoding::UuidText) if cmp == Cmp::Eq => {
                let v = self.bind(value.slot, None, Encode::As(Encoding::UuidText));
                format!("({c} = {v} OR {})", not_canonical_uuid(&c))
            }
            _ => return Err(refusal),
        };
        Ok(Shipped { sql, exact: false })
    }

    pub(crate) fn in_list(
        &mut self,
        operator: Oid,
        any: bool,
        collation: Oid,
        left: &Expr,
        array: &Val,
        loose: bool,
    ) -> Result<Shipped, Refusal> {
        let (cmp, family) = match rules::operator(operator) {
            Some(Rule::Compare(cmp, family)) => (cmp, family),
            _ => return Err(Refusal("an operator without a rule")),
        };
        let not = match (cmp, any) {
            (Cmp::Eq, true) => "",
            (Cmp::Ne, false) => "NOT ",
            _ => return Err(Refusal("an ANY or ALL that is neither IN nor NOT IN")),
        };
        self.collation_allows(cmp, family, collation)?;
        let Expr::Column(index) = left else { return Err(Refusal("IN of something other than a column")) };
        let column = self.scope.column(*index).ok_or(Refusal("no such column"))?;
        let repr = repr(column).ok_or(Refusal("a column that does not compare alike"))?;
        if repr.family != family || !array_in_family(array.type_oid, family) {
            return Err(Refusal("types of different families"));
        }
        let (left, extra) = match checked(column) {
            Ok(sql) => (sql, None),
            Err(refusal) => match (repr.encoding, not, loose) {
                (Encoding::UuidText, "", true) => {
                    let c = column_sql(column);
                    let extra = not_canonical_uuid(&c);
                    (c, Some(extra))
                }
                _ => return Err(refusal),
            },
        };
        let list = match &array.literal {
            Some(Literal::Array { len: 0, .. }) => "()".to_owned(),
            Some(Literal::Array { len, .. }) if *len <= SHORT_LIST => {
                let items: Vec<_> =
                    (0..*len).map(|i| self.bind(array.slot, Some(i), Encode::As(repr.encoding))).collect();
                format!("({})", items.join(", "))
            }
            Some(Literal::Null) => return Err(Refusal("a NULL array")),
            // JSON carries integers and texts without loss, but neither reals nor blobs.
            _ if matches!(family, Family::Int | Family::Text | Family::Uuid | Family::Date)
                && repr.encoding != Encoding::UuidBlob =>
            {
                let array = self.bind(array.slot, None, Encode::JsonArray(repr.encoding));
                let list = format!("{left} {not}IN (SELECT value FROM json_each({array}))");
                // A NULL array makes the whole NULL; as a condition that is the same as false.
                let sql = match (loose, extra) {
                    (true, Some(extra)) => format!("({list} OR {extra})"),
                    (true, None) if not.is_empty() => format!("({list})"),
                    _ => format!("CASE WHEN {array} IS NOT NULL THEN {list} END"),
                };
                return Ok(Shipped { sql, exact: repr.encoding != Encoding::UuidText || known(column) });
            }
            _ => return Err(Refusal("an array that JSON cannot carry")),
        };
        let sql = format!("{left} {not}IN {list}");
        Ok(match extra {
            Some(extra) => Shipped { sql: format!("({sql} OR {extra})"), exact: false },
            None => Shipped { sql: format!("({sql})"), exact: true },
        })
    }

    pub(crate) fn collation_allows(&self, cmp: Cmp, family: Family, collation: Oid) -> Result<(), Refusal> {
        if family != Family::Text {
            return Ok(());
        }
        let collation = (self.collation)(collation);
        match cmp.is_ordering() {
            true if !collation.bytewise => Err(Refusal("text sorts otherwise under this collation")),
            false if !collation.deterministic => Err(Refusal("text is equal otherwise under this collation")),
            _ => Ok(()),
        }
    }

    /// Both operands of a comparison within a family, exactly.
    pub(crate) fn pair(&mut self, family: Family, a: &Expr, b: &Expr) -> Result<(String, String), Refusal> {
        let (a, b) = match (a, b) {
            (Expr::Value(a), b) => {
                let b = self.term(b)?;
                (self.value(a, family, b.encoding)?, b)
            }
            (a, Expr::Value(b)) => {
                let a = self.term(a)?;
                let b = self.value(b, family, a.encoding)?;
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

fn not_canonical_uuid(c: &str) -> String {
    format!("{c} NOT GLOB '????????-????-????-????-????????????' OR {c} GLOB '*[^0-9a-f-]*'")
}
