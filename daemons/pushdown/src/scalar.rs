//! Scalars: what SQLite computes for an expression, and how the value reads back.

use crate::{
    column::{Column, Encoding},
    expr::{Expr, Literal, Val},
    limits,
    oid::{self, Oid},
    rules::{self, Cmp, Family, Rule},
    ship::{Encode, Refusal, Shipper},
    statement::quote_literal,
    stored::{checked, column_sql, family_of, in_family, repr},
};

/// An expression as SQLite computes it. Its values are in canonical form: two that PostgreSQL holds for equal are equal in
/// SQLite, and numbers sort as PostgreSQL's do (texts by bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// SQLite's text, to be put into parentheses by who combines it.
    pub sql: String,
    /// With what it compares.
    pub family: Family,
    /// How its values are written in an answer.
    pub encoding: Encoding,
    /// Its type in PostgreSQL.
    pub type_oid: Oid,
    /// Whether it raises an error where PostgreSQL does (an integer out of range). Such a scalar may only stand where
    /// PostgreSQL is sure to compute it for the same rows: in what is selected, grouped by and aggregated, not in WHERE
    /// and not in the condition of a join.
    pub raises: bool,
}

/// A scalar while it is put together.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) sql: String,
    pub(crate) family: Family,
    pub(crate) encoding: Encoding,
    pub(crate) type_oid: Oid,
    /// Between which numbers an integer lies.
    pub(crate) range: Option<Range>,
    /// Whether it may be NaN, which stands here as the text `nan`, or an infinite date or time. It sorts right and equals
    /// itself, but SQLite cannot compute with it.
    pub(crate) nan: bool,
}

/// Bounds of an integer, both included.
pub(crate) type Range = (i128, i128);

impl Term {
    /// A term of a type in its family's usual encoding.
    pub(crate) fn new(sql: String, type_oid: Oid) -> Result<Self, Refusal> {
        let family = family_of(type_oid).ok_or(Refusal("a type that SQLite does not compare alike"))?;
        let encoding = canonical(type_oid);
        Ok(Self { sql, family, encoding, type_oid, range: type_range(type_oid), nan: false })
    }
}

/// The encoding that holds every value of a type, and one value always in the same form.
pub(crate) fn canonical(type_oid: Oid) -> Encoding {
    match type_oid {
        oid::DATE | oid::TIMESTAMP | oid::TIMESTAMPTZ => Encoding::EpochUs,
        other => Encoding::default_for(other),
    }
}

/// What an integer type holds.
pub(crate) fn type_range(type_oid: Oid) -> Option<Range> {
    Some(match type_oid {
        oid::INT2 => (i16::MIN.into(), i16::MAX.into()),
        oid::INT4 => (i32::MIN.into(), i32::MAX.into()),
        oid::INT8 => (i64::MIN.into(), i64::MAX.into()),
        _ => return None,
    })
}

impl Shipper<'_> {
    /// Prints a scalar of which every value means the same in SQLite, so that it may be compared, grouped by and aggregated
    /// there.
    ///
    /// # Errors
    /// [`Refusal`] if that cannot be shown; nothing of it is kept.
    pub fn scalar(&mut self, expr: &Expr) -> Result<Scalar, Refusal> {
        let (term, raises) = self.computed(|s| {
            let term = s.term(expr)?;
            if term.nan {
                return Err(Refusal("NaN and infinite times cannot come back"));
            }
            limits::check(&term.sql)?;
            Ok(term)
        })?;
        let Term { sql, family, encoding, type_oid, .. } = term;
        Ok(Scalar { sql, family, encoding, type_oid, raises })
    }

    /// A scalar whose values are canonical.
    pub(crate) fn term(&mut self, expr: &Expr) -> Result<Term, Refusal> {
        match expr {
            Expr::Column(index) => {
                let column = self.scope.column(*index).ok_or(Refusal("no such column"))?;
                let term = canonical_column(column)?;
                self.rely_on_form(column);
                Ok(term)
            }
            Expr::Value(value) => {
                let family = family_of(value.type_oid).ok_or(Refusal("a type that SQLite does not compare alike"))?;
                self.value(value, family, canonical(value.type_oid))
            }
            Expr::Op { operator, collation, args } => match rules::operator(*operator) {
                Some(Rule::Call(function)) => self.call(function, *collation, args),
                Some(_) => self.boolean(expr),
                None => Err(Refusal("an operator without a rule")),
            },
            Expr::Call { function, collation, args } => self.call(*function, *collation, args),
            Expr::Case { whens, otherwise, type_oid } => self.case(whens, otherwise, *type_oid),
            Expr::Coalesce { args, type_oid } => self.coalesce(args, *type_oid),
            Expr::NullIf { operator, collation, args } => match (rules::operator(*operator), args.as_slice()) {
                (Some(Rule::Compare(Cmp::Eq, family)), [a, b]) => {
                    self.collation_allows(Cmp::Eq, family, *collation)?;
                    let a_term = self.term(a)?;
                    let (x, y) = self.pair(family, a, b)?;
                    Ok(Term { sql: format!("nullif({x}, {y})"), ..a_term })
                }
                _ => Err(Refusal("an operator without a rule")),
            },
            Expr::MinMax { greatest, collation, args, type_oid } => {
                let family = family_of(*type_oid).ok_or(Refusal("a type that SQLite does not compare alike"))?;
                self.collation_allows(Cmp::Lt, family, *collation)?;
                let terms = self.unify(&args.iter().collect::<Vec<_>>(), *type_oid)?;
                let name = if *greatest { "trough_greatest" } else { "trough_least" };
                self.apply(name, terms)
            }
            Expr::Opaque => Err(Refusal("an expression without a rule")),
            _ => self.boolean(expr),
        }
    }

    fn boolean(&mut self, expr: &Expr) -> Result<Term, Refusal> {
        // `a = b IS NULL` is `(a = b) IS NULL` in SQLite, and NOT binds less than both.
        let sql = self.exact(expr)?;
        let open = matches!(expr, Expr::Not(_) | Expr::IsNull(_) | Expr::IsNotNull(_));
        Term::new(if open { format!("({sql})") } else { sql }, oid::BOOL)
    }

    /// A value in an encoding.
    pub(crate) fn value(&mut self, value: &Val, family: Family, encoding: Encoding) -> Result<Term, Refusal> {
        if !in_family(value.type_oid, family) {
            return Err(Refusal("types of different families"));
        }
        let range = match value.literal {
            Some(Literal::Int(n)) => Some((n.into(), n.into())),
            _ => type_range(value.type_oid),
        };
        let finite = match value.literal {
            Some(Literal::Float(n)) => !n.is_nan(),
            Some(Literal::Null | Literal::Finite | Literal::Text(_)) => true,
            // What is infinite compares in every encoding, but none can be read back as a date or time.
            _ => !matches!(family, Family::Float | Family::Date | Family::Timestamp | Family::Timestamptz),
        };
        let sql = match value.literal {
            Some(Literal::Null) => "NULL".to_owned(),
            _ => self.bind(value.slot, None, Encode::As(encoding)),
        };
        Ok(Term { sql, family, encoding, type_oid: value.type_oid, range, nan: !finite })
    }

    /// Two terms in one encoding.
    pub(crate) fn alike(&self, a: Term, b: Term) -> Result<(Term, Term), Refusal> {
        if a.family != b.family {
            return Err(Refusal("types of different families"));
        }
        if a.encoding == b.encoding { Ok((a, b)) } else { Ok((instant(a)?, instant(b)?)) }
    }

    /// Terms of one type in one encoding that holds every value of each.
    pub(crate) fn unify(&mut self, args: &[&Expr], type_oid: Oid) -> Result<Vec<Term>, Refusal> {
        let family = family_of(type_oid).ok_or(Refusal("a type that SQLite does not compare alike"))?;
        let time = matches!(family, Family::Date | Family::Timestamp | Family::Timestamptz);
        let mut terms = Vec::new();
        for arg in args {
            terms.push(match arg {
                Expr::Value(_) => None,
                // What ISO text cannot write sorts right as a value, but cannot be read back.
                other if time => Some(instant(self.term(other)?)?),
                other => Some(self.term(other)?),
            });
        }
        let encoding = terms.iter().flatten().map(|t| t.encoding).next().unwrap_or(canonical(type_oid));
        let mut unified = Vec::new();
        for (arg, term) in args.iter().zip(terms) {
            let term = match (arg, term) {
                (_, Some(term)) => term,
                (Expr::Value(value), None) => self.value(value, family, encoding)?,
                (_, None) => unreachable!("only values were left out"),
            };
            if term.family != family || term.encoding != encoding {
                return Err(Refusal("results that are stored in different ways"));
            }
            unified.push(term);
        }
        Ok(unified)
    }

    /// A SQL function of terms of one type, whose result is one of them.
    fn apply(&self, function: &str, terms: Vec<Term>) -> Result<Term, Refusal> {
        if terms.len() > limits::MAX_ARGUMENTS {
            return Err(Refusal("more arguments than SQLite takes"));
        }
        let sql = match terms.as_slice() {
            [one] => one.sql.clone(),
            many => format!("{function}({})", many.iter().map(|t| t.sql.as_str()).collect::<Vec<_>>().join(", ")),
        };
        one_of(&terms, sql)
    }

    fn coalesce(&mut self, args: &[Expr], type_oid: Oid) -> Result<Term, Refusal> {
        let terms = self.unify(&args.iter().collect::<Vec<_>>(), type_oid)?;
        self.apply("coalesce", terms)
    }

    fn case(&mut self, whens: &[(Expr, Expr)], otherwise: &Expr, type_oid: Oid) -> Result<Term, Refusal> {
        let results: Vec<_> = whens.iter().map(|(_, then)| then).chain([otherwise]).collect();
        let results = self.unify(&results, type_oid)?;
        let mut sql = String::from("CASE");
        for ((when, _), then) in whens.iter().zip(&results) {
            sql += &format!(" WHEN {} THEN {}", self.exact(when)?, then.sql);
        }
        if let (Some(last), false) = (results.last(), is_null(otherwise)) {
            sql += &format!(" ELSE {}", last.sql);
        }
        one_of(&results, format!("({sql} END)"))
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(Val { literal: Some(Literal::Null), .. }))
}

/// What is always one of some terms of one type.
fn one_of(terms: &[Term], sql: String) -> Result<Term, Refusal> {
    let first = terms.first().ok_or(Refusal("nothing to choose from"))?;
    let range = terms.iter().map(|t| t.range).reduce(|a, b| Some((a?.0.min(b?.0), a?.1.max(b?.1)))).flatten();
    Ok(Term { sql, range, nan: terms.iter().any(|t| t.nan), ..first.clone() })
}

/// A date or time as microseconds since 1970.
pub(crate) fn instant(term: Term) -> Result<Term, Refusal> {
    let sql = match term.encoding {
        Encoding::EpochUs => term.sql,
        Encoding::EpochMs => format!("(({}) * 1000)", term.sql),
        Encoding::EpochS => format!("(({}) * 1000000)", term.sql),
        Encoding::Iso8601 => format!("trough_instant({}, 'iso8601', '{}', '', '')", term.sql, kind(term.family)),
        _ => return Err(Refusal("the stored form is not canonical")),
    };
    Ok(Term { sql, encoding: Encoding::EpochUs, ..term })
}

/// What the workers' functions call a family of dates or times.
fn kind(family: Family) -> &'static str {
    match family {
        Family::Date => "date",
        Family::Timestamptz => "timestamptz",
        _ => "timestamp",
    }
}

/// A column in canonical form: as it is stored where that is known to be canonical, else as a worker's function reads it.
fn canonical_column(column: &Column) -> Result<Term, Refusal> {
    let repr = repr(column).ok_or(Refusal("a column that does not compare alike"))?;
    let term = |sql, encoding| Term {
        sql,
        family: repr.family,
        encoding,
        type_oid: column.type_oid,
        range: type_range(column.type_oid),
        nan: false,
    };
    let refusal = match checked(column) {
        Ok(sql) => return Ok(term(sql, repr.encoding)),
        Err(refusal) => refusal,
    };
    let (c, table, name) = (column_sql(column), quote_literal(&column.table), quote_literal(&column.name));
    let encoding = match repr.encoding {
        Encoding::UuidText => return Ok(term(format!("trough_uuid({c}, {table}, {name})"), Encoding::UuidText)),
        Encoding::Iso8601 => "iso8601",
        Encoding::EpochS => "epoch_s",
        Encoding::EpochMs => "epoch_ms",
        Encoding::EpochUs => "epoch_us",
        Encoding::Julian => "julian",
        _ => return Err(refusal),
    };
    let kind = kind(repr.family);
    Ok(term(format!("trough_instant({c}, '{encoding}', '{kind}', {table}, {name})"), Encoding::EpochUs))
}
