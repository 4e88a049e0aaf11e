//! `trough meta`: the embedded metadata server as a daemon, with its health and metrics.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tokio_util::sync::CancellationToken;
use trough_config::Settings;
use trough_http::{Beat, Bound, Daemon, Logging, StatusFn, init_logging};
use trough_meta::{MetaOptions, MetaServer};

use crate::{
    cli::{ChildArgs, ConfigArg},
    lifeline,
};

/// How often the server's threads are asked for a turn, and how long one may be outstanding.
const TURN: Duration = Duration::from_secs(5);
const BOUND: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(crate) struct MetaArgs {
    /// Directory of the database; made if missing
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Address to serve on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:28015")]
    listen: SocketAddr,
    /// Address of /livez, /readyz, /metrics and /status (HTTP) [default: none]
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    child: ChildArgs,
}

/// Serves until the process is told to stop. RETHINKDB_PASSWORD and RETHINKDB_TLS say to it what they say to its clients.
pub(crate) async fn run(args: MetaArgs) -> anyhow::Result<()> {
    let settings = args.config.load()?;
    let _logged = init_logging(&Logging::new("meta", &settings))?;
    // First: it makes the recorder.
    trough_http::build_info("meta", settings.hostname.as_str(), trough_engine::sqlite_version());
    let shutdown = lifeline::shutdown_token(args.child.follow_stdin)?;
    let options = options(&settings, args.dir, args.listen, &shutdown)?;
    let server =
        MetaServer::start(options).await.with_context(|| format!("metadata server on {} (--listen)", args.listen))?;
    let daemon = daemon(&settings, &server);
    daemon.supervise(shutdown.clone());
    let beat = daemon.vitals().expect("metadata", BOUND);
    // The metadata is served already.
    daemon.readiness().set_ready();
    let health = match args.http {
        None => None,
        Some(address) => {
            let settings = Settings { listen: address.ip(), ..settings.clone() };
            let bound = Bound::bind(&settings, "--http", address.port())?;
            Some(bound.serve(&settings, daemon.common_routes(), shutdown.clone())?)
        }
    };
    turn(&server, beat, &shutdown).await;
    server.shutdown().await;
    if let Some(health) = health {
        health.stopped().await;
    }
    Ok(())
}

fn options(
    settings: &Settings,
    dir: PathBuf,
    listen: SocketAddr,
    shutdown: &CancellationToken,
) -> anyhow::Result<MetaOptions> {
    anyhow::ensure!(
        settings.rethinkdb_user == "admin",
        "RETHINKDB_USER is {:?}: `trough meta` knows the user admin only",
        settings.rethinkdb_user
    );
    let tls = match (&settings.rethinkdb_tls, &settings.tls) {
        (Some(_), None) => anyhow::bail!("RETHINKDB_TLS asks for TLS, which needs TLS_CERT and TLS_KEY here"),
        (Some(_), Some(files)) => Some(trough_http::server_config(files, &[], shutdown.clone())?),
        (None, Some(_)) => {
            tracing::warn!("metadata are served without TLS, as RETHINKDB_TLS is not set");
            None
        }
        (None, None) => None,
    };
    let password = Some(settings.rethinkdb_password.clone()).filter(|password| !password.is_empty());
    let reader_password = settings.meta_reader_password.clone();
    Ok(MetaOptions { password, reader_password, tls, ..MetaOptions::new(dir, listen) })
}

fn daemon(settings: &Settings, server: &MetaServer) -> Daemon {
    let (of_status, of_gauges) = (server.figures(), server.figures());
    let node = settings.hostname.to_string();
    let status: StatusFn = Arc::new(move || {
        let document = serde_json::json!({
            "part": "meta", "version": env!("CARGO_PKG_VERSION"), "node": node, "pid": std::process::id(),
            "figures": of_status.now(),
        });
        Box::pin(async move { document })
    });
    Daemon::new(settings, status).with_gauges(Arc::new(move || of_gauges.gauge()))
}

/// Asks the server's threads for a turn again and again, until `shutdown`.
async fn turn(server: &MetaServer, beat: Beat, shutdown: &CancellationToken) {
    let turns = async {
        loop {
            match server.turn().await {
                Ok(()) => beat.turned(),
                Err(error) => tracing::error!(%error, "the metadata server takes no turn"),
            }
            tokio::time::sleep(TURN).await;
        }
    };
    tokio::select! {
        () = turns => {}
        () = shutdown.cancelled() => {}
    }
}
