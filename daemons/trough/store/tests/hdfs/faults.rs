//! Servers that die, hang or refuse: what a store says then, and what it holds afterwards.

use std::{sync::Mutex, time::Instant};

use trough_store::{GetOptions, PublishStep, StoreError};

use super::{Arc, Duration, Fixture, Hdfs, SERVERS, Store, StoreOptions, StreamExt, hadoop, suite, url};
use crate::suite::{Scratch, options, resume, segment};

/// Runs a closure when dropped: what was stopped is started again, whatever the test says.
pub(crate) struct Finally<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn impatient() -> StoreOptions {
    StoreOptions { timeout: Duration::from_secs(2), ..StoreOptions::default() }
}

/// Every operation says that the store is unavailable, within the time allowed, and none says that something is missing.
pub(crate) async fn all_say_unavailable(store: &dyn Store, scratch: &Scratch) {
    let began = Instant::now();
    let path = store.path_of(&segment("here-1"));
    let unavailable = |what: &str, e: StoreError| {
        assert!(matches!(e, StoreError::Unavailable { .. }), "{what}: {e}");
    };
    unavailable("check", store.check().await.expect_err("gone"));
    unavailable("list", store.list().next().await.expect("an error").expect_err("never an empty listing"));
    unavailable("list all", store.list_all().next().await.expect("an error").expect_err("never an empty listing"));
    unavailable("stat", store.stat(&segment("here-1")).await.expect_err("not 'not found'"));
    unavailable("stat", store.stat(&segment("absent-1")).await.expect_err("not 'not found'"));
    unavailable("get", store.get(&path, &scratch.path(), GetOptions::default()).await.expect_err("gone"));
    unavailable("read", store.read_range(&path, 0, 1).await.expect_err("gone"));
    let local = scratch.file(b"x");
    unavailable("publish", store.publish(&local, &segment("new-1"), options(1)).await.expect_err("gone"));
    // What had no answer may yet happen, when the server comes back.
    unavailable("delete", store.delete(&segment("doomed-1")).await.expect_err("gone"));
    unavailable("collect", store.collect_garbage(Duration::ZERO).await.expect_err("gone"));
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_node_that_hangs_or_is_down_is_unavailable() {
    let Some(url) = url() else { return };
    let _alone = SERVERS.write().await;
    let fixture = Hdfs::new(&url, &impatient());
    let (store, scratch) = (fixture.store(), Scratch::new());
    let entry = store.publish(&scratch.file(b"here"), &segment("here-1"), options(1_000)).await.expect("published");
    store.publish(&scratch.file(b"doomed"), &segment("doomed-1"), options(1_000)).await.expect("published");
    for (stop, start) in [("pause", "resume"), ("kill", "run")] {
        {
            let _finally = Finally(|| hadoop(&[start, "namenode"]));
            hadoop(&[stop, "namenode"]);
            all_say_unavailable(&*store, &scratch).await;
        }
        suite::eventually("the store is back", async || store.check().await).await;
        assert!(store.list_sorted().await.expect("listed").contains(&entry), "after {stop}");
        let read = suite::eventually("it reads", async || store.read_range(&entry.path, 0, 10).await).await;
        assert_eq!(read[..], *b"here");
    }
}

/// Options that give the name service `pair` these name nodes.
fn pair(first: &str, second: &str, timeout: u64) -> StoreOptions {
    let backend = [("dfs.ha.namenodes.pair", "a,b"), ("dfs.namenode.rpc-address.pair.a", first)];
    let backend = backend.into_iter().chain([("dfs.namenode.rpc-address.pair.b", second)]);
    let backend = backend.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    StoreOptions { backend, timeout: Duration::from_secs(timeout), ..StoreOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_service_is_reached_by_whichever_name_node_answers() {
    let Some(url) = url() else { return };
    let _alone = SERVERS.read().await;
    let fixture = Hdfs::new(&url, &impatient());
    let living = url.trim_start_matches("hdfs://").split('/').next().expect("a host");
    let service = format!("hdfs://pair{}", fixture.root());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let hung = listener.local_addr().expect("an address").to_string();

    // One that hangs takes the connection and never answers; whoever asked it asks the other one soon.
    let store = trough_store::open_with(&service, &pair(&hung, living, 1)).expect("a URL");
    let error = store.check().await.expect_err("it asks the first one first");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    suite::eventually("the other one answers", async || store.check().await).await;
    let scratch = Scratch::new();
    let entry =
        fixture.store().publish(&scratch.file(b"here"), &segment("here-1"), options(1_000)).await.expect("published");
    let found = suite::eventually("it is the same store", async || store.stat(&segment("here-1")).await).await;
    assert_eq!(found, entry);

    drop(listener);
    let store = trough_store::open_with(&service, &pair(&hung, living, 60)).expect("a URL");
    store.check().await.expect("a dead one is passed over at once");

    let store = trough_store::open(&service).expect("a URL");
    let error = store.check().await.expect_err("nothing says which name nodes it has");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("dfs.ha.namenodes.pair"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_node_killed_while_publishing_leaves_a_whole_file() {
    let Some(url) = url() else { return };
    let _alone = SERVERS.write().await;
    let fixture = Hdfs::new(&url, &impatient());
    let (store, scratch) = (fixture.store(), Scratch::new());
    let (old, new) = (vec![1; 3_000], vec![2; 2_500_000]);
    for step in [PublishStep::TemporaryMade, PublishStep::HalfWritten, PublishStep::Checked, PublishStep::Renamed] {
        let id = segment(&format!("killed-{step:?}"));
        let path = store.path_of(&id);
        store.publish(&scratch.file(&old), &id, options(1_000)).await.expect("published");
        let local = scratch.file(&new);
        let outcome = {
            let _finally = Finally(|| hadoop(&["run", "namenode"]));
            let mut with = options(2_000);
            with.crash_at = Some(Arc::new(move |at| {
                if at == step {
                    hadoop(&["kill", "namenode"]);
                }
                false
            }));
            store.publish(&local, &id, with).await
        };
        suite::eventually("the store is back", async || store.check().await).await;
        let whole = if step < PublishStep::Renamed {
            let error = outcome.expect_err("the name node was gone");
            assert!(matches!(error, StoreError::Unavailable { .. }), "{step:?}: {error}");
            &old
        } else {
            outcome.expect("it was renamed");
            &new
        };
        let found = suite::eventually("it reads", async || store.read_range(&path, 0, usize::MAX).await).await;
        assert!(found[..] == whole[..], "{step:?}: {} bytes", found.len());
        store.publish(&local, &id, options(3_000)).await.expect("the next one succeeds");
        assert!(store.read_range(&path, 0, usize::MAX).await.expect("there")[..] == new[..]);
    }
    store.collect_garbage(Duration::ZERO).await.expect("collected");
    assert_eq!(fixture.names_beside(&segment("killed-Checked")), ["killed-Checked.sqlite"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_name_node_in_safe_mode_lists_and_does_not_publish() {
    let Some(url) = url() else { return };
    let _alone = SERVERS.write().await;
    let fixture = Hdfs::new(&url, &StoreOptions::default());
    let (store, scratch) = (fixture.store(), Scratch::new());
    let entry = store.publish(&scratch.file(b"here"), &segment("here-1"), options(1_000)).await.expect("published");
    let _finally = Finally(|| hadoop(&["safemode", "leave"]));
    hadoop(&["safemode", "enter"]);
    let listed: Vec<_> = store.list_all().map(|e| e.expect("listed")).collect().await;
    assert_eq!(listed, std::slice::from_ref(&entry));
    let local = scratch.file(b"new");
    for error in [
        store.publish(&local, &segment("here-1"), options(2_000)).await.expect_err("publish"),
        store.delete(&segment("here-1")).await.expect_err("delete"),
        store.check_writable().await.expect_err("check"),
    ] {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("SafeMode"), "{error}");
    }
    assert_eq!(store.stat(&segment("here-1")).await.expect("as it was"), entry);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_data_node_killed_while_reading_is_unavailable_and_nothing_partial_stays() {
    let Some(url) = url() else { return };
    let _alone = SERVERS.write().await;
    let fixture = Hdfs::new(&url, &impatient());
    let (store, scratch) = (fixture.store(), Scratch::new());
    let contents: Vec<u8> = (0..40_000_000_u32).map(|i| (i % 239) as u8).collect();
    let entry = store.publish(&scratch.file(&contents), &segment("large-1"), options(1_000)).await.expect("published");
    let dest = scratch.path();
    {
        let _finally = Finally(|| hadoop(&["run", "datanode-1"]));
        let once = Mutex::new(true);
        let progress = move |done| {
            if done > 8_000_000 && std::mem::take(&mut *once.lock().expect("unpoisoned")) {
                hadoop(&["kill", "datanode-1"]);
            }
        };
        let get = GetOptions { progress: Some(Arc::new(progress)), ..GetOptions::default() };
        let error = store.get(&entry.path, &dest, get).await.expect_err("no data node");
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(!dest.exists(), "nothing partial stays");
        let error = store.publish(&scratch.file(b"x"), &segment("new-1"), options(1)).await.expect_err("no data node");
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert_eq!(store.stat(&segment("large-1")).await.expect("the name node is there"), entry);
    }
    // One that may be gone on with leaves what came, and the rest alone is fetched.
    let (part, with) = (scratch.path(), resume::resuming(&entry, None));
    let there = {
        let _finally = Finally(|| hadoop(&["run", "datanode-1"]));
        let once = Mutex::new(true);
        let progress = move |done| {
            if done > 8_000_000 && std::mem::take(&mut *once.lock().expect("unpoisoned")) {
                hadoop(&["kill", "datanode-1"]);
            }
        };
        let get = GetOptions { progress: Some(Arc::new(progress)), ..with.clone() };
        suite::eventually("it reads again", async || store.read_range(&entry.path, 0, 10).await).await;
        let error = store.get(&entry.path, &part, get).await.expect_err("no data node");
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        std::fs::metadata(&part).expect("what came is left").len()
    };
    assert!(there > 8_000_000 && there < entry.bytes, "{there}");
    let (fetched, asked) = suite::eventually("it goes on", async || {
        // An attempt that fails in vain writes what came of it, too.
        resume::rest(&store, &entry.path, &part, &with).await
    })
    .await;
    assert!(fetched.resumed >= there && asked == entry.bytes - fetched.resumed, "{fetched:?}, {there} were there");
    assert!(std::fs::read(&part).expect("there") == contents);

    let fetched =
        suite::eventually("it is fetched", async || store.get(&entry.path, &dest, GetOptions::default()).await).await;
    assert_eq!(fetched.bytes, 40_000_000);
    assert!(std::fs::read(&dest).expect("there") == contents);
}
