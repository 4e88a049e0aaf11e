//! The sync server's metrics; docs/METRICS.md lists them. What a master knows is zero elsewhere, so that sums and maxima over all sync servers are
//! the master's.

use std::sync::Once;

use metrics::{Unit, counter, describe_counter as counts, describe_gauge as shows, describe_histogram as times, gauge};

use crate::{api::Api, mastership::Standing, plan::Summary};

const TIERS: [&str; 2] = ["hot", "cold"];
const PRESENCES: [&str; 3] = ["alive", "grace", "gone"];

/// Makes the counters that should be there before they count.
pub(crate) fn describe() {
    static DESCRIBED: Once = Once::new();
    DESCRIBED.call_once(|| {
        counts!("trough_sync_elections_total", "Rounds of the election that were held");
        counts!(
            "trough_sync_election_failures_total",
            "Rounds of the election in which the metadata could not be asked"
        );
        counts!("trough_sync_standing_changes_total", "Times that this server became master, or ceased to be");
        shows!("trough_sync_master", "Whether this server is the sync master");
        shows!("trough_sync_knows_master", "Whether this server knows who is the sync master");
        shows!("trough_sync_epoch", "The epoch of the last reconciliation here");
        shows!("trough_sync_generation", "The generation of the assignments");
        shows!(
            "trough_sync_reconciled_timestamp_seconds",
            Unit::Seconds,
            "When the last reconciliation was done, since 1970"
        );
        times!("trough_sync_reconcile_seconds", Unit::Seconds, "Time of a reconciliation");
        counts!("trough_sync_reconcile_failures_total", "Reconciliations that failed");
        times!("trough_sync_listing_seconds", Unit::Seconds, "Time of a listing of the canonical store");
        counts!("trough_sync_listing_failures_total", "Listings of the canonical store that failed");
        shows!("trough_sync_segments", "Segments in the canonical store, by tier");
        shows!("trough_sync_segment_bytes", Unit::Bytes, "Bytes of the segments in the canonical store");
        shows!("trough_sync_segments_served", "Segments that somebody serves");
        shows!("trough_sync_under_replicated_segments", "Segments with fewer live copies than wanted");
        shows!("trough_sync_unserved_segments", "Segments without a live copy");
        shows!("trough_sync_missing_segments", "Segments with copies but without a canonical file");
        shows!("trough_sync_copies_in_flight", "Copies assigned and not served yet");
        shows!("trough_sync_copies_in_flight_bytes", Unit::Bytes, "Bytes of those copies");
        shows!("trough_sync_copies_deferred", "Copies to be added that wait (MOVE_SEGMENTS, MOVE_BYTES)");
        shows!("trough_sync_assigned_copies", "Copies assigned, by the workers' tier");
        shows!("trough_sync_assigned_bytes", Unit::Bytes, "Bytes of those copies");
        shows!("trough_sync_workers", "Workers, by tier and presence");
        shows!("trough_sync_locks", "Write locks");
        shows!("trough_sync_promoting_segments", "Segments under promotion");
        counts!("trough_sync_assignments_changed_total", "Assignments written or deleted, by why");
        counts!("trough_sync_services_reaped_total", "Service rows of dead nodes deleted");
        counts!("trough_sync_uploads_collected_total", "Unfinished uploads removed from the store");
        counts!("trough_sync_slow_queries_total", "Queries of the console that took longer than SLOW_QUERY");
    });
    for name in [
        "trough_sync_elections_total",
        "trough_sync_election_failures_total",
        "trough_sync_standing_changes_total",
        "trough_sync_reconcile_failures_total",
        "trough_sync_listing_failures_total",
        "trough_sync_services_reaped_total",
        "trough_sync_uploads_collected_total",
        "trough_sync_slow_queries_total",
    ] {
        counter!(name).increment(0);
    }
}

/// Counts what a plan changed.
pub(crate) fn assignments_changed(summary: &Summary) {
    let changed = |why: &'static str, count: u64| {
        counter!("trough_sync_assignments_changed_total", "why" => why).increment(count)
    };
    changed("repair", summary.repairs);
    changed("move", summary.moves);
    changed("refresh", summary.refreshes);
    changed("drop", summary.drops);
}

/// Sets what is looked up when somebody scrapes.
pub(crate) fn gauge(api: &Api) {
    let context = &api.context;
    let (master, known) = match &*context.standing.borrow() {
        Standing::Unknown => (false, false),
        Standing::Follower(_) => (false, true),
        Standing::Master(_) => (true, true),
    };
    macro_rules! show {
        ($name:literal $(, $label:literal = $at:expr)*; $value:expr) => {
            gauge!($name $(, $label => $at)*).set($value as f64)
        };
    }
    show!("trough_sync_master"; u8::from(master));
    show!("trough_sync_knows_master"; u8::from(known));
    let view = if master { context.view.read().clone() } else { Default::default() };
    let s = &view.summary;
    show!("trough_sync_epoch"; view.epoch);
    show!("trough_sync_generation"; view.generation);
    gauge!("trough_sync_reconciled_timestamp_seconds").set(view.at);
    show!("trough_sync_segments", "tier" = "hot"; s.segments.saturating_sub(s.cold));
    show!("trough_sync_segments", "tier" = "cold"; s.cold);
    show!("trough_sync_segment_bytes"; s.bytes);
    show!("trough_sync_under_replicated_segments"; s.under_replicated);
    show!("trough_sync_unserved_segments"; s.unserved);
    show!("trough_sync_missing_segments"; view.missing_count);
    show!("trough_sync_copies_in_flight"; s.in_flight);
    show!("trough_sync_copies_in_flight_bytes"; s.in_flight_bytes);
    show!("trough_sync_copies_deferred"; s.deferred);
    let served = if master { context.serving.read().len() } else { 0 };
    show!("trough_sync_segments_served"; served);
    let (mut locks, mut promoting) = (0, 0);
    if master {
        let all = context.locks.read();
        (locks, promoting) = (all.len(), all.iter().filter(|lock| lock.under_promotion).count());
    }
    show!("trough_sync_locks"; locks);
    show!("trough_sync_promoting_segments"; promoting);
    for tier in TIERS {
        let of_tier = || view.workers.iter().filter(move |worker| worker.tier == tier);
        show!("trough_sync_assigned_copies", "tier" = tier; of_tier().map(|worker| worker.assigned).sum::<u64>());
        show!("trough_sync_assigned_bytes", "tier" = tier; of_tier().map(|worker| worker.assigned_bytes).sum::<u64>());
        for presence in PRESENCES {
            let count = of_tier().filter(|worker| worker.presence == presence).count();
            show!("trough_sync_workers", "tier" = tier, "presence" = presence; count);
        }
    }
}
