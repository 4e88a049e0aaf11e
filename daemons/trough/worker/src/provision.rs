//! Write provisioning: the lock, the file, the rows. What the canonical store holds and this node does not is copied down
//! before it becomes writable.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use futures::StreamExt as _;
use trough_client::{
    CatalogError,
    catalog::{LockOutcome, TAKEOVER_MARGIN},
};
use trough_core::{
    ErrorCode, NodeId, SchemaId, SegmentError, SegmentId,
    records::{Lock, Schema},
};
use trough_http::events::{What, reason};
use trough_store::{Entry, StoreError};

use crate::{
    advertise::{READ, WRITE},
    collect, copies,
    files::{Stamp, Want},
    locks::Base,
    state::Worker,
    stranded,
    undo::{self, Undo},
};

/// Questions to the store, and fetches, at the same time.
const STORE_REQUESTS: usize = 16;
/// How long the service rows may take.
const ADVERTISED: Duration = Duration::from_secs(15);
/// The longest name that a file may have, in bytes, less what SQLite and copies put around it.
const MAX_FILE_NAME: usize = 255 - "-wal".len();

/// A provisioned segment.
#[derive(Clone, Debug)]
pub(crate) struct Provisioned {
    pub(crate) segment: SegmentId,
    pub(crate) write_url: String,
    pub(crate) size: u64,
}

/// The URL for writes to the segment.
pub(crate) fn write_url(worker: &Worker, segment: &SegmentId) -> String {
    format!("{}?segment={}", worker.urls.write, segment.url_encoded())
}

/// The failure of the whole request, as one of each segment.
pub(crate) fn catalog_error(error: &CatalogError) -> SegmentError {
    let code = match error {
        CatalogError::UnknownSchema { .. } => ErrorCode::BadRequest,
        CatalogError::LockLost { .. } => ErrorCode::NotWritable,
        _ => ErrorCode::Unavailable,
    };
    SegmentError::new(code, error.to_string())
}

/// The schema that new segments start from.
///
/// # Errors
/// [`ErrorCode::BadRequest`] names it if it is not registered.
pub(crate) async fn schema(worker: &Worker, id: &str) -> Result<Schema, SegmentError> {
    let id = SchemaId::new(id).map_err(|e| SegmentError::new(ErrorCode::BadRequest, e.to_string()))?;
    worker.catalog.require_schema(&id).await.map_err(|e| catalog_error(&e))
}

/// Makes the segments writable on this node; the results stand in their order.
pub(crate) async fn provision(
    worker: &Arc<Worker>,
    segments: &[SegmentId],
    schema: &Schema,
    epoch: Option<u64>,
) -> Vec<Result<Provisioned, SegmentError>> {
    let mut results: HashMap<SegmentId, Result<u64, SegmentError>> = HashMap::with_capacity(segments.len());
    let mut todo = Vec::new();
    let mut seen = HashSet::new();
    for segment in segments.iter().filter(|s| seen.insert(*s)) {
        let name = segment.file_name();
        if name.len() > MAX_FILE_NAME {
            let message =
                format!("segment id of {} bytes is too long for a file's name: {segment}", segment.as_str().len());
            results.insert(segment.clone(), Err(SegmentError::new(ErrorCode::BadRequest, message)));
        } else if let Err(error) = worker.store.allows(segment) {
            // Known now, rather than when all is written and shall be promoted.
            results.insert(segment.clone(), Err(copies::store_error(segment, &error)));
        } else if let (Some(held), true, Some(local)) =
            (worker.locks.held(segment), worker.lease.runs(), worker.files.get(segment))
        {
            held.provisioned_again();
            let size = std::fs::metadata(&local.path).map_or(local.stamp.bytes, |m| m.len());
            results.insert(segment.clone(), Ok(size));
        } else {
            todo.push(segment.clone());
        }
    }
    if !todo.is_empty() {
        let fresh = provision_new(worker, &todo, schema, epoch).await;
        match fresh {
            Ok(fresh) => results.extend(fresh),
            Err(error) => results.extend(todo.into_iter().map(|s| (s, Err(error.clone())))),
        }
    }
    for (segment, result) in &results {
        if let Err(error) = result {
            worker.events.note(segment, What::ProvisionRefused { reason: reason(error) });
        }
    }
    segments
        .iter()
        .map(|segment| match results.get(segment) {
            Some(Ok(size)) => {
                Ok(Provisioned { segment: segment.clone(), write_url: write_url(worker, segment), size: *size })
            }
            Some(Err(error)) => Err(error.clone()),
            None => Err(SegmentError::new(ErrorCode::Internal, format!("segment '{segment}' got no result"))),
        })
        .collect()
}

type Sizes = Vec<(SegmentId, Result<u64, SegmentError>)>;

async fn provision_new(
    worker: &Arc<Worker>,
    segments: &[SegmentId],
    schema: &Schema,
    epoch: Option<u64>,
) -> Result<Sizes, SegmentError> {
    if worker.settings.run_as_cold_storage_node {
        return Err(SegmentError::new(ErrorCode::NotWritable, "this node is a cold worker, which writes nothing"));
    }
    // Service rows are written only once it is known which there should be.
    if tokio::time::timeout(ADVERTISED, worker.settled.cancelled()).await.is_err() {
        return Err(SegmentError::new(
            ErrorCode::Unavailable,
            "this worker is still reading its assignments; try again",
        ));
    }
    let _busy = worker.busy.acquire(segments).await;
    if !worker.lease.runs() {
        return Err(SegmentError::new(
            ErrorCode::Unavailable,
            "this node cannot renew its lease (RethinkDB does not answer), so it takes no write locks",
        ));
    }
    let epoch = epoch.unwrap_or_else(|| worker.highest_epoch());
    // A lock is taken from another node only if this one has seen for itself that it does not renew its lease.
    let silence = worker.lease.ttl() + Duration::from_secs_f64(TAKEOVER_MARGIN);
    let spared = |holder: &NodeId| worker.peers.silent_for(holder) < silence;
    let mut sizes = Sizes::with_capacity(segments.len());
    let segments = within_reach(worker, segments, &spared, &mut sizes).await;
    let outcomes = worker
        .catalog
        .acquire_locks_unless(&segments, &worker.node, &worker.holder, epoch, &spared)
        .await
        .map_err(|e| catalog_error(&e))?;
    let (mut locked, mut undos) = (Vec::new(), HashMap::new());
    for (segment, outcome) in segments.iter().zip(outcomes) {
        match outcome {
            // Held already: the file may hold what was never promoted, and stays as it is.
            LockOutcome::Acquired { .. } if worker.locks.held(segment).is_some() => {
                sizes.push((segment.clone(), held_already(worker, segment)));
            }
            LockOutcome::Acquired { lock, former } => {
                if let Some(undo) = Undo::of(worker, &lock, former) {
                    undos.insert(segment.clone(), undo);
                }
                locked.push((segment.clone(), lock));
            }
            LockOutcome::Held(lock) => {
                worker.locks.changed(segment, Some(&lock));
                sizes.push((segment.clone(), Err(held_elsewhere(worker, &lock))));
            }
        }
    }
    let (mut ready, mut failed) = bring_files(worker, locked, schema).await;
    let noted = stranded::note(worker, ready.iter().map(|(segment, ..)| segment.clone()).collect()).await;
    if let Err(error) = noted {
        failed.extend(ready.drain(..).map(|(segment, lock, _)| (segment, lock, error.clone())));
    }
    undo::all(worker, failed.iter().filter_map(|(segment, ..)| undos.remove(segment)).collect()).await;
    sizes.extend(failed.into_iter().map(|(segment, _, error)| (segment, Err(error))));
    let mut advertised = Vec::with_capacity(ready.len());
    for (segment, lock, file) in ready {
        worker.engine.evict(&segment);
        worker.files.put(segment.clone(), worker.files.path_of(&segment).into(), file.stamp, false);
        worker.locks.acquired(lock, file.base);
        let what = What::Provisioned { bytes: file.stamp.bytes, new: file.base == Base::Fresh };
        worker.events.note(&segment, what);
        worker.advertiser.set(&segment, READ | WRITE);
        worker.meters.provisioned.increment(1);
        sizes.push((segment.clone(), Ok(file.stamp.bytes)));
        advertised.push(segment);
    }
    if !worker.advertiser.settled(&advertised, ADVERTISED).await {
        let error = SegmentError::new(
            ErrorCode::Unavailable,
            "the segment is provisioned, but its service rows cannot be written (RethinkDB does not answer); try again",
        );
        for (segment, result) in &mut sizes {
            if advertised.contains(segment) {
                *result = Err(error.clone());
            }
        }
    }
    Ok(sizes)
}

/// The segments without those whose locks may be taken over from another node and whose canonical copy cannot be looked at now. Their locks must not be taken
/// over only to be given back: the former holder, who may have what was never promoted, would have lost them for nothing.
async fn within_reach(
    worker: &Worker,
    segments: &[SegmentId],
    spared: &(dyn Fn(&NodeId) -> bool + Sync),
    refused: &mut Sizes,
) -> Vec<SegmentId> {
    let looked: Vec<_> = futures::stream::iter(segments.to_vec())
        .map(|segment| async move {
            let looked = match worker.locks.foreign(&segment) {
                Some((holder, _)) if !spared(&holder) => worker.store.stat(&segment).await.map(drop),
                _ => Ok(()),
            };
            (segment, looked)
        })
        .buffered(STORE_REQUESTS)
        .collect()
        .await;
    let mut within = Vec::with_capacity(looked.len());
    for (segment, looked) in looked {
        match looked {
            Ok(()) | Err(StoreError::NotFound { .. }) => within.push(segment),
            Err(error) => {
                let error = copies::store_error(&segment, &error);
                refused.push((segment, Err(error)));
            }
        }
    }
    within
}

fn held_already(worker: &Worker, segment: &SegmentId) -> Result<u64, SegmentError> {
    if let Some(held) = worker.locks.held(segment) {
        held.provisioned_again();
    }
    let path = worker.files.path_of(segment);
    std::fs::metadata(&path).map(|m| m.len()).map_err(|e| {
        let message = format!(
            "node '{}' holds the write lock of segment '{segment}', but its file cannot be found ({e}): bring it back, or shred the segment",
            worker.node
        );
        SegmentError::new(ErrorCode::Io, message)
    })
}

fn held_elsewhere(worker: &Worker, lock: &Lock) -> SegmentError {
    let hint = worker.peers.get(&lock.node).and_then(|peer| peer.write_url);
    SegmentError {
        code: ErrorCode::Moved,
        message: format!("node '{}' holds the write lock of segment '{}'", lock.node, lock.segment),
        hint,
    }
}

/// A file that is ready to be written.
struct Ready {
    stamp: Stamp,
    base: Base,
}

type Locked = Vec<(SegmentId, Lock)>;
type ReadyFiles = Vec<(SegmentId, Lock, Ready)>;
type Failed = Vec<(SegmentId, Lock, SegmentError)>;

/// Brings the files of freshly locked segments into place: the current canonical copy, the local file where there is
/// none, or a new one.
async fn bring_files(worker: &Arc<Worker>, locked: Locked, schema: &Schema) -> (ReadyFiles, Failed) {
    let (mut ready, mut failed, mut create) = (Vec::new(), Vec::new(), Vec::new());
    let looked: Vec<_> = futures::stream::iter(locked)
        .map(|(segment, lock)| async move {
            let outcome = from_store(worker, &segment).await;
            (segment, lock, outcome)
        })
        .buffered(STORE_REQUESTS)
        .collect()
        .await;
    for (segment, lock, outcome) in looked {
        match outcome {
            Ok(Some(file)) => ready.push((segment, lock, file)),
            Ok(None) => create.push((segment, lock)),
            Err(error) => failed.push((segment, lock, error)),
        }
    }
    if create.is_empty() {
        return (ready, failed);
    }
    let paths = create.iter().map(|(segment, _)| worker.files.path_of(segment)).collect();
    let created = worker.engine.create_many(paths, schema.sql.clone()).await;
    for ((segment, lock), result) in create.into_iter().zip(created) {
        match result {
            Ok(bytes) => {
                let mtime_ms =
                    tokio::fs::metadata(worker.files.path_of(&segment)).await.map_or(0, |m| Stamp::of(&m).mtime_ms);
                let file = Ready { stamp: Stamp { bytes, mtime_ms }, base: Base::Fresh };
                ready.push((segment, lock, file));
            }
            Err(error) => {
                let message =
                    format!("segment '{segment}' cannot be created from schema '{}': {}", schema.id, error.message);
                failed.push((segment, lock, SegmentError { message, ..error }));
            }
        }
    }
    (ready, failed)
}

/// The local file, or the canonical copy fetched; none if there is neither.
async fn from_store(worker: &Arc<Worker>, segment: &SegmentId) -> Result<Option<Ready>, SegmentError> {
    let local = worker.files.get(segment).filter(|file| file.broken.is_none());
    let canonical = match worker.store.stat(segment).await {
        Ok(entry) => Some(entry),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(copies::store_error(segment, &error)),
    };
    match (canonical, local) {
        (None, None) => Ok(None),
        (None, Some(local)) if is_shredded(worker, segment, local.stamp).await? => {
            // Its next life does not begin with what is left of the one before.
            worker.stranded.shred(segment);
            if !collect::remove(worker, segment).await {
                let message = format!("the file of segment '{segment}', which was shredded, cannot be removed");
                return Err(SegmentError::new(ErrorCode::Io, message));
            }
            Ok(None)
        }
        // It was never promoted, or the store lost it; either way the local file is all there is.
        (None, Some(local)) => Ok(Some(Ready { stamp: local.stamp, base: Base::Unknown })),
        // One whose lock was lost may have writes in its log, of which its length and time say nothing.
        (Some(entry), Some(local))
            if local.stamp.is_version(entry.bytes, Some(entry.mtime_ms))
                && (local.plain || !worker.stranded.is_noted(segment)) =>
        {
            Ok(Some(Ready { stamp: local.stamp, base: Base::Canonical(local.stamp) }))
        }
        (Some(entry), _) => {
            let want = want_of(entry);
            let fetched = copies::fetch(worker, segment, &want, Arc::new(AtomicU64::new(0))).await?;
            stranded::set_aside(worker, segment).await?;
            copies::install(worker, segment, &fetched).await?;
            Ok(Some(Ready { stamp: fetched.stamp(), base: Base::Canonical(fetched.stamp()) }))
        }
    }
}

/// Whether a local file belongs to a life of the segment that was shredded while this worker was out of reach.
async fn is_shredded(worker: &Worker, segment: &SegmentId, stamp: Stamp) -> Result<bool, SegmentError> {
    let shredded = worker.catalog.shreds_of_segments(std::slice::from_ref(segment)).await;
    let shredded = shredded.map_err(|e| catalog_error(&e))?;
    Ok(shredded.get(segment).is_some_and(|&until| stamp.mtime_ms <= until))
}

/// The assignment that a canonical copy would have.
pub(crate) fn want_of(entry: Entry) -> Want {
    Want {
        remote_path: entry.path.into(),
        bytes: entry.bytes,
        mtime_ms: Some(entry.mtime_ms),
        sha256: None,
        cold: false,
        python: false,
    }
}
