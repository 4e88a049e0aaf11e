//! One client: its queries by token, each running, waiting or between two batches.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use trough_reql::proto::{
    MAX_CONCURRENT_QUERIES, MAX_QUERY_BYTES, WireError, WireReader, encode_frame, handshake, query_type, response_type,
};

use super::Shared;
use super::query::{self, Reply};
use super::response::{self, Batch, Cursor};
use crate::error::{Class, QueryError, Result};
use crate::eval::{Exec, Query, READER};

/// Reading stops while this many bytes of answers wait for the client to take them.
const BACKLOG: usize = 16 * 1024 * 1024;

/// A client has this long to say who it is.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// A connection's state, shared with the threads that run its queries.
struct Connection {
    shared: Arc<Shared>,
    read_only: bool,
    entries: Mutex<HashMap<i64, Entry>>,
    /// Queries that have not finished their first answer, by order of arrival.
    outstanding: Mutex<BTreeSet<u64>>,
    finished: Notify,
    out: mpsc::UnboundedSender<(i64, Bytes)>,
    backlog: AtomicUsize,
    taken: Notify,
}

struct Entry {
    cancelled: Arc<AtomicBool>,
    wake: Arc<Notify>,
    state: State,
}

enum State {
    /// A thread has it, or it waits for a feed; with the requests that came meanwhile.
    Running { continues: usize, stop: bool },
    /// Between two batches.
    Idle(Box<(Arc<Query>, Cursor)>),
}

/// Serves a client until it goes away or the server stops.
pub(super) async fn serve<S>(shared: Arc<Shared>, stream: S, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = WireReader::new(reader, MAX_QUERY_BYTES);
    let lookup = |user: &str| match user {
        "admin" => Some(shared.credentials.clone()),
        READER => shared.reader.clone(),
        _ => None,
    };
    let accepted =
        tokio::time::timeout(HANDSHAKE, handshake::accept(&mut reader, &mut writer, super::VERSION, lookup)).await;
    let user = match accepted {
        Ok(Ok(user)) => user,
        Ok(Err(error)) => return tracing::debug!(%error, "a client failed to connect"),
        Err(_) => return tracing::debug!("a client took too long to connect"),
    };
    let (out, answers) = mpsc::unbounded_channel();
    let connection = Arc::new(Connection {
        shared,
        read_only: user != "admin",
        entries: Mutex::default(),
        outstanding: Mutex::default(),
        finished: Notify::new(),
        out,
        backlog: AtomicUsize::new(0),
        taken: Notify::new(),
    });
    let sending = tokio::spawn(send(connection.clone(), writer, answers));
    let meters = &connection.shared.meters;
    meters.connections.increment(1);
    meters.connected.increment(1.0);
    tokio::select! {
        () = receive(&connection, &mut reader) => {}
        () = stop.cancelled() => {}
    }
    meters.connected.decrement(1.0);
    let entries = std::mem::take(&mut *connection.entries.lock());
    for entry in entries.into_values() {
        entry.cancelled.store(true, Ordering::Relaxed);
        entry.wake.notify_one();
    }
    sending.abort();
    // Its end, by this or by itself, is all that is wanted.
    let _ = sending.await;
}

/// Writes answers as they come.
async fn send<W: AsyncWrite + Unpin>(
    connection: Arc<Connection>,
    mut writer: W,
    mut answers: mpsc::UnboundedReceiver<(i64, Bytes)>,
) {
    let mut buffer = BytesMut::new();
    while let Some((token, body)) = answers.recv().await {
        let mut bytes = body.len();
        encode_frame(&mut buffer, token, &body);
        // Small answers that are ready together go out together.
        while buffer.len() < 64 * 1024 {
            let Ok((token, body)) = answers.try_recv() else { break };
            bytes += body.len();
            encode_frame(&mut buffer, token, &body);
        }
        let written = writer.write_all(&buffer).await;
        buffer.clear();
        if buffer.capacity() > 4 * 1024 * 1024 {
            buffer = BytesMut::new();
        }
        connection.backlog.fetch_sub(bytes, Ordering::Relaxed);
        connection.taken.notify_one();
        if written.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

/// Reads requests until the client goes away or breaks the protocol.
async fn receive<R: AsyncRead + Unpin>(connection: &Arc<Connection>, reader: &mut WireReader<R>) {
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT_QUERIES));
    let mut arrivals = 0;
    loop {
        while connection.backlog.load(Ordering::Relaxed) > BACKLOG {
            connection.taken.notified().await;
        }
        let frame = match reader.read_frame().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(WireError::TooLarge { token, bytes, limit }) => {
                let message = format!("Query size ({bytes}) greater than maximum ({limit}).");
                connection.fail(token, &QueryError::new(Class::Client, message));
                continue;
            }
            Err(error) => return tracing::debug!(%error, "a client's connection failed"),
        };
        let token = frame.token;
        arrivals += 1;
        match kind(&frame.body) {
            Some(query_type::START) => {
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                connection.start(token, arrivals, frame.body, permit);
            }
            Some(query_type::CONTINUE) => connection.advance(token),
            Some(query_type::STOP) => connection.stop(token),
            Some(query_type::NOREPLY_WAIT) => {
                let waiting = connection.clone();
                connection.shared.tasks.spawn(async move {
                    waiting.earlier_done(arrivals).await;
                    waiting.answer(token, response::bare(response_type::WAIT_COMPLETE));
                });
            }
            Some(query_type::SERVER_INFO) => {
                let about = &connection.shared.about;
                let info = serde_json::json!({
                    "t": response_type::SERVER_INFO,
                    "r": [{"id": about.server_id, "name": about.name, "proxy": false}],
                });
                connection.answer(token, info.to_string().into_bytes().into());
            }
            _ => {
                connection
                    .fail(token, &QueryError::new(Class::Client, "Client is buggy (failed to deserialize query)."));
                // What follows a broken request cannot be trusted either.
                tokio::task::yield_now().await;
                return connection.flushed().await;
            }
        }
    }
}

/// The kind of request, off the beginning of its JSON.
fn kind(body: &[u8]) -> Option<u64> {
    let rest = body.trim_ascii_start().strip_prefix(b"[")?.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let follows = rest[digits..].trim_ascii_start().first();
    if !matches!(follows, Some(b',' | b']')) {
        return None;
    }
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

impl Connection {
    fn answer(&self, token: i64, body: Bytes) {
        self.backlog.fetch_add(body.len(), Ordering::Relaxed);
        // The client may be gone: then nobody wants the answer.
        let _ = self.out.send((token, body));
    }

    fn fail(&self, token: i64, error: &QueryError) {
        self.answer(token, response::error(error));
    }

    fn unknown(&self, token: i64) {
        self.fail(token, &QueryError::new(Class::Client, format!("Token {token} not in stream cache.")));
    }

    /// Waits until what was said has been sent, for a little while.
    async fn flushed(&self) {
        let all_sent = async {
            while self.backlog.load(Ordering::Relaxed) > 0 {
                self.taken.notified().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), all_sent).await;
    }

    /// Waits until every query that came before has been carried out.
    async fn earlier_done(&self, arrival: u64) {
        loop {
            let finished = self.finished.notified();
            tokio::pin!(finished);
            finished.as_mut().enable();
            if self.outstanding.lock().first().is_none_or(|first| *first >= arrival) {
                return;
            }
            finished.await;
        }
    }

    fn start(self: &Arc<Self>, token: i64, arrival: u64, body: Bytes, permit: OwnedSemaphorePermit) {
        let entry = Entry {
            cancelled: Arc::default(),
            wake: Arc::default(),
            state: State::Running { continues: 0, stop: false },
        };
        let cancelled = entry.cancelled.clone();
        {
            let mut entries = self.entries.lock();
            if entries.contains_key(&token) {
                drop(entries);
                let message = format!("ERROR: duplicate token {token}");
                return self.fail(token, &QueryError::new(Class::Client, message));
            }
            entries.insert(token, entry);
        }
        self.outstanding.lock().insert(arrival);
        let this = self.clone();
        let begun = Instant::now();
        self.shared.pool.run(move || {
            let guard = Arrival { connection: &this, arrival };
            let reply = query::run(&this.shared.store, &this.shared.about, &body, cancelled, this.read_only);
            drop(guard);
            drop(permit);
            let meters = &this.shared.meters;
            meters.queries.increment(1);
            meters.errors.increment(u64::from(reply.is_err()));
            meters.seconds.record(begun.elapsed().as_secs_f64());
            match reply {
                Ok(Reply::None) => drop(this.entries.lock().remove(&token)),
                Ok(Reply::Atom(answer)) => this.conclude(token, answer),
                Ok(Reply::Cursor(query, cursor, first)) => this.settle(token, query, *cursor, Ok(first)),
                Err(error) => this.conclude_error(token, &error),
            }
        });
    }

    /// Ends a token's query with an answer.
    fn conclude(&self, token: i64, answer: Bytes) {
        let entry = self.entries.lock().remove(&token);
        self.answer(token, answer);
        if let Some(Entry { state: State::Running { continues, stop }, .. }) = entry {
            (0..continues).for_each(|_| self.unknown(token));
            if stop {
                self.answer(token, response::empty());
            }
        }
    }

    fn conclude_error(&self, token: i64, error: &QueryError) {
        let stopped =
            matches!(self.entries.lock().get(&token), Some(Entry { state: State::Running { stop: true, .. }, .. }));
        // A query that was stopped ends as one that had no more to give.
        self.conclude(token, if stopped { response::empty() } else { response::error(error) });
    }

    /// Sends a batch and puts the cursor down, or goes on with what was asked meanwhile.
    fn settle(self: &Arc<Self>, token: i64, query: Arc<Query>, cursor: Cursor, batch: Result<Batch>) {
        match batch {
            Err(error) => self.conclude_error(token, &error),
            Ok(Batch::Last(answer)) => self.conclude(token, answer),
            Ok(Batch::Nothing) => self.wait(token, query, cursor),
            Ok(Batch::More(answer)) => {
                let mut entries = self.entries.lock();
                let Some(entry) = entries.get_mut(&token) else { return };
                match &mut entry.state {
                    State::Running { stop: true, .. } => {
                        drop(entries);
                        self.conclude(token, response::empty());
                    }
                    State::Running { continues, .. } if *continues > 0 => {
                        *continues -= 1;
                        drop(entries);
                        self.answer(token, answer);
                        self.dispatch(token, query, cursor);
                    }
                    state => {
                        *state = State::Idle(Box::new((query, cursor)));
                        drop(entries);
                        self.answer(token, answer);
                    }
                }
            }
        }
    }

    /// Gathers the next batch on a thread of the pool.
    fn dispatch(self: &Arc<Self>, token: i64, query: Arc<Query>, mut cursor: Cursor) {
        let this = self.clone();
        self.shared.pool.run(move || {
            let batch = cursor.batch(&Exec::new(&query));
            this.settle(token, query, cursor, batch);
        });
    }

    /// Waits for a changefeed to have something, without a thread.
    fn wait(self: &Arc<Self>, token: i64, query: Arc<Query>, cursor: Cursor) {
        let Some(feed) = cursor.stream.feed.clone() else {
            return self.conclude_error(token, &QueryError::internal("a sequence that waits is not a changefeed"));
        };
        let wake = self.entries.lock().get(&token).map(|entry| entry.wake.clone());
        let Some(wake) = wake else { return };
        let this = self.clone();
        let waiting = async move {
            if feed.queue.is_idle() {
                tokio::select! {
                    () = feed.queue.arrived.notified() => {}
                    () = wake.notified() => {}
                }
            }
            if let Some(gather) = feed.gather.filter(|_| !query.cancelled.load(Ordering::Relaxed)) {
                tokio::select! {
                    () = tokio::time::sleep(gather) => {}
                    () = wake.notified() => {}
                }
            }
            this.dispatch(token, query, cursor);
        };
        self.shared.runtime.spawn(self.shared.tasks.track_future(waiting));
    }

    fn advance(self: &Arc<Self>, token: i64) {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(&token) else {
            drop(entries);
            return self.unknown(token);
        };
        match &mut entry.state {
            State::Running { continues, .. } => *continues += 1,
            state @ State::Idle(_) => {
                let State::Idle(idle) = std::mem::replace(state, State::Running { continues: 0, stop: false }) else {
                    return;
                };
                drop(entries);
                let (query, cursor) = *idle;
                self.dispatch(token, query, cursor);
            }
        }
    }

    fn stop(&self, token: i64) {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(&token) else {
            drop(entries);
            return self.unknown(token);
        };
        entry.cancelled.store(true, Ordering::Relaxed);
        match &mut entry.state {
            State::Running { stop, .. } => {
                *stop = true;
                entry.wake.notify_one();
            }
            State::Idle(_) => {
                let entry = entries.remove(&token);
                drop(entries);
                drop(entry);
                self.answer(token, response::empty());
            }
        }
    }
}

/// Takes a query off the outstanding ones, however it ends.
struct Arrival<'a> {
    connection: &'a Connection,
    arrival: u64,
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        self.connection.outstanding.lock().remove(&self.arrival);
        self.connection.finished.notify_waiters();
    }
}
