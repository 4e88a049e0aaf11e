//! Promotion's last half: upload beside the target, verify, set the mtime, ask, rename over the target.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::time::Instant;
use trough_core::SegmentId;

use super::{FileSystem, Inner, PARTS, Ranges, Status};
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

const OPERATION: &str = "publish";
/// Longer than the coarsest clock of a file system whose mtimes cannot be set stands still.
const TICK: Duration = Duration::from_millis(1_100);

/// What a publication knows of the file that it replaces.
enum Before {
    /// Mtimes are set: the new file's says all.
    SetsMtimes,
    /// They are the server's: what was there, and when that was seen.
    Seen(Option<Status>, Instant),
}

impl Before {
    async fn look<F: FileSystem>(inner: &Inner<F>, target: &str, mtime_ms: i64) -> Result<Self, StoreError> {
        if inner.fs.sets_mtimes() {
            return Ok(Self::SetsMtimes);
        }
        let seen = present(inner, target).await?;
        if let Some(status) = &seen {
            older(target, status, mtime_ms)?;
        }
        Ok(Self::Seen(seen, Instant::now()))
    }

    /// Waits until a file that is closed now is newer than the one that was seen.
    async fn outlast(&self) {
        if let Self::Seen(Some(_), at) = self {
            tokio::time::sleep_until(*at + TICK).await;
        }
    }

    /// Checks that nobody else published meanwhile.
    async fn still<F: FileSystem>(&self, inner: &Inner<F>, target: &str, mtime_ms: i64) -> Result<(), StoreError> {
        let now = present(inner, target).await?;
        match (self, &now) {
            (Self::Seen(seen, _), _) if *seen != now => {
                let why = "somebody else published meanwhile".to_owned();
                Err(StoreError::Conflict { operation: OPERATION, path: target.to_owned(), why })
            }
            (_, Some(status)) => older(target, status, mtime_ms),
            (_, None) => Ok(()),
        }
    }
}

/// The file at `target`; when it was last read does not matter.
async fn present<F: FileSystem>(inner: &Inner<F>, target: &str) -> Result<Option<Status>, StoreError> {
    match inner.fs.stat(OPERATION, target).await {
        Ok(status) => Ok(Some(Status { accessed_ms: 0, ..status })),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Refuses to replace a file that is not older.
fn older(target: &str, present: &Status, mtime_ms: i64) -> Result<(), StoreError> {
    if present.mtime_ms < mtime_ms {
        return Ok(());
    }
    let why = format!("the canonical copy's mtime {} is not older than the new one's {mtime_ms}", present.mtime_ms);
    Err(StoreError::Conflict { operation: OPERATION, path: target.to_owned(), why })
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
    let target = paths::join(&inner.root, &segment.store_path());
    let name = segment.file_name();
    inner.allows(OPERATION, segment)?;
    let directory = paths::join(&inner.root, segment.store_prefix());
    let temporary = paths::join(&directory, &crashsafe::temporary_name(&name, &options.node, options.fence));
    steps.at(S::Begun)?;

    let before = Before::look(inner, &target, options.mtime_ms).await?;
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
    before.outlast().await;
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
        let uploaded = Ranges::open_at(inner, OPERATION, temporary.clone(), segment.clone(), None).await?;
        let reader: Arc<dyn RangeReader> = Arc::new(uploaded);
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

    before.still(inner, &target, arrived.mtime_ms).await?;
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
