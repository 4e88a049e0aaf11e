//! The one SQLite database: what is stored, and how it is read.
//!
//! Stored: databases, tables and index definitions (`catalog_*`), documents as JSON by table and encoded primary
//! key, index entries by index and encoded key. Held in memory and rebuilt at the start: the catalog with compiled
//! index functions. Readers use a small pool of connections for one short statement each; everything that writes goes
//! through one thread (`writer`), which commits what many clients want with one fsync.

pub(crate) mod catalog;
pub(crate) mod scan;
pub(crate) mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, OpenFlags};

use crate::error::{Error, QueryError, Result};
use crate::feed::Feeds;
use catalog::Catalog;
use writer::Writer;

/// The database's file in the directory.
const FILE: &str = "meta.sqlite";

/// The layout this version writes.
const FORMAT: i64 = 1;

/// Connections kept for reading between statements.
const IDLE_READERS: usize = 16;

const SCHEMA: &str = "
    CREATE TABLE facts(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE catalog_databases(id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE) WITHOUT ROWID;
    CREATE TABLE catalog_tables(
        num INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, database TEXT NOT NULL, name TEXT NOT NULL,
        primary_key TEXT NOT NULL, soft INTEGER NOT NULL, shards INTEGER NOT NULL, replicas INTEGER NOT NULL,
        UNIQUE(database, name));
    CREATE TABLE catalog_indexes(
        num INTEGER PRIMARY KEY AUTOINCREMENT, table_num INTEGER NOT NULL, name TEXT NOT NULL, function TEXT NOT NULL,
        multi INTEGER NOT NULL, UNIQUE(table_num, name));
    CREATE TABLE documents(
        table_num INTEGER NOT NULL, key BLOB NOT NULL, doc BLOB NOT NULL, PRIMARY KEY(table_num, key)) WITHOUT ROWID;
    CREATE TABLE entries(
        index_num INTEGER NOT NULL, entry BLOB NOT NULL, key BLOB NOT NULL, PRIMARY KEY(index_num, entry)
    ) WITHOUT ROWID;
    INSERT INTO facts VALUES ('format', 1), ('commit', 0);
";

/// The open database.
pub(crate) struct Store {
    path: PathBuf,
    readers: Mutex<Vec<Connection>>,
    catalog: RwLock<Arc<Catalog>>,
    writer: Writer,
    /// Who follows which table.
    pub(crate) feeds: Arc<Feeds>,
    /// This server's identity, kept for the directory's life.
    pub(crate) server_id: String,
    /// Keeps other processes out of the directory.
    _lock: File,
}

impl Store {
    /// Opens the directory's database, making both if they are not there, and starts the writer.
    pub(crate) fn open(dir: &Path) -> std::result::Result<(Arc<Store>, JoinHandle<()>), Error> {
        let directory = |source| Error::Directory { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(directory)?;
        let lock = File::create(dir.join("lock")).map_err(directory)?;
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => Error::Locked { path: dir.to_owned() },
            std::fs::TryLockError::Error(source) => directory(source),
        })?;
        let path = dir.join(FILE);
        let database = |message: String| Error::Database { path: path.clone(), message };
        let connection = prepare(&path).map_err(&database)?;
        // The names of new files must survive a power failure as their contents do.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(directory)?;
        let server_id = server_id(&connection).map_err(|error| database(error.to_string()))?;
        let catalog = Arc::new(Catalog::load(&connection).map_err(|error| database(error.to_string()))?);
        let feeds = Arc::new(Feeds::default());
        let (writer, receiver) = Writer::new();
        let store = Arc::new(Store {
            path,
            readers: Mutex::default(),
            catalog: RwLock::new(catalog),
            writer,
            feeds,
            server_id,
            _lock: lock,
        });
        let thread = writer::start(&store, connection, receiver).map_err(Error::Thread)?;
        Ok((store, thread))
    }

    /// Tables, databases and indexes as of the last commit.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().clone()
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Runs one short read. Must not be called on a thread that serves connections.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.readers.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => reader(&self.path)?,
        };
        let answer = read(&connection);
        let mut readers = self.readers.lock();
        if readers.len() < IDLE_READERS {
            readers.push(connection);
        }
        answer
    }
}

/// A connection that only reads.
fn reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -8000;")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Opens the writer's connection and makes the tables of a new database.
fn prepare(path: &Path) -> std::result::Result<Connection, String> {
    let open = || -> rusqlite::Result<(Connection, i64)> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -32000;
             PRAGMA wal_autocheckpoint = 4000; PRAGMA temp_store = MEMORY;",
        )?;
        connection.set_prepared_statement_cache_capacity(64);
        let made: bool =
            connection
                .query_row("SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'facts'", [], |row| row.get(0))?;
        if !made {
            connection.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT;"))?;
            catalog::create_first_database(&connection)?;
        }
        let format = connection.query_row("SELECT value FROM facts WHERE name = 'format'", [], |row| row.get(0))?;
        Ok((connection, format))
    };
    let (connection, format) = open().map_err(|error| error.to_string())?;
    if format > FORMAT {
        return Err(format!(
            "it has format {format}, written by a newer version; this one reads up to {FORMAT}: upgrade this program"
        ));
    }
    Ok(connection)
}

fn server_id(connection: &Connection) -> rusqlite::Result<String> {
    connection.execute("INSERT OR IGNORE INTO facts VALUES ('server_id', ?1)", [uuid::Uuid::new_v4().to_string()])?;
    connection.query_row("SELECT value FROM facts WHERE name = 'server_id'", [], |row| row.get(0))
}

/// The answer to everything once the writer has stopped.
pub(crate) fn stopped() -> QueryError {
    QueryError::op_failed("The server is shutting down.")
}
