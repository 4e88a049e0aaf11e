//! Promotion's last half: upload beside the target, verify, set the mtime, ask, rename over the target.

use std::{path::Path, sync::Arc};

use trough_core::SegmentId;

use super::{FileSystem, Inner, PARTS, Ranges};
use crate::{
    CrashAt, Entry, PublishOptions, PublishStep, RangeReader, StoreError, crashsafe,
    error::believed,
    paths,
    transfer::{CHUNK, Outgoing, sha256},
};

/// What is to be done about the upload when the publication ends.
struct Upload<F: FileSystem> {
    inner: Arc<Inner<F>>,
    /// None: it is not there, or is to be left.
    path: Option<String>,
}

impl<F: FileSystem> Upload<F> {
    /// Removes it, unless it was kept. Where the store does not answer, that is left to a task, or to the collection of
    /// old uploads.
    async fn discard(mut self, because: &StoreError) {
        if matches!(because, StoreError::Unavailable { .. }) {
            return;
        }
        if let Some(path) = &self.path {
            let removed = self.inner.fs.remove("publish", path).await;
            if let Err(e) = removed {
                tracing::warn!(upload = path, error = %e, "an abandoned upload is left for the collection");
            }
            self.path = None;
        }
    }
}

impl<F: FileSystem> Drop for Upload<F> {
    fn drop(&mut self) {
        if let Some(path) = self.path.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let inner = Arc::clone(&self.inner);
            runtime.spawn(async move { drop(inner.fs.remove("publish", &path).await) });
        }
    }
}

/// Where a publication is to crash, for tests.
struct Steps {
    crash_at: Option<CrashAt>,
    crashed: bool,
}

impl Steps {
    fn at(&mut self, step: PublishStep) -> Result<(), StoreError> {
        if !self.crash_at.as_ref().is_some_and(|crash_at| crash_at(step)) {
            return Ok(());
        }
        self.crashed = true;
        let source = std::io::Error::other(format!("injected crash at {step:?}"));
        Err(StoreError::Io { operation: "publish", path: String::new(), source })
    }
}

pub(super) async fn publish<F: FileSystem>(
    inner: &Arc<Inner<F>>,
    local: &Path,
    segment: &SegmentId,
    mut options: PublishOptions,
) -> Result<Entry, StoreError> {
    let mut steps = Steps { crash_at: options.crash_at.take(), crashed: false };
    let mut upload = Upload { inner: Arc::clone(inner), path: None };
    let outcome = attempt(inner, local, segment, options, &mut steps, &mut upload).await;
    if steps.crashed {
        upload.path = None;
    }
    if let Err(e) = &outcome {
        upload.discard(e).await;
    }
    outcome
}

async fn attempt<F: FileSystem>(
    inner: &Arc<Inner<F>>,
    local: &Path,
    segment: &SegmentId,
    options: PublishOptions,
    steps: &mut Steps,
    upload: &mut Upload<F>,
) -> Result<Entry, StoreError> {
    use PublishStep as S;
    const OPERATION: &str = "publish";
    let target = paths::join(&inner.root, &segment.store_path());
    let name = segment.file_name();
    let allowed = match name.len() {
        ..=crashsafe::MAX_NAME_BYTES => inner.fs.allows(&name),
        _ => Err("the file name is longer than 255 bytes"),
    };
    if let Err(why) = allowed {
        let root = inner.root.clone();
        return Err(StoreError::InvalidPath { operation: OPERATION, path: target, root, why });
    }
    let directory = paths::join(&inner.root, segment.store_prefix());
    let temporary = paths::join(&directory, &crashsafe::temporary_name(&name, &options.node, options.fence));
    steps.at(S::Begun)?;

    let mut from = Outgoing::open(local, options.throttle, options.progress).await?;
    if directory != inner.root {
        believed(inner.fs.make_directory(OPERATION, &directory).await, inner.check(OPERATION)).await?;
    }
    steps.at(S::DirectoryMade)?;

    // From here on there may be an upload, even if its creation was not seen to succeed.
    upload.path = Some(temporary.clone());
    let mut to = believed(inner.fs.create(OPERATION, &temporary).await, inner.check(OPERATION)).await?;
    steps.at(S::TemporaryMade)?;

    let half = if steps.crash_at.is_some() { from.bytes / 2 } else { 0 };
    let mut half_told = false;
    loop {
        if !half_told && from.done() >= half {
            half_told = true;
            steps.at(S::HalfWritten)?;
        }
        let limit = if half_told { CHUNK as u64 } else { (half - from.done()).min(CHUNK as u64) };
        let chunk = from.chunk(limit).await?;
        let (sent, ended) = (chunk.len() as u64, chunk.is_empty());
        if !ended {
            to.write(chunk).await?;
        }
        from.sent(sent);
        if ended {
            break;
        }
    }
    to.close().await?;
    drop(to);
    steps.at(S::Written)?;

    let kept = inner.fs.set_mtime(OPERATION, &temporary, options.mtime_ms).await?;
    steps.at(S::Synced)?;

    let damaged = |why| StoreError::Damaged { operation: OPERATION, path: temporary.clone(), why };
    let arrived = inner.fs.stat(OPERATION, &temporary).await?;
    if arrived.bytes != from.bytes {
        return Err(damaged(format!("{} bytes arrived of {}", arrived.bytes, from.bytes)));
    }
    if kept && arrived.mtime_ms != options.mtime_ms {
        return Err(damaged(format!("its mtime is {} instead of {}", arrived.mtime_ms, options.mtime_ms)));
    }
    if let Some(expected) = &options.sha256 {
        let entry = Entry {
            segment: segment.clone(),
            path: temporary.clone(),
            bytes: arrived.bytes,
            mtime_ms: arrived.mtime_ms,
        };
        let opened = std::sync::Mutex::new(inner.fs.open(OPERATION, &temporary).await?);
        let reader: Arc<dyn RangeReader> = Arc::new(Ranges { inner: Arc::clone(inner), entry, opened });
        let got = sha256(&reader, PARTS).await?;
        if !got.eq_ignore_ascii_case(expected) {
            return Err(damaged(format!("its SHA-256 is {got} instead of {expected}")));
        }
    }
    steps.at(S::Verified)?;

    if let Some(check) = options.before_rename {
        let path = target.clone();
        check().await.map_err(|source| StoreError::Refused { operation: OPERATION, path, source })?;
    }
    steps.at(S::Checked)?;

    match inner.fs.stat(OPERATION, &target).await {
        // Where mtimes cannot be set, a second publication within a second of the first must wait for the next one.
        Ok(present) if present.mtime_ms >= arrived.mtime_ms => {
            let why = format!(
                "the canonical copy's mtime {} is not older than the new one's {}",
                present.mtime_ms, arrived.mtime_ms
            );
            return Err(StoreError::Conflict { operation: OPERATION, path: target, why });
        }
        Ok(_) | Err(StoreError::NotFound { .. }) => {}
        Err(e) => return Err(e),
    }
    if let Err(e) = inner.fs.rename(OPERATION, &temporary, &target).await {
        // The answer may have been lost on its way. Nobody else writes under the temporary name, so what became of it
        // tells; if even that cannot be learnt, the caller is told that the store is unavailable, and looks later.
        match inner.fs.stat(OPERATION, &temporary).await {
            Err(StoreError::NotFound { .. }) if matches!(e, StoreError::Unavailable { .. }) => {
                let present = inner.fs.stat(OPERATION, &target).await?;
                if (present.bytes, present.mtime_ms) != (arrived.bytes, arrived.mtime_ms) {
                    return Err(e);
                }
            }
            _ => return believed(Err(e), inner.check(OPERATION)).await,
        }
    }
    upload.path = None;
    steps.at(S::Renamed)?;
    steps.at(S::Durable)?;
    Ok(Entry { segment: segment.clone(), path: target, bytes: arrived.bytes, mtime_ms: arrived.mtime_ms })
}
