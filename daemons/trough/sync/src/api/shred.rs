//! Shredding: removes a segment's copies, records and canonical file, and says what it did.
//!
//! Begins with the assignments and the canonical file, so that nothing re-creates what follows; every step can be
//! taken again, so a shred that broke off is finished by another.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use serde::Serialize;
use serde_json::json;
use trough_client::catalog::NodeStatus;
use trough_core::{ErrorCode, NodeId, SegmentError, SegmentId};
use trough_http::Caller;

use super::{
    Api,
    answer::{self, Refused},
    provision::unreachable,
    proxy,
};
use crate::context::{Context, by_name};

/// How long a worker may take to remove its copy.
const WORKER_LIMIT: Duration = Duration::from_secs(120);

/// One step, done or failed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    /// What was done.
    step: &'static str,
    /// On what, with what result.
    detail: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn done(step: &'static str, detail: impl Into<String>) -> Step {
    Step { step, detail: detail.into(), error: None }
}

fn failed(step: &'static str, detail: impl Into<String>, error: impl std::fmt::Display) -> Step {
    Step { step, detail: detail.into(), error: Some(error.to_string()) }
}

/// `DELETE /segment/ID`.
pub(super) async fn old_style(State(api): State<Arc<Api>>, caller: Caller, Path(id): Path<String>) -> Response {
    match shred(&api.context, &caller, &id).await {
        Ok(steps) => match steps.iter().find(|s| s.error.is_some()) {
            None => trough_http::plain(StatusCode::NO_CONTENT, ""),
            Some(step) => trough_http::server_error(format!(
                "{} ({}): {}; the rest is done, delete the segment again to finish",
                step.step,
                step.detail,
                step.error.as_deref().unwrap_or_default()
            )),
        },
        Err(Refused::Resigned) => proxy::resigned(),
        Err(Refused::Error(e)) if e.code == ErrorCode::UnknownSegment => {
            trough_http::plain(StatusCode::NOT_FOUND, format!("404 Not Found: {}\n", e.message))
        }
        Err(Refused::Error(e)) if e.code == ErrorCode::NotWritable => {
            trough_http::plain(StatusCode::BAD_REQUEST, format!("400 Bad Request: {}\n", e.message))
        }
        Err(Refused::Error(e)) => answer::old_error(&e),
    }
}

/// `DELETE /v1/segment/ID`.
pub(super) async fn with_steps(State(api): State<Arc<Api>>, caller: Caller, Path(id): Path<String>) -> Response {
    match shred(&api.context, &caller, &id).await {
        Ok(steps) => {
            let status = if steps.iter().all(|s| s.error.is_none()) {
                StatusCode::OK
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            };
            answer::json(status, &json!({ "segment": id, "steps": steps }))
        }
        Err(Refused::Resigned) => proxy::resigned(),
        Err(Refused::Error(e)) => answer::error(&e),
    }
}

async fn shred(context: &Arc<Context>, caller: &Caller, text: &str) -> Result<Vec<Step>, Refused> {
    let id = SegmentId::new(text).map_err(|e| answer::bad(e.to_string()))?;
    caller.check(&id)?;
    let Some(term) = context.term() else {
        return Err(Refused::Resigned);
    };
    let _committing = context.committing.lock().await;
    let catalog = &context.catalog;
    if let Some(lock) = catalog.lock(&id).await.map_err(answer::of_catalog)? {
        let message = format!("cannot delete segment {id}: write lock exists, held by node {}", lock.node);
        return Err(SegmentError::new(ErrorCode::NotWritable, message).into());
    }
    let assignments = catalog.assignments_of_segment(&id).await.map_err(answer::of_catalog)?;
    let services = catalog.raw_services_of_segments(std::slice::from_ref(&id)).await.map_err(answer::of_catalog)?;
    let canonical = match context.store.stat(&id).await {
        Ok(entry) => Some(entry),
        Err(e) if e.is_not_found() => None,
        Err(e) => return Err(SegmentError::new(e.code(), e.to_string()).into()),
    };
    if assignments.is_empty() && services.is_empty() && canonical.is_none() {
        let message = format!("segment {id} is unknown: no assignment, no service, no file in the canonical store");
        return Err(SegmentError::new(ErrorCode::UnknownSegment, message).into());
    }
    tracing::info!(segment = %id, "shredding");
    let mut steps = Vec::new();
    // Before anything goes: a worker that is away has to know it when it is back.
    let recorded = catalog.canonical_of_segments(std::slice::from_ref(&id)).await.map_err(answer::of_catalog)?;
    let times = assignments.iter().filter_map(|a| a.mtime_ms).chain(services.iter().filter_map(|s| s.version_ms));
    let times = times.chain(canonical.iter().map(|entry| entry.mtime_ms)).chain(recorded.iter().map(|c| c.mtime_ms));
    catalog.record_shred(&id, times.max().unwrap_or(0)).await.map_err(answer::of_catalog)?;

    let rows: Vec<String> = assignments.iter().map(|a| a.id.clone()).collect();
    catalog.commit_assignments(&[], &rows, term.epoch).await.map_err(answer::of_catalog)?;
    steps.push(done("delete assignments", format!("{} deleted", rows.len())));
    context.mark_shredded(&id);
    context.events.note(&id, trough_http::events::What::Shredded);

    let mut paths: BTreeSet<String> = assignments.iter().map(|a| a.remote_path.clone()).collect();
    paths.insert(context.store.path_of(&id));
    for path in paths {
        match context.store.delete_path(&path).await {
            Ok(true) => steps.push(done("delete the canonical file", path)),
            Ok(false) => steps.push(done("delete the canonical file", format!("{path}: there is none"))),
            Err(e) => steps.push(failed("delete the canonical file", path, e)),
        }
    }

    let mut holders: HashSet<NodeId> = assignments.into_iter().map(|a| a.node).collect();
    holders.extend(services.iter().filter_map(|s| s.node.clone()));
    let nodes = context.nodes().await.map_err(answer::of_catalog)?;
    let known = by_name(&nodes);
    let removals = holders.into_iter().map(|node| {
        let status = known.get(&node).copied();
        let id = &id;
        async move { remove_copy(context, id, node, status).await }
    });
    steps.extend(futures::future::join_all(removals).await);

    let rows: Vec<String> = services.into_iter().map(|s| s.id).collect();
    match catalog.withdraw(&rows).await {
        // The workers have deleted their own rows by now.
        Ok(left) => steps.push(done("delete service rows", format!("{} found, {left} left to delete", rows.len()))),
        Err(e) => steps.push(failed("delete service rows", format!("{} found", rows.len()), e)),
    }
    if let Err(e) = catalog.forget_canonical(std::slice::from_ref(&id)).await {
        steps.push(failed("forget the recorded promotion", id.as_str(), e));
    }
    Ok(steps)
}

async fn remove_copy(context: &Context, id: &SegmentId, node: NodeId, status: Option<&NodeStatus>) -> Step {
    const STEP: &str = "delete the copy";
    let Some((status, base)) = status.filter(|s| s.alive).and_then(|s| Some((s, context.manage_url(s)?))) else {
        return done(STEP, format!("worker {node} is not there; it removes its copy when it is back"));
    };
    if status.service.cold_storage == Some(true) {
        return done(STEP, format!("worker {node} is cold and has none of its own"));
    }
    let url = format!("{base}segment/{}", id.url_encoded());
    match context.http.delete(url).timeout(WORKER_LIMIT).send().await {
        Ok(r) if r.status().is_success() => done(STEP, format!("worker {node}")),
        Ok(r) if r.status() == StatusCode::NOT_FOUND => done(STEP, format!("worker {node}: there is none")),
        Ok(r) => failed(STEP, format!("worker {node}"), super::promote::refusal(&base, r).await),
        Err(e) => failed(STEP, format!("worker {node}"), unreachable(&base, &e)),
    }
}
