//! The clusters that this backend talks to: one set of clients per server and user, kept until the server's or the user's
//! options change.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Mutex},
    task::Poll,
    time::{Duration, Instant},
};

use futures::FutureExt;
use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};
use trough_client::{
    Batch, Catalog, Discovery, DiscoveryOptions, QueryClient, QueryError, QueryOptions, QueryTemplate, SegmentPattern,
    SegmentSet, WriteClient, WriteError,
    http::HttpOptions,
    query::{self, FanOutStats, LeftOut},
    write::WriteOptions,
};
use trough_core::{SchemaId, SegmentError, SegmentId};

use crate::{
    activity::{self, State},
    errors::{Failure, OrRaise, of_segment, sqlstate},
    guc, options, pg,
    plandata::Wanted,
    python,
    runtime::{self, Feed},
    table::{Limits, OnFault},
    trace,
};

/// The clients of one cluster, as one user.
pub(crate) struct Cluster {
    /// The server's name, for messages.
    pub(crate) server: String,
    /// Who serves what.
    pub(crate) discovery: Discovery,
    /// When it was made, in microseconds since 2000.
    pub(crate) since: i64,
    /// When it was last tried in vain to learn who serves what while a query was planned.
    pub(crate) unheard: Cell<Option<Instant>>,
    /// How often segments were asked.
    pub(crate) scans: Cell<u64>,
    query: QueryClient,
    write: Arc<WriteClient>,
    request_timeout: Option<Duration>,
    /// The user mapping holds neither a token nor a superuser's word that none is needed.
    tokenless: bool,
}

type Known = HashMap<(pg_sys::Oid, pg_sys::Oid), Rc<Cluster>>;

thread_local! {
    static CLUSTERS: RefCell<Known> = RefCell::default();
    static STALE: Cell<bool> = const { Cell::new(false) };
    static WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Called by PostgreSQL when a server or a user mapping changes; the clients are made anew at their next use.
#[pg_guard]
unsafe extern "C-unwind" fn options_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    STALE.set(true);
}

/// The cluster of a server, as a user.
pub(crate) fn of(server: pg_sys::Oid, user: pg_sys::Oid) -> Rc<Cluster> {
    try_of(server, user).or_raise()
}

/// As [`of`], for a caller that goes on without.
pub(crate) fn try_of(server: pg_sys::Oid, user: pg_sys::Oid) -> Result<Rc<Cluster>, Failure> {
    if !WATCHING.replace(true) {
        for cache in [pg_sys::SysCacheIdentifier::FOREIGNSERVEROID, pg_sys::SysCacheIdentifier::USERMAPPINGOID] {
            // SAFETY: a callback that only sets a flag.
            unsafe {
                pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(options_changed), pg_sys::Datum::from(0))
            };
        }
    }
    if STALE.replace(false) {
        CLUSTERS.with_borrow_mut(HashMap::clear);
    }
    if let Some(known) = CLUSTERS.with_borrow(|known| known.get(&(server, user)).cloned()) {
        // Asked each time: who is a superuser may change.
        if known.tokenless {
            without_token(&known.server, user)?;
        }
        return Ok(known);
    }
    let cluster = Rc::new(connect(server, user)?);
    CLUSTERS.with_borrow_mut(|known| known.insert((server, user), cluster.clone()));
    Ok(cluster)
}

/// Clients that are kept.
pub(crate) struct Kept {
    pub(crate) server: pg_sys::Oid,
    pub(crate) user: pg_sys::Oid,
    pub(crate) cluster: Rc<Cluster>,
}

/// The clients that this backend keeps.
pub(crate) fn kept() -> Vec<Kept> {
    let kept = |(&(server, user), cluster): (&(pg_sys::Oid, pg_sys::Oid), &Rc<Cluster>)| Kept {
        server,
        user,
        cluster: cluster.clone(),
    };
    CLUSTERS.with_borrow(|known| known.iter().map(kept).collect())
}

/// Forgets the clients of a server, or all: their connections are closed when the last scan that uses them ends. How many
/// there were.
pub(crate) fn forget(server: Option<pg_sys::Oid>) -> usize {
    CLUSTERS.with_borrow_mut(|known| {
        let before = known.len();
        known.retain(|(of, _), _| server.is_some_and(|server| *of != server));
        before - known.len()
    })
}

/// The cluster of a server by its name, as the current user, who must have USAGE on it.
pub(crate) fn by_name(server: &str) -> Rc<Cluster> {
    let name = pg::cstring(server);
    // SAFETY: the catalog look-ups raise if there is no such server or no right to it.
    unsafe {
        let oid = pg_sys::get_foreign_server_oid(name.as_ptr(), false);
        let user = pg_sys::GetUserId();
        let acl = crate::compat::server_usage(oid, user);
        if acl != pg_sys::AclResult::ACLCHECK_OK {
            pg_sys::aclcheck_error(acl, pg_sys::ObjectType::OBJECT_FOREIGN_SERVER, name.as_ptr());
        }
        of(oid, user)
    }
}

fn user_mapping(server: pg_sys::Oid, user: pg_sys::Oid) -> Vec<options::Setting> {
    let cache = pg_sys::SysCacheIdentifier::USERMAPPINGUSERSERVER as i32;
    let exists = |user: pg_sys::Oid| {
        let none = pg_sys::Datum::from(0);
        // SAFETY: a catalog look-up by the cache's two keys.
        unsafe { pg_sys::SearchSysCacheExists(cache, user.into(), server.into(), none, none) }
    };
    // A superuser needs none.
    if !exists(user) && !exists(pg_sys::InvalidOid) {
        return Vec::new();
    }
    // SAFETY: the mapping exists; its options are a palloc'ed list.
    unsafe { options::settings((*pg_sys::GetUserMapping(user, server)).options) }
}

/// Only superusers may go without a token, as postgres_fdw lets only them go without a password: where the daemons trust
/// whoever reaches them, they trust the database's host, not its users.
fn without_token(server: &str, user: pg_sys::Oid) -> Result<(), Failure> {
    // SAFETY: a look-up of a role.
    if unsafe { pg_sys::superuser_arg(user) } {
        return Ok(());
    }
    Err(Failure::new(
        PgSqlErrorCode::ERRCODE_S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED,
        format!("server \"{server}\": a token is required"),
    )
    .detail("Non-superusers must have a token in their user mapping.")
    .hint("A superuser may set the user mapping's option token_required to false."))
}

fn connect(server: pg_sys::Oid, user: pg_sys::Oid) -> Result<Cluster, Failure> {
    // SAFETY: the server exists, or GetForeignServer raises.
    let (name, settings) = unsafe {
        let foreign = pg_sys::GetForeignServer(server);
        (pg::text((*foreign).servername), options::settings((*foreign).options))
    };
    let mapping = user_mapping(server, user);
    let waived = options::find(&mapping, "token_required").and_then(options::parse_bool) == Some(false);
    let tokenless = !waived && options::find(&mapping, "token").is_none();
    if tokenless {
        without_token(&name, user)?;
    }
    let cannot = |why: String| {
        Failure::new(PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION, format!("server \"{name}\": {why}"))
    };
    let url = options::find(&settings, "rethinkdb").ok_or_else(|| {
        Failure::new(
            PgSqlErrorCode::ERRCODE_FDW_OPTION_NAME_NOT_FOUND,
            format!("server \"{name}\" does not say where its metadata is"),
        )
        .hint(format!("ALTER SERVER {name} OPTIONS (ADD rethinkdb 'rethinkdb://host/trough_configuration')"))
    })?;
    let mut rethinkdb = trough_reql::Options::from_url(url).map_err(|e| cannot(e.to_string()))?;
    if let Some(user) = options::find(&mapping, "rethinkdb_user") {
        rethinkdb.user = user.to_owned();
    }
    if let Some(password) = options::find(&mapping, "rethinkdb_password") {
        rethinkdb.password = password.to_owned();
    }
    let ca_pem = match options::find(&settings, "ca_file") {
        None => None,
        Some(file) => Some(std::fs::read(file).map_err(|e| cannot(format!("read the CA file {file}: {e}")))?),
    };
    let http =
        HttpOptions { token: options::find(&mapping, "token").map(str::to_owned), ca_pem, ..HttpOptions::default() };
    let request_timeout = options::find(&settings, "request_timeout").and_then(|ms| ms.parse().ok());
    let _runtime = runtime::enter();
    let catalog = Catalog::new(trough_reql::Client::new(rethinkdb));
    let discovery = Discovery::new(catalog, DiscoveryOptions::default());
    let query = QueryClient::new(discovery.clone(), &http).map_err(|e| cannot(e.to_string()))?;
    let write =
        WriteClient::new(discovery.clone(), &http, WriteOptions::default()).map_err(|e| cannot(e.to_string()))?;
    Ok(Cluster {
        server: name,
        discovery,
        // SAFETY: reads the clock.
        since: unsafe { pg_sys::GetCurrentTimestamp() },
        unheard: Cell::new(None),
        scans: Cell::new(0),
        query,
        write: Arc::new(write),
        request_timeout: request_timeout.map(Duration::from_millis),
        tokenless,
    })
}

/// What the runtime thread tells of a query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// What was done so far.
    pub(crate) stats: FanOutStats,
    /// The segments that were left out.
    pub(crate) left_out: LeftOut,
}

impl Told {
    /// Takes in what another run of the same scan did.
    pub(crate) fn add(&mut self, other: Self) {
        let (sum, more) = (&mut self.stats, other.stats);
        sum.segments += more.segments;
        sum.unknown += more.unknown;
        sum.done += more.done;
        sum.failed += more.failed;
        sum.workers = sum.workers.max(more.workers);
        sum.cold += more.cold;
        sum.requests += more.requests;
        sum.retries += more.retries;
        sum.rows += more.rows;
        sum.bytes += more.bytes;
        sum.worker_micros += more.worker_micros;
        self.left_out.add(other.left_out);
    }
}

/// A query's rows on their way, and what was done for them so far.
pub(crate) struct Rows {
    feed: Feed<Result<Batch, QueryError>>,
    told: Arc<Mutex<Told>>,
    server: String,
}

impl Rows {
    /// The next rows; none at the end.
    pub(crate) fn next(&mut self) -> Option<Batch> {
        let batch = self.feed.next()?;
        Some(batch.map_err(|e| query_failure(&self.server, &e)).or_raise())
    }

    /// As [`Rows::next`], for a caller that goes on where SQLite refuses.
    pub(crate) fn try_next(&mut self) -> Option<Result<Batch, QueryError>> {
        self.feed.next()
    }

    /// The next rows if they are there, without waiting.
    pub(crate) fn poll_next(&mut self) -> Poll<Option<Batch>> {
        self.feed.try_next().map(|batch| batch.map(|b| b.map_err(|e| query_failure(&self.server, &e)).or_raise()))
    }

    /// Whether [`Rows::poll_next`] would give something.
    pub(crate) fn is_ready(&self) -> bool {
        self.feed.is_ready()
    }

    /// What was done so far.
    pub(crate) fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Cluster {
    /// Asks segments for `relation`, as trough.activity() names it. With `named` they were named rather than listed, so that one that does not exist may be an error.
    pub(crate) fn ask(
        &self,
        relation: &str,
        segments: SegmentSet,
        mut template: QueryTemplate,
        wanted: Wanted,
        limits: Limits,
        named: bool,
    ) -> Rows {
        self.scans.set(self.scans.get() + 1);
        let running = activity::begin(&self.server, relation, &template.map);
        template.max_rows = limits.max_rows;
        template.max_bytes = limits.max_bytes;
        let mut options = QueryOptions {
            timeout: self.timeout(),
            max_in_flight: guc::MAX_IN_FLIGHT.get() as usize,
            buffer_bytes: guc::BUFFER.get() as usize * 1024,
            unknown_is_error: named && limits.on_missing == OnFault::Error,
            skip_failed: limits.on_failed != OnFault::Error,
            trace: Some(trace::current()),
            ..QueryOptions::default()
        };
        if let Wanted::Any(rows) = wanted {
            options.enough_rows = Some(rows);
        }
        if let Some(segments) = wanted.segments_to_pick_from() {
            options.segments_per_reduce = options.segments_per_reduce.min(segments);
        }
        let told = Arc::new(Mutex::new(Told::default()));
        let shared = told.clone();
        let client = self.query.clone();
        let feed = runtime::feed(4, move |sink| async move {
            let mut stream = client.fan_out(segments, template, options);
            let show = |state, stats: &FanOutStats| {
                if let Some(running) = &running {
                    running.counts(stats);
                    running.state(if stats.requests == 0 { State::Discovering } else { state });
                }
            };
            loop {
                // What is there already goes over together, and so wakes the backend once.
                let item = match stream.next().now_or_never() {
                    Some(item) => item,
                    None => {
                        sink.flush();
                        loop {
                            show(State::Running, &stream.stats());
                            // A stream's next may be cancelled and called again.
                            if let Ok(item) = tokio::time::timeout(SHOWN, stream.next()).await {
                                break item;
                            }
                        }
                    }
                };
                let stats = stream.stats();
                {
                    let mut told = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    told.stats = stats;
                    let left_out = stream.left_out();
                    if (left_out.failed, left_out.unknown) != (told.left_out.failed, told.left_out.unknown) {
                        told.left_out = left_out.clone();
                    }
                }
                let last = !matches!(item, Some(Ok(_)));
                show(State::Waiting, &stats);
                if !sink.send(item).await || last {
                    break;
                }
            }
            sink.flush();
        });
        Rows { feed, told, server: self.server.clone() }
    }

    fn timeout(&self) -> Option<Duration> {
        match guc::REQUEST_TIMEOUT.get() {
            0 => self.request_timeout,
            ms => Some(Duration::from_millis(ms as u64)),
        }
    }

    /// The ids of all segments that fulfil a condition, whether somebody serves them or not.
    pub(crate) fn list(&self, pattern: SegmentPattern) -> Vec<SegmentId> {
        let discovery = self.discovery.clone();
        let located = runtime::block_on(async move { discovery.all_now(&pattern).await });
        let located = located.map_err(|e| query_failure(&self.server, &QueryError::Discovery(e))).or_raise();
        located.entries.iter().map(|(id, _)| id.clone()).chain(located.missing.iter().cloned()).collect()
    }

    /// The sum of the one integer that each of the segments gives; none if not all of them answer in time.
    pub(crate) fn total(&self, segments: SegmentSet, template: QueryTemplate, patience: Duration) -> Option<i64> {
        let options = QueryOptions {
            timeout: Some(patience),
            unknown_is_error: false,
            trace: Some(trace::current()),
            ..QueryOptions::default()
        };
        let client = self.query.clone();
        runtime::block_on(async move {
            let mut stream = client.fan_out(segments, template, options);
            let mut total = 0i64;
            while let Some(batch) = stream.next().await {
                let batch = batch.ok()?;
                let mut data = &batch.data[..];
                for _ in 0..batch.count {
                    total = total.checked_add(rmp::decode::read_int(&mut data).ok()?)?;
                }
            }
            Some(total)
        })
    }

    /// The write client, for a schema of new segments.
    pub(crate) fn writer(&self, schema: &SchemaId) -> WriteClient {
        let timeout = self.timeout().unwrap_or(Duration::from_secs(600));
        self.write.with_options(WriteOptions {
            schema: schema.clone(),
            timeout,
            trace: Some(trace::current()),
            ..WriteOptions::default()
        })
    }

    /// The write client as it is.
    pub(crate) fn manager(&self) -> Arc<WriteClient> {
        self.write.clone()
    }

    /// The catalog.
    pub(crate) fn catalog(&self) -> Catalog {
        self.discovery.catalog().clone()
    }
}

/// How often trough.activity() is told while nothing comes.
const SHOWN: Duration = Duration::from_millis(250);

/// A failed query as PostgreSQL reports it.
pub(crate) fn query_failure(server: &str, error: &QueryError) -> Failure {
    let failure = |code, message: String| Failure::new(code, message).traced();
    match error {
        QueryError::Segment { segment, node, url, error } => {
            let message = match error.message.strip_prefix("type mismatch: ") {
                Some(place) => format!("segment \"{segment}\", {place}"),
                // As PostgreSQL says it itself, behind the SQLSTATE.
                None if error.code == trough_core::ErrorCode::DataException => {
                    error.message.split_once(": ").map_or(error.message.as_str(), |(_, message)| message).to_owned()
                }
                None => of_segment(segment.as_str(), &error.message),
            };
            let failure = failure(sqlstate(error), message)
                .detail(format!("Said by worker {node} ({url}) of server \"{server}\"."));
            match error.code {
                _ if query::lacks_functions(error) => {
                    python::plan_anew();
                    failure.hint("A SELECT that is run again is planned without what the Python worker lacks.")
                }
                trough_core::ErrorCode::NoSuchColumn if error.message.contains(" _rowid_") => failure.hint(
                    "Rows of a view or a WITHOUT ROWID table are told apart by columns with the option key 'true'.",
                ),
                trough_core::ErrorCode::NoSuchTable => failure.hint(
                    "The foreign table's option segments (a regular expression) says which segments have its table.",
                ),
                _ => failure,
            }
        }
        QueryError::Worker { node, url, first, count, error } => {
            let failure = failure(sqlstate(error), format!("worker {node}: {}", error.message)).detail(format!(
                "It is at {url} and was asked for segment \"{first}\"{}.",
                if *count > 1 { format!(" and {} more", count - 1) } else { String::new() }
            ));
            match error.code {
                trough_core::ErrorCode::Unauthorized => {
                    failure.hint("The option token of the user mapping must hold a token with the role read.")
                }
                _ => failure,
            }
        }
        other => {
            let error = SegmentError::new(other.code(), other.to_string());
            failure(sqlstate(&error), format!("server \"{server}\": {}", error.message))
        }
    }
}

/// A failed change of the cluster as PostgreSQL reports it.
pub(crate) fn write_failure(server: &str, error: &WriteError) -> Failure {
    let code = SegmentError::new(error.code(), String::new());
    let failure = Failure::new(sqlstate(&code), format!("server \"{server}\": {error}")).traced();
    match error.code() {
        trough_core::ErrorCode::Unauthorized => {
            failure.hint("The option token of the user mapping must hold a token with the role write, or admin.")
        }
        _ => failure,
    }
}
