//! The functions of the schema `trough`. sql/ declares them; docs/SQL.md describes them.

use std::{collections::HashMap, rc::Rc};

use futures::TryStreamExt;
use pgrx::{
    JsonB, PgSqlErrorCode,
    datum::TimestampWithTimeZone,
    iter::{SetOfIterator, TableIterator},
    name, pg_extern, pg_sys,
};
use serde_json::{Map, Value as Json};
use trough_client::{
    Batch, CatalogError, QueryTemplate, SegmentPattern, SegmentSet, WriteError,
    catalog::NodeStatus,
    write::{PromoteSet, Promoted},
};
use trough_core::{NodeId, SchemaId, SegmentId, records::Time};

use crate::{
    cluster::{self, Cluster, Rows},
    decode::{Item, Reader},
    errors::{Failure, OrRaise, of_segment, sqlstate},
    plandata::Wanted,
    runtime,
    table::{Limits, OnFault},
};

pub(crate) fn catalog_failure(server: &str, error: CatalogError) -> Failure {
    cluster::write_failure(server, &WriteError::from(error))
}

pub(crate) fn invalid(why: impl std::fmt::Display) -> Failure {
    Failure::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, why.to_string())
}

pub(crate) fn segment_id(id: &str) -> SegmentId {
    SegmentId::new(id).map_err(invalid).or_raise()
}

fn pattern(matching: Option<&str>) -> SegmentPattern {
    match matching {
        None => SegmentPattern::All,
        Some(regex) => SegmentPattern::regex(regex).map_err(invalid).or_raise(),
    }
}

/// Microseconds between 1970 and 2000.
const EPOCH_2000_US: i64 = 946_684_800_000_000;

pub(crate) fn timestamp(time: Option<&Time>) -> Option<TimestampWithTimeZone> {
    let us = (time?.epoch_time * 1e6).round() as i64 - EPOCH_2000_US;
    TimestampWithTimeZone::try_from(us).ok()
}

pub(crate) fn tier(cold: bool) -> String {
    if cold { "cold" } else { "hot" }.to_owned()
}

fn by_node(nodes: Vec<NodeStatus>) -> HashMap<NodeId, NodeStatus> {
    nodes.into_iter().filter_map(|n| Some((n.node()?.clone(), n))).collect()
}

/// `trough.segments(server, matching)`
#[pg_extern(volatile, sql = false)]
#[allow(clippy::type_complexity)]
fn trough_segments(
    server: &str,
    matching: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(segment, String),
        name!(node, Option<String>),
        name!(tier, String),
        name!(url, Option<String>),
        name!(healthy, bool),
        name!(bytes, Option<i64>),
        name!(last_heartbeat, Option<TimestampWithTimeZone>),
    ),
> {
    let cluster = cluster::by_name(server);
    let (catalog, pattern) = (cluster.catalog(), pattern(matching));
    let read = runtime::block_on(async move {
        let nodes = by_node(catalog.nodes().await?);
        let now = catalog.server_now().await?;
        let mut bytes = HashMap::new();
        let mut assignments = catalog.all_assignments().await?;
        while let Some(a) = assignments.try_next().await? {
            if pattern.matches(a.segment.as_str()) {
                bytes.insert(a.segment, a.bytes as i64);
            }
        }
        let mut rows = Vec::new();
        let mut services = catalog.stream_read_services(None).await?;
        while let Some(s) = services.try_next().await? {
            let Some(segment) = s.segment.clone().filter(|id| pattern.matches(id.as_str())) else { continue };
            let node = s.node.as_ref().and_then(|n| nodes.get(n));
            let fresh = s.last_heartbeat.as_ref().is_some_and(|t| now - t.epoch_time < s.ttl);
            rows.push((
                segment.to_string(),
                s.node.as_ref().map(ToString::to_string),
                tier(node.is_some_and(|n| n.service.cold_storage == Some(true))),
                s.url.clone(),
                fresh && node.is_some_and(|n| n.alive),
                bytes.get(&segment).copied(),
                timestamp(node.and_then(|n| n.service.last_heartbeat.as_ref()).or(s.last_heartbeat.as_ref())),
            ));
        }
        rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        Ok(rows)
    });
    TableIterator::new(read.map_err(|e| catalog_failure(server, e)).or_raise())
}

/// `trough.workers(server)`
#[pg_extern(volatile, sql = false)]
#[allow(clippy::type_complexity)]
fn trough_workers(
    server: &str,
) -> TableIterator<
    'static,
    (
        name!(node, Option<String>),
        name!(tier, String),
        name!(ring, String),
        name!(zone, Option<String>),
        name!(bytes, Option<i64>),
        name!(capacity, Option<i64>),
        name!(load, f64),
        name!(last_heartbeat, Option<TimestampWithTimeZone>),
        name!(alive, bool),
    ),
> {
    let cluster = cluster::by_name(server);
    let catalog = cluster.catalog();
    let nodes = runtime::block_on(async move { catalog.nodes().await });
    let mut nodes = nodes.map_err(|e| catalog_failure(server, e)).or_raise();
    nodes.sort_by(|a, b| a.node().cmp(&b.node()));
    TableIterator::new(
        nodes
            .into_iter()
            .map(|n| {
                let cold = n.service.cold_storage == Some(true);
                (
                    n.node().map(ToString::to_string),
                    tier(cold),
                    if cold { "cold" } else { "all" }.to_owned(),
                    n.service.zone.clone(),
                    n.service.used_bytes.map(|b| b as i64),
                    n.service.available_bytes.map(|b| b as i64),
                    n.service.load,
                    timestamp(n.service.last_heartbeat.as_ref()),
                    n.alive,
                )
            })
            .collect::<Vec<_>>(),
    )
}

/// `trough.assignments(server)`
#[pg_extern(volatile, sql = false)]
#[allow(clippy::type_complexity)]
fn trough_assignments(
    server: &str,
) -> TableIterator<
    'static,
    (
        name!(segment, String),
        name!(node, String),
        name!(hash_ring, String),
        name!(remote_path, String),
        name!(bytes, i64),
        name!(assigned_on, Option<TimestampWithTimeZone>),
        name!(mtime, Option<TimestampWithTimeZone>),
        name!(sha256, Option<String>),
        name!(generation, i64),
        name!(epoch, i64),
    ),
> {
    let cluster = cluster::by_name(server);
    let catalog = cluster.catalog();
    let rows = runtime::block_on(async move { catalog.all_assignments().await?.try_collect::<Vec<_>>().await });
    let mut rows = rows.map_err(|e| catalog_failure(server, e)).or_raise();
    rows.sort_by(|a, b| (&a.segment, &a.node).cmp(&(&b.segment, &b.node)));
    TableIterator::new(
        rows.into_iter()
            .map(|a| {
                let ring = a.hash_ring.as_str().map_or_else(|| a.hash_ring.to_string(), str::to_owned);
                let mtime = a.mtime_ms.map(|ms| Time::from_epoch(ms as f64 / 1000.0));
                (
                    a.segment.to_string(),
                    a.node.to_string(),
                    ring,
                    a.remote_path,
                    a.bytes as i64,
                    timestamp(a.assigned_on.as_ref()),
                    timestamp(mtime.as_ref()),
                    a.sha256,
                    a.generation as i64,
                    a.epoch as i64,
                )
            })
            .collect::<Vec<_>>(),
    )
}

/// `trough.locks(server)`
#[pg_extern(volatile, sql = false)]
#[allow(clippy::type_complexity)]
fn trough_locks(
    server: &str,
) -> TableIterator<
    'static,
    (
        name!(segment, String),
        name!(node, String),
        name!(acquired_on, Option<TimestampWithTimeZone>),
        name!(under_promotion, bool),
        name!(holder, Option<String>),
        name!(fence, i64),
        name!(epoch, i64),
    ),
> {
    let cluster = cluster::by_name(server);
    let catalog = cluster.catalog();
    let rows = runtime::block_on(async move { catalog.locks().await?.try_collect::<Vec<_>>().await });
    let mut rows = rows.map_err(|e| catalog_failure(server, e)).or_raise();
    rows.sort_by(|a, b| a.segment.cmp(&b.segment));
    TableIterator::new(
        rows.into_iter()
            .map(|l| {
                (
                    l.segment.to_string(),
                    l.node.to_string(),
                    timestamp(l.acquired_on.as_ref()),
                    l.under_promotion,
                    l.holder,
                    l.fence as i64,
                    l.epoch as i64,
                )
            })
            .collect::<Vec<_>>(),
    )
}

/// `trough.schemas(server)`
#[pg_extern(volatile, sql = false)]
fn trough_schemas(server: &str) -> TableIterator<'static, (name!(id, String), name!(sql, String))> {
    let cluster = cluster::by_name(server);
    let catalog = cluster.catalog();
    let rows = runtime::block_on(async move { catalog.schemas().await });
    let rows = rows.map_err(|e| catalog_failure(server, e)).or_raise();
    TableIterator::new(rows.into_iter().map(|s| (s.id, s.sql)).collect::<Vec<_>>())
}

/// `trough.provision(server, segment, schema)`
#[pg_extern(volatile, sql = false)]
fn trough_provision(server: &str, segment: &str, schema: &str) -> String {
    let cluster = cluster::by_name(server);
    let (client, segment) = (cluster.manager(), segment_id(segment));
    let schema = SchemaId::new(schema).map_err(invalid).or_raise();
    let id = segment.clone();
    let done = runtime::block_on(async move { client.provision(std::slice::from_ref(&id), &schema).await });
    let mut done = done.map_err(|e| cluster::write_failure(server, &e)).or_raise();
    match done.remove(&segment) {
        Some(Ok(provisioned)) => provisioned.write_url,
        Some(Err(error)) => Failure::new(sqlstate(&error), of_segment(segment.as_str(), &error.message)).raise(),
        None => Failure::new(PgSqlErrorCode::ERRCODE_FDW_ERROR, format!("segment \"{segment}\": no answer")).raise(),
    }
}

fn promote(server: &str, what: PromoteSet) -> Vec<Promoted> {
    let cluster = cluster::by_name(server);
    let client = cluster.manager();
    let done = runtime::block_on(async move { client.promote(what).await?.try_collect::<Vec<Promoted>>().await });
    done.map_err(|e| cluster::write_failure(server, &e)).or_raise()
}

/// `trough.promote(server, segment)`
#[pg_extern(volatile, sql = false)]
fn trough_promote(server: &str, segment: &str) -> Option<String> {
    let id = segment_id(segment);
    let done = promote(server, PromoteSet::Ids(vec![id]));
    match done.into_iter().next().map(|p| p.result) {
        Some(Ok(path)) => Some(path),
        Some(Err(error)) => Failure::new(sqlstate(&error), of_segment(segment, &error.message)).raise(),
        None => Failure::new(PgSqlErrorCode::ERRCODE_FDW_ERROR, format!("segment \"{segment}\": no answer")).raise(),
    }
}

/// How many segments one request promotes: it ends within its time limit on a busy store, too.
const PROMOTED_AT_ONCE: usize = 256;

/// `trough.promote(server, segments text[])`
#[pg_extern(volatile, sql = false)]
fn trough_promote_all(
    server: &str,
    segments: Vec<Option<String>>,
) -> TableIterator<'static, (name!(segment, String), name!(remote_path, Option<String>), name!(error, Option<String>))>
{
    let ids: Vec<_> = segments.iter().flatten().map(|s| segment_id(s)).collect();
    TableIterator::new(
        ids.chunks(PROMOTED_AT_ONCE)
            .flat_map(|batch| promote(server, PromoteSet::Ids(batch.to_vec())))
            .map(|p| match p.result {
                Ok(path) => (p.segment.to_string(), Some(path), None),
                Err(error) => (p.segment.to_string(), None, Some(error.message)),
            })
            .collect::<Vec<_>>(),
    )
}

/// `trough.shred(server, segment)`
#[pg_extern(volatile, sql = false)]
fn trough_shred(server: &str, segment: &str) -> SetOfIterator<'static, String> {
    let cluster = cluster::by_name(server);
    let (client, id) = (cluster.manager(), segment_id(segment));
    let done = runtime::block_on(async move { client.shred(&id).await });
    let report = done.map_err(|e| cluster::write_failure(server, &e)).or_raise();
    let steps = report.steps.into_iter().map(|s| s.as_str().map_or_else(|| s.to_string(), str::to_owned));
    SetOfIterator::new(steps.collect::<Vec<_>>())
}

/// `trough.register_schema(server, id, sql)`
#[pg_extern(volatile, sql = false)]
fn trough_register_schema(server: &str, id: &str, sql: String) -> &'static str {
    let cluster = cluster::by_name(server);
    let client = cluster.manager();
    let id = SchemaId::new(id).map_err(invalid).or_raise();
    let done = runtime::block_on(async move { client.register_schema(&id, &sql).await });
    match done.map_err(|e| cluster::write_failure(server, &e)).or_raise() {
        true => "created",
        false => "replaced",
    }
}

/// `trough.status_url(server)`: the sync master's status page.
#[pg_extern(volatile, sql = false)]
fn trough_status_url(server: &str) -> Option<String> {
    let cluster = cluster::by_name(server);
    let catalog = cluster.catalog();
    let master = runtime::block_on(async move { catalog.master().await });
    master.map_err(|e| catalog_failure(server, e)).or_raise().map(|(master, _)| master.url)
}

/// `trough.query(server, segments text[], sql, reduce)`
#[pg_extern(volatile, sql = false)]
fn trough_query_segments(
    server: &str,
    segments: Vec<Option<String>>,
    sql: &str,
    reduce: Option<&str>,
) -> SetOfIterator<'static, JsonB> {
    let ids: Vec<_> = segments.iter().flatten().map(|s| segment_id(s)).collect();
    query(server, (!ids.is_empty()).then_some(SegmentSet::Ids(ids)), sql, reduce)
}

/// `trough.query(server, pattern, sql, reduce)`
#[pg_extern(volatile, sql = false)]
fn trough_query_matching(
    server: &str,
    matching: Option<&str>,
    sql: &str,
    reduce: Option<&str>,
) -> SetOfIterator<'static, JsonB> {
    query(server, Some(SegmentSet::Pattern(pattern(matching))), sql, reduce)
}

fn query(server: &str, set: Option<SegmentSet>, sql: &str, reduce: Option<&str>) -> SetOfIterator<'static, JsonB> {
    let Some(set) = set else { return SetOfIterator::new(Vec::new()) };
    let cluster = cluster::by_name(server);
    let template = QueryTemplate { map: sql.to_owned(), reduce: reduce.map(str::to_owned), ..QueryTemplate::default() };
    // Who names a segment that does not exist is told.
    let limits = Limits { on_missing: OnFault::Error, ..Limits::default() };
    let rows = cluster.ask("trough.query", set, template, Wanted::All, limits, true);
    SetOfIterator::new(JsonRows { _cluster: cluster, rows, batch: None })
}

/// A query's rows as JSON objects.
struct JsonRows {
    _cluster: Rc<Cluster>,
    rows: Rows,
    batch: Option<(Batch, usize, u32)>,
}

impl Iterator for JsonRows {
    type Item = JsonB;

    fn next(&mut self) -> Option<JsonB> {
        loop {
            if let Some((batch, at, left)) = &mut self.batch
                && *left > 0
            {
                let mut reader = Reader::new(&batch.data, *at);
                let mut object = Map::new();
                for column in batch.columns.iter() {
                    let Some(item) = reader.next() else {
                        Failure::new(PgSqlErrorCode::ERRCODE_FDW_ERROR, "the answer's rows end early").raise()
                    };
                    object.insert(column.clone(), json(item));
                }
                *at = reader.at();
                *left -= 1;
                return Some(JsonB(Json::Object(object)));
            }
            let batch = self.rows.next()?;
            let count = batch.count;
            self.batch = Some((batch, 0, count));
        }
    }
}

/// A value as JSON: a blob as hexadecimal text as PostgreSQL's bytea, a real that JSON cannot hold as text, bad bytes in a
/// text replaced.
fn json(item: Item<'_>) -> Json {
    match item {
        Item::Null => Json::Null,
        Item::Integer(n) => n.into(),
        Item::Real(r) => {
            serde_json::Number::from_f64(r).map_or_else(|| Json::String(infinite(r).to_owned()), Json::Number)
        }
        // PostgreSQL's jsonb cannot hold NUL.
        Item::Text(text) | Item::BadText(text) => Json::String(String::from_utf8_lossy(text).replace('\0', "\u{fffd}")),
        Item::Blob(bytes) => {
            Json::String(std::iter::once("\\x".to_owned()).chain(bytes.iter().map(|b| format!("{b:02x}"))).collect())
        }
    }
}

fn infinite(r: f64) -> &'static str {
    match r {
        r if r.is_nan() => "NaN",
        r if r > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

/// `trough.version()`
#[pg_extern(stable, parallel_safe, sql = false)]
fn trough_version()
-> TableIterator<'static, (name!(extension, Option<String>), name!(library, String), name!(sqlite, Option<String>))> {
    let extension = pgrx::Spi::get_one::<String>("SELECT extversion FROM pg_extension WHERE extname = 'pg_trough'");
    TableIterator::once((
        extension.ok().flatten(),
        format!("{} (PostgreSQL {})", env!("CARGO_PKG_VERSION"), pg_sys::PG_MAJORVERSION.to_string_lossy()),
        Some(trough_pushdown::SQLITE_VERSION.to_owned()),
    ))
}
