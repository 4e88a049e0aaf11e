//! `trough doctor`: checks a configuration and the cluster that it names, and says what is wrong and what to do.
//! Changes nothing.

use std::{
    collections::HashMap,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use futures::StreamExt as _;
use serde_json::Value as Json;
use trough_client::{Catalog, catalog::NodeStatus};
use trough_config::{Settings, keys};
use trough_core::NodeId;

use crate::cli::ConfigArg;

mod store;

/// How long each part of the cluster may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Clocks further apart than this make heartbeats hard to read; nothing decides by them.
const CLOCK_LIMIT: f64 = 2.0;

/// The long help.
pub(crate) const LONG: &str = "\
Checks the settings, then the metadata, the canonical store, the sync master, the workers and the segments, in this \
order, since each needs the ones before. Says what is wrong and what to do. The exit status is 1 if something is wrong.";

/// Options of `trough doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Print all settings with their defaults and what they do, and end
    #[arg(long)]
    settings: bool,
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
    let Some(catalog) = check_metadata(&settings, &mut report).await else { return Ok(report.end()) };

    println!("canonical store  {}", settings.store);
    store::check(&settings, &mut report).await;

    let http = trough_http::peer_client(&settings)?;
    println!("sync master");
    let cluster = check_master(&catalog, &http, &mut report).await;

    println!("workers");
    let nodes = match catalog.nodes().await {
        Ok(nodes) => nodes,
        Err(e) => {
            report.fail(format!("the nodes cannot be read: {e}"), "see the metadata above");
            Vec::new()
        }
    };
    check_workers(&settings, &nodes, &http, &mut report).await;

    println!("segments");
    if let Some(cluster) = cluster {
        check_segments(&cluster, &mut report);
    }
    check_locks(&catalog, &nodes, &mut report).await;
    Ok(report.end())
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

async fn check_metadata(settings: &Settings, report: &mut Report) -> Option<Catalog> {
    let options = match trough_reql::Options::from_url(&settings.rethinkdb_url()) {
        Ok(options) => options,
        Err(e) => {
            report.fail(format!("RETHINKDB_*: {e}"), "correct RETHINKDB_HOSTS and its companions");
            return None;
        }
    };
    let catalog = Catalog::new(trough_reql::Client::new(options));
    let asked = Instant::now();
    let advice =
        "see that RethinkDB (or `trough meta`) runs and that RETHINKDB_HOSTS, _USER, _PASSWORD and _TLS fit it";
    match tokio::time::timeout(ANSWER_LIMIT, catalog.server_now()).await {
        Ok(Ok(now)) => {
            let here =
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
            report.good(format!("answers in {:.1} ms", asked.elapsed().as_secs_f64() * 1000.0));
            if (now - here).abs() > CLOCK_LIMIT {
                report.warn(
                    format!("its clock is {:.1} s apart from this machine's", now - here),
                    "let NTP set both; nothing is decided by this machine's clock, but times will confuse people",
                );
            }
        }
        Ok(Err(e)) => {
            report.fail(e, advice);
            return None;
        }
        Err(_) => {
            report.fail(format!("no answer within {} s", ANSWER_LIMIT.as_secs()), advice);
            return None;
        }
    }
    match catalog.schemas().await {
        Ok(schemas) => report.good(format!("{} schemas", schemas.len())),
        Err(e) => {
            report.fail(
                format!("the tables of {} cannot be read: {e}", settings.rethinkdb_database),
                "start a sync server: it makes them",
            );
            return None;
        }
    }
    Some(catalog)
}

async fn get_json(http: &reqwest::Client, url: String) -> Result<Json, String> {
    let answer = http.get(&url).timeout(ANSWER_LIMIT).send().await.map_err(|e| format!("{url}: {e}"))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("{url} answers {status}: {}", answer.text().await.unwrap_or_default().trim()));
    }
    answer.json().await.map_err(|e| format!("{url}: {e}"))
}

async fn check_master(catalog: &Catalog, http: &reqwest::Client, report: &mut Report) -> Option<Json> {
    let master = match catalog.master().await {
        Ok(Some((master, true))) => master,
        Ok(Some((master, false))) => {
            report.fail(
                format!("{} was master, but its tenure has ended and nobody followed", master.url),
                "start `trough sync` on some host",
            );
            return None;
        }
        Ok(None) => {
            report.fail("nobody is master", "start `trough sync` on some host");
            return None;
        }
        Err(e) => {
            report.fail(e, "see the metadata above");
            return None;
        }
    };
    if master.holder.is_none() {
        report.warn(
            format!("{} is a Python sync master", master.url),
            "Python and Rust sync servers are never mixed: stop all of the one kind before starting the other",
        );
        return None;
    }
    match get_json(http, format!("{}/v1/cluster", master.url.trim_end_matches('/'))).await {
        Ok(document) => {
            report.good(format!("{} with epoch {}", master.url, document["cluster"]["epoch"]));
            if let Some(error) = document["cluster"]["error"].as_str() {
                report.fail(format!("its last reconciliation failed: {error}"), "see its log");
            }
            Some(document)
        }
        Err(e) => {
            report.fail(e, "see that its SYNC_SERVER_PORT can be reached from here, and that TOKEN is known to it");
            None
        }
    }
}

async fn check_workers(settings: &Settings, nodes: &[NodeStatus], http: &reqwest::Client, report: &mut Report) {
    let hot_alive = nodes.iter().filter(|n| n.alive && n.service.cold_storage != Some(true)).count();
    if hot_alive == 0 {
        report.fail("no hot worker is alive", "start `trough worker` on some host");
    } else if let Some(minimum) = settings.minimum_assignments.constant()
        && (hot_alive as u32) < minimum
    {
        report.warn(
            format!("{hot_alive} hot workers cannot hold {minimum} copies (MINIMUM_ASSIGNMENTS) of a segment"),
            "start more workers",
        );
    }
    for status in nodes {
        let Some(node) = status.node() else { continue };
        if !status.alive {
            report.fail(
                format!("worker {node}: last heartbeat {:.0} s ago, its lease has ended", status.age_seconds),
                format!(
                    "start it again, or let its segments be placed elsewhere (MOVE_GRACE, {} s)",
                    settings.move_grace.as_secs()
                ),
            );
            continue;
        }
        let Some(base) = &status.service.manage_url else {
            report.good(format!("worker {node}: alive (a Python worker)"));
            continue;
        };
        match get_json(http, format!("{}/status", base.trim_end_matches('/'))).await {
            Ok(document) => check_worker(node, status, &document, report),
            Err(e) => report.fail(
                format!("worker {node}: its heartbeats come, but {e}"),
                "see that its ports can be reached from here (EXTERNAL_IP, LISTEN, firewall), and that TOKEN is known to it",
            ),
        }
    }
}

fn check_worker(node: &NodeId, status: &NodeStatus, document: &Json, report: &mut Report) {
    let count = |pointer: &str| document.pointer(pointer).and_then(|v| v.as_u64()).unwrap_or(0);
    report.good(format!(
        "worker {node}: {} segments, {} of {}",
        count("/segments"),
        trough_sync::view::human_bytes(count("/bytes")),
        trough_sync::view::human_bytes(status.service.available_bytes.unwrap_or(0)),
    ));
    if status.service.available_bytes.is_some_and(|capacity| count("/bytes") > capacity / 100 * 95) {
        report
            .warn(format!("worker {node} is nearly full"), "add workers, or raise STORAGE_IN_BYTES if the disk allows");
    }
    let list = |pointer: &str| document.pointer(pointer).and_then(|v| v.as_array()).cloned().unwrap_or_default();
    for (pointer, what, advice) in [
        (
            "/copies/failed",
            "cannot copy",
            "it is tried again; if it is the canonical file that is broken, promote or restore it",
        ),
        ("/broken", "has a broken copy of", "it is fetched anew from the canonical store; check that disk"),
    ] {
        let entries = list(pointer);
        if let Some(first) = entries.first() {
            report.fail(
                format!("worker {node} {what} {} segments, as {}: {}", entries.len(), first["segment"], first["error"]),
                advice,
            );
        }
    }
}

fn check_segments(document: &Json, report: &mut Report) {
    let summary = &document["cluster"]["summary"];
    let count = |name: &str| summary[name].as_u64().unwrap_or(0);
    report.good(format!("{} in the store, {} served", count("segments"), document["segments_served"]));
    if count("unserved") > 0 {
        report.fail(
            format!("{} are in the store and not served by anyone", count("unserved")),
            "wait if workers are copying (the status page shows it); else see the workers above",
        );
    }
    if count("under_replicated") > count("unserved") {
        report.warn(
            format!("{} have fewer live copies than wanted", count("under_replicated")),
            "they are copied as soon as enough workers are there",
        );
    }
    let missing = document["cluster"]["missing_count"].as_u64().unwrap_or(0);
    if missing > 0 {
        report.fail(
            format!("{missing} have copies but no canonical file, as {}", document["cluster"]["missing"][0]),
            "nothing is deleted; put the files back, or provision and promote these segments, or shred them",
        );
    }
}

async fn check_locks(catalog: &Catalog, nodes: &[NodeStatus], report: &mut Report) {
    let alive: HashMap<&NodeId, bool> = nodes.iter().filter_map(|n| Some((n.node()?, n.alive))).collect();
    let mut locks = match catalog.locks().await {
        Ok(locks) => locks,
        Err(e) => return report.fail(format!("the locks cannot be read: {e}"), "see the metadata above"),
    };
    let (mut held, mut orphaned) = (0u64, Vec::new());
    while let Some(lock) = locks.next().await {
        match lock {
            Ok(lock) => {
                held += 1;
                if alive.get(&lock.node) != Some(&true) {
                    orphaned.push(lock);
                }
            }
            Err(e) => return report.fail(format!("the locks cannot be read: {e}"), "see the metadata above"),
        }
    }
    report.good(format!("{held} are write-locked"));
    if let Some(first) = orphaned.first() {
        report.fail(
            format!(
                "{} are locked by workers that are not there, as {} by {}",
                orphaned.len(),
                first.segment,
                first.node
            ),
            "start that worker again: what was written and not promoted lies on its disk alone",
        );
    }
}
