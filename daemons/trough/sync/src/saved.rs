//! A plan that people look at before it is carried out: what would be copied where, and why. Pure data and functions over it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use trough_core::{NodeId, SegmentId};

use crate::{
    model::{Model, NodeIx, Ring, Row, SegmentIx},
    plan::{Desired, Presence, WorkerView},
};

/// The form of a saved plan.
pub const FORM: u32 = 1;
/// How many changes of the world are named; all are counted.
const NAMED: usize = 50;

/// What would be done, all of it, throttles aside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedPlan {
    /// [`FORM`].
    pub plan: u32,
    /// The generation of the assignments that it was made from.
    pub generation: u64,
    /// When, in seconds since 1970.
    pub at: f64,
    /// The workers, before and after.
    pub workers: Vec<Share>,
    /// Copies to be made.
    pub copies: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The fewest bytes that any plan with this outcome copies: what workers hold afterwards and do not now.
    pub minimum: u64,
    /// Copies to be dropped once those are live.
    pub drops: u64,
    /// The segments whose copies change.
    pub segments: Vec<Change>,
}

/// What a worker holds, by its assignments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Its name.
    pub node: NodeId,
    /// Whether it serves the cold tier.
    pub cold: bool,
    /// Whether its lease holds.
    pub alive: bool,
    /// Whether it is being emptied.
    pub draining: bool,
    /// Bytes it may hold.
    pub capacity: u64,
    /// Copies before.
    pub before: u64,
    /// Their bytes.
    pub before_bytes: u64,
    /// Copies after.
    pub after: u64,
    /// Their bytes.
    pub after_bytes: u64,
}

/// What changes for a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub segment: SegmentId,
    /// The canonical copy's length.
    pub bytes: u64,
    /// Its modification time.
    pub mtime_ms: i64,
    /// Where copies are assigned before.
    pub before: Vec<NodeId>,
    /// Copies to be made.
    pub puts: Vec<Put>,
    /// Copies to be dropped.
    pub drops: Vec<NodeId>,
    /// How many of the wanted copies must live before any is dropped.
    pub wanted: u8,
}

/// A copy to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Put {
    /// Where.
    pub node: NodeId,
    /// On which ring, or `"cold"`.
    pub ring: Json,
    /// `repair`: there are too few copies; `move`: it evens out the load, empties a worker or changes the tier.
    pub why: String,
}

impl SavedPlan {
    /// Everything that separates what is from what shall be.
    pub(crate) fn make(model: &Model, workers: &[WorkerView], desired: &Desired, generation: u64, at: f64) -> Self {
        let count = model.nodes.len();
        let (mut before, mut after) = (vec![(0u64, 0u64); count], vec![(0u64, 0u64); count]);
        let mut plan = Self { plan: FORM, generation, at, ..Self::default() };
        let there = |node: NodeIx| workers.iter().any(|w| w.node == node && w.presence == Presence::Alive);
        for ix in model.segments() {
            let Some(canonical) = model.canonical(ix) else { continue };
            let rows = model.rows(ix);
            let wanted: Vec<(NodeIx, Ring)> = desired.of(ix).collect();
            let add = |held: &mut (u64, u64)| *held = (held.0 + 1, held.1 + canonical.bytes);
            rows.iter().for_each(|row| add(&mut before[usize::from(row.node)]));
            wanted.iter().for_each(|(node, _)| add(&mut after[usize::from(*node)]));
            let mut promised = rows.iter().filter(|row| there(row.node)).count();
            let mut puts = Vec::new();
            for (node, ring) in wanted.iter().filter(|(node, _)| rows.iter().all(|row| row.node != *node)) {
                let why = if promised < wanted.len() { "repair" } else { "move" };
                promised += 1;
                puts.push(Put { node: model.nodes.name(*node).clone(), ring: ring.to_json(), why: why.to_owned() });
            }
            let surplus = |row: &&Row| !wanted.is_empty() && wanted.iter().all(|(node, _)| *node != row.node);
            let drops: Vec<NodeId> =
                rows.iter().filter(surplus).map(|row| model.nodes.name(row.node).clone()).collect();
            if wanted.is_empty() {
                // There is no worker: everything stays.
                rows.iter().for_each(|row| add(&mut after[usize::from(row.node)]));
            }
            if puts.is_empty() && drops.is_empty() {
                continue;
            }
            plan.copies += puts.len() as u64;
            plan.bytes += puts.len() as u64 * canonical.bytes;
            plan.drops += drops.len() as u64;
            plan.segments.push(Change {
                segment: model.id(ix).clone(),
                bytes: canonical.bytes,
                mtime_ms: canonical.mtime_ms,
                before: holders(model, ix),
                puts,
                drops,
                wanted: wanted.len().min(255) as u8,
            });
        }
        plan.minimum = (0..count).map(|node| after[node].1.saturating_sub(before[node].1)).sum();
        plan.workers = workers
            .iter()
            .map(|w| {
                let at = usize::from(w.node);
                Share {
                    node: model.nodes.name(w.node).clone(),
                    cold: w.cold,
                    alive: w.presence == Presence::Alive,
                    draining: w.draining,
                    capacity: w.weight,
                    before: before[at].0,
                    before_bytes: before[at].1,
                    after: after[at].0,
                    after_bytes: after[at].1,
                }
            })
            .collect();
        plan.workers.sort_by(|a, b| (a.cold, &a.node).cmp(&(b.cold, &b.node)));
        plan
    }

    /// What has changed since the plan was made, so that it is no longer right; at most [`NAMED`] and a count of the rest. What
    /// the plan itself has done already is no change.
    pub(crate) fn outdated(&self, model: &Model, workers: &[WorkerView]) -> Vec<String> {
        let mut changes = Vec::new();
        let mut more = 0;
        let mut note = |text: String| if changes.len() < NAMED { changes.push(text) } else { more += 1 };
        if self.plan != FORM {
            note(format!("the plan has the form {}, this master reads {FORM}", self.plan));
        }
        let mut now: BTreeMap<&NodeId, &WorkerView> = workers.iter().map(|w| (model.nodes.name(w.node), w)).collect();
        for share in &self.workers {
            let Some(worker) = now.remove(&share.node) else {
                if share.alive {
                    note(format!("worker {} is gone", share.node));
                }
                continue;
            };
            let is = (worker.presence == Presence::Alive, worker.draining, worker.cold, worker.weight);
            let was = (share.alive, share.draining, share.cold, share.capacity);
            for (differs, text) in [
                (is.0 != was.0, if is.0 { "is alive" } else { "is not alive" }),
                (is.1 != was.1, if is.1 { "is drained" } else { "is not drained any more" }),
                (is.2 != was.2, "has changed its tier"),
                (is.3 != was.3, "has another capacity"),
            ] {
                if differs {
                    note(format!("worker {} {text}", share.node));
                }
            }
        }
        for node in now.keys() {
            note(format!("worker {node} has come"));
        }
        for change in &self.segments {
            let found = model.find(&change.segment).and_then(|ix| Some((ix, model.canonical(ix)?)));
            let Some((ix, canonical)) = found else {
                note(format!("segment {} has no canonical copy any more", change.segment));
                continue;
            };
            if (canonical.bytes, canonical.mtime_ms) != (change.bytes, change.mtime_ms) {
                note(format!("segment {} has another canonical copy", change.segment));
                continue;
            }
            let holds = holders(model, ix);
            let expected = |node: &NodeId| change.before.contains(node) || change.puts.iter().any(|p| p.node == *node);
            let mut kept = change.before.iter().filter(|node| !change.drops.contains(node));
            if !holds.iter().all(expected) || !kept.all(|node| holds.contains(node)) {
                let names = |nodes: &[NodeId]| nodes.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
                note(format!(
                    "segment {} has copies on [{}], and had them on [{}]",
                    change.segment,
                    names(&holds),
                    names(&change.before)
                ));
            }
        }
        if more > 0 {
            changes.push(format!("and {more} more changes"));
        }
        changes
    }
}

fn holders(model: &Model, ix: SegmentIx) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = model.rows(ix).iter().map(|row| model.nodes.name(row.node).clone()).collect();
    nodes.sort();
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Canonical, tests::segment},
        plan::{Policy, reconcile},
    };

    fn worker(node: NodeIx) -> WorkerView {
        WorkerView { node, cold: false, presence: Presence::Alive, draining: false, weight: 1000, zone: None }
    }

    /// Ten segments of 100 bytes, each on workers 0 and 1 of three.
    fn cluster() -> (Model, Vec<WorkerView>) {
        let mut model = Model::new("/d");
        let names = ["w0", "w1", "w2"].map(|name| NodeId::new(name).expect("valid"));
        names.iter().for_each(|name| drop(model.nodes.intern(name)));
        for n in 0..10 {
            let id = segment(&format!("s{n}"));
            model.observe(&id, &format!("/d/{}", id.store_path()), Canonical { bytes: 100, mtime_ms: 5 });
        }
        let workers: Vec<WorkerView> = (0..3).map(worker).collect();
        settle(&mut model, &workers, &on(&[0, 1], 10));
        (model, workers)
    }

    fn on(nodes: &[NodeIx], segments: usize) -> Desired {
        let slots = (0..segments).flat_map(|_| nodes.iter().map(|node| Some(*node))).collect();
        Desired::new(nodes.len(), slots, vec![false; segments], vec![])
    }

    fn settle(model: &mut Model, workers: &[WorkerView], desired: &Desired) {
        for put in reconcile(model, workers, desired, &|_| false, 1, &Policy::default()).puts {
            let record = model.assignment(put.segment, &put.row, 1);
            model.load(&record);
        }
        model.mark_live(|_, _| true);
    }

    #[test]
    fn a_plan_names_every_change_and_the_least_that_must_move() {
        let (model, mut workers) = cluster();
        assert!(SavedPlan::make(&model, &workers, &on(&[0, 1], 10), 1, 0.0).segments.is_empty());
        workers[0].draining = true;
        let plan = SavedPlan::make(&model, &workers, &on(&[2, 1], 10), 1, 0.0);
        assert_eq!((plan.copies, plan.bytes, plan.minimum, plan.drops), (10, 1000, 1000, 10));
        let share = |n: usize| (plan.workers[n].before_bytes, plan.workers[n].after_bytes);
        assert_eq!((share(0), share(1), share(2)), ((1000, 0), (1000, 1000), (0, 1000)));
        assert!(plan.segments.iter().all(|s| s.puts[0].why == "move" && s.drops == s.before[..1] && s.wanted == 2));
        // Of a third copy none is there yet.
        let plan = SavedPlan::make(&model, &workers, &on(&[0, 1, 2], 10), 1, 0.0);
        assert!(plan.segments.iter().all(|s| s.puts[0].why == "repair" && s.drops.is_empty()));
        let text = serde_json::to_string(&plan).expect("plain data");
        assert_eq!(serde_json::from_str::<SavedPlan>(&text).expect("written above"), plan);
    }

    #[test]
    fn a_plan_is_outdated_by_what_others_change_and_not_by_itself() {
        let (mut model, workers) = cluster();
        let desired = on(&[2, 1], 10);
        let plan = SavedPlan::make(&model, &workers, &desired, 1, 0.0);
        assert!(plan.outdated(&model, &workers).is_empty());
        // Half of it done.
        settle(&mut model, &workers, &desired);
        for ix in 0..5 {
            model.unload(ix, 0);
        }
        assert!(plan.outdated(&model, &workers).is_empty());
        // A copy that it keeps is gone; a canonical copy was replaced; a worker is drained, another one has come.
        model.unload(7, 1);
        model.observe(&segment("s8"), "/d/s8.sqlite", Canonical { bytes: 100, mtime_ms: 6 });
        let mut others = workers.clone();
        others[1].draining = true;
        others.push(worker(model.nodes.intern(&NodeId::new("w3").expect("valid"))));
        let changes = plan.outdated(&model, &others).join("; ");
        for said in ["w1 is drained", "w3 has come", "s7 has copies on [w0, w2]", "s8 has another canonical copy"] {
            assert!(changes.contains(said), "{said}: {changes}");
        }
        assert_eq!(plan.outdated(&model, &others).len(), 4);
        let later = SavedPlan { plan: FORM + 1, ..plan };
        assert!(later.outdated(&model, &workers)[0].contains("form"));
    }
}
