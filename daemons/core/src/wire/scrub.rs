//! Scrubbing on demand: what is asked of a sync master and of workers, and what they answer, a JSON object a line.

use serde::{Deserialize, Serialize};

use crate::{NodeId, SegmentId};

/// A copy is not what it should be, and `check` forbids to repair it.
pub const DAMAGED: &str = "damaged";
/// A damaged copy was kept aside and fetched again.
pub const REPAIRED: &str = "repaired";
/// A damaged copy was kept aside, and could not be fetched again yet.
pub const NOT_REPAIRED: &str = "not_repaired";
/// A copy cannot be read.
pub const UNREADABLE: &str = "unreadable";
/// A worker cannot be asked.
pub const UNREACHABLE: &str = "unreachable";
/// The store has no canonical copy.
pub const STORE_MISSING: &str = "store_missing";
/// The canonical copy is of another length or time than its record says.
pub const STORE_DIFFERS: &str = "store_differs";
/// The canonical copy has another SHA-256 than a promotion recorded, or cannot be read whole.
pub const STORE_DAMAGED: &str = "store_damaged";
/// A damaged or missing canonical copy was replaced by a worker's good one.
pub const STORE_REPAIRED: &str = "store_repaired";

/// What to scrub, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScrubRequest {
    /// These segments alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<Vec<SegmentId>>,
    /// Segments whose ids this regular expression matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<String>,
    /// Copies of this worker alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Only report.
    #[serde(default)]
    pub check: bool,
    /// Read the canonical copies too.
    #[serde(default)]
    pub store: bool,
    /// Replace canonical copies that are damaged or missing by a worker's copy that has the recorded hash.
    #[serde(default)]
    pub repair_store: bool,
    /// Bytes a second that each worker (and the sync master, of the store) reads at most; 0: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<u64>,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScrubLine {
    /// Something that is not as it should be.
    Finding(Finding),
    /// How far it is.
    Progress(ScrubCounts),
    /// It is done; an answer without this line was cut off.
    End(ScrubCounts),
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Of which segment; none if of a whole worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<SegmentId>,
    /// Whose copy it is; none of the canonical one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// [`DAMAGED`] and the like.
    pub what: String,
    /// What was found, and what to do.
    pub detail: String,
}

/// Totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubCounts {
    /// Copies to look at, and canonical copies.
    pub total: u64,
    /// Those looked at.
    pub done: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Copies that were being written or replaced, and are looked at when they are promoted or fetched.
    pub skipped: u64,
    /// Copies of which no hash is recorded, read by SQLite instead; canonical ones of which only the length was compared.
    pub without_hash: u64,
    /// Damaged copies.
    pub damaged: u64,
    /// Those repaired.
    pub repaired: u64,
    /// Canonical copies that are damaged, missing or not as recorded.
    pub store_damaged: u64,
    /// Those repaired.
    pub store_repaired: u64,
    /// What could not be read or asked.
    pub failed: u64,
}

impl ScrubCounts {
    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.done += other.done;
        self.bytes += other.bytes;
        self.skipped += other.skipped;
        self.without_hash += other.without_hash;
        self.damaged += other.damaged;
        self.repaired += other.repaired;
        self.store_damaged += other.store_damaged;
        self.store_repaired += other.store_repaired;
        self.failed += other.failed;
    }
}
