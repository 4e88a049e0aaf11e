//! What the status page and people ask: the cluster, segments by pattern.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use trough_core::{NodeId, SegmentId, protocol::PROTOCOL};
use trough_http::Caller;

use super::{Api, answer, controls};
use crate::{
    health,
    view::{self, ClusterView},
};

/// How long the metadata may take to tell the nodes; without them the workers are as they were last seen.
const NODES_LIMIT: Duration = Duration::from_secs(1);
/// The most segments that one answer lists.
const MAX_LISTED: usize = 1_000;

/// `GET /v1/cluster?named=N`: what the last reconciliation saw, with the workers as they are now. `named`: how many
/// segments the lists name at most.
pub(super) async fn cluster(State(api): State<Arc<Api>>, Query(query): Query<Named>) -> Response {
    let context = &api.context;
    let mut view = (**context.view.read()).clone();
    let named = query.named.unwrap_or(view::NAMED);
    view.needy.truncate(named);
    view.missing.truncate(named);
    let nodes = tokio::time::timeout(NODES_LIMIT, context.nodes()).await;
    let metadata_error = match nodes {
        Ok(Ok(nodes)) => {
            view::refresh(&mut view.workers, &nodes, context.settings.move_grace.as_secs_f64());
            None
        }
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the metadata does not answer".to_owned()),
    };
    let orphans = {
        let away: HashSet<&NodeId> = view.workers.iter().filter(|w| w.presence != "alive").map(|w| &w.node).collect();
        // Whoever is in no worker's line is not known yet, and not known to be away.
        if away.is_empty() { 0 } else { context.locks.read().iter().filter(|l| away.contains(&l.node)).count() }
    };
    let health = health::judge(&view, &view.workers, orphans);
    let mut document = document_of(&api, &view);
    document["health"] = json!(health);
    document["metadata_error"] = json!(metadata_error);
    document["now"] = json!(view::now());
    answer::json(StatusCode::OK, &document)
}

/// The cluster as JSON; also `/status`.
pub(crate) fn document(api: &Api) -> Json {
    let view = api.context.view.read().clone();
    document_of(api, &view)
}

fn document_of(api: &Api, view: &ClusterView) -> Json {
    let context = &api.context;
    let (standing, master) = match &*context.standing.borrow() {
        crate::mastership::Standing::Unknown => ("unknown", None),
        crate::mastership::Standing::Follower(master) => ("follower", Some(master.url.clone())),
        crate::mastership::Standing::Master(_) => ("master", Some(api.own_url.clone())),
    };
    let locks = context.locks.read();
    let promoting = locks.iter().filter(|l| l.under_promotion).count();
    json!({
        "node": context.settings.hostname,
        "version": env!("CARGO_PKG_VERSION"),
        "standing": standing,
        "master": master,
        "store": context.store.url(),
        "listing": context.store.list_stats(),
        "segments_served": context.serving.read().len(),
        "locks": locks.len(),
        "promoting": promoting,
        "protocol": PROTOCOL,
        "controls": controls::document(context),
        "cluster": view,
    })
}

/// How many segments the lists name.
#[derive(Deserialize)]
pub(super) struct Named {
    named: Option<usize>,
}

/// What to look for.
#[derive(Deserialize)]
pub(super) struct Search {
    matching: Option<String>,
    after: Option<SegmentId>,
    limit: Option<usize>,
}

/// `GET /v1/segments?matching=REGEX&after=ID&limit=N`: segments that are served or locked, or lack copies, by id.
pub(super) async fn segments(State(api): State<Arc<Api>>, caller: Caller, Query(query): Query<Search>) -> Response {
    let limit = query.limit.unwrap_or(50).clamp(1, MAX_LISTED);
    let pattern = match regex::Regex::new(query.matching.as_deref().unwrap_or("")) {
        Ok(pattern) => pattern,
        Err(e) => return answer::error(&answer::bad(format!("matching: {e}"))),
    };
    let context = api.context.clone();
    // Millions of ids may have to be looked at.
    let found = tokio::task::spawn_blocking(move || {
        let mut found: BTreeSet<&SegmentId> = BTreeSet::new();
        let (serving, locks, view) = (context.serving.read(), context.locks.read(), context.view.read().clone());
        let all = serving.segments().chain(locks.iter().map(|l| &l.segment));
        let all = all.chain(view.listed.needy.iter().map(|n| &n.segment));
        let wanted = |s: &SegmentId| pattern.is_match(s.as_str()) && caller.allows(s.as_str());
        for segment in all.filter(|s| query.after.as_ref().is_none_or(|after| *s > after)) {
            // The first ones by id are kept, and one more, which says that there are more.
            let full = found.len() > limit;
            if full && found.last().is_some_and(|last| segment > *last) || !wanted(segment) {
                continue;
            }
            found.insert(segment);
            if found.len() > limit + 1 {
                found.pop_last();
            }
        }
        let more = found.len() > limit;
        let segments: Vec<Json> = found
            .iter()
            .take(limit)
            .map(|s| json!({"segment": s, "copies": serving.rows_of(s), "locked": locks.get(s).is_some()}))
            .collect();
        let next = if more { found.iter().nth(limit - 1).map(|s| (*s).clone()) } else { None };
        json!({"segments": segments, "next": next})
    });
    match found.await {
        Ok(found) => answer::json(StatusCode::OK, &found),
        Err(e) => trough_http::server_error(e),
    }
}
