//! Which segments a condition can hold in. Conditions on the segment column alone are evaluated by PostgreSQL itself,
//! once per segment; what is worked out here only spares listing every segment there is.

use serde::{Deserialize, Serialize};

use crate::{
    expr::{Expr, Literal},
    pattern,
    rules::{self, Cmp, Family, Rule},
    scope::Scope,
    ship::Collation,
};

/// A set of segments, as values that PostgreSQL evaluates when the scan starts. Every segment in which the condition can
/// hold is in it; others may be too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// Nothing is known.
    All,
    /// The one segment that the slot's text names.
    One(usize),
    /// The segments that the slot's text array names.
    Each(usize),
    /// Segments whose names begin so.
    Prefix(String),
    /// Any of these sets.
    Union(Vec<Keys>),
    /// Only what is in all of these.
    Intersect(Vec<Keys>),
}

impl Keys {
    /// The set for a condition. `collation` tells whether text equality is byte equality.
    pub fn of(expr: &Expr, scope: &Scope, collation: &dyn Fn(u32) -> Collation) -> Self {
        let is_segment = |e: &Expr| matches!(e, Expr::Column(c) if scope.column(*c).is_some_and(|c| c.segment));
        let text_equality = |operator: u32, coll: u32| {
            matches!(rules::operator(operator), Some(Rule::Compare(Cmp::Eq, Family::Text)))
                && collation(coll).deterministic
        };
        match expr {
            Expr::Op { operator, collation: coll, args } => match args.as_slice() {
                [a, Expr::Value(v)] | [Expr::Value(v), a] if is_segment(a) && text_equality(*operator, *coll) => {
                    Self::One(v.slot)
                }
                [a, Expr::Value(v)] if is_segment(a) => match (rules::operator(*operator), &v.literal) {
                    (Some(Rule::Like { negated: false, folded: false }), Some(Literal::Text(like))) => {
                        match pattern::like_prefix(like) {
                            prefix if prefix.is_empty() => Self::All,
                            prefix => Self::Prefix(prefix),
                        }
                    }
                    _ => Self::All,
                },
                _ => Self::All,
            },
            Expr::AnyAll { operator, any: true, collation: coll, left, array }
                if is_segment(left) && text_equality(*operator, *coll) =>
            {
                Self::Each(array.slot)
            }
            Expr::And(args) => Self::intersect(args.iter().map(|a| Self::of(a, scope, collation))),
            Expr::Or(args) => Self::union(args.iter().map(|a| Self::of(a, scope, collation))),
            _ => Self::All,
        }
    }

    /// Whether a condition holds in exactly the segments of its set, so that it need not be evaluated for those that the set lists.
    pub fn is_exact(expr: &Expr, scope: &Scope, collation: &dyn Fn(u32) -> Collation) -> bool {
        match expr {
            Expr::And(args) | Expr::Or(args) => args.iter().all(|a| Self::is_exact(a, scope, collation)),
            expr => matches!(Self::of(expr, scope, collation), Self::One(_) | Self::Each(_)),
        }
    }

    /// What is in all of the sets.
    pub fn intersect(sets: impl IntoIterator<Item = Self>) -> Self {
        let mut known: Vec<_> = sets.into_iter().filter(|s| *s != Self::All).collect();
        match known.len() {
            0 => Self::All,
            1 => known.remove(0),
            _ => Self::Intersect(known),
        }
    }

    /// What is in any of the sets.
    pub fn union(sets: impl IntoIterator<Item = Self>) -> Self {
        let mut sets: Vec<_> = sets.into_iter().collect();
        match sets.len() {
            _ if sets.contains(&Self::All) => Self::All,
            0 => Self::All,
            1 => sets.remove(0),
            _ => Self::Union(sets),
        }
    }

    /// Whether it cannot be more than one segment.
    pub fn is_single(&self) -> bool {
        match self {
            Self::One(_) => true,
            Self::Intersect(sets) => sets.iter().any(Self::is_single),
            Self::All | Self::Each(_) | Self::Prefix(_) | Self::Union(_) => false,
        }
    }

    /// Whether the set can be listed from its values alone, without listing every segment there is.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::All | Self::Prefix(_) => false,
            Self::One(_) | Self::Each(_) => true,
            Self::Union(sets) => sets.iter().all(Self::is_finite),
            Self::Intersect(sets) => sets.iter().any(Self::is_finite),
        }
    }
}
