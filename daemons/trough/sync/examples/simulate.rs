//! A large cluster to look at: a metadata server in this process, a store of sparse files, and invented workers, each of
//! which says at once that it serves what it is assigned, and answers `/status` and `/v1/events` with what a worker under
//! load would say. The sync server is a real one, a process of its own (`trough sync`, TROUGH_BIN).
//!
//! `cargo run --example simulate -p trough-sync -- DIR SEGMENTS WORKERS PORT`: prints `ready` once every copy is live, and
//! runs until its standard input ends.

use std::{
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use axum::{Json, Router, extract, routing::get};
use futures::StreamExt as _;
use serde_json::{Value, json};
use trough_client::{
    Catalog,
    catalog::{Change, segment_service},
};
use trough_core::{
    NodeId, SegmentId,
    records::{ROLE_NODES, ROLE_READ, Service},
};
use trough_meta::MetaServer;

const SEGMENT_BYTES: u64 = 1_500_000;
const PATIENCE: Duration = Duration::from_secs(3_000);
const TTL: f64 = 45.0;

/// The child, killed when it is dropped.
struct Sync(Child);

impl Drop for Sync {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn fill(store: &Path, segments: usize) -> Result<()> {
    for n in 0..segments {
        let segment = SegmentId::new(&format!("crawl-{n:07}"))?;
        let path = store.join(segment.store_path());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::File::create(path)?.set_len(SEGMENT_BYTES + (n as u64 * 7_919) % 500_000)?;
    }
    Ok(())
}

/// What a worker with something to do says of itself.
fn status(number: usize, segments: usize) -> Value {
    let segment = |n: usize| format!("crawl-{:07}", (number * 7_919 + n * 104_729) % segments);
    let flights: Vec<Value> = (0..number % 4)
        .map(|n| {
            let bytes = SEGMENT_BYTES * (n as u64 + 1);
            json!({"segment": segment(n), "bytes": bytes, "done": bytes / 7 * (1 + number as u64 % 6), "seconds": n * 3 + 2})
        })
        .collect();
    let promotions = match number % 9 {
        0 => vec![json!({"segment": segment(50), "stage": "upload", "bytes": 9_000_000, "done": 4_100_000, "seconds": 4.0})],
        _ => Vec::new(),
    };
    let failed = match number % 33 {
        7 => vec![json!({"segment": segment(60), "error": "read of the canonical file: connection reset by peer", "attempts": 3})],
        _ => Vec::new(),
    };
    let quarantine = match number % 50 {
        13 => vec![json!({
            "segment": segment(70), "reason": "database disk image is malformed", "at_ms": 1_750_000_000_000_i64,
            "file": format!("{}.sqlite.1750000000000", segment(70)),
        })],
        _ => Vec::new(),
    };
    json!({
        "copies": {"waiting": flights.len() + number % 7, "in_flight": flights, "failed": failed},
        "promotions": {"count": promotions.len(), "in_flight": promotions},
        "quarantine": quarantine, "broken": [],
    })
}

/// All workers' managers on one port, each below its number.
async fn managers(segments: usize) -> Result<std::net::SocketAddr> {
    let routes = Router::new()
        .route(
            "/{number}/status",
            get(move |extract::Path(number): extract::Path<usize>| async move { Json(status(number, segments)) }),
        )
        .route("/{number}/v1/events", get(|| async { Json(json!({"events": []})) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(address)
}

fn node_row(number: usize, workers: usize, segments: usize, managers: std::net::SocketAddr) -> Result<Service> {
    let node = NodeId::new(&format!("worker-{number:03}"))?;
    let capacity = SEGMENT_BYTES * 6 * segments as u64 / workers as u64;
    Ok(Service {
        id: Service::node_id(&node),
        role: Some(ROLE_NODES.into()),
        node: Some(node),
        ttl: TTL,
        load: 0.15 + (number * 37 % 80) as f64 / 100.0,
        available_bytes: Some(capacity + capacity / 3 * (number as u64 % 3)),
        used_bytes: Some(capacity / 100 * (31 + number as u64 * 13 % 20)),
        zone: Some(format!("rack-{}", number % 5)),
        cold_storage: Some(false),
        manage_url: Some(format!("http://{managers}/{number}/")),
        ..Service::default()
    })
}

/// An invented worker: keeps its lease, and serves what it is assigned.
async fn serve(catalog: Catalog, row: Service) -> Result<()> {
    let node = row.node.clone().context("a node's row has a node")?;
    let beating = {
        let catalog = catalog.clone();
        async move {
            let mut ticks = tokio::time::interval(Duration::from_secs_f64(TTL / 3.0));
            loop {
                ticks.tick().await;
                catalog.heartbeat_node(&row).await?;
            }
        }
    };
    let serving = async move {
        let changes = catalog.assignment_feed(&node).await?;
        let mut changes = changes.ready_chunks(2_000);
        while let Some(batch) = changes.next().await {
            let mut rows = Vec::new();
            for change in batch {
                if let Change::Row { old: None, new: Some(row) } = change? {
                    rows.push(segment_service(ROLE_READ, &node, &row.segment, "http://127.0.0.1:1/", 1, 0.0));
                }
            }
            catalog.advertise(&rows).await?;
        }
        Ok::<(), anyhow::Error>(())
    };
    tokio::select! {
        ended = beating => ended,
        ended = serving => ended,
    }
}

fn start(dir: &Path, meta: std::net::SocketAddr, port: u16) -> Result<Sync> {
    let config = dir.join("sync.yml");
    std::fs::write(
        &config,
        format!(
            "HOSTNAME: sync-1\nLISTEN: 127.0.0.1\nSYNC_SERVER_PORT: {port}\nRETHINKDB_HOSTS: ['{meta}']\nSTORE: {0}/store\n\
             LOCAL_DATA: {0}\nSYNC_LOOP_TIMING: 30\nELECTION_CYCLE: 1\nMINIMUM_ASSIGNMENTS: 1\nMAXIMUM_ASSIGNMENTS: 1\n",
            dir.display(),
        ),
    )?;
    let binary = std::env::var_os("TROUGH_BIN").unwrap_or_else(|| "target/release/trough".into());
    let log = std::fs::File::create(dir.join("sync.log"))?;
    let mut command = Command::new(binary);
    command.args(["sync", "--config"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Ok(Sync(command.spawn().context("run `trough sync`")?))
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, segments, workers, port] = arguments.as_slice() else {
        anyhow::bail!("usage: simulate DIR SEGMENTS WORKERS PORT");
    };
    let (segments, workers, port): (usize, usize, u16) = (segments.parse()?, workers.parse()?, port.parse()?);
    let dir = Path::new(dir);
    let store = dir.join("store");
    if !store.exists() {
        std::fs::create_dir_all(&store)?;
        fill(&store, segments)?;
    }
    let meta = MetaServer::start_ephemeral(&dir.join("meta")).await?;
    let url = format!("rethinkdb://{}/trough_configuration", meta.local_addr());
    let catalog = Catalog::new(trough_reql::Client::new(trough_reql::Options::from_url(&url)?));
    catalog.ensure_tables(1).await?;
    let managers = managers(segments).await?;
    let mut serving = tokio::task::JoinSet::new();
    for number in 0..workers {
        let row = node_row(number, workers, segments, managers)?;
        catalog.heartbeat_node(&row).await?;
        serving.spawn(serve(catalog.clone(), row));
    }
    let began = Instant::now();
    let sync = start(dir, meta.local_addr(), port)?;
    let http = reqwest::Client::new();
    let status = format!("http://127.0.0.1:{port}/v1/cluster?named=0");
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    loop {
        ticks.tick().await;
        ensure!(began.elapsed() < PATIENCE, "the master took too long");
        if let Some(ended) = serving.try_join_next() {
            ended??;
        }
        let Ok(answer) = http.get(&status).send().await else { continue };
        let Ok(said) = answer.json::<Value>().await else { continue };
        let summary = &said["cluster"]["summary"];
        let count = |name: &str| summary[name].as_u64();
        if count("segments") == Some(segments as u64) && count("under_replicated") == Some(0) && count("in_flight") == Some(0)
        {
            break;
        }
    }
    println!("ready http://127.0.0.1:{port}/ pid {} after {:.0} s", sync.0.id(), began.elapsed().as_secs_f64());
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    ended.await??;
    drop(sync);
    serving.shutdown().await;
    meta.shutdown().await;
    Ok(())
}
