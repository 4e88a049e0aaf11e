//! Draining: emptying a worker, or taking that back.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use trough_core::NodeId;
use trough_http::read_json;

use super::{Api, answer};
use crate::view::{ClusterView, WorkerLine};

#[derive(Deserialize)]
struct Drain {
    node: String,
    drain: bool,
    #[serde(default)]
    force: bool,
}

/// `POST /v1/drain {"node", "drain", "force"}`: empties a worker, or takes that back. Refused with 409 if segments would have too few
/// copies, or no room, unless it is forced.
pub(super) async fn drain(State(api): State<Arc<Api>>, headers: HeaderMap, body: Bytes) -> Response {
    let wish: Drain = match read_json(&headers, &body) {
        Ok(wish) => wish,
        Err(e) => return answer::error(&answer::bad(format!("the body is no drain request: {e}"))),
    };
    let node = match NodeId::new(&wish.node) {
        Ok(node) => node,
        Err(e) => return answer::error(&answer::bad(e.to_string())),
    };
    let context = &api.context;
    match context.catalog.node(&node).await {
        Ok(None) if wish.drain => {
            return answer::json(
                StatusCode::NOT_FOUND,
                &json!({"error": answer::bad(format!("node {node} is unknown: it has no row in services"))}),
            );
        }
        Ok(_) => {}
        Err(e) => return answer::error(&answer::of_catalog(e)),
    }
    let view = context.view.read().clone();
    if wish.drain && !wish.force {
        let objections = objections(&view, &node, context.settings.minimum_assignments.constant());
        if !objections.is_empty() {
            let message = format!("{}; force it if that is meant", objections.join("; "));
            return answer::json(StatusCode::CONFLICT, &json!({"error": answer::bad(message)}));
        }
    }
    if let Err(e) = context.catalog.set_draining(&node, wish.drain).await {
        return answer::error(&answer::of_catalog(e));
    }
    tracing::info!(%node, drain = wish.drain, force = wish.force, "draining changed");
    context.forget_nodes().await;
    context.nudge.notify_one();
    let line = view.workers.iter().find(|w| w.node == node);
    let locks = context.locks.read().iter().filter(|lock| lock.node == node).count();
    answer::json(
        StatusCode::OK,
        &json!({
            "node": node, "drain": wish.drain, "segments": line.map(|w| w.assigned), "bytes": line.map(|w| w.assigned_bytes),
            "locks": locks,
        }),
    )
}

/// What speaks against emptying a worker. One that is drained already, or dead, or cold (its segments are on all others) may go.
fn objections(view: &ClusterView, node: &NodeId, copies: Option<u32>) -> Vec<String> {
    let stays = |w: &&WorkerLine| w.node != *node && w.tier == "hot" && w.presence == "alive" && !w.draining;
    let Some(line) = view.workers.iter().find(|w| w.node == *node) else { return Vec::new() };
    if line.tier != "hot" || line.draining || line.assigned == 0 {
        return Vec::new();
    }
    let others: Vec<&WorkerLine> = view.workers.iter().filter(stays).collect();
    if others.is_empty() {
        return vec![format!("no other worker is there to take the {} segments of {node}", line.assigned)];
    }
    let mut objections = Vec::new();
    // What it has has as many copies now as there are workers, so each would lose one.
    let before = others.len() + usize::from(line.presence == "alive");
    if let Some(copies) = copies.filter(|copies| others.len() < *copies as usize && others.len() < before) {
        objections.push(format!(
            "{} workers would be left, and MINIMUM_ASSIGNMENTS is {copies}: segments would have fewer copies",
            others.len()
        ));
    }
    let room: u64 = others.iter().map(|w| w.capacity.saturating_sub(w.assigned_bytes)).sum();
    // As many of its segments as have a copy everywhere already need no further room, but which those are is not known here.
    if line.assigned_bytes > room && others.len() >= copies.unwrap_or(1) as usize {
        objections.push(format!(
            "{node} holds {} bytes, and the other workers have room for {room} (STORAGE_IN_BYTES)",
            line.assigned_bytes
        ));
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(name: &str, change: impl FnOnce(&mut WorkerLine)) -> WorkerLine {
        let mut line = WorkerLine {
            node: NodeId::new(name).expect("valid"),
            tier: "hot",
            presence: "alive",
            draining: false,
            stopping: false,
            protocol: 2,
            version: None,
            zone: None,
            heartbeat_age: 1.0,
            ttl: 30.0,
            load: 0.0,
            capacity: 1000,
            used: None,
            segments: None,
            copying: None,
            assigned: 10,
            assigned_bytes: 600,
            ring_bytes: Default::default(),
            wanted: 10,
            read_url: None,
            manage_url: None,
        };
        change(&mut line);
        line
    }

    fn against(workers: Vec<WorkerLine>, copies: u32) -> String {
        let view = ClusterView { workers, ..ClusterView::default() };
        objections(&view, &NodeId::new("a").expect("valid"), Some(copies)).join("; ")
    }

    #[test]
    fn a_worker_that_is_needed_is_not_drained_unasked() {
        let plain = |name: &str| worker(name, |_| {});
        assert_eq!(against(vec![plain("a"), plain("b"), plain("c")], 2), "");
        assert!(against(vec![plain("a")], 1).contains("no other worker"));
        assert!(against(vec![plain("a"), worker("b", |w| w.draining = true)], 1).contains("no other worker"));
        assert!(against(vec![plain("a"), worker("b", |w| w.tier = "cold")], 1).contains("no other worker"));
        assert!(against(vec![plain("a"), plain("b")], 2).contains("1 workers would be left"));
        let full = |name: &str| worker(name, |w| w.assigned_bytes = 900);
        assert!(against(vec![plain("a"), full("b"), full("c")], 2).contains("room for 200"));
        assert_eq!(against(vec![worker("a", |w| w.draining = true)], 2), "", "it is drained already");
        assert_eq!(against(vec![worker("a", |w| w.assigned = 0)], 2), "", "it has nothing");
    }
}
