//! Functions that change a segment or a worker as a whole: `trough.write()`, `trough.drain()`; and how workers are:
//! `trough.worker_status()`.

use pgrx::{datum::TimestampWithTimeZone, iter::TableIterator, name, pg_extern, pg_sys};
use trough_core::{NodeId, SchemaId};

use crate::{
    cluster,
    errors::OrRaise,
    functions::{catalog_failure, invalid, segment_id, tier, timestamp},
    modify::transaction,
    runtime,
};

/// `trough.write(server, segment, sql, schema)`: a script of any SQLite statements in one transaction.
#[pg_extern(volatile, sql = false)]
fn trough_write(server: &str, segment: &str, sql: String, schema: &str) {
    // SAFETY: raises in a transaction that may only read.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"trough.write()".as_ptr()) };
    let cluster = cluster::by_name(server);
    let (segment, schema) = (segment_id(segment), SchemaId::new(schema).map_err(invalid).or_raise());
    let client = cluster.writer(&schema);
    let statement = transaction::begin_statement();
    let written = std::slice::from_ref(&segment);
    transaction::sending(statement, server, written);
    let id = segment.clone();
    match runtime::block_on(async move { client.write_script(&id, &sql).await }) {
        Ok(()) => transaction::sent(statement, server, written),
        Err(error) => {
            // The error says itself if it is not known whether the script was kept.
            transaction::told(statement);
            cluster::write_failure(server, &error).raise()
        }
    }
}

/// `trough.drain(server, node, drain)`: empties a worker, or takes that back.
#[pg_extern(volatile, sql = false)]
fn trough_drain(server: &str, node: &str, drain: bool) {
    // SAFETY: raises in a transaction that may only read.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"trough.drain()".as_ptr()) };
    let cluster = cluster::by_name(server);
    let (client, node) = (cluster.manager(), NodeId::new(node).map_err(invalid).or_raise());
    let done = runtime::block_on(async move { client.drain(&node, drain).await });
    done.map_err(|e| cluster::write_failure(server, &e)).or_raise();
}

/// `trough.worker_status(server)`
#[pg_extern(volatile, sql = false)]
#[allow(clippy::type_complexity)]
fn trough_worker_status(
    server: &str,
) -> TableIterator<
    'static,
    (
        name!(node, Option<String>),
        name!(tier, String),
        name!(alive, bool),
        name!(draining, bool),
        name!(segments, Option<i64>),
        name!(bytes, Option<i64>),
        name!(capacity, Option<i64>),
        name!(load, f64),
        name!(zone, Option<String>),
        name!(last_heartbeat, Option<TimestampWithTimeZone>),
    ),
> {
    let cluster = cluster::by_name(server);
    let catalog = cluster.catalog();
    let nodes = runtime::block_on(async move { catalog.nodes().await });
    let mut nodes = nodes.map_err(|e| catalog_failure(server, e)).or_raise();
    nodes.sort_by(|a, b| a.node().cmp(&b.node()));
    let rows = nodes.into_iter().map(|n| {
        let number = |n: Option<u64>| n.map(|n| n as i64);
        let s = &n.service;
        (
            n.node().map(ToString::to_string),
            tier(s.cold_storage == Some(true)),
            n.alive,
            s.draining,
            number(s.segments),
            number(s.used_bytes),
            number(s.available_bytes),
            s.load,
            s.zone.clone(),
            timestamp(s.last_heartbeat.as_ref()),
        )
    });
    TableIterator::new(rows.collect::<Vec<_>>())
}
