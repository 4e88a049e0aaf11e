//! The shell as it is typed: `trough shell -c …`, a process of its own, from its start to its end.
//!
//! - 1,000 segments of 1,000 rows in a `trough dev` of its own, promoted: GROUP BY on each of them, and merged. Beside it the same work as the
//!   Python shell does it: one request a segment to the old endpoint, here one after the other on a kept connection to each worker, and in the
//!   second case added up by the caller. The peer finds its segments before the clock starts; the shell finds them within it.
//! - The same on the old endpoint, over eight connections ([`endpoint`]).
//! - SHOW SEGMENTS over 500,000 segments of two copies each, whose rows are in a metadata server of this process; beside it reading
//!   all rows before the first is printed, as the Python shell does.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value as Json;
use trough_client::{
    Catalog, Discovery, DiscoveryOptions, SegmentPattern, WriteClient,
    catalog::segment_service,
    http::HttpOptions,
    write::{PromoteSet, WriteOptions},
};
use trough_core::{
    NodeId, SchemaId, SegmentId,
    records::{ROLE_NODES, ROLE_READ, Service},
};
use trough_meta::MetaServer;

use crate::{
    Args, endpoint, http, points,
    report::{Report, median, ms},
};

const SEGMENTS: usize = 1_000;
const ROWS: usize = 1_000;
const ROUNDS: usize = 5;
const SQL: &str = "select count(*), status from t group by status";
const STATUSES: [i64; 6] = [200, 301, 302, 403, 404, 503];
const PATIENCE: Duration = Duration::from_secs(600);
const NODES: usize = 4;
/// So long nothing changes in a cluster at rest.
const REST: Duration = Duration::from_secs(10);

fn binary() -> PathBuf {
    std::env::var_os("TROUGH_BIN").map_or_else(|| PathBuf::from("target/release/trough"), PathBuf::from)
}

/// A child that is ended when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // `trough dev` takes its parts with it, whatever ends it.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A cluster of its own; its metadata URL.
fn dev(dir: &Path) -> Result<(Process, String)> {
    let log = std::fs::File::create(dir.join("dev.log"))?;
    let mut child = Command::new(binary())
        .args(["dev", "--workers", "3", "--cold-workers", "0", "--base-port", "26700", "--dir"])
        .arg(dir.join("dev"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("run `trough dev`")?;
    let out = child.stdout.take().context("standard output")?;
    let child = Process(child);
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    let url = line.trim().strip_prefix("ready ").with_context(|| format!("trough dev said {line:?}"))?;
    Ok((child, url.to_owned()))
}

fn discovery(url: &str) -> Result<Discovery> {
    let catalog = Catalog::new(trough_reql::Client::new(trough_reql::Options::from_url(url)?));
    Ok(Discovery::new(catalog, DiscoveryOptions::default()))
}

/// Writes and promotes the segments, and waits until nobody holds their locks.
async fn load(discovery: &Discovery) -> Result<()> {
    let schema = SchemaId::new("shell")?;
    let options = WriteOptions { schema: schema.clone(), timeout: PATIENCE, ..WriteOptions::default() };
    let writes = WriteClient::new(discovery.clone(), &HttpOptions::default(), options)?;
    writes.register_schema(&schema, "CREATE TABLE t (status INTEGER NOT NULL, url TEXT NOT NULL);").await?;
    let ids: Vec<SegmentId> =
        (0..SEGMENTS).map(|n| SegmentId::new(&format!("shell-{n:04}"))).collect::<Result<_, _>>()?;
    writes.provision(&ids, &schema).await?;
    futures::stream::iter(ids.iter().enumerate())
        .map(|(n, id)| {
            let writes = &writes;
            async move {
                let row = |i: usize| format!("({}, 'http://example.com/{n}/{i}')", STATUSES[(n + i) % STATUSES.len()]);
                let rows: Vec<String> = (0..ROWS).map(row).collect();
                writes.write_script(id, &format!("INSERT INTO t VALUES {}", rows.join(","))).await
            }
        })
        .buffer_unordered(16)
        .try_for_each(async |()| Ok(()))
        .await?;
    let mut promotions = writes.promote(PromoteSet::Matching("^shell-".into())).await?;
    while let Some(promoted) = promotions.next().await {
        let promoted = promoted?;
        promoted.result.with_context(|| format!("promote {}", promoted.segment))?;
    }
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    while discovery.catalog().locks().await?.next().await.is_some() {
        ensure!(began.elapsed() < PATIENCE, "the write locks are not released");
        tick.tick().await;
    }
    Ok(())
}

/// Runs the shell to its end; what it printed and how long it took.
fn shell(url: &str, commands: &[&str]) -> Result<(String, Duration)> {
    let began = Instant::now();
    let mut shell = Command::new(binary());
    shell.args(["shell", "-u", url, "-f", "csv"]);
    for command in commands {
        shell.args(["-c", command]);
    }
    let output = shell.stdin(Stdio::null()).output().context("run `trough shell`")?;
    let took = began.elapsed();
    ensure!(output.status.success(), "the shell failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok((String::from_utf8(output.stdout)?, took))
}

/// How often each status occurs, by the lines of the shell: count and status are the last two fields.
fn totals(csv: &str) -> Result<HashMap<i64, i64>> {
    let mut all = HashMap::new();
    for line in csv.lines().skip(1) {
        let mut fields = line.rsplit(',');
        let status: i64 = fields.next().context("a status")?.parse()?;
        *all.entry(status).or_default() += fields.next().context("a count")?.parse::<i64>()?;
    }
    Ok(all)
}

/// One request a segment; the answers, and how long it took.
fn one_by_one(segments: &[(SegmentId, String)]) -> Result<(Vec<Json>, Duration)> {
    let began = Instant::now();
    let mut connections: HashMap<&str, http::Connection> = HashMap::new();
    let mut answers = Vec::with_capacity(segments.len());
    for (segment, host) in segments {
        let connection = match connections.entry(host) {
            std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => place.insert(http::Connection::open(host)?),
        };
        let (status, body) = connection.post(&format!("/?segment={}", segment.url_encoded()), SQL.as_bytes())?;
        ensure!(status == 200, "{segment}: status {status}");
        answers.push(serde_json::from_slice(body)?);
    }
    Ok((answers, began.elapsed()))
}

fn add_up(answers: &[Json]) -> HashMap<i64, i64> {
    let mut all = HashMap::new();
    for row in answers.iter().filter_map(Json::as_array).flatten() {
        *all.entry(row["status"].as_i64().unwrap_or(0)).or_default() += row["count(*)"].as_i64().unwrap_or(0);
    }
    all
}

/// The segments and where the first copy of each is read, once that has not changed for a while: surplus copies, which writing has left, are
/// collected first.
async fn at_rest(discovery: &Discovery) -> Result<Vec<(SegmentId, String)>> {
    let began = Instant::now();
    let mut before = Vec::new();
    loop {
        let mut segments = Vec::new();
        let mut scan = discovery.scan(SegmentPattern::Prefix("shell-".into())).await?;
        while let Some(page) = scan.next_page(SEGMENTS).await? {
            for served in page {
                let host = |url: &str| url.trim_start_matches("http://").trim_end_matches('/').to_owned();
                segments
                    .push((served.segment, served.copies.iter().map(|copy| host(&copy.read_url)).collect::<Vec<_>>()));
            }
        }
        if segments == before {
            return segments
                .into_iter()
                .map(|(segment, hosts)| Ok((segment, hosts.into_iter().next().context("a copy")?)))
                .collect();
        }
        ensure!(began.elapsed() < PATIENCE, "copies are moved again and again");
        before = segments;
        tokio::time::sleep(REST).await;
    }
}

async fn queries(dir: &Path, report: &mut Report) -> Result<()> {
    let (_dev, url) = dev(dir)?;
    let discovery = discovery(&url)?;
    load(&discovery).await?;
    let segments = at_rest(&discovery).await?;
    ensure!(segments.len() == SEGMENTS, "{} segments are served", segments.len());
    let expected: HashMap<i64, i64> = add_up(&one_by_one(&segments)?.0);
    ensure!(expected.values().sum::<i64>() == (SEGMENTS * ROWS) as i64, "{expected:?}");

    let (mut each, mut merged, mut loops, mut added) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (csv, each_took) = shell(&url, &["connect matching ^shell-", SQL])?;
        ensure!(csv.lines().count() == SEGMENTS * STATUSES.len() + 1 && totals(&csv)? == expected, "per segment");
        let (csv, merged_took) = shell(&url, &["connect matching ^shell-", &format!("merge {SQL}")])?;
        ensure!(csv.lines().count() == STATUSES.len() + 1 && totals(&csv)? == expected, "merged: {csv}");
        let (answers, loop_took) = one_by_one(&segments)?;
        let began = Instant::now();
        ensure!(add_up(&answers) == expected, "one by one");
        if round > 0 {
            each.push(each_took);
            merged.push(merged_took);
            loops.push(loop_took);
            added.push(loop_took + began.elapsed());
        }
    }
    for (what, ours, peer, target) in [("shell per segment", each, loops, 1.0), ("shell merged", merged, added, 0.6)] {
        let (ours, peer) = (median(ours), median(peer));
        report.row(
            &format!("{what}: GROUP BY, {SEGMENTS} segments of {ROWS} rows"),
            ms(ours),
            format!("{} a request per segment", ms(peer)),
            format!("{:.2} x", ours.as_secs_f64() / peer.as_secs_f64()),
            &format!("<= {target} s"),
            Some(ours.as_secs_f64() <= target),
        );
    }
    let files = points::files(dir)?.into_iter().map(|((_, segment), file)| (segment, file)).collect();
    endpoint::group_by(&segments, &files, SQL, report)
}

/// Rows of so many segments, two copies each.
async fn advertise(catalog: &Catalog, segments: usize) -> Result<()> {
    catalog.ensure_tables(1).await?;
    let mut nodes = Vec::new();
    for n in 0..NODES {
        let node = NodeId::new(&format!("w{n}"))?;
        let service = Service {
            id: Service::node_id(&node),
            role: Some(ROLE_NODES.into()),
            node: Some(node.clone()),
            ttl: 1e6,
            available_bytes: Some(1 << 40),
            cold_storage: Some(false),
            read_url: Some(format!("http://127.0.0.1:{n}/")),
            ..Service::default()
        };
        catalog.heartbeat_node(&service).await?;
        nodes.push(node);
    }
    let mut rows = Vec::new();
    for n in 0..segments {
        let segment = SegmentId::new(&format!("segment-{:07}", n * 7_919 % segments))?;
        for copy in 0..2 {
            let at = (n + copy) % NODES;
            rows.push(segment_service(ROLE_READ, &nodes[at], &segment, &format!("http://127.0.0.1:{at}/"), 1, 0.0));
        }
        if rows.len() >= 10_000 || n + 1 == segments {
            catalog.advertise(&rows).await?;
            rows.clear();
        }
    }
    Ok(())
}

struct Listed {
    first: Duration,
    all: Duration,
    lines: usize,
    peak_mib: f64,
}

fn list(url: &str) -> Result<Listed> {
    let began = Instant::now();
    let mut child = Command::new(binary())
        .args(["shell", "-u", url, "-c", "show segments"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("run `trough shell`")?;
    let out = child.stdout.take().context("standard output")?;
    let mut child = Process(child);
    let status = format!("/proc/{}/status", child.0.id());
    let mut listed = Listed { first: Duration::ZERO, all: Duration::ZERO, lines: 0, peak_mib: 0.0 };
    for line in BufReader::new(out).lines() {
        line?;
        if listed.lines == 0 {
            listed.first = began.elapsed();
        }
        listed.lines += 1;
        if listed.lines.is_multiple_of(10_000)
            && let Ok(text) = std::fs::read_to_string(&status)
            && let Some(peak) = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))
        {
            listed.peak_mib = peak.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0;
        }
    }
    listed.all = began.elapsed();
    ensure!(child.0.wait()?.success(), "the shell failed");
    Ok(listed)
}

async fn listing(dir: &Path, segments: usize, report: &mut Report) -> Result<()> {
    let server = MetaServer::start_ephemeral(dir.join("meta")).await?;
    let address: SocketAddr = server.local_addr();
    let url = format!("rethinkdb://{address}/trough_configuration");
    let catalog = discovery(&url)?.catalog().clone();
    advertise(&catalog, segments).await?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let began = Instant::now();
        let rows: Vec<Service> = catalog.stream_read_services(None).await?.try_collect().await?;
        peer.push(began.elapsed());
        ensure!(rows.len() == 2 * segments, "{} rows", rows.len());
        drop(rows);
        let url = url.clone();
        // The server answers in this process.
        ours.push(tokio::task::spawn_blocking(move || list(&url)).await??);
    }
    // A head of three lines, and two at the end.
    ensure!(ours.iter().all(|listed| listed.lines == segments + 5), "{} lines", ours[0].lines);
    let first = median(ours.iter().map(|listed| listed.first).collect());
    let all = median(ours.iter().map(|listed| listed.all).collect());
    let peak = ours.iter().map(|listed| listed.peak_mib).fold(0.0, f64::max);
    let peer = median(peer);
    report.row(
        &format!("SHOW SEGMENTS over {segments} segments: the first line"),
        format!("{}, all in {}, {peak:.0} MiB at most", ms(first), ms(all)),
        format!("{} until all rows are read", ms(peer)),
        format!("{:.3} x", first.as_secs_f64() / peer.as_secs_f64()),
        "< 0.5 s, < 100 MiB",
        Some(first < Duration::from_millis(500) && peak < 100.0),
    );
    server.shutdown().await;
    Ok(())
}

pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir_in(args.cluster.parent().context("--cluster has no parent")?)?;
    queries(dir.path(), report).await.context("queries")?;
    listing(dir.path(), args.shell_segments, report).await.context("SHOW SEGMENTS")
}
