//! The suite over a real HDFS, and what only HDFS can do to a store. TROUGH_TEST_HDFS names a directory of it that
//! everybody may write to, TROUGH_TEST_HADOOP where `tests/lib/hadoop.py` keeps it; `tests/run.sh` sets both.

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use hdfs_native::{Client, ClientBuilder, WriteOptions};
use tokio::sync::RwLock;
use trough_core::SegmentId;
use trough_store::{ListOptions, Store, StoreOptions};

use crate::suite::{self, Fixture};

pub(crate) mod faults;

/// Tests that stop servers have them for themselves.
pub(crate) static SERVERS: RwLock<()> = RwLock::const_new(());

/// The URL of HDFS; none, loudly, where there is none. In CI that is a failure.
pub(crate) fn url() -> Option<String> {
    match std::env::var("TROUGH_TEST_HDFS") {
        Ok(url) if !url.is_empty() => Some(url),
        _ => {
            assert!(std::env::var_os("CI").is_none(), "TROUGH_TEST_HDFS is not set: in CI HDFS must be tested");
            eprintln!("SKIPPED: no HDFS to test with; run tests/run.sh store, which starts one");
            None
        }
    }
}

/// Does something to the servers.
pub(crate) fn hadoop(arguments: &[&str]) {
    let dir = std::env::var("TROUGH_TEST_HADOOP").expect("TROUGH_TEST_HADOOP is set beside TROUGH_TEST_HDFS");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/lib/hadoop.py");
    let (what, rest) = arguments.split_first().expect("a command");
    let done = Command::new("python3").arg(script).arg(what).arg(dir).args(rest).output().expect("started");
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Waits for the answer in a test that is not async there.
pub(crate) fn wait<T>(answer: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(answer))
}

/// A directory of its own in HDFS.
pub(crate) struct Hdfs {
    pub(crate) client: Client,
    server: String,
    /// Its directory; the store is `BASE/store`.
    base: String,
    store: Arc<dyn Store>,
}

impl Hdfs {
    pub(crate) fn new(url: &str, options: &StoreOptions) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (server, root) =
            url.rsplit_once('/').map(|(server, root)| (server.to_owned(), format!("/{root}"))).expect("a path");
        let client = ClientBuilder::new().with_url(&server).build().expect("a URL");
        let base = format!("{root}/{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        wait(client.mkdirs(&format!("{base}/store"), 0o777, true)).expect("made");
        let store = trough_store::open_with(&format!("{server}{base}/store"), options).expect("a URL");
        Self { client, server, base, store }
    }

    pub(crate) fn root(&self) -> String {
        format!("{}/store", self.base)
    }

    pub(crate) fn directories(&self) -> Vec<(String, u64)> {
        let root = wait(self.client.get_file_info(&self.root())).expect("there");
        let below = wait(self.client.list_status(&self.root(), true)).expect("listed");
        below.into_iter().chain([root]).filter(|s| s.isdir).map(|s| (s.path, s.modification_time)).collect()
    }
}

impl Drop for Hdfs {
    fn drop(&mut self) {
        // Best effort: what a failed test leaves does no harm.
        let (client, base) = (self.client.clone(), self.base.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { drop(client.delete(&base, true).await) });
        }
    }
}

impl Fixture for Hdfs {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }
    fn put_raw(&self, path: &str, contents: &[u8]) {
        let path = format!("{}/{path}", self.root());
        wait(async {
            let mut writer = self.client.create(&path, WriteOptions::default().overwrite(true)).await.expect("created");
            writer.write_bytes(contents.to_vec().into()).await.expect("written");
            writer.close().await.expect("closed");
        });
    }
    fn names_beside(&self, segment: &SegmentId) -> Vec<String> {
        let path = self.store.path_of(segment);
        let (dir, _) = path.rsplit_once('/').expect("below the root");
        let found = wait(self.client.list_status(dir, false)).expect("listed");
        let names =
            found.into_iter().filter(|s| !s.isdir).map(|s| s.path.rsplit('/').next().expect("a name").to_owned());
        let mut names: Vec<_> = names.filter(|name| dir != self.root() || *name == segment.file_name()).collect();
        names.sort();
        names
    }
    fn tick(&self) {
        let latest = self.directories().iter().map(|(_, mtime)| *mtime).max().expect("the root");
        let probe = format!("{}/probe", self.base);
        loop {
            wait(self.client.mkdirs(&probe, 0o777, false)).expect("made");
            let now = wait(self.client.get_file_info(&probe)).expect("there").modification_time;
            wait(self.client.delete(&probe, true)).expect("removed");
            if now > latest {
                return;
            }
        }
    }
    fn unmount(&self) {
        wait(self.client.rename(&self.root(), &format!("{}/elsewhere", self.base), false)).expect("renamed");
    }
    fn odd_id(&self) -> &'static str {
        "seg=ment-1"
    }
}

fn unsettled() -> StoreOptions {
    StoreOptions { list: ListOptions { settle: Duration::ZERO, ..ListOptions::default() }, ..StoreOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hdfs_conforms() {
    let Some(url) = url() else { return };
    let _shared = SERVERS.read().await;
    suite::run(|| Hdfs::new(&url, &StoreOptions::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn incremental_listing_of_hdfs_equals_full_listing() {
    let Some(url) = url() else { return };
    let _shared = SERVERS.read().await;
    let changes = |seed: u8| {
        (0..20_u8).map(move |n| match n.wrapping_mul(7).wrapping_add(seed) % 11 {
            0..=4 => suite::Change::Publish(n.wrapping_mul(5) % 24),
            5 | 6 => suite::Change::Delete(n.wrapping_mul(5).wrapping_sub(10) % 24),
            7 | 8 => suite::Change::PutRaw(n.wrapping_mul(3) % 24),
            9 => suite::Change::Crash(n % 24),
            _ => suite::Change::ListNow,
        })
    };
    for seed in 0..3 {
        let fixture = Hdfs::new(&url, &unsettled());
        assert_eq!(suite::incremental_equals_full(&fixture, changes(seed).collect()).await, Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn unchanged_directories_of_hdfs_are_not_read_again() {
    let Some(url) = url() else { return };
    let _shared = SERVERS.read().await;
    let fixture = Hdfs::new(&url, &unsettled());
    for id in 0..100 {
        fixture.put_raw(&suite::segment(&format!("{:06}", id * 100)).store_path(), b"x");
    }
    fixture.tick();
    let store = fixture.store();
    assert_eq!(store.list_sorted().await.expect("listed").len(), 100);
    assert_eq!((store.list_stats().directories, store.list_stats().relisted), (11, 11));
    assert_eq!(store.list_sorted().await.expect("listed").len(), 100);
    assert_eq!((store.list_stats().directories, store.list_stats().relisted), (11, 0));
    fixture.put_raw("001/001999.sqlite", b"new");
    assert_eq!(store.list_sorted().await.expect("listed").len(), 101);
    assert_eq!(store.list_stats().relisted, 1);
    fixture.put_raw("new/new001.sqlite", b"new");
    assert_eq!(store.list_sorted().await.expect("listed").len(), 102);
    assert_eq!(store.list_stats().relisted, 2, "the root and the new directory");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replication_and_block_size_are_as_asked() {
    let Some(url) = url() else { return };
    let _shared = SERVERS.read().await;
    let backend = BTreeMap::from([("dfs.replication", "1"), ("dfs.blocksize", "65536")]);
    let backend = backend.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let fixture = Hdfs::new(&url, &StoreOptions { backend, ..StoreOptions::default() });
    let (store, scratch) = (fixture.store(), suite::Scratch::new());
    let contents: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 241) as u8).collect();
    let entry = store
        .publish(&scratch.file(&contents), &suite::segment("blocks"), suite::options(1_000))
        .await
        .expect("published");
    let status = fixture.client.get_file_info(&entry.path).await.expect("there");
    assert_eq!((status.replication, status.blocksize), (Some(1), Some(65_536)));
    let read = store.read_range(&entry.path, 65_000, 200_000).await.expect("over block boundaries");
    assert_eq!(read[..], contents[65_000..265_000]);
    for (key, value) in [("dfs.replication", "none"), ("dfs.blocksize", "1000")] {
        let backend = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let error = trough_store::open_with(store.url(), &StoreOptions { backend, ..StoreOptions::default() });
        assert!(error.expect_err("refused").to_string().contains(key));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_user_may_not_do_is_denied() {
    let Some(url) = url() else { return };
    let _shared = SERVERS.read().await;
    let fixture = Hdfs::new(&url, &StoreOptions::default());
    let (store, scratch) = (fixture.store(), suite::Scratch::new());
    let entry =
        store.publish(&scratch.file(b"x"), &suite::segment("mine-1"), suite::options(1_000)).await.expect("published");
    fixture.client.set_permission(&fixture.root(), 0o700).await.expect("set");
    let backend = BTreeMap::from([("user".to_owned(), "somebody-else".to_owned())]);
    let other =
        trough_store::open_with(store.url(), &StoreOptions { backend, ..StoreOptions::default() }).expect("a URL");
    let denied = |e: trough_store::StoreError| assert!(matches!(e, trough_store::StoreError::Denied { .. }), "{e}");
    denied(other.stat_path(&entry.path).await.expect_err("stat"));
    denied(other.list().next().await.expect("an error").expect_err("list"));
    denied(
        other
            .publish(&scratch.file(b"y"), &suite::segment("mine-1"), suite::options(2_000))
            .await
            .expect_err("publish"),
    );
    denied(other.delete_path(&entry.path).await.expect_err("delete"));
    denied(other.check_writable().await.expect_err("check"));
    store.check_writable().await.expect("the owner may");
    assert_eq!(store.stat_path(&entry.path).await.expect("as it was"), entry);
    let colon =
        store.publish(&scratch.file(b"x"), &suite::segment("a:b-1"), suite::options(1)).await.expect_err("refused");
    assert!(colon.to_string().contains("no ':'"), "{colon}");
    assert!(matches!(store.allows(&suite::segment("a:b-1")), Err(trough_store::StoreError::InvalidPath { .. })));
    store.allows(&suite::segment("é中😀x")).expect("allowed");
    assert!(fixture.server.starts_with("hdfs://"));
}
