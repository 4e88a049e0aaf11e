//! The canonical store: where the authoritative copy of every segment lies. One small trait ([`Store`]), one folder
//! per backend, and one conformance suite over all of them (`tests/conformance.rs`).
//!
//! Promises of every backend:
//! - a segment's name shows the old file or the new one, whole, at any moment and after a crash at any moment;
//! - a store that cannot be reached is an error and never an empty listing;
//! - temporary names never appear in a listing.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream::BoxStream,
};
use serde::{Deserialize, Serialize};
use trough_core::{NodeId, SegmentId};

pub mod crashsafe;
mod download;
pub mod error;
mod folder;
mod hdfs;
#[cfg(feature = "hdrs")]
mod hdrs;
mod listing;
pub mod local;
mod object;
mod open;
pub mod partial;
mod paths;
pub mod ranges;
mod remote;
pub mod throttle;
mod transfer;

pub use error::{BoxError, StoreError};
pub use folder::{Folder, FolderStream};
pub use listing::ListOptions;
pub use local::LocalStore;
pub use open::{HDFS_CLIENT, StoreOptions, open, open_with};
pub use ranges::{RangeReader, open_ranges};
pub use throttle::{Throttle, TokenBucket};

/// One canonical copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The segment.
    pub segment: SegmentId,
    /// Where it lies, in full: what an assignment's `remote_path` holds and [`Store::get`] takes.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its modification time, milliseconds since 1970, rounded down.
    pub mtime_ms: i64,
}

/// A listing in progress. An `Err` ends it: what came before is then no complete listing, and nothing may be
/// concluded from what is missing in it. Dropping it stops it.
pub type EntryStream = BoxStream<'static, Result<Entry, StoreError>>;

/// Told how many bytes are done so far. Called from threads that may block for a moment.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// How to fetch.
#[derive(Clone, Default)]
pub struct GetOptions {
    /// Told of every chunk.
    pub progress: Option<Progress>,
    /// Asked before every chunk.
    pub throttle: Option<Arc<dyn Throttle>>,
    /// Whether to compute the SHA-256 on the way.
    pub hash: bool,
    /// What the caller was told that lies there.
    pub expected: Option<Expected>,
    /// Whether to go on from what an interrupted fetch left at the destination, if it is of the same version of the
    /// file, and to leave there what has come if this one is interrupted. What is small is fetched anew.
    pub resume: bool,
}

/// A version of a file as the caller was told of it. It must have been in place before the fetch begins: then looking
/// once, after it was opened, proves which version was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its length.
    pub bytes: u64,
    /// Its mtime, milliseconds since 1970.
    pub mtime_ms: i64,
    /// The SHA-256 in hex that it was recorded with.
    pub sha256: Option<String>,
}

impl Expected {
    /// Whether the entry is of that version.
    pub fn is(&self, entry: &Entry) -> bool {
        (entry.bytes, entry.mtime_ms) == (self.bytes, self.mtime_ms)
    }
}

/// What a fetch brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// How many bytes.
    pub bytes: u64,
    /// How many of them an interrupted fetch had left.
    pub resumed: u64,
    /// The canonical copy's mtime; the local file got the same.
    pub mtime_ms: i64,
    /// SHA-256 in hex, if it was asked for.
    pub sha256: Option<String>,
}

/// The check that a publication makes last, before its rename.
pub type BeforeRename = Box<dyn FnOnce() -> BoxFuture<'static, Result<(), BoxError>> + Send>;

/// A point within a publication, in order, for tests that crash there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PublishStep {
    /// Nothing done yet.
    Begun,
    /// The segment's directory exists.
    DirectoryMade,
    /// The temporary file exists, empty.
    TemporaryMade,
    /// Part of it is written.
    HalfWritten,
    /// All of it is written.
    Written,
    /// Its mtime is set and it is durable.
    Synced,
    /// Length (and hash) are as they should be.
    Verified,
    /// The caller's check said yes.
    Checked,
    /// Renamed over the target; the directory may not be durable yet.
    Renamed,
    /// All done.
    Durable,
}

impl PublishStep {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::Begun,
        Self::DirectoryMade,
        Self::TemporaryMade,
        Self::HalfWritten,
        Self::Written,
        Self::Synced,
        Self::Verified,
        Self::Checked,
        Self::Renamed,
        Self::Durable,
    ];
}

/// Fault injection: told of every step; `true` makes the publication stop there as a crash would, cleaning
/// nothing up.
pub type CrashAt = Arc<dyn Fn(PublishStep) -> bool + Send + Sync>;

/// How to publish.
pub struct PublishOptions {
    /// Who publishes; part of the temporary name.
    pub node: NodeId,
    /// The write lock's fence; part of the temporary name.
    pub fence: u64,
    /// The mtime that the canonical copy gets, milliseconds since 1970: see [`promotion_mtime`].
    pub mtime_ms: i64,
    /// The SHA-256 in hex that the upload must have; it is then read back and compared.
    pub sha256: Option<String>,
    /// Checks the lock again, just before the rename. An error stops the publication and removes the upload.
    pub before_rename: Option<BeforeRename>,
    /// Told of every chunk.
    pub progress: Option<Progress>,
    /// Asked before every chunk.
    pub throttle: Option<Arc<dyn Throttle>>,
    /// Fault injection, for tests.
    pub crash_at: Option<CrashAt>,
}

impl PublishOptions {
    /// Options with a check that always says yes.
    pub fn new(node: NodeId, fence: u64, mtime_ms: i64) -> Self {
        Self {
            node,
            fence,
            mtime_ms,
            sha256: None,
            before_rename: None,
            progress: None,
            throttle: None,
            crash_at: None,
        }
    }

    /// Sets the check before the rename.
    #[must_use]
    pub fn before_rename<F, R, E>(mut self, check: F) -> Self
    where
        F: FnOnce() -> R + Send + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        self.before_rename = Some(Box::new(move || {
            let answer = check();
            async move { answer.await.map_err(Into::into) }.boxed()
        }));
        self
    }
}

/// What a listing did, for the status page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ListStats {
    /// Directories looked at.
    pub directories: u64,
    /// Directories read anew; the others had not changed.
    pub relisted: u64,
    /// Segments found.
    pub entries: u64,
    /// Files ending in `.sqlite` whose names are no segment ids, and links to directories: skipped.
    pub skipped: u64,
    /// Temporary files seen.
    pub temporaries: u64,
}

/// What a collection of old temporaries did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Temporary files removed.
    pub removed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Temporary files that are too young to remove.
    pub kept: u64,
}

/// The canonical store. Paths are full paths as [`Entry::path`] has them, or relative to the store's root; a path
/// outside it is refused.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Where the store is, as a URL.
    fn url(&self) -> &str;

    /// Where a segment's canonical copy belongs: ROOT/ID-without-its-last-three-characters/ID.sqlite.
    fn path_of(&self, segment: &SegmentId) -> String;

    /// Whether a segment of this id can have a canonical copy here at all: names have limits that differ.
    ///
    /// # Errors
    /// [`StoreError::InvalidPath`], which says why not.
    fn allows(&self, segment: &SegmentId) -> Result<(), StoreError> {
        let _ = segment;
        Ok(())
    }

    /// Whether the store is there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it is not.
    async fn check(&self) -> Result<(), StoreError>;

    /// Whether something could be published now, as far as that can be learnt without changing anything.
    ///
    /// # Errors
    /// As [`Store::check`], and [`StoreError::Denied`] where the right to write is missing.
    async fn check_writable(&self) -> Result<(), StoreError> {
        self.check().await
    }

    /// Every segment below the root, whatever its directory, by the suffix `.sqlite`. Directories that have not
    /// changed since the last listing are not read again, except once a day.
    fn list(&self) -> EntryStream {
        folder::entries(self.list_folders())
    }

    /// The same by directories, for callers that remember what they have seen: see [`Folder::id`].
    fn list_folders(&self) -> FolderStream;

    /// The same as [`Store::list`], reading every directory.
    fn list_all(&self) -> EntryStream;

    /// What the last complete listing did.
    fn list_stats(&self) -> ListStats;

    /// The file at `path`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none.
    async fn stat_path(&self, path: &str) -> Result<Entry, StoreError>;

    /// Copies the file at `path` to the new local file `dest`: durable, with the same mtime. The caller checks it
    /// and renames it. Replacing the canonical copy meanwhile does no harm: what was opened is copied. On an error,
    /// or if the call is dropped, `dest` is removed, unless [`GetOptions::resume`] asks for more; what that leaves,
    /// [`partial::discard`] removes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such file, [`StoreError::Conflict`] if `dest` exists or the file
    /// changed in place while it was read.
    async fn get(&self, path: &str, dest: &Path, options: GetOptions) -> Result<Fetched, StoreError>;

    /// Bytes `offset..offset + len` of the file at `path`, fewer at its end.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such file.
    async fn read_range(&self, path: &str, offset: u64, len: usize) -> Result<Bytes, StoreError>;

    /// Opens the file at `path` for reads at any place, if this backend can hold a file open; [`open_ranges`] is what to
    /// call. A backend that must ask its server where a file lies should, so that it asks once. `seen` is what lay there a
    /// moment ago, where that is known: a backend that looks before it opens needs not look again.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such file.
    async fn open_ranges(
        &self,
        path: &str,
        seen: Option<&Expected>,
    ) -> Result<Option<Arc<dyn RangeReader>>, StoreError> {
        let _ = (path, seen);
        Ok(None)
    }

    /// The fewest bytes that one ranged read should fetch: reading fewer takes no less time.
    fn read_unit(&self) -> usize {
        4 << 10
    }

    /// Makes the local file `local` the canonical copy of `segment`: upload beside the target, verify, set the
    /// mtime, ask `before_rename`, rename over the target in one step.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the check said no, [`StoreError::Conflict`] if the target is not older than
    /// `mtime_ms`: somebody else published. Whatever the error, the target is the old file or the new one, whole.
    async fn publish(&self, local: &Path, segment: &SegmentId, options: PublishOptions) -> Result<Entry, StoreError>;

    /// Removes the file at `path`; false if there was none.
    ///
    /// # Errors
    /// As for any operation. After [`StoreError::Unavailable`] it may have happened, or may yet.
    async fn delete_path(&self, path: &str) -> Result<bool, StoreError>;

    /// Removes temporary files that nobody has touched for `older_than`.
    ///
    /// # Errors
    /// As for any operation; what was removed stays removed.
    async fn collect_garbage(&self, older_than: Duration) -> Result<Collected, StoreError>;

    /// The segment's canonical copy.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none.
    async fn stat(&self, segment: &SegmentId) -> Result<Entry, StoreError> {
        self.stat_path(&self.path_of(segment)).await
    }

    /// Removes the segment's canonical copy; false if there was none.
    ///
    /// # Errors
    /// As for any operation.
    async fn delete(&self, segment: &SegmentId) -> Result<bool, StoreError> {
        self.delete_path(&self.path_of(segment)).await
    }

    /// Every segment, in memory, by id and path. For small stores and tests.
    ///
    /// # Errors
    /// The listing's first error.
    async fn list_sorted(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let mut listing = self.list();
        while let Some(entry) = listing.next().await {
            entries.push(entry?);
        }
        entries.sort_by(|a, b| (&a.segment, &a.path).cmp(&(&b.segment, &b.path)));
        Ok(entries)
    }
}

/// The mtime M of a promotion: the local file's at the snapshot, or one millisecond more than the canonical
/// copy's, whichever is later. So the promoter's copy compares equal and no clock decides anything.
pub fn promotion_mtime(local_ms: i64, canonical: Option<&Entry>) -> i64 {
    canonical.map_or(local_ms, |entry| local_ms.max(entry.mtime_ms + 1))
}
