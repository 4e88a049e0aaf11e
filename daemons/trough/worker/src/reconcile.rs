//! Bringing what is to what should be: a look at every segment each SYNC_LOOP_TIMING, and at once at those whose
//! assignment changed. Decisions are pure ([`decide`]); this applies them.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use futures::StreamExt as _;
use parking_lot::Mutex;
use trough_config::Heartbeat;
use trough_core::{SegmentId, records::Lock};
use trough_http::events::What;
use trough_store::crashsafe;

use crate::{
    advertise::{READ, WRITE},
    collect,
    decide::{Step, View, decide},
    files::{LocalFile, Stamp},
    fresh::{self, Pending},
    locks::{Base, Held},
    orphans, python,
    state::Worker,
    undo,
};

/// Locks released in one statement.
const RELEASE_BATCH: usize = 200;
/// Seals at the same time.
const SEALS: usize = 16;

/// What the steps of one pass ask for that is done in batches.
#[derive(Debug, Default)]
struct Batches {
    release: Vec<Arc<Held>>,
    elsewhere: Vec<Arc<Held>>,
    collect: Vec<SegmentId>,
}

/// What to do about the segment now.
pub(crate) fn step_of(worker: &Worker, segment: &SegmentId) -> Step {
    let (local, want) = (worker.files.get(segment), worker.wants.get(segment));
    let held = worker.locks.held(segment).map(|held| held.base());
    let orphan = worker.locks.is_orphan(segment);
    let stray = held.is_none() && local.as_ref().is_some_and(|local| is_stray(worker, segment, local));
    decide(&View { local: local.as_ref(), want: want.as_ref(), orphan, stray, held })
}

/// Whether the log of a file here has what was written under a lock that is gone, and nobody has it now. As long as another has, nobody is
/// answered from the file, and the lock may come back.
fn is_stray(worker: &Worker, segment: &SegmentId, local: &LocalFile) -> bool {
    !local.plain && worker.stranded.is_noted(segment) && worker.locks.foreign(segment).is_none()
}

/// Reconciles until the shutdown.
pub(crate) async fn run(worker: Arc<Worker>) {
    let every = worker.settings.sync_loop_timing;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let lost = Mutex::new(HashSet::new());
    let mut pending = Pending::default();
    loop {
        let full = tokio::select! {
            () = worker.shutdown.cancelled() => return,
            _ = ticks.tick() => true,
            () = worker.wants.wake.notified() => false,
            () = pending.due(fresh::pace(every)) => {
                // Not a look at everything, but at locks that wait for other copies.
                let mut batches = Batches::default();
                for segment in pending.take() {
                    apply(&worker, &segment, &mut batches, &lost);
                }
                release_all(&worker, batches, &mut pending).await;
                continue;
            }
        };
        if !worker.wants.is_complete() {
            continue;
        }
        let changed = worker.wants.take_changed();
        let full = full || changed.is_none();
        if full {
            // Without the store nobody knows what the copies are of.
            if python::look_at_store(&worker).await {
                python::adopt(&worker).await;
            }
            let all = {
                let worker = worker.clone();
                tokio::task::spawn_blocking(move || all_segments(&worker)).await.unwrap_or_default()
            };
            pass(&worker, all, true, &lost, &mut pending).await;
            if worker.settings.heartbeat == Heartbeat::Segment {
                worker.advertiser.renew_all();
            }
        } else {
            pass(&worker, changed.unwrap_or_default(), false, &lost, &mut pending).await;
        }
    }
}

fn all_segments(worker: &Worker) -> Vec<SegmentId> {
    let mut all: HashSet<SegmentId> = worker.files.ids().into_iter().collect();
    all.extend(worker.wants.ids());
    all.extend(worker.locks.all_held().into_iter().map(|held| held.lock.segment.clone()));
    all.into_iter().collect()
}

async fn pass(
    worker: &Arc<Worker>,
    segments: Vec<SegmentId>,
    full: bool,
    lost: &Mutex<HashSet<SegmentId>>,
    pending: &mut Pending,
) {
    orphans::judge(worker).await;
    let mut batches = Batches::default();
    for (n, segment) in segments.iter().enumerate() {
        if n % 256 == 255 {
            tokio::task::yield_now().await;
        }
        apply(worker, segment, &mut batches, lost);
    }
    if full {
        // What this node serves is known now; looking other copies up may take longer.
        worker.settled.cancel();
        let collect = std::mem::take(&mut batches.collect);
        release_all(worker, std::mem::take(&mut batches), pending).await;
        batches.collect = collect;
        give_back_leftovers(worker).await;
        refresh_held(worker).await;
    }
    let waiting = batches.release.iter().chain(&batches.elsewhere);
    waiting.for_each(|held| pending.put(held.lock.segment.clone()));
    collect::run(worker, batches.collect).await;
    if full {
        collect_partials(worker).await;
    }
    for segment in worker.copies.due() {
        if full {
            apply(worker, &segment, &mut Batches::default(), lost);
        }
    }
}

/// Releases what may be released; the rest stays pending.
async fn release_all(worker: &Arc<Worker>, mut batches: Batches, pending: &mut Pending) {
    let all: Vec<_> = batches.release.iter().chain(&batches.elsewhere).cloned().collect();
    collect::elsewhere(worker, std::mem::take(&mut batches.elsewhere), &mut batches.release).await;
    for chunk in batches.release.chunks(RELEASE_BATCH) {
        match fresh::elsewhere(worker, chunk, worker.settings.sync_loop_timing).await {
            Ok(ready) => release(worker, ready).await,
            Err(error) => tracing::warn!(%error, "cannot look other copies up, write locks are kept"),
        }
    }
    all.into_iter().filter(|held| held.is_valid()).for_each(|held| pending.put(held.lock.segment.clone()));
}

fn apply(worker: &Arc<Worker>, segment: &SegmentId, batches: &mut Batches, lost: &Mutex<HashSet<SegmentId>>) {
    let step = step_of(worker, segment);
    let held = worker.locks.held(segment);
    if let Some(held) = &held
        && step != Step::Lost
    {
        worker.files.update(segment, |file| file.served = true);
        worker.advertiser.set(segment, READ | WRITE);
        match step {
            Step::Release => batches.release.push(held.clone()),
            Step::ReleaseIfServedElsewhere => batches.elsewhere.push(held.clone()),
            _ => {}
        }
    }
    match step {
        Step::Nothing if held.is_none() => {
            worker.advertiser.clear(segment);
            worker.copies.forget(segment);
        }
        Step::Keep => {
            worker.files.update(segment, |file| file.served = true);
            worker.advertiser.set(segment, if worker.locks.is_doubtful(segment) { 0 } else { READ });
            worker.copies.forget(segment);
        }
        Step::Serve => {
            worker.files.update(segment, |file| file.served = true);
            let local = worker.files.get(segment);
            if held.is_none() && local.as_ref().is_some_and(|file| file.plain) {
                forget_note(worker, segment);
            }
            match (local, worker.wants.get(segment)) {
                (Some(local), Some(want)) => worker.advertiser.set_version(segment, want.version_of(local.stamp)),
                _ => worker.advertiser.set(segment, READ),
            }
            worker.copies.forget(segment);
        }
        Step::Fetch | Step::Freshen | Step::FreshenAndRelease => {
            let local = worker.files.get(segment);
            if held.is_none() {
                // A copy that was served goes on until the newer one has come; one of an earlier life is not served before, nor one with
                // what others have not.
                let stray = local.as_ref().is_some_and(|local| is_stray(worker, segment, local));
                if stray {
                    worker.files.update(segment, |file| file.served = false);
                }
                let usable = !stray && local.as_ref().is_some_and(|file| file.broken.is_none() && file.served);
                worker.advertiser.set(segment, if usable { READ } else { 0 });
            }
            if let Some(want) = worker.wants.get(segment) {
                worker.copies.enqueue(segment, want.bytes, local.is_some());
            }
        }
        Step::Collect => {
            if worker.files.get(segment).is_some_and(|local| is_stray(worker, segment, &local)) {
                worker.files.update(segment, |file| file.served = false);
                worker.advertiser.set(segment, 0);
            }
            batches.collect.push(segment.clone());
        }
        Step::Lost => {
            worker.advertiser.set(segment, 0);
            if lost.lock().insert(segment.clone()) {
                tracing::error!(
                    %segment, dir = %worker.files.dir().display(),
                    "this node holds the write lock of a segment whose file is missing: bring the file back, or shred the segment"
                );
            }
        }
        Step::Nothing | Step::Release | Step::ReleaseIfServedElsewhere => {}
    }
}

/// Removes the note that the segment's file may hold writes: it is the canonical copy. Not while somebody is at work on it: it may be
/// noted right now because its lock was taken and it is about to be written.
fn forget_note(worker: &Worker, segment: &SegmentId) {
    if worker.stranded.is_noted(segment)
        && let Some(_busy) = worker.busy.try_acquire(std::slice::from_ref(segment))
        && step_of(worker, segment) == Step::Serve
        && worker.files.get(segment).is_some_and(|file| file.plain)
    {
        worker.stranded.forget(segment);
    }
}

/// Removes the parts of copies that are not to be made any more.
async fn collect_partials(worker: &Arc<Worker>) {
    let to_go: Vec<SegmentId> = worker
        .files
        .partials()
        .into_iter()
        .filter(|segment| {
            let step = step_of(worker, segment);
            !matches!(step, Step::Fetch | Step::Freshen | Step::FreshenAndRelease) && !worker.copies.flies(segment)
        })
        .collect();
    if to_go.is_empty() {
        return;
    }
    let worker = worker.clone();
    let discarding = tokio::task::spawn_blocking(move || to_go.iter().for_each(|s| worker.files.discard_partial(s)));
    if let Err(error) = discarding.await {
        tracing::error!(%error, "removing parts of copies panicked");
    }
}

/// Notes the present length of files that are being written.
async fn refresh_held(worker: &Arc<Worker>) {
    for held in worker.locks.all_held() {
        let segment = &held.lock.segment;
        let Some(local) = worker.files.get(segment) else { continue };
        if let Ok(metadata) = tokio::fs::metadata(&local.path).await {
            worker.files.update(segment, |file| file.stamp = Stamp::of(&metadata));
        }
    }
}

/// Gives write locks back whose files are the canonical copies and have not been written since; each with the version that no
/// other node serves an older one of.
async fn release(worker: &Arc<Worker>, tenures: Vec<(Arc<Held>, i64)>) {
    let mut ready = Vec::new();
    for (held, version) in tenures {
        let segment = &held.lock.segment;
        let Some(busy) = worker.busy.try_acquire(std::slice::from_ref(segment)) else { continue };
        let Ok(closed) = held.gate.clone().try_write_owned() else { continue };
        // Looked at again behind the closed gate: a write may have begun, or another version may have been promoted.
        if matches!(step_of(worker, segment), Step::Release | Step::ReleaseIfServedElsewhere)
            && fresh::version(worker, &held) == Some(version)
            && held.is_valid()
        {
            ready.push((held, version, busy, closed));
        }
    }
    let sealed: Vec<_> = futures::stream::iter(ready)
        .map(|(held, version, busy, closed)| async move {
            let fit = seal(worker, &held).await;
            (held, version, busy, closed, fit)
        })
        .buffer_unordered(SEALS)
        .filter(|(.., fit)| std::future::ready(*fit))
        .collect()
        .await;
    if sealed.is_empty() {
        return;
    }
    for (held, ..) in &sealed {
        held.invalidate();
    }
    let locks: Vec<Lock> = sealed.iter().map(|(held, ..)| held.lock.clone()).collect();
    let outcome = worker.catalog.release_locks(&locks).await;
    if let Err(error) = &outcome {
        tracing::warn!(%error, locks = locks.len(), "cannot release write locks, trying again");
    }
    for (held, version, _busy, _closed, _) in sealed {
        worker.advertiser.set_version(&held.lock.segment, version);
        // After a failure nobody knows whether the rows are gone: nothing is acknowledged under these tenures any
        // more, and they are given back again in the next pass.
        if outcome.is_ok() {
            released(worker, &held);
        }
    }
}

/// The lock's row is gone.
fn released(worker: &Worker, held: &Arc<Held>) {
    worker.stranded.forget(&held.lock.segment);
    worker.locks.released(held);
    worker.meters.released.increment(1);
    worker.events.note(&held.lock.segment, What::LockReleased { fence: held.lock.fence });
}

/// Ends writing, and gives the file its canonical time. The gate must be closed.
async fn seal(worker: &Worker, held: &Held) -> bool {
    let segment = &held.lock.segment;
    let Some(Base::Canonical(stamp) | Base::Found(stamp)) = held.base() else { return false };
    let (Some(file), Some(local)) = (worker.hot_file(segment), worker.files.get(segment)) else { return false };
    let plain = match worker.engine.seal(file).await {
        Ok(plain) => plain,
        Err(error) => {
            tracing::warn!(%segment, error = error.message, "cannot end writing to a segment, its lock is kept");
            return false;
        }
    };
    let set = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::options().write(true).open(&local.path)?;
        crashsafe::set_mtime_ms(&file, stamp.mtime_ms)?;
        file.sync_all()?;
        file.metadata().map(|m| Stamp::of(&m))
    })
    .await;
    match set {
        Ok(Ok(now)) if now.bytes == stamp.bytes => {
            worker.files.update(segment, |file| (file.stamp, file.plain) = (now, plain));
            plain
        }
        Ok(Ok(now)) => {
            tracing::error!(%segment, local = now.bytes, canonical = stamp.bytes, "the local file's length is not that of its promoted copy; promote it again");
            held.set_base(Base::Unknown);
            false
        }
        Ok(Err(error)) => {
            tracing::warn!(%segment, %error, "cannot set the time of a segment's file, its lock is kept");
            false
        }
        Err(_) => false,
    }
}

/// Gives one lock back. The gate must be closed.
pub(crate) async fn give_back(worker: &Arc<Worker>, held: &Arc<Held>) {
    held.invalidate();
    worker.advertiser.set(&held.lock.segment, READ);
    match worker.catalog.release_lock(&held.lock).await {
        Ok(_) => {
            released(worker, held);
        }
        Err(error) => tracing::warn!(segment = %held.lock.segment, %error, "cannot release a write lock, trying again"),
    }
}

/// Tries again to give back what could not be given back.
async fn give_back_leftovers(worker: &Arc<Worker>) {
    undo::settle(worker).await;
    for held in worker.locks.unreleased() {
        let Some(_busy) = worker.busy.try_acquire(std::slice::from_ref(&held.lock.segment)) else { continue };
        // Acquired anew meanwhile, the row may be that tenure's.
        if worker.locks.held(&held.lock.segment).is_none() {
            give_back(worker, &held).await;
        }
    }
}

/// Looks tenures up in the database one by one, and ends those that it does not have.
pub(crate) async fn verify(worker: &Worker, tenures: Vec<Arc<Held>>, since: Instant) {
    for held in tenures {
        match worker.catalog.lock(&held.lock.segment).await {
            Ok(row) => worker.locks.confirmed(&held, row.as_ref()),
            Err(error) => {
                tracing::warn!(segment = %held.lock.segment, %error, waited = ?since.elapsed(), "cannot look a write lock up");
                return;
            }
        }
    }
}

impl Worker {
    /// The highest epoch that was seen.
    pub(crate) fn highest_epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }
}
