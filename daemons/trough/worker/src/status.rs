//! The document of `/status`.

use std::sync::{Arc, atomic::Ordering};

use serde_json::{Value, json};
use trough_core::protocol::PROTOCOL;

use crate::{controls, state::Worker};

/// Lists are cut here; their counts are not.
const LISTED: usize = 1000;

/// What the worker is doing.
pub(crate) fn document(worker: &Arc<Worker>) -> Value {
    let (segments, bytes) = worker.files.totals();
    let (flights, failures) = worker.copies.snapshot();
    let (held, foreign) = worker.locks.counts();
    let held_ids: Vec<_> = worker
        .locks
        .all_held()
        .iter()
        .take(LISTED)
        .map(|h| json!({"segment": h.lock.segment, "fence": h.lock.fence}))
        .collect();
    let in_flight: Vec<_> = flights
        .iter()
        .map(|(segment, flight)| {
            json!({
                "segment": segment, "bytes": flight.bytes, "done": flight.done.load(Ordering::Relaxed),
                "seconds": flight.since.elapsed().as_secs_f64(),
            })
        })
        .collect();
    let failed: Vec<_> = failures
        .iter()
        .map(|(segment, failure)| json!({"segment": segment, "error": &*failure.error, "attempts": failure.attempts}))
        .collect();
    let broken: Vec<_> = worker
        .files
        .broken()
        .into_iter()
        .take(LISTED)
        .map(|(segment, why)| json!({"segment": segment, "error": &*why}))
        .collect();
    let promotions = worker.promotions.snapshot();
    let promoting: Vec<_> = promotions
        .iter()
        .take(LISTED)
        .map(|(segment, progress)| {
            json!({
                "segment": segment, "stage": *progress.stage.lock(), "bytes": progress.bytes.load(Ordering::Relaxed),
                "done": progress.done.load(Ordering::Relaxed), "seconds": progress.since.elapsed().as_secs_f64(),
            })
        })
        .collect();
    json!({
        "part": "worker",
        "version": env!("CARGO_PKG_VERSION"),
        "node": worker.node,
        "pid": std::process::id(),
        "started": worker.is_started(),
        "tier": if worker.settings.run_as_cold_storage_node { "cold" } else { "hot" },
        "cold_mode": worker.settings.run_as_cold_storage_node.then_some(worker.settings.cold_mode),
        "zone": worker.settings.zone,
        "urls": {"read": worker.urls.read, "write": worker.urls.write, "manage": worker.urls.manage},
        "store": worker.store.url(),
        "lease": {
            "ttl": worker.lease.ttl().as_secs_f64(), "age": worker.lease.age(), "remaining": worker.lease.remaining(),
        },
        "epoch": worker.highest_epoch(),
        "segments": segments,
        "bytes": bytes,
        "capacity": worker.settings.storage_in_bytes,
        "assigned": worker.wants.len(),
        "assignments_known": worker.wants.is_complete(),
        "locks": {"held": held, "elsewhere": foreign, "segments": held_ids},
        "promotions": {"count": promotions.len(), "in_flight": promoting},
        "copies": {"waiting": worker.copies.waiting(), "in_flight": in_flight, "failed": failed},
        "broken": broken,
        "quarantine": worker.quarantine.list(),
        "service_rows_waiting": worker.advertiser.waiting(),
        "limits": controls::document(worker),
        "protocol": PROTOCOL,
        "engine": worker.engine.stats(),
    })
}
