//! Binding a port and serving a router on it, with or without TLS, until the shutdown.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, extract::DefaultBodyLimit, serve::Listener};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use trough_config::Settings;

use crate::{
    protocol,
    tls::{self, TlsError},
};

/// A peer that has not finished its TLS handshake by then is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Why a port cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error(
        "{setting} {port} on {address} is in use: another process listens there; stop it, or set {setting} to a free port"
    )]
    InUse {
        /// The setting that names the port.
        setting: &'static str,
        /// The port.
        port: u16,
        /// The address of LISTEN.
        address: IpAddr,
    },
    /// Something else.
    #[error("listen on {address}:{port} ({setting}, LISTEN): {source}")]
    Other {
        /// The setting that names the port.
        setting: &'static str,
        /// The port.
        port: u16,
        /// The address of LISTEN.
        address: IpAddr,
        /// Why.
        source: io::Error,
    },
}

/// A port that is bound but not served yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    addr: SocketAddr,
    setting: &'static str,
}

/// A listener at work.
#[derive(Debug)]
pub struct Served {
    /// Where it listens; the port is a real one, also where the setting says 0.
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Bound {
    /// Binds `port` on LISTEN's address. `setting` names the port in messages.
    ///
    /// # Errors
    /// [`BindError`] names setting and port.
    pub fn bind(settings: &Settings, setting: &'static str, port: u16) -> Result<Self, BindError> {
        let address = settings.listen;
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { setting, port, address },
            _ => BindError::Other { setting, port, address, source },
        };
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(fail)?;
        socket.set_reuseaddr(true).map_err(fail)?;
        socket.bind(SocketAddr::new(address, port)).map_err(fail)?;
        let listener = socket.listen(BACKLOG).map_err(fail)?;
        let addr = listener.local_addr().map_err(fail)?;
        if address.is_loopback() && settings.tokens.is_empty() {
            tracing::info!(%addr, setting, "listening on loopback only, as there are no TOKENS");
        } else {
            tracing::info!(%addr, setting, tls = settings.tls.is_some(), "listening");
        }
        Ok(Self { listener, addr, setting })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves `router` until `shutdown`, then lets requests in flight finish within SHUTDOWN_GRACE. Bodies beyond
    /// MAX_BODY_BYTES are refused with 413.
    ///
    /// # Errors
    /// [`TlsError`] if TLS_CERT and TLS_KEY are set but unusable.
    pub fn serve(self, settings: &Settings, router: Router, shutdown: CancellationToken) -> Result<Served, TlsError> {
        let acceptor = match &settings.tls {
            None => None,
            Some(files) => Some(TlsAcceptor::from(tls::server_config(files, shutdown.clone())?)),
        };
        let listener = Acceptor { tcp: self.listener, tls: acceptor, handshakes: JoinSet::new() };
        let router = protocol::layer(router).layer(DefaultBodyLimit::max(settings.max_body_bytes));
        let (addr, setting, grace) = (self.addr, self.setting, settings.shutdown_grace);
        let task = tokio::spawn(async move {
            let stopped = shutdown.clone();
            let serving = axum::serve(listener, router)
                .with_graceful_shutdown(async move { stopped.cancelled().await })
                .into_future();
            let deadline = async {
                shutdown.cancelled().await;
                tokio::time::sleep(grace).await;
            };
            tokio::select! {
                result = serving => if let Err(e) = result {
                    tracing::error!(%addr, setting, error = %e, "listener failed");
                },
                () = deadline => tracing::info!(%addr, setting, "requests still in flight at shutdown are dropped"),
            }
        });
        Ok(Served { addr, task })
    }
}

impl Served {
    /// Waits until the listener has stopped.
    pub async fn stopped(self) {
        if let Err(e) = self.task.await
            && e.is_panic()
        {
            tracing::error!(addr = %self.addr, "listener panicked");
        }
    }
}

/// Accepts connections; TLS handshakes go on beside, so that a slow peer holds nobody up.
struct Acceptor {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl Listener for Acceptor {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            tokio::select! {
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if let Err(e) = stream.set_nodelay(true) {
                            tracing::debug!(%peer, error = %e, "connection lost before it was accepted");
                            continue;
                        }
                        let Some(tls) = self.tls.clone() else { return (Connection::Plain(stream), peer) };
                        self.handshakes.spawn(async move {
                            match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                                Ok(Ok(stream)) => Some((stream, peer)),
                                Ok(Err(e)) => {
                                    tracing::debug!(%peer, error = %e, "tls handshake failed");
                                    None
                                }
                                Err(_) => None,
                            }
                        });
                    }
                    Err(e) if matches!(
                        e.kind(),
                        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                    ) => {}
                    Err(e) => {
                        // Out of descriptors, most likely: connections in flight must end first.
                        tracing::error!(error = %e, "accept connection");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                },
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some((stream, peer))) = done {
                        return (Connection::Tls(Box::new(stream)), peer);
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A connection, with or without TLS.
enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
