//! The rule table: PostgreSQL's operators by OID, and what they are in SQLite.

use serde::{Deserialize, Serialize};

use crate::{oid::Oid, operators};

/// A comparison that both sides know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cmp {
    /// `=`
    Eq,
    /// `<>`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl Cmp {
    /// How SQLite writes it.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "<>",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }

    /// The comparison with its operands exchanged.
    pub fn commuted(self) -> Self {
        match self {
            Self::Lt => Self::Gt,
            Self::Le => Self::Ge,
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
            same => same,
        }
    }

    /// Whether it needs the two orders to agree, not only the two equalities.
    pub fn is_ordering(self) -> bool {
        !matches!(self, Self::Eq | Self::Ne)
    }
}

/// Types that compare alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `boolean`
    Bool,
    /// `smallint`, `integer`, `bigint`
    Int,
    /// `real`, `double precision`
    Float,
    /// `text`, `varchar`
    Text,
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `timestamp`
    Timestamp,
    /// `timestamptz`
    Timestamptz,
    /// `uuid`
    Uuid,
}

/// What an operator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A comparison within a family.
    Compare(Cmp, Family),
    /// A call of the function with this OID.
    Call(Oid),
    /// A comparison of dates and times of two families.
    CompareTimes(Cmp, Family, Family),
    /// A comparison of numerics.
    CompareNumeric(Cmp),
    /// `LIKE` on text.
    Like {
        /// Whether it is NOT LIKE.
        negated: bool,
        /// Whether it is ILIKE.
        folded: bool,
    },
    /// A search for a regular expression in a text.
    Regex {
        /// Whether it is `!~`.
        negated: bool,
        /// Whether it is `~*`.
        folded: bool,
    },
}

/// The rule of an operator, if it may be shipped at all.
pub fn operator(oid: Oid) -> Option<Rule> {
    operators::OPERATORS.binary_search_by_key(&oid, |(oid, _)| *oid).ok().map(|at| operators::OPERATORS[at].1)
}

/// Whether an operator is the equality of texts.
pub fn is_text_equality(oid: Oid) -> bool {
    operator(oid) == Some(Rule::Compare(Cmp::Eq, Family::Text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(operators::OPERATORS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(operator(410), Some(Rule::Compare(Cmp::Eq, Family::Int)));
        assert_eq!(operator(607), None);
    }
}
