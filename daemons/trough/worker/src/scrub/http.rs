//! `POST /v1/scrub` and `POST /v1/restore` of the segment manager, for the sync master.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::Deserialize;
use trough_core::{
    ErrorCode, SegmentError, SegmentId,
    wire::{NDJSON, scrub::ScrubRequest},
};

use super::{demand, restore};
use crate::{
    request::{body, decode, json, new_error, starting},
    state::Worker,
};

/// Looks at this worker's copies; a JSON object a line ([`trough_core::wire::scrub::ScrubLine`]).
pub(crate) async fn scrub(State(worker): State<Arc<Worker>>, request: Request) -> Response {
    let bad = |why| new_error(&SegmentError::new(ErrorCode::BadRequest, why));
    if !worker.is_started() {
        return starting();
    }
    if worker.settings.run_as_cold_storage_node {
        return bad("a cold worker has no copies of its own".to_owned());
    }
    let (parts, body) = match body(request, worker.settings.max_body_bytes).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let request: ScrubRequest = match decode(&parts, body).await {
        Ok(request) => request,
        Err(why) => return bad(why),
    };
    let chosen = match demand::chosen(&worker, &request) {
        Ok(chosen) => chosen,
        Err(why) => return bad(why),
    };
    let lines = demand::run(worker, request, chosen).map(|line| {
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        Ok::<_, std::convert::Infallible>(Bytes::from(text))
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    response
}

#[derive(Deserialize)]
struct Restore {
    segment: SegmentId,
    sha256: String,
    epoch: u64,
}

/// Makes this worker's copy the canonical one.
pub(crate) async fn restore(State(worker): State<Arc<Worker>>, request: Request) -> Response {
    if !worker.is_started() {
        return starting();
    }
    let (parts, body) = match body(request, worker.settings.max_body_bytes).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let wish: Restore = match decode(&parts, body).await {
        Ok(wish) => wish,
        Err(why) => return new_error(&SegmentError::new(ErrorCode::BadRequest, why)),
    };
    if let Err(error) = worker.see_epoch(wish.epoch) {
        return new_error(&error);
    }
    // A task of its own: begun, it ends as it should even if the client goes away.
    let done = tokio::spawn(async move { restore::canonical(&worker, &wish.segment, &wish.sha256, wish.epoch).await });
    match done.await {
        Ok(Ok(entry)) => json(StatusCode::OK, &entry),
        Ok(Err(error)) => new_error(&error),
        Err(error) => trough_http::server_error(error),
    }
}
