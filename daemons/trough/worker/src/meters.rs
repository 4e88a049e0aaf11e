//! The worker's counters and gauges for `/metrics`. No histograms: they would grow where nobody scrapes.

use metrics::{Counter, Gauge, counter, gauge};

/// Handles, made once.
pub(crate) struct Meters {
    pub(crate) reads: Counter,
    pub(crate) read_errors: Counter,
    pub(crate) read_micros: Counter,
    pub(crate) proxied: Counter,
    pub(crate) queries: Counter,
    pub(crate) query_segments: Counter,
    pub(crate) writes: Counter,
    pub(crate) write_errors: Counter,
    pub(crate) write_micros: Counter,
    pub(crate) provisioned: Counter,
    pub(crate) promotions: Counter,
    pub(crate) promotion_errors: Counter,
    pub(crate) copies: Counter,
    pub(crate) copy_errors: Counter,
    pub(crate) copied_bytes: Counter,
    pub(crate) resumed_bytes: Counter,
    pub(crate) quarantined: Counter,
    pub(crate) collected: Counter,
    pub(crate) released: Counter,
    pub(crate) segments: Gauge,
    pub(crate) bytes: Gauge,
    pub(crate) assigned: Gauge,
    pub(crate) locks: Gauge,
    pub(crate) copies_waiting: Gauge,
    pub(crate) lease_remaining: Gauge,
    pub(crate) handles: Gauge,
}

impl Meters {
    /// With the node's name as label, since several workers may share a process.
    pub(crate) fn new(node: &str) -> Self {
        let node = node.to_owned();
        macro_rules! meter {
            ($kind:ident, $name:literal) => {
                $kind!($name, "node" => node.clone())
            };
        }
        Self {
            reads: meter!(counter, "trough_worker_reads_total"),
            read_errors: meter!(counter, "trough_worker_read_errors_total"),
            read_micros: meter!(counter, "trough_worker_read_microseconds_total"),
            proxied: meter!(counter, "trough_worker_reads_proxied_total"),
            queries: meter!(counter, "trough_worker_queries_total"),
            query_segments: meter!(counter, "trough_worker_query_segments_total"),
            writes: meter!(counter, "trough_worker_writes_total"),
            write_errors: meter!(counter, "trough_worker_write_errors_total"),
            write_micros: meter!(counter, "trough_worker_write_microseconds_total"),
            provisioned: meter!(counter, "trough_worker_provisioned_total"),
            promotions: meter!(counter, "trough_worker_promotions_total"),
            promotion_errors: meter!(counter, "trough_worker_promotion_errors_total"),
            copies: meter!(counter, "trough_worker_copies_total"),
            copy_errors: meter!(counter, "trough_worker_copy_errors_total"),
            copied_bytes: meter!(counter, "trough_worker_copied_bytes_total"),
            resumed_bytes: meter!(counter, "trough_worker_resumed_bytes_total"),
            quarantined: meter!(counter, "trough_worker_quarantined_total"),
            collected: meter!(counter, "trough_worker_collected_total"),
            released: meter!(counter, "trough_worker_locks_released_total"),
            segments: meter!(gauge, "trough_worker_segments"),
            bytes: meter!(gauge, "trough_worker_bytes"),
            assigned: meter!(gauge, "trough_worker_assigned"),
            locks: meter!(gauge, "trough_worker_locks_held"),
            copies_waiting: meter!(gauge, "trough_worker_copies_waiting"),
            lease_remaining: meter!(gauge, "trough_worker_lease_remaining_seconds"),
            handles: meter!(gauge, "trough_worker_sqlite_handles"),
        }
    }
}
