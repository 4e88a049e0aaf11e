//! The database `rethinkdb`: read-only tables about the server itself, as drivers and tools ask for them.

use std::sync::{Arc, LazyLock};

use super::Exec;
use super::select::row;
use super::stream::{Source, Step};
use crate::datum::Datum;
use crate::error::{QueryError, Result};
use crate::store::catalog::{Database, Table};

/// Its name.
pub(crate) const DATABASE: &str = "rethinkdb";

/// What this server tells about itself.
pub(crate) struct About {
    pub(crate) server_id: String,
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) started: Datum,
    pub(crate) version: String,
}

impl Default for About {
    fn default() -> Self {
        About { server_id: String::new(), name: String::new(), port: 0, started: Datum::Null, version: String::new() }
    }
}

/// One of the tables.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    TableConfig,
    TableStatus,
    DbConfig,
    ServerConfig,
    ServerStatus,
    ClusterConfig,
    Users,
    /// A table that has no rows here.
    Empty,
}

const TABLES: &[(&str, Kind)] = &[
    ("cluster_config", Kind::ClusterConfig),
    ("current_issues", Kind::Empty),
    ("db_config", Kind::DbConfig),
    ("jobs", Kind::Empty),
    ("logs", Kind::Empty),
    ("permissions", Kind::Empty),
    ("server_config", Kind::ServerConfig),
    ("server_status", Kind::ServerStatus),
    ("stats", Kind::Empty),
    ("table_config", Kind::TableConfig),
    ("table_status", Kind::TableStatus),
    ("users", Kind::Users),
];

static SYSTEM: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let table = |(at, (name, _)): (usize, &(&str, Kind))| {
        let table = Table {
            num: -1 - at as i64,
            id: uuid::Uuid::nil().to_string(),
            database: DATABASE.into(),
            name: (*name).into(),
            primary_key: "id".into(),
            soft: false,
            shards: 1,
            indexes: Default::default(),
        };
        ((*name).to_owned(), Arc::new(table))
    };
    Arc::new(Database {
        id: uuid::Uuid::nil().to_string(),
        name: DATABASE.into(),
        tables: TABLES.iter().enumerate().map(table).collect(),
    })
});

pub(super) fn database() -> Arc<Database> {
    SYSTEM.clone()
}

pub(super) fn table(name: &str) -> Result<Arc<Table>> {
    SYSTEM
        .tables
        .get(name)
        .cloned()
        .ok_or_else(|| QueryError::op_failed(format!("Table `{DATABASE}.{name}` does not exist.")))
}

/// Which of the system's tables a table is.
pub(super) fn kind(table: &Table) -> Option<Kind> {
    if table.num >= 0 {
        return None;
    }
    TABLES.get(usize::try_from(-1 - table.num).ok()?).map(|table| table.1)
}

/// Fails for a table that cannot be written.
pub(super) fn refuse_write(table: &Table) -> Result<()> {
    match kind(table) {
        None => Ok(()),
        Some(_) => Err(QueryError::op_failed(format!(
            "Writing to `{}` is not supported by the embedded metadata server. A real RethinkDB has it.",
            table.full_name()
        ))),
    }
}

/// A row by its primary key.
pub(super) fn get(ex: &Exec, kind: Kind, key: &Datum) -> Result<Option<Datum>> {
    Ok(rows(ex, kind)?.into_iter().find(|row| row.field("id").is_ok_and(|id| id == *key)))
}

/// The rows of a table, made when the first is wanted.
pub(super) struct Rows {
    kind: Kind,
    rows: Option<std::collections::VecDeque<Datum>>,
}

impl Rows {
    pub(super) fn new(kind: Kind) -> Rows {
        Rows { kind, rows: None }
    }
}

impl Source for Rows {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        let rows = match &mut self.rows {
            Some(rows) => rows,
            None => self.rows.insert(rows(ex, self.kind)?.into()),
        };
        Ok(rows.pop_front().map_or(Step::End, Step::Item))
    }
}

fn rows(ex: &Exec, kind: Kind) -> Result<Vec<Datum>> {
    let about = &ex.query.about;
    let catalog = ex.catalog()?;
    let tables = || catalog.databases.values().flat_map(|database| database.tables.values());
    Ok(match kind {
        Kind::Empty => Vec::new(),
        Kind::TableConfig => tables().map(|table| table_config(about, table)).collect(),
        Kind::TableStatus => tables().map(|table| table_status(about, table)).collect(),
        Kind::DbConfig => catalog.databases.values().map(|database| db_config(database)).collect(),
        Kind::ServerConfig => vec![row(vec![
            ("id", about.server_id.as_str().into()),
            ("name", about.name.as_str().into()),
            ("tags", Datum::array(vec!["default".into()])),
            ("cache_size_mb", "auto".into()),
        ])],
        Kind::ServerStatus => vec![server_status(about)],
        Kind::ClusterConfig => {
            vec![row(vec![("id", "heartbeat".into()), ("heartbeat_timeout_secs", Datum::Num(10.0))])]
        }
        Kind::Users => vec![row(vec![("id", "admin".into()), ("password", false.into())])],
    })
}

fn server_status(about: &About) -> Datum {
    let address = row(vec![("host", "127.0.0.1".into()), ("port", Datum::Num(f64::from(about.port)))]);
    let network = row(vec![
        ("hostname", about.name.as_str().into()),
        ("reql_port", Datum::Num(f64::from(about.port))),
        ("canonical_addresses", Datum::array(vec![address])),
        ("connected_to", crate::datum::Object::default().into()),
        ("http_admin_port", Datum::Null),
        ("cluster_port", Datum::Null),
        ("time_connected", about.started.clone()),
    ]);
    let process = row(vec![
        ("argv", Datum::array(vec!["trough".into(), "meta".into()])),
        ("cache_size_mb", Datum::Num(32.0)),
        ("pid", Datum::Num(f64::from(std::process::id()))),
        ("time_started", about.started.clone()),
        ("version", about.version.as_str().into()),
    ]);
    row(vec![
        ("id", about.server_id.as_str().into()),
        ("name", about.name.as_str().into()),
        ("network", network),
        ("process", process),
    ])
}

/// A row of `db_config`.
pub(super) fn db_config(database: &Database) -> Datum {
    row(vec![("id", database.id.as_str().into()), ("name", database.name.as_str().into())])
}

/// A row of `table_config`.
pub(super) fn table_config(about: &About, table: &Table) -> Datum {
    let names = || Datum::array(vec![about.name.as_str().into()]);
    let shard = row(vec![
        ("nonvoting_replicas", Datum::array(vec![])),
        ("primary_replica", about.name.as_str().into()),
        ("replicas", names()),
    ]);
    row(vec![
        ("id", table.id.as_str().into()),
        ("name", table.name.as_str().into()),
        ("db", table.database.as_str().into()),
        ("primary_key", Datum::Str(table.primary_key.clone())),
        ("indexes", Datum::array(table.indexes.keys().map(|name| name.as_str().into()).collect())),
        ("shards", Datum::array(vec![shard; usize::try_from(table.shards).unwrap_or(1).clamp(1, 64)])),
        ("write_acks", "majority".into()),
        ("write_hook", Datum::Null),
        ("durability", if table.soft { "soft" } else { "hard" }.into()),
    ])
}

/// A row of `table_status`.
pub(super) fn table_status(about: &About, table: &Table) -> Datum {
    let replica = row(vec![("server", about.name.as_str().into()), ("state", "ready".into())]);
    let shard = row(vec![
        ("primary_replicas", Datum::array(vec![about.name.as_str().into()])),
        ("replicas", Datum::array(vec![replica])),
    ]);
    let status = row(vec![
        ("all_replicas_ready", true.into()),
        ("ready_for_outdated_reads", true.into()),
        ("ready_for_reads", true.into()),
        ("ready_for_writes", true.into()),
    ]);
    row(vec![
        ("id", table.id.as_str().into()),
        ("name", table.name.as_str().into()),
        ("db", table.database.as_str().into()),
        ("raft_leader", about.name.as_str().into()),
        ("shards", Datum::array(vec![shard; usize::try_from(table.shards).unwrap_or(1).clamp(1, 64)])),
        ("status", status),
    ])
}
