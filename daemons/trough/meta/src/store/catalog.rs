//! Databases, tables and indexes: immutable snapshots in memory, rows in SQLite.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, params};
use trough_reql::proto::term_type as t;

use crate::datum::{Datum, json};
use crate::error::{QueryError, Result};
use crate::term::{Func, Term, compile};

/// Everything there is at one moment.
#[derive(Clone, Default)]
pub(crate) struct Catalog {
    pub(crate) databases: BTreeMap<String, Arc<Database>>,
}

/// A database.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) tables: BTreeMap<String, Arc<Table>>,
}

/// A table.
#[derive(Clone)]
pub(crate) struct Table {
    /// Its number in `documents`; never used again after a drop. Negative for tables of the system.
    pub(crate) num: i64,
    pub(crate) id: String,
    pub(crate) database: String,
    pub(crate) name: String,
    pub(crate) primary_key: Arc<str>,
    /// Whether writes that do not say otherwise may be answered before they are on disk.
    pub(crate) soft: bool,
    /// As asked for: one server holds it all.
    pub(crate) shards: i64,
    pub(crate) indexes: BTreeMap<String, Arc<Index>>,
}

/// A secondary index.
pub(crate) struct Index {
    /// Its number in `entries`; never used again after a drop.
    pub(crate) num: i64,
    pub(crate) name: String,
    pub(crate) function: Arc<Func>,
    /// The function's term as JSON.
    pub(crate) source: String,
    pub(crate) multi: bool,
}

impl Table {
    /// `database.table`, as messages name it.
    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }

    /// An index by name.
    pub(crate) fn index(&self, name: &str) -> Result<&Arc<Index>> {
        self.indexes.get(name).ok_or_else(|| {
            QueryError::op_failed(format!("Index `{name}` was not found on table `{}`.", self.full_name()))
        })
    }
}

impl Catalog {
    /// A database by name.
    pub(crate) fn database(&self, name: &str) -> Result<&Arc<Database>> {
        self.databases.get(name).ok_or_else(|| QueryError::op_failed(format!("Database `{name}` does not exist.")))
    }

    /// A table by name.
    pub(crate) fn table(&self, database: &str, name: &str) -> Result<&Arc<Table>> {
        self.database(database)?
            .tables
            .get(name)
            .ok_or_else(|| QueryError::op_failed(format!("Table `{database}.{name}` does not exist.")))
    }

    /// The present state of a table that was looked up earlier; an error if it has been dropped since.
    pub(crate) fn current(&self, table: &Table) -> Result<&Arc<Table>> {
        self.table(&table.database, &table.name).and_then(|found| {
            if found.num == table.num {
                Ok(found)
            } else {
                Err(QueryError::op_failed(format!("Table `{}` does not exist.", table.full_name())))
            }
        })
    }

    pub(crate) fn load(connection: &Connection) -> Result<Catalog> {
        let mut catalog = Catalog::default();
        let mut statement = connection.prepare("SELECT id, name FROM catalog_databases")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (id, name): (String, String) = (row.get(0)?, row.get(1)?);
            catalog.databases.insert(name.clone(), Arc::new(Database { id, name, tables: BTreeMap::new() }));
        }
        let mut statement = connection.prepare(
            "SELECT t.num, t.id, d.name, t.name, t.primary_key, t.soft, t.shards
             FROM catalog_tables t JOIN catalog_databases d ON d.id = t.database",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let mut table = Table {
                num: row.get(0)?,
                id: row.get(1)?,
                database: row.get(2)?,
                name: row.get(3)?,
                primary_key: row.get::<_, String>(4)?.into(),
                soft: row.get(5)?,
                shards: row.get(6)?,
                indexes: BTreeMap::new(),
            };
            table.indexes = load_indexes(connection, table.num)?;
            catalog.put_table(table);
        }
        Ok(catalog)
    }

    /// Puts a table in its database, in place of one of the same name.
    pub(crate) fn put_table(&mut self, table: Table) {
        if let Some(database) = self.databases.get_mut(&table.database) {
            Arc::make_mut(database).tables.insert(table.name.clone(), Arc::new(table));
        }
    }
}

fn load_indexes(connection: &Connection, table: i64) -> Result<BTreeMap<String, Arc<Index>>> {
    let mut indexes = BTreeMap::new();
    let mut statement =
        connection.prepare("SELECT num, name, function, multi FROM catalog_indexes WHERE table_num = ?1")?;
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let index = Index::new(row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)?;
        indexes.insert(index.name.clone(), Arc::new(index));
    }
    Ok(indexes)
}

impl Index {
    pub(crate) fn new(num: i64, name: String, source: String, multi: bool) -> Result<Index> {
        let parsed = json::parse(source.as_bytes(), json::Pseudo::Keep)
            .map_err(|error| QueryError::internal(format!("index `{name}`: {error}")))?;
        match compile(&parsed)? {
            Term::Func(function) => Ok(Index { num, name, function, source, multi }),
            _ => Err(QueryError::internal(format!("index `{name}` has no function"))),
        }
    }

    /// The source of the function of an index on one field.
    pub(crate) fn field_source(field: &str) -> Result<String> {
        let num = |number: u64| Datum::Num(number as f64);
        let call = |op: u64, args: Vec<Datum>| Datum::array(vec![num(op), Datum::array(args)]);
        let body = call(t::BRACKET, vec![call(t::VAR, vec![num(1)]), Datum::from(field)]);
        json::to_string(&call(t::FUNC, vec![call(t::MAKE_ARRAY, vec![num(1)]), body]))
    }
}

/// A new server has a database `test`, as RethinkDB does.
pub(crate) fn create_first_database(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .execute("INSERT INTO catalog_databases VALUES (?1, 'test')", params![uuid::Uuid::new_v4().to_string()])
        .map(|_| ())
}
