//! Read-ahead of one connection: scans are told from lookups by where their blocks lie. A scan's reads double until they have
//! their full length; from then on several are under way while the blocks of those before are used.

/// Places at which one connection may be reading on: a table's leaves, an index's, and what lies between.
const STREAMS: usize = 4;
/// From so many blocks on, the next read begins before it is needed.
const IN_ADVANCE: u64 = 8;
/// Reads of full length that are under way or unused at a time.
const FULL_AHEAD: u64 = 3;

#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// The first block that was not asked for.
    end: u64,
    /// How many blocks the last read had; 0 for a stream that is not there.
    window: u64,
    used: u64,
}

impl Stream {
    /// Whether the block belongs to what this stream has read, or left out, lately.
    fn has(&self, block: u64) -> bool {
        (self.end.saturating_sub((FULL_AHEAD + 1) * self.window)..self.end).contains(&block)
    }
}

/// Blocks to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    pub(super) first: u64,
    pub(super) count: u64,
}

#[derive(Debug)]
pub(super) struct Ahead {
    streams: [Stream; STREAMS],
    most: u64,
    row: u64,
    clock: u64,
}

impl Ahead {
    /// Reads of at most `most` blocks, and of the rest of a row of `row` blocks.
    pub(super) fn new(most: u64, row: u64) -> Self {
        Self { streams: [Stream::default(); STREAMS], most, row, clock: 0 }
    }

    /// The end of a read of `count` blocks from `first` on: that of a row, if it is of rows at all.
    fn end(&self, first: u64, count: u64) -> u64 {
        if count < self.row { first + count } else { (first + count).next_multiple_of(self.row) }
    }

    /// The block is not in memory; how many to fetch from it on.
    pub(super) fn miss(&mut self, block: u64) -> u64 {
        self.clock += 1;
        let (clock, most) = (self.clock, self.most);
        let follows = |s: &Stream| s.window > 0 && (s.end..=s.end + s.window).contains(&block);
        if let Some(at) = self.streams.iter().position(follows) {
            let window = (self.streams[at].window * 2).min(most);
            let end = self.end(block, window);
            self.streams[at] = Stream { end, window, used: clock };
            return end - block;
        }
        if let Some(stream) = self.streams.iter_mut().min_by_key(|s| s.used) {
            *stream = Stream { end: block + 1, window: 1, used: clock };
        }
        1
    }

    /// The block is used; what to fetch in advance.
    pub(super) fn hit(&mut self, block: u64) -> Option<Blocks> {
        let at = self.streams.iter().position(|s| s.has(block))?;
        self.clock += 1;
        self.streams[at].used = self.clock;
        let stream = self.streams[at];
        // Reads that still grow follow each other: a scan that ends early has fetched no more than about twice what it used.
        let ahead = if stream.window < self.most { stream.window } else { FULL_AHEAD * self.most };
        if stream.window < IN_ADVANCE.min(self.most) || stream.end - block > ahead {
            return None;
        }
        let window = (stream.window * 2).min(self.most);
        let (first, end) = (stream.end, self.end(stream.end, window));
        self.streams[at] = Stream { end, window, used: self.clock };
        Some(Blocks { first, count: end - first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_reads_more_and_more_and_in_advance() {
        let mut ahead = Ahead::new(64, 16);
        let (mut have, mut reads, mut waits) = (0u64, Vec::new(), 0);
        for block in 0..2_000 {
            if block >= have {
                waits += 1;
                let count = ahead.miss(block);
                reads.push(count);
                have = block + count;
            } else if let Some(next) = ahead.hit(block) {
                assert_eq!(next.first, have, "what follows");
                reads.push(next.count);
                have += next.count;
            }
        }
        assert_eq!(reads[..7], [1, 2, 4, 8, 17, 32, 64], "whole rows from the first on");
        assert!(reads[7..].iter().all(|n| *n == 64));
        assert_eq!(waits, 4, "then the blocks are there before they are used");
    }

    #[test]
    fn a_scan_goes_on_beside_lookups() {
        let mut ahead = Ahead::new(64, 16);
        let mut have = 0;
        for block in 0..64 {
            if block >= have {
                have = block + ahead.miss(block);
            } else if let Some(next) = ahead.hit(block) {
                have = next.first + next.count;
            }
            assert_eq!(ahead.miss(1_000_000 + 1_000 * block), 1, "a lookup reads one block");
        }
        assert!(have > 64 + 16, "the scan was not forgotten: {have}");
    }

    #[test]
    fn lookups_read_single_blocks() {
        let mut ahead = Ahead::new(64, 16);
        for i in 0..1_000u64 {
            let block = i.wrapping_mul(2_654_435_761) % 1_000_003;
            assert!(ahead.miss(block) <= 2);
            assert_eq!(ahead.hit(block), None);
        }
    }
}
