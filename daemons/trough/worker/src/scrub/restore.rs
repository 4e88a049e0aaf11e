//! Putting a worker's good copy back into the canonical store, where the canonical one is damaged or missing.

use std::sync::Arc;

use trough_client::catalog::LockOutcome;
use trough_core::{ErrorCode, SegmentError, SegmentId};
use trough_store::{Entry, PublishOptions, StoreError, TokenBucket, crashsafe, promotion_mtime};

use super::sum;
use crate::{
    copies::store_error,
    files::{LocalFile, Stamp},
    locks::{Base, Held},
    promote::still_ours,
    provision::catalog_error,
    reconcile,
    state::Worker,
};

/// Makes this node's copy the canonical one, if it has the hash that a promotion recorded. Nobody writes meanwhile: the write lock
/// is taken for as long as it takes.
///
/// # Errors
/// [`ErrorCode::Corrupt`] if the copy here is another; [`ErrorCode::NotWritable`] if somebody holds the write lock.
pub(crate) async fn canonical(
    worker: &Arc<Worker>,
    segment: &SegmentId,
    sha256: &str,
    epoch: u64,
) -> Result<Entry, SegmentError> {
    let refuse = |code, why: String| Err(SegmentError::new(code, format!("segment '{segment}': {why}")));
    let _busy = worker.busy.acquire(std::slice::from_ref(segment)).await;
    let local = worker.files.get(segment).filter(|file| file.plain && file.broken.is_none());
    let Some(local) = local.filter(|_| worker.locks.held(segment).is_none()) else {
        return refuse(ErrorCode::NotWritable, format!("node '{}' has no copy at rest", worker.node));
    };
    let has = match sum::of_file(&local.path, None, &TokenBucket::new(0)).await {
        Ok(has) => has,
        Err(error) => return refuse(ErrorCode::Io, format!("read the copy: {error}")),
    };
    if has != sha256 {
        return refuse(
            ErrorCode::Corrupt,
            format!("the copy of node '{}' has SHA-256 {has}, not {sha256}", worker.node),
        );
    }
    let outcome = worker
        .catalog
        // Of no other node, dead or not: it may have what is newer than this copy.
        .acquire_locks_unless(std::slice::from_ref(segment), &worker.node, &worker.holder, epoch, &|_| true)
        .await
        .map_err(|e| catalog_error(&e))?
        .pop();
    let lock = match outcome {
        Some(LockOutcome::Acquired { lock, .. }) => lock,
        Some(LockOutcome::Held(lock)) => {
            return refuse(ErrorCode::NotWritable, format!("node '{}' may write it: promote it from there", lock.node));
        }
        None => return refuse(ErrorCode::Internal, "the write lock gave no answer".to_owned()),
    };
    let held = worker.locks.acquired(lock, Base::Unknown);
    let _closed = held.gate.write().await;
    let result = publish(worker, segment, &held, &local, sha256).await;
    reconcile::give_back(worker, &held).await;
    match &result {
        Ok(entry) => tracing::warn!(%segment, path = entry.path, "this node's copy was made the canonical one again"),
        Err(error) => tracing::error!(%segment, error = error.message, "cannot restore a canonical copy"),
    }
    worker.wants.look_at(segment.clone());
    result
}

async fn publish(
    worker: &Arc<Worker>,
    segment: &SegmentId,
    held: &Arc<Held>,
    local: &LocalFile,
    sha256: &str,
) -> Result<Entry, SegmentError> {
    let there = match worker.store.stat(segment).await {
        Ok(entry) => Some(entry),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(store_error(segment, &error)),
    };
    let mtime_ms = promotion_mtime(local.stamp.mtime_ms, there.as_ref());
    let mut options = PublishOptions::new(worker.node.clone(), held.lock.fence, mtime_ms);
    options.sha256 = Some(sha256.to_owned());
    let options = options.before_rename({
        let (worker, held) = (worker.clone(), held.clone());
        move || async move { still_ours(&worker, &held).await }
    });
    let entry = worker.store.publish(&local.path, segment, options).await.map_err(|e| store_error(segment, &e))?;
    worker
        .catalog
        .record_canonical(segment, entry.bytes, entry.mtime_ms, Some(sha256))
        .await
        .map_err(|e| catalog_error(&e))?;
    // The same bytes: given the canonical time, they need not be fetched again here.
    let (path, at) = (local.path.clone(), entry.mtime_ms);
    let stamped = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::options().write(true).open(&path)?;
        crashsafe::set_mtime_ms(&file, at)?;
        file.sync_all()?;
        file.metadata().map(|m| Stamp::of(&m))
    });
    if let Ok(Ok(stamp)) = stamped.await {
        worker.files.update(segment, |file| file.stamp = stamp);
    }
    Ok(entry)
}
