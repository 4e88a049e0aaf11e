//! Starting and stopping a worker.

use std::{
    collections::HashSet,
    fs::File,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::Router;
use fs4::fs_std::FileExt as _;
use futures::StreamExt as _;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;
use trough_client::{Catalog, CatalogError, catalog::LockOutcome};
use trough_config::{ColdMode, Settings};
use trough_core::{SegmentId, records::Lock};
use trough_engine::{Engine, EngineOptions, Limits};
use trough_http::{
    Bound, CollectFn, Daemon, Served, StatusFn, build_info,
    events::{self, Events},
    peer_client,
};

use crate::{
    advertise::{self, Advertiser},
    busy::Busy,
    cold, controls,
    controls::Controlled,
    copies,
    copies::Copies,
    files::Files,
    follow,
    lease::{Lease, Peers},
    locks::{Base, Locks},
    manage,
    meters::Meters,
    promotions::Promotions,
    quarantine::Quarantine,
    read, reconcile, scrub,
    state::{Urls, Wants, Worker},
    status,
    stranded::{self, Stranded},
    told::Told,
    undo::{self, Undo},
    write,
};

/// The file in LOCAL_DATA that a running worker has locked.
const LOCK_FILE: &str = ".trough-worker.lock";
/// The longest pause between two attempts to reach RethinkDB at start.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Seals of files that a killed process left behind, at the same time.
const SEALS: usize = 8;

/// How long a last word to RethinkDB may take.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long tasks may take to end by themselves.
const TASKS_END: Duration = Duration::from_secs(5);

/// Where a worker listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Queries (READ_PORT).
    pub read: SocketAddr,
    /// Writes (WRITE_PORT).
    pub write: SocketAddr,
    /// The segment manager (SYNC_LOCAL_PORT).
    pub manage: SocketAddr,
}

/// Runs a worker until `shutdown`. `ready` is called once it serves.
///
/// # Errors
/// What makes a start impossible: a port in use, a directory that another worker has, a store URL without a backend. A
/// RethinkDB that does not answer is waited for.
pub async fn run(
    settings: Arc<Settings>,
    shutdown: CancellationToken,
    ready: impl FnOnce(Addresses) + Send,
) -> anyhow::Result<()> {
    let _owner = own_directory(&settings.local_data)?;
    let read_port = Bound::bind(&settings, "READ_PORT", settings.read_port)?;
    let write_port = Bound::bind(&settings, "WRITE_PORT", settings.write_port)?;
    let manage_port = Bound::bind(&settings, "SYNC_LOCAL_PORT", settings.sync_local_port)?;
    let addresses = Addresses { read: read_port.addr(), write: write_port.addr(), manage: manage_port.addr() };

    let shown: Arc<OnceLock<Arc<Worker>>> = Arc::default();
    let daemon = Daemon::new(&settings, status_fn(shown.clone())).with_gauges(gauges_fn(shown.clone()));
    build_info("worker", settings.hostname.as_str(), trough_engine::sqlite_version());
    daemon.supervise(shutdown.clone());
    let worker = Arc::new(build(&settings, addresses, shutdown.clone())?);
    let _ = shown.set(worker.clone());

    // Listeners end last: until the tasks have stopped, `/livez` answers.
    let listeners = CancellationToken::new();
    let serve = |bound: Bound, routes: Router| -> anyhow::Result<Served> {
        Ok(bound.serve(&settings, routes.merge(daemon.common_routes()), listeners.clone())?)
    };
    let served = [
        serve(read_port, read::routes(worker.clone(), &daemon))?,
        serve(write_port, write::routes(worker.clone(), &daemon))?,
        serve(
            manage_port,
            manage::routes(worker.clone(), &daemon).merge(events::routes(worker.events.clone(), &daemon)),
        )?,
    ];

    let mut tasks = JoinSet::new();
    let started = tokio::select! {
        () = shutdown.cancelled() => false,
        () = start(&worker, &daemon, &mut tasks) => true,
    };
    if started {
        daemon.readiness().set_ready();
        tracing::info!(node = %worker.node, read = %addresses.read, write = %addresses.write, manage = %addresses.manage, "worker serves");
        ready(addresses);
    }
    shutdown.cancelled().await;

    tracing::info!(node = %worker.node, "worker stops");
    daemon.readiness().set_waiting("stopping");
    let grace_ends = tokio::time::Instant::now() + settings.shutdown_grace;
    if worker.is_started() {
        // Whoever follows the nodes asks others from now on; the listeners still answer whoever has not heard of it.
        within("tell that this node stops", follow::announce_stop(&worker)).await;
    }
    listeners.cancel();
    for listener in served {
        listener.stopped().await;
    }
    // Promotions go on without those who asked for them. What is cut off gives its mark back.
    let _ = tokio::time::timeout_at(grace_ends, worker.promotions.all_over()).await;
    worker.last_call.cancel();
    let _ = tokio::time::timeout(TASKS_END, worker.promotions.all_over()).await;
    // What waits for a RethinkDB that does not answer is not waited for: all of it can be cut off at any point.
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(TASKS_END, ended).await.is_err() {
        tasks.shutdown().await;
    }
    // What is left open is brought in order by the next start.
    let _ = tokio::time::timeout(TASKS_END, worker.engine.close_writers()).await;
    stop(&worker).await;
    let events = worker.events.clone();
    drop(tokio::task::spawn_blocking(move || events.flush()).await);
    Ok(())
}

fn status_fn(worker: Arc<OnceLock<Arc<Worker>>>) -> StatusFn {
    Arc::new(move || {
        let worker = worker.get().cloned();
        Box::pin(async move {
            let Some(worker) = worker else { return serde_json::Value::Null };
            tokio::task::spawn_blocking(move || status::document(&worker)).await.unwrap_or_default()
        })
    })
}

fn gauges_fn(worker: Arc<OnceLock<Arc<Worker>>>) -> CollectFn {
    Arc::new(move || {
        if let Some(worker) = worker.get() {
            worker.gauge();
        }
    })
}

/// Makes the directory, and makes sure that no other worker has it.
fn own_directory(dir: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(dir).with_context(|| format!("create LOCAL_DATA {}", dir.display()))?;
    let path = dir.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("open {} in LOCAL_DATA", path.display()))?;
    // SQLite writes one byte in each 4 KiB of its shared memory's file before it maps it, so that it has room on the disk.
    if let Ok(disk) = rustix::fs::statvfs(dir)
        && disk.f_frsize < 4096
    {
        tracing::warn!(
            block = disk.f_frsize,
            dir = %dir.display(),
            "the file system of LOCAL_DATA has blocks of less than 4 KiB: when it is full, a write may end this process (SIGBUS)"
        );
    }
    let mine = file.try_lock_exclusive().with_context(|| format!("lock {}", path.display()))?;
    anyhow::ensure!(mine, "LOCAL_DATA {} belongs to another worker that is running; give each its own", dir.display());
    Ok(file)
}

fn build(settings: &Arc<Settings>, addresses: Addresses, shutdown: CancellationToken) -> anyhow::Result<Worker> {
    let store = trough_store::open_with(
        &settings.store,
        &trough_store::StoreOptions::new(settings.store_timeout, settings.store_options.clone()),
    )
    .context("open the canonical store (STORE)")?;
    let options = trough_reql::Options::from_url(&settings.rethinkdb_url()).context("RETHINKDB_HOSTS")?;
    let files = if settings.run_as_cold_storage_node {
        Files::empty(&settings.local_data)
    } else {
        Files::open(&settings.local_data)
            .with_context(|| format!("read LOCAL_DATA {}", settings.local_data.display()))?
    };
    let mut engine_options = engine_options(settings);
    if settings.run_as_cold_storage_node && settings.cold_mode == ColdMode::Direct {
        engine_options.remote = Some(cold::direct::remote(&store, settings).map_err(|e| anyhow::anyhow!(e.message))?);
    }
    let urls = Urls {
        read: settings.base_url(addresses.read.port()),
        read_port: addresses.read.port(),
        write: settings.base_url(addresses.write.port()),
        write_port: addresses.write.port(),
        manage: settings.base_url(addresses.manage.port()),
    };
    let events = Events::with_log(settings.hostname.clone(), settings.events_kept, &settings.local_data);
    Ok(Worker {
        node: settings.hostname.clone(),
        holder: uuid::Uuid::new_v4().to_string(),
        catalog: Catalog::new(trough_reql::Client::new(options)),
        engine: Engine::new(engine_options),
        store,
        http: peer_client(settings)?,
        urls,
        files,
        locks: Locks::new(events.clone()),
        lease: Arc::new(Lease::new(settings.lease)),
        peers: Peers::default(),
        wants: Wants::default(),
        busy: Busy::default(),
        copies: Copies::new(settings.copy_bandwidth),
        controlled: Controlled::new(settings),
        advertiser: Advertiser::default(),
        promotions: Promotions::new(settings)?,
        quarantine: Quarantine::open(&settings.local_data),
        stranded: Stranded::open(&settings.local_data).context("read the notes of write locks in LOCAL_DATA")?,
        events,
        epoch: AtomicU64::new(0),
        meters: Meters::new(settings.hostname.as_str()),
        told: Told::new(),
        adopts: AtomicBool::new(false),
        started: AtomicBool::new(false),
        settled: CancellationToken::new(),
        last_call: CancellationToken::new(),
        shutdown,
        settings: settings.clone(),
    })
}

fn engine_options(settings: &Settings) -> EngineOptions {
    let limits = Limits {
        max_rows: settings.max_rows.unwrap_or(0),
        max_bytes: settings.max_bytes.unwrap_or(0),
        max_sql_bytes: settings.max_sql_bytes,
        max_expr_depth: settings.max_expr_depth,
        max_variables: settings.max_variables,
        max_partial_bytes: settings.max_memory_bytes,
        // A century is no limit.
        query_timeout: settings.query_timeout.unwrap_or(Duration::from_secs(3_155_760_000)),
        ..Limits::default()
    };
    EngineOptions {
        point_threads: settings.read_threads,
        handle_budget: settings.handle_budget,
        limits,
        heap_limit: settings.max_sqlite_memory,
        // A mount may keep a thread waiting for long.
        inline_reads: !settings.run_as_cold_storage_node,
        ..EngineOptions::default()
    }
}

/// Everything between listening and serving. Waits for RethinkDB as long as it takes.
async fn start(worker: &Arc<Worker>, daemon: &Daemon, tasks: &mut JoinSet<()>) {
    daemon.readiness().set_waiting("RethinkDB does not answer yet");
    patiently("create the tables", || worker.catalog.ensure_tables(3)).await;
    if worker.settings.tokens.is_empty() && worker.settings.listen.is_loopback() {
        tracing::info!("no TOKENS are set: this worker answers on loopback only");
    }
    let epoch = patiently("read the epoch", || worker.catalog.current_epoch()).await;
    worker.epoch.fetch_max(epoch, Ordering::AcqRel);
    let before = patiently("look at this node's row", || worker.catalog.node(&worker.node)).await;
    worker.adopts.store(before.is_some_and(|row| row.service.read_url.is_none()), Ordering::Release);
    patiently("take the lease", || follow::renew(worker)).await;
    if !worker.settings.run_as_cold_storage_node {
        patiently("take over this node's locks", || take_over(worker)).await;
        seal_leftovers(worker).await;
    }
    let locks_read = Arc::new(Notify::new());
    // It turns at least at two thirds of the ttl, whether RethinkDB answers or not.
    tasks.spawn(follow::heartbeat(worker.clone(), daemon.vitals().expect("lease", worker.lease.ttl())));
    tasks.spawn(controls::follow(worker.clone()));
    tasks.spawn(follow::locks(worker.clone(), locks_read.clone()));
    locks_read.notified().await;
    daemon.readiness().set_waiting("reading this node's assignments");
    tasks.spawn(follow::assignments(worker.clone()));
    if worker.settings.run_as_cold_storage_node {
        tasks.spawn(cold::run(worker.clone()));
    } else {
        tasks.spawn(reconcile::run(worker.clone()));
        tasks.spawn(scrub::run(worker.clone()));
        tasks.spawn(copies::run(worker.clone()));
    }
    worker.settled.cancelled().await;
    daemon.readiness().set_waiting("telling which segments are served here");
    // Nothing is answered before every file was compared with its assignment: one of an earlier life may be old, and its row
    // stands in the database.
    worker.started.store(true, Ordering::Release);
    // Only now is it known which rows there should be: those of the process before stand until then.
    worker.advertiser.reread();
    tasks.spawn(advertise::run(worker.clone()));
    worker.advertiser.told().await;
}

/// Tries until it works.
async fn patiently<T, F: Future<Output = Result<T, CatalogError>>>(what: &str, attempt: impl Fn() -> F) -> T {
    let mut pause = Duration::from_millis(100);
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => tracing::warn!(%error, "cannot {what} at start, trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Takes the locks over that earlier processes of this node left: whoever they were, LOCAL_DATA is ours now.
async fn take_over(worker: &Arc<Worker>) -> Result<(), CatalogError> {
    let mut rows = worker.catalog.locks_of_node(&worker.node).await?;
    let (mut segments, mut epoch) = (Vec::new(), worker.highest_epoch());
    while let Some(row) = rows.next().await {
        let row: Lock = row?;
        epoch = epoch.max(row.epoch);
        segments.push(row.segment);
    }
    if segments.is_empty() {
        return Ok(());
    }
    worker.epoch.fetch_max(epoch, Ordering::AcqRel);
    let outcomes = worker.catalog.acquire_locks(&segments, &worker.node, &worker.holder, epoch).await?;
    let (mut taken, mut unfinished) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        let LockOutcome::Acquired { lock, former } = outcome else { continue };
        if is_unfinished(worker, &lock.segment, former.as_ref()) {
            unfinished.push(Undo::of_unfinished(lock));
            continue;
        }
        let base = match worker.files.get(&lock.segment) {
            Some(local) if local.plain || is_empty(&local.path.with_extension("sqlite-wal")) => {
                Base::Found(local.stamp)
            }
            _ => Base::Unknown,
        };
        worker.files.update(&lock.segment, |file| (file.served, file.plain) = (true, false));
        taken.push(lock.segment.clone());
        worker.locks.acquired(lock, base);
    }
    tracing::info!(locks = taken.len(), "write locks of this node's earlier process taken over");
    // They are noted already, unless a Python worker took them.
    if let Err(error) = stranded::note(worker, taken).await {
        tracing::error!(error = error.message, "write locks are not noted");
    }
    if !unfinished.is_empty() {
        tracing::info!(
            locks = unfinished.len(),
            "write locks given back under which an earlier process had not written yet"
        );
        undo::all(worker, unfinished).await;
    }
    Ok(())
}

/// Whether an earlier process ended between taking the lock and the note that comes before anything is written under it. The file here, if there
/// is one, may be older than the canonical copy then. A Python worker's locks have no holder, and it makes no notes; what this very process
/// has taken, in an attempt that failed, may have been such a one.
fn is_unfinished(worker: &Worker, segment: &SegmentId, former: Option<&Lock>) -> bool {
    let holder = former.and_then(|former| former.holder.as_deref());
    holder.is_some_and(|holder| holder != worker.holder) && worker.stranded.was_never_noted(segment)
}

fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.len() == 0)
}

/// Brings files in order that a killed process left with a write-ahead log, and that nobody here may write any more.
async fn seal_leftovers(worker: &Arc<Worker>) {
    let held: HashSet<SegmentId> = worker.locks.all_held().iter().map(|h| h.lock.segment.clone()).collect();
    let left = worker.files.ids().into_iter().filter(|s| !held.contains(s));
    let left: Vec<SegmentId> = left.filter(|s| worker.files.get(s).is_some_and(|f| !f.plain)).collect();
    futures::stream::iter(left)
        .for_each_concurrent(SEALS, |segment| async move {
            let Some(file) = worker.hot_file(&segment) else { return };
            match worker.engine.seal(file).await {
                Ok(plain) => {
                    let stamp = std::fs::metadata(worker.files.path_of(&segment)).map(|m| crate::files::Stamp::of(&m));
                    worker.files.update(&segment, |file| {
                        file.plain = plain;
                        if let Ok(stamp) = stamp {
                            file.stamp = stamp;
                        }
                    });
                }
                Err(error) => {
                    tracing::error!(%segment, error = error.message, "local copy is broken, fetched again where it is assigned");
                    worker.files.update(&segment, |file| file.broken = Some(error.message.as_str().into()));
                }
            }
        })
        .await;
}

/// In order: a worker that holds no lock gives its lease up, so that clients turn to others at once. One that holds locks
/// keeps it until it ends: nobody may take the locks over while the files here hold what is nowhere else.
async fn stop(worker: &Arc<Worker>) {
    if worker.is_started() && worker.locks.counts().0 == 0 {
        within("give the lease up", worker.catalog.remove_node(&worker.node)).await;
    }
}

/// Tries something last, for a short while.
async fn within(what: &str, attempt: impl Future<Output = Result<(), CatalogError>>) {
    match tokio::time::timeout(LAST_WORDS, attempt).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot {what}"),
        Err(_) => tracing::warn!("cannot {what}, RethinkDB does not answer"),
    }
}
