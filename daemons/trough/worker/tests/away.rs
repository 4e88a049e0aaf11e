//! A worker is away while its segments are shredded or its locks are taken over: nothing comes back that should not, and nothing goes that
//! is nowhere else.

mod common;

use common::{Cluster, id, wait_for};
use serde_json::json;
use trough_client::catalog::TAKEOVER_MARGIN;
use trough_core::{
    NodeId,
    records::{Lock, Service},
};
use trough_reql::r;

/// One row, promoted, assigned to the worker, without a lock.
async fn at_rest(cluster: &Cluster, worker: &common::Worker) {
    cluster.schema("t", "create table t (a integer);").await;
    cluster.provision(worker, "s", "t").await;
    assert_eq!(cluster.write(worker, "s", "insert into t values (1)").await.0, 200);
    cluster.promote(worker, "s").await;
    cluster.assign("s", &[worker]).await;
    cluster.until_unlocked("s").await;
}

/// The same, locked again, with a second row that was never promoted.
async fn unpromoted(cluster: &Cluster, worker: &common::Worker) {
    at_rest(cluster, worker).await;
    cluster.provision(worker, "s", "t").await;
    assert_eq!(cluster.write(worker, "s", "insert into t values (2)").await.0, 200);
}

/// What the sync master does, as far as it does it without the worker.
async fn shred(cluster: &Cluster) {
    let segment = id("s");
    let entry = cluster.store.stat(&segment).await.expect("canonical copy");
    cluster.catalog.record_shred(&segment, entry.mtime_ms).await.expect("record");
    let rows: Vec<String> = cluster
        .catalog
        .assignments_of_segment(&segment)
        .await
        .expect("assignments")
        .into_iter()
        .map(|a| a.id)
        .collect();
    cluster.catalog.commit_assignments(&[], &rows, 0).await.expect("commit");
    assert!(cluster.store.delete_path(&entry.path).await.expect("delete"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shredded_copy_goes_when_its_worker_is_back() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "").await;
    at_rest(&cluster, &one).await;
    one.stop().await;
    shred(&cluster).await;
    let one = cluster.worker("one", "").await;
    wait_for("the end of the copy", async || {
        assert_ne!(cluster.read(&one, "s", "select 1").await.0, 200, "what was shredded is served");
        (!one.has_file("s")).then_some(())
    })
    .await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_after_a_shred_begins_empty_and_its_copies_are_newer() {
    let cluster = Cluster::start().await;
    // It does not look at its files by itself before it is asked.
    let one = cluster.worker("one", "").await;
    at_rest(&cluster, &one).await;
    let before = cluster.store.stat(&id("s")).await.expect("canonical copy").mtime_ms;
    one.stop().await;
    shred(&cluster).await;
    // As if the clock had been set back since.
    cluster.catalog.record_shred(&id("s"), before + 3_600_000).await.expect("record");
    cluster.catalog.record_shred(&id("s"), before).await.expect("record");
    let one = cluster.worker("one", "SYNC_LOOP_TIMING: 30").await;
    cluster.provision(&one, "s", "t").await;
    assert_eq!(cluster.read(&one, "s", "select count(*) n from t").await, (200, "[{\"n\":0}]\n".to_owned()));
    assert_eq!(cluster.write(&one, "s", "insert into t values (2)").await.0, 200);
    cluster.promote(&one, "s").await;
    assert!(cluster.store.stat(&id("s")).await.expect("canonical copy").mtime_ms > before + 3_600_000);
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_a_takeover_leaves_behind_are_kept() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.worker("one", "").await, cluster.worker("two", "").await);
    unpromoted(&cluster, &one).await;
    one.stop().await;
    // As after its lease and the margin.
    let lock = cluster.catalog.lock(&id("s")).await.expect("catalog").expect("locked");
    assert!(cluster.catalog.release_lock(&lock).await.expect("catalog"));
    cluster.provision(&two, "s", "t").await;
    assert_eq!(cluster.write(&two, "s", "insert into t values (3)").await.0, 200);
    cluster.promote(&two, "s").await;
    let one = cluster.worker("one", "").await;
    cluster.assign("s", &[&one, &two]).await;
    cluster.until_read(&one, "s", "select group_concat(a) a from t", "[{\"a\":\"1,3\"}]\n").await;
    cluster.until_unlocked("s").await;
    let kept: Vec<_> =
        std::fs::read_dir(one.data.join("stranded")).expect("kept").map(|e| e.expect("entry").path()).collect();
    let [kept] = kept.as_slice() else { panic!("{kept:?}") };
    let db = rusqlite::Connection::open(kept).expect("open");
    let rows: String = db.query_row("select group_concat(a) from t", [], |row| row.get(0)).expect("rows");
    assert_eq!(rows, "1,2");
    // Where nothing was left behind nothing is kept.
    assert!(!two.data.join("stranded").exists());
    one.stop().await;
    two.stop().await;
}

/// Provisioning notes which files it is about to open for writing. A look at all segments that comes between this note and the tenure sees a
/// copy like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_everything_takes_no_note_of_a_lock_that_is_being_taken() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "HEARTBEAT: segment\n").await;
    at_rest(&cluster, &one).await;
    // The note of the second segment waits until somebody opens this for reading.
    let held = one.data.join("held");
    let (note, pipe) = (held.join("s.held"), held.join("z.held"));
    std::fs::create_dir_all(&held).expect("directory");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let body = json!({"segments": ["s", "z"], "schema": "t"});
    let provisioning = cluster.manage(&one, "/v1/provision", body);
    let looking = async {
        wait_for("the note", async || note.exists().then_some(())).await;
        // Its rows are renewed at the end of each look.
        let renewed = async || {
            let rows = cluster.catalog.raw_services_of_segments(&[id("s")]).await.expect("catalog");
            rows.first().and_then(|row| row.last_heartbeat.as_ref()).map(|time| time.epoch_time)
        };
        for _ in 0..3 {
            let before = renewed().await;
            wait_for("a look at everything", async || (renewed().await != before).then_some(())).await;
        }
        let opened = tokio::task::spawn_blocking(move || std::fs::File::open(pipe));
        opened.await.expect("opened").expect("a pipe")
    };
    let ((status, answer), _pipe) = tokio::join!(provisioning, looking);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(cluster.write(&one, "s", "insert into t values (2)").await.0, 200);
    assert!(note.exists(), "nothing tells any more that the file holds unpromoted writes");
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lock_is_taken_over_that_would_have_to_be_given_back() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.worker("one", "").await, cluster.worker("two", "LEASE: 1\n").await);
    unpromoted(&cluster, &one).await;
    let node = one.node.clone();
    one.stop().await;
    // The store is away for as long as the lock could be taken over.
    let (root, aside) = (cluster.store_root(), cluster.dir.path().join("aside"));
    std::fs::rename(&root, &aside).expect("put aside");
    let wish = json!({"segment": "s", "schema": "t"});
    let begun = std::time::Instant::now();
    wait_for("lease and margin", async || {
        let (status, answer) = cluster.manage(&two, "/provision", wish.clone()).await;
        assert_ne!(status, 200, "{answer}");
        (begun.elapsed().as_secs_f64() > 3.0 + TAKEOVER_MARGIN + 2.0).then_some(())
    })
    .await;
    let lock = cluster.catalog.lock(&id("s")).await.expect("catalog").expect("locked");
    assert_eq!(lock.node, node);
    std::fs::rename(&aside, &root).expect("put back");
    let (status, answer) = cluster.manage(&two, "/provision", wish).await;
    assert_eq!(status, 200, "{answer}");
    let lock = cluster.catalog.lock(&id("s")).await.expect("catalog").expect("locked");
    assert_eq!(lock.node, two.node);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lock_is_taken_from_a_worker_that_only_looks_dead() {
    let cluster = Cluster::start().await;
    // Its next renewal is far away.
    let one = cluster.worker("one", "LEASE: 600").await;
    let two = cluster.worker("two", "").await;
    at_rest(&cluster, &one).await;
    cluster.provision(&one, "s", "t").await;
    // The database's clock is set, or it was away itself.
    let row = r::table("services").get(Service::node_id(&one.node));
    let past = row.update(r::object([("last_heartbeat", r::now().sub(100_000.0))]));
    assert_eq!(cluster.catalog.client().write(&past).await.expect("written").replaced, 1);
    let (status, answer) = cluster.manage(&two, "/provision", json!({"segment": "s", "schema": "t"})).await;
    assert!(status != 200 && answer.to_string().contains("one"), "{status} {answer}");
    assert_eq!(cluster.write(&one, "s", "insert into t values (2)").await.0, 200);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_was_taken_over_for_nothing_is_its_former_holders_again() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.worker("one", "").await, cluster.worker("two", "LEASE: 1\n").await);
    unpromoted(&cluster, &one).await;
    let node = one.node.clone();
    one.stop().await;
    let before = cluster.catalog.lock(&id("s")).await.expect("catalog").expect("locked");
    // The canonical copy is there, but it is no database.
    let path = cluster.store.stat(&id("s")).await.expect("canonical copy").path;
    let sound = std::fs::read(&path).expect("read");
    std::fs::write(&path, b"this is no database, but long enough to be looked at").expect("write");
    let wish = json!({"segment": "s", "schema": "t"});
    wait_for("the lock to be taken over, and put back", async || {
        let (status, answer) = cluster.manage(&two, "/provision", wish.clone()).await;
        assert_ne!(status, 200, "{answer}");
        answer.to_string().contains("no sound database").then_some(())
    })
    .await;
    let lock = cluster.catalog.lock(&id("s")).await.expect("catalog").expect("locked");
    assert_eq!((&lock.node, lock.fence, lock.holder), (&node, before.fence, before.holder));
    // Its writes are where they were.
    std::fs::write(&path, sound).expect("write");
    let one = cluster.worker("one", "").await;
    assert_eq!(cluster.write(&one, "s", "insert into t values (3)").await.0, 200);
    cluster.until_read(&one, "s", "select group_concat(a) a from t", "[{\"a\":\"1,2,3\"}]\n").await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_log_has_is_not_served_once_the_lock_is_gone() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "").await;
    unpromoted(&cluster, &one).await;
    // Another node takes the lock over, and gives it back without a promotion.
    let lock = cluster.catalog.lock(&id("s")).await.expect("catalog").expect("locked");
    let other = Lock { node: NodeId::new("other").expect("id"), fence: lock.fence + 1, ..lock.clone() };
    assert!(cluster.catalog.restore_lock(&lock, &other).await.expect("catalog"));
    wait_for("the loss to be noticed", async || {
        (cluster.write(&one, "s", "insert into t values (3)").await.0 != 200).then_some(())
    })
    .await;
    assert!(cluster.catalog.release_lock(&other).await.expect("catalog"));
    cluster.until_read(&one, "s", "select group_concat(a) a from t", "[{\"a\":\"1\"}]\n").await;
    let kept = std::fs::read_dir(one.data.join("stranded")).expect("kept").count();
    assert_eq!(kept, 1);
    one.stop().await;
}

/// A lock was taken over and given back while its holder was out of reach: it finds none, as where the metadata was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_others_had_meanwhile_leaves_its_file_aside() {
    let cluster = Cluster::start().await;
    // They do not look at their files by themselves before they are asked.
    let (one, two) = (cluster.worker("one", "SYNC_LOOP_TIMING: 30\n").await, cluster.worker("two", "").await);
    cluster.schema("t", "create table t (a integer);").await;
    cluster.provision(&one, "s", "t").await;
    assert_eq!(cluster.write(&one, "s", "insert into t values (1)").await.0, 200);
    // Another node writes, promotes, and gives it back.
    let lock = cluster.catalog.lock(&id("s")).await.expect("catalog").expect("locked");
    let other = Lock { node: NodeId::new("other").expect("id"), fence: lock.fence + 1, ..lock.clone() };
    assert!(cluster.catalog.restore_lock(&lock, &other).await.expect("catalog"));
    wait_for("the loss to be noticed", async || {
        (cluster.write(&one, "s", "delete from t where false").await.0 != 200).then_some(())
    })
    .await;
    assert!(cluster.catalog.release_lock(&other).await.expect("catalog"));
    cluster.provision(&two, "s", "t").await;
    assert_eq!(cluster.write(&two, "s", "insert into t values (2)").await.0, 200);
    cluster.promote(&two, "s").await;
    cluster.until_read(&one, "s", "select group_concat(a) a from t", "[{\"a\":\"2\"}]\n").await;
    let lock = cluster.catalog.lock(&id("s")).await.expect("catalog").expect("locked");
    assert!(cluster.catalog.release_lock(&lock).await.expect("catalog"));
    wait_for("the release to be heard of", async || {
        let (status, text) = cluster.read(&one, "s", "select group_concat(a) a from t").await;
        assert!(status != 200 || text.contains('2'), "what others have not is answered: {text}");
        (status != 200).then_some(())
    })
    .await;
    // Provisioned anew here, with a fence that begins anew: it goes on from what is canonical, and what was here is kept.
    cluster.provision(&one, "s", "t").await;
    assert_eq!(cluster.write(&one, "s", "insert into t values (3)").await.0, 200);
    assert_eq!(
        cluster.read(&one, "s", "select group_concat(a) a from t").await,
        (200, "[{\"a\":\"2,3\"}]\n".to_owned())
    );
    let kept: Vec<_> =
        std::fs::read_dir(one.data.join("stranded")).expect("kept").map(|e| e.expect("entry").path()).collect();
    let [kept] = kept.as_slice() else { panic!("{kept:?}") };
    let db = rusqlite::Connection::open(kept).expect("open");
    let rows: String = db.query_row("select group_concat(a) from t", [], |row| row.get(0)).expect("rows");
    assert_eq!(rows, "1");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_vanished_is_served_only_where_nobody_else_has_written() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "").await;
    unpromoted(&cluster, &one).await;
    let lock = cluster.catalog.lock(&id("s")).await.expect("catalog").expect("locked");
    // The metadata lost it: nothing is newer in the store.
    assert!(cluster.catalog.release_lock(&lock).await.expect("catalog"));
    cluster.until_read(&one, "s", "select group_concat(a) a from t", "[{\"a\":\"1,2\"}]\n").await;
    // Somebody has had it.
    cluster.replace_canonical("s", "insert into t values (7)").await;
    let entry = cluster.store.stat(&id("s")).await.expect("canonical copy");
    cluster.catalog.record_canonical(&id("s"), entry.bytes, entry.mtime_ms, None).await.expect("recorded");
    cluster.until_read(&one, "s", "select group_concat(a) a from t", "[{\"a\":\"1,7\"}]\n").await;
    assert_eq!(std::fs::read_dir(one.data.join("stranded")).expect("kept").count(), 1);
    one.stop().await;
}
