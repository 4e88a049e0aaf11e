//! Placement's promises, over random clusters.

use std::collections::HashSet;

use proptest::{prelude::*, sample::Index};
use trough_core::{
    NodeId, SegmentId,
    placement::{NONE, Options, Placement, PlacementError, SegmentTable, Worker, plan},
};

fn worker(name: impl std::fmt::Display, weight_bytes: u64) -> Worker {
    Worker { node: NodeId::new(&name.to_string()).expect("valid"), weight_bytes, zone: None, draining: false }
}

fn table(rings: usize, segments: &[(String, u64, usize)]) -> SegmentTable {
    let mut table = SegmentTable::new(rings);
    for (id, bytes, copies) in segments {
        table.push(&SegmentId::new(id).expect("valid"), *bytes, *copies);
    }
    table
}

/// `count` segments of 8 KiB to 1 MiB, mostly small.
fn segments(seed: u64, count: usize, copies: usize) -> Vec<(String, u64, usize)> {
    let mut random = fastrand(seed);
    (0..count).map(|i| (format!("s{seed}-{i}"), 8192 + (random() % 1024).pow(2), copies)).collect()
}

fn fastrand(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    }
}

fn place(workers: &[Worker], rings: usize, table: &SegmentTable) -> Placement {
    let placement = plan(workers, rings, table, &Options::default()).expect("sensible input");
    check(workers, rings, table, &placement);
    placement
}

/// What always holds: as many copies as are wanted and possible, on the lowest rings, on distinct able workers.
fn check(workers: &[Worker], rings: usize, table: &SegmentTable, placement: &Placement) {
    let able: HashSet<&NodeId> =
        workers.iter().filter(|w| !w.draining && w.weight_bytes > 0).map(|w| &w.node).collect();
    for segment in 0..table.len() {
        let copies: Vec<_> = placement.copies(segment).collect();
        let distinct: HashSet<_> = copies.iter().map(|(_, node)| *node).collect();
        let wanted = table.copies(segment).min(rings);
        assert_eq!(copies.len(), wanted.min(able.len()), "segment {segment}: {copies:?}");
        assert_eq!(distinct.len(), copies.len(), "segment {segment}: {copies:?}");
        assert!(copies.iter().all(|(ring, node)| *ring < wanted && able.contains(*node)));
    }
}

fn balance(placement: &Placement, table: &SegmentTable, workers: &[Worker]) -> f64 {
    placement.balance(table, workers).max_over_mean
}

fn held_by(placement: &Placement, table: &SegmentTable, workers: &[Worker], node: &NodeId) -> u64 {
    let index = placement.nodes().iter().position(|n| n == node).expect("named");
    placement.balance(table, workers).bytes[index]
}

/// A cluster in which every worker can hold its share and no segment is a lump.
fn cluster() -> impl Strategy<Value = (Vec<Worker>, usize, u64)> {
    (4..24_usize, 1..4_usize, any::<u64>()).prop_flat_map(|(count, rings, seed)| {
        prop::collection::vec(4..9_u64, count).prop_map(move |weights| {
            let workers = weights.iter().enumerate().map(|(i, w)| worker(format!("w{i}"), w << 40)).collect();
            (workers, rings.min(count / 3), seed)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn loads_are_even_and_little_moves((mut workers, rings, seed) in cluster(), gone: Index) {
        let mut table = table(rings, &segments(seed, workers.len() * 800, rings));
        let first = place(&workers, rings, &table);
        prop_assert!(balance(&first, &table, &workers) <= 1.05);
        table.adopt(&first).expect("few nodes");
        let again = place(&workers, rings, &table);
        prop_assert_eq!(again.moves(&table).adds, 0, "what is placed stays");

        workers.push(worker("new", 6 << 40));
        let more = place(&workers, rings, &table);
        let total: u64 = (0..table.len()).map(|s| table.bytes(s) * rings as u64).sum();
        let weight: u64 = workers.iter().map(|w| w.weight_bytes >> 40).sum();
        let share = total as f64 * 6.0 / weight as f64;
        let moved = more.moves(&table).added_bytes as f64;
        prop_assert!(moved <= 1.1 * share, "adding one moves {:.3} of the least", moved / share);
        prop_assert!(balance(&more, &table, &workers) <= 1.05);
        let new = held_by(&more, &table, &workers, &workers[workers.len() - 1].node) as f64;
        prop_assert!(new >= 0.8 * share, "the new one got {:.3} of its share", new / share);

        table.adopt(&more).expect("few nodes");
        let removed = workers.remove(gone.index(workers.len()));
        let least = held_by(&more, &table, &workers, &removed.node) as f64;
        let fewer = place(&workers, rings, &table);
        let moved = fewer.moves(&table).added_bytes as f64;
        prop_assert!(moved <= 1.1 * least, "removing one moves {:.3} of the least", moved / least);
        prop_assert!(balance(&fewer, &table, &workers) <= 1.05);
    }

    #[test]
    fn a_further_copy_moves_nothing(
        weights in prop::collection::vec(1..10_u64, 1..12),
        count in 1..400_usize,
        (rings, seed) in (1..4_usize, any::<u64>()),
    ) {
        let workers: Vec<_> = weights.iter().enumerate().map(|(i, w)| worker(i, w << 40)).collect();
        let mut old = table(rings + 1, &segments(seed, count, rings));
        let placed = place(&workers, rings, &old);
        old.adopt(&placed).expect("few nodes");
        let mut wider = table(rings + 1, &segments(seed, count, rings + 1));
        wider.adopt(&placed).expect("few nodes");
        let further = place(&workers, rings + 1, &wider);
        for segment in 0..count {
            prop_assert_eq!(&further.assigned(segment)[..rings], placed.assigned(segment));
        }
        prop_assert_eq!(further.moves(&wider).removes, 0);
    }

    #[test]
    fn no_order_matters((workers, rings, seed) in cluster(), threads in 1..5_usize) {
        let list = segments(seed, 30_000, rings);
        let mut straight = table(rings, &list);
        let mut reversed = table(rings, &list.iter().rev().cloned().collect::<Vec<_>>());
        let backwards: Vec<_> = workers.iter().rev().cloned().collect();
        let options = Options { threads, ..Options::default() };
        for _ in 0..2 {
            let a = plan(&workers, rings, &straight, &Options { threads: 1, ..options }).expect("sensible input");
            let b = plan(&backwards, rings, &reversed, &options).expect("sensible input");
            for segment in 0..list.len() {
                let there: Vec<_> = b.copies(list.len() - 1 - segment).collect();
                prop_assert_eq!(a.copies(segment).collect::<Vec<_>>(), there);
            }
            // Then with one worker's copies lost.
            straight.adopt(&a).expect("few nodes");
            reversed.adopt(&b).expect("few nodes");
            let lost = straight.intern(&workers[0].node).expect("few nodes");
            for segment in 0..list.len() {
                for ring in 0..rings {
                    if straight.previous(segment)[ring] == lost {
                        straight.set_previous(segment, ring, NONE);
                        reversed.set_previous(list.len() - 1 - segment, ring, NONE);
                    }
                }
            }
        }
    }

    #[test]
    fn copies_are_in_different_zones_while_there_are_others(
        sizes in prop::collection::vec(1..5_usize, 1..5),
        (rings, seed) in (1..4_usize, any::<u64>()),
    ) {
        let mut workers = Vec::new();
        for (zone, size) in sizes.iter().enumerate() {
            workers.extend((0..*size).map(|i| Worker { zone: Some(zone.to_string()), ..worker(format!("{zone}-{i}"), 1 << 50) }));
        }
        let table = table(rings, &segments(seed, 2_000, rings));
        let placement = place(&workers, rings, &table);
        let together = |segment: &usize| {
            let copies: Vec<_> = placement.copies(*segment).map(|(_, node)| node).collect();
            let zones: HashSet<_> = copies.iter().map(|node| node.as_str().split('-').next()).collect();
            zones.len() < copies.len().min(sizes.len())
        };
        // The bound comes first: very rarely it leaves one no way out.
        let count = (0..table.len()).filter(together).count();
        prop_assert!(count <= 2, "{count} of 2000 share a zone");
    }

    #[test]
    fn anything_goes(
        weights in prop::collection::vec(prop_oneof![Just(0), 1..4_u64, Just(1 << 40), Just(u64::MAX)], 0..8),
        segments in prop::collection::vec((prop_oneof![Just(0), 1..100_u64, Just(1 << 50), Just(u64::MAX)], 0..5_usize), 0..60),
        (rings, zones, draining) in (0..4_usize, 1..4_usize, any::<u8>()),
    ) {
        let mut workers: Vec<_> = weights.iter().enumerate().map(|(i, w)| worker(i, *w)).collect();
        for (i, worker) in workers.iter_mut().enumerate() {
            worker.zone = (i % zones > 0).then(|| format!("z{}", i % zones));
        }
        let list: Vec<_> = segments.iter().enumerate().map(|(i, (bytes, copies))| (i.to_string(), *bytes, *copies)).collect();
        let mut table = table(4, &list);
        for round in 0..12 {
            let placement = place(&workers, rings, &table);
            let moves = placement.moves(&table);
            table.adopt(&placement).expect("few nodes");
            if round == 2 {
                workers.iter_mut().enumerate().for_each(|(i, worker)| worker.draining = draining >> i & 1 == 1);
            } else if round == 11 {
                prop_assert_eq!((moves.adds, moves.removes), (0, 0), "it comes to rest");
            }
        }
    }
}

#[test]
fn a_cluster_that_grows_and_shrinks_stays_even() {
    let (rings, mut random) = (2, fastrand(7));
    let mut workers: Vec<_> = (0..6).map(|i| worker(format!("w{i}"), (4 + random() % 5) << 40)).collect();
    let mut table = table(rings, &segments(1, 20_000, rings));
    let total: u64 = (0..table.len()).map(|s| table.bytes(s) * rings as u64).sum();
    table.adopt(&place(&workers, rings, &table)).expect("few nodes");
    for step in 0..40 {
        let grows = workers.len() < 6 || step < 20 || step % 2 == 0;
        let least = if grows {
            workers.push(worker(format!("n{step}"), (4 + random() % 5) << 40));
            let weight: u64 = workers.iter().map(|w| w.weight_bytes >> 40).sum();
            total as f64 * (workers[workers.len() - 1].weight_bytes >> 40) as f64 / weight as f64
        } else {
            let gone = workers.remove(random() as usize % workers.len());
            let index = table.intern(&gone.node).expect("few nodes");
            (0..table.len()).filter(|s| table.previous(*s).contains(&index)).map(|s| table.bytes(s)).sum::<u64>() as f64
        };
        let placement = place(&workers, rings, &table);
        let moved = placement.moves(&table).added_bytes as f64;
        let even = balance(&placement, &table, &workers);
        assert!(moved <= 1.1 * least, "step {step}: {:.3} of the least, {even:.3}", moved / least);
        assert!(even <= 1.05, "step {step}: {even:.4}");
        table.adopt(&placement).expect("few nodes");
    }
}

#[test]
fn a_drained_worker_is_emptied_and_nothing_else_moves() {
    let mut workers: Vec<_> = (0..8).map(|i| worker(i, 1 << 40)).collect();
    let mut table = table(2, &segments(3, 5_000, 2));
    let before = place(&workers, 2, &table);
    table.adopt(&before).expect("few nodes");
    workers[3].draining = true;
    let after = place(&workers, 2, &table);
    let drained = table.intern(&workers[3].node).expect("known");
    for change in after.changes(&table) {
        let is_removal = matches!(change.kind, trough_core::placement::ChangeKind::Remove);
        assert_eq!(is_removal, change.node == drained, "{change:?}");
    }
    assert!((0..table.len()).all(|s| !after.assigned(s).contains(&drained)));
}

#[test]
fn a_worker_with_more_weight_takes_more() {
    let mut workers: Vec<_> = (0..10).map(|i| worker(i, 1 << 40)).collect();
    let mut table = table(2, &segments(4, 10_000, 2));
    table.adopt(&place(&workers, 2, &table)).expect("few nodes");
    for weight in [3 << 40, 1 << 39] {
        workers[0].weight_bytes = weight;
        let placement = place(&workers, 2, &table);
        assert!(balance(&placement, &table, &workers) <= 1.05);
        let share = weight as f64 / workers.iter().map(|w| w.weight_bytes as f64).sum::<f64>();
        let total: u64 = (0..table.len()).map(|s| table.bytes(s) * 2).sum();
        let held = held_by(&placement, &table, &workers, &workers[0].node) as f64 / (share * total as f64);
        assert!((0.9..=1.051).contains(&held), "it holds {held:.3} of its share");
        let least = (share - 0.1).abs().max(0.05) * total as f64;
        assert!(placement.moves(&table).added_bytes as f64 <= 1.1 * least.max((3.0 / 12.0 - share) * total as f64));
        table.adopt(&placement).expect("few nodes");
    }
}

#[test]
fn a_copy_on_a_ring_that_is_gone_takes_the_place_of_a_lost_one() {
    let workers: Vec<_> = (0..3).map(|i| worker(i, 1 << 40)).collect();
    let mut table = table(3, &[("a".into(), 100, 2)]);
    let gone = table.intern(&NodeId::new("gone").expect("valid")).expect("few nodes");
    let zero = table.intern(&workers[0].node).expect("few nodes");
    let one = table.intern(&workers[1].node).expect("few nodes");
    table.set_previous(0, 0, gone);
    table.set_previous(0, 1, zero);
    table.set_previous(0, 2, one);
    let placement = place(&workers, 2, &table);
    assert_eq!(placement.assigned(0), [one, zero]);
    let changes: Vec<_> = placement.changes(&table).map(|c| (c.ring, c.node, c.kind)).collect();
    use trough_core::placement::ChangeKind::{Remove, Renumber};
    assert_eq!(changes, [(0, one, Renumber { from: 2 }), (0, gone, Remove)]);
}

#[test]
fn senseless_input_is_refused() {
    let table = table(1, &[]);
    let twice = [worker("a", 1), worker("a", 2)];
    assert!(matches!(plan(&twice, 1, &table, &Options::default()), Err(PlacementError::DuplicateWorker(_))));
    assert!(matches!(plan(&[], 65, &table, &Options::default()), Err(PlacementError::TooManyRings(65))));
    let epsilon = Options { epsilon: f64::NAN, ..Options::default() };
    assert!(matches!(plan(&[], 1, &table, &epsilon), Err(PlacementError::BadEpsilon(_))));
    assert!(plan(&[], 1, &table, &Options::default()).expect("no workers, no segments").nodes().is_empty());
}
