//! The worker's metrics; docs/METRICS.md lists them. What is counted as it happens has handles, made once; what can be looked up is looked up
//! when somebody scrapes.

use std::sync::Once;

use metrics::{
    Counter, Histogram, Unit, counter, describe_counter as counts, describe_gauge as shows,
    describe_histogram as times, gauge, histogram,
};
use trough_engine::EngineStats;

use crate::{promotions, state::Worker};

/// Handles of what is counted as it happens.
pub(crate) struct Meters {
    /// Of the old endpoint.
    pub(crate) old: QueryMeters,
    /// Of `/v1/query`.
    pub(crate) new: QueryMeters,
    pub(crate) slow_queries: Counter,
    pub(crate) proxied: Counter,
    pub(crate) writes: Counter,
    pub(crate) write_errors: Counter,
    pub(crate) write_seconds: Histogram,
    pub(crate) provisioned: Counter,
    pub(crate) promotions: Counter,
    pub(crate) promotion_errors: Counter,
    pub(crate) promotion_seconds: Histogram,
    pub(crate) promoted_bytes: Counter,
    pub(crate) copies: Counter,
    pub(crate) copy_errors: Counter,
    pub(crate) copy_seconds: Histogram,
    pub(crate) copied_bytes: Counter,
    pub(crate) resumed_bytes: Counter,
    pub(crate) quarantined: Counter,
    pub(crate) collected: Counter,
    pub(crate) released: Counter,
    pub(crate) lease_renewals: Counter,
    pub(crate) lease_renew_failures: Counter,
}

/// Handles of one endpoint's queries.
pub(crate) struct QueryMeters {
    pub(crate) queries: Counter,
    pub(crate) errors: Counter,
    pub(crate) segments: Counter,
    pub(crate) segment_errors: Counter,
    pub(crate) rows: Counter,
    pub(crate) bytes: Counter,
    pub(crate) seconds: Histogram,
}

impl QueryMeters {
    fn new(node: &str, endpoint: &'static str) -> Self {
        let labels = [("node", node.to_owned()), ("endpoint", endpoint.to_owned())];
        Self {
            queries: counter!("trough_worker_queries_total", &labels),
            errors: counter!("trough_worker_query_errors_total", &labels),
            segments: counter!("trough_worker_query_segments_total", &labels),
            segment_errors: counter!("trough_worker_query_segment_errors_total", &labels),
            rows: counter!("trough_worker_query_rows_total", &labels),
            bytes: counter!("trough_worker_query_bytes_total", &labels),
            seconds: histogram!("trough_worker_query_seconds", &labels),
        }
    }
}

impl Meters {
    /// With the node's name as label, since several workers may share a process.
    pub(crate) fn new(node: &str) -> Self {
        static DESCRIBED: Once = Once::new();
        DESCRIBED.call_once(describe);
        macro_rules! meter {
            ($kind:ident, $name:literal) => {
                $kind!($name, "node" => node.to_owned())
            };
        }
        Self {
            old: QueryMeters::new(node, "old"),
            new: QueryMeters::new(node, "v1"),
            slow_queries: meter!(counter, "trough_worker_slow_queries_total"),
            proxied: meter!(counter, "trough_worker_reads_proxied_total"),
            writes: meter!(counter, "trough_worker_writes_total"),
            write_errors: meter!(counter, "trough_worker_write_errors_total"),
            write_seconds: meter!(histogram, "trough_worker_write_seconds"),
            provisioned: meter!(counter, "trough_worker_provisioned_total"),
            promotions: meter!(counter, "trough_worker_promotions_total"),
            promotion_errors: meter!(counter, "trough_worker_promotion_errors_total"),
            promotion_seconds: meter!(histogram, "trough_worker_promotion_seconds"),
            promoted_bytes: meter!(counter, "trough_worker_promoted_bytes_total"),
            copies: meter!(counter, "trough_worker_copies_total"),
            copy_errors: meter!(counter, "trough_worker_copy_errors_total"),
            copy_seconds: meter!(histogram, "trough_worker_copy_seconds"),
            copied_bytes: meter!(counter, "trough_worker_copied_bytes_total"),
            resumed_bytes: meter!(counter, "trough_worker_resumed_bytes_total"),
            quarantined: meter!(counter, "trough_worker_quarantined_total"),
            collected: meter!(counter, "trough_worker_collected_total"),
            released: meter!(counter, "trough_worker_locks_released_total"),
            lease_renewals: meter!(counter, "trough_worker_lease_renewals_total"),
            lease_renew_failures: meter!(counter, "trough_worker_lease_renew_failures_total"),
        }
    }
}

fn describe() {
    counts!("trough_worker_queries_total", "Queries answered");
    counts!("trough_worker_query_errors_total", "Queries that failed as a whole");
    counts!("trough_worker_query_segments_total", "Segments that queries asked for");
    counts!("trough_worker_query_segment_errors_total", "Segments that failed in queries");
    counts!("trough_worker_query_rows_total", "Rows that queries gave");
    counts!("trough_worker_query_bytes_total", Unit::Bytes, "Bytes of those rows");
    times!(
        "trough_worker_query_seconds",
        Unit::Seconds,
        "Time that a query took here, waiting for its client included"
    );
    counts!("trough_worker_slow_queries_total", "Queries that took longer than SLOW_QUERY");
    counts!("trough_worker_reads_proxied_total", "Reads on the old endpoint passed on to a lock's holder");
    counts!("trough_worker_writes_total", "Writes to a segment");
    counts!("trough_worker_write_errors_total", "Writes that were refused or failed");
    times!("trough_worker_write_seconds", Unit::Seconds, "Time of a write request, its durable commit included");
    counts!("trough_worker_provisioned_total", "Segments made writable here");
    counts!("trough_worker_promotions_total", "Promotions done");
    counts!("trough_worker_promotion_errors_total", "Promotions that failed");
    times!("trough_worker_promotion_seconds", Unit::Seconds, "Time of a promotion that was done, waiting included");
    counts!("trough_worker_promoted_bytes_total", Unit::Bytes, "Bytes of promoted segments");
    counts!("trough_worker_copies_total", "Copies fetched from the canonical store");
    counts!("trough_worker_copy_errors_total", "Copies that failed, to be tried again");
    times!("trough_worker_copy_seconds", Unit::Seconds, "Time of a copy that was fetched");
    counts!("trough_worker_copied_bytes_total", Unit::Bytes, "Bytes fetched for copies");
    counts!(
        "trough_worker_resumed_bytes_total",
        Unit::Bytes,
        "Bytes of interrupted copies that were not fetched again"
    );
    counts!("trough_worker_quarantined_total", "Copies found broken and put into quarantine");
    counts!("trough_worker_collected_total", "Copies deleted because they are assigned elsewhere");
    counts!("trough_worker_locks_released_total", "Write locks given back");
    counts!("trough_worker_lease_renewals_total", "Renewals of the lease");
    counts!("trough_worker_lease_renew_failures_total", "Renewals of the lease that failed or took too long");
    shows!("trough_worker_segments", "Segments held, by tier");
    shows!("trough_worker_segment_bytes", Unit::Bytes, "Bytes of the segments held, by tier");
    shows!("trough_worker_assigned_segments", "Segments assigned to this node");
    shows!("trough_worker_broken_segments", "Segments whose copy here is broken and not served");
    shows!("trough_worker_quarantine_files", "Broken copies kept in LOCAL_DATA/quarantine");
    shows!("trough_worker_locks_held", "Write locks held");
    shows!("trough_worker_service_rows_waiting", "Service rows that are not written yet");
    shows!("trough_worker_copies_waiting", "Copies that wait or are under way");
    shows!("trough_worker_copies_in_flight", "Copies under way");
    shows!("trough_worker_copies_failing", "Segments whose last copy failed");
    shows!("trough_worker_promotions_in_flight", "Promotions under way, by stage");
    shows!("trough_worker_lease_ttl_seconds", Unit::Seconds, "How long a lease runs (LEASE)");
    shows!(
        "trough_worker_lease_remaining_seconds",
        Unit::Seconds,
        "How long the lease still runs, by this process's clock"
    );
    shows!("trough_worker_lease_age_seconds", Unit::Seconds, "Time since the lease was renewed");
    shows!("trough_worker_epoch", "The highest epoch seen");
    shows!("trough_worker_capacity_bytes", Unit::Bytes, "Bytes that this node may hold (STORAGE_IN_BYTES)");
    shows!("trough_worker_disk_bytes", Unit::Bytes, "Size of LOCAL_DATA's file system");
    shows!("trough_worker_disk_available_bytes", Unit::Bytes, "Room on LOCAL_DATA's file system");
    shows!("trough_worker_sqlite_handles", "SQLite read connections open, by state");
    counts!("trough_worker_sqlite_handle_hits_total", "Requests for a connection that found an open one");
    counts!("trough_worker_sqlite_handle_misses_total", "Requests for a connection that had to open one");
    counts!("trough_worker_sqlite_handle_evictions_total", "Connections closed to stay within HANDLE_BUDGET");
    shows!("trough_worker_sqlite_writers", "SQLite write connections open");
    counts!("trough_worker_inline_reads_total", "Queries answered without another thread");
    counts!("trough_worker_commits_total", "Durable transactions");
    counts!("trough_worker_committed_writes_total", "Write requests acknowledged in them");
    shows!("trough_worker_threads", "Threads of the SQLite pools, by what they do");
    shows!("trough_worker_queued_work", "Work that waits for a thread");
    shows!("trough_worker_cold_files", "Files of the canonical store that are open");
    counts!("trough_worker_cold_files_reopened_total", "Files of the canonical store found replaced and opened again");
    shows!("trough_worker_cold_cache_blocks", "Blocks of cold segments in memory");
    shows!("trough_worker_cold_cache_bytes", Unit::Bytes, "Bytes of those blocks");
    counts!("trough_worker_cold_cache_hits_total", "Blocks asked for that were in memory");
    counts!("trough_worker_cold_cache_misses_total", "Blocks asked for that were not");
    counts!("trough_worker_cold_fetches_total", "Reads sent to the canonical store");
    counts!("trough_worker_cold_fetch_errors_total", "Reads of the canonical store that failed");
    counts!("trough_worker_cold_fetched_bytes_total", Unit::Bytes, "Bytes that those reads brought");
}

impl Worker {
    /// Sets what is looked up when somebody scrapes.
    pub(crate) fn gauge(&self) {
        let node = self.node.as_str();
        let tier = if self.settings.run_as_cold_storage_node { "cold" } else { "hot" };
        macro_rules! show {
            ($name:literal, $value:expr) => {
                gauge!($name, "node" => node.to_owned()).set($value as f64)
            };
            ($name:literal, $label:literal = $at:expr, $value:expr) => {
                gauge!($name, "node" => node.to_owned(), $label => $at).set($value as f64)
            };
        }
        let seconds = |name: &'static str, value: f64| gauge!(name, "node" => node.to_owned()).set(value);
        let (segments, bytes) = self.files.totals();
        show!("trough_worker_segments", "tier" = tier, segments);
        show!("trough_worker_segment_bytes", "tier" = tier, bytes);
        show!("trough_worker_assigned_segments", self.wants.len());
        show!("trough_worker_broken_segments", self.files.broken().len());
        show!("trough_worker_quarantine_files", self.quarantine.list().len());
        show!("trough_worker_locks_held", self.locks.counts().0);
        show!("trough_worker_service_rows_waiting", self.advertiser.waiting());
        let (in_flight, failing) = self.copies.counts();
        show!("trough_worker_copies_waiting", self.copies.waiting());
        show!("trough_worker_copies_in_flight", in_flight);
        show!("trough_worker_copies_failing", failing);
        for (stage, count) in promotions::STAGES.into_iter().zip(self.promotions.by_stage()) {
            show!("trough_worker_promotions_in_flight", "stage" = stage, count);
        }
        seconds("trough_worker_lease_ttl_seconds", self.lease.ttl().as_secs_f64());
        seconds("trough_worker_lease_remaining_seconds", self.lease.remaining());
        seconds("trough_worker_lease_age_seconds", self.lease.age().unwrap_or(0.0));
        show!("trough_worker_epoch", self.highest_epoch());
        show!("trough_worker_capacity_bytes", self.settings.storage_in_bytes);
        if let Ok(disk) = rustix::fs::statvfs(&self.settings.local_data) {
            show!("trough_worker_disk_bytes", disk.f_blocks * disk.f_frsize);
            show!("trough_worker_disk_available_bytes", disk.f_bavail * disk.f_frsize);
        }
        gauge_engine(node, &self.engine.stats(), tier == "cold");
    }
}

fn gauge_engine(node: &str, stats: &EngineStats, cold: bool) {
    macro_rules! show {
        ($name:literal, $value:expr) => {
            gauge!($name, "node" => node.to_owned()).set($value as f64)
        };
        ($name:literal, $label:literal = $at:literal, $value:expr) => {
            gauge!($name, "node" => node.to_owned(), $label => $at).set($value as f64)
        };
    }
    macro_rules! count {
        ($name:literal, $value:expr) => {
            counter!($name, "node" => node.to_owned()).absolute($value)
        };
    }
    show!("trough_worker_sqlite_handles", "state" = "busy", stats.handles_busy);
    show!("trough_worker_sqlite_handles", "state" = "idle", stats.handles_open.saturating_sub(stats.handles_busy));
    count!("trough_worker_sqlite_handle_hits_total", stats.handle_hits);
    count!("trough_worker_sqlite_handle_misses_total", stats.handle_misses);
    count!("trough_worker_sqlite_handle_evictions_total", stats.handle_evictions);
    show!("trough_worker_sqlite_writers", stats.writers_open);
    count!("trough_worker_inline_reads_total", stats.inline_reads);
    count!("trough_worker_commits_total", stats.commits);
    count!("trough_worker_committed_writes_total", stats.writes);
    show!("trough_worker_threads", "state" = "running", stats.running);
    show!("trough_worker_threads", "state" = "blocked", stats.blocked);
    show!("trough_worker_queued_work", stats.queued);
    if cold {
        let remote = &stats.remote;
        show!("trough_worker_cold_files", remote.files_open);
        count!("trough_worker_cold_files_reopened_total", remote.files_reopened);
        show!("trough_worker_cold_cache_blocks", remote.blocks + remote.inner_pages);
        show!("trough_worker_cold_cache_bytes", remote.block_bytes + remote.inner_page_bytes);
        count!("trough_worker_cold_cache_hits_total", remote.block_hits);
        count!("trough_worker_cold_cache_misses_total", remote.block_misses);
        count!("trough_worker_cold_fetches_total", remote.fetches);
        count!("trough_worker_cold_fetch_errors_total", remote.fetch_errors);
        count!("trough_worker_cold_fetched_bytes_total", remote.fetched_bytes);
    }
}
