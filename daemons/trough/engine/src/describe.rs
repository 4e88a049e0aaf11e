//! What a schema's script makes, told by SQLite itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, fallible_iterator::FallibleIterator};
use serde::Serialize;
use trough_core::{ErrorCode, SegmentError};

use crate::{auth, conn, control::Control, errors, options::Limits, sql};

/// A schema's script may take so long.
const TIME: Duration = Duration::from_secs(30);

/// The tables and views of a schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SchemaDescription {
    /// Tables, by name.
    pub tables: Vec<Table>,
    /// Views, by name.
    pub views: Vec<View>,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, in order; hidden ones are left out.
    pub columns: Vec<Column>,
    /// Declared STRICT: every value has its column's type.
    pub strict: bool,
    /// Declared WITHOUT ROWID.
    pub without_rowid: bool,
    /// The statement that makes it.
    pub sql: String,
}

/// One view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// The statement that makes it.
    pub sql: String,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its declared type, as written; empty if there is none.
    #[serde(rename = "type")]
    pub declared: String,
    /// Declared NOT NULL (or part of a WITHOUT ROWID table's key).
    pub not_null: bool,
    /// Its place in the primary key, from 1; 0 if it is not in it.
    pub primary_key: u32,
    /// The default's SQL text.
    pub default: Option<String>,
    /// Computed by SQLite: it cannot be inserted.
    pub generated: bool,
}

/// Whether SQLite accepts a schema's script, run on an empty database. A blank script is accepted.
///
/// # Errors
/// SQLite's text, or that of the rules for writes.
pub fn validate(sql: &str) -> Result<(), String> {
    run_script(Connection::open_in_memory(), sql, &Limits::default()).map(drop).map_err(|e| e.message)
}

/// The tables and views that a schema's script makes.
///
/// # Errors
/// SQLite's text, if it does not accept the script.
pub fn describe(sql: &str) -> Result<SchemaDescription, String> {
    let conn = run_script(Connection::open_in_memory(), sql, &Limits::default()).map_err(|e| e.message)?;
    tell(&conn).map_err(|e| errors::text(&e))
}

/// Runs a schema's script on a new database, in one transaction.
pub(crate) fn run_script(
    opened: rusqlite::Result<Connection>,
    text: &str,
    limits: &Limits,
) -> Result<Connection, SegmentError> {
    sql::check_text(text, limits)?;
    let conn = opened.map_err(|e| errors::plain(&e))?;
    let control = Control::new(TIME, None, None);
    let started = Instant::now();
    let run = || -> rusqlite::Result<()> {
        conn::set_up(&conn, limits)?;
        conn.execute_batch("PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY")?;
        let current = conn::Current::default();
        current.set(Some(Arc::clone(&control)));
        conn::watch(&conn, &current)?;
        let trusted = auth::guard_writes(&conn)?;
        trusted.run(|| conn.execute_batch("BEGIN"))?;
        let mut batch = rusqlite::Batch::new(&conn, text);
        while let Some(mut statement) = batch.next()? {
            let mut rows = statement.raw_query();
            while rows.next()?.is_some() {}
        }
        trusted.run(|| conn.execute_batch("COMMIT"))?;
        current.set(None);
        Ok(())
    };
    match run() {
        Ok(()) => Ok(conn),
        Err(_) if started.elapsed() > TIME => {
            let text = format!("the script takes longer than {} s", TIME.as_secs());
            Err(SegmentError::new(ErrorCode::Deadline, text))
        }
        Err(e) => Err(errors::plain(&e)),
    }
}

fn tell(conn: &Connection) -> rusqlite::Result<SchemaDescription> {
    let mut description = SchemaDescription { tables: Vec::new(), views: Vec::new() };
    let mut list = conn.prepare(
        "SELECT l.name, l.type, l.wr, l.strict, coalesce(s.sql, '') FROM pragma_table_list AS l \
         LEFT JOIN sqlite_schema AS s ON s.name = l.name AND s.type IN ('table', 'view') \
         WHERE l.schema = 'main' AND l.type <> 'shadow' AND l.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY l.name",
    )?;
    let mut rows = list.query([])?;
    while let Some(row) = rows.next()? {
        let (name, kind, sql): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(4)?);
        let columns = columns(conn, &name)?;
        if kind == "view" {
            description.views.push(View { name, columns, sql });
        } else {
            let (without_rowid, strict) = (row.get(2)?, row.get(3)?);
            description.tables.push(Table { name, columns, strict, without_rowid, sql });
        }
    }
    Ok(description)
}

fn columns(conn: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut info = conn.prepare(
        "SELECT name, type, \"notnull\", pk, dflt_value, hidden FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid",
    )?;
    let columns = info.query_map([table], |row| {
        Ok(Column {
            name: row.get(0)?,
            declared: row.get(1)?,
            not_null: row.get(2)?,
            primary_key: row.get(3)?,
            default: row.get(4)?,
            generated: row.get::<_, i64>(5)? >= 2,
        })
    })?;
    columns.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_gives_sqlites_texts() {
        assert_eq!(validate(""), Ok(()));
        assert_eq!(validate("create table foo (id integer primary key, bar varchar(100));"), Ok(()));
        assert_eq!(validate("begin; create table a(x); commit;"), Ok(()));
        assert_eq!(validate("create create"), Err("near \"create\": syntax error".into()));
        assert_eq!(validate("select * from nosuch"), Err("no such table: nosuch".into()));
        assert!(validate("attach 'x' as y").is_err());
        assert!(validate("pragma journal_mode=wal").is_err());
        assert!(validate("create table t(a); rollback").is_err());
    }

    #[test]
    fn describes_tables_and_views() {
        let told = describe(
            "create table f(id integer primary key, a text not null default 'x', b real, c text as (a || 'y')) strict;
             create table g(k text primary key, v) without rowid;
             create view v as select a, b from f;
             create index i on f(a);",
        )
        .expect("a sound schema");
        let column = |name: &str, declared: &str, not_null, primary_key, default: Option<&str>, generated| Column {
            name: name.into(),
            declared: declared.into(),
            not_null,
            primary_key,
            default: default.map(str::to_owned),
            generated,
        };
        assert_eq!(told.tables.len(), 2);
        let (f, g) = (&told.tables[0], &told.tables[1]);
        assert_eq!((f.name.as_str(), f.strict, f.without_rowid), ("f", true, false));
        assert_eq!((g.name.as_str(), g.strict, g.without_rowid), ("g", false, true));
        assert!(f.sql.to_lowercase().starts_with("create table f("));
        assert_eq!(
            f.columns,
            [
                column("id", "INTEGER", false, 1, None, false),
                column("a", "TEXT", true, 0, Some("'x'"), false),
                column("b", "REAL", false, 0, None, false),
                column("c", "TEXT", false, 0, None, true),
            ]
        );
        assert_eq!(told.views.len(), 1);
        assert_eq!(told.views[0].columns.len(), 2);
    }
}
