//! One consistent hash ring: sorted points, each a worker's, and two indexes: one that mostly names a key's worker
//! at once, one that finds its successor in about one step.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::NONE;
use crate::NodeId;

/// A bijective scrambling of 64 bits (the finalizer of splitmix64).
pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A ring. Positions have 48 bits.
#[derive(Debug)]
pub(super) struct Ring {
    seed: u64,
    /// Position in the upper 48 bits, worker in the lower 16; sorted.
    points: Vec<u64>,
    /// Per slice of the ring, the first point at or behind its begin.
    starts: Vec<u32>,
    shift: u32,
    /// Per slice a quarter as wide, the worker of all keys in it; [`NONE`] where there are several, or none.
    owners: Vec<u16>,
}

/// Slices of `owners` per slice of `starts`, as a power of two.
const FINER: u32 = 2;

impl Ring {
    /// Ring number `number` with `(node, points)` per worker. Workers are named by their index in `workers`.
    pub(super) fn new<'a>(number: usize, workers: impl Iterator<Item = (&'a NodeId, u64)>) -> Self {
        let seed = mix(0x7472_6f75_6768 + number as u64);
        let mut points = Vec::new();
        for (worker, (node, count)) in workers.enumerate() {
            let base = xxh3_64_with_seed(node.as_str().as_bytes(), seed);
            points.extend((0..count).map(|i| {
                let position = mix(base.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
                position & !0xffff | worker as u64
            }));
        }
        points.sort_unstable();
        let bits = usize::BITS - points.len().leading_zeros();
        let shift = 48 - bits.min(40);
        let mut starts = vec![0; 1 << (48 - shift)];
        let mut at = 0;
        for (slice, start) in starts.iter_mut().enumerate() {
            while at < points.len() && (points[at] >> 16) < (slice as u64) << shift {
                at += 1;
            }
            *start = at as u32;
        }
        let mut at = 0;
        let fine = shift - FINER;
        let owner = |slice: u64| {
            while at < points.len() && (points[at] >> 16) < slice << fine {
                at += 1;
            }
            match points.get(at).or(points.first()) {
                Some(point) if at == points.len() || point >> 16 >= (slice + 1) << fine => *point as u16,
                _ => NONE,
            }
        };
        let owners = (0..1 << (48 - fine)).map(owner).collect();
        Self { seed, points, starts, shift, owners }
    }

    /// The worker of the first point behind `key`'s position, if it can be told at once; else [`NONE`].
    pub(super) fn owner(&self, key: u64) -> u16 {
        let position = mix(key ^ self.seed) >> 16;
        self.owners[(position >> (self.shift - FINER)) as usize]
    }

    /// The workers behind `key`'s position, point by point, once around.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = u16> + '_ {
        let position = mix(key ^ self.seed) >> 16;
        let mut at = self.starts[(position >> self.shift) as usize] as usize;
        while self.points.get(at).is_some_and(|point| point >> 16 < position) {
            at += 1;
        }
        self.points[at..].iter().chain(&self.points[..at]).map(|point| *point as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_as_a_plain_search_would() {
        let nodes: Vec<_> = (0..7).map(|i| NodeId::new(&format!("w{i}")).expect("valid")).collect();
        for count in [0, 1, 5, 300] {
            let ring = Ring::new(1, nodes.iter().map(|n| (n, count)));
            assert_eq!(ring.points.len(), 7 * count as usize);
            for key in (0..500).map(mix) {
                let position = mix(key ^ ring.seed) >> 16;
                let behind = ring.points.iter().filter(|p| *p >> 16 >= position);
                let before = ring.points.iter().filter(|p| *p >> 16 < position);
                let expected: Vec<_> = behind.chain(before).map(|p| *p as u16).collect();
                assert_eq!(ring.walk(key).collect::<Vec<_>>(), expected);
                assert!(ring.owner(key) == NONE || Some(&ring.owner(key)) == expected.first());
            }
        }
    }
}
