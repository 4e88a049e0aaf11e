//! What is said of each query when it is over: its counts, a line if it failed, and one with its plan if it was slow.

use std::{sync::Arc, time::Duration};

use tracing::Span;
use trough_core::{ErrorCode, SegmentError};
use trough_engine::{Dialect, OnEnd, QueryReport, SegmentFile};
use trough_http::Rate;

use crate::state::Worker;

/// Bytes of SQL in a line of the log.
const SQL_BYTES: usize = 2_000;
/// Lines of each kind in a [`PERIOD`]; clients could fill the disk otherwise.
const LINES: u32 = 20;
const PERIOD: Duration = Duration::from_secs(10);

/// What the lines need.
pub(crate) struct Told {
    slow: Rate,
    /// Of queries and writes.
    pub(crate) failed: Rate,
}

impl Told {
    pub(crate) fn new() -> Self {
        Self { slow: Rate::new(LINES, PERIOD), failed: Rate::new(LINES, PERIOD) }
    }
}

/// What is to be done when the query that the current request asks for is over.
pub(crate) fn on_end(worker: &Arc<Worker>, dialect: Dialect) -> OnEnd {
    let (worker, span, runtime) = (worker.clone(), Span::current(), tokio::runtime::Handle::current());
    Box::new(move |report: &QueryReport<'_>| {
        let took = Duration::from_micros(report.stats.micros);
        count(&worker, dialect, report, took);
        if let Some(error) = report.error.or(report.segment_error) {
            span.in_scope(|| failed(&worker, report, error));
        }
        if worker.settings.slow_query.is_some_and(|slow| took >= slow) {
            worker.meters.slow_queries.increment(1);
            if let Some(held_back) = worker.told.slow.pass() {
                let slow = Slow::new(&worker, report, held_back);
                runtime.spawn(slow.tell(worker, span, dialect));
            }
        }
    })
}

fn count(worker: &Worker, dialect: Dialect, report: &QueryReport<'_>, took: Duration) {
    let meters = match dialect {
        Dialect::Old => &worker.meters.old,
        Dialect::Strict => &worker.meters.new,
    };
    meters.queries.increment(1);
    meters.errors.increment(u64::from(report.error.is_some()));
    meters.segments.increment(report.segments as u64);
    meters.segment_errors.increment(report.stats.failed);
    meters.rows.increment(report.stats.rows);
    meters.bytes.increment(report.stats.bytes);
    meters.seconds.record(took.as_secs_f64());
}

fn failed(worker: &Worker, report: &QueryReport<'_>, error: &SegmentError) {
    let (code, message, failed) = (error.code, &error.message, report.stats.failed);
    // Clients ask elsewhere, or went away; nobody needs to know.
    if matches!(code, ErrorCode::Moved | ErrorCode::UnknownSegment | ErrorCode::Cancelled) {
        return tracing::debug!(?code, error = message, "query failed");
    }
    let Some(held_back) = worker.told.failed.pass() else { return };
    let sql = shown(worker, report.sql);
    if matches!(code, ErrorCode::Corrupt | ErrorCode::Io | ErrorCode::DiskFull | ErrorCode::Internal) {
        tracing::warn!(?code, error = message, segments = report.segments, failed, sql, held_back, "query failed");
    } else {
        tracing::info!(?code, error = message, segments = report.segments, failed, sql, held_back, "query failed");
    }
}

/// The statement as the log may hold it.
fn shown<'a>(worker: &Worker, sql: &'a str) -> &'a str {
    if worker.settings.slow_query_sql { &sql[..sql.floor_char_boundary(SQL_BYTES)] } else { "(SLOW_QUERY_SQL is off)" }
}

/// A slow query, on its way to the log.
struct Slow {
    shown: String,
    sql: String,
    segments: usize,
    rows: u64,
    bytes: u64,
    ms: u64,
    slowest: Option<(SegmentFile, Duration)>,
    held_back: u64,
}

impl Slow {
    fn new(worker: &Worker, report: &QueryReport<'_>, held_back: u64) -> Self {
        Self {
            shown: shown(worker, report.sql).to_owned(),
            sql: report.sql.to_owned(),
            segments: report.segments,
            rows: report.stats.rows,
            bytes: report.stats.bytes,
            ms: report.stats.micros / 1000,
            slowest: report.slowest.map(|(file, time)| (file.clone(), time)),
            held_back,
        }
    }

    /// Asks for the plan on the slowest segment, and logs all of it.
    async fn tell(self, worker: Arc<Worker>, span: Span, dialect: Dialect) {
        let Self { shown, sql, segments, rows, bytes, ms, slowest, held_back } = self;
        let (mut slowest_segment, mut slowest_ms, mut plan) = (String::new(), 0, String::new());
        if let Some((file, time)) = slowest {
            (slowest_segment, slowest_ms) = (file.id.to_string(), time.as_millis() as u64);
            plan = match worker.engine.plan(file, sql, dialect).await {
                Ok(lines) => lines.join("; "),
                Err(error) => format!("none: {}", error.message),
            };
        }
        span.in_scope(|| {
            tracing::info!(
                node = %worker.node, ms, segments, rows, bytes, slowest_segment, slowest_ms, plan, sql = shown, held_back,
                "slow query"
            );
        });
    }
}
