//! Running one reading statement on one connection, its rows in MessagePack.

use rusqlite::{CachedStatement, Connection, ToSql, types::ToSqlOutput, types::ValueRef};
use trough_core::{ErrorCode, SegmentError, SegmentId, Value};

use crate::{cache::Lease, conn, encode, engine::SegmentFile, options::EngineOptions};

/// Set before a statement of the new protocol, so that a statement that was prepared under the old endpoint's rules (which
/// take `"text"` for a text) is never taken from the cache for it.
const STRICT_MARK: &str = "/*v1*/";

/// A statement of the new protocol, ready to be prepared and bound on any segment.
#[derive(Debug)]
pub(crate) struct Query {
    sql: String,
    params: Vec<Value>,
    /// The parameter's number that is the segment's id, if the text uses it.
    segment: Option<usize>,
    /// Whether it relies on texts in UTF-8, by whose bytes SQLite then sorts.
    bytewise: bool,
}

/// Whether a connection's database holds its texts in UTF-8.
const IN_UTF8: &str = "SELECT CAST('a' AS BLOB) = x'61'";

impl Query {
    pub(crate) fn new(sql: &str, params: Vec<Value>) -> Self {
        match crate::sql::number_segment_parameter(sql, params.len()) {
            Some((sql, number)) => {
                Self { sql: format!("{STRICT_MARK}{sql}"), params, segment: Some(number), bytewise: false }
            }
            None => Self { sql: format!("{STRICT_MARK}{sql}"), params, segment: None, bytewise: false },
        }
    }

    /// The statement, as it came.
    pub(crate) fn sql(&self) -> &str {
        self.sql.strip_prefix(STRICT_MARK).unwrap_or(&self.sql)
    }

    /// Says whether it relies on texts in UTF-8.
    pub(crate) fn bytewise(self, bytewise: bool) -> Self {
        Self { bytewise, ..self }
    }

    /// Prepares and binds the statement.
    pub(crate) fn prepare<'c>(
        &self,
        conn: &'c Connection,
        id: Option<&SegmentId>,
    ) -> Result<CachedStatement<'c>, Failure> {
        conn::take_quoted_names_for_texts(conn, false)?;
        let mut statement = conn.prepare_cached(&self.sql)?;
        check_reads(&statement)?;
        if self.bytewise {
            check_encoding(conn, id)?;
        }
        let given = self.params.len();
        let wanted = self.segment.map_or(statement.parameter_count(), |number| number - 1);
        if wanted > given {
            let text = format!("the statement has {wanted} parameters, but {given} values were given");
            return Err(Failure::Ours(SegmentError::new(ErrorCode::BadRequest, text)));
        }
        for (i, value) in self.params.iter().enumerate().take(statement.parameter_count()) {
            statement.raw_bind_parameter(i + 1, Bound(value))?;
        }
        if let (Some(number), Some(id)) = (self.segment, id) {
            statement.raw_bind_parameter(number, id.as_str())?;
        }
        Ok(statement)
    }
}

/// Refuses a database in UTF-16, of which SQLite reads the encoding with the first statement over its tables.
fn check_encoding(conn: &Connection, id: Option<&SegmentId>) -> Result<(), Failure> {
    if conn.prepare_cached(IN_UTF8)?.query_row([], |row| row.get(0))? {
        return Ok(());
    }
    let text = format!(
        "segment '{}' holds its texts in UTF-16, whose order in SQLite is not the one that the query relies on: rewrite it \
         in UTF-8 (dump it into a new database), or query it without pushdown (pg_trough.pushdown = off)",
        id.map_or("", SegmentId::as_str)
    );
    Err(Failure::Ours(SegmentError::new(ErrorCode::TypeMismatch, text)))
}

/// Refuses what the authorizer lets pass but is no reading statement.
pub(crate) fn check_reads(statement: &CachedStatement<'_>) -> Result<(), Failure> {
    if !statement.readonly() {
        let text = "only statements that read are allowed here";
        return Err(Failure::Ours(SegmentError::new(ErrorCode::Forbidden, text)));
    }
    if statement.column_count() == 0 {
        return Err(Failure::Ours(SegmentError::new(ErrorCode::BadSql, "the statement gives no rows")));
    }
    Ok(())
}

/// Why a statement failed: SQLite's reason, or one of ours.
#[derive(Debug)]
pub(crate) enum Failure {
    /// SQLite's.
    Sqlite(rusqlite::Error),
    /// Ours.
    Ours(SegmentError),
}

impl From<rusqlite::Error> for Failure {
    fn from(e: rusqlite::Error) -> Self {
        Self::Sqlite(e)
    }
}

impl From<SegmentError> for Failure {
    fn from(e: SegmentError) -> Self {
        Self::Ours(e)
    }
}

impl Failure {
    /// Whether the file itself could not be read.
    pub(crate) fn is_of_file(&self) -> bool {
        use rusqlite::ErrorCode::{CannotOpen, DatabaseCorrupt, NotADatabase, SystemIoFailure};
        let code = match self {
            Self::Sqlite(e) => e.sqlite_error_code(),
            Self::Ours(_) => None,
        };
        matches!(code, Some(CannotOpen | DatabaseCorrupt | NotADatabase | SystemIoFailure))
    }
}

/// What to do after the file could not be read.
pub(crate) enum Verdict {
    /// Open it anew and try once more.
    Again(Failure),
    /// It would fail again.
    Failed(Failure),
}

/// Judges a failure of reading through a connection, which is closed if its file may be bad. An old connection's file may have
/// been replaced; a mount or a server may have lost it for a moment (ESTALE, EIO).
pub(crate) fn judge(lease: &mut Lease<'_>, file: &SegmentFile, options: &EngineOptions, failure: Failure) -> Verdict {
    if !failure.is_of_file() {
        return Verdict::Failed(failure);
    }
    lease.discard();
    if let (Some(link), Some(remote)) = (lease.link(), &options.remote) {
        let told = link.failure();
        if told.as_ref().is_none_or(|error| error.reopen) {
            remote.shared.drop_file(&link.file);
        }
        return match told {
            Some(error) if error.reopen => Verdict::Again(Failure::Ours(error.of_segment(&file.id))),
            Some(error) => Verdict::Failed(Failure::Ours(error.of_segment(&file.id))),
            // What was read is no sound database: perhaps it was replaced in place.
            None => Verdict::Again(failure),
        };
    }
    let of_disk = matches!(&failure, Failure::Sqlite(e) if matches!(e.sqlite_error_code(),
        Some(rusqlite::ErrorCode::SystemIoFailure | rusqlite::ErrorCode::CannotOpen)));
    if lease.reused || of_disk { Verdict::Again(failure) } else { Verdict::Failed(failure) }
}

/// A value to bind.
pub(crate) struct Bound<'a>(pub(crate) &'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(n) => ValueRef::Integer(*n),
            Value::Real(r) => ValueRef::Real(*r),
            Value::Text(t) => ValueRef::Text(t.as_bytes()),
            Value::Blob(b) => ValueRef::Blob(b),
        }))
    }
}

/// The head of a rows frame, whose count and length are filled in when they are known.
pub(crate) struct RowsFrame {
    start: usize,
    count: u32,
}

/// Bytes of the head's end: the count and the length, both in four bytes.
const COUNT_AND_LENGTH: usize = 10;

impl RowsFrame {
    pub(crate) fn open(segment: Option<u32>, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(&[0x94, 1]);
        match segment {
            None => out.push(0xc0),
            Some(i) => encode::value(ValueRef::Integer(i.into()), out),
        }
        out.extend_from_slice(&[0xce, 0, 0, 0, 0, 0xc6, 0, 0, 0, 0]);
        Self { start: out.len(), count: 0 }
    }

    pub(crate) fn row(&mut self) {
        self.count += 1;
    }

    /// Fills the head in; gives rows and bytes.
    pub(crate) fn close(self, out: &mut [u8]) -> (u64, u64) {
        // A frame is closed long before four gigabytes.
        let bytes = (out.len() - self.start) as u32;
        let head = &mut out[self.start - COUNT_AND_LENGTH..self.start];
        head[1..5].copy_from_slice(&self.count.to_be_bytes());
        head[6..10].copy_from_slice(&bytes.to_be_bytes());
        (self.count.into(), bytes.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    fn table() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn::set_up(&conn, &crate::options::Limits::default()).unwrap();
        conn.execute_batch("CREATE TABLE t(a); INSERT INTO t VALUES (1), (2), (3)").unwrap();
        conn
    }

    #[test]
    fn a_kept_statement_is_not_compiled_anew() {
        let conn = table();
        let params = vec![Value::Integer(2), Value::Integer(1)];
        let query = Query::new("SELECT :segment, a FROM t WHERE a >= ?1 ORDER BY a DESC LIMIT +?2", params);
        for id in ["a", "b", "c"] {
            let mut statement = query.prepare(&conn, Some(&SegmentId::new(id).unwrap())).unwrap();
            {
                let mut rows = statement.raw_query();
                let row = rows.next().unwrap().unwrap();
                assert_eq!((row.get::<_, String>(0).unwrap().as_str(), row.get::<_, i64>(1).unwrap()), (id, 3));
                assert!(rows.next().unwrap().is_none());
            }
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{id}");
        }
    }

    #[test]
    fn quoted_names_are_texts_for_old_statements_only() {
        let conn = table();
        let sql = "SELECT \"nosuch\" FROM t";
        for _ in 0..2 {
            conn::take_quoted_names_for_texts(&conn, true).unwrap();
            let old = conn.prepare_cached(sql).unwrap().query_row([], |row| row.get::<_, String>(0));
            assert_eq!(old.unwrap(), "nosuch");
            assert!(matches!(Query::new(sql, Vec::new()).prepare(&conn, None), Err(Failure::Sqlite(_))));
        }
    }
}
