//! Open read connections, kept for the next request on the same segment, within a budget of file descriptors.
//!
//! A connection belongs to one file (device and inode; read as immutable also length and mtime): when another file
//! lies at the path, the cached ones are closed and the running queries finish on theirs.
//!
//! Only this engine writes segments in place, so a file without a writer and without a log is read as immutable: without
//! locks, and by SQLite's VFS without locks, since the one with locks looks through a list of all its open files
//! whenever it opens one.

use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use lru::LruCache;
use parking_lot::Mutex;
use rusqlite::Connection;
use trough_core::{ErrorCode, SegmentError, SegmentId};

use crate::{
    conn::{self, Current},
    control::Control,
    engine::{EngineStats, Mode, SegmentFile, not_here},
    errors,
    files::refuse_stub,
    options::EngineOptions,
    remote::{Link, OpenError, OpenFile, RemoteStamp},
};

const SHARDS: usize = 16;
/// Idle connections kept for one segment.
const PER_SEGMENT: usize = 8;

/// Which file a connection was opened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    mode: Mode,
    device: u64,
    inode: u64,
    length: u64,
    mtime: (i64, i64),
}

impl Identity {
    pub(crate) fn of(id: &SegmentId, path: &Path) -> Result<Self, SegmentError> {
        let meta = std::fs::metadata(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => not_here(id),
            _ => errors::io(&format!("segment '{id}'"), &e),
        })?;
        if !meta.is_file() {
            let what = if meta.is_dir() { "a directory" } else { "something that is no file" };
            let text = format!("segment '{id}': {what} lies in the place of its file");
            return Err(SegmentError::new(ErrorCode::Io, text));
        }
        let mtime = (meta.mtime(), meta.mtime_nsec());
        let (device, inode, length) = (meta.dev(), meta.ino(), meta.len());
        Ok(Self { mode: Mode::Immutable, device, inode, length, mtime })
    }

    fn of_open(file: &OpenFile) -> Self {
        let RemoteStamp { bytes, mtime_ms } = file.stamp;
        Self { mode: Mode::Immutable, device: u64::MAX, inode: file.serial, length: bytes, mtime: (mtime_ms, 0) }
    }

    /// The same file, read in another way.
    fn read_as(self, mode: Mode) -> Self {
        match mode {
            Mode::Immutable | Mode::Remote => self,
            Mode::Hot => Self { mode, length: 0, mtime: (0, 0), ..self },
        }
    }
}

struct Handle {
    conn: Connection,
    current: Current,
    /// A remote file's.
    link: Option<Arc<Link>>,
    identity: Identity,
    /// What it takes: the file, and in WAL mode the log and its index.
    descriptors: usize,
    generation: u64,
}

impl Handle {
    /// Whether it must not be used while a writer is open.
    fn is_forbidden(&self, entry: &Entry) -> bool {
        entry.written && self.identity.mode == Mode::Immutable
    }
}

#[derive(Default)]
struct Entry {
    idle: Vec<Handle>,
    /// Immutable connections at work.
    immutable_busy: usize,
    busy: usize,
    /// Raised by `evict`: connections of older generations are closed when they come back.
    generation: u64,
    /// A writer is open: nothing is read as immutable.
    written: bool,
}

impl Entry {
    fn is_needed(&self) -> bool {
        self.busy > 0 || self.written
    }
}

struct Shard {
    segments: LruCache<SegmentId, Entry>,
}

/// The cache of read connections.
pub(crate) struct HandleCache {
    shards: Vec<Mutex<Shard>>,
    budget: usize,
    descriptors: AtomicUsize,
    open: AtomicUsize,
    busy: AtomicUsize,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
    inline: AtomicU64,
    generations: AtomicU64,
}

/// A connection in use; it goes back to the cache when dropped.
pub(crate) struct Lease<'a> {
    cache: &'a HandleCache,
    id: SegmentId,
    handle: Option<Handle>,
    /// Whether it was open before.
    pub(crate) reused: bool,
}

impl Lease<'_> {
    pub(crate) fn conn(&self) -> &Connection {
        &self.handle.as_ref().expect("taken in drop only").conn
    }

    /// Lets `control` interrupt it.
    pub(crate) fn obey(&self, control: &Arc<Control>) {
        self.handle.as_ref().expect("taken in drop only").current.set(Some(control.clone()));
    }

    /// What a connection to a remote file knows of it.
    pub(crate) fn link(&self) -> Option<&Arc<Link>> {
        self.handle.as_ref().and_then(|handle| handle.link.as_ref())
    }

    /// How long the file is that it reads; none if it may grow.
    pub(crate) fn file_bytes(&self) -> Option<u64> {
        let identity = self.handle.as_ref().expect("taken in drop only").identity;
        (identity.mode != Mode::Hot).then_some(identity.length)
    }

    /// Closes the connection instead of keeping it: the file under it may be bad.
    pub(crate) fn discard(&mut self) {
        if let Some(handle) = &mut self.handle {
            handle.generation = u64::MAX;
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.cache.give_back(&self.id, handle);
        }
    }
}

impl HandleCache {
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard { segments: LruCache::unbounded() })).collect(),
            budget: budget.max(SHARDS),
            descriptors: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            inline: AtomicU64::new(0),
            generations: AtomicU64::new(1),
        }
    }

    fn shard_index(id: &SegmentId) -> usize {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        BuildHasherDefault::<DefaultHasher>::default().hash_one(id) as usize % SHARDS
    }

    fn shard(&self, id: &SegmentId) -> &Mutex<Shard> {
        &self.shards[Self::shard_index(id)]
    }

    /// An open connection to the segment's file, if there is one idle.
    fn take_open(&self, file: &SegmentFile, found: Identity) -> Option<Lease<'_>> {
        let mut stale = Vec::new();
        let mut shard = self.shard(&file.id).lock();
        let entry = shard.segments.get_mut(&file.id)?;
        let handle = loop {
            match entry.idle.pop() {
                Some(handle)
                    if handle.identity == found.read_as(handle.identity.mode) && !handle.is_forbidden(entry) =>
                {
                    break handle;
                }
                Some(other) => stale.push(other),
                None => {
                    drop(shard);
                    self.close(stale);
                    return None;
                }
            }
        };
        entry.busy += 1;
        entry.immutable_busy += usize::from(handle.identity.mode == Mode::Immutable);
        drop(shard);
        self.close(stale);
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(Lease { cache: self, id: file.id.clone(), handle: Some(handle), reused: true })
    }

    /// An open connection for work on the caller's own thread; nothing if there is none idle, or something is wrong.
    pub(crate) fn checkout_inline(&self, file: &SegmentFile) -> Option<Lease<'_>> {
        if file.mode == Mode::Remote {
            return None;
        }
        self.take_open(file, Identity::of(&file.id, &file.path).ok()?)
    }

    /// Whether a connection that a request for so many segments opened is kept for the next time: if all of them can be, or there is
    /// room yet. Else keeping them would only drive out others.
    pub(crate) fn can_keep(&self, segments: usize) -> bool {
        let most = self.budget - self.budget / 8;
        segments <= most || self.descriptors.load(Ordering::Relaxed) <= most
    }

    /// An answer was made on the caller's own thread.
    pub(crate) fn count_inline(&self) {
        self.inline.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection to the segment's file, opened if need be. What a mount or a server fails at is tried once more.
    pub(crate) fn checkout(
        &self,
        file: &SegmentFile,
        options: &EngineOptions,
        control: &Control,
    ) -> Result<Lease<'_>, SegmentError> {
        if file.mode == Mode::Remote {
            return match self.checkout_remote(file, options, control) {
                Err(OpenError { again: true, .. }) => self.checkout_remote(file, options, control),
                done => done,
            }
            .map_err(|failed| failed.error);
        }
        match self.checkout_local(file, options) {
            Err(e) if e.code == ErrorCode::Io => self.checkout_local(file, options),
            done => done,
        }
    }

    fn checkout_remote(
        &self,
        file: &SegmentFile,
        options: &EngineOptions,
        control: &Control,
    ) -> Result<Lease<'_>, OpenError> {
        let (Some(remote), Some(path)) = (&options.remote, file.path.to_str()) else {
            let text = format!("segment '{}': this engine reads no remote files", file.id);
            return Err(OpenError { error: SegmentError::new(ErrorCode::Internal, text), again: false });
        };
        let stop = || control.must_stop();
        let open = remote.shared.current(&file.id, path, &stop)?;
        let found = Identity::of_open(&open);
        if let Some(lease) = self.take_open(file, found) {
            return Ok(lease);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let (mode, generation) = self.begin(&file.id);
        let current = Current::default();
        let link = Link::new(open.clone(), current.clone());
        let opened = open.header(&file.id, &stop).and_then(|()| {
            conn::open_remote(&file.id, &link, options, &current).map_err(|error| OpenError { error, again: false })
        });
        match opened {
            Ok(conn) => {
                let link = Some(link);
                Ok(self.lend(file, Handle { conn, current, link, identity: found, descriptors: 1, generation }))
            }
            Err(e) => {
                self.end(&file.id, mode);
                Err(e)
            }
        }
    }

    fn checkout_local(&self, file: &SegmentFile, options: &EngineOptions) -> Result<Lease<'_>, SegmentError> {
        // The file is looked at before the cache is locked and before it is opened; a replacement in between is seen by
        // the next request.
        let found = Identity::of(&file.id, &file.path)?;
        if let Some(lease) = self.take_open(file, found) {
            return Ok(lease);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let (mut mode, generation) = self.begin(&file.id);
        let current = Current::default();
        // Looked at after the connection was counted: a writer that comes now leaves the file's pages alone.
        let logged = match file.mode {
            Mode::Hot => Ok(conn::has_log(&file.path)),
            Mode::Immutable | Mode::Remote => conn::sound_and_logged(&file.id, &file.path),
        };
        let logged = match logged {
            Ok(logged) => logged,
            Err(e) => {
                self.end(&file.id, mode);
                return Err(e);
            }
        };
        if logged && file.mode == Mode::Hot && mode == Mode::Immutable {
            mode = Mode::Hot;
            self.no_longer_immutable(&file.id);
        }
        let opened = if logged && mode == Mode::Immutable {
            Err(conn::wal_is_not_immutable(&file.id))
        } else {
            refuse_stub(&file.id, found.length)
                .and_then(|()| conn::open_reader(&file.id, &file.path, mode, options, &current))
        };
        let conn = match opened {
            Ok(conn) => conn,
            Err(e) => {
                self.end(&file.id, mode);
                return Err(e);
            }
        };
        let (identity, descriptors) = (found.read_as(mode), if logged { 3 } else { 1 });
        Ok(self.lend(file, Handle { conn, current, link: None, identity, descriptors, generation }))
    }

    /// Counts a connection that was opened.
    fn lend(&self, file: &SegmentFile, handle: Handle) -> Lease<'_> {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.busy.fetch_add(1, Ordering::Relaxed);
        let used = self.descriptors.fetch_add(handle.descriptors, Ordering::Relaxed) + handle.descriptors;
        if used > self.budget {
            self.make_room(Self::shard_index(&file.id));
        }
        Lease { cache: self, id: file.id.clone(), handle: Some(handle), reused: false }
    }

    /// Counts a connection that is about to be opened, so that a writer sees it; tells how it may read. What no writer of
    /// this engine has open nobody writes, so it is read as immutable.
    fn begin(&self, id: &SegmentId) -> (Mode, u64) {
        let mut shard = self.shard(id).lock();
        let entry = shard.segments.get_or_insert_mut(id.clone(), Entry::default);
        let mode = if entry.written { Mode::Hot } else { Mode::Immutable };
        entry.busy += 1;
        entry.immutable_busy += usize::from(mode == Mode::Immutable);
        (mode, entry.generation)
    }

    fn no_longer_immutable(&self, id: &SegmentId) {
        if let Some(entry) = self.shard(id).lock().segments.peek_mut(id) {
            entry.immutable_busy -= 1;
        }
    }

    fn end(&self, id: &SegmentId, mode: Mode) {
        let mut shard = self.shard(id).lock();
        if let Some(entry) = shard.segments.peek_mut(id) {
            entry.busy -= 1;
            entry.immutable_busy -= usize::from(mode == Mode::Immutable);
            if entry.idle.is_empty() && !entry.is_needed() {
                shard.segments.pop(id);
            }
        }
    }

    fn give_back(&self, id: &SegmentId, handle: Handle) {
        handle.current.set(None);
        self.busy.fetch_sub(1, Ordering::Relaxed);
        let mode = handle.identity.mode;
        let mut unwanted = None;
        {
            let mut shard = self.shard(id).lock();
            let within = self.descriptors.load(Ordering::Relaxed) <= self.budget;
            match shard.segments.peek_mut(id) {
                Some(entry)
                    if within
                        && handle.generation == entry.generation
                        && entry.idle.len() < PER_SEGMENT
                        && !handle.is_forbidden(entry) =>
                {
                    entry.idle.push(handle);
                }
                _ => unwanted = Some(handle),
            }
        }
        // Closed before it is counted as gone: whoever waits for the count to fall may replace or write the file.
        self.close(unwanted);
        self.end(id, mode);
    }

    /// Closes idle connections, least recently used segments first, until there is room; `from` is where to begin.
    fn make_room(&self, from: usize) {
        for n in 0..SHARDS {
            let mut victims = Vec::new();
            {
                let mut shard = self.shards[(from + n) % SHARDS].lock();
                // A little more than needed, so that not every request has to.
                let excess = self.descriptors.load(Ordering::Relaxed).saturating_sub(self.budget - self.budget / 64);
                let mut freed = 0;
                let mut kept = Vec::new();
                while freed < excess {
                    let Some((id, mut entry)) = shard.segments.pop_lru() else { break };
                    freed += entry.idle.iter().map(|h| h.descriptors).sum::<usize>();
                    victims.append(&mut entry.idle);
                    if entry.is_needed() {
                        kept.push((id, entry));
                    }
                }
                for (id, entry) in kept {
                    shard.segments.put(id, entry);
                }
            }
            self.evictions.fetch_add(victims.len() as u64, Ordering::Relaxed);
            self.close(victims);
            if self.descriptors.load(Ordering::Relaxed) <= self.budget {
                return;
            }
        }
    }

    fn close(&self, handles: impl IntoIterator<Item = Handle>) {
        for handle in handles {
            let descriptors = handle.descriptors;
            drop(handle);
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.descriptors.fetch_sub(descriptors, Ordering::Relaxed);
        }
    }

    /// Closes the idle connections of a segment; those at work are closed when they come back.
    pub(crate) fn evict(&self, id: &SegmentId) {
        let idle = {
            let mut shard = self.shard(id).lock();
            let Some(entry) = shard.segments.peek_mut(id) else { return };
            entry.generation = self.generations.fetch_add(1, Ordering::Relaxed);
            let idle = std::mem::take(&mut entry.idle);
            if !entry.is_needed() {
                shard.segments.pop(id);
            }
            idle
        };
        self.close(idle);
    }

    /// From now on (or no longer) the segment is written, so that nothing may be read as immutable.
    pub(crate) fn set_written(&self, id: &SegmentId, written: bool) {
        {
            let mut shard = self.shard(id).lock();
            shard.segments.get_or_insert_mut(id.clone(), Entry::default).written = written;
        }
        self.evict(id);
    }

    /// Whether a writer is open for the segment.
    pub(crate) fn is_written(&self, id: &SegmentId) -> bool {
        self.shard(id).lock().segments.peek(id).is_some_and(|entry| entry.written)
    }

    /// Connections that still read the segment's file as immutable: pages must not be changed under them.
    pub(crate) fn immutable_readers(&self, id: &SegmentId) -> usize {
        self.shard(id).lock().segments.peek(id).map_or(0, |entry| entry.immutable_busy)
    }

    pub(crate) fn stats(&self, stats: &mut EngineStats) {
        stats.handles_open = self.open.load(Ordering::Relaxed) as u64;
        stats.handles_busy = self.busy.load(Ordering::Relaxed) as u64;
        stats.handle_hits = self.hits.load(Ordering::Relaxed);
        stats.handle_misses = self.misses.load(Ordering::Relaxed);
        stats.inline_reads = self.inline.load(Ordering::Relaxed);
        stats.handle_evictions = self.evictions.load(Ordering::Relaxed);
    }
}
