//! Choosing among copies: the power of two choices for a few segments, a home for each of many.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use trough_core::SegmentId;

use super::table::{Endpoint, Refs};

/// What a copy is judged by; the lesser is asked. Fields in the order of their weight.
#[derive(Debug, PartialEq, PartialOrd)]
struct Rank {
    /// A node that has just failed is asked only where nobody else can be.
    failed: bool,
    /// So is one of the Python trough, which takes one segment a request.
    legacy: bool,
    /// What the node already has to do for this process, made worse by its load.
    busy: f32,
    /// Its load alone, where it has nothing to do for us.
    load: f32,
}

/// How many segments of the query at hand one request in flight counts for.
const REQUEST_WEIGHT: f32 = 64.0;

fn rank(endpoint: &Endpoint, planned: u32) -> Rank {
    let work = endpoint.node.in_flight() as f32 * REQUEST_WEIGHT + planned as f32;
    Rank {
        failed: endpoint.node.has_failed(),
        legacy: endpoint.legacy,
        busy: work * (1.0 + endpoint.load),
        load: endpoint.load,
    }
}

/// How many segments more than another worker one may be planned for before its homes go elsewhere, and the share of its plan.
const HOME_SLACK: u32 = 32;
const HOME_SHARE: u32 = 8;

/// Picks the copy of a segment that every wide query asks, so that workers find open connections, prepared statements and
/// pages where the last query left them: the highest of the hashes of segment and node (rendezvous hashing, Thaler and
/// Ravishankar 1998). A home that has failed or is planned for clearly more than another copy's worker leaves it to [`pick`].
pub(crate) fn pick_home(endpoints: &[Endpoint], copies: &Refs, planned: &[u32], segment: &SegmentId) -> Option<u32> {
    let planned_of = |n: u32| planned.get(n as usize).copied().unwrap_or(0);
    let hash =
        |n: &u32| BuildHasherDefault::<DefaultHasher>::default().hash_one((segment, &endpoints[*n as usize].node.id));
    if let [_, _, ..] = copies.as_slice()
        && let Some(home) = copies.as_slice().iter().copied().max_by_key(hash)
        && let Some(least) = copies.as_slice().iter().map(|n| planned_of(*n)).min()
    {
        let node = &endpoints[home as usize];
        if !node.node.has_failed() && !node.legacy && planned_of(home) <= least + HOME_SLACK + least / HOME_SHARE {
            return Some(home);
        }
    }
    pick(endpoints, copies, planned, |_| true)
}

/// Picks one of `copies` (numbers of `endpoints`) that `allowed` lets through: of two taken at random, the lesser by failure, planned work
/// (`planned`, by number; may be shorter) and load. None if none is allowed.
pub(crate) fn pick(
    endpoints: &[Endpoint],
    copies: &Refs,
    planned: &[u32],
    allowed: impl Fn(&Endpoint) -> bool,
) -> Option<u32> {
    let rank_of = |n: u32| rank(&endpoints[n as usize], planned.get(n as usize).copied().unwrap_or(0));
    match copies.as_slice() {
        [] => None,
        [only] => allowed(&endpoints[*only as usize]).then_some(*only),
        many => {
            let healthy = |n: &&u32| allowed(&endpoints[**n as usize]) && !endpoints[**n as usize].node.has_failed();
            let any_healthy = many.iter().any(|n| healthy(&n));
            let fits = |n: &u32| if any_healthy { healthy(&n) } else { allowed(&endpoints[*n as usize]) };
            let count = many.iter().filter(|n| fits(n)).count();
            if count == 0 {
                return None;
            }
            let nth = |i: usize| many.iter().filter(|n| fits(n)).nth(i).copied();
            let first = fastrand::usize(..count);
            let a = nth(first)?;
            if count == 1 {
                return Some(a);
            }
            // The second is another one, evenly.
            let b = nth((first + 1 + fastrand::usize(..count - 1)) % count)?;
            Some(if rank_of(b) < rank_of(a) { b } else { a })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trough_core::NodeId;

    use super::{super::table::NodeHandle, *};

    fn endpoints(n: usize) -> Vec<Endpoint> {
        (0..n)
            .map(|i| Endpoint {
                node: NodeHandle::new(NodeId::new(&format!("n{i}")).expect("valid")),
                url: format!("http://n{i}/").into(),
                load: 0.1,
                cold: false,
                legacy: false,
            })
            .collect()
    }

    #[test]
    fn work_spreads_evenly() {
        let all = endpoints(4);
        let copies: Refs = (0..4).collect();
        let mut planned = vec![0; 4];
        for _ in 0..4_000 {
            let n = pick(&all, &copies, &planned, |_| true).expect("one");
            planned[n as usize] += 1;
        }
        assert!(planned.iter().all(|n| (990..=1_010).contains(n)), "{planned:?}");
    }

    #[test]
    fn wide_queries_find_each_segment_at_home() {
        let all = endpoints(4);
        let segments: Vec<SegmentId> = (0..4_000).map(|i| SegmentId::new(&format!("s{i}")).expect("valid")).collect();
        let plan = || {
            let mut planned = vec![0; 4];
            let homes: Vec<u32> = segments
                .iter()
                .enumerate()
                .map(|(i, segment)| {
                    let copies: Refs = [i as u32 % 4, (i as u32 + 1) % 4].into_iter().collect();
                    let n = pick_home(&all, &copies, &planned, segment).expect("one");
                    planned[n as usize] += 1;
                    n
                })
                .collect();
            (homes, planned)
        };
        let (homes, planned) = plan();
        assert!(planned.iter().all(|n| (850..=1_150).contains(n)), "{planned:?}");
        let (again, _) = plan();
        let moved = homes.iter().zip(&again).filter(|(a, b)| a != b).count();
        assert!(moved < 100, "{moved} of 4,000 segments were asked elsewhere");
        all[2].node.report_failure(Duration::from_secs(60));
        assert_eq!(plan().1[2], 0, "a failed node is asked for nothing that others have");
    }

    #[test]
    fn failed_nodes_are_asked_last() {
        let all = endpoints(3);
        let copies: Refs = (0..3).collect();
        all[0].node.report_failure(Duration::from_secs(60));
        all[1].node.report_failure(Duration::from_secs(60));
        for _ in 0..50 {
            assert_eq!(pick(&all, &copies, &[], |_| true), Some(2));
            assert!(pick(&all, &copies, &[], |e| e.node.id.as_str() != "n2").is_some_and(|n| n < 2));
        }
        assert_eq!(pick(&all, &copies, &[], |_| false), None);
        all[0].node.report_success();
        assert!(!all[0].node.has_failed());
    }
}
