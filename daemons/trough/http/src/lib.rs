//! What every daemon's listeners share: binding with clear errors, TLS that follows its files, bearer tokens with
//! roles, `/livez`, `/readyz`, `/metrics` and `/status`, graceful shutdown, logging.
//!
//! Nothing is stored. A daemon makes one [`Daemon`], adds its routes behind [`Daemon::require`], merges
//! [`Daemon::common_routes`], and serves the router on as many [`Bound`] listeners as it has ports.

mod auth;
mod client;
mod daemon;
mod listener;
mod logging;
mod protocol;
mod respond;
mod tls;

pub use auth::{Auth, RequireRole};
pub use client::peer_client;
pub use daemon::{Daemon, Readiness, StatusFn};
pub use listener::{BindError, Bound, Served};
pub use logging::init_logging;
pub use protocol::{protocol_of, read_document, read_json};
pub use respond::{json_bytes, plain, server_error};
pub use tls::TlsError;

#[cfg(test)]
mod tests;
