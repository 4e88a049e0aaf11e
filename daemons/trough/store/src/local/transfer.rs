//! Copies to and from the store, in chunks, so that progress is visible, bandwidth is limited, and a dropped call
//! stops soon.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};
use trough_core::SegmentId;

use super::{LocalStore, ranges};
use crate::{
    CrashAt, Entry, Fetched, GetOptions, Progress, PublishOptions, PublishStep, Store, StoreError, Throttle, crashsafe,
    download::{Parts, download},
    transfer::{CHUNK, Remove, create_new, hex},
};

/// An upload under way.
struct Copy {
    from: File,
    from_path: PathBuf,
    /// What `from` should yield: its length when it was opened.
    expected: u64,
    to: File,
    to_path: PathBuf,
    done: u64,
}

impl Copy {
    /// Copies one chunk of at most `limit` bytes; true when the source has ended.
    fn chunk(&mut self, store: &super::Inner, limit: usize) -> Result<bool, StoreError> {
        let left = usize::try_from(self.expected.saturating_sub(self.done)).unwrap_or(usize::MAX);
        // One byte more than is expected, so that a file that grew is noticed.
        let mut buffer = vec![0; left.saturating_add(1).min(limit)];
        let mut filled = 0;
        let mut ended = false;
        while filled < buffer.len() && !ended {
            match self.from.read(&mut buffer[filled..]) {
                Ok(0) => ended = true,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(store.error("publish", &self.from_path, e)),
            }
        }
        let bytes = &buffer[..filled];
        self.to.write_all(bytes).map_err(|e| StoreError::from_io("publish", self.to_path.to_string_lossy(), e))?;
        self.done += filled as u64;
        if self.done > self.expected || (ended && self.done != self.expected) {
            return Err(StoreError::Conflict {
                operation: "publish",
                path: self.from_path.to_string_lossy().into_owned(),
                why: format!("it changed from {} bytes while it was read", self.expected),
            });
        }
        Ok(ended)
    }

    /// Copies on until the source ends or `until` bytes are done.
    async fn run(
        mut self,
        store: &LocalStore,
        until: u64,
        throttle: Option<&Arc<dyn Throttle>>,
        progress: Option<&Progress>,
    ) -> Result<Self, StoreError> {
        loop {
            let left = self.expected.saturating_sub(self.done).min(until.saturating_sub(self.done));
            if let Some(throttle) = throttle {
                throttle.acquire(left.min(CHUNK as u64)).await;
            }
            let limit = usize::try_from(until.saturating_sub(self.done)).unwrap_or(usize::MAX).min(CHUNK);
            let (copy, ended) = store
                .blocking(move |inner| {
                    let ended = self.chunk(inner, limit)?;
                    Ok((self, ended))
                })
                .await?;
            self = copy;
            if let Some(progress) = progress {
                progress(self.done);
            }
            if ended || self.done >= until {
                return Ok(self);
            }
        }
    }
}

/// What a fetch reads at a time.
const PARTS: Parts = Parts { bytes: CHUNK as u64, at_once: 2 };

pub(super) async fn get(
    store: &LocalStore,
    path: &str,
    dest: &Path,
    options: GetOptions,
) -> Result<Fetched, StoreError> {
    let reader = ranges::open(store, "get", path).await?;
    download(&reader, None, dest, PARTS, &options).await
}

/// A publication's place in its order of steps, and whether it is to crash there.
struct Steps(Option<CrashAt>);

impl Steps {
    /// Stops here if a crash was asked for: then `guard` removes nothing, as nothing would after a crash.
    fn at(&self, step: PublishStep, guard: &mut Remove) -> Result<(), StoreError> {
        if !self.0.as_ref().is_some_and(|crash_at| crash_at(step)) {
            return Ok(());
        }
        guard.keep();
        let source = io::Error::other(format!("injected crash at {step:?}"));
        Err(StoreError::Io { operation: "publish", path: String::new(), source })
    }
}

pub(super) async fn publish(
    store: &LocalStore,
    local: &Path,
    segment: &SegmentId,
    options: PublishOptions,
) -> Result<Entry, StoreError> {
    use PublishStep as S;
    let target = PathBuf::from(store.path_of(segment));
    let name = segment.file_name();
    if name.len() > crashsafe::MAX_NAME_BYTES {
        let (path, root) = (target.to_string_lossy().into_owned(), store.0.root_text.clone());
        let why = "the file name is longer than 255 bytes";
        return Err(StoreError::InvalidPath { operation: "publish", path, root, why });
    }
    let temporary = target.with_file_name(crashsafe::temporary_name(&name, &options.node, options.fence));
    let steps = Steps(options.crash_at);
    let mut guard = Remove(None);
    steps.at(S::Begun, &mut guard)?;

    let (prefix, local) = (PathBuf::from(segment.store_prefix()), local.to_path_buf());
    let (from, expected) = store
        .blocking(move |inner| {
            inner.check("publish")?;
            let open = || {
                let from = File::open(&local)?;
                let expected = from.metadata()?.len();
                Ok((from, expected))
            };
            let opened = open().map_err(|e| StoreError::from_io("publish from", local.to_string_lossy(), e))?;
            crashsafe::create_directories(&inner.root, &prefix)
                .map_err(|e| inner.error("publish into", &inner.root.join(&prefix), e))?;
            Ok(((opened.0, local), opened.1))
        })
        .await?;
    steps.at(S::DirectoryMade, &mut guard)?;

    let upload = temporary.clone();
    let (to, made) = store
        .blocking(move |_| {
            let to = create_new("publish", &upload)?;
            Ok((to, Remove(Some(upload))))
        })
        .await?;
    guard = made;
    steps.at(S::TemporaryMade, &mut guard)?;

    let (from, from_path) = from;
    let to_path = temporary.clone();
    let mut copy = Copy { from, from_path, expected, to, to_path, done: 0 };
    let (throttle, progress) = (options.throttle.as_ref(), options.progress.as_ref());
    if steps.0.is_some() && expected > 1 {
        copy = copy.run(store, expected / 2, throttle, progress).await?;
    }
    steps.at(S::HalfWritten, &mut guard)?;
    let copy = copy.run(store, u64::MAX, throttle, progress).await?;
    steps.at(S::Written, &mut guard)?;

    let mtime_ms = options.mtime_ms;
    store
        .blocking(move |inner| {
            let finish = crashsafe::set_mtime_ms(&copy.to, mtime_ms).and_then(|()| copy.to.sync_all());
            finish.map_err(|e| inner.error("publish", &copy.to_path, e))
        })
        .await?;
    steps.at(S::Synced, &mut guard)?;

    let upload = temporary.clone();
    store.blocking(move |inner| verify(inner, &upload, expected, mtime_ms, options.sha256.as_deref())).await?;
    steps.at(S::Verified, &mut guard)?;

    if let Some(check) = options.before_rename {
        let path = target.to_string_lossy().into_owned();
        check().await.map_err(|source| StoreError::Refused { operation: "publish", path, source })?;
    }
    steps.at(S::Checked, &mut guard)?;

    // From here on a dropped call must not be taken for one that changed nothing, so the rest is one step.
    let segment = segment.clone();
    store
        .blocking(move |inner| {
            match fs::metadata(&target) {
                Ok(present) if crashsafe::mtime_ms(&present) >= mtime_ms => {
                    return Err(StoreError::Conflict {
                        operation: "publish",
                        path: target.to_string_lossy().into_owned(),
                        why: format!(
                            "the canonical copy's mtime {} is not older than the new one's {mtime_ms}",
                            crashsafe::mtime_ms(&present)
                        ),
                    });
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(inner.error("publish", &target, e)),
            }
            fs::rename(&temporary, &target).map_err(|e| inner.error("publish", &target, e))?;
            guard.keep();
            steps.at(S::Renamed, &mut guard)?;
            let dir = target.parent().unwrap_or(&inner.root);
            crashsafe::sync_directory(dir).map_err(|e| inner.error("publish", &target, e))?;
            steps.at(S::Durable, &mut guard)?;
            let path = target.to_string_lossy().into_owned();
            Ok(Entry { segment, path, bytes: expected, mtime_ms })
        })
        .await
}

/// Checks that the upload is what was sent.
fn verify(
    inner: &super::Inner,
    upload: &Path,
    bytes: u64,
    mtime_ms: i64,
    sha256: Option<&str>,
) -> Result<(), StoreError> {
    let damaged =
        |why| Err(StoreError::Damaged { operation: "publish", path: upload.to_string_lossy().into_owned(), why });
    let failed = |e| inner.error("publish", upload, e);
    let metadata = fs::metadata(upload).map_err(failed)?;
    if metadata.len() != bytes {
        return damaged(format!("{} bytes arrived of {bytes}", metadata.len()));
    }
    if crashsafe::mtime_ms(&metadata) != mtime_ms {
        return damaged(format!("its mtime is {} instead of {mtime_ms}", crashsafe::mtime_ms(&metadata)));
    }
    if let Some(expected) = sha256 {
        let mut hash = Sha256::new();
        io::copy(&mut File::open(upload).map_err(failed)?, &mut hash).map_err(failed)?;
        let got = hex(&hash.finalize());
        if !got.eq_ignore_ascii_case(expected) {
            return damaged(format!("its SHA-256 is {got} instead of {expected}"));
        }
    }
    Ok(())
}
