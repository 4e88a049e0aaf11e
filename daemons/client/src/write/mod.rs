//! The write client: provisions segments at the sync master, writes them on the workers that hold their locks, promotes, shreds, and
//! registers and describes schemas. Also the two old endpoints, for the shell: one SELECT, one SQL script.
//!
//! A write is sent again only if nothing of it can have been kept: the worker said `not_writable`, or the connection was never
//! made. Otherwise its fate is told as it is: unknown.

use std::time::{Duration, Instant};

use moka::sync::Cache;
use parking_lot::Mutex;
use trough_core::{ErrorCode, NodeId, SchemaId, SegmentError, SegmentId, Trace};

use crate::{
    catalog::{Catalog, CatalogError, Master},
    discovery::{Discovery, DiscoveryError},
    http::{self, HttpError, HttpOptions},
};

mod legacy;
mod master;
mod transact;

pub use legacy::JsonRows;
pub use master::{PromoteSet, Promoted, Promotions, Provisioned, ShredReport};

/// How to write.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// How long a call may take in all.
    pub timeout: Duration,
    /// The schema that new segments start from.
    pub schema: SchemaId,
    /// Segments in one request.
    pub segments_per_request: usize,
    /// Bytes in one request's body, about; one transaction is never cut.
    pub bytes_per_request: usize,
    /// Requests in flight.
    pub max_in_flight: usize,
    /// Goes with every request.
    pub trace: Option<Trace>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            schema: SchemaId::new("default").expect("a plain word is a schema id"),
            segments_per_request: 500,
            bytes_per_request: 4 << 20,
            max_in_flight: 16,
            trace: None,
        }
    }
}

/// Something that changes the cluster failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The database cannot be asked.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Who serves a segment cannot be found out.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// There is no living sync master.
    #[error("{what}: no sync master is elected{}", .last.as_ref().map(|l| format!(" (last tried: {l})")).unwrap_or_default())]
    NoMaster {
        /// The operation, as a verb phrase.
        what: &'static str,
        /// The last one that was tried, and why it did not do.
        last: Option<String>,
    },
    /// The sync master, or the worker behind it, refused or failed.
    #[error("{what} at {url}: {error}")]
    Refused {
        /// The operation, as a verb phrase.
        what: &'static str,
        /// Who was asked.
        url: String,
        /// What it said.
        error: SegmentError,
    },
    /// A segment failed.
    #[error("{what} segment {segment}{}: {error}", .node.as_ref().map(|n| format!(" on worker {n}")).unwrap_or_default())]
    Segment {
        /// The operation, as a verb phrase.
        what: &'static str,
        /// Which segment.
        segment: SegmentId,
        /// Who said so, where known.
        node: Option<NodeId>,
        /// Why.
        error: SegmentError,
    },
    /// The time given was too short.
    #[error("{what}: not done within {after:?}")]
    Deadline {
        /// The operation, as a verb phrase.
        what: &'static str,
        /// The time given.
        after: Duration,
    },
}

impl WriteError {
    /// A code to branch on.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Catalog(_) | Self::Discovery(_) | Self::NoMaster { .. } => ErrorCode::Unavailable,
            Self::Refused { error, .. } | Self::Segment { error, .. } => error.code,
            Self::Deadline { .. } => ErrorCode::Deadline,
        }
    }
}

/// Writes, provisions, promotes and shreds. Share one behind an `Arc`.
pub struct WriteClient {
    client: reqwest::Client,
    discovery: Discovery,
    options: WriteOptions,
    /// Base URL of the write port of the lock's holder, by segment.
    writers: Cache<SegmentId, std::sync::Arc<str>>,
    master: Mutex<Option<(Master, Instant)>>,
}

/// How long the master's address is kept without asking again.
const MASTER_AGE: Duration = Duration::from_secs(5);
/// How long a segment's writer is kept; a worker that lost the lock says so.
const WRITER_AGE: Duration = Duration::from_secs(600);

impl WriteClient {
    /// A write client.
    ///
    /// # Errors
    /// [`HttpError`] if the token or the CA certificates are unusable.
    pub fn new(discovery: Discovery, http: &HttpOptions, options: WriteOptions) -> Result<Self, HttpError> {
        let writers = Cache::builder().max_capacity(1_000_000).time_to_live(WRITER_AGE).build();
        Ok(Self { client: http::client(http)?, discovery, options, writers, master: Mutex::new(None) })
    }

    /// The same with other options; connections and what is known of writers are shared.
    pub fn with_options(&self, options: WriteOptions) -> Self {
        Self {
            client: self.client.clone(),
            discovery: self.discovery.clone(),
            options,
            writers: self.writers.clone(),
            master: Mutex::new(self.master.lock().clone()),
        }
    }

    /// The options given.
    pub fn options(&self) -> &WriteOptions {
        &self.options
    }

    /// The catalog underneath.
    pub fn catalog(&self) -> &Catalog {
        self.discovery.catalog()
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.options.timeout).unwrap_or(now)
    }

    fn late(&self, what: &'static str) -> WriteError {
        WriteError::Deadline { what, after: self.options.timeout }
    }
}

/// What is left until a deadline.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
