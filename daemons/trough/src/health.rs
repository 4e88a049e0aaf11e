//! `trough health`: whether a daemon of this host is ready, as an exit status: what containers and load balancers ask.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use trough_config::Settings;
use trough_reql::r;

use crate::cli::ConfigArg;

/// How long a daemon may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// The long help.
pub(crate) const LONG: &str = "\
Asks a daemon of this host whether it is ready (its /readyz), by the ports, names and TLS files of the settings, and prints what it says. \
The exit status is 0 if it is, and 1 if not.";

/// Options of `trough health`.
#[derive(Args, Debug)]
pub struct HealthArgs {
    /// Which one [default: whichever of worker and sync server listens here]
    #[arg(value_enum)]
    part: Option<Part>,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The worker: READ_PORT
    Worker,
    /// The sync server: SYNC_SERVER_PORT
    Sync,
    /// The metadata server: the first of RETHINKDB_HOSTS that answers
    Meta,
}

/// Asks once.
///
/// # Errors
/// If the settings are wrong; a daemon that is not ready is an exit status.
pub async fn run(args: HealthArgs) -> anyhow::Result<ExitCode> {
    let settings = args.config.load()?;
    let parts = match args.part {
        Some(part) => vec![part],
        None => vec![Part::Worker, Part::Sync],
    };
    let mut unheard = Vec::new();
    for part in parts {
        match tokio::time::timeout(LIMIT, ask(part, &settings)).await {
            Ok(Ok(Answer { ready, text })) => {
                print!("{text}");
                return Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            Ok(Err(error)) => unheard.push(format!("{error:#}")),
            Err(_) => unheard.push(format!("{part:?}: no answer within {} s", LIMIT.as_secs())),
        }
    }
    println!("not ready: {}", unheard.join("; "));
    Ok(ExitCode::FAILURE)
}

struct Answer {
    ready: bool,
    text: String,
}

async fn ask(part: Part, settings: &Settings) -> anyhow::Result<Answer> {
    let port = match part {
        Part::Worker => settings.read_port,
        Part::Sync => settings.sync_server_port,
        Part::Meta => {
            let options = trough_reql::Options::from_url(&settings.rethinkdb_url()).context("RETHINKDB_HOSTS")?;
            trough_reql::Client::new(options).run(&r::expr(1)).await.context("the metadata")?;
            return Ok(Answer { ready: true, text: "ready\n".into() });
        }
    };
    let url = format!("{}readyz", settings.base_url(port));
    let answer = trough_http::peer_client(settings)?.get(&url).send().await.with_context(|| format!("GET {url}"))?;
    let ready = answer.status().is_success();
    let text = answer.text().await.with_context(|| format!("read the answer of {url}"))?;
    Ok(Answer { ready, text })
}
