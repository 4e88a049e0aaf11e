//! `GET /v1/events`.

use axum::{
    Router,
    extract::{Query, State},
    http::StatusCode,
    response::Response,
    routing::get,
};
use serde::Deserialize;
use serde_json::json;
use trough_config::Role;
use trough_core::SegmentId;

use super::Events;
use crate::{Daemon, json_bytes, server_error};

/// The most events that one answer lists.
const MOST: usize = 1_000;

#[derive(Deserialize)]
struct Wish {
    segment: Option<SegmentId>,
    limit: Option<usize>,
}

/// `GET /v1/events?segment=ID&limit=N` for the role read: `{"node", "events"}`, the newest first.
pub fn routes(events: Events, daemon: &Daemon) -> Router {
    Router::new().route("/v1/events", get(list)).route_layer(daemon.require(Role::Read)).with_state(events)
}

async fn list(State(events): State<Events>, Query(wish): Query<Wish>) -> Response {
    let found = events.latest(wish.segment.as_ref(), wish.limit.unwrap_or(100).min(MOST));
    match serde_json::to_vec(&json!({"node": events.node(), "events": found})) {
        Ok(bytes) => json_bytes(StatusCode::OK, bytes),
        Err(error) => server_error(error),
    }
}
