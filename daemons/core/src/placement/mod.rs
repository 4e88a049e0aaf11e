//! Placement: which workers shall hold which segments. A pure function of the workers, the segments and their
//! previous assignments; it decides what moves, so it is deterministic and no order of its inputs matters.
//!
//! There is one consistent hash ring per copy, each with its own seed, and every worker stands on each with virtual
//! nodes in proportion to its bytes. Copy `i` goes to the worker that ring `i` names, passing over workers, and as
//! long as there are others zones, that hold a copy already. On top of that:
//!
//! - *What stands, stays*: a copy at a live worker is left there, whatever the ring says now, with two exceptions.
//! - *Bounded loads*: no worker above `1 + epsilon` times its fair share. One that is above gives up just so much;
//!   what is newly placed walks on along its ring at [`PLACING`] of that margin, so that little moves later.
//! - *Filling up*: a worker with less than [`STARVED`] of its fair share (a new one, or one with more weight than
//!   before) takes over what the rings name it for, up to its fair share.
//!
//! A worker may be let keep what it was found with ([`SegmentTable::tolerate`]): the last two then count from there.
//!
//! Copies weigh their bytes, or 1 if they have none. Which copies give way is decided by hashes, never by order.
//! Segments larger than a sliver of a worker's share are placed one by one, the largest first; the rest in parallel
//! streaming passes.

use std::collections::HashSet;

use crate::NodeId;

mod bulk;
mod diff;
mod planner;
mod ring;
mod shares;
mod sites;
mod table;

pub use diff::{Balance, Change, ChangeKind, Changes, Moves};
pub use table::{SegmentTable, segment_key};

/// No node.
pub const NONE: u16 = u16::MAX;
/// The greatest number of rings.
pub const MAX_RINGS: usize = 64;
/// How much of the margin `epsilon` what is newly placed may use.
pub const PLACING: f64 = 0.6;
/// The part of its fair share below which a worker takes over what it is named for.
pub const STARVED: f64 = 0.9;

/// A hot worker that copies may be placed on. Those that are gone are simply not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Who.
    pub node: NodeId,
    /// How many bytes it may hold. A worker of none holds nothing.
    pub weight_bytes: u64,
    /// Its failure domain. Workers without one form a domain of their own.
    pub zone: Option<String>,
    /// Whether it is being emptied: it keeps nothing and gets nothing.
    pub draining: bool,
}

/// How to place.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// No worker holds more than `1 + epsilon` of its fair share in bytes.
    pub epsilon: f64,
    /// Virtual nodes per worker and ring: on average, to within a factor of two.
    pub points_per_worker: usize,
    /// Threads to use; 0 means as many as the machine has, at most 16. It has no influence on the result.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { epsilon: 0.05, points_per_worker: 4096, threads: 0 }
    }
}

/// Why there can be no placement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// More nodes than a placement can name.
    #[error("more than {NONE} nodes in one placement")]
    TooManyNodes,
    /// More segments than a placement can name.
    #[error("{0} segments in one placement (at most {max})", max = u32::MAX)]
    TooManySegments(usize),
    /// More rings than a placement can have.
    #[error("{0} rings (at most {MAX_RINGS}); lower MAXIMUM_ASSIGNMENTS")]
    TooManyRings(usize),
    /// The same node twice.
    #[error("worker {0} is given twice")]
    DuplicateWorker(NodeId),
    /// A margin that is no margin.
    #[error("epsilon {0} is not above 0")]
    BadEpsilon(String),
}

/// Where every segment's copies shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    rings: usize,
    nodes: Vec<NodeId>,
    assigned: Vec<u16>,
}

impl Placement {
    /// How many rings there are.
    pub fn rings(&self) -> usize {
        self.rings
    }

    /// Every node by the index that names it: those of the table, then the other workers.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// The nodes of a segment's copies by ring, as indexes into [`Self::nodes`]; [`NONE`] where there is no copy,
    /// since none is wanted or no worker is left for it.
    pub fn assigned(&self, segment: usize) -> &[u16] {
        &self.assigned[segment * self.rings..][..self.rings]
    }

    /// The same by name: ring and node of each copy.
    pub fn copies(&self, segment: usize) -> impl Iterator<Item = (usize, &NodeId)> {
        let named = self.assigned(segment).iter().enumerate().filter(|(_, node)| **node != NONE);
        named.map(|(ring, node)| (ring, &self.nodes[usize::from(*node)]))
    }
}

/// Places `segments` on `workers` with `rings` rings, the greatest number of copies.
///
/// # Errors
/// [`PlacementError`] if the input cannot be named or makes no sense. Too few workers, or none, is no error: then
/// there are fewer copies, or none.
pub fn plan(
    workers: &[Worker],
    rings: usize,
    segments: &SegmentTable,
    options: &Options,
) -> Result<Placement, PlacementError> {
    if rings > MAX_RINGS {
        return Err(PlacementError::TooManyRings(rings));
    }
    if u32::try_from(segments.len()).is_err() {
        return Err(PlacementError::TooManySegments(segments.len()));
    }
    if options.epsilon.is_nan() || options.epsilon <= 0.0 {
        return Err(PlacementError::BadEpsilon(options.epsilon.to_string()));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = workers.iter().find(|w| !seen.insert(&w.node)) {
        return Err(PlacementError::DuplicateWorker(twice.node.clone()));
    }
    let mut nodes = segments.nodes().to_vec();
    let others = workers.iter().filter(|w| segments.index_of(&w.node).is_none());
    nodes.extend(others.map(|w| w.node.clone()));
    // In the order of names, so that the order in which they are given decides nothing.
    nodes[segments.nodes().len()..].sort_unstable();
    if nodes.len() > usize::from(NONE) {
        return Err(PlacementError::TooManyNodes);
    }
    let assigned = planner::assign(workers, rings, segments, options, &nodes);
    Ok(Placement { rings, nodes, assigned })
}
