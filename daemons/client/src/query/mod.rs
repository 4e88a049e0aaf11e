//! The query client: one statement over any number of segments, grouped by worker, streamed, with retries on other copies.
//!
//! Exactly one copy of each segment is counted once. What makes it so: a request's rows are held back until its end record (as far as
//! they fit), so that a request that breaks is asked elsewhere as a whole; a segment that fails by itself has no part in a reduced
//! answer and is asked elsewhere alone; and where rows of a segment have been delivered before its request broke, the
//! query fails and says so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Duration,
};

use bytes::Bytes;
use trough_core::{SegmentId, Trace, Value};

use crate::{
    discovery::{Discovery, SegmentPattern},
    http::{self, HttpError, HttpOptions},
};

mod error;
mod exchange;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod plan;
mod python;
mod skip;
mod stream;

pub use error::QueryError;
pub use python::lacks_functions;
pub use skip::LeftOut;
pub use stream::{FanOutStats, QueryEvent, QueryStream};

/// What to ask of each segment, and of each worker.
#[derive(Clone, Debug, Default)]
pub struct QueryTemplate {
    /// One SQLite SELECT, run on each segment. `?1`, `?2`, … are `params`; `:segment` is the segment's id.
    pub map: String,
    /// One SQLite SELECT over the table `partial`, run per request (not per worker: its rows must be combined again).
    pub reduce: Option<String>,
    /// Bound to `map`.
    pub params: Vec<Value>,
    /// Bound to `reduce`.
    pub reduce_params: Vec<Value>,
    /// Whether `map` relies on texts that sort by their bytes in UTF-8.
    pub bytewise: bool,
    /// More rows than this in one request are an error.
    pub max_rows: Option<u64>,
    /// More bytes of rows than this in one request are an error.
    pub max_bytes: Option<u64>,
}

/// Which segments to ask.
#[derive(Clone, Debug)]
pub enum SegmentSet {
    /// These; each is asked once, however often it is named.
    Ids(Vec<SegmentId>),
    /// Those that fulfil a condition.
    Pattern(SegmentPattern),
}

/// How to ask.
#[derive(Clone, Debug)]
pub struct QueryOptions {
    /// How long the whole query may take, from the call on.
    pub timeout: Option<Duration>,
    /// Requests in flight in all; at least one per worker is sent whatever this says.
    pub max_in_flight: usize,
    /// Requests in flight per worker.
    pub per_worker: usize,
    /// Segments in one request without reduce.
    pub segments_per_request: usize,
    /// Segments in one request with reduce.
    pub segments_per_reduce: usize,
    /// Rows that are enough, whichever they are: a few segments are asked first, then more and more, and the query ends when
    /// so many rows were delivered.
    pub enough_rows: Option<u64>,
    /// Bytes of rows held back by all requests together, so that what breaks can be asked elsewhere.
    pub buffer_bytes: usize,
    /// How often a segment is asked before the query fails.
    pub attempts: u32,
    /// How long a worker may stay silent; it sends progress once a second while it works.
    pub stall: Duration,
    /// Whether a named segment that does not exist fails the query ([`QueryError::Unknown`]) or has no rows.
    pub unknown_is_error: bool,
    /// Whether a segment that fails by itself, on every copy and before any of its rows was delivered, has no rows instead of failing the
    /// query. [`QueryStream::left_out`] tells which.
    pub skip_failed: bool,
    /// Whether the end of each segment is told ([`QueryEvent::Done`]); a worker is then first asked for a few segments, then for more and
    /// more, so that the first ends come soon.
    pub tell_done: bool,
    /// Goes with every request, so that logs of PostgreSQL and of the workers can be brought together.
    pub trace: Option<Trace>,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            timeout: None,
            max_in_flight: 64,
            per_worker: 2,
            segments_per_request: 1_000,
            segments_per_reduce: 10_000,
            enough_rows: None,
            buffer_bytes: 64 << 20,
            attempts: 4,
            stall: Duration::from_secs(15),
            unknown_is_error: true,
            skip_failed: false,
            tell_done: false,
            trace: None,
        }
    }
}

/// Some rows.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Whose they are; none for rows of the reduce statement.
    pub segment: Option<SegmentId>,
    /// The names of the columns.
    pub columns: Arc<[String]>,
    /// How many rows.
    pub count: u32,
    /// `count × columns` MessagePack values, row after row. A text that is not UTF-8 is extension 1 with its bytes.
    pub data: Bytes,
}

/// Fans queries out. Cheap to clone.
#[derive(Clone)]
pub struct QueryClient {
    client: reqwest::Client,
    discovery: Discovery,
}

/// What all requests of one query share.
struct Shared {
    client: reqwest::Client,
    discovery: Discovery,
    template: QueryTemplate,
    options: QueryOptions,
    held_bytes: AtomicUsize,
    /// Segments done in requests that are under way, as far as the workers tell.
    progress: AtomicU64,
}

impl QueryClient {
    /// A query client over discovery.
    ///
    /// # Errors
    /// [`HttpError`] if the token or the CA certificates are unusable.
    pub fn new(discovery: Discovery, options: &HttpOptions) -> Result<Self, HttpError> {
        Ok(Self { client: http::client(options)?, discovery })
    }

    /// Where the segments are looked up.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// Asks the segments. Nothing is sent before the stream is first polled, no task is spawned, and dropping the stream drops its connections, at
    /// which the workers interrupt SQLite. Polled slowly, it makes the workers wait.
    pub fn fan_out(&self, segments: SegmentSet, template: QueryTemplate, mut options: QueryOptions) -> QueryStream {
        // What was listed and then shredded is no error: the caller never named it.
        options.unknown_is_error &= !matches!(&segments, SegmentSet::Pattern(pattern) if !pattern.is_named());
        let shared = Shared {
            client: self.client.clone(),
            discovery: self.discovery.clone(),
            template,
            options,
            held_bytes: AtomicUsize::new(0),
            progress: AtomicU64::new(0),
        };
        QueryStream::new(Arc::new(shared), segments)
    }
}
