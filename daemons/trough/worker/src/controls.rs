//! What an operator has set for the whole cluster, as this worker follows it: the document `controls`. In memory: the limits in
//! force; while the metadata is away they stay as they were.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::StreamExt as _;
use parking_lot::RwLock;
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use trough_client::{CatalogError, catalog::Change};
use trough_config::Settings;
use trough_core::records::Controls;

use crate::{follow::FEED_RETRY, state::Worker};

/// The controls in force.
#[derive(Debug)]
pub(crate) struct Controlled {
    now: RwLock<Controls>,
    paused: AtomicBool,
    copies_at_once: watch::Sender<usize>,
}

impl Controlled {
    /// As the settings say, until the document is read.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            now: RwLock::default(),
            paused: AtomicBool::new(false),
            copies_at_once: watch::Sender::new(settings.copy_thread_pool_size),
        }
    }

    /// Whether placement is paused: no copy is dropped.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// How many copies may be made at the same time, followed.
    pub(crate) fn copies_at_once(&self) -> watch::Receiver<usize> {
        self.copies_at_once.subscribe()
    }
}

/// What is in force, for `/status`.
pub(crate) fn document(worker: &Worker) -> Json {
    json!({
        "paused": worker.controlled.is_paused(),
        "copy_bandwidth": worker.copies.throttle.rate(),
        "promotion_bandwidth": worker.promotions.throttle.rate(),
        "copy_thread_pool_size": *worker.controlled.copies_at_once.borrow(),
    })
}

fn apply(worker: &Worker, controls: Controls) {
    let (settings, set) = (&worker.settings, controls.throttles);
    worker.copies.throttle.set_rate(set.copy_bandwidth.or(settings.copy_bandwidth).unwrap_or(0));
    worker.promotions.throttle.set_rate(set.promotion_bandwidth.or(settings.promotion_bandwidth).unwrap_or(0));
    let at_once = set.copy_thread_pool_size.map_or(settings.copy_thread_pool_size, |n| usize::try_from(n).unwrap_or(1));
    worker.controlled.copies_at_once.send_replace(at_once.max(1));
    let paused = controls.paused.is_some();
    if worker.controlled.paused.swap(paused, Ordering::AcqRel) != paused {
        tracing::info!(paused, "placement");
        if !paused {
            // What waited to be dropped is looked at again.
            worker.wants.look_at_all();
        }
    }
    let before = std::mem::replace(&mut *worker.controlled.now.write(), controls);
    if before.throttles != set {
        tracing::info!(throttles = %document(worker), "limits changed");
    }
}

/// Follows the document until the shutdown.
pub(crate) async fn follow(worker: Arc<Worker>) {
    loop {
        let followed = tokio::select! {
            () = worker.shutdown.cancelled() => return,
            followed = follow_once(&worker) => followed,
        };
        match followed {
            Ok(()) => tracing::info!("the feed of controls ended, opened again"),
            Err(error) => tracing::warn!(%error, "the feed of controls broke, opened again"),
        }
        tokio::time::sleep(FEED_RETRY).await;
    }
}

async fn follow_once(worker: &Worker) -> Result<(), CatalogError> {
    let mut feed = worker.catalog.controls_feed().await?;
    let mut first = None;
    let mut ready = false;
    while let Some(change) = feed.next().await {
        match change? {
            Change::Row { new, .. } if ready => apply(worker, new.unwrap_or_default()),
            Change::Row { new, .. } => first = new,
            Change::Ready => {
                ready = true;
                apply(worker, first.take().unwrap_or_default());
            }
        }
    }
    Ok(())
}
