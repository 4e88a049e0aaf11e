//! Passing requests on to the master.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use trough_core::{ErrorCode, SegmentError};

use super::{Api, answer};
use crate::mastership::Standing;

/// Says who passed a request on; such a request is not passed on again.
const PASSED_ON_BY: HeaderName = HeaderName::from_static("x-trough-passed-on-by");
/// What of a request's headers the master is to see.
const PASSED_ON: [HeaderName; 5] =
    [header::CONTENT_TYPE, header::ACCEPT, header::AUTHORIZATION, header::ACCEPT_ENCODING, header::IF_NONE_MATCH];
/// What of an answer's headers the client is to see.
const PASSED_BACK: [HeaderName; 4] = [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::ETAG, header::VARY];
/// How long a request waits while nobody is known to be master.
const WAIT_FOR_MASTER: Duration = Duration::from_secs(5);

/// Serves the request here if this process is master, else asks the master.
pub(super) async fn to_master(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    match standing(&api).await {
        Standing::Master(_) => next.run(request).await,
        Standing::Follower(master) => pass_on(&api, &master.url, request).await,
        Standing::Unknown => answer::error(&unavailable("no sync master is elected yet; try again")),
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

fn unavailable(message: impl Into<String>) -> SegmentError {
    SegmentError::new(ErrorCode::Unavailable, message)
}

async fn pass_on(api: &Api, master: &str, request: Request) -> Response {
    if let Some(by) = request.headers().get(PASSED_ON_BY) {
        let by = by.to_str().unwrap_or("another sync server");
        return answer::error(&unavailable(format!(
            "{by} takes this server for the master, but {master} is; try again"
        )));
    }
    if master.trim_end_matches('/') == api.own_url.trim_end_matches('/') {
        return answer::error(&unavailable("this server is about to become the sync master; try again"));
    }
    let (parts, body) = request.into_parts();
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
    let sent = api
        .context
        .http
        .request(parts.method, url)
        .headers(headers)
        .body(reqwest::Body::wrap_stream(body.into_data_stream()))
        .send()
        .await;
    match sent {
        Ok(response) => {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = response.status();
            for name in PASSED_BACK {
                if let Some(value) = response.headers().get(&name) {
                    answer.headers_mut().insert(name, value.clone());
                }
            }
            *answer.body_mut() = Body::from_stream(response.bytes_stream());
            answer
        }
        Err(error) => answer::error(&unavailable(format!(
            "the sync master {master} cannot be reached: {}; another is elected soon",
            answer::chain(&error)
        ))),
    }
}
