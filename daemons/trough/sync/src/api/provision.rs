//! Provisioning: makes segments writable, each at the worker that has its lock or a copy, else at the less loaded of
//! two random ones.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trough_client::catalog::NodeStatus;
use trough_core::{
    ErrorCode, NodeId, SchemaId, SegmentError, SegmentId,
    records::{Lock, ROLE_READ},
};
use trough_http::{
    Caller,
    events::{What, reason},
};

use super::{
    Api,
    answer::{self, Refused},
    proxy,
};
use crate::context::{Context, by_name};

/// Segments in one request to a worker.
const CHUNK: usize = 1_000;
/// Requests to workers at the same time.
const AT_ONCE: usize = 16;
/// How long a worker may take for one request: it may have to fetch copies first.
const WORKER_LIMIT: Duration = Duration::from_secs(300);
/// What one segment provisioned in the same request counts as load: spreads a batch over all workers.
const LOAD_PER_SEGMENT: f64 = 0.02;

/// What became of one segment, as `/v1/provision` says it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Provisioned {
    /// The segment, as it was asked for.
    pub(crate) segment: String,
    /// Where to write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) write_url: Option<String>,
    /// Bytes of its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    /// Why it is not writable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<SegmentError>,
}

impl Provisioned {
    fn failed(segment: &str, error: SegmentError) -> Self {
        Self { segment: segment.to_owned(), write_url: None, size: None, error: Some(error) }
    }
}

#[derive(Deserialize)]
struct Wish {
    segment: String,
    #[serde(default = "default_schema")]
    schema: String,
}

#[derive(Deserialize)]
struct Wishes {
    segments: Vec<String>,
    #[serde(default = "default_schema")]
    schema: String,
}

fn default_schema() -> String {
    "default".into()
}

/// `POST /` with a segment's id as the body: the write URL as text.
pub(super) async fn old_style(State(api): State<Arc<Api>>, caller: Caller, body: Bytes) -> Response {
    let id = String::from_utf8_lossy(&body).trim().to_owned();
    match provision_one(&api.context, &caller, &id, "default").await {
        Ok((url, _)) => trough_http::plain(StatusCode::OK, url),
        Err(Refused::Resigned) => proxy::resigned(),
        Err(Refused::Error(e)) => answer::old_error(&e),
    }
}

/// `POST /provision`.
pub(super) async fn one(State(api): State<Arc<Api>>, caller: Caller, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    if !kind.split(';').next().is_some_and(|k| k.trim().eq_ignore_ascii_case("application/json")) {
        let message = "415 Unsupported Media Type: the content type must be application/json\n";
        return trough_http::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    }
    let wish: Wish = match serde_json::from_slice(&body) {
        Ok(wish) => wish,
        Err(e) => return answer::old_error(&answer::bad(format!("the body is no provisioning request: {e}"))),
    };
    match provision_one(&api.context, &caller, &wish.segment, &wish.schema).await {
        Ok((write_url, size)) => answer::json(
            StatusCode::OK,
            &json!({"write_url": write_url, "result": "success", "size": size, "schema": wish.schema}),
        ),
        Err(Refused::Resigned) => proxy::resigned(),
        Err(Refused::Error(e)) if e.code == ErrorCode::Forbidden => {
            answer::json(StatusCode::BAD_REQUEST, &json!({ "error": e.message }))
        }
        Err(Refused::Error(e)) => answer::old_error(&e),
    }
}

/// `POST /v1/provision`.
pub(super) async fn batch(State(api): State<Arc<Api>>, caller: Caller, headers: HeaderMap, body: Bytes) -> Response {
    let wishes: Wishes = match trough_http::read_json(&headers, &body) {
        Ok(wishes) => wishes,
        Err(e) => return answer::error(&answer::bad(format!("the body is no provisioning request: {e}"))),
    };
    if let Err(error) = answer::few_enough(&api, wishes.segments.len()) {
        return answer::error(&error);
    }
    match provision(&api.context, &caller, &wishes.segments, &wishes.schema).await {
        Ok(results) => answer::json(StatusCode::OK, &json!({ "results": results })),
        Err(Refused::Resigned) => proxy::resigned(),
        Err(Refused::Error(e)) => answer::error(&e),
    }
}

async fn provision_one(
    context: &Arc<Context>,
    caller: &Caller,
    id: &str,
    schema: &str,
) -> Result<(String, u64), Refused> {
    let mut results = provision(context, caller, &[id.to_owned()], schema).await?;
    match results.pop() {
        Some(Provisioned { write_url: Some(url), size, .. }) => Ok((url, size.unwrap_or(0))),
        Some(Provisioned { error: Some(error), .. }) => Err(error.into()),
        _ => Err(SegmentError::new(ErrorCode::Internal, format!("provisioning segment {id} gave no answer")).into()),
    }
}

/// Makes the segments writable; the results stand in the order of the request.
async fn provision(
    context: &Arc<Context>,
    caller: &Caller,
    segments: &[String],
    schema: &str,
) -> Result<Vec<Provisioned>, Refused> {
    let schema = SchemaId::new(schema).map_err(|e| answer::bad(e.to_string()))?;
    context.catalog.require_schema(&schema).await.map_err(answer::of_catalog)?;
    let mut done: HashMap<String, Provisioned> = HashMap::new();
    let mut wanted: Vec<SegmentId> = Vec::with_capacity(segments.len());
    for text in segments {
        match admit(context, caller, text) {
            Ok(id) => wanted.push(id),
            Err(error) => drop(done.insert(text.clone(), Provisioned::failed(text, error))),
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    // A second round for those whose worker did not answer, or that another node turned out to hold.
    let mut avoid: Vec<NodeId> = Vec::new();
    for round in 0..2 {
        if wanted.is_empty() {
            break;
        }
        let results = provision_at(context, &wanted, &schema, &mut avoid, round > 0).await?;
        wanted.clear();
        for result in results {
            let again = round == 0
                && result.error.as_ref().is_some_and(|e| matches!(e.code, ErrorCode::Moved | ErrorCode::Unavailable));
            match SegmentId::new(&result.segment) {
                Ok(id) if again => wanted.push(id),
                _ => drop(done.insert(result.segment.clone(), result)),
            }
        }
    }
    for result in done.values() {
        if let (Ok(id), Some(error)) = (SegmentId::new(&result.segment), &result.error) {
            context.events.note(&id, What::ProvisionRefused { reason: reason(error) });
        }
    }
    let missing = |id: &String| {
        Provisioned::failed(
            id,
            SegmentError::new(ErrorCode::Internal, format!("the worker said nothing of segment {id}")),
        )
    };
    Ok(segments.iter().map(|id| done.get(id).cloned().unwrap_or_else(|| missing(id))).collect())
}

fn admit(context: &Context, caller: &Caller, text: &str) -> Result<SegmentId, SegmentError> {
    let id = SegmentId::new(text).map_err(|e| answer::bad(e.to_string()))?;
    caller.check(&id)?;
    context.store.allows(&id).map_err(|e| SegmentError::new(e.code(), e.to_string()))?;
    let cold = context
        .settings
        .cold_store_segment
        .for_segment(&id)
        .map_err(|e| SegmentError::new(ErrorCode::Internal, e.to_string()))?;
    if cold {
        let message = format!(
            "cannot provision segment {id} for writing because that segment id is in the read-only cold storage range"
        );
        return Err(SegmentError::new(ErrorCode::Forbidden, message));
    }
    Ok(id)
}

/// One round: chooses a worker for each segment and asks all workers in parallel. Workers that cannot be reached
/// are added to `avoid`.
async fn provision_at(
    context: &Arc<Context>,
    segments: &[SegmentId],
    schema: &SchemaId,
    avoid: &mut Vec<NodeId>,
    fresh: bool,
) -> Result<Vec<Provisioned>, Refused> {
    if fresh {
        context.forget_nodes().await;
    }
    let mut nodes = context.nodes().await.map_err(answer::of_catalog)?;
    let locks = locks_of(context, segments, fresh).await?;
    if locks.values().any(|lock| nodes.iter().all(|node| node.node() != Some(&lock.node))) {
        // A holder that came after the last look at the nodes.
        context.forget_nodes().await;
        nodes = context.nodes().await.map_err(answer::of_catalog)?;
    }
    let unlocked: Vec<SegmentId> = segments.iter().filter(|s| !locks.contains_key(*s)).cloned().collect();
    let copies = copies_of(context, &unlocked, fresh).await?;
    let mut failed = Vec::new();
    let mut per_node: BTreeMap<NodeId, Vec<SegmentId>> = BTreeMap::new();
    let mut chooser = Chooser::new(&nodes, avoid);
    for segment in segments {
        match chooser.choose(locks.get(segment).map(|l| &l.node), copies.get(segment).map_or(&[], Vec::as_slice)) {
            Some(node) => per_node.entry(node).or_default().push(segment.clone()),
            None => failed.push(Provisioned::failed(segment.as_str(), no_node())),
        }
    }
    let Some(term) = context.term() else {
        // What a first round has done at some workers the new master finds done.
        return Err(Refused::Resigned);
    };
    let epoch = term.epoch;
    let by_name = by_name(&nodes);
    let requests: Vec<_> = per_node
        .iter()
        .filter_map(|(node, segments)| Some((*by_name.get(node)?, segments)))
        .flat_map(|(status, segments)| segments.chunks(CHUNK).map(move |chunk| (status, chunk)))
        .map(|(status, chunk)| ask_worker(context, status, chunk, schema, epoch))
        .collect();
    let mut answers = futures::stream::iter(requests).buffer_unordered(AT_ONCE);
    let mut results = failed;
    while let Some((node, answered)) = answers.next().await {
        if answered.iter().any(|r| r.error.as_ref().is_some_and(|e| e.code == ErrorCode::Unavailable)) {
            avoid.extend(node);
        }
        results.extend(answered);
    }
    Ok(results)
}

fn no_node() -> SegmentError {
    SegmentError::new(ErrorCode::Unavailable, "no healthy node to assign to: no hot worker is alive")
}

/// The locks of the segments: as followed, or asked anew.
async fn locks_of(
    context: &Context,
    segments: &[SegmentId],
    fresh: bool,
) -> Result<HashMap<SegmentId, Lock>, SegmentError> {
    if !fresh {
        let locks = context.locks.read();
        if locks.complete {
            return Ok(segments.iter().filter_map(|s| Some((s.clone(), locks.get(s)?.clone()))).collect());
        }
    }
    let locks = context.catalog.locks_of_segments(segments).await.map_err(answer::of_catalog)?;
    Ok(locks.into_iter().map(|l| (l.segment.clone(), l)).collect())
}

/// Who serves the segments: as followed, or asked anew.
async fn copies_of(
    context: &Context,
    segments: &[SegmentId],
    fresh: bool,
) -> Result<HashMap<SegmentId, Vec<NodeId>>, SegmentError> {
    if !fresh {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        let serving = context.serving.read();
        if serving.complete {
            return Ok(segments.iter().map(|s| (s.clone(), serving.nodes_of(s, now))).collect());
        }
    }
    let services = context.catalog.services_of_segments(segments).await.map_err(answer::of_catalog)?;
    Ok(services
        .into_iter()
        .map(|(segment, rows)| {
            let readers = rows.into_iter().filter(|r| r.alive && r.service.role.as_deref() == Some(ROLE_READ));
            (segment, readers.filter_map(|r| r.service.node).collect())
        })
        .collect())
}

/// Chooses workers, counting what it has given to each.
struct Chooser<'a> {
    /// Hot, alive, not drained, not known to fail.
    fit: Vec<&'a NodeStatus>,
    /// Alive and hot, drained or not.
    alive: HashMap<&'a NodeId, &'a NodeStatus>,
    given: HashMap<NodeId, u32>,
}

/// Whether segments may be provisioned there that it does not hold yet.
fn takes_new(node: &NodeStatus) -> bool {
    !node.service.draining && !node.service.stopping
}

impl<'a> Chooser<'a> {
    fn new(nodes: &'a [NodeStatus], avoid: &[NodeId]) -> Self {
        let reachable = nodes.iter().filter(|n| {
            n.alive && n.service.cold_storage != Some(true) && n.node().is_some_and(|name| !avoid.contains(name))
        });
        let alive: HashMap<&NodeId, &NodeStatus> = reachable.filter_map(|n| Some((n.node()?, n))).collect();
        let mut fit: Vec<&NodeStatus> = alive.values().copied().filter(|n| takes_new(n)).collect();
        fit.sort_unstable_by(|a, b| a.service.id.cmp(&b.service.id));
        Self { fit, alive, given: HashMap::new() }
    }

    fn choose(&mut self, holder: Option<&NodeId>, copies: &[NodeId]) -> Option<NodeId> {
        // Only the holder of a lock can write. If it is dead, another may take the lock over after a while, and says so.
        if let Some(holder) = holder.filter(|h| self.alive.contains_key(h)) {
            return Some(holder.clone());
        }
        let serving: Vec<&NodeStatus> =
            copies.iter().filter_map(|n| self.alive.get(n).copied()).filter(|n| takes_new(n)).collect();
        let from = if serving.is_empty() { &self.fit } else { &serving };
        let chosen = self.less_loaded_of_two(from)?.node()?.clone();
        *self.given.entry(chosen.clone()).or_default() += 1;
        Some(chosen)
    }

    fn less_loaded_of_two<'n>(&self, from: &[&'n NodeStatus]) -> Option<&'n NodeStatus> {
        let first = *from.get(fastrand::usize(..from.len().max(1)))?;
        let second = from[fastrand::usize(..from.len())];
        let load = |n: &NodeStatus| {
            let given = n.node().and_then(|name| self.given.get(name)).copied().unwrap_or(0);
            n.service.load + f64::from(given) * LOAD_PER_SEGMENT
        };
        Some(if load(second) < load(first) { second } else { first })
    }
}

/// Asks one worker; a failure of the whole request is every segment's.
async fn ask_worker(
    context: &Context,
    status: &NodeStatus,
    segments: &[SegmentId],
    schema: &SchemaId,
    epoch: u64,
) -> (Option<NodeId>, Vec<Provisioned>) {
    let node = status.node().cloned();
    let Some(base) = context.manage_url(status) else { return (node, Vec::new()) };
    let results = if status.service.manage_url.is_some() {
        ask_v1(context, &base, segments, schema, epoch).await
    } else {
        ask_python(context, &base, segments, schema).await
    };
    (node, results)
}

async fn ask_v1(
    context: &Context,
    base: &str,
    segments: &[SegmentId],
    schema: &SchemaId,
    epoch: u64,
) -> Vec<Provisioned> {
    #[derive(Deserialize)]
    struct Answer {
        results: Vec<Provisioned>,
    }
    let all = |error: SegmentError| {
        segments.iter().map(|s| Provisioned::failed(s.as_str(), error.clone())).collect::<Vec<_>>()
    };
    let body = json!({"segments": segments, "schema": schema, "epoch": epoch});
    let sent = trough_http::traced(context.http.post(format!("{base}v1/provision")).timeout(WORKER_LIMIT).json(&body))
        .send()
        .await;
    let response = match sent {
        Ok(response) => response,
        Err(e) => return all(unreachable(base, &e)),
    };
    if !response.status().is_success() {
        return all(super::promote::refusal(base, response).await);
    }
    match response.json::<Answer>().await {
        Ok(answer) => answer.results,
        Err(e) => all(SegmentError::new(
            ErrorCode::Internal,
            format!("worker {base} answered a provisioning with what cannot be read: {}", answer::chain(&e)),
        )),
    }
}

/// A Python worker takes one segment a request.
async fn ask_python(context: &Context, base: &str, segments: &[SegmentId], schema: &SchemaId) -> Vec<Provisioned> {
    #[derive(Deserialize)]
    struct Answer {
        write_url: String,
        size: Option<u64>,
    }
    let one = |segment: SegmentId| async move {
        let body = json!({"segment": segment, "schema": schema});
        let sent = trough_http::traced(context.http.post(format!("{base}provision")).timeout(WORKER_LIMIT).json(&body))
            .send()
            .await;
        let error = match sent {
            Ok(response) if response.status().is_success() => match response.json::<Answer>().await {
                Ok(a) => {
                    let segment = segment.to_string();
                    return Provisioned { segment, write_url: Some(a.write_url), size: a.size, error: None };
                }
                Err(e) => SegmentError::new(ErrorCode::Internal, answer::chain(&e)),
            },
            Ok(response) => super::promote::refusal(base, response).await,
            Err(e) => unreachable(base, &e),
        };
        Provisioned::failed(segment.as_str(), error)
    };
    futures::stream::iter(segments.iter().cloned().map(one)).buffer_unordered(4).collect().await
}

/// A worker does not answer.
pub(super) fn unreachable(base: &str, error: &reqwest::Error) -> SegmentError {
    SegmentError::new(ErrorCode::Unavailable, format!("worker {base} cannot be reached: {}", answer::chain(error)))
}

#[cfg(test)]
mod tests {
    use trough_core::records::Service;

    use super::*;

    fn status(name: &str, load: f64, change: impl FnOnce(&mut NodeStatus)) -> NodeStatus {
        let node = NodeId::new(name).expect("valid");
        let service = Service { id: Service::node_id(&node), node: Some(node), load, ttl: 30.0, ..Service::default() };
        let mut status = NodeStatus { service, alive: true, age_seconds: 1.0 };
        change(&mut status);
        status
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("valid")
    }

    #[test]
    fn a_batch_is_spread_and_the_unfit_get_nothing() {
        let nodes = vec![
            status("a", 0.1, |_| {}),
            status("b", 0.2, |_| {}),
            status("cold", 0.0, |s| s.service.cold_storage = Some(true)),
            status("dead", 0.0, |s| s.alive = false),
            status("drained", 0.0, |s| s.service.draining = true),
            status("avoided", 0.0, |_| {}),
        ];
        let mut chooser = Chooser::new(&nodes, &[node("avoided")]);
        let mut count: HashMap<NodeId, usize> = HashMap::new();
        for _ in 0..1000 {
            *count.entry(chooser.choose(None, &[]).expect("somebody")).or_default() += 1;
        }
        assert_eq!(count.len(), 2, "{count:?}");
        assert!(count.values().all(|n| (400..=600).contains(n)), "{count:?}");
    }

    #[test]
    fn the_holder_of_the_lock_comes_first_then_a_copy() {
        let nodes =
            vec![status("a", 0.0, |_| {}), status("b", 9.0, |_| {}), status("c", 9.0, |s| s.service.draining = true)];
        let mut chooser = Chooser::new(&nodes, &[]);
        assert_eq!(chooser.choose(Some(&node("c")), &[node("b")]), Some(node("c")), "drained, but it has the lock");
        assert_eq!(chooser.choose(None, &[node("b"), node("c")]), Some(node("b")));
        assert_eq!(chooser.choose(Some(&node("gone")), &[node("b")]), Some(node("b")));
        assert_eq!(Chooser::new(&[], &[]).choose(None, &[]), None);
    }
}
