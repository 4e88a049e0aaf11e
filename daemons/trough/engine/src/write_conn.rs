//! A write connection: how it is opened, checkpointed and closed.
//!
//! The file is in WAL mode while it is written: one fsync of the log makes a commit durable, and neither readers nor the
//! writer wait for each other. The log's pages are moved into the file between commits, and only while nobody reads the file as
//! immutable.

use std::{
    cell::Cell,
    fs::File,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, OpenFlags, hooks::Wal};
use trough_core::{ErrorCode, SegmentError, SegmentId};

use crate::{
    auth::{self, Trusted},
    conn::{self, BUSY, Current},
    engine::{Inner, SegmentFile, not_here},
    errors,
    files::beside,
};

/// What the log's file may keep of its length once it was moved into the database.
const LOG_KEPT_BYTES: i64 = 16 << 20;

thread_local! {
    /// Pages in the log after the last commit on this thread.
    static LOG_PAGES: Cell<u32> = const { Cell::new(0) };
}

/// An open write connection.
pub(crate) struct WriteConn {
    pub(crate) conn: Connection,
    /// Suspends the rules for clients.
    pub(crate) trusted: Trusted,
    pub(crate) current: Current,
    path: Arc<Path>,
    file: (u64, u64),
    /// Whether SQLite syncs each commit itself.
    sync: Cell<bool>,
}

impl WriteConn {
    /// Opens the segment's file for writing and puts it into WAL mode, durably unless `sync` is false. From here on nothing
    /// reads it as immutable anew.
    pub(crate) fn open(inner: &Inner, file: &SegmentFile, sync: bool) -> Result<Self, SegmentError> {
        inner.cache.set_written(&file.id, true);
        Self::try_open(inner, file, sync).inspect_err(|_| inner.cache.set_written(&file.id, false))
    }

    fn try_open(inner: &Inner, file: &SegmentFile, sync: bool) -> Result<Self, SegmentError> {
        let id = &file.id;
        let (identity, length) = identity(id, &file.path)?;
        crate::files::refuse_stub(id, length)?;
        let explain = |e: rusqlite::Error| conn::explain(id, &file.path, &e);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&file.path, flags).map_err(explain)?;
        conn.busy_timeout(BUSY).map_err(explain)?;
        conn::set_up(&conn, &inner.options.limits).map_err(explain)?;
        set_wal(id, &file.path, &conn, sync)?;
        let current = Current::default();
        let set_up = || {
            conn.pragma_update(None, "synchronous", "FULL")?;
            conn.pragma_update(None, "journal_size_limit", LOG_KEPT_BYTES)?;
            conn.pragma_update(None, "cache_size", -i64::from(inner.options.limits.cache_kib))?;
            if inner.options.max_segment_pages > 0 {
                conn.pragma_update(None, "max_page_count", inner.options.max_segment_pages)?;
            }
            conn.wal_hook(Some(|_: &Wal, pages| {
                LOG_PAGES.set(u32::try_from(pages).unwrap_or(0));
                Ok(())
            }));
            conn.set_prepared_statement_cache_capacity(32);
            conn::watch(&conn, &current)?;
            auth::guard_writes(&conn)
        };
        let trusted = set_up().map_err(explain)?;
        Ok(Self { conn, trusted, current, path: file.path.clone(), file: identity, sync: Cell::new(true) })
    }

    /// Whether the file at the path is still the one that was opened.
    pub(crate) fn is_on(&self, file: &SegmentFile) -> bool {
        identity(&file.id, &file.path).is_ok_and(|(found, _)| found == self.file)
    }

    /// Whether a commit is durable when it is done.
    pub(crate) fn syncs(&self) -> bool {
        self.sync.get()
    }

    /// Whether SQLite is to sync each commit; if not, somebody else has to before it is acknowledged.
    pub(crate) fn set_sync(&self, sync: bool) -> rusqlite::Result<()> {
        if self.sync.get() != sync {
            let mode = if sync { "FULL" } else { "OFF" };
            self.trusted.run(|| self.conn.pragma_update(None, "synchronous", mode))?;
            self.sync.set(sync);
        }
        Ok(())
    }

    /// Runs one of the engine's own statements.
    pub(crate) fn own(&self, sql: &str) -> rusqlite::Result<()> {
        self.trusted.run(|| self.conn.prepare_cached(sql)?.raw_query().next().map(drop))
    }

    /// Moves the log into the file if it has grown, after a commit on this thread.
    pub(crate) fn checkpoint_if_due(&self, inner: &Inner, id: &SegmentId) {
        if LOG_PAGES.take() >= inner.options.checkpoint_pages && inner.cache.immutable_readers(id) == 0 {
            // What cannot be moved now is moved later: the commit is durable in the log.
            if let Err(e) = self.checkpoint("PASSIVE") {
                tracing::warn!(segment = %id, error = %e, "cannot checkpoint");
            }
        }
    }

    fn checkpoint(&self, mode: &str) -> rusqlite::Result<bool> {
        // The log must be durable before the file is changed, and the file before the log is.
        self.set_sync(true)?;
        self.trusted.run(|| {
            self.conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
                let (busy, log, moved): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(busy == 0 && log == moved)
            })
        })
    }

    /// Moves all that can be moved without waiting into the file; whether that was everything.
    pub(crate) fn checkpoint_now(&self, inner: &Inner, id: &SegmentId) -> Result<bool, SegmentError> {
        if inner.cache.immutable_readers(id) > 0 {
            return Ok(false);
        }
        let without_waiting = || {
            self.conn.busy_timeout(Duration::ZERO)?;
            let done = self.checkpoint("TRUNCATE");
            self.conn.busy_timeout(BUSY)?;
            done
        };
        without_waiting().map_err(|e| errors::sqlite(id, &e))
    }

    /// Closes the connection. What could not be moved into the file stays in the log, which the next connection reads.
    /// With `plain` the file's header is made plain too; gives whether that was possible (nobody reads it).
    ///
    /// The file keeps its mtime if nothing was moved into it, or gets `settled`, the mtime of the promoted copy that it equals.
    pub(crate) fn close(
        self,
        inner: &Inner,
        id: &SegmentId,
        settled: Option<SystemTime>,
        plain: bool,
    ) -> Result<bool, SegmentError> {
        let log = std::fs::metadata(beside(&self.path, "-wal")).map_or(0, |meta| meta.len());
        let before = std::fs::metadata(&self.path).and_then(|meta| meta.modified()).ok();
        let mtime = if log == 0 { settled.or(before) } else { settled };
        let path = self.path.clone();
        if plain {
            inner.cache.evict(id);
        }
        let done = self.checkpoint_now(inner, id).and_then(|whole| Ok(plain && whole && self.leave_wal(id)?));
        drop(self);
        inner.cache.set_written(id, false);
        if let Some(mtime) = mtime {
            let set = File::options().write(true).open(&path).and_then(|file| file.set_modified(mtime));
            set.map_err(|e| errors::io(&format!("segment '{id}': keep its mtime"), &e))?;
        }
        done
    }

    /// Makes the header plain, unless somebody reads the file.
    fn leave_wal(&self, id: &SegmentId) -> Result<bool, SegmentError> {
        let leave = || {
            self.conn.busy_timeout(Duration::ZERO)?;
            // Everything is in the file and synced, the log is empty: whichever header a crash leaves, the file is whole.
            self.conn.pragma_update(None, "synchronous", "OFF")?;
            self.conn.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0))
        };
        match self.trusted.run(leave) {
            Ok(mode) => Ok(mode == "delete"),
            Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(false),
            Err(e) => Err(errors::sqlite(id, &e)),
        }
    }
}

/// Which file lies at the path, and its length.
fn identity(id: &SegmentId, path: &Path) -> Result<((u64, u64), u64), SegmentError> {
    let meta = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => not_here(id),
        _ => errors::io(&format!("segment '{id}'"), &e),
    })?;
    Ok(((meta.dev(), meta.ino()), meta.len()))
}

fn sync(id: &SegmentId, path: &Path) -> Result<(), SegmentError> {
    File::open(path).and_then(|f| f.sync_all()).map_err(|e| errors::io(&format!("segment '{id}': sync"), &e))
}

/// Puts the file into WAL mode, durably.
fn set_wal(id: &SegmentId, path: &Path, conn: &Connection, durably: bool) -> Result<(), SegmentError> {
    let explain = |e: rusqlite::Error| conn::explain(id, path, &e);
    let mode: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(explain)?;
    if mode == "wal" {
        return Ok(());
    }
    // One page changes. It is synced here once instead of several times by SQLite; until then nothing was acknowledged.
    conn.pragma_update(None, "synchronous", "OFF").map_err(explain)?;
    let mode = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
    if mode.map_err(explain)? != "wal" {
        let text = format!("segment '{id}': its file cannot be opened for writing while it is being read; try again");
        return Err(SegmentError::new(ErrorCode::Unavailable, text));
    }
    if durably { sync(id, path) } else { Ok(()) }
}
