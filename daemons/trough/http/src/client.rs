//! The HTTP client with which daemons speak to each other.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use trough_config::Settings;
use trough_core::protocol::{PROTOCOL, PROTOCOL_HEADER};

/// A keep-alive client that trusts TLS_CA (beside the built-in roots) and shows this node's token.
///
/// # Errors
/// If TLS_CA cannot be read or TOKEN cannot stand in a header.
pub fn peer_client(settings: &Settings) -> anyhow::Result<reqwest::Client> {
    let mut builder = builder(settings)?;
    if let Some(token) = &settings.token {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .context("TOKEN holds characters that cannot stand in a header")?;
        value.set_sensitive(true);
        builder = builder.default_headers([(AUTHORIZATION, value)].into_iter().collect());
    }
    builder.build().context("build the HTTP client")
}

/// The same without a token, for requests that are passed on in another's name.
///
/// # Errors
/// If TLS_CA cannot be read.
pub fn stranger_client(settings: &Settings) -> anyhow::Result<reqwest::Client> {
    builder(settings)?.build().context("build the HTTP client")
}

fn builder(settings: &Settings) -> anyhow::Result<reqwest::ClientBuilder> {
    let protocol = (HeaderName::from_static(PROTOCOL_HEADER), HeaderValue::from(PROTOCOL));
    let mut builder = reqwest::Client::builder()
        .default_headers([protocol].into_iter().collect())
        .connect_timeout(Duration::from_secs(5))
        .pool_idle_timeout(Duration::from_secs(60))
        .tcp_nodelay(true)
        // A redirect could lead the token elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    #[cfg(target_os = "linux")]
    {
        // After a cut, a kept connection would be tried again only at TCP's long intervals.
        builder = builder.tcp_user_timeout(Duration::from_secs(5));
    }
    if let Some(ca) = &settings.tls_ca {
        let pem = std::fs::read(ca).with_context(|| format!("read TLS_CA {}", ca.display()))?;
        for certificate in
            reqwest::Certificate::from_pem_bundle(&pem).with_context(|| format!("parse TLS_CA {}", ca.display()))?
        {
            builder = builder.add_root_certificate(certificate);
        }
    }
    Ok(builder)
}
