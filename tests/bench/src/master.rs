//! What a sync master of many segments needs: `trough sync`, a process of its own, over a directory of sparse files, a metadata
//! server in this process, and workers that are invented: each says at once that it serves what it is assigned. Printed:
//! how long the first placement takes until every copy is live, how long a cycle takes that finds nothing to do, and the
//! master's memory after each. Run only by its name: `--only master`.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use serde_json::Value;
use trough_client::{
    Catalog,
    catalog::{Change, segment_service},
};
use trough_core::{
    NodeId,
    records::{ROLE_NODES, ROLE_READ, Service},
};
use trough_meta::MetaServer;

use crate::{Args, listing, report::Report};

const WORKERS: usize = 4;
const SEGMENT_BYTES: u64 = 100_000;
/// Cycles that find nothing to do, to be looked at.
const CYCLES: usize = 5;
const PATIENCE: Duration = Duration::from_secs(1_800);

/// The child, killed when it is dropped.
struct Master(Child);

impl Drop for Master {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Master {
    /// A line of `/proc/PID/status`, in MiB.
    fn memory(&self, name: &str) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        let kib: f64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }
}

fn start(dir: &Path, store: &Path, meta: std::net::SocketAddr, port: u16) -> Result<Master> {
    let config = dir.join("sync.yml");
    std::fs::write(
        &config,
        format!(
            "HOSTNAME: sync\nLISTEN: 127.0.0.1\nSYNC_SERVER_PORT: {port}\nRETHINKDB_HOSTS: ['{meta}']\nSTORE: {}\n\
             LOCAL_DATA: {}\nSYNC_LOOP_TIMING: 5\nELECTION_CYCLE: 1\n",
            store.display(),
            dir.display(),
        ),
    )?;
    let binary = std::env::var_os("TROUGH_BIN").map_or_else(|| PathBuf::from("target/release/trough"), PathBuf::from);
    let log = std::fs::File::create(dir.join("sync.log"))?;
    let child = Command::new(binary)
        .args(["sync", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("run `trough sync`")?;
    Ok(Master(child))
}

/// An invented worker: serves what it is assigned.
async fn serve(catalog: Catalog, node: NodeId) -> Result<()> {
    let changes = catalog.assignment_feed(&node).await?;
    let mut changes = changes.ready_chunks(1_000);
    while let Some(batch) = changes.next().await {
        let mut rows = Vec::new();
        for change in batch {
            if let Change::Row { old: None, new: Some(row) } = change? {
                rows.push(segment_service(ROLE_READ, &node, &row.segment, "http://127.0.0.1:1/", 1, 0.0));
            }
        }
        catalog.advertise(&rows).await?;
    }
    Ok(())
}

/// `GET /status`, as JSON.
async fn status(port: u16) -> Result<Value> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    socket.write_all(b"GET /status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no head")?;
    Ok(serde_json::from_slice(&answer[at + 4..])?)
}

pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let segments = args.segments;
    let dir = tempfile::tempdir_in(args.cluster.parent().context("--cluster has no parent")?)?;
    let store = dir.path().join("store");
    std::fs::create_dir(&store)?;
    listing::fill_directory(&store, segments, SEGMENT_BYTES)?;
    let meta = MetaServer::start_ephemeral(&dir.path().join("meta")).await?;
    let url = format!("rethinkdb://{}/trough_configuration", meta.local_addr());
    let catalog = Catalog::new(trough_reql::Client::new(trough_reql::Options::from_url(&url)?));
    catalog.ensure_tables(1).await?;
    let mut workers = tokio::task::JoinSet::new();
    for n in 0..WORKERS {
        let node = NodeId::new(&format!("w{n}"))?;
        let service = Service {
            id: Service::node_id(&node),
            role: Some(ROLE_NODES.into()),
            node: Some(node.clone()),
            ttl: 1e6,
            available_bytes: Some(1 << 40),
            cold_storage: Some(false),
            ..Service::default()
        };
        catalog.heartbeat_node(&service).await?;
        workers.spawn(serve(catalog.clone(), node));
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let began = Instant::now();
    let master = start(dir.path(), &store, meta.local_addr(), port)?;
    let cluster = |status: &Value, name: &str| status["cluster"]["summary"][name].as_u64();
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tick.tick().await;
        ensure!(began.elapsed() < PATIENCE, "the master took too long");
        if let Some(ended) = workers.try_join_next() {
            ended??;
        }
        let Ok(status) = status(port).await else { continue };
        let placed = cluster(&status, "segments") == Some(segments as u64)
            && cluster(&status, "under_replicated") == Some(0)
            && cluster(&status, "in_flight") == Some(0);
        if placed {
            break;
        }
    }
    let placed = began.elapsed();
    let peak = master.memory("VmHWM")?;
    let mut cycles = Vec::new();
    let mut last = 0.0;
    while cycles.len() < CYCLES {
        tick.tick().await;
        let status = status(port).await?;
        let at = status["cluster"]["at"].as_f64().context("no time")?;
        if at > last {
            last = at;
            cycles.push(status["cluster"]["took_ms"].as_u64().context("no time")?);
        }
    }
    cycles.sort_unstable();
    report.row(
        &format!("sync master of {segments} segments, 2 copies each"),
        format!("placed and live in {:.0} s, a cycle {} ms", placed.as_secs_f64(), cycles[CYCLES / 2]),
        format!("memory {:.0} MiB at most, {:.0} MiB at rest", peak, master.memory("VmRSS")?),
        format!("{:.0} bytes a segment at most", peak * 1_048_576.0 / segments as f64),
        "printed",
        None,
    );
    drop(master);
    workers.shutdown().await;
    meta.shutdown().await;
    Ok(())
}
