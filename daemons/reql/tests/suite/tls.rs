//! TLS with an authority of one's own.

use std::{io::Write, path::Path, sync::Arc};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use trough_reql::{Client, Error, Options, TlsOptions, r};

use crate::support::{Peer, options};

/// A server whose certificate is for `localhost`; gives its address and the certificate's PEM.
async fn start_tls() -> (std::net::SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a usable certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let (reader, writer) = tokio::io::split(stream);
                let Some(mut peer) = Peer::shake((Box::new(reader), Box::new(writer))).await else { return };
                while let Some((token, _)) = peer.next().await {
                    peer.atom(token, json!("private")).await;
                }
            });
        }
    });
    (address, made.cert.pem())
}

fn over_tls(address: std::net::SocketAddr, ca_file: Option<&Path>, name: Option<&str>) -> Client {
    let tls = TlsOptions { ca_file: ca_file.map(Into::into), server_name: name.map(str::to_owned) };
    Client::new(Options { tls: Some(tls), ..options(&[address]) })
}

#[tokio::test]
async fn the_certificate_is_checked() {
    let (address, pem) = start_tls().await;
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(pem.as_bytes()).expect("written");

    let trusted = over_tls(address, Some(file.path()), Some("localhost"));
    assert_eq!(trusted.run(&r::now()).await.expect("an answer"), json!("private"));

    let reason = async |client: Client| match client.run(&r::now()).await {
        Err(Error::Connect { reason }) => reason,
        other => panic!("{other:?}"),
    };
    let other_name = reason(over_tls(address, Some(file.path()), Some("example.com"))).await;
    assert!(other_name.contains("TLS") && other_name.contains("certificate"), "{other_name}");
    let unknown = reason(over_tls(address, None, Some("localhost"))).await;
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
    let missing = reason(over_tls(address, Some(Path::new("/nowhere/ca.pem")), Some("localhost"))).await;
    assert!(missing.contains("/nowhere/ca.pem"), "{missing}");
    let empty = tempfile::NamedTempFile::new().expect("a file");
    let empty = reason(over_tls(address, Some(empty.path()), Some("localhost"))).await;
    assert!(empty.contains("holds no certificate"), "{empty}");
    // Without TLS the server is not understood, and says so.
    assert!(Client::new(options(&[address])).run(&r::now()).await.is_err());
}
