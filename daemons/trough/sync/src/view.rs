//! What the last reconciliation saw and did, for the status page, `/status` and `--plan`.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;
use trough_client::catalog::NodeStatus;
use trough_core::{NodeId, SegmentId, protocol::FIRST_PROTOCOL};

use crate::{
    model::{Model, Ring},
    plan::{Desired, Plan, Presence, Summary, WorkerView},
    reconciler::Applied,
};

/// How many segments in need the view names; the summary counts all.
pub const NAMED: usize = 200;

/// A worker, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkerLine {
    /// Its name.
    pub node: NodeId,
    /// `hot` or `cold`.
    pub tier: &'static str,
    /// `alive`, `grace` or `gone`.
    pub presence: &'static str,
    /// Whether it is being emptied.
    pub draining: bool,
    /// Whether it is about to end.
    pub stopping: bool,
    /// The protocol that it speaks.
    pub protocol: u32,
    /// The program's version, where it says so.
    pub version: Option<String>,
    /// Its failure domain.
    pub zone: Option<String>,
    /// Seconds since its last heartbeat.
    pub heartbeat_age: f64,
    /// Seconds that its lease runs.
    pub ttl: f64,
    /// Load average per core.
    pub load: f64,
    /// Bytes it may hold.
    pub capacity: u64,
    /// Bytes it says that it holds.
    pub used: Option<u64>,
    /// Segments it says that it holds.
    pub segments: Option<u64>,
    /// Copies it says are waiting or under way.
    pub copying: Option<u64>,
    /// Copies assigned to it.
    pub assigned: u64,
    /// Their bytes.
    pub assigned_bytes: u64,
    /// Bytes that the placement gives it, by ring.
    pub ring_bytes: BTreeMap<String, u64>,
    /// Copies that the placement gives it.
    pub wanted: u64,
    /// Base URL of its read port.
    pub read_url: Option<String>,
    /// Base URL of its segment manager.
    pub manage_url: Option<String>,
}

/// A segment with fewer live copies than wanted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Needy {
    /// Its id.
    pub segment: SegmentId,
    /// Live copies.
    pub live: usize,
    /// Wanted copies.
    pub wanted: usize,
}

/// The cluster as a master last saw it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClusterView {
    /// The master's epoch; 0: none of this has been seen yet.
    pub epoch: u64,
    /// The plan's generation.
    pub generation: u64,
    /// When, by the metadata's clock, in seconds since 1970.
    pub at: f64,
    /// How long the reconciliation took.
    pub took_ms: u64,
    /// Totals.
    pub summary: Summary,
    /// The workers by name.
    pub workers: Vec<WorkerLine>,
    /// Some of the segments with too few live copies, worst first.
    pub needy: Vec<Needy>,
    /// Segments that have assignments but were not in the last listing, some of them.
    pub missing: Vec<SegmentId>,
    /// How many of those there are.
    pub missing_count: u64,
    /// The plan that an operator has applied last, since this master began.
    pub applying: Option<Applied>,
    /// What stopped the last reconciliation, if something did.
    pub error: Option<String>,
}

/// Per worker: what is assigned, what is wanted.
pub(crate) fn worker_lines(
    model: &Model,
    workers: &[WorkerView],
    desired: &Desired,
    nodes: &[NodeStatus],
) -> Vec<WorkerLine> {
    let count = model.nodes.len();
    let (mut assigned, mut assigned_bytes, mut wanted) = (vec![0u64; count], vec![0u64; count], vec![0u64; count]);
    let mut rings: Vec<BTreeMap<Ring, u64>> = vec![BTreeMap::new(); count];
    for ix in model.segments() {
        for row in model.rows(ix) {
            assigned[usize::from(row.node)] += 1;
            assigned_bytes[usize::from(row.node)] += row.bytes;
        }
        let Some(canonical) = model.canonical(ix) else { continue };
        for (node, ring) in desired.of(ix) {
            wanted[usize::from(node)] += 1;
            *rings[usize::from(node)].entry(ring).or_default() += canonical.bytes;
        }
    }
    let mut lines: Vec<WorkerLine> = workers
        .iter()
        .map(|w| {
            let at = usize::from(w.node);
            let name = model.nodes.name(w.node);
            let status = nodes.iter().find(|n| n.node() == Some(name));
            let service = status.map(|s| &s.service);
            WorkerLine {
                node: name.clone(),
                tier: if w.cold { "cold" } else { "hot" },
                presence: match w.presence {
                    Presence::Alive => "alive",
                    Presence::Grace => "grace",
                    Presence::Gone => "gone",
                },
                draining: w.draining,
                stopping: service.is_some_and(|s| s.stopping),
                protocol: service.map_or(FIRST_PROTOCOL, |s| s.speaks()),
                version: service.and_then(|s| s.version.clone()),
                zone: w.zone.clone(),
                heartbeat_age: status.map_or(f64::MAX, |s| s.age_seconds),
                ttl: service.map_or(0.0, |s| s.ttl),
                load: service.map_or(0.0, |s| s.load),
                capacity: w.weight,
                used: service.and_then(|s| s.used_bytes),
                segments: service.and_then(|s| s.segments),
                copying: service.and_then(|s| s.copying),
                assigned: assigned[at],
                assigned_bytes: assigned_bytes[at],
                ring_bytes: rings[at]
                    .iter()
                    .map(|(ring, bytes)| match ring {
                        Ring::Hot(n) => (format!("ring {n}"), *bytes),
                        Ring::Cold => ("cold".to_owned(), *bytes),
                    })
                    .collect(),
                wanted: wanted[at],
                read_url: service.and_then(|s| s.read_url.clone()),
                manage_url: service.and_then(|s| s.manage_url.clone()),
            }
        })
        .collect();
    lines.sort_by(|a, b| (a.tier == "cold", &a.node).cmp(&(b.tier == "cold", &b.node)));
    lines
}

/// The segments with too few live copies, worst first.
pub(crate) fn needy(model: &Model, workers: &[WorkerView], desired: &Desired) -> Vec<Needy> {
    let mut there = vec![false; model.nodes.len()];
    for worker in workers {
        there[usize::from(worker.node)] = worker.presence == Presence::Alive;
    }
    let mut all: Vec<Needy> = model
        .segments()
        .filter(|ix| model.canonical(*ix).is_some())
        .filter_map(|ix| {
            let wanted = desired.of(ix).count().max(1);
            let live = model.rows(ix).iter().filter(|r| r.live && there[usize::from(r.node)]).count();
            (live < wanted).then(|| Needy { segment: model.id(ix).clone(), live, wanted })
        })
        .collect();
    all.sort_by(|a, b| (a.live, &a.segment).cmp(&(b.live, &b.segment)));
    all.truncate(NAMED);
    all
}

/// `1.5 GiB` for people.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// What `trough sync --plan` prints.
pub(crate) fn plan_text(model: &Model, plan: &Plan, workers: &[WorkerLine]) -> String {
    let mut text = String::new();
    let s = &plan.summary;
    let line = |text: String, out: &mut String| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    let mut change: BTreeMap<&NodeId, (u64, u64, u64)> = BTreeMap::new();
    for put in plan.puts.iter().filter(|p| matches!(p.why, crate::plan::Why::Repair | crate::plan::Why::Move)) {
        let entry = change.entry(model.nodes.name(put.row.node)).or_default();
        entry.0 += 1;
        entry.1 += put.row.bytes;
    }
    for drop in &plan.drops {
        change.entry(model.nodes.name(drop.node)).or_default().2 += 1;
    }
    let width = workers.iter().map(|w| w.node.as_str().chars().count()).max().unwrap_or(0).max("worker".len());
    line(
        format!(
            "{:width$}  {:4}  {:8}  {:>9}  {:>11}  {:>9}  {:>8}  {:>11}  {:>8}",
            "worker", "tier", "state", "assigned", "bytes", "wanted", "+copies", "+bytes", "-copies"
        ),
        &mut text,
    );
    for w in workers {
        let (add, add_bytes, dropped) = change.get(&w.node).copied().unwrap_or_default();
        let state = if w.draining { "draining" } else { w.presence };
        line(
            format!(
                "{:width$}  {:4}  {state:8}  {:>9}  {:>11}  {:>9}  {:>8}  {:>11}  {:>8}",
                w.node.as_str(),
                w.tier,
                w.assigned,
                human_bytes(w.assigned_bytes),
                w.wanted,
                add,
                human_bytes(add_bytes),
                dropped
            ),
            &mut text,
        );
    }
    let _ = write!(
        text,
        "\n{} segments of {} in the store, {} cold; {} under-replicated, {} without a live copy\n\
         would add {} copies of {} where there are too few, move {} of {}, bring {} records up to date, drop {}\n\
         would hold back {} additions of {} (throttled) and {} drops (until enough other copies are live)\n\
         {} copies of {} are under way\n",
        s.segments,
        human_bytes(s.bytes),
        s.cold,
        s.under_replicated,
        s.unserved,
        s.repairs,
        human_bytes(s.repair_bytes),
        s.moves,
        human_bytes(s.move_bytes),
        s.refreshes,
        s.drops,
        s.deferred,
        human_bytes(s.deferred_bytes),
        s.waiting_drops,
        s.in_flight,
        human_bytes(s.in_flight_bytes),
    );
    text.push_str("nothing was changed\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_people() {
        assert_eq!(human_bytes(0), "0 B");
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1536), "1.5 KiB");
        assert_eq!(human_bytes(5 << 40), "5.0 TiB");
    }
}
