//! Who serves what, for those that ask: PostgreSQL backends, the shell, scripts.
//!
//! Two ways, which share what is known of nodes. Given segments are looked up in batches and kept for some seconds. A pattern makes the
//! tables `services`, `assignment` and `lock` be followed from then on, so that listing again costs no query, and what is provisioned, moved or dropped elsewhere is known
//! within milliseconds. In both, a copy counts while its node's lease runs (aged by this process's monotonic clock), a
//! segment with a write lock is read from its holder only, and cold copies count only where no hot one lives. A segment that exists by an
//! assignment or a lock alone is listed as missing. While the database cannot be
//! asked, what was known last is used.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
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
mod followed;
mod known;
mod listing;
mod pattern;
mod python;
mod scan;
mod table;

pub(crate) use choose::{pick, pick_home};
pub use known::Known;
pub use pattern::SegmentPattern;
pub use scan::{Scan, Served};
pub(crate) use table::base_url;
pub use table::{Endpoint, InFlight, Located, NodeHandle, Refs};
use table::{Nodes, View};

use followed::Followed;
use listing::Listing;

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
    /// How long a listing waits for segments that exist and that nobody serves, from when the first listing found them so.
    pub settle: Duration,
}

impl Default for DiscoveryOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            failure_memory: Duration::from_secs(5),
            load_timeout: Duration::from_secs(60),
            max_cached: 200_000,
            settle: Duration::from_secs(10),
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
    /// Told whenever who serves what may have changed.
    changed: watch::Sender<()>,
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
    /// How often the followed tables were built.
    builds: u64,
    listings: Vec<Listing>,
}

struct Cached {
    copies: Refs,
    holder: Option<NodeId>,
    at: Instant,
}

/// How long a view of the nodes is used before leases are looked at again.
const VIEW_AGE: Duration = Duration::from_millis(100);

impl Discovery {
    /// Discovery over a catalog; nothing is asked before the first use.
    pub fn new(catalog: Catalog, options: DiscoveryOptions) -> Self {
        let (phase, _) = watch::channel(Phase::Starting);
        let (changed, _) = watch::channel(());
        let inner = Inner { catalog, options, state: RwLock::default(), phase, changed, tasks: Mutex::default() };
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
        let mut named = HashSet::new();
        if !unknown.is_empty() {
            match self.refresh(&unknown).await {
                Ok(found) => named = found,
                Err(error) => {
                    let state = self.inner.state.read();
                    if unknown.iter().any(|s| !state.knows(s, Duration::MAX)) {
                        return Err(error);
                    }
                    tracing::warn!(%error, "discovery goes on with what was known");
                }
            }
        }
        Ok(self.resolve(segments, named))
    }

    /// Forgets who serves a segment: it is looked up again at its next use by name. It stays in the listings.
    pub fn invalidate(&self, segment: &SegmentId) {
        let mut state = self.inner.state.write();
        state.cached.remove(segment);
        if let Some(followed) = &mut state.followed {
            followed.doubt(segment);
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
                followed.add_copy(segment.clone(), number);
                followed.put_lock(segment.clone(), node);
            }
        }
        self.inner.changed.send_replace(());
    }

    /// Looks the segments up anew and keeps what is found. Gives those that any service row or lock names, whether they can be read
    /// or not.
    ///
    /// # Errors
    /// [`DiscoveryError::Catalog`].
    pub async fn refresh(&self, segments: &[SegmentId]) -> Result<HashSet<SegmentId>, DiscoveryError> {
        let catalog = &self.inner.catalog;
        let lookup = Lookup::begin(&self.inner);
        let batches = |segments: &[SegmentId]| -> Vec<Vec<SegmentId>> {
            segments.chunks(MAX_KEYS).map(<[SegmentId]>::to_vec).collect()
        };
        let services = futures::stream::iter(batches(segments))
            .map(|batch| async move { catalog.look_up_services(&batch).await })
            .buffer_unordered(4)
            .try_collect::<Vec<Vec<Service>>>();
        let locks = futures::stream::iter(batches(segments))
            .map(|batch| async move { catalog.look_up_locks(&batch).await })
            .buffer_unordered(4)
            .try_collect::<Vec<Vec<Lock>>>();
        let nodes = self.ensure_nodes();
        let (services, locks, ()) = futures::try_join!(
            async { services.await.map_err(Arc::new).map_err(DiscoveryError::from) },
            async { locks.await.map_err(Arc::new).map_err(DiscoveryError::from) },
            nodes
        )?;
        let found = (services.concat(), locks.concat());
        let named = found.0.iter().filter_map(|row| row.segment.clone());
        let named = named.chain(found.1.iter().map(|lock| lock.segment.clone())).collect();
        self.inner.state.write().take_lookup(&lookup, segments, found, self.inner.options.max_cached);
        self.inner.changed.send_replace(());
        Ok(named)
    }

    fn resolve(&self, segments: &[SegmentId], mut named: HashSet<SegmentId>) -> Located {
        let mut state = self.inner.state.write();
        let view = state.view();
        let (mut entries, mut missing) = (Vec::with_capacity(segments.len()), Vec::new());
        for segment in segments {
            let holder = state.holder(segment).cloned().and_then(|node| state.nodes.own_endpoint(&node));
            let usable = state.copies(segment).map(|refs| view.usable(refs, holder)).unwrap_or_default();
            if usable.is_empty() {
                if state.names(segment) {
                    named.insert(segment.clone());
                }
                missing.push(segment.clone());
            } else {
                named.remove(segment);
                entries.push((segment.clone(), usable));
            }
        }
        Located {
            endpoints: view.endpoints.clone(),
            entries: Arc::new(entries),
            missing: Arc::new(missing),
            named: Arc::new(named),
        }
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
}

/// A look-up under way. The followed tables are told, so that it cannot undo what the feeds tell meanwhile.
struct Lookup<'a> {
    inner: &'a Inner,
    /// Which building of the tables it began under; none if they were not followed.
    serial: Option<u64>,
}

impl<'a> Lookup<'a> {
    fn begin(inner: &'a Inner) -> Self {
        let mut state = inner.state.write();
        let serial = state.followed.as_mut().map(|followed| {
            followed.begin_lookup();
            followed.serial
        });
        Self { inner, serial }
    }
}

impl Drop for Lookup<'_> {
    fn drop(&mut self) {
        let mut state = self.inner.state.write();
        if let Some(followed) = state.followed.as_mut().filter(|f| Some(f.serial) == self.serial) {
            followed.end_lookup();
        }
    }
}

impl State {
    /// Whether a segment was looked up within `ttl`, or the tables are followed and name copies of it.
    fn knows(&self, segment: &SegmentId, ttl: Duration) -> bool {
        let trusted = |f: &Followed| ttl == Duration::MAX || !f.is_doubted(segment);
        self.followed.as_ref().is_some_and(|f| f.copies(segment).is_some() && trusted(f))
            || self.cached.get(segment).is_some_and(|c| c.at.elapsed() < ttl)
    }

    /// Whether the followed tables or what was looked up name a segment.
    fn names(&self, segment: &SegmentId) -> bool {
        self.followed.as_ref().is_some_and(|f| f.contains(segment)) || self.cached.contains_key(segment)
    }

    fn copies(&self, segment: &SegmentId) -> Option<&Refs> {
        let followed = self.followed.as_ref().and_then(|f| f.copies(segment));
        followed.or_else(|| self.cached.get(segment).map(|c| &c.copies))
    }

    fn holder(&self, segment: &SegmentId) -> Option<&NodeId> {
        match &self.followed {
            Some(followed) if followed.copies(segment).is_some() => followed.holder(segment),
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

    fn take_lookup(
        &mut self,
        lookup: &Lookup<'_>,
        segments: &[SegmentId],
        (services, locks): (Vec<Service>, Vec<Lock>),
        max: usize,
    ) {
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
            match &mut self.followed {
                Some(followed) if Some(followed.serial) == lookup.serial => {
                    followed.take_lookup(segment, copies, holder);
                }
                // Built since the look-up began: newer.
                Some(_) => {}
                None if copies.is_empty() => drop(self.cached.remove(&segment)),
                None => drop(self.cached.insert(segment, Cached { copies, holder, at })),
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
