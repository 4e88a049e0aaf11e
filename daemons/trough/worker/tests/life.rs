//! A segment's life on workers: provisioned, written, promoted, assigned, copied, freshened, moved, collected.

mod common;

use common::{Cluster, id, wait_for};
use serde_json::json;
use trough_client::catalog::LockOutcome;
use trough_core::NodeId;

const COUNT: &str = "select count(*) n from t";

async fn filled(cluster: &Cluster, worker: &common::Worker, segment: &str) {
    cluster.schema("t", "create table t (a integer, b text);").await;
    cluster.provision(worker, segment, "t").await;
    let (status, text) =
        cluster.write(worker, segment, "insert into t values (1, 'x'); insert into t values (2, 'y')").await;
    assert_eq!((status, text.as_str()), (200, "OK\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provisioned_written_promoted_assigned_released() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "").await;
    filled(&cluster, &one, "s:1 é").await;
    assert_eq!(cluster.read(&one, "s:1 é", COUNT).await, (200, "[{\"n\":2}]\n".to_owned()));
    cluster.promote(&one, "s:1 é").await;
    assert!(cluster.store.stat(&id("s:1 é")).await.is_ok());
    // Not assigned yet: the lock stays, and writes go on.
    assert!(cluster.catalog.lock(&id("s:1 é")).await.expect("catalog").is_some());
    cluster.assign("s:1 é", &[&one]).await;
    cluster.until_unlocked("s:1 é").await;
    let (status, text) = cluster.write(&one, "s:1 é", "insert into t values (3, 'z')").await;
    assert!(status == 500 && text.contains("write lock") && text.contains("s:1 é"), "{text}");
    assert_eq!(cluster.read(&one, "s:1 é", COUNT).await, (200, "[{\"n\":2}]\n".to_owned()));
    wait_for("the write row's withdrawal", async || {
        let rows = cluster.catalog.raw_services_of_segments(&[id("s:1 é")]).await.expect("catalog");
        (rows.len() == 1 && rows[0].role.as_deref() == Some("trough-read")).then_some(())
    })
    .await;
    // Provisioned again, it goes on from what it is.
    cluster.provision(&one, "s:1 é", "default").await;
    assert_eq!(cluster.write(&one, "s:1 é", "insert into t values (3, 'z')").await.0, 200);
    assert_eq!(cluster.read(&one, "s:1 é", COUNT).await.1, "[{\"n\":3}]\n");
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_to_the_holder_of_the_lock() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.worker("one", "").await, cluster.worker("two", "").await);
    filled(&cluster, &one, "s").await;
    cluster.promote(&one, "s").await;
    cluster.assign("s", &[&two]).await;
    wait_for("the copy", async || two.has_file("s").then_some(())).await;
    // The holder's lock goes with its copy: another node holds the assignment and serves it.
    cluster.until_unlocked("s").await;
    cluster.until_read(&two, "s", COUNT, "[{\"n\":2}]\n").await;
    cluster.provision(&one, "s", "t").await;
    assert_eq!(cluster.write(&one, "s", "insert into t values (3, 'z')").await.0, 200);
    // What the other node answers is what the holder has.
    cluster.until_read(&two, "s", COUNT, "[{\"n\":3}]\n").await;
    let query = json!({"segments": ["s", "nowhere"], "map": COUNT});
    let answer = cluster
        .client
        .post(format!("http://{}/v1/query", two.at.read))
        .header("accept", "application/x-ndjson")
        .json(&query)
        .send()
        .await
        .expect("an answer");
    let lines: Vec<serde_json::Value> =
        answer.text().await.expect("text").lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let code = |segment: &str| {
        lines.iter().find(|l| l["segment"] == segment && l.get("error").is_some()).map(|l| l["error"]["code"].clone())
    };
    assert_eq!(code("s"), Some(json!("moved")), "{lines:?}");
    assert_eq!(code("nowhere"), Some(json!("unknown_segment")), "{lines:?}");
    assert!(lines.last().is_some_and(|l| l.get("end").is_some()), "{lines:?}");
    let (status, answer) = cluster.manage(&two, "/provision", json!({"segment": "s"})).await;
    assert!(status == 500 && answer.to_string().contains("one"), "{answer}");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_canonical_copy_is_served_fresh_and_releases_the_lock() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.worker("one", "SYNC_LOOP_TIMING: 1").await, cluster.worker("two", "").await);
    filled(&cluster, &one, "s").await;
    cluster.promote(&one, "s").await;
    cluster.replace_canonical("s", "insert into t values (3, 'z')").await;
    cluster.assign("s", &[&one, &two]).await;
    let begun = std::time::Instant::now();
    let mut asked = 0;
    loop {
        let (a, b) = (cluster.read(&one, "s", COUNT).await, cluster.read(&two, "s", COUNT).await);
        assert!(a.0 == 200 && (a.1 == "[{\"n\":2}]\n" || a.1 == "[{\"n\":3}]\n"), "{a:?}");
        assert!(b.0 == 200 || asked < 200 && b.1.contains("s"), "{b:?}");
        asked += 1;
        if a.1.contains('3') && b.1.contains('3') {
            break;
        }
        assert!(begun.elapsed() < common::PATIENCE, "never fresh: {a:?} {b:?}");
    }
    cluster.until_unlocked("s").await;
    // Written since its promotion, a segment is never overwritten by the store.
    cluster.provision(&one, "s", "t").await;
    assert_eq!(cluster.write(&one, "s", "insert into t values (4, 'mine')").await.0, 200);
    cluster.replace_canonical("s", "insert into t values (5, 'theirs')").await;
    cluster.assign("s", &[&one, &two]).await;
    let fresh = two.data.join("s.sqlite");
    wait_for("the other's copy", async || {
        let db = rusqlite::Connection::open_with_flags(&fresh, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        let n: i64 = db.query_row("select count(*) from t where b = 'theirs'", [], |r| r.get(0)).ok()?;
        (n == 1).then_some(())
    })
    .await;
    assert_eq!(cluster.read(&one, "s", "select b from t where a > 3").await.1, "[{\"b\":\"mine\"}]\n");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_goes_only_when_others_serve() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.worker("one", "").await, cluster.worker("two", "").await);
    filled(&cluster, &one, "s").await;
    cluster.promote(&one, "s").await;
    cluster.assign("s", &[&one]).await;
    cluster.until_unlocked("s").await;
    // Nobody is to hold it: it stays where it is.
    cluster.assign("s", &[]).await;
    let cycles = cluster.status(&one).await["lease"]["age"].clone();
    wait_for("a renewal after that", async || {
        let age = cluster.status(&one).await["lease"]["age"].clone();
        (age.as_f64() < cycles.as_f64()).then_some(())
    })
    .await;
    assert!(one.has_file("s"));
    // Moved: loaded there before it is dropped here.
    cluster.assign("s", &[&two]).await;
    cluster.until_read(&two, "s", COUNT, "[{\"n\":2}]\n").await;
    wait_for("the removal", async || (!one.has_file("s")).then_some(())).await;
    let rows = cluster.catalog.raw_services_of_segments(&[id("s")]).await.expect("catalog");
    assert!(rows.iter().all(|row| row.node.as_ref() == Some(&two.node)), "{rows:?}");
    let (status, text) = cluster.read(&one, "s", COUNT).await;
    assert!(status == 500 && text.contains("'s'"), "{text}");
    // Removed by hand, as SHRED does it.
    let delete = async |id: &str| {
        let url = format!("http://{}/segment/{id}", two.at.manage);
        cluster.client.delete(url).send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(delete("never").await, 404);
    assert_eq!(delete("..%2Fx").await, 400);
    cluster.assign("s", &[]).await;
    assert_eq!(delete("s").await, 204);
    assert!(!two.has_file("s"));
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_takes_its_locks_over_and_keeps_what_it_has() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "").await;
    for segment in ["a", "b", "c"] {
        filled(&cluster, &one, segment).await;
    }
    cluster.promote(&one, "b").await;
    cluster.assign("b", &[&one]).await;
    cluster.until_unlocked("b").await;
    cluster.promote(&one, "c").await;
    let before = cluster.catalog.lock(&id("a")).await.expect("catalog").expect("locked");
    std::fs::write(one.data.join(".x.sqlite._COPYING_.one.1.u"), b"left behind").expect("write");
    one.stop().await;
    // While it is away, another version of b appears.
    cluster.replace_canonical("b", "insert into t values (3, 'z')").await;
    let one = cluster.worker("one", "").await;
    assert!(!one.data.join(".x.sqlite._COPYING_.one.1.u").exists());
    let after = cluster.catalog.lock(&id("a")).await.expect("catalog").expect("locked");
    assert_eq!(after.fence, before.fence + 1);
    assert_eq!(cluster.write(&one, "a", "insert into t values (3, 'z')").await, (200, "OK\n".to_owned()));
    assert_eq!(cluster.read(&one, "a", COUNT).await.1, "[{\"n\":3}]\n");
    cluster.assign("b", &[&one]).await;
    cluster.until_read(&one, "b", COUNT, "[{\"n\":3}]\n").await;
    // Promoted before the restart and not written since: its lock is given back all the same.
    cluster.assign("c", &[&one]).await;
    cluster.until_unlocked("c").await;
    assert_eq!(cluster.read(&one, "c", COUNT).await.1, "[{\"n\":2}]\n");
    one.stop().await;
}

/// A worker was killed between the lock of a new segment and its file, which a disk that hangs makes long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_under_which_nothing_was_written_is_given_back_at_the_next_start() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "").await;
    filled(&cluster, &one, "a").await;
    let (data, node) = (one.data.clone(), NodeId::new("one").expect("id"));
    one.stop().await;
    let outcomes = cluster.catalog.acquire_locks(&[id("n")], &node, "a process before", 0).await.expect("catalog");
    assert!(matches!(outcomes[0], LockOutcome::Acquired { .. }), "{outcomes:?}");
    // A copy that was here before the lock, and may be older than the canonical one.
    std::fs::write(data.join("o.sqlite"), b"").expect("written");
    let outcomes = cluster.catalog.acquire_locks(&[id("o")], &node, "a process before", 0).await.expect("catalog");
    assert!(matches!(outcomes[0], LockOutcome::Acquired { .. }), "{outcomes:?}");
    // What was written is missing for a person to see, and nobody may write in its place.
    std::fs::remove_file(data.join("a.sqlite")).expect("removed");
    let one = cluster.worker("one", "").await;
    cluster.until_unlocked("n").await;
    cluster.until_unlocked("o").await;
    cluster.provision(&one, "n", "t").await;
    assert_eq!(cluster.write(&one, "n", "insert into t values (1, 'x')").await.0, 200);
    assert!(cluster.catalog.lock(&id("a")).await.expect("catalog").is_some());
    assert_eq!(cluster.write(&one, "a", "insert into t values (3, 'z')").await.0, 500);
    one.stop().await;
    // A disk that is not mounted looks like this: the locks stay, for the time when it is.
    let aside = data.with_extension("unmounted");
    std::fs::rename(&data, &aside).expect("renamed");
    cluster.worker("one", "").await.stop().await;
    std::fs::remove_dir_all(&data).expect("removed");
    std::fs::rename(&aside, &data).expect("renamed back");
    let one = cluster.worker("one", "").await;
    assert_eq!(cluster.write(&one, "n", "insert into t values (2, 'y')").await.0, 200);
    assert_eq!(cluster.read(&one, "n", COUNT).await.1, "[{\"n\":2}]\n");
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_holds_is_copied_down_before_it_is_writable() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.worker("one", "").await, cluster.worker("two", "").await);
    filled(&cluster, &one, "s").await;
    cluster.promote(&one, "s").await;
    cluster.assign("s", &[&one]).await;
    cluster.until_unlocked("s").await;
    cluster.provision(&two, "s", "t").await;
    assert_eq!(cluster.write(&two, "s", "insert into t values (3, 'z')").await.0, 200);
    assert_eq!(cluster.read(&two, "s", COUNT).await.1, "[{\"n\":3}]\n");
    cluster.until_read(&one, "s", COUNT, "[{\"n\":3}]\n").await;
    cluster.promote(&two, "s").await;
    cluster.until_unlocked("s").await;
    cluster.until_read(&one, "s", COUNT, "[{\"n\":3}]\n").await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_many_segments() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "").await;
    cluster.schema("t", "create table t (a integer, b text);").await;
    let ids: Vec<String> = (0..1500).map(|n| format!("seg-{n}")).collect();
    let (status, answer) = cluster.manage(&one, "/v1/provision", json!({"segments": ids, "schema": "t"})).await;
    assert_eq!(status, 200, "{answer}");
    let results = answer["results"].as_array().expect("results");
    assert!(results.len() == 1500 && results.iter().all(|r| r["write_url"].is_string() && r["size"] == 8192));
    let writes: Vec<_> = ids
        .iter()
        .map(|id| json!({"segment": id, "statements": [{"sql": "insert into t values (?1, ?2)", "rows": [[1, "x"], [2, null]]}]}))
        .collect();
    let url = format!("http://{}/v1/write", one.at.write);
    let answer = cluster.client.post(url).json(&json!({ "writes": writes })).send().await.expect("an answer");
    let answer: serde_json::Value = answer.json().await.expect("JSON");
    assert!(answer["results"].as_array().expect("results").iter().all(|r| r["changes"] == 2), "{answer}");
    let query = json!({"segments": ids, "map": "select count(*) n from t", "reduce": "select sum(n) n, count(*) c from partial"});
    let url = format!("http://{}/v1/query", one.at.read);
    let answer =
        cluster.client.post(url).header("accept", "application/json").json(&query).send().await.expect("answer");
    let answer: serde_json::Value = answer.json().await.expect("JSON");
    assert_eq!(answer["rows"][0]["row"], json!({"n": 3000, "c": 1500}), "{answer}");
    assert_eq!(answer["end"]["ok"], json!(1500));
    let (status, text) = {
        let url = format!("http://{}/v1/promote", one.at.manage);
        let answer = cluster.client.post(url).json(&json!({ "segments": ids })).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    assert_eq!(status, 200);
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert!(lines.len() == 1500 && lines.iter().all(|l| l["remote_path"].is_string()), "{:?}", lines.first());
    assert_eq!(cluster.store.list_sorted().await.expect("listing").len(), 1500);
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_of_a_killed_worker_goes_with_the_next_promotion() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "").await;
    filled(&cluster, &one, "s").await;
    let path = one.data.join("s.sqlite");
    one.stop().await;
    // As a killed process leaves it: a write in the log, and nobody comes to write more.
    let (log, aside) = (path.with_extension("sqlite-wal"), cluster.dir.path().join("log"));
    let db = rusqlite::Connection::open(&path).expect("open");
    let mode: String = db.query_row("pragma journal_mode=wal", [], |row| row.get(0)).expect("mode");
    assert_eq!(mode, "wal");
    db.execute("insert into t values (3, 'z')", []).expect("written");
    std::fs::copy(&path, aside.with_extension("file")).expect("copied");
    std::fs::copy(&log, &aside).expect("copied");
    drop(db);
    std::fs::copy(aside.with_extension("file"), &path).expect("copied");
    std::fs::copy(&aside, &log).expect("copied");
    let one = cluster.worker("one", "").await;
    assert_eq!(cluster.read(&one, "s", COUNT).await.1, "[{\"n\":3}]\n");
    cluster.promote(&one, "s").await;
    cluster.assign("s", &[&one]).await;
    cluster.until_unlocked("s").await;
    assert_eq!(cluster.read(&one, "s", COUNT).await.1, "[{\"n\":3}]\n");
    one.stop().await;
}
