//! Parts die or misbehave: what is promised still holds.

mod common;

use common::{Cluster, id, wait_for};
use serde_json::json;

async fn filled(cluster: &Cluster, worker: &common::Worker, segment: &str) {
    cluster.schema("t", "create table t (a integer);").await;
    cluster.provision(worker, segment, "t").await;
    assert_eq!(cluster.write(worker, segment, "insert into t values (1)").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_metadata_reads_go_on_and_writes_only_while_the_lease_runs() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "LEASE: 1").await;
    filled(&cluster, &one, "s").await;
    cluster.stop_meta().await;
    wait_for("the end of the lease", async || {
        let (status, text) =
            cluster.post(format!("http://{}/?segment=s", one.at.write), "insert into t values (2)").await;
        if status == 200 {
            return None;
        }
        assert!(text.contains("lease") && text.contains("'s'"), "{text}");
        Some(())
    })
    .await;
    let url = format!("http://{}/?segment=s", one.at.read);
    assert_eq!(cluster.post(url, "select min(a) m from t").await, (200, "[{\"m\":1}]\n".to_owned()));
    cluster.start_meta().await;
    wait_for("writes again", async || {
        (cluster.write(&one, "s", "insert into t values (3)").await.0 == 200).then_some(())
    })
    .await;
    cluster.provision(&one, "new", "t").await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_promotions_fail_loudly_and_nothing_is_lost() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "").await;
    filled(&cluster, &one, "s").await;
    let aside = cluster.dir.path().join("aside");
    std::fs::rename(cluster.store_root(), &aside).expect("rename");
    let (status, answer) = cluster.manage(&one, "/promote", json!({"segment": "s"})).await;
    assert!(status == 500 && answer.to_string().contains("store"), "{answer}");
    assert_eq!(cluster.write(&one, "s", "insert into t values (2)").await.0, 200);
    // What may have a canonical copy must not begin empty.
    let (status, answer) = cluster.manage(&one, "/provision", json!({"segment": "new"})).await;
    assert!(status >= 500, "{answer}");
    assert!(cluster.catalog.lock(&id("new")).await.expect("catalog").is_none());
    std::fs::rename(&aside, cluster.store_root()).expect("rename");
    cluster.promote(&one, "s").await;
    assert!(!cluster.catalog.lock(&id("s")).await.expect("catalog").expect("locked").under_promotion);
    assert_eq!(
        std::fs::read_dir(&one.data)
            .expect("directory")
            .filter(|e| { e.as_ref().expect("entry").file_name().to_string_lossy().contains("_COPYING_") })
            .count(),
        0
    );
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_no_databases_are_never_served() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "").await;
    filled(&cluster, &one, "good").await;
    cluster.promote(&one, "good").await;
    let whole = std::fs::read(&cluster.store.stat(&id("good")).await.expect("there").path).expect("read");
    for (name, content) in [
        ("text", b"hello, I am a text file".repeat(100)),
        ("half", whole[..whole.len() / 2].to_vec()),
        ("none", Vec::new()),
    ] {
        let path = cluster.store_root().join(id(name).store_path());
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
        std::fs::write(path, content).expect("write");
        cluster.assign(name, &[&one]).await;
    }
    cluster.until_read(&one, "none", "select count(*) n from sqlite_schema", "[{\"n\":0}]\n").await;
    for name in ["text", "half"] {
        wait_for("a word about it in /status", async || {
            let status = cluster.status(&one).await;
            status["copies"]["failed"].as_array()?.iter().find(|f| f["segment"] == name).map(|_| ())
        })
        .await;
        let (status, text) = cluster.read(&one, name, "select 1").await;
        assert!(status == 500 && text.contains(name) && text.contains("database"), "{text}");
        assert!(!one.has_file(name));
    }
    // A good file in its place is fetched.
    std::fs::write(cluster.store_root().join(id("half").store_path()), &whole).expect("write");
    cluster.assign("half", &[&one]).await;
    cluster.until_read(&one, "half", "select count(*) n from t", "[{\"n\":1}]\n").await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_rots_is_withdrawn_and_fetched_again() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "HANDLE_BUDGET: 8").await;
    filled(&cluster, &one, "s").await;
    cluster.promote(&one, "s").await;
    cluster.assign("s", &[&one]).await;
    cluster.until_unlocked("s").await;
    let path = one.data.join("s.sqlite");
    let mut content = std::fs::read(&path).expect("read");
    content[..16].copy_from_slice(b"this is no data!");
    let rotten = one.data.join("rotten");
    std::fs::write(&rotten, &content).expect("write");
    std::fs::rename(&rotten, &path).expect("rename");
    wait_for("a good copy again", async || {
        let (status, text) = cluster.read(&one, "s", "select count(*) n from t").await;
        assert!(status != 200 || text == "[{\"n\":1}]\n", "{text}");
        let healed = std::fs::read(&path).is_ok_and(|now| now.starts_with(b"SQLite format 3\0"));
        (status == 200 && healed).then_some(())
    })
    .await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_cannot_share_a_directory_or_a_port() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "").await;
    let run = async |settings| {
        let stop = tokio_util::sync::CancellationToken::new();
        trough_worker::run(std::sync::Arc::new(settings), stop, |_| {}).await.expect_err("refused").to_string()
    };
    let mut same = cluster.settings("two", "");
    same.local_data = one.data.clone();
    assert!(run(same).await.contains("another worker"));
    let error = run(cluster.settings("two", &format!("READ_PORT: {}\n", one.at.read.port()))).await;
    assert!(error.contains("READ_PORT") && error.contains(&one.at.read.port().to_string()), "{error}");
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_master_and_an_unknown_schema_are_refused() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "").await;
    let (status, answer) = cluster.manage(&one, "/v1/provision", json!({"segments": ["a"], "epoch": 5})).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = cluster.manage(&one, "/v1/provision", json!({"segments": ["b"], "epoch": 4})).await;
    assert!(status == 503 && answer.to_string().contains("fenced"), "{answer}");
    let (status, answer) = cluster.manage(&one, "/provision", json!({"segment": "b", "schema": "nosuch"})).await;
    assert!((400..500).contains(&status) && answer.to_string().contains("nosuch"), "{answer}");
    let (status, answer) = cluster.manage(&one, "/v1/provision", json!({"segments": ["../x"]})).await;
    assert!(status == 400 && answer.to_string().contains(".."), "{answer}");
    let long = "x".repeat(253);
    let (status, answer) = cluster.manage(&one, "/provision", json!({ "segment": long })).await;
    assert!(status == 400 && answer.to_string().contains("too long"), "{answer}");
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_file_under_a_write_lock_is_kept_beside_and_replaced() {
    let cluster = Cluster::start().await;
    let one = cluster.worker("one", "").await;
    filled(&cluster, &one, "s").await;
    cluster.promote(&one, "s").await;
    let data = one.data.clone();
    one.stop().await;
    let path = data.join("s.sqlite");
    let mut content = std::fs::read(&path).expect("read");
    content[..16].copy_from_slice(b"this is no data!");
    std::fs::write(&path, &content).expect("write");
    let one = cluster.worker("one", "").await;
    wait_for("a good file again", async || {
        let (status, text) = cluster.read(&one, "s", "select count(*) n from t").await;
        assert!(status != 200 || text == "[{\"n\":1}]\n", "{text}");
        (status == 200).then_some(())
    })
    .await;
    let names = std::fs::read_dir(&data).expect("directory").map(|e| e.expect("entry").file_name());
    let kept: Vec<_> = names.filter(|n| n.to_string_lossy().contains("s.sqlite.broken-")).collect();
    assert_eq!(kept.iter().filter(|n| !n.to_string_lossy().ends_with("-wal")).count(), 1, "{kept:?}");
    assert_eq!(cluster.write(&one, "s", "insert into t values (2)").await.0, 200);
    cluster.promote(&one, "s").await;
    one.stop().await;
}

/// Makes the worker's canonical copy unreachable by giving its assignment another path, or reachable again.
async fn hold_copies_back(cluster: &Cluster, node: &trough_core::NodeId, held_back: bool) {
    let all = cluster.catalog.assignments_of_segment(&id("s")).await.expect("assignments");
    let mut assignment = all.into_iter().find(|a| a.node == *node).expect("assigned");
    let path = cluster.store.stat(&id("s")).await.expect("canonical copy").path;
    assignment.remote_path = if held_back { format!("{path}.gone.sqlite") } else { path };
    cluster.catalog.commit_assignments(&[assignment], &[], 0).await.expect("commit");
}

async fn until_copies_failed(cluster: &Cluster, worker: &common::Worker, times: u64) {
    wait_for("failed copies", async || {
        let status = cluster.status(worker).await;
        let failed =
            status["copies"]["failed"].as_array()?.iter().find(|f| f["segment"] == "s")?["attempts"].as_u64()?;
        (failed >= times).then_some(())
    })
    .await;
}

const COUNT: &str = "select count(*) n from t";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_kept_until_every_other_live_copy_is_fresh() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.worker("one", "").await, cluster.worker("two", "").await);
    filled(&cluster, &one, "s").await;
    cluster.promote(&one, "s").await;
    cluster.assign("s", &[&one, &two]).await;
    cluster.until_unlocked("s").await;
    cluster.until_read(&two, "s", COUNT, "[{\"n\":1}]\n").await;
    hold_copies_back(&cluster, &two.node, true).await;
    cluster.provision(&one, "s", "t").await;
    assert_eq!(cluster.write(&one, "s", "insert into t values (2)").await.0, 200);
    cluster.promote(&one, "s").await;
    // The pauses between three attempts are several times SYNC_LOOP_TIMING: a rest alone would have released the lock.
    until_copies_failed(&cluster, &two, 3).await;
    assert!(cluster.catalog.lock(&id("s")).await.expect("catalog").is_some());
    assert_eq!(cluster.read(&two, "s", COUNT).await, (200, "[{\"n\":2}]\n".to_owned()));
    hold_copies_back(&cluster, &two.node, false).await;
    cluster.until_unlocked("s").await;
    let canonical = cluster.store.stat(&id("s")).await.expect("canonical copy");
    let rows = cluster.catalog.raw_services_of_segments(&[id("s")]).await.expect("catalog");
    let row = rows.iter().find(|row| row.node.as_ref() == Some(&two.node)).expect("served");
    assert_eq!(row.version_ms, Some(canonical.mtime_ms));
    // From the first read after the release on, both answer what was written.
    for worker in [&one, &two] {
        assert_eq!(cluster.read(worker, "s", COUNT).await, (200, "[{\"n\":2}]\n".to_owned()));
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_became_old_while_its_node_was_away_is_not_served() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.worker("one", "").await, cluster.worker("two", "").await);
    filled(&cluster, &one, "s").await;
    cluster.promote(&one, "s").await;
    cluster.assign("s", &[&one, &two]).await;
    cluster.until_unlocked("s").await;
    cluster.until_read(&two, "s", COUNT, "[{\"n\":1}]\n").await;
    hold_copies_back(&cluster, &two.node, true).await;
    two.stop().await;
    cluster.provision(&one, "s", "t").await;
    assert_eq!(cluster.write(&one, "s", "insert into t values (2)").await.0, 200);
    cluster.promote(&one, "s").await;
    // A node that is dead does not count.
    cluster.until_unlocked("s").await;
    let two = cluster.worker("two", "").await;
    assert!(two.has_file("s"));
    let (status, text) = cluster.read(&two, "s", COUNT).await;
    assert!(status == 500 && text.contains("'s'"), "{text}");
    wait_for("the withdrawal of its row", async || {
        let rows = cluster.catalog.raw_services_of_segments(&[id("s")]).await.expect("catalog");
        rows.iter().all(|row| row.node.as_ref() != Some(&two.node)).then_some(())
    })
    .await;
    until_copies_failed(&cluster, &two, 2).await;
    assert_eq!(cluster.read(&two, "s", COUNT).await.0, 500);
    hold_copies_back(&cluster, &two.node, false).await;
    cluster.until_read(&two, "s", COUNT, "[{\"n\":2}]\n").await;
    one.stop().await;
    two.stop().await;
}
