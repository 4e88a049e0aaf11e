//! The store's folders whose segments the model knows: one that a listing gives again, unchanged, need not be looked at
//! segment by segment. Pure data.

use std::collections::HashMap;

/// A folder's number in [`Folders`].
pub(crate) type FolderIx = u32;
/// No folder.
pub(crate) const NOWHERE: FolderIx = FolderIx::MAX;

#[derive(Clone, Copy, Debug)]
struct Known {
    /// The last listing that held it.
    listed: u32,
    /// Whether its segments must be looked at although it is unchanged.
    again: bool,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folders {
    /// By the number that the store gives.
    index: HashMap<u64, FolderIx>,
    known: Vec<Known>,
    free: Vec<FolderIx>,
    /// Segments in the folders that the present listing has held so far.
    pub(crate) segments: usize,
}

impl Folders {
    /// Notes a folder of so many segments; whether they are known already.
    pub(crate) fn note(&mut self, id: u64, segments: usize, listing: u32) -> (FolderIx, bool) {
        self.segments += segments;
        if let Some(ix) = self.index.get(&id) {
            let known = &mut self.known[*ix as usize];
            known.listed = listing;
            return (*ix, !std::mem::take(&mut known.again));
        }
        let known = Known { listed: listing, again: false };
        let ix = match self.free.pop() {
            Some(ix) => {
                self.known[ix as usize] = known;
                ix
            }
            None => {
                self.known.push(known);
                FolderIx::try_from(self.known.len() - 1).expect("fewer than 4 thousand million folders")
            }
        };
        self.index.insert(id, ix);
        (ix, false)
    }

    /// Whether the folder's segments are known, and need not be looked at again.
    #[cfg(test)]
    pub(crate) fn knows(&self, id: u64) -> bool {
        self.index.get(&id).is_some_and(|ix| !self.known[*ix as usize].again)
    }

    /// Whether the listing held the folder.
    pub(crate) fn held(&self, ix: FolderIx, listing: u32) -> bool {
        ix != NOWHERE && self.known[ix as usize].listed == listing
    }

    /// Has the segments of the folder looked at by the next listing, even if it is unchanged.
    pub(crate) fn look_again(&mut self, ix: FolderIx) {
        if ix != NOWHERE {
            self.known[ix as usize].again = true;
        }
    }

    /// The same for all folders.
    pub(crate) fn look_again_at_all(&mut self) {
        self.known.iter_mut().for_each(|known| known.again = true);
    }

    /// Forgets those that the listing did not hold. No segment may be at home in one of them any more.
    pub(crate) fn end(&mut self, listing: u32) {
        let Self { index, known, free, .. } = self;
        index.retain(|_, ix| {
            let held = known[*ix as usize].listed == listing;
            if !held {
                free.push(*ix);
            }
            held
        });
    }
}
