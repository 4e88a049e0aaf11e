//! Reconciliation as a function over data: what is stored and wanted goes in, batches of changes come out.
//!
//! Rules, in this order: a copy is added before another is dropped; segments with the fewest live copies come first;
//! moves (additions to a segment that has enough) are throttled by count and bytes; a worker that went away keeps its
//! place until its grace has passed; a copy is dropped only while enough of the wanted copies are live.

use crate::model::{Canonical, Model, NodeIx, Ring, Row, SegmentIx};

/// Whether a worker can be counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its lease holds.
    Alive,
    /// Its lease ended a short while ago: it may be restarting, so nothing moves yet.
    Grace,
    /// It is gone; its copies are re-created elsewhere.
    Gone,
}

impl Presence {
    /// From the age of a lease's last renewal, its ttl, and the grace that follows (all in seconds).
    pub fn of(age: f64, ttl: f64, grace: f64) -> Self {
        if age < ttl {
            Self::Alive
        } else if age < ttl + grace {
            Self::Grace
        } else {
            Self::Gone
        }
    }
}

/// A worker as planning sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerView {
    /// Its number in the model.
    pub node: NodeIx,
    /// Whether it serves the cold tier.
    pub cold: bool,
    /// Whether it can be counted on.
    pub presence: Presence,
    /// Whether it is being emptied.
    pub draining: bool,
    /// Bytes it may hold: its weight on the rings.
    pub weight: u64,
    /// Its failure domain.
    pub zone: Option<String>,
}

impl Row {
    /// Whether the record describes this canonical copy.
    pub fn is_of(&self, canonical: Canonical) -> bool {
        self.bytes == canonical.bytes && self.mtime_ms == Some(canonical.mtime_ms)
    }
}

/// What limits a plan.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Moves that may be under way at once, over the whole cluster.
    pub moves: u64,
    /// Bytes of moves that may be under way at once; one move is always let through.
    pub move_bytes: u64,
    /// Copies missing from segments with too few that may be under way at once.
    pub repairs: u64,
    /// Whether placement is paused: records follow the canonical copies, and nothing else changes.
    pub paused: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { moves: 2_000, move_bytes: 256 << 30, repairs: 200_000, paused: false }
    }
}

/// Where every segment's copies shall be, as the placement says: `width` slots a segment.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    width: usize,
    slots: Vec<Option<NodeIx>>,
    /// Segments of the cold tier, which stand on all cold workers instead.
    cold: Vec<bool>,
    cold_workers: Vec<NodeIx>,
}

impl Desired {
    /// `slots` holds `width` entries a segment; `cold` one.
    pub fn new(width: usize, slots: Vec<Option<NodeIx>>, cold: Vec<bool>, cold_workers: Vec<NodeIx>) -> Self {
        debug_assert_eq!(slots.len(), width * cold.len());
        Self { width, slots, cold, cold_workers }
    }

    /// Whether the segment belongs to the cold tier.
    pub fn is_cold(&self, ix: SegmentIx) -> bool {
        self.cold[ix as usize]
    }

    /// The wanted copies of a segment.
    pub fn of(&self, ix: SegmentIx) -> impl Iterator<Item = (NodeIx, Ring)> + '_ {
        let at = ix as usize;
        let cold = if self.cold[at] { self.cold_workers.as_slice() } else { &[] };
        let hot = if self.cold[at] { &[] } else { &self.slots[at * self.width..(at + 1) * self.width] };
        let hot = hot.iter().enumerate().filter_map(|(ring, node)| node.map(|n| (n, Ring::Hot(ring as u8))));
        hot.chain(cold.iter().map(|n| (*n, Ring::Cold)))
    }
}

/// Why an assignment is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Too few copies of the segment are live or on their way.
    Repair,
    /// The canonical copy is another than the one recorded.
    Refresh,
    /// The copy stays where it is, on another ring.
    Rering,
    /// The segment has enough copies; this one evens out the load, empties a worker or changes the tier.
    Move,
}

/// How soon an addition is wanted; less is sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Urgency {
    /// Copies served at this moment.
    live: u8,
    /// Copies assigned to workers that are there.
    promised: u8,
    /// Small ones first: more segments are safe sooner.
    bytes: u64,
}

/// An assignment that is wanted. Small: a first plan has one for every copy that there shall be.
#[derive(Clone, Copy, Debug)]
struct Addition {
    why: Why,
    urgency: Urgency,
    segment: SegmentIx,
    node: NodeIx,
    ring: Ring,
}

impl Addition {
    /// Moves come last, then the most urgent first.
    fn order(&self) -> (bool, Urgency, SegmentIx, Ring, NodeIx) {
        (self.why == Why::Move, self.urgency, self.segment, self.ring, self.node)
    }

    fn put(&self, model: &Model, canonical: Canonical, generation: u64) -> Put {
        let old = model.rows(self.segment).iter().find(|row| row.node == self.node);
        let same_file = old.filter(|r| r.bytes == canonical.bytes && r.mtime_ms == Some(canonical.mtime_ms));
        let row = Row {
            node: self.node,
            ring: self.ring,
            bytes: canonical.bytes,
            mtime_ms: Some(canonical.mtime_ms),
            sha256: same_file.and_then(|r| r.sha256.clone()),
            generation,
            assigned_on: old.and_then(|r| r.assigned_on),
            live: old.is_some_and(|r| r.live),
        };
        Put { segment: self.segment, row, why: self.why }
    }
}

/// An assignment to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// Which segment.
    pub segment: SegmentIx,
    /// The record.
    pub row: Row,
    /// Why.
    pub why: Why,
}

/// An assignment to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drop {
    /// Which segment.
    pub segment: SegmentIx,
    /// From which worker.
    pub node: NodeIx,
    /// How many of the wanted copies must be seen live at the moment of deletion.
    pub needs_live: u8,
}

/// Totals, for people and for `--plan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Segments in the store.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of the cold tier.
    pub cold: u64,
    /// Segments with fewer live copies than wanted.
    pub under_replicated: u64,
    /// Segments without any live copy.
    pub unserved: u64,
    /// Copies to add because there are too few.
    pub repairs: u64,
    /// Their bytes.
    pub repair_bytes: u64,
    /// Records to bring up to date.
    pub refreshes: u64,
    /// Copies to move now.
    pub moves: u64,
    /// Their bytes.
    pub move_bytes: u64,
    /// Additions that wait for others to finish.
    pub deferred: u64,
    /// Their bytes.
    pub deferred_bytes: u64,
    /// Surplus copies to drop now.
    pub drops: u64,
    /// Surplus copies that wait until enough others are live.
    pub waiting_drops: u64,
    /// Copies assigned and not yet served.
    pub in_flight: u64,
    /// Their bytes.
    pub in_flight_bytes: u64,
}

/// What to change, in the order in which it is to be done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Written first, most urgent first.
    pub puts: Vec<Put>,
    /// Deleted afterwards.
    pub drops: Vec<Drop>,
    /// Totals.
    pub summary: Summary,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.drops.is_empty()
    }
}

/// Compares what is with what shall be. `locked` tells whether a segment has a write lock: its copies are not dropped.
pub fn reconcile(
    model: &Model,
    workers: &[WorkerView],
    desired: &Desired,
    locked: &dyn Fn(SegmentIx) -> bool,
    generation: u64,
    policy: &Policy,
) -> Plan {
    let presence = presence_by_node(model, workers);
    let there = |node: NodeIx| presence[usize::from(node)] == Presence::Alive;
    let mut plan = Plan::default();
    let mut additions: Vec<Addition> = Vec::new();
    let (mut moving, mut moving_bytes, mut repairing) = (0, 0, 0);

    for ix in model.segments() {
        let Some(canonical) = model.canonical(ix) else { continue };
        let sum = &mut plan.summary;
        sum.segments += 1;
        sum.bytes += canonical.bytes;
        sum.cold += u64::from(desired.is_cold(ix));

        let rows = model.rows(ix);
        let wanted = desired.of(ix).count();
        let live = rows.iter().filter(|r| r.live && there(r.node)).count();
        let promised = rows.iter().filter(|r| there(r.node)).count();
        sum.under_replicated += u64::from(live < wanted.max(1));
        sum.unserved += u64::from(live == 0);
        for row in rows.iter().filter(|r| !r.live && there(r.node)) {
            sum.in_flight += 1;
            sum.in_flight_bytes += canonical.bytes;
            if live >= wanted {
                moving += 1;
                moving_bytes += canonical.bytes;
            } else {
                repairing += 1;
            }
            debug_assert!(usize::from(row.node) < presence.len());
        }

        let mut promised_so_far = promised;
        for (node, ring) in desired.of(ix) {
            let old = rows.iter().find(|r| r.node == node);
            let why = match old {
                Some(row) if !row.is_of(canonical) => Why::Refresh,
                Some(row) if row.ring != ring => Why::Rering,
                Some(_) => continue,
                None if promised_so_far < wanted => Why::Repair,
                None => Why::Move,
            };
            promised_so_far += usize::from(why == Why::Repair);
            let urgency =
                Urgency { live: live.min(255) as u8, promised: promised.min(255) as u8, bytes: canonical.bytes };
            additions.push(Addition { why, urgency, segment: ix, node, ring });
        }

        // Wanted copies that are live now; the ones just added are not yet.
        let live_wanted =
            rows.iter().filter(|r| r.live && there(r.node) && desired.of(ix).any(|(n, _)| n == r.node)).count();
        for row in rows.iter().filter(|r| desired.of(ix).all(|(n, _)| n != r.node)) {
            if policy.paused && !row.is_of(canonical) {
                // It stays for as long as the pause does, so it shall not grow old.
                let urgency = Urgency { live: 0, promised: 0, bytes: canonical.bytes };
                additions.push(Addition { why: Why::Refresh, urgency, segment: ix, node: row.node, ring: row.ring });
            }
            if !policy.paused && wanted > 0 && live_wanted >= wanted && !locked(ix) {
                plan.drops.push(Drop { segment: ix, node: row.node, needs_live: wanted.min(255) as u8 });
            } else {
                plan.summary.waiting_drops += 1;
            }
        }
    }
    plan.summary.drops = plan.drops.len() as u64;

    additions.sort_unstable_by_key(Addition::order);
    for addition in additions {
        let Addition { why, urgency, segment, .. } = addition;
        let Some(canonical) = model.canonical(segment) else { continue };
        let sum = &mut plan.summary;
        let passes = match why {
            Why::Refresh => true,
            _ if policy.paused => false,
            Why::Rering => true,
            Why::Repair => repairing < policy.repairs,
            Why::Move => moving == 0 || (moving < policy.moves && moving_bytes + urgency.bytes <= policy.move_bytes),
        };
        if !passes {
            sum.deferred += 1;
            sum.deferred_bytes += urgency.bytes;
            continue;
        }
        match why {
            Why::Refresh | Why::Rering => sum.refreshes += 1,
            Why::Repair => {
                repairing += 1;
                sum.repairs += 1;
                sum.repair_bytes += urgency.bytes;
            }
            Why::Move => {
                moving += 1;
                moving_bytes += urgency.bytes;
                sum.moves += 1;
                sum.move_bytes += urgency.bytes;
            }
        }
        plan.puts.push(addition.put(model, canonical, generation));
    }
    plan
}

/// Presence by node number; a node that is in no worker's row is gone.
fn presence_by_node(model: &Model, workers: &[WorkerView]) -> Vec<Presence> {
    let mut presence = vec![Presence::Gone; model.nodes.len()];
    for worker in workers {
        presence[usize::from(worker.node)] = worker.presence;
    }
    presence
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
