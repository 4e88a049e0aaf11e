//! What a real RethinkDB's changefeeds told, held against this server's; with RETHINKDB_URL set also against a real one's.

mod wire;

use serde_json::{Value, json};
use trough_meta::MetaServer;
use wire::{Wire, agrees, real_server, recorded};

/// Initial values in one order: the server's own is not promised.
fn sorted_initial(mut answer: Value, ordered: bool) -> Value {
    if let (false, Some(values)) = (ordered, answer["r"].as_array_mut()) {
        let initial = |value: &Value| value.get("new_val").is_some() && value.get("old_val").is_none();
        let places: Vec<usize> = (0..values.len()).filter(|at| initial(&values[*at])).collect();
        let mut docs: Vec<Value> = places.iter().map(|at| values[*at].clone()).collect();
        docs.sort_by_key(ToString::to_string);
        for (place, doc) in places.into_iter().zip(docs) {
            values[place] = doc;
        }
    }
    answer
}

async fn hold_against(address: &str) {
    let mut writer = Wire::connect(address).await;
    // What a run that failed may have left.
    writer.run(&json!([1, [58, ["tf"]], {}])).await;
    writer.value(json!([57, ["tf"]])).await;
    writer.value(json!([60, [[14, ["tf"]], "a"]])).await;
    writer.value(json!([75, [[15, [[14, ["tf"]], "a"]], "n"]])).await;
    writer.value(json!([140, [[15, [[14, ["tf"]], "a"]]]])).await;
    let feeds = recorded("feeds.jsonl");
    assert_eq!(feeds.len(), 20);
    for feed in feeds {
        let name = feed["name"].as_str().expect("a name").to_owned();
        for term in feed["setup"].as_array().expect("setup") {
            writer.value(term.clone()).await;
        }
        let mut reader = Wire::connect(address).await;
        let token = reader.send(&feed["feed"]).await;
        let ordered = name == "limit";
        for wanted in feed["opening"].as_array().expect("an opening") {
            let (_, mut got) = reader.receive().await.expect("an opening");
            // A busy server may begin with an empty batch.
            while got["t"] == 3 && got["r"] == json!([]) && wanted["r"] != json!([]) {
                reader.send_on(token, &json!([2])).await;
                got = reader.receive().await.expect("an opening").1;
            }
            let (wanted, got) = (sorted_initial(wanted.clone(), ordered), sorted_initial(got, ordered));
            assert!(agrees(&wanted, &got), "{name}: opening\n  wanted {wanted}\n  got    {got}");
            if got["t"] == 3 {
                reader.send_on(token, &json!([2])).await;
            }
        }
        for step in feed["steps"].as_array().expect("steps") {
            writer.value(step["write"].clone()).await;
            let answers = step["answers"].as_array().expect("answers");
            for wanted in answers {
                let (_, got) = reader.receive().await.expect("a change");
                assert!(agrees(wanted, &got), "{name}: {}\n  wanted {wanted}\n  got    {got}", step["write"]);
                reader.send_on(token, &json!([2])).await;
            }
            // Where the recorded feed said nothing, a word of ours would come before the next and differ from it.
        }
        if !feed["steps"].as_array().expect("steps").is_empty() {
            reader.send_on(token, &json!([3])).await;
            for wanted in feed["after_stop"].as_array().expect("an end") {
                let (_, got) = reader.receive().await.expect("an end");
                assert!(agrees(wanted, &got), "{name}: after stop\n  wanted {wanted}\n  got    {got}");
            }
        }
    }
    writer.value(json!([58, ["tf"]])).await;
}

#[tokio::test]
async fn every_recorded_feed_agrees() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = MetaServer::start_ephemeral(dir.path()).await.expect("a server");
    hold_against(&server.local_addr().to_string()).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_real_rethinkdb_still_tells_so() {
    if let Some(address) = real_server() {
        hold_against(&address).await;
    }
}
