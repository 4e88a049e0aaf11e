//! The suite over a real HDFS through libhdfs, and what only that client does. `tests/run.sh hdrs` sets what a JVM needs.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use trough_core::SegmentId;
use trough_store::{
    Collected, Entry, EntryStream, Expected, Fetched, FolderStream, GetOptions, HDFS_CLIENT, ListStats, PublishOptions,
    RangeReader, Store, StoreError, StoreOptions, promotion_mtime,
};

use crate::{
    hdfs::{
        Hdfs, SERVERS,
        faults::{Finally, all_say_unavailable},
        hadoop, url, wait,
    },
    suite::{self, Fixture, Scratch, options, segment},
};

/// What is added to the suite's mtimes, which lie long ago: where mtimes are the server's, a promotion asks for a later one
/// than the canonical copy has.
const LATER_MS: i64 = 4_000_000_000_000;

/// A store that is asked for later mtimes.
#[derive(Debug)]
struct Later(Arc<dyn Store>);

#[async_trait]
impl Store for Later {
    fn url(&self) -> &str {
        self.0.url()
    }
    fn path_of(&self, segment: &SegmentId) -> String {
        self.0.path_of(segment)
    }
    fn allows(&self, segment: &SegmentId) -> Result<(), StoreError> {
        self.0.allows(segment)
    }
    async fn check(&self) -> Result<(), StoreError> {
        self.0.check().await
    }
    async fn check_writable(&self) -> Result<(), StoreError> {
        self.0.check_writable().await
    }
    fn list_folders(&self) -> FolderStream {
        self.0.list_folders()
    }
    fn list_all(&self) -> EntryStream {
        self.0.list_all()
    }
    fn list_stats(&self) -> ListStats {
        self.0.list_stats()
    }
    async fn stat_path(&self, path: &str) -> Result<Entry, StoreError> {
        self.0.stat_path(path).await
    }
    async fn get(&self, path: &str, dest: &Path, options: GetOptions) -> Result<Fetched, StoreError> {
        self.0.get(path, dest, options).await
    }
    async fn read_range(&self, path: &str, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        self.0.read_range(path, offset, len).await
    }
    async fn open_ranges(
        &self,
        path: &str,
        seen: Option<&Expected>,
    ) -> Result<Option<Arc<dyn RangeReader>>, StoreError> {
        self.0.open_ranges(path, seen).await
    }
    async fn publish(
        &self,
        local: &Path,
        segment: &SegmentId,
        mut options: PublishOptions,
    ) -> Result<Entry, StoreError> {
        options.mtime_ms += LATER_MS;
        self.0.publish(local, segment, options).await
    }
    async fn delete_path(&self, path: &str) -> Result<bool, StoreError> {
        self.0.delete_path(path).await
    }
    async fn collect_garbage(&self, older_than: Duration) -> Result<Collected, StoreError> {
        self.0.collect_garbage(older_than).await
    }
}

struct Java {
    hdfs: Hdfs,
    store: Arc<dyn Store>,
}

fn with(timeout: Duration) -> StoreOptions {
    let backend = [(HDFS_CLIENT, "hdrs"), ("dfs.replication", "1")];
    let backend: BTreeMap<_, _> = backend.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    StoreOptions { timeout, backend, ..StoreOptions::default() }
}

impl Java {
    fn new(url: &str, timeout: Duration) -> Self {
        let hdfs = Hdfs::new(url, &with(timeout));
        let store = Arc::new(Later(hdfs.store()));
        Self { hdfs, store }
    }

    /// As promotions use it.
    fn bare(&self) -> Arc<dyn Store> {
        self.hdfs.store()
    }
}

impl Fixture for Java {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }
    fn put_raw(&self, path: &str, contents: &[u8]) {
        self.hdfs.put_raw(path, contents);
    }
    fn names_beside(&self, segment: &SegmentId) -> Vec<String> {
        self.hdfs.names_beside(segment)
    }
    /// Directories' mtimes are seen in whole seconds.
    fn tick(&self) {
        let latest = self.hdfs.directories().iter().map(|(_, mtime)| *mtime / 1000).max().expect("the root");
        let probe = format!("{}-probe", self.hdfs.root());
        loop {
            wait(self.hdfs.client.mkdirs(&probe, 0o777, false)).expect("made");
            let now = wait(self.hdfs.client.get_file_info(&probe)).expect("there").modification_time / 1000;
            wait(self.hdfs.client.delete(&probe, true)).expect("removed");
            if now > latest {
                return;
            }
        }
    }
    fn unmount(&self) {
        self.hdfs.unmount();
    }
    fn keeps_mtime(&self) -> bool {
        false
    }
    fn refuses_older(&self) -> bool {
        false
    }
    fn odd_id(&self) -> &'static str {
        "seg=ment-1"
    }
    fn wide_id(&self) -> &'static str {
        "é中x"
    }
    fn versions(&self) -> u8 {
        8
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hdfs_through_libhdfs_conforms() {
    let Some(url) = url() else { return };
    let _shared = SERVERS.read().await;
    suite::run(|| Java::new(&url, Duration::from_secs(30))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn incremental_listing_through_libhdfs_equals_full_listing() {
    use suite::Change as C;
    let Some(url) = url() else { return };
    let _shared = SERVERS.read().await;
    let fixture = Java::new(&url, Duration::from_secs(30));
    let changes = vec![
        C::Publish(1),
        C::Publish(5),
        C::PutRaw(9),
        C::Crash(1),
        C::Publish(1),
        C::Delete(5),
        C::ListNow,
        C::PutRaw(2),
        C::Delete(1),
    ];
    assert_eq!(suite::incremental_equals_full(&fixture, changes).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_promotion_is_newer_by_a_second_and_never_older() {
    let Some(url) = url() else { return };
    let _shared = SERVERS.read().await;
    let fixture = Java::new(&url, Duration::from_secs(30));
    let (store, scratch) = (fixture.bare(), Scratch::new());
    let id = segment("300123");
    let first = store.publish(&scratch.file(b"1"), &id, options(promotion_mtime(5, None))).await.expect("the first");
    assert!(first.mtime_ms % 1000 == 0 && first.mtime_ms > 1_700_000_000_000, "the name node's time: {first:?}");
    for mtime in [first.mtime_ms - 1, first.mtime_ms] {
        let error = store.publish(&scratch.file(b"2"), &id, options(mtime)).await.expect_err("not newer");
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    }
    let second = store.publish(&scratch.file(b"2"), &id, options(promotion_mtime(5, Some(&first)))).await;
    let second = second.expect("the second, at once");
    assert!(second.mtime_ms > first.mtime_ms);
    // Somebody else's file that appears during an upload is not replaced.
    let put = Arc::new(scratch.file(b"other"));
    let other = Arc::clone(&store);
    let (mine, theirs) = (promotion_mtime(5, Some(&second)), promotion_mtime(5, Some(&second)));
    let during = options(mine).before_rename({
        let id = id.clone();
        move || async move { other.publish(&put, &id, options(theirs)).await.map(drop) }
    });
    let error = store.publish(&scratch.file(b"3"), &id, during).await.expect_err("replaced meanwhile");
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    assert_eq!(store.read_range(&first.path, 0, 9).await.expect("there")[..], *b"other");
    for refused in ["a:b-1", "é中😀x"] {
        assert!(matches!(store.allows(&segment(refused)), Err(StoreError::InvalidPath { .. })), "{refused}");
        assert!(store.publish(&scratch.file(b"x"), &segment(refused), options(1)).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replacement_left_half_done_is_put_right() {
    let Some(url) = url() else { return };
    let _shared = SERVERS.read().await;
    let fixture = Java::new(&url, Duration::from_secs(30));
    let (store, scratch) = (fixture.store(), Scratch::new());
    let (id, aside) = (segment("300123"), "300/.300123.sqlite._COPYING_.replaced");
    // What a crash between the two renames leaves: neither a listing nor a look finds the segment, and nothing fails.
    fixture.put_raw(aside, b"old");
    assert!(store.stat(&id).await.expect_err("half done").is_not_found());
    assert_eq!(store.list_all_sorted().await, []);
    // The collection gives the old file its name back.
    let collected = store.collect_garbage(Duration::ZERO).await.expect("collected");
    assert_eq!(collected.removed, 0);
    assert_eq!(store.read_range(&store.path_of(&id), 0, 9).await.expect("back")[..], *b"old");
    // And so it is with a publication.
    fixture.put_raw(aside, b"older");
    store.publish(&scratch.file(b"new"), &id, options(1)).await.expect("published");
    assert_eq!(store.read_range(&store.path_of(&id), 0, 9).await.expect("there")[..], *b"new");
    assert_eq!(fixture.names_beside(&id), ["300123.sqlite"]);
}

trait ListAll {
    async fn list_all_sorted(&self) -> Vec<Entry>;
}

impl ListAll for Arc<dyn Store> {
    async fn list_all_sorted(&self) -> Vec<Entry> {
        use futures::TryStreamExt;
        self.list_all().try_collect().await.expect("listed")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_node_that_hangs_or_restarts_is_unavailable_meanwhile_and_back_at_once() {
    let Some(url) = url() else { return };
    let _alone = SERVERS.write().await;
    let fixture = Java::new(&url, Duration::from_secs(3));
    let (store, scratch) = (fixture.store(), Scratch::new());
    let entry = store.publish(&scratch.file(b"here"), &segment("here-1"), options(1_000)).await.expect("published");
    store.publish(&scratch.file(b"doomed"), &segment("doomed-1"), options(1_000)).await.expect("published");
    for (stop, start) in [("pause", "resume"), ("kill", "run")] {
        {
            let _finally = Finally(|| hadoop(&[start, "namenode"]));
            hadoop(&[stop, "namenode"]);
            all_say_unavailable(&*store, &scratch).await;
        }
        // The harness has waited for HDFS: the first publication succeeds, over whatever connections there were.
        let id = segment(&format!("after-{stop}"));
        if stop == "pause" {
            suite::eventually("it has caught up", async || store.check().await).await;
        }
        store.publish(&scratch.file(b"after"), &id, options(1_000)).await.expect("the first publication afterwards");
        assert!(store.list_sorted().await.expect("listed").contains(&entry), "after {stop}");
        assert_eq!(store.read_range(&entry.path, 0, 10).await.expect("read")[..], *b"here");
    }
    // Restarted while nobody asked: the connection is stale, and nothing shows it.
    for server in ["namenode", "datanode-1"] {
        hadoop(&["kill", server]);
        hadoop(&["run", server]);
        let id = segment(&format!("stale-{server}"));
        suite::eventually("published", async || {
            store.publish(&scratch.file(b"after"), &id, options(1_000)).await.map_err(|e| {
                assert!(server == "datanode-1" && matches!(e, StoreError::Unavailable { .. }), "{server}: {e}");
                e
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_node_in_safe_mode_lists_and_does_not_publish_through_libhdfs() {
    let Some(url) = url() else { return };
    let _alone = SERVERS.write().await;
    let fixture = Java::new(&url, Duration::from_secs(30));
    let (store, scratch) = (fixture.store(), Scratch::new());
    let entry = store.publish(&scratch.file(b"here"), &segment("here-1"), options(1_000)).await.expect("published");
    let _finally = Finally(|| hadoop(&["safemode", "leave"]));
    hadoop(&["safemode", "enter"]);
    assert_eq!(store.list_all_sorted().await, std::slice::from_ref(&entry));
    let local = scratch.file(b"new");
    for error in [
        store.publish(&local, &segment("here-1"), options(2_000)).await.expect_err("publish"),
        store.delete(&segment("here-1")).await.expect_err("delete"),
        store.check_writable().await.expect_err("check"),
    ] {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }
    assert_eq!(store.stat(&segment("here-1")).await.expect("as it was"), entry);
}
