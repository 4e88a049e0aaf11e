//! The conformance suite, generic over a backend. A backend gives a [`Fixture`]; [`run`] checks every promise of the
//! trait on it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use trough_core::{NodeId, SegmentId};
use trough_store::{
    Entry, GetOptions, PublishOptions, PublishStep, Store, StoreError, TokenBucket, crashsafe, promotion_mtime,
};

mod ranges;
pub(crate) mod resume;

/// What a backend brings to be tested.
pub(crate) trait Fixture: Send + Sync {
    /// An empty store.
    fn store(&self) -> Arc<dyn Store>;
    /// Puts a file there by other means than [`Store::publish`]; `path` is relative to the root.
    fn put_raw(&self, path: &str, contents: &[u8]);
    /// Names of everything in the directory that holds `segment`'s file.
    fn names_beside(&self, segment: &SegmentId) -> Vec<String>;
    /// Returns once a change made from now on moves a directory's mtime.
    fn tick(&self);
    /// Makes the store unreachable.
    fn unmount(&self);
    /// Whether a published file gets the mtime that was asked for.
    fn keeps_mtime(&self) -> bool {
        true
    }
    /// Whether an unfinished publication leaves a temporary file.
    fn leaves_temporaries(&self) -> bool {
        true
    }
    /// How often a file is replaced under its readers.
    fn versions(&self) -> u8 {
        60
    }
    /// Whether a publication is refused by the mtime that it asks for alone, whatever mtime the file got that is there.
    fn refuses_older(&self) -> bool {
        true
    }
    /// Whether the server that stands in for the service takes uploads in parts.
    fn takes_parts(&self) -> bool {
        true
    }
    /// A segment's id with letters of every length in UTF-8.
    fn wide_id(&self) -> &'static str {
        "é中😀x"
    }
    /// A segment's id with a sign in it that is seldom seen in names.
    fn odd_id(&self) -> &'static str {
        "seg:ment-1"
    }
}

/// Local files for uploads and downloads.
pub(crate) struct Scratch(tempfile::TempDir, AtomicU64);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"), AtomicU64::new(0))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join(self.1.fetch_add(1, Ordering::Relaxed).to_string())
    }

    pub(crate) fn file(&self, contents: &[u8]) -> PathBuf {
        let path = self.path();
        std::fs::write(&path, contents).expect("written");
        path
    }
}

pub(crate) fn segment(id: &str) -> SegmentId {
    SegmentId::new(id).expect("valid")
}

pub(crate) fn options(mtime_ms: i64) -> PublishOptions {
    PublishOptions::new(NodeId::new("w1").expect("valid"), 3, mtime_ms)
}

/// Waits until it succeeds, for at most a minute.
pub(crate) async fn eventually<T, E: std::fmt::Display>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let began = std::time::Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(e) => assert!(began.elapsed() < Duration::from_secs(60), "gave up waiting that {what}: {e}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn read_all(store: &dyn Store, path: &str) -> Result<Vec<u8>, StoreError> {
    store.read_range(path, 0, usize::MAX).await.map(|b| b.to_vec())
}

/// Checks every promise. Each part gets a store of its own.
pub(crate) async fn run<F: Fixture + 'static>(make: impl Fn() -> F) {
    publishes_and_fetches(&make()).await;
    refuses(&make()).await;
    ranges::are_of_the_file_that_was_opened(&make()).await;
    let large = make();
    if large.takes_parts() {
        resume::goes_on_where_it_was_interrupted(&large).await;
    }
    survives_a_crash_at_every_step(&make()).await;
    readers_never_see_a_gap(&make()).await;
    listing_ignores_what_is_no_segment(&make()).await;
    concurrent_publishers_leave_one_whole_file(&make()).await;
    an_absent_store_is_an_error(&make()).await;
}

async fn publishes_and_fetches(f: &impl Fixture) {
    let (store, scratch) = (f.store(), Scratch::new());
    store.check().await.expect("there");
    assert!(store.list_sorted().await.expect("an empty store lists").is_empty());
    for (id, size) in [("300123", 0), ("NA", 1), (f.odd_id(), 70_000), (f.wide_id(), 3 << 20)] {
        let contents: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let local = scratch.file(&contents);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let mut with = options(1_700_000_000_123);
        with.progress = Some(Arc::new(move |done| told.lock().expect("unpoisoned").push(done)));
        with.throttle = Some(Arc::new(TokenBucket::new(1 << 30)));
        let entry = store.publish(&local, &segment(id), with).await.expect("published");
        let mtime_ms = if f.keeps_mtime() { 1_700_000_000_123 } else { entry.mtime_ms };
        let expected = Entry { segment: segment(id), path: store.path_of(&segment(id)), bytes: size, mtime_ms };
        assert_eq!(entry, expected);
        assert_eq!(store.stat(&segment(id)).await.expect("there"), expected);
        assert_eq!(seen.lock().expect("unpoisoned").last(), Some(&size), "progress ends at the whole");
        assert!(seen.lock().expect("unpoisoned").is_sorted());

        let dest = scratch.path();
        let get = GetOptions { hash: true, ..GetOptions::default() };
        let fetched = store.get(&entry.path, &dest, get).await.expect("fetched");
        assert_eq!((fetched.bytes, fetched.mtime_ms), (size, expected.mtime_ms));
        assert_eq!(std::fs::read(&dest).expect("there"), contents);
        let metadata = std::fs::metadata(&dest).expect("there");
        assert_eq!(crashsafe::mtime_ms(&metadata), expected.mtime_ms, "the copy compares equal");

        let again = promotion_mtime(0, Some(&entry));
        let mut with = options(again);
        with.sha256 = fetched.sha256;
        let republished = store.publish(&local, &segment(id), with).await.expect("republished").mtime_ms;
        assert!(if f.keeps_mtime() { republished == again } else { republished > entry.mtime_ms }, "{republished}");
        assert_eq!(
            store.read_range(&entry.path, 5, 10).await.expect("read")[..],
            contents[5.min(contents.len())..15.min(contents.len())]
        );
        assert!(store.read_range(&entry.path, size + 7, 10).await.expect("past the end").is_empty());
        assert_eq!(f.names_beside(&segment(id)), [segment(id).file_name()], "nothing else is left");
    }
    let ids: Vec<_> = store.list_sorted().await.expect("listed").into_iter().map(|e| e.segment.to_string()).collect();
    assert_eq!(ids, ["300123", "NA", f.odd_id(), f.wide_id()]);
    assert!(store.delete(&segment("NA")).await.expect("deleted"));
    assert!(!store.delete(&segment("NA")).await.expect("already gone"));
    assert_eq!(store.list_sorted().await.expect("listed").len(), 3);
}

async fn refuses(f: &impl Fixture) {
    let (store, scratch) = (f.store(), Scratch::new());
    let id = segment("300123");
    assert!(store.stat(&id).await.expect_err("absent").is_not_found());
    assert!(
        store
            .get(&store.path_of(&id), &scratch.path(), GetOptions::default())
            .await
            .expect_err("absent")
            .is_not_found()
    );
    for outside in ["../x.sqlite", "/etc/passwd", "a/../../x.sqlite", "", "/", "a\0b.sqlite", "notes.txt"] {
        let error = store.stat_path(outside).await.expect_err("outside");
        assert!(matches!(error, StoreError::InvalidPath { .. }), "{outside:?}: {error}");
        assert!(store.delete_path(outside).await.is_err());
    }
    let local = scratch.file(b"old");
    store.publish(&local, &id, options(5_000)).await.expect("published");

    let no = options(6_000).before_rename(|| async { Err("the lock is another's") });
    let error = store.publish(&scratch.file(b"new"), &id, no).await.expect_err("refused");
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("the lock is another's"), "{error}");

    for mtime in [4_999, 5_000].into_iter().filter(|_| f.refuses_older()) {
        let error = store.publish(&scratch.file(b"new"), &id, options(mtime)).await.expect_err("not newer");
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    }
    let mut wrong = options(6_000);
    wrong.sha256 = Some("00".repeat(32));
    let error = store.publish(&scratch.file(b"new"), &id, wrong).await.expect_err("another hash");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");

    let long = segment(&"x".repeat(255));
    assert!(store.publish(&local, &long, options(1)).await.is_err(), "no file name can be that long");
    assert!(store.publish(&scratch.path(), &id, options(6_000)).await.is_err(), "no such local file");
    let exists = store.get(&store.path_of(&id), &local, GetOptions::default()).await.expect_err("dest exists");
    assert!(matches!(exists, StoreError::Conflict { .. }), "{exists}");
    assert_eq!(read_all(&*store, &store.path_of(&id)).await.expect("there"), b"old");
    assert_eq!(f.names_beside(&id), ["300123.sqlite"], "failed uploads are removed");
}

async fn survives_a_crash_at_every_step(f: &impl Fixture) {
    let (store, scratch) = (f.store(), Scratch::new());
    for had_old in [false, true] {
        for step in PublishStep::ALL {
            let id = segment(&format!("crash-{had_old}-{step:?}"));
            let (old, new) = (vec![1; 3000], vec![2; 2_500_000]);
            if had_old {
                store.publish(&scratch.file(&old), &id, options(1_000)).await.expect("published");
            }
            let mut with = options(2_000);
            with.crash_at = Some(Arc::new(move |at| at == step));
            let local = scratch.file(&new);
            store.publish(&local, &id, with).await.expect_err("crashed");

            let renamed = step >= PublishStep::Renamed;
            match read_all(&*store, &store.path_of(&id)).await {
                Ok(found) => assert!(found == if renamed { &new[..] } else { &old[..] }, "{step:?}"),
                Err(e) => assert!(e.is_not_found() && !had_old && !renamed, "{step:?}: {e}"),
            }
            let listed = store.list_sorted().await.expect("listed");
            assert_eq!(listed.iter().any(|e| e.segment == id), had_old || renamed, "{step:?}");
            store.publish(&local, &id, options(3_000)).await.expect("the next one succeeds");
            assert_eq!(read_all(&*store, &store.path_of(&id)).await.expect("there"), new);
        }
    }
    // Half-made, half-written, written, synced, verified and checked uploads are left, twice each.
    let left = if f.leaves_temporaries() { 12 } else { 0 };
    let kept = store.collect_garbage(Duration::from_secs(3600)).await.expect("collected");
    assert_eq!((kept.removed, kept.kept), (0, left));
    let collected = store.collect_garbage(Duration::ZERO).await.expect("collected");
    assert_eq!((collected.removed, collected.kept), (left, 0));
    assert_eq!(store.list_sorted().await.expect("listed").len(), 20);
}

async fn readers_never_see_a_gap(f: &impl Fixture) {
    let (store, scratch) = (f.store(), Scratch::new());
    let id = segment("busy-1");
    let contents = |version: u8| vec![version; 100_000 + usize::from(version)];
    store.publish(&scratch.file(&contents(0)), &id, options(1_000)).await.expect("published");
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for _ in 0..3 {
        let (store, done, id) = (Arc::clone(&store), Arc::clone(&done), id.clone());
        readers.push(tokio::spawn(async move {
            let (mut last, mut reads) = (0, 0_u64);
            while !done.load(Ordering::Relaxed) || reads == 0 {
                let found = read_all(&*store, &store.path_of(&id)).await.expect("never missing");
                assert_eq!(found.len(), 100_000 + usize::from(found[0]), "never partial");
                assert!(found.iter().all(|b| *b == found[0]), "never mixed");
                assert!(found[0] >= last, "never older than before");
                (last, reads) = (found[0], reads + 1);
                assert_eq!(store.stat(&id).await.expect("never missing").segment, id);
                assert_eq!(store.list_all().count().await, 1, "never missing from a listing");
            }
        }));
    }
    for version in 1..=f.versions() {
        let local = scratch.file(&contents(version));
        store.publish(&local, &id, options(1_000 + i64::from(version))).await.expect("published");
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("the reader saw nothing wrong");
    }
}

async fn listing_ignores_what_is_no_segment(f: &impl Fixture) {
    let store = f.store();
    f.put_raw("300/300123.sqlite", b"a");
    f.put_raw("deep/er/down/x.sqlite", b"bc");
    f.put_raw("300/.300123.sqlite._COPYING_.w1.1.0123", b"partial");
    f.put_raw("300/300124.sqlite._COPYING_", b"partial");
    f.put_raw("300/300123.sqlite-wal", b"");
    f.put_raw("300/a..b.sqlite", b"");
    f.put_raw(".hidden/old.sqlite", b"");
    f.put_raw("README", b"");
    let listed = store.list_sorted().await.expect("listed");
    let ids: Vec<_> = listed.iter().map(|e| (e.segment.as_str(), e.bytes)).collect();
    assert_eq!(ids, [("300123", 1), ("x", 2)]);
    assert!(listed[1].path.ends_with("deep/er/down/x.sqlite"), "{}", listed[1].path);
    assert_eq!(read_all(&*store, &listed[1].path).await.expect("found where it is listed"), b"bc");
    let stats = store.list_stats();
    assert_eq!((stats.entries, stats.skipped, stats.temporaries), (2, 1, 2));
}

async fn concurrent_publishers_leave_one_whole_file(f: &impl Fixture) {
    let (store, scratch) = (f.store(), Scratch::new());
    let id = segment("contended");
    let uploads = (1..=16_u8).map(|n| {
        let (store, id, local) = (Arc::clone(&store), id.clone(), scratch.file(&vec![n; 50_000]));
        async move { store.publish(&local, &id, options(i64::from(n))).await }
    });
    let outcomes = futures::future::join_all(uploads).await;
    assert!(outcomes.iter().any(Result::is_ok));
    let found = read_all(&*store, &store.path_of(&id)).await.expect("there");
    assert!(found.len() == 50_000 && found.iter().all(|b| *b == found[0]));
    assert_eq!(f.names_beside(&id).len(), 1);
}

async fn an_absent_store_is_an_error(f: &impl Fixture) {
    let (store, scratch) = (f.store(), Scratch::new());
    let local = scratch.file(b"x");
    store.publish(&local, &segment("300123"), options(1)).await.expect("published");
    store.list_sorted().await.expect("listed");
    f.unmount();
    let unavailable = |what: &str, e: StoreError| {
        assert!(matches!(e, StoreError::Unavailable { .. }), "{what}: {e}");
    };
    unavailable("check", store.check().await.expect_err("gone"));
    unavailable("list", store.list_sorted().await.expect_err("never an empty listing"));
    unavailable("list all", store.list_all().next().await.expect("an error").expect_err("never an empty listing"));
    unavailable("stat", store.stat(&segment("300123")).await.expect_err("not 'not found'"));
    let path = store.path_of(&segment("300123"));
    unavailable("get", store.get(&path, &scratch.path(), GetOptions::default()).await.expect_err("gone"));
    unavailable("read", store.read_range(&path, 0, 1).await.expect_err("gone"));
    unavailable("publish", store.publish(&local, &segment("new-1"), options(1)).await.expect_err("gone"));
    unavailable("delete", store.delete(&segment("300123")).await.expect_err("gone"));
    unavailable("collect", store.collect_garbage(Duration::ZERO).await.expect_err("gone"));
}

/// One change to a store, for [`incremental_equals_full`].
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Publish(u8),
    Delete(u8),
    PutRaw(u8),
    Crash(u8),
    ListNow,
}

/// After every change the incremental listing must equal the model and the full listing.
pub(crate) async fn incremental_equals_full(f: &impl Fixture, changes: Vec<Change>) -> Result<(), String> {
    let (store, scratch) = (f.store(), Scratch::new());
    let mut model: BTreeMap<SegmentId, (u64, Option<i64>)> = BTreeMap::new();
    let mut folders: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
    for (n, change) in changes.iter().enumerate() {
        let id = |n: u8| segment(&format!("{}/{}", n % 4, n).replace('/', &"-".repeat(usize::from(n % 3))).repeat(2));
        let mtime = 10_000 + n as i64;
        let contents = vec![0; n + 1];
        match change {
            Change::Publish(n) => {
                let entry = store.publish(&scratch.file(&contents), &id(*n), options(mtime)).await;
                match entry {
                    Ok(entry) => drop(model.insert(id(*n), (entry.bytes, Some(mtime)))),
                    // A raw file has the present as its mtime.
                    Err(StoreError::Conflict { .. }) => assert!(model.get(&id(*n)).is_some_and(|m| m.1.is_none())),
                    Err(e) => return Err(e.to_string()),
                }
            }
            Change::Delete(n) => {
                let was = store.delete(&id(*n)).await.map_err(|e| e.to_string())?;
                assert_eq!(was, model.remove(&id(*n)).is_some());
            }
            Change::PutRaw(n) => {
                model.entry(id(*n)).or_insert_with(|| {
                    f.put_raw(&id(*n).store_path(), &contents);
                    (contents.len() as u64, None)
                });
            }
            Change::Crash(n) => {
                let mut with = options(mtime);
                with.crash_at = Some(Arc::new(|at| at == PublishStep::HalfWritten));
                assert!(store.publish(&scratch.file(&contents), &id(*n), with).await.is_err());
            }
            Change::ListNow => drop(store.list_sorted().await.map_err(|e| e.to_string())?),
        }
        f.tick();
        let listed = store.list_sorted().await.map_err(|e| e.to_string())?;
        let mut full: Vec<_> = store.list_all().map(|e| e.expect("listed")).collect().await;
        full.sort_by(|a, b| a.segment.cmp(&b.segment));
        if listed != full {
            return Err(format!("after {change:?}: incremental {listed:?}, full {full:?}"));
        }
        let mut by_folder = Vec::new();
        let mut listing = store.list_folders();
        while let Some(folder) = listing.next().await {
            let folder = folder.map_err(|e| e.to_string())?;
            let entries: Vec<Entry> = folder.entries().collect();
            if let Some(id) = folder.id()
                && *folders.entry(id).or_insert_with(|| entries.clone()) != entries
            {
                return Err(format!("after {change:?}: folder {id} is not what it was: {entries:?}"));
            }
            by_folder.extend(entries);
        }
        by_folder.sort_by(|a, b| a.segment.cmp(&b.segment));
        if listed != by_folder {
            return Err(format!("after {change:?}: by entries {listed:?}, by folders {by_folder:?}"));
        }
        let got: Vec<_> = listed.iter().map(|e| (e.segment.clone(), e.bytes)).collect();
        let expected: Vec<_> = model.iter().map(|(id, m)| (id.clone(), m.0)).collect();
        if got != expected {
            return Err(format!("after {change:?}: listed {got:?}, expected {expected:?}"));
        }
    }
    Ok(())
}

/// Waits until the file system's clock has moved on from `dir`'s mtime.
pub(crate) fn wait_for_tick(dir: &Path) {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let probe = tempfile::tempdir().expect("a temporary directory");
    let path = probe.path().join("probe");
    let before = modified(dir);
    loop {
        std::fs::write(&path, b"x").expect("written");
        if modified(&path) > before {
            return;
        }
    }
}
