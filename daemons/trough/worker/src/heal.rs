//! Broken local files: never served as good. A copy is withdrawn and fetched again. A file under this node's write lock may hold
//! what was never promoted, so it is kept beside for a person to look at, and the canonical copy takes its place.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
};

use trough_core::{ErrorCode, SegmentError, SegmentId};
use trough_store::crashsafe;

use crate::{
    copies::{self, store_error},
    locks::{Base, Held},
    provision,
    state::Worker,
};

impl Worker {
    /// Reports a file that SQLite found broken: it is checked, and if it really is, replaced.
    pub(crate) fn suspect(self: &Arc<Self>, segment: &SegmentId) {
        let Some(busy) = self.busy.try_acquire(std::slice::from_ref(segment)) else { return };
        let (worker, segment) = (self.clone(), segment.clone());
        tokio::spawn(async move {
            let _busy = busy;
            match worker.locks.held(&segment) {
                None => heal_copy(&worker, &segment).await,
                Some(held) => {
                    if let Err(error) = heal_held(&worker, &segment, &held).await {
                        tracing::error!(
                            %segment, error = error.message,
                            "a segment under this node's write lock is corrupt and cannot be replaced; restore it, or shred it"
                        );
                    }
                }
            }
        });
    }

    /// What is wrong with the segment's file, if anything is.
    async fn fault(&self, segment: &SegmentId) -> Option<SegmentError> {
        let local = self.files.get(segment).filter(|file| file.broken.is_none())?;
        let error = self.engine.check(local.path.to_path_buf()).await.err()?;
        (error.code == ErrorCode::Corrupt).then_some(error)
    }

    fn mark_broken(&self, segment: &SegmentId, error: &SegmentError) {
        self.files.update(segment, |file| file.broken = Some(error.message.as_str().into()));
        self.engine.evict(segment);
    }
}

async fn heal_copy(worker: &Arc<Worker>, segment: &SegmentId) {
    if let Some(error) = worker.fault(segment).await {
        withdraw_copy(worker, segment, &error).await;
    }
}

/// Takes a broken copy out of service, keeps it aside and has it fetched again. The segment must be busy, and not under this node's
/// write lock.
pub(crate) async fn withdraw_copy(worker: &Arc<Worker>, segment: &SegmentId, error: &SegmentError) {
    worker.mark_broken(segment, error);
    worker.advertiser.clear(segment);
    worker.meters.quarantined.increment(1);
    let keeping = {
        let (worker, segment, reason) = (worker.clone(), segment.clone(), error.message.clone());
        let path = worker.files.path_of(&segment);
        tokio::task::spawn_blocking(move || worker.quarantine.keep(&segment, &path, &reason))
    };
    let kept = match keeping.await {
        Ok(Ok(path)) => path.display().to_string(),
        Ok(Err(why)) => format!("not: {why}"),
        Err(why) => format!("not: {why}"),
    };
    tracing::error!(
        %segment, error = error.message, kept,
        "local copy is corrupt: withdrawn, kept aside, and fetched again where it is assigned"
    );
    worker.wants.look_at(segment.clone());
}

async fn heal_held(worker: &Arc<Worker>, segment: &SegmentId, held: &Arc<Held>) -> Result<(), SegmentError> {
    let _closed = held.gate.write().await;
    let Some(error) = worker.fault(segment).await else { return Ok(()) };
    worker.mark_broken(segment, &error);
    held.set_base(Base::Unknown);
    let entry = worker.store.stat(segment).await.map_err(|e| store_error(segment, &e))?;
    let fetched = copies::fetch(worker, segment, &provision::want_of(entry), Arc::new(AtomicU64::new(0))).await?;
    let kept = keep(worker.files.path_of(segment)).await?;
    copies::install(worker, segment, &fetched).await?;
    worker.files.update(segment, |file| (file.served, file.plain) = (true, false));
    held.set_base(Base::Canonical(fetched.stamp()));
    tracing::error!(
        %segment, error = error.message, kept = %kept.display(),
        "a segment under this node's write lock was corrupt: the canonical copy took its place, what was written since its \
         promotion is in the file that was kept"
    );
    worker.wants.look_at(segment.clone());
    Ok(())
}

/// Keeps a second name of the broken file, and of its log, beside it.
async fn keep(path: PathBuf) -> Result<PathBuf, SegmentError> {
    let keeping = tokio::task::spawn_blocking(move || {
        let suffix = format!(".broken-{}", crashsafe::now_ms());
        let beside = |end: &str| {
            let mut name = path.clone().into_os_string();
            name.push(end);
            PathBuf::from(name)
        };
        let kept = beside(&suffix);
        std::fs::hard_link(&path, &kept)?;
        match std::fs::hard_link(beside("-wal"), beside(&format!("{suffix}-wal"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok::<_, std::io::Error>(kept)
    });
    let failed = |why: String| SegmentError::new(ErrorCode::Io, format!("keep the broken file: {why}"));
    keeping.await.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))
}
