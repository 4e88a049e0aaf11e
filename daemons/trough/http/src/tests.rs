//! One daemon on a free port: health, roles, a port in use.

use std::{sync::Arc, time::Duration};

use axum::{Router, routing::post};
use tokio_util::sync::CancellationToken;
use trough_config::{Role, Settings};

use crate::{Bound, Caller, Daemon, current_trace, peer_client, server_error};

fn settings(extra: &str) -> Settings {
    Settings::from_yaml(&format!("LISTEN: 127.0.0.1\nSHUTDOWN_GRACE: 0.2\n{extra}")).expect("valid settings")
}

fn daemon(settings: &Settings) -> Daemon {
    Daemon::new(settings, Arc::new(|| Box::pin(async { serde_json::json!({"part": "test"}) })))
}

#[tokio::test]
async fn health_status_and_metrics() {
    let settings = settings("");
    let daemon = daemon(&settings);
    let shutdown = CancellationToken::new();
    let served = Bound::bind(&settings, "READ_PORT", 0)
        .expect("bind")
        .serve(&settings, daemon.common_routes(), shutdown.clone())
        .expect("serve");
    let base = format!("http://{}", served.addr);
    let client = peer_client(&settings).expect("client");
    let get = async |path: &str| {
        let answer = client.get(format!("{base}{path}")).send().await.expect("answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    assert_eq!(get("/livez").await, (200, "alive\n".to_owned()));
    assert_eq!(get("/readyz").await, (503, "not ready: starting\n".to_owned()));
    daemon.readiness().set_ready();
    assert_eq!(get("/readyz").await.0, 200);
    metrics::counter!("trough_http_test_total").increment(3);
    assert!(get("/metrics").await.1.contains("trough_http_test_total 3"));
    assert!(get("/status").await.1.contains("\"part\": \"test\""));
    assert_eq!(get("/nothing").await.0, 404);
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), served.stopped()).await.expect("stops");
}

#[tokio::test]
async fn roles_are_checked() {
    let settings = settings("TOKENS: [{token: r, role: read}, {token: w, role: write}]\n");
    let daemon = daemon(&settings);
    let router = Router::new()
        .route("/write", post(|| async { server_error("reached") }))
        .route_layer(daemon.require(Role::Write))
        .merge(daemon.common_routes());
    let shutdown = CancellationToken::new();
    let served = Bound::bind(&settings, "WRITE_PORT", 0)
        .expect("bind")
        .serve(&settings, router, shutdown.clone())
        .expect("serve");
    let client = reqwest::Client::new();
    let status = async |token: Option<&str>, path: &str| {
        let mut request = match path {
            "/write" => client.post(format!("http://{}{path}", served.addr)),
            _ => client.get(format!("http://{}{path}", served.addr)),
        };
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.expect("answer").status().as_u16()
    };
    assert_eq!(status(None, "/write").await, 401);
    assert_eq!(status(Some("x"), "/write").await, 401);
    assert_eq!(status(Some("r"), "/write").await, 403);
    assert_eq!(status(Some("w"), "/write").await, 500);
    assert_eq!(status(None, "/status").await, 401);
    assert_eq!(status(Some("r"), "/status").await, 200);
    assert_eq!(status(None, "/livez").await, 200);
    shutdown.cancel();
    served.stopped().await;
}

#[tokio::test]
async fn some_segments_only() {
    let settings = settings(
        "TOKENS: [{token: all, role: write}, {token: some, role: write, name: some, segments: a.*}]\nANONYMOUS: read\n",
    );
    let daemon = daemon(&settings);
    let told =
        |caller: Caller| async move { format!("{} {} {}", caller.name(), caller.allows("a1"), caller.allows("b1")) };
    let each = Router::new().route("/each", post(told)).route_layer(daemon.require_per_segment(Role::Write));
    let open = Router::new().route("/open", post(told)).route_layer(daemon.require_per_segment(Role::Read));
    let whole = Router::new().route("/whole", post(told)).route_layer(daemon.require(Role::Write));
    let unguarded = Router::new().route("/unguarded", post(told));
    let shutdown = CancellationToken::new();
    let served = Bound::bind(&settings, "READ_PORT", 0)
        .expect("bind")
        .serve(&settings, each.merge(open).merge(whole).merge(unguarded), shutdown.clone())
        .expect("serve");
    let client = reqwest::Client::new();
    let ask = async |token: &str, path: &str| {
        let request = client.post(format!("http://{}{path}", served.addr));
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        let answer = request.send().await.expect("answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    assert_eq!(ask("all", "/each").await, (200, "token-1 true true".to_owned()));
    assert_eq!(ask("some", "/each").await, (200, "some true false".to_owned()));
    assert_eq!(ask("all", "/whole").await.0, 200);
    assert_eq!(ask("some", "/whole").await.0, 403);
    // What everybody may do, a token does not take away; but an unknown one is no token.
    assert_eq!(ask("some", "/open").await, (200, "some true true".to_owned()));
    assert_eq!(ask("", "/open").await, (200, "anonymous true true".to_owned()));
    assert_eq!(ask("unknown", "/open").await.0, 401);
    assert_eq!(ask("all", "/unguarded").await.0, 500, "a route without a rule serves nobody");
    shutdown.cancel();
    served.stopped().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let settings = settings("");
    let first = Bound::bind(&settings, "READ_PORT", 0).expect("bind");
    let port = first.addr().port();
    let error = Bound::bind(&settings, "READ_PORT", port).expect_err("in use").to_string();
    assert!(error.contains(&format!("READ_PORT {port}")) && error.contains("in use"), "{error}");
}

#[tokio::test]
async fn requests_are_traced_and_counted() {
    use axum::{body::Body, extract::Path, routing::get};
    use futures::stream;

    let settings = settings("");
    let daemon = daemon(&settings);
    let chunks = || stream::iter([Ok::<_, std::io::Error>(vec![b'x'; 1000]), Ok(vec![b'x'; 24])]);
    let router = Router::new()
        .route("/of/{id}", get(|Path(id): Path<String>| async move { id }))
        .route("/stream", get(move || async move { Body::from_stream(chunks()) }))
        .route("/trace", get(|| async { current_trace().map(|trace| trace.to_string()).unwrap_or_default() }))
        .route("/fails", get(|| async { server_error("as the test wants") }))
        .merge(daemon.common_routes());
    let shutdown = CancellationToken::new();
    // A name of its own, as other tests in this process count, too.
    let served =
        Bound::bind(&settings, "OBSERVED", 0).expect("bind").serve(&settings, router, shutdown.clone()).expect("serve");
    let base = format!("http://{}", served.addr);
    let client = reqwest::Client::new();
    let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let get = async |path: &str| {
        let answer = client.get(format!("{base}{path}")).header("traceparent", sent).send().await.expect("answer");
        assert_eq!(answer.headers()["x-trough-trace"], "4bf92f3577b34da6a3ce929d0e0e4736");
        answer.text().await.expect("text")
    };
    assert_eq!(get("/trace").await, sent);
    for id in 0..20 {
        assert_eq!(get(&format!("/of/{id}")).await, id.to_string());
        get(&format!("/nowhere/{id}")).await;
    }
    assert_eq!(get("/stream").await.len(), 1024);
    get("/fails").await;
    // A request is counted once its last byte is on its way.
    let wanted = [
        "trough_http_requests_total{listener=\"OBSERVED\",route=\"/of/{id}\",method=\"GET\",status=\"2xx\"} 20",
        "trough_http_requests_total{listener=\"OBSERVED\",route=\"other\",method=\"GET\",status=\"4xx\"} 20",
        "trough_http_requests_total{listener=\"OBSERVED\",route=\"/fails\",method=\"GET\",status=\"5xx\"} 1",
        "trough_http_request_duration_seconds_count{listener=\"OBSERVED\",route=\"/of/{id}\",method=\"GET\"} 20",
        "trough_http_response_bytes_total{listener=\"OBSERVED\",route=\"/stream\",method=\"GET\"} 1024",
    ];
    let found = async {
        loop {
            let text = get("/metrics").await;
            if wanted.iter().all(|line| text.lines().any(|l| l == *line)) {
                return text;
            }
        }
    };
    let text = tokio::time::timeout(Duration::from_secs(10), found).await.expect("counted");
    assert!(!text.contains("nowhere/"), "{text}");
    shutdown.cancel();
    served.stopped().await;
}
