//! Service rows against leases, locks and assignments: rows that say what is not so, and copies that are old.

use std::collections::{HashMap, HashSet};

use futures::StreamExt as _;
use trough_client::{
    Catalog,
    catalog::{CatalogError, NodeStatus},
};
use trough_config::Settings;
use trough_core::{
    NodeId, SegmentId,
    records::{ROLE_READ, ROLE_WRITE, ROW_TTL_FOREVER, Service},
};

use super::Report;

/// Segments whose rows are looked at without being asked to: a look at all costs memory for each.
pub(super) const FEW: u64 = 2_000_000;

/// What is wrong with the rows.
#[derive(Debug, Default, PartialEq)]
struct Found {
    rows: u64,
    /// Rows of nodes whose lease has ended, or that have none.
    dead: Vec<String>,
    /// Rows that nobody renews any more although their node lives.
    lapsed: Vec<String>,
    /// `trough-write` rows without a lock of that node.
    unlocked: Vec<String>,
    /// Copies of an older version than the canonical one.
    old: Vec<String>,
}

/// What rows are held against.
#[derive(Debug, Default)]
struct Known {
    alive: HashSet<NodeId>,
    locks: HashMap<SegmentId, NodeId>,
    /// The canonical copies' times in milliseconds.
    canonical: HashMap<SegmentId, i64>,
}

impl Found {
    fn judge(&mut self, row: &Service, known: &Known, now: f64) {
        let (Some(role), Some(node), Some(segment)) = (row.role.as_deref(), &row.node, &row.segment) else { return };
        self.rows += 1;
        let lapsed =
            row.ttl < ROW_TTL_FOREVER && row.last_heartbeat.as_ref().is_none_or(|at| now - at.epoch_time >= row.ttl);
        let locked = known.locks.get(segment);
        if !known.alive.contains(node) {
            self.dead.push(row.id.clone());
        } else if lapsed {
            self.lapsed.push(row.id.clone());
        } else if role == ROLE_WRITE && locked != Some(node) {
            self.unlocked.push(row.id.clone());
        } else if role == ROLE_READ
            && locked.is_none()
            && let Some(has) = row.version_ms
            && known.canonical.get(segment).is_some_and(|wanted| has < *wanted)
        {
            self.old.push(row.id.clone());
        }
    }
}

pub(super) async fn check(settings: &Settings, catalog: &Catalog, nodes: &[NodeStatus], report: &mut Report) {
    let found = match look(catalog, nodes).await {
        Ok(found) => found,
        Err(e) => return report.fail(format!("the service rows cannot be read: {e}"), "see the metadata above"),
    };
    report.good(format!("{} service rows", found.rows));
    let cycle = settings.sync_loop_timing.as_secs_f64();
    for (ids, what, advice) in [
        (
            &found.dead,
            "stale service rows name workers that are not there",
            "a sync master of ours deletes them seconds after a lease has ended: see the sync master above; under a Python one, \
             delete them once the worker is gone for good"
                .to_owned(),
        ),
        (
            &found.lapsed,
            "service rows are not renewed although their worker lives",
            "nobody reads them any more; if that worker has just moved over, they vanish by themselves, else see its log".to_owned(),
        ),
        (
            &found.unlocked,
            "trough-write rows have no write lock behind them",
            "writes to them fail; the row goes with the segment's next provisioning, or delete it".to_owned(),
        ),
        (
            &found.old,
            "copies are stale: older than the canonical file",
            format!("they are replaced within SYNC_LOOP_TIMING ({cycle:.0} s); if they stay, that worker cannot copy: see above"),
        ),
    ] {
        if let Some(first) = ids.first() {
            report.warn(format!("{} {what}, as {first}", ids.len()), advice);
        }
    }
}

async fn look(catalog: &Catalog, nodes: &[NodeStatus]) -> Result<Found, CatalogError> {
    let mut known = Known {
        alive: nodes.iter().filter(|n| n.alive).filter_map(|n| n.node().cloned()).collect(),
        ..Known::default()
    };
    let mut locks = catalog.locks().await?;
    while let Some(lock) = locks.next().await {
        let lock = lock?;
        known.locks.insert(lock.segment, lock.node);
    }
    let mut assignments = catalog.all_assignments().await?;
    while let Some(assignment) = assignments.next().await {
        let assignment = assignment?;
        if let Some(time) = assignment.mtime_ms {
            let newest = known.canonical.entry(assignment.segment).or_insert(time);
            *newest = time.max(*newest);
        }
    }
    let now = catalog.server_now().await?;
    let mut found = Found::default();
    let mut rows = catalog.all_services().await?;
    while let Some(row) = rows.next().await {
        found.judge(&row?, &known, now);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use trough_core::records::Time;

    use super::*;

    #[test]
    fn rows_are_held_against_leases_locks_and_versions() {
        let node = |name: &str| NodeId::new(name).expect("valid");
        let segment = |id: &str| SegmentId::new(id).expect("valid");
        let known = Known {
            alive: HashSet::from([node("a"), node("b")]),
            locks: HashMap::from([(segment("locked"), node("a"))]),
            canonical: HashMap::from([(segment("s"), 10), (segment("locked"), 10)]),
        };
        let row = |role: &str, name: &str, id: &str, ttl: f64, version_ms: Option<i64>| Service {
            id: format!("{role}:{name}:{id}"),
            role: Some(role.to_owned()),
            node: Some(node(name)),
            segment: Some(segment(id)),
            ttl,
            version_ms,
            last_heartbeat: Some(Time::from_epoch(100.0)),
            ..Service::default()
        };
        let mut found = Found::default();
        for row in [
            row(ROLE_READ, "a", "s", ROW_TTL_FOREVER, Some(10)),
            row(ROLE_READ, "b", "s", ROW_TTL_FOREVER, Some(9)),
            row(ROLE_READ, "b", "s2", 60.0, None),
            row(ROLE_READ, "b", "s3", 5.0, None),
            row(ROLE_READ, "gone", "s", ROW_TTL_FOREVER, Some(10)),
            row(ROLE_READ, "a", "locked", ROW_TTL_FOREVER, Some(0)),
            row(ROLE_WRITE, "a", "locked", ROW_TTL_FOREVER, None),
            row(ROLE_WRITE, "b", "locked", ROW_TTL_FOREVER, None),
            Service { id: "trough-nodes:a:None".into(), node: Some(node("a")), ..Service::default() },
        ] {
            found.judge(&row, &known, 110.0);
        }
        let expected = Found {
            rows: 8,
            dead: vec!["trough-read:gone:s".into()],
            lapsed: vec!["trough-read:b:s3".into()],
            unlocked: vec!["trough-write:b:locked".into()],
            old: vec!["trough-read:b:s".into()],
        };
        assert_eq!(found, expected);
    }
}
