//! What the master follows by changefeed: who serves what, and which segments are locked. Rebuilt from the metadata
//! whenever a term begins or a feed breaks.

use std::collections::HashMap;

use trough_core::{
    NodeId, SegmentId,
    records::{Lock, ROLE_READ, ROW_TTL_FOREVER, Service},
};

use crate::model::{NodeIx, Nodes};

/// One node's read row of a segment.
#[derive(Clone, Copy, Debug)]
struct Copy {
    node: NodeIx,
    /// The version that it serves, in whole seconds since 1970; 0 where the row does not say.
    version: u32,
    /// Until when the row counts; infinite for rows that live with the lease.
    until: f64,
}

/// Who serves reads of which segment.
#[derive(Debug, Default)]
pub struct Serving {
    nodes: Nodes,
    segments: HashMap<SegmentId, Vec<Copy>>,
    /// Whether all rows have been seen since the feed began.
    pub complete: bool,
}

impl Serving {
    /// Takes in one change of the table `services`.
    pub fn change(&mut self, old: Option<&Service>, new: Option<&Service>) {
        if let Some((segment, node, ..)) = old.and_then(read_row) {
            let node = self.nodes.intern(node);
            if let Some(rows) = self.segments.get_mut(segment) {
                rows.retain(|row| row.node != node);
                if rows.is_empty() {
                    self.segments.remove(segment);
                }
            }
        }
        if let Some((segment, node, version, until)) = new.and_then(read_row) {
            let node = self.nodes.intern(node);
            let rows = self.segments.entry(segment.clone()).or_default();
            rows.retain(|row| row.node != node);
            rows.reserve_exact(1);
            rows.push(Copy { node, version, until });
        }
    }

    /// Whether `node`'s row for `segment` counts at the time `now` (seconds since 1970, the server's).
    pub fn serves(&self, segment: &SegmentId, node: &NodeId, now: f64) -> bool {
        self.version(segment, node, now).is_some()
    }

    /// The version that `node` serves of `segment`, in whole seconds since 1970: 0 where it does not say; none if its row
    /// does not count at the time `now`.
    pub fn version(&self, segment: &SegmentId, node: &NodeId, now: f64) -> Option<u32> {
        let ix = self.nodes.get(node)?;
        self.segments.get(segment)?.iter().find(|row| row.node == ix && row.until > now).map(|row| row.version)
    }

    /// How many rows a segment has, whether they count or not.
    pub fn rows_of(&self, segment: &SegmentId) -> usize {
        self.segments.get(segment).map_or(0, Vec::len)
    }

    /// The nodes that serve a segment at `now`.
    pub fn nodes_of(&self, segment: &SegmentId, now: f64) -> Vec<NodeId> {
        let rows = self.segments.get(segment).map_or(&[][..], Vec::as_slice);
        rows.iter().filter(|row| row.until > now).map(|row| self.nodes.name(row.node).clone()).collect()
    }

    /// How many segments anyone serves.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether nobody serves anything.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The nodes that have rows, whether these count or not.
    pub fn serving_nodes(&self) -> Vec<NodeId> {
        let mut has_rows = vec![false; self.nodes.len()];
        self.segments.values().flatten().for_each(|row| has_rows[usize::from(row.node)] = true);
        (0..self.nodes.len()).filter(|n| has_rows[*n]).map(|n| self.nodes.name(n as NodeIx).clone()).collect()
    }

    /// All segments that anyone serves.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentId> {
        self.segments.keys()
    }
}

fn read_row(row: &Service) -> Option<(&SegmentId, &NodeId, u32, f64)> {
    if row.role.as_deref() != Some(ROLE_READ) {
        return None;
    }
    let until = if row.ttl >= ROW_TTL_FOREVER {
        f64::INFINITY
    } else {
        row.last_heartbeat.as_ref().map_or(f64::NEG_INFINITY, |t| t.epoch_time + row.ttl)
    };
    let version = row.version_ms.filter(|ms| *ms > 0).and_then(|ms| u32::try_from(ms / 1000).ok()).unwrap_or(0);
    Some((row.segment.as_ref()?, row.node.as_ref()?, version, until))
}

/// The write locks.
#[derive(Debug, Default)]
pub struct Locks {
    by_segment: HashMap<SegmentId, Lock>,
    /// Whether all locks have been seen since the feed began.
    pub complete: bool,
}

impl Locks {
    /// Takes in one change; returns the segment if a promotion may have ended with it.
    pub fn change(&mut self, old: Option<Lock>, new: Option<Lock>) -> Option<SegmentId> {
        let before = old.or_else(|| new.as_ref().and_then(|n| self.by_segment.get(&n.segment).cloned()));
        let promoted =
            before.as_ref().is_some_and(|l| l.under_promotion && new.as_ref().is_none_or(|n| !n.under_promotion));
        let segment = before.as_ref().or(new.as_ref()).map(|l| l.segment.clone())?;
        match new {
            Some(lock) => self.by_segment.insert(segment.clone(), lock),
            None => self.by_segment.remove(&segment),
        };
        promoted.then_some(segment)
    }

    /// The lock of a segment.
    pub fn get(&self, segment: &SegmentId) -> Option<&Lock> {
        self.by_segment.get(segment)
    }

    /// All locks.
    pub fn iter(&self) -> impl Iterator<Item = &Lock> {
        self.by_segment.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_segment.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_segment.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use trough_core::records::Time;

    use super::*;
    use crate::model::tests::segment;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("valid")
    }

    fn row(name: &str, id: &str, ttl: f64, at: f64) -> Service {
        Service {
            id: Service::segment_id(ROLE_READ, &node(name), &segment(id)),
            role: Some(ROLE_READ.into()),
            node: Some(node(name)),
            segment: Some(segment(id)),
            ttl,
            last_heartbeat: Some(Time::from_epoch(at)),
            ..Service::default()
        }
    }

    #[test]
    fn serving_follows_rows_and_their_ttl() {
        let mut serving = Serving::default();
        let (lasting, short) = (row("w1", "s", ROW_TTL_FOREVER, 1.0), row("w2", "s", 20.0, 100.0));
        serving.change(None, Some(&lasting));
        serving.change(None, Some(&short));
        serving.change(Some(&short), Some(&short));
        assert_eq!(serving.nodes_of(&segment("s"), 110.0).len(), 2);
        assert!(serving.serves(&segment("s"), &node("w1"), 1e9) && !serving.serves(&segment("s"), &node("w2"), 120.0));
        serving.change(Some(&lasting), None);
        serving.change(Some(&short), None);
        assert!(serving.is_empty());
    }

    #[test]
    fn the_end_of_a_promotion_is_noticed() {
        let lock = |under_promotion| Lock {
            id: "write:lock:s".into(),
            node: node("w1"),
            segment: segment("s"),
            acquired_on: None,
            under_promotion,
            holder: None,
            fence: 1,
            epoch: 1,
        };
        let mut locks = Locks::default();
        assert_eq!(locks.change(None, Some(lock(false))), None);
        assert_eq!(locks.change(Some(lock(false)), Some(lock(true))), None);
        assert_eq!(locks.change(Some(lock(true)), Some(lock(false))), Some(segment("s")));
        assert_eq!(locks.change(Some(lock(false)), Some(lock(true))), None);
        assert_eq!(locks.change(Some(lock(true)), None), Some(segment("s")));
        assert!(locks.is_empty());
    }
}
