//! What can be set about the engine. Everything has a default that suits a small machine.

use std::time::Duration;

use rusqlite::Connection;

use crate::remote::Remote;

/// What one statement may use. A limit that is exceeded is an error, never a silent cut.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most rows one request may give back; 0 is no limit.
    pub max_rows: u64,
    /// The most bytes of rows one request may give back; 0 is no limit.
    pub max_bytes: u64,
    /// The longest SQL text, in bytes.
    pub max_sql_bytes: usize,
    /// The deepest expression.
    pub max_expr_depth: u32,
    /// The most bound parameters of one statement.
    pub max_variables: u32,
    /// The largest single text, blob or row, in bytes.
    pub max_value_bytes: usize,
    /// The most bytes that the rows of `map` may take in memory while they wait for `reduce`.
    pub max_partial_bytes: u64,
    /// How long a request without a deadline of its own may work; time spent waiting for a slow client is not counted.
    pub query_timeout: Duration,
    /// The page cache of one open connection, in KiB.
    pub cache_kib: u32,
}

/// SQLite's own page cache size; asking for it costs nothing.
pub(crate) const SQLITE_CACHE_KIB: u32 = 2000;

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_rows: 0,
            max_bytes: 0,
            max_sql_bytes: 1 << 20,
            max_expr_depth: 1000,
            max_variables: 32_766,
            max_value_bytes: 256 << 20,
            max_partial_bytes: 1 << 30,
            query_timeout: Duration::from_secs(300),
            cache_kib: SQLITE_CACHE_KIB,
        }
    }
}

/// How the engine is built.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Threads that run queries over many segments; the machine's processors by default.
    pub threads: usize,
    /// Threads that run requests for one segment; so that these never wait behind the former.
    pub point_threads: usize,
    /// Threads that run write transactions (they mostly wait for the disk).
    pub write_threads: usize,
    /// The most file descriptors that cached read connections may hold. A connection takes one to three.
    pub handle_budget: usize,
    /// The most write connections kept open while idle. One takes up to three descriptors.
    pub writer_budget: usize,
    /// A writer that was idle for so long is closed, and its file made plain if nobody reads it.
    pub writer_idle: Duration,
    /// Prepared statements kept per read connection.
    pub statements_per_handle: usize,
    /// What one statement may use.
    pub limits: Limits,
    /// The most requests that share one durable transaction.
    pub group_commit_requests: usize,
    /// A write-ahead log longer than this many pages is moved into the database file after a commit.
    pub checkpoint_pages: u32,
    /// The most pages of a database file that is written (`max_page_count`); 0 is SQLite's own limit.
    pub max_segment_pages: u32,
    /// Answer very quick statements on the calling thread when everything they need is already open.
    pub inline_reads: bool,
    /// The most bytes that SQLite may take in this process, page caches included; 0 is no limit. At the limit caches shrink, then
    /// statements fail.
    pub heap_limit: u64,
    /// Where segments of [`crate::Mode::Remote`] are read.
    pub remote: Option<Remote>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get());
        Self {
            threads,
            point_threads: threads.max(2),
            write_threads: (threads * 4).clamp(4, 32),
            handle_budget: 8192,
            writer_budget: 2048,
            writer_idle: Duration::from_secs(30),
            statements_per_handle: 8,
            limits: Limits::default(),
            group_commit_requests: 512,
            checkpoint_pages: 1000,
            max_segment_pages: 0,
            inline_reads: true,
            heap_limit: 0,
            remote: None,
        }
    }
}

impl EngineOptions {
    /// Sets SQLite's limit on its memory. It is one for the process.
    pub(crate) fn bound_heap(&self) {
        if self.heap_limit == 0 {
            return;
        }
        let bytes = i64::try_from(self.heap_limit).unwrap_or(i64::MAX);
        let set = Connection::open_in_memory().and_then(|conn| {
            conn.query_row(&format!("PRAGMA hard_heap_limit={bytes}"), [], |row| row.get::<_, i64>(0))
        });
        match set {
            // A limit can only be lowered by a pragma: another engine of this process may have set a lower one.
            Ok(limit) => tracing::debug!(limit, "SQLite's memory is bounded"),
            Err(error) => tracing::warn!(%error, "SQLite's memory cannot be bounded"),
        }
    }

    /// Raises the soft limit of open files to the hard one; read connections may take half of them, writers a quarter.
    pub(crate) fn fit_descriptors(&mut self) {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let most = maximum.unwrap_or(1 << 20).min(1 << 20);
        let mut have = current.unwrap_or(most);
        if have < most && setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }).is_ok() {
            have = most;
        }
        let have = usize::try_from(have).unwrap_or(usize::MAX);
        let (handles, writers) = (have / 2, have / 4 / 3);
        if self.handle_budget > handles || self.writer_budget > writers {
            tracing::info!(limit = have, handles, writers, "the limit of open files is below the budgets");
        }
        self.handle_budget = self.handle_budget.min(handles);
        self.writer_budget = self.writer_budget.min(writers);
    }
}
