//! The read port: the old endpoint, one statement on one segment, and `POST /v1/query`, map and reduce over many.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trough_config::Role;
use trough_core::{ErrorCode, NodeId, SegmentError, SegmentId, wire::QueryRequest};
use trough_engine::{ByteStream, Dialect, Format};
use trough_http::{Caller, Daemon, json_bytes, traced};

use crate::{
    request::{PROXIED, bad_request, body, decode, few_enough, new_error, old_error, quiet, segment, starting, text},
    state::{Route, Worker},
    told,
};

/// The routes of the read port.
pub(crate) fn routes(worker: Arc<Worker>, daemon: &Daemon) -> Router {
    Router::new()
        .route("/", get(old).post(old))
        .route("/v1/query", post(query))
        .route_layer(daemon.require_per_segment(Role::Read))
        .with_state(worker)
}

async fn old(State(worker): State<Arc<Worker>>, request: Request) -> Response {
    if !worker.is_started() {
        return starting();
    }
    let (parts, body) = match body(request, worker.settings.max_body_bytes).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let segment = match segment(&parts) {
        Ok(segment) => segment,
        Err(why) => return bad_request(why),
    };
    if let Err(refusal) = Caller::of(&parts.extensions).and_then(|caller| caller.check_plain(&segment)) {
        return refusal;
    }
    match worker.route(&segment) {
        Route::Here(file) => {
            let sql = match text(body) {
                Ok(sql) => sql,
                Err(why) => return bad_request(why),
            };
            let told = told::on_end(&worker, Dialect::Old);
            match worker.engine.legacy_read_told(file, sql, CancellationToken::new(), Some(told)).await {
                Ok(stream) => answer(stream, "application/json"),
                Err(error) => {
                    if error.code == ErrorCode::Corrupt {
                        worker.suspect(&segment);
                    }
                    // The log has it already.
                    quiet(old_failure(&segment, &error))
                }
            }
        }
        Route::Holder(node) => proxy(&worker, &segment, &node, &parts, body).await,
        Route::Nowhere(error) => {
            if error.code == ErrorCode::Corrupt {
                worker.suspect(&segment);
            }
            old_failure(&segment, &error)
        }
    }
}

fn old_failure(segment: &SegmentId, error: &SegmentError) -> Response {
    if error.message.contains(segment.as_str()) || !matches!(error.code, ErrorCode::Corrupt | ErrorCode::Io) {
        return old_error(error);
    }
    let message = format!("segment '{segment}': {}", error.message);
    old_error(&SegmentError { message, ..error.clone() })
}

/// The engine's answer as an HTTP one: with its length if it is whole, else streamed; a failure breaks the body off.
fn answer(mut stream: ByteStream, media_type: &'static str) -> Response {
    let mut response = match stream.take_whole() {
        Some(bytes) => json_bytes(StatusCode::OK, bytes),
        None => Response::new(Body::from_stream(stream)),
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Passes a read on to the holder of the segment's write lock and streams its answer back. Whether the client may read the
/// segment was decided before; the holder is asked with this node's own token.
async fn proxy(worker: &Arc<Worker>, segment: &SegmentId, node: &NodeId, parts: &Parts, body: Bytes) -> Response {
    worker.meters.proxied.increment(1);
    let fail = |why: String| {
        let message = format!("node '{node}' holds the write lock of segment '{segment}', and cannot be asked: {why}");
        old_failure(segment, &SegmentError::new(ErrorCode::Unavailable, message))
    };
    if parts.headers.contains_key(PROXIED) {
        return fail("the request was passed on once already".into());
    }
    let Some(base) = holder_url(worker, segment, node).await else { return fail("its address is not known".into()) };
    let url = format!("{}/?segment={}", base.trim_end_matches('/'), segment.url_encoded());
    let request = traced(worker.http.post(url).header(PROXIED, "1").body(body));
    match request.send().await {
        Ok(answer) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = answer.status();
            for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH] {
                if let Some(value) = answer.headers().get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            *response.body_mut() = Body::from_stream(answer.bytes_stream());
            response
        }
        Err(error) => fail(format!("{error:#}")),
    }
}

/// Base URL of a node's read port: from its own row, else (a Python worker, or one that has just come) from its
/// service row for the segment.
async fn holder_url(worker: &Worker, segment: &SegmentId, node: &NodeId) -> Option<String> {
    if let Some(url) = worker.peers.get(node).and_then(|peer| peer.read_url) {
        return Some(url);
    }
    if let Ok(Some(status)) = worker.catalog.node(node).await
        && let Some(url) = status.service.read_url
    {
        return Some(url);
    }
    let rows = worker.catalog.raw_services_of_segments(std::slice::from_ref(segment)).await.ok()?;
    let row = rows
        .into_iter()
        .find(|row| row.node.as_ref() == Some(node) && row.role.as_deref() == Some(trough_core::records::ROLE_READ))?;
    row.url.map(|url| url.split('?').next().unwrap_or_default().to_owned())
}

async fn query(State(worker): State<Arc<Worker>>, request: Request) -> Response {
    if !worker.is_started() {
        return starting();
    }
    let (parts, body) = match body(request, worker.settings.max_body_bytes).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let caller = match Caller::of(&parts.extensions) {
        Ok(caller) => caller,
        Err(refusal) => return refusal,
    };
    let request: QueryRequest = match decode(&parts, body).await {
        Ok(request) => request,
        Err(why) => return new_error(&SegmentError::new(ErrorCode::BadRequest, why)),
    };
    if let Err(error) = few_enough(&worker, request.segments.len()) {
        return new_error(&error);
    }
    tracing::debug!(segments = request.segments.len(), reduce = request.reduce.is_some(), "query");
    let accept = parts.headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    let format = Format::of_accept(accept);
    let files = request
        .segments
        .iter()
        .map(|segment| {
            caller.check(segment)?;
            match worker.route(segment) {
                Route::Here(file) => Ok(file),
                Route::Holder(node) => Err(moved(&worker, segment, &node)),
                Route::Nowhere(error) => Err(error),
            }
        })
        .collect();
    let told = told::on_end(&worker, Dialect::Strict);
    let stream = worker.engine.query_told(files, request, format, CancellationToken::new(), Some(told)).await;
    answer(stream, format.media_type())
}

fn moved(worker: &Worker, segment: &SegmentId, node: &NodeId) -> SegmentError {
    SegmentError {
        code: ErrorCode::Moved,
        message: format!("node '{node}' holds the write lock of segment '{segment}'"),
        hint: worker.peers.get(node).and_then(|peer| peer.read_url),
    }
}
