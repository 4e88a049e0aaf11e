//! Copying down from HDFS: a worker from the commit of its assignments until it advertises every copy, beside `hdfs dfs -get`
//! of the same folder onto the same disk.
//!
//! Ours is a whole worker with its default settings (and a COPY_BANDWIDTH that does not bind, so that the throttle is asked),
//! in this process beside the metadata server: it hears of its assignments, fetches each to a temporary name, verifies it by
//! length and by the SHA-256 that a promotion records (where none is recorded: by `PRAGMA quick_check`), makes it
//! durable, renames it, and is seen to serve it in the metadata. `hdfs dfs -get` verifies HDFS's checksums, renames, and leaves the
//! bytes to the page cache. Everything that is dirty is written out before each run.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use trough_client::{Catalog, catalog::Change};
use trough_config::Settings;
use trough_core::{NodeId, SegmentId, records::Assignment};
use trough_meta::MetaServer;
use trough_store::{Entry, PublishOptions, Store};

use crate::{
    Args,
    hadoop::{Hadoop, path_of},
    report::{Report, median, ms},
};

const SMALL: usize = 4_000;
/// Bytes of the one large segment, about.
const LARGE: u64 = 1 << 30;
const ROUNDS: usize = 3;
/// Publications at a time while the store is filled: closing a file of HDFS may take half a second.
const FILL: usize = 64;
/// Longest that one worker may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A canonical copy, with its hash as a promotion records it.
struct Canonical {
    entry: Entry,
    sha256: String,
}

/// A database of about `bytes` bytes.
fn database(path: &Path, bytes: u64) -> Result<()> {
    const ROW: i64 = 1_000;
    let bytes = i64::try_from(bytes)?;
    let db = rusqlite::Connection::open(path)?;
    db.execute_batch(
        "pragma journal_mode = off; pragma synchronous = off; create table t (n integer primary key, b blob);",
    )?;
    db.execute(
        "with recursive i (n) as (values (1) union all select n + 1 from i where n < ?1)
         insert into t select n, randomblob(?2) from i",
        (((bytes - 8_192) / (ROW + 24)).max(1), ROW),
    )?;
    Ok(())
}

async fn publish(store: &Arc<dyn Store>, dir: &Path, name: String, bytes: u64) -> Result<Canonical> {
    let segment = SegmentId::new(&name)?;
    let local = dir.join(&name);
    let made = local.clone();
    let sha256 = tokio::task::spawn_blocking(move || {
        database(&made, bytes)?;
        let mut hash = Sha256::new();
        std::io::copy(&mut std::fs::File::open(&made)?, &mut hash)?;
        anyhow::Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    })
    .await??;
    let options = PublishOptions::new(NodeId::new("bench")?, 1, 1_700_000_000_000);
    let entry = store.publish(&local, &segment, options).await?;
    std::fs::remove_file(local)?;
    Ok(Canonical { entry, sha256 })
}

/// Metadata and a store, and what lies in it.
struct Bench<'a> {
    hadoop: &'a Hadoop,
    meta: MetaServer,
    catalog: Catalog,
    /// The store's URL; its last part is the folder that the peer fetches.
    url: String,
    canonical: Vec<Canonical>,
    dir: tempfile::TempDir,
}

impl<'a> Bench<'a> {
    async fn start(args: &Args, hadoop: &'a Hadoop, folder: &str, sizes: &[u64]) -> Result<Self> {
        let dir = tempfile::tempdir_in(args.cluster.parent().context("--cluster has no parent")?)?;
        let folder = format!("{folder}-{}", std::process::id());
        let meta = MetaServer::start_ephemeral(&dir.path().join("meta")).await?;
        let metadata = format!("rethinkdb://{}/trough_configuration", meta.local_addr());
        let catalog = Catalog::new(trough_reql::Client::new(trough_reql::Options::from_url(&metadata)?));
        catalog.ensure_tables(1).await?;
        let path = path_of(&hadoop.url);
        hadoop.dfs(&["-mkdir", "-p", &format!("{path}/{folder}")])?;
        let url = format!("{}/{folder}", hadoop.url);
        let store = trough_store::open(&url)?;
        let began = Instant::now();
        let canonical: Vec<Canonical> = stream::iter(sizes.iter().enumerate())
            .map(|(n, bytes)| publish(&store, dir.path(), format!("copied-{n:06}"), *bytes))
            .buffer_unordered(FILL)
            .try_collect()
            .await?;
        let total: u64 = canonical.iter().map(|c| c.entry.bytes).sum();
        eprintln!("published {} segments of {total} bytes to {url} in {}", canonical.len(), ms(began.elapsed()));
        Ok(Self { hadoop, meta, catalog, url, canonical, dir })
    }

    /// The peer: the same folder by Hadoop's own tool.
    fn get(&self, round: usize) -> Result<Duration> {
        let to = self.dir.path().join(format!("peer-{round}"));
        settle()?;
        let took = self.hadoop.dfs(&["-get", path_of(&self.url), to.to_str().context("a path that is no text")?])?;
        let (files, bytes) = totals(&to)?;
        let expected = self.canonical.iter().map(|c| c.entry.bytes).sum::<u64>();
        ensure!((files, bytes) == (self.canonical.len(), expected), "{files} files of {bytes} bytes came");
        std::fs::remove_dir_all(to)?;
        Ok(took)
    }

    /// Ours: a worker with an empty disk, from the commit of its assignments until all of them are advertised.
    async fn copy(&self, name: &str, hashes: bool) -> Result<Duration> {
        let data = self.dir.path().join(name);
        let yaml = format!(
            "HOSTNAME: {name}\nLOCAL_DATA: {}\nSTORE: {}\nRETHINKDB_HOSTS: ['{}']\nREAD_PORT: 0\nWRITE_PORT: 0\n\
             SYNC_LOCAL_PORT: 0\nLISTEN: 127.0.0.1\nCOPY_BANDWIDTH: 100000000000\n",
            data.display(),
            self.url,
            self.meta.local_addr(),
        );
        let settings = Arc::new(Settings::from_yaml(&yaml)?);
        let node = settings.hostname.clone();
        let shutdown = CancellationToken::new();
        let (ready, serves) = tokio::sync::oneshot::channel();
        let stop = shutdown.clone();
        let worker = tokio::spawn(trough_worker::run(settings, stop, move |at| {
            let _ = ready.send(at);
        }));
        serves.await.context("the worker did not start")?;

        let rows: Vec<Assignment> = self.canonical.iter().map(|c| assignment(&node, c, hashes)).collect();
        let mut feed = self.catalog.service_feed().await?;
        loop {
            let Some(change) = feed.next().await else { bail!("the feed of services ended") };
            if change? == Change::Ready {
                break;
            }
        }
        let mut missing: HashSet<SegmentId> = rows.iter().map(|row| row.segment.clone()).collect();
        settle()?;
        let began = Instant::now();
        let assigned = async {
            for batch in rows.chunks(1_000) {
                self.catalog.commit_assignments(batch, &[], 0).await?;
            }
            anyhow::Ok(())
        };
        let advertised = async {
            while !missing.is_empty() {
                let Some(change) = feed.next().await else { bail!("the feed of services ended") };
                if let Change::Row { new: Some(row), .. } = change?
                    && row.node.as_ref() == Some(&node)
                    && let Some(segment) = &row.segment
                {
                    missing.remove(segment);
                }
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, async { tokio::try_join!(assigned, advertised) })
            .await
            .context("the worker took too long")??;
        let took = began.elapsed();
        for canonical in &self.canonical {
            let file = data.join(canonical.entry.segment.file_name());
            let mut hash = Sha256::new();
            std::io::copy(&mut std::fs::File::open(&file)?, &mut hash)?;
            let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            ensure!(hash == canonical.sha256, "{} is not what was published", file.display());
        }
        shutdown.cancel();
        worker.await??;
        // The next worker is asked alone.
        let ids: Vec<String> = rows.into_iter().map(|row| row.id).collect();
        for batch in ids.chunks(1_000) {
            self.catalog.commit_assignments(&[], batch, 0).await?;
        }
        self.catalog.delete_node_services(&node).await?;
        std::fs::remove_dir_all(data)?;
        Ok(took)
    }

    async fn end(self) -> Result<()> {
        self.hadoop.dfs(&["-rm", "-r", "-skipTrash", path_of(&self.url)])?;
        self.meta.shutdown().await;
        Ok(())
    }
}

fn assignment(node: &NodeId, canonical: &Canonical, hash: bool) -> Assignment {
    let entry = &canonical.entry;
    Assignment {
        id: Assignment::row_id(node, &entry.segment),
        node: node.clone(),
        segment: entry.segment.clone(),
        hash_ring: 0.into(),
        assigned_on: None,
        remote_path: entry.path.clone(),
        bytes: entry.bytes,
        mtime_ms: Some(entry.mtime_ms),
        sha256: hash.then(|| canonical.sha256.clone()),
        generation: 1,
        epoch: 0,
    }
}

/// Writes everything out that is dirty, so that no run pays for another.
fn settle() -> Result<()> {
    ensure!(Command::new("sync").status()?.success(), "sync failed");
    Ok(())
}

/// Segment files below a directory, and their bytes.
fn totals(dir: &Path) -> Result<(usize, u64)> {
    let (mut files, mut bytes, mut waiting) = (0, 0, vec![PathBuf::from(dir)]);
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            } else if entry.path().extension().is_some_and(|e| e == "sqlite") {
                files += 1;
                bytes += entry.metadata()?.len();
            }
        }
    }
    Ok((files, bytes))
}

async fn rows(report: &mut Report, bench: &Bench<'_>, what: &str, faster: f64) -> Result<()> {
    let (mut ours, mut checked, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        peer.push(bench.get(round)?);
        ours.push(bench.copy(&format!("hashed-{round}"), true).await?);
        checked.push(bench.copy(&format!("checked-{round}"), false).await?);
        eprintln!("{what}: ours {ours:?}, without a recorded hash {checked:?}, hdfs dfs -get {peer:?}");
    }
    let (ours, checked, peer) = (median(ours), median(checked), median(peer));
    for (name, ours, target) in [
        (format!("copy down {what}"), ours, Some(faster)),
        (format!("copy down {what}, no hash recorded"), checked, None),
    ] {
        let times = peer.as_secs_f64() / ours.as_secs_f64();
        let wanted = target.map_or("printed".to_owned(), |faster| format!(">= {faster} x faster"));
        let met = target.map(|faster| times >= faster);
        report.row(
            &name,
            ms(ours),
            format!("{} hdfs dfs -get", ms(peer)),
            format!("{times:.2} x faster"),
            &wanted,
            met,
        );
    }
    Ok(())
}

pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let hadoop = args.hadoop()?;
    // 16 to 256 KiB, spread evenly, in no order.
    let sizes: Vec<u64> =
        (0..SMALL as u64).map(|n| (16 << 10) + n * 7_919 % SMALL as u64 * (240 << 10) / SMALL as u64).collect();
    let small = Bench::start(args, &hadoop, "copies-small", &sizes).await?;
    rows(report, &small, "4,000 segments of 16 to 256 KiB", 5.0).await?;
    small.end().await?;
    let large = Bench::start(args, &hadoop, "copies-large", &[LARGE]).await?;
    rows(report, &large, "one segment of 1 GiB", 1.0).await?;
    large.end().await
}
