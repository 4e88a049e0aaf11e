//! What one listener takes from its clients.

use std::time::Duration;

use crate::{ConfigError, raw::Raw, system};

/// Limits of a listener; [`crate::keys::KEYS`] documents each.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "keys::KEYS documents every setting, in one place")]
pub struct HttpLimits {
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    /// None: no limit.
    pub send_timeout: Option<Duration>,
    pub idle_timeout: Duration,
    pub max_header_bytes: usize,
    pub max_headers: usize,
    pub max_connections: usize,
    pub max_connections_per_peer: usize,
    pub max_requests: usize,
    pub request_wait: Duration,
    pub max_streams: u32,
    /// Requests a second; none: no limit.
    pub rate_limit: Option<u32>,
}

pub(crate) fn resolve(raw: &Raw) -> Result<HttpLimits, ConfigError> {
    let seconds = |key: &str, default: f64| {
        let seconds = raw.seconds(key, default)?;
        if seconds.is_zero() { Err(raw.bad(key, "must be more than 0 seconds")) } else { Ok(seconds) }
    };
    let count = |key: &str, least: u64, most: u64, default: u64| match raw.whole(key, most)? {
        Some(n) if n < least => Err(raw.bad(key, format!("must be {least} or more, not {n}"))),
        other => Ok(other.unwrap_or(default)),
    };
    let send_timeout = raw.seconds("SEND_TIMEOUT", 3600.0)?;
    let connections = (system::descriptors() / 4).clamp(256, 16_384) as u64;
    let max_connections = count("MAX_CONNECTIONS", 1, 1_000_000, connections)?;
    Ok(HttpLimits {
        header_timeout: seconds("HEADER_TIMEOUT", 30.0)?,
        body_timeout: seconds("BODY_TIMEOUT", 60.0)?,
        send_timeout: (!send_timeout.is_zero()).then_some(send_timeout),
        idle_timeout: seconds("IDLE_TIMEOUT", 600.0)?,
        max_header_bytes: count("MAX_HEADER_BYTES", 8192, 16 << 20, 64 << 10)? as usize,
        max_headers: count("MAX_HEADERS", 8, 10_000, 100)? as usize,
        max_connections: max_connections as usize,
        max_connections_per_peer: count("MAX_CONNECTIONS_PER_PEER", 1, 1_000_000, max_connections.div_ceil(2))?
            as usize,
        max_requests: count("MAX_REQUESTS", 1, 1_000_000, 4096)? as usize,
        request_wait: raw.seconds("REQUEST_WAIT", 10.0)?,
        max_streams: count("MAX_STREAMS", 1, 100_000, 256)? as u32,
        rate_limit: match raw.whole("RATE_LIMIT", u32::MAX.into())? {
            None | Some(0) => None,
            Some(n) => Some(n as u32),
        },
    })
}
