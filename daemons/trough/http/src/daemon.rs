//! What a daemon says about itself: alive, ready, its metrics, its status.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trough_config::{Role, Settings};

use crate::{
    auth::{Auth, RequireRole, Rule},
    metrics::recorder,
    respond::{json_bytes, plain},
    supervise::supervise,
    vitals::Vitals,
};

/// Makes the document of `/status`.
pub type StatusFn = Arc<dyn Fn() -> BoxFuture<'static, serde_json::Value> + Send + Sync>;

/// Sets the gauges before `/metrics` is rendered; may take a few milliseconds.
pub type CollectFn = Arc<dyn Fn() + Send + Sync>;

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
    collect: CollectFn,
}

impl Daemon {
    /// A daemon that is not ready yet.
    pub fn new(settings: &Settings, status: StatusFn) -> Self {
        recorder();
        Self {
            auth: Auth::new(settings),
            readiness: Readiness::default(),
            vitals: Vitals::default(),
            status,
            collect: Arc::new(|| {}),
        }
    }

    /// Has `collect` called before each scrape.
    pub fn with_gauges(self, collect: CollectFn) -> Self {
        Self { collect, ..self }
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

    /// The layer that lets only requests with `role` through: `router.route_layer(daemon.require(Role::Write))`. Tokens for some
    /// segments only are refused: what such a route does is about all of them.
    pub fn require(&self, role: Role) -> RequireRole {
        RequireRole { auth: self.auth.clone(), rule: Rule { role, whole: true } }
    }

    /// The same for routes that ask [`Caller`](crate::Caller) about each segment, or that are about none.
    pub fn require_per_segment(&self, role: Role) -> RequireRole {
        RequireRole { auth: self.auth.clone(), rule: Rule { role, whole: false } }
    }

    /// `/livez` and `/readyz` for everybody, and `/v1/whoami`: the role of the request's token, and that of a request without one;
    /// `/metrics` and `/status` for the role read over all segments.
    pub fn common_routes(&self) -> Router {
        let readiness = self.readiness.clone();
        let (collect, gauged) = (self.collect.clone(), self.readiness.clone());
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
        let auth = self.auth.clone();
        let open = Router::new()
            .route("/livez", get(alive))
            .route("/readyz", get(ready))
            .route("/v1/whoami", get(async move |headers: HeaderMap| auth.whoami(&headers)));
        let guarded = Router::new()
            .route(
                "/metrics",
                get(move || {
                    let (collect, gauged) = (collect.clone(), gauged.clone());
                    metrics_answer(move || {
                        collect();
                        metrics::gauge!("trough_ready").set(if gauged.get().is_ok() { 1.0 } else { 0.0 });
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
