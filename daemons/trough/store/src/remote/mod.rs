//! The canonical store in a file system that is reached over the network ([`FileSystem`]): what all such stores have in
//! common. Held in memory: what each directory held when it was last read ([`crate::listing`]). All else is in the
//! file system.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OnceCell;
use trough_core::SegmentId;

use crate::{
    Collected, Entry, EntryStream, Expected, Fetched, FolderStream, GetOptions, ListOptions, ListStats, PublishOptions,
    RangeReader, Store, StoreError, crashsafe,
    download::{Parts, download},
    error::believed,
    listing::Listing,
    paths,
};

mod publish;
mod tree;

/// How often a fetch begins anew because the file was replaced under it.
const FETCHES: usize = 4;
/// What a fetch reads at a time.
const PARTS: Parts = Parts { bytes: 4 << 20, at_once: 4 };

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Its name, without directories. Empty for what was asked for by its path.
    pub(crate) name: String,
    pub(crate) directory: bool,
    pub(crate) bytes: u64,
    /// Milliseconds since 1970.
    pub(crate) mtime_ms: i64,
    /// When it was created or last read, milliseconds since 1970; 0 where that is unknown.
    pub(crate) accessed_ms: i64,
}

/// A file being written. Dropping it before it is closed leaves a part of it.
#[async_trait]
pub(crate) trait Writer: Send {
    /// Appends.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError>;
    /// Makes all of it durable and ends the writing.
    async fn close(&mut self) -> Result<(), StoreError>;
}

/// One open file.
#[async_trait]
pub(crate) trait Opened: Send + Sync {
    /// Its length.
    fn bytes(&self) -> u64;
    /// Bytes `offset..offset + len`, which lie within it, in the pieces in which they came.
    async fn read(&self, offset: u64, len: usize) -> Result<Vec<Bytes>, StoreError>;
}

/// A file system over the network. Paths are full. What has no answer within the time allowed is
/// [`StoreError::Unavailable`]; a missing file is [`StoreError::NotFound`] and nothing else is.
#[async_trait]
pub(crate) trait FileSystem: Send + Sync + std::fmt::Debug + 'static {
    /// What is at `path`.
    async fn stat(&self, operation: &'static str, path: &str) -> Result<Status, StoreError>;

    /// Everything in a directory, handed over as it comes. An error may come after some of it.
    async fn list(
        &self,
        operation: &'static str,
        path: &str,
        each: &mut (dyn FnMut(Status) -> Result<(), StoreError> + Send),
    ) -> Result<(), StoreError>;

    /// Creates a directory in an existing one, unless it is there.
    async fn make_directory(&self, operation: &'static str, path: &str) -> Result<(), StoreError>;

    /// Creates a file that must not exist.
    async fn create(&self, operation: &'static str, path: &str) -> Result<Box<dyn Writer>, StoreError>;

    /// Sets a file's mtime; false if this file system cannot (see [`Self::sets_mtimes`]), and keeps its own.
    async fn set_mtime(&self, operation: &'static str, path: &str, mtime_ms: i64) -> Result<bool, StoreError>;

    /// Whether mtimes can be set. Where not, they are the server's, in whole seconds.
    fn sets_mtimes(&self) -> bool {
        true
    }

    /// Renames a file over another. After an [`StoreError::Unavailable`] it may have happened or may yet happen.
    async fn rename(&self, operation: &'static str, from: &str, to: &str) -> Result<(), StoreError>;

    /// Removes a file; false if there was none. After an [`StoreError::Unavailable`] it may yet happen.
    async fn remove(&self, operation: &'static str, path: &str) -> Result<bool, StoreError>;

    /// Opens a file for reads.
    async fn open(&self, operation: &'static str, path: &str) -> Result<Arc<dyn Opened>, StoreError>;

    /// Whether a file may have this name here; if not, why.
    fn allows(&self, name: &str) -> Result<(), &'static str>;
}

/// A canonical store in such a file system. Cheap to clone.
#[derive(Debug)]
pub(crate) struct RemoteStore<F> {
    inner: Arc<Inner<F>>,
    listing: Arc<Listing<Inner<F>>>,
}

impl<F> Clone for RemoteStore<F> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), listing: Arc::clone(&self.listing) }
    }
}

#[derive(Debug)]
pub(crate) struct Inner<F> {
    pub(crate) fs: F,
    url: String,
    /// Begins with a slash and ends without.
    root: String,
}

impl<F: FileSystem> RemoteStore<F> {
    /// A store below `root`, which begins with a slash.
    pub(crate) fn new(fs: F, url: String, root: &str, list: ListOptions) -> Self {
        let root = format!("/{}", root.trim_matches('/'));
        let inner = Arc::new(Inner { fs, url, root });
        Self { listing: Listing::new(Arc::clone(&inner), list), inner }
    }
}

impl<F: FileSystem> Inner<F> {
    /// Checks that the store's directory is there.
    async fn check(&self, operation: &'static str) -> Result<(), StoreError> {
        let why = match self.fs.stat(operation, &self.root).await {
            Ok(status) if status.directory => return Ok(()),
            Ok(_) => "it is not a directory",
            Err(StoreError::NotFound { .. }) => {
                "the store's directory does not exist; create it once, or correct STORE"
            }
            Err(e) => return Err(e),
        };
        Err(StoreError::Unavailable { operation, path: self.root.clone(), why: why.to_owned() })
    }

    fn resolve(&self, operation: &'static str, path: &str) -> Result<(String, SegmentId), StoreError> {
        paths::resolve(operation, &self.root, path)
    }

    fn allows(&self, operation: &'static str, segment: &SegmentId) -> Result<(), StoreError> {
        let name = segment.file_name();
        let allowed = match name.len() {
            ..=crashsafe::MAX_NAME_BYTES => self.fs.allows(&name),
            _ => Err("the file name is longer than 255 bytes"),
        };
        allowed.map_err(|why| {
            let path = paths::join(&self.root, &segment.store_path());
            StoreError::InvalidPath { operation, path, root: self.root.clone(), why }
        })
    }

    /// The file at `path`.
    async fn entry(&self, operation: &'static str, path: &str) -> Result<Entry, StoreError> {
        let (path, segment) = self.resolve(operation, path)?;
        self.entry_at(operation, path, segment).await
    }

    /// The file at the full `path`, which may be an upload.
    async fn entry_at(&self, operation: &'static str, path: String, segment: SegmentId) -> Result<Entry, StoreError> {
        let status = believed(self.fs.stat(operation, &path).await, self.check(operation)).await?;
        if status.directory {
            let root = self.root.clone();
            return Err(StoreError::InvalidPath { operation, path, root, why: "it is not a file" });
        }
        Ok(Entry { segment, path, bytes: status.bytes, mtime_ms: status.mtime_ms })
    }
}

/// A file held open. Should its parts be moved to other servers, it is opened again, if it is still the same file.
struct Ranges<F> {
    inner: Arc<Inner<F>>,
    entry: Entry,
    opened: std::sync::Mutex<Arc<dyn Opened>>,
    /// Set when it was looked at after it was opened, and was the same as before: what was opened is what `entry` says.
    confirmed: OnceCell<()>,
}

impl<F> std::fmt::Debug for Ranges<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ranges").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl<F: FileSystem> Ranges<F> {
    /// Opens the file. Where it was `expected` to lie there, what was opened is looked at.
    async fn open(
        inner: &Arc<Inner<F>>,
        operation: &'static str,
        path: &str,
        expected: Option<&Expected>,
    ) -> Result<Self, StoreError> {
        let (path, segment) = inner.resolve(operation, path)?;
        let opened = async || believed(inner.fs.open(operation, &path).await, inner.check(operation)).await;
        let look = async || inner.entry_at(operation, path.clone(), segment.clone()).await;
        if let Some(expected) = expected {
            let opened = opened().await?;
            let entry = look().await?;
            if expected.is(&entry) && opened.bytes() == entry.bytes {
                let confirmed = OnceCell::new_with(Some(()));
                return Ok(Self { inner: Arc::clone(inner), entry, opened: std::sync::Mutex::new(opened), confirmed });
            }
        }
        Self::open_at(inner, operation, path, segment, None).await
    }

    /// Opens the file at the full `path`, which may be an upload. `before` is what lay there a moment ago. The look that
    /// confirms what was opened is taken by the first read, beside it: nothing is handed out before.
    async fn open_at(
        inner: &Arc<Inner<F>>,
        operation: &'static str,
        path: String,
        segment: SegmentId,
        before: Option<Entry>,
    ) -> Result<Self, StoreError> {
        let look = async || inner.entry_at(operation, path.clone(), segment.clone()).await;
        let mut before = match before {
            Some(before) => before,
            None => look().await?,
        };
        for _ in 0..FETCHES {
            let opened = believed(inner.fs.open(operation, &path).await, inner.check(operation)).await?;
            if opened.bytes() == before.bytes {
                let (inner, opened) = (Arc::clone(inner), std::sync::Mutex::new(opened));
                return Ok(Self { inner, entry: before, opened, confirmed: OnceCell::new() });
            }
            before = look().await?;
        }
        let why = "it is replaced again and again, or still being written".to_owned();
        Err(StoreError::Conflict { operation, path, why })
    }

    fn opened(&self) -> Arc<dyn Opened> {
        Arc::clone(&self.opened.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn replaced(&self) -> StoreError {
        let why = "another file lies there than the one that was opened".to_owned();
        StoreError::Conflict { operation: "read", path: self.entry.path.clone(), why }
    }

    async fn confirm(&self) -> Result<(), StoreError> {
        let look = async || {
            let Entry { path, segment, .. } = self.entry.clone();
            let now = self.inner.entry_at("read", path, segment).await?;
            if now == self.entry { Ok(()) } else { Err(self.replaced()) }
        };
        self.confirmed.get_or_try_init(look).await.map(drop)
    }

    /// After a failed read: whether the file has changed, and if not, the file opened anew.
    async fn again(&self, failed: StoreError) -> Result<Arc<dyn Opened>, StoreError> {
        if !matches!(failed, StoreError::Unavailable { .. } | StoreError::Io { .. } | StoreError::NotFound { .. }) {
            return Err(failed);
        }
        let Entry { path, segment, .. } = self.entry.clone();
        let fresh = Self::open_at(&self.inner, "read", path, segment, None).await?;
        fresh.confirm().await?;
        if fresh.entry != self.entry {
            return Err(self.replaced());
        }
        let opened = fresh.opened();
        *self.opened.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::clone(&opened);
        Ok(opened)
    }
}

#[async_trait]
impl<F: FileSystem> RangeReader for Ranges<F> {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    async fn read(&self, offset: u64, len: usize) -> Result<Vec<Bytes>, StoreError> {
        let left = usize::try_from(self.entry.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = len.min(left);
        if len == 0 {
            // Nothing is said about the file but its length.
            return self.confirm().await.map(|()| Vec::new());
        }
        let opened = self.opened();
        let (read, confirmed) = tokio::join!(opened.read(offset, len), self.confirm());
        confirmed?;
        match read {
            Ok(pieces) => Ok(pieces),
            Err(e) => self.again(e).await?.read(offset, len).await,
        }
    }
}

#[async_trait]
impl<F: FileSystem> Store for RemoteStore<F> {
    fn url(&self) -> &str {
        &self.inner.url
    }

    fn path_of(&self, segment: &SegmentId) -> String {
        paths::join(&self.inner.root, &segment.store_path())
    }

    fn allows(&self, segment: &SegmentId) -> Result<(), StoreError> {
        self.inner.allows("keep", segment)
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check("check").await
    }

    /// Removes what is not there: that is refused where a file could not be made either.
    async fn check_writable(&self) -> Result<(), StoreError> {
        self.inner.check("check").await?;
        let nobodys = paths::join(&self.inner.root, &format!(".trough-check-{}", uuid::Uuid::new_v4().simple()));
        self.inner.fs.remove("check", &nobodys).await.map(drop)
    }

    fn list_folders(&self) -> FolderStream {
        self.listing.folders(false)
    }

    fn list_all(&self) -> EntryStream {
        self.listing.list(true)
    }

    fn list_stats(&self) -> ListStats {
        self.listing.stats()
    }

    async fn stat_path(&self, path: &str) -> Result<Entry, StoreError> {
        self.inner.entry("stat", path).await
    }

    async fn get(&self, path: &str, dest: &Path, options: GetOptions) -> Result<Fetched, StoreError> {
        let mut left = FETCHES;
        loop {
            left -= 1;
            let reader = Arc::new(Ranges::open(&self.inner, "get", path, options.expected.as_ref()).await?);
            let opened = reader.entry.clone();
            let reader: Arc<dyn RangeReader> = reader;
            match download(&reader, None, dest, PARTS, &options).await {
                // Replaced while it was read, and its parts gone: the new one is fetched.
                Err(StoreError::Conflict { path, .. }) if path == opened.path && left > 0 => {}
                other => return other,
            }
        }
    }

    async fn read_range(&self, path: &str, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        let (path, _) = self.inner.resolve("read", path)?;
        let mut left = FETCHES;
        loop {
            left -= 1;
            let opened = believed(self.inner.fs.open("read", &path).await, self.inner.check("read")).await?;
            let len = len.min(usize::try_from(opened.bytes().saturating_sub(offset)).unwrap_or(usize::MAX));
            if len == 0 {
                return Ok(Bytes::new());
            }
            match opened.read(offset, len).await {
                // Replaced just then.
                Err(StoreError::NotFound { .. } | StoreError::Unavailable { .. }) if left > 0 => {}
                other => return other.map(|pieces| pieces.concat().into()),
            }
        }
    }

    async fn open_ranges(
        &self,
        path: &str,
        seen: Option<&Expected>,
    ) -> Result<Option<Arc<dyn RangeReader>>, StoreError> {
        let (path, segment) = self.inner.resolve("open", path)?;
        let seen = seen.map(|seen| Entry {
            segment: segment.clone(),
            path: path.clone(),
            bytes: seen.bytes,
            mtime_ms: seen.mtime_ms,
        });
        Ok(Some(Arc::new(Ranges::open_at(&self.inner, "open", path, segment, seen).await?)))
    }

    async fn publish(&self, local: &Path, segment: &SegmentId, options: PublishOptions) -> Result<Entry, StoreError> {
        publish::publish(&self.inner, local, segment, options).await
    }

    async fn delete_path(&self, path: &str) -> Result<bool, StoreError> {
        let (path, _) = self.inner.resolve("delete", path)?;
        let removed = self.inner.fs.remove("delete", &path).await?;
        if !removed {
            self.inner.check("delete").await?;
        }
        Ok(removed)
    }

    async fn collect_garbage(&self, older_than: Duration) -> Result<Collected, StoreError> {
        self.listing.collect_garbage(older_than).await
    }
}
