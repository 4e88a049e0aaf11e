//! What a real RethinkDB's changefeeds told, held against this server's.

mod wire;

use serde_json::{Value, json};
use trough_meta::MetaServer;
use wire::{Wire, agrees, recorded};

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

#[tokio::test]
async fn every_recorded_feed_agrees() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = MetaServer::start_ephemeral(dir.path()).await.expect("a server");
    let mut writer = Wire::connect(server.local_addr()).await;
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
        let mut reader = Wire::connect(server.local_addr()).await;
        let token = reader.send(&feed["feed"]).await;
        let ordered = name == "limit";
        for wanted in feed["opening"].as_array().expect("an opening") {
            let (_, got) = reader.receive().await.expect("an opening");
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
    server.shutdown().await;
}
