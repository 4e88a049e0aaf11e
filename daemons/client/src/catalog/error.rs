//! What can go wrong with the catalog.

use trough_core::{NodeId, SchemaId, SegmentId};

/// The result of a catalog operation.
pub type Result<T> = std::result::Result<T, CatalogError>;

/// The text that our conflict functions raise when the stored epoch is newer; the client makes a type of it.
pub(super) const FENCED: &str = "fenced:";

/// A catalog operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The server cannot be asked, or refused.
    #[error("{what}: {source}")]
    Reql {
        /// The operation, as a verb phrase.
        what: &'static str,
        /// What the client says.
        source: trough_reql::Error,
    },
    /// A newer master has been at work: whoever asked must stop being one.
    #[error("{what}: {message}")]
    Fenced {
        /// The operation, as a verb phrase.
        what: &'static str,
        /// Both epochs and the record.
        message: String,
    },
    /// The caller is not (or no longer) the sync master.
    #[error("{what}: this process is not the sync master; {master} is")]
    NotMaster {
        /// The operation, as a verb phrase.
        what: &'static str,
        /// Who is, as far as known.
        master: String,
    },
    /// Another process changed the document in between.
    #[error("{what}: expected {expected}, found {found}")]
    Conflict {
        /// The operation, as a verb phrase.
        what: &'static str,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A document does not have the form that its table's documents have.
    #[error("{what}: a document cannot be read: {why}")]
    Record {
        /// The operation, as a verb phrase.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A followed table changed faster than its changes were taken, and some were lost: the feed must be begun anew.
    #[error("{what}: {why}")]
    FeedGap {
        /// The operation, as a verb phrase.
        what: &'static str,
        /// What the server says.
        why: String,
    },
    /// The segment's write lock is not the one that the caller holds.
    #[error("segment {segment}: the write lock is no longer held by node {node} under this fence")]
    LockLost {
        /// Which segment.
        segment: SegmentId,
        /// Who held it.
        node: NodeId,
    },
    /// No such schema is registered.
    #[error("schema {id} is not registered")]
    UnknownSchema {
        /// Its name.
        id: SchemaId,
    },
}

impl CatalogError {
    pub(super) fn reql(what: &'static str, source: trough_reql::Error) -> Self {
        let text = source.to_string();
        match text.find(FENCED) {
            Some(at) => Self::Fenced { what, message: text[at..].to_owned() },
            None => Self::Reql { what, source },
        }
    }

    pub(super) fn write(what: &'static str, source: trough_reql::Error) -> Self {
        Self::reql(what, source)
    }

    /// Whether the same call may succeed later without anything being repaired (the server is away).
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Reql { source, .. } => source.is_retryable(),
            Self::FeedGap { .. } => true,
            _ => false,
        }
    }

    /// Whether a newer master has been at work.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced { .. } | Self::NotMaster { .. })
    }
}
