//! Structured logs on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};
use trough_config::Settings;

/// Turns logging on, by LOG_LEVEL (a level's name, Python's included, or a filter as `tracing` has it) and LOG_FORMAT.
/// A second call in the same process changes nothing.
pub fn init_logging(settings: &Settings) {
    let level = settings.log_level.to_lowercase();
    let directive = match level.as_str() {
        "warning" => "warn",
        "critical" | "fatal" => "error",
        "notset" => "trace",
        other => other,
    };
    let (filter, complaint) = match EnvFilter::try_new(directive) {
        Ok(filter) => (filter, None),
        Err(e) => (EnvFilter::new("info"), Some(e)),
    };
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = if settings.log_json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
    };
    if installed.is_ok()
        && let Some(complaint) = complaint
    {
        tracing::warn!(LOG_LEVEL = settings.log_level, error = %complaint, "log level not understood, info is used");
    }
}
