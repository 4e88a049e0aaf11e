//! What the status page asks of a sync server: pages of problems and segments, tags, roles, events.

#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use reqwest::{StatusCode, header};
use serde_json::Value as Json;
use support::{Cluster, Sync, until};
use trough_client::catalog::segment_service;
use trough_core::{NodeId, records::ROLE_READ};

async fn get(sync: &Sync, path: &str) -> Json {
    let answer = reqwest::get(sync.url(path)).await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// The segments of all pages, and how many pages there were.
async fn pages(sync: &Sync, path: &str, list: &str) -> (Vec<String>, usize) {
    let (mut found, mut after) = (Vec::new(), None::<String>);
    for count in 1.. {
        let mut url = reqwest::Url::parse(&sync.url(path)).unwrap();
        if let Some(after) = &after {
            url.query_pairs_mut().append_pair("after", after);
        }
        let page: Json = reqwest::get(url).await.unwrap().json().await.unwrap();
        let entries = page[list].as_array().unwrap_or_else(|| panic!("{page}"));
        found.extend(entries.iter().map(|e| e["segment"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return (found, count),
        }
    }
    unreachable!("the last page ends it");
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_come_by_pages_with_reason_and_action() {
    let cluster = Cluster::start().await;
    for node in ["w1", "w2"] {
        cluster.heartbeat(node, |_| {}).await;
    }
    let ids: Vec<String> = (0..25).map(|n| format!("s{n:02}<&>")).collect();
    for id in &ids {
        cluster.canonical(id, 10);
    }
    let sync = cluster.sync("a", "").await;
    until("all are assigned", async || cluster.assignments().await.len() == 50).await;
    until("it is seen", async || get(&sync, "/v1/problems").await["counts"]["under_replicated"] == 25).await;
    assert_eq!(pages(&sync, "/v1/problems?kind=under_replicated&limit=10", "problems").await, (ids.clone(), 3));
    let some = get(&sync, "/v1/problems?kind=under_replicated&matching=%5Es1").await;
    assert_eq!(some["problems"].as_array().unwrap().len(), 10, "{some}");
    assert_eq!(some["problems"][0]["reason"], "no live copy of 2, 2 on the way");
    let health = &get(&sync, "/v1/cluster").await["health"];
    assert_eq!(health["level"], "bad");
    assert_eq!(health["sentence"], "25 segments are not served by any worker.");

    // Served, but one node's copies are of 1970.
    for row in cluster.assignments().await {
        let mut service = segment_service(ROLE_READ, &row.node, &row.segment, "http://127.0.0.1:1/", 1, 0.0);
        service.version_ms = Some(if row.node.as_str() == "w1" { 5_000 } else { row.mtime_ms.unwrap() });
        cluster.catalog.advertise(&[service]).await.unwrap();
    }
    until("all are served", async || get(&sync, "/v1/problems").await["counts"]["under_replicated"] == 0).await;
    assert_eq!(get(&sync, "/v1/cluster").await["cluster"]["stale_count"], 25);
    let (mut stale, count) = pages(&sync, "/v1/problems?kind=stale&limit=20", "problems").await;
    stale.sort();
    assert_eq!((stale, count), (ids.clone(), 2));
    assert_eq!(pages(&sync, "/v1/segments?limit=10", "segments").await, (ids.clone(), 3));
    assert_eq!(pages(&sync, "/v1/segments?limit=10&matching=3", "segments").await.0, ["s03<&>", "s13<&>", "s23<&>"]);

    // A lock counts as a problem when it is old, or when its holder is not there.
    let nobody = NodeId::new("nobody").unwrap();
    let epoch = sync.epoch().unwrap();
    let locked: Vec<_> = ids[..3].iter().map(|id| trough_core::SegmentId::new(id).unwrap()).collect();
    cluster.catalog.acquire_locks(&locked[..2], &NodeId::new("w1").unwrap(), "a", epoch).await.unwrap();
    cluster.catalog.acquire_locks(&locked[2..], &nobody, "b", epoch).await.unwrap();
    until("the locks are known", async || get(&sync, "/v1/locks").await["count"] == 3).await;
    let found = get(&sync, "/v1/problems?kind=locked").await;
    assert_eq!((found["counts"]["locked"].as_u64(), &found["problems"][0]["node"]), (Some(1), &Json::from("nobody")));
    assert_eq!(pages(&sync, "/v1/problems?kind=locked&locked_for=0&limit=1", "problems").await.1, 3);
    assert_eq!(pages(&sync, "/v1/locks?limit=2", "locks").await.0.len(), 3);

    // What the master did is told.
    let told = get(&sync, "/v1/segment/s00%3C%26%3E/events").await;
    let assigned: Vec<&str> = told["events"].as_array().unwrap().iter().map(|e| e["to"].as_str().unwrap()).collect();
    assert!(assigned.contains(&"w1") && assigned.contains(&"w2"), "{told}");
    assert!(get(&sync, "/v1/events?limit=5").await["events"].as_array().unwrap().len() == 5);
    for bad in
        ["/v1/problems?kind=none", "/v1/problems?matching=(", "/v1/problems?kind=stale&after=x", "/v1/locks?after=1"]
    {
        assert_eq!(reqwest::get(sync.url(bad)).await.unwrap().status(), 400, "{bad}");
    }
    sync.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_tags() {
    let cluster = Cluster::start().await;
    let sync = cluster.sync("a", "TOKENS: [{token: reader, role: read}, {token: boss, role: admin}]").await;
    until("it is master", async || sync.is_master()).await;
    let client = reqwest::Client::new();
    let ask = async |path: &str, token: &str, tag: Option<&str>| {
        let request = client.get(sync.url(path)).header(header::ACCEPT, "text/html");
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        tag.map_or_else(
            || request.try_clone().unwrap(),
            |tag| request.try_clone().unwrap().header(header::IF_NONE_MATCH, tag),
        )
        .send()
        .await
        .unwrap()
    };
    let role = async |token: &str| ask("/v1/whoami", token, None).await.json::<Json>().await.unwrap()["role"].clone();
    assert_eq!((role("").await, role("reader").await, role("boss").await), (Json::Null, "read".into(), "admin".into()));
    assert_eq!(ask("/v1/whoami", "nobody's", None).await.status(), StatusCode::UNAUTHORIZED);
    for (path, token) in [("/", ""), ("/assets/main.js", ""), ("/v1/locks", "reader"), ("/v1/problems", "reader")] {
        let answer = ask(path, token, None).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let tag = answer.headers()[header::ETAG].to_str().unwrap().to_owned();
        let again = ask(path, token, Some(&tag)).await;
        assert_eq!(
            (again.status(), again.headers()[header::ETAG].to_str().unwrap()),
            (StatusCode::NOT_MODIFIED, tag.as_str())
        );
        assert!(again.bytes().await.unwrap().is_empty(), "{path}");
        assert_eq!(ask(path, token, Some("W/\"another\"")).await.status(), StatusCode::OK, "{path}");
    }
    // A tag tells nothing to whoever may not read.
    assert_eq!(ask("/v1/locks", "", Some("*")).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/assets/Cargo.toml", "", None).await.status(), StatusCode::NOT_FOUND);
    let plain = client.get(sync.url("/")).send().await.unwrap();
    assert_eq!(
        (plain.status(), &plain.headers()[header::ALLOW]),
        (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap())
    );
    sync.stop().await;
}
