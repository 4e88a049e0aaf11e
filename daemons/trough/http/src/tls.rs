//! TLS for listeners: the certificate is read again when its files change.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_util::sync::CancellationToken;
use trough_config::TlsFiles;

/// How often the files' times are looked at.
const RELOAD_CHECK: Duration = Duration::from_secs(5);

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

/// Reads the files and follows them until `shutdown`.
pub(crate) fn server_config(files: &TlsFiles, shutdown: CancellationToken) -> Result<Arc<ServerConfig>, TlsError> {
    let current = Arc::new(Current(RwLock::new(Arc::new(load(files)?))));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    tokio::spawn(follow(files.clone(), current, shutdown));
    Ok(Arc::new(config))
}

async fn follow(files: TlsFiles, current: Arc<Current>, shutdown: CancellationToken) {
    let mut seen = changed(&files);
    let mut ticks = tokio::time::interval(RELOAD_CHECK);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = changed(&files);
        if now == seen {
            continue;
        }
        match load(&files) {
            Ok(key) => {
                *current.0.write() = Arc::new(key);
                tracing::info!(cert = %files.cert.display(), "certificate reloaded");
                seen = now;
            }
            // Often the two files are written one after the other; the old pair serves until both fit.
            Err(e) => tracing::warn!(error = %e, "certificate changed but is not usable yet"),
        }
    }
}

fn changed(files: &TlsFiles) -> [Option<SystemTime>; 2] {
    [&files.cert, &files.key].map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
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
