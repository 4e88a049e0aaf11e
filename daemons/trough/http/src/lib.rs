//! What every daemon's listeners share: binding with clear errors, limits against slow and too many clients, TLS that follows
//! its files, bearer tokens with roles and segments, `/livez`, `/readyz`, `/metrics` and `/status`, graceful shutdown, logging, what a
//! service manager is told.
//!
//! Nothing is stored but segment events ([`events`]). A daemon makes one [`Daemon`], adds its routes behind [`Daemon::require`], merges
//! [`Daemon::common_routes`], and serves the router on as many [`Bound`] listeners as it has ports.

mod auth;
mod caller;
mod client;
mod daemon;
pub mod events;
mod files;
mod gate;
mod listener;
mod logging;
mod metrics;
mod observe;
#[cfg(feature = "otlp")]
mod otlp;
mod pace;
mod protocol;
mod rate;
mod respond;
mod serve;
mod supervise;
mod tls;
mod trace;
mod vitals;

pub use auth::{Auth, RequireRole};
pub use caller::Caller;
pub use client::{peer_client, stranger_client};
pub use daemon::{CollectFn, Daemon, Readiness, StatusFn};
pub use listener::{BindError, Bound, Served};
pub use logging::{Logged, Logging, init_logging};
pub use metrics::build_info;
pub use observe::Failed;
pub use pace::BodyTimeout;
pub use protocol::{protocol_of, read_document, read_json};
pub use rate::Rate;
pub use respond::{json_bytes, plain, server_error};
pub use supervise::supervise;
pub use tls::{TlsError, server_config};
pub use trace::{current_trace, new_trace, traced};
pub use vitals::{Beat, Vitals};

#[cfg(test)]
mod tests;
