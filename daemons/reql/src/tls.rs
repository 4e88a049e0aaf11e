//! TLS with rustls, its provider named here, so that no process-wide default is needed.

use std::{fs::File, io::BufReader, sync::Arc};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::options::TlsOptions;

/// Speaks TLS over a connection. The authorities are read anew each time, so a renewed file counts at the next connect.
pub(crate) async fn connect(
    options: &TlsOptions,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, String> {
    let name = options.server_name.as_deref().unwrap_or(host);
    let server = ServerName::try_from(name.to_owned()).map_err(|_| format!("TLS: invalid server name {name:?}"))?;
    let options = options.clone();
    let config = tokio::task::spawn_blocking(move || config(&options)).await.map_err(|error| error.to_string())??;
    TlsConnector::from(Arc::new(config)).connect(server, stream).await.map_err(|error| format!("TLS: {error}"))
}

fn config(options: &TlsOptions) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match &options.ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let problem = |error: &dyn std::fmt::Display| format!("TLS: authorities of {}: {error}", path.display());
            let file = File::open(path).map_err(|error| problem(&error))?;
            for certificate in rustls_pemfile::certs(&mut BufReader::new(file)) {
                let certificate = certificate.map_err(|error| problem(&error))?;
                roots.add(certificate).map_err(|error| problem(&error))?;
            }
            if roots.is_empty() {
                return Err(problem(&"the file holds no certificate"));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
