//! The sync master and the workers: reachable, their clocks, versions, leases, and what they say is wrong.

use std::{collections::BTreeMap, time::SystemTime};

use reqwest::header::DATE;
use serde_json::Value as Json;
use trough_client::{Catalog, catalog::NodeStatus};
use trough_config::{Heartbeat, Settings};
use trough_core::{
    NodeId,
    protocol::{FIRST_PROTOCOL, PROTOCOL},
};

use super::{ANSWER_LIMIT, CLOCK_LIMIT, Report};

/// The part of its lease after which a worker should have renewed it: it does at a third, and tries again.
const LATE: f64 = 0.7;

/// The versions that were met, each with the first part that has it.
#[derive(Debug, Default)]
pub(super) struct Versions {
    by_version: BTreeMap<String, Vec<String>>,
}

impl Versions {
    /// Notes the version that a part's status names.
    pub(super) fn note(&mut self, part: Option<(&str, &Json)>) {
        if let Some((name, document)) = part
            && let Some(version) = document["version"].as_str()
        {
            let protocol = document["protocol"].as_u64().unwrap_or(u64::from(FIRST_PROTOCOL));
            self.by_version.entry(named(version, protocol)).or_default().push(name.to_owned());
        }
    }

    pub(super) fn check(&self, report: &mut Report) {
        let with_parts = |(version, parts): (&String, &Vec<String>)| match parts.as_slice() {
            [only] => format!("{version} ({only})"),
            [first, rest @ ..] => format!("{version} ({first} and {} more)", rest.len()),
            [] => version.clone(),
        };
        let all: Vec<String> = self.by_version.iter().map(with_parts).collect();
        if self.by_version.len() > 1 {
            report.warn(
                format!("different versions are at work: {}", all.join(", ")),
                "finish the upgrade: first the workers, then the sync servers",
            );
        }
        let own = named(env!("CARGO_PKG_VERSION"), PROTOCOL.into());
        if self.by_version.len() == 1 && !self.by_version.contains_key(&own) {
            report.warn(
                format!("this doctor is of version {own}, the cluster of {}", all.join("")),
                "use the doctor of the cluster's version",
            );
        }
    }
}

fn named(version: &str, protocol: u64) -> String {
    format!("{version} protocol {protocol}")
}

/// The document, and by how many seconds the clock of whoever answered is ahead of this machine's.
async fn get_json(http: &reqwest::Client, url: String) -> Result<(Json, f64), String> {
    let answer = http.get(&url).timeout(ANSWER_LIMIT).send().await.map_err(|e| format!("{url}: {e}"))?;
    let here = SystemTime::now();
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("{url} answers {status}: {}", answer.text().await.unwrap_or_default().trim()));
    }
    let date = answer.headers().get(DATE).and_then(|v| v.to_str().ok()).and_then(|v| httpdate::parse_http_date(v).ok());
    let ahead = date.map_or(0.0, |there| match there.duration_since(here) {
        Ok(ahead) => ahead.as_secs_f64(),
        // It counts whole seconds.
        Err(behind) => -(behind.duration().as_secs_f64() - 1.0).max(0.0),
    });
    Ok((answer.json().await.map_err(|e| format!("{url}: {e}"))?, ahead))
}

fn check_clock(who: &str, ahead: f64, report: &mut Report) {
    if ahead.abs() > CLOCK_LIMIT {
        report.warn(
            format!("the clock of {who} is {ahead:.0} s apart from this machine's"),
            "let NTP set it; nothing is decided by it, but the times of files and logs will confuse people",
        );
    }
}

/// Who is master, and what it saw last: its document, if it is one of ours and answers.
pub(super) async fn check_master(
    settings: &Settings,
    catalog: &Catalog,
    http: &reqwest::Client,
    report: &mut Report,
) -> Option<Json> {
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
            "fine while only workers have moved (docs/MIGRATION.md); Python and Rust sync servers are never mixed: stop all \
             of the one kind before starting the other",
        );
        if settings.heartbeat == Heartbeat::Node {
            report.warn(
                "HEARTBEAT is node, and a Python sync master removes no rows of a worker that died",
                "set HEARTBEAT: segment for every worker until the sync servers have moved",
            );
        }
        return None;
    }
    match get_json(http, format!("{}/v1/cluster", master.url.trim_end_matches('/'))).await {
        Ok((document, ahead)) => {
            check_clock("the sync master", ahead, report);
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

/// Each worker's lease, and what it says of itself.
pub(super) async fn check(
    settings: &Settings,
    nodes: &[NodeStatus],
    http: &reqwest::Client,
    versions: &mut Versions,
    report: &mut Report,
) {
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
        let ttl = status.service.ttl;
        if status.age_seconds > ttl * LATE {
            report.warn(
                format!("worker {node} renews late: {:.0} s ago, and its lease is {ttl:.0} s", status.age_seconds),
                "see its log and its load, and the metadata's; a lease that ends takes its segments out of service",
            );
        }
        let Some(base) = &status.service.manage_url else {
            report.good(format!("worker {node}: alive (a Python worker)"));
            continue;
        };
        match get_json(http, format!("{}/status", base.trim_end_matches('/'))).await {
            Ok((document, ahead)) => {
                check_clock(&format!("worker {node}"), ahead, report);
                versions.note(Some((node.as_str(), &document)));
                check_worker(node, status, &document, report);
            }
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
