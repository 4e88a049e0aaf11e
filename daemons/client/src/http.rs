//! HTTP to workers and sync servers: one pooled client, a bearer token, the cluster's CA.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use trough_core::{
    ErrorCode, SegmentError,
    protocol::{PROTOCOL, PROTOCOL_HEADER},
};

/// How long what was sent may stay unacknowledged.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// How workers and sync servers are talked to.
#[derive(Clone)]
pub struct HttpOptions {
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<String>,
    /// Certificates (PEM) that sign the daemons', beside those that everybody trusts.
    pub ca_pem: Option<Vec<u8>>,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { token: None, ca_pem: None, connect_timeout: Duration::from_secs(3) }
    }
}

impl std::fmt::Debug for HttpOptions {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpOptions")
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("ca_pem", &self.ca_pem.as_ref().map(Vec::len))
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}

/// The HTTP client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The token holds what a header cannot.
    #[error("the token holds characters that cannot be sent")]
    Token,
    /// The CA file holds no certificate.
    #[error("read the CA certificates: {0}")]
    Ca(String),
    /// The client cannot be made.
    #[error("make an HTTP client: {0}")]
    Client(String),
}

/// The pooled client. It takes no proxy from the environment and follows no redirect.
///
/// # Errors
/// [`HttpError`].
pub fn client(options: &HttpOptions) -> Result<reqwest::Client, HttpError> {
    let mut headers = HeaderMap::new();
    headers.insert(PROTOCOL_HEADER, PROTOCOL.into());
    if let Some(token) = &options.token {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| HttpError::Token)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let mut builder = reqwest::Client::builder()
        .default_headers(headers)
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .no_proxy()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .pool_idle_timeout(Duration::from_secs(50))
        .pool_max_idle_per_host(64);
    #[cfg(target_os = "linux")]
    {
        // After a cut, a kept connection would be tried again only at TCP's long intervals.
        builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
    }
    if let Some(pem) = &options.ca_pem {
        let all = reqwest::Certificate::from_pem_bundle(pem).map_err(|e| HttpError::Ca(e.to_string()))?;
        if all.is_empty() {
            return Err(HttpError::Ca("no certificate in it".into()));
        }
        for certificate in all {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|e| HttpError::Client(chain(&e)))
}

/// A POST with a body of the given media type.
pub(crate) fn post(
    client: &reqwest::Client,
    url: String,
    content_type: &'static str,
    accept: &'static str,
    body: Vec<u8>,
) -> reqwest::RequestBuilder {
    client
        .post(url)
        .header(CONTENT_TYPE, HeaderValue::from_static(content_type))
        .header(ACCEPT, HeaderValue::from_static(accept))
        .body(body)
}

/// An error with all its causes: reqwest's own text hides them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
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

/// How much of an error's body is read.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// What an answer without success says: our JSON (`{"error": {code, message}}` or `{code, message}` or `{"error": text}`), or text.
pub(crate) async fn failure(mut response: reqwest::Response) -> SegmentError {
    let status = response.status();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR_BYTES - body.len())]);
        if body.len() >= MAX_ERROR_BYTES {
            break;
        }
    }
    failure_of(status.as_u16(), &body)
}

fn failure_of(status: u16, body: &[u8]) -> SegmentError {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Nested { error: SegmentError },
        Flat(SegmentError),
        Text { error: String },
    }
    let code = match status {
        400 | 413 | 415 | 422 => ErrorCode::BadRequest,
        401 | 403 => ErrorCode::Unauthorized,
        // 429 and 5xx: busy or broken.
        _ => ErrorCode::Unavailable,
    };
    match serde_json::from_slice(body) {
        Ok(Said::Nested { error } | Said::Flat(error)) => error,
        Ok(Said::Text { error }) => SegmentError::new(code, error),
        Err(_) => {
            let text: String = String::from_utf8_lossy(body).trim().chars().take(500).collect();
            SegmentError::new(code, format!("HTTP status {status}: {text}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_read_in_every_form() {
        let nested = failure_of(400, br#"{"error":{"code":"bad_sql","message":"near x"}}"#);
        assert_eq!((nested.code, nested.message.as_str()), (ErrorCode::BadSql, "near x"));
        let flat = failure_of(400, br#"{"code":"deadline","message":"late"}"#);
        assert_eq!(flat.code, ErrorCode::Deadline);
        assert_eq!(failure_of(401, br#"{"error":"no token"}"#), SegmentError::new(ErrorCode::Unauthorized, "no token"));
        let text = failure_of(502, b"<html>Bad Gateway</html>");
        assert_eq!(text.code, ErrorCode::Unavailable);
        assert!(text.message.contains("502") && text.message.contains("Bad Gateway"));
    }
}
