//! The tasks that follow the nodes and, once a pattern was asked for, the whole table. Each starts over when its feed breaks, and builds
//! anew beside what is known, so that nothing that vanished meanwhile stays.

use std::{
    collections::HashSet,
    sync::Weak,
    time::{Duration, Instant},
};

use futures::StreamExt;
use trough_core::records::{Lock, Service};

use super::{Followed, Inner, Phase, State};
use crate::catalog::{Assigned, CatalogError, Change};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How many changes are taken in under one lock.
const BATCH: usize = 512;

/// Reads every node with its age by the server's clock, and drops those that are gone.
pub(super) async fn load_nodes(inner: &Inner) -> Result<(), CatalogError> {
    let (rows, server_now) = inner.catalog.node_rows_and_clock().await?;
    let now = Instant::now();
    let mut state = inner.state.write();
    let present: HashSet<_> = rows.iter().filter_map(|r| r.node.clone()).collect();
    state.nodes.retain(|id| present.contains(id));
    for row in rows {
        let age = row.last_heartbeat.as_ref().map_or(f64::INFINITY, |at| (server_now - at.epoch_time).max(0.0));
        state.nodes.put(row, age, now);
    }
    state.nodes.connected = true;
    state.clock = Some((server_now, now));
    state.version += 1;
    state.nodes_version += 1;
    drop(state);
    inner.changed.send_replace(());
    Ok(())
}

/// Follows the nodes' rows: each heartbeat renews a lease by our own clock.
pub(super) async fn nodes(weak: Weak<Inner>) {
    let mut pause = FIRST_PAUSE;
    while let Some(catalog) = weak.upgrade().map(|inner| inner.catalog.clone()) {
        let started = Instant::now();
        let ended = async {
            let mut feed = catalog.node_feed().await?.ready_chunks(BATCH);
            // After the feed began, so that nothing falls between.
            let Some(inner) = weak.upgrade() else { return Ok(()) };
            load_nodes(&inner).await?;
            drop(inner);
            while let Some(changes) = feed.next().await {
                let Some(inner) = weak.upgrade() else { return Ok(()) };
                let taken = take_nodes(&mut inner.state.write(), changes);
                inner.changed.send_replace(());
                taken?;
            }
            Ok::<(), CatalogError>(())
        }
        .await;
        let Some(inner) = weak.upgrade() else { return };
        inner.state.write().nodes.connected = false;
        drop(inner);
        tracing::warn!(
            error = ended.err().map(|e| e.to_string()),
            "lost the feed of nodes; leases are not judged until it is back"
        );
        pause = next_pause(pause, started);
        tokio::time::sleep(pause).await;
    }
}

fn take_nodes(state: &mut State, changes: Vec<Result<Change<Service>, CatalogError>>) -> Result<(), CatalogError> {
    let now = Instant::now();
    state.nodes_version += 1;
    for change in changes {
        match change? {
            Change::Row { new: Some(row), .. } => {
                // Unknown or renewed rows were written just now; known ones keep the end of their lease.
                if state.nodes.put(row, 0.0, now) {
                    state.version += 1;
                }
            }
            Change::Row { old: Some(row), new: None } => {
                if let Some(id) = &row.node {
                    state.nodes.remove(id);
                }
                state.version += 1;
            }
            Change::Row { old: None, new: None } | Change::Ready => {}
        }
    }
    Ok(())
}

/// Follows all service rows, locks and assignments.
pub(super) async fn table(weak: Weak<Inner>) {
    let mut pause = FIRST_PAUSE;
    while weak.strong_count() > 0 {
        let started = Instant::now();
        let ended = follow_table(&weak).await;
        let Some(inner) = weak.upgrade() else { return };
        let why = ended.err().map_or_else(|| "the feed ended".to_owned(), |e| e.to_string());
        tracing::warn!(error = %why, "lost the feed of services, locks and assignments; discovery goes on with what was known");
        inner.phase.send_if_modified(|phase| {
            let first = !matches!(phase, Phase::Ready);
            if first {
                *phase = Phase::Failed(why);
            }
            first
        });
        drop(inner);
        pause = next_pause(pause, started);
        tokio::time::sleep(pause).await;
    }
}

async fn follow_table(weak: &Weak<Inner>) -> Result<(), CatalogError> {
    let Some(catalog) = weak.upgrade().map(|inner| inner.catalog.clone()) else { return Ok(()) };
    let mut services = catalog.service_feed().await?.ready_chunks(BATCH);
    let mut locks = catalog.lock_feed().await?.ready_chunks(BATCH);
    let mut assignments = catalog.assigned_feed().await?.ready_chunks(BATCH);
    let mut fresh = Followed::default();
    let (mut services_ready, mut locks_ready, mut assignments_ready) = (false, false, false);
    while !(services_ready && locks_ready && assignments_ready) {
        tokio::select! {
            Some(changes) = services.next(), if !services_ready => {
                let Some(inner) = weak.upgrade() else { return Ok(()) };
                let mut state = inner.state.write();
                for change in changes {
                    services_ready |= fresh.take_service(&mut state, change?);
                }
            }
            Some(changes) = locks.next(), if !locks_ready => {
                for change in changes {
                    locks_ready |= fresh.take_lock(change?);
                }
            }
            Some(changes) = assignments.next(), if !assignments_ready => {
                for change in changes {
                    assignments_ready |= fresh.take_assignment(change?);
                }
            }
            else => return Ok(()),
        }
    }
    {
        let Some(inner) = weak.upgrade() else { return Ok(()) };
        let mut state = inner.state.write();
        state.builds += 1;
        fresh.serial = state.builds;
        state.followed = Some(fresh);
        state.cached.clear();
        state.version += 1;
        drop(state);
        inner.phase.send_replace(Phase::Ready);
        inner.changed.send_replace(());
    }
    loop {
        let news = tokio::select! {
            changes = services.next() => changes.map(News::Services),
            changes = locks.next() => changes.map(News::Locks),
            changes = assignments.next() => changes.map(News::Assignments),
        };
        let Some(news) = news else { return Ok(()) };
        let Some(inner) = weak.upgrade() else { return Ok(()) };
        let taken = take_news(&mut inner.state.write(), news);
        inner.changed.send_replace(());
        taken?;
    }
}

type Batch<T> = Vec<Result<Change<T>, CatalogError>>;

/// Some changes of one of the tables.
enum News {
    Services(Batch<Service>),
    Locks(Batch<Lock>),
    Assignments(Batch<Assigned>),
}

fn take_news(state: &mut State, news: News) -> Result<(), CatalogError> {
    state.version += 1;
    let Some(mut followed) = state.followed.take() else { return Ok(()) };
    let take = || -> Result<(), CatalogError> {
        match news {
            News::Services(all) => {
                for change in all {
                    followed.take_service(state, change?);
                }
            }
            News::Locks(all) => {
                for change in all {
                    followed.take_lock(change?);
                }
            }
            News::Assignments(all) => {
                for change in all {
                    followed.take_assignment(change?);
                }
            }
        }
        Ok(())
    };
    let taken = take();
    state.followed = Some(followed);
    taken
}

/// Doubles the pause between attempts, and begins anew after a feed that lasted.
fn next_pause(pause: Duration, started: Instant) -> Duration {
    if started.elapsed() > LONGEST_PAUSE { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) }
}
