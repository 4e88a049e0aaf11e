//! Fetches that are interrupted and go on.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use trough_store::{Entry, Expected, Fetched, GetOptions, Store, StoreError, Throttle, partial, promotion_mtime};

use super::{Fixture, Scratch, eventually, options, segment};

/// Longer than any backend's parts in flight together.
const BYTES: u32 = 50 << 20;

/// Counts what is asked of the store.
#[derive(Default)]
pub(crate) struct Asked(pub(crate) AtomicU64);

#[async_trait::async_trait]
impl Throttle for Asked {
    async fn acquire(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Lets a fetch ask for no more, once it has been granted `enough` bytes: so that there is a rest, however fast the store is.
struct Gate {
    granted: AtomicU64,
    enough: u64,
}

#[async_trait::async_trait]
impl Throttle for Gate {
    async fn acquire(&self, bytes: u64) {
        if self.granted.fetch_add(bytes, Ordering::Relaxed) >= self.enough {
            std::future::pending::<()>().await;
        }
    }
}

/// How the version `entry` is fetched, resuming.
pub(crate) fn resuming(entry: &Entry, sha256: Option<&str>) -> GetOptions {
    let sha256 = sha256.map(str::to_owned);
    let hash = sha256.is_some();
    let expected = Expected { bytes: entry.bytes, mtime_ms: entry.mtime_ms, sha256 };
    GetOptions { hash, expected: Some(expected), resume: true, ..GetOptions::default() }
}

/// Fetches until `bytes` are there, and is dropped then. Returns how many are there.
pub(crate) async fn interrupted(store: &Arc<dyn Store>, path: &str, dest: &Path, with: GetOptions, bytes: u64) -> u64 {
    eventually("the interrupted fetch before has let go", async || {
        let (reached, done) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicU64::new(0)));
        let (tell, count) = (Arc::clone(&reached), Arc::clone(&done));
        let progress = move |n| {
            count.store(n, Ordering::Relaxed);
            if n >= bytes {
                tell.notify_one();
            }
        };
        let there = std::fs::metadata(dest).map_or(0, |metadata| metadata.len());
        let gate = Arc::new(Gate { granted: AtomicU64::new(there), enough: bytes });
        let with = GetOptions { progress: Some(Arc::new(progress)), throttle: Some(gate), ..with.clone() };
        tokio::select! {
            biased;
            () = reached.notified() => Ok(done.load(Ordering::Relaxed)),
            fetched = store.get(path, dest, with) => match fetched {
                Err(StoreError::Conflict { path, why, .. }) if Path::new(&path) == dest => Err(why),
                other => panic!("it should have been interrupted: {other:?}"),
            },
        }
    })
    .await
}

/// Fetches the rest. What is still being written of an interrupted one is waited for.
pub(crate) async fn rest(
    store: &Arc<dyn Store>,
    path: &str,
    dest: &Path,
    with: &GetOptions,
) -> Result<(Fetched, u64), StoreError> {
    eventually("the interrupted fetch has let go", async || {
        let asked = Arc::new(Asked::default());
        let with = GetOptions { throttle: Some(Arc::clone(&asked) as _), ..with.clone() };
        match store.get(path, dest, with).await {
            Err(StoreError::Conflict { path, why, .. }) if Path::new(&path) == dest => Err(why),
            other => Ok(other.map(|fetched| (fetched, asked.0.load(Ordering::Relaxed)))),
        }
    })
    .await
}

/// An interrupted fetch goes on from what is there, if it is of the same version; the result is whole.
pub(super) async fn goes_on_where_it_was_interrupted(f: &impl Fixture) {
    let (store, scratch) = (f.store(), Scratch::new());
    let id = segment("resumed-1");
    let contents = |salt: u32| -> Vec<u8> { (0..BYTES).map(|i| ((i + salt) % 251) as u8).collect() };
    let old = contents(0);
    let entry = store.publish(&scratch.file(&old), &id, options(1_000)).await.expect("published");
    let total = entry.bytes;
    let dest = scratch.path();
    let fetched = store.get(&entry.path, &dest, GetOptions { hash: true, ..GetOptions::default() }).await;
    let sha256 = fetched.expect("fetched").sha256.expect("asked for");
    std::fs::remove_file(&dest).expect("there");

    for sha256 in [None, Some(sha256.as_str())] {
        let with = resuming(&entry, sha256);
        let mut there = 0;
        // At the end too: the last byte is there, and nobody waits for the call's return.
        for upto in [total / 4, total / 2, total] {
            there = interrupted(&store, &entry.path, &dest, with.clone(), upto).await;
            assert!(dest.exists(), "what came is left");
        }
        let (fetched, asked) = rest(&store, &entry.path, &dest, &with).await.expect("fetched");
        assert!(fetched.resumed >= there, "{fetched:?}, {there} were there");
        assert_eq!(asked, total - fetched.resumed, "nothing is fetched twice that was written");
        assert_eq!((fetched.bytes, fetched.sha256.as_deref()), (total, sha256));
        assert!(std::fs::read(&dest).expect("there") == old);
        std::fs::remove_file(&dest).expect("there");
        partial::discard(&dest).expect("nothing is left to discard");
    }

    // Not what it should be: found by the hash, and fetched anew in the same call.
    let with = resuming(&entry, Some(&sha256));
    interrupted(&store, &entry.path, &dest, with.clone(), total / 2).await;
    eventually("the writer has ended", async || {
        let free = std::fs::File::open(&dest).expect("there").try_lock();
        free.map_err(|e| e.to_string())
    })
    .await;
    let len = std::fs::metadata(&dest).expect("there").len();
    std::fs::write(&dest, vec![0xFF; len as usize]).expect("spoilt");
    let (fetched, asked) = rest(&store, &entry.path, &dest, &with).await.expect("fetched");
    assert_eq!((fetched.sha256.as_deref(), asked), (Some(sha256.as_str()), total - len + total));
    assert!(std::fs::read(&dest).expect("there") == old);
    std::fs::remove_file(&dest).expect("there");

    // Replaced meanwhile: nothing of the old one is used.
    let with = resuming(&entry, None);
    interrupted(&store, &entry.path, &dest, with.clone(), total / 2).await;
    let new = contents(7);
    let again = promotion_mtime(0, Some(&entry));
    let newer = store.publish(&scratch.file(&new), &id, options(again)).await.expect("published");
    assert_eq!(newer.bytes, total);
    let (fetched, asked) = rest(&store, &entry.path, &dest, &with).await.expect("fetched");
    assert_eq!((fetched.resumed, fetched.mtime_ms, asked), (0, newer.mtime_ms, total));
    assert!(std::fs::read(&dest).expect("there") == new);
    std::fs::remove_file(&dest).expect("there");

    // Without being asked to, nothing is left.
    for upto in [total / 2, total] {
        interrupted(&store, &entry.path, &dest, GetOptions::default(), upto).await;
        eventually("it is removed", async || if dest.exists() { Err("it is there") } else { Ok(()) }).await;
    }
}
