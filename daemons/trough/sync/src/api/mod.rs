//! The sync server's HTTP surface: the Python trough's segment manager, `/v1/…`, and the status page.
//!
//! Schemas are answered by any sync server; what decides about segments, by the master, to whom the others pass it on.

mod activity;
mod answer;
mod assets;
mod backup;
mod console;
mod controls;
mod describe;
mod drain;
mod etag;
mod info;
mod plan;
mod problems;
mod promote;
mod provision;
mod proxy;
mod schema;
mod scrub;
mod scrub_store;
mod shred;
mod story;

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{delete, get, post, put},
};
use tower_http::compression::CompressionLayer;
use trough_client::QueryClient;
use trough_config::Role;
use trough_engine::Engine;
use trough_http::{Daemon, Rate, events};

pub(crate) use info::document;

use crate::{context::Context, reports::Reports};

/// What the handlers share.
pub(crate) struct Api {
    pub(crate) context: Arc<Context>,
    /// Checks and describes schemas; opens no segment.
    pub(crate) engine: Engine,
    pub(crate) queries: QueryClient,
    /// Passes requests on to the master, with the client's token and none of ours.
    pub(crate) passing: reqwest::Client,
    /// Bounds the lines about slow queries of the console.
    pub(crate) slow: Rate,
    /// What the workers say of themselves.
    pub(crate) reports: Reports,
    /// Our own base URL, so that nothing is passed on to ourselves.
    pub(crate) own_url: String,
}

/// All routes.
pub(crate) fn router(api: Arc<Api>, daemon: &Daemon) -> Router {
    let passed_on = middleware::from_fn_with_state(api.clone(), proxy::to_master);
    let write = Router::new()
        .route("/", post(provision::old_style))
        .route("/provision", post(provision::one))
        .route("/promote", post(promote::one))
        .route("/v1/provision", post(provision::batch))
        .route("/v1/promote", post(promote::batch))
        .route_layer(passed_on.clone())
        .route_layer(daemon.require_per_segment(Role::Write));
    let admin = Router::new()
        .route("/segment/{id}", delete(shred::old_style))
        .route("/v1/segment/{id}", delete(shred::with_steps))
        .route_layer(passed_on.clone())
        .route_layer(daemon.require_per_segment(Role::Admin));
    let nodes = Router::new()
        .route("/v1/drain", post(drain::drain))
        .route("/v1/pause", post(controls::pause))
        .route("/v1/resume", post(controls::resume))
        .route("/v1/throttle", post(controls::throttle))
        .route("/v1/scrub", post(scrub::scrub))
        .route("/v1/plan", get(plan::make).post(plan::apply))
        .route("/v1/backup", get(backup::backup))
        .route_layer(passed_on.clone())
        .route_layer(daemon.require(Role::Admin));
    let schemas_admin = Router::new()
        .route("/schema/{id}", put(schema::put_json))
        .route("/schema/{id}/sql", put(schema::put_sql))
        .route_layer(daemon.require(Role::Admin));
    let schemas = Router::new()
        .route("/schema", get(schema::list))
        .route("/schema/{id}", get(schema::get_json))
        .route("/schema/{id}/sql", get(schema::get_sql))
        .route("/v1/schema/{id}/describe", get(describe::describe))
        .route_layer(daemon.require_per_segment(Role::Read));
    let whole = Router::new()
        .route("/v1/cluster", get(info::cluster))
        .route("/v1/controls", get(controls::get))
        .route("/v1/copies", get(activity::copies))
        .route("/v1/problems", get(problems::list))
        .route_layer(passed_on.clone())
        .route_layer(middleware::from_fn(etag::etag))
        .route_layer(CompressionLayer::new())
        .route_layer(daemon.require(Role::Read));
    let read = Router::new()
        .route("/v1/locks", get(activity::locks))
        .route("/v1/segments", get(info::segments))
        .route("/v1/segment/{id}", get(story::segment))
        .route("/v1/segment/{id}/events", get(story::events))
        .route("/v1/console", post(console::run))
        .route_layer(passed_on)
        .route_layer(middleware::from_fn(etag::etag))
        .route_layer(CompressionLayer::new())
        .route_layer(daemon.require_per_segment(Role::Read));
    let page = Router::new()
        .route("/", get(assets::page))
        .route("/assets/{name}", get(assets::asset))
        .route_layer(middleware::from_fn(etag::etag))
        .route_layer(CompressionLayer::new());
    let events = events::routes(api.context.events.clone(), daemon);
    write
        .merge(admin)
        .merge(nodes)
        .merge(schemas_admin)
        .merge(schemas)
        .merge(whole)
        .merge(read)
        .merge(page)
        .with_state(api)
        .merge(events)
        .merge(daemon.common_routes())
}
