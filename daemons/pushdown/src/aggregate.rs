//! Aggregates in parts: what each segment computes, how a worker adds it up, and which transition state PostgreSQL
//! gets, so that its own combine and final functions do the rest.

use serde::{Deserialize, Serialize};

use crate::{
    column::Encoding,
    expr::Expr,
    oid::{self, Oid},
    rules::{Cmp, Family},
    ship::{Refusal, Shipper},
    stored::{checked, column_sql, repr},
};

/// An aggregate call, as far as the rules look into it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// `pg_aggregate.aggfnoid`.
    pub function: Oid,
    /// The collation it runs under (0 for none).
    pub collation: Oid,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// `FILTER (WHERE …)`.
    pub filter: Option<Expr>,
    /// DISTINCT, ORDER BY or direct arguments: never in parts.
    pub special: bool,
}

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `count(*)`
    CountStar,
    /// `count(x)`
    Count,
    /// `sum` of smallint or integer.
    SumInt,
    /// `sum` and `avg` of bigint.
    SumBig,
    /// `avg` of smallint or integer.
    AvgInt,
    /// `sum` of double precision.
    SumReal,
    /// `avg` of double precision.
    AvgReal,
    /// `min`
    Min,
    /// `max`
    Max,
}

/// The rule of an aggregate function, if it has one.
pub fn shape(function: Oid) -> Option<Shape> {
    Some(match function {
        2803 => Shape::CountStar,
        2147 => Shape::Count,
        2108 | 2109 => Shape::SumInt,
        2100 | 2107 => Shape::SumBig,
        2101 | 2102 => Shape::AvgInt,
        2111 => Shape::SumReal,
        2105 => Shape::AvgReal,
        2131..=2133 | 2136 | 2138 | 2142 | 2143 | 2145 => Shape::Min,
        2115..=2117 | 2120 | 2122 | 2126 | 2127 | 2129 => Shape::Max,
        _ => return None,
    })
}

/// How the rows of several segments become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// `sum`
    Sum,
    /// `min`
    Min,
    /// `max`
    Max,
}

impl Reduce {
    pub(crate) fn sql(self, column: &str) -> String {
        match self {
            Self::Sum => format!("sum({column})"),
            Self::Min => format!("min({column})"),
            Self::Max => format!("max({column})"),
        }
    }
}

/// One column of an aggregate's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartColumn {
    /// What a segment computes.
    pub map: String,
    /// How a worker adds it up.
    pub reduce: Reduce,
}

/// Which transition state the parts become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    /// `(n)`: bigint, 0 where there is nothing.
    Count,
    /// `(sum)`: bigint or NULL.
    Int8,
    /// `(n, high, low)`: the 128-bit state of `sum(bigint)`; the sum is `high × 2³² + low`.
    Int128,
    /// `(n, sum)`: `bigint[]` of count and sum.
    IntPair,
    /// `(n, sum, +∞s, −∞s)`: double precision or NULL.
    Real,
    /// `(n, sum, +∞s, −∞s)`: `double precision[]` of count, sum and 0.
    RealTriple,
    /// `(value)`: a value of the column's own type and encoding.
    Value {
        /// The type.
        type_oid: Oid,
        /// How it is stored.
        encoding: Encoding,
    },
}

impl StateKind {
    /// How many columns make the state.
    pub fn width(self) -> usize {
        match self {
            Self::Count | Self::Int8 | Self::Value { .. } => 1,
            Self::IntPair => 2,
            Self::Int128 => 3,
            Self::Real | Self::RealTriple => 4,
        }
    }
}

/// An aggregate in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// What they become.
    pub state: StateKind,
    /// The parts, [`StateKind::width`] of them.
    pub columns: Vec<PartColumn>,
}

/// Takes an aggregate apart.
///
/// # Errors
/// [`Refusal`] if its parts cannot be computed in SQLite with the same result.
pub fn partial(call: &Call, shipper: &mut Shipper<'_>) -> Result<Aggregate, Refusal> {
    if call.special {
        return Err(Refusal("DISTINCT and ORDER BY do not decompose"));
    }
    let shape = shape(call.function).ok_or(Refusal("an aggregate without a rule"))?;
    let filter = match &call.filter {
        Some(filter) => format!(" FILTER (WHERE {})", shipper.exact_condition(filter)?),
        None => String::new(),
    };
    let part = |map: String, reduce| PartColumn { map: format!("{map}{filter}"), reduce };
    let sum = |map: String| part(map, Reduce::Sum);
    if shape == Shape::CountStar {
        return Ok(Aggregate { state: StateKind::Count, columns: vec![sum("count(*)".into())] });
    }
    let [Expr::Column(index)] = call.args.as_slice() else {
        return Err(Refusal("an aggregate of something other than a column"));
    };
    let column = shipper.scope.column(*index).ok_or(Refusal("no such column"))?;
    let arg = checked(column);
    let family = repr(column).map(|r| r.family);
    let (state, columns) = match (shape, family) {
        (Shape::Count, Some(_)) => (StateKind::Count, vec![sum(format!("count({})", countable(column, arg)?))]),
        (Shape::SumInt, Some(Family::Int)) => (StateKind::Int8, vec![sum(format!("sum({})", arg?))]),
        (Shape::SumBig, Some(Family::Int)) => {
            let arg = arg?;
            let columns = vec![
                sum(format!("count({arg})")),
                sum(format!("sum(({arg}) >> 32)")),
                sum(format!("sum(({arg}) & 4294967295)")),
            ];
            (StateKind::Int128, columns)
        }
        (Shape::AvgInt, Some(Family::Int)) => {
            let arg = arg?;
            (StateKind::IntPair, vec![sum(format!("count({arg})")), sum(format!("sum({arg})"))])
        }
        (Shape::SumReal | Shape::AvgReal, Some(Family::Float)) => {
            let arg = arg?;
            let state = if shape == Shape::SumReal { StateKind::Real } else { StateKind::RealTriple };
            let columns = vec![
                sum(format!("count({arg})")),
                sum(format!("sum({arg})")),
                sum(format!("sum({arg} = 9e999)")),
                sum(format!("sum({arg} = -9e999)")),
            ];
            (state, columns)
        }
        (Shape::Min | Shape::Max, Some(family)) => {
            shipper.collation_allows(Cmp::Lt, family, call.collation)?;
            let arg = ordered(column, family, arg)?;
            let (name, reduce) = if shape == Shape::Min { ("min", Reduce::Min) } else { ("max", Reduce::Max) };
            let state = StateKind::Value { type_oid: column.type_oid, encoding: column.encoding };
            (state, vec![part(format!("{name}({arg})"), reduce)])
        }
        _ => return Err(Refusal("an argument that SQLite would aggregate otherwise")),
    };
    Ok(Aggregate { state, columns })
}

/// What counts as not NULL: any stored value of a column whose every stored form PostgreSQL can read.
fn countable(column: &crate::Column, checked: Result<String, Refusal>) -> Result<String, Refusal> {
    match checked {
        Ok(sql) => Ok(sql),
        // A plain scan reads the value and so would reject what is not a date; only a promise can replace that.
        Err(_) if column.trusted => Ok(column_sql(column)),
        Err(refusal) => Err(refusal),
    }
}

/// An argument whose SQLite order is PostgreSQL's order of the decoded values.
fn ordered(column: &crate::Column, family: Family, checked: Result<String, Refusal>) -> Result<String, Refusal> {
    if let Ok(sql) = checked {
        return Ok(sql);
    }
    match (family, column.encoding) {
        // Reals and integers sort together by value, and decoding keeps that order.
        (Family::Timestamp | Family::Timestamptz, Encoding::EpochS | Encoding::EpochMs | Encoding::EpochUs) => {
            let c = column_sql(column);
            Ok(format!(
                "CASE WHEN typeof({c}) IN ('integer', 'real', 'null') THEN {c} ELSE trough_reject({}, {}, 'timestamp', \
                 typeof({c})) END",
                crate::statement::quote_literal(&column.table),
                crate::statement::quote_literal(&column.name),
            ))
        }
        _ => Err(Refusal("the stored forms sort otherwise")),
    }
}

/// A group key, printed so that what SQLite takes for one group PostgreSQL does too. With `finalized`, PostgreSQL groups
/// again by decoded value, so that different stored forms of one value may stay apart.
///
/// # Errors
/// [`Refusal`] if SQLite could put two values into one group that PostgreSQL keeps apart.
pub fn group_key(key: &Expr, collation: Oid, finalized: bool, shipper: &mut Shipper<'_>) -> Result<String, Refusal> {
    let Expr::Column(index) = key else { return Err(Refusal("a group key that is not a column")) };
    let column = shipper.scope.column(*index).ok_or(Refusal("no such column"))?;
    let family = repr(column).map(|r| r.family).ok_or(Refusal("a column that does not compare alike"))?;
    // Under a nondeterministic collation PostgreSQL merges what SQLite keeps apart; it does so when it groups again.
    if !finalized {
        shipper.collation_allows(Cmp::Eq, family, collation)?;
    }
    match checked(column) {
        Ok(sql) => Ok(sql),
        Err(refusal) => match column.encoding {
            Encoding::UuidText | Encoding::Iso8601 if finalized => {
                let c = column_sql(column);
                Ok(format!(
                    "CASE WHEN typeof({c}) IN ('text', 'null') THEN {c} ELSE trough_reject({}, {}, {}, typeof({c})) END",
                    crate::statement::quote_literal(&column.table),
                    crate::statement::quote_literal(&column.name),
                    if column.type_oid == oid::UUID { "'uuid'" } else { "'timestamp'" },
                ))
            }
            _ => Err(refusal),
        },
    }
}
