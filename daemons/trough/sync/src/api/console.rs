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
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use trough_client::{
    Batch, QueryEvent, QueryOptions, QueryStream, QueryTemplate, SegmentPattern, SegmentSet, query::FanOutStats,
};
use trough_core::{ErrorCode, SegmentError, SegmentId, Value};
use trough_engine::Combiner;
use trough_http::Caller;

use super::{Api, answer};
use crate::rows::rows;

/// The most rows that one answer shows.
const MAX_ROWS: usize = 1_000;
/// The greatest integer up to which a browser's numbers have them all.
const EXACT: u64 = (1 << 53) - 1;
/// The most bytes of rows that `reduce` runs over.
const MAX_REDUCED_BYTES: usize = 256 << 20;
/// Batches of rows that wait for being taken into its table.
const BATCHES: usize = 64;
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

/// Runs `sql` on the segments, and `reduce` over all their rows if given.
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
    let template = QueryTemplate { map: wish.sql, ..QueryTemplate::default() };
    let options = QueryOptions {
        timeout: Some(LIMIT),
        trace: trough_http::current_trace(),
        tell_done: reduced,
        ..QueryOptions::default()
    };
    let mut stream = api.queries.fan_out(segments, template.clone(), options.clone());
    let Shown { columns, rows, cut } = match wish.reduce {
        Some(reduce) => match reduce_all(&mut stream, &reduce, limit).await? {
            Reduced::Rows(shown) => shown,
            // Without a row nobody has said which columns `partial` has: the worker of one of the segments knows.
            Reduced::Nothing(segment) => {
                let template = QueryTemplate { reduce: Some(reduce), ..template };
                show_each(&mut api.queries.fan_out(SegmentSet::Ids(segment), template, options), limit).await?
            }
        },
        None => show_each(&mut stream, limit).await?,
    };
    let stats = stream.stats();
    slow(api, begun.elapsed(), stats, shown_sql);
    Ok(json!({
        "columns": columns,
        "rows": rows,
        "reduced": reduced,
        "cut": cut,
        "stats": {"segments": stats.segments},
    }))
}

/// What an answer shows.
#[derive(Default)]
struct Shown {
    columns: Vec<String>,
    rows: Vec<Json>,
    /// Whether there were more rows.
    cut: bool,
}

impl Shown {
    /// Takes a row if there is room for it, and says whether there was.
    fn take(&mut self, segment: Option<&SegmentId>, row: Vec<Value>, limit: usize) -> bool {
        self.cut = self.rows.len() == limit;
        if !self.cut {
            let row: Vec<Json> = row.into_iter().map(shown_value).collect();
            self.rows.push(json!({ "segment": segment, "row": row }));
        }
        !self.cut
    }
}

/// Each segment's own rows.
async fn show_each(stream: &mut QueryStream, limit: usize) -> Result<Shown, SegmentError> {
    let mut shown = Shown::default();
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(refused)?;
        if shown.columns.is_empty() {
            shown.columns = batch.columns.to_vec();
        }
        let read = rows(&batch).map_err(|e| SegmentError::new(ErrorCode::Internal, e.to_string()))?;
        if !read.into_iter().all(|row| shown.take(batch.segment.as_ref(), row, limit)) {
            break;
        }
    }
    Ok(shown)
}

/// What there was to reduce.
enum Reduced {
    Rows(Shown),
    /// No row; one of the segments, if there is any.
    Nothing(Vec<SegmentId>),
}

/// The rows of `reduce` over those of all segments, which come here: a statement of any kind is right only over all of them at once.
async fn reduce_all(stream: &mut QueryStream, reduce: &str, limit: usize) -> Result<Reduced, SegmentError> {
    let (sender, batches) = mpsc::channel(BATCHES);
    let gone = CancellationToken::new();
    let deadline = Instant::now() + LIMIT;
    let (stop, reduce) = (gone.clone(), reduce.to_owned());
    let work = tokio::task::spawn_blocking(move || {
        combine(batches, &reduce, limit, move || stop.is_cancelled() || Instant::now() > deadline)
    });
    // Also when the client goes away and this is dropped.
    let guard = gone.drop_guard();
    let (mut bytes, mut one) = (0, Vec::new());
    while let Some(event) = stream.next_event().await {
        let batch = match event.map_err(refused)? {
            QueryEvent::Rows(batch) => batch,
            QueryEvent::Done(segments) => {
                if one.is_empty() {
                    one.extend(segments.into_iter().next());
                }
                continue;
            }
        };
        bytes += batch.data.len();
        if bytes > MAX_REDUCED_BYTES {
            let text = format!(
                "reduce would run over more than {} MiB of rows, which all come to this server; let the statement itself aggregate, or \
                 name fewer segments",
                MAX_REDUCED_BYTES >> 20
            );
            return Err(SegmentError::new(ErrorCode::ByteLimit, text));
        }
        if sender.send(batch).await.is_err() {
            break; // it has failed, and says why
        }
    }
    drop(sender);
    let outcome = work.await.map_err(|e| SegmentError::new(ErrorCode::Internal, format!("reduce: {e}")))?;
    drop(guard);
    match outcome {
        Err(_) if Instant::now() > deadline => {
            Err(SegmentError::new(ErrorCode::Deadline, format!("reduce took longer than {} s", LIMIT.as_secs())))
        }
        outcome => Ok(outcome?.map_or(Reduced::Nothing(one), Reduced::Rows)),
    }
}

/// Collects rows in a table, until there are no more, and runs `reduce` over it, if there were any. Blocks.
fn combine(
    mut batches: mpsc::Receiver<Batch>,
    reduce: &str,
    limit: usize,
    stop: impl Fn() -> bool + Send + 'static,
) -> Result<Option<Shown>, SegmentError> {
    let mut combiner: Option<Combiner> = None;
    while let Some(batch) = batches.blocking_recv() {
        let combiner = match &mut combiner {
            Some(combiner) => combiner,
            none => none.insert(Combiner::new(&batch.columns)?),
        };
        combiner.add(&batch.columns, &batch.data)?;
    }
    let Some(combiner) = combiner else { return Ok(None) };
    let (mut shown, mut columns) = (Shown::default(), Vec::new());
    let named = |names| {
        columns = names;
        true
    };
    combiner.select(reduce, stop, named, |row| shown.take(None, row, limit))?;
    shown.columns = columns;
    Ok(Some(shown))
}

fn refused(error: impl std::fmt::Display) -> SegmentError {
    SegmentError::new(ErrorCode::BadSql, error.to_string())
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
