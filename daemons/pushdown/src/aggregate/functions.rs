//! The table of aggregate functions: what each computes. By `pg_aggregate.aggfnoid`.

use crate::oid::Oid;

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
    /// `stddev`, `variance` and their kin of smallint or integer.
    MomentsInt,
    /// The same of bigint.
    MomentsBig,
    /// `sum` of real or double precision.
    SumReal {
        /// Whether it is real.
        single: bool,
    },
    /// `avg`, `stddev`, `variance` and their kin of real or double precision.
    MomentsReal,
    /// `regr_count`
    PairCount,
    /// `corr`, `covar_pop`, `covar_samp` and the other `regr_` functions.
    MomentsPair,
    /// `min`
    Min,
    /// `max`
    Max,
    /// `bool_and`, `every`
    BoolAnd,
    /// `bool_or`
    BoolOr,
    /// `bit_and`
    BitAnd,
    /// `bit_or`
    BitOr,
    /// `bit_xor`
    BitXor,
}

impl Shape {
    /// Whether values that come again make no difference.
    pub fn ignores_duplicates(self) -> bool {
        matches!(self, Self::Min | Self::Max | Self::BoolAnd | Self::BoolOr | Self::BitAnd | Self::BitOr)
    }
}

/// The rule of an aggregate function, if it has one.
pub fn shape(function: Oid) -> Option<Shape> {
    Some(match function {
        2803 => Shape::CountStar,
        2147 => Shape::Count,
        2108 | 2109 => Shape::SumInt,
        2100 | 2107 => Shape::SumBig,
        2101 | 2102 => Shape::AvgInt,
        2110 => Shape::SumReal { single: true },
        2111 => Shape::SumReal { single: false },
        2104 | 2105 => Shape::MomentsReal,
        // var_pop, var_samp, variance, stddev_pop, stddev_samp, stddev of int8; int4, int2; float4, float8.
        2718 | 2641 | 2148 | 2724 | 2712 | 2154 => Shape::MomentsBig,
        2719 | 2642 | 2149 | 2725 | 2713 | 2155 | 2720 | 2643 | 2150 | 2726 | 2714 | 2156 => Shape::MomentsInt,
        2721 | 2644 | 2151 | 2727 | 2715 | 2157 | 2722 | 2645 | 2152 | 2728 | 2716 | 2158 => Shape::MomentsReal,
        2818 => Shape::PairCount,
        2819..=2829 => Shape::MomentsPair,
        2131..=2133 | 2135 | 2136 | 2138 | 2142 | 2143 | 2145 => Shape::Min,
        2115..=2117 | 2119 | 2120 | 2122 | 2126 | 2127 | 2129 => Shape::Max,
        2517 | 2519 => Shape::BoolAnd,
        2518 => Shape::BoolOr,
        2236 | 2238 | 2240 => Shape::BitAnd,
        2237 | 2239 | 2241 => Shape::BitOr,
        6164..=6166 => Shape::BitXor,
        _ => return None,
    })
}
