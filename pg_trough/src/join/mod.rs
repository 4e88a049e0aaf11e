//! Joins: by asking for the segments that the other side's rows name, or inside the segments.

pub(crate) mod inside;
pub(crate) mod parameterized;
