//! One daemon on a free port: health, roles, a port in use.

use std::{sync::Arc, time::Duration};

use axum::{Router, routing::post};
use tokio_util::sync::CancellationToken;
use trough_config::{Role, Settings};

use crate::{Bound, Daemon, peer_client, server_error};

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
async fn a_port_in_use_is_named() {
    let settings = settings("");
    let first = Bound::bind(&settings, "READ_PORT", 0).expect("bind");
    let port = first.addr().port();
    let error = Bound::bind(&settings, "READ_PORT", port).expect_err("in use").to_string();
    assert!(error.contains(&format!("READ_PORT {port}")) && error.contains("in use"), "{error}");
}
