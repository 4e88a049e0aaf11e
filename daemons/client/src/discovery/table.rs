//! What is known of nodes and copies, in memory. Nothing in here talks to anybody.
//!
//! Kept: each node once, each address once, and per segment a list of four-byte references. Rebuilt from `services`
//! and `lock` at any time.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use trough_core::{NodeId, SegmentId, records::Service};

/// A list of addresses' numbers, 16 bytes for up to three.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refs {
    /// Up to three.
    Few {
        /// How many.
        len: u8,
        /// The numbers; those beyond `len` mean nothing.
        at: [u32; 3],
    },
    /// More.
    #[allow(clippy::box_collection, reason = "a boxed vector keeps the whole at 16 bytes")]
    Many(Box<Vec<u32>>),
}

impl Default for Refs {
    fn default() -> Self {
        Self::Few { len: 0, at: [0; 3] }
    }
}

impl Refs {
    /// The numbers.
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Self::Few { len, at } => &at[..usize::from(*len)],
            Self::Many(all) => all,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Adds a number unless it is there.
    pub fn insert(&mut self, number: u32) {
        if self.as_slice().contains(&number) {
            return;
        }
        match self {
            Self::Few { len, at } if usize::from(*len) < at.len() => {
                at[usize::from(*len)] = number;
                *len += 1;
            }
            Self::Few { at, .. } => {
                let mut all = at.to_vec();
                all.push(number);
                *self = Self::Many(Box::new(all));
            }
            Self::Many(all) => all.push(number),
        }
    }

    /// Takes a number out.
    pub fn remove(&mut self, number: u32) {
        let rest: Vec<u32> = self.as_slice().iter().copied().filter(|n| *n != number).collect();
        *self = rest.into_iter().collect();
    }
}

impl FromIterator<u32> for Refs {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut refs = Self::default();
        numbers.into_iter().for_each(|n| refs.insert(n));
        refs
    }
}

/// What this process itself knows of a node: shared by everything that asks it.
#[derive(Debug)]
pub struct NodeHandle {
    /// The node's name.
    pub id: NodeId,
    in_flight: AtomicU32,
    requests: AtomicU64,
    failures: AtomicU64,
    failed_until_ms: AtomicU64,
    born: Instant,
}

impl NodeHandle {
    pub(crate) fn new(id: NodeId) -> Arc<Self> {
        Arc::new(Self {
            id,
            in_flight: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            failed_until_ms: AtomicU64::new(0),
            born: Instant::now(),
        })
    }

    /// Requests of this process that the node is working on.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests of this process to the node, ever.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How often it failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Counts a request until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// Remembers for `how_long` that the node failed: it is then asked only where nobody else can be.
    pub fn report_failure(&self, how_long: Duration) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let until = (self.born.elapsed() + how_long).as_millis() as u64;
        self.failed_until_ms.fetch_max(until, Ordering::Relaxed);
    }

    /// Forgets failures: the node has answered.
    pub fn report_success(&self) {
        if self.failed_until_ms.load(Ordering::Relaxed) != 0 {
            self.failed_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Whether a failure is still remembered.
    pub fn has_failed(&self) -> bool {
        let until = self.failed_until_ms.load(Ordering::Relaxed);
        until != 0 && (self.born.elapsed().as_millis() as u64) < until
    }
}

/// A request that a node is working on.
#[derive(Debug)]
pub struct InFlight(Arc<NodeHandle>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An address at which a node serves reads.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Whose.
    pub node: Arc<NodeHandle>,
    /// Base URL of the read port, with a slash at its end.
    pub url: Arc<str>,
    /// The node's load average per core, as last heard.
    pub load: f32,
    /// Whether the node is a cold worker.
    pub cold: bool,
    /// Whether the node's row is one of the Python trough's, which has the old read endpoint alone.
    pub legacy: bool,
}

#[derive(Debug)]
struct Node {
    row: Service,
    alive_until: Instant,
}

/// Nodes and addresses.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    rows: HashMap<NodeId, Node>,
    handles: HashMap<NodeId, Arc<NodeHandle>>,
    endpoints: Vec<(Arc<NodeHandle>, Arc<str>)>,
    numbers: HashMap<(NodeId, Arc<str>), u32>,
    /// While the database cannot be asked, leases are not judged: what was known counts.
    pub(super) connected: bool,
}

impl Nodes {
    /// A node's row as read `age` seconds after its last heartbeat; one that is known already keeps its lease's end.
    /// Whether more than its lease and load changed.
    pub(super) fn put(&mut self, row: Service, age: f64, now: Instant) -> bool {
        let Some(id) = row.node.clone() else { return false };
        let before = self.rows.get(&id);
        let changed = before.is_none_or(|n| {
            n.row.read_url != row.read_url || n.row.cold_storage != row.cold_storage || n.row.stopping != row.stopping
        });
        let known = before.filter(|n| n.row.last_heartbeat == row.last_heartbeat).map(|n| n.alive_until);
        let left = Duration::from_secs_f64((row.ttl - age).clamp(0.0, 1e9));
        let alive_until = known.unwrap_or_else(|| now.checked_add(left).unwrap_or(now));
        if let Some(url) = row.read_url.clone().filter(|_| changed) {
            // Its own address has a number before any view is taken.
            self.endpoint(&id, &url);
        }
        self.rows.insert(id, Node { row, alive_until });
        changed
    }

    pub(super) fn remove(&mut self, id: &NodeId) {
        self.rows.remove(id);
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&NodeId) -> bool) {
        self.rows.retain(|id, _| keep(id));
    }

    pub(super) fn handle(&mut self, id: &NodeId) -> Arc<NodeHandle> {
        self.handles.entry(id.clone()).or_insert_with(|| NodeHandle::new(id.clone())).clone()
    }

    pub(super) fn known_handle(&self, id: &NodeId) -> Option<&Arc<NodeHandle>> {
        self.handles.get(id)
    }

    /// The number of an address, new or known.
    pub(super) fn endpoint(&mut self, node: &NodeId, url: &str) -> u32 {
        let base = base_url(url);
        if let Some(number) = self.numbers.get(&(node.clone(), Arc::from(base.as_str()))) {
            return *number;
        }
        let (handle, url): (_, Arc<str>) = (self.handle(node), base.into());
        let number = u32::try_from(self.endpoints.len()).expect("there are fewer than 2^32 addresses");
        self.endpoints.push((handle, url.clone()));
        self.numbers.insert((node.clone(), url), number);
        number
    }

    /// The address at which a node serves reads by its own row.
    pub(super) fn own_endpoint(&mut self, node: &NodeId) -> Option<u32> {
        let url = self.rows.get(node)?.row.read_url.clone()?;
        Some(self.endpoint(node, &url))
    }

    /// The node whose write port has the base URL.
    pub(super) fn node_of_write_url(&self, base: &str) -> Option<NodeId> {
        let is_it = |n: &Node| n.row.write_url.as_deref().is_some_and(|url| base_url(url) == base);
        self.rows.iter().find(|(_, n)| is_it(n)).map(|(id, _)| id.clone())
    }

    pub(super) fn endpoint_count(&self) -> usize {
        self.endpoints.len()
    }

    pub(super) fn is_alive(&self, id: &NodeId, now: Instant) -> bool {
        self.rows.get(id).is_some_and(|n| !self.connected || now < n.alive_until)
    }

    /// Every address as it stands now, by number, and whether its node is alive.
    pub(super) fn view(&self, now: Instant) -> View {
        let mut alive = Vec::with_capacity(self.endpoints.len());
        let mut stopping = Vec::with_capacity(self.endpoints.len());
        let endpoints = self
            .endpoints
            .iter()
            .map(|(node, url)| {
                let row = self.rows.get(&node.id).map(|n| &n.row);
                alive.push(self.is_alive(&node.id, now));
                stopping.push(row.is_some_and(|r| r.stopping));
                Endpoint {
                    node: node.clone(),
                    url: url.clone(),
                    load: row.map_or(0.0, |r| r.load as f32),
                    cold: row.is_some_and(|r| r.cold_storage == Some(true)),
                    legacy: row.is_some_and(|r| r.read_url.is_none()),
                }
            })
            .collect();
        View { endpoints, alive, stopping }
    }
}

/// All addresses at one moment.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) endpoints: Arc<[Endpoint]>,
    alive: Vec<bool>,
    stopping: Vec<bool>,
}

impl View {
    /// Which of a segment's addresses may be asked: the living holder of its write lock alone, if there is one; else the living hot
    /// copies; else the living cold ones. Nodes that are about to end are asked where there is no other.
    pub(super) fn usable(&self, refs: &Refs, holder: Option<u32>) -> Refs {
        if let Some(holder) = holder
            && self.alive[holder as usize]
        {
            return [holder].into_iter().collect();
        }
        let living = |cold: bool, stopping: bool| -> Refs {
            let is_so = |n: &u32| {
                let at = *n as usize;
                self.alive[at] && self.endpoints[at].cold == cold && self.stopping[at] == stopping
            };
            refs.as_slice().iter().copied().filter(is_so).collect()
        };
        let ranks = [(false, false), (true, false), (false, true), (true, true)];
        let found = ranks.into_iter().map(|(cold, stopping)| living(cold, stopping)).find(|refs| !refs.is_empty());
        found.unwrap_or_default()
    }

    /// Whether the node of an address has a lease that runs.
    pub(super) fn is_live(&self, number: u32) -> bool {
        self.alive[number as usize]
    }

    /// Changes when a node comes, dies, revives or is about to end.
    pub(super) fn liveness(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        (&self.alive, &self.stopping).hash(&mut hasher);
        hasher.finish()
    }
}

/// Where some segments can be read.
#[derive(Clone, Debug)]
pub struct Located {
    /// The addresses that `entries` count.
    pub endpoints: Arc<[Endpoint]>,
    /// Each segment with the copies that may be asked: at least one.
    pub entries: Arc<Vec<(SegmentId, Refs)>>,
    /// Segments that nobody serves now.
    pub missing: Arc<Vec<SegmentId>>,
    /// Those of the missing that surely exist, if they were looked up by name: a service row or a lock names them. Others may
    /// exist by an assignment alone.
    pub named: Arc<HashSet<SegmentId>>,
}

/// The base of a service's URL: without its query, with a slash at its end.
pub(crate) fn base_url(url: &str) -> String {
    let base = url.split(['?', '#']).next().unwrap_or(url);
    format!("{}/", base.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_stay_small() {
        assert_eq!(size_of::<Refs>(), 16);
        let mut refs: Refs = [1, 2, 3, 3].into_iter().collect();
        assert_eq!(refs.as_slice(), [1, 2, 3]);
        refs.insert(4);
        assert_eq!(refs.as_slice(), [1, 2, 3, 4]);
        refs.remove(2);
        assert_eq!(refs.as_slice(), [1, 3, 4]);
        assert!(matches!(refs, Refs::Few { .. }));
    }

    #[test]
    fn bases_end_with_a_slash() {
        assert_eq!(base_url("http://localhost:6444/?segment=a%2Fb"), "http://localhost:6444/");
        assert_eq!(base_url("http://localhost:6444"), "http://localhost:6444/");
        assert_eq!(base_url("http://h:1/x/"), "http://h:1/x/");
    }

    fn row(node: &str, ttl: f64, cold: bool) -> Service {
        Service {
            node: Some(NodeId::new(node).expect("valid")),
            ttl,
            cold_storage: Some(cold),
            read_url: Some(format!("http://{node}:1/")),
            last_heartbeat: Some(trough_core::records::Time::from_epoch(1.0)),
            ..Service::default()
        }
    }

    #[test]
    fn leases_tiers_and_locks_decide_who_is_asked() {
        let (mut nodes, now) = (Nodes { connected: true, ..Nodes::default() }, Instant::now());
        for (name, cold) in [("a", false), ("b", false), ("c", true)] {
            nodes.put(row(name, 30.0, cold), 0.0, now);
        }
        let ids = ["a", "b", "c"].map(|n| NodeId::new(n).expect("valid"));
        let refs: Refs = ids.iter().map(|n| nodes.endpoint(n, &format!("http://{n}:1/?segment=x"))).collect();
        assert_eq!(nodes.own_endpoint(&ids[1]), Some(1), "an address is kept once");

        let view = nodes.view(now);
        assert_eq!(view.usable(&refs, None).as_slice(), [0, 1], "hot before cold");
        assert_eq!(view.usable(&refs, Some(1)).as_slice(), [1], "the holder alone");

        nodes.remove(&ids[0]);
        let later = now + Duration::from_secs(31);
        nodes.put(row("c", 60.0, true), 0.0, now);
        nodes.rows.get_mut(&ids[2]).expect("known").alive_until = later + Duration::from_secs(1);
        let view = nodes.view(later);
        assert_eq!(view.usable(&refs, None).as_slice(), [2], "cold where no hot copy lives");
        assert_eq!(view.usable(&refs, Some(1)).as_slice(), [2], "a dead holder blocks nobody");
        nodes.connected = false;
        assert_eq!(nodes.view(later).usable(&refs, None).as_slice(), [1], "without the database, what was known");
    }
}
