//! Who serves what, for those that ask: PostgreSQL backends, the shell, scripts.
//!
//! Two ways, which share what is known of nodes. Given segments are looked up in batches and kept for some seconds. A pattern makes the
//! tables `services` and `lock` be followed from then on, so that listing again costs no query, and what is provisioned, moved or dropped elsewhere is known
//! within milliseconds. In both, a copy counts while its node's lease runs (aged by this process's monotonic clock), a
//! segment with a write lock is read from its holder only, and cold copies count only where no hot one lives. While the database cannot be
//! asked, what was known last is used.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt};
use parking_lot::{Mutex, RwLock};
use tokio::{sync::watch, task::AbortHandle};
use trough_core::{
    NodeId, SegmentId,
    records::{Lock, ROLE_READ, Service},
};

use crate::catalog::{Catalog, CatalogError, MAX_KEYS};

mod choose;
mod follow;
mod pattern;
mod table;

pub(crate) use choose::pick;
pub use pattern::SegmentPattern;
pub(crate) use table::base_url;
pub use table::{Endpoint, InFlight, Located, NodeHandle, Refs};
use table::{Nodes, View};

/// How discovery remembers.
#[derive(Clone, Debug)]
pub struct DiscoveryOptions {
    /// How long a looked-up segment is kept.
    pub ttl: Duration,
    /// How long a node that failed is avoided.
    pub failure_memory: Duration,
    /// How long the first listing may take.
    pub load_timeout: Duration,
    /// How many looked-up segments are kept.
    pub max_cached: usize,
}

impl Default for DiscoveryOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            failure_memory: Duration::from_secs(5),
            load_timeout: Duration::from_secs(60),
            max_cached: 200_000,
        }
    }
}

/// Nobody can say who serves the segments.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The database cannot be asked, and nothing is known from before.
    #[error("discover segments: {0}")]
    Catalog(#[from] Arc<CatalogError>),
    /// The first listing did not come in time.
    #[error("discover segments: the listing took longer than {0:?}")]
    Timeout(Duration),
    /// The first listing failed.
    #[error("discover segments: {0}")]
    Listing(String),
}

/// One copy of a segment.
#[derive(Clone, Debug)]
pub struct Copy {
    /// Who has it.
    pub node: NodeId,
    /// Base URL of its read port.
    pub read_url: Arc<str>,
    /// Its load average per core.
    pub load: f32,
    /// Whether it is a cold worker.
    pub cold: bool,
    /// Whether it holds the segment's write lock.
    pub writable: bool,
}

/// Cached discovery. Cheap to clone; its tasks end with the last clone. Its functions must be called inside a tokio runtime.
#[derive(Clone)]
pub struct Discovery {
    inner: Arc<Inner>,
}

struct Inner {
    catalog: Catalog,
    options: DiscoveryOptions,
    state: RwLock<State>,
    phase: watch::Sender<Phase>,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    nodes: Option<AbortHandle>,
    table: Option<AbortHandle>,
}

#[derive(Clone, Debug)]
enum Phase {
    Starting,
    Ready,
    Failed(String),
}

#[derive(Default)]
struct State {
    nodes: Nodes,
    /// Raised with everything that changes which copies there are.
    version: u64,
    /// Raised with every heartbeat.
    nodes_version: u64,
    /// The server's clock at a moment of ours.
    clock: Option<(f64, Instant)>,
    view: Option<(Arc<View>, u64, Instant)>,
    cached: HashMap<SegmentId, Cached>,
    followed: Option<Followed>,
    listings: Vec<Listing>,
}

struct Cached {
    copies: Refs,
    holder: Option<NodeId>,
    at: Instant,
}

/// The whole table, as the feeds tell it.
#[derive(Default)]
struct Followed {
    copies: HashMap<SegmentId, Refs>,
    locks: HashMap<SegmentId, NodeId>,
}

struct Listing {
    key: String,
    version: u64,
    liveness: u64,
    located: Located,
}

/// How long a view of the nodes is used before leases are looked at again.
const VIEW_AGE: Duration = Duration::from_millis(100);
/// How many listings are kept.
const MAX_LISTINGS: usize = 4;

impl Discovery {
    /// Discovery over a catalog; nothing is asked before the first use.
    pub fn new(catalog: Catalog, options: DiscoveryOptions) -> Self {
        let (phase, _) = watch::channel(Phase::Starting);
        let inner = Inner { catalog, options, state: RwLock::default(), phase, tasks: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// The catalog underneath.
    pub fn catalog(&self) -> &Catalog {
        &self.inner.catalog
    }

    /// The copies of each of the segments that somebody serves now.
    ///
    /// # Errors
    /// [`DiscoveryError`] if the database cannot be asked and one of the segments is not known from before.
    pub async fn locate(&self, segments: &[SegmentId]) -> Result<HashMap<SegmentId, Vec<Copy>>, DiscoveryError> {
        let located = self.find(segments).await?;
        Ok(self.copies(&located))
    }

    /// A listing as copies by segment.
    pub fn copies(&self, located: &Located) -> HashMap<SegmentId, Vec<Copy>> {
        let state = self.inner.state.read();
        let copy = |segment: &SegmentId, n: u32| {
            let e = &located.endpoints[n as usize];
            Copy {
                node: e.node.id.clone(),
                read_url: e.url.clone(),
                load: e.load,
                cold: e.cold,
                writable: state.holder(segment) == Some(&e.node.id),
            }
        };
        let with_copies = |(segment, refs): &(SegmentId, Refs)| {
            (segment.clone(), refs.as_slice().iter().map(|n| copy(segment, *n)).collect())
        };
        located.entries.iter().map(with_copies).collect()
    }

    /// Where the segments can be read: kept ones at once, the others by one batch of look-ups.
    ///
    /// # Errors
    /// As [`Discovery::locate`].
    pub async fn find(&self, segments: &[SegmentId]) -> Result<Located, DiscoveryError> {
        let unknown: Vec<SegmentId> = {
            let state = self.inner.state.read();
            let ttl = self.inner.options.ttl;
            segments.iter().filter(|s| !state.knows(s, ttl)).cloned().collect()
        };
        if !unknown.is_empty()
            && let Err(error) = self.refresh(&unknown).await
        {
            let state = self.inner.state.read();
            if unknown.iter().any(|s| !state.knows(s, Duration::MAX)) {
                return Err(error);
            }
            tracing::warn!(%error, "discovery goes on with what was known");
        }
        Ok(self.resolve(segments))
    }

    /// Where every segment that fulfils the condition can be read. A condition that names its segments is looked up; any
    /// other makes the tables be followed.
    ///
    /// # Errors
    /// [`DiscoveryError`] if the first listing fails.
    pub async fn all(&self, pattern: &SegmentPattern) -> Result<Located, DiscoveryError> {
        if let Some(segments) = pattern.named() {
            return self.find(&segments).await;
        }
        self.ensure_followed().await?;
        Ok(self.listing(pattern))
    }

    /// Forgets a segment: it is looked up again at its next use.
    pub fn invalidate(&self, segment: &SegmentId) {
        let mut state = self.inner.state.write();
        state.version += 1;
        state.cached.remove(segment);
        if let Some(followed) = &mut state.followed {
            followed.copies.remove(segment);
            followed.locks.remove(segment);
        }
    }

    /// Forgets every segment that was looked up.
    pub fn invalidate_all(&self) {
        let mut state = self.inner.state.write();
        state.version += 1;
        state.cached.clear();
    }

    /// Avoids a node for [`DiscoveryOptions::failure_memory`], where another can be asked.
    pub fn report_failure(&self, node: &NodeId) {
        if let Some(handle) = self.inner.state.read().nodes.known_handle(node) {
            handle.report_failure(self.inner.options.failure_memory);
        }
    }

    /// How long a failed node is avoided.
    pub fn failure_memory(&self) -> Duration {
        self.inner.options.failure_memory
    }

    /// The address of a base URL that a worker named (a `moved` hint), new or known.
    pub(crate) fn endpoint_of_url(&self, url: &str) -> Endpoint {
        let (base, view) = (base_url(url), self.inner.state.write().view());
        let known = view.endpoints.iter().find(|e| *e.url == *base).cloned();
        known.unwrap_or_else(|| {
            let id = NodeId::new(&base.replace(['/', '\\'], "_")).or_else(|_| NodeId::new("unknown"));
            Endpoint {
                node: NodeHandle::new(id.expect("a plain word is a node id")),
                url: base.into(),
                load: 0.0,
                cold: false,
                legacy: false,
            }
        })
    }

    /// Takes note that the caller has just had segments provisioned, so that its next query sees them whatever the feeds say yet.
    pub fn note_provisioned<'a>(&self, provisioned: impl IntoIterator<Item = (&'a SegmentId, &'a str)>) {
        let mut state = self.inner.state.write();
        state.version += 1;
        let state = &mut *state;
        for (segment, write_url) in provisioned {
            let base = base_url(write_url);
            state.cached.remove(segment);
            let Some(node) = state.nodes.node_of_write_url(&base) else { continue };
            let Some(number) = state.nodes.own_endpoint(&node) else { continue };
            if let Some(followed) = &mut state.followed {
                followed.copies.entry(segment.clone()).or_default().insert(number);
                followed.locks.insert(segment.clone(), node);
            }
        }
    }

    /// Looks the segments up anew and keeps what is found.
    ///
    /// # Errors
    /// [`DiscoveryError::Catalog`].
    pub async fn refresh(&self, segments: &[SegmentId]) -> Result<(), DiscoveryError> {
        let catalog = &self.inner.catalog;
        let batches = |segments: &[SegmentId]| -> Vec<Vec<SegmentId>> {
            segments.chunks(MAX_KEYS).map(<[SegmentId]>::to_vec).collect()
        };
        let services = futures::stream::iter(batches(segments))
            .map(|batch| async move { catalog.raw_services_of_segments(&batch).await })
            .buffer_unordered(4)
            .try_collect::<Vec<Vec<Service>>>();
        let locks = futures::stream::iter(batches(segments))
            .map(|batch| async move { catalog.locks_of_segments(&batch).await })
            .buffer_unordered(4)
            .try_collect::<Vec<Vec<Lock>>>();
        let nodes = self.ensure_nodes();
        let (services, locks, ()) = futures::try_join!(
            async { services.await.map_err(Arc::new).map_err(DiscoveryError::from) },
            async { locks.await.map_err(Arc::new).map_err(DiscoveryError::from) },
            nodes
        )?;
        let mut state = self.inner.state.write();
        state.take_lookup(segments, services.concat(), locks.concat(), self.inner.options.max_cached);
        Ok(())
    }

    fn resolve(&self, segments: &[SegmentId]) -> Located {
        let mut state = self.inner.state.write();
        let view = state.view();
        let (mut entries, mut missing) = (Vec::with_capacity(segments.len()), Vec::new());
        for segment in segments {
            let holder = state.holder(segment).cloned().and_then(|node| state.nodes.own_endpoint(&node));
            let usable = state.copies(segment).map(|refs| view.usable(refs, holder)).unwrap_or_default();
            if usable.is_empty() { missing.push(segment.clone()) } else { entries.push((segment.clone(), usable)) }
        }
        Located { endpoints: view.endpoints.clone(), entries: Arc::new(entries), missing: Arc::new(missing) }
    }

    fn listing(&self, pattern: &SegmentPattern) -> Located {
        let key = pattern.key();
        let mut state = self.inner.state.write();
        let state = &mut *state;
        let view = state.view();
        let (version, liveness) = (state.version, view.liveness());
        if let Some(kept) =
            state.listings.iter().find(|l| l.key == key && l.version == version && l.liveness == liveness)
        {
            // Numbers of addresses never change, so the entries stand while loads move on.
            return Located { endpoints: view.endpoints.clone(), ..kept.located.clone() };
        }
        let (mut entries, mut missing) = (Vec::new(), Vec::new());
        let State { followed, nodes, .. } = state;
        for (segment, refs) in followed.iter().flat_map(|f| &f.copies) {
            if !pattern.matches(segment.as_str()) {
                continue;
            }
            let lock = followed.as_ref().and_then(|f| f.locks.get(segment));
            let holder = lock.and_then(|node| nodes.own_endpoint(node));
            let usable = view.usable(refs, holder);
            if usable.is_empty() { missing.push(segment.clone()) } else { entries.push((segment.clone(), usable)) }
        }
        let located =
            Located { endpoints: view.endpoints.clone(), entries: Arc::new(entries), missing: Arc::new(missing) };
        state.listings.retain(|l| l.key != key);
        if state.listings.len() >= MAX_LISTINGS {
            state.listings.remove(0);
        }
        state.listings.push(Listing { key, version, liveness, located: located.clone() });
        located
    }

    /// The nodes are known and followed from here on.
    async fn ensure_nodes(&self) -> Result<(), DiscoveryError> {
        if self.inner.tasks.lock().nodes.is_some() && self.inner.state.read().clock.is_some() {
            return Ok(());
        }
        follow::load_nodes(&self.inner).await.map_err(Arc::new)?;
        let weak = Arc::downgrade(&self.inner);
        self.inner.tasks.lock().nodes.get_or_insert_with(|| tokio::spawn(follow::nodes(weak)).abort_handle());
        Ok(())
    }

    async fn ensure_followed(&self) -> Result<(), DiscoveryError> {
        let mut phase = self.inner.phase.subscribe();
        if matches!(*phase.borrow(), Phase::Ready) {
            return Ok(());
        }
        self.ensure_nodes().await?;
        {
            let weak: Weak<Inner> = Arc::downgrade(&self.inner);
            let mut tasks = self.inner.tasks.lock();
            tasks.table.get_or_insert_with(|| tokio::spawn(follow::table(weak)).abort_handle());
        }
        let limit = self.inner.options.load_timeout;
        let settled = tokio::time::timeout(limit, phase.wait_for(|p| !matches!(p, Phase::Starting))).await;
        match settled.as_ref().map(|p| p.as_ref().map(|p| (**p).clone())) {
            Ok(Ok(Phase::Failed(why))) => Err(DiscoveryError::Listing(why)),
            Ok(_) => Ok(()),
            Err(_) => Err(DiscoveryError::Timeout(limit)),
        }
    }
}

impl State {
    /// Whether a segment was looked up within `ttl`, or the whole table is followed and has it.
    fn knows(&self, segment: &SegmentId, ttl: Duration) -> bool {
        self.followed.as_ref().is_some_and(|f| f.copies.contains_key(segment))
            || self.cached.get(segment).is_some_and(|c| c.at.elapsed() < ttl)
    }

    fn copies(&self, segment: &SegmentId) -> Option<&Refs> {
        let followed = self.followed.as_ref().and_then(|f| f.copies.get(segment));
        followed.or_else(|| self.cached.get(segment).map(|c| &c.copies))
    }

    fn holder(&self, segment: &SegmentId) -> Option<&NodeId> {
        match &self.followed {
            Some(followed) if followed.copies.contains_key(segment) => followed.locks.get(segment),
            _ => self.cached.get(segment).and_then(|c| c.holder.as_ref()),
        }
    }

    /// Whether a row's own ttl runs; rows of ours run for ever, those of the Python trough are renewed.
    fn row_lives(&self, row: &Service) -> bool {
        let (Some((server, at)), Some(beat)) = (self.clock, row.last_heartbeat.as_ref()) else { return true };
        server + at.elapsed().as_secs_f64() - beat.epoch_time < row.ttl
    }

    fn view(&mut self) -> Arc<View> {
        if let Some((view, version, at)) = &self.view
            && *version == self.nodes_version
            && at.elapsed() < VIEW_AGE
            && view.endpoints.len() == self.nodes.endpoint_count()
        {
            return view.clone();
        }
        let now = Instant::now();
        let view = Arc::new(self.nodes.view(now));
        self.view = Some((view.clone(), self.nodes_version, now));
        view
    }

    fn take_lookup(&mut self, segments: &[SegmentId], services: Vec<Service>, locks: Vec<Lock>, max: usize) {
        self.version += 1;
        let at = Instant::now();
        if self.cached.len() + segments.len() > max {
            self.cached.clear();
        }
        let mut found: HashMap<SegmentId, (Refs, Option<NodeId>)> =
            segments.iter().map(|s| (s.clone(), Default::default())).collect();
        for row in services {
            if row.role.as_deref() != Some(ROLE_READ) || !self.row_lives(&row) {
                continue;
            }
            if let (Some(segment), Some(node), Some(url)) = (&row.segment, &row.node, &row.url) {
                let number = self.nodes.endpoint(node, url);
                found.entry(segment.clone()).or_default().0.insert(number);
            }
        }
        for lock in locks {
            found.entry(lock.segment).or_default().1 = Some(lock.node);
        }
        for (segment, (copies, holder)) in found {
            if copies.is_empty() {
                self.cached.remove(&segment);
                continue;
            }
            if let Some(followed) = &mut self.followed {
                followed.copies.insert(segment.clone(), copies);
                match holder {
                    Some(node) => followed.locks.insert(segment, node),
                    None => followed.locks.remove(&segment),
                };
            } else {
                self.cached.insert(segment, Cached { copies, holder, at });
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let tasks = self.tasks.get_mut();
        tasks.nodes.iter().chain(&tasks.table).for_each(AbortHandle::abort);
    }
}
