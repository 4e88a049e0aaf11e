//! TLS on a listener: only who trusts the authority gets through, and a new certificate is taken while the daemon runs. The
//! certificates in `data` are for these tests only and belong to 127.0.0.1.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use trough_config::Settings;
use trough_http::{Bound, Daemon, peer_client};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn put(dir: &Path, name: &str) {
    std::fs::copy(data(&format!("{name}.pem")), dir.join("cert.pem")).expect("copy certificate");
    std::fs::copy(data(&format!("{name}.key")), dir.join("key.pem")).expect("copy key");
}

/// The certificate that the server shows now, as DER.
async fn shown(addr: std::net::SocketAddr) -> Vec<u8> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(data("ca.pem")).expect("authority");
    for certificate in rustls_pemfile::certs(&mut pem.as_slice()) {
        roots.add(certificate.expect("a certificate")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(addr).await.expect("connect");
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("handshake");
    stream.get_ref().1.peer_certificates().expect("certificates")[0].to_vec()
}

#[tokio::test]
async fn certificates_are_checked_and_follow_their_files() {
    let dir = tempfile::tempdir().expect("directory");
    put(dir.path(), "first");
    let settings = Settings::from_yaml(&format!(
        "LISTEN: 127.0.0.1\nSHUTDOWN_GRACE: 0.2\nTLS_CERT: {dir}/cert.pem\nTLS_KEY: {dir}/key.pem\nTLS_CA: {ca}\n",
        dir = dir.path().display(),
        ca = data("ca.pem").display(),
    ))
    .expect("settings");
    let daemon = Daemon::new(&settings, Arc::new(|| Box::pin(async { serde_json::Value::Null })));
    let shutdown = CancellationToken::new();
    let served = Bound::bind(&settings, "READ_PORT", 0)
        .expect("bind")
        .serve(&settings, daemon.common_routes(), shutdown.clone())
        .expect("serve");
    let url = format!("https://{}/livez", served.addr);
    let answer = peer_client(&settings).expect("client").get(&url).send().await.expect("an answer");
    assert_eq!(answer.text().await.expect("text"), "alive\n");
    assert!(reqwest::Client::new().get(&url).send().await.is_err(), "an unknown authority must not be trusted");
    assert!(reqwest::get(format!("http://{}/livez", served.addr)).await.is_err(), "no plain HTTP beside TLS");

    let first = shown(served.addr).await;
    put(dir.path(), "second");
    let begun = Instant::now();
    while shown(served.addr).await == first {
        assert!(begun.elapsed() < Duration::from_secs(30), "the new certificate is never shown");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    shutdown.cancel();
    served.stopped().await;
}

#[tokio::test]
async fn unusable_files_are_named() {
    let dir = tempfile::tempdir().expect("directory");
    put(dir.path(), "first");
    std::fs::copy(data("second.key"), dir.path().join("key.pem")).expect("another key");
    let error = |cert: &str, key: &str| {
        let yaml = format!("TLS_CERT: {}/{cert}\nTLS_KEY: {}/{key}\n", dir.path().display(), dir.path().display());
        let settings = Settings::from_yaml(&yaml).expect("settings");
        let bound = Bound::bind(&settings, "READ_PORT", 0).expect("bind");
        bound.serve(&settings, axum::Router::new(), CancellationToken::new()).expect_err("refused").to_string()
    };
    assert!(error("nosuch.pem", "key.pem").contains("TLS_CERT"));
    assert!(error("cert.pem", "cert.pem").contains("TLS_KEY"));
    assert!(error("cert.pem", "key.pem").contains("TLS_KEY"));
}
