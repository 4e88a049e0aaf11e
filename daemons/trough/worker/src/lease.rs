//! The node's lease, as this process can prove it by its own monotonic clock, and what it knows of other nodes' leases.
//!
//! Kept in memory only: the lease itself is the row `trough-nodes:NODE:None`.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use trough_client::catalog::NodeStatus;
use trough_core::{NodeId, records::Time};

/// Until when this node's lease runs, by this process's monotonic clock.
///
/// A renewal counts from the moment it was begun, and the server stamps it later than that; so the lease runs
/// at least as long in the database as it does here.
#[derive(Debug)]
pub(crate) struct Lease {
    base: Instant,
    /// Milliseconds after `base`; 0 before the first renewal.
    valid_until: AtomicU64,
    renewed: AtomicU64,
    ttl: Duration,
}

impl Lease {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { base: Instant::now(), valid_until: AtomicU64::new(0), renewed: AtomicU64::new(0), ttl }
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Notes a renewal that was begun at `begun` and succeeded. Gives whether the lease had run out before.
    pub(crate) fn renewed(&self, begun: Instant) -> bool {
        let begun_ms = begun.saturating_duration_since(self.base).as_millis() as u64;
        let until = begun_ms + self.ttl.as_millis() as u64;
        self.renewed.store(begun_ms.max(1), Ordering::Release);
        let before = self.valid_until.swap(until, Ordering::AcqRel);
        before != 0 && before < self.now_ms()
    }

    /// Whether the lease provably runs.
    pub(crate) fn runs(&self) -> bool {
        self.now_ms() < self.valid_until.load(Ordering::Acquire)
    }

    /// Seconds since the last renewal; none before the first.
    pub(crate) fn age(&self) -> Option<f64> {
        let renewed = self.renewed.load(Ordering::Acquire);
        (renewed > 0).then(|| self.now_ms().saturating_sub(renewed) as f64 / 1000.0)
    }

    /// Seconds for which it still runs.
    pub(crate) fn remaining(&self) -> f64 {
        self.valid_until.load(Ordering::Acquire).saturating_sub(self.now_ms()) as f64 / 1000.0
    }

    fn now_ms(&self) -> u64 {
        self.base.elapsed().as_millis() as u64
    }
}

/// So many leases after the last look at the other nodes they count as dead.
const BLIND: u32 = 3;

/// What is known of another node.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Base URL of its read port, if it is one of ours.
    pub(crate) read_url: Option<String>,
    /// Base URL of its write port, if it is one of ours.
    pub(crate) write_url: Option<String>,
    /// How long its lease runs from a renewal.
    ttl: Duration,
}

/// The other nodes, as of the last look at their rows.
#[derive(Debug, Default)]
pub(crate) struct Peers(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    nodes: HashMap<NodeId, Peer>,
    /// When the rows were asked for.
    asked: Option<Instant>,
    /// Since when they have been looked at without a gap.
    watched: Option<Instant>,
    /// Since when each node's row stands as it does, as far as it was watched; none for a row that is gone.
    unchanged: HashMap<NodeId, (Option<Time>, Instant)>,
}

impl Peers {
    /// Takes over what the database says, read at `asked`. Looks that are further apart than `gap` tell nothing of the time between.
    pub(crate) fn replace(&self, nodes: Vec<NodeStatus>, asked: Instant, gap: Duration) {
        let mut known = self.0.write();
        let mut renewed: HashMap<NodeId, Option<Time>> =
            known.unchanged.keys().map(|node| (node.clone(), None)).collect();
        renewed.extend(nodes.iter().filter_map(|s| Some((s.node()?.clone(), s.service.last_heartbeat.clone()))));
        let watched = known.asked.is_some_and(|before| asked.saturating_duration_since(before) <= gap);
        let unchanged = renewed.into_iter().map(|(node, row)| {
            let since = known.unchanged.get(&node).filter(|(before, _)| watched && *before == row);
            let since = since.map_or(asked, |(_, since)| *since);
            (node, (row, since))
        });
        let unchanged = unchanged.collect();
        let nodes = nodes
            .into_iter()
            .filter_map(|status| {
                let node = status.node()?.clone();
                let ttl = Duration::from_secs_f64(status.service.ttl.clamp(0.0, 1e9));
                Some((node, Peer { read_url: status.service.read_url, write_url: status.service.write_url, ttl }))
            })
            .collect();
        let watched = known.watched.filter(|_| watched).or(Some(asked));
        *known = Known { nodes, asked: Some(asked), watched, unchanged };
    }

    /// For how long this process has seen, without a gap, that the node does not renew its lease.
    pub(crate) fn silent_for(&self, node: &NodeId) -> Duration {
        self.0.read().silent_for(node)
    }

    pub(crate) fn get(&self, node: &NodeId) -> Option<Peer> {
        self.0.read().nodes.get(node).cloned()
    }

    /// Whether the node, which held a lock at `seen`, may be alive: unless it was watched, for as long as its lease runs, not to renew it. What the
    /// server's clock says does not count, as it may have been set; nor does the time since the last look, as the node may have renewed since.
    /// But after [`BLIND`] leases without a look nobody knows anything, and copies are better than nothing.
    ///
    /// One without a row stopped in order or has been dead for long; only if it was seen after the last look at the rows may it
    /// have come since.
    pub(crate) fn may_be_alive(&self, node: &NodeId, seen: Instant) -> bool {
        self.0.read().may_be_alive(node, seen, Instant::now())
    }
}

impl Known {
    fn silent_for(&self, node: &NodeId) -> Duration {
        let since = self.unchanged.get(node).map(|(_, since)| *since).or(self.watched);
        let silence = self.asked.zip(since).map(|(asked, since)| asked.saturating_duration_since(since));
        silence.unwrap_or_default()
    }

    fn may_be_alive(&self, node: &NodeId, seen: Instant, now: Instant) -> bool {
        let Some(peer) = self.nodes.get(node) else { return self.asked.is_none_or(|asked| seen > asked) };
        let looked = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) <= peer.ttl * BLIND);
        looked && self.silent_for(node) < peer.ttl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(node: &str, heartbeat: f64) -> NodeStatus {
        let service = serde_json::from_value(serde_json::json!({
            "id": format!("trough-nodes:{node}:None"), "role": "trough-nodes", "node": node, "ttl": 3.0, "load": 0.0,
            "last_heartbeat": {"$reql_type$": "TIME", "epoch_time": heartbeat, "timezone": "+00:00"}
        }));
        NodeStatus { service: service.expect("a row"), alive: false, age_seconds: 1e6 }
    }

    #[test]
    fn silence_is_what_was_watched() {
        let (peers, gap, begun) = (Peers::default(), Duration::from_secs(3), Instant::now());
        let (a, b) = (NodeId::new("a").expect("id"), NodeId::new("b").expect("id"));
        let look = |second: u64, nodes: Vec<NodeStatus>| peers.replace(nodes, begun + Duration::from_secs(second), gap);
        assert_eq!(peers.silent_for(&a), Duration::ZERO);
        // However old a row looks: the clock may have been set.
        look(0, vec![status("a", 1.0)]);
        assert_eq!(peers.silent_for(&a), Duration::ZERO);
        look(2, vec![status("a", 1.0)]);
        look(4, vec![status("a", 1.0)]);
        assert_eq!(peers.silent_for(&a), Duration::from_secs(4));
        assert_eq!(peers.silent_for(&b), Duration::from_secs(4), "there was no row");
        // It renews, whatever time that carries.
        look(6, vec![status("a", 0.5)]);
        assert_eq!(peers.silent_for(&a), Duration::ZERO);
        // Its row goes.
        look(8, vec![]);
        look(10, vec![]);
        assert_eq!(peers.silent_for(&a), Duration::from_secs(2));
        // The database was away, so nobody could renew.
        look(20, vec![]);
        assert_eq!((peers.silent_for(&a), peers.silent_for(&b)), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_node_is_dead_when_it_was_watched_to_be() {
        let (peers, gap, begun) = (Peers::default(), Duration::from_secs(3), Instant::now());
        let a = NodeId::new("a").expect("id");
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let look = |ms: u64, heartbeat: f64| peers.replace(vec![status("a", heartbeat)], at(ms), gap);
        let alive = |ms: u64| peers.0.read().may_be_alive(&a, begun, at(ms));
        // However old the row seems to be, as clocks may have been set.
        look(0, 1.0);
        assert!(alive(0) && alive(2_900));
        // A late look of its own says nothing of the other.
        assert!(alive(3_500));
        look(3_000, 2.0);
        assert!(alive(5_900));
        // Its lease is 3 s.
        look(5_900, 2.0);
        assert!(alive(6_500));
        look(6_000, 2.0);
        assert!(!alive(6_001));
        // It is back.
        look(7_000, 3.0);
        assert!(alive(7_001));
        // The metadata is away, and stays away.
        assert!(alive(16_000) && !alive(16_001));
        // After a gap nobody knows since when it is silent.
        look(30_000, 3.0);
        assert!(alive(30_001));
        look(32_000, 3.0);
        look(33_000, 3.0);
        assert!(!alive(33_001));
        peers.replace(vec![], at(34_000), gap);
        assert!(!alive(34_001), "it stopped in order");
        assert!(peers.0.read().may_be_alive(&a, at(34_500), at(34_501)), "it may have come since");
    }

    #[test]
    fn a_lease_counts_from_the_beginning_of_its_renewal() {
        let lease = Lease::new(Duration::from_millis(50));
        assert!(!lease.runs());
        let begun = Instant::now();
        assert!(!lease.renewed(begun));
        assert!(lease.runs() && lease.remaining() <= 0.05);
        while begun.elapsed() < Duration::from_millis(60) {
            std::thread::yield_now();
        }
        assert!(!lease.runs());
        assert!(lease.renewed(Instant::now()), "it had run out");
        assert!(lease.runs());
    }
}
