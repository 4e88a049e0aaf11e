//! Spans to an OpenTelemetry collector, over OTLP/HTTP with Protocol Buffers.
//!
//! What OpenTelemetry's own environment variables say (OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, OTEL_BSP_…) holds.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use axum::http::{Request, Response};
use bytes::Bytes;
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _},
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, Registry, filter::Targets};
use trough_core::Trace;

use crate::logging::Logging;

/// The variables that name a collector where OTLP_ENDPOINT does not.
const VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// How long a collector may take for one batch, and for the last one at shutdown.
const EXPORT_LIMIT: Duration = Duration::from_secs(10);
const LAST_EXPORT_LIMIT: Duration = Duration::from_secs(3);

/// Whether spans go anywhere.
static ACTIVE: AtomicBool = AtomicBool::new(false);

/// Ends the export when it is dropped, after the last spans.
#[derive(Debug)]
pub(crate) struct Exporting(SdkTracerProvider);

impl Drop for Exporting {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_EXPORT_LIMIT) {
            tracing::warn!(%error, "the last spans could not be sent to the collector");
        }
    }
}

type Spans = Box<dyn Layer<Registry> + Send + Sync>;

/// The layer that exports spans; none if no collector is named.
pub(crate) fn layer(logging: &Logging<'_>) -> anyhow::Result<Option<(Spans, Exporting)>> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if logging.otlp_endpoint.is_none() && !VARIABLES.iter().any(|name| set(name)) {
        return Ok(None);
    }
    let http = reqwest::Client::builder().timeout(EXPORT_LIMIT).build().context("build the collector's HTTP client")?;
    let sender = Sender { http, runtime: tokio::runtime::Handle::current() };
    let mut exporter = SpanExporter::builder().with_http().with_http_client(sender).with_timeout(EXPORT_LIMIT);
    if let Some(endpoint) = logging.otlp_endpoint {
        exporter = exporter.with_endpoint(traces_url(endpoint));
    }
    let exporter = exporter.build().context("make the exporter of spans (OTLP_ENDPOINT)")?;
    let resource = Resource::builder()
        .with_service_name(format!("trough-{}", logging.part))
        .with_attribute(KeyValue::new("service.instance.id", logging.node.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("trough"))
        .with_threads(false)
        .with_location(false)
        .with_tracked_inactivity(false)
        // Ours alone: spans of libraries would be without a parent. Segments' spans are of level trace.
        .with_filter(Targets::new().with_target("trough::request", tracing::Level::TRACE));
    ACTIVE.store(true, Ordering::Release);
    Ok(Some((spans.boxed(), Exporting(provider))))
}

/// A collector's base URL, or the one for traces itself.
fn traces_url(endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") }
}

/// Makes a request's span the child of the step that sent it.
pub(crate) fn adopt(span: &Span, trace: Trace) {
    if !ACTIVE.load(Ordering::Relaxed) {
        return;
    }
    let flags = if trace.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let id = TraceId::from(trace.id().number());
    let parent = SpanContext::new(id, SpanId::from(trace.span()), flags, true, TraceState::default());
    // It fails for a span that is not exported, which needs no parent.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent));
}

/// The trace as the current span hands it on.
pub(crate) fn continued(trace: Trace) -> Trace {
    if !ACTIVE.load(Ordering::Relaxed) {
        return trace;
    }
    let context = Span::current().context();
    let span = context.span().span_context().clone();
    if !span.is_valid() {
        return trace;
    }
    trace.with_span(u64::from_be_bytes(span.span_id().to_bytes())).with_sampled(span.is_sampled())
}

/// Sends batches by the client that everything here uses, on the process's runtime: the exporter's thread has none.
#[derive(Debug)]
struct Sender {
    http: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

#[async_trait::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sending = self.runtime.spawn(async move {
            let answer = http.execute(request.try_into()?).await?;
            let status = answer.status();
            let mut response = Response::new(answer.bytes().await?);
            *response.status_mut() = status;
            Ok::<_, reqwest::Error>(response)
        });
        Ok(sending.await??)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_endpoint_is_a_base_or_complete() {
        for endpoint in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
            assert_eq!(super::traces_url(endpoint), "http://c:4318/v1/traces");
        }
    }
}
