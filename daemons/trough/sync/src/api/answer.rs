//! Answers: JSON, texts in the old manner, and errors with a code.

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::Response,
};
use serde::Serialize;
use trough_client::CatalogError;
use trough_core::{ErrorCode, SegmentError};
use trough_http::{Failed, json_bytes, plain};

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => json_bytes(status, bytes),
        Err(e) => trough_http::server_error(e),
    }
}

/// The HTTP status of a code.
pub(super) fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest | ErrorCode::Forbidden | ErrorCode::BadSql | ErrorCode::NotWritable => {
            StatusCode::BAD_REQUEST
        }
        // Who has no token at all does not come this far.
        ErrorCode::Unauthorized => StatusCode::FORBIDDEN,
        ErrorCode::UnknownSegment => StatusCode::NOT_FOUND,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// `{"error": {"code", "message"}}` under the code's status: the form of `/v1/…`.
pub(super) fn error(error: &SegmentError) -> Response {
    let mut response = json(status_of(error.code), &serde_json::json!({ "error": error }));
    response.extensions_mut().insert(Failed(error.message.clone()));
    response
}

/// `400 Bad Request: …` for a mistake of the client's, else `500 Server Error: …`: the form of the old surface.
pub(super) fn old_error(error: &SegmentError) -> Response {
    match error.code {
        ErrorCode::BadRequest | ErrorCode::Forbidden | ErrorCode::BadSql => {
            plain(StatusCode::BAD_REQUEST, format!("400 Bad Request: {}\n", error.message))
        }
        ErrorCode::Unauthorized => plain(StatusCode::FORBIDDEN, format!("403 Forbidden: {}\n", error.message)),
        _ => trough_http::server_error(&error.message),
    }
}

/// Why a request that the master alone may do was not done.
pub(super) enum Refused {
    /// The mastership ended before anything was done, so that the new master can be asked.
    Resigned,
    Error(SegmentError),
}

impl From<SegmentError> for Refused {
    fn from(error: SegmentError) -> Self {
        Self::Error(error)
    }
}

/// A bad request's error.
pub(super) fn bad(message: impl Into<String>) -> SegmentError {
    SegmentError::new(ErrorCode::BadRequest, message)
}

/// Whether so many segments may stand in one request.
pub(super) fn few_enough(api: &super::Api, segments: usize) -> Result<(), SegmentError> {
    let most = api.context.settings.max_segments;
    if segments <= most {
        return Ok(());
    }
    Err(bad(format!("{segments} segments in one request, more than {most} (MAX_SEGMENTS)")))
}

/// A catalog's error as clients see it.
pub(super) fn of_catalog(error: CatalogError) -> SegmentError {
    let code = match &error {
        CatalogError::UnknownSchema { .. } => ErrorCode::BadRequest,
        CatalogError::Record { .. } | CatalogError::LockLost { .. } => ErrorCode::Internal,
        _ => ErrorCode::Unavailable,
    };
    SegmentError::new(code, error.to_string())
}

/// An error with all its causes; reqwest's own text hides them.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let more = e.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = e.source();
    }
    text
}

/// An answer of one JSON object a line, as it comes.
pub(super) fn ndjson(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(trough_core::wire::NDJSON));
    response
}
