//! Measures placement: time and peak memory.
//!
//! `placement_bench [SEGMENTS [WORKERS [COPIES [THREADS]]]]`, by default 10,000,000 segments, 100 workers, 2 copies and
//! all processors: from scratch, again over its own result, with one worker more, with one worker less.

use std::time::Instant;

use trough_core::{
    NodeId,
    placement::{Options, Placement, PlacementError, SegmentTable, Worker, plan},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut next = |default| arguments.next().unwrap_or(Ok(default));
    let (segments, count, copies, threads) = (next(10_000_000)?, next(100)?, next(2)?, next(0)?);
    println!("{segments} segments x {copies} copies on {count} workers");

    let begun = Instant::now();
    let mut table = SegmentTable::with_capacity(copies, segments);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..segments {
        // Keys as hashes give them, and lengths from 8 KiB to 1 MiB, mostly short.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = (random ^ (random >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (random >> 32);
        table.push_key(key, 8192 << ((random >> 40).trailing_zeros().min(7)), copies);
    }
    report("table", begun, None);

    let mut workers = workers(count + 1)?;
    let extra = workers.pop();
    let options = Options { threads, ..Options::default() };
    let run = |what: &str, workers: &[Worker], table: &SegmentTable| -> Result<Placement, PlacementError> {
        let begun = Instant::now();
        let placement = plan(workers, copies, table, &options)?;
        report(what, begun, Some((&placement, table, workers)));
        Ok(placement)
    };
    let placement = run("from scratch", &workers, &table)?;
    table.adopt(&placement)?;
    drop(placement);
    run("again", &workers, &table)?;
    workers.extend(extra);
    run("one worker more", &workers, &table)?;
    workers.truncate(count.saturating_sub(1));
    run("one worker less", &workers, &table)?;
    Ok(())
}

fn workers(count: usize) -> Result<Vec<Worker>, trough_core::IdError> {
    let worker = |i: usize| {
        let node = NodeId::new(&format!("worker-{i:04}"))?;
        Ok(Worker { node, weight_bytes: (8 + (i as u64 % 3) * 4) << 40, zone: None, draining: false })
    };
    (0..count).map(worker).collect()
}

fn report(what: &str, begun: Instant, result: Option<(&Placement, &SegmentTable, &[Worker])>) {
    let took = begun.elapsed().as_secs_f64();
    let peak = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).map_or("unknown", str::trim).to_owned();
    print!("{what:>16}: {took:7.2} s, peak memory {peak}");
    if let Some((placement, table, workers)) = result {
        let (moves, balance) = (placement.moves(table), placement.balance(table, workers));
        let all: u64 = balance.bytes.iter().sum();
        let share = moves.added_bytes as f64 / all as f64 * 100.0;
        print!(", max/mean {:.4}, loads {} copies, {share:.3} % of the bytes", balance.max_over_mean, moves.adds);
    }
    println!();
}
