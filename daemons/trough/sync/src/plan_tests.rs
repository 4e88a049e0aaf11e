use proptest::prelude::*;
use trough_core::NodeId;

use super::*;
use crate::model::{Canonical, tests::segment};

const NO_LOCKS: &dyn Fn(SegmentIx) -> bool = &|_| false;

/// A model of `nodes` workers and `segments` files of 100 bytes.
fn model(nodes: u16, segments: u32) -> Model {
    let mut model = Model::new("/data");
    for n in 0..nodes {
        model.nodes.intern(&NodeId::new(&format!("w{n}")).expect("valid"));
    }
    for s in 0..segments {
        model.observe(&segment(&format!("s{s}")), &format!("/data/s{s}.sqlite"), Canonical { bytes: 100, mtime_ms: 7 });
    }
    model
}

fn worker(node: NodeIx) -> WorkerView {
    WorkerView { node, cold: false, presence: Presence::Alive, draining: false, weight: 1000, zone: None }
}

/// Copy `i` of segment `s` on the worker `s + i`, over the given workers.
fn round_robin(model: &Model, width: usize, over: &[NodeIx]) -> Desired {
    let slots = model
        .segments()
        .flat_map(|s| (0..width).map(move |i| (s as usize, i)))
        .map(|(s, i)| (i < over.len()).then(|| over[(s + i) % over.len()]))
        .collect();
    Desired::new(width, slots, vec![false; model.len()], vec![])
}

/// Does what a master does with a plan, and what workers do with assignments.
fn apply(model: &mut Model, plan: &Plan, serve: bool) {
    for put in &plan.puts {
        let record = model.assignment(put.segment, &put.row, 1);
        model.load(&record);
    }
    for drop in &plan.drops {
        model.unload(drop.segment, drop.node);
    }
    if serve {
        model.mark_live(|_, _| true);
    }
}

#[test]
fn first_plan_assigns_everything_and_the_second_nothing() {
    let mut model = model(3, 50);
    let workers: Vec<_> = (0..3).map(worker).collect();
    let desired = round_robin(&model, 2, &[0, 1, 2]);
    let plan = reconcile(&model, &workers, &desired, NO_LOCKS, 1, &Policy::default());
    assert_eq!((plan.summary.repairs, plan.summary.unserved, plan.drops.len()), (100, 50, 0));
    apply(&mut model, &plan, true);
    let again = reconcile(&model, &workers, &desired, NO_LOCKS, 2, &Policy::default());
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(again.summary.under_replicated, 0);
}

#[test]
fn load_before_drop() {
    let mut model = model(3, 1);
    let workers: Vec<_> = (0..3).map(worker).collect();
    let plan = reconcile(&model, &workers, &round_robin(&model, 1, &[0]), NO_LOCKS, 1, &Policy::default());
    apply(&mut model, &plan, true);
    let moved = round_robin(&model, 1, &[2]);
    let plan = reconcile(&model, &workers, &moved, NO_LOCKS, 2, &Policy::default());
    assert_eq!((plan.puts.len(), plan.drops.len(), plan.summary.waiting_drops), (1, 0, 1));
    assert_eq!(plan.puts[0].why, Why::Move);
    apply(&mut model, &plan, false);
    let plan = reconcile(&model, &workers, &moved, NO_LOCKS, 3, &Policy::default());
    assert!(plan.is_empty(), "the new copy is not live yet");
    model.mark_live(|_, _| true);
    assert!(reconcile(&model, &workers, &moved, &|_| true, 3, &Policy::default()).is_empty(), "locked");
    let plan = reconcile(&model, &workers, &moved, NO_LOCKS, 3, &Policy::default());
    assert_eq!(plan.drops, vec![Drop { segment: 0, node: 0, needs_live: 1 }]);
}

#[test]
fn a_restarting_worker_is_given_grace() {
    let mut model = model(3, 10);
    let mut workers: Vec<_> = (0..3).map(worker).collect();
    let desired = round_robin(&model, 2, &[0, 1, 2]);
    let plan = reconcile(&model, &workers, &desired, NO_LOCKS, 1, &Policy::default());
    apply(&mut model, &plan, true);
    // While in grace, the placement still holds the worker; nothing is added, nothing dropped.
    workers[1].presence = Presence::Grace;
    let plan = reconcile(&model, &workers, &desired, NO_LOCKS, 2, &Policy::default());
    assert!(plan.is_empty());
    assert!(plan.summary.under_replicated > 0);
    // Gone, the placement passes over it; its rows go once the others are live.
    workers[1].presence = Presence::Gone;
    let desired = round_robin(&model, 2, &[0, 2]);
    let plan = reconcile(&model, &workers, &desired, NO_LOCKS, 2, &Policy::default());
    assert!(plan.puts.iter().filter(|p| p.why == Why::Repair).count() > 0 && plan.drops.is_empty());
    apply(&mut model, &plan, false);
    model.mark_live(|_, node| node != 1);
    let plan = reconcile(&model, &workers, &desired, NO_LOCKS, 3, &Policy::default());
    assert!(plan.puts.is_empty() && !plan.drops.is_empty() && plan.drops.iter().all(|d| d.node == 1));
}

#[test]
fn the_worst_off_come_first_and_moves_are_throttled() {
    let mut model = model(4, 30);
    let workers: Vec<_> = (0..4).map(worker).collect();
    // Segments 0..10 have both copies elsewhere (moves), 10..20 one copy, 20..30 none.
    let desired = round_robin(&model, 2, &[2, 3]);
    let start = round_robin(&model, 2, &[0, 1]);
    let mut plan = reconcile(&model, &workers, &start, NO_LOCKS, 1, &Policy::default());
    plan.puts.retain(|p| p.segment < 10 || (p.segment < 20 && p.row.ring == Ring::Hot(0)));
    apply(&mut model, &plan, true);
    let policy = Policy { moves: 3, move_bytes: 1 << 40, repairs: 25, paused: false };
    let plan = reconcile(&model, &workers, &desired, NO_LOCKS, 2, &policy);
    let order: Vec<_> = plan.puts.iter().map(|p| (p.why, p.segment)).collect();
    assert!(order[..20].iter().all(|(why, s)| *why == Why::Repair && *s >= 20), "unserved first: {order:?}");
    assert_eq!(plan.summary.repairs, 25);
    assert_eq!(plan.summary.moves, 3);
    assert_eq!(plan.summary.deferred, 20 + 20 + 20 - 28);
    let tight = Policy { moves: 100, move_bytes: 250, repairs: 1000, paused: false };
    assert_eq!(reconcile(&model, &workers, &desired, NO_LOCKS, 2, &tight).summary.moves, 2, "bytes bound moves too");
    let tiny = Policy { moves: 100, move_bytes: 1, repairs: 1000, paused: false };
    assert_eq!(reconcile(&model, &workers, &desired, NO_LOCKS, 2, &tiny).summary.moves, 1, "one is always let through");
}

#[test]
fn a_newer_canonical_copy_refreshes_the_records_and_keeps_the_rest() {
    let mut model = model(2, 1);
    let workers: Vec<_> = (0..2).map(worker).collect();
    let desired = round_robin(&model, 2, &[0, 1]);
    let plan = reconcile(&model, &workers, &desired, NO_LOCKS, 1, &Policy::default());
    apply(&mut model, &plan, true);
    let mut record = model.assignment(0, &model.rows(0)[0].clone(), 1);
    (record.sha256, record.mtime_ms, record.bytes) = (Some("ab".into()), Some(9), 120);
    model.load(&record);
    model.observe(&segment("s0"), "/data/s0.sqlite", Canonical { bytes: 120, mtime_ms: 9 });
    let plan = reconcile(&model, &workers, &desired, NO_LOCKS, 2, &Policy::default());
    assert_eq!(plan.puts.len(), 1, "the promoter's own record is up to date already");
    assert_eq!((plan.puts[0].why, plan.puts[0].row.mtime_ms, plan.puts[0].row.bytes), (Why::Refresh, Some(9), 120));
}

#[test]
fn a_segment_that_turns_cold_leaves_the_hot_tier_when_the_cold_one_serves() {
    let mut model = model(3, 4);
    let mut workers: Vec<_> = (0..3).map(worker).collect();
    workers[2].cold = true;
    let hot = round_robin(&model, 2, &[0, 1]);
    let plan = reconcile(&model, &workers, &hot, NO_LOCKS, 1, &Policy::default());
    apply(&mut model, &plan, true);
    let cold = Desired::new(2, vec![None; 8], vec![true; 4], vec![2]);
    let plan = reconcile(&model, &workers, &cold, NO_LOCKS, 2, &Policy::default());
    assert!(plan.drops.is_empty() && plan.puts.iter().all(|p| p.row.ring == Ring::Cold && p.row.node == 2));
    apply(&mut model, &plan, true);
    let plan = reconcile(&model, &workers, &cold, NO_LOCKS, 3, &Policy::default());
    assert_eq!((plan.puts.len(), plan.drops.len()), (0, 8));
    let nowhere = Desired::new(2, vec![None; 8], vec![true; 4], vec![]);
    let plan = reconcile(&model, &workers, &nowhere, NO_LOCKS, 3, &Policy::default());
    assert!(plan.is_empty(), "without a cold worker nothing is dropped");
}

#[test]
fn presence_follows_the_lease_and_the_grace() {
    assert_eq!(Presence::of(29.9, 30.0, 60.0), Presence::Alive);
    assert_eq!(Presence::of(30.0, 30.0, 60.0), Presence::Grace);
    assert_eq!(Presence::of(90.0, 30.0, 60.0), Presence::Gone);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes and goes, no drop leaves a segment with fewer live copies than the plan wants, moves under
    /// way stay within the policy, and once all is quiet the assignments are the wanted ones.
    #[test]
    fn any_history_is_safe_and_converges(
        events in prop::collection::vec((0u16..5, 0u8..3, any::<u64>()), 1..20),
        width in 1usize..4,
    ) {
        let mut model = model(5, 40);
        let mut workers: Vec<_> = (0..5).map(worker).collect();
        let policy = Policy { moves: 7, move_bytes: 500, repairs: 30, paused: false };
        let mut generation = 0;
        let mut step = |model: &mut Model, workers: &[WorkerView], serving: &dyn Fn(SegmentIx, NodeIx) -> bool| {
            generation += 1;
            let over: Vec<_> = workers.iter().filter(|w| w.presence != Presence::Gone).map(|w| w.node).collect();
            let desired = round_robin(model, width, &over);
            let plan = reconcile(model, workers, &desired, NO_LOCKS, generation, &policy);
            for drop in &plan.drops {
                let live = model.rows(drop.segment).iter().filter(|r| {
                    r.live && r.node != drop.node && workers[usize::from(r.node)].presence == Presence::Alive
                });
                prop_assert!(live.count() >= usize::from(drop.needs_live));
            }
            prop_assert!(plan.summary.moves <= 7);
            apply(model, &plan, false);
            let ids: Vec<_> = model.segments().map(|s| model.id(s).clone()).collect();
            model.mark_live(|id, node| {
                let ix = ids.iter().position(|i| i == id).expect("known") as SegmentIx;
                workers[usize::from(node)].presence == Presence::Alive && serving(ix, node)
            });
            Ok(plan.is_empty() && plan.summary.deferred + plan.summary.waiting_drops == 0)
        };
        for (node, what, seed) in events {
            workers[usize::from(node)].presence = [Presence::Alive, Presence::Grace, Presence::Gone][usize::from(what)];
            step(&mut model, &workers, &|s, n| (seed >> ((s + u32::from(n)) % 64)) & 1 == 1)?;
        }
        for w in &mut workers {
            if w.presence == Presence::Grace { w.presence = Presence::Alive; }
        }
        if workers.iter().all(|w| w.presence == Presence::Gone) { workers[0].presence = Presence::Alive; }
        let mut quiet = false;
        for _ in 0..200 {
            quiet = step(&mut model, &workers, &|_, _| true)?;
            if quiet { break; }
        }
        prop_assert!(quiet, "does not come to rest");
        let over: Vec<_> = workers.iter().filter(|w| w.presence != Presence::Gone).map(|w| w.node).collect();
        let desired = round_robin(&model, width, &over);
        for s in model.segments() {
            let mut have: Vec<_> = model.rows(s).iter().map(|r| (r.node, r.ring)).collect();
            let mut want: Vec<_> = desired.of(s).collect();
            have.sort_unstable();
            want.sort_unstable();
            prop_assert_eq!(have, want);
        }
    }
}

#[test]
fn a_pause_keeps_everything_but_the_records_of_new_canonical_copies() {
    let mut model = model(3, 30);
    let mut workers: Vec<_> = (0..3).map(worker).collect();
    let desired = round_robin(&model, 2, &[0, 1]);
    apply(&mut model, &reconcile(&model, &workers, &desired, NO_LOCKS, 1, &Policy::default()), true);
    let paused = Policy { paused: true, ..Policy::default() };

    // A worker is drained, a new segment is there, and a copied one was promoted again.
    workers[0].draining = true;
    model.observe(&segment("new"), "/data/new.sqlite", Canonical { bytes: 100, mtime_ms: 7 });
    model.observe(&segment("s3"), "/data/s3.sqlite", Canonical { bytes: 200, mtime_ms: 9 });
    let desired = round_robin(&model, 2, &[1, 2]);
    let plan = reconcile(&model, &workers, &desired, NO_LOCKS, 2, &paused);
    let s3 = model.find(&segment("s3")).expect("known");
    assert!(plan.puts.iter().all(|put| put.segment == s3 && put.why == Why::Refresh && put.row.bytes == 200));
    let refreshed: Vec<NodeIx> = plan.puts.iter().map(|put| put.row.node).collect();
    let held: Vec<NodeIx> = model.rows(s3).iter().map(|row| row.node).collect();
    assert_eq!((refreshed.len(), held.iter().all(|node| refreshed.contains(node))), (2, true), "wanted there or not");
    assert!(plan.drops.is_empty() && plan.summary.deferred >= 32, "{:?}", plan.summary);

    // Resumed, all of it is done.
    apply(&mut model, &plan, true);
    for generation in 3..10 {
        let plan = reconcile(&model, &workers, &desired, NO_LOCKS, generation, &Policy::default());
        if plan.is_empty() {
            assert!(generation > 3 && model.segments().all(|ix| model.rows(ix).iter().all(|row| row.node != 0)));
            return;
        }
        apply(&mut model, &plan, true);
    }
    panic!("does not settle");
}
