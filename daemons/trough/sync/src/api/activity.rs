//! What is under way: `GET /v1/copies` and `GET /v1/locks`.

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use trough_core::{NodeId, SegmentId, records::Lock};
use trough_http::Caller;

use super::{Api, answer};
use crate::reports::Flight;

/// The most that one answer lists.
const MOST: usize = 1_000;

#[derive(Deserialize)]
pub(super) struct Wish {
    matching: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

impl Wish {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(100).clamp(1, MOST)
    }
}

/// `GET /v1/copies`: copies and promotions under way, those that take longest first; counts of all.
pub(super) async fn copies(State(api): State<Arc<Api>>, Query(wish): Query<Wish>) -> Response {
    let reports = match api.reports.get(&api.context).await {
        Ok(reports) => reports,
        Err(e) => return answer::error(&answer::of_catalog(e)),
    };
    let said = || reports.said.iter();
    let flying = said().flat_map(|(node, said)| said.copies.in_flight.iter().map(move |f| (node, f)));
    let promoting = said().flat_map(|(node, said)| said.promotions.in_flight.iter().map(move |f| (node, f)));
    let document = json!({
        "waiting": said().map(|(_, s)| s.copies.waiting.saturating_sub(s.copies.in_flight.len() as u64)).sum::<u64>(),
        "copying": said().map(|(_, s)| s.copies.in_flight.len()).sum::<usize>(),
        "failed": said().map(|(_, s)| s.copies.failed.len()).sum::<usize>(),
        "promoting": said().map(|(_, s)| s.promotions.count).sum::<u64>(),
        "copies": longest(flying.collect(), wish.limit()),
        "promotions": longest(promoting.collect(), wish.limit()),
        "silent": reports.silent,
    });
    answer::json(StatusCode::OK, &document)
}

fn longest(mut flights: Vec<(&NodeId, &Flight)>, limit: usize) -> Vec<Json> {
    flights.sort_by(|(_, a), (_, b)| b.seconds.total_cmp(&a.seconds).then_with(|| a.segment.cmp(&b.segment)));
    let line = |(node, f): &(&NodeId, &Flight)| {
        json!({
            "node": node, "segment": f.segment, "bytes": f.bytes, "done": f.done, "seconds": f.seconds.round(),
            "stage": f.stage,
        })
    };
    flights.iter().take(limit).map(line).collect()
}

/// `GET /v1/locks?matching=REGEX&after=PLACE&limit=N`: the write locks, oldest first.
pub(super) async fn locks(State(api): State<Arc<Api>>, caller: Caller, Query(wish): Query<Wish>) -> Response {
    let matching = match wish.matching.as_deref().filter(|text| !text.is_empty()).map(regex::Regex::new).transpose() {
        Ok(matching) => matching,
        Err(e) => return answer::error(&answer::bad(format!("matching: {e}"))),
    };
    let after: Option<(f64, SegmentId)> = match wish.after.as_deref().map(serde_json::from_str).transpose() {
        Ok(after) => after,
        Err(_) => return answer::error(&answer::bad("after: give the \"next\" of an earlier answer")),
    };
    let since = |l: &Lock| l.acquired_on.as_ref().map_or(0.0, |t| t.epoch_time);
    let order = |a: &&Lock, b: &&Lock| since(a).total_cmp(&since(b)).then_with(|| a.segment.cmp(&b.segment));
    let locks = api.context.locks.read();
    let wanted = |l: &&Lock| {
        let later = after.as_ref().is_none_or(|(at, segment)| {
            since(l).total_cmp(at).then_with(|| l.segment.cmp(segment)) == std::cmp::Ordering::Greater
        });
        later
            && caller.allows(l.segment.as_str())
            && matching.as_ref().is_none_or(|pattern| pattern.is_match(l.segment.as_str()))
    };
    let mut found: Vec<&Lock> = locks.iter().filter(wanted).collect();
    let limit = wish.limit();
    let more = found.len() > limit;
    if more {
        found.select_nth_unstable_by(limit, order);
        found.truncate(limit);
    }
    found.sort_unstable_by(order);
    let next = found.last().filter(|_| more).and_then(|l| serde_json::to_string(&(since(l), &l.segment)).ok());
    let count = locks.iter().filter(|l| caller.allows(l.segment.as_str())).count();
    answer::json(StatusCode::OK, &json!({"count": count, "locks": found, "next": next}))
}
