//! Sync servers against a real metadata server and a directory store; the workers are invented.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::HashMap;

use serde_json::{Value as Json, json};
use support::{Cluster, until};
use trough_core::{NodeId, records::ROLE_READ};

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_is_master_and_the_other_follows_it() {
    let cluster = Cluster::start().await;
    let (a, b) = (cluster.sync("a", "").await, cluster.sync("b", "").await);
    until("both know the master", async || a.knows_master() && b.knows_master()).await;
    until("one is master", async || a.is_master() != b.is_master()).await;
    let (master, follower) = if a.is_master() { (a, b) } else { (b, a) };
    let epoch = master.epoch().unwrap();
    assert_eq!(cluster.catalog.current_epoch().await.unwrap(), epoch);

    // The follower passes on what only the master may answer.
    let client = reqwest::Client::new();
    let answer: Json = client.get(follower.url("/v1/cluster")).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["standing"], "master", "{answer}");

    // In order: it resigns, and the follower need not wait for the end of the ttl.
    master.stop().await;
    until("the follower takes over", async || follower.is_master()).await;
    assert!(follower.epoch().unwrap() > epoch);
    follower.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_masters_tenure_ends_first_and_without_metadata_nobody_is_master() {
    let cluster = Cluster::start().await;
    let dead = trough_client::catalog::Candidate {
        holder: "killed".into(),
        node: NodeId::new("killed").unwrap(),
        url: "http://127.0.0.1:1/".into(),
        port: 1,
        ttl: 2.0,
        load: 0.0,
        host: "killed".into(),
    };
    assert!(cluster.catalog.elect(&dead).await.unwrap().mine);
    let began = std::time::Instant::now();
    let sync = cluster.sync("a", "").await;
    until("it knows the master", async || sync.knows_master()).await;
    assert!(!sync.is_master());
    until("it is master", async || sync.is_master()).await;
    assert!(began.elapsed().as_secs_f64() >= 1.9, "a living mastership was stolen");

    // It cannot renew: by its own clock it is master no longer than half a ttl, whatever the metadata may say later.
    let term = sync.server.standing().borrow().term().cloned().unwrap();
    cluster.meta.shutdown().await;
    until("its term ends", async || !term.is_valid()).await;
    assert!(!sync.is_master());
    sync.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_master_commits_nothing() {
    let cluster = Cluster::start().await;
    for node in ["w1", "w2"] {
        cluster.heartbeat(node, |_| {}).await;
    }
    cluster.canonical("first", 100);
    let sync = cluster.sync("a", "").await;
    until("the first segment is assigned", async || cluster.assignments().await.len() == 2).await;
    let epoch = sync.epoch().unwrap();
    let term = sync.server.standing().borrow().term().cloned().unwrap();

    // Another master has been at work with a newer epoch, whatever the election's row says.
    let newer = json!({"id": "epoch", "epoch": epoch + 7, "holder": "another"});
    let put = trough_reql::r::table("trough").insert(trough_reql::r::expr(newer)).conflict("replace");
    cluster.catalog.client().write(&put).await.unwrap();
    cluster.canonical("second", 100);
    until("the old term ends", async || !term.is_valid()).await;
    assert!(cluster.assignments().await.iter().all(|a| a.segment.as_str() == "first" || a.epoch > epoch + 7));

    // It may be elected again, with a newer epoch, and then finishes the work.
    until("the second segment is assigned", async || cluster.assignments().await.len() == 4).await;
    assert!(cluster.assignments().await.iter().any(|a| a.epoch > epoch + 7));
    sync.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_assigned_moved_and_kept() {
    let cluster = Cluster::start().await;
    for node in ["w1", "w2", "w3"] {
        cluster.heartbeat(node, |_| {}).await;
    }
    for i in 0..300 {
        cluster.canonical(&format!("seg{i:04}"), 1000);
    }
    let settings = cluster.settings("planner", "");
    let plan = trough_sync::plan_only(settings.clone()).await.unwrap();
    assert!(plan.contains("300 segments") && plan.contains("would add 600 copies"), "{plan}");
    assert!(cluster.assignments().await.is_empty(), "planning changes nothing");

    let sync = cluster.sync("a", "MOVE_GRACE: 1").await;
    until("all are assigned twice", async || cluster.assignments().await.len() == 600).await;
    let count = |rows: &[trough_core::records::Assignment]| {
        rows.iter().fold(HashMap::<NodeId, usize>::new(), |mut count, row| {
            *count.entry(row.node.clone()).or_default() += 1;
            count
        })
    };
    let held = count(&cluster.assignments().await);
    assert!(held.values().all(|n| (180..=220).contains(n)), "{held:?}");
    let generation = cluster.catalog.generation().await.unwrap().generation;
    assert!(generation >= 1);
    cluster.serve_all().await;
    until("nothing is left to do", async || {
        trough_sync::plan_only(settings.clone()).await.unwrap().contains("0 under-replicated, 0 without")
    })
    .await;

    // Draining: copies are added first, and dropped only where the new ones are served.
    let client = reqwest::Client::new();
    let drain = json!({"node": "w2", "drain": true});
    assert!(client.post(sync.url("/v1/drain")).json(&drain).send().await.unwrap().status().is_success());
    until("its copies are assigned elsewhere", async || {
        count(&cluster.assignments().await).iter().filter(|(n, _)| n.as_str() != "w2").all(|(_, c)| *c == 300)
    })
    .await;
    let w2 = NodeId::new("w2").unwrap();
    assert_eq!(count(&cluster.assignments().await)[&w2], held[&w2], "not dropped before the others serve");
    cluster.serve_all().await;
    until("it is empty", async || !count(&cluster.assignments().await).contains_key(&w2)).await;

    // A worker dies: its service rows go, its copies are re-created on those that are left.
    let drain = json!({"node": "w2", "drain": false});
    assert!(client.post(sync.url("/v1/drain")).json(&drain).send().await.unwrap().status().is_success());
    cluster.heartbeat("w3", |s| s.ttl = 0.1).await;
    let w3 = NodeId::new("w3").unwrap();
    until("its rows are gone", async || {
        let services = cluster.catalog.stream_read_services(None).await.unwrap();
        use futures::StreamExt as _;
        services.all(|row| std::future::ready(row.unwrap().node.as_ref() != Some(&w3))).await
    })
    .await;
    until("its copies are assigned to w2", async || {
        count(&cluster.assignments().await).get(&w2).is_some_and(|n| *n >= 300)
    })
    .await;
    cluster.serve_all().await;
    cluster.catalog.delete_node_services(&w3).await.unwrap();
    until("it has no assignment and is forgotten", async || {
        !count(&cluster.assignments().await).contains_key(&w3) && cluster.catalog.node(&w3).await.unwrap().is_none()
    })
    .await;
    let forgotten = sync.server.context().view.read().at;
    until("more rounds", async || sync.server.context().view.read().at > forgotten + 1.5).await;
    assert!(!count(&cluster.assignments().await).contains_key(&w3), "nothing is given to one that is forgotten");

    // A canonical file that vanishes takes nothing with it.
    std::fs::remove_file(cluster.store().join("seg0/seg0007.sqlite")).unwrap();
    until("it is told", async || {
        let answer: Json = client.get(sync.url("/v1/cluster")).send().await.unwrap().json().await.unwrap();
        answer["cluster"]["missing"] == json!(["seg0007"])
    })
    .await;
    assert_eq!(cluster.assignments().await.iter().filter(|a| a.segment.as_str() == "seg0007").count(), 2);
    sync.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_segment_is_assigned_at_once() {
    let cluster = Cluster::start().await;
    for node in ["w1", "w2"] {
        cluster.heartbeat(node, |_| {}).await;
    }
    // The next listing is far away: only the lock tells.
    let sync = cluster.sync("a", "SYNC_LOOP_TIMING: 3600").await;
    until("the first round is done", async || {
        sync.server.context().view.read().epoch > 0 && sync.server.context().locks.read().complete
    })
    .await;
    let segment = trough_core::SegmentId::new("fresh").unwrap();
    let node = NodeId::new("w1").unwrap();
    let locks = cluster.catalog.acquire_locks(std::slice::from_ref(&segment), &node, "holder", 1).await.unwrap();
    assert!(cluster.catalog.set_under_promotion(locks[0].lock(), true).await.unwrap());
    cluster.canonical("fresh", 4096);
    cluster.catalog.record_canonical(&segment, 4096, 1, Some("not this file's time")).await.unwrap();
    assert!(cluster.catalog.set_under_promotion(locks[0].lock(), false).await.unwrap());
    until("it is assigned", async || cluster.assignments().await.len() == 2).await;
    let rows = cluster.assignments().await;
    assert!(rows.iter().all(|r| r.bytes == 4096 && r.mtime_ms.is_some() && r.sha256.is_none()), "{rows:?}");
    assert!(cluster.catalog.canonical_of_segments(&[segment]).await.unwrap().is_empty());
    sync.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_page_and_refusals() {
    let cluster = Cluster::start().await;
    let sync = cluster.sync("a", "COLD_STORE_SEGMENT: segment_id.startsWith('old')").await;
    until("it is master", async || sync.is_master()).await;
    let client = reqwest::Client::new();
    let get = |path: &str| client.get(sync.url(path)).send();

    let page = client.get(sync.url("/")).header("accept", "text/html,*/*;q=0.8").send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("<title>trough</title>"));
    assert_eq!(get("/").await.unwrap().status(), 405);
    assert_eq!(get("/provision").await.unwrap().status(), 405);
    assert_eq!(get("/nope").await.unwrap().status(), 404);

    let put = client.put(sync.url("/schema/s1/sql")).body("create table t (id integer primary key, b text not null)");
    assert_eq!(put.send().await.unwrap().status(), 201);
    let described: Json = get("/v1/schema/s1/describe").await.unwrap().json().await.unwrap();
    assert_eq!(described["tables"][0]["columns"][1]["name"], "b", "{described}");
    assert_eq!(get("/v1/schema/nosuch/describe").await.unwrap().status(), 404);

    let provision = |body: Json| client.post(sync.url("/provision")).json(&body).send();
    assert_eq!(provision(json!({"segment": "old1"})).await.unwrap().status(), 400, "cold");
    assert_eq!(provision(json!({"segment": "new1"})).await.unwrap().status(), 500, "no worker");
    assert_eq!(provision(json!({"segment": "../x"})).await.unwrap().status(), 400);
    assert_eq!(provision(json!({"segment": "new1", "schema": "nosuch"})).await.unwrap().status(), 400);
    let many = json!({"segments": ["old1", "a/b", "new1"]});
    let answer: Json = client.post(sync.url("/v1/provision")).json(&many).send().await.unwrap().json().await.unwrap();
    let codes: Vec<_> = answer["results"].as_array().unwrap().iter().map(|r| r["error"]["code"].clone()).collect();
    assert_eq!(codes, ["forbidden", "bad_request", "unavailable"], "{answer}");

    let lines = client.post(sync.url("/v1/promote")).json(&json!({"segments": ["never"]})).send().await.unwrap();
    let line: Json = serde_json::from_str(&lines.text().await.unwrap()).unwrap();
    assert_eq!(line["error"]["code"], "not_writable");
    let delete = |path: &str| client.delete(sync.url(path)).send();
    assert_eq!(delete("/segment/never").await.unwrap().status(), 404);
    assert_eq!(delete("/v1/segment/never").await.unwrap().status(), 404);
    sync.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shredding_leaves_nothing_and_nothing_comes_back() {
    let cluster = Cluster::start().await;
    for node in ["w1", "w2"] {
        cluster.heartbeat(node, |_| {}).await;
    }
    let segment = cluster.canonical("gone", 100);
    cluster.canonical("stays", 100);
    let sync = cluster.sync("a", "").await;
    until("both are assigned", async || cluster.assignments().await.len() == 4).await;
    cluster.serve_all().await;
    // The invented workers cannot be asked: cold ones need not be.
    for node in ["w1", "w2"] {
        cluster.heartbeat(node, |s| s.cold_storage = Some(true)).await;
    }
    sync.server.context().forget_nodes().await;
    let client = reqwest::Client::new();
    let answer = client.delete(sync.url("/v1/segment/gone")).send().await.unwrap();
    let status = answer.status();
    let report: Json = answer.json().await.unwrap();
    assert_eq!(status, 200, "{report}");
    assert!(report["steps"].as_array().unwrap().len() >= 5, "{report}");
    assert!(!cluster.store().join(segment.store_path()).exists());
    for node in ["w1", "w2"] {
        cluster.heartbeat(node, |_| {}).await;
    }
    let rounds = sync.server.context().view.read().at;
    until("two more listings", async || sync.server.context().view.read().at > rounds + 1.2).await;
    assert!(cluster.assignments().await.iter().all(|a| a.segment != segment));
    let services = cluster.catalog.services_of_segment(&segment).await.unwrap();
    assert!(services.iter().all(|s| s.service.role.as_deref() != Some(ROLE_READ)));
    sync.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_decide_who_may_do_what() {
    let cluster = Cluster::start().await;
    let tokens = "TOKENS: [{token: reader, role: read}, {token: writer, role: write}, {token: boss, role: admin}]";
    let sync = cluster.sync("a", tokens).await;
    until("it is master", async || sync.is_master()).await;
    let client = reqwest::Client::new();
    let ask = async |method: reqwest::Method, path: &str, token: &str| {
        let request = client.request(method, sync.url(path)).header("accept", "text/html").body("{}");
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        request.send().await.unwrap().status().as_u16()
    };
    use reqwest::Method;
    assert_eq!(ask(Method::GET, "/", "").await, 200, "the page itself holds nothing");
    until("it is ready", async || ask(Method::GET, "/readyz", "").await == 200).await;
    assert_eq!(ask(Method::GET, "/v1/cluster", "").await, 401);
    assert_eq!(ask(Method::GET, "/v1/cluster", "reader").await, 200);
    assert_eq!(ask(Method::POST, "/v1/provision", "reader").await, 403);
    assert_eq!(ask(Method::POST, "/v1/provision", "writer").await, 400, "allowed, but the body is none");
    assert_eq!(ask(Method::POST, "/v1/drain", "writer").await, 403);
    assert_eq!(ask(Method::PUT, "/schema/s", "writer").await, 403);
    assert_eq!(ask(Method::DELETE, "/segment/never", "boss").await, 404);
    sync.stop().await;
}
