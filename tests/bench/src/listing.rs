//! Listing a store of 1,000,000 segments, 1,000 a directory, in which nothing has changed, as the sync master lists it each cycle
//! (the directories, and whether the master's model knows what they hold), beside a listing of the same tree by the
//! same store that reads every directory and names every segment.
//!
//! The files are empty: a listing does not open them. In a directory they are created one after the other; in HDFS by many
//! creations at a time (`--listing-hdfs` says how many; one is two calls of the name node).

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hdfs_native::{ClientBuilder, WriteOptions};
use trough_store::{ListOptions, Store, StoreOptions};
use trough_sync::model::Model;

use crate::{
    Args,
    hadoop::path_of,
    report::{Report, median, ms},
};

const LOCAL: usize = 1_000_000;
/// Segments in a directory.
const EACH: usize = 1_000;
/// Creations in HDFS at a time.
const AT_ONCE: usize = 64;
const ROUNDS: usize = 5;
const FULL_ROUNDS: usize = 3;

fn path(n: usize) -> String {
    format!("s-{:06}/s-{:06}{:03}.sqlite", n / EACH, n / EACH, n % EACH)
}

/// Makes sparse files of so many bytes.
pub(crate) fn fill_directory(root: &Path, count: usize, bytes: u64) -> Result<()> {
    for n in 0..count {
        if n % EACH == 0 {
            std::fs::create_dir_all(root.join(path(n)).parent().context("a file lies in a directory")?)?;
        }
        std::fs::File::create(root.join(path(n)))?.set_len(bytes)?;
    }
    Ok(())
}

async fn fill_hdfs(url: &str, count: usize) -> Result<()> {
    let after = url.find("://").context("a URL")? + 3;
    let (server, root) = url.split_at(after + url[after..].find('/').context("a URL with a path")?);
    let client = Arc::new(ClientBuilder::new().with_url(server).with_user("trough").build()?);
    let options = WriteOptions::default().create_parent(true);
    stream::iter(0..count)
        .map(|n| {
            let (client, path, options) = (Arc::clone(&client), format!("{root}/{}", path(n)), options.clone());
            async move { client.create(&path, &options).await?.close().await }
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(async |()| Ok(()))
        .await?;
    Ok(())
}

async fn full(store: &Arc<dyn Store>, count: usize) -> Result<Duration> {
    let began = Instant::now();
    let mut listing = store.list_all();
    let mut found = 0;
    while let Some(entry) = listing.next().await {
        entry?;
        found += 1;
    }
    ensure!(found == count, "{found} entries were listed");
    Ok(began.elapsed())
}

async fn cycle(store: &Arc<dyn Store>, model: &mut Model, count: usize) -> Result<Duration> {
    let began = Instant::now();
    model.begin_listing();
    let mut listing = store.list_folders();
    let mut found = 0;
    while let Some(folder) = listing.next().await {
        let folder = folder?;
        model.observe_folder(&folder);
        found += folder.len();
    }
    let gone = model.end_listing(2);
    let took = began.elapsed();
    ensure!(found == count && gone.is_empty() && model.len() == count, "{found} entries, {} gone", gone.len());
    Ok(took)
}

async fn row(report: &mut Report, what: &str, url: &str, count: usize) -> Result<()> {
    // The directories' times are young; what the clock's tick could hide is no part of this.
    let list = ListOptions { settle: Duration::ZERO, ..ListOptions::default() };
    let store = trough_store::open_with(url, &StoreOptions { list, ..StoreOptions::default() })?;
    let mut model = Model::new(path_of(url));
    let first = cycle(&store, &mut model, count).await?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        ours.push(cycle(&store, &mut model, count).await?);
        let stats = store.list_stats();
        ensure!(stats.relisted == 0, "{stats:?}");
        if round < FULL_ROUNDS {
            peer.push(full(&store, count).await?);
        }
    }
    eprintln!("{what}: first {first:?}, unchanged {ours:?}, full {peer:?}");
    let (ours, peer) = (median(ours), median(peer));
    let times = peer.as_secs_f64() / ours.as_secs_f64();
    let ratio = format!("{times:.1} x faster");
    report.row(what, ms(ours), format!("{} full listing", ms(peer)), ratio, ">= 20 x faster", Some(times >= 20.0));
    Ok(())
}

pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir_in(args.cluster.parent().context("--cluster has no parent")?)?;
    let began = Instant::now();
    fill_directory(dir.path(), LOCAL, 0)?;
    eprintln!("made {LOCAL} files in {}", ms(began.elapsed()));
    let url = dir.path().to_str().context("a path that is no text")?;
    row(report, "list 1,000,000 entries of a directory, nothing changed", url, LOCAL).await?;
    drop(dir);

    let count = args.listing_hdfs;
    let hadoop = args.hadoop()?;
    let url = format!("{}/listing-{}", hadoop.url, std::process::id());
    let began = Instant::now();
    fill_hdfs(&url, count).await?;
    eprintln!("made {count} files in HDFS in {}", ms(began.elapsed()));
    row(report, &format!("list {count} entries of HDFS, nothing changed"), &url, count).await?;
    hadoop.dfs(&["-rm", "-r", "-skipTrash", path_of(&url)])?;
    Ok(())
}
