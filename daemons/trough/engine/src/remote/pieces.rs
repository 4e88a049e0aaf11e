//! What one read brought, in the pieces in which it came.

use bytes::Bytes;

/// A piece that is longer than what is wanted of it by more than this part would keep too much in memory.
const WASTE: usize = 8;

/// The bytes of a read.
#[derive(Debug)]
pub(super) struct Pieces {
    /// Each with the place of its end, from the read's begin on; none is empty.
    pieces: Vec<(usize, Bytes)>,
}

impl Pieces {
    pub(super) fn new(pieces: Vec<Bytes>) -> Self {
        let mut end = 0;
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).map(|piece| {
            end += piece.len();
            (end, piece)
        });
        Self { pieces: pieces.collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.last().map_or(0, |(end, _)| *end)
    }

    /// The pieces that have bytes from `at` on, each from there.
    fn after(&self, at: usize) -> impl Iterator<Item = Bytes> + '_ {
        let first = self.pieces.partition_point(|(end, _)| *end <= at);
        self.pieces[first..].iter().map(move |(end, piece)| piece.slice(at.saturating_sub(end - piece.len())..))
    }

    /// Fills `out` with what lies from `at` on; false if there is not so much.
    pub(super) fn copy(&self, at: usize, out: &mut [u8]) -> bool {
        let mut done = 0;
        for piece in self.after(at) {
            let part = piece.len().min(out.len() - done);
            out[done..done + part].copy_from_slice(&piece[..part]);
            done += part;
            if done == out.len() {
                break;
            }
        }
        done == out.len()
    }

    /// Bytes `at..at + len`, fewer at the end, that keep little more than themselves in memory: a part of a piece where that is so,
    /// else a copy.
    pub(super) fn kept(&self, at: usize, len: usize) -> Bytes {
        let len = len.min(self.len().saturating_sub(at));
        match self.after(at).next() {
            Some(piece) if piece.len() >= len && piece.len() - len <= len / WASTE && self.is_all_of(at, &piece) => {
                piece.slice(..len)
            }
            _ => {
                let mut copy = vec![0; len];
                self.copy(at, &mut copy);
                copy.into()
            }
        }
    }

    /// Whether a piece begins at `at`: then what [`Self::after`] gives is the whole of it.
    fn is_all_of(&self, at: usize, piece: &Bytes) -> bool {
        self.pieces
            .binary_search_by_key(&(at + piece.len()), |(end, _)| *end)
            .is_ok_and(|n| self.pieces[n].1.len() == piece.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_what_was_read() {
        let whole: Vec<u8> = (0..1000u32).map(|n| (n % 251) as u8).collect();
        for size in [1, 7, 100, 512, 1000, 2000] {
            let pieces = whole.chunks(size).flat_map(|piece| [Bytes::copy_from_slice(piece), Bytes::new()]).collect();
            let pieces = Pieces::new(pieces);
            assert_eq!(pieces.len(), 1000);
            for at in [0, 1, 99, 100, 512, 999, 1000, 1001] {
                for len in [0, 1, 100, 600] {
                    let there = &whole[at.min(1000)..(at + len).min(1000)];
                    assert_eq!(&pieces.kept(at, len)[..], there, "{len} at {at} of pieces of {size}");
                    let mut out = vec![0; len];
                    assert_eq!(pieces.copy(at, &mut out), there.len() == len, "{len} at {at} of pieces of {size}");
                    assert!(there.len() < len || out == there);
                }
            }
        }
        assert_eq!(Pieces::new(Vec::new()).len(), 0);
    }

    #[test]
    fn only_what_keeps_little_else_is_not_copied() {
        let piece = Bytes::from(vec![7; 1024]);
        let (pieces, begin) = (Pieces::new(vec![piece.clone(), piece.clone()]), piece.as_ptr());
        assert_eq!(pieces.kept(0, 1024).as_ptr(), begin);
        assert_eq!(pieces.kept(1024, 1024).as_ptr(), begin);
        assert_eq!(pieces.kept(0, 1000).as_ptr(), begin);
        for (at, len) in [(0, 512), (24, 1000), (512, 512), (0, 2048), (1, 1024)] {
            let kept = pieces.kept(at, len).as_ptr();
            assert!(!piece.as_ptr_range().contains(&kept), "{len} at {at}");
        }
    }
}
