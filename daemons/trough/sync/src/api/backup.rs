//! `GET /v1/backup`: the metadata as one compressed stream.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use futures::StreamExt as _;

use super::Api;
use crate::backup;

/// Streams a backup. One that breaks off lacks its last line, and is refused by a restore.
pub(super) async fn backup(State(api): State<Arc<Api>>) -> Response {
    let chunks = backup::stream(api.context.catalog.clone())
        .map(|chunk| chunk.inspect_err(|error| tracing::warn!(%error, "a backup of the metadata broke off")));
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    let name = HeaderValue::from_static("attachment; filename=\"trough-metadata.ndjson.gz\"");
    headers.insert(header::CONTENT_DISPOSITION, name);
    response
}
