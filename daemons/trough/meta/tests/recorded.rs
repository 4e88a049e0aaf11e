//! What a real RethinkDB answered to 439 queries, held against this server; with RETHINKDB_URL set also against a real one.

mod wire;

use serde_json::Value;
use trough_meta::MetaServer;
use wire::{Wire, agrees, real_server, recorded};

/// The same, where any failing document's message is right, since the order within a batch is the server's own.
fn case_agrees(wanted: &Value, got: &Value) -> bool {
    let strip = |answers: &Value| {
        let mut answers = answers.clone();
        for answer in answers.as_array_mut().into_iter().flatten() {
            for value in answer["r"].as_array_mut().into_iter().flatten() {
                if let Some(message) = value.get_mut("first_error").filter(|message| message.is_string()) {
                    let kind: String = message.as_str().unwrap_or("").chars().take(20).collect();
                    *message = Value::String(kind);
                }
            }
        }
        answers
    };
    agrees(&strip(wanted), &strip(got))
}

async fn hold_against(address: &str) {
    let mut wire = Wire::connect(address).await;
    let cases = recorded("cases.jsonl");
    assert_eq!(cases.len(), 439);
    let mut failures = Vec::new();
    for case in cases {
        let got = Value::Array(wire.run(&case["query"]).await);
        if !case_agrees(&case["answers"], &got) {
            failures.push(format!(
                "{} | {}\n  query  {}\n  wanted {}\n  got    {got}",
                case["group"], case["name"], case["query"], case["answers"]
            ));
        }
    }
    assert!(failures.is_empty(), "{address}: {} differ:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test]
async fn every_recorded_answer_agrees() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = MetaServer::start_ephemeral(dir.path()).await.expect("a server");
    hold_against(&server.local_addr().to_string()).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_real_rethinkdb_still_answers_so() {
    if let Some(address) = real_server() {
        hold_against(&address).await;
    }
}
