//! The streaming passes over all rows, in parallel. What they gather are sums and sets, so neither the number of
//! threads nor the order of segments shows in a result. Large segments are passed over by all but the first.

use std::{num::NonZero, thread};

use super::{
    MAX_RINGS, NONE,
    planner::{Giving, Held, Plan, Starved, Turn, order},
};

/// Runs a pass over slices of the rows, one thread each.
pub(super) struct Threads {
    count: usize,
    rings: usize,
}

impl Threads {
    /// `count` threads, 0 for as many as there are processors.
    pub(super) fn new(count: usize, rings: usize) -> Self {
        let available = thread::available_parallelism().map_or(1, NonZero::get).min(16);
        Self { count: if count == 0 { available } else { count }, rings }
    }

    /// Calls `pass` with the first segment of each slice and the slice's rows.
    pub(super) fn run<A: Send>(&self, rows: &mut [u16], pass: impl Fn(usize, &mut [u16]) -> A + Sync) -> Vec<A> {
        /// Fewer segments than this are not worth a thread.
        const WORTHWHILE: usize = 20_000;
        let segments = rows.len() / self.rings;
        let each = segments.div_ceil(self.count).max(WORTHWHILE);
        if segments <= each {
            return vec![pass(0, rows)];
        }
        thread::scope(|scope| {
            let slices = rows.chunks_mut(each * self.rings).enumerate();
            let pass = &pass;
            let running: Vec<_> = slices.map(|(n, rows)| scope.spawn(move || pass(n * each, rows))).collect();
            let ended = running.into_iter().map(|thread| thread.join());
            ended.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    }
}

/// Bytes per site, by the upper bits of the copies' [`order`].
pub(super) struct Histogram {
    bits: u32,
    bytes: Vec<u64>,
}

impl Histogram {
    pub(super) fn new(sites: usize) -> Self {
        // Half a MiB, as far as that goes, so that it stays in the cache.
        let bits = 16_u32.saturating_sub(usize::BITS - sites.leading_zeros()).clamp(6, 12);
        Self { bits, bytes: vec![0; sites << bits] }
    }

    fn bucket(&self, order: u64) -> u32 {
        (order >> (64 - self.bits)) as u32
    }

    fn add(&mut self, site: u16, order: u64, cost: u64) {
        let bucket = self.bucket(order) as usize;
        self.bytes[(usize::from(site) << self.bits) + bucket] += cost;
    }

    fn merge(histograms: Vec<Self>) -> Self {
        let mut histograms = histograms.into_iter();
        let mut sum = histograms.next().expect("a pass runs at least once");
        for one in histograms {
            sum.bytes.iter_mut().zip(one.bytes).for_each(|(sum, bytes)| *sum += bytes);
        }
        sum
    }

    fn of(&self, site: usize) -> &[u64] {
        &self.bytes[site << self.bits..][..1 << self.bits]
    }

    pub(super) fn total(&self, site: usize) -> u64 {
        self.of(site).iter().sum()
    }

    /// The bucket from which on a site's copies have no place, if only `budget` bytes have; `u32::MAX` if all have.
    pub(super) fn cut(&self, site: usize, budget: f64) -> u32 {
        let mut sum = 0;
        for (bucket, bytes) in self.of(site).iter().enumerate() {
            sum += bytes;
            if sum as f64 > budget {
                return bucket as u32;
            }
        }
        u32::MAX
    }
}

/// Calls `each` with every small segment and its row.
fn small<'r>(plan: &Plan<'_>, first: usize, rows: &'r mut [u16], mut each: impl FnMut(usize, &'r mut [u16])) {
    for (segment, row) in (first..).zip(rows.chunks_mut(plan.rings)) {
        if !plan.is_large(segment) {
            each(segment, row);
        }
    }
}

/// The same for a pass that looks at the rings.
fn small_warm(plan: &Plan<'_>, first: usize, rows: &mut [u16], mut each: impl FnMut(usize, &mut [u16])) {
    const BLOCK: usize = 64;
    for (n, rows) in rows.chunks_mut(BLOCK * plan.rings).enumerate() {
        let first = first + n * BLOCK;
        plan.sites.warm(&plan.table.keys()[first..][..rows.len() / plan.rings]);
        small(plan, first, rows, &mut each);
    }
}

fn add_up(mut all: Vec<Vec<u64>>) -> Vec<u64> {
    let mut sum = all.pop().expect("a pass runs at least once");
    for one in all {
        sum.iter_mut().zip(one).for_each(|(sum, bytes)| *sum += bytes);
    }
    sum
}

impl Plan<'_> {
    fn histogram(&self) -> Histogram {
        Histogram::new(self.sites.len())
    }

    /// Fills in what stands, and weighs it.
    pub(super) fn hold(&self, threads: &Threads, rows: &mut [u16]) -> Held {
        let none = || Held {
            load: vec![0; self.sites.len()],
            by_number: vec![0; self.rings],
            wanted: vec![0; self.rings],
            large: Vec::new(),
        };
        let any = self.table.has_previous();
        let parts = threads.run(rows, |first, rows| {
            let mut held = none();
            for (segment, row) in (first..).zip(rows.chunks_mut(self.rings)) {
                let cost = self.cost(segment);
                if any {
                    self.standing(segment, row);
                    for (number, &site) in row.iter().filter(|site| **site != NONE).enumerate() {
                        held.load[usize::from(site)] += cost;
                        held.by_number[number] += cost;
                    }
                }
                held.wanted[..self.wanted(segment)].iter_mut().for_each(|bytes| *bytes += cost);
                if self.is_large(segment) {
                    held.large.push(segment as u32);
                }
            }
            held
        });
        let mut sum = none();
        for part in parts {
            sum.load = add_up(vec![sum.load, part.load]);
            sum.by_number = add_up(vec![sum.by_number, part.by_number]);
            sum.wanted = add_up(vec![sum.wanted, part.wanted]);
            sum.large.extend(part.large);
        }
        sum
    }

    /// What the starved could take over.
    pub(super) fn offers(&self, threads: &Threads, rows: &mut [u16], starved: &Starved) -> Histogram {
        Histogram::merge(threads.run(rows, |first, rows| {
            let mut offers = self.histogram();
            let mut stood = [NONE; MAX_RINGS];
            small_warm(self, first, rows, |segment, row| {
                self.stood(segment, starved.new_only, &mut stood[..self.rings]);
                for copy in (0..self.rings).filter(|copy| stood[*copy] == NONE) {
                    if let Some(taker) = self.taker(segment, row, copy, starved) {
                        offers.add(taker, order(self.table.key(segment), copy), self.cost(segment));
                    }
                }
            });
            offers
        }))
    }

    /// Lets the starved take over what is below their cuts. Returns what each site gained, then what each lost.
    pub(super) fn take_over(&self, threads: &Threads, rows: &mut [u16], starved: &Starved, cuts: &[u32]) -> Vec<u64> {
        let buckets = self.histogram();
        let sites = self.sites.len();
        add_up(threads.run(rows, |first, rows| {
            let mut moved = vec![0; 2 * sites];
            let (mut before, mut stood) = ([NONE; MAX_RINGS], [NONE; MAX_RINGS]);
            small_warm(self, first, rows, |segment, row| {
                let before = &mut before[..self.rings];
                before.copy_from_slice(row);
                self.stood(segment, starved.new_only, &mut stood[..self.rings]);
                for copy in (0..self.rings).filter(|copy| stood[*copy] == NONE) {
                    let Some(taker) = self.taker(segment, before, copy, starved) else { continue };
                    let bucket = buckets.bucket(order(self.table.key(segment), copy));
                    if bucket < cuts[usize::from(taker)] && self.may_take(row, copy, taker) {
                        moved[usize::from(taker)] += self.cost(segment);
                        moved[sites + usize::from(row[copy])] += self.cost(segment);
                        row[copy] = taker;
                    }
                }
            });
            moved
        }))
    }

    /// What the workers above their limit hold.
    pub(super) fn weigh(&self, threads: &Threads, rows: &mut [u16], over: &[bool]) -> Histogram {
        Histogram::merge(threads.run(rows, |first, rows| {
            let mut held = self.histogram();
            small(self, first, rows, |segment, row| {
                for (copy, &site) in row.iter().enumerate() {
                    if site != NONE && over[usize::from(site)] {
                        held.add(site, order(self.table.key(segment), copy), self.cost(segment));
                    }
                }
            });
            held
        }))
    }

    /// The copies that are to leave a worker above its limit.
    pub(super) fn givers(&self, threads: &Threads, rows: &mut [u16], giving: &Giving, cuts: &[u32]) -> Vec<Turn> {
        let buckets = self.histogram();
        let parts = threads.run(rows, |first, rows| {
            let mut turns = Vec::new();
            let mut stood = [NONE; MAX_RINGS];
            let stood = &mut stood[..self.rings];
            small(self, first, rows, |segment, row| {
                let from_over = |site: u16| site != NONE && giving.over[usize::from(site)];
                if row.iter().any(|site| from_over(*site)) {
                    self.stood(segment, giving.new_only, stood);
                }
                for (copy, &site) in row.iter().enumerate().filter(|(_, site)| from_over(**site)) {
                    let order = order(self.table.key(segment), copy);
                    if stood[copy] == NONE && buckets.bucket(order) >= cuts[usize::from(site)] {
                        turns.push(Turn { order, segment: segment as u32, copy: copy as u8 });
                    }
                }
            });
            turns
        });
        parts.concat()
    }

    /// The copies that share a zone with an earlier one although there are other zones.
    pub(super) fn sharers(&self, threads: &Threads, rows: &mut [u16]) -> Vec<Turn> {
        let parts = threads.run(rows, |first, rows| {
            let mut turns = Vec::new();
            small(self, first, rows, |segment, row| {
                for copy in (0..self.rings).filter(|copy| self.sites.misplaced(row, *copy)) {
                    let order = order(self.table.key(segment), copy);
                    turns.push(Turn { order, segment: segment as u32, copy: copy as u8 });
                }
            });
            turns
        });
        parts.concat()
    }

    /// Gives every missing copy to the worker it is named for, room or not. Returns what they got.
    pub(super) fn name(&self, threads: &Threads, rows: &mut [u16]) -> Histogram {
        Histogram::merge(threads.run(rows, |first, rows| {
            let mut named = self.histogram();
            small_warm(self, first, rows, |segment, row| {
                let key = self.table.key(segment);
                for copy in 0..self.wanted(segment) {
                    if row[copy] != NONE {
                        continue;
                    }
                    if let Some(site) = self.sites.choose(key, row, copy, false, |_| true) {
                        row[copy] = site;
                        named.add(site, order(key, copy), self.cost(segment));
                    }
                }
            });
            named
        }))
    }

    /// The copies that were just named and are beyond their worker's cut.
    pub(super) fn reject(&self, threads: &Threads, rows: &mut [u16], cuts: &[u32]) -> Vec<Turn> {
        let buckets = self.histogram();
        let any = self.table.has_previous();
        let parts = threads.run(rows, |first, rows| {
            let mut turns = Vec::new();
            let mut stood = [NONE; MAX_RINGS];
            let stood = &mut stood[..self.rings];
            small(self, first, rows, |segment, row| {
                let cut = |copy: usize| {
                    let site = row[copy];
                    site != NONE && cuts[usize::from(site)] != u32::MAX && {
                        let bucket = buckets.bucket(order(self.table.key(segment), copy));
                        bucket >= cuts[usize::from(site)]
                    }
                };
                if any && (0..self.rings).any(cut) {
                    self.standing(segment, stood);
                }
                for copy in (0..self.rings).filter(|copy| cut(*copy)) {
                    if stood[copy] == NONE {
                        let order = order(self.table.key(segment), copy);
                        turns.push(Turn { order, segment: segment as u32, copy: copy as u8 });
                    }
                }
            });
            turns
        });
        parts.concat()
    }
}
