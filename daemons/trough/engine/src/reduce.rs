//! The table `partial`, in memory: the rows that map made on all segments, and the statement that runs over them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, ToSql, types::ToSqlOutput, types::ValueRef};
use trough_core::{ErrorCode, SegmentError};

use crate::{
    auth, conn,
    encode::{self, Decoded},
    errors,
    options::Limits,
    output::Output,
    query::Run,
    statement::{Failure, Query},
};

/// Rows of one INSERT: enough that binding, not stepping, is what takes the time.
const ROWS_AT_ONCE: usize = 16;

/// The rows that wait for the reduce statement.
pub(crate) struct Partial {
    reduce: Query,
    limits: Limits,
    /// How many columns the map has; 0 until the first segment told.
    width: AtomicUsize,
    bytes: AtomicU64,
    table: Mutex<Option<Table>>,
}

pub(crate) struct Table {
    pub(crate) conn: Connection,
    pub(crate) width: usize,
    one: String,
    many: String,
}

/// SQLite's objection to the statements that the engine itself makes around the client's.
pub(crate) fn failed(what: &str, error: &rusqlite::Error) -> SegmentError {
    let code = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::OutOfMemory | rusqlite::ErrorCode::TooBig | rusqlite::ErrorCode::DiskFull) => {
            ErrorCode::Limit
        }
        _ => ErrorCode::BadSql,
    };
    SegmentError::new(code, format!("{what}: {}", errors::text(error)))
}

impl Partial {
    pub(crate) fn new(reduce: Query, limits: Limits) -> Self {
        let (width, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { reduce, limits, width, bytes, table: Mutex::new(None) }
    }

    /// The number of columns of a segment's map, which must be that of all others; the first makes the table.
    pub(crate) fn columns(&self, statement: &rusqlite::Statement<'_>) -> Result<usize, SegmentError> {
        let columns = statement.column_count();
        let mut width = self.width.load(Ordering::Acquire);
        if width == 0 {
            let mut table = self.table.lock();
            width = match &*table {
                Some(table) => table.width,
                None => {
                    *table = Some(Table::new(&statement.column_names(), &self.limits)?);
                    columns
                }
            };
            self.width.store(width, Ordering::Release);
        }
        if columns == width {
            return Ok(columns);
        }
        let text = format!("map gives {columns} columns here, but {width} on other segments");
        Err(SegmentError::new(ErrorCode::TypeMismatch, text))
    }

    /// Whether so many bytes more may be kept.
    pub(crate) fn check_room(&self, more: u64) -> Result<(), SegmentError> {
        let most = self.limits.max_partial_bytes;
        if self.bytes.load(Ordering::Relaxed) + more > most {
            let text = format!("the rows that map made for reduce exceed {most} bytes");
            return Err(SegmentError::new(ErrorCode::ByteLimit, text));
        }
        Ok(())
    }

    /// Moves encoded rows into the table.
    pub(crate) fn insert(&self, rows: &mut Vec<u8>) -> Result<(), SegmentError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.check_room(rows.len() as u64)?;
        self.bytes.fetch_add(rows.len() as u64, Ordering::Relaxed);
        let guard = self.table.lock();
        let table = guard.as_ref().expect("the first segment's columns made the table before its rows");
        table.insert(rows).map_err(|e| failed("the table of map's rows", &e))?;
        drop(guard);
        rows.clear();
        Ok(())
    }

    /// Runs the reduce statement into the answer. Without a segment that answered there is no table, and nothing to
    /// reduce.
    pub(crate) fn reduce(&self, run: &Run, output: &mut Output) -> Result<(), SegmentError> {
        let guard = self.table.lock();
        let Some(table) = guard.as_ref() else { return Ok(()) };
        let result = table.reduce(&self.reduce, run, output);
        result.map_err(|failure| match failure {
            Failure::Ours(e) => e,
            Failure::Sqlite(e) => {
                if let Some(reason) = run.control.stop_reason() {
                    return reason;
                }
                failed("reduce", &e)
            }
        })
    }
}

impl Table {
    fn new(names: &[&str], limits: &Limits) -> Result<Self, SegmentError> {
        Self::with_storage("PRAGMA temp_store=MEMORY", ":memory:", names, limits)
    }

    /// The table in a database of its own at `path`, with `pragmas`.
    pub(crate) fn with_storage(
        pragmas: &str,
        path: &str,
        names: &[&str],
        limits: &Limits,
    ) -> Result<Self, SegmentError> {
        let quoted: Vec<String> = names.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
        let make = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let conn = Connection::open_with_flags(path, flags)?;
            conn::set_up(&conn, limits)?;
            // Names may be anything; without a type a column keeps every value as it is.
            conn.execute_batch(&format!(
                "PRAGMA page_size=32768; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {pragmas}; \
                 CREATE TABLE partial({}); BEGIN",
                quoted.join(",")
            ))?;
            Ok(conn)
        };
        let conn = make().map_err(|e| match errors::text(&e) {
            text if text.starts_with("duplicate column name") => {
                let text = format!("map: {text}: name each column apart (AS), since reduce knows them by name");
                SegmentError::new(ErrorCode::BadRequest, text)
            }
            _ => failed("the table of map's rows", &e),
        })?;
        let width = names.len();
        let row = format!("({})", vec!["?"; width].join(","));
        let at_once = ROWS_AT_ONCE.min(limits.max_variables as usize / width.max(1)).max(1);
        let insert = |rows: usize| format!("INSERT INTO partial VALUES {}", vec![row.as_str(); rows].join(","));
        Ok(Self { conn, width, one: insert(1), many: insert(at_once) })
    }

    pub(crate) fn insert(&self, rows: &[u8]) -> rusqlite::Result<()> {
        let mut rest = rows;
        let mut many = self.conn.prepare_cached(&self.many)?;
        let mut values = Vec::with_capacity(many.parameter_count());
        while !rest.is_empty() {
            values.clear();
            while values.len() < many.parameter_count() {
                match encode::decode(&mut rest) {
                    Some(value) => values.push(value),
                    None => break,
                }
            }
            if values.len() == many.parameter_count() {
                for (i, value) in values.iter().enumerate() {
                    many.raw_bind_parameter(i + 1, *value)?;
                }
                many.raw_execute()?;
            }
        }
        if values.len() < many.parameter_count() {
            let mut one = self.conn.prepare_cached(&self.one)?;
            for row in values.chunks_exact(self.width) {
                for (i, value) in row.iter().enumerate() {
                    one.raw_bind_parameter(i + 1, *value)?;
                }
                one.raw_execute()?;
            }
        }
        Ok(())
    }

    fn reduce(&self, reduce: &Query, run: &Run, output: &mut Output) -> Result<(), Failure> {
        let current = conn::Current::default();
        current.set(Some(run.control.clone()));
        conn::watch(&self.conn, &current)?;
        auth::guard_reads(&self.conn)?;
        let mut statement = reduce.prepare(&self.conn, None)?;
        let mut sent = false;
        run.stream_statement(None, &mut statement, output, &mut sent)
    }
}

impl ToSql for Decoded<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Decoded::Value(value) => *value,
            Decoded::InvalidText(bytes) => ValueRef::Text(bytes),
        }))
    }
}
