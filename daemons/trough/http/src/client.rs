//! The HTTP client with which daemons speak to each other.

use std::time::Duration;

use anyhow::Context as _;
use trough_config::Settings;
use trough_core::protocol::{PROTOCOL, PROTOCOL_HEADER};

/// A keep-alive client that trusts TLS_CA (beside the built-in roots) and shows this node's token.
///
/// # Errors
/// If TLS_CA cannot be read or TOKEN cannot stand in a header.
pub fn peer_client(settings: &Settings) -> anyhow::Result<reqwest::Client> {
    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert(PROTOCOL_HEADER, PROTOCOL.into());
    let mut builder = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .pool_idle_timeout(Duration::from_secs(60))
        .tcp_nodelay(true)
        .no_proxy();
    if let Some(ca) = &settings.tls_ca {
        let pem = std::fs::read(ca).with_context(|| format!("read TLS_CA {}", ca.display()))?;
        for certificate in
            reqwest::Certificate::from_pem_bundle(&pem).with_context(|| format!("parse TLS_CA {}", ca.display()))?
        {
            builder = builder.add_root_certificate(certificate);
        }
    }
    if let Some(token) = &settings.token {
        let mut value = reqwest::header::HeaderValue::from_str(&format!("Bearer {token}"))
            .context("TOKEN holds characters that cannot stand in a header")?;
        value.set_sensitive(true);
        headers.insert(reqwest::header::AUTHORIZATION, value);
    }
    builder.default_headers(headers).build().context("build the HTTP client")
}
