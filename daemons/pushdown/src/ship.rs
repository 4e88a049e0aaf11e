//! The walker that decides what is safe to ship, and prints it.
//!
//! A condition is shipped *exactly* (SQLite keeps the rows that PostgreSQL would keep, and PostgreSQL need not look
//! again) or as a *superset* (SQLite keeps these and perhaps more; PostgreSQL checks the condition again). Where the
//! storage of a column is not known, the printed expression raises an error on what a plain scan would reject, so that
//! such a row cannot disappear.

use serde::{Deserialize, Serialize};

use crate::{
    column::{Encoding, InvalidText},
    expr::{BoolTest, Expr, Literal, Val},
    oid::{self, Oid},
    pattern,
    rules::{self, Cmp, Family, Rule},
    scope::Scope,
    stored::{Repr, array_in_family, checked, column_sql, in_family, known, repr},
};

/// What a collation does to text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collation {
    /// Texts are equal only if their bytes are.
    pub deterministic: bool,
    /// Texts sort by their bytes.
    pub bytewise: bool,
}

/// How a value is bound to a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encode {
    /// As a column of this encoding stores it.
    As(Encoding),
    /// A LIKE pattern as GLOB.
    Glob,
    /// The first ISO day text at or below which no instant from the value on is written.
    IsoDayFrom,
    /// The first ISO day text above every writing of an instant up to the value.
    IsoDayAfter,
    /// An array as a JSON text of its elements.
    JsonArray(Encoding),
}

/// One bound parameter of a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Param {
    /// Which of the extension's collected expressions makes the value.
    pub slot: usize,
    /// Which element of it, if it is an array of which elements are bound one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element: Option<usize>,
    /// How it is bound.
    pub encode: Encode,
}

/// Why something is not shipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub &'static str);

/// A printed condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// SQLite's text, with `?N` for parameters.
    pub sql: String,
    /// Whether PostgreSQL need not check it again.
    pub exact: bool,
}

/// Constant arrays of up to so many elements are bound one by one, longer ones as one JSON text.
const SHORT_LIST: usize = 64;

/// Prints what may be shipped, and collects its parameters.
pub struct Shipper<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) collation: &'a dyn Fn(Oid) -> Collation,
    params: Vec<Param>,
}

impl<'a> Shipper<'a> {
    /// For expressions over a scope; `collation` tells what a collation's OID means.
    pub fn new(scope: &'a Scope, collation: &'a dyn Fn(Oid) -> Collation) -> Self {
        Self { scope, collation, params: Vec::new() }
    }

    /// The parameters of everything printed so far; `?1` is the first.
    pub fn into_params(self) -> Vec<Param> {
        self.params
    }

    /// The parameters so far.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Prints a condition of a WHERE clause.
    ///
    /// # Errors
    /// [`Refusal`] if it cannot be shown to mean the same in SQLite; nothing of it is kept.
    pub fn condition(&mut self, expr: &Expr) -> Result<Shipped, Refusal> {
        self.all_or_nothing(|s| s.predicate(expr, true))
    }

    /// Prints a condition that PostgreSQL will not check again.
    ///
    /// # Errors
    /// [`Refusal`] if that cannot be.
    pub fn exact_condition(&mut self, expr: &Expr) -> Result<String, Refusal> {
        self.all_or_nothing(|s| s.exact(expr))
    }

    pub(crate) fn all_or_nothing<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mark = self.params.len();
        f(self).inspect_err(|_| self.params.truncate(mark))
    }

    fn exact(&mut self, expr: &Expr) -> Result<String, Refusal> {
        match self.predicate(expr, false)? {
            Shipped { sql, exact: true } => Ok(sql),
            Shipped { .. } => Err(Refusal("only a superset could be shipped")),
        }
    }

    /// A boolean expression. `loose`: a superset will do.
    fn predicate(&mut self, expr: &Expr, loose: bool) -> Result<Shipped, Refusal> {
        let exactly = |sql| Ok(Shipped { sql, exact: true });
        match expr {
            Expr::And(args) => {
                let mut parts = Vec::new();
                let mut exact = true;
                for arg in args {
                    match self.all_or_nothing(|s| s.predicate(arg, loose)) {
                        Ok(part) => {
                            exact &= part.exact;
                            parts.push(part.sql);
                        }
                        Err(_) if loose => exact = false,
                        Err(refusal) => return Err(refusal),
                    }
                }
                if parts.is_empty() {
                    return Err(Refusal("nothing of the conjunction can be shipped"));
                }
                Ok(Shipped { sql: format!("({})", parts.join(" AND ")), exact })
            }
            Expr::Or(args) => {
                let mut parts = Vec::new();
                let mut exact = true;
                for arg in args {
                    let part = self.predicate(arg, loose)?;
                    exact &= part.exact;
                    parts.push(part.sql);
                }
                Ok(Shipped { sql: format!("({})", parts.join(" OR ")), exact })
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
            Expr::Column(index) => {
                let column = self.scope.column(*index).ok_or(Refusal("no such column"))?;
                match repr(column) {
                    Some(Repr { family: Family::Bool, .. }) => exactly(format!("({} <> 0)", checked(column)?)),
                    _ => Err(Refusal("not a boolean column")),
                }
            }
            Expr::Value(value) if value.type_oid == oid::BOOL => {
                exactly(self.bind(value.slot, None, Encode::As(Encoding::Boolean)))
            }
            Expr::Op { operator, collation, args } => self.operation(*operator, *collation, args, loose),
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
            other => Ok(format!("({})", self.exact(other)?)),
        }
    }

    fn operation(&mut self, operator: Oid, collation: Oid, args: &[Expr], loose: bool) -> Result<Shipped, Refusal> {
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

    fn in_list(
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

    /// Both operands of a comparison, exactly.
    fn pair(&mut self, family: Family, a: &Expr, b: &Expr) -> Result<(String, String), Refusal> {
        match (a, b) {
            (Expr::Column(a), Expr::Column(b)) => {
                let (a, b) = (self.column(*a, family)?, self.column(*b, family)?);
                if a.1 != b.1 {
                    return Err(Refusal("columns of different encodings"));
                }
                Ok((a.0, b.0))
            }
            (Expr::Column(a), Expr::Value(b)) => {
                let (a, encoding) = self.column(*a, family)?;
                Ok((a, self.value(b, family, encoding)?))
            }
            (Expr::Value(a), Expr::Column(b)) => {
                let (b, encoding) = self.column(*b, family)?;
                Ok((self.value(a, family, encoding)?, b))
            }
            _ => Err(Refusal("an operand without a rule")),
        }
    }

    fn column(&self, index: usize, family: Family) -> Result<(String, Encoding), Refusal> {
        let column = self.scope.column(index).ok_or(Refusal("no such column"))?;
        match repr(column) {
            Some(repr) if repr.family == family => Ok((checked(column)?, repr.encoding)),
            _ => Err(Refusal("a column that does not compare alike")),
        }
    }

    fn value(&mut self, value: &Val, family: Family, encoding: Encoding) -> Result<String, Refusal> {
        if !in_family(value.type_oid, family) {
            return Err(Refusal("types of different families"));
        }
        Ok(self.bind(value.slot, None, Encode::As(encoding)))
    }

    fn bind(&mut self, slot: usize, element: Option<usize>, encode: Encode) -> String {
        let param = Param { slot, element, encode };
        let at = self.params.iter().position(|p| *p == param).unwrap_or_else(|| {
            self.params.push(param);
            self.params.len() - 1
        });
        format!("?{}", at + 1)
    }
}

fn not_canonical_uuid(c: &str) -> String {
    format!("{c} NOT GLOB '????????-????-????-????-????????????' OR {c} GLOB '*[^0-9a-f-]*'")
}
