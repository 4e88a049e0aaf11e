//! Open files, one per path, and reading them through the cache. An open file is shared by all connections to it and closed
//! with the last.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use trough_core::{ErrorCode, SegmentError, SegmentId};

use super::{
    RemoteError, RemoteFile, RemoteOptions, RemoteStamp, RemoteStats, RemoteStore,
    ahead::{Ahead, Blocks},
    blocks::{BlockCache, Fetch, FileId, Found},
    flight::{Flight, Stopped},
    pages::InnerPages,
    pieces::Pieces,
};
use crate::files::{self, Header};

/// The longest read of a scan: what a server needs to find a file's bytes is then little beside what it takes to send them.
const LONGEST_READ: u64 = 1 << 20;
/// A scan must not drive out its own blocks before it has used them: its reads are at most this part of the cache.
const PART_OF_CACHE: u64 = 32;
/// From this size on, blocks have many pages of usual size: inner pages are kept by themselves.
const LARGE_BLOCK: usize = 16 << 10;
/// The part of the cache that they may take.
const PART_FOR_PAGES: u64 = 4;
/// A file's first read: header, schema and mostly the roots of its tables.
const HEAD_BYTES: usize = 64 << 10;
/// How long the question may take whether a file that is open is still the same; without an answer it is taken for the same.
const STAT_LIMIT: Duration = Duration::from_secs(5);

/// What all remote files of an engine share.
#[derive(Debug)]
pub(crate) struct Shared {
    store: Arc<dyn RemoteStore>,
    runtime: Handle,
    pub(super) blocks: BlockCache,
    /// Where blocks are large.
    pages: Option<InnerPages>,
    options: RemoteOptions,
    open: Mutex<HashMap<Arc<str>, Slot>>,
    serials: AtomicU64,
    reopened: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    file: Weak<OpenFile>,
    serial: u64,
    /// When it was known to be the present one; none if that must be asked.
    checked: Option<Instant>,
}

/// An open file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    shared: Arc<Shared>,
    path: Arc<str>,
    reader: Arc<dyn RemoteFile>,
    pub(crate) stamp: RemoteStamp,
    /// Different for every opening.
    pub(crate) serial: u64,
    id: FileId,
}

/// Why a part of a file could not be read.
#[derive(Debug)]
pub(super) enum Unread {
    /// The request is over.
    Stopped,
    /// The store failed.
    Failed(RemoteError),
}

impl From<Stopped> for Unread {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// Why a file could not be opened.
#[derive(Debug)]
pub(crate) struct OpenError {
    pub(crate) error: SegmentError,
    /// Whether another attempt may help.
    pub(crate) again: bool,
}

impl OpenError {
    fn of(error: &RemoteError, id: &SegmentId) -> Self {
        Self { error: error.of_segment(id), again: error.reopen && error.code != ErrorCode::UnknownSegment }
    }

    fn over() -> Self {
        let text = "the query was over before its segment was read";
        Self { error: SegmentError::new(ErrorCode::Cancelled, text), again: false }
    }
}

impl Shared {
    pub(super) fn new(store: Arc<dyn RemoteStore>, options: RemoteOptions, runtime: Handle) -> Arc<Self> {
        let block = store.unit().clamp(512, 1 << 20);
        let pages = if block >= LARGE_BLOCK { options.cache_bytes / PART_FOR_PAGES } else { 0 };
        Arc::new(Self {
            blocks: BlockCache::new(options.cache_bytes - pages, block),
            pages: (pages > 0).then(|| InnerPages::new(pages)),
            store,
            runtime,
            options,
            open: Mutex::default(),
            serials: AtomicU64::new(1),
            reopened: AtomicU64::new(0),
        })
    }

    pub(super) fn forget_all(&self) {
        self.blocks.clear();
        if let Some(pages) = &self.pages {
            pages.clear();
        }
    }

    pub(super) fn recheck(&self, path: &str) {
        if let Some(slot) = self.open.lock().get_mut(path) {
            slot.checked = None;
        }
    }

    /// The present file at `path`, opened if need be.
    pub(crate) fn current(
        self: &Arc<Self>,
        id: &SegmentId,
        path: &str,
        stop: &dyn Fn() -> bool,
    ) -> Result<Arc<OpenFile>, OpenError> {
        let known = {
            let open = self.open.lock();
            open.get(path).and_then(|slot| Some((slot.file.upgrade()?, slot.checked)))
        };
        let Some((file, checked)) = known else { return self.open(id, path.into(), None, stop) };
        if checked.is_some_and(|at| at.elapsed() < self.options.check_every) {
            return Ok(file);
        }
        let limit = STAT_LIMIT.min(self.options.read_timeout);
        let stat = self.store.stat(file.path.clone());
        let flight = Flight::new();
        flight.start(&self.runtime, "look at its file", limit, stat, |_| {});
        match flight.wait(stop).map_err(|Stopped| OpenError::over())? {
            Ok(stamp) if stamp != file.stamp => {
                self.drop_file(&file);
                self.open(id, file.path.clone(), Some(stamp), stop)
            }
            Err(error) if error.code == ErrorCode::UnknownSegment => {
                self.drop_file(&file);
                Err(OpenError::of(&error, id))
            }
            answer => {
                if let Err(error) = answer {
                    tracing::warn!(segment = %id, error = error.message, "cannot ask the store whether an open file was replaced; it is read on");
                }
                self.set_checked(&file, Some(Instant::now()));
                Ok(file)
            }
        }
    }

    fn open(
        self: &Arc<Self>,
        id: &SegmentId,
        path: Arc<str>,
        seen: Option<RemoteStamp>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Arc<OpenFile>, OpenError> {
        let flight = Flight::new();
        let opening = self.store.open(path.clone(), seen);
        flight.start(&self.runtime, "open its file", self.options.read_timeout, opening, |_| {});
        let reader = flight.wait(stop).map_err(|Stopped| OpenError::over())?;
        let reader = reader.map_err(|e| OpenError::of(&e, id))?;
        let stamp = reader.stamp();
        let mut hash = Sha256::new();
        hash.update(stamp.bytes.to_le_bytes());
        hash.update(stamp.mtime_ms.to_le_bytes());
        hash.update(path.as_bytes());
        let mut file_id = FileId::default();
        file_id.copy_from_slice(&hash.finalize()[..size_of::<FileId>()]);
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let file = OpenFile { shared: self.clone(), path: path.clone(), reader, stamp, serial, id: file_id };
        let file = Arc::new(file);
        let slot = Slot { file: Arc::downgrade(&file), serial, checked: Some(Instant::now()) };
        self.open.lock().insert(path, slot);
        Ok(file)
    }

    fn set_checked(&self, file: &OpenFile, checked: Option<Instant>) {
        if let Some(slot) = self.open.lock().get_mut(&file.path)
            && slot.serial == file.serial
        {
            slot.checked = checked;
        }
    }

    /// The file is not to be used for new connections, and its blocks go.
    pub(crate) fn drop_file(&self, file: &OpenFile) {
        {
            let mut open = self.open.lock();
            if open.get(&file.path).is_some_and(|slot| slot.serial == file.serial) {
                open.remove(&file.path);
            }
        }
        self.blocks.forget(file.id);
        if let Some(pages) = &self.pages {
            pages.forget(file.id);
        }
        self.reopened.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> RemoteStats {
        let mut stats = RemoteStats {
            files_open: self.open.lock().len() as u64,
            files_reopened: self.reopened.load(Ordering::Relaxed),
            ..RemoteStats::default()
        };
        self.blocks.stats(&mut stats);
        if let Some(pages) = &self.pages {
            (stats.inner_pages, stats.inner_page_bytes) = pages.held();
        }
        stats
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock();
        if open.get(&self.path).is_some_and(|slot| slot.serial == self.serial) {
            open.remove(&self.path);
        }
    }
}

impl OpenFile {
    /// Read-ahead for one connection.
    pub(super) fn ahead(&self) -> Ahead {
        let most = LONGEST_READ.min(self.shared.options.cache_bytes / PART_OF_CACHE) / self.shared.blocks.block as u64;
        Ahead::new(most.max(1), self.shared.blocks.row)
    }

    /// What the file's first bytes say: why it cannot be read, where that is so.
    pub(crate) fn header(&self, id: &SegmentId, stop: &dyn Fn() -> bool) -> Result<(), OpenError> {
        let mut head = [0u8; files::HEAD];
        let read = self.read(0, &mut head, &mut self.ahead(), stop).map_err(|unread| match unread {
            Unread::Stopped => OpenError::over(),
            Unread::Failed(error) => {
                if error.reopen {
                    self.shared.drop_file(self);
                }
                OpenError { error: error.of_segment(id), again: error.reopen }
            }
        })?;
        let refuse = |error: SegmentError| {
            // Another file may lie there by the next query.
            self.shared.recheck(&self.path);
            Err(OpenError { error, again: false })
        };
        match files::header_of(&head[..read], self.stamp.bytes) {
            Ok(Header { wal: true }) => refuse(crate::conn::wal_is_not_immutable(id)),
            Ok(_) => Ok(()),
            Err(why) => refuse(SegmentError::new(ErrorCode::Corrupt, format!("segment '{id}': {why}"))),
        }
    }

    /// Fills `out` with what lies at `offset`; gives how much there was.
    pub(super) fn read(
        &self,
        offset: u64,
        out: &mut [u8],
        ahead: &mut Ahead,
        stop: &dyn Fn() -> bool,
    ) -> Result<usize, Unread> {
        let Some(pages) = &self.shared.pages else { return self.read_blocks(offset, out, ahead, stop) };
        if pages.get(self.id, offset, out) {
            return Ok(out.len());
        }
        let there = self.read_blocks(offset, out, ahead, stop)?;
        if there == out.len() {
            pages.put(self.id, offset, out);
        }
        Ok(there)
    }

    fn read_blocks(
        &self,
        offset: u64,
        out: &mut [u8],
        ahead: &mut Ahead,
        stop: &dyn Fn() -> bool,
    ) -> Result<usize, Unread> {
        let length = self.stamp.bytes;
        let block_size = self.shared.blocks.block as u64;
        let there = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (blocks, mut done) = (length.div_ceil(block_size), 0);
        while done < there {
            let at = offset + done as u64;
            let (block, within) = (at / block_size, (at % block_size) as usize);
            let part = (there - done).min(block_size as usize - within);
            let needed = (within + there - done).div_ceil(block_size as usize) as u64;
            let out = &mut out[done..done + part];
            let want = || {
                let head = if block == 0 { HEAD_BYTES as u64 / block_size } else { 1 };
                ahead.miss(block).max(needed).max(head).min(blocks - block)
            };
            match self.shared.blocks.look(self.id, block, within, out, want) {
                Found::Copied => {
                    if let Some(next) = ahead.hit(block) {
                        self.fetch_in_advance(next, blocks);
                    }
                }
                Found::Coming(fetch) => {
                    if let Some(next) = ahead.hit(block) {
                        self.fetch_in_advance(next, blocks);
                    }
                    self.wait(&fetch, at, out, stop)?;
                }
                Found::Claimed(fetch) => {
                    self.start(&fetch);
                    self.wait(&fetch, at, out, stop)?;
                }
            }
            done += part;
        }
        Ok(there)
    }

    fn wait(&self, fetch: &Fetch, at: u64, out: &mut [u8], stop: &dyn Fn() -> bool) -> Result<(), Unread> {
        let pieces = fetch.flight.wait(stop)?.map_err(Unread::Failed)?;
        let from = (at - fetch.first * self.shared.blocks.block as u64) as usize;
        let all = pieces.copy(from, out);
        debug_assert!(all, "a read brings all that it should, or it fails");
        Ok(())
    }

    fn fetch_in_advance(&self, Blocks { first, count }: Blocks, blocks: u64) {
        let count = count.min(blocks.saturating_sub(first));
        if count > 0
            && let Some(fetch) = self.shared.blocks.claim(self.id, first, count)
        {
            self.start(&fetch);
        }
    }

    /// Sends the read to the store; its blocks are kept when they come.
    fn start(&self, fetch: &Arc<Fetch>) {
        let shared = self.shared.clone();
        let block = shared.blocks.block as u64;
        let offset = fetch.first * block;
        let len = (fetch.count * block).min(self.stamp.bytes - offset) as usize;
        let (reader, path) = (self.reader.clone(), self.path.clone());
        let work = async move {
            let pieces = Pieces::new(reader.read(offset, len).await?);
            if pieces.len() != len {
                let got = pieces.len();
                let message = format!("read {path}: {got} bytes at {offset} instead of {len}: the file was cut off");
                return Err(RemoteError { code: ErrorCode::Io, message, reopen: true });
            }
            Ok(Arc::new(pieces))
        };
        shared.blocks.fetches.fetch_add(1, Ordering::Relaxed);
        let (file, landing) = (self.id, fetch.clone());
        let landed = move |result: &Result<Arc<Pieces>, RemoteError>| {
            let (blocks, pieces) = (&shared.blocks, result.as_deref().ok());
            match pieces {
                Some(pieces) => blocks.fetched_bytes.fetch_add(pieces.len() as u64, Ordering::Relaxed),
                None => blocks.fetch_errors.fetch_add(1, Ordering::Relaxed),
            };
            blocks.land(file, &landing, pieces);
        };
        fetch.flight.start(&self.shared.runtime, "read", self.shared.options.read_timeout, work, landed);
    }
}
