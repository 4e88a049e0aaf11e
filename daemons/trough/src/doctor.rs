//! `trough doctor`: checks a configuration and the cluster that it names, and says what is wrong and what to do.
//! Changes nothing.

use std::{path::Path, process::ExitCode, time::Duration};

use clap::Args;
use sha2::Digest as _;
use trough_config::{Role, Settings, keys, tokens};

use crate::cli::ConfigArg;

mod metadata;
mod rows;
mod segments;
mod store;
mod workers;

/// How long each part of the cluster may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Clocks further apart than this make heartbeats hard to read; nothing decides by them.
const CLOCK_LIMIT: f64 = 2.0;

/// The long help.
pub(crate) const LONG: &str = "\
Checks the settings, the metadata and the canonical store, and, if the metadata answers, the sync master, the workers, the \
segments, the service rows and this node's files. Says of each finding what to do. The exit status is 1 if something is wrong.";

/// Options of `trough doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Print all settings with their defaults and what they do, and end
    #[arg(long)]
    settings: bool,
    /// Look at every service row and assignment, however many there are
    #[arg(long)]
    all: bool,
}

/// The findings so far.
#[derive(Debug, Default)]
struct Report {
    failures: usize,
    warnings: usize,
}

impl Report {
    fn good(&self, what: impl std::fmt::Display) {
        println!("  ok    {what}");
    }

    fn warn(&mut self, what: impl std::fmt::Display, advice: impl std::fmt::Display) {
        self.warnings += 1;
        println!("  WARN  {what}\n        → {advice}");
    }

    fn fail(&mut self, what: impl std::fmt::Display, advice: impl std::fmt::Display) {
        self.failures += 1;
        println!("  FAIL  {what}\n        → {advice}");
    }

    fn end(&self) -> ExitCode {
        match (self.failures, self.warnings) {
            (0, 0) => println!("\nall is well"),
            (failures, warnings) => println!("\n{failures} wrong, {warnings} to look at"),
        }
        if self.failures > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// Runs the check-up.
///
/// # Errors
/// Only if it cannot run at all; findings are printed and make the exit status.
pub async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    if args.settings {
        list_settings();
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = Report::default();
    println!("settings");
    let settings = match args.config.load() {
        Ok(settings) => settings,
        Err(e) => {
            report.fail(format!("{e:#}"), "correct the setting; `trough doctor --settings` lists them all");
            return Ok(report.end());
        }
    };
    check_settings(&settings, &mut report);

    println!("metadata  {}", settings.rethinkdb_hosts.join(", "));
    let catalog = metadata::check(&settings, &mut report).await;

    println!("canonical store  {}", settings.store);
    store::check(&settings, &mut report).await;

    let Some(catalog) = catalog else {
        println!("sync master, workers, segments");
        println!("  –     not looked at: the metadata says where they are");
        return Ok(report.end());
    };
    let http = trough_http::peer_client(&settings)?;
    println!("sync master");
    let master = workers::check_master(&settings, &catalog, &http, &mut report).await;

    println!("workers");
    let nodes = match catalog.nodes().await {
        Ok(nodes) => nodes,
        Err(e) => {
            report.fail(format!("the nodes cannot be read: {e}"), "see the metadata above");
            Vec::new()
        }
    };
    let mut versions = workers::Versions::default();
    versions.note(master.as_ref().map(|document| ("the sync master", document)));
    workers::check(&settings, &nodes, &http, &mut versions, &mut report).await;
    versions.check(&mut report);

    println!("segments");
    if let Some(document) = &master {
        segments::check(document, &mut report);
    }
    segments::check_locks(&catalog, &nodes, &mut report).await;
    let count = master.as_ref().and_then(|document| document["cluster"]["summary"]["segments"].as_u64());
    if args.all || count.is_none_or(|count| count <= rows::FEW) {
        rows::check(&settings, &catalog, &nodes, &mut report).await;
    } else {
        println!("  –     rows of more than {} segments are looked at with --all", rows::FEW);
    }

    println!("files of this node");
    segments::check_files(&settings, &catalog, &nodes, &mut report).await;
    Ok(report.end())
}

/// What is wrong with the token that this node shows to others, as far as can be seen here.
fn own_token(settings: &Settings) -> Option<String> {
    if settings.tokens.is_empty() && settings.tokens_file.is_none() {
        return None;
    }
    let Some(token) = &settings.token else {
        return Some("there are tokens, but this node has none to show to others".to_owned());
    };
    let hash = sha2::Sha256::digest(token);
    let listed = settings.tokens_file.as_ref().and_then(|path| tokens::read_file(path).ok()).unwrap_or_default();
    match settings.tokens.iter().chain(&listed).find(|known| known.sha256 == hash[..]) {
        None => Some(
            "TOKEN is not among TOKENS and TOKENS_FILE: other nodes with the same tokens refuse this one".to_owned(),
        ),
        Some(known) if known.role < Role::Admin => Some(format!("TOKEN, '{}', has not the role admin", known.name)),
        Some(known) if known.segments.is_some() => Some(format!("TOKEN, '{}', is for some segments only", known.name)),
        Some(known) if known.expires.is_some_and(|end| end <= std::time::SystemTime::now()) => {
            Some(format!("TOKEN, '{}', has expired", known.name))
        }
        Some(_) => None,
    }
}

fn list_settings() {
    let width = keys::KEYS.iter().map(|k| k.name.len()).max().unwrap_or(0);
    for key in keys::KEYS {
        let default = if key.default.is_empty() { String::new() } else { format!(" [{}]", key.default) };
        println!("{:width$}  {}{default}", key.name, key.doc);
    }
}

fn check_settings(settings: &Settings, report: &mut Report) {
    report.good(format!("readable; this node is {}", settings.hostname));
    if !settings.listen.is_loopback() && settings.tls.is_none() {
        report.warn(
            format!("listeners on {} have no TLS: tokens and data travel in the clear", settings.listen),
            "set TLS_CERT and TLS_KEY, or keep the network private",
        );
    }
    if let Some(why) = own_token(settings) {
        report.fail(why, "set TOKEN to one with the role admin, for all segments and without an end that is near (`trough token new`)");
    }
    if settings.listen.is_loopback() && settings.rethinkdb_hosts.iter().any(|h| !is_local(h)) {
        report.warn(
            "this node listens on loopback only, so nobody else in the cluster reaches it",
            "set TOKENS (and LISTEN), so that it may listen on other addresses",
        );
    }
    if let Some(minimum) = settings.minimum_assignments.constant()
        && minimum < 2
    {
        report.warn(
            format!("MINIMUM_ASSIGNMENTS is {minimum}: a lost worker takes segments out of service until they are copied anew"),
            "set it to 2 or more",
        );
    }
    if settings.lease < settings.sync_loop_timing / 10 {
        report.warn(
            format!(
                "LEASE is {} s, short for a SYNC_LOOP_TIMING of {} s",
                settings.lease.as_secs_f64(),
                settings.sync_loop_timing.as_secs_f64()
            ),
            "a busy moment may count as a dead worker; 30 to 60 s suit most clusters",
        );
    }
    check_directory("LOCAL_DATA", &settings.local_data, report);
}

fn is_local(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn check_directory(setting: &str, path: &Path, report: &mut Report) {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() && !meta.permissions().readonly() => {
            report.good(format!("{setting} {}", path.display()))
        }
        Ok(meta) if meta.is_dir() => report.fail(
            format!("{setting} {} is read-only", path.display()),
            "give the daemon's user the right to write there",
        ),
        Ok(_) => report.fail(format!("{setting} {} is no directory", path.display()), "name a directory"),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            report.good(format!("{setting} {} does not exist yet; a worker makes it", path.display()));
        }
        Err(e) => report.fail(format!("{setting} {}: {e}", path.display()), "see that the daemon's user can reach it"),
    }
}
