//! A cluster in miniature: the metadata server in-process, or with RETHINKDB_URL set (`rethinkdb://HOST[:PORT]`) a database of each
//! test's own on a real RethinkDB, and workers that answer as a test wants.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::Response,
    routing::post,
};
use futures::StreamExt;
use trough_client::{Catalog, Discovery, DiscoveryOptions, QueryClient, catalog::segment_service, http::HttpOptions};
use trough_core::{
    ErrorCode, NodeId, SegmentError, SegmentId,
    records::{Assignment, ROLE_NODES, ROLE_READ, Service},
    wire::{Frame, MSGPACK, QueryRequest, QueryStats},
};

pub(crate) struct Cluster {
    pub(crate) catalog: Catalog,
    /// None over a real RethinkDB.
    pub(crate) meta: Option<trough_meta::MetaServer>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (meta, url) = match std::env::var("RETHINKDB_URL") {
            Err(_) => {
                let meta = trough_meta::MetaServer::start_ephemeral(dir.path()).await.unwrap();
                let url = meta.url("trough_configuration");
                (Some(meta), url)
            }
            Ok(server) => {
                let name = dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.');
                (None, format!("{}/trough_test_{name}", server.trim_end_matches('/')))
            }
        };
        let client = trough_reql::Client::new(trough_reql::Options::from_url(&url).unwrap());
        let catalog = Catalog::new(client);
        catalog.ensure_tables(1).await.unwrap();
        Self { catalog, meta, _dir: dir }
    }

    /// Discovery that waits only shortly for missing segments.
    pub(crate) fn discovery(&self) -> Discovery {
        self.settling(Duration::from_millis(200))
    }

    pub(crate) fn settling(&self, settle: Duration) -> Discovery {
        Discovery::new(self.catalog.clone(), DiscoveryOptions { settle, ..DiscoveryOptions::default() })
    }

    /// Assigns the segments to the node; the ids of the rows.
    pub(crate) async fn assign(&self, node: &NodeId, segments: &[SegmentId]) -> Vec<String> {
        let rows: Vec<Assignment> = segments.iter().map(|s| assignment(node, s)).collect();
        self.catalog.commit_assignments(&rows, &[], 1).await.unwrap();
        rows.into_iter().map(|a| a.id).collect()
    }

    pub(crate) fn queries(&self) -> QueryClient {
        QueryClient::new(self.discovery(), &HttpOptions::default()).unwrap()
    }

    /// Writes a node's lease and the rows of the segments it serves.
    pub(crate) async fn serve(&self, worker: &Worker, segments: &[SegmentId]) {
        self.catalog.heartbeat_node(&node_row(worker, 60.0)).await.unwrap();
        let rows: Vec<Service> = segments
            .iter()
            .map(|s| segment_service(ROLE_READ, &worker.node, s, &worker.url, worker.port, 0.1))
            .collect();
        self.catalog.advertise(&rows).await.unwrap();
    }
}

fn assignment(node: &NodeId, segment: &SegmentId) -> Assignment {
    Assignment {
        id: Assignment::row_id(node, segment),
        node: node.clone(),
        segment: segment.clone(),
        hash_ring: 0.into(),
        assigned_on: None,
        remote_path: segment.store_path(),
        bytes: 1,
        mtime_ms: None,
        sha256: None,
        generation: 1,
        epoch: 1,
    }
}

pub(crate) fn node_row(worker: &Worker, ttl: f64) -> Service {
    Service {
        id: Service::node_id(&worker.node),
        role: Some(ROLE_NODES.into()),
        node: Some(worker.node.clone()),
        ttl,
        load: 0.1,
        cold_storage: Some(false),
        available_bytes: Some(1 << 30),
        read_url: Some(worker.url.clone()),
        write_url: Some(worker.url.clone()),
        ..Service::default()
    }
}

pub(crate) fn seg(id: &str) -> SegmentId {
    SegmentId::new(id).unwrap()
}

pub(crate) fn node(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

pub(crate) fn segs(n: usize) -> Vec<SegmentId> {
    (0..n).map(|i| seg(&format!("s{i:05}"))).collect()
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < end, "waited too long for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a worker does with a request.
pub(crate) enum Reply {
    /// Sends the pieces and ends in order.
    Whole(Vec<Vec<u8>>),
    /// Sends the pieces, then breaks the connection.
    Break(Vec<Vec<u8>>),
    /// Sends the pieces, then nothing more.
    Hang(Vec<Vec<u8>>),
    /// Another status and text.
    Status(u16, String),
    /// Another media type.
    Html(String),
}

type Behaviour = dyn Fn(QueryRequest) -> Reply + Send + Sync;

#[derive(Clone)]
struct Handler {
    behaviour: Arc<Behaviour>,
    requests: Arc<AtomicUsize>,
    hanging: Arc<AtomicUsize>,
}

pub(crate) struct Worker {
    pub(crate) node: NodeId,
    pub(crate) url: String,
    pub(crate) port: u16,
    requests: Arc<AtomicUsize>,
    hanging: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Worker {
    pub(crate) async fn start(name: &str, behaviour: impl Fn(QueryRequest) -> Reply + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, hanging) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let state = Handler { behaviour: Arc::new(behaviour), requests: requests.clone(), hanging: hanging.clone() };
        let app = Router::new().route("/v1/query", post(answer)).with_state(state);
        let task = tokio::spawn(async move {
            let _ = axum::serve(axum::serve::ListenerExt::tap_io(listener, |io| drop(io.set_nodelay(true))), app).await;
        });
        Self { node: node(name), url: format!("http://127.0.0.1:{port}/"), port, requests, hanging, task }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Answers that hang and whose client is still there.
    pub(crate) fn hanging(&self) -> usize {
        self.hanging.load(Ordering::SeqCst)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Hanging(Arc<AtomicUsize>);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(State(handler): State<Handler>, body: Bytes) -> Response {
    handler.requests.fetch_add(1, Ordering::SeqCst);
    let request: QueryRequest = serde_json::from_slice(&body).unwrap();
    let typed = |body: Body| Response::builder().header(CONTENT_TYPE, MSGPACK).body(body).unwrap();
    let pieces = |all: Vec<Vec<u8>>| futures::stream::iter(all).map(|p| Ok::<_, std::io::Error>(Bytes::from(p)));
    match (handler.behaviour)(request) {
        Reply::Whole(all) => typed(Body::from_stream(futures::stream::iter(all).map(Ok::<_, Infallible>))),
        Reply::Break(all) => {
            let end = futures::stream::once(async { Err(std::io::Error::other("broken on purpose")) });
            typed(Body::from_stream(pieces(all).chain(end)))
        }
        Reply::Hang(all) => {
            handler.hanging.fetch_add(1, Ordering::SeqCst);
            let guard = Hanging(handler.hanging.clone());
            let end = futures::stream::once(async move {
                let _guard = guard;
                std::future::pending::<Result<Bytes, std::io::Error>>().await
            });
            typed(Body::from_stream(pieces(all).chain(end)))
        }
        Reply::Status(status, text) => {
            Response::builder().status(StatusCode::from_u16(status).unwrap()).body(Body::from(text)).unwrap()
        }
        Reply::Html(text) => Response::builder().header(CONTENT_TYPE, "text/html").body(Body::from(text)).unwrap(),
    }
}

/// Frames in bytes.
pub(crate) fn bytes(frames: &[Frame]) -> Vec<u8> {
    let mut out = Vec::new();
    frames.iter().for_each(|f| f.encode(&mut out));
    out
}

pub(crate) fn columns(segment: Option<u32>) -> Frame {
    Frame::Columns { segment, names: vec!["n".into()] }
}

/// One row with one integer.
pub(crate) fn row(segment: Option<u32>, n: i64) -> Frame {
    let mut data = Vec::new();
    rmp::encode::write_sint(&mut data, n).unwrap();
    Frame::Rows { segment, count: 1, data: data.into() }
}

pub(crate) fn end(ok: usize, failed: usize, rows: u64) -> Frame {
    Frame::End(QueryStats { ok: ok as u64, failed: failed as u64, rows, bytes: rows, micros: 7 })
}

pub(crate) fn segment_error(segment: u32, code: ErrorCode, message: &str, hint: Option<&str>) -> Frame {
    Frame::SegmentError {
        segment,
        error: SegmentError { code, message: message.into(), hint: hint.map(str::to_owned) },
    }
}

/// One row `1` per segment, or with reduce one row with the number of segments.
pub(crate) fn honest(request: &QueryRequest) -> Vec<Frame> {
    let n = request.segments.len();
    let mut frames = Vec::new();
    if request.reduce.is_some() {
        frames.extend([columns(None), row(None, n as i64), end(n, 0, 1)]);
    } else {
        frames.push(columns(Some(0)));
        frames.extend((0..n).map(|i| row(Some(i as u32), 1)));
        frames.push(end(n, 0, n as u64));
    }
    frames
}

pub(crate) async fn honest_worker(name: &str) -> Worker {
    Worker::start(name, |r| Reply::Whole(vec![bytes(&honest(&r))])).await
}
