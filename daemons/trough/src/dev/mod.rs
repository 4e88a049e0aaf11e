//! `trough dev`: a whole cluster on loopback, for trying out, demos and tests.

mod children;
mod layout;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use children::Children;
use clap::Args;
use layout::{Layout, Part, Wishes};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::lifeline;

/// How long all parts together may take until they serve.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The long help.
pub(crate) const LONG: &str = "\
All parts on loopback, each a process of its own: metadata server, sync server, workers and cold workers. Prints \
`ready rethinkdb://127.0.0.1:PORT/trough_configuration` on standard output once every part serves. SIGTERM or Ctrl-C \
stops all of them in order; if this process is killed, its parts end by themselves. Started again on the same DIR it \
continues with the same ports and data.

A part that ends stays down, so that failures can be tried out: start it again with --respawn given from the start, \
by sending SIGHUP to this process (starts whatever is down), or by hand:
    trough worker --config DIR/nodes/worker-1/settings.yml

DIR holds
    dev.json                 what was asked for at the first start; options given later are put over it
    dev.lock                 held while it runs, so that one DIR has one cluster
    pids.json                {\"meta\": PID, \"sync\": PID, \"worker-1\": PID, …, \"cold-1\": PID, …}: what is running now
    logs/NAME.log            the log of each part
    meta/                    the metadata database
    store/PREFIX/ID.sqlite   the canonical store, unless --store names another
    nodes/NAME/settings.yml  the settings of a sync server or worker, written at each start
    nodes/NAME/data/         a worker's segments

Ports: BASE metadata, BASE+1 sync server (status page), BASE+2 the metadata server's health and metrics, and from BASE+10 on ten for each worker, then for each cold \
worker: +0 read, +1 write, +2 segment manager. Environment variables TROUGH_KEY pass on to all parts, except for those \
that are set for each part (names, ports, directories, store).";

/// Options of `trough dev`.
#[derive(Args, Debug)]
pub struct DevArgs {
    /// Directory of everything; made if missing
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Hot workers [default: 3, or as at the first start]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=200))]
    pub workers: Option<u16>,
    /// Cold workers [default: 1, or as at the first start]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=200))]
    pub cold_workers: Option<u16>,
    /// First port [default: 26000, or as at the first start]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=63000))]
    pub base_port: Option<u16>,
    /// Canonical store [default: DIR/store, or as at the first start]
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Seconds that a worker's lease runs [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub lease: Option<u16>,
    /// Start a part again when it ends
    #[arg(long)]
    pub respawn: bool,
}

/// Runs the cluster until SIGTERM or Ctrl-C.
///
/// # Errors
/// If the directory is in use, a port is taken, or a part does not start; the text names it.
pub async fn run(args: DevArgs) -> anyhow::Result<()> {
    let wishes = Wishes {
        workers: args.workers,
        cold_workers: args.cold_workers,
        base_port: args.base_port,
        store: args.store,
        lease: args.lease,
    };
    let layout = Layout::open(&args.dir, &wishes)?;
    layout.check_ports()?;
    layout.write_settings()?;
    let shutdown = lifeline::shutdown_token(false)?;
    let mut children = Children::new(&layout)?;
    let outcome = tokio::select! {
        outcome = start(&layout, &mut children) => outcome,
        () = shutdown.cancelled() => Ok(()),
    };
    let outcome = match outcome {
        Ok(()) if !shutdown.is_cancelled() => {
            println!("ready {}", layout.url());
            watch(&layout, &mut children, args.respawn, &shutdown).await
        }
        other => other,
    };
    let stopped = children.stop_all().await;
    outcome.and(stopped)
}

async fn start(layout: &Layout, children: &mut Children) -> anyhow::Result<()> {
    let limit = tokio::time::Instant::now() + START_LIMIT;
    let http = trough_http::stranger_client(layout.shared())?;
    // The metadata first, since everything else asks it at once; then the rest together.
    for batch in [&layout.parts()[..1], &layout.parts()[1..]] {
        for part in batch {
            children.spawn(part).with_context(|| format!("start {}", part.name))?;
        }
        for part in batch {
            wait_ready(&http, layout.shared().scheme(), part, children, limit).await?;
        }
    }
    Ok(())
}

async fn wait_ready(
    http: &reqwest::Client,
    scheme: &str,
    part: &Part,
    children: &mut Children,
    limit: tokio::time::Instant,
) -> anyhow::Result<()> {
    let mut last = String::from("no answer yet");
    loop {
        if let Some((name, status)) = children.reap()?.into_iter().next() {
            bail!("{name} ended with {status} while starting; its log says:\n{}", children.log_tail(&name));
        }
        match part.is_ready(http, scheme).await {
            Ok(()) => return Ok(()),
            Err(why) => last.clone_from(&why),
        }
        if tokio::time::Instant::now() > limit {
            bail!(
                "{} does not serve after {} s ({last}); its log says:\n{}",
                part.name,
                START_LIMIT.as_secs(),
                children.log_tail(&part.name)
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Until it is time to stop: sees which parts end, and starts them again if that is wanted.
async fn watch(
    layout: &Layout,
    children: &mut Children,
    respawn: bool,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut child_ended = signal(SignalKind::child())?;
    loop {
        let start_what_is_down = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = hangup.recv() => true,
            _ = child_ended.recv() => false,
            () = tokio::time::sleep(Duration::from_secs(1)) => respawn,
        };
        for (name, status) in children.reap()? {
            let hint = if respawn { "it is started again" } else { "SIGHUP to this process starts it again" };
            eprintln!("trough dev: {name} ended with {status}; {hint} (log: {})", layout.log(&name).display());
        }
        if start_what_is_down {
            for part in layout.parts() {
                if children.is_running(&part.name) {
                    continue;
                }
                let started = part.check_ports().and_then(|()| children.spawn(part));
                match started {
                    Ok(()) => eprintln!("trough dev: {} is started again", part.name),
                    Err(e) if respawn => tracing::debug!(part = part.name, "cannot start: {e:#}"),
                    Err(e) => eprintln!("trough dev: {}: {e:#}", part.name),
                }
            }
        }
    }
}
