//! ETag and 304 for what is asked for again and again: the page polls.

use std::hash::{DefaultHasher, Hasher as _};

use axum::{
    body::{Body, HttpBody as _},
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};

/// Answers that are longer are passed through as they are.
const LONGEST: usize = 4 << 20;

/// Gives a successful answer to GET an ETag, and no body if the client has it already.
pub(super) async fn etag(request: Request, next: Next) -> Response {
    if request.method() != Method::GET {
        return next.run(request).await;
    }
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let response = next.run(request).await;
    // Without a length it is a stream: another server's answer, which has a tag of its own.
    let length = response.body().size_hint().exact();
    if response.status() != StatusCode::OK
        || response.headers().contains_key(header::ETAG)
        || length.is_none_or(|length| length > LONGEST as u64)
    {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = match axum::body::to_bytes(body, LONGEST).await {
        Ok(bytes) => bytes,
        Err(error) => return trough_http::server_error(error),
    };
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    // Weak: the bytes on the wire depend on the compression.
    let tag = format!("W/\"{:016x}\"", hasher.finish());
    if let Ok(value) = HeaderValue::from_str(&tag) {
        parts.headers.insert(header::ETAG, value);
    }
    let same = known.is_some_and(|known| known.to_str().is_ok_and(|known| known.split(',').any(|k| k.trim() == tag)));
    if same {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}
