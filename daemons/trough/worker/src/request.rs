//! What the HTTP handlers share: which segment a request names, what its body is, how a failure is told.

use axum::{
    extract::Request,
    http::{StatusCode, header, request::Parts},
    response::Response,
};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use trough_client::http::TRACE_HEADER;
use trough_core::{ErrorCode, SegmentError, SegmentId, wire::MSGPACK};
use trough_http::{json_bytes, plain, read_document, read_json, server_error};

/// Set on a request that a worker passes on, so that it goes one step only.
pub(crate) const PROXIED: &str = "x-trough-proxied";

/// A body up to this length, in bytes, is read in well under a millisecond.
const READ_AT_ONCE: usize = 64 << 10;

/// Reads the whole body.
///
/// # Errors
/// The answer for the client: 413 if it is too long, 400 if it broke off.
pub(crate) async fn body(request: Request, limit: usize) -> Result<(Parts, Bytes), Response> {
    let (parts, body) = request.into_parts();
    let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > limit) {
        return Err(too_large(limit));
    }
    match axum::body::to_bytes(body, limit).await {
        Ok(bytes) => Ok((parts, bytes)),
        Err(e) if std::error::Error::source(&e).is_some_and(|s| s.to_string().contains("limit")) => {
            Err(too_large(limit))
        }
        Err(e) => Err(bad_request(format_args!("the body broke off: {e}"))),
    }
}

fn too_large(limit: usize) -> Response {
    plain(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("413 Payload Too Large: the body exceeds {limit} bytes (MAX_BODY_BYTES)\n"),
    )
}

/// 400 with a text.
pub(crate) fn bad_request(message: impl std::fmt::Display) -> Response {
    plain(StatusCode::BAD_REQUEST, format!("400 Bad Request: {message}\n"))
}

/// 503, for a worker that has not started.
pub(crate) fn starting() -> Response {
    plain(StatusCode::SERVICE_UNAVAILABLE, "503 Server Error: this worker is starting\n")
}

/// The segment that a request on an old endpoint names: by the query parameter, else by the Host header's first label.
///
/// # Errors
/// A text that says what is wrong.
pub(crate) fn segment(parts: &Parts) -> Result<SegmentId, String> {
    let parameter = parts.uri.query().and_then(|query| {
        query.split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name == "segment").then_some(value)
        })
    });
    if let Some(value) = parameter {
        let value = value.replace('+', " ");
        let text = percent_decode_str(&value).decode_utf8().map_err(|_| "segment id is not UTF-8".to_owned())?;
        return SegmentId::new(&text).map_err(|e| e.to_string());
    }
    let host = parts
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| parts.uri.authority().map(|a| a.as_str()))
        .unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    match name.split_once('.') {
        Some((label, _)) if name.parse::<std::net::Ipv4Addr>().is_err() => {
            SegmentId::new(label).map_err(|e| e.to_string())
        }
        _ => Err("no segment is named: neither by the parameter ?segment=ID nor by the Host header".to_owned()),
    }
}

/// The text of a body.
///
/// # Errors
/// A text that says where it is no UTF-8.
pub(crate) fn text(body: Bytes) -> Result<String, String> {
    String::from_utf8(body.into())
        .map_err(|e| format!("the statement is not UTF-8 (byte {})", e.utf8_error().valid_up_to()))
}

/// The trace id that the client sent, for the log.
pub(crate) fn trace(parts: &Parts) -> Option<&str> {
    parts.headers.get(TRACE_HEADER)?.to_str().ok()
}

/// Whether the request's body is MessagePack.
pub(crate) fn is_msgpack(parts: &Parts) -> bool {
    let value = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    value.is_some_and(|v| v.contains("msgpack"))
}

/// A body in JSON or MessagePack. A large one is read on a thread that may take its time.
///
/// # Errors
/// A text that says what is wrong.
pub(crate) async fn decode<T: DeserializeOwned + Send + 'static>(parts: &Parts, body: Bytes) -> Result<T, String> {
    if body.len() <= READ_AT_ONCE {
        return decode_now(parts, &body);
    }
    let parts = parts.clone();
    let reading = tokio::task::spawn_blocking(move || decode_now(&parts, &body));
    reading.await.unwrap_or_else(|e| Err(format!("the body cannot be read: {e}")))
}

fn decode_now<T: DeserializeOwned>(parts: &Parts, body: &[u8]) -> Result<T, String> {
    if is_msgpack(parts) {
        let mut document = rmp_serde::Deserializer::from_read_ref(body);
        read_document(&parts.headers, &mut document).map_err(|e| format!("the body is no such MessagePack: {e}"))
    } else {
        read_json(&parts.headers, body).map_err(|e| format!("the body is no such JSON: {e}"))
    }
}

/// A failure on the old endpoints. Whoever asked for what cannot be is told by 500, as ever.
pub(crate) fn old_error(error: &SegmentError) -> Response {
    server_error(&error.message)
}

/// A failure of a whole request on the new endpoints: `{"error": {"code", "message"}}`.
pub(crate) fn new_error(error: &SegmentError) -> Response {
    let status = match error.code {
        ErrorCode::BadRequest
        | ErrorCode::BadSql
        | ErrorCode::Limit
        | ErrorCode::NoSuchTable
        | ErrorCode::NoSuchColumn => StatusCode::BAD_REQUEST,
        ErrorCode::UnknownSegment => StatusCode::NOT_FOUND,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::Moved | ErrorCode::NotWritable | ErrorCode::Constraint => StatusCode::CONFLICT,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    json(status, &serde_json::json!({ "error": error }))
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, document: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(document) {
        Ok(bytes) => json_bytes(status, bytes),
        Err(e) => server_error(e),
    }
}

/// A MessagePack answer.
pub(crate) fn msgpack(document: &impl serde::Serialize) -> Response {
    match rmp_serde::to_vec_named(document) {
        Ok(bytes) => {
            let mut response = plain(StatusCode::OK, bytes);
            response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(MSGPACK));
            response
        }
        Err(e) => server_error(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, host: &str) -> Parts {
        let request = axum::http::Request::builder().uri(uri).header("host", host).body(()).expect("request");
        request.into_parts().0
    }

    #[test]
    fn the_segment_is_found() {
        let of = |uri: &str, host: &str| segment(&parts(uri, host)).map(|s| s.to_string());
        assert_eq!(of("/?segment=a%3Ab%20c+d", "x").as_deref(), Ok("a:b c d"));
        assert_eq!(of("/?x=1&segment=s-1", "x.y").as_deref(), Ok("s-1"));
        assert_eq!(of("/", "seg-1.trough.example:6222").as_deref(), Ok("seg-1"));
        assert!(of("/", "127.0.0.1:6222").is_err());
        assert!(of("/", "localhost").is_err());
        assert!(of("/?segment=..%2Fx", "x").is_err());
        assert!(of("/?segment=", "x").is_err());
        assert!(of("/?segment=%ff", "x").is_err());
    }
}
