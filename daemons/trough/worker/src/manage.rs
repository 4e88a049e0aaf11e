//! The worker's segment manager (SYNC_LOCAL_PORT): provisioning, promotion, removal, schemas, acting on this worker.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::Response,
    routing::{delete, get, post},
};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::json as document;
use trough_config::Role;
use trough_core::{ErrorCode, SchemaId, SegmentError, SegmentId, wire::NDJSON};
use trough_http::{Daemon, plain, read_json, server_error};

use crate::{
    collect, promote, provision,
    request::{bad_request, body, json, new_error, starting},
    scrub,
    state::Worker,
};

/// How long withdrawn rows may take to vanish before a removal gives up.
const WITHDRAWAL: std::time::Duration = std::time::Duration::from_secs(10);

/// The routes of the segment manager.
pub(crate) fn routes(worker: Arc<Worker>, daemon: &Daemon) -> Router {
    let admin = Router::new()
        .route("/segment/{id}", delete(remove))
        .route("/v1/scrub", post(scrub::http::scrub))
        .route("/v1/restore", post(scrub::http::restore))
        .route_layer(daemon.require(Role::Admin));
    let write = Router::new()
        .route("/provision", post(old_provision))
        .route("/promote", post(old_promote))
        .route("/v1/provision", post(provision_many))
        .route("/v1/promote", post(promote_many))
        .route_layer(daemon.require(Role::Write));
    let read = Router::new()
        .route("/schema", get(schemas))
        .route("/schema/{id}", get(schema))
        .route("/schema/{id}/sql", get(schema_sql))
        .route_layer(daemon.require(Role::Read));
    admin.merge(write).merge(read).with_state(worker)
}

async fn read(worker: &Worker, request: Request) -> Result<(Parts, Bytes), Response> {
    if !worker.is_started() {
        return Err(starting());
    }
    body(request, worker.settings.max_body_bytes).await
}

#[derive(Deserialize)]
struct OldProvision {
    segment: SegmentId,
    #[serde(default = "default_schema")]
    schema: String,
}

fn default_schema() -> String {
    "default".to_owned()
}

async fn old_provision(State(worker): State<Arc<Worker>>, request: Request) -> Response {
    let (parts, body) = match read(&worker, request).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !content_type.split(';').next().unwrap_or_default().trim().ends_with("json") {
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "415 Unsupported Media Type: send application/json\n");
    }
    let wish: OldProvision = match serde_json::from_slice(&body) {
        Ok(wish) => wish,
        Err(e) => return bad_request(format_args!("provisioning wants {{\"segment\": ID, \"schema\": ID}}: {e}")),
    };
    let schema = match provision::schema(&worker, &wish.schema).await {
        Ok(schema) => schema,
        Err(error) => return told(&error),
    };
    let result = in_task(worker.clone(), vec![wish.segment], schema.clone(), None).await.pop();
    match result {
        Some(Ok(done)) => json(
            StatusCode::OK,
            &document!({"write_url": done.write_url, "result": "success", "size": done.size, "schema": schema.id}),
        ),
        Some(Err(error)) => told(&error),
        None => server_error("provisioning gave no result"),
    }
}

/// Provisions in a task of its own: begun, it ends as it should even if the client goes away.
async fn in_task(
    worker: Arc<Worker>,
    segments: Vec<SegmentId>,
    schema: trough_core::records::Schema,
    epoch: Option<u64>,
) -> Vec<Result<provision::Provisioned, SegmentError>> {
    let n = segments.len();
    let task = tokio::spawn(async move { provision::provision(&worker, &segments, &schema, epoch).await });
    task.await.unwrap_or_else(|e| {
        (0..n).map(|_| Err(SegmentError::new(ErrorCode::Internal, format!("provisioning: {e}")))).collect()
    })
}

/// 400 for what the client got wrong, 503 for what may pass, else 500.
fn told(error: &SegmentError) -> Response {
    match error.code {
        ErrorCode::BadRequest => bad_request(&error.message),
        ErrorCode::Unavailable => {
            plain(StatusCode::SERVICE_UNAVAILABLE, format!("503 Server Error: {}\n", error.message))
        }
        _ => server_error(&error.message),
    }
}

#[derive(Deserialize)]
struct Provision {
    segments: Vec<SegmentId>,
    #[serde(default = "default_schema")]
    schema: String,
    #[serde(default)]
    epoch: Option<u64>,
}

async fn provision_many(State(worker): State<Arc<Worker>>, request: Request) -> Response {
    let (parts, body) = match read(&worker, request).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let bad = |why: String| new_error(&SegmentError::new(ErrorCode::BadRequest, why));
    let wish: Provision = match read_json(&parts.headers, &body) {
        Ok(wish) => wish,
        Err(e) => return bad(format!("provisioning wants {{\"segments\": [ID, …], \"schema\": ID}}: {e}")),
    };
    if let Some(epoch) = wish.epoch
        && let Err(error) = worker.see_epoch(epoch)
    {
        return new_error(&error);
    }
    let schema = match provision::schema(&worker, &wish.schema).await {
        Ok(schema) => schema,
        Err(error) => return new_error(&error),
    };
    let results = in_task(worker.clone(), wish.segments.clone(), schema, wish.epoch).await;
    let results: Vec<_> = wish
        .segments
        .iter()
        .zip(results)
        .map(|(segment, result)| match result {
            Ok(done) => document!({"segment": done.segment, "write_url": done.write_url, "size": done.size}),
            Err(error) => document!({"segment": segment, "error": error}),
        })
        .collect();
    json(StatusCode::OK, &document!({ "results": results }))
}

#[derive(Deserialize)]
struct OldPromote {
    segment: SegmentId,
}

async fn old_promote(State(worker): State<Arc<Worker>>, request: Request) -> Response {
    let (_, body) = match read(&worker, request).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let wish: OldPromote = match serde_json::from_slice(&body) {
        Ok(wish) => wish,
        Err(e) => return bad_request(format_args!("promotion wants {{\"segment\": ID}}: {e}")),
    };
    let mut results = std::pin::pin!(promote::promote_all(worker, vec![wish.segment]));
    match results.next().await {
        Some((_, Ok(entry))) => json(StatusCode::OK, &document!({ "remote_path": entry.path })),
        Some((_, Err(error))) => server_error(&error.message),
        None => server_error("promotion gave no result"),
    }
}

#[derive(Deserialize)]
struct Promote {
    segments: Vec<SegmentId>,
    #[serde(default)]
    epoch: Option<u64>,
}

async fn promote_many(State(worker): State<Arc<Worker>>, request: Request) -> Response {
    let (parts, body) = match read(&worker, request).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let wish: Promote = match read_json(&parts.headers, &body) {
        Ok(wish) => wish,
        Err(e) => {
            let why = format!("promotion wants {{\"segments\": [ID, …]}}: {e}");
            return new_error(&SegmentError::new(ErrorCode::BadRequest, why));
        }
    };
    if let Some(epoch) = wish.epoch
        && let Err(error) = worker.see_epoch(epoch)
    {
        return new_error(&error);
    }
    let lines = promote::promote_all(worker, wish.segments).map(|(segment, result)| {
        let line = match result {
            Ok(entry) => document!({"segment": segment, "remote_path": entry.path}),
            Err(error) => document!({"segment": segment, "error": error}),
        };
        Ok::<_, std::convert::Infallible>(Bytes::from(format!("{line}\n")))
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    response
}

/// Removes this worker's copy, for SHRED: not while anybody may write the segment.
async fn remove(State(worker): State<Arc<Worker>>, Path(id): Path<String>) -> Response {
    if !worker.is_started() {
        return starting();
    }
    let segment = match SegmentId::new(&id) {
        Ok(segment) => segment,
        Err(e) => return bad_request(e),
    };
    let _busy = worker.busy.acquire(std::slice::from_ref(&segment)).await;
    if !worker.files.contains(&segment) {
        let text = format!("404 Not Found: node '{}' has no copy of segment '{segment}'\n", worker.node);
        return plain(StatusCode::NOT_FOUND, text);
    }
    // The feed may lag behind: the database decides.
    match worker.catalog.lock(&segment).await {
        Ok(None) => {}
        Ok(Some(lock)) => {
            return bad_request(format_args!("segment '{segment}' is write-locked by node '{}'", lock.node));
        }
        Err(error) => return told(&provision::catalog_error(&error)),
    }
    if let Some(held) = worker.locks.held(&segment) {
        worker.locks.released(&held);
    }
    worker.advertiser.clear(&segment);
    if !worker.advertiser.settled(std::slice::from_ref(&segment), WITHDRAWAL).await {
        return told(&SegmentError::new(
            ErrorCode::Unavailable,
            "the service rows cannot be withdrawn, nothing was removed",
        ));
    }
    if worker.settings.run_as_cold_storage_node {
        worker.engine.evict(&segment);
        worker.files.remove(&segment);
    } else if !collect::remove(&worker, &segment).await {
        return server_error(format_args!("the file of segment '{segment}' cannot be removed, see this worker's log"));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

async fn schemas(State(worker): State<Arc<Worker>>) -> Response {
    match worker.catalog.schemas().await {
        Ok(schemas) => json(StatusCode::OK, &schemas.into_iter().map(|s| s.id).collect::<Vec<_>>()),
        Err(error) => told(&provision::catalog_error(&error)),
    }
}

async fn find_schema(worker: &Worker, id: &str) -> Result<trough_core::records::Schema, Response> {
    let id = SchemaId::new(id).map_err(bad_request)?;
    match worker.catalog.schema(&id).await {
        Ok(Some(schema)) => Ok(schema),
        Ok(None) => Err(plain(StatusCode::NOT_FOUND, format!("404 Not Found: schema '{id}' is not registered\n"))),
        Err(error) => Err(told(&provision::catalog_error(&error))),
    }
}

async fn schema(State(worker): State<Arc<Worker>>, Path(id): Path<String>) -> Response {
    match find_schema(&worker, &id).await {
        Ok(schema) => json(StatusCode::OK, &schema),
        Err(answer) => answer,
    }
}

async fn schema_sql(State(worker): State<Arc<Worker>>, Path(id): Path<String>) -> Response {
    match find_schema(&worker, &id).await {
        Ok(schema) => {
            let mut response = plain(StatusCode::OK, schema.sql);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/sql"));
            response
        }
        Err(answer) => answer,
    }
}
