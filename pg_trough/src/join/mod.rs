//! Joins: by asking for the segments that the other side's rows name, or inside the segments.

pub(crate) mod batch;
mod execute;
pub(crate) mod inside;
pub(crate) mod lookup;
mod node;
pub(crate) mod parameterized;
