//! What a schema's script makes, told by SQLite itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{
    Connection,
    fallible_iterator::FallibleIterator,
    types::{Type, ValueRef},
};
use trough_core::{
    ErrorCode, SegmentError,
    describe::{DESCRIBE, DOUBTFUL, SchemaDescription, TableDescription},
};

use crate::{auth, conn, control::Control, errors, options::Limits, sql};

/// A schema's script may take so long.
const TIME: Duration = Duration::from_secs(30);

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

/// Asks SQLite; what it cannot describe is named with its reason.
fn tell(conn: &Connection) -> rusqlite::Result<SchemaDescription> {
    let mut description = SchemaDescription::default();
    let mut describe = conn.prepare(DESCRIBE)?;
    let mut of = |name: Option<&str>| -> rusqlite::Result<Vec<TableDescription>> {
        describe.query_and_then([name], |row| table(row.get_ref(0)?))?.collect()
    };
    for table in of(None)? {
        description.add(table);
    }
    let mut list = conn.prepare(DOUBTFUL)?;
    let mut doubtful = list.query([])?;
    while let Some(row) = doubtful.next()? {
        let name: String = row.get(0)?;
        match of(Some(&name)) {
            Ok(tables) => tables.into_iter().for_each(|table| description.add(table)),
            Err(e) => description.add_broken(name, errors::text(&e)),
        }
    }
    description.tables.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(description)
}

fn table(json: ValueRef<'_>) -> rusqlite::Result<TableDescription> {
    let failed = |e: serde_json::Error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(e));
    serde_json::from_slice(json.as_bytes()?).map_err(failed)
}

#[cfg(test)]
mod tests {
    use trough_core::describe::{ColumnDescription, TableKind};

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
            "create table f(id integer primary key, a text not null default 'x', b real, c text as (a || 'y'),
                            d int as (1) stored) strict;
             create table g(k text primary key, v) without rowid;
             create table h(id integer primary key desc);
             create view v as select a, b from f;
             create table gone(x);
             create view broken as select x from gone;
             drop table gone;
             create virtual table words using fts5(word);
             create index i on f(a);",
        )
        .expect("a sound schema");
        let column = |name: &str, declared: &str| ColumnDescription {
            name: name.into(),
            declared: declared.into(),
            ..ColumnDescription::default()
        };
        assert_eq!(told.tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["f", "g", "h", "words"]);
        let (f, g) = (&told.tables[0], &told.tables[1]);
        assert_eq!((f.kind, f.strict, f.without_rowid), (TableKind::Table, true, false));
        assert_eq!((g.strict, g.without_rowid, g.columns[0].not_null), (false, true, true));
        assert!(f.sql.to_lowercase().starts_with("create table f("));
        assert_eq!(
            f.columns,
            [
                ColumnDescription { primary_key: 1, rowid: true, ..column("id", "INTEGER") },
                ColumnDescription { not_null: true, default: Some("'x'".into()), ..column("a", "TEXT") },
                column("b", "REAL"),
                ColumnDescription { generated: true, computed: true, ..column("c", "TEXT") },
                ColumnDescription { generated: true, ..column("d", "INT") },
            ]
        );
        assert!(!told.tables[2].columns[0].rowid, "DESC makes no rowid");
        assert_eq!((told.tables[3].kind, told.tables[3].columns.len()), (TableKind::Virtual, 1));
        assert_eq!((told.views.len(), told.views[0].columns.len()), (1, 2));
        assert_eq!((told.broken.len(), told.broken[0].name.as_str()), (1, "broken"));
        assert_eq!(told.broken[0].error, "no such table: main.gone");
    }
}
