//! Promotion: a checked snapshot becomes the canonical copy while writers go on. The steps are those of the
//! store's design: snapshot, check and hash, upload beside the target, mtime, the lock once more, rename, record.

use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use trough_config::PromotionVerify;
use trough_core::{ErrorCode, SegmentError, SegmentId};
use trough_store::{BoxError, Entry, PublishOptions, StoreError, promotion_mtime};

use crate::{
    copies::store_error,
    files::{Stamp, Temporary},
    locks::{Base, Held},
    promotions::{Promotion, RECORDED, SNAPSHOT},
    provision::catalog_error,
    state::Worker,
};

/// Promotes segments, several at a time; each result comes when it is done.
pub(crate) fn promote_all(
    worker: Arc<Worker>,
    segments: Vec<SegmentId>,
) -> impl Stream<Item = (SegmentId, Result<Entry, SegmentError>)> {
    // More than may run: what waits for its turn is seen to wait.
    let at_once = worker.settings.promotion_pool_size.saturating_mul(2);
    futures::stream::iter(segments)
        .map(move |segment| {
            let worker = worker.clone();
            async move {
                // A task of its own: it ends as it should even if the client goes away.
                let task = {
                    let segment = segment.clone();
                    tokio::spawn(async move { promote(&worker, &segment).await })
                };
                let result = task.await.unwrap_or_else(|e| {
                    Err(SegmentError::new(ErrorCode::Internal, format!("promotion of segment '{segment}': {e}")))
                });
                (segment, result)
            }
        })
        .buffer_unordered(at_once)
}

/// Promotes one segment that this node holds the write lock of.
///
/// # Errors
/// Not writable here, being promoted already, or whatever failed; the canonical copy is then as it was, or the new one.
pub(crate) async fn promote(worker: &Arc<Worker>, segment: &SegmentId) -> Result<Entry, SegmentError> {
    let held = worker.locks.held(segment).ok_or_else(|| {
        SegmentError::new(
            ErrorCode::NotWritable,
            format!(
                "segment '{segment}' is not writable on node '{}', so it cannot be promoted from here",
                worker.node
            ),
        )
    })?;
    let promotion = worker.promotions.begin(segment).ok_or_else(|| being_promoted(segment))?;
    let turn = async {
        let slot = promotion.slot().await;
        (slot, worker.busy.acquire(std::slice::from_ref(segment)).await)
    };
    let _turn = tokio::select! {
        turn = turn => turn,
        () = worker.shutdown.cancelled() => return Err(stopping(worker, segment)),
    };
    mark(worker, &held).await?;
    // Cut off, it leaves the canonical copy as it was, and the upload to be collected.
    let result = tokio::select! {
        result = publish(worker, segment, &held, &promotion) => result,
        () = worker.last_call.cancelled() => Err(stopping(worker, segment)),
    };
    // The row may have been taken by another meanwhile; then there is nothing to take back.
    if let Err(error) = worker.catalog.set_under_promotion(&held.lock, false).await {
        tracing::warn!(%segment, %error, "cannot take the mark of a promotion back; the next promotion will");
    }
    match &result {
        Ok(entry) => {
            worker.meters.promotions.increment(1);
            tracing::info!(%segment, path = entry.path, bytes = entry.bytes, "segment promoted");
        }
        Err(error) => {
            worker.meters.promotion_errors.increment(1);
            tracing::error!(%segment, error = error.message, "promotion failed");
        }
    }
    worker.wants.look_at(segment.clone());
    result
}

fn stopping(worker: &Worker, segment: &SegmentId) -> SegmentError {
    let message = format!("node '{}' stops, so segment '{segment}' was not promoted; promote it again", worker.node);
    SegmentError::new(ErrorCode::Unavailable, message)
}

fn being_promoted(segment: &SegmentId) -> SegmentError {
    SegmentError::new(ErrorCode::NotWritable, format!("segment '{segment}' is already being promoted"))
}

/// Sets `under_promotion` on the lock. A mark that this process left behind does not block: it alone promotes under its
/// tenure, and it is not promoting the segment.
async fn mark(worker: &Worker, held: &Held) -> Result<(), SegmentError> {
    let segment = &held.lock.segment;
    if worker.catalog.set_under_promotion(&held.lock, true).await.map_err(|e| catalog_error(&e))? {
        return Ok(());
    }
    if worker.catalog.holds_lock(&held.lock).await.map_err(|e| catalog_error(&e))? {
        tracing::info!(%segment, "a mark of an unfinished promotion is taken over");
        return Ok(());
    }
    Err(SegmentError::new(
        ErrorCode::NotWritable,
        format!("the write lock of segment '{segment}' was lost; provision it again"),
    ))
}

async fn publish(
    worker: &Arc<Worker>,
    segment: &SegmentId,
    held: &Arc<Held>,
    promotion: &Promotion<'_>,
) -> Result<Entry, SegmentError> {
    let missing =
        || SegmentError::new(ErrorCode::UnknownSegment, format!("the file of segment '{segment}' is missing"));
    let file = worker.hot_file(segment).ok_or_else(missing)?;
    let copy = Temporary::new(&worker.files, segment, &worker.node, held.lock.fence);
    let snapshot = worker.engine.snapshot(file.clone(), copy.path().to_owned()).await?;
    worker.promotions.reach(SNAPSHOT);
    let canonical = match worker.store.stat(segment).await {
        Ok(entry) => Some(entry),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(store_error(segment, &error)),
    };
    let mtime_ms = promotion_mtime(snapshot.mtime_ms, canonical.as_ref());
    let mut options = PublishOptions::new(worker.node.clone(), held.lock.fence, mtime_ms);
    options.sha256 = (worker.settings.promotion_verify == PromotionVerify::Hash).then(|| snapshot.sha256.clone());
    promotion.watch(&mut options, snapshot.bytes);
    let options = options.before_rename({
        let (worker, held) = (worker.clone(), held.clone());
        move || async move { still_ours(&worker, &held).await }
    });
    let entry = worker.store.publish(copy.path(), segment, options).await.map_err(|e| store_error(segment, &e))?;
    promotion.stage("record");
    // The store may keep coarser times than were asked for.
    let stamp = Stamp { bytes: entry.bytes, mtime_ms: entry.mtime_ms };
    worker
        .catalog
        .record_canonical(segment, stamp.bytes, stamp.mtime_ms, Some(&snapshot.sha256))
        .await
        .map_err(|e| catalog_error(&e))?;
    worker.promotions.reach(RECORDED);
    let _closed = held.gate.write().await;
    match worker.engine.settle(file, snapshot, stamp.mtime_ms).await {
        Ok(true) => {
            held.set_base(Base::Canonical(stamp));
            worker.files.update(segment, |local| local.stamp = stamp);
        }
        Ok(false) => {}
        // The canonical copy is there all the same; the lock stays until the next promotion.
        Err(error) => tracing::warn!(%segment, error = error.message, "cannot settle a promoted segment's file"),
    }
    Ok(entry)
}

/// Right before the rename: is the lock ours in the database, and does the lease provably run?
pub(crate) async fn still_ours(worker: &Worker, held: &Held) -> Result<(), BoxError> {
    let segment = &held.lock.segment;
    if !held.is_valid() || !worker.catalog.holds_lock(&held.lock).await? {
        return Err(format!("the write lock of segment '{segment}' was lost").into());
    }
    if !worker.lease.runs() {
        return Err(
            format!("this node's lease ran out, so the write lock of segment '{segment}' cannot be proven").into()
        );
    }
    Ok(())
}
