//! Everything SQLite on a worker: cached read connections under SQLite's authorizer, the map and reduce of the query
//! protocol, group-committed writes, and the care of segment files (create, check, snapshot, replace).
//!
//! The engine has threads of its own for SQLite; its asynchronous methods only wait for them. It knows no network:
//! a segment is a [`SegmentFile`], an answer a [`ByteStream`].
//!
//! # Files
//!
//! A segment that is written is in WAL mode while a writer is open, so that readers and the writer never wait for
//! each other, and one fsync makes a commit durable. The canonical store never sees that: a [snapshot](Engine::snapshot) has
//! a plain header, and [`Engine::seal`] turns the local file back. `-wal` and `-shm` files beside a segment belong to
//! it: only [`Engine::replace`] and [`Engine::remove`] may replace or delete a segment's file.

mod aggregates;
mod apply;
mod auth;
mod bounded;
mod cache;
mod combine;
mod conn;
mod control;
mod create;
mod describe;
mod encode;
mod engine;
mod errors;
mod files;
mod fingerprint;
mod functions;
mod json;
mod legacy;
mod options;
mod output;
mod pool;
mod query;
mod reduce;
mod remote;
mod render;
mod report;
mod sql;
mod statement;
mod stream;
mod sync;
mod top;
mod transaction;
mod write_conn;
mod writer;

pub use combine::Combiner;
pub use describe::{describe, validate};
pub use engine::{Engine, EngineStats, Guard, Mode, SegmentFile};
pub use files::Snapshot;
pub use options::{EngineOptions, Limits};
pub use remote::{Remote, RemoteError, RemoteFile, RemoteOptions, RemoteStamp, RemoteStats, RemoteStore};
pub use render::Format;
pub use report::{Dialect, OnEnd, QueryReport, sqlite_version};
pub use stream::ByteStream;
