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

/// What is known of another node.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Base URL of its read port, if it is one of ours.
    pub(crate) read_url: Option<String>,
    /// Base URL of its write port, if it is one of ours.
    pub(crate) write_url: Option<String>,
    alive_until: Option<Instant>,
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
                let left = (status.service.ttl - status.age_seconds).clamp(0.0, 1e9);
                let alive_until = status.alive.then(|| asked + Duration::from_secs_f64(left));
                let peer = Peer { read_url: status.service.read_url, write_url: status.service.write_url, alive_until };
                Some((node, peer))
            })
            .collect();
        let watched = known.watched.filter(|_| watched).or(Some(asked));
        *known = Known { nodes, asked: Some(asked), watched, unchanged };
    }

    /// For how long this process has seen, without a gap, that the node does not renew its lease.
    pub(crate) fn silent_for(&self, node: &NodeId) -> Duration {
        let known = self.0.read();
        let since = known.unchanged.get(node).map(|(_, since)| *since).or(known.watched);
        let silence = known.asked.zip(since).map(|(asked, since)| asked.saturating_duration_since(since));
        silence.unwrap_or_default()
    }

    pub(crate) fn get(&self, node: &NodeId) -> Option<Peer> {
        self.0.read().nodes.get(node).cloned()
    }

    /// Whether the node, which held a lock at `seen`, may be alive. One without a row stopped in order or has been dead for
    /// long; only if it was seen after the last look at the rows may it have come since.
    pub(crate) fn may_be_alive(&self, node: &NodeId, seen: Instant) -> bool {
        let known = self.0.read();
        match known.nodes.get(node) {
            Some(peer) => peer.alive_until.is_some_and(|until| Instant::now() < until),
            None => known.asked.is_none_or(|asked| seen > asked),
        }
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
