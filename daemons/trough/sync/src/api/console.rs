//! `POST /v1/console`: the status page's query box. A few rows as JSON; programs use the workers' `/v1/query`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use trough_client::{QueryOptions, QueryTemplate, SegmentPattern, SegmentSet, query::FanOutStats};
use trough_core::{ErrorCode, SegmentError, SegmentId, Value};
use trough_http::Caller;

use super::{Api, answer};
use crate::rows::rows;

/// The most rows that one answer shows.
const MAX_ROWS: usize = 1_000;
/// The greatest integer up to which a browser's numbers have them all.
const EXACT: u64 = (1 << 53) - 1;
/// How long one query may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Bytes of SQL in a line of the log.
const SQL_BYTES: usize = 2_000;

#[derive(Deserialize)]
struct Wish {
    #[serde(default)]
    segments: Vec<SegmentId>,
    matching: Option<String>,
    sql: String,
    reduce: Option<String>,
    limit: Option<usize>,
}

/// Runs `sql` on the segments, and `reduce` over its rows if given.
pub(super) async fn run(State(api): State<Arc<Api>>, caller: Caller, headers: HeaderMap, body: Bytes) -> Response {
    let wish: Wish = match trough_http::read_json(&headers, &body) {
        Ok(wish) => wish,
        Err(e) => return answer::error(&answer::bad(format!("the body is no query: {e}"))),
    };
    match ask(&api, &caller, wish).await {
        Ok(found) => answer::json(StatusCode::OK, &found),
        Err(e) => answer::error(&e),
    }
}

/// A value as JSON. An integer that a browser's numbers cannot hold comes as `{"integer": "…"}`.
fn shown_value(value: Value) -> Json {
    match value {
        Value::Integer(i) if i.unsigned_abs() > EXACT => json!({ "integer": i.to_string() }),
        other => json!(other),
    }
}

/// The workers are asked with this node's own token: what the caller may not see must not be asked for.
async fn ask(api: &Api, caller: &Caller, wish: Wish) -> Result<Json, SegmentError> {
    let segments = match wish.matching.as_deref() {
        Some("") => SegmentSet::Pattern(SegmentPattern::All),
        Some(pattern) => {
            SegmentSet::Pattern(SegmentPattern::regex(pattern).map_err(|e| answer::bad(format!("matching: {e}")))?)
        }
        None if wish.segments.is_empty() => return Err(answer::bad("name a segment or a pattern")),
        None => SegmentSet::Ids(wish.segments),
    };
    let segments = match (&caller.pattern(), segments) {
        (Some(allowed), SegmentSet::Pattern(pattern)) => {
            SegmentSet::Pattern(SegmentPattern::And(vec![pattern, SegmentPattern::Regex((*allowed).clone())]))
        }
        (_, SegmentSet::Ids(ids)) => {
            ids.iter().try_for_each(|id| caller.check(id))?;
            SegmentSet::Ids(ids)
        }
        (None, all) => all,
    };
    let limit = wish.limit.unwrap_or(200).min(MAX_ROWS);
    let reduced = wish.reduce.is_some();
    let (begun, shown_sql) = (Instant::now(), wish.sql.clone());
    let template = QueryTemplate { map: wish.sql, reduce: wish.reduce, ..QueryTemplate::default() };
    let options = QueryOptions { timeout: Some(LIMIT), trace: trough_http::current_trace(), ..QueryOptions::default() };
    let mut stream = api.queries.fan_out(segments, template, options);
    let (mut columns, mut shown, mut cut) = (Vec::new(), Vec::new(), false);
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|e| SegmentError::new(ErrorCode::BadSql, e.to_string()))?;
        if columns.is_empty() {
            columns = batch.columns.to_vec();
        }
        let read = rows(&batch).map_err(|e| SegmentError::new(ErrorCode::Internal, e.to_string()))?;
        let room = limit - shown.len();
        cut |= read.len() > room;
        shown.extend(
            read.into_iter().take(room).map(
                |row| json!({"segment": batch.segment, "row": row.into_iter().map(shown_value).collect::<Vec<_>>()}),
            ),
        );
        if cut {
            break;
        }
    }
    let stats = stream.stats();
    slow(api, begun.elapsed(), stats, shown_sql);
    Ok(json!({
        "columns": columns,
        "rows": shown,
        "reduced": reduced,
        "cut": cut,
        "stats": {"segments": stats.segments},
    }))
}

/// A line of the log for a query that took long; the workers' logs have the plans, under the same trace.
fn slow(api: &Api, took: Duration, stats: FanOutStats, sql: String) {
    let settings = &api.context.settings;
    if settings.slow_query.is_none_or(|slow| took < slow) {
        return;
    }
    metrics::counter!("trough_sync_slow_queries_total").increment(1);
    let Some(held_back) = api.slow.pass() else { return };
    let sql =
        if settings.slow_query_sql { &sql[..sql.floor_char_boundary(SQL_BYTES)] } else { "(SLOW_QUERY_SQL is off)" };
    let FanOutStats { segments, workers, rows, bytes, .. } = stats;
    tracing::info!(node = %settings.hostname, ms = took.as_millis() as u64, segments, workers, rows, bytes, sql, held_back, "slow query");
}
