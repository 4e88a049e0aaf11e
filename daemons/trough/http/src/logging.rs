//! Structured logs on standard error.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::{EnvFilter, fmt};

/// Turns logging on: `level` is a level's name (Python's included) or a filter as `tracing` has it (LOG_LEVEL), `json`
/// asks for one JSON object a line (LOG_FORMAT). A second call in the same process changes nothing.
///
/// # Errors
/// If the level cannot be understood.
pub fn init_logging(level: &str, json: bool) -> anyhow::Result<()> {
    let level = level.to_lowercase();
    let directive = match level.as_str() {
        "warning" => "warn",
        "critical" | "fatal" => "error",
        "notset" => "trace",
        other => other,
    };
    let filter = EnvFilter::try_new(directive)
        .with_context(|| format!("LOG_LEVEL {level:?} is none of error, warn, info, debug, trace, and no filter"))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // The only failure is that a subscriber is installed already.
    let _ = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
    };
    Ok(())
}
