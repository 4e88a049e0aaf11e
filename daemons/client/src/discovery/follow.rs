//! The tasks that follow the nodes and, once a pattern was asked for, the whole table. Each starts over when its feed breaks, and builds
//! anew beside what is known, so that nothing that vanished meanwhile stays.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::StreamExt;
use trough_core::records::{Lock, ROLE_READ, Service};

use super::{Followed, Inner, Phase, State};
use crate::catalog::{CatalogError, Change};

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
                take_nodes(&mut inner.state.write(), changes)?;
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

/// Follows all service rows and locks.
pub(super) async fn table(weak: Weak<Inner>) {
    let mut pause = FIRST_PAUSE;
    while weak.strong_count() > 0 {
        let started = Instant::now();
        let ended = follow_table(&weak).await;
        let Some(inner) = weak.upgrade() else { return };
        let why = ended.err().map_or_else(|| "the feed ended".to_owned(), |e| e.to_string());
        tracing::warn!(error = %why, "lost the feed of services; discovery goes on with what was known");
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
    let mut fresh = Followed::default();
    let (mut services_ready, mut locks_ready) = (false, false);
    while !(services_ready && locks_ready) {
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
            else => return Ok(()),
        }
    }
    {
        let Some(inner) = weak.upgrade() else { return Ok(()) };
        let mut state = inner.state.write();
        state.followed = Some(fresh);
        state.cached.clear();
        state.version += 1;
        drop(state);
        inner.phase.send_replace(Phase::Ready);
    }
    loop {
        let (more_services, more_locks) = tokio::select! {
            changes = services.next() => (changes, Some(Vec::new())),
            changes = locks.next() => (Some(Vec::new()), changes),
        };
        let (Some(changed_services), Some(changed_locks)) = (more_services, more_locks) else { return Ok(()) };
        let Some(inner) = weak.upgrade() else { return Ok(()) };
        take_changes(&inner, changed_services, changed_locks)?;
    }
}

fn take_changes(
    inner: &Arc<Inner>,
    services: Vec<Result<Change<Service>, CatalogError>>,
    locks: Vec<Result<Change<Lock>, CatalogError>>,
) -> Result<(), CatalogError> {
    let mut state = inner.state.write();
    state.version += 1;
    let Some(mut followed) = state.followed.take() else { return Ok(()) };
    let mut result = Ok(());
    for change in services {
        match change {
            Ok(change) => drop(followed.take_service(&mut state, change)),
            Err(e) => result = Err(e),
        }
    }
    for change in locks {
        match change {
            Ok(change) => drop(followed.take_lock(change)),
            Err(e) => result = Err(e),
        }
    }
    state.followed = Some(followed);
    result
}

impl Followed {
    /// Takes one change in; whether it was the end of the initial rows.
    fn take_service(&mut self, state: &mut State, change: Change<Service>) -> bool {
        let Change::Row { old, new } = change else { return true };
        let place = |state: &mut State, row: &Service| {
            if row.role.as_deref() != Some(ROLE_READ) {
                return None;
            }
            let number = state.nodes.endpoint(row.node.as_ref()?, row.url.as_deref()?);
            Some((row.segment.clone()?, number))
        };
        let now = new.as_ref().filter(|row| state.row_lives(row)).and_then(|row| place(state, row));
        if let Some((segment, number)) = old.as_ref().and_then(|row| place(state, row))
            && now.as_ref() != Some(&(segment.clone(), number))
            && let Some(refs) = self.copies.get_mut(&segment)
        {
            refs.remove(number);
            if refs.is_empty() {
                self.copies.remove(&segment);
            }
        }
        if let Some((segment, number)) = now {
            self.copies.entry(segment).or_default().insert(number);
        }
        false
    }

    /// As [`Followed::take_service`], for a lock.
    fn take_lock(&mut self, change: Change<Lock>) -> bool {
        let Change::Row { old, new } = change else { return true };
        match (old, new) {
            (_, Some(lock)) => drop(self.locks.insert(lock.segment, lock.node)),
            (Some(lock), None) => drop(self.locks.remove(&lock.segment)),
            (None, None) => {}
        }
        false
    }
}

/// Doubles the pause between attempts, and begins anew after a feed that lasted.
fn next_pause(pause: Duration, started: Instant) -> Duration {
    if started.elapsed() > LONGEST_PAUSE { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) }
}
