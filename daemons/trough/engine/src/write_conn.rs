//! A write connection: how it is opened, checkpointed and closed.
//!
//! The file is in WAL mode while it is written: one fsync of the log makes a commit durable, and neither readers nor the
//! writer wait for each other. The log's pages are moved into the file between commits, and only while nobody reads the file as
//! immutable.

use std::{cell::Cell, fs::File, os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use rusqlite::{Connection, OpenFlags, hooks::Wal};
use trough_core::{ErrorCode, SegmentError, SegmentId};

use crate::{
    auth::{self, Trusted},
    conn::{self, BUSY, Current},
    engine::{Inner, SegmentFile, not_here},
    errors,
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
}

impl WriteConn {
    /// Opens the segment's file for writing and puts it into WAL mode. From here on nothing reads it as immutable anew.
    pub(crate) fn open(inner: &Inner, file: &SegmentFile) -> Result<Self, SegmentError> {
        inner.cache.set_written(&file.id, true);
        Self::try_open(inner, file).inspect_err(|_| inner.cache.set_written(&file.id, false))
    }

    fn try_open(inner: &Inner, file: &SegmentFile) -> Result<Self, SegmentError> {
        let id = &file.id;
        let identity = identity(id, &file.path)?;
        crate::files::refuse_stub(id, &file.path)?;
        let explain = |e: rusqlite::Error| conn::explain(id, &file.path, &e);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&file.path, flags).map_err(explain)?;
        conn.busy_timeout(BUSY).map_err(explain)?;
        conn::set_up(&conn, &inner.options.limits).map_err(explain)?;
        set_wal(id, &file.path, &conn)?;
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
        Ok(Self { conn, trusted, current, path: file.path.clone(), file: identity })
    }

    /// Whether the file at the path is still the one that was opened.
    pub(crate) fn is_on(&self, file: &SegmentFile) -> bool {
        identity(&file.id, &file.path).is_ok_and(|found| found == self.file)
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

    /// Closes the connection. What could not be moved stays in the log, which the next connection reads.
    pub(crate) fn close(self, inner: &Inner, id: &SegmentId) {
        if let Err(e) = self.checkpoint_now(inner, id) {
            tracing::warn!(segment = %id, error = %e, "cannot checkpoint before closing");
        }
        drop(self);
        inner.cache.set_written(id, false);
    }

    /// Closes the connection and makes the file's header plain; whether that was possible (nobody reads it).
    pub(crate) fn close_plain(self, inner: &Inner, id: &SegmentId) -> Result<bool, SegmentError> {
        inner.cache.evict(id);
        let whole = self.checkpoint_now(inner, id)?;
        let leave = || {
            self.conn.busy_timeout(Duration::ZERO)?;
            // Everything is in the file and synced; the one page that changes now is synced below.
            self.conn.pragma_update(None, "synchronous", "OFF")?;
            self.conn.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0))
        };
        let plain = if whole {
            match self.trusted.run(leave) {
                Ok(mode) => mode == "delete",
                Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => false,
                Err(e) => return Err(errors::sqlite(id, &e)),
            }
        } else {
            false
        };
        if plain {
            sync(id, &self.path)?;
        }
        drop(self);
        inner.cache.set_written(id, false);
        Ok(plain)
    }
}

fn identity(id: &SegmentId, path: &Path) -> Result<(u64, u64), SegmentError> {
    let meta = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => not_here(id),
        _ => errors::io(&format!("segment '{id}'"), &e),
    })?;
    Ok((meta.dev(), meta.ino()))
}

fn sync(id: &SegmentId, path: &Path) -> Result<(), SegmentError> {
    File::open(path).and_then(|f| f.sync_all()).map_err(|e| errors::io(&format!("segment '{id}': sync"), &e))
}

/// Puts the file into WAL mode, durably.
fn set_wal(id: &SegmentId, path: &Path, conn: &Connection) -> Result<(), SegmentError> {
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
    sync(id, path)
}
