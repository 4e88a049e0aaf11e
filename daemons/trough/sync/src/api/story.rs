//! One segment's story: `GET /v1/segment/ID` says all that is known of it, `GET /v1/segment/ID/events` what happened to it.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use trough_core::{ErrorCode, NodeId, SegmentError, SegmentId};
use trough_http::{Caller, events::Event};

use super::{Api, answer};

/// How long a worker may take to tell its events.
const LIMIT: Duration = Duration::from_secs(1);
/// Workers asked at the same time.
const AT_ONCE: usize = 32;
/// The most events that one answer lists.
const MOST: usize = 1_000;

/// The segment, if the caller may see it.
fn allowed(caller: &Caller, id: &str) -> Result<SegmentId, SegmentError> {
    let id = SegmentId::new(id).map_err(|e| answer::bad(e.to_string()))?;
    caller.check(&id)?;
    Ok(id)
}

/// `GET /v1/segment/ID`: all that is known of one segment.
pub(super) async fn segment(State(api): State<Arc<Api>>, caller: Caller, Path(id): Path<String>) -> Response {
    let id = match allowed(&caller, &id) {
        Ok(id) => id,
        Err(e) => return answer::error(&e),
    };
    match everything_of(&api, &id).await {
        Ok(Some(known)) => answer::json(StatusCode::OK, &known),
        Ok(None) => answer::error(&SegmentError::new(ErrorCode::UnknownSegment, format!("segment {id} is unknown"))),
        Err(e) => answer::error(&e),
    }
}

async fn everything_of(api: &Api, id: &SegmentId) -> Result<Option<Json>, SegmentError> {
    let context = &api.context;
    let services = context.catalog.services_of_segment(id).await.map_err(answer::of_catalog)?;
    let assignments = context.catalog.assignments_of_segment(id).await.map_err(answer::of_catalog)?;
    let lock = context.catalog.lock(id).await.map_err(answer::of_catalog)?;
    let (canonical, store_error) = match context.store.stat(id).await {
        Ok(entry) => (Some(entry), None),
        Err(e) if e.is_not_found() => (None, None),
        Err(e) => (None, Some(e.to_string())),
    };
    if services.is_empty() && assignments.is_empty() && lock.is_none() && canonical.is_none() && store_error.is_none() {
        return Ok(None);
    }
    let settings = &context.settings;
    let cold = settings.cold_store_segment.for_segment(id);
    let copies = settings.minimum_assignments.for_segment(id);
    let services: Vec<Json> = services
        .iter()
        .map(|s| {
            json!({
                "role": s.service.role, "node": s.service.node, "url": s.service.url, "alive": s.alive, "cold": s.cold,
                "version_ms": s.service.version_ms.filter(|ms| *ms > 0),
            })
        })
        .collect();
    let reports = api.reports.get(context).await.map_err(answer::of_catalog)?;
    let of_segment = |what: &dyn Fn(&crate::reports::Said) -> Vec<Json>| -> Vec<Json> {
        let with_node = |node: &NodeId, mut line: Json| {
            line["node"] = json!(node);
            line
        };
        reports.said.iter().flat_map(|(node, said)| what(said).into_iter().map(|l| with_node(node, l))).collect()
    };
    let flights = |flights: &[crate::reports::Flight]| -> Vec<Json> {
        flights.iter().filter(|f| f.segment.as_ref() == Some(id)).map(|f| json!(f)).collect()
    };
    Ok(Some(json!({
        "segment": id,
        "cold": cold.ok(),
        "copies_wanted": copies.ok(),
        "canonical": canonical,
        "store_error": store_error,
        "lock": lock,
        "services": services,
        "assignments": assignments,
        "copying": of_segment(&|said| flights(&said.copies.in_flight)),
        "promoting": of_segment(&|said| flights(&said.promotions.in_flight)),
        "failed": of_segment(&|said| said.copies.failed.iter().filter(|f| f.segment == *id).map(|f| json!(f)).collect()),
        "quarantine": of_segment(&|said| {
            said.quarantine.iter().chain(&said.broken).filter(|b| b.segment == *id).map(|b| json!(b)).collect()
        }),
    })))
}

#[derive(Deserialize)]
pub(super) struct Wish {
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct Told {
    events: Vec<Event>,
}

/// `GET /v1/segment/ID/events?limit=N`: what this server and the living workers remember, the newest first.
pub(super) async fn events(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(wish): Query<Wish>,
) -> Response {
    let id = match allowed(&caller, &id) {
        Ok(id) => id,
        Err(e) => return answer::error(&e),
    };
    let context = &api.context;
    let limit = wish.limit.unwrap_or(200).clamp(1, MOST);
    let nodes = match context.nodes().await {
        Ok(nodes) => nodes,
        Err(e) => return answer::error(&answer::of_catalog(e)),
    };
    // A Python worker remembers nothing.
    let asked = nodes.iter().filter(|n| n.alive && n.service.manage_url.is_some());
    let asked: Vec<_> = asked.filter_map(|n| Some((n.node()?.clone(), context.manage_url(n)?))).collect();
    let count = asked.len();
    let requests = asked.into_iter().map(|(node, base)| {
        let url = format!("{base}v1/events?limit={limit}&segment={}", id.url_encoded());
        let request = async { context.http.get(url).send().await?.error_for_status()?.json::<Told>().await };
        async move { (node, tokio::time::timeout(LIMIT, request).await.ok().and_then(Result::ok)) }
    });
    let own = context.events.node();
    let mut silent: Vec<NodeId> = Vec::new();
    let mut all: Vec<(NodeId, Event)> =
        context.events.latest(Some(&id), limit).into_iter().map(|e| (own.clone(), e)).collect();
    let mut answers = futures::stream::iter(requests).buffered(AT_ONCE);
    while let Some((node, told)) = answers.next().await {
        match told {
            Some(told) => all.extend(told.events.into_iter().map(|e| (node.clone(), e))),
            None => silent.push(node),
        }
    }
    // Stable: what one node told keeps its order.
    all.sort_by_key(|(_, event)| std::cmp::Reverse(event.at_ms));
    all.truncate(limit);
    let events: Vec<Json> = all
        .into_iter()
        .map(|(node, event)| {
            let mut line = json!(event);
            line["node"] = json!(node);
            line
        })
        .collect();
    answer::json(StatusCode::OK, &json!({"segment": id, "events": events, "asked": count, "silent": silent}))
}
