//! What a daemon says about itself: alive, ready, its metrics, its status.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures::future::BoxFuture;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parking_lot::RwLock;
use trough_config::{Role, Settings};

use crate::{
    auth::{Auth, RequireRole},
    respond::{json_bytes, plain},
};

/// Makes the document of `/status`.
pub type StatusFn = Arc<dyn Fn() -> BoxFuture<'static, serde_json::Value> + Send + Sync>;

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
    metrics: PrometheusHandle,
}

/// The recorder is the process's: parts in one process (`trough dev`'s tests) share it.
fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("another metrics recorder is installed, /metrics stays empty");
            }
            handle
        })
        .clone()
}

impl Daemon {
    /// A daemon that is not ready yet.
    pub fn new(settings: &Settings, status: StatusFn) -> Self {
        let readiness = Readiness(Arc::new(RwLock::new(Err("starting".to_owned()))));
        Self { auth: Auth::new(settings), readiness, status, metrics: recorder() }
    }

    /// Its readiness, to be set by whoever knows.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The layer that lets only requests with `role` through: `router.route_layer(daemon.require(Role::Write))`.
    pub fn require(&self, role: Role) -> RequireRole {
        RequireRole { auth: self.auth.clone(), role }
    }

    /// `/v1/whoami` for everybody: the role of the request's token, and that of a request without one.
    pub fn whoami(&self) -> Router {
        let auth = self.auth.clone();
        Router::new().route("/v1/whoami", get(async move |headers: HeaderMap| auth.whoami(&headers)))
    }

    /// `/livez` and `/readyz` for everybody, `/metrics` and `/status` for the role read.
    pub fn common_routes(&self) -> Router {
        let readiness = self.readiness.clone();
        let metrics = self.metrics.clone();
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
                    metrics.run_upkeep();
                    let text = metrics.render();
                    async move { ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], text).into_response() }
                }),
            )
            .route("/status", get(move || status_answer(status.clone())))
            .route_layer(self.require(Role::Read));
        open.merge(guarded)
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
