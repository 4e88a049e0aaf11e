//! A server that speaks the protocol and leaves the answers to the test.

use std::{future::Future, net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use trough_reql::{
    Client, Options,
    proto::{WireReader, handshake, scram::Credentials, write_frame},
};

/// Longer than anything takes that goes well.
pub(crate) const LONG: Duration = Duration::from_secs(20);

type Stream = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

/// The server's side of a connection whose handshake is over.
pub(crate) struct Peer {
    reader: WireReader<Box<dyn AsyncRead + Send + Unpin>>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Peer {
    /// Shakes hands; the user is `admin` with the password `secret`.
    pub(crate) async fn shake(stream: Stream) -> Option<Peer> {
        let mut reader = WireReader::new(stream.0, 1 << 20);
        let mut writer = stream.1;
        let kept = Credentials::for_password("secret").expect("random bytes");
        let lookup = |name: &str| (name == "admin").then_some(kept);
        handshake::accept(&mut reader, &mut writer, "2.4.4", lookup).await.ok()?;
        Some(Peer { reader, writer })
    }

    /// The next query with its token; none when the client closed.
    pub(crate) async fn next(&mut self) -> Option<(i64, Value)> {
        let frame = tokio::time::timeout(LONG, self.reader.read_frame()).await.expect("a query in time").ok()??;
        Some((frame.token, serde_json::from_slice(&frame.body).expect("JSON")))
    }

    pub(crate) async fn answer(&mut self, token: i64, answer: Value) {
        // The client may be gone already.
        let _ = write_frame(&mut self.writer, token, answer.to_string().as_bytes()).await;
    }

    /// Answers a single value.
    pub(crate) async fn atom(&mut self, token: i64, value: Value) {
        self.answer(token, json!({"t": 1, "r": [value]})).await;
    }
}

/// A plain connection as a pair of halves.
pub(crate) fn halves(stream: TcpStream) -> Stream {
    let (reader, writer) = stream.into_split();
    (Box::new(reader), Box::new(writer))
}

/// Serves every connection by `serve`; the task ends with the test's runtime.
pub(crate) async fn start<F, W>(serve: F) -> SocketAddr
where
    F: Fn(Peer) -> W + Send + Sync + 'static + Clone,
    W: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serve = serve.clone();
            tokio::spawn(async move {
                if let Some(peer) = Peer::shake(halves(stream)).await {
                    serve(peer).await;
                }
            });
        }
    });
    address
}

pub(crate) fn options(hosts: &[SocketAddr]) -> Options {
    Options {
        hosts: hosts.iter().map(|host| (host.ip().to_string(), host.port())).collect(),
        password: "secret".to_owned(),
        query_timeout: LONG,
        ..Options::default()
    }
}

pub(crate) fn client(hosts: &[SocketAddr]) -> Client {
    Client::new(options(hosts))
}
