//! What a daemon says about itself: alive, ready, its metrics, its status.

use std::sync::Arc;

use axum::{
    Router,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures::future::BoxFuture;
use parking_lot::RwLock;
use trough_config::{Role, Settings};

use crate::{
    auth::{Auth, RequireRole, Rule},
    metrics::recorder,
    respond::{json_bytes, plain},
};

/// Makes the document of `/status`.
pub type StatusFn = Arc<dyn Fn() -> BoxFuture<'static, serde_json::Value> + Send + Sync>;

/// Sets the gauges before `/metrics` is rendered; may take a few milliseconds.
pub type CollectFn = Arc<dyn Fn() + Send + Sync>;

/// Whether the daemon serves; shared by its parts.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<RwLock<Result<(), String>>>);

impl Readiness {
    /// From now on `/readyz` says yes.
    pub fn set_ready(&self) {
        *self.0.write() = Ok(());
    }

    /// From now on `/readyz` says no, and why.
    pub fn set_waiting(&self, why: impl Into<String>) {
        *self.0.write() = Err(why.into());
    }

    /// What `/readyz` says.
    pub fn get(&self) -> Result<(), String> {
        self.0.read().clone()
    }
}

/// One daemon: its tokens, readiness, metrics and status.
#[derive(Clone)]
pub struct Daemon {
    auth: Auth,
    readiness: Readiness,
    status: StatusFn,
    collect: CollectFn,
}

impl Daemon {
    /// A daemon that is not ready yet.
    pub fn new(settings: &Settings, status: StatusFn) -> Self {
        let readiness = Readiness(Arc::new(RwLock::new(Err("starting".to_owned()))));
        recorder();
        Self { auth: Auth::new(settings), readiness, status, collect: Arc::new(|| {}) }
    }

    /// Has `collect` called before each scrape.
    pub fn with_gauges(self, collect: CollectFn) -> Self {
        Self { collect, ..self }
    }

    /// Its readiness, to be set by whoever knows.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The layer that lets only requests with `role` through: `router.route_layer(daemon.require(Role::Write))`. Tokens for some
    /// segments only are refused: what such a route does is about all of them.
    pub fn require(&self, role: Role) -> RequireRole {
        RequireRole { auth: self.auth.clone(), rule: Rule { role, whole: true } }
    }

    /// The same for routes that ask [`Caller`](crate::Caller) about each segment, or that are about none.
    pub fn require_per_segment(&self, role: Role) -> RequireRole {
        RequireRole { auth: self.auth.clone(), rule: Rule { role, whole: false } }
    }

    /// `/livez` and `/readyz` for everybody, `/metrics` and `/status` for the role read over all segments.
    pub fn common_routes(&self) -> Router {
        let readiness = self.readiness.clone();
        let (collect, ready) = (self.collect.clone(), self.readiness.clone());
        let status = self.status.clone();
        let open = Router::new().route("/livez", get(|| async { plain(StatusCode::OK, "alive\n") })).route(
            "/readyz",
            get(move || {
                let answer = match readiness.get() {
                    Ok(()) => plain(StatusCode::OK, "ready\n"),
                    Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
                };
                std::future::ready(answer)
            }),
        );
        let guarded = Router::new()
            .route(
                "/metrics",
                get(move || {
                    let (collect, ready) = (collect.clone(), ready.clone());
                    metrics_answer(move || {
                        collect();
                        metrics::gauge!("trough_ready").set(if ready.get().is_ok() { 1.0 } else { 0.0 });
                        recorder().render()
                    })
                }),
            )
            .route("/status", get(move || status_answer(status.clone())))
            .route_layer(self.require(Role::Read));
        open.merge(guarded)
    }
}

async fn metrics_answer(render: impl FnOnce() -> String + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(render).await {
        Ok(text) => ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(e) => crate::respond::server_error(e),
    }
}

async fn status_answer(status: StatusFn) -> Response {
    let document = status().await;
    match serde_json::to_vec_pretty(&document) {
        Ok(mut json) => {
            json.push(b'\n');
            json_bytes(StatusCode::OK, json)
        }
        Err(e) => crate::respond::server_error(e),
    }
}
