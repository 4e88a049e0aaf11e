//! The metadata server's metrics; docs/METRICS.md lists them.

use std::{path::PathBuf, sync::Arc};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter as counts, describe_gauge as shows,
    describe_histogram as times, gauge, histogram,
};

/// Handles of what is counted as it happens.
pub(crate) struct Meters {
    pub(crate) connections: Counter,
    pub(crate) connected: Gauge,
    pub(crate) queries: Counter,
    pub(crate) errors: Counter,
    pub(crate) seconds: Histogram,
}

impl Meters {
    pub(crate) fn new() -> Self {
        counts!("trough_meta_connections_total", "Connections of clients");
        shows!("trough_meta_connections", "Clients connected");
        counts!("trough_meta_queries_total", "Queries");
        counts!("trough_meta_query_errors_total", "Queries that failed");
        times!(
            "trough_meta_query_seconds",
            Unit::Seconds,
            "Time until a query's first answer; waiting for changes is left out"
        );
        shows!("trough_meta_changefeeds", "Changefeeds open");
        shows!("trough_meta_database_bytes", Unit::Bytes, "Bytes of the database's files");
        Self {
            connections: counter!("trough_meta_connections_total"),
            connected: gauge!("trough_meta_connections"),
            queries: counter!("trough_meta_queries_total"),
            errors: counter!("trough_meta_query_errors_total"),
            seconds: histogram!("trough_meta_query_seconds"),
        }
    }
}

/// What a running server can tell of itself.
#[derive(Clone, Debug)]
pub struct Figures {
    dir: Arc<PathBuf>,
    address: std::net::SocketAddr,
}

/// The figures of one moment.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Now {
    /// Where it listens.
    pub address: std::net::SocketAddr,
    /// Bytes of the database's files.
    pub database_bytes: u64,
}

impl Figures {
    pub(crate) fn new(dir: PathBuf, address: std::net::SocketAddr) -> Self {
        Self { dir: Arc::new(dir), address }
    }

    /// As it is now.
    pub fn now(&self) -> Now {
        let files = std::fs::read_dir(&*self.dir).into_iter().flatten().flatten();
        let database_bytes = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        Now { address: self.address, database_bytes }
    }

    /// Sets what is looked up when somebody scrapes.
    pub fn gauge(&self) {
        gauge!("trough_meta_database_bytes").set(self.now().database_bytes as f64);
    }
}
