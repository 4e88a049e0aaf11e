//! The plan, phase by phase: what stands, filling up, giving way, then what is missing.

use super::{
    MAX_RINGS, NONE, Options, PLACING, STARVED, SegmentTable, Worker, bulk::Threads, ring::mix, shares::fair_shares,
    sites::Sites,
};
use crate::NodeId;

/// Segments whose cost is more than this part of the margin of an average worker are placed one by one.
const SLIVER: f64 = 1.0 / 64.0;

/// Lumps may leave a worker first too full and then too empty; so often both are looked after.
const SETTLING: usize = 4;

/// A copy that is to be placed anew: which one of which segment, and the hash that says when its turn is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) order: u64,
    pub(super) segment: u32,
    pub(super) copy: u8,
}

/// The hash by which copies give way to one another. Independent of every ring's positions.
pub(super) fn order(key: u64, copy: usize) -> u64 {
    mix(key ^ 0x5ca1_ab1e_0000_0000 ^ copy as u64)
}

/// Bytes that were placed: per site, and per copy number.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) load: Vec<u64>,
    pub(super) by_number: Vec<u64>,
    pub(super) wanted: Vec<u64>,
    /// Segments to be placed one by one.
    pub(super) large: Vec<u32>,
}

/// Who may take over copies, and which.
pub(super) struct Starved {
    /// How full each site is, 1 being its fair share.
    fullness: Vec<f64>,
    /// Sites that are to stay as they were found.
    content: Vec<bool>,
    /// Only what this plan has placed may be taken over.
    pub(super) new_only: bool,
}

impl Starved {
    fn is_starved(&self, site: u16) -> bool {
        self.fullness[usize::from(site)] < STARVED && !self.content[usize::from(site)]
    }

    /// A starved site takes from those that are not, and from starved ones that are much fuller than itself (a lump
    /// somewhere else can leave all others starved).
    fn may_take(&self, taker: u16, holder: u16) -> bool {
        let (taken, held) = (self.fullness[usize::from(taker)], self.fullness[usize::from(holder)]);
        self.is_starved(taker) && (!self.is_starved(holder) || taken < STARVED * held)
    }
}

/// Who is to give up copies, and which.
pub(super) struct Giving {
    /// The sites above their limit.
    pub(super) over: Vec<bool>,
    /// Any copy may go, not only those beyond the cuts.
    any: bool,
    /// Only what this plan has placed may go.
    pub(super) new_only: bool,
}

/// Everything that does not change while planning.
pub(super) struct Plan<'a> {
    pub(super) table: &'a SegmentTable,
    pub(super) sites: &'a Sites,
    pub(super) rings: usize,
    /// How far bytes are shifted right, so that all together stay below 2^52 and floating point is exact.
    shift: u32,
    /// Segments that cost more are large.
    large_above: u64,
}

impl Plan<'_> {
    /// What a segment weighs.
    pub(super) fn cost(&self, segment: usize) -> u64 {
        (self.table.bytes(segment) >> self.shift).max(1)
    }

    pub(super) fn is_large(&self, segment: usize) -> bool {
        self.cost(segment) > self.large_above
    }

    /// How many copies a segment shall have, workers permitting.
    pub(super) fn wanted(&self, segment: usize) -> usize {
        self.table.copies(segment).min(self.rings)
    }

    /// The copies that stand, by ring. One on a ring that is no longer wanted takes the place of one that is lost.
    pub(super) fn standing(&self, segment: usize, row: &mut [u16]) {
        row.fill(NONE);
        let previous = self.table.previous(segment);
        let wanted = self.wanted(segment);
        for (ring, &node) in previous.iter().enumerate() {
            let site = self.sites.site_of.get(usize::from(node)).copied().unwrap_or(NONE);
            if site == NONE || row.contains(&site) {
                continue;
            }
            if ring < wanted {
                row[ring] = site;
            } else if let Some(gap) = row[..wanted].iter_mut().find(|cell| **cell == NONE) {
                *gap = site;
            }
        }
    }

    /// The copies that must stay where they are: with `new_only` those that stood before the plan, else none.
    pub(super) fn stood(&self, segment: usize, new_only: bool, row: &mut [u16]) {
        match new_only {
            true => self.standing(segment, row),
            false => row.fill(NONE),
        }
    }

    /// The starved worker that is to take over a copy, if ring and row name one.
    pub(super) fn taker(&self, segment: usize, row: &[u16], copy: usize, starved: &Starved) -> Option<u16> {
        let holder = row[copy];
        if holder == NONE {
            return None;
        }
        let named = self.sites.choose(self.table.key(segment), row, copy, false, |_| true)?;
        starved.may_take(named, holder).then_some(named)
    }
}

/// Loads and limits, while planning.
pub(super) struct Loads {
    pub(super) load: Vec<u64>,
    fair: Vec<f64>,
    /// What a worker may keep.
    pub(super) keep: Vec<f64>,
    /// What a worker may be given.
    pub(super) place: Vec<f64>,
    /// Workers that hold so much are content, even if it is little. Infinite where nothing of the kind was said.
    content: Vec<f64>,
}

impl Loads {
    pub(super) fn has_room(&self, site: u16, cost: u64) -> bool {
        (self.load[usize::from(site)] + cost) as f64 <= self.place[usize::from(site)]
    }

    fn fullness_with(&self, site: u16, cost: u64) -> f64 {
        (self.load[usize::from(site)] + cost) as f64 / self.fair[usize::from(site)]
    }

    pub(super) fn is_over(&self, site: u16) -> bool {
        self.load[usize::from(site)] as f64 > self.keep[usize::from(site)]
    }

    pub(super) fn shift(&mut self, from: u16, to: u16, cost: u64) {
        if from != NONE {
            self.load[usize::from(from)] -= cost;
        }
        if to != NONE {
            self.load[usize::from(to)] += cost;
        }
    }
}

/// Places everything: node indexes, `rings` per segment.
pub(super) fn assign(
    workers: &[Worker],
    rings: usize,
    table: &SegmentTable,
    options: &Options,
    nodes: &[NodeId],
) -> Vec<u16> {
    let sites = Sites::new(workers, rings, options, nodes);
    let mut rows = vec![NONE; table.len() * rings];
    if sites.len() == 0 || rows.is_empty() {
        return rows;
    }
    let threads = Threads::new(options.threads, rings);
    let raw: u128 = threads
        .run(&mut rows, |first, rows| {
            (first..)
                .zip(rows.chunks(rings))
                .map(|(s, _)| u128::from(table.bytes(s)) * table.copies(s).min(rings) as u128)
                .sum::<u128>()
        })
        .into_iter()
        .sum();
    let shift = (128 - raw.leading_zeros()).saturating_sub(51);
    let margin = (raw >> shift) as f64 * options.epsilon / sites.len() as f64;
    let plan = Plan { table, sites: &sites, rings, shift, large_above: (margin * SLIVER) as u64 };

    let held = plan.hold(&threads, &mut rows);
    // Shares of what stands decide where standing copies go, shares of all that is wanted who must give some up and
    // where new ones go. So further copies, which raise the latter only, move nothing.
    let total: f64 = held.wanted.iter().map(|&bytes| bytes as f64).sum();
    let tolerated = |site: usize| table.tolerated(sites.node_of[site]).map(|share| share * total);
    // Whoever has joined since takes from all alike, so what is little enough to take more shrinks with it.
    let weight = |found: bool| {
        let counted = (0..sites.len()).filter(|site| !found || tolerated(*site).is_some());
        counted.map(|site| sites.all[site].weight as f64).sum::<f64>()
    };
    let little = STARVED * weight(true) / weight(false);
    let keep = |(site, fair): (usize, &f64)| fair.max(tolerated(site).unwrap_or(0.0)) * (1.0 + options.epsilon);
    let limits = |loads: Vec<u64>, fair: Vec<f64>, kept: Option<Vec<f64>>| Loads {
        load: loads,
        keep: kept.unwrap_or_else(|| fair.iter().enumerate().map(keep).collect()),
        place: fair.iter().map(|f| f * (1.0 + options.epsilon * PLACING)).collect(),
        content: (0..sites.len()).map(|site| tolerated(site).map_or(f64::INFINITY, |bytes| bytes * little)).collect(),
        fair,
    };
    let wanted = limits(Vec::new(), fair_shares(&sites.all, sites.zones, &held.wanted), None);
    let standing = fair_shares(&sites.all, sites.zones, &held.by_number);
    let mut loads = limits(held.load.clone(), standing, Some(wanted.keep.clone()));
    let mut large = held.large.clone();
    large.sort_unstable_by_key(|&s| {
        let s = s as usize;
        (std::cmp::Reverse(plan.cost(s)), table.key(s), table.bytes(s), s)
    });
    plan.fill_up(&threads, &mut rows, &large, &mut loads, false);
    plan.give_way(&threads, &mut rows, &large, &mut loads, false);
    plan.part(&threads, &mut rows, &large, &mut loads);
    if held.by_number != held.wanted {
        loads = Loads { load: loads.load, ..wanted };
        plan.place_large(&mut rows, &large, &mut loads);
        plan.place_small(&threads, &mut rows, &mut loads);
        for _ in 0..SETTLING {
            plan.give_way(&threads, &mut rows, &large, &mut loads, true);
            if !plan.fill_up(&threads, &mut rows, &large, &mut loads, true) {
                break;
            }
        }
    }
    threads.run(&mut rows, |_, rows| {
        rows.iter_mut().filter(|cell| **cell != NONE).for_each(|cell| *cell = sites.node_of[usize::from(*cell)]);
    });
    rows
}

impl Plan<'_> {
    /// Starved workers take over what the rings name them for, up to their fair share. With `new_only`, what stood
    /// before the plan stays. Says whether anything moved.
    fn fill_up(&self, threads: &Threads, rows: &mut [u16], large: &[u32], loads: &mut Loads, new_only: bool) -> bool {
        let sites = 0..self.sites.len() as u16;
        let starved = Starved {
            fullness: sites.clone().map(|site| loads.fullness_with(site, 0)).collect(),
            content: loads.load.iter().zip(&loads.content).map(|(load, enough)| *load as f64 >= *enough).collect(),
            new_only,
        };
        if !sites.into_iter().any(|site| starved.is_starved(site)) {
            return false;
        }
        let fair = loads.fair.clone();
        let before_all = loads.load.clone();
        let (mut before, mut stood) = ([NONE; MAX_RINGS], [NONE; MAX_RINGS]);
        for &segment in large {
            let (segment, cost) = (segment as usize, self.cost(segment as usize));
            let row = &mut rows[segment * self.rings..][..self.rings];
            let before = &mut before[..self.rings];
            before.copy_from_slice(row);
            self.stood(segment, new_only, &mut stood[..self.rings]);
            for copy in (0..self.rings).filter(|copy| stood[*copy] == NONE) {
                let Some(taker) = self.taker(segment, before, copy, &starved) else { continue };
                let fits = (loads.load[usize::from(taker)] + cost) as f64 <= fair[usize::from(taker)];
                if fits && self.may_take(row, copy, taker) {
                    loads.shift(row[copy], taker, cost);
                    row[copy] = taker;
                }
            }
        }
        let offered = self.offers(threads, rows, &starved);
        let left = |site: usize| fair[site] - loads.load[site] as f64;
        let cuts: Vec<u32> = (0..self.sites.len()).map(|site| offered.cut(site, left(site))).collect();
        let moved = self.take_over(threads, rows, &starved, &cuts);
        let (gained, lost) = moved.split_at(self.sites.len());
        for ((load, gained), lost) in loads.load.iter_mut().zip(gained).zip(lost) {
            *load = *load + gained - lost;
        }
        loads.load != before_all
    }

    /// Whether `taker` may hold copy number `copy`, given the other copies as they are by now.
    pub(super) fn may_take(&self, row: &[u16], copy: usize, taker: u16) -> bool {
        let shares_zone = || self.sites.zone_left(row, copy) && self.sites.zone_taken(row, copy, taker);
        !row.contains(&taker) && !shares_zone()
    }

    /// Workers above their limit give up what is above, to workers that have room, or at least are less full even
    /// then. With `new_only`, what stood before the plan stays.
    fn give_way(&self, threads: &Threads, rows: &mut [u16], large: &[u32], loads: &mut Loads, new_only: bool) {
        // First just so many copies as are too much; if some of those have nowhere to go, then any; at last at the
        // price of a zone.
        for (any, own_zone) in [(new_only, true), (true, true), (true, false)] {
            let over: Vec<bool> = (0..self.sites.len() as u16).map(|site| loads.is_over(site)).collect();
            if !over.contains(&true) {
                return;
            }
            for turn in self.giving(threads, rows, large, loads, &Giving { over, any, new_only }) {
                let (segment, copy) = (turn.segment as usize, usize::from(turn.copy));
                let (key, cost) = (self.table.key(segment), self.cost(segment));
                let row = &mut rows[segment * self.rings..][..self.rings];
                let from = row[copy];
                if !loads.is_over(from) {
                    continue;
                }
                let better = |site: &u16| loads.fullness_with(*site, cost) < loads.fullness_with(from, 0);
                if let Some(to) = self.roomiest(key, row, copy, cost, own_zone, loads).filter(better) {
                    loads.shift(from, to, cost);
                    row[copy] = to;
                }
            }
        }
    }

    /// The copies that are to leave a worker above its limit, in the order in which they are to try: large ones that
    /// alone are too many, small ones from the last to be placed on, and if `any` may go, large ones again, the
    /// smallest first.
    fn giving(&self, threads: &Threads, rows: &mut [u16], large: &[u32], loads: &Loads, giving: &Giving) -> Vec<Turn> {
        let mut kept = vec![0_u64; self.sites.len()];
        let (mut turns, mut later) = (Vec::new(), Vec::new());
        let mut stood = [NONE; MAX_RINGS];
        for &segment in large {
            let cost = self.cost(segment as usize);
            let row = &rows[segment as usize * self.rings..][..self.rings];
            self.stood(segment as usize, giving.new_only, &mut stood[..self.rings]);
            for (copy, &site) in row.iter().enumerate().filter(|(_, site)| **site != NONE) {
                let (site, turn) = (usize::from(site), Turn { order: 0, segment, copy: copy as u8 });
                let movable = giving.over[site] && stood[copy] == NONE;
                if movable && (kept[site] + cost) as f64 > loads.keep[site] {
                    turns.push(turn);
                    continue;
                }
                kept[site] += cost;
                if movable && giving.any {
                    later.push(turn);
                }
            }
        }
        let cuts: Vec<u32> = if giving.any {
            vec![0; self.sites.len()]
        } else {
            let held = self.weigh(threads, rows, &giving.over);
            let left = |site: usize| loads.keep[site] - kept[site] as f64;
            (0..self.sites.len()).map(|site| held.cut(site, left(site))).collect()
        };
        let mut small = self.givers(threads, rows, giving, &cuts);
        self.sort(&mut small);
        turns.extend(small.into_iter().rev());
        turns.extend(later.into_iter().rev());
        turns
    }

    /// Copies that share a zone part, where another zone has room.
    fn part(&self, threads: &Threads, rows: &mut [u16], large: &[u32], loads: &mut Loads) {
        if self.sites.zones <= 1 {
            return;
        }
        let mut small = self.sharers(threads, rows);
        self.sort(&mut small);
        let copies = |segment: u32| (0..self.rings as u8).map(move |copy| Turn { order: 0, segment, copy });
        for turn in large.iter().flat_map(|segment| copies(*segment)).chain(small) {
            let (segment, copy) = (turn.segment as usize, usize::from(turn.copy));
            let (key, cost) = (self.table.key(segment), self.cost(segment));
            let row = &mut rows[segment * self.rings..][..self.rings];
            if !self.sites.misplaced(row, copy) {
                continue;
            }
            if let Some(to) = self.sites.choose(key, row, copy, true, |site| loads.has_room(site, cost)) {
                loads.shift(row[copy], to, cost);
                row[copy] = to;
            }
        }
    }

    /// The missing copies of large segments, the largest first.
    fn place_large(&self, rows: &mut [u16], large: &[u32], loads: &mut Loads) {
        for &segment in large {
            for copy in 0..self.wanted(segment as usize) {
                self.place(segment as usize, copy, rows, loads);
            }
        }
    }

    /// The missing copies of all others: each to the worker it is named for, as far as that has room; then the rest
    /// one by one, further along their rings.
    fn place_small(&self, threads: &Threads, rows: &mut [u16], loads: &mut Loads) {
        let named = self.name(threads, rows);
        let left = |site: usize| loads.place[site] - loads.load[site] as f64;
        let cuts: Vec<u32> = (0..self.sites.len()).map(|site| named.cut(site, left(site))).collect();
        for (site, load) in loads.load.iter_mut().enumerate() {
            *load += named.total(site);
        }
        if cuts.iter().all(|cut| *cut == u32::MAX) {
            return;
        }
        let mut turns = self.reject(threads, rows, &cuts);
        for turn in &turns {
            let cell = &mut rows[turn.segment as usize * self.rings + usize::from(turn.copy)];
            loads.shift(std::mem::replace(cell, NONE), NONE, self.cost(turn.segment as usize));
        }
        self.sort(&mut turns);
        for turn in turns {
            self.place(turn.segment as usize, usize::from(turn.copy), rows, loads);
        }
    }

    /// Places one copy, if it is missing: where there is room, else where it hurts least.
    fn place(&self, segment: usize, copy: usize, rows: &mut [u16], loads: &mut Loads) {
        let (key, cost) = (self.table.key(segment), self.cost(segment));
        let row = &mut rows[segment * self.rings..][..self.rings];
        if row[copy] != NONE {
            return;
        }
        if let Some(to) = self.roomiest(key, row, copy, cost, true, loads) {
            loads.shift(NONE, to, cost);
            row[copy] = to;
        }
    }

    /// The first site along the ring that has room for the copy; if none has, the one that would be least full with
    /// it, of equals the first along the ring.
    fn roomiest(&self, key: u64, row: &[u16], copy: usize, cost: u64, own_zone: bool, loads: &Loads) -> Option<u16> {
        self.sites.choose(key, row, copy, own_zone, |site| loads.has_room(site, cost)).or_else(|| {
            let zoned = own_zone && self.sites.zone_left(row, copy);
            let shares_zone = |site: u16| zoned && self.sites.zone_taken(row, copy, site);
            let free = |site: &u16| !row.contains(site) && !shares_zone(*site);
            let all = (0..self.sites.len() as u16).filter(free);
            let least = all.map(|site| loads.fullness_with(site, cost)).min_by(f64::total_cmp)?;
            self.sites.choose(key, row, copy, own_zone, |site| loads.fullness_with(site, cost) <= least)
        })
    }

    /// Brings turns into an order that depends on nothing but the segments.
    fn sort(&self, turns: &mut [Turn]) {
        turns.sort_unstable_by_key(|turn| {
            let segment = turn.segment as usize;
            (turn.order, turn.copy, self.table.key(segment), self.table.bytes(segment), turn.segment)
        });
    }
}
