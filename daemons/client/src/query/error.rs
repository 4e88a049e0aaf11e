//! What can go wrong with a query.

use std::time::Duration;

use trough_core::{ErrorCode, NodeId, SegmentError, SegmentId};

use crate::discovery::DiscoveryError;

/// A query that failed. After one, nothing more is delivered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// Who serves the segments cannot be found out.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// Segments that exist, but of which no copy lives now.
    #[error("segment {first}{}: no live worker serves it", and_more(*count))]
    Unserved {
        /// One of them.
        first: SegmentId,
        /// How many there are.
        count: usize,
    },
    /// Segments that do not exist (only where the caller wants to be told).
    #[error("segment {first}{}: there is no such segment", and_more(*count))]
    Unknown {
        /// One of them.
        first: SegmentId,
        /// How many there are.
        count: usize,
    },
    /// A segment failed for good, or on every copy that could be asked.
    #[error("segment {segment} on worker {node} ({url}): {error}")]
    Segment {
        /// Which segment.
        segment: SegmentId,
        /// Who said so.
        node: NodeId,
        /// Where.
        url: String,
        /// What it said.
        error: SegmentError,
    },
    /// A worker refused or failed a whole request.
    #[error("worker {node} ({url}), asked for segment {first}{}: {error}", and_more(*count))]
    Worker {
        /// Who.
        node: NodeId,
        /// Where.
        url: String,
        /// One of the segments that it was asked for.
        first: SegmentId,
        /// How many it was asked for.
        count: usize,
        /// What it said, or what was wrong with what it said.
        error: SegmentError,
    },
    /// The deadline passed.
    #[error("the query took longer than {after:?}; still at work: {waiting}")]
    Deadline {
        /// The deadline.
        after: Duration,
        /// Who had not answered.
        waiting: String,
    },
    /// The request cannot be written.
    #[error("write the request: {0}")]
    Encode(String),
}

impl QueryError {
    /// A code to branch on.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Discovery(_) | Self::Unserved { .. } => ErrorCode::Unavailable,
            Self::Unknown { .. } => ErrorCode::UnknownSegment,
            Self::Segment { error, .. } | Self::Worker { error, .. } => error.code,
            Self::Deadline { .. } => ErrorCode::Deadline,
            Self::Encode(_) => ErrorCode::BadRequest,
        }
    }

    /// The segment at fault, where there is one.
    pub fn segment(&self) -> Option<&SegmentId> {
        match self {
            Self::Unserved { first, .. } | Self::Unknown { first, .. } | Self::Worker { first, .. } => Some(first),
            Self::Segment { segment, .. } => Some(segment),
            _ => None,
        }
    }

    /// The worker at fault, where there is one.
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Segment { node, .. } | Self::Worker { node, .. } => Some(node),
            _ => None,
        }
    }
}

fn and_more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        n => format!(" and {} more", n - 1),
    }
}
