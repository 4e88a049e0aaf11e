//! Segments read where they lie, by ranges over the network and without a mount: a read-only SQLite VFS ([`vfs`]) over a
//! cache of blocks that all connections share ([`blocks`], and [`pages`] where blocks are large), with read-ahead for scans
//! ([`ahead`]).
//!
//! SQLite's threads wait for the network; the reads themselves run on the runtime whose handle was given. A thread that
//! waits gives its place in the pool away, and wakes up to look whether its request is over.

mod ahead;
mod blocks;
mod flight;
mod open;
mod pages;
mod pieces;
mod vfs;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use trough_core::{ErrorCode, SegmentError};

pub(crate) use open::{OpenError, OpenFile, Shared};
pub(crate) use vfs::{Link, connect};

/// Length and modification time: what tells two versions of a file apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RemoteStamp {
    /// Its length.
    pub bytes: u64,
    /// Its modification time, milliseconds since 1970.
    pub mtime_ms: i64,
}

/// Where segments lie that are read by ranges.
pub trait RemoteStore: Send + Sync + fmt::Debug {
    /// Opens the file at `path`; `seen` is what [`Self::stat`] said just before, where it was asked.
    fn open(
        &self,
        path: Arc<str>,
        seen: Option<RemoteStamp>,
    ) -> BoxFuture<'static, Result<Arc<dyn RemoteFile>, RemoteError>>;

    /// What lies at `path` now.
    fn stat(&self, path: Arc<str>) -> BoxFuture<'static, Result<RemoteStamp, RemoteError>>;

    /// The fewest bytes that one read should fetch: the size of a block of the cache.
    fn unit(&self) -> usize;
}

/// One open file. Every read is of the file that was opened, or fails.
pub trait RemoteFile: Send + Sync + fmt::Debug {
    /// What was opened.
    fn stamp(&self) -> RemoteStamp;

    /// Bytes `offset..offset + len`, fewer at the file's end, in the pieces in which they came. What came in pieces of
    /// 64 KiB that lie at multiples of 64 KiB is kept without being copied.
    fn read(self: Arc<Self>, offset: u64, len: usize) -> BoxFuture<'static, Result<Vec<Bytes>, RemoteError>>;
}

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteError {
    /// The code that travels over the wire.
    pub code: ErrorCode,
    /// What happened, and what to do.
    pub message: String,
    /// Whether opening the file again may help: it was replaced, or its server failed.
    pub reopen: bool,
}

impl RemoteError {
    pub(crate) fn timeout(what: &str, after: Duration) -> Self {
        let message = format!("{what}: the canonical store did not answer within {after:?} (COLD_READ_TIMEOUT)");
        Self { code: ErrorCode::Unavailable, message, reopen: false }
    }

    pub(crate) fn of_segment(&self, id: &trough_core::SegmentId) -> SegmentError {
        SegmentError::new(self.code, format!("segment '{id}': {}", self.message))
    }
}

/// How remote files are read.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// Bytes of blocks kept in memory.
    pub cache_bytes: u64,
    /// How long an open file is believed to be the present one before the store is asked again.
    pub check_every: Duration,
    /// How long one read may take.
    pub read_timeout: Duration,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self { cache_bytes: 256 << 20, check_every: Duration::from_secs(10), read_timeout: Duration::from_secs(30) }
    }
}

/// Remote files, for [`crate::EngineOptions::remote`].
#[derive(Clone, Debug)]
pub struct Remote {
    pub(crate) shared: Arc<Shared>,
}

impl Remote {
    /// Reads from `store`; the reads run on `runtime`.
    ///
    /// # Errors
    /// If SQLite does not take the VFS.
    pub fn new(store: Arc<dyn RemoteStore>, options: RemoteOptions, runtime: Handle) -> Result<Self, SegmentError> {
        vfs::register()?;
        Ok(Self { shared: Shared::new(store, options, runtime) })
    }

    /// Has the store asked at the next query whether the file at `path` is still the same.
    pub fn recheck(&self, path: &str) {
        self.shared.recheck(path);
    }

    /// Forgets all blocks, as if nothing had been read. For measurements and tests.
    pub fn forget_blocks(&self) {
        self.shared.forget_all();
    }
}

/// Figures for `/metrics` and `/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RemoteStats {
    /// Files open.
    pub files_open: u64,
    /// Files that were found replaced and opened again.
    pub files_reopened: u64,
    /// Blocks in memory.
    pub blocks: u64,
    /// Their bytes.
    pub block_bytes: u64,
    /// Inner pages of b-trees kept beside them, where blocks are large.
    pub inner_pages: u64,
    /// Their bytes.
    pub inner_page_bytes: u64,
    /// Blocks asked for that were in memory.
    pub block_hits: u64,
    /// Blocks asked for that were not.
    pub block_misses: u64,
    /// Reads sent to the store.
    pub fetches: u64,
    /// Bytes that they brought.
    pub fetched_bytes: u64,
    /// Reads that failed.
    pub fetch_errors: u64,
}
