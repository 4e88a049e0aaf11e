//! Expressions as the shipping rules see them: PostgreSQL's node trees with everything that does not read the table
//! folded into values.

use crate::oid::Oid;

/// An expression over one foreign table.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A column: an index into [`crate::Table::columns`].
    Column(usize),
    /// Something that does not depend on the row: PostgreSQL evaluates it once and sends the value.
    Value(Val),
    /// An operator call.
    Op {
        /// `pg_operator.oid`.
        operator: Oid,
        /// The collation it runs under (0 for none).
        collation: Oid,
        /// One or two operands.
        args: Vec<Expr>,
    },
    /// `left operator ANY (array)` or `left operator ALL (array)`.
    AnyAll {
        /// `pg_operator.oid`.
        operator: Oid,
        /// Whether it is ANY.
        any: bool,
        /// The collation it runs under (0 for none).
        collation: Oid,
        /// What is compared with each element.
        left: Box<Expr>,
        /// The array.
        array: Val,
    },
    /// Conjunction.
    And(Vec<Expr>),
    /// Disjunction.
    Or(Vec<Expr>),
    /// Negation.
    Not(Box<Expr>),
    /// `IS NULL` of a scalar.
    IsNull(Box<Expr>),
    /// `IS NOT NULL` of a scalar.
    IsNotNull(Box<Expr>),
    /// `IS [NOT] TRUE`, `IS [NOT] FALSE`, `IS [NOT] UNKNOWN`.
    BoolTest(BoolTest, Box<Expr>),
    /// `IS DISTINCT FROM`, of an equality operator.
    Distinct {
        /// The equality operator.
        operator: Oid,
        /// The collation it runs under (0 for none).
        collation: Oid,
        /// The two operands.
        args: Vec<Expr>,
    },
    /// A function call.
    Call {
        /// `pg_proc.oid`.
        function: Oid,
        /// The collation it runs under (0 for none).
        collation: Oid,
        /// Its arguments.
        args: Vec<Expr>,
    },
    /// `CASE WHEN … THEN … ELSE … END`; a simple CASE compares in each WHEN.
    Case {
        /// Conditions and results.
        whens: Vec<(Expr, Expr)>,
        /// What it is otherwise; a NULL value where nothing is written.
        otherwise: Box<Expr>,
        /// The results' type.
        type_oid: Oid,
    },
    /// `COALESCE`
    Coalesce {
        /// Its arguments.
        args: Vec<Expr>,
        /// Their type.
        type_oid: Oid,
    },
    /// `NULLIF`, of an equality operator.
    NullIf {
        /// The equality operator.
        operator: Oid,
        /// The collation it runs under (0 for none).
        collation: Oid,
        /// The two operands.
        args: Vec<Expr>,
    },
    /// `GREATEST` and `LEAST`.
    MinMax {
        /// Whether it is GREATEST.
        greatest: bool,
        /// The collation it runs under (0 for none).
        collation: Oid,
        /// Its arguments.
        args: Vec<Expr>,
        /// Their type.
        type_oid: Oid,
    },
    /// Anything the extension's walker does not know; never shipped.
    Opaque,
}

impl Expr {
    /// Calls `visit` with the index of every column that the expression reads.
    pub fn columns(&self, visit: &mut impl FnMut(usize)) {
        match self {
            Self::Column(index) => visit(*index),
            Self::Value(_) | Self::Opaque => {}
            Self::Op { args, .. }
            | Self::Distinct { args, .. }
            | Self::And(args)
            | Self::Or(args)
            | Self::Call { args, .. }
            | Self::Coalesce { args, .. }
            | Self::NullIf { args, .. }
            | Self::MinMax { args, .. } => args.iter().for_each(|arg| arg.columns(visit)),
            Self::Case { whens, otherwise, .. } => {
                for (when, then) in whens {
                    when.columns(visit);
                    then.columns(visit);
                }
                otherwise.columns(visit);
            }
            Self::AnyAll { left, .. } => left.columns(visit),
            Self::Not(arg) | Self::IsNull(arg) | Self::IsNotNull(arg) | Self::BoolTest(_, arg) => arg.columns(visit),
        }
    }
}

/// The six tests of a boolean's truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoolTest {
    /// `IS TRUE`
    True,
    /// `IS NOT TRUE`
    NotTrue,
    /// `IS FALSE`
    False,
    /// `IS NOT FALSE`
    NotFalse,
    /// `IS UNKNOWN`
    Unknown,
    /// `IS NOT UNKNOWN`
    NotUnknown,
}

/// A value known before the first row is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Val {
    /// Which of the extension's collected expressions makes it.
    pub slot: usize,
    /// Its type (of the array, for an array).
    pub type_oid: Oid,
    /// Its value, where planning knows it.
    pub literal: Option<Literal>,
}

/// A constant's value, as far as a rule needs it.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// NULL.
    Null,
    /// A text.
    Text(String),
    /// A boolean or an integer of any width.
    Int(i64),
    /// A floating-point number of either width.
    Float(f64),
    /// A date or time that is not infinite.
    Finite,
    /// An array of so many elements; `nulls` says whether one of them is NULL.
    Array {
        /// How many.
        len: usize,
        /// Whether one is NULL.
        nulls: bool,
    },
    /// A constant that no rule looks into.
    Other,
}
