//! The command line.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use trough_config::Settings;

use crate::{admin, dev, doctor, lifeline, shell};

const ABOUT: &str = "Keeps a very large set of small SQLite databases (segments) and answers SQL over any of them.";

const AFTER: &str = "\
Settings: the YAML file of --config, else the one that TROUGH_SETTINGS names, else /etc/trough/settings.yml; every \
setting KEY can be overridden by the environment variable TROUGH_KEY. `trough doctor --settings` lists them all.";

#[derive(Parser)]
#[command(name = "trough", version, about = ABOUT, after_help = AFTER, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All parts on loopback in one process tree, with a local directory as canonical store
    #[command(long_about = dev::LONG)]
    Dev(dev::DevArgs),
    /// The embedded metadata server: one node, durable, speaking RethinkDB's wire protocol
    Meta(MetaArgs),
    /// A sync server: election, listing, placement, the segment manager API and the status page
    Sync(SyncArgs),
    /// A worker: copies, serves, writes, promotes
    Worker(WorkerArgs),
    /// The interactive shell
    #[command(long_about = shell::LONG, override_usage = shell::USAGE)]
    Shell(shell::ShellArgs),
    /// What people do to a running cluster: drain, pause, throttle, scrub, plan, apply, backup, restore
    #[command(long_about = admin::LONG)]
    Admin(admin::AdminArgs),
    /// Checks a configuration and a running cluster, and says what is wrong and what to do
    #[command(long_about = doctor::LONG)]
    Doctor(doctor::DoctorArgs),
}

#[derive(Args)]
struct MetaArgs {
    /// Directory of the database; made if missing
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Address to serve on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:28015")]
    listen: SocketAddr,
    #[command(flatten)]
    child: ChildArgs,
}

#[derive(Args)]
struct SyncArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Print what a sync master would change now, and change nothing
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    child: ChildArgs,
}

#[derive(Args)]
struct WorkerArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Serve the cold tier: read-only, where the data lies (as RUN_AS_COLD_STORAGE_NODE: true)
    #[arg(long)]
    cold: bool,
    #[command(flatten)]
    child: ChildArgs,
}

/// The settings file.
#[derive(Args, Clone, Debug)]
pub struct ConfigArg {
    /// Settings file (YAML) [default: $TROUGH_SETTINGS, else /etc/trough/settings.yml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ConfigArg {
    /// Reads it, with the environment over it.
    ///
    /// # Errors
    /// If a setting is unknown or wrong; the text names it.
    pub fn load(&self) -> anyhow::Result<Settings> {
        Ok(Settings::load(self.config.as_deref())?)
    }
}

#[derive(Args)]
struct ChildArgs {
    /// Stop when standard input ends (how `trough dev` takes its parts with it, whatever ends it)
    #[arg(long, hide = true)]
    follow_stdin: bool,
}

/// Runs the program; `argv[0]` ending in `trough-shell` means `trough shell`.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let called = args.first().map(PathBuf::from).and_then(|p| Some(p.file_name()?.to_owned()));
    if called.is_some_and(|name| name == "trough-shell") {
        args.insert(1, "shell".into());
    }
    let cli = Cli::parse_from(args);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("trough: cannot start the runtime: {e}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(cli.command));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    match outcome {
        Ok(code) => code,
        Err(e) => {
            eprintln!("trough: {e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Dev(args) => dev::run(args).await.map(|()| ExitCode::SUCCESS),
        Command::Meta(args) => meta(args).await.map(|()| ExitCode::SUCCESS),
        Command::Sync(args) => sync(args).await.map(|()| ExitCode::SUCCESS),
        Command::Worker(args) => worker(args).await.map(|()| ExitCode::SUCCESS),
        Command::Shell(args) => shell::run(args).await,
        Command::Admin(args) => admin::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
    }
}

async fn meta(args: MetaArgs) -> anyhow::Result<()> {
    let level = std::env::var("TROUGH_LOG_LEVEL").unwrap_or_else(|_| "INFO".into());
    let json = std::env::var("TROUGH_LOG_FORMAT").is_ok_and(|f| f == "json");
    trough_http::init_logging(&level, json)?;
    let shutdown = lifeline::shutdown_token(args.child.follow_stdin)?;
    trough_meta::serve(trough_meta::MetaOptions::new(args.dir, args.listen), shutdown)
        .await
        .with_context(|| format!("metadata server on {} (--listen)", args.listen))
}

async fn sync(args: SyncArgs) -> anyhow::Result<()> {
    let settings = Arc::new(args.config.load()?);
    if args.plan {
        print!("{}", trough_sync::plan_only(settings).await?);
        return Ok(());
    }
    trough_http::init_logging(&settings.log_level, settings.log_json)?;
    let shutdown = lifeline::shutdown_token(args.child.follow_stdin)?;
    trough_sync::run(settings, shutdown, |_| {}).await
}

async fn worker(args: WorkerArgs) -> anyhow::Result<()> {
    let mut settings = args.config.load()?;
    settings.run_as_cold_storage_node |= args.cold;
    trough_http::init_logging(&settings.log_level, settings.log_json)?;
    let shutdown = lifeline::shutdown_token(args.child.follow_stdin)?;
    trough_worker::run(Arc::new(settings), shutdown, |_| {}).await
}
