//! From the model to the placement and back: hot segments through the rings, cold ones to all cold workers.

use anyhow::Context as _;
use trough_config::Settings;
use trough_core::placement::{self, NONE, Options, SegmentTable, Worker};

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
        table.intern(model.nodes.name(ix as NodeIx))?;
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

#[cfg(test)]
mod tests {
    use trough_core::NodeId;

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
        let policy = Policy { moves: u64::MAX, move_bytes: u64::MAX, repairs: u64::MAX };
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
}
