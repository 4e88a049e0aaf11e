//! The workers that may hold something, and the choice among them along a ring.

use std::collections::{BTreeMap, HashMap};

use super::{
    NONE, Options, Worker,
    ring::{Ring, mix},
    shares::Site,
};
use crate::NodeId;

/// The most points on one ring, so that it stays within a processor's cache.
const MAX_POINTS: u64 = 1 << 20;

/// Workers that may hold something, in the order of their names; a *site* is an index into it. And their rings.
#[derive(Debug)]
pub(super) struct Sites {
    pub(super) all: Vec<Site>,
    pub(super) zones: usize,
    pub(super) rings: Vec<Ring>,
    /// The site of each node index, [`NONE`] if it may hold nothing.
    pub(super) site_of: Vec<u16>,
    /// The node index of each site.
    pub(super) node_of: Vec<u16>,
}

impl Sites {
    pub(super) fn new(workers: &[Worker], rings: usize, options: &Options, nodes: &[NodeId]) -> Self {
        let mut able: Vec<&Worker> = workers.iter().filter(|w| !w.draining && w.weight_bytes > 0).collect();
        able.sort_by(|a, b| a.node.cmp(&b.node));
        let names: BTreeMap<&Option<String>, usize> = able.iter().map(|w| (&w.zone, 0)).collect();
        let numbers: BTreeMap<&Option<String>, u16> = names.keys().zip(0..).map(|(name, n)| (*name, n)).collect();
        let indexes: HashMap<&NodeId, u16> = nodes.iter().zip(0..).collect();
        let node_of: Vec<u16> = able.iter().map(|w| indexes[&w.node]).collect();
        let mut site_of = vec![NONE; nodes.len()];
        node_of.iter().zip(0..).for_each(|(node, site)| site_of[usize::from(*node)] = site);
        let points = points(&able.iter().map(|w| w.weight_bytes).collect::<Vec<_>>(), options.points_per_worker);
        let ring = |number| Ring::new(number, able.iter().map(|w| &w.node).zip(points.iter().copied()));
        Self {
            all: able.iter().map(|w| Site { weight: w.weight_bytes, zone: numbers[&w.zone] }).collect(),
            zones: numbers.len(),
            rings: (0..rings).map(ring).collect(),
            site_of,
            node_of,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether a zone is left that none of the copies in `row`, other than number `copy`, is in.
    pub(super) fn zone_left(&self, row: &[u16], copy: usize) -> bool {
        if self.zones <= 1 {
            return false;
        }
        let zone = |site: u16| self.all[usize::from(site)].zone;
        let others = || row.iter().enumerate().filter(move |(i, site)| *i != copy && **site != NONE);
        let used = others().filter(|(i, site)| !others().any(|(j, other)| j < *i && zone(*other) == zone(**site)));
        used.count() < self.zones
    }

    /// Whether some copy in `row`, other than number `copy`, is in `site`'s zone.
    pub(super) fn zone_taken(&self, row: &[u16], copy: usize, site: u16) -> bool {
        let zone = |site: u16| self.all[usize::from(site)].zone;
        row.iter().enumerate().any(|(i, other)| i != copy && *other != NONE && zone(*other) == zone(site))
    }

    /// Whether copy number `copy` shares its zone with an earlier copy although there are other zones.
    pub(super) fn misplaced(&self, row: &[u16], copy: usize) -> bool {
        row[copy] != NONE && self.zone_left(row, copy) && self.zone_taken(&row[..=copy], copy, row[copy])
    }

    /// The first site along ring `copy` that has room, holds no other copy in `row`, and is in a zone of its own, as
    /// long as there is one: with `own_zone` one at all, else one with room.
    pub(super) fn choose(
        &self,
        key: u64,
        row: &[u16],
        copy: usize,
        own_zone: bool,
        room: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let free = |site: u16| room(site) && !row.iter().enumerate().any(|(i, other)| i != copy && *other == site);
        if self.zone_left(row, copy) {
            let zoned = self.first(key, copy, |site| free(site) && !self.zone_taken(row, copy, site));
            if zoned.is_some() || own_zone {
                return zoned;
            }
        }
        self.first(key, copy, free)
    }

    /// Brings what the choice for these keys will look at into the processor's cache: all at once, where one after
    /// the other would each wait for memory.
    pub(super) fn warm(&self, keys: &[u64]) {
        for ring in &self.rings {
            std::hint::black_box(keys.iter().fold(0, |sum, key| sum ^ ring.owner(*key)));
        }
    }

    /// The first site along a ring that fits; if it is not among the next many points, the fitting one whose name
    /// and key hash lowest, so that no walk gets long.
    fn first(&self, key: u64, ring: usize, fits: impl Fn(u16) -> bool) -> Option<u16> {
        let owner = self.rings[ring].owner(key);
        if owner != NONE && fits(owner) {
            return Some(owner);
        }
        let steps = 64 + 4 * self.len();
        self.rings[ring].walk(key).take(steps).find(|site| fits(*site)).or_else(|| {
            let sites = (0..self.len() as u16).filter(|site| fits(*site));
            sites.min_by_key(|site| (mix(key ^ mix(u64::from(*site) << 8 | ring as u64)), *site))
        })
    }
}

/// Points per worker: its weight in units of a power of two, so that a worker that comes or goes hardly ever changes
/// another's.
fn points(weights: &[u64], per_worker: usize) -> Vec<u64> {
    let most = u128::from(MAX_POINTS.max(weights.len() as u64)).min(weights.len() as u128 * per_worker.max(1) as u128);
    let total = |unit: u32| weights.iter().map(|w| u128::from((w >> unit).max(1))).sum::<u128>();
    let unit = (0..63).find(|&unit| total(unit) <= most).unwrap_or(63);
    if unit == 0 {
        // Weights that are small numbers: multiplied by a power of two instead.
        let up = (0..63).rev().find(|&up| total(0) << up <= most).unwrap_or(0);
        return weights.iter().map(|w| w << up).collect();
    }
    weights.iter().map(|w| (w >> unit).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_follow_weight() {
        assert_eq!(points(&[1, 1, 2], 4096), [2048, 2048, 4096]);
        assert_eq!(points(&[1 << 40, 1 << 40, 3 << 40], 4096), [2048, 2048, 6144]);
        assert_eq!(points(&[1, u64::MAX], 4096), [1, 8191]);
        assert_eq!(points(&[], 4096), [0; 0]);
        assert_eq!(points(&vec![7; 100_000], 4096).iter().sum::<u64>(), 700_000);
    }
}
