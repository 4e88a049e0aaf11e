//! What a query leaves out where its caller wants it: segments that fail by themselves, and named ones that do not exist.
//!
//! Only what concerns one segment alone can be left out. What would fail every segment (a statement that SQLite refuses, a token without
//! the role), what bounds the whole query (deadline, limits, cancellation), and a segment some of whose rows have been delivered end the query
//! whatever the caller wants.

use trough_core::{ErrorCode, SegmentId};

use super::{QueryError, QueryOptions};

/// How many segments are named.
const NAMED: usize = 10;

/// The segments that a query left out.
#[derive(Clone, Debug, Default)]
pub struct LeftOut {
    /// Segments that failed.
    pub failed: u64,
    /// The first of them, each with why.
    pub failures: Vec<(SegmentId, QueryError)>,
    /// Named segments that do not exist.
    pub unknown: u64,
    /// The first of them.
    pub unknown_ids: Vec<SegmentId>,
}

impl LeftOut {
    pub(super) fn fail(&mut self, segment: SegmentId, why: QueryError) {
        self.failed += 1;
        if self.failures.len() < NAMED {
            self.failures.push((segment, why));
        }
    }

    pub(super) fn unknown<'a>(&mut self, segments: impl IntoIterator<Item = &'a SegmentId>) {
        for segment in segments {
            self.unknown += 1;
            if self.unknown_ids.len() < NAMED {
                self.unknown_ids.push(segment.clone());
            }
        }
    }

    /// Takes in what another part of the query, or another run of it, left out. A segment that is named already is not counted again.
    pub fn add(&mut self, other: Self) {
        self.failed += other.failed;
        self.unknown += other.unknown;
        for (segment, why) in other.failures {
            if self.failures.iter().any(|(known, _)| *known == segment) {
                self.failed -= 1;
            } else if self.failures.len() < NAMED {
                self.failures.push((segment, why));
            }
        }
        for segment in other.unknown_ids {
            if self.unknown_ids.contains(&segment) {
                self.unknown -= 1;
            } else if self.unknown_ids.len() < NAMED {
                self.unknown_ids.push(segment);
            }
        }
    }
}

/// Whether a segment that failed so, for good and before any of its rows was delivered, is left out.
pub(super) fn may_skip(code: ErrorCode, options: &QueryOptions) -> bool {
    options.skip_failed && concerns_one(code)
}

/// Whether an error says something about one segment rather than about the query.
fn concerns_one(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownSegment
            | ErrorCode::Moved
            | ErrorCode::NoSuchTable
            | ErrorCode::NoSuchColumn
            | ErrorCode::TypeMismatch
            | ErrorCode::Corrupt
            | ErrorCode::DiskFull
            | ErrorCode::Io
            | ErrorCode::Unavailable
    )
}
