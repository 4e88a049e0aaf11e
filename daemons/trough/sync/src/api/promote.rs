//! Promotion: asks the workers that hold the write locks.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use trough_core::{ErrorCode, NodeId, SegmentError, SegmentId, records::Lock};

use super::{Api, answer, provision::unreachable};
use crate::context::{Context, by_name};

/// How long a worker may be silent while it promotes.
const SILENCE: Duration = Duration::from_secs(600);
/// The longest line that a worker may answer with.
const MAX_LINE: usize = 1 << 20;

/// What became of one segment, as one line says it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Promoted {
    segment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remote_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<SegmentError>,
}

#[derive(Deserialize)]
struct Wish {
    segment: String,
}

#[derive(Deserialize)]
struct Wishes {
    segments: Option<Vec<String>>,
    matching: Option<String>,
}

/// `POST /promote`.
pub(super) async fn one(State(api): State<Arc<Api>>, body: Bytes) -> Response {
    let wish: Wish = match serde_json::from_slice(&body) {
        Ok(wish) => wish,
        Err(e) => return answer::old_error(&answer::bad(format!("the body is no promotion request: {e}"))),
    };
    match promote_one(&api.context, &wish.segment).await {
        Ok(remote_path) => answer::json(StatusCode::OK, &json!({ "remote_path": remote_path })),
        Err(e) => answer::old_error(&e),
    }
}

async fn promote_one(context: &Arc<Context>, text: &str) -> Result<String, SegmentError> {
    let id = SegmentId::new(text).map_err(|e| answer::bad(e.to_string()))?;
    let (sender, mut lines) = mpsc::channel(4);
    let locks = context.catalog.lock(&id).await.map_err(answer::of_catalog)?;
    promote_all(context.clone(), vec![text.to_owned()], locks.into_iter().collect(), sender).await;
    match lines.recv().await {
        Some(Promoted { remote_path: Some(path), .. }) => Ok(path),
        Some(Promoted { error: Some(error), .. }) => Err(error),
        _ => Err(SegmentError::new(ErrorCode::Internal, format!("promoting segment {id} gave no answer"))),
    }
}

/// `POST /v1/promote`: one line per segment as it is done.
pub(super) async fn batch(State(api): State<Arc<Api>>, headers: HeaderMap, body: Bytes) -> Response {
    let wishes: Wishes = match trough_http::read_json(&headers, &body) {
        Ok(wishes) => wishes,
        Err(e) => return answer::error(&answer::bad(format!("the body is no promotion request: {e}"))),
    };
    let (segments, locks) = match find(&api.context, wishes).await {
        Ok(found) => found,
        Err(e) => return answer::error(&e),
    };
    let (sender, lines) = mpsc::channel(256);
    tokio::spawn(promote_all(api.context.clone(), segments, locks, sender));
    let lines = tokio_stream::wrappers::ReceiverStream::new(lines).map(|line| {
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        Ok::<_, serde_json::Error>(bytes)
    });
    answer::ndjson(Body::from_stream(lines))
}

/// The segments that are meant, and the locks that there are of them.
async fn find(context: &Context, wishes: Wishes) -> Result<(Vec<String>, Vec<Lock>), SegmentError> {
    match wishes {
        Wishes { segments: Some(segments), matching: None } => {
            let ids: Vec<SegmentId> = segments.iter().filter_map(|s| SegmentId::new(s).ok()).collect();
            let locks = context.catalog.locks_of_segments(&ids).await.map_err(answer::of_catalog)?;
            Ok((segments, locks))
        }
        Wishes { segments: None, matching: Some(pattern) } => {
            let pattern = regex::Regex::new(&pattern).map_err(|e| answer::bad(format!("matching: {e}")))?;
            let mut stream = context.catalog.locks().await.map_err(answer::of_catalog)?;
            let mut locks = Vec::new();
            while let Some(lock) = stream.next().await {
                let lock = lock.map_err(answer::of_catalog)?;
                if pattern.is_match(lock.segment.as_str()) {
                    locks.push(lock);
                }
            }
            Ok((locks.iter().map(|l| l.segment.to_string()).collect(), locks))
        }
        _ => Err(answer::bad("give either \"segments\", a list of ids, or \"matching\", a regular expression")),
    }
}

/// Promotes the segments at the holders of their locks, all holders in parallel; one line for each.
async fn promote_all(context: Arc<Context>, segments: Vec<String>, locks: Vec<Lock>, lines: mpsc::Sender<Promoted>) {
    let mut by_node: BTreeMap<NodeId, Vec<SegmentId>> = BTreeMap::new();
    let holders: std::collections::HashMap<&str, &NodeId> =
        locks.iter().map(|l| (l.segment.as_str(), &l.node)).collect();
    for text in segments {
        let error = match (SegmentId::new(&text), holders.get(text.as_str())) {
            (Ok(id), Some(holder)) => {
                by_node.entry((*holder).clone()).or_default().push(id);
                continue;
            }
            (Ok(id), None) => {
                SegmentError::new(ErrorCode::NotWritable, format!("segment {id} is not currently writable"))
            }
            (Err(e), _) => answer::bad(e.to_string()),
        };
        if lines.send(Promoted { segment: text, remote_path: None, error: Some(error) }).await.is_err() {
            return;
        }
    }
    let nodes = match context.nodes().await {
        Ok(nodes) => nodes,
        Err(e) => {
            let error = answer::of_catalog(e);
            for segment in by_node.into_values().flatten() {
                let line = Promoted { segment: segment.to_string(), remote_path: None, error: Some(error.clone()) };
                drop(lines.send(line).await);
            }
            return;
        }
    };
    let known = by_name(&nodes);
    let work = by_node.into_iter().map(|(node, segments)| {
        let (context, lines) = (context.clone(), lines.clone());
        let worker = known.get(&node).map(|s| (context.manage_url(s), s.service.manage_url.is_some(), s.alive));
        async move {
            let mut left = segments;
            let outcome = match worker {
                Some((Some(base), true, true)) => promote_v1(&context, &base, &mut left, &lines).await,
                Some((Some(base), false, true)) => promote_python(&context, &base, &mut left, &lines).await,
                _ => Err(SegmentError::new(
                    ErrorCode::Unavailable,
                    format!("worker {node}, which holds the write lock, is not there"),
                )),
            };
            let error = outcome.err().unwrap_or_else(|| {
                SegmentError::new(ErrorCode::Internal, format!("worker {node} said nothing about the segment"))
            });
            for segment in left {
                let line = Promoted { segment: segment.to_string(), remote_path: None, error: Some(error.clone()) };
                drop(lines.send(line).await);
            }
        }
    });
    futures::future::join_all(work).await;
}

/// One request for all; takes those that were answered out of `left`.
async fn promote_v1(
    context: &Context,
    base: &str,
    left: &mut Vec<SegmentId>,
    lines: &mpsc::Sender<Promoted>,
) -> Result<(), SegmentError> {
    let request = context.http.post(format!("{base}v1/promote")).json(&json!({ "segments": left })).send();
    let response = match tokio::time::timeout(SILENCE, request).await {
        Ok(Ok(response)) if response.status().is_success() => response,
        Ok(Ok(response)) => return Err(refusal(base, response).await),
        Ok(Err(e)) => return Err(unreachable(base, &e)),
        Err(_) => return Err(silent(base)),
    };
    let mut body = response.bytes_stream();
    let mut buffer = BytesMut::new();
    let mut open: std::collections::HashSet<SegmentId> = left.iter().cloned().collect();
    let outcome = loop {
        let chunk = match tokio::time::timeout(SILENCE, body.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(e))) => break Err(unreachable(base, &e)),
            Ok(None) => break Ok(()),
            Err(_) => break Err(silent(base)),
        };
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
            let line = buffer.split_to(end + 1);
            let Ok(promoted) = serde_json::from_slice::<Promoted>(&line) else { continue };
            if let Ok(id) = SegmentId::new(&promoted.segment)
                && open.remove(&id)
            {
                if promoted.error.is_none() {
                    context.mark_dirty([id]);
                }
                if lines.send(promoted).await.is_err() {
                    // The client went away; what the worker does is noticed by its locks.
                    left.clear();
                    return Ok(());
                }
            }
        }
        if buffer.len() > MAX_LINE {
            break Err(SegmentError::new(
                ErrorCode::Internal,
                format!("worker {base} answers a promotion with garbage"),
            ));
        }
    };
    left.retain(|id| open.contains(id));
    outcome
}

/// A Python worker takes one segment a request.
async fn promote_python(
    context: &Context,
    base: &str,
    left: &mut Vec<SegmentId>,
    lines: &mpsc::Sender<Promoted>,
) -> Result<(), SegmentError> {
    #[derive(Deserialize)]
    struct Answer {
        remote_path: Option<String>,
    }
    while let Some(id) = left.pop() {
        let body = json!({ "segment": id });
        let sent = context.http.post(format!("{base}promote")).timeout(SILENCE).json(&body).send().await;
        let outcome = match sent {
            Ok(response) if response.status().is_success() => {
                response.json::<Answer>().await.map_err(|e| unreachable(base, &e))
            }
            Ok(response) => Err(refusal(base, response).await),
            Err(e) => Err(unreachable(base, &e)),
        };
        let line = match outcome {
            Ok(answer) => {
                context.mark_dirty([id.clone()]);
                Promoted { segment: id.to_string(), remote_path: answer.remote_path, error: None }
            }
            Err(e) => Promoted { segment: id.to_string(), remote_path: None, error: Some(e) },
        };
        if lines.send(line).await.is_err() {
            left.clear();
        }
    }
    Ok(())
}

fn silent(base: &str) -> SegmentError {
    SegmentError::new(ErrorCode::Unavailable, format!("worker {base} said nothing for {} s", SILENCE.as_secs()))
}

/// What a worker's refusal says: our JSON, or text.
pub(super) async fn refusal(base: &str, response: reqwest::Response) -> SegmentError {
    #[derive(Deserialize)]
    struct Said {
        error: SegmentError,
    }
    let status = response.status();
    let body = response.bytes().await.unwrap_or_default();
    if let Ok(said) = serde_json::from_slice::<Said>(&body) {
        return said.error;
    }
    let code = match status.as_u16() {
        401 | 403 => ErrorCode::Unauthorized,
        400..=499 => ErrorCode::BadRequest,
        _ => ErrorCode::Internal,
    };
    let text: String = String::from_utf8_lossy(&body).trim().chars().take(500).collect();
    let text = text.strip_prefix("500 Server Error: ").unwrap_or(&text);
    SegmentError::new(code, format!("worker {base} answered {}: {text}", status.as_u16()))
}
