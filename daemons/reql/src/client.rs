//! The client: keeps one connection to any of the hosts, and runs queries over it.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    connection::{Connection, Query, Refused},
    cursor::{Answer, Cursor, decode},
    error::Error,
    hosts::Hosts,
    options::Options,
    proto::{MAX_QUERY_BYTES, query_type},
    term::{Expr, r},
    write::WriteSummary,
};

/// For how long what the server could not do, and did not, is tried again: clusters choose new primary replicas within seconds.
const UNAVAILABLE: Duration = Duration::from_secs(10);
/// After which time of that another server may know better: this one may be cut off.
const CUT_OFF: Duration = Duration::from_secs(4);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Runs queries over one multiplexed connection, which is opened when it is first needed and again when it broke, to any of
/// the hosts. A clone is cheap and shares the connection. No query waits for another, except that at most some thousand may be
/// in flight at a time.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
    settings: Arc<Settings>,
}

/// What one clone of a client does its own way.
#[derive(Clone, Debug)]
struct Settings {
    timeout: Duration,
    /// Global options, the database among them.
    optargs: Vec<(String, Expr)>,
    db: String,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    hosts: Mutex<Hosts>,
    current: Mutex<Option<Arc<Connection>>>,
    /// What connecting will give, while a task is at it for all; its sender is gone when it ended.
    connecting: Mutex<Option<watch::Receiver<Connected>>>,
    /// The connection that noreply queries were sent over since the last noreply_wait.
    noreply: Mutex<Option<Weak<Connection>>>,
}

impl Client {
    /// A client that connects at its first query. To be used within a tokio runtime.
    pub fn new(options: Options) -> Client {
        let first = fastrand::usize(..options.hosts.len().max(1));
        let mut settings = Settings { timeout: options.query_timeout, optargs: Vec::new(), db: options.db.clone() };
        settings.set("db", r::db(&options.db));
        Client {
            inner: Arc::new(Inner {
                hosts: Mutex::new(Hosts::new(options.hosts.len(), first)),
                options,
                current: Mutex::new(None),
                connecting: Mutex::new(None),
                noreply: Mutex::new(None),
            }),
            settings: Arc::new(settings),
        }
    }

    /// The default database.
    pub fn database(&self) -> &str {
        &self.settings.db
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// The same client with another time limit per query.
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        self.with(|settings| settings.timeout = timeout)
    }

    /// The same client with another default database.
    pub fn with_database(&self, db: &str) -> Client {
        self.with(|settings| {
            settings.db = db.to_owned();
            settings.set("db", r::db(db));
        })
    }

    /// The same client with a global option on every query, such as `array_limit` or `durability`.
    pub fn with_optarg(&self, key: &str, value: impl Into<Expr>) -> Client {
        self.with(|settings| settings.set(key, value.into()))
    }

    fn with(&self, change: impl FnOnce(&mut Settings)) -> Client {
        let mut settings = Settings::clone(&self.settings);
        change(&mut settings);
        Client { inner: self.inner.clone(), settings: Arc::new(settings) }
    }

    /// Connects now, unless it is connected.
    ///
    /// # Errors
    /// [`Error::Connect`] and [`Error::Auth`].
    pub async fn connect(&self) -> Result<(), Error> {
        self.inner.connection().await.map(|_| ())
    }

    /// Runs a query. A sequence is collected into an array: for what may be large take [`Client::cursor`]. A query that only
    /// reads is tried once more, on another host if there is one, when the connection broke under it. What certainly was not done, as replicas
    /// were not available, is tried again for 10 s at most.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn run(&self, query: &Expr) -> Result<Value, Error> {
        self.run_as(query).await
    }

    /// As [`Client::run`], the result decoded.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Decode`] if the result has another form.
    pub async fn run_as<T: DeserializeOwned>(&self, query: &Expr) -> Result<T, Error> {
        let body = self.settings.start(query, false)?;
        let used = Used::default();
        let work = async {
            let mut attempt = Attempt::first(query);
            loop {
                match self.inner.collect(body.clone(), &used).await {
                    Err(error) if attempt.again(&error, &self.inner, &used).await => {}
                    outcome => return outcome.and_then(from_value),
                }
            }
        };
        self.limited(&used, work).await
    }

    /// Runs a query and gives its rows as they are consumed. The time limit holds for each batch. Opening a query that only reads is tried once more when the
    /// connection broke.
    ///
    /// # Errors
    /// [`Error`], for what the first batch already tells.
    pub async fn cursor<T: DeserializeOwned>(&self, query: &Expr) -> Result<Cursor<T>, Error> {
        self.open(query, Some(self.settings.timeout)).await
    }

    /// As [`Client::cursor`], without a time limit once it is open: for changefeeds. A feed that lost its connection ends with
    /// [`Error::Closed`]; whoever follows it asks anew.
    ///
    /// # Errors
    /// [`Error`], for what the first batch already tells.
    pub async fn feed<T: DeserializeOwned>(&self, query: &Expr) -> Result<Cursor<T>, Error> {
        self.open(query, None).await
    }

    async fn open<T: DeserializeOwned>(&self, query: &Expr, batch: Option<Duration>) -> Result<Cursor<T>, Error> {
        let body = self.settings.start(query, false)?;
        let used = Used::default();
        let work = async {
            let mut attempt = Attempt::first(query);
            loop {
                let first = self.inner.first_answer(body.clone(), &used).await;
                match first.and_then(|(running, first)| Cursor::new(running, &first, batch)) {
                    Err(error) if attempt.again(&error, &self.inner, &used).await => {}
                    opened => return opened,
                }
            }
        };
        self.limited(&used, work).await
    }

    /// Runs a write; documents that were refused are an error. Not tried again when the connection was lost, which leaves it unknown whether it was carried out.
    ///
    /// # Errors
    /// [`Error::Write`] if any document was refused; else as [`Client::run`].
    pub async fn write(&self, query: &Expr) -> Result<WriteSummary, Error> {
        let summary = self.write_unchecked(query).await?;
        match summary.errors {
            0 => Ok(summary),
            _ => Err(Error::Write { summary: Box::new(summary) }),
        }
    }

    /// As [`Client::write`], but documents that were refused are only counted.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub async fn write_unchecked(&self, query: &Expr) -> Result<WriteSummary, Error> {
        self.run_as(query).await
    }

    /// Sends a query whose result nobody wants; returns when it is on its way. Errors of the query are lost.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::Auth`], [`Error::Closed`], [`Error::Timeout`], [`Error::TooLarge`].
    pub async fn run_noreply(&self, query: &Expr) -> Result<(), Error> {
        let body = self.settings.start(query, true)?;
        let work = async {
            let connection = self.inner.connection().await?;
            *self.inner.noreply.lock() = Some(Arc::downgrade(&connection));
            connection.noreply(body).await
        };
        self.limited(&Used::default(), work).await
    }

    /// Waits until the server has carried out every earlier noreply query.
    ///
    /// # Errors
    /// [`Error::Closed`] if the connection they went over is gone: they may or may not have been carried out.
    pub async fn noreply_wait(&self) -> Result<(), Error> {
        let Some(sent_over) = self.inner.noreply.lock().take() else {
            return Ok(());
        };
        let work = async {
            let lost = || Error::Closed { reason: "noreply queries may have been lost with it".to_owned() };
            let connection = sent_over.upgrade().ok_or_else(lost)?;
            let mut waiting = connection.noreply_wait().await?;
            let answer = waiting.response().await?;
            waiting.finish();
            decode::<Value>(&answer).map(|_| ())
        };
        self.limited(&Used::default(), work).await
    }

    /// What the server tells about itself: `id` and `name`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn server_info(&self) -> Result<Value, Error> {
        let work = async {
            let mut asking = self.inner.connection().await?.server_info().await?;
            let answer = asking.response().await?;
            asking.finish();
            match decode(&answer)? {
                Answer::Atom(info) => Ok(info),
                Answer::Rows { .. } => Err(Error::Decode("server info is no sequence".to_owned())),
            }
        };
        self.limited(&Used::default(), work).await
    }

    /// Ends `work` at the time limit; what it had in flight is thereby stopped on the server, and the connection it notes
    /// in `used` is probed.
    async fn limited<T>(&self, used: &Used, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let (started, after) = (Instant::now(), self.settings.timeout);
        match tokio::time::timeout(after, work).await {
            Ok(outcome) => outcome,
            Err(_) => {
                if let Some(connection) = used.lock().take().and_then(|connection| connection.upgrade()) {
                    connection.probe_if_silent(started, self.inner.options.connect_timeout);
                }
                Err(Error::Timeout { after })
            }
        }
    }
}

/// Whether a query may be tried once more.
struct Attempt {
    /// It only reads, and was not tried twice.
    harmless: bool,
    /// Since when the server says that it is not available.
    unavailable: Option<Instant>,
    pause: Duration,
}

impl Attempt {
    fn first(query: &Expr) -> Attempt {
        Attempt { harmless: query.is_read(), unavailable: None, pause: FIRST_PAUSE }
    }

    /// Whether this error calls for another attempt. What was certainly not done is tried again, be it a write, for as long as a
    /// cluster takes that lost a server; of several servers another is asked if that goes on.
    async fn again(&mut self, error: &Error, inner: &Inner, used: &Used) -> bool {
        if error.is_unavailable() {
            let since = self.unavailable.get_or_insert_with(Instant::now).elapsed();
            if since + self.pause > UNAVAILABLE {
                return false;
            }
            if since > CUT_OFF {
                let connection = used.lock().take().and_then(|connection| connection.upgrade());
                connection.inspect(|connection| inner.leave(connection));
            }
            tracing::debug!(%error, "asking again");
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            return true;
        }
        let again = matches!(error, Error::Closed { .. }) && std::mem::take(&mut self.harmless);
        if again {
            tracing::debug!(%error, "reading again");
        }
        again
    }
}

/// What connecting gave, once it ended.
type Connected = Option<Result<Arc<Connection>, Error>>;

/// The connection that a query was sent over last.
type Used = Mutex<Option<Weak<Connection>>>;

impl Settings {
    fn set(&mut self, key: &str, value: Expr) {
        self.optargs.retain(|(name, _)| name != key);
        self.optargs.push((key.to_owned(), value));
    }

    /// The JSON of a START query.
    fn start(&self, query: &Expr, noreply: bool) -> Result<Bytes, Error> {
        let noreply = noreply.then(|| ("noreply".to_owned(), Expr::from(true)));
        let optargs = r::object(self.optargs.iter().cloned().chain(noreply));
        let body = to_json(&(query_type::START, query, optargs))?;
        if body.len() >= MAX_QUERY_BYTES {
            return Err(Error::TooLarge { bytes: body.len(), limit: MAX_QUERY_BYTES });
        }
        Ok(body.into())
    }
}

impl Inner {
    /// Sends a START query.
    async fn start(self: &Arc<Self>, body: Bytes, used: &Used) -> Result<Query, Error> {
        let connection = self.connection().await?;
        *used.lock() = Some(Arc::downgrade(&connection));
        connection.query(body).await
    }

    async fn first_answer(self: &Arc<Self>, body: Bytes, used: &Used) -> Result<(Query, Bytes), Error> {
        let mut running = self.start(body, used).await?;
        let first = running.response().await?;
        Ok((running, first))
    }

    /// Runs a query to its end; a sequence becomes an array.
    async fn collect(self: &Arc<Self>, body: Bytes, used: &Used) -> Result<Value, Error> {
        let (mut running, mut answer) = self.first_answer(body, used).await?;
        let mut rows: Vec<Value> = Vec::new();
        loop {
            let decoded = decode::<Value>(&answer);
            // An answer that does not promise more is the query's last, an error among them.
            if !matches!(decoded, Ok(Answer::Rows { more: true, .. })) {
                running.finish();
            }
            match decoded? {
                Answer::Atom(value) => return Ok(value),
                Answer::Rows { rows: batch, more } => {
                    for row in batch {
                        rows.push(row?);
                    }
                    if !more {
                        return Ok(Value::Array(rows));
                    }
                }
            }
            running.ask_for_more();
            answer = running.response().await?;
        }
    }

    /// The connection, if it has not ended; a host whose connection broke goes into the penalty box.
    fn live(&self) -> Option<Arc<Connection>> {
        let mut current = self.current.lock();
        if let Some(broken) = current.take_if(|connection| connection.is_closed()) {
            let mut hosts = self.hosts.lock();
            if broken.has_served() {
                hosts.served(broken.host);
            }
            hosts.failed(broken.host, Instant::now());
        }
        current.clone()
    }

    /// The connection, or a new one. A task connects for all who wait, and goes on when their time is over, so that the time it
    /// takes to give a host up may be longer than the time a query has.
    async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>, Error> {
        let mut connected = {
            let mut connecting = self.connecting.lock();
            if let Some(connection) = self.live() {
                return Ok(connection);
            }
            match &*connecting {
                Some(running) if running.has_changed().is_ok() => running.clone(),
                _ => {
                    let (tell, connected) = watch::channel(None);
                    *connecting = Some(connected.clone());
                    let inner = self.clone();
                    tokio::spawn(async move {
                        let outcome = inner.connect_to_any().await;
                        if let Ok(connection) = &outcome {
                            *inner.current.lock() = Some(connection.clone());
                        }
                        // Nobody may be waiting any more.
                        let _ = tell.send(Some(outcome));
                    });
                    connected
                }
            }
        };
        let outcome = connected.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| Err(Error::Connect { reason: "connecting was interrupted".to_owned() }))
    }

    /// The next query goes to another host, if there is one; what is under way over this connection goes on.
    fn leave(&self, connection: &Arc<Connection>) {
        let mut current = self.current.lock();
        if self.options.hosts.len() > 1 && current.take_if(|is| Arc::ptr_eq(is, connection)).is_some() {
            self.hosts.lock().failed(connection.host, Instant::now());
        }
    }

    async fn connect_to_any(&self) -> Result<Arc<Connection>, Error> {
        let order = self.hosts.lock().order(Instant::now());
        let mut reasons = Vec::new();
        for host in order {
            let (name, port) = &self.options.hosts[host];
            let limit = self.options.connect_timeout;
            let reason = match tokio::time::timeout(limit, Connection::open(&self.options, host)).await {
                Ok(Ok(connection)) => {
                    self.hosts.lock().connected(host);
                    return Ok(Arc::new(connection));
                }
                Ok(Err(Refused::Login(reason))) => {
                    let (host, user) = (format!("{name}:{port}"), self.options.user.clone());
                    return Err(Error::Auth { host, user, reason });
                }
                Ok(Err(Refused::Host(reason))) => reason,
                Err(_) => format!("no answer within {limit:?}"),
            };
            tracing::debug!(host = name, port, reason, "cannot connect to RethinkDB");
            self.hosts.lock().failed(host, Instant::now());
            reasons.push(format!("{name}:{port}: {reason}"));
        }
        if reasons.is_empty() {
            reasons.push("no host is configured".to_owned());
        }
        Err(Error::Connect { reason: reasons.join("; ") })
    }
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::Client(error.to_string()))
}

fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|error| Error::Decode(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_send<T: Send>(value: T) -> T {
        value
    }

    #[tokio::test]
    async fn every_call_can_be_made_from_a_spawned_task() {
        let client = is_send(Client::new(Options { hosts: Vec::new(), ..Options::default() }));
        let query = r::now();
        let refused = is_send(client.run(&query)).await;
        assert!(matches!(&refused, Err(Error::Connect { reason }) if reason.contains("no host")), "{refused:?}");
        drop(is_send(client.cursor::<Value>(&query)));
        drop(is_send(client.feed::<Value>(&query)));
        drop(is_send(client.write(&query)));
        drop(is_send(client.run_noreply(&query)));
        drop(is_send(client.noreply_wait()));
        drop(is_send(client.server_info()));
        drop(is_send(client.connect()));
    }
}
