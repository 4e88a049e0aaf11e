//! The last step of a merged query, where the answers of several workers come together: the table `partial` once more, in a
//! temporary file, so that memory is bounded whatever comes.

use rusqlite::types::ValueRef;
use trough_core::{ErrorCode, SegmentError, Value};

use crate::{
    auth,
    options::Limits,
    reduce::{self, Table},
};

/// SQLite's machine asks after so many steps whether it should stop.
const STEPS_BETWEEN_CHECKS: i32 = 1000;

/// The rows of several answers, and the statement that runs over all of them. The functions of workers' connections exist here too.
pub struct Combiner {
    table: Table,
    names: Vec<String>,
}

impl Combiner {
    /// An empty table `partial` with these columns.
    ///
    /// # Errors
    /// [`SegmentError`] if two columns have one name, or there is no room for a temporary file.
    pub fn new(names: &[String]) -> Result<Self, SegmentError> {
        let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
        // An empty name is SQLite's for a temporary file; it is written once the cache is full.
        let pragmas = "PRAGMA temp_store=FILE; PRAGMA cache_size=-32768";
        let table = Table::with_storage(pragmas, "", &borrowed, &Limits::default())?;
        Ok(Self { table, names: names.to_vec() })
    }

    /// Adds rows as they travel: MessagePack values, row after row. `names` are their columns.
    ///
    /// # Errors
    /// [`SegmentError`] if the columns are others than those of the table.
    pub fn add(&mut self, names: &[String], rows: &[u8]) -> Result<(), SegmentError> {
        if names.len() != self.names.len() {
            let text = format!("{} columns here, but {} elsewhere", names.len(), self.names.len());
            return Err(SegmentError::new(ErrorCode::TypeMismatch, text));
        }
        self.table.insert(rows).map_err(|e| reduce::failed("the table of rows", &e))
    }

    /// Runs one SELECT over the rows: `columns` gets the names, then `row` each row. It ends early when `stop` says so, or when either
    /// gives false.
    ///
    /// # Errors
    /// [`SegmentError`] with SQLite's text.
    pub fn select(
        &self,
        sql: &str,
        stop: impl Fn() -> bool + Send + 'static,
        columns: impl FnOnce(Vec<String>) -> bool,
        mut row: impl FnMut(Vec<Value>) -> bool,
    ) -> Result<(), SegmentError> {
        let run = || {
            let conn = &self.table.conn;
            conn.progress_handler(STEPS_BETWEEN_CHECKS, Some(stop))?;
            auth::guard_reads(conn)?;
            let mut statement = conn.prepare(sql)?;
            let width = statement.column_count();
            if !columns(statement.column_names().into_iter().map(str::to_owned).collect()) {
                return Ok(());
            }
            let mut rows = statement.query([])?;
            while let Some(found) = rows.next()? {
                let values = (0..width).map(|i| found.get_ref(i).map(owned)).collect::<rusqlite::Result<_>>()?;
                if !row(values) {
                    break;
                }
            }
            Ok(())
        };
        run().map_err(|e: rusqlite::Error| reduce::failed("the last step", &e))
    }
}

/// A value of its own. A text that is not UTF-8 has its bad bytes replaced.
fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => Value::Integer(n),
        ValueRef::Real(r) => Value::Real(r),
        ValueRef::Text(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;

    fn encoded(rows: &[(&str, i64)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (text, n) in rows {
            encode::value(ValueRef::Text(text.as_bytes()), &mut out);
            encode::value(ValueRef::Integer(*n), &mut out);
        }
        out
    }

    #[test]
    fn answers_come_together() {
        let names = ["k1".to_owned(), "a1".to_owned()];
        let mut all = Combiner::new(&names).expect("a table");
        all.add(&names, &encoded(&[("a", 1), ("b", 2)])).expect("rows");
        all.add(&names, &encoded(&[("a", 40)])).expect("rows");
        assert!(all.add(&names[..1], &[]).is_err());
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        let sql = "SELECT k1, sum(a1) AS n FROM partial WHERE k1 REGEXP '^[ab]$' GROUP BY k1 ORDER BY n DESC";
        let keep = |names| {
            columns = names;
            true
        };
        all.select(
            sql,
            || false,
            keep,
            |row| {
                rows.push(row);
                true
            },
        )
        .expect("runs");
        assert_eq!(columns, ["k1", "n"]);
        let row = |text: &str, n| vec![Value::Text(text.into()), Value::Integer(n)];
        assert_eq!(rows, [row("a", 41), row("b", 2)]);
    }

    #[test]
    fn the_last_step_reads_only_and_can_be_stopped() {
        let names = ["n".to_owned()];
        let all = Combiner::new(&names).expect("a table");
        let select = |sql: &str, stop: bool| all.select(sql, move || stop, |_| true, |_| true);
        assert!(select("DELETE FROM partial", false).is_err());
        let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";
        assert!(select(endless, true).is_err());
        assert!(Combiner::new(&["a".to_owned(), "a".to_owned()]).is_err());
    }
}
