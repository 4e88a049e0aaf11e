//! The tasks that keep this node's lease and follow the catalog: heartbeat, locks, assignments. When RethinkDB is away they
//! keep what they know, and begin anew when it is back.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use trough_client::{CatalogError, catalog::Change};
use trough_core::{
    SegmentId,
    protocol::PROTOCOL,
    records::{Assignment, Lock, ROLE_NODES, Service},
};
use trough_http::Beat;

use crate::{files::Want, locks::Base, orphans, reconcile, state::Worker, system};

/// The pause before a feed that broke is opened again.
pub(crate) const FEED_RETRY: Duration = Duration::from_millis(500);

/// Renews the lease at a third of its ttl, until the shutdown.
pub(crate) async fn heartbeat(worker: Arc<Worker>, beat: Beat) {
    let third = worker.lease.ttl() / 3;
    // Of a node whose lease had ended the master deletes the service rows, and may still be at it when the lease is new. It
    // stops once it sees the lease, so the rows are read once more a renewal later (the first renewal here
    // follows the one of the start at once).
    let mut look_again_in = 2_u32;
    loop {
        let begun = Instant::now();
        let pause = match tokio::time::timeout(third, renew(&worker)).await {
            Ok(Ok(lapsed)) => {
                if look_again_in == 1 {
                    worker.advertiser.reread();
                }
                worker.meters.lease_renewals.increment(1);
                look_again_in = if lapsed { 1 } else { look_again_in.saturating_sub(1) };
                third.saturating_sub(begun.elapsed())
            }
            Ok(Err(error)) => {
                worker.meters.lease_renew_failures.increment(1);
                tracing::warn!(%error, remaining = worker.lease.remaining(), "cannot renew this node's lease");
                retry_pause(&worker)
            }
            Err(_) => {
                worker.meters.lease_renew_failures.increment(1);
                tracing::warn!(remaining = worker.lease.remaining(), "renewing this node's lease takes too long");
                retry_pause(&worker)
            }
        };
        beat.turned();
        tokio::select! {
            () = worker.shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn retry_pause(worker: &Worker) -> Duration {
    (worker.lease.ttl() / 20).clamp(Duration::from_millis(50), Duration::from_secs(1))
}

/// Renews the lease once, and looks at the other nodes; whether the master may have deleted this node's service rows.
///
/// # Errors
/// What the catalog says; the lease then runs on from its last renewal.
pub(crate) async fn renew(worker: &Arc<Worker>) -> Result<bool, CatalogError> {
    let begun = Instant::now();
    let reaped = worker.catalog.heartbeat_node(&row(worker)).await? && worker.is_started();
    if !worker.lease.runs() {
        // While it did not run, another may have taken locks over: nothing is acknowledged before that is known.
        confirm_locks(worker).await?;
        orphans::look(worker);
    }
    let lapsed = worker.lease.renewed(begun);
    if lapsed {
        tracing::warn!("this node's lease had run out; its service rows are looked at again");
    } else if reaped {
        tracing::warn!("this node was taken for dead while its lease ran; its service rows are looked at again");
    }
    if lapsed || reaped {
        worker.advertiser.reread();
    }
    let asked = Instant::now();
    match worker.catalog.nodes().await {
        Ok(nodes) => worker.peers.replace(nodes, asked, worker.lease.ttl()),
        Err(error) => tracing::warn!(%error, "cannot look at the other nodes"),
    }
    Ok(lapsed || reaped)
}

/// Tells whoever follows the nodes that this one is about to end. The lease runs on as it did.
pub(crate) async fn announce_stop(worker: &Worker) -> Result<(), CatalogError> {
    worker.catalog.heartbeat_node(&row(worker)).await.map(drop)
}

/// Compares the locks of this process with the database's.
async fn confirm_locks(worker: &Worker) -> Result<(), CatalogError> {
    let mine = worker.locks.all_held();
    if mine.is_empty() {
        return Ok(());
    }
    let segments: Vec<SegmentId> = mine.iter().map(|held| held.lock.segment.clone()).collect();
    let rows: HashMap<SegmentId, Lock> =
        worker.catalog.locks_of_segments(&segments).await?.into_iter().map(|l| (l.segment.clone(), l)).collect();
    for held in mine {
        worker.locks.confirmed(&held, rows.get(&held.lock.segment));
    }
    Ok(())
}

fn row(worker: &Worker) -> Service {
    let (segments, bytes) = worker.files.totals();
    Service {
        id: Service::node_id(&worker.node),
        role: Some(ROLE_NODES.to_owned()),
        node: Some(worker.node.clone()),
        ttl: worker.lease.ttl().as_secs_f64(),
        load: system::load_per_processor(),
        host: Some(system::hostname().to_owned()),
        pid: Some(std::process::id()),
        available_bytes: Some(worker.settings.storage_in_bytes),
        cold_storage: Some(worker.settings.run_as_cold_storage_node),
        read_url: Some(worker.urls.read.clone()),
        write_url: Some(worker.urls.write.clone()),
        manage_url: Some(worker.urls.manage.clone()),
        zone: worker.settings.zone.clone(),
        draining: worker.settings.drain,
        stopping: worker.shutdown.is_cancelled(),
        protocol: Some(PROTOCOL),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        used_bytes: Some(bytes),
        segments: Some(segments),
        copying: Some(worker.copies.waiting()),
        ..Service::default()
    }
}

/// Follows all locks until the shutdown. `first` is told when they have been read for the first time.
pub(crate) async fn locks(worker: Arc<Worker>, first: Arc<tokio::sync::Notify>) {
    loop {
        let followed = tokio::select! {
            () = worker.shutdown.cancelled() => return,
            followed = follow_locks(&worker, &first) => followed,
        };
        match followed {
            Ok(()) => tracing::info!("the feed of locks ended, opened again"),
            Err(error) => tracing::warn!(%error, "the feed of locks broke, opened again"),
        }
        tokio::time::sleep(FEED_RETRY).await;
    }
}

/// The metadata knows every epoch that a master acted under. If it has a lower one than was seen, it is another database than
/// before, begun anew or restored, and its masters are to be believed.
async fn look_at_epoch(worker: &Worker) -> Result<(), CatalogError> {
    let seen = worker.epoch.load(Ordering::Acquire);
    let known = worker.catalog.current_epoch().await?;
    if known < seen {
        tracing::warn!(seen, known, "the metadata has a lower epoch than was seen: it was begun anew or restored");
        let _ = worker.epoch.compare_exchange(seen, known, Ordering::AcqRel, Ordering::Acquire);
    }
    Ok(())
}

async fn follow_locks(worker: &Arc<Worker>, first: &tokio::sync::Notify) -> Result<(), CatalogError> {
    let begun = Instant::now();
    look_at_epoch(worker).await?;
    let mut feed = worker.catalog.lock_feed().await?;
    let mut initial: Option<HashMap<SegmentId, Lock>> = Some(HashMap::new());
    while let Some(change) = feed.next().await {
        match (change?, &mut initial) {
            (Change::Ready, list) => {
                let list = list.take().unwrap_or_default();
                let missing = worker.locks.replace(&list);
                list.into_iter().for_each(|(segment, row)| readopt(worker, &segment, Some(row)));
                reconcile::verify(worker, missing, begun).await;
                orphans::look(worker);
                first.notify_one();
            }
            (Change::Row { old, new }, list) => {
                let Some(segment) = new.as_ref().or(old.as_ref()).map(|lock: &Lock| lock.segment.clone()) else {
                    continue;
                };
                match (list, new) {
                    (None, new) => {
                        worker.locks.changed(&segment, new.as_ref());
                        if new.is_none() && worker.locks.is_doubtful(&segment) {
                            worker.wants.look_at(segment.clone());
                        }
                        readopt(worker, &segment, new);
                    }
                    (Some(list), Some(new)) => {
                        list.insert(segment, new);
                    }
                    (Some(list), None) => {
                        list.remove(&segment);
                    }
                }
            }
        }
    }
    Ok(())
}

/// Takes up a lock of this very process again that was gone and is back, exactly as it was: the metadata was restored, or who had taken it over
/// could do nothing with it. Not while somebody is at work on the file, who may be about to replace it.
fn readopt(worker: &Arc<Worker>, segment: &SegmentId, row: Option<Lock>) {
    if !row.is_some_and(|row| worker.locks.is_missed(&row)) {
        return;
    }
    let (worker, segment) = (worker.clone(), segment.clone());
    tokio::spawn(async move {
        let _busy = worker.busy.acquire(std::slice::from_ref(&segment)).await;
        let now = match worker.catalog.lock(&segment).await {
            Ok(now) => now.filter(|now| worker.locks.is_missed(now)),
            Err(error) => {
                tracing::warn!(%segment, %error, "cannot look a write lock up that is back; provision the segment again");
                return;
            }
        };
        let Some(row) = now else { return };
        tracing::warn!(%segment, fence = row.fence, "the write lock is back, the segment can be written again");
        worker.locks.acquired(row, Base::Unknown);
        worker.wants.look_at(segment);
    });
}

/// Follows this node's assignments until the shutdown.
pub(crate) async fn assignments(worker: Arc<Worker>) {
    loop {
        let followed = tokio::select! {
            () = worker.shutdown.cancelled() => return,
            followed = follow_assignments(&worker) => followed,
        };
        match followed {
            Ok(()) => tracing::info!("the feed of assignments ended, opened again"),
            Err(error) => tracing::warn!(%error, "the feed of assignments broke, opened again"),
        }
        tokio::time::sleep(FEED_RETRY).await;
    }
}

async fn follow_assignments(worker: &Arc<Worker>) -> Result<(), CatalogError> {
    let mut feed = worker.catalog.assignment_feed(&worker.node).await?;
    let mut initial: Option<HashMap<SegmentId, Want>> = Some(HashMap::new());
    while let Some(change) = feed.next().await {
        match (change?, &mut initial) {
            (Change::Ready, list) => worker.wants.replace(list.take().unwrap_or_default()),
            (Change::Row { old, new }, list) => {
                let Some(segment) = new.as_ref().or(old.as_ref()).map(|a: &Assignment| a.segment.clone()) else {
                    continue;
                };
                if let Some(new) = &new {
                    worker.epoch.fetch_max(new.epoch, Ordering::AcqRel);
                }
                let want = new.as_ref().map(Want::of);
                match (list, want) {
                    (None, want) => worker.wants.set(segment, want),
                    (Some(list), Some(want)) => {
                        list.insert(segment, want);
                    }
                    (Some(list), None) => {
                        list.remove(&segment);
                    }
                }
            }
        }
    }
    Ok(())
}
