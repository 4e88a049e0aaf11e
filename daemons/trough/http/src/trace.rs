//! The trace of the request that a task works for, and how it goes on to other nodes.

use std::future::Future;

use trough_core::trace::{TRACEPARENT, Trace};

tokio::task_local! {
    static CURRENT: Trace;
}

/// A trace that begins here.
pub fn new_trace() -> Trace {
    Trace::new(fastrand::u128(..), fastrand::u64(..))
}

/// The trace of the request that this task works for; none outside of requests.
pub fn current_trace() -> Option<Trace> {
    let trace = CURRENT.try_with(|trace| *trace).ok()?;
    #[cfg(feature = "otlp")]
    let trace = crate::otlp::continued(trace);
    Some(trace)
}

/// Has a request to another node carry the trace of the one that is answered.
pub fn traced(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    match current_trace() {
        Some(trace) => request.header(TRACEPARENT, trace.to_string()),
        None => request,
    }
}

/// Runs a request's work under its trace.
pub(crate) fn under<F: Future>(trace: Trace, work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(trace, work)
}
