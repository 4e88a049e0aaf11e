//! What was acknowledged is there after a restart, one process has the directory, and one candidate wins an election.

mod wire;

use serde_json::{Value, json};
use trough_meta::{Error, MetaOptions, MetaServer};
use wire::Wire;

fn table(name: &str) -> Value {
    json!([15, [[14, ["test"]], name]])
}

#[tokio::test]
async fn a_reopened_directory_has_everything() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = MetaServer::start_ephemeral(dir.path()).await.expect("a server");
    let mut wire = Wire::connect(server.local_addr()).await;
    wire.value(json!([60, [[14, ["test"]], "t"], {"primary_key": "key", "durability": "soft"}])).await;
    wire.value(json!([75, [table("t"), "n"]])).await;
    wire.value(json!([75, [table("t"), "f", [69, [[2, [1]], [24, [[170, [[10, [1]], "n"]], 1]]]]]])).await;
    let rows: Vec<Value> = (0..500).map(|i| json!({"key": format!("k{i}"), "n": i % 10, "at": [103, []]})).collect();
    wire.value(json!([56, [table("t"), [2, rows]]])).await;
    wire.value(json!([54, [[16, [table("t"), "k7"]]]])).await;
    let before = wire.value(json!([41, [table("t"), "key"]])).await;
    let info = wire.value(json!([34, [[79, [table("t")]], "doc_count_estimates"]])).await;
    drop(wire);
    server.shutdown().await;

    let server = MetaServer::start_ephemeral(dir.path()).await.expect("the same directory again");
    let mut wire = Wire::connect(server.local_addr()).await;
    assert_eq!(wire.value(json!([41, [table("t"), "key"]])).await, before);
    assert_eq!(wire.value(json!([34, [[79, [table("t")]], "doc_count_estimates"]])).await, info);
    assert_eq!(wire.value(json!([43, [[78, [table("t"), 7], {"index": "n"}]]])).await, 49);
    assert_eq!(wire.value(json!([43, [[78, [table("t"), 8], {"index": "f"}]]])).await, 49);
    // Numbers are not used again: a new table has none of a dropped one's documents.
    wire.value(json!([61, [[14, ["test"]], "t"]])).await;
    wire.value(json!([60, [[14, ["test"]], "t"]])).await;
    assert_eq!(wire.value(json!([43, [table("t")]])).await, 0);
    server.shutdown().await;
}

#[tokio::test]
async fn one_process_has_a_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = MetaServer::start_ephemeral(dir.path()).await.expect("a server");
    assert!(matches!(MetaServer::start_ephemeral(dir.path()).await, Err(Error::Locked { .. })));
    let other = tempfile::tempdir().expect("a directory");
    let taken = MetaOptions::new(other.path(), first.local_addr());
    assert!(matches!(MetaServer::start(taken).await, Err(Error::Listen { .. })));
    let open = MetaOptions::new(other.path(), "0.0.0.0:0".parse().expect("an address"));
    assert!(matches!(MetaServer::start(open).await, Err(Error::Unprotected { .. })));
    first.shutdown().await;
    MetaServer::start_ephemeral(dir.path()).await.expect("free again").shutdown().await;
}

#[tokio::test]
async fn one_candidate_wins_and_counters_lose_nothing() {
    const CLIENTS: usize = 24;
    let dir = tempfile::tempdir().expect("a directory");
    let server = MetaServer::start_ephemeral(dir.path()).await.expect("a server");
    let address = server.local_addr();
    let mut wire = Wire::connect(address).await;
    wire.value(json!([60, [[14, ["test"]], "m"]])).await;
    wire.value(json!([56, [table("m"), {"id": "counter", "n": 0}]])).await;
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        tasks.spawn(async move {
            let mut wire = Wire::connect(address).await;
            let me = format!("candidate-{client}");
            // The statement of design/metadata.md.
            let old = json!([10, [1]]);
            let free = json!([66, [[17, [old, null]], [21, [[25, [[103, []], [170, [old, "last_heartbeat"]]]], [170, [old, "ttl"]]]]]]);
            let candidate = json!({"id": "master", "holder": me, "last_heartbeat": [103, []], "ttl": 60});
            let renewed = json!([35, [old, {"last_heartbeat": [103, []]}]]);
            let decide = json!([65, [free, candidate, [17, [[170, [old, "holder"]], me]], renewed, old]]);
            let elect = json!([55, [[16, [table("m"), "master"]], [69, [[2, [1]], decide]]], {"return_changes": "always", "durability": "hard"}]);
            let mut won = 0;
            for _ in 0..5 {
                let answer = wire.value(elect.clone()).await;
                assert_eq!(answer["errors"], 0);
                won += usize::from(answer["changes"][0]["new_val"]["holder"] == me);
                let up = json!([53, [[16, [table("m"), "counter"]], [69, [[2, [1]], {"n": [24, [[170, [[10, [1]], "n"]], 1]]}]]]]);
                assert_eq!(wire.value(up).await["replaced"], 1);
            }
            won
        });
    }
    let won = tasks.join_all().await;
    assert_eq!(won.iter().filter(|won| **won > 0).count(), 1, "{won:?}");
    assert_eq!(won.iter().sum::<usize>(), 5);
    assert_eq!(wire.value(json!([170, [[16, [table("m"), "counter"]], "n"]])).await, CLIENTS * 5);
    server.shutdown().await;
}
