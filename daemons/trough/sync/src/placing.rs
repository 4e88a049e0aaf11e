//! From the model to the placement and back: hot segments through the rings, cold ones to all cold workers.

use std::collections::HashMap;

use anyhow::Context as _;
use serde_json::{Map, Value as Json, json};
use trough_config::Settings;
use trough_core::{
    NodeId,
    placement::{self, NONE, Options, SegmentTable, Worker},
};

use crate::{
    model::{Model, NodeIx, Ring, SegmentIx},
    plan::{Desired, Presence, WorkerView},
};

/// Where every segment's copies shall be. Workers in grace keep their place; those that are gone have none.
///
/// # Errors
/// If an expression of the settings fails for a segment, or the placement cannot be made.
pub(crate) fn place(model: &Model, workers: &[WorkerView], settings: &Settings) -> anyhow::Result<Desired> {
    let rings = settings.maximum_assignments as usize;
    let highest = model
        .segments()
        .flat_map(|ix| model.rows(ix))
        .filter_map(|row| match row.ring {
            Ring::Hot(ring) => Some(usize::from(ring) + 1),
            Ring::Cold => None,
        })
        .max();
    let mut table = SegmentTable::with_capacity(rings.max(highest.unwrap_or(0)), model.len());
    for ix in 0..model.nodes.len() {
        // In the model's order, so that both number the nodes alike.
        let name = model.nodes.name(ix as NodeIx);
        let at = table.intern(name)?;
        if let Some(share) = model.found.get(name).filter(|_| settings.keep_found) {
            table.tolerate(at, *share);
        }
    }
    let mut cold = vec![false; model.len()];
    let mut placed: Vec<SegmentIx> = Vec::with_capacity(model.len());
    for ix in model.segments() {
        let Some(canonical) = model.canonical(ix) else { continue };
        let id = model.id(ix);
        if settings.cold_store_segment.for_segment(id).context("evaluate COLD_STORE_SEGMENT")? {
            cold[ix as usize] = true;
            continue;
        }
        let copies = settings.minimum_assignments.for_segment(id).context("evaluate MINIMUM_ASSIGNMENTS")?;
        let at = table.push(id, canonical.bytes, copies as usize);
        placed.push(ix);
        let mut rows: Vec<_> = model.rows(ix).iter().collect();
        rows.sort_unstable_by_key(|row| row.generation);
        for row in rows {
            if let Ring::Hot(ring) = row.ring {
                // Of two on one ring the later is the wanted one; the other waits to be dropped.
                table.set_previous(at, usize::from(ring), row.node);
            }
        }
    }
    let there = |w: &&WorkerView| w.presence != Presence::Gone;
    let hot: Vec<Worker> = workers
        .iter()
        .filter(there)
        .filter(|w| !w.cold)
        .map(|w| Worker {
            node: model.nodes.name(w.node).clone(),
            weight_bytes: w.weight,
            zone: w.zone.clone(),
            draining: w.draining,
        })
        .collect();
    let options = Options { epsilon: settings.placement_epsilon, ..Options::default() };
    let placement = placement::plan(&hot, rings, &table, &options).context("place the segments")?;
    let mut slots = vec![None; rings * model.len()];
    for (at, ix) in placed.iter().enumerate() {
        let from = *ix as usize * rings;
        for (slot, node) in slots[from..from + rings].iter_mut().zip(placement.assigned(at)) {
            *slot = (*node != NONE).then_some(*node);
        }
    }
    let cold_workers = workers.iter().filter(there).filter(|w| w.cold && !w.draining).map(|w| w.node).collect();
    Ok(Desired::new(rings, slots, cold, cold_workers))
}

/// Whether a Python master placed some of what stands, which is not taken over yet: it writes no generation, and every
/// row of ours has one.
pub(crate) fn is_python(model: &Model) -> bool {
    model.segments().any(|ix| model.canonical(ix).is_some() && model.rows(ix).iter().any(|row| row.generation == 0))
}

/// What each worker holds of all bytes that are wanted, by its assignments (0 to 1). Those that hold nothing are left out.
///
/// # Errors
/// If an expression of the settings fails for a segment.
pub(crate) fn shares(model: &Model, settings: &Settings) -> anyhow::Result<HashMap<NodeId, f64>> {
    let mut held = vec![0.0; model.nodes.len()];
    let mut wanted = 0.0;
    for ix in model.segments() {
        let Some(canonical) = model.canonical(ix) else { continue };
        let id = model.id(ix);
        if settings.cold_store_segment.for_segment(id).context("evaluate COLD_STORE_SEGMENT")? {
            continue;
        }
        let copies = settings.minimum_assignments.for_segment(id).context("evaluate MINIMUM_ASSIGNMENTS")?;
        let bytes = canonical.bytes.max(1) as f64;
        wanted += bytes * f64::from(copies.min(settings.maximum_assignments));
        for row in model.rows(ix).iter().filter(|row| row.ring != Ring::Cold) {
            held[usize::from(row.node)] += bytes;
        }
    }
    let named = held.into_iter().enumerate().filter(|(_, bytes)| *bytes > 0.0 && wanted > 0.0);
    Ok(named.map(|(node, bytes)| (model.nodes.name(node as NodeIx).clone(), (bytes / wanted).min(1.0))).collect())
}

/// The document `ring-assignments` for these hot workers, given with their weights in bytes: who stands there already keeps
/// ring and weight, so that a Python master that takes over again finds its own placement; others get the ring with the
/// fewest, as it would give them.
pub(crate) fn ring_assignments(old: &Map<String, Json>, hot: &[(NodeId, u64)], rings: usize) -> Map<String, Json> {
    let rings = rings.min(hot.len()).max(1);
    let ring_of = |entry: &Json| entry["ring"].as_u64().and_then(|r| usize::try_from(r).ok()).filter(|r| *r < rings);
    let mut count = vec![0usize; rings];
    let mut document = Map::new();
    for (node, _) in hot {
        if let Some(entry) = old.get(node.as_str())
            && let Some(ring) = ring_of(entry)
        {
            count[ring] += 1;
            document.insert(node.to_string(), entry.clone());
        }
    }
    for (node, weight) in hot {
        if !document.contains_key(node.as_str()) {
            let ring = (0..rings).min_by_key(|ring| count[*ring]).unwrap_or(0);
            count[ring] += 1;
            document.insert(node.to_string(), json!({"ring": ring, "weight": weight}));
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Canonical, tests::segment},
        plan::{Policy, reconcile},
    };

    fn cluster(segments: usize, workers: u16, cold: u16) -> (Model, Vec<WorkerView>) {
        let mut model = Model::new("/d");
        for i in 0..segments {
            let id = segment(&format!("{}{i}", if i % 5 == 0 { "old" } else { "new" }));
            model.observe(&id, &format!("/d/{}", id.store_path()), Canonical { bytes: 1000, mtime_ms: 5 });
        }
        let views = (0..workers + cold)
            .map(|i| WorkerView {
                node: model.nodes.intern(&NodeId::new(&format!("w{i}")).expect("valid")),
                cold: i >= workers,
                presence: Presence::Alive,
                draining: false,
                weight: 1 << 40,
                zone: None,
            })
            .collect();
        (model, views)
    }

    fn settle(model: &mut Model, workers: &[WorkerView], settings: &Settings) -> u64 {
        let policy = Policy { moves: u64::MAX, move_bytes: u64::MAX, repairs: u64::MAX, ..Policy::default() };
        let mut moved = 0;
        for generation in 1..10 {
            let desired = place(model, workers, settings).expect("places");
            let plan = reconcile(model, workers, &desired, &|_| false, generation, &policy);
            moved += plan.summary.moves;
            if plan.is_empty() {
                assert_eq!(plan.summary.under_replicated, 0);
                return moved;
            }
            for put in &plan.puts {
                let record = model.assignment(put.segment, &put.row, 1);
                model.load(&record);
            }
            plan.drops.iter().for_each(|d| model.unload(d.segment, d.node));
            model.mark_live(|_, _| true);
        }
        panic!("does not settle");
    }

    #[test]
    fn hot_segments_stand_on_two_rings_and_cold_ones_on_cold_workers() {
        let (mut model, mut workers) = cluster(2000, 3, 2);
        let settings = Settings::from_yaml("COLD_STORE_SEGMENT: segment_id.startsWith('old')").expect("settings");
        settle(&mut model, &workers, &settings);
        let mut held = [0usize; 5];
        for ix in model.segments() {
            let rows = model.rows(ix);
            assert_eq!(rows.len(), 2);
            let cold = model.id(ix).as_str().starts_with("old");
            assert!(rows.iter().all(|r| (r.ring == Ring::Cold) == cold && (r.node >= 3) == cold));
            rows.iter().for_each(|r| held[usize::from(r.node)] += 1);
        }
        assert_eq!(held[3..], [400, 400]);
        let mean = held[..3].iter().sum::<usize>() as f64 / 3.0;
        assert!(held[..3].iter().all(|n| *n as f64 <= mean * 1.06), "{held:?}");

        // A drained worker loses all it has; taken back, it gets its share again, and no more moves than that.
        workers[0].draining = true;
        assert!(settle(&mut model, &workers, &settings) as usize >= held[0]);
        assert!(model.segments().all(|ix| model.rows(ix).iter().all(|r| r.node != 0)));
        workers[0].draining = false;
        let moved = settle(&mut model, &workers, &settings) as f64;
        assert!(moved <= mean * 1.15 && moved >= mean * 0.8, "{moved} moved for a share of {mean}");
    }

    #[test]
    fn a_worker_in_grace_keeps_its_place_and_a_gone_one_does_not() {
        let (mut model, mut workers) = cluster(500, 3, 0);
        let settings = Settings::from_yaml("{}").expect("settings");
        settle(&mut model, &workers, &settings);
        let before = place(&model, &workers, &settings).expect("places");
        workers[1].presence = Presence::Grace;
        let during = place(&model, &workers, &settings).expect("places");
        assert!(model.segments().all(|ix| before.of(ix).eq(during.of(ix))));
        workers[1].presence = Presence::Gone;
        let after = place(&model, &workers, &settings).expect("places");
        assert!(model.segments().all(|ix| after.of(ix).count() == 2 && after.of(ix).all(|(n, _)| n != 1)));
    }

    /// Two rings of two workers each, as the Python master has them: a worker stands on one ring only, and the halves of a
    /// ring are uneven.
    fn python_cluster(settings: &Settings) -> (Model, Vec<WorkerView>) {
        let (mut model, workers) = cluster(2000, 4, 0);
        for ix in model.segments() {
            let uneven = |parts: u32, first: NodeIx, second: NodeIx| if ix % parts == 0 { second } else { first };
            for (ring, node) in [(0, uneven(4, 0, 2)), (1, uneven(3, 1, 3))] {
                let row = crate::model::Row {
                    node,
                    ring: Ring::Hot(ring),
                    bytes: 1000,
                    mtime_ms: None,
                    sha256: None,
                    generation: 0,
                    assigned_on: Some(1.0),
                    live: true,
                };
                let record = model.assignment(ix, &row, 0);
                model.load(&record);
            }
        }
        model.mark_live(|_, _| true);
        assert!(is_python(&model));
        model.found = shares(&model, settings).expect("shares");
        (model, workers)
    }

    #[test]
    fn a_python_masters_placement_is_kept_until_it_is_to_be_evened_out() {
        let settings = Settings::from_yaml("{}").expect("settings");
        let (mut model, mut workers) = python_cluster(&settings);
        let share = |n: u16| model.found[&NodeId::new(&format!("w{n}")).expect("valid")];
        assert!((share(0) - 0.375).abs() < 1e-9 && (share(3) - 667.0 / 4000.0).abs() < 1e-9, "{:?}", model.found);

        // The change moves nothing: every record is brought up to date where it stands, and then nothing is left to do.
        let desired = place(&model, &workers, &settings).expect("places");
        let plan = reconcile(&model, &workers, &desired, &|_| false, 1, &Policy::default());
        let s = &plan.summary;
        assert_eq!((s.refreshes, s.repairs, s.moves, s.drops, s.waiting_drops), (4000, 0, 0, 0, 0));
        for put in &plan.puts {
            let before = model.rows(put.segment).iter().find(|row| row.node == put.row.node).expect("it stood there");
            assert_eq!((before.ring, before.assigned_on), (put.row.ring, put.row.assigned_on));
        }
        assert_eq!(settle(&mut model, &workers, &settings), 0);
        assert!(!is_python(&model));

        // A worker that joins gets its share and nothing else moves.
        workers.push(WorkerView { node: model.nodes.intern(&NodeId::new("w4").expect("valid")), ..workers[0].clone() });
        let moved = settle(&mut model, &workers, &settings);
        let got = model.segments().flat_map(|ix| model.rows(ix)).filter(|row| row.node == 4).count() as u64;
        assert!(moved == got && (700..=800).contains(&got), "{moved} moved, {got} to the new worker");

        // Evened out on demand.
        let even = Settings::from_yaml("KEEP_FOUND: false").expect("settings");
        assert!(settle(&mut model, &workers, &even) > 0);
        for node in 0..5 {
            let held = model.segments().flat_map(|ix| model.rows(ix)).filter(|row| row.node == node).count();
            assert!((700..=840).contains(&held), "worker {node} holds {held}");
        }
    }

    #[test]
    fn rings_that_a_python_master_gave_are_kept() {
        let node = |name: &str| NodeId::new(name).expect("valid");
        let old = json!({"id": "ring-assignments", "a": {"ring": 1, "weight": 7}, "b": {"ring": 0, "weight": 8}, "gone": {"ring": 0, "weight": 9}});
        let old = old.as_object().expect("an object");
        let hot = [(node("a"), 70), (node("b"), 80), (node("c"), 90), (node("d"), 100)];
        let expected = json!({
            "a": {"ring": 1, "weight": 7}, "b": {"ring": 0, "weight": 8}, "c": {"ring": 0, "weight": 90}, "d": {"ring": 1, "weight": 100},
        });
        assert_eq!(Json::Object(ring_assignments(old, &hot, 2)), expected);
        // A ring that there is no more, for want of workers, would break the Python master.
        assert_eq!(Json::Object(ring_assignments(old, &hot[..1], 2)), json!({"a": {"ring": 0, "weight": 70}}));
        assert!(ring_assignments(old, &[], 2).is_empty());
    }
}
