//! What the status page and people ask: the cluster, one segment, segments by pattern, copies in flight.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use trough_core::{ErrorCode, SegmentError, SegmentId, protocol::PROTOCOL};

use super::{Api, answer, controls};

/// How long a worker may take to tell its status.
const STATUS_LIMIT: Duration = Duration::from_secs(2);
/// The most segments that one answer lists.
const MAX_LISTED: usize = 1_000;

/// `GET /v1/cluster`: what the last reconciliation saw.
pub(super) async fn cluster(State(api): State<Arc<Api>>) -> Response {
    answer::json(StatusCode::OK, &document(&api))
}

/// The cluster as JSON; also `/status`.
pub(crate) fn document(api: &Api) -> Json {
    let context = &api.context;
    let view = context.view.read().clone();
    let (standing, master) = match &*context.standing.borrow() {
        crate::mastership::Standing::Unknown => ("unknown", None),
        crate::mastership::Standing::Follower(master) => ("follower", Some(master.url.clone())),
        crate::mastership::Standing::Master(_) => ("master", Some(api.own_url.clone())),
    };
    let locks = context.locks.read();
    let promoting = locks.iter().filter(|l| l.under_promotion).count();
    json!({
        "node": context.settings.hostname,
        "version": env!("CARGO_PKG_VERSION"),
        "standing": standing,
        "master": master,
        "store": context.store.url(),
        "listing": context.store.list_stats(),
        "segments_served": context.serving.read().len(),
        "locks": locks.len(),
        "promoting": promoting,
        "protocol": PROTOCOL,
        "controls": controls::document(context),
        "cluster": &*view,
    })
}

/// `GET /v1/copies`: what the workers say of copies under way.
pub(super) async fn copies(State(api): State<Arc<Api>>) -> Response {
    let nodes = match api.context.nodes().await {
        Ok(nodes) => nodes,
        Err(e) => return answer::error(&answer::of_catalog(e)),
    };
    let asked = nodes.iter().filter(|n| n.alive && n.service.manage_url.is_some()).filter_map(|n| {
        let (node, url) = (n.node()?.clone(), format!("{}status", api.context.manage_url(n)?));
        let request = api.context.http.get(url).timeout(STATUS_LIMIT).send();
        Some(async move {
            let status: Option<Json> = match request.await {
                Ok(response) => response.json().await.ok(),
                Err(_) => None,
            };
            let part = |name: &str| status.as_ref().and_then(|s| s.get(name)).cloned();
            json!({"node": node, "copies": part("copies"), "promotions": part("promotions"), "quarantine": part("quarantine")})
        })
    });
    let all: Vec<Json> = futures::future::join_all(asked).await;
    answer::json(StatusCode::OK, &all)
}

/// `GET /v1/locks`: the write locks, oldest first.
pub(super) async fn locks(State(api): State<Arc<Api>>, Query(query): Query<Search>) -> Response {
    let limit = query.limit.unwrap_or(100).min(MAX_LISTED);
    let locks = api.context.locks.read();
    let mut all: Vec<&trough_core::records::Lock> = locks.iter().collect();
    let since = |l: &trough_core::records::Lock| l.acquired_on.as_ref().map_or(0.0, |t| t.epoch_time);
    all.sort_by(|a, b| since(a).total_cmp(&since(b)).then_with(|| a.segment.cmp(&b.segment)));
    let count = all.len();
    all.truncate(limit);
    answer::json(StatusCode::OK, &json!({"count": count, "locks": all}))
}

/// What to look for.
#[derive(Deserialize)]
pub(super) struct Search {
    matching: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/segments?matching=REGEX&limit=N`: segments that are served or locked.
pub(super) async fn segments(State(api): State<Arc<Api>>, Query(query): Query<Search>) -> Response {
    let limit = query.limit.unwrap_or(50).min(MAX_LISTED);
    let pattern = match regex::Regex::new(query.matching.as_deref().unwrap_or("")) {
        Ok(pattern) => pattern,
        Err(e) => return answer::error(&answer::bad(format!("matching: {e}"))),
    };
    let context = api.context.clone();
    // Millions of ids may have to be looked at.
    let found = tokio::task::spawn_blocking(move || {
        let mut found = std::collections::BTreeSet::new();
        let (serving, locks) = (context.serving.read(), context.locks.read());
        let all = serving.segments().chain(locks.iter().map(|l| &l.segment));
        for segment in all.filter(|s| pattern.is_match(s.as_str())) {
            found.insert(segment.clone());
            if found.len() > limit {
                // The first ones by id are kept, so that the answer does not depend on the order of the table.
                found.pop_last();
            }
        }
        found
    });
    match found.await {
        Ok(found) => answer::json(StatusCode::OK, &found),
        Err(e) => trough_http::server_error(e),
    }
}

/// `GET /v1/segment/ID`: all that is known of one segment.
pub(super) async fn segment(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Response {
    let id = match SegmentId::new(&id) {
        Ok(id) => id,
        Err(e) => return answer::error(&answer::bad(e.to_string())),
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
        .map(|s| json!({"role": s.service.role, "node": s.service.node, "url": s.service.url, "alive": s.alive, "cold": s.cold}))
        .collect();
    Ok(Some(json!({
        "segment": id,
        "cold": cold.ok(),
        "copies_wanted": copies.ok(),
        "canonical": canonical,
        "store_error": store_error,
        "lock": lock,
        "services": services,
        "assignments": assignments,
    })))
}
