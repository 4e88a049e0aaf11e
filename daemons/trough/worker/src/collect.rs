//! Garbage: local copies that nobody assigned here. Each is dropped only when enough other live copies exist, looked up in
//! the catalog at that moment; its read row goes before its file.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use trough_client::{CatalogError, catalog::LiveService};
use trough_core::{
    NodeId, SegmentId,
    records::{Assignment, ROLE_READ},
};
use trough_http::events::What;

use crate::{
    advertise::READ,
    decide::Step,
    files::{Stamp, Want},
    locks::{Base, Held},
    reconcile,
    state::Worker,
    stranded,
};

/// Segments looked up and dropped together: few, so that what was looked up is still so when they are dropped.
const BATCH: usize = 200;
/// How long a withdrawn row may take to vanish before the file stays for now.
const WITHDRAWAL: Duration = Duration::from_secs(10);

/// What the catalog says about a segment's other copies.
#[derive(Debug)]
struct Others {
    /// Nodes that are assigned.
    assigned: Vec<Assignment>,
    /// Assigned nodes, this one aside, that serve it and live.
    serving: usize,
}

/// Whether a copy may go, and whether it may be served until then: pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Drop it.
    Drop,
    /// Keep and serve it: it is current, or nobody else has any.
    Keep,
    /// Keep it, but others serve a newer version.
    Hide,
}

impl Fate {
    /// While another node holds the write lock, every file stays; but a copy that may go is withdrawn, for the holder
    /// waits until no other node serves an older version than it promoted.
    fn under_lock(self, locked: bool) -> Self {
        if locked && self == Self::Drop { Self::Hide } else { self }
    }

    /// While placement is paused, every file stays.
    fn while_paused(self, paused: bool, current: bool) -> Self {
        match self {
            Self::Drop if paused && current => Self::Keep,
            Self::Drop if paused => Self::Hide,
            fate => fate,
        }
    }
}

fn fate(others: &Others, stamp: Stamp, minimum: u32) -> Fate {
    let needed = (minimum.max(1) as usize).min(others.assigned.len());
    if others.assigned.is_empty() {
        // Nobody is to hold it: it is not in the canonical store, or the master has not placed it yet.
        return Fate::Keep;
    }
    if others.serving >= needed {
        return Fate::Drop;
    }
    let current = others.assigned.iter().any(|a| Want::of(a).is(stamp));
    if current || others.serving == 0 { Fate::Keep } else { Fate::Hide }
}

/// Looks at copies that nobody assigned here.
pub(crate) async fn run(worker: &Arc<Worker>, segments: Vec<SegmentId>) {
    for chunk in segments.chunks(BATCH) {
        if let Err(error) = collect(worker, chunk).await {
            tracing::warn!(%error, "cannot look other copies up, nothing is dropped");
            return;
        }
    }
}

async fn collect(worker: &Arc<Worker>, segments: &[SegmentId]) -> Result<(), CatalogError> {
    let mut guards = Vec::new();
    let mut mine = Vec::new();
    for segment in segments {
        if let Some(guard) = worker.busy.try_acquire(std::slice::from_ref(segment))
            && reconcile::step_of(worker, segment) == Step::Collect
        {
            guards.push(guard);
            mine.push(segment.clone());
        }
    }
    let locked: HashSet<SegmentId> =
        worker.catalog.locks_of_segments(&mine).await?.into_iter().map(|lock| lock.segment).collect();
    let others = look_up(worker, &mine).await?;
    let shredded = worker.catalog.shreds_of_segments(&mine).await?;
    let mut drops = Vec::new();
    for segment in &mine {
        let (Some(others), Some(local)) = (others.get(segment), worker.files.get(segment)) else { continue };
        if others.assigned.iter().any(|a| a.node == worker.node) {
            continue;
        }
        if shredded.get(segment).is_some_and(|&until| local.stamp.mtime_ms <= until) {
            tracing::info!(%segment, "the segment was shredded while this copy was out of reach");
            worker.files.update(segment, |file| file.served = false);
            worker.stranded.shred(segment);
            drops.push(segment.clone());
            continue;
        }
        // An expression that fails asks for every copy that there may be.
        let minimum = worker.settings.minimum_assignments.for_segment(segment).unwrap_or(u32::MAX);
        let current = others.assigned.iter().any(|a| Want::of(a).is(local.stamp));
        let fate = fate(others, local.stamp, minimum).under_lock(locked.contains(segment));
        let paused = worker.controlled.is_paused();
        if paused && fate == Fate::Drop {
            tracing::debug!(%segment, "a copy that nobody assigned here is kept while placement is paused");
        }
        match fate.while_paused(paused, current) {
            Fate::Drop => drops.push(segment.clone()),
            Fate::Keep => {
                worker.files.update(segment, |file| file.served = true);
                worker.advertiser.set(segment, READ);
            }
            Fate::Hide => {
                worker.files.update(segment, |file| file.served = false);
                worker.advertiser.clear(segment);
            }
        }
    }
    if drops.is_empty() {
        return Ok(());
    }
    for segment in &drops {
        worker.advertiser.clear(segment);
    }
    if !worker.advertiser.settled(&drops, WITHDRAWAL).await {
        tracing::warn!(segments = drops.len(), "service rows could not be withdrawn in time, the files stay for now");
        return Ok(());
    }
    for segment in drops {
        if remove(worker, &segment).await {
            worker.events.note(&segment, What::Dropped);
        }
        worker.meters.collected.increment(1);
    }
    Ok(())
}

/// Deletes the local file. The segment must be busy, its rows withdrawn.
pub(crate) async fn remove(worker: &Arc<Worker>, segment: &SegmentId) -> bool {
    if let Err(error) = stranded::set_aside(worker, segment).await {
        tracing::error!(%segment, error = error.message, "a local copy that may hold writes that were never promoted is kept");
        return false;
    }
    let Some(file) = worker.hot_file(segment) else { return false };
    match worker.engine.remove(file).await {
        Ok(()) => {
            worker.files.remove(segment);
            worker.locks.forget_file(segment);
            tracing::info!(%segment, "local copy removed");
            true
        }
        Err(error) => {
            tracing::warn!(%segment, error = error.message, "cannot remove a local copy");
            false
        }
    }
}

/// Of tenures whose files are canonical copies that other nodes shall hold, adds those to `release` that others serve.
pub(crate) async fn elsewhere(worker: &Arc<Worker>, tenures: Vec<Arc<Held>>, release: &mut Vec<Arc<Held>>) {
    for chunk in tenures.chunks(BATCH) {
        let segments: Vec<SegmentId> = chunk.iter().map(|held| held.lock.segment.clone()).collect();
        let others = match look_up(worker, &segments).await {
            Ok(others) => others,
            Err(error) => {
                tracing::warn!(%error, "cannot look other copies up, write locks are kept");
                return;
            }
        };
        for held in chunk {
            let Some(others) = others.get(&held.lock.segment) else { continue };
            // Of a file that was found only its time tells whether it was written since it was promoted.
            let (stamp, by_time) = match held.base() {
                Some(Base::Canonical(stamp)) => (stamp, false),
                Some(Base::Found(stamp)) => (stamp, true),
                _ => continue,
            };
            let is_it = |want: Want| want.is(stamp) && (!by_time || want.mtime_ms.is_some());
            let recorded = others.assigned.iter().any(|a| is_it(Want::of(a)));
            if recorded && others.serving > 0 {
                release.push(held.clone());
            }
        }
    }
}

async fn look_up(worker: &Worker, segments: &[SegmentId]) -> Result<HashMap<SegmentId, Others>, CatalogError> {
    let mut assigned: HashMap<SegmentId, Vec<Assignment>> = HashMap::new();
    for assignment in worker.catalog.assignments_of_segments(segments).await? {
        assigned.entry(assignment.segment.clone()).or_default().push(assignment);
    }
    let services = worker.catalog.services_of_segments(segments).await?;
    Ok(segments
        .iter()
        .map(|segment| {
            let assigned = assigned.remove(segment).unwrap_or_default();
            let nodes: HashSet<&NodeId> = assigned.iter().map(|a| &a.node).filter(|n| **n != worker.node).collect();
            let is_other = |s: &&LiveService| {
                s.alive
                    && s.service.role.as_deref() == Some(ROLE_READ)
                    && s.service.node.as_ref().is_some_and(|node| nodes.contains(node))
            };
            let serving = services.get(segment).map_or(0, |rows| rows.iter().filter(is_other).count());
            (segment.clone(), Others { assigned, serving })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Stamp = Stamp { bytes: 10, mtime_ms: 1001 };
    const OLD: Stamp = Stamp { bytes: 10, mtime_ms: 999 };

    fn others(assigned: usize, serving: usize) -> Others {
        let assignment = |n: usize| {
            serde_json::from_value(serde_json::json!({
                "id": format!("n{n}:s"), "node": format!("n{n}"), "segment": "s", "hash_ring": n, "remote_path": "p",
                "bytes": NOW.bytes, "mtime_ms": NOW.mtime_ms
            }))
            .expect("an assignment")
        };
        Others { assigned: (0..assigned).map(assignment).collect(), serving }
    }

    #[test]
    fn a_copy_goes_only_when_enough_others_serve() {
        assert_eq!(fate(&others(2, 2), NOW, 2), Fate::Drop);
        assert_eq!(fate(&others(2, 1), NOW, 2), Fate::Keep);
        assert_eq!(fate(&others(2, 1), OLD, 2), Fate::Hide);
        assert_eq!(fate(&others(1, 1), OLD, 2), Fate::Drop);
        assert_eq!(fate(&others(2, 0), OLD, 0), Fate::Keep);
        assert_eq!(fate(&others(0, 0), NOW, 1), Fate::Keep);
        assert_eq!(fate(&others(3, 2), NOW, u32::MAX), Fate::Keep);
        assert_eq!(Fate::Drop.under_lock(true), Fate::Hide);
        assert_eq!(Fate::Keep.under_lock(true), Fate::Keep);
        assert_eq!(Fate::Drop.while_paused(true, true), Fate::Keep);
        assert_eq!(Fate::Drop.while_paused(true, false), Fate::Hide);
        assert_eq!(Fate::Drop.while_paused(false, true), Fate::Drop);
    }
}
