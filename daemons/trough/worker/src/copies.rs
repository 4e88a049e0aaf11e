//! Copies from the canonical store: what waits (most wanted first), what is in flight, what failed and when it is tried
//! again. In memory: at start the queue is made anew from the assignments. On disk: what has come of an interrupted copy,
//! with which the next attempt goes on.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use trough_core::{ErrorCode, SegmentError, SegmentId};
use trough_store::{Expected, Fetched as Got, GetOptions, StoreError, TokenBucket};

use crate::{
    decide::Step,
    files::{Stamp, Temporary, Want},
    locks::Base,
    reconcile,
    state::Worker,
};

/// The first pause after a failure; doubled with each.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// The longest pause.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// What is copied before what: an ordered struct, the first field first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Segments that were asked for in vain come first, the most wanted before the others.
    asked: Reverse<u32>,
    /// A missing copy comes before an old one.
    old: bool,
    /// Small ones first: more segments are served sooner.
    bytes: u64,
    segment: SegmentId,
}

#[derive(Debug, Default)]
struct Queue {
    order: BTreeSet<Rank>,
    ranks: HashMap<SegmentId, Rank>,
    flights: HashMap<SegmentId, Flight>,
    failures: HashMap<SegmentId, Failure>,
}

type ById<T> = Vec<(SegmentId, T)>;

/// A copy that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) bytes: u64,
    pub(crate) done: Arc<AtomicU64>,
    pub(crate) since: Instant,
}

/// A copy that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) error: Arc<str>,
    pub(crate) attempts: u32,
    retry_at: Instant,
}

/// All copies.
pub(crate) struct Copies {
    queue: Mutex<Queue>,
    wake: Notify,
    pub(crate) throttle: Arc<TokenBucket>,
}

impl Copies {
    pub(crate) fn new(bandwidth: Option<u64>) -> Self {
        let throttle = Arc::new(TokenBucket::new(bandwidth.unwrap_or(0)));
        Self { queue: Mutex::default(), wake: Notify::new(), throttle }
    }

    /// Has the segment copied, unless it waits, flies or rests after a failure already.
    pub(crate) fn enqueue(&self, segment: &SegmentId, bytes: u64, old: bool) {
        let mut queue = self.queue.lock();
        if queue.ranks.contains_key(segment) || queue.flights.contains_key(segment) {
            return;
        }
        if queue.failures.get(segment).is_some_and(|f| f.retry_at > Instant::now()) {
            return;
        }
        let rank = Rank { asked: Reverse(0), old, bytes, segment: segment.clone() };
        queue.order.insert(rank.clone());
        queue.ranks.insert(segment.clone(), rank);
        drop(queue);
        self.wake.notify_one();
    }

    /// The segment is not to be copied any more.
    pub(crate) fn forget(&self, segment: &SegmentId) {
        let mut queue = self.queue.lock();
        queue.failures.remove(segment);
        if let Some(rank) = queue.ranks.remove(segment) {
            queue.order.remove(&rank);
        }
    }

    /// Somebody asked for the segment in vain: if it waits, it moves forward.
    pub(crate) fn bump(&self, segment: &SegmentId) {
        let mut queue = self.queue.lock();
        let queue = &mut *queue;
        if let Some(rank) = queue.ranks.get_mut(segment) {
            queue.order.remove(rank);
            rank.asked.0 = rank.asked.0.saturating_add(1);
            queue.order.insert(rank.clone());
        }
    }

    /// Why the segment's copy failed last.
    pub(crate) fn trouble(&self, segment: &SegmentId) -> Option<Arc<str>> {
        let queue = self.queue.lock();
        if queue.failures.is_empty() { None } else { queue.failures.get(segment).map(|f| f.error.clone()) }
    }

    /// Whether the segment's copy is under way.
    pub(crate) fn flies(&self, segment: &SegmentId) -> bool {
        self.queue.lock().flights.contains_key(segment)
    }

    /// Copies waiting and in flight.
    pub(crate) fn waiting(&self) -> u64 {
        let queue = self.queue.lock();
        (queue.order.len() + queue.flights.len()) as u64
    }

    /// What flies and what failed, for the status page.
    pub(crate) fn snapshot(&self) -> (ById<Flight>, ById<Failure>) {
        let queue = self.queue.lock();
        let flights = queue.flights.iter().map(|(s, f)| (s.clone(), f.clone())).collect();
        let failures = queue.failures.iter().take(1000).map(|(s, f)| (s.clone(), f.clone())).collect();
        (flights, failures)
    }

    /// The failed segments whose pause is over.
    pub(crate) fn due(&self) -> Vec<SegmentId> {
        let now = Instant::now();
        let queue = self.queue.lock();
        queue
            .failures
            .iter()
            .filter(|(s, f)| f.retry_at <= now && !queue.ranks.contains_key(*s) && !queue.flights.contains_key(*s))
            .map(|(s, _)| s.clone())
            .collect()
    }

    fn take(&self) -> Option<(SegmentId, Arc<AtomicU64>)> {
        let mut queue = self.queue.lock();
        let rank = queue.order.pop_first()?;
        queue.ranks.remove(&rank.segment);
        let flight = Flight { bytes: rank.bytes, done: Arc::default(), since: Instant::now() };
        let done = flight.done.clone();
        queue.flights.insert(rank.segment.clone(), flight);
        Some((rank.segment, done))
    }

    fn landed(&self, segment: &SegmentId, result: &Result<(), SegmentError>) {
        let mut queue = self.queue.lock();
        queue.flights.remove(segment);
        match result {
            Ok(()) => {
                queue.failures.remove(segment);
            }
            Err(error) => {
                let attempts = queue.failures.get(segment).map_or(1, |f| f.attempts + 1);
                let pause = FIRST_RETRY.saturating_mul(1 << attempts.min(12)).min(LAST_RETRY);
                let failure =
                    Failure { error: error.message.as_str().into(), attempts, retry_at: Instant::now() + pause };
                queue.failures.insert(segment.clone(), failure);
            }
        }
    }
}

/// Keeps as many tasks at work as may copy at the same time (COPY_THREAD_POOL_SIZE, or what an operator has set), until the
/// shutdown.
pub(crate) async fn run(worker: Arc<Worker>) {
    let mut wanted = worker.controlled.copies_at_once();
    let (mut tasks, mut places) = (JoinSet::new(), HashMap::new());
    loop {
        let n = *wanted.borrow_and_update();
        let free: Vec<usize> = (0..n).filter(|place| !places.values().any(|taken| taken == place)).collect();
        for place in free {
            places.insert(tasks.spawn(copy_on(worker.clone(), place)).id(), place);
        }
        tokio::select! {
            () = worker.shutdown.cancelled() => return,
            changed = wanted.changed() => if changed.is_err() { return },
            Some(ended) = tasks.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => {
                        tracing::error!(%error, "a task that copies panicked, another takes its place");
                        error.id()
                    }
                };
                places.remove(&id);
            }
        }
    }
}

/// Copies until fewer may than `place` and those before it.
async fn copy_on(worker: Arc<Worker>, place: usize) {
    let may = |wanted: &mut watch::Receiver<usize>| *wanted.borrow_and_update() > place;
    let mut wanted = worker.controlled.copies_at_once();
    loop {
        while may(&mut wanted)
            && let Some((segment, done)) = worker.copies.take()
        {
            // There may be more work than this task.
            worker.copies.wake.notify_one();
            let result = tokio::select! {
                () = worker.shutdown.cancelled() => return,
                result = copy(&worker, &segment, done) => result,
            };
            if let Err(error) = &result {
                worker.meters.copy_errors.increment(1);
                tracing::error!(%segment, error = error.message, "cannot copy a segment from the canonical store, trying again later");
            }
            worker.copies.landed(&segment, &result);
            // What is wanted may have changed meanwhile, and a success must be advertised.
            worker.wants.look_at(segment);
        }
        if !may(&mut wanted) {
            // Whoever is left takes what waits.
            worker.copies.wake.notify_one();
            return;
        }
        tokio::select! {
            () = worker.shutdown.cancelled() => return,
            () = worker.copies.wake.notified() => {}
            _ = wanted.changed() => {}
        }
    }
}

/// Fetches the wanted version beside its place, checks it, and puts it there, if it still is what should be done.
async fn copy(worker: &Arc<Worker>, segment: &SegmentId, done: Arc<AtomicU64>) -> Result<(), SegmentError> {
    let Some(want) = worker.wants.get(segment) else { return Ok(()) };
    let fetched = resume(worker, segment, &want, done).await?;
    let _busy = worker.busy.acquire(std::slice::from_ref(segment)).await;
    match reconcile::step_of(worker, segment) {
        Step::Fetch | Step::Freshen => install(worker, segment, &fetched).await,
        Step::FreshenAndRelease => {
            let Some(held) = worker.locks.held(segment) else { return install(worker, segment, &fetched).await };
            // Nobody writes while the gate is closed; whoever waits before it finds the lock released.
            let _closed = held.gate.write().await;
            if matches!(held.base(), None | Some(Base::Unknown | Base::Found(_))) {
                return Ok(());
            }
            install(worker, segment, &fetched).await?;
            reconcile::give_back(worker, &held).await;
            tracing::info!(%segment, "a newer canonical copy replaced the local one, write lock released");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A copy beside its place, checked. Removed when it is dropped before it was put there.
pub(crate) struct Fetched {
    temporary: Temporary,
    stamp: Stamp,
    fetched_for: (u64, Option<i64>),
}

/// Fetches a canonical copy beside its place and checks it.
pub(crate) async fn fetch(
    worker: &Worker,
    segment: &SegmentId,
    want: &Want,
    done: Arc<AtomicU64>,
) -> Result<Fetched, SegmentError> {
    let temporary = Temporary::new(&worker.files, segment, &worker.node, 0);
    let got = worker.store.get(&want.remote_path, temporary.path(), options(worker, want, done, false)).await;
    check(worker, segment, want, temporary, got.map_err(|e| store_error(segment, &e))?).await
}

/// The same, going on with what an interrupted copy left. One at a time may do that for a segment.
async fn resume(
    worker: &Worker,
    segment: &SegmentId,
    want: &Want,
    done: Arc<AtomicU64>,
) -> Result<Fetched, SegmentError> {
    let Some(partial) = worker.files.begin_partial(segment) else { return fetch(worker, segment, want, done).await };
    let got = worker.store.get(&want.remote_path, &partial, options(worker, want, done, true)).await;
    if let Err(StoreError::Full { .. }) = &got {
        // Others may have need of the room.
        worker.files.discard_partial(segment);
    }
    let got = got.map_err(|e| store_error(segment, &e))?;
    // It is whole now: there is nothing more to go on with, and if it is not sound, it goes.
    let temporary = Temporary::at(partial);
    worker.files.end_partial(segment);
    if got.resumed > 0 {
        worker.meters.resumed_bytes.increment(got.resumed);
        tracing::info!(%segment, resumed = got.resumed, bytes = got.bytes, "went on with an interrupted copy");
    }
    check(worker, segment, want, temporary, got).await
}

fn options(worker: &Worker, want: &Want, done: Arc<AtomicU64>, resume: bool) -> GetOptions {
    let (bytes, sha256) = (want.bytes, want.sha256.as_deref().map(str::to_owned));
    GetOptions {
        progress: Some(Arc::new(move |bytes| done.store(bytes, Ordering::Relaxed))),
        throttle: Some(worker.copies.throttle.clone()),
        hash: want.sha256.is_some(),
        expected: want.mtime_ms.map(|mtime_ms| Expected { bytes, mtime_ms, sha256 }),
        resume,
    }
}

/// Checks what was fetched: by the hash that the promotion recorded, which was taken of a database that was found sound;
/// without one, by SQLite.
async fn check(
    worker: &Worker,
    segment: &SegmentId,
    want: &Want,
    temporary: Temporary,
    got: Got,
) -> Result<Fetched, SegmentError> {
    let stamp = Stamp { bytes: got.bytes, mtime_ms: got.mtime_ms };
    // A file that is newer than its record has another hash, rightly.
    let recorded = want.sha256.as_deref().filter(|_| want.mtime_ms == Some(got.mtime_ms));
    match (recorded, got.sha256.as_deref()) {
        (Some(wanted), Some(has)) if wanted == has => {}
        (Some(wanted), Some(has)) => {
            return Err(SegmentError::new(
                ErrorCode::Corrupt,
                format!(
                    "the canonical copy of segment '{segment}' ({}) has SHA-256 {has}, recorded is {wanted}",
                    want.remote_path
                ),
            ));
        }
        _ => worker.engine.check(temporary.path().to_owned()).await.map_err(|e| {
            let message = format!(
                "the canonical copy of segment '{segment}' ({}) is no sound database: {}",
                want.remote_path, e.message
            );
            SegmentError { message, ..e }
        })?,
    }
    worker.meters.copies.increment(1);
    worker.meters.copied_bytes.increment(stamp.bytes - got.resumed);
    Ok(Fetched { temporary, stamp, fetched_for: (want.bytes, want.mtime_ms) })
}

/// Puts a fetched copy in its place; running queries finish on the old one. The segment must be busy.
pub(crate) async fn install(worker: &Worker, segment: &SegmentId, fetched: &Fetched) -> Result<(), SegmentError> {
    let path = worker.files.path_of(segment);
    let file = trough_engine::SegmentFile::new(segment.clone(), path.clone(), trough_engine::Mode::Immutable);
    worker.engine.replace(file, fetched.temporary.path().to_owned()).await?;
    let before = worker.files.get(segment).is_some_and(|old| old.served);
    let want = worker.wants.get(segment);
    worker.files.put(segment.clone(), path.into(), fetched.stamp, true);
    worker.files.update(segment, |file| {
        file.fetched_for = Some(fetched.fetched_for);
        // What became old while it was fetched is not served for the first time.
        file.served = before || want.is_some_and(|want| want.is_met_by(file));
    });
    Ok(())
}

impl Fetched {
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }
}

/// The store's failure as one of the segment.
pub(crate) fn store_error(segment: &SegmentId, error: &StoreError) -> SegmentError {
    SegmentError::new(error.code(), format!("segment '{segment}': {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_wanted_comes_first() {
        let copies = Copies::new(None);
        let id = |id: &str| SegmentId::new(id).expect("id");
        copies.enqueue(&id("large"), 100, false);
        copies.enqueue(&id("old"), 1, true);
        copies.enqueue(&id("small"), 1, false);
        copies.enqueue(&id("asked"), 1000, true);
        copies.bump(&id("asked"));
        copies.bump(&id("nobody"));
        assert_eq!(copies.waiting(), 4);
        let order: Vec<String> = std::iter::from_fn(|| copies.take()).map(|(s, _)| s.to_string()).collect();
        assert_eq!(order, ["asked", "small", "large", "old"]);
        // In flight, it is not queued again; failed, it rests.
        copies.enqueue(&id("small"), 1, false);
        assert!(copies.take().is_none());
        copies.landed(&id("small"), &Err(SegmentError::new(ErrorCode::Io, "broken pipe")));
        copies.enqueue(&id("small"), 1, false);
        assert!(copies.take().is_none());
        assert_eq!(copies.trouble(&id("small")).as_deref(), Some("broken pipe"));
    }
}
