//! What the parts of a sync server share.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc, watch};
use trough_client::catalog::{Catalog, NodeStatus};
use trough_config::Settings;
use trough_core::{NodeId, SegmentId, records::Controls};
use trough_store::Store;

use crate::{
    mastership::{Standing, Term},
    reconciler::Planning,
    tables::{Locks, Serving},
    view::ClusterView,
};

/// How old the list of nodes may be that provisioning chooses from.
const NODES_MAX_AGE: Duration = Duration::from_millis(500);

/// Shared by the election, the master's loop and the API.
pub struct Context {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The metadata.
    pub catalog: Catalog,
    /// The canonical store.
    pub store: Arc<dyn Store>,
    /// For requests to workers and to the master.
    pub http: reqwest::Client,
    /// In what standing this process is.
    pub standing: watch::Receiver<Standing>,
    /// Who serves what; followed while master.
    pub serving: RwLock<Serving>,
    /// The write locks; followed while master.
    pub locks: RwLock<Locks>,
    /// What the last reconciliation saw and did.
    pub view: RwLock<Arc<ClusterView>>,
    /// What an operator has set for the whole cluster; followed while master.
    pub controls: RwLock<Controls>,
    /// Where plans are asked for while this process is master.
    pub(crate) planning: Mutex<Option<mpsc::Sender<Planning>>>,
    /// Tells the reconciliation that something is waiting.
    pub nudge: Notify,
    /// Held while assignments are planned and committed, and while a segment is shredded: a plan that was made before
    /// a segment was shredded must not be committed after it.
    pub(crate) committing: tokio::sync::Mutex<()>,
    dirty: Mutex<HashSet<SegmentId>>,
    shredded: Mutex<HashSet<SegmentId>>,
    nodes: tokio::sync::Mutex<Option<(Instant, Arc<Vec<NodeStatus>>)>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("store", &self.store.url()).finish_non_exhaustive()
    }
}

impl Context {
    /// A context in which nothing has happened yet.
    pub fn new(
        settings: Arc<Settings>,
        catalog: Catalog,
        store: Arc<dyn Store>,
        http: reqwest::Client,
        standing: watch::Receiver<Standing>,
    ) -> Self {
        Self {
            settings,
            catalog,
            store,
            http,
            standing,
            serving: RwLock::default(),
            locks: RwLock::default(),
            view: RwLock::default(),
            controls: RwLock::default(),
            planning: Mutex::default(),
            nudge: Notify::new(),
            committing: tokio::sync::Mutex::default(),
            dirty: Mutex::default(),
            shredded: Mutex::default(),
            nodes: tokio::sync::Mutex::default(),
        }
    }

    /// The current term, if this process is master.
    pub fn term(&self) -> Option<Term> {
        self.standing.borrow().term().cloned()
    }

    /// The segment's canonical copy may have changed: it is looked at soon.
    pub fn mark_dirty(&self, segments: impl IntoIterator<Item = SegmentId>) {
        let mut dirty = self.dirty.lock();
        let before = dirty.len();
        dirty.extend(segments);
        if dirty.len() > before {
            self.nudge.notify_one();
        }
    }

    /// Whether a segment waits to be looked at.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.lock().is_empty()
    }

    /// Takes all that was marked.
    pub(crate) fn take_dirty(&self) -> Vec<SegmentId> {
        std::mem::take(&mut *self.dirty.lock()).into_iter().collect()
    }

    /// The segment was shredded: the reconciliation forgets it.
    pub fn mark_shredded(&self, segment: &SegmentId) {
        self.dirty.lock().remove(segment);
        self.shredded.lock().insert(segment.clone());
        self.nudge.notify_one();
    }

    pub(crate) fn take_shredded(&self) -> Vec<SegmentId> {
        std::mem::take(&mut *self.shredded.lock()).into_iter().collect()
    }

    /// The nodes, at most half a second old.
    ///
    /// # Errors
    /// If the metadata cannot be asked.
    pub async fn nodes(&self) -> trough_client::catalog::Result<Arc<Vec<NodeStatus>>> {
        let mut cached = self.nodes.lock().await;
        if let Some((at, nodes)) = &*cached
            && at.elapsed() < NODES_MAX_AGE
        {
            return Ok(nodes.clone());
        }
        let nodes = Arc::new(self.catalog.nodes().await?);
        *cached = Some((Instant::now(), nodes.clone()));
        Ok(nodes)
    }

    /// The next call of [`Context::nodes`] asks the metadata.
    pub async fn forget_nodes(&self) {
        *self.nodes.lock().await = None;
    }

    /// The base URL of a node's segment manager; a Python worker's is made from its name.
    pub fn manage_url(&self, status: &NodeStatus) -> Option<String> {
        if let Some(url) = &status.service.manage_url {
            return Some(if url.ends_with('/') { url.clone() } else { format!("{url}/") });
        }
        let node = status.node()?;
        Some(format!("http://{node}:{}/", self.settings.sync_local_port))
    }
}

/// Nodes by name.
pub(crate) fn by_name(nodes: &[NodeStatus]) -> HashMap<&NodeId, &NodeStatus> {
    nodes.iter().filter_map(|n| Some((n.node()?, n))).collect()
}
