//! Answers in the old surface's manner.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;

use crate::observe::Failed;

/// A text answer. Its content type is exactly `text/plain`, as the Python trough's.
pub fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response {
    with_type(status, "text/plain", text.into())
}

/// `500 Server Error: <message>` and a newline, under status 500.
pub fn server_error(message: impl std::fmt::Display) -> Response {
    let message = message.to_string();
    let mut response = plain(StatusCode::INTERNAL_SERVER_ERROR, format!("500 Server Error: {message}\n"));
    response.extensions_mut().insert(Failed(message));
    response
}

/// A JSON answer that is serialized already.
pub fn json_bytes(status: StatusCode, json: impl Into<Bytes>) -> Response {
    with_type(status, "application/json", json.into())
}

fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
