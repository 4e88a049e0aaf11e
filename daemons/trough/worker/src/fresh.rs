//! When a write lock may go: once no other node that lives serves an older version than the one that was promoted. Each
//! read row says which version it serves; locks that wait for other copies are looked at often, in memory only.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use trough_client::{CatalogError, catalog::LiveService};
use trough_core::{NodeId, SegmentId, records::ROLE_READ};

use crate::{
    locks::{Base, Held},
    state::Worker,
};

/// Pending locks looked at together.
const AT_ONCE: usize = 1000;

/// Segments whose write locks wait for other copies, the longest waiting first.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    order: VecDeque<SegmentId>,
    known: HashSet<SegmentId>,
    /// Since when something is pending.
    since: Option<Instant>,
}

impl Pending {
    /// Has the segment looked at again.
    pub(crate) fn put(&mut self, segment: SegmentId) {
        self.since.get_or_insert_with(Instant::now);
        if self.known.insert(segment.clone()) {
            self.order.push_back(segment);
        }
    }

    /// Takes the next ones.
    pub(crate) fn take(&mut self) -> Vec<SegmentId> {
        let next: Vec<SegmentId> = self.order.drain(..self.order.len().min(AT_ONCE)).collect();
        for segment in &next {
            self.known.remove(segment);
        }
        self.since = (!self.order.is_empty()).then(Instant::now);
        next
    }

    /// Ends when something has been pending for `pace`; never, if nothing is.
    pub(crate) async fn due(&self, pace: Duration) {
        match self.since {
            Some(since) => tokio::time::sleep_until((since + pace).into()).await,
            None => std::future::pending().await,
        }
    }
}

/// How often pending locks are looked at, for a SYNC_LOOP_TIMING.
pub(crate) fn pace(every: Duration) -> Duration {
    (every / 10).clamp(Duration::from_millis(50), Duration::from_millis(500))
}

/// The version of a held segment's file, while it is the canonical copy.
pub(crate) fn version(worker: &Worker, held: &Held) -> Option<i64> {
    let Some(Base::Canonical(stamp) | Base::Found(stamp)) = held.base() else { return None };
    Some(worker.wants.get(&held.lock.segment).map_or(stamp.mtime_ms, |want| want.version_of(stamp)))
}

/// Of tenures whose files are canonical copies, those whose other copies are all fresh, with the version that they have.
///
/// # Errors
/// What the catalog says.
pub(crate) async fn elsewhere(
    worker: &Worker,
    tenures: &[Arc<Held>],
    rest: Duration,
) -> Result<Vec<(Arc<Held>, i64)>, CatalogError> {
    let mut asked = Vec::with_capacity(tenures.len());
    for held in tenures {
        // Whoever had it provisioned gets the time to write.
        if let Some(version) = version(worker, held)
            && (!held.is_awaited() || held.rests_for(rest))
        {
            asked.push((held.clone(), version));
        }
    }
    if asked.is_empty() {
        return Ok(asked);
    }
    let segments: Vec<SegmentId> = asked.iter().map(|(held, _)| held.lock.segment.clone()).collect();
    let services = worker.catalog.services_of_segments(&segments).await?;
    asked.retain(|(held, version)| {
        let rows = services.get(&held.lock.segment).map_or(&[][..], Vec::as_slice);
        match others(rows, &worker.node, *version) {
            Others::Fresh => true,
            Others::Silent => held.rests_for(rest),
            Others::Old(node) => {
                tracing::debug!(segment = %held.lock.segment, %node, version, "a write lock waits for an older copy");
                false
            }
        }
    });
    Ok(asked)
}

/// What the other live copies are, against a version.
#[derive(Debug, PartialEq, Eq)]
enum Others {
    /// All as new, or newer.
    Fresh,
    /// Some do not say (a Python worker), the others are as new.
    Silent,
    /// At least this node's is older.
    Old(NodeId),
}

fn others(rows: &[LiveService], me: &NodeId, version: i64) -> Others {
    let mut others = Others::Fresh;
    for LiveService { service, alive, cold } in rows {
        let Some(node) = service.node.as_ref().filter(|node| *node != me) else { continue };
        if !alive || *cold || service.role.as_deref() != Some(ROLE_READ) {
            continue;
        }
        match service.version_ms {
            Some(has) if has >= version => {}
            Some(_) => return Others::Old(node.clone()),
            None => others = Others::Silent,
        }
    }
    others
}

#[cfg(test)]
mod tests {
    use trough_core::records::{ROLE_WRITE, Service};

    use super::*;

    fn row(node: &str, version_ms: Option<i64>) -> LiveService {
        let service = Service {
            role: Some(ROLE_READ.into()),
            node: Some(NodeId::new(node).expect("id")),
            version_ms,
            ..Service::default()
        };
        LiveService { service, alive: true, cold: false }
    }

    #[test]
    fn an_older_live_copy_keeps_the_lock() {
        let me = NodeId::new("me").expect("id");
        let judge = |rows: &[LiveService]| others(rows, &me, 10);
        assert_eq!(judge(&[]), Others::Fresh);
        assert_eq!(judge(&[row("me", Some(0)), row("b", Some(10)), row("c", Some(11))]), Others::Fresh);
        assert_eq!(judge(&[row("b", None), row("c", Some(9))]), Others::Old(NodeId::new("c").expect("id")));
        assert_eq!(judge(&[row("b", None), row("c", Some(10))]), Others::Silent);
        // Dead nodes, cold workers and other roles do not count.
        let (mut dead, mut cold, mut write) = (row("b", Some(1)), row("c", Some(1)), row("d", Some(1)));
        dead.alive = false;
        cold.cold = true;
        write.service.role = Some(ROLE_WRITE.into());
        assert_eq!(judge(&[dead, cold, write]), Others::Fresh);
    }

    #[test]
    fn pending_locks_take_turns() {
        let mut pending = Pending::default();
        let id = |n: usize| SegmentId::new(&format!("s{n}")).expect("id");
        (0..AT_ONCE + 1).chain(0..3).for_each(|n| pending.put(id(n)));
        assert_eq!(pending.take().len(), AT_ONCE);
        pending.put(id(0));
        assert_eq!(pending.take(), [id(AT_ONCE), id(0)]);
    }
}
