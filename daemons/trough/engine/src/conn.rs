//! Opening connections, with everything set that a client must not change.

use std::{path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, Result, config::DbConfig, limits::Limit};
use trough_core::{ErrorCode, SegmentError, SegmentId};

use crate::{
    aggregates, auth,
    control::Control,
    engine::{Mode, SegmentFile},
    errors, functions,
    options::{EngineOptions, Limits, SQLITE_CACHE_KIB},
    remote::{self, Link},
};

/// SQLite's machine asks after so many steps whether it should stop: some tens of microseconds.
const STEPS_BETWEEN_CHECKS: i32 = 1000;

/// What the engine may put around a client's text.
const OWN_SQL_BYTES: usize = 1024;

/// The longest pattern of LIKE and GLOB, in bytes: the work is the pattern's length times the text's, and cannot be interrupted.
const LIKE_PATTERN: i32 = 10_000;

/// How long a connection waits for a lock. Readers and the writer of a segment in WAL mode never wait for each other;
/// what is waited for is the change of a file into WAL mode and back.
pub(crate) const BUSY: Duration = Duration::from_secs(10);

/// The request that a connection works for at the moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Current(Arc<Mutex<Option<Arc<Control>>>>);

impl Current {
    /// Interrupts the connection's statements from now on when `control` says so.
    pub(crate) fn set(&self, control: Option<Arc<Control>>) {
        *self.0.lock() = control;
    }

    pub(crate) fn must_stop(&self) -> bool {
        self.0.lock().as_ref().is_some_and(|control| control.must_stop())
    }
}

/// What is the same on every connection: functions, limits, defences.
pub(crate) fn set_up(conn: &Connection, limits: &Limits) -> Result<()> {
    for (option, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
        // As in Python, whose clients may quote texts doubly; the new protocol's statements switch it off.
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, true),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, true),
        // As in Python, whose clients' scripts may insert in any order.
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false),
        // A connection that closes must never remove files by name: another file may lie there by then.
        (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
    ] {
        conn.set_db_config(option, on)?;
    }
    let clamp = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    conn.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, clamp(limits.max_sql_bytes + OWN_SQL_BYTES))?;
    conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, clamp(limits.max_value_bytes))?;
    conn.set_limit(Limit::SQLITE_LIMIT_EXPR_DEPTH, clamp(limits.max_expr_depth as usize))?;
    conn.set_limit(Limit::SQLITE_LIMIT_VARIABLE_NUMBER, clamp(limits.max_variables as usize))?;
    conn.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LIKE_PATTERN)?;
    conn.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    conn.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
    functions::register(conn)?;
    aggregates::register(conn)
}

/// Says whether `"text"` is a text where no column has that name, as the old endpoints' clients may write it. A change has SQLite
/// compile every kept statement anew, so it is made only where it is one.
pub(crate) fn take_quoted_names_for_texts(conn: &Connection, take: bool) -> Result<()> {
    if conn.db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML)? != take {
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, take)?;
    }
    Ok(())
}

/// Lets `current` interrupt the connection's statements.
pub(crate) fn watch(conn: &Connection, current: &Current) -> Result<()> {
    let watched = current.clone();
    conn.progress_handler(STEPS_BETWEEN_CHECKS, Some(move || watched.must_stop()))
}

/// A read-only connection to a segment's file, under the rules for reading.
pub(crate) fn open_reader(
    id: &SegmentId,
    path: &Path,
    mode: Mode,
    options: &EngineOptions,
    current: &Current,
) -> std::result::Result<Connection, SegmentError> {
    let opened = match mode {
        Mode::Immutable | Mode::Remote => open_immutable(path),
        Mode::Hot => {
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        }
    };
    let conn = opened.map_err(|e| explain(id, path, &e))?;
    prepare_reader(&conn, options, current).map_err(|e| explain(id, path, &e))?;
    Ok(conn)
}

/// A read-only connection to a remote file, under the rules for reading.
pub(crate) fn open_remote(
    id: &SegmentId,
    link: &Arc<Link>,
    options: &EngineOptions,
    current: &Current,
) -> std::result::Result<Connection, SegmentError> {
    let open = || {
        let conn = remote::connect(link)?;
        prepare_reader(&conn, options, current)?;
        Ok(conn)
    };
    open().map_err(|e| link.failure().map_or_else(|| errors::sqlite(id, &e), |failure| failure.of_segment(id)))
}

fn prepare_reader(conn: &Connection, options: &EngineOptions, current: &Current) -> Result<()> {
    set_up(conn, &options.limits)?;
    conn.busy_timeout(BUSY)?;
    if options.limits.cache_kib != SQLITE_CACHE_KIB {
        conn.pragma_update(None, "cache_size", -i64::from(options.limits.cache_kib))?;
    }
    watch(conn, current)?;
    conn.set_prepared_statement_cache_capacity(options.statements_per_handle);
    auth::guard_reads(conn)
}

/// A read-only connection to a file that nobody changes: no locks, nothing beside it.
pub(crate) fn open_immutable(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags_and_vfs(immutable_uri(path), flags, c"unix-none")
}

/// Whether what is in the file may not be all: its header says WAL, or a journal lies beside it.
pub(crate) fn has_log(path: &Path) -> bool {
    crate::files::is_wal(path) || crate::files::beside(path, "-journal").exists()
}

/// [`has_log`] of a file that must be sound as it lies there.
pub(crate) fn sound_and_logged(id: &SegmentId, path: &Path) -> std::result::Result<bool, SegmentError> {
    let header = crate::files::sound_header(id, path)?;
    Ok(header.wal || crate::files::beside(path, "-journal").exists())
}

/// Why a file cannot be read as immutable. SQLite would read it, without what may be in the log beside it.
pub(crate) fn wal_is_not_immutable(id: &SegmentId) -> SegmentError {
    let text = format!(
        "segment '{id}': its file is in WAL mode or has a journal beside it, and cannot be read as an immutable file; make it \
         whole with PRAGMA journal_mode = DELETE and put it into the canonical store again, by promotion or by a rename"
    );
    SegmentError::new(ErrorCode::Corrupt, text)
}

/// The path as a URI; what a URI gives a meaning to is percent-encoded.
fn immutable_uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    uri
}

/// An error of reading a segment, explained by what its file is.
pub(crate) fn explain_read(file: &SegmentFile, error: &rusqlite::Error) -> SegmentError {
    match file.mode {
        Mode::Remote => errors::sqlite(&file.id, error),
        Mode::Hot | Mode::Immutable => explain(&file.id, &file.path, error),
    }
}

/// An error of opening or first reading a file, explained by what the file is.
pub(crate) fn explain(id: &SegmentId, path: &Path, error: &rusqlite::Error) -> SegmentError {
    let plain = errors::sqlite(id, error);
    if !matches!(plain.code, ErrorCode::Io | ErrorCode::Corrupt) {
        return plain;
    }
    let Ok(meta) = std::fs::metadata(path) else {
        return crate::engine::not_here(id);
    };
    if meta.is_dir() {
        return SegmentError::new(ErrorCode::Io, format!("segment '{id}': a directory lies in the place of its file"));
    }
    match crate::files::header(path) {
        Err(why) if plain.code == ErrorCode::Corrupt => {
            SegmentError::new(ErrorCode::Corrupt, format!("segment '{id}': {why}"))
        }
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_add_to_the_uri() {
        let uri = immutable_uri(Path::new("/d a/x?mode=rw&y#z%20é.sqlite"));
        assert_eq!(uri, "file:/d%20a/x%3Fmode%3Drw%26y%23z%2520%C3%A9.sqlite?immutable=1");
    }
}
