//! The conformance suite over every backend, and what only the local directory promises.

use std::{fs, os::unix::process::ExitStatusExt, path::Path, process::Command, sync::Arc, time::Duration};

use futures::StreamExt;
use proptest::prelude::*;
use suite::{Change, Fixture, Scratch, options, segment};
use trough_core::SegmentId;
use trough_store::{ListOptions, LocalStore, PublishStep, Store, StoreError, crashsafe};

mod hdfs;
#[cfg(feature = "hdrs")]
mod hdrs;
mod object;
mod suite;

struct Local {
    dir: tempfile::TempDir,
    store: Arc<LocalStore>,
}

impl Local {
    fn new(options: ListOptions) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("store")).expect("created");
        let store = Arc::new(LocalStore::new(&dir.path().join("store"), options).expect("an absolute path"));
        Self { dir, store }
    }
}

impl Fixture for Local {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as _
    }
    fn put_raw(&self, path: &str, contents: &[u8]) {
        let path = self.store.root().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("created");
        fs::write(path, contents).expect("written");
    }
    fn names_beside(&self, segment: &SegmentId) -> Vec<String> {
        let path = self.store.path_of(segment);
        let dir = fs::read_dir(Path::new(&path).parent().expect("below the root")).expect("there");
        let files = dir.map(|d| d.expect("readable")).filter(|d| d.path().is_file());
        let mut names: Vec<_> = files.map(|d| d.file_name().into_string().expect("UTF-8")).collect();
        names.retain(|name| {
            self.store.root() != Path::new(&path).parent().expect("below") || *name == segment.file_name()
        });
        names.sort();
        names
    }
    fn tick(&self) {
        suite::wait_for_tick(self.dir.path());
        walk(self.store.root(), &mut |dir| suite::wait_for_tick(dir));
    }
    fn unmount(&self) {
        fs::rename(self.store.root(), self.dir.path().join("elsewhere")).expect("renamed");
    }
}

fn walk(dir: &Path, each: &mut impl FnMut(&Path)) {
    each(dir);
    for entry in fs::read_dir(dir).expect("there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            walk(&path, each);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn local_directory_conforms() {
    suite::run(|| Local::new(ListOptions::default())).await;
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0..24_u8).prop_map(Change::Publish),
        2 => (0..24_u8).prop_map(Change::Delete),
        2 => (0..24_u8).prop_map(Change::PutRaw),
        1 => (0..24_u8).prop_map(Change::Crash),
        2 => Just(Change::ListNow),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn incremental_listing_equals_full_listing(changes in prop::collection::vec(change(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("built");
        // No settling time: every unchanged mtime is believed at once, and the fixture waits for the clock's tick.
        let fixture = Local::new(ListOptions { settle: Duration::ZERO, ..ListOptions::default() });
        let outcome = runtime.block_on(suite::incremental_equals_full(&fixture, changes));
        prop_assert_eq!(outcome, Ok(()));
    }
}

#[tokio::test]
async fn unchanged_directories_are_not_read_again() {
    let fixture = Local::new(ListOptions { settle: Duration::ZERO, ..ListOptions::default() });
    for id in 0..500 {
        fixture.put_raw(&segment(&format!("{:06}", id * 100)).store_path(), b"x");
    }
    fixture.tick();
    let store = fixture.store();
    assert_eq!(store.list_sorted().await.expect("listed").len(), 500);
    let first = store.list_stats();
    assert_eq!((first.directories, first.relisted), (51, 51));
    assert_eq!(store.list_sorted().await.expect("listed").len(), 500);
    assert_eq!(store.list_stats().relisted, 0);
    let ids = async || {
        let folders: Vec<_> =
            store.list_folders().map(|f| f.expect("listed").id().expect("a directory")).collect().await;
        folders.into_iter().collect::<std::collections::BTreeSet<u64>>()
    };
    let before = ids().await;
    assert_eq!((before.len(), &ids().await), (50, &before), "nothing has changed");
    fixture.put_raw("001/001999.sqlite", b"new");
    fixture.put_raw("new/new001.sqlite", b"new");
    assert_eq!(store.list_sorted().await.expect("listed").len(), 502);
    assert_eq!(store.list_stats().relisted, 3, "the root and two directories");
    assert_eq!(ids().await.difference(&before).count(), 2, "one has changed, one is new");
}

#[tokio::test]
async fn young_mtimes_are_not_believed() {
    let fixture = Local::new(ListOptions { settle: Duration::from_secs(3600), ..ListOptions::default() });
    fixture.put_raw("300/300123.sqlite", b"x");
    let store = fixture.store();
    for _ in 0..3 {
        store.list_sorted().await.expect("listed");
        assert_eq!(store.list_stats().relisted, 2);
    }
}

#[tokio::test]
async fn urls_name_stores() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let spaced = dir.path().join("a b#c");
    fs::create_dir(&spaced).expect("created");
    let url = trough_store::open(spaced.to_str().expect("UTF-8")).expect("a plain path").url().to_owned();
    assert!(url.starts_with("file:///") && url.ends_with("a%20b%23c"), "{url}");
    let store = trough_store::open(&url).expect("its own URL");
    store.check().await.expect("there");
    assert_eq!(store.url(), url);
    #[cfg(not(feature = "hdrs"))]
    {
        let backend = [(trough_store::HDFS_CLIENT.to_owned(), "hdrs".to_owned())].into_iter().collect();
        let options = trough_store::StoreOptions { backend, ..trough_store::StoreOptions::default() };
        let error = trough_store::open_with("hdfs://name:8020/trough", &options).expect_err("refused");
        assert!(error.to_string().contains("--features hdrs"), "{error}");
    }
    for (url, says) in [
        ("hdfs:///trough", "no name node"),
        ("hdfs://name:8020/trough?x", "percent-encoded"),
        ("file://elsewhere/x", "host"),
        ("", "empty"),
    ] {
        let error = trough_store::open(url).expect_err("refused").to_string();
        assert!(error.contains(says), "{error}");
    }
}

const CRASH_DIR: &str = "TROUGH_STORE_TEST_CRASH_DIR";
const CRASH_STEP: &str = "TROUGH_STORE_TEST_CRASH_STEP";
const CRASH_FETCH: &str = "TROUGH_STORE_TEST_CRASH_FETCH";

/// The child of the next test: publishes, and dies by SIGABRT on its way.
#[tokio::test]
async fn child_that_dies_while_publishing() {
    let (Ok(dir), Ok(step)) = (std::env::var(CRASH_DIR), std::env::var(CRASH_STEP)) else { return };
    let store = trough_store::open(&dir).expect("a path");
    let mut with = options(2_000);
    with.crash_at = Some(Arc::new(move |at| {
        if format!("{at:?}") == step {
            std::process::abort();
        }
        false
    }));
    let outcome = store.publish(&Scratch::new().file(&[2; 100_000]), &segment("killed"), with).await;
    unreachable!("it should have died: {outcome:?}");
}

#[tokio::test]
async fn a_process_killed_at_any_step_leaves_a_whole_file() {
    let me = std::env::current_exe().expect("known");
    for step in PublishStep::ALL {
        let fixture = Local::new(ListOptions::default());
        let store = fixture.store();
        store.publish(&Scratch::new().file(&[1; 5_000]), &segment("killed"), options(1_000)).await.expect("published");
        let child = Command::new(&me)
            .args(["child_that_dies_while_publishing", "--exact", "--test-threads=1"])
            .env(CRASH_DIR, fixture.store.root())
            .env(CRASH_STEP, format!("{step:?}"))
            .output()
            .expect("started");
        assert!(child.status.signal().is_some(), "{step:?}: {}", String::from_utf8_lossy(&child.stdout));
        let (mark, bytes) = if step >= PublishStep::Renamed { (2, 100_000) } else { (1, 5_000) };
        let path = store.path_of(&segment("killed"));
        let found = store.read_range(&path, 0, usize::MAX).await.expect("there");
        assert!(found.len() == bytes && found.iter().all(|b| *b == mark), "{step:?}");
        assert_eq!(store.list_sorted().await.expect("listed").len(), 1);
        store.publish(&Scratch::new().file(&[3; 10]), &segment("killed"), options(3_000)).await.expect("the next");
    }
}

/// The child of the next test: fetches, and dies by SIGABRT on its way.
#[tokio::test]
async fn child_that_dies_while_fetching() {
    let (Ok(dir), Ok(upto)) = (std::env::var(CRASH_DIR), std::env::var(CRASH_FETCH)) else { return };
    let store = trough_store::open(&dir).expect("a path");
    let entry = store.stat(&segment("fetched")).await.expect("there");
    let upto: u64 = upto.parse().expect("a number");
    let mut with = suite::resume::resuming(&entry, None);
    with.progress = Some(Arc::new(move |done| {
        if done >= upto {
            std::process::abort();
        }
    }));
    let outcome = store.get(&entry.path, &Path::new(&dir).join("../copy"), with).await;
    unreachable!("it should have died: {outcome:?}");
}

#[tokio::test]
async fn a_process_killed_while_fetching_has_the_next_one_go_on() {
    let me = std::env::current_exe().expect("known");
    let fixture = Local::new(ListOptions::default());
    let store = fixture.store();
    let contents: Vec<u8> = (0..30_000_000_u32).map(|i| (i % 239) as u8).collect();
    let entry =
        store.publish(&Scratch::new().file(&contents), &segment("fetched"), options(1_000)).await.expect("published");
    let dest = fixture.dir.path().join("copy");
    let with = suite::resume::resuming(&entry, None);
    let mut there = 0;
    for upto in [9_000_000_u64, 20_000_000] {
        let child = Command::new(&me)
            .args(["child_that_dies_while_fetching", "--exact", "--test-threads=1"])
            .env(CRASH_DIR, fixture.store.root())
            .env(CRASH_FETCH, upto.to_string())
            .output()
            .expect("started");
        assert!(child.status.signal().is_some(), "{}", String::from_utf8_lossy(&child.stdout));
        let now = fs::metadata(&dest).expect("what came is left").len();
        assert!(now >= upto && now > there && now < entry.bytes, "{now}");
        there = now;
    }
    let (fetched, asked) = suite::resume::rest(&store, &entry.path, &dest, &with).await.expect("fetched");
    assert_eq!((fetched.resumed, asked), (there, entry.bytes - there), "not a byte is fetched twice");
    assert!(fs::read(&dest).expect("there") == contents);
    assert_eq!(crashsafe::mtime_ms(&fs::metadata(&dest).expect("there")), entry.mtime_ms);
    assert_eq!(fs::read_dir(fixture.dir.path()).expect("there").count(), 2, "the store and the copy");
}

/// A device that is always full stands in for the disk.
#[test]
fn a_full_disk_is_named_as_such() {
    use std::io::Write;
    let mut device = fs::OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it");
    let full = device.write_all(b"x").expect_err("always full");
    let error = StoreError::from_io("publish", "300/300123.sqlite", full);
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(error.to_string().contains("publish 300/300123.sqlite: no space left"), "{error}");
}
