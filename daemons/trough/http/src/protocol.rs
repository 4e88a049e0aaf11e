//! What requests and answers say of the protocol that their sender speaks, and how that is read.

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    middleware::{self, Next},
    response::Response,
};
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use trough_core::{
    ErrorCode, SegmentError,
    protocol::{FIRST_PROTOCOL, NEEDS_HEADER, PROTOCOL, PROTOCOL_HEADER},
};

use crate::respond::json_bytes;

/// Every answer says what this node speaks, and a request that this node cannot understand is refused.
pub(crate) fn layer(router: Router) -> Router {
    router.layer(middleware::from_fn(exchange))
}

async fn exchange(request: Request, next: Next) -> Response {
    let needed = number(request.headers(), NEEDS_HEADER);
    let mut response = match needed.filter(|needed| *needed > PROTOCOL) {
        None => next.run(request).await,
        Some(needed) => {
            let message =
                format!("this node speaks protocol {PROTOCOL}, the request needs {needed}: upgrade this node");
            let error = SegmentError::new(ErrorCode::Unavailable, message);
            let body = serde_json::json!({ "error": error });
            json_bytes(StatusCode::SERVICE_UNAVAILABLE, body.to_string().into_bytes())
        }
    };
    response.headers_mut().insert(HeaderName::from_static(PROTOCOL_HEADER), HeaderValue::from(PROTOCOL));
    response
}

fn number(headers: &HeaderMap, name: &str) -> Option<u32> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The protocol that the sender of a request speaks.
pub fn protocol_of(headers: &HeaderMap) -> u32 {
    number(headers, PROTOCOL_HEADER).unwrap_or(FIRST_PROTOCOL)
}

/// Reads a request's document. A field that is not known is a mistake, unless the sender speaks a newer protocol than ours: then
/// it is one that we cannot know, and is ignored.
///
/// # Errors
/// What does not fit.
pub fn read_document<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    headers: &HeaderMap,
    document: D,
) -> Result<T, D::Error> {
    let mut unknown = None;
    let read = serde_ignored::deserialize(document, |path| {
        unknown.get_or_insert_with(|| path.to_string());
    })?;
    match unknown {
        Some(field) if protocol_of(headers) <= PROTOCOL => Err(D::Error::custom(format!("unknown field `{field}`"))),
        _ => Ok(read),
    }
}

/// The same of a body in JSON.
///
/// # Errors
/// What does not fit.
pub fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, serde_json::Error> {
    let mut document = serde_json::Deserializer::from_slice(body);
    let read = read_document(headers, &mut document)?;
    document.end()?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Wish {
        node: String,
    }

    #[test]
    fn only_a_newer_sender_may_say_what_we_do_not_know() {
        let from = |protocol: Option<u32>| {
            protocol.map(|p| (HeaderName::from_static(PROTOCOL_HEADER), HeaderValue::from(p))).into_iter().collect()
        };
        let read = |protocol, body: &str| read_json::<Wish>(&from(protocol), body.as_bytes());
        let future = r#"{"node": "w1", "later": {"x": 1}}"#;
        assert_eq!(read(Some(PROTOCOL + 1), future).ok(), Some(Wish { node: "w1".into() }));
        for protocol in [None, Some(FIRST_PROTOCOL), Some(PROTOCOL)] {
            let error = read(protocol, future).expect_err("a mistake").to_string();
            assert!(error.contains("unknown field `later`"), "{error}");
            assert!(read(protocol, r#"{"node": "w1"}"#).is_ok());
        }
        assert!(read(Some(PROTOCOL + 1), r#"{"node": "w1"} x"#).is_err(), "something stands behind it");
        assert!(read(Some(PROTOCOL + 1), r#"{"later": 1}"#).is_err(), "what must be there is missing");
    }
}
