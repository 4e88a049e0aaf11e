//! What every part of trough that is no server itself needs to talk to the cluster: the [`catalog`] (every typed
//! operation on RethinkDB), [`discovery`] (who serves what, cached and followed), the [`query`] client that fans a
//! statement out over segments, and the [`write`](mod@write) client that provisions, writes, promotes and shreds.
//!
//! Nothing in here serves, stores or runs SQLite.

pub mod catalog;
pub mod discovery;
pub mod http;
pub mod query;
pub mod write;

pub use catalog::{Catalog, CatalogError};
pub use discovery::{Discovery, DiscoveryError, DiscoveryOptions, SegmentPattern};
pub use query::{Batch, QueryClient, QueryError, QueryEvent, QueryOptions, QueryStream, QueryTemplate, SegmentSet};
pub use write::{WriteClient, WriteError};
