//! Structured logs on standard error, and spans to a collector where there is one.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};
use trough_config::Settings;

/// What is logged, how, and whose spans they are.
#[derive(Clone, Debug)]
pub struct Logging<'a> {
    /// `worker`, `sync` or `meta`.
    pub part: &'static str,
    /// This node's name.
    pub node: &'a str,
    /// LOG_LEVEL: a level's name (Python's included), or a filter as `tracing` has it.
    pub level: &'a str,
    /// Whether each line is a JSON object (LOG_FORMAT).
    pub json: bool,
    /// OTLP_ENDPOINT.
    pub otlp_endpoint: Option<&'a str>,
}

impl<'a> Logging<'a> {
    /// Lines of text, and no spans.
    pub fn of_level(part: &'static str, level: &'a str) -> Self {
        Self { part, node: "", level, json: false, otlp_endpoint: None }
    }

    /// As the settings say.
    pub fn new(part: &'static str, settings: &'a Settings) -> Self {
        Self {
            part,
            node: settings.hostname.as_str(),
            level: &settings.log_level,
            json: settings.log_json,
            otlp_endpoint: settings.otlp_endpoint.as_deref(),
        }
    }
}

/// Sends the last spans when it is dropped.
#[derive(Debug, Default)]
pub struct Logged {
    #[cfg(feature = "otlp")]
    exporting: Option<crate::otlp::Exporting>,
}

/// Turns logging on, and the export of spans if a collector is named. A second call in the same process changes nothing. Must be called
/// inside a tokio runtime.
///
/// # Errors
/// If the level cannot be understood, or the collector's address.
pub fn init_logging(logging: &Logging<'_>) -> anyhow::Result<Logged> {
    let level = logging.level.to_lowercase();
    let directive = match level.as_str() {
        "warning" => "warn",
        "critical" | "fatal" => "error",
        "notset" => "trace",
        other => other,
    };
    let filter = EnvFilter::try_new(directive)
        .with_context(|| format!("LOG_LEVEL {level:?} is none of error, warn, info, debug, trace, and no filter"))?;
    // The span of a request carries its trace, without which even a lone error cannot be placed.
    let filter = match directive.contains("trough::request") {
        true => filter,
        false => filter.add_directive("trough::request=info".parse().context("a fixed directive")?),
    };
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if logging.json {
        lines.json().flatten_event(true).with_filter(filter).boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).with_filter(filter).boxed()
    };
    let mut logged = Logged::default();
    #[cfg_attr(not(feature = "otlp"), allow(unused_mut, reason = "the exporter alone adds a layer"))]
    let mut layers: Vec<Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync>> = vec![lines];
    #[cfg(feature = "otlp")]
    if let Some((layer, exporting)) = crate::otlp::layer(logging)? {
        layers.push(layer);
        logged.exporting = Some(exporting);
    }
    #[cfg(not(feature = "otlp"))]
    if logging.otlp_endpoint.is_some() {
        anyhow::bail!("OTLP_ENDPOINT is set, but this build has no OTLP (build with the feature otlp)");
    }
    // The only failure is that a subscriber is installed already.
    if Registry::default().with(layers).try_init().is_err() {
        logged = Logged::default();
    }
    Ok(logged)
}
