//! The engine's face: what a worker calls. The work itself is in the modules beside this one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use trough_core::{
    ErrorCode, SegmentError, SegmentId,
    wire::{QueryRequest, WriteResult, WriteStatement},
};

use crate::{
    cache::HandleCache,
    create, errors,
    files::{self, Snapshot},
    legacy,
    options::EngineOptions,
    pool::Pool,
    query,
    remote::RemoteStats,
    render::Format,
    report::{self, Dialect, OnEnd},
    stream::ByteStream,
    sync::Syncer,
    writer::{self, Writers},
};

/// How a segment's file may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The file may be written by this engine, and by nobody else. While no writer is open for it, it is read without
    /// locks all the same.
    Hot,
    /// Nobody writes the file in place; it is only ever replaced by rename. A file that needs a log to be whole is refused.
    Immutable,
    /// As `Immutable`, but the path is one of [`EngineOptions::remote`]'s store, which is read by ranges.
    Remote,
}

/// A segment's file, as the caller found it.
#[derive(Clone, Debug)]
pub struct SegmentFile {
    /// The segment.
    pub id: SegmentId,
    /// Where its file lies.
    pub path: Arc<Path>,
    /// How it may be read.
    pub mode: Mode,
}

impl SegmentFile {
    /// A segment's file.
    pub fn new(id: SegmentId, path: impl Into<Arc<Path>>, mode: Mode) -> Self {
        Self { id, path: path.into(), mode }
    }
}

/// Asked inside the write transaction, at its start and again right before its commit: an error rolls back this request alone and is
/// given to its client. It must answer at once, without waiting for anything.
pub type Guard = Box<dyn Fn() -> Result<(), SegmentError> + Send>;

/// Figures for `/metrics` and `/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct EngineStats {
    /// Read connections open, idle or at work.
    pub handles_open: u64,
    /// Read connections at work.
    pub handles_busy: u64,
    /// Requests for a connection that found an open one.
    pub handle_hits: u64,
    /// Requests for a connection that had to open one.
    pub handle_misses: u64,
    /// Connections closed to stay within the budget.
    pub handle_evictions: u64,
    /// Write connections open.
    pub writers_open: u64,
    /// Work that waits for a thread.
    pub queued: u64,
    /// Threads at work.
    pub running: u64,
    /// Threads that wait for a slow client.
    pub blocked: u64,
    /// Answers made on the calling thread.
    pub inline_reads: u64,
    /// Durable transactions committed.
    pub commits: u64,
    /// Write requests acknowledged in them.
    pub writes: u64,
    /// Reading segments where the store has them.
    pub remote: RemoteStats,
}

pub(crate) struct Inner {
    pub(crate) options: EngineOptions,
    pub(crate) cache: HandleCache,
    /// Requests for one segment.
    pub(crate) point: Pool,
    /// Requests over many segments.
    pub(crate) scan: Pool,
    /// Write transactions, and the care of files.
    pub(crate) write: Pool,
    pub(crate) writers: Writers,
    pub(crate) syncer: Syncer,
}

/// Everything SQLite on a worker. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine with threads of its own.
    ///
    /// Raises the process's limit of open files as far as it may, and keeps the budgets within it.
    pub fn new(mut options: EngineOptions) -> Self {
        options.fit_descriptors();
        options.bound_heap();
        let inner = Inner {
            cache: HandleCache::new(options.handle_budget),
            point: Pool::new("trough-point", options.point_threads),
            scan: Pool::new("trough-scan", options.threads),
            write: Pool::new("trough-write", options.write_threads),
            writers: Writers::new(options.writer_budget),
            syncer: Syncer::new(),
            options,
        };
        let inner = Arc::new(inner);
        writer::close_idle_from_time_to_time(&inner);
        Self { inner }
    }

    /// What the engine was built with.
    pub fn options(&self) -> &EngineOptions {
        &self.inner.options
    }

    /// The old read endpoint: one statement that writes nothing, rows as a JSON array of objects.
    /// Returns once the first bytes are there, so that a failure before them is an error of the call.
    ///
    /// # Errors
    /// Whatever SQLite, the authorizer or the limits object to; the texts of mistakes that the old trough knew are its
    /// own. A failure after the first bytes is an error item of the stream.
    pub async fn legacy_read(
        &self,
        segment: SegmentFile,
        sql: String,
        cancel: CancellationToken,
    ) -> Result<ByteStream, SegmentError> {
        self.legacy_read_told(segment, sql, cancel, None).await
    }

    /// [`Engine::legacy_read`], with `on_end` told what came of it.
    ///
    /// # Errors
    /// As there; `on_end` is told them too.
    pub async fn legacy_read_told(
        &self,
        segment: SegmentFile,
        sql: String,
        cancel: CancellationToken,
        on_end: Option<OnEnd>,
    ) -> Result<ByteStream, SegmentError> {
        legacy::read(&self.inner, segment, sql, cancel, on_end).await
    }

    /// `POST /v1/query`. `files` stands for `request.segments`, in the same order: what to read, or why it cannot be
    /// read. The stream never fails by itself: failures are in the answer, which ends with its end record or is broken off.
    /// Returns once the first bytes are there.
    pub async fn query(
        &self,
        files: Vec<Result<SegmentFile, SegmentError>>,
        request: QueryRequest,
        format: Format,
        cancel: CancellationToken,
    ) -> ByteStream {
        self.query_told(files, request, format, cancel, None).await
    }

    /// [`Engine::query`], with `on_end` told what came of it.
    pub async fn query_told(
        &self,
        files: Vec<Result<SegmentFile, SegmentError>>,
        request: QueryRequest,
        format: Format,
        cancel: CancellationToken,
        on_end: Option<OnEnd>,
    ) -> ByteStream {
        query::run(&self.inner, files, request, format, cancel, on_end).await
    }

    /// How SQLite would run a statement on a segment (EXPLAIN QUERY PLAN), a line a step; it is not run.
    ///
    /// # Errors
    /// What SQLite says to the statement.
    pub async fn plan(&self, segment: SegmentFile, sql: String, dialect: Dialect) -> Result<Vec<String>, SegmentError> {
        report::plan(&self.inner, segment, sql, dialect).await
    }

    /// The old write endpoint: an SQL script, in one durable transaction, all or nothing.
    ///
    /// `BEGIN`, `COMMIT` and `END` in the script do nothing, since it runs in one transaction anyway; `ROLLBACK` is refused;
    /// savepoints work.
    ///
    /// # Errors
    /// `No query provided.` for a blank script; else SQLite's, the authorizer's or the guard's. Nothing was kept.
    pub async fn write_script(&self, segment: SegmentFile, sql: String, guard: Guard) -> Result<(), SegmentError> {
        match writer::submit(&self.inner, segment, writer::Work::Script(sql), guard).await {
            WriteResult::Ok { .. } => Ok(()),
            WriteResult::Err { error } => Err(error),
        }
    }

    /// `POST /v1/write` for one segment: the statements in one durable transaction, all or nothing.
    pub async fn write(&self, segment: SegmentFile, statements: Vec<WriteStatement>, guard: Guard) -> WriteResult {
        writer::submit(&self.inner, segment, writer::Work::Statements(statements), guard).await
    }

    /// Creates a segment's file from a schema, durably; gives its length in bytes. An existing file is left as it is, and its
    /// length given.
    ///
    /// # Errors
    /// SQLite's objection to the schema, or the file system's.
    pub async fn create(&self, path: PathBuf, schema_sql: String) -> Result<u64, SegmentError> {
        let mut all = self.create_many(vec![path], schema_sql).await;
        all.pop().unwrap_or_else(|| Err(errors::pool_gone()))
    }

    /// [`Engine::create`] for many files of one schema, which share the cost of durability.
    pub async fn create_many(&self, paths: Vec<PathBuf>, schema_sql: String) -> Vec<Result<u64, SegmentError>> {
        let n = paths.len();
        let limits = self.inner.options.limits.clone();
        let done = self.run(move |_| Ok(create::create_many(&paths, &schema_sql, &limits))).await;
        done.unwrap_or_else(|e| vec![Err(e); n])
    }

    /// A consistent copy of all committed rows, made while writers go on: checked, fsynced, never with WAL in its header.
    ///
    /// # Errors
    /// [`ErrorCode::Corrupt`] if the copy fails its check, and the file system's.
    pub async fn snapshot(&self, segment: SegmentFile, dest: PathBuf) -> Result<Snapshot, SegmentError> {
        files::snapshot(&self.inner, segment, dest).await
    }

    /// Sets the local file's mtime to that of its promoted copy, unless it was written since `snapshot`. Gives whether it did.
    ///
    /// # Errors
    /// The file system's.
    pub async fn settle(&self, segment: SegmentFile, snapshot: Snapshot, mtime_ms: i64) -> Result<bool, SegmentError> {
        files::settle(&self.inner, segment, snapshot, mtime_ms).await
    }

    /// Ends writing to a segment: everything is moved into the database file, the writer closed, the header plain again,
    /// `-wal` and `-shm` gone. With readers at work the header may stay WAL; gives whether the file is plain now.
    /// Also the way to bring a file in order that a killed process left behind.
    ///
    /// # Errors
    /// SQLite's or the file system's.
    pub async fn seal(&self, segment: SegmentFile) -> Result<bool, SegmentError> {
        files::seal(&self.inner, segment).await
    }

    /// Closes all writers, after the writes that wait, and makes their files plain: the clean end of a worker. Writes that come
    /// later open them again.
    pub async fn close_writers(&self) {
        writer::close_all(&self.inner).await;
    }

    /// Renames `from` (same file system, complete and fsynced) over the segment's file, durably. Running queries finish on the old file, new
    /// ones open the new one.
    ///
    /// # Errors
    /// The file system's.
    pub async fn replace(&self, segment: SegmentFile, from: PathBuf) -> Result<(), SegmentError> {
        files::replace(&self.inner, segment, from).await
    }

    /// Deletes the segment's file and what belongs to it. Running queries finish on it.
    ///
    /// # Errors
    /// The file system's; a file that is gone already is none.
    pub async fn remove(&self, segment: SegmentFile) -> Result<(), SegmentError> {
        files::remove(&self.inner, segment).await
    }

    /// Whether a file is a whole, sound database: header, length, `PRAGMA quick_check`. An empty file is an empty
    /// database.
    ///
    /// # Errors
    /// [`ErrorCode::Corrupt`] with what is wrong.
    pub async fn check(&self, path: PathBuf) -> Result<(), SegmentError> {
        self.run(move |_| files::check(&path)).await
    }

    /// Whether SQLite accepts a schema's script, run on an empty database.
    ///
    /// # Errors
    /// SQLite's text.
    pub fn validate_schema(&self, sql: &str) -> Result<(), String> {
        crate::describe::validate(sql)
    }

    /// The tables and views that a schema's script makes.
    ///
    /// # Errors
    /// SQLite's text.
    pub fn describe_schema(&self, sql: &str) -> Result<trough_core::describe::SchemaDescription, String> {
        crate::describe::describe(sql)
    }

    /// Closes the segment's cached read connections; running queries keep theirs until they end.
    pub fn evict(&self, id: &SegmentId) {
        self.inner.cache.evict(id);
    }

    /// Whether a write connection is open for the segment.
    pub fn is_being_written(&self, id: &SegmentId) -> bool {
        self.inner.cache.is_written(id)
    }

    /// Figures for metrics.
    pub fn stats(&self) -> EngineStats {
        let mut stats = EngineStats::default();
        self.inner.cache.stats(&mut stats);
        self.inner.writers.stats(&mut stats);
        for pool in [&self.inner.point, &self.inner.scan, &self.inner.write] {
            pool.stats(&mut stats);
        }
        if let Some(remote) = &self.inner.options.remote {
            stats.remote = remote.shared.stats();
        }
        stats
    }

    /// Runs `work` on a thread that may wait for the disk.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Inner>) -> Result<T, SegmentError> + Send + 'static,
    ) -> Result<T, SegmentError> {
        run(&self.inner, work).await
    }
}

/// Runs `work` on a thread that may wait for the disk.
pub(crate) async fn run<T: Send + 'static>(
    inner: &Arc<Inner>,
    work: impl FnOnce(&Arc<Inner>) -> Result<T, SegmentError> + Send + 'static,
) -> Result<T, SegmentError> {
    let (tx, rx) = oneshot::channel();
    let engine = inner.clone();
    inner.write.submit(Box::new(move || {
        let _ = tx.send(work(&engine));
    }));
    rx.await.unwrap_or_else(|_| Err(errors::pool_gone()))
}

/// The path's state, for errors that name the segment and never the path.
pub(crate) fn not_here(id: &SegmentId) -> SegmentError {
    SegmentError::new(ErrorCode::UnknownSegment, format!("this node has no copy of segment '{id}'"))
}
