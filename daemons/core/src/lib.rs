//! What every part of trough shares: identifiers, records, the wire types of the query and write
//! protocols, and placement. Pure: no network, no file system, no clock.

pub mod describe;
pub mod error;
pub mod ids;
pub mod moments;
pub mod placement;
pub mod protocol;
pub mod records;
pub mod value;
pub mod wire;

pub use error::{ErrorCode, SegmentError};
pub use ids::{IdError, NodeId, SchemaId, SegmentId};
pub use value::Value;
