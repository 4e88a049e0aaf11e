//! One connection: a task that writes, a task that reads, and a channel for each query in flight. A query has at most one answer
//! outstanding, since the next batch is asked for by whoever consumed the last, so what is buffered is bounded.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Error,
    options::Options,
    proto::{MAX_CONCURRENT_QUERIES, WireError, WireReader, encode_frame, handshake, handshake::HandshakeError},
    tls,
};

/// An answer may not be longer than this.
const MAX_ANSWER_BYTES: usize = 1 << 30;

/// Queries in flight: a little below the server's limit, since a stopped query still counts until the server saw it.
const MAX_IN_FLIGHT: usize = MAX_CONCURRENT_QUERIES - 64;

/// How long a connection has to be closed in order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long what was sent may stay unacknowledged. Without it, a connection that was cut is taken up again only after about as long as it was
/// cut, as TCP tries again at ever longer intervals (RFC 5482).
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// How long a server may leave what was sent unanswered before it is asked whether it is there; a process that stands still acknowledges
/// on its kernel's behalf, and whoever asked may have gone before the time limit of a query.
const UNANSWERED: Duration = Duration::from_secs(2);

/// How long feeds that have nothing to tell are believed.
const QUIET: Duration = Duration::from_secs(15);

const CONTINUE: &[u8] = b"[2]";
const STOP: &[u8] = b"[3]";
const NOREPLY_WAIT: &[u8] = b"[4]";
const SERVER_INFO: &[u8] = b"[5]";

/// Why a host could not be used.
pub(crate) enum Refused {
    /// Another host may do.
    Host(String),
    /// User or password: every host will say the same.
    Login(String),
}

/// A connection in use. Dropping it closes it; queries hold it.
#[derive(Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    /// Position of its host in the options.
    pub(crate) host: usize,
    permits: Arc<Semaphore>,
    probing: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    out: mpsc::UnboundedSender<Outgoing>,
    slots: Mutex<Slots>,
    next_token: AtomicI64,
    opened: Instant,
    /// Milliseconds after `opened` at which the last frame came, at least 1; 0 if none came.
    last_received: AtomicU64,
    /// Likewise the last bytes of any frame.
    last_heard: Arc<AtomicU64>,
    /// Likewise, at which the first frame since then was given to be sent. Those that follow while nothing is heard do not count: who asks again
    /// and again waits for as long.
    first_unheard: AtomicU64,
    /// Whether something is being sent: what a server has not got yet it cannot answer.
    sending: AtomicBool,
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct Slots {
    /// Where each query's answers go.
    open: HashMap<i64, mpsc::Sender<Result<Bytes, Error>>>,
    /// Why the connection ended.
    closed: Option<String>,
}

#[derive(Debug)]
struct Outgoing {
    token: i64,
    body: Bytes,
    /// Told once the frame has been handed to the operating system.
    written: Option<oneshot::Sender<()>>,
}

impl Connection {
    /// Connects to the host at a position of the options. Sets no time limit of its own.
    pub(crate) async fn open(options: &Options, host: usize) -> Result<Connection, Refused> {
        let (name, port) = &options.hosts[host];
        let stream =
            TcpStream::connect((name.as_str(), *port)).await.map_err(|error| Refused::Host(error.to_string()))?;
        let _ = stream.set_nodelay(true);
        // A peer that vanished is noticed within half a minute, even on a feed that rarely speaks.
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_keepalive(&keepalive);
        #[cfg(target_os = "linux")]
        let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        match &options.tls {
            None => {
                let (reader, writer) = stream.into_split();
                Connection::shake(options, host, reader, writer).await
            }
            Some(tls) => {
                let stream = tls::connect(tls, name, stream).await.map_err(Refused::Host)?;
                let (reader, writer) = tokio::io::split(stream);
                Connection::shake(options, host, reader, writer).await
            }
        }
    }

    async fn shake<R, W>(options: &Options, host: usize, reader: R, mut writer: W) -> Result<Connection, Refused>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (opened, last_heard) = (Instant::now(), Arc::<AtomicU64>::default());
        let mut reader = WireReader::new(Heard { reader, opened, last: last_heard.clone() }, MAX_ANSWER_BYTES);
        let greeted = handshake::connect(&mut reader, &mut writer, &options.user, &options.password).await;
        let versions = greeted.map_err(|error| match error {
            HandshakeError::Refused { message, .. } if message.is_empty() => Refused::Host("refused".to_owned()),
            error if error.is_authentication() => Refused::Login(error.to_string()),
            error => Refused::Host(error.to_string()),
        })?;
        tracing::debug!(host = options.hosts[host].0, version = versions.server_version, "connected to RethinkDB");

        let (out, outgoing) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            out,
            slots: Mutex::default(),
            next_token: AtomicI64::new(1),
            opened,
            last_received: AtomicU64::new(0),
            last_heard,
            first_unheard: AtomicU64::new(0),
            sending: AtomicBool::new(false),
            ended: CancellationToken::new(),
        });
        tokio::spawn(write_all(writer, outgoing, shared.clone()));
        tokio::spawn(read_all(reader, shared.clone()));
        tokio::spawn(watch_silence(shared.clone(), options.connect_timeout));
        let permits = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        Ok(Connection { shared, host, permits, probing: AtomicBool::new(false) })
    }

    /// Whether it has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.ended.is_cancelled()
    }

    /// Whether any query was answered.
    pub(crate) fn has_served(&self) -> bool {
        self.shared.last_received.load(Ordering::Relaxed) > 0
    }

    /// Sends a query; waits while too many are in flight.
    pub(crate) async fn query(self: &Arc<Self>, body: Bytes) -> Result<Query, Error> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| self.shared.why_closed())?;
        // An answer at most is outstanding; the second place is for what ends the query.
        let (sender, receiver) = mpsc::channel(2);
        let token = self.shared.next_token.fetch_add(1, Ordering::Relaxed);
        {
            let mut slots = self.shared.slots.lock();
            if let Some(reason) = &slots.closed {
                return Err(Error::Closed { reason: reason.clone() });
            }
            slots.open.insert(token, sender);
        }
        let query = Query { connection: self.clone(), token, receiver, finished: false, _permit: permit };
        self.shared.send(token, body, None);
        Ok(query)
    }

    /// Sends a query that is not answered; returns once it is with the operating system.
    pub(crate) async fn noreply(&self, body: Bytes) -> Result<(), Error> {
        let token = self.shared.next_token.fetch_add(1, Ordering::Relaxed);
        let (written, was_written) = oneshot::channel();
        self.shared.send(token, body, Some(written));
        was_written.await.map_err(|_| self.shared.why_closed())
    }

    /// Waits until the server has carried out every earlier noreply query of this connection.
    pub(crate) async fn noreply_wait(self: &Arc<Self>) -> Result<Query, Error> {
        self.query(Bytes::from_static(NOREPLY_WAIT)).await
    }

    /// Asks the server who it is.
    pub(crate) async fn server_info(self: &Arc<Self>) -> Result<Query, Error> {
        self.query(Bytes::from_static(SERVER_INFO)).await
    }

    /// After a query timed out: if the connection has been silent since, asks whether anybody is still there, and
    /// closes it if nobody is within `limit`.
    pub(crate) fn probe_if_silent(self: &Arc<Self>, since: Instant, limit: Duration) {
        let received = self.shared.opened + Duration::from_millis(self.shared.last_received.load(Ordering::Relaxed));
        if received > since || self.is_closed() || self.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        let connection = self.clone();
        tokio::spawn(async move {
            connection.shared.probe(limit).await;
            connection.probing.store(false, Ordering::Release);
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.close("the client was dropped");
    }
}

impl Shared {
    /// Milliseconds after `opened`, at least 1.
    fn now(&self) -> u64 {
        millis_since(self.opened)
    }

    /// Asks whether anybody is there, and closes the connection if nothing at all comes within `limit`.
    async fn probe(&self, limit: Duration) {
        let (sender, mut answer) = mpsc::channel(2);
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        self.slots.lock().open.insert(token, sender);
        let begun = self.now();
        self.send(token, Bytes::from_static(SERVER_INFO), None);
        let answered = tokio::time::timeout(limit, answer.recv()).await.is_ok();
        self.slots.lock().open.remove(&token);
        let heard = self.last_heard.load(Ordering::Relaxed) >= begun;
        if !answered && !heard && !self.sending.load(Ordering::Relaxed) {
            self.close("the server does not answer");
        }
    }

    fn send(&self, token: i64, body: Bytes, written: Option<oneshot::Sender<()>>) {
        let (now, heard) = (self.now(), self.last_heard.load(Ordering::Relaxed));
        let renew = |first| (first == 0 || first < heard).then_some(now);
        // None where an earlier one waits.
        let _ = self.first_unheard.fetch_update(Ordering::Relaxed, Ordering::Relaxed, renew);
        // A connection that ended has told, or will tell, every query through its channel.
        let _ = self.out.send(Outgoing { token, body, written });
    }

    fn close(&self, reason: &str) {
        let mut slots = self.slots.lock();
        if slots.closed.is_none() {
            slots.closed = Some(reason.to_owned());
        }
        // First this: whoever learns from its channel that the connection ended must not be given it again.
        self.ended.cancel();
        slots.open.clear();
    }

    fn why_closed(&self) -> Error {
        let reason = self.slots.lock().closed.clone();
        Error::Closed { reason: reason.unwrap_or_else(|| "it is being closed".to_owned()) }
    }

    /// Hands an answer to its query; answers to queries that were stopped have no taker.
    fn deliver(&self, token: i64, answer: Result<Bytes, Error>) -> Result<(), &'static str> {
        self.last_received.store(self.now(), Ordering::Relaxed);
        let sender = self.slots.lock().open.get(&token).cloned();
        match sender.map(|sender| sender.try_send(answer)) {
            Some(Err(mpsc::error::TrySendError::Full(_))) => Err("the server sends answers that nobody asked for"),
            None | Some(Ok(()) | Err(mpsc::error::TrySendError::Closed(_))) => Ok(()),
        }
    }
}

/// Notes when bytes came.
struct Heard<R> {
    reader: R,
    opened: Instant,
    last: Arc<AtomicU64>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Heard<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.reader).poll_read(context, buffer);
        if read.is_ready() {
            self.last.store(millis_since(self.opened), Ordering::Relaxed);
        }
        read
    }
}

fn millis_since(moment: Instant) -> u64 {
    u64::try_from(moment.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Leaves a server that stands still, or a host that vanished without a word.
async fn watch_silence(shared: Arc<Shared>, limit: Duration) {
    loop {
        tokio::select! {
            () = shared.ended.cancelled() => return,
            () = tokio::time::sleep(UNANSWERED / 2) => {}
        }
        let (sent, heard) = (shared.first_unheard.load(Ordering::Relaxed), shared.last_heard.load(Ordering::Relaxed));
        let silent = Duration::from_millis(shared.now().saturating_sub(sent.max(heard)));
        let waiting = !shared.slots.lock().open.is_empty();
        let patience = if sent >= heard { UNANSWERED } else { QUIET };
        if waiting && silent >= patience && !shared.sending.load(Ordering::Relaxed) {
            tokio::select! {
                () = shared.ended.cancelled() => return,
                () = shared.probe(limit) => {}
            }
        }
    }
}

async fn write_all<W>(mut writer: W, mut outgoing: mpsc::UnboundedReceiver<Outgoing>, shared: Arc<Shared>)
where
    W: AsyncWrite + Unpin,
{
    const BATCH: usize = 64;
    let mut batch = Vec::with_capacity(BATCH);
    let mut buffer = BytesMut::new();
    loop {
        tokio::select! {
            biased;
            () = shared.ended.cancelled() => break,
            received = outgoing.recv_many(&mut batch, BATCH) => if received == 0 { break },
        }
        let mut acknowledge = Vec::new();
        for Outgoing { token, body, written } in batch.drain(..) {
            encode_frame(&mut buffer, token, &body);
            acknowledge.extend(written);
        }
        let written = async {
            writer.write_all(&buffer).await?;
            writer.flush().await
        };
        shared.sending.store(true, Ordering::Relaxed);
        tokio::select! {
            () = shared.ended.cancelled() => break,
            outcome = written => if let Err(error) = outcome {
                shared.close(&error.to_string());
                break;
            },
        }
        shared.sending.store(false, Ordering::Relaxed);
        acknowledge.into_iter().for_each(|written| {
            let _ = written.send(());
        });
        buffer.clear();
        if buffer.capacity() > 1 << 20 {
            buffer = BytesMut::new();
        }
    }
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, writer.shutdown()).await;
}

async fn read_all<R: AsyncRead + Unpin>(mut reader: WireReader<R>, shared: Arc<Shared>) {
    let reason = loop {
        let frame = tokio::select! {
            () = shared.ended.cancelled() => return,
            frame = reader.read_frame() => frame,
        };
        let delivered = match frame {
            Ok(Some(frame)) => shared.deliver(frame.token, Ok(frame.body)),
            Ok(None) => break "the server closed it".to_owned(),
            Err(WireError::TooLarge { token, bytes, limit }) => {
                let text = format!("an answer of {bytes} bytes exceeds the limit of {limit} bytes");
                shared.deliver(token, Err(Error::Decode(text)))
            }
            Err(error) => break error.to_string(),
        };
        if let Err(reason) = delivered {
            break reason.to_owned();
        }
    };
    shared.close(&reason);
}

/// A query in flight. Dropping it before its last answer stops it on the server.
#[derive(Debug)]
pub(crate) struct Query {
    connection: Arc<Connection>,
    token: i64,
    receiver: mpsc::Receiver<Result<Bytes, Error>>,
    finished: bool,
    _permit: OwnedSemaphorePermit,
}

impl Query {
    /// The next answer.
    pub(crate) async fn response(&mut self) -> Result<Bytes, Error> {
        std::future::poll_fn(|context| self.poll_response(context)).await
    }

    /// The next answer.
    pub(crate) fn poll_response(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, Error>> {
        self.receiver
            .poll_recv(context)
            .map(|answer| answer.unwrap_or_else(|| Err(self.connection.shared.why_closed())))
    }

    /// Asks for the next batch.
    pub(crate) fn ask_for_more(&self) {
        self.connection.shared.send(self.token, Bytes::from_static(CONTINUE), None);
    }

    /// The server has nothing more to say: there is nothing to stop.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        self.connection.shared.slots.lock().open.remove(&self.token);
        if !self.finished {
            self.connection.shared.send(self.token, Bytes::from_static(STOP), None);
        }
    }
}
