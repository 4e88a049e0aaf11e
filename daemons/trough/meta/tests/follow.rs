//! Changefeeds under concurrent writes: whoever follows one from its initial values on has the table in the end.

mod wire;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trough_meta::MetaServer;
use wire::Wire;

fn table() -> Value {
    json!([15, [[14, ["test"]], "t"]])
}

/// Applies a feed's changes to what is known, by id.
fn apply(known: &mut BTreeMap<String, Value>, change: &Value) {
    assert!(change.get("error").is_none(), "{change}");
    if let Some(old) = change.get("old_val").filter(|old| !old.is_null()) {
        let known_old = known.remove(&old["id"].to_string());
        assert_eq!(known_old.as_ref(), Some(old), "the feed knows what it told");
    }
    if let Some(new) = change.get("new_val").filter(|new| !new.is_null()) {
        let before = known.insert(new["id"].to_string(), new.clone());
        assert_eq!(before, None, "nothing is told twice: {change}");
    }
}

/// Follows a feed until the document `end` appears.
async fn follow(address: std::net::SocketAddr, feed: Value) -> BTreeMap<String, Value> {
    let mut wire = Wire::connect(address).await;
    let token = wire.send(&json!([1, feed, {}])).await;
    let mut known = BTreeMap::new();
    loop {
        let (_, answer) = wire.receive().await.expect("an answer");
        assert_eq!(answer["t"], 3, "{answer}");
        for change in answer["r"].as_array().expect("changes") {
            apply(&mut known, change);
        }
        if known.remove("\"end\"").is_some() {
            return known;
        }
        wire.send_on(token, &json!([2])).await;
    }
}

#[tokio::test]
async fn whoever_follows_has_the_table_in_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = MetaServer::start_ephemeral(dir.path()).await.expect("a server");
    let address = server.local_addr();
    let mut wire = Wire::connect(address).await;
    wire.value(json!([60, [[14, ["test"]], "t"]])).await;
    wire.value(json!([75, [table(), "n"]])).await;
    let rows: Vec<Value> = (0..3000).map(|i| json!({"id": i, "n": i % 10, "pad": "x".repeat(300)})).collect();
    wire.value(json!([56, [table(), [2, rows]]])).await;

    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4_u64 {
        writers.spawn(async move {
            let mut wire = Wire::connect(address).await;
            let mut random = writer + 1;
            for step in 0..300 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let id = (random >> 33) % 3200;
                let get = json!([16, [table(), id]]);
                let term = match step % 4 {
                    0 => json!([54, [get]]),
                    1 => json!([56, [table(), {"id": id, "n": (random >> 20) % 10}], {"conflict": "replace"}]),
                    _ => json!([53, [get, {"n": (random >> 20) % 10}]]),
                };
                wire.value(term).await;
            }
        });
    }
    let initial = json!({"include_initial": true});
    let feeds = [
        json!([152, [table()], initial]),
        json!([152, [[78, [table(), 3, 4], {"index": "n"}]], initial]),
        json!([152, [[182, [table(), 2, 6], {"index": "n"}]], initial]),
        json!([152, [[39, [table(), {"n": 3}]]], initial]),
        json!([152, [table()], {"include_initial": true, "squash": true}]),
    ];
    let queries = [
        table(),
        json!([78, [table(), 3, 4], {"index": "n"}]),
        json!([182, [table(), 2, 6], {"index": "n"}]),
        json!([39, [table(), {"n": 3}]]),
        table(),
    ];
    let followers: Vec<_> = feeds.into_iter().map(|feed| tokio::spawn(follow(address, feed))).collect();
    writers.join_all().await;
    // Every feed sees this one; its place in the order of commits is last.
    wire.value(json!([56, [table(), {"id": "end", "n": 3}]])).await;
    for (follower, query) in followers.into_iter().zip(queries) {
        let known = follower.await.expect("a follower");
        let now = wire.value(query.clone()).await;
        let mut wanted: BTreeMap<String, Value> =
            now.as_array().expect("rows").iter().map(|row| (row["id"].to_string(), row.clone())).collect();
        wanted.remove("\"end\"");
        assert!(known == wanted, "{query}: {} known, {} there", known.len(), wanted.len());
    }
    server.shutdown().await;
}

/// Between two pages of initial values a document moves from the one that was told to the one that comes, and another changes twice.
#[tokio::test]
async fn what_moves_while_initial_values_are_read_is_told_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = MetaServer::start_ephemeral(dir.path()).await.expect("a server");
    let mut wire = Wire::connect(server.local_addr()).await;
    wire.value(json!([60, [[14, ["test"]], "t"]])).await;
    wire.value(json!([75, [table(), "n"]])).await;
    let rows: Vec<Value> = (0..3000).map(|i| json!({"id": i, "n": i, "pad": "x".repeat(300)})).collect();
    wire.value(json!([56, [table(), [2, rows]]])).await;
    let all = json!([182, [table(), 0, 9000], {"index": "n"}]);
    for options in [json!({"include_initial": true}), json!({"include_initial": true, "squash": true})] {
        let mut follower = Wire::connect(server.local_addr()).await;
        let token = follower.send(&json!([1, [152, [all.clone()], options], {}])).await;
        let mut known = BTreeMap::new();
        let (_, first) = follower.receive().await.expect("the first of them");
        first["r"].as_array().expect("changes").iter().for_each(|change| apply(&mut known, change));
        assert!((1..2500).contains(&known.len()), "{} came at once", known.len());
        for n in [2900, 2901] {
            wire.value(json!([53, [[16, [table(), 0]], {"n": n}]])).await;
            wire.value(json!([53, [[16, [table(), 2950]], {"pad": n}]])).await;
        }
        wire.value(json!([56, [table(), {"id": "end", "n": 8000}]])).await;
        while known.remove("\"end\"").is_none() {
            follower.send_on(token, &json!([2])).await;
            let (_, answer) = follower.receive().await.expect("more");
            answer["r"].as_array().expect("changes").iter().for_each(|change| apply(&mut known, change));
        }
        assert_eq!(known.len(), 3000);
        assert_eq!((&known["0"]["n"], &known["2950"]["pad"]), (&json!(2901), &json!(2901)));
        wire.value(json!([54, [[16, [table(), "end"]]]])).await;
        wire.value(json!([53, [[16, [table(), 0]], {"n": 0}]])).await;
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_feed_that_is_not_read_says_what_it_lost_and_a_dropped_table_ends_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = MetaServer::start_ephemeral(dir.path()).await.expect("a server");
    let mut wire = Wire::connect(server.local_addr()).await;
    wire.value(json!([60, [[14, ["test"]], "t"]])).await;
    let mut reader = Wire::connect(server.local_addr()).await;
    let token = reader.send(&json!([1, [152, [table()], {"changefeed_queue_size": 10}], {}])).await;
    assert_eq!(reader.receive().await.expect("an opening").1["r"], json!([]));
    let rows: Vec<Value> = (0..25).map(|i| json!({"id": i})).collect();
    wire.value(json!([56, [table(), [2, rows]]])).await;
    reader.send_on(token, &json!([2])).await;
    let (_, answer) = reader.receive().await.expect("what is left");
    let told = answer["r"].as_array().expect("changes");
    assert!(told[0]["error"].as_str().is_some_and(|error| error.contains("skipped 22 elements")), "{answer}");
    assert_eq!(told.len(), 4);
    reader.send_on(token, &json!([2])).await;
    wire.value(json!([61, [[14, ["test"]], "t"]])).await;
    let (_, answer) = reader.receive().await.expect("the end");
    assert_eq!((answer["t"].clone(), answer["e"].clone()), (json!(18), json!(4_100_000)), "{answer}");
    server.shutdown().await;
}
