//! Passing requests on to the master, in the client's name: with its token, if it showed one, and never with ours.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use trough_core::{
    ErrorCode, SegmentError,
    protocol::{NEEDS_HEADER, PROTOCOL_HEADER},
};

use super::{Api, answer};
use crate::mastership::Standing;

/// Says who passed a request on; such a request is not passed on again.
const PASSED_ON_BY: HeaderName = HeaderName::from_static("x-trough-passed-on-by");
/// Says that nothing was done, because the server is not the master.
const NOT_MASTER: HeaderName = HeaderName::from_static("x-trough-not-master");
/// What of a request's headers the master is to see.
const PASSED_ON: [HeaderName; 7] = [
    header::CONTENT_TYPE,
    header::ACCEPT,
    header::AUTHORIZATION,
    header::ACCEPT_ENCODING,
    header::IF_NONE_MATCH,
    HeaderName::from_static(PROTOCOL_HEADER),
    HeaderName::from_static(NEEDS_HEADER),
];
/// What of an answer's headers the client is to see.
const PASSED_BACK: [HeaderName; 4] = [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::ETAG, header::VARY];
/// How long a request waits while nobody is known to be master.
const WAIT_FOR_MASTER: Duration = Duration::from_secs(5);
/// How long it waits in all while the mastership changes hands.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks for another master than the one that is gone.
const PAUSE: Duration = Duration::from_millis(250);

/// Serves the request here if this process is master, else asks the master. One who has gone is waited out: nothing was done then.
pub(super) async fn to_master(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    match standing(&api).await {
        Standing::Master(_) => return next.run(request).await,
        Standing::Unknown => return not_master("no sync master is elected yet; try again"),
        Standing::Follower(_) => {}
    }
    if let Some(by) = request.headers().get(PASSED_ON_BY) {
        let by = by.to_str().unwrap_or("another sync server");
        return not_master(format!("{by} takes this server for the master, but it is not; try again"));
    }
    let (parts, body) = request.into_parts();
    let body = match axum::body::to_bytes(body, api.context.settings.max_body_bytes).await {
        Ok(body) => body,
        Err(e) => return answer::error(&answer::bad(format!("the body broke off or is too long: {e}"))),
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let tried = match standing(&api).await {
            Standing::Master(_) => return next.run(Request::from_parts(parts, Body::from(body))).await,
            Standing::Follower(master) => pass_on(&api, &master.url, &parts, body.clone()).await,
            Standing::Unknown => Err("no sync master is elected yet; try again".to_owned()),
        };
        match tried {
            Ok(response) => return response,
            Err(why) if Instant::now() > deadline => return not_master(why),
            Err(why) => tracing::debug!(why, "the request waits for a sync master"),
        }
        let mut standing = api.context.standing.clone();
        standing.mark_unchanged();
        let _ = tokio::time::timeout(PAUSE, standing.changed()).await;
    }
}

/// The standing, after waiting a little while nobody is master.
async fn standing(api: &Api) -> Standing {
    let mut standing = api.context.standing.clone();
    let settled = |s: &Standing| matches!(s, Standing::Follower(_)) || s.term().is_some();
    let waited = tokio::time::timeout(WAIT_FOR_MASTER, standing.wait_for(settled)).await;
    match waited {
        Ok(Ok(standing)) => standing.clone(),
        _ => Standing::Unknown,
    }
}

/// The answer to what came while this server was master, and was not begun while it was.
pub(super) fn resigned() -> Response {
    not_master("this server is no longer the sync master; try again")
}

fn not_master(message: impl Into<String>) -> Response {
    let mut response = answer::error(&SegmentError::new(ErrorCode::Unavailable, message));
    response.headers_mut().insert(NOT_MASTER, HeaderValue::from_static("1"));
    response
}

/// Asks the master.
///
/// # Errors
/// Why it could not be asked, if it is certain that it has done nothing.
async fn pass_on(api: &Api, master: &str, parts: &Parts, body: Bytes) -> Result<Response, String> {
    if master.trim_end_matches('/') == api.own_url.trim_end_matches('/') {
        return Err("this server is about to become the sync master; try again".to_owned());
    }
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let url = format!("{}{path}", master.trim_end_matches('/'));
    let mut headers = HeaderMap::new();
    for name in PASSED_ON {
        if let Some(value) = parts.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    if let Ok(own) = HeaderValue::from_str(&api.own_url) {
        headers.insert(PASSED_ON_BY, own);
    }
    let request = api.passing.request(parts.method.clone(), url).headers(headers);
    let sent = trough_http::traced(request).body(body).send().await;
    match sent {
        Ok(response)
            if response.status() == StatusCode::SERVICE_UNAVAILABLE && response.headers().contains_key(NOT_MASTER) =>
        {
            Err(format!("{master} is not the sync master any more; try again"))
        }
        Ok(response) => {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = response.status();
            for name in PASSED_BACK {
                if let Some(value) = response.headers().get(&name) {
                    answer.headers_mut().insert(name, value.clone());
                }
            }
            *answer.body_mut() = Body::from_stream(response.bytes_stream());
            Ok(answer)
        }
        Err(error) => {
            let why = format!(
                "the sync master {master} cannot be reached: {}; another is elected soon",
                answer::chain(&error)
            );
            if error.is_connect() {
                return Err(why);
            }
            Ok(answer::error(&SegmentError::new(ErrorCode::Unavailable, why)))
        }
    }
}
