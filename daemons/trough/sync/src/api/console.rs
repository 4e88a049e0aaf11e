//! `POST /v1/console`: the status page's query box. A few rows as JSON; programs use the workers' `/v1/query`.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use trough_client::{QueryOptions, QueryTemplate, SegmentPattern, SegmentSet};
use trough_core::{ErrorCode, SegmentError, SegmentId};

use super::{Api, answer};
use crate::rows::rows;

/// The most rows that one answer shows.
const MAX_ROWS: usize = 1_000;
/// How long one query may take.
const LIMIT: Duration = Duration::from_secs(30);

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
pub(super) async fn run(State(api): State<Arc<Api>>, headers: HeaderMap, body: Bytes) -> Response {
    let wish: Wish = match trough_http::read_json(&headers, &body) {
        Ok(wish) => wish,
        Err(e) => return answer::error(&answer::bad(format!("the body is no query: {e}"))),
    };
    match ask(&api, wish).await {
        Ok(found) => answer::json(StatusCode::OK, &found),
        Err(e) => answer::error(&e),
    }
}

async fn ask(api: &Api, wish: Wish) -> Result<Json, SegmentError> {
    let segments = match wish.matching.as_deref() {
        Some("") => SegmentSet::Pattern(SegmentPattern::All),
        Some(pattern) => {
            SegmentSet::Pattern(SegmentPattern::regex(pattern).map_err(|e| answer::bad(format!("matching: {e}")))?)
        }
        None if wish.segments.is_empty() => return Err(answer::bad("name a segment or a pattern")),
        None => SegmentSet::Ids(wish.segments),
    };
    let limit = wish.limit.unwrap_or(200).min(MAX_ROWS);
    let reduced = wish.reduce.is_some();
    let template = QueryTemplate { map: wish.sql, reduce: wish.reduce, ..QueryTemplate::default() };
    let options = QueryOptions { timeout: Some(LIMIT), ..QueryOptions::default() };
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
        shown.extend(read.into_iter().take(room).map(|row| json!({"segment": batch.segment, "row": row})));
        if cut {
            break;
        }
    }
    let stats = stream.stats();
    Ok(json!({
        "columns": columns,
        "rows": shown,
        "reduced": reduced,
        "cut": cut,
        "stats": {"segments": stats.segments},
    }))
}
