//! The segments to be placed, in columns: 16 bytes a segment and 2 a previous copy, so that a hundred million fit.
//! Ids stay with the caller; here a segment is its index.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use super::{NONE, PlacementError};
use crate::{NodeId, SegmentId};

/// How many copies are wanted.
#[derive(Clone, Debug)]
enum Copies {
    Uniform(u8),
    Each(Vec<u8>),
}

/// Segments in columns, with the copies they have so far. The order of segments has no influence on a placement.
#[derive(Clone, Debug)]
pub struct SegmentTable {
    columns: usize,
    keys: Vec<u64>,
    bytes: Vec<u64>,
    copies: Copies,
    /// `columns` per segment; empty while no segment has any.
    previous: Vec<u16>,
    nodes: Vec<NodeId>,
    indexes: HashMap<NodeId, u16>,
    tolerated: HashMap<u16, f64>,
}

/// The hash by which a segment is placed.
pub fn segment_key(segment: &SegmentId) -> u64 {
    xxh3_64(segment.as_str().as_bytes())
}

impl SegmentTable {
    /// An empty table with room for previous copies on rings `0..columns`: the number of rings, or more if earlier
    /// assignments name higher ones.
    pub fn new(columns: usize) -> Self {
        Self::with_capacity(columns, 0)
    }

    /// The same, with memory set aside for `segments`.
    pub fn with_capacity(columns: usize, segments: usize) -> Self {
        Self {
            columns,
            keys: Vec::with_capacity(segments),
            bytes: Vec::with_capacity(segments),
            copies: Copies::Uniform(0),
            previous: Vec::new(),
            nodes: Vec::new(),
            indexes: HashMap::new(),
            tolerated: HashMap::new(),
        }
    }

    /// Lets the interned `node` keep `share` (0 to 1) of all bytes that are wanted, be it more or less than its fair
    /// share: neither does it give up copies for the sake of balance, nor does it take any over.
    pub fn tolerate(&mut self, node: u16, share: f64) {
        self.tolerated.insert(node, share);
    }

    /// The share of all bytes that a node may keep whatever is fair.
    pub(super) fn tolerated(&self, node: u16) -> Option<f64> {
        self.tolerated.get(&node).copied()
    }

    /// Adds a segment of so many bytes that wants so many copies (more than there are rings means all rings).
    /// Returns its index.
    pub fn push(&mut self, segment: &SegmentId, bytes: u64, copies: usize) -> usize {
        self.push_key(segment_key(segment), bytes, copies)
    }

    /// The same for a segment whose [`segment_key`] is known.
    pub fn push_key(&mut self, key: u64, bytes: u64, copies: usize) -> usize {
        let copies = u8::try_from(copies).unwrap_or(u8::MAX);
        let index = self.keys.len();
        match &mut self.copies {
            Copies::Uniform(all) if index == 0 || *all == copies => *all = copies,
            Copies::Uniform(all) => {
                let mut each = Vec::with_capacity(self.keys.capacity());
                each.resize(index, *all);
                each.push(copies);
                self.copies = Copies::Each(each);
            }
            Copies::Each(each) => each.push(copies),
        }
        self.keys.push(key);
        self.bytes.push(bytes);
        if !self.previous.is_empty() {
            self.previous.resize(self.keys.len() * self.columns, NONE);
        }
        index
    }

    /// The index by which `node` is named in this table and in its placements.
    ///
    /// # Errors
    /// [`PlacementError::TooManyNodes`].
    pub fn intern(&mut self, node: &NodeId) -> Result<u16, PlacementError> {
        if let Some(&index) = self.indexes.get(node) {
            return Ok(index);
        }
        let index = u16::try_from(self.nodes.len()).ok().filter(|&i| i != NONE).ok_or(PlacementError::TooManyNodes)?;
        self.nodes.push(node.clone());
        self.indexes.insert(node.clone(), index);
        Ok(index)
    }

    /// Says that `segment`'s copy on ring `ring` was assigned to the interned `node`, whether or not that node still
    /// exists. Returns who was named there before: then one of the two assignments is superfluous.
    ///
    /// # Panics
    /// If `segment` or `ring` is out of range.
    pub fn set_previous(&mut self, segment: usize, ring: usize, node: u16) -> Option<u16> {
        assert!(segment < self.len() && ring < self.columns, "segment {segment}, ring {ring} out of range");
        if self.previous.is_empty() {
            self.previous.reserve_exact(self.keys.capacity() * self.columns);
            self.previous.resize(self.keys.len() * self.columns, NONE);
        }
        let cell = &mut self.previous[segment * self.columns + ring];
        Some(std::mem::replace(cell, node)).filter(|&was| was != NONE && was != node)
    }

    /// How many segments there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many rings previous copies may name.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// A segment's key.
    pub fn key(&self, segment: usize) -> u64 {
        self.keys[segment]
    }

    /// A segment's length in bytes.
    pub fn bytes(&self, segment: usize) -> u64 {
        self.bytes[segment]
    }

    /// How many copies a segment wants.
    pub fn copies(&self, segment: usize) -> usize {
        match &self.copies {
            Copies::Uniform(all) => usize::from(*all),
            Copies::Each(each) => usize::from(each[segment]),
        }
    }

    /// A segment's previous copies by ring, [`NONE`] where there was none; empty if no segment has any.
    pub fn previous(&self, segment: usize) -> &[u16] {
        match self.previous.is_empty() {
            true => &[],
            false => &self.previous[segment * self.columns..][..self.columns],
        }
    }

    /// Takes what was placed for what stands, so that the next plan builds upon it. The placement must be one of
    /// this table.
    ///
    /// # Errors
    /// [`PlacementError::TooManyNodes`].
    pub fn adopt(&mut self, placement: &super::Placement) -> Result<(), PlacementError> {
        let indexes = placement.nodes().iter().map(|n| self.intern(n)).collect::<Result<Vec<_>, _>>()?;
        self.columns = self.columns.max(placement.rings());
        let mut previous = vec![NONE; self.len() * self.columns];
        for (segment, row) in previous.chunks_mut(self.columns.max(1)).enumerate() {
            for (cell, &node) in row.iter_mut().zip(placement.assigned(segment)) {
                *cell = indexes.get(usize::from(node)).copied().unwrap_or(NONE);
            }
        }
        self.previous = previous;
        Ok(())
    }

    pub(super) fn keys(&self) -> &[u64] {
        &self.keys
    }

    pub(super) fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    pub(super) fn index_of(&self, node: &NodeId) -> Option<u16> {
        self.indexes.get(node).copied()
    }

    pub(super) fn has_previous(&self) -> bool {
        !self.previous.is_empty()
    }
}
