//! What a process does while it is master: follows the tables, reconciles, and clears up after dead nodes.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use trough_core::NodeId;

use crate::{
    context::Context,
    follow,
    mastership::{Standing, Term},
    reconciler::Reconciler,
};

/// Seconds after the end of a lease until the node's service rows are deleted: a late heartbeat costs nothing.
const REAP_MARGIN: f64 = 2.0;

/// Serves one term after the other, until the shutdown.
pub(crate) async fn serve_terms(
    context: Arc<Context>,
    mut standing: watch::Receiver<Standing>,
    shutdown: CancellationToken,
) {
    loop {
        let term = standing.borrow_and_update().term().cloned();
        if let Some(term) = term {
            tokio::select! {
                () = serve(context.clone(), term) => {}
                () = shutdown.cancelled() => return,
            }
        }
        tokio::select! {
            changed = standing.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

async fn serve(context: Arc<Context>, term: Term) {
    let mut tasks = JoinSet::new();
    tasks.spawn(follow::services(context.clone(), term.clone()));
    tasks.spawn(follow::locks(context.clone(), term.clone()));
    tasks.spawn(follow::controls(context.clone(), term.clone()));
    tasks.spawn(watch_nodes(context.clone(), term.clone()));
    tasks.spawn(collect_uploads(context.clone(), term.clone()));
    tasks.spawn(Reconciler::new(context, Some(term.clone())).run(term.clone()));
    // Whatever ends first, the term is over for the others too; dropping the set stops them.
    let ended = tasks.join_next().await;
    if let Some(Err(error)) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a part of the sync master panicked");
    }
    term.end();
}

/// Removes what interrupted promotions left in the store: a few times within UPLOAD_GRACE, and never more often than it is listed.
async fn collect_uploads(context: Arc<Context>, term: Term) {
    let grace = context.settings.upload_grace;
    let pause = (grace / 4).max(context.settings.sync_loop_timing);
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = term.over() => return,
        }
        match context.store.collect_garbage(grace).await {
            Ok(collected) => {
                metrics::counter!("trough_sync_uploads_collected_total").increment(collected.removed);
                tracing::debug!(
                    removed = collected.removed,
                    bytes = collected.bytes,
                    kept = collected.kept,
                    "looked for unfinished uploads"
                );
            }
            Err(error) => tracing::warn!(%error, "cannot remove unfinished uploads from the store, trying again later"),
        }
    }
}

/// Notices nodes that come and go, and deletes the service rows of the dead.
async fn watch_nodes(context: Arc<Context>, term: Term) {
    let mut alive: HashSet<NodeId> = HashSet::new();
    let mut reaped: HashSet<NodeId> = HashSet::new();
    let mut rowless: HashMap<NodeId, Instant> = HashMap::new();
    let period = context.settings.host_check_wait_period.clamp(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let pause = match look(&context, &term, &mut alive, &mut reaped, &mut rowless).await {
            Ok(()) => period,
            Err(error) if error.is_fenced() => return,
            Err(error) => {
                tracing::warn!(%error, "cannot look after the nodes");
                period.max(Duration::from_secs(1))
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = term.over() => return,
        }
    }
}

async fn look(
    context: &Context,
    term: &Term,
    alive: &mut HashSet<NodeId>,
    reaped: &mut HashSet<NodeId>,
    rowless: &mut HashMap<NodeId, Instant>,
) -> trough_client::catalog::Result<()> {
    let nodes = context.catalog.nodes().await?;
    let now_alive: HashSet<NodeId> = nodes.iter().filter(|n| n.alive).filter_map(|n| n.node().cloned()).collect();
    if *alive != now_alive {
        for node in now_alive.difference(alive) {
            tracing::info!(%node, "worker is there");
        }
        for node in alive.difference(&now_alive) {
            tracing::warn!(%node, "worker is gone: its lease ended or it stopped");
        }
        *alive = now_alive;
        context.nudge.notify_one();
    }
    reaped.retain(|node| !alive.contains(node));

    let grace = context.settings.move_grace.as_secs_f64();
    for status in nodes.iter().filter(|n| n.dead_for(REAP_MARGIN)) {
        let Some(node) = status.node() else { continue };
        if !reaped.contains(node) {
            reap(context, term, node).await?;
            reaped.insert(node.clone());
        }
        // Once nothing is assigned to it any more, nobody needs to know that it ever was.
        let forgotten = {
            let view = context.view.read();
            view.epoch == term.epoch
                && view.workers.iter().any(|w| &w.node == node && w.assigned == 0 && w.presence == "gone")
        };
        if forgotten && term.is_valid() && context.catalog.remove_dead_node(node, grace).await? {
            tracing::info!(%node, "forgot a worker that is gone and has no assignments");
        }
    }

    // Nodes that serve by their rows but have no row of their own: they stopped in order and left rows behind.
    let known: HashSet<&NodeId> = nodes.iter().filter_map(|n| n.node()).collect();
    let left_behind: HashSet<NodeId> =
        context.serving.read().serving_nodes().into_iter().filter(|n| !known.contains(n)).collect();
    rowless.retain(|node, _| left_behind.contains(node));
    for node in left_behind {
        let since = *rowless.entry(node.clone()).or_insert_with(Instant::now);
        if since.elapsed().as_secs_f64() > REAP_MARGIN {
            reap(context, term, &node).await?;
            rowless.remove(&node);
        }
    }
    Ok(())
}

async fn reap(context: &Context, term: &Term, node: &NodeId) -> trough_client::catalog::Result<()> {
    if !term.is_valid() {
        return Ok(());
    }
    // Looked at once more, so that a worker that has just come back keeps its rows.
    if context.catalog.node(node).await?.is_some_and(|n| !n.dead_for(REAP_MARGIN)) {
        return Ok(());
    }
    let deleted = context.catalog.delete_node_services(node).await?;
    if deleted > 0 {
        tracing::info!(%node, rows = deleted, "deleted a dead node's service rows");
        metrics::counter!("trough_sync_services_reaped_total").increment(deleted);
    }
    Ok(())
}
