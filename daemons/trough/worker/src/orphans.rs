//! Files whose write lock vanished from the metadata. Whether the metadata was lost, or another took the lock over and gave it back while this
//! process was out of reach, only the canonical store can tell.

use std::sync::Arc;

use trough_core::SegmentId;
use trough_store::StoreError;

use crate::{locks::Base, state::Worker};

/// Has all orphans looked at soon.
pub(crate) fn look(worker: &Worker) {
    worker.locks.orphans().into_iter().for_each(|(segment, _)| worker.wants.look_at(segment));
}

/// Finds out what became of the orphans. Those that another has written are set aside like any file with what was never promoted; as long as
/// the store does not answer, nobody is answered from them.
pub(crate) async fn judge(worker: &Arc<Worker>) {
    for (segment, orphan) in worker.locks.orphans() {
        match worker.store.stat(&segment).await {
            Ok(entry) if !is_base(orphan.base, entry.bytes, entry.mtime_ms) => overtaken(worker, &segment),
            Ok(_) | Err(StoreError::NotFound { .. }) => worker.locks.confirm_orphan(&segment),
            Err(error) => {
                tracing::warn!(%segment, %error, "cannot tell whether others have written a segment whose lock vanished")
            }
        }
    }
}

fn overtaken(worker: &Worker, segment: &SegmentId) {
    tracing::warn!(%segment, "another node had the write lock meanwhile, and has given it back");
    worker.locks.overtaken(segment);
    worker.wants.look_at(segment.clone());
}

/// Whether the canonical copy is the one that the file began with. Where that is not known, it is taken for another's: the file is kept then,
/// and what is canonical is served.
fn is_base(base: Base, bytes: u64, mtime_ms: i64) -> bool {
    match base {
        Base::Canonical(stamp) | Base::Found(stamp) => stamp.is_version(bytes, Some(mtime_ms)),
        Base::Fresh | Base::Unknown => false,
    }
}
