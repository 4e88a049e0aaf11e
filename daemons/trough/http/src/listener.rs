//! Binding a port and serving a router on it, with or without TLS, until the shutdown.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{Router, extract::DefaultBodyLimit};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trough_config::Settings;

use crate::{
    gate::Doors,
    observe::Observe,
    protocol,
    serve::{self, Door},
    tls::{self, TlsError},
};

/// How often the log says that connections are turned away.
const TOLD_AGAIN: Duration = Duration::from_secs(10);
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
        if address.is_loopback() && settings.tokens.is_empty() && settings.tokens_file.is_none() {
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
        let tls = match &settings.tls {
            None => None,
            Some(files) => Some(TlsAcceptor::from(tls::server_config(files, tls::HTTP, shutdown.clone())?)),
        };
        let router = protocol::layer(router)
            .layer(DefaultBodyLimit::max(settings.max_body_bytes))
            .layer(Observe::new(self.setting, settings.access_log));
        let (addr, setting, grace) = (self.addr, self.setting, settings.shutdown_grace);
        let door = Arc::new(Door::new(router, settings.http.clone()));
        let task = tokio::spawn(async move {
            let (connections, kill) = (TaskTracker::new(), CancellationToken::new());
            let acceptor =
                Acceptor { tcp: self.listener, setting, tls, door, stop: shutdown.clone(), kill: kill.clone() };
            tokio::select! {
                () = acceptor.accept(&connections) => {}
                () = shutdown.cancelled() => {}
            }
            connections.close();
            if tokio::time::timeout(grace, connections.wait()).await.is_err() {
                tracing::info!(%addr, setting, "requests still in flight at shutdown are dropped");
                kill.cancel();
                connections.wait().await;
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

/// Accepts connections.
struct Acceptor {
    tcp: TcpListener,
    setting: &'static str,
    tls: Option<TlsAcceptor>,
    door: Arc<Door>,
    stop: CancellationToken,
    kill: CancellationToken,
}

impl Acceptor {
    /// Hands each connection to a task of its own, in which the TLS handshake goes on too, so that a slow peer holds nobody up.
    async fn accept(self, connections: &TaskTracker) {
        let doors = Arc::<Doors>::default();
        let mut told: Option<Instant> = None;
        loop {
            let (stream, peer) = match self.tcp.accept().await {
                Ok(accepted) => accepted,
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::ConnectionRefused
                            | io::ErrorKind::ConnectionAborted
                            | io::ErrorKind::ConnectionReset
                    ) =>
                {
                    continue;
                }
                Err(e) => {
                    // Out of descriptors, most likely: connections in flight must end first.
                    tracing::error!(error = %e, "accept connection");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            let place = match doors.enter(peer_key(peer.ip()), &self.door.limits) {
                Ok(place) => place,
                Err(limit) => {
                    metrics::counter!("trough_http_turned_away_total").increment(1);
                    if told.is_none_or(|at| at.elapsed() > TOLD_AGAIN) {
                        told = Some(Instant::now());
                        tracing::warn!(%peer, setting = self.setting, limit, "too many connections, further ones are closed");
                    }
                    continue;
                }
            };
            if let Err(e) = stream.set_nodelay(true) {
                tracing::debug!(%peer, error = %e, "connection lost before it was accepted");
                continue;
            }
            let (tls, door, stop, kill) = (self.tls.clone(), self.door.clone(), self.stop.clone(), self.kill.clone());
            connections.spawn(async move {
                let _place = place;
                match tls {
                    None => serve::connection(door, Connection::Plain(stream), peer, stop, kill).await,
                    Some(tls) => {
                        let shaken = tokio::select! {
                            shaken = tokio::time::timeout(door.limits.header_timeout, tls.accept(stream)) => shaken,
                            () = stop.cancelled() => return,
                        };
                        match shaken {
                            Ok(Ok(stream)) => {
                                serve::connection(door, Connection::Tls(Box::new(stream)), peer, stop, kill).await;
                            }
                            Ok(Err(e)) => tracing::debug!(%peer, error = %e, "tls handshake failed"),
                            Err(_) => tracing::debug!(%peer, "tls handshake did not end (HEADER_TIMEOUT)"),
                        }
                    }
                }
            });
        }
    }
}

/// What a client's connections are counted by: its address, in IPv6 the network of it, which is one client's.
pub(crate) fn peer_key(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into(),
        },
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
