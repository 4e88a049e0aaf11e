//! Every operation on the database that the cluster shares (RethinkDB, or `trough meta`), typed.
//!
//! What is stored, table by table; everything else in the system is rebuilt from it. Documents that the Python trough
//! also reads keep its fields; ours stand beside them.
//!
//! | table | id | fields | rebuilt by |
//! |---|---|---|---|
//! | `services` | `trough-read:NODE:SEGMENT`, `trough-write:NODE:SEGMENT` | role, node, segment, url, port, ttl (1e12: the row lives as long as its node's lease), load, first_heartbeat, last_heartbeat, host, pid | the worker that serves, on start |
//! | `services` | `trough-nodes:NODE:None` | the node's lease: role, node, ttl, load, available_bytes, cold_storage, first_heartbeat, last_heartbeat, host, pid; ours: read_url, write_url, manage_url, zone, draining, stopping, protocol, version, used_bytes, segments, copying | the worker, every third of its ttl |
//! | `services` | `trough-sync-master` | the mastership: node, url, port, ttl, host, pid, load, first_heartbeat, last_heartbeat; ours: holder (a UUID per process), protocol | the elected sync server |
//! | `assignment` | `NODE:SEGMENT` | node, segment, hash_ring, assigned_on, remote_path, bytes; ours: mtime_ms, sha256, generation, epoch | the sync master, from the store's listing |
//! | `assignment` | `ring-assignments` | each hot worker's ring and weight, as the Python master reads them; those that it gave are kept | the sync master |
//! | `lock` | `write:lock:SEGMENT` | node, segment, acquired_on, under_promotion; ours: holder, fence, epoch | nothing: a lock is the only record of who may write |
//! | `schema` | schema id | sql | nothing |
//! | `trough` | `epoch` | epoch, holder: raised by one by each new master | nothing |
//! | `trough` | `generation` | generation, epoch: the plan that is in force | the sync master |
//! | `trough` | `drain:NODE` | node: an operator drains it | nothing |
//! | `trough` | `controls` | paused (since, reason), throttles, epoch: what an operator has set for the whole cluster | nothing |
//! | `trough` | `found` | epoch, shares (node, share): what each worker held of all bytes when a Python master's placement was taken over | nothing |
//! | `trough` | `shredded:SEGMENT` | segment, mtime_ms: copies up to that time were shredded | nothing |
//! | `trough` | `canonical:SEGMENT` | segment, bytes, mtime_ms, sha256: a promotion that no assignment has recorded yet | the sync master, from the store's listing |
//!
//! The table `trough` is ours alone, so that no Python reader ever meets a document that it does not know.
//!
//! Indexes: `services` by segment, role and node; `assignment` by segment and node; `lock` by node.
//!
//! Rules that hold for every statement in here: no more than [`MAX_KEYS`] keys in one; what can be large is a stream;
//! `errors` of a write is always looked at; locks, election, epoch and assignments are written with durability hard and
//! read with `majority`; a row that cannot be read (another version's) is skipped with a warning and never stops a stream.

use std::{borrow::Cow, pin::Pin};

use futures::{Stream, StreamExt};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value as Json, json, value::RawValue};
use trough_reql::{Client, Cursor, Expr, WriteSummary, r};

mod assignments;
mod controls;
mod documents;
mod election;
mod error;
mod locks;
mod lookups;
mod nodes;
mod schemas;
mod services;
mod shreds;
mod tables;
mod twins;

pub use assignments::{Assigned, Canonical, Generation};
pub use documents::{BACKED_UP, Document};
pub use election::{Candidate, Election, Master};
pub use error::{CatalogError, Result};
pub use locks::{LockOutcome, TAKEOVER_MARGIN};
pub use nodes::NodeStatus;
pub use services::{LiveService, segment_service};
pub use tables::TABLES;

/// The greatest number of keys in one statement: RethinkDB's cost grows with their square.
pub const MAX_KEYS: usize = 1_000;

/// The name of the table of service rows.
pub const SERVICES: &str = "services";
/// The name of the table of assignments.
pub const ASSIGNMENT: &str = "assignment";
/// The name of the table of write locks.
pub const LOCK: &str = "lock";
/// The name of the table of schemas.
pub const SCHEMA: &str = "schema";
/// The name of the table of our own documents.
pub const TROUGH: &str = "trough";

/// A stream of rows. Dropping it stops the query.
pub type Rows<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// One event of a followed table.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<T> {
    /// A document came, changed or went; `old` is none for initial and new ones, `new` for deleted ones.
    Row {
        /// The document before.
        old: Option<T>,
        /// The document now.
        new: Option<T>,
    },
    /// The initial documents have all been given.
    Ready,
}

/// The cluster's shared database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalog {
    client: Client,
}

impl Catalog {
    /// The catalog in the client's default database.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client underneath.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The server's clock, in seconds since 1970.
    ///
    /// # Errors
    /// [`CatalogError::Reql`] if the server cannot be asked.
    pub async fn server_now(&self) -> Result<f64> {
        let now: trough_core::records::Time =
            self.client.run_as(&r::now()).await.map_err(|e| CatalogError::reql("read the server's clock", e))?;
        Ok(now.epoch_time)
    }

    async fn read_vec<T: DeserializeOwned>(&self, what: &'static str, query: &Expr) -> Result<Vec<T>> {
        let cursor: Cursor<Box<RawValue>> = self.client.cursor(query).await.map_err(|e| CatalogError::reql(what, e))?;
        let mut rows = decode_rows(what, cursor);
        let mut all = Vec::new();
        while let Some(row) = rows.next().await {
            all.push(row?);
        }
        Ok(all)
    }

    async fn read_rows<T: DeserializeOwned + Send + 'static>(
        &self,
        what: &'static str,
        query: &Expr,
    ) -> Result<Rows<T>> {
        let cursor: Cursor<Box<RawValue>> = self.client.cursor(query).await.map_err(|e| CatalogError::reql(what, e))?;
        Ok(Box::pin(decode_rows(what, cursor)))
    }

    async fn read_one<T: DeserializeOwned>(&self, what: &'static str, query: &Expr) -> Result<Option<T>> {
        let row: Json = self.client.run(query).await.map_err(|e| CatalogError::reql(what, e))?;
        if row.is_null() {
            return Ok(None);
        }
        serde_json::from_value(row).map(Some).map_err(|e| CatalogError::Record { what, why: e.to_string() })
    }

    async fn write(&self, what: &'static str, query: &Expr) -> Result<WriteSummary> {
        self.client.write(query).await.map_err(|e| CatalogError::write(what, e))
    }

    async fn follow<T: DeserializeOwned + Send + 'static>(
        &self,
        what: &'static str,
        source: Expr,
    ) -> Result<Rows<Change<T>>> {
        let feed = source.changes().include_initial(true).include_states(true);
        let cursor: Cursor<Box<RawValue>> = self.client.feed(&feed).await.map_err(|e| CatalogError::reql(what, e))?;
        Ok(Box::pin(cursor.filter_map(move |item| {
            std::future::ready(match item {
                Err(e) => Some(Err(CatalogError::reql(what, e))),
                Ok(event) => decode_change(what, &event).transpose(),
            })
        })))
    }
}

/// A table read with `majority`, for what must not be stale.
fn majority(table: &str) -> Expr {
    r::table(table).opt("read_mode", "majority")
}

/// The rows whose primary keys are given, at most [`MAX_KEYS`] of them.
fn by_ids<'a>(table: Expr, ids: impl IntoIterator<Item = &'a str>) -> Expr {
    table.get_all(ids.into_iter().map(Expr::from))
}

/// What was read of the table `trough`; nothing where there is no such table: no sync server of ours has been here yet.
fn of_ours<T: Default>(read: Result<T>) -> Result<T> {
    match read {
        Err(CatalogError::Reql { source, .. }) if source.to_string().contains(".trough` does not exist") => {
            Ok(T::default())
        }
        read => read,
    }
}

/// A document whose fields are JSON, with fields that the server computes put over it.
fn document<const N: usize>(fields: Json, computed: [(&str, Expr); N]) -> Expr {
    r::expr(fields).merge(r::object(computed))
}

fn decode_rows<T: DeserializeOwned>(
    what: &'static str,
    cursor: Cursor<Box<RawValue>>,
) -> impl Stream<Item = Result<T>> {
    cursor.filter_map(move |item| {
        std::future::ready(match item {
            Err(e) => Some(Err(CatalogError::reql(what, e))),
            Ok(row) => decode_row(what, &row).map(Ok),
        })
    })
}

/// None for a row that is not ours to understand.
fn decode_row<T: DeserializeOwned>(what: &'static str, row: &RawValue) -> Option<T> {
    match serde_json::from_str(row.get()) {
        Ok(row) => Some(row),
        Err(error) => {
            // The Python master's `ring-assignments` has neither node nor segment and is expected.
            let row: Json = serde_json::from_str(row.get()).unwrap_or_default();
            if row.get("segment").is_some() || row.get("role").is_some() {
                let id = row.get("id").and_then(Json::as_str).unwrap_or("?");
                tracing::warn!(what, id, %error, "skipped a document that cannot be read");
            }
            None
        }
    }
}

/// An event of a feed, its documents not read yet.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(default, borrow)]
    old_val: Option<&'a RawValue>,
    #[serde(default, borrow)]
    new_val: Option<&'a RawValue>,
    #[serde(default, borrow)]
    state: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    error: Option<Cow<'a, str>>,
}

/// None for what is not ours to understand.
///
/// # Errors
/// [`CatalogError::FeedGap`] if the server could not keep every change for us.
fn decode_change<T: DeserializeOwned>(what: &'static str, event: &RawValue) -> Result<Option<Change<T>>> {
    let event: Event<'_> = match serde_json::from_str(event.get()) {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(what, %error, "skipped an event that cannot be read");
            return Ok(None);
        }
    };
    if let Some(state) = event.state {
        return Ok((state == "ready").then_some(Change::Ready));
    }
    if let Some(why) = event.error {
        return Err(CatalogError::FeedGap { what, why: why.into_owned() });
    }
    let side = |row: Option<&RawValue>| row.filter(|row| row.get() != "null").and_then(|row| decode_row(what, row));
    let (old, new) = (side(event.old_val), side(event.new_val));
    Ok((old.is_some() || new.is_some()).then_some(Change::Row { old, new }))
}

/// The `new_val`s (where there are, else the `old_val`s) of a write that returned its changes.
fn changed_rows<T: DeserializeOwned>(what: &'static str, summary: &WriteSummary) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    for change in summary.changes.iter().flatten() {
        let row = ["new_val", "old_val"].iter().filter_map(|side| change.get(side)).find(|row| !row.is_null());
        if let Some(row) = row {
            rows.push(T::deserialize(row).map_err(|e| CatalogError::Record { what, why: e.to_string() })?);
        }
    }
    Ok(rows)
}

/// The rows that a write with `return_changes` found there before.
fn before_change<T: DeserializeOwned>(what: &'static str, summary: &WriteSummary) -> Result<Vec<T>> {
    let changes = summary.changes.iter().flatten();
    let before = changes.filter_map(|change| change.get("old_val")).filter(|row| !row.is_null());
    before.map(|row| T::deserialize(row).map_err(|e| CatalogError::Record { what, why: e.to_string() })).collect()
}

fn to_json<T: serde::Serialize>(record: &T) -> Json {
    serde_json::to_value(record).unwrap_or_else(|e| json!({ "unserializable": e.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_changes_are_an_error() {
        let decode = |event: &str| {
            let raw = RawValue::from_string(event.to_owned()).expect("JSON");
            decode_change::<Assigned>("follow", &raw)
        };
        let gap = decode(r#"{"error":"Changefeed cache over array size limit, skipped 7 elements."}"#);
        assert!(gap.is_err_and(|e| e.is_retryable() && e.to_string().contains("skipped 7")));
        assert_eq!(decode(r#"{"state":"ready"}"#).ok(), Some(Some(Change::Ready)));
        assert_eq!(decode(r#"{"state":"initializing"}"#).ok(), Some(None));
        assert_eq!(decode(r#"{"new_val":{}}"#).ok(), Some(None), "the Python master's ring weights");
    }
}
