//! Who follows which table: bounded queues of changes between the writer and the changefeeds.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::datum::Datum;

/// The metric of open feeds.
const FEEDS: &str = "trough_meta_changefeeds";

/// One document's change in one commit.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) table: i64,
    /// The encoded primary key.
    pub(crate) key: Vec<u8>,
    pub(crate) old: Option<Datum>,
    pub(crate) new: Option<Datum>,
    /// The commit's number.
    pub(crate) commit: i64,
}

/// The changes that one feed has not taken yet.
pub(crate) struct FeedQueue {
    table: i64,
    /// Only changes of this document, if set.
    key: Option<Vec<u8>>,
    limit: usize,
    /// Whether changes of one document that arrive from now on and wait together become one.
    squash: AtomicBool,
    state: Mutex<QueueState>,
    /// Told when something arrived.
    pub(crate) arrived: Notify,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Arc<Change>>,
    /// Where in `waiting` a document's change is; kept only when squashing.
    places: HashMap<Vec<u8>, usize>,
    skipped: usize,
    closed: bool,
}

/// What a feed finds in its queue.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) changes: VecDeque<Arc<Change>>,
    /// How many changes were thrown away because the queue was full.
    pub(crate) skipped: usize,
    /// The table is gone.
    pub(crate) closed: bool,
}

impl Drop for FeedQueue {
    fn drop(&mut self) {
        metrics::gauge!(FEEDS).decrement(1.0);
    }
}

impl FeedQueue {
    pub(crate) fn new(table: i64, key: Option<Vec<u8>>, limit: usize) -> Self {
        metrics::gauge!(FEEDS).increment(1.0);
        let squash = AtomicBool::new(false);
        Self { table, key, limit, squash, state: Mutex::default(), arrived: Notify::new() }
    }

    /// From now on changes of one document that wait together become one. A change that an initial value may show already
    /// must not be brought together with one from after it, so these have to be read before.
    pub(crate) fn begin_squash(&self) {
        self.squash.store(true, Ordering::Relaxed);
    }

    fn push(&self, change: &Arc<Change>) {
        if self.key.as_ref().is_some_and(|key| *key != change.key) {
            return;
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Some(waiting) = state.places.get(&change.key).and_then(|at| state.waiting.get_mut(*at)) {
            *waiting = Arc::new(Change { old: waiting.old.clone(), ..Change::clone(change) });
        } else if state.waiting.len() >= self.limit {
            state.skipped += state.waiting.len() + 1;
            state.waiting.clear();
            state.places.clear();
        } else {
            if self.squash.load(Ordering::Relaxed) {
                state.places.insert(change.key.clone(), state.waiting.len());
            }
            state.waiting.push_back(change.clone());
        }
        drop(guard);
        self.arrived.notify_one();
    }

    fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Takes everything that waits.
    pub(crate) fn take(&self) -> Taken {
        let mut state = self.state.lock();
        state.places.clear();
        Taken {
            changes: std::mem::take(&mut state.waiting),
            skipped: std::mem::take(&mut state.skipped),
            closed: state.closed,
        }
    }

    /// Whether [`take`](Self::take) would give anything.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.waiting.is_empty() && state.skipped == 0 && !state.closed
    }
}

/// All feeds, by table.
#[derive(Default)]
pub(crate) struct Feeds {
    by_table: RwLock<HashMap<i64, Vec<Weak<FeedQueue>>>>,
}

impl Feeds {
    /// Whether anybody follows a table.
    pub(crate) fn watched(&self, table: i64) -> bool {
        self.by_table.read().contains_key(&table)
    }

    pub(crate) fn add(&self, queue: &Arc<FeedQueue>) {
        self.by_table.write().entry(queue.table).or_default().push(Arc::downgrade(queue));
    }

    /// Hands changes on, in the order of the commits.
    pub(crate) fn publish(&self, changes: Vec<Change>) {
        let mut stale = Vec::new();
        for change in changes {
            let change = Arc::new(change);
            for queue in self.by_table.read().get(&change.table).into_iter().flatten() {
                match queue.upgrade() {
                    Some(queue) => queue.push(&change),
                    None => stale.push(change.table),
                }
            }
        }
        if !stale.is_empty() {
            let mut by_table = self.by_table.write();
            for table in stale {
                if let Some(queues) = by_table.get_mut(&table) {
                    queues.retain(|queue| queue.strong_count() > 0);
                    if queues.is_empty() {
                        by_table.remove(&table);
                    }
                }
            }
        }
    }

    /// Ends the feeds of tables that are gone.
    pub(crate) fn drop_tables(&self, tables: &[i64]) {
        for table in tables {
            let queues = self.by_table.write().remove(table).unwrap_or_default();
            queues.iter().filter_map(Weak::upgrade).for_each(|queue| queue.close());
        }
    }

    /// Ends all feeds.
    pub(crate) fn close_all(&self) {
        let all = std::mem::take(&mut *self.by_table.write());
        all.values().flatten().filter_map(Weak::upgrade).for_each(|queue| queue.close());
    }
}
