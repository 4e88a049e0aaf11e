//! TLS for listeners: the certificate is read again when its files change.

use std::{path::Path, sync::Arc, time::Duration};

use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_util::sync::CancellationToken;
use trough_config::TlsFiles;

use crate::files::Seen;

/// How often the files' times are looked at.
const RELOAD_CHECK: Duration = Duration::from_secs(1);

/// Why TLS cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {setting} {path}: {source}")]
    Read {
        /// TLS_CERT or TLS_KEY.
        setting: &'static str,
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds nothing of use.
    #[error("{setting} {path} holds no {what}")]
    Empty {
        /// TLS_CERT or TLS_KEY.
        setting: &'static str,
        /// The file.
        path: String,
        /// What was looked for.
        what: &'static str,
    },
    /// Certificate and key are unusable.
    #[error("TLS_CERT and TLS_KEY: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Holds the certificate in use.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

/// The protocols of a listener that speaks HTTP.
pub(crate) const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];

/// A configuration for a listener, whose certificate follows its files until `shutdown`. `protocols` are those that a client may
/// choose from, if it wants to. Must be called inside a runtime.
///
/// # Errors
/// [`TlsError`] if the files are unusable.
pub fn server_config(
    files: &TlsFiles,
    protocols: &[&[u8]],
    shutdown: CancellationToken,
) -> Result<Arc<ServerConfig>, TlsError> {
    let current = Arc::new(Current(RwLock::new(Arc::new(load(files)?))));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    tokio::spawn(follow(files.clone(), current, shutdown));
    Ok(Arc::new(config))
}

async fn follow(files: TlsFiles, current: Arc<Current>, shutdown: CancellationToken) {
    let look = || Seen::of([files.cert.as_path(), files.key.as_path()]);
    let mut seen = look();
    let mut failed: Option<String> = None;
    let mut ticks = tokio::time::interval(RELOAD_CHECK);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = look();
        if now == seen {
            continue;
        }
        match load(&files) {
            Ok(key) => {
                *current.0.write() = Arc::new(key);
                tracing::info!(cert = %files.cert.display(), "certificate reloaded");
                (seen, failed) = (now, None);
            }
            // Often the two files are written one after the other; the old pair serves until both fit.
            Err(e) => {
                let error = e.to_string();
                if failed.as_ref() != Some(&error) {
                    tracing::warn!(error, "the certificate has changed and is not usable: the old one serves on");
                    failed = Some(error);
                }
            }
        }
    }
}

fn load(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let read = |setting: &'static str, path: &Path| {
        std::fs::read(path).map_err(|source| TlsError::Read { setting, path: path.display().to_string(), source })
    };
    let empty = |setting, path: &Path, what| TlsError::Empty { setting, path: path.display().to_string(), what };
    let unreadable = |setting: &'static str, path: &Path, source| TlsError::Read {
        setting,
        path: path.display().to_string(),
        source,
    };
    let cert = read("TLS_CERT", &files.cert)?;
    let chain = rustls_pemfile::certs(&mut cert.as_slice())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| unreadable("TLS_CERT", &files.cert, e))?;
    if chain.is_empty() {
        return Err(empty("TLS_CERT", &files.cert, "certificate"));
    }
    let key = rustls_pemfile::private_key(&mut read("TLS_KEY", &files.key)?.as_slice())
        .map_err(|e| unreadable("TLS_KEY", &files.key, e))?
        .ok_or_else(|| empty("TLS_KEY", &files.key, "private key"))?;
    Ok(CertifiedKey::from_der(chain, key, &ring::default_provider())?)
}
