//! Inner pages of b-trees, kept beside the blocks. Where a block has many pages, an inner one that many lookups need would
//! take the room of all its neighbours, which nobody asks for, and leave with them.

use lru::LruCache;
use parking_lot::Mutex;

use super::blocks::FileId;

/// Parts of the cache, each under its own lock.
const SHARDS: usize = 16;
/// What a page costs beside its bytes.
const OVERHEAD: usize = 120;
/// The smallest page of a database.
const SMALLEST: usize = 512;
/// What the first byte of an inner page is: of an index, of a table.
const INNER: [u8; 2] = [2, 5];

type Key = (FileId, u64);

#[derive(Debug)]
struct Shard {
    kept: LruCache<Key, Box<[u8]>>,
    bytes: usize,
}

/// The pages.
#[derive(Debug)]
pub(super) struct InnerPages {
    shards: Vec<Mutex<Shard>>,
    /// Bytes that one shard may hold.
    budget: usize,
}

impl InnerPages {
    /// Keeps up to so many bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let shard = || Mutex::new(Shard { kept: LruCache::unbounded(), bytes: 0 });
        let budget = usize::try_from(bytes / SHARDS as u64).unwrap_or(usize::MAX);
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), budget }
    }

    fn shard(&self, (file, at): &Key) -> &Mutex<Shard> {
        let spread = u64::from(file[0]) ^ (at / SMALLEST as u64);
        &self.shards[(spread.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % SHARDS]
    }

    /// Whether a read of so many bytes there may be one of a whole page.
    fn may_be_page(at: u64, len: usize) -> bool {
        len >= SMALLEST && len.is_power_of_two() && at.is_multiple_of(len as u64)
    }

    /// Copies what lies at `at` to `out`, if it is a page that is kept.
    pub(super) fn get(&self, file: FileId, at: u64, out: &mut [u8]) -> bool {
        if !Self::may_be_page(at, out.len()) {
            return false;
        }
        let key = (file, at);
        let mut shard = self.shard(&key).lock();
        let Some(page) = shard.kept.get(&key).filter(|page| page.len() == out.len()) else { return false };
        out.copy_from_slice(page);
        true
    }

    /// Keeps what was read at `at`, if it is an inner page. What only looks like one takes room, and is right all the same.
    pub(super) fn put(&self, file: FileId, at: u64, page: &[u8]) {
        if !Self::may_be_page(at, page.len()) || !INNER.contains(&page[0]) {
            return;
        }
        let key = (file, at);
        let mut shard = self.shard(&key).lock();
        shard.bytes += page.len() + OVERHEAD;
        if let Some((_, old)) = shard.kept.push(key, page.into()) {
            shard.bytes -= old.len() + OVERHEAD;
        }
        while shard.bytes > self.budget {
            let Some((_, old)) = shard.kept.pop_lru() else { break };
            shard.bytes -= old.len() + OVERHEAD;
        }
    }

    /// Drops the pages of a file.
    pub(super) fn forget(&self, file: FileId) {
        self.retain(|of| *of != file);
    }

    /// Drops all pages.
    pub(super) fn clear(&self) {
        self.retain(|_| false);
    }

    fn retain(&self, keep: impl Fn(&FileId) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let keys: Vec<Key> = shard.kept.iter().map(|(key, _)| *key).filter(|(of, _)| !keep(of)).collect();
            for key in keys {
                if let Some(old) = shard.kept.pop(&key) {
                    shard.bytes -= old.len() + OVERHEAD;
                }
            }
        }
    }

    /// Pages and their bytes.
    pub(super) fn held(&self) -> (u64, u64) {
        self.shards
            .iter()
            .map(|shard| shard.lock())
            .fold((0, 0), |(pages, bytes), shard| (pages + shard.kept.len() as u64, bytes + shard.bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(kind: u8) -> Vec<u8> {
        let mut page = vec![7; 4096];
        page[0] = kind;
        page
    }

    #[test]
    fn inner_pages_stay_within_their_bytes_and_go_with_their_file() {
        let pages = InnerPages::new(1 << 20);
        let (a, b) = ([1; 16], [2; 16]);
        for n in 0..1000 {
            for (file, kind) in [(a, 2), (b, 5)] {
                pages.put(file, n * 4096, &page(kind));
            }
            pages.put(a, (n + 5000) * 4096, &page(13));
        }
        let (count, bytes) = pages.held();
        assert!(count > 150 && bytes <= 1 << 20, "{count} pages, {bytes} bytes");
        let mut out = vec![0; 4096];
        assert!(pages.get(a, 999 * 4096, &mut out) && out == page(2));
        assert!(!pages.get(a, 999 * 4096, &mut out[..512]), "another length is no page of this file");
        assert!(!pages.get(a, 5999 * 4096, &mut out), "a leaf is not kept");
        pages.forget(a);
        assert!(!pages.get(a, 999 * 4096, &mut out));
        assert!(pages.get(b, 999 * 4096, &mut out));
        pages.clear();
        assert_eq!(pages.held(), (0, 0));
    }
}
