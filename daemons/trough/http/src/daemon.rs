//! What a daemon says about itself: alive, ready, its metrics, its status.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures::future::BoxFuture;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trough_config::{Role, Settings};

use crate::{
    auth::{Auth, RequireRole},
    respond::{json_bytes, plain},
    supervise::supervise,
    vitals::Vitals,
};

/// Makes the document of `/status`.
pub type StatusFn = Arc<dyn Fn() -> BoxFuture<'static, serde_json::Value> + Send + Sync>;

/// Whether the daemon serves; shared by its parts.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<Result<(), String>>>);

impl Default for Readiness {
    /// Not ready yet.
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Err("starting".to_owned()))))
    }
}

impl Readiness {
    /// From now on `/readyz` says yes.
    pub fn set_ready(&self) {
        self.set(Ok(()));
    }

    /// From now on `/readyz` says no, and why.
    pub fn set_waiting(&self, why: impl Into<String>) {
        self.set(Err(why.into()));
    }

    /// What `/readyz` says.
    pub fn get(&self) -> Result<(), String> {
        self.0.borrow().clone()
    }

    /// Follows what `/readyz` says.
    pub fn subscribe(&self) -> watch::Receiver<Result<(), String>> {
        self.0.subscribe()
    }

    fn set(&self, new: Result<(), String>) {
        self.0.send_if_modified(|old| std::mem::replace(old, new.clone()) != new);
    }
}

/// One daemon: its tokens, readiness, metrics and status.
#[derive(Clone)]
pub struct Daemon {
    auth: Auth,
    readiness: Readiness,
    vitals: Vitals,
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
        Self {
            auth: Auth::new(settings),
            readiness: Readiness::default(),
            vitals: Vitals::default(),
            status,
            metrics: recorder(),
        }
    }

    /// Its readiness, to be set by whoever knows.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The loops that it lives by; `/livez` says no when one stands still.
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// Tells the service manager about it, if there is one, until the process ends; see [`supervise`].
    pub fn supervise(&self, shutdown: CancellationToken) {
        supervise(&self.readiness, &self.vitals, shutdown);
    }

    /// The layer that lets only requests with `role` through: `router.route_layer(daemon.require(Role::Write))`.
    pub fn require(&self, role: Role) -> RequireRole {
        RequireRole { auth: self.auth.clone(), role }
    }

    /// `/livez` and `/readyz` for everybody, `/metrics` and `/status` for the role read.
    pub fn common_routes(&self) -> Router {
        let readiness = self.readiness.clone();
        let metrics = self.metrics.clone();
        let status = self.status.clone();
        let vitals = self.vitals.clone();
        let alive = move || {
            std::future::ready(match vitals.stuck() {
                None => plain(StatusCode::OK, "alive\n"),
                Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not alive: {why}\n")),
            })
        };
        let ready = move || {
            std::future::ready(match readiness.get() {
                Ok(()) => plain(StatusCode::OK, "ready\n"),
                Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
            })
        };
        let open = Router::new().route("/livez", get(alive)).route("/readyz", get(ready));
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
