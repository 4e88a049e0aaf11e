//! The blocks in memory, shared by all connections, least recently used ones leaving first; and the reads that are under way, so
//! that whoever wants the same block waits for the same read.
//!
//! What a lookup reads is kept by the block. Of a long read each whole row of blocks is kept as one: where the store hands it over
//! in one piece, as it came, without a copy.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use super::{RemoteStats, flight::Flight, pieces::Pieces};

/// Parts of the cache, each under its own lock.
const SHARDS: usize = 32;
/// So many bytes of a file make a row: they are in the same part of the cache.
const ROW_BYTES: usize = 64 << 10;
/// What a block or a row costs beside its bytes.
const OVERHEAD: usize = 120;

/// Which version of which file: a hash of path, modification time and length.
pub(super) type FileId = [u8; 16];
type Key = (FileId, u64);

/// What is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kept {
    Block(FileId, u64),
    /// All blocks of a row.
    Row(FileId, u64),
}

impl Kept {
    fn file(&self) -> &FileId {
        match self {
            Self::Block(file, _) | Self::Row(file, _) => file,
        }
    }
}

/// A read under way.
#[derive(Debug)]
pub(super) struct Fetch {
    /// Its first block.
    pub(super) first: u64,
    /// How many.
    pub(super) count: u64,
    /// The bytes, when they have come.
    pub(super) flight: Arc<Flight<Arc<Pieces>>>,
}

struct Shard {
    kept: LruCache<Kept, Bytes>,
    /// With what they cost beside them.
    bytes: usize,
    coming: HashMap<Key, Arc<Fetch>>,
}

impl Shard {
    /// Whether the block, of this row, is in memory or under way.
    fn is_there(&self, file: FileId, block: u64, row: u64) -> bool {
        self.kept.contains(&Kept::Block(file, block))
            || self.kept.contains(&Kept::Row(file, row))
            || self.coming.contains_key(&(file, block))
    }

    /// The block is no longer under way; false if it was not, by this fetch: then the file was forgotten meanwhile.
    fn landed(&mut self, key: Key, fetch: &Fetch) -> bool {
        let is_ours = self.coming.get(&key).is_some_and(|coming| std::ptr::eq(&raw const **coming, fetch));
        is_ours && self.coming.remove(&key).is_some()
    }

    fn keep(&mut self, key: Kept, bytes: Bytes) {
        self.bytes += bytes.len() + OVERHEAD;
        if let Some((_, old)) = self.kept.push(key, bytes) {
            self.bytes -= old.len() + OVERHEAD;
        }
    }

    fn forget(&mut self, key: &Kept) {
        if let Some(old) = self.kept.pop(key) {
            self.bytes -= old.len() + OVERHEAD;
        }
    }

    fn shrink(&mut self, budget: usize) {
        while self.bytes > budget {
            let Some((_, old)) = self.kept.pop_lru() else { break };
            self.bytes -= old.len() + OVERHEAD;
        }
    }
}

/// These blocks in runs, each within one of the rows of `row` blocks that a shard holds: begin and end.
fn runs(first: u64, count: u64, row: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = first + count;
    (first / row..end.div_ceil(row)).map(move |at| (first.max(at * row), end.min((at + 1) * row)))
}

/// What is known of a block that is wanted.
pub(super) enum Found {
    /// It was in memory, and was copied.
    Copied,
    /// Somebody fetches it.
    Coming(Arc<Fetch>),
    /// The caller has to fetch these.
    Claimed(Arc<Fetch>),
}

/// The cache.
pub(super) struct BlockCache {
    shards: Vec<Mutex<Shard>>,
    /// Bytes of one block.
    pub(super) block: usize,
    /// Blocks of a row.
    pub(super) row: u64,
    /// Bytes that one shard may hold.
    budget: usize,
    hits: AtomicU64,
    misses: AtomicU64,
    pub(super) fetches: AtomicU64,
    pub(super) fetched_bytes: AtomicU64,
    pub(super) fetch_errors: AtomicU64,
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockCache").field("block", &self.block).field("budget", &(self.budget * SHARDS)).finish()
    }
}

impl BlockCache {
    pub(super) fn new(bytes: u64, block: usize) -> Self {
        let shard = || Shard { kept: LruCache::unbounded(), bytes: 0, coming: HashMap::new() };
        let budget = usize::try_from(bytes / SHARDS as u64).unwrap_or(usize::MAX).max(block + OVERHEAD);
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            block,
            row: (ROW_BYTES / block).max(1) as u64,
            budget,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            fetches: AtomicU64::new(0),
            fetched_bytes: AtomicU64::new(0),
            fetch_errors: AtomicU64::new(0),
        }
    }

    fn shard(&self, file: &FileId, block: u64) -> &Mutex<Shard> {
        // The file's id is a hash already.
        let spread = u64::from_le_bytes([file[0], file[1], file[2], file[3], file[4], file[5], file[6], file[7]])
            ^ (block / self.row);
        &self.shards[(spread.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % SHARDS]
    }

    /// Copies a part of a block to `out` if it is in memory; else finds out who fetches it. `want` says how many blocks to
    /// fetch from this one on, if nobody does.
    pub(super) fn look(
        &self,
        file: FileId,
        block: u64,
        at: usize,
        out: &mut [u8],
        want: impl FnOnce() -> u64,
    ) -> Found {
        let key = (file, block);
        let mut want = Some(want);
        loop {
            {
                let mut shard = self.shard(&file, block).lock();
                // The last block of a file may be short; who reads beyond the end was stopped before.
                if let Some(bytes) = shard.kept.get(&Kept::Block(file, block)) {
                    out.copy_from_slice(&bytes[at..at + out.len()]);
                    self.hits.fetch_add(1, Ordering::Relaxed);
                    return Found::Copied;
                }
                if let Some(bytes) = shard.kept.get(&Kept::Row(file, block / self.row)) {
                    let at = (block % self.row) as usize * self.block + at;
                    out.copy_from_slice(&bytes[at..at + out.len()]);
                    self.hits.fetch_add(1, Ordering::Relaxed);
                    return Found::Copied;
                }
                self.misses.fetch_add(1, Ordering::Relaxed);
                if let Some(fetch) = shard.coming.get(&key) {
                    return Found::Coming(fetch.clone());
                }
            }
            let count = want.take().map_or(1, |want| want());
            if let Some(fetch) = self.claim(file, block, count) {
                return Found::Claimed(fetch);
            }
            // Somebody was faster, between the two looks.
        }
    }

    /// Notes that the caller fetches up to `count` blocks from `first` on: those before the first one that is in memory or under
    /// way; none, if that is `first` itself.
    pub(super) fn claim(&self, file: FileId, first: u64, count: u64) -> Option<Arc<Fetch>> {
        let count = self.free(file, first, count);
        if count == 0 {
            return None;
        }
        let fetch = Arc::new(Fetch { first, count, flight: Flight::new() });
        for (begin, end) in runs(first, count, self.row) {
            let mut shard = self.shard(&file, begin).lock();
            for block in begin..end {
                if shard.is_there(file, block, block / self.row) {
                    if block == first {
                        return None;
                    }
                    // Fetched twice, by a rare race: harmless.
                    continue;
                }
                shard.coming.insert((file, block), fetch.clone());
            }
        }
        Some(fetch)
    }

    /// How many of these blocks come before the first that is in memory or under way.
    fn free(&self, file: FileId, first: u64, count: u64) -> u64 {
        for (begin, end) in runs(first, count, self.row) {
            let shard = self.shard(&file, begin).lock();
            if let Some(there) = (begin..end).find(|block| shard.is_there(file, *block, begin / self.row)) {
                return there - first;
            }
        }
        count
    }

    /// Ends a read: keeps its blocks, if it brought any.
    pub(super) fn land(&self, file: FileId, fetch: &Fetch, pieces: Option<&Pieces>) {
        for (begin, end) in runs(fetch.first, fetch.count, self.row) {
            // Taken before the lock.
            let parts: Vec<_> =
                pieces.map_or_else(Vec::new, |pieces| self.parts(file, begin, end, fetch.first, pieces));
            let mut shard = self.shard(&file, begin).lock();
            // All are removed, whatever comes first.
            let ours = (begin..end).filter(|block| shard.landed((file, *block), fetch)).count() as u64;
            if ours < end - begin {
                // Forgotten meanwhile, or a block of it was there before: then it stays that one.
                continue;
            }
            for (key, bytes) in parts {
                if let Kept::Row(..) = key {
                    (begin..end).for_each(|block| shard.forget(&Kept::Block(file, block)));
                }
                shard.keep(key, bytes);
            }
            shard.shrink(self.budget);
        }
    }

    /// What is to be kept of these blocks of one row.
    fn parts(&self, file: FileId, begin: u64, end: u64, first: u64, pieces: &Pieces) -> Vec<(Kept, Bytes)> {
        let part = |from: u64, to: u64| {
            let bytes = pieces.kept((from - first) as usize * self.block, (to - from) as usize * self.block);
            Some(bytes).filter(|bytes| !bytes.is_empty())
        };
        if self.row > 1 && end - begin == self.row {
            return part(begin, end).map(|bytes| (Kept::Row(file, begin / self.row), bytes)).into_iter().collect();
        }
        (begin..end).filter_map(|block| Some((Kept::Block(file, block), part(block, block + 1)?))).collect()
    }

    /// Drops the blocks of a file.
    pub(super) fn forget(&self, file: FileId) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let keys: Vec<Kept> = shard.kept.iter().map(|(key, _)| *key).filter(|key| *key.file() == file).collect();
            keys.iter().for_each(|key| shard.forget(key));
            // Reads that are under way may bring what the old file held; who waits for them gets it, nobody else does.
            shard.coming.retain(|(of, _), _| *of != file);
        }
    }

    /// Drops all blocks.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.kept.clear();
            shard.bytes = 0;
        }
    }

    pub(super) fn stats(&self, stats: &mut RemoteStats) {
        for shard in &self.shards {
            let shard = shard.lock();
            stats.blocks += shard.kept.iter().map(|(_, bytes)| bytes.len().div_ceil(self.block) as u64).sum::<u64>();
            stats.block_bytes += shard.bytes as u64;
        }
        stats.block_hits = self.hits.load(Ordering::Relaxed);
        stats.block_misses = self.misses.load(Ordering::Relaxed);
        stats.fetches = self.fetches.load(Ordering::Relaxed);
        stats.fetched_bytes = self.fetched_bytes.load(Ordering::Relaxed);
        stats.fetch_errors = self.fetch_errors.load(Ordering::Relaxed);
    }
}
