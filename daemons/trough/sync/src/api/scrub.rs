//! `POST /v1/scrub`: has workers compare their copies with the records and the store, and tells what they find as they find it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::{sync::mpsc, task::JoinSet};
use trough_client::catalog::NodeStatus;
use trough_core::{
    NodeId,
    protocol::SCRUBS_SINCE,
    wire::scrub::{Finding, STORE_MISSING, ScrubCounts, ScrubLine, ScrubRequest, UNREACHABLE},
};
use trough_http::read_json;

use super::{Api, answer, scrub_store};

/// Between two lines that tell how far it is, at least.
const PROGRESS: Duration = Duration::from_millis(500);
/// How long a worker may say nothing.
const SILENCE: Duration = Duration::from_secs(120);
/// The longest line of a worker.
const MAX_LINE: usize = 1 << 20;

/// Where lines and counts go.
#[derive(Clone)]
pub(super) struct Sink {
    lines: mpsc::Sender<ScrubLine>,
    counts: Arc<Mutex<HashMap<Option<NodeId>, ScrubCounts>>>,
    told: Arc<Mutex<Instant>>,
}

impl Sink {
    /// What one node, or the store's part, has counted so far.
    pub(super) async fn count(&self, node: Option<&NodeId>, counts: ScrubCounts) -> Result<(), Gone> {
        self.counts.lock().insert(node.cloned(), counts);
        {
            let mut told = self.told.lock();
            if told.elapsed() < PROGRESS {
                return Ok(());
            }
            *told = Instant::now();
        }
        self.send(ScrubLine::Progress(self.total())).await
    }

    /// Something was found.
    pub(super) async fn found(&self, finding: Finding) -> Result<(), Gone> {
        tracing::warn!(segment = ?finding.segment, node = ?finding.node, what = finding.what, detail = finding.detail, "scrubbing found something");
        self.send(ScrubLine::Finding(finding)).await
    }

    async fn send(&self, line: ScrubLine) -> Result<(), Gone> {
        self.lines.send(line).await.map_err(|_| Gone)
    }

    fn total(&self) -> ScrubCounts {
        let mut total = ScrubCounts::default();
        self.counts.lock().values().for_each(|counts| total.add(counts));
        total
    }
}

/// Nobody listens any more.
#[derive(Debug)]
pub(super) struct Gone;

/// `POST /v1/scrub`.
pub(super) async fn scrub(State(api): State<Arc<Api>>, headers: HeaderMap, body: Bytes) -> Response {
    let request = if body.is_empty() { Ok(ScrubRequest::default()) } else { read_json(&headers, &body) };
    let mut request: ScrubRequest = match request {
        Ok(request) => request,
        Err(e) => return answer::error(&answer::bad(format!("the body is no scrub request: {e}"))),
    };
    if let Some(Err(e)) = request.matching.as_deref().map(regex::Regex::new) {
        return answer::error(&answer::bad(format!("matching: {e}")));
    }
    if request.check && request.repair_store {
        return answer::error(&answer::bad("check only reports, repair_store repairs: say one of them"));
    }
    request.store |= request.repair_store;
    let nodes = match api.context.nodes().await {
        Ok(nodes) => nodes,
        Err(e) => return answer::error(&answer::of_catalog(e)),
    };
    let asked: Vec<NodeStatus> = nodes
        .iter()
        .filter(|n| n.service.cold_storage != Some(true))
        .filter(|n| request.node.is_none() || n.node() == request.node.as_ref())
        .cloned()
        .collect();
    if let (Some(node), true) = (&request.node, asked.is_empty()) {
        let why = format!("there is no hot worker {node}");
        return answer::json(StatusCode::NOT_FOUND, &serde_json::json!({"error": answer::bad(why)}));
    }
    let (sender, receiver) = mpsc::channel(64);
    let sink = Sink { lines: sender.clone(), counts: Arc::default(), told: Arc::new(Mutex::new(Instant::now())) };
    tracing::info!(request = %serde_json::to_string(&request).unwrap_or_default(), workers = asked.len(), "scrubbing begins");
    tokio::spawn(async move {
        tokio::select! {
            done = all(&api, &request, asked, &sink) => if done.is_ok() {
                let total = sink.total();
                tracing::info!(done = total.done, damaged = total.damaged, repaired = total.repaired, "scrubbing is done");
                let _ = sink.send(ScrubLine::End(total)).await;
            },
            () = sender.closed() => tracing::info!("scrubbing was cancelled"),
        }
    });
    let lines =
        futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    answer::ndjson(Body::from_stream(lines.map(|line| {
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        Ok::<_, std::convert::Infallible>(text)
    })))
}

/// The store first, so that copies are repaired from a good one; then all workers at once.
async fn all(api: &Arc<Api>, request: &ScrubRequest, nodes: Vec<NodeStatus>, sink: &Sink) -> Result<(), Gone> {
    if request.store {
        scrub_store::run(api, request, sink).await?;
    }
    let mut workers = JoinSet::new();
    for status in nodes {
        let (api, request, sink) = (api.clone(), request.clone(), sink.clone());
        workers.spawn(async move {
            let Some(node) = status.node().cloned() else { return Ok(()) };
            let Err(why) = one(&api, &request, &status, &node, &sink).await? else { return Ok(()) };
            let counts = {
                let mut counts = sink.counts.lock().get(&Some(node.clone())).copied().unwrap_or_default();
                counts.failed += 1;
                counts
            };
            sink.count(Some(&node), counts).await?;
            let what = UNREACHABLE.to_owned();
            sink.found(Finding { segment: None, node: Some(node), what, detail: why }).await
        });
    }
    while let Some(done) = workers.join_next().await {
        done.unwrap_or(Err(Gone))?;
    }
    Ok(())
}

/// One worker's copies; inside, why it could not be asked.
async fn one(
    api: &Arc<Api>,
    request: &ScrubRequest,
    status: &NodeStatus,
    node: &NodeId,
    sink: &Sink,
) -> Result<Result<(), String>, Gone> {
    let speaks = status.service.speaks();
    if speaks < SCRUBS_SINCE {
        return Ok(Err(format!("it speaks protocol {speaks}, scrubbing needs {SCRUBS_SINCE}: upgrade it")));
    }
    if !status.alive {
        return Ok(Err("its lease has ended".to_owned()));
    }
    let Some(url) = api.context.manage_url(status) else { return Ok(Err("its address is not known".to_owned())) };
    let body = serde_json::to_vec(request).unwrap_or_default();
    let post = api.context.http.post(format!("{url}v1/scrub")).header(CONTENT_TYPE, "application/json").body(body);
    let mut response = match tokio::time::timeout(SILENCE, post.send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Ok(Err(answer::chain(&error))),
        Err(_) => return Ok(Err("it does not answer".to_owned())),
    };
    if !response.status().is_success() {
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        return Ok(Err(format!("{status}: {}", text.trim())));
    }
    let mut buffer = BytesMut::new();
    loop {
        while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
            let line = buffer.split_to(end + 1);
            match serde_json::from_slice(&line) {
                Ok(ScrubLine::Finding(finding)) => {
                    let missing = (finding.what == STORE_MISSING).then(|| finding.segment.clone()).flatten();
                    sink.found(finding).await?;
                    if let Some(segment) = missing.filter(|_| request.repair_store) {
                        scrub_store::put_back(api, &segment, sink).await?;
                    }
                }
                Ok(ScrubLine::Progress(counts)) => sink.count(Some(node), counts).await?,
                Ok(ScrubLine::End(counts)) => {
                    sink.count(Some(node), counts).await?;
                    return Ok(Ok(()));
                }
                Err(error) => return Ok(Err(format!("its answer cannot be read: {error}"))),
            }
        }
        if buffer.len() > MAX_LINE {
            return Ok(Err("its answer cannot be read: a line is too long".to_owned()));
        }
        match tokio::time::timeout(SILENCE, response.chunk()).await {
            Ok(Ok(Some(bytes))) => buffer.extend_from_slice(&bytes),
            Ok(Ok(None)) => return Ok(Err("its answer was cut off".to_owned())),
            Ok(Err(error)) => return Ok(Err(format!("its answer broke off: {}", answer::chain(&error)))),
            Err(_) => return Ok(Err("it says nothing any more".to_owned())),
        }
    }
}
