//! What a query did, told once when it is over, and the plan of a statement.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use trough_core::{ErrorCode, SegmentError, wire::QueryStats};

use crate::{
    conn,
    control::Control,
    engine::{Inner, SegmentFile, run},
    sql,
};

/// Segments of a query that have a span each.
const SPANS: usize = 32;
/// Reading a plan reads a schema; it takes no longer, even far away.
const PLAN_LIMIT: Duration = Duration::from_secs(10);

/// What a query did.
#[derive(Debug)]
pub struct QueryReport<'a> {
    /// Its statement; of a query with reduce, the map.
    pub sql: &'a str,
    /// Segments asked for.
    pub segments: usize,
    /// Segments, rows and bytes that came of it, and how long it took.
    pub stats: QueryStats,
    /// Where most of the time of one thread went.
    pub slowest: Option<(&'a SegmentFile, Duration)>,
    /// The first failure of a segment.
    pub segment_error: Option<&'a SegmentError>,
    /// Why all of it failed.
    pub error: Option<&'a SegmentError>,
}

/// Is told what a query did; on the thread that ended it, so it must not take long.
pub type OnEnd = Box<dyn FnOnce(&QueryReport<'_>) + Send>;

/// What is noted while a query runs.
pub(crate) struct Notes {
    on_end: Mutex<Option<OnEnd>>,
    segment_error: Mutex<Option<SegmentError>>,
    slowest: Mutex<Option<(usize, Duration)>>,
    span: tracing::Span,
}

impl Notes {
    pub(crate) fn new(on_end: Option<OnEnd>) -> Self {
        Self {
            on_end: Mutex::new(on_end),
            segment_error: Mutex::default(),
            slowest: Mutex::default(),
            span: tracing::Span::current(),
        }
    }

    /// A span of its own for one of the first segments, where spans are kept.
    pub(crate) fn segment(&self, index: usize, file: &SegmentFile) -> tracing::Span {
        if index < SPANS {
            tracing::trace_span!(target: "trough::request", parent: &self.span, "segment", segment = %file.id)
        } else {
            tracing::Span::none()
        }
    }

    /// A segment failed.
    pub(crate) fn failed(&self, error: &SegmentError) {
        self.segment_error.lock().get_or_insert_with(|| error.clone());
    }

    /// What took one thread longest.
    pub(crate) fn took(&self, index: usize, time: Duration) {
        let mut slowest = self.slowest.lock();
        if slowest.is_none_or(|(_, most)| time > most) {
            *slowest = Some((index, time));
        }
    }

    /// The query is over.
    pub(crate) fn tell(
        &self,
        sql: &str,
        files: &[Result<SegmentFile, SegmentError>],
        stats: QueryStats,
        error: Option<&SegmentError>,
    ) {
        let Some(on_end) = self.on_end.lock().take() else { return };
        let segment_error = self.segment_error.lock().clone();
        let slowest = *self.slowest.lock();
        on_end(&QueryReport {
            sql,
            segments: files.len(),
            stats,
            slowest: slowest.and_then(|(index, time)| Some((files.get(index)?.as_ref().ok()?, time))),
            segment_error: segment_error.as_ref(),
            error,
        });
    }
}

/// Which rules a statement is prepared under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The old endpoint's: `"text"` may be a text.
    Old,
    /// SQLite's without that.
    Strict,
}

/// How SQLite would run a statement on a segment; see [`crate::Engine::plan`].
pub(crate) async fn plan(
    inner: &Arc<Inner>,
    file: SegmentFile,
    sql: String,
    dialect: Dialect,
) -> Result<Vec<String>, SegmentError> {
    run(inner, move |inner| {
        sql::check_text(&sql, &inner.options.limits)?;
        if !sql::reads(&sql) || sql::has_second_statement(&sql) {
            return Err(SegmentError::new(ErrorCode::BadSql, "only one statement that reads has a plan"));
        }
        let control = Control::new(PLAN_LIMIT, Some(PLAN_LIMIT), None::<CancellationToken>);
        let lease = inner.cache.checkout(&file, &inner.options, &control)?;
        lease.obey(&control);
        let failed = |e: rusqlite::Error| conn::explain_read(&file, &e);
        conn::take_quoted_names_for_texts(lease.conn(), dialect == Dialect::Old).map_err(failed)?;
        let mut statement = lease.conn().prepare(&format!("EXPLAIN QUERY PLAN {sql}")).map_err(failed)?;
        let mut rows = statement.raw_query();
        let (mut depth, mut lines) = (std::collections::HashMap::new(), Vec::new());
        while let Some(row) = rows.next().map_err(failed)? {
            let (id, parent): (i64, i64) = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
            let level = depth.get(&parent).map_or(0, |level| level + 1);
            depth.insert(id, level);
            let detail: String = row.get(3).map_err(failed)?;
            lines.push(format!("{:width$}{detail}", "", width = 2 * level));
        }
        Ok(lines)
    })
    .await
}

/// The version of SQLite that is built in.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}
