//! The sync server: election, listing, placement, the segment manager API and the status page.
//!
//! Planning is pure ([`model`], [`plan`]); applying it is I/O. Any number of sync servers run; one is master. The others
//! pass on to it what decides about segments.

mod api;
pub mod backup;
mod context;
mod folders;
mod follow;
mod master;
pub mod mastership;
pub mod model;
mod placing;
pub mod plan;
mod reconciler;
pub mod rows;
pub mod saved;
mod server;
mod tables;
pub mod view;
mod workers;

use std::{net::SocketAddr, sync::Arc};

use tokio_util::sync::CancellationToken;
use trough_config::Settings;

pub use context::Context;
pub use server::Server;

/// Runs a sync server until `shutdown`. `ready` is told its address once it answers requests.
///
/// # Errors
/// If it cannot start; the text names the setting.
pub async fn run(
    settings: Arc<Settings>,
    shutdown: CancellationToken,
    ready: impl FnOnce(SocketAddr) + Send,
) -> anyhow::Result<()> {
    let server = Server::start(settings, shutdown).await?;
    ready(server.addr());
    server.stopped().await;
    Ok(())
}

/// What a sync master would change now, as a table for people. Changes nothing.
///
/// # Errors
/// If metadata or store cannot be read.
pub async fn plan_only(settings: Arc<Settings>) -> anyhow::Result<String> {
    let (_sender, standing) = tokio::sync::watch::channel(mastership::Standing::Unknown);
    let context = Arc::new(server::context(&settings, standing)?);
    reconciler::Reconciler::new(context, None).plan_only().await
}
