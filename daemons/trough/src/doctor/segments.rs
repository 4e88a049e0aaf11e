//! Segments: copies, canonical files, locks, and the files that lie on this node.

use std::collections::{HashMap, HashSet};

use futures::StreamExt as _;
use serde_json::Value as Json;
use trough_client::{
    Catalog,
    catalog::{MAX_KEYS, NodeStatus},
};
use trough_config::Settings;
use trough_core::{NodeId, SegmentId};

use super::Report;

/// What the master saw of copies and canonical files.
pub(super) fn check(document: &Json, report: &mut Report) {
    let summary = &document["cluster"]["summary"];
    let count = |name: &str| summary[name].as_u64().unwrap_or(0);
    report.good(format!("{} in the store, {} served", count("segments"), document["segments_served"]));
    if let paused @ Json::Object(_) = &document["controls"]["paused"] {
        let reason = paused["reason"].as_str().map(|r| format!(" ({r})")).unwrap_or_default();
        report.warn(
            format!("placement is paused{reason}: nothing is assigned, moved or dropped"),
            "`trough admin resume`, when it is time",
        );
    }
    if count("unserved") > 0 {
        report.fail(
            format!(
                "{} are in the store and not served by anyone, as {}",
                count("unserved"),
                document["cluster"]["needy"][0]["segment"]
            ),
            "wait if workers are copying (the status page shows it); else see the workers above",
        );
    }
    if count("under_replicated") > count("unserved") {
        let first = &document["cluster"]["needy"][0];
        report.warn(
            format!(
                "{} have fewer live copies than wanted, as {}: {} of {}",
                count("under_replicated"),
                first["segment"],
                first["live"],
                first["wanted"]
            ),
            "they are copied as soon as enough workers are there; what fails is told with the workers above",
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

/// Locks whose holders are not there.
pub(super) async fn check_locks(catalog: &Catalog, nodes: &[NodeStatus], report: &mut Report) {
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

/// Files in LOCAL_DATA that nobody assigned here: of a worker that moved away, or that no record knows.
pub(super) async fn check_files(settings: &Settings, catalog: &Catalog, nodes: &[NodeStatus], report: &mut Report) {
    let found = match files(settings) {
        Ok(found) if found.is_empty() => return report.good("LOCAL_DATA holds no segments"),
        Ok(found) => found,
        Err(e) => return report.fail(format!("LOCAL_DATA cannot be listed: {e}"), "let this user read it"),
    };
    let judged = judge(&found, &settings.hostname, catalog).await;
    let (elsewhere, unknown) = match judged {
        Ok(judged) => judged,
        Err(e) => return report.fail(format!("the assignments cannot be read: {e}"), "see the metadata above"),
    };
    report.good(format!("{} segment files in LOCAL_DATA", found.len()));
    let dir = settings.local_data.display();
    if !nodes.iter().any(|n| n.alive && n.node() == Some(&settings.hostname)) {
        report.warn(
            format!("LOCAL_DATA holds segments, and no worker {} is there to serve them", settings.hostname),
            "start it, or correct HOSTNAME; remove the files only if `trough doctor` elsewhere says that all is well",
        );
    }
    if let Some(first) = elsewhere.first() {
        report.warn(
            format!(
                "{} files are left of copies that moved to other workers, as {dir}/{}",
                elsewhere.len(),
                first.file_name()
            ),
            "the worker here drops each once enough other copies are live; if they stay, see what keeps those",
        );
    }
    if let Some(first) = unknown.first() {
        report.fail(
            format!(
                "{} files are orphaned: no assignment and no write lock knows them, as {dir}/{}",
                unknown.len(),
                first.file_name()
            ),
            "if they are wanted, provision and promote them while this worker runs; else move them away",
        );
    }
}

fn files(settings: &Settings) -> std::io::Result<Vec<SegmentId>> {
    let entries = match std::fs::read_dir(&settings.local_data) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|n| n.strip_suffix(".sqlite")).and_then(|id| SegmentId::new(id).ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Of the files here, those that are assigned to others only, and those that no record knows.
async fn judge(
    found: &[SegmentId],
    me: &NodeId,
    catalog: &Catalog,
) -> trough_client::catalog::Result<(Vec<SegmentId>, Vec<SegmentId>)> {
    let (mut elsewhere, mut unknown) = (Vec::new(), Vec::new());
    for batch in found.chunks(MAX_KEYS) {
        let mut here: HashSet<SegmentId> = HashSet::new();
        let mut anywhere: HashSet<SegmentId> = HashSet::new();
        for assignment in catalog.assignments_of_segments(batch).await? {
            if assignment.node == *me {
                here.insert(assignment.segment.clone());
            }
            anywhere.insert(assignment.segment);
        }
        here.extend(catalog.locks_of_segments(batch).await?.into_iter().map(|lock| lock.segment));
        for segment in batch.iter().filter(|segment| !here.contains(*segment)) {
            let list = if anywhere.contains(segment) { &mut elsewhere } else { &mut unknown };
            list.push(segment.clone());
        }
    }
    Ok((elsewhere, unknown))
}
