//! Aggregates in parts: what each segment computes, how a worker adds it up, and which transition state PostgreSQL
//! gets, so that its own combine and final functions do the rest.

mod functions;
mod keys;

use serde::{Deserialize, Serialize};

use crate::{
    column::{Encoding, InvalidText},
    expr::{Expr, Literal},
    oid::Oid,
    rules::{Cmp, Family},
    scalar::Scalar,
    ship::{Refusal, Shipper},
    statement::quote_literal,
    stored::{column_sql, repr},
};

pub use functions::{Shape, shape};
pub use keys::{Key, group_key};

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
    /// `DISTINCT`: never in parts.
    pub distinct: bool,
    /// ORDER BY or direct arguments.
    pub special: bool,
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
    /// An aggregate function of the workers.
    Function(&'static str),
    /// Not at all: only for what no segment shares with another.
    Never,
}

impl Reduce {
    pub(crate) fn sql(self, column: &str) -> String {
        match self {
            Self::Sum => format!("sum({column})"),
            Self::Min => format!("min({column})"),
            Self::Max => format!("max({column})"),
            Self::Function(name) => format!("{name}({column})"),
            Self::Never => unreachable!("a whole aggregation has no reduce"),
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
    /// `(n, sum)`, the sum of `trough_sum_big`: the 128-bit state of `sum(bigint)`.
    Int128,
    /// `(n, sum)`: `bigint[]` of count and sum.
    IntPair,
    /// `(moments)`, of `trough_int_moments`: the state of `sum(bigint)`.
    IntSum,
    /// As above: the state of `stddev(integer)`, or of `stddev(bigint)` if `big`.
    IntMoments {
        /// Whether it is of bigint.
        big: bool,
    },
    /// `(sum)`, of `trough_sum_real` or `trough_sum_single`: double precision (real, if `single`) or NULL.
    RealSum {
        /// Whether it is real.
        single: bool,
    },
    /// `(moments)`, of `trough_real_moments`: `double precision[]` of three.
    RealMoments,
    /// `(moments)`, of `trough_pair_moments`: `double precision[]` of six.
    PairMoments,
    /// `(value)`: a value of a type and encoding.
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
            Self::IntPair | Self::Int128 => 2,
            _ => 1,
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
    if call.distinct {
        return Err(Refusal("DISTINCT does not decompose"));
    }
    whole(call, shipper)
}

/// An aggregate over rows of which no other segment has any.
///
/// # Errors
/// [`Refusal`] if it cannot be computed in SQLite with the same result.
pub fn whole(call: &Call, shipper: &mut Shipper<'_>) -> Result<Aggregate, Refusal> {
    if call.special {
        return Err(Refusal("ORDER BY in an aggregate"));
    }
    let shape = shape(call.function).ok_or(Refusal("an aggregate without a rule"))?;
    shipper.all_or_nothing(|shipper| Printer { call, shape, shipper }.print())
}

/// A function, its argument, and how results become one.
type Part = (&'static str, String, Reduce);

struct Printer<'a, 'b> {
    call: &'a Call,
    shape: Shape,
    shipper: &'a mut Shipper<'b>,
}

impl Printer<'_, '_> {
    fn print(&mut self) -> Result<Aggregate, Refusal> {
        let call = self.call;
        let distinct = call.distinct && !self.shape.ignores_duplicates();
        // The arguments stand before the filter, so that parameters number from the left.
        let (state, parts) = match (self.shape, call.args.as_slice()) {
            (Shape::CountStar, _) => (StateKind::Count, vec![("count", "*".to_owned(), Reduce::Sum)]),
            (Shape::Count, [arg]) => {
                let arg = self.countable(arg)?;
                (StateKind::Count, vec![("count", arg, Reduce::Sum)])
            }
            (Shape::Min | Shape::Max, [arg]) => {
                let arg = self.ordered(arg)?;
                let (name, reduce) = if self.shape == Shape::Min { ("min", Reduce::Min) } else { ("max", Reduce::Max) };
                (StateKind::Value { type_oid: arg.type_oid, encoding: arg.encoding }, vec![(name, arg.sql, reduce)])
            }
            (Shape::PairCount | Shape::MomentsPair, [y, x]) => {
                let (y, x) = (self.argument(y, Family::Float)?.sql, self.argument(x, Family::Float)?.sql);
                if distinct {
                    return Err(Refusal("DISTINCT of two arguments"));
                }
                if self.shape == Shape::PairCount {
                    let both = format!("({y}) IS NOT NULL AND ({x}) IS NOT NULL OR NULL");
                    (StateKind::Count, vec![("count", both, Reduce::Sum)])
                } else {
                    let (name, merge) = ("trough_pair_moments", Reduce::Function("trough_pair_moments_merge"));
                    (StateKind::PairMoments, vec![(name, format!("{y}, {x}"), merge)])
                }
            }
            (_, [arg]) => self.numeric(arg, distinct)?,
            _ => return Err(Refusal("another number of arguments")),
        };
        let filter = match &call.filter {
            Some(filter) => format!(" FILTER (WHERE {})", self.shipper.exact_condition(filter)?),
            None => String::new(),
        };
        let word = if distinct { "DISTINCT " } else { "" };
        let columns = parts
            .into_iter()
            .map(|(function, arg, reduce)| PartColumn {
                map: format!("{function}({word}{arg}){filter}"),
                reduce: if distinct { Reduce::Never } else { reduce },
            })
            .collect();
        Ok(Aggregate { state, columns })
    }

    /// Aggregates of one number or boolean.
    fn numeric(&mut self, arg: &Expr, distinct: bool) -> Result<(StateKind, Vec<Part>), Refusal> {
        let family = match self.shape {
            Shape::SumReal { .. } | Shape::MomentsReal => Family::Float,
            Shape::BoolAnd | Shape::BoolOr => Family::Bool,
            _ => Family::Int,
        };
        let Scalar { sql: arg, encoding, type_oid, .. } = self.argument(arg, family)?;
        let value = StateKind::Value { type_oid, encoding };
        let int_moments = |arg| vec![("trough_int_moments", arg, Reduce::Function("trough_int_moments_merge"))];
        let one = |name, reduce| vec![(name, arg.clone(), reduce)];
        Ok(match self.shape {
            Shape::SumInt => (StateKind::Int8, one("sum", Reduce::Sum)),
            // Sums of parts of a number are no sums of distinct numbers.
            Shape::SumBig if distinct => (StateKind::IntSum, int_moments(arg)),
            Shape::SumBig => {
                let sum = ("trough_sum_big", arg.clone(), Reduce::Function("trough_sum_big"));
                (StateKind::Int128, vec![("count", arg, Reduce::Sum), sum])
            }
            Shape::AvgInt => (StateKind::IntPair, vec![("count", arg.clone(), Reduce::Sum), ("sum", arg, Reduce::Sum)]),
            Shape::MomentsInt => (StateKind::IntMoments { big: false }, int_moments(arg)),
            Shape::MomentsBig => (StateKind::IntMoments { big: true }, int_moments(arg)),
            Shape::SumReal { single } => {
                let name = if single { "trough_sum_single" } else { "trough_sum_real" };
                (StateKind::RealSum { single }, one(name, Reduce::Function(name)))
            }
            Shape::MomentsReal => {
                let merge = Reduce::Function("trough_real_moments_merge");
                (StateKind::RealMoments, one("trough_real_moments", merge))
            }
            Shape::BoolAnd => (value, one("min", Reduce::Min)),
            Shape::BoolOr => (value, one("max", Reduce::Max)),
            Shape::BitAnd => (value, one("trough_bit_and", Reduce::Function("trough_bit_and"))),
            Shape::BitOr => (value, one("trough_bit_or", Reduce::Function("trough_bit_or"))),
            Shape::BitXor => (value, one("trough_bit_xor", Reduce::Function("trough_bit_xor"))),
            _ => return Err(Refusal("another number of arguments")),
        })
    }

    fn argument(&mut self, arg: &Expr, family: Family) -> Result<Scalar, Refusal> {
        let scalar = self.shipper.scalar(arg)?;
        if scalar.family == family {
            Ok(scalar)
        } else {
            Err(Refusal("an argument that SQLite would aggregate otherwise"))
        }
    }

    /// What counts as not NULL.
    fn countable(&mut self, arg: &Expr) -> Result<String, Refusal> {
        if let Expr::Value(value) = arg
            && !self.call.distinct
            && value.literal.as_ref().is_some_and(|literal| *literal != Literal::Null)
        {
            return Ok("*".to_owned());
        }
        match self.shipper.scalar(arg) {
            Ok(scalar) => {
                if self.call.distinct {
                    self.shipper.collation_allows(Cmp::Eq, scalar.family, self.call.collation)?;
                }
                Ok(scalar.sql)
            }
            Err(refusal) => match arg {
                // A plain scan reads the value and so would reject what is not a date; only a promise can replace that.
                Expr::Column(index) if !self.call.distinct => match self.shipper.scope.column(*index) {
                    Some(column) if column.trusted && column.invalid_text == InvalidText::Error => {
                        Ok(column_sql(column))
                    }
                    _ => Err(refusal),
                },
                _ => Err(refusal),
            },
        }
    }

    /// An argument whose SQLite order is PostgreSQL's order of the decoded values.
    fn ordered(&mut self, arg: &Expr) -> Result<Scalar, Refusal> {
        let scalar = match (self.shipper.scalar(arg), arg) {
            (Ok(scalar), _) => scalar,
            (Err(refusal), Expr::Column(index)) => self.ordered_column(*index).ok_or(refusal)?,
            (Err(refusal), _) => return Err(refusal),
        };
        self.shipper.collation_allows(Cmp::Lt, scalar.family, self.call.collation)?;
        Ok(scalar)
    }

    /// Instants that are reals and integers sort together by value, and decoding keeps that order.
    fn ordered_column(&self, index: usize) -> Option<Scalar> {
        let column = self.shipper.scope.column(index)?;
        let repr = repr(column)?;
        match (repr.family, repr.encoding) {
            (Family::Timestamp | Family::Timestamptz, Encoding::EpochS | Encoding::EpochMs | Encoding::EpochUs) => {
                let c = column_sql(column);
                let sql = format!(
                    "CASE WHEN typeof({c}) IN ('integer', 'real', 'null') THEN {c} ELSE trough_reject({}, {}, \
                     'timestamp', typeof({c})) END",
                    quote_literal(&column.table),
                    quote_literal(&column.name),
                );
                Some(Scalar {
                    sql,
                    family: repr.family,
                    encoding: repr.encoding,
                    type_oid: column.type_oid,
                    raises: false,
                })
            }
            _ => None,
        }
    }
}
