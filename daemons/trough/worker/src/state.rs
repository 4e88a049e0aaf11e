//! The worker's shared state: what all its tasks and handlers see. Everything in it is rebuilt at start from LOCAL_DATA and
//! from RethinkDB.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use trough_client::Catalog;
use trough_config::Settings;
use trough_core::{ErrorCode, NodeId, SegmentError, SegmentId};
use trough_engine::{Engine, SegmentFile};
use trough_http::events::Events;
use trough_store::{Entry, Store};

use crate::{
    advertise::Advertiser,
    busy::Busy,
    controls::Controlled,
    copies::Copies,
    files::{Files, Want},
    lease::{Lease, Peers},
    locks::Locks,
    meters::Meters,
    promotions::Promotions,
    quarantine::Quarantine,
    stranded::Stranded,
    told::Told,
};

/// Base URLs (with a slash at the end) that this worker advertises.
#[derive(Clone, Debug)]
pub(crate) struct Urls {
    pub(crate) read: String,
    pub(crate) read_port: u16,
    pub(crate) write: String,
    pub(crate) write_port: u16,
    pub(crate) manage: String,
}

/// One worker.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) node: NodeId,
    /// This process, as locks name it.
    pub(crate) holder: String,
    pub(crate) catalog: Catalog,
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn Store>,
    /// For requests to other nodes.
    pub(crate) http: reqwest::Client,
    pub(crate) urls: Urls,
    pub(crate) files: Files,
    pub(crate) locks: Locks,
    pub(crate) lease: Arc<Lease>,
    pub(crate) peers: Peers,
    pub(crate) wants: Wants,
    pub(crate) busy: Busy,
    pub(crate) copies: Copies,
    pub(crate) controlled: Controlled,
    pub(crate) advertiser: Advertiser,
    pub(crate) promotions: Promotions,
    pub(crate) quarantine: Quarantine,
    pub(crate) stranded: Stranded,
    pub(crate) events: Events,
    pub(crate) epoch: AtomicU64,
    pub(crate) meters: Meters,
    pub(crate) told: Told,
    /// Whether a Python worker ran here before, so that its copies are to be taken over.
    pub(crate) adopts: AtomicBool,
    /// Whether requests are answered: what other nodes have locked is known, and every file was compared with its assignment.
    pub(crate) started: AtomicBool,
    /// Cancelled when every segment has been looked at once.
    pub(crate) settled: CancellationToken,
    pub(crate) shutdown: CancellationToken,
    /// Cancelled when what is still in flight after the shutdown has had its time (SHUTDOWN_GRACE).
    pub(crate) last_call: CancellationToken,
}

/// What this node shall hold, followed by changefeed.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    map: RwLock<HashMap<SegmentId, Want>>,
    /// Whether the map has been complete since the start; before that nothing may be concluded from what it lacks.
    complete: AtomicBool,
    changed: Mutex<HashSet<SegmentId>>,
    /// Everything must be looked at.
    all_changed: AtomicBool,
    pub(crate) wake: Notify,
}

impl Wants {
    pub(crate) fn get(&self, segment: &SegmentId) -> Option<Want> {
        self.map.read().get(segment).cloned()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    pub(crate) fn len(&self) -> usize {
        self.map.read().len()
    }

    pub(crate) fn ids(&self) -> Vec<SegmentId> {
        self.map.read().keys().cloned().collect()
    }

    /// The segments whose assignments a Python master wrote.
    pub(crate) fn of_python(&self) -> HashSet<SegmentId> {
        self.map.read().iter().filter(|(_, want)| want.python && !want.cold).map(|(id, _)| id.clone()).collect()
    }

    /// Takes what the store holds of a segment whose assignment does not say it.
    pub(crate) fn found(&self, entry: Entry) {
        if let Some(want) = self.map.write().get_mut(&entry.segment).filter(|want| want.python)
            && (want.bytes, want.mtime_ms) != (entry.bytes, Some(entry.mtime_ms))
        {
            (want.bytes, want.mtime_ms, want.sha256) = (entry.bytes, Some(entry.mtime_ms), None);
            want.remote_path = entry.path.into();
        }
    }

    /// Takes the complete list.
    pub(crate) fn replace(&self, map: HashMap<SegmentId, Want>) {
        *self.map.write() = map;
        self.complete.store(true, Ordering::Release);
        self.all_changed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Takes one change; `None` when the assignment is gone.
    pub(crate) fn set(&self, segment: SegmentId, want: Option<Want>) {
        match want {
            Some(want) => self.map.write().insert(segment.clone(), want),
            None => self.map.write().remove(&segment),
        };
        self.look_at(segment);
    }

    /// Has the segment looked at soon.
    pub(crate) fn look_at(&self, segment: SegmentId) {
        self.changed.lock().insert(segment);
        self.wake.notify_one();
    }

    /// Has everything looked at soon.
    pub(crate) fn look_at_all(&self) {
        self.all_changed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// What must be looked at: some segments, or all (`None`).
    pub(crate) fn take_changed(&self) -> Option<Vec<SegmentId>> {
        let changed = std::mem::take(&mut *self.changed.lock());
        if self.all_changed.swap(false, Ordering::AcqRel) { None } else { Some(changed.into_iter().collect()) }
    }
}

/// Where a segment's reads are answered.
pub(crate) enum Route {
    /// From the local file.
    Here(SegmentFile),
    /// By the holder of its write lock.
    Holder(NodeId),
    /// Not by this node.
    Nowhere(SegmentError),
}

impl Worker {
    /// Whether the worker has started; before that it answers nothing.
    pub(crate) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Where the segment's reads are answered: while a write lock exists, by its holder only; a dead holder does not
    /// block the copies that are there.
    pub(crate) fn route(&self, segment: &SegmentId) -> Route {
        if let Some((holder, seen)) = self.locks.foreign(segment)
            && self.peers.may_be_alive(&holder, seen)
        {
            return Route::Holder(holder);
        }
        let Some(local) = self.files.get(segment) else { return Route::Nowhere(self.not_here(segment)) };
        if let Some(why) = &local.broken {
            return Route::Nowhere(SegmentError::new(
                ErrorCode::Corrupt,
                format!("this node's copy of segment '{segment}' is broken and is being fetched again: {why}"),
            ));
        }
        if !local.served || self.locks.is_doubtful(segment) {
            return Route::Nowhere(self.not_here(segment));
        }
        if self.settings.run_as_cold_storage_node {
            return Route::Here(crate::cold::segment_file(self, segment, &local));
        }
        let written = !local.plain || self.locks.held(segment).is_some();
        Route::Here(local.segment_file(segment, written))
    }

    fn not_here(&self, segment: &SegmentId) -> SegmentError {
        self.copies.bump(segment);
        let more = match self.copies.trouble(segment) {
            Some(trouble) => format!(": it is assigned here, but cannot be fetched: {trouble}"),
            None if self.wants.get(segment).is_some() => ": it is assigned here and on its way".to_owned(),
            None => String::new(),
        };
        SegmentError::new(
            ErrorCode::UnknownSegment,
            format!("node '{}' has no copy of segment '{segment}'{more}", self.node),
        )
    }

    /// The segment's file for writing and the like.
    pub(crate) fn hot_file(&self, segment: &SegmentId) -> Option<SegmentFile> {
        self.files.get(segment).map(|local| local.segment_file(segment, true))
    }

    /// Notes the epoch of a request from a master.
    ///
    /// # Errors
    /// If a higher one has been seen: its sender is no longer the master.
    pub(crate) fn see_epoch(&self, epoch: u64) -> Result<(), SegmentError> {
        let highest = self.epoch.fetch_max(epoch, Ordering::AcqRel);
        if epoch < highest {
            return Err(SegmentError::new(
                ErrorCode::Unavailable,
                format!(
                    "the request is fenced: its master has epoch {epoch}, and {highest} has been seen; ask the present master"
                ),
            ));
        }
        Ok(())
    }
}
