//! What the sync master knows: segments with their canonical copies, nodes, and assignments.
//!
//! Stored elsewhere: the assignments (metadata) and the canonical files (store). Rebuilt from both whenever a
//! mastership begins, and kept current afterwards by listings, by looks at promoted segments and by the master's own
//! commits. Pure data: no I/O here.

use std::collections::HashMap;

use trough_core::{
    NodeId, SegmentId,
    records::{Assignment, Time},
};
use trough_store::Folder;

use crate::folders::{FolderIx, Folders, NOWHERE};

/// A node's number in [`Nodes`].
pub type NodeIx = u16;
/// A segment's number in [`Model`].
pub type SegmentIx = u32;

/// The names of nodes, numbered in order of appearance; a number is never given twice.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    names: Vec<NodeId>,
    index: HashMap<NodeId, NodeIx>,
}

impl Nodes {
    /// The number of `node`, given now if it has none.
    pub fn intern(&mut self, node: &NodeId) -> NodeIx {
        if let Some(ix) = self.index.get(node) {
            return *ix;
        }
        let ix = NodeIx::try_from(self.names.len()).expect("fewer than 65,536 nodes ever seen by one master");
        self.names.push(node.clone());
        self.index.insert(node.clone(), ix);
        ix
    }

    /// The number of `node`, if it was ever seen.
    pub fn get(&self, node: &NodeId) -> Option<NodeIx> {
        self.index.get(node).copied()
    }

    /// The name of a number that this table gave.
    pub fn name(&self, ix: NodeIx) -> &NodeId {
        &self.names[usize::from(ix)]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether none was seen.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Where in the placement a copy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ring {
    /// A consistent hash ring, 0…N-1.
    Hot(u8),
    /// The cold tier.
    Cold,
}

impl Ring {
    /// As the record carries it.
    pub fn to_json(self) -> serde_json::Value {
        match self {
            Self::Hot(ring) => ring.into(),
            Self::Cold => "cold".into(),
        }
    }

    /// From a record; what is neither a ring's number nor `"cold"` counts as ring 0, as a Python row without one does.
    pub fn from_json(value: &serde_json::Value) -> Self {
        match value.as_u64().map(u8::try_from) {
            Some(Ok(ring)) => Self::Hot(ring),
            _ if value.as_str() == Some("cold") => Self::Cold,
            _ => Self::Hot(0),
        }
    }
}

/// One assignment as the master remembers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Who shall hold the copy.
    pub node: NodeIx,
    /// Where in the placement it stands.
    pub ring: Ring,
    /// The canonical copy's length as recorded.
    pub bytes: u64,
    /// The canonical copy's time as recorded.
    pub mtime_ms: Option<i64>,
    /// Its SHA-256 as a promotion recorded it.
    pub sha256: Option<Box<str>>,
    /// The generation of the plan that put it there; of two rows on one ring the later is the wanted one.
    pub generation: u64,
    /// When it was first assigned.
    pub assigned_on: Option<f64>,
    /// Whether that node serves the segment now, as discovery last said.
    pub live: bool,
}

/// The canonical copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canonical {
    /// Its length.
    pub bytes: u64,
    /// Its modification time, milliseconds since 1970.
    pub mtime_ms: i64,
}

/// Everything a plan is made from.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Node names.
    pub nodes: Nodes,
    ids: Vec<SegmentId>,
    index: HashMap<SegmentId, SegmentIx>,
    canonical: Vec<Option<Canonical>>,
    /// Complete listings in a row that did not hold the segment.
    missed: Vec<u8>,
    /// The last listing that named the segment.
    listed: Vec<u32>,
    /// The folder of the store that named it last.
    home: Vec<FolderIx>,
    folders: Folders,
    rows: Vec<Vec<Row>>,
    /// Canonical paths that are not the usual one.
    odd_paths: HashMap<SegmentIx, Box<str>>,
    /// What goes before a segment's usual path below the store's root.
    root: String,
    listing: u32,
    /// What each worker held of all bytes (0 to 1) when a Python master's placement was taken over.
    pub found: HashMap<NodeId, f64>,
}

impl Model {
    /// A model whose canonical copies lie under `root` (HDFS_PATH, without a slash at its end).
    pub fn new(root: &str) -> Self {
        Self { root: root.trim_end_matches('/').to_owned(), ..Self::default() }
    }

    /// How many segments are known, present in the store or not.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether no segment is known.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The number of a segment, given now if it has none.
    pub fn intern(&mut self, id: &SegmentId) -> SegmentIx {
        if let Some(ix) = self.index.get(id) {
            return *ix;
        }
        let ix = SegmentIx::try_from(self.ids.len()).expect("fewer than 4 thousand million segments");
        self.ids.push(id.clone());
        self.index.insert(id.clone(), ix);
        self.canonical.push(None);
        self.missed.push(0);
        self.listed.push(0);
        self.home.push(NOWHERE);
        self.rows.push(Vec::new());
        ix
    }

    /// The number of a segment, if it is known.
    pub fn find(&self, id: &SegmentId) -> Option<SegmentIx> {
        self.index.get(id).copied()
    }

    /// The id of a number.
    pub fn id(&self, ix: SegmentIx) -> &SegmentId {
        &self.ids[ix as usize]
    }

    /// The canonical copy, if the store has one.
    pub fn canonical(&self, ix: SegmentIx) -> Option<Canonical> {
        self.canonical[ix as usize]
    }

    /// The assignments of a segment.
    pub fn rows(&self, ix: SegmentIx) -> &[Row] {
        &self.rows[ix as usize]
    }

    /// Every segment's number.
    pub fn segments(&self) -> impl Iterator<Item = SegmentIx> + use<> {
        0..self.ids.len() as SegmentIx
    }

    /// Where the canonical copy lies, or would.
    pub fn remote_path(&self, ix: SegmentIx) -> String {
        match self.odd_paths.get(&ix) {
            Some(path) => path.to_string(),
            None => format!("{}/{}", self.root, self.id(ix).store_path()),
        }
    }

    /// Takes in one assignment as it is stored.
    pub fn load(&mut self, assignment: &Assignment) {
        let node = self.nodes.intern(&assignment.node);
        let ix = self.intern(&assignment.segment);
        let row = Row {
            node,
            ring: Ring::from_json(&assignment.hash_ring),
            bytes: assignment.bytes,
            mtime_ms: assignment.mtime_ms,
            sha256: assignment.sha256.as_deref().map(Into::into),
            generation: assignment.generation,
            assigned_on: assignment.assigned_on.as_ref().map(|t| t.epoch_time),
            live: false,
        };
        let rows = &mut self.rows[ix as usize];
        match rows.iter_mut().find(|r| r.node == node) {
            Some(old) => *old = Row { live: old.live, ..row },
            None => {
                // Few copies and millions of segments: no room for copies that never come.
                rows.reserve_exact(1);
                rows.push(row);
            }
        }
    }

    /// Replaces what is known of a segment's assignments by `stored`, keeping which of them are live.
    pub fn reload(&mut self, segment: &SegmentId, stored: &[Assignment]) {
        let ix = self.intern(segment);
        let nodes: Vec<NodeIx> = stored.iter().map(|a| self.nodes.intern(&a.node)).collect();
        self.rows[ix as usize].retain(|row| nodes.contains(&row.node));
        stored.iter().for_each(|a| self.load(a));
    }

    /// Forgets an assignment.
    pub fn unload(&mut self, ix: SegmentIx, node: NodeIx) {
        self.rows[ix as usize].retain(|row| row.node != node);
    }

    /// Begins a listing of the store: what it does not show until [`Model::end_listing`] was missed once more.
    pub fn begin_listing(&mut self) {
        self.listing += 1;
        self.folders.segments = 0;
    }

    /// Whether an earlier listing showed the folder just so.
    #[cfg(test)]
    fn knows(&self, folder: &Folder) -> bool {
        folder.id().is_some_and(|id| self.folders.knows(id))
    }

    /// Takes in a folder that a listing shows. One that an earlier listing showed just so costs nothing.
    pub fn observe_folder(&mut self, folder: &Folder) {
        let home = match folder.id().map(|id| self.folders.note(id, folder.len(), self.listing)) {
            Some((_, true)) => return,
            Some((ix, false)) => ix,
            None => NOWHERE,
        };
        for entry in folder.entries() {
            let found = Canonical { bytes: entry.bytes, mtime_ms: entry.mtime_ms };
            let (ix, _) = self.take_in(&entry.segment, &entry.path, found);
            self.home[ix as usize] = home;
        }
    }

    /// A file that the store shows, by a listing or by a look at this one segment.
    /// Returns whether it is new or has changed.
    pub fn observe(&mut self, id: &SegmentId, path: &str, found: Canonical) -> bool {
        self.take_in(id, path, found).1
    }

    fn take_in(&mut self, id: &SegmentId, path: &str, found: Canonical) -> (SegmentIx, bool) {
        let ix = self.intern(id);
        let at = ix as usize;
        self.listed[at] = self.listing;
        self.missed[at] = 0;
        let usual = path.strip_prefix(self.root.as_str()).and_then(|p| p.strip_prefix('/')) == Some(&id.store_path())
            || path == id.store_path();
        if usual {
            self.odd_paths.remove(&ix);
        } else {
            self.odd_paths.insert(ix, path.into());
        }
        (ix, self.canonical[at].replace(found) != Some(found))
    }

    /// Ends a listing that was complete. A segment that it did not show keeps its assignments; returned are those
    /// that `limit` complete listings in a row have missed.
    pub fn end_listing(&mut self, limit: u8) -> Vec<SegmentIx> {
        let mut gone = Vec::new();
        let mut at_home = 0;
        for at in 0..self.ids.len() {
            if self.folders.held(self.home[at], self.listing) {
                self.missed[at] = 0;
                at_home += 1;
                continue;
            }
            self.home[at] = NOWHERE;
            if self.listed[at] == self.listing {
                continue;
            }
            if self.canonical[at].is_none() && self.rows[at].is_empty() {
                continue;
            }
            self.missed[at] = self.missed[at].saturating_add(1);
            if self.missed[at] >= limit {
                gone.push(at as SegmentIx);
            }
        }
        self.folders.end(self.listing);
        if at_home != self.folders.segments {
            // A segment lies in two folders. Once one of them changes, only looking at all tells which still has it.
            self.folders.look_again_at_all();
        }
        gone
    }

    /// Complete listings in a row that did not show the segment.
    pub fn missed(&self, ix: SegmentIx) -> u8 {
        self.missed[ix as usize]
    }

    /// The segment was shredded, or is gone for good: nothing of it remains here.
    pub fn forget(&mut self, ix: SegmentIx) {
        let at = ix as usize;
        self.canonical[at] = None;
        self.rows[at].clear();
        self.missed[at] = 0;
        self.odd_paths.remove(&ix);
        // Should the store show it again after all, it is taken in.
        self.folders.look_again(self.home[at]);
    }

    /// Sets which assignments are live: `serves(segment, node)`.
    pub fn mark_live(&mut self, mut serves: impl FnMut(&SegmentId, NodeIx) -> bool) {
        self.mark_served(|_, id, node, _| serves(id, node));
    }

    /// The same, for who wants to know the segment's number and its canonical copy.
    pub fn mark_served(&mut self, mut serves: impl FnMut(SegmentIx, &SegmentId, NodeIx, Option<Canonical>) -> bool) {
        for (ix, rows) in self.rows.iter_mut().enumerate() {
            for row in rows {
                row.live = serves(ix as SegmentIx, &self.ids[ix], row.node, self.canonical[ix]);
            }
        }
    }

    /// The record of a row, as it is to be stored.
    pub fn assignment(&self, ix: SegmentIx, row: &Row, epoch: u64) -> Assignment {
        let (node, segment) = (self.nodes.name(row.node).clone(), self.id(ix).clone());
        Assignment {
            id: Assignment::row_id(&node, &segment),
            node,
            segment,
            hash_ring: row.ring.to_json(),
            assigned_on: row.assigned_on.map(Time::from_epoch),
            remote_path: self.remote_path(ix),
            bytes: row.bytes,
            mtime_ms: row.mtime_ms,
            sha256: row.sha256.as_deref().map(Into::into),
            generation: row.generation,
            epoch,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn segment(id: &str) -> SegmentId {
        SegmentId::new(id).expect("valid id")
    }

    #[test]
    fn a_segment_missing_once_is_kept() {
        let mut model = Model::new("/data");
        let found = Canonical { bytes: 10, mtime_ms: 1 };
        model.begin_listing();
        assert!(model.observe(&segment("a"), "/data/a.sqlite", found));
        assert!(model.observe(&segment("b"), "/data/b.sqlite", found));
        assert!(model.end_listing(3).is_empty());
        for round in 1..=3 {
            model.begin_listing();
            assert!(!model.observe(&segment("a"), "/data/a.sqlite", found));
            let gone = model.end_listing(3);
            assert_eq!(gone.len(), usize::from(round == 3), "round {round}");
            assert_eq!(model.canonical(1), Some(found), "what is known of it stays");
        }
        model.begin_listing();
        model.observe(&segment("a"), "/data/a.sqlite", found);
        model.observe(&segment("b"), "/data/b.sqlite", found);
        assert!(model.end_listing(3).is_empty(), "seen again, it is as if it had never been missed");
        assert_eq!(model.missed(1), 0);
    }

    #[tokio::test]
    async fn folders_that_have_not_changed_are_as_good_as_looked_at() {
        use futures::StreamExt as _;
        use trough_store::{ListOptions, LocalStore, Store as _};

        let dir = tempfile::tempdir().expect("a directory");
        let options = ListOptions { settle: std::time::Duration::ZERO, ..ListOptions::default() };
        let store = LocalStore::new(dir.path(), options).expect("a store");
        let path = |n: usize, folder: usize| dir.path().join(format!("f{folder}/{n}.sqlite"));
        let (mut by_folder, mut by_entry) = (Model::new("/d"), Model::new("/d"));
        let mut random = fastrand::Rng::with_seed(7);
        (0..5).for_each(|n| std::fs::create_dir(dir.path().join(format!("f{n}"))).expect("made"));
        let mut unchanged = 0;
        for round in 0..200 {
            // Files come, go, grow and move; for ten rounds each into any folder, so that some lie in two, and for ten
            // rounds into their own.
            let tidy = round % 20 >= 10;
            if round % 20 == 10 {
                for n in 0..12 {
                    (0..5)
                        .filter(|folder| *folder != n % 5)
                        .for_each(|folder| drop(std::fs::remove_file(path(n, folder))));
                }
            }
            for _ in 0..random.usize(0..4) {
                let n = random.usize(0..12);
                let mut any = || if tidy { n % 5 } else { random.usize(0..5) };
                let (folder, other) = (any(), any());
                match random.u8(0..3) {
                    0 => drop(std::fs::remove_file(path(n, folder))),
                    1 => drop(std::fs::rename(path(n, folder), path(n, other))),
                    _ => {
                        drop(std::fs::remove_file(path(n, folder)));
                        std::fs::write(path(n, folder), vec![0; random.usize(0..3)]).expect("written");
                    }
                }
            }
            if random.u8(0..20) == 0
                && let Some(ix) = by_folder.find(&segment("3"))
            {
                let other = by_entry.find(&segment("3")).expect("both know it");
                by_folder.forget(ix);
                by_entry.forget(other);
            }
            by_folder.begin_listing();
            by_entry.begin_listing();
            let mut folders = store.list_folders();
            while let Some(folder) = folders.next().await {
                let folder = folder.expect("listed");
                unchanged += usize::from(by_folder.knows(&folder));
                by_folder.observe_folder(&folder);
                for entry in folder.entries() {
                    let found = Canonical { bytes: entry.bytes, mtime_ms: entry.mtime_ms };
                    by_entry.observe(&entry.segment, &entry.path, found);
                }
            }
            let ids = |model: &Model, gone: Vec<SegmentIx>| {
                let mut ids: Vec<String> = gone.into_iter().map(|ix| model.id(ix).to_string()).collect();
                ids.sort();
                ids
            };
            let (gone, other_gone) = (by_folder.end_listing(1), by_entry.end_listing(1));
            assert_eq!(ids(&by_folder, gone), ids(&by_entry, other_gone), "{round}");
            for ix in by_entry.segments() {
                let id = by_entry.id(ix);
                let other = by_folder.find(id).expect("known to both");
                assert_eq!(by_folder.missed(other), by_entry.missed(ix), "{id} in round {round}");
                assert_eq!(
                    by_folder.canonical(other).is_some(),
                    by_entry.canonical(ix).is_some(),
                    "{id} in round {round}"
                );
            }
        }
        assert!(unchanged > 200, "{unchanged}");
    }

    #[test]
    fn a_path_of_its_own_is_kept() {
        let mut model = Model::new("/data/");
        let found = Canonical { bytes: 10, mtime_ms: 1 };
        model.observe(&segment("seg-1"), "/data/se/seg-1.sqlite", found);
        model.observe(&segment("seg-2"), "/data/elsewhere/seg-2.sqlite", found);
        assert_eq!(model.remote_path(0), "/data/se/seg-1.sqlite");
        assert_eq!(model.remote_path(1), "/data/elsewhere/seg-2.sqlite");
    }

    #[test]
    fn rings_travel_as_the_records_have_them() {
        for ring in [Ring::Hot(0), Ring::Hot(3), Ring::Cold] {
            assert_eq!(Ring::from_json(&ring.to_json()), ring);
        }
        assert_eq!(Ring::from_json(&serde_json::Value::Null), Ring::Hot(0));
    }
}
