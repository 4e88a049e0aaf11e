//! The listener: accepts clients and hands each to a task.

mod connection;
pub(crate) mod pool;
pub(crate) mod query;
pub(crate) mod response;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trough_reql::proto::scram::Credentials;

use crate::datum::time;
use crate::error::Error;
use crate::eval::About;
use crate::figures::{Figures, Meters};
use crate::store::Store;
use pool::Pool;

/// How long what was sent to a client may stay unacknowledged.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: std::time::Duration = std::time::Duration::from_secs(5);

/// A client has this long for its TLS handshake.
const HANDSHAKE: std::time::Duration = std::time::Duration::from_secs(20);
/// Clients at the same time; further ones are sent away.
const MAX_CLIENTS: usize = 16_384;

/// The version whose protocol and behaviour this server has.
const VERSION: &str = "2.4.4";

/// How a metadata server is set up.
#[derive(Clone)]
pub struct MetaOptions {
    /// Where the database lies; made if it is not there. One process at a time.
    pub dir: PathBuf,
    /// Where to listen. Port 0 chooses a free one.
    pub listen: SocketAddr,
    /// The password of the user `admin`. Without one only loopback addresses are allowed.
    pub password: Option<String>,
    /// The password of the user `reader`, who may change nothing. Without one there is no such user.
    pub reader_password: Option<String>,
    /// TLS for every connection, if set.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl MetaOptions {
    /// No password, no TLS.
    pub fn new(dir: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self { dir: dir.into(), listen, password: None, reader_password: None, tls: None }
    }
}

impl std::fmt::Debug for MetaOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetaOptions")
            .field("dir", &self.dir)
            .field("listen", &self.listen)
            .field("password", &self.password.is_some())
            .field("reader_password", &self.reader_password.is_some())
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

/// What all connections share.
struct Shared {
    store: Arc<Store>,
    about: Arc<About>,
    pool: Pool,
    credentials: Credentials,
    meters: Meters,
    reader: Option<Credentials>,
    runtime: tokio::runtime::Handle,
    /// Everything that holds on to the store while it waits.
    tasks: TaskTracker,
}

/// A running metadata server. Dropping it stops it without waiting.
pub struct MetaServer {
    address: SocketAddr,
    figures: Figures,
    shared: Arc<Shared>,
    stop: CancellationToken,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl MetaServer {
    /// Opens the directory, binds the address and begins to serve. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the directory is in use or unreadable, the address is taken, or it is not loopback and there is no password.
    pub async fn start(options: MetaOptions) -> Result<MetaServer, Error> {
        let password = options.password.clone().unwrap_or_default();
        if password.is_empty() && !options.listen.ip().is_loopback() {
            return Err(Error::Unprotected { address: options.listen });
        }
        let protected = !password.is_empty();
        let listen = |source| Error::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let dir = options.dir.clone();
        let reader = options.reader_password.clone().filter(|password| !password.is_empty());
        // Opening reads files and hashing a password takes milliseconds: not for a thread that serves connections.
        let opened = tokio::task::spawn_blocking(move || {
            let (store, writer) = Store::open(&dir)?;
            let hashed = |password: &str| {
                Credentials::for_password(password).map_err(|error| Error::Credentials(error.to_string()))
            };
            Ok((store, writer, hashed(&password)?, reader.as_deref().map(hashed).transpose()?))
        });
        let (store, writer, credentials, reader) =
            opened.await.map_err(|error| Error::Credentials(error.to_string()))??;
        let about = Arc::new(About {
            server_id: store.server_id.clone(),
            name: "trough_meta".into(),
            port: address.port(),
            started: time::now(),
            version: format!("rethinkdb {VERSION} (trough meta {})", env!("CARGO_PKG_VERSION")),
        });
        let shared = Arc::new(Shared {
            store,
            about,
            pool: Pool::default(),
            credentials,
            meters: Meters::new(),
            reader,
            runtime: tokio::runtime::Handle::current(),
            tasks: TaskTracker::new(),
        });
        let stop = CancellationToken::new();
        let options_tls = options.tls.is_some();
        let tls = options.tls.map(tokio_rustls::TlsAcceptor::from);
        shared.tasks.spawn(accept(listener, shared.clone(), tls, stop.clone()));
        tracing::info!(
            %address,
            dir = %options.dir.display(),
            tls = options_tls,
            password = protected,
            "serving metadata"
        );
        let figures = Figures::new(options.dir, address);
        Ok(MetaServer { address, figures, shared, stop, writer: Some(writer) })
    }

    /// Begins to serve a directory on a free port of loopback.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_ephemeral(dir: impl Into<PathBuf>) -> Result<MetaServer, Error> {
        MetaServer::start(MetaOptions::new(dir, SocketAddr::from(([127, 0, 0, 1], 0)))).await
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What it can tell of itself while it runs.
    pub fn figures(&self) -> Figures {
        self.figures.clone()
    }

    /// The URL that clients connect to, with a database's name.
    pub fn url(&self, database: &str) -> String {
        format!("rethinkdb://{}/{database}", self.address)
    }

    /// Completes once a thread for queries and the writer have each taken a turn, behind what they are doing now. Fails
    /// only while it stops.
    ///
    /// # Errors
    /// What the writer says.
    pub async fn turn(&self) -> Result<(), Error> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let store = self.shared.store.clone();
        self.shared.pool.run(move || {
            // Nobody waits any more: then nobody needs the answer.
            let _ = sender.send(store.writer().settled());
        });
        match receiver.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::Stuck(error.to_string())),
            Err(_) => Err(Error::Stuck("the thread for queries ended".into())),
        }
    }

    /// Stops: ends connections and changefeeds, finishes the writes that have begun, and lets the directory go.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        let (shared, writer) = (self.shared.clone(), self.writer.take());
        drop(self);
        let ended = tokio::task::spawn_blocking(move || {
            shared.pool.drain();
            shared.store.writer().stop();
            if let Some(writer) = writer
                && writer.join().is_err()
            {
                tracing::error!("the metadata writer panicked");
            }
        });
        if let Err(error) = ended.await {
            tracing::error!(%error, "could not stop cleanly");
        }
    }
}

impl Drop for MetaServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Serves until told to stop.
///
/// # Errors
/// As [`MetaServer::start`].
pub async fn serve(options: MetaOptions, shutdown: CancellationToken) -> Result<(), Error> {
    let server = MetaServer::start(options).await?;
    shutdown.cancelled().await;
    server.shutdown().await;
    Ok(())
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    tls: Option<tokio_rustls::TlsAcceptor>,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let Ok(place) = places.clone().try_acquire_owned() else { continue };
                let serving = client(stream, shared.clone(), tls.clone(), stop.clone());
                shared.tasks.spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a client");
                // Out of descriptors: others must close some first.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn client(
    stream: TcpStream,
    shared: Arc<Shared>,
    tls: Option<tokio_rustls::TlsAcceptor>,
    stop: CancellationToken,
) {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    // What a feed tells must not wait for TCP's long intervals after a cut: the client opens another connection.
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    match tls {
        None => connection::serve(shared, stream, stop).await,
        Some(acceptor) => {
            let shaken = tokio::select! {
                shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)) => shaken,
                () = stop.cancelled() => return,
            };
            match shaken {
                Ok(Ok(stream)) => connection::serve(shared, stream, stop).await,
                Ok(Err(error)) => tracing::debug!(%error, "a client's TLS handshake failed"),
                Err(_) => tracing::debug!("a client's TLS handshake did not end"),
            }
        }
    }
}
