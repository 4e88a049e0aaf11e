//! RethinkDB's protocol on tokio: [`proto`] is what travels, for clients and servers alike; [`Expr`] and [`r`]
//! build queries; [`Client`] runs them over one multiplexed connection.

pub mod proto;

mod client;
mod connection;
mod cursor;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hosts;
mod options;
mod term;
mod tls;
mod write;

pub use client::Client;
pub use cursor::Cursor;
pub use error::{Error, ErrorClass};
pub use options::{Options, TlsOptions};
pub use term::{Expr, r};
pub use write::WriteSummary;
