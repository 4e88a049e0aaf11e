//! The process's metrics: one recorder, what is known of the process itself, and the text of `/metrics`.
//!
//! Nothing grows where nobody scrapes: histograms have fixed buckets, and what was recorded is sorted into them every few seconds.

use std::{sync::OnceLock, time::Duration};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

/// Bounds of all histograms of seconds.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// How often recordings are sorted into the buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// The process's recorder.
pub(crate) struct Recorder {
    handle: PrometheusHandle,
    process: Collector,
}

/// The recorder, made at the first call. Parts in one process (tests) share it.
pub(crate) fn recorder() -> &'static Recorder {
    static RECORDER: OnceLock<Recorder> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let builder = PrometheusBuilder::new().set_buckets(&SECONDS).expect("the list of bounds is not empty");
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed, /metrics stays empty");
        }
        let process = Collector::default();
        process.describe();
        describe();
        keep_up(handle.clone());
        Recorder { handle, process }
    })
}

/// A thread rather than a task: the recorder outlives the runtimes of tests.
fn keep_up(handle: PrometheusHandle) {
    let upkeep = move || {
        loop {
            std::thread::sleep(UPKEEP);
            handle.run_upkeep();
        }
    };
    if let Err(error) = std::thread::Builder::new().name("trough-metrics".into()).spawn(upkeep) {
        tracing::error!(%error, "cannot start the thread that keeps histograms small");
    }
}

impl Recorder {
    /// All metrics as Prometheus reads them.
    pub(crate) fn render(&self) -> String {
        self.process.collect();
        self.handle.run_upkeep();
        self.handle.render()
    }
}

fn describe() {
    describe_gauge!("trough_build_info", "What was built: always 1");
    describe_gauge!("trough_ready", "Whether /readyz says yes");
    describe_counter!("trough_http_requests_total", "Requests answered, by the class of their status");
    describe_histogram!(
        "trough_http_request_duration_seconds",
        Unit::Seconds,
        "Time from a request's head to the last byte of its answer"
    );
    describe_gauge!("trough_http_requests_in_flight", "Requests whose answer is not complete");
    describe_counter!("trough_http_response_bytes_total", Unit::Bytes, "Bytes of answers' bodies");
}

/// Tells what was built: the part's name, this build's version, and the SQLite in it.
pub fn build_info(part: &'static str, node: &str, sqlite: &'static str) {
    recorder();
    gauge!(
        "trough_build_info",
        "part" => part,
        "node" => node.to_owned(),
        "version" => env!("CARGO_PKG_VERSION"),
        "rustc" => env!("TROUGH_RUSTC"),
        "commit" => option_env!("TROUGH_BUILD_COMMIT").unwrap_or_default(),
        "sqlite" => sqlite,
    )
    .set(1.0);
}
