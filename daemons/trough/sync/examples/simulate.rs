//! A large cluster to look at: a real sync server over a real metadata server, whose tables in memory (who serves what, which
//! segments are locked, what the last reconciliation saw) are filled with invented segments. The workers are invented, too:
//! each keeps a lease, and answers `/status` and `/v1/events` with what a worker under load would say.
//!
//! `cargo run --example simulate -p trough-sync -- SEGMENTS WORKERS PORT`: prints `ready`, and runs until its standard input
//! ends. What listing and placing that many segments costs is measured by `tests/bench/run.sh --only master`.

use std::{
    collections::BTreeMap,
    io::Read as _,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use axum::{Json, Router, extract, routing::get};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use trough_client::{Catalog, catalog::segment_service};
use trough_config::Settings;
use trough_core::{
    NodeId, SegmentId,
    records::{Lock, ROLE_NODES, ROLE_READ, Service, Time},
};
use trough_meta::MetaServer;
use trough_sync::{
    Context, Server,
    plan::Summary,
    view::{ClusterView, Listed, Needy, Stale, WorkerLine},
};

/// Bytes of a segment, on average.
const SEGMENT_BYTES: u64 = 1_750_000;
const COPIES: usize = 2;
const TTL: f64 = 45.0;

/// What is invented, and how much of it.
#[derive(Clone, Copy)]
struct Scale {
    segments: usize,
    workers: usize,
}

fn segment(number: usize) -> SegmentId {
    SegmentId::new(&format!("crawl-{number:07}")).expect("a valid id")
}

fn node(number: usize) -> NodeId {
    NodeId::new(&format!("worker-{number:03}")).expect("a valid id")
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

impl Scale {
    /// A segment that has something to do with a worker.
    fn pick(self, worker: usize, n: usize) -> SegmentId {
        segment((worker * 7_919 + n * 104_729) % self.segments)
    }

    /// A worker's capacity, for three kinds of machines.
    fn capacity(self, worker: usize) -> u64 {
        let unit = SEGMENT_BYTES * (self.segments * COPIES) as u64 / self.workers as u64;
        unit * (3 + worker as u64 % 3) / 2
    }

    /// What of its fair share a worker has: within five per cent, as the placement keeps it.
    fn share(worker: usize, ring: usize) -> f64 {
        1.0 + ((worker * 37 + ring * 11) % 9) as f64 / 100.0 - 0.04
    }

    fn ring_bytes(self, worker: usize, ring: usize) -> u64 {
        let all: u64 = (0..self.workers).map(|w| self.capacity(w)).sum();
        let fair = (SEGMENT_BYTES * self.segments as u64) as f64 * self.capacity(worker) as f64 / all as f64;
        (fair * Self::share(worker, ring)) as u64
    }

    fn held(self, worker: usize) -> u64 {
        (0..COPIES).map(|ring| self.ring_bytes(worker, ring)).sum()
    }

    /// What a worker with something to do says of itself.
    fn status(self, worker: usize) -> Value {
        let name = |n: usize| self.pick(worker, n);
        let flights: Vec<Value> = (0..worker % 4)
            .map(|n| {
                let bytes = SEGMENT_BYTES * (n as u64 + 1);
                let done = bytes / 7 * (1 + worker as u64 % 6);
                json!({"segment": name(n), "bytes": bytes, "done": done, "seconds": n * 3 + 2})
            })
            .collect();
        let some = |every: usize, what: Value| if worker % every == every / 3 { vec![what] } else { Vec::new() };
        let promoting =
            json!({"segment": name(50), "stage": "upload", "bytes": 9_000_000, "done": 4_100_000, "seconds": 4.0});
        let failed = json!({"segment": name(60), "error": "read of the canonical file: connection reset by peer", "attempts": 3});
        let broken = json!({
            "segment": name(70), "reason": "database disk image is malformed", "at_ms": (now() * 1000.0) as i64 - 7_200_000,
            "file": format!("{}.sqlite.1750000000000", name(70)),
        });
        let promotions = some(9, promoting);
        json!({
            "copies": {"waiting": flights.len() + worker % 7, "in_flight": flights, "failed": some(33, failed)},
            "promotions": {"count": promotions.len(), "in_flight": promotions},
            "quarantine": some(50, broken), "broken": [],
        })
    }

    fn node_row(self, worker: usize, managers: std::net::SocketAddr) -> Service {
        Service {
            id: Service::node_id(&node(worker)),
            role: Some(ROLE_NODES.into()),
            node: Some(node(worker)),
            ttl: TTL,
            load: 0.15 + (worker * 37 % 80) as f64 / 100.0,
            available_bytes: Some(self.capacity(worker)),
            used_bytes: Some(self.held(worker)),
            segments: Some(self.held(worker) / SEGMENT_BYTES),
            copying: Some(worker as u64 % 4),
            zone: Some(format!("rack-{}", worker % 5)),
            cold_storage: Some(false),
            manage_url: Some(format!("http://{managers}/{worker}/")),
            ..Service::default()
        }
    }

    fn view(self, epoch: u64) -> ClusterView {
        let line = |worker: usize| WorkerLine {
            node: node(worker),
            tier: "hot",
            presence: "alive",
            draining: false,
            stopping: false,
            protocol: trough_core::protocol::PROTOCOL,
            version: None,
            zone: Some(format!("rack-{}", worker % 5)),
            heartbeat_age: 0.0,
            ttl: TTL,
            load: 0.0,
            capacity: self.capacity(worker),
            used: None,
            segments: None,
            copying: None,
            assigned: self.held(worker) / SEGMENT_BYTES,
            assigned_bytes: self.held(worker),
            ring_bytes: (0..COPIES)
                .map(|r| (format!("ring {r}"), self.ring_bytes(worker, r)))
                .collect::<BTreeMap<_, _>>(),
            wanted: self.held(worker) / SEGMENT_BYTES,
            read_url: None,
            manage_url: None,
        };
        let short = 1_200.min(self.segments);
        let needy: Vec<Needy> = (0..short)
            .map(|n| Needy { segment: segment(n * 13 % self.segments), live: 1, wanted: COPIES, coming: 1, away: 0 })
            .collect();
        let canonical_ms = (now() * 1000.0) as i64 - 40_000;
        let stale: Vec<Stale> = (0..17.min(self.segments))
            .map(|n| Stale {
                segment: segment(n * 17 % self.segments),
                node: node(n % self.workers),
                version: (canonical_ms / 1000) as u32 - 600,
                canonical_ms: canonical_ms + n as i64,
            })
            .collect();
        ClusterView {
            epoch,
            generation: 812,
            at: now(),
            took_ms: 1_260,
            summary: Summary {
                segments: self.segments as u64,
                bytes: SEGMENT_BYTES * self.segments as u64,
                under_replicated: short as u64,
                in_flight: short as u64,
                in_flight_bytes: SEGMENT_BYTES * short as u64,
                ..Summary::default()
            },
            workers: (0..self.workers).map(line).collect(),
            needy: needy.iter().take(200).cloned().collect(),
            stale_count: stale.len() as u64,
            listed: Listed { needy, stale },
            ..ClusterView::default()
        }
    }

    /// The tables that a master follows.
    fn fill(self, context: &Context) {
        // Filled aside: whoever waits for the lock meanwhile would keep the election waiting.
        let mut serving = std::mem::take(&mut *context.serving.write());
        for number in 0..self.segments {
            for copy in 0..COPIES {
                let node = node((number * 31 + copy * 17) % self.workers);
                let row = segment_service(ROLE_READ, &node, &segment(number), "http://127.0.0.1:1/", 1, 0.0);
                serving.change(None, Some(&row));
            }
        }
        *context.serving.write() = serving;
        let mut locks = context.locks.write();
        for n in 0..2_000.min(self.segments) {
            let lock = Lock {
                id: format!("write:lock:{}", segment(n * 3 % self.segments)),
                node: node(n % self.workers),
                segment: segment(n * 3 % self.segments),
                acquired_on: Some(Time::from_epoch(now() - (n * n % 9_001) as f64)),
                under_promotion: n % 50 == 0,
                holder: None,
                fence: 1,
                epoch: 1,
            };
            locks.change(None, Some(lock));
        }
    }
}

/// All workers' managers on one port, each below its number.
async fn managers(scale: Scale) -> Result<std::net::SocketAddr> {
    let status = move |extract::Path(worker): extract::Path<usize>| async move { Json(scale.status(worker)) };
    let routes = Router::new()
        .route("/{worker}/status", get(status))
        .route("/{worker}/v1/events", get(|| async { Json(json!({"events": []})) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(address)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [segments, workers, port] = arguments.as_slice() else {
        anyhow::bail!("usage: simulate SEGMENTS WORKERS PORT")
    };
    let scale = Scale { segments: segments.parse()?, workers: workers.parse()? };
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("store"))?;
    let meta = MetaServer::start_ephemeral(&dir.path().join("meta")).await?;
    let url = format!("rethinkdb://{}/trough_configuration", meta.local_addr());
    let catalog = Catalog::new(trough_reql::Client::new(trough_reql::Options::from_url(&url)?));
    catalog.ensure_tables(1).await?;
    let managers = managers(scale).await?;
    for worker in 0..scale.workers {
        catalog.heartbeat_node(&scale.node_row(worker, managers)).await?;
    }
    // The store is empty, and listed once: what is shown is not what it holds.
    let text = format!(
        "HOSTNAME: sync-1\nLISTEN: 127.0.0.1\nSYNC_SERVER_PORT: {port}\nRETHINKDB_HOSTS: ['{}']\nSTORE: {1}/store\n\
         LOCAL_DATA: {1}\nSYNC_LOOP_TIMING: 86400\nELECTION_CYCLE: 600\n",
        meta.local_addr(),
        dir.path().display(),
    );
    let stop = CancellationToken::new();
    let server = Server::start(Arc::new(Settings::from_yaml(&text)?), stop.clone()).await?;
    let context = server.context().clone();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    // Until the first reconciliation has been.
    let epoch = loop {
        ticks.tick().await;
        let epoch = context.view.read().epoch;
        if epoch > 0 {
            break epoch;
        }
    };
    let filling = context.clone();
    tokio::task::spawn_blocking(move || scale.fill(&filling)).await?;
    let beating = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        for round in 0.. {
            ticks.tick().await;
            *context.view.write() = Arc::new(scale.view(epoch));
            // Each worker in its own third of the lease.
            for worker in (0..scale.workers).filter(|worker| (worker + round) % 3 == 0) {
                drop(catalog.heartbeat_node(&scale.node_row(worker, managers)).await);
            }
        }
    });
    println!("ready http://{}/", server.addr());
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
        .await?
        .context("read standard input")?;
    beating.abort();
    stop.cancel();
    server.stopped().await;
    meta.shutdown().await;
    Ok(())
}
