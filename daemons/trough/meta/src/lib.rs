//! The embedded metadata server: one node, durable in SQLite, speaking RethinkDB's wire protocol for the part of ReQL that
//! trough, its old clients and doublethink use. Whoever outgrows it points RETHINKDB_HOSTS at a real cluster.
//!
//! A query comes in as JSON (`server`), is compiled (`term`) and run (`eval`) on a thread of a pool, over values
//! (`datum`) that are read from SQLite a page at a time (`store`). All writes go through one thread (`store::writer`), which
//! shares one fsync among all that wait, and then tells the changefeeds (`feed`).

mod datum;
mod error;
mod eval;
mod feed;
mod figures;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod server;
mod store;
mod term;

pub use error::Error;
pub use figures::{Figures, Now};
pub use server::{MetaOptions, MetaServer, serve};
