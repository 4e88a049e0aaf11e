//! The cold tier: a segment of about 250 MB with an index, in a real HDFS, asked over HTTP at a cold worker in direct mode; beside
//! it the same file on an rclone FUSE mount of the same HDFS and on the local disk, each at a cold worker in mount mode of its own.
//! `tests/bench/cold.py` starts all of these.
//!
//! What is cold and what is warm:
//!
//! - *First lookup*: every copy is given a new mtime, so that each worker opens the file anew and has nothing of it in memory. What
//!   follows from it are all round trips that a segment costs that nobody has asked before. Right before it each worker answers some
//!   lookups in another segment of the same size, as one does that serves many: what a processor needs to wake up is not measured.
//! - *Further lookup*: other keys, never asked, in the file that is open: only what the lookups before have read is in memory. One side
//!   after the other; and once more with pauses, so that all that takes part has gone to sleep before each.
//! - *Warm lookup*: the same keys again.
//! - *Scan*: after a new mtime, nothing in the workers' memory. "Disk cold": the kernel's page cache was told to forget the local file,
//!   the data node's blocks and the mounted file, right before (`posix_fadvise`), so that all sides read the same bytes from the same
//!   disk. "Disk warm": all of them are in the page cache.
//!
//!   Beside it what the bytes alone take to come, read by nobody.
//!
//! For lookups the page cache holds the file on all sides: a disk's seek is not what is compared. HDFS's servers have answered the same
//! requests some hundreds of times before the clock starts: Java runs what is new to it many times slower.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rusqlite::{Connection, params};
use serde_json::Value;
use trough_store::Store;

use crate::{
    http,
    report::{Report, median, ms, percentile},
};

const SEGMENT: &str = "900001";
/// What is asked before the clock starts.
const OTHER: &str = "900002";
const BEFORE_FIRST: u64 = 10;
const PAUSED_LOOKUPS: u64 = 100;
const PAUSE: Duration = Duration::from_millis(30);
/// How the bytes alone are fetched: as a scan's read-ahead does.
const FETCH: u64 = 1 << 20;
const FETCHES_AT_ONCE: usize = 4;
const ROWS: u64 = 900_000;
const WARM_UP: u64 = 300;
const FIRST_LOOKUPS: u64 = 100;
const MOUNTED_LOOKUPS: u64 = 15;
const LOOKUPS: u64 = 300;
const SCANS: u64 = 5;
const SCAN: &str = "select count(*) n, sum(bytes) b, max(digest) d from crawl_log where status = 200";

/// SplitMix64: every run has the same rows.
fn random(of: u64) -> u64 {
    let mut z = of.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn url(row: u64) -> String {
    const TLDS: [&str; 6] = ["com", "org", "net", "edu", "de", "fr"];
    let (host, page) = (random(row) % 20_000, random(row ^ 0xA5A5));
    let tld = TLDS[host as usize % TLDS.len()];
    format!(
        "https://www.site-{host:05}.{tld}/{}/{:02}/article-{page:016x}.html?id={row}",
        1996 + page % 30,
        page % 12 + 1
    )
}

/// A crawl's log in the order in which it was crawled; the index is there from the beginning, so its pages lie among the table's.
fn generate(path: &Path) -> Result<()> {
    let mut db = Connection::open(path)?;
    db.execute_batch(
        "pragma journal_mode = off; pragma synchronous = off; pragma cache_size = -600000;
         create table crawl_log (id integer primary key, ts text not null, status integer not null, bytes integer not null,
                                 mime text not null, url text not null, via text, digest text not null) strict;
         create index crawl_log_url on crawl_log (url);",
    )?;
    let rows = db.transaction()?;
    let mut insert = rows.prepare("insert into crawl_log values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    for row in 0..ROWS {
        let r = random(row ^ 0x5A5A_5A5A);
        let at = row * 97;
        let ts = format!(
            "2026-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            at / 2_678_400 % 12 + 1,
            at / 86_400 % 28 + 1,
            at / 3600 % 24,
            at / 60 % 60,
            at % 60
        );
        let status = [200, 200, 200, 200, 200, 200, 301, 404][r as usize % 8];
        let mime = ["text/html", "text/html", "image/jpeg", "application/pdf"][(r >> 8) as usize % 4];
        let via = (r >> 16).is_multiple_of(3);
        let digest = format!("sha1:{:016X}{:016X}", r, random(r));
        insert.execute(params![
            row as i64,
            ts,
            status,
            (r >> 20) as i64 % 2_000_000,
            mime,
            url(row),
            via.then(|| url(row / 2)),
            digest
        ])?;
    }
    drop(insert);
    rows.commit()?;
    Ok(())
}

/// What `cold.py` started; it stops all of it when its input ends.
struct Servers {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    facts: Value,
}

impl Servers {
    fn start(dir: &Path, file: &Path) -> Result<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cold.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(dir).arg(file).args([SEGMENT, OTHER]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("run python3")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let mut servers = Self { input: child.stdin.take(), child, output, facts: Value::Null };
        let line = servers.line()?;
        servers.facts = serde_json::from_str(&line).with_context(|| format!("what cold.py said: {line}"))?;
        Ok(servers)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "cold.py ended; it said why above");
        Ok(line)
    }

    fn tell(&mut self, what: &str) -> Result<()> {
        writeln!(self.input.as_mut().context("its input")?, "{what}")?;
        let answer = self.line()?;
        ensure!(answer.trim() == "done", "cold.py, told {what}: {answer}");
        Ok(())
    }

    fn fact(&self, name: &str) -> Option<&str> {
        self.facts[name].as_str()
    }

    fn worker(&self, name: &str) -> Result<Option<http::Connection>> {
        self.fact(name).map(http::Connection::open).transpose()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.input = None;
        // Its own errors it has told already.
        let _ = self.child.wait();
    }
}

/// One worker under test, and what it took.
struct Side {
    http: http::Connection,
    times: Vec<Duration>,
}

impl Side {
    fn of(http: http::Connection) -> Self {
        Self { http, times: Vec::new() }
    }

    fn ask(&mut self, segment: &str, sql: &str) -> Result<Value> {
        let started = Instant::now();
        let (status, body) = self.http.post(&format!("/?segment={segment}"), sql.as_bytes())?;
        self.times.push(started.elapsed());
        ensure!(status == 200, "{status} {}", String::from_utf8_lossy(body));
        Ok(serde_json::from_slice(body)?)
    }

    fn lookup_in(&mut self, segment: &str, row: u64) -> Result<()> {
        let sql = format!("select id, ts, status, bytes from crawl_log where url = '{}'", url(row));
        let answer = self.ask(segment, &sql)?;
        ensure!(answer.as_array().is_some_and(|rows| rows.len() == 1) && answer[0]["id"] == row, "row {row}: {answer}");
        Ok(())
    }

    fn lookup(&mut self, row: u64) -> Result<()> {
        self.lookup_in(SEGMENT, row)
    }

    fn lookups(&mut self, rows: &[u64]) -> Result<Vec<Duration>> {
        self.taken();
        rows.iter().try_for_each(|row| self.lookup(*row))?;
        Ok(self.taken())
    }

    /// The first lookup in the file that is new to the worker, which has other work.
    fn first_lookup(&mut self, round: u64) -> Result<()> {
        for n in 0..BEFORE_FIRST {
            self.lookup_in(OTHER, random(round * BEFORE_FIRST + n) % ROWS)?;
            self.times.pop();
        }
        self.lookup(random(round) % ROWS)
    }

    /// The times since the last call, sorted.
    fn taken(&mut self) -> Vec<Duration> {
        let mut times = std::mem::take(&mut self.times);
        times.sort();
        times
    }
}

fn p50(times: &[Duration]) -> Duration {
    percentile(times, 0.5)
}

fn ratio(slow: Duration, fast: Duration) -> f64 {
    slow.as_secs_f64() / fast.as_secs_f64()
}

/// A row that says how much slower the mount is.
fn beside_mount(report: &mut Report, what: &str, ours: Duration, mount: Duration, target: Option<f64>) {
    let times = ratio(mount, ours);
    let target_text = target.map_or("printed".to_owned(), |t| format!(">= {t} x faster"));
    let peer = format!("{} FUSE mount (rclone)", ms(mount));
    report.row(what, ms(ours), peer, format!("{times:.1} x faster"), &target_text, target.map(|t| times >= t));
}

fn beside_disk(report: &mut Report, what: &str, ours: Duration, disk: Duration, limit: Option<f64>) {
    let times = ratio(ours, disk);
    let target = limit.map_or("printed".to_owned(), |t| format!("<= {t} x"));
    report.row(
        what,
        ms(ours),
        format!("{} local disk", ms(disk)),
        format!("{times:.2} x"),
        &target,
        limit.map(|t| times <= t),
    );
}

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let file = dir.path().join("segment.sqlite");
    generate(&file).context("generate the segment")?;
    let bytes = std::fs::metadata(&file)?.len();
    eprintln!("cold: a segment of {} MB", bytes / 1_000_000);
    let mut servers = Servers::start(dir.path(), &file)?;
    if let Some(why) = servers.fact("no_hdfs") {
        if std::env::var_os("CI").is_some() {
            bail!("no HDFS: {why}");
        }
        report.row("cold tier: SKIPPED", "-".into(), format!("no HDFS: {why}"), "-".into(), "", Some(false));
        return Ok(());
    }
    if let Some(why) = servers.fact("no_mount") {
        report.row("cold tier beside a FUSE mount: SKIPPED", "-".into(), why.to_owned(), "-".into(), "", Some(false));
    }
    first_lookups(&mut servers, report).context("first lookups")?;
    lookups(&servers, report).context("lookups")?;
    scans(&mut servers, report).context("scans")
}

fn side(servers: &Servers, name: &str) -> Result<Side> {
    Ok(Side::of(servers.worker(name)?.with_context(|| format!("no {name} worker"))?))
}

fn first_lookups(servers: &mut Servers, report: &mut Report) -> Result<()> {
    let (mut direct, mut disk) = (side(servers, "opening")?, side(servers, "local")?);
    let mut mount = servers.worker("mount")?.map(Side::of);
    for round in 0..WARM_UP + FIRST_LOOKUPS {
        if round == WARM_UP {
            direct.taken();
            disk.taken();
        }
        servers.tell("new")?;
        direct.first_lookup(round)?;
        disk.first_lookup(round)?;
    }
    if let Some(mount) = &mut mount {
        for round in 0..MOUNTED_LOOKUPS {
            servers.tell("new")?;
            servers.tell("shown")?;
            mount.first_lookup(round)?;
        }
    }
    let (direct, disk) = (direct.taken(), disk.taken());
    let ours = p50(&direct);
    report.row(
        "cold lookup by index, first in its segment, p50",
        ms(ours),
        "-".into(),
        format!("p90 {}", ms(percentile(&direct, 0.9))),
        "<= 2 ms",
        Some(ours <= Duration::from_millis(2)),
    );
    if let Some(mount) = &mut mount {
        beside_mount(report, "  the same", ours, p50(&mount.taken()), Some(20.0));
    }
    beside_disk(report, "  the same", ours, p50(&disk), None);
    Ok(())
}

fn lookups(servers: &Servers, report: &mut Report) -> Result<()> {
    let (mut direct, mut disk) = (side(servers, "direct")?, side(servers, "local")?);
    let mut mount = servers.worker("mount")?.map(Side::of);
    // The first keys are those whose upper pages nobody has read yet.
    let rows: Vec<u64> = (0..LOOKUPS).map(|at| random(at ^ 0xC01D) % ROWS).collect();
    let ours = direct.lookups(&rows)?;
    let local = p50(&disk.lookups(&rows)?);
    report.row(
        "cold lookup by index, further keys, p50",
        ms(p50(&ours)),
        "-".into(),
        format!("p90 {}", ms(percentile(&ours, 0.9))),
        "<= 2 ms",
        Some(p50(&ours) <= Duration::from_millis(2)),
    );
    if let Some(mount) = &mut mount {
        beside_mount(report, "  the same", p50(&ours), p50(&mount.lookups(&rows)?), Some(20.0));
    }
    beside_disk(report, "  the same", p50(&ours), local, None);
    for at in 0..PAUSED_LOOKUPS {
        for side in [Some(&mut direct), Some(&mut disk), mount.as_mut()].into_iter().flatten() {
            std::thread::sleep(PAUSE);
            side.lookup(random(at ^ 0xB1D) % ROWS)?;
        }
    }
    let paused = p50(&direct.taken());
    let what = "  the same, each after 30 ms in which nothing runs";
    beside_disk(report, what, paused, p50(&disk.taken()), None);
    if let Some(mount) = &mut mount {
        beside_mount(report, what, paused, p50(&mount.taken()), None);
    }
    let again: Vec<u64> = rows.iter().copied().cycle().take(5 * rows.len()).collect();
    let warm = p50(&direct.lookups(&again)?);
    beside_disk(report, "cold segment, warm lookup by index, p50", warm, p50(&disk.lookups(&again)?), Some(2.0));
    Ok(())
}

/// The file's bytes alone, as a scan's read-ahead fetches them.
async fn fetched(store: &Arc<dyn Store>, path: &str) -> Result<Duration> {
    let started = Instant::now();
    let reader = trough_store::open_ranges(store, path, None).await?;
    let bytes = reader.entry().bytes;
    let reads = (0..bytes.div_ceil(FETCH)).map(|n| reader.read(n * FETCH, FETCH as usize));
    let mut reads = stream::iter(reads).buffered(FETCHES_AT_ONCE);
    let mut came = 0;
    while let Some(pieces) = reads.try_next().await? {
        came += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
    }
    ensure!(came == bytes, "{came} of {bytes} bytes");
    Ok(started.elapsed())
}

fn scans(servers: &mut Servers, report: &mut Report) -> Result<()> {
    let file = servers.fact("file").context("the local file")?.to_owned();
    let (mut direct, mut disk) = (side(servers, "opening")?, side(servers, "local")?);
    let mut mount = servers.worker("mount")?.map(Side::of);
    let (url, path) =
        (servers.fact("store").context("the store")?, servers.fact("path").context("the path")?.to_owned());
    let store = trough_store::open(url)?;
    let runtime = tokio::runtime::Handle::current();
    for (name, drop) in [("disk warm", false), ("disk cold", true)] {
        let (mut process, mut fetches) = (Vec::new(), Vec::new());
        for round in 0..SCANS {
            servers.tell("new")?;
            if mount.is_some() && round == 0 {
                servers.tell("shown")?;
            }
            // Each side has the file of its own in the page cache, or not, whoever reads first.
            let forget = |servers: &mut Servers| if drop { servers.tell("drop") } else { Ok(()) };
            forget(servers)?;
            let ours = direct.ask(SEGMENT, SCAN)?;
            forget(servers)?;
            let theirs = disk.ask(SEGMENT, SCAN)?;
            ensure!(ours == theirs, "direct: {ours}; local disk: {theirs}");
            forget(servers)?;
            process.push(in_process(&file)?);
            forget(servers)?;
            fetches.push(tokio::task::block_in_place(|| runtime.block_on(fetched(&store, &path)))?);
            if let (Some(mount), 0) = (&mut mount, round) {
                forget(servers)?;
                let theirs = mount.ask(SEGMENT, SCAN)?;
                ensure!(ours == theirs, "direct: {ours}; mount: {theirs}");
            }
        }
        let ours = median(direct.taken());
        beside_disk(report, &format!("cold full scan, {name}"), ours, median(disk.taken()), Some(1.5));
        if let Some(mount) = &mut mount {
            beside_mount(report, "  the same", ours, median(mount.taken()), None);
        }
        let process = median(process);
        report.row(
            "  the same",
            ms(ours),
            format!("{} rusqlite in-process", ms(process)),
            format!("{:.2} x", ratio(ours, process)),
            "printed",
            None,
        );
        let fetches = median(fetches);
        report.row(
            "  the same",
            ms(ours),
            format!("{} the bytes alone over the network", ms(fetches)),
            format!("{:.2} x", ratio(ours, fetches)),
            "printed",
            None,
        );
    }
    Ok(())
}

fn in_process(file: &str) -> Result<Duration> {
    let started = Instant::now();
    let db = Connection::open(file)?;
    db.query_row(SCAN, [], |row| row.get::<_, i64>(0))?;
    Ok(started.elapsed())
}
