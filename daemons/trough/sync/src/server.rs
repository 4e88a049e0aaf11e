//! A sync server: listener, election, and the master's work when it is elected.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use trough_client::{
    Catalog, Discovery, DiscoveryOptions, QueryClient,
    catalog::{Candidate, TROUGH},
    http::HttpOptions,
};
use trough_config::Settings;
use trough_engine::{Engine, EngineOptions};
use trough_http::{Bound, Daemon, Rate, Readiness, Served, build_info};

use crate::{
    api::{self, Api},
    context::Context,
    master,
    mastership::{self, Standing},
    meters,
};

/// Nodes of a RethinkDB cluster that hold a table.
const REPLICAS: u32 = 3;
/// Pause before the metadata is asked again while it is away.
const RETRY: Duration = Duration::from_millis(500);

/// A sync server at work.
#[derive(Debug)]
pub struct Server {
    served: Served,
    tasks: JoinSet<()>,
    standing: watch::Receiver<Standing>,
    context: Arc<Context>,
}

impl Server {
    /// Binds SYNC_SERVER_PORT and starts everything; what needs the metadata begins when that answers.
    ///
    /// # Errors
    /// If the port cannot be had, or STORE, TLS or RethinkDB settings are unusable; the text names the setting.
    pub async fn start(settings: Arc<Settings>, shutdown: CancellationToken) -> anyhow::Result<Self> {
        let bound = Bound::bind(&settings, "SYNC_SERVER_PORT", settings.sync_server_port)?;
        let port = bound.addr().port();
        let own_url = settings.base_url(port);
        let (sender, standing) = watch::channel(Standing::Unknown);
        let context = Arc::new(context(&settings, standing.clone())?);
        let discovery = Discovery::new(context.catalog.clone(), DiscoveryOptions::default());
        let queries = QueryClient::new(discovery, &http_options(&settings)?)?;
        let api = Arc::new(Api {
            context: context.clone(),
            engine: Engine::new(schema_engine()),
            queries,
            passing: trough_http::stranger_client(&settings)?,
            slow: Rate::new(20, Duration::from_secs(10)),
            reports: Default::default(),
            own_url: own_url.clone(),
        });
        let (status_of, gauges_of) = (api.clone(), api.clone());
        let daemon = Daemon::new(
            &settings,
            Arc::new(move || {
                let document = api::document(&status_of);
                Box::pin(async move { document })
            }),
        )
        .with_gauges(Arc::new(move || meters::gauge(&gauges_of)));
        meters::describe();
        build_info("sync", settings.hostname.as_str(), trough_engine::sqlite_version());
        daemon.readiness().set_waiting("the metadata does not answer yet");
        let readiness = daemon.readiness().clone();
        daemon.supervise(shutdown.clone());
        let vitals = daemon.vitals().clone();
        let served = bound.serve(&settings, api::router(api, &daemon), shutdown.clone())?;

        let ttl = mastership::mastership_ttl(settings.election_cycle);
        let candidate = Candidate {
            holder: uuid::Uuid::new_v4().to_string(),
            node: settings.hostname.clone(),
            url: own_url,
            port,
            ttl: ttl.as_secs_f64(),
            load: 0.0,
            host: settings.hostname.to_string(),
        };
        let mut tasks = JoinSet::new();
        let (catalog, cycle, stop) = (context.catalog.clone(), settings.election_cycle, shutdown.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = prepare(&catalog) => {}
                () = stop.cancelled() => return,
            }
            readiness.set_waiting("no sync master is elected yet");
            // A round and what it waits for take at most two ttls, a pause at most a ttl and a cycle.
            let beat = vitals.expect("election", ttl * 3 + cycle);
            mastership::take_part(catalog, candidate, cycle, sender, beat, stop).await;
        });
        let readiness = daemon.readiness().clone();
        tasks.spawn(tell_readiness(context.clone(), readiness, shutdown.clone()));
        tasks.spawn(master::serve_terms(context.clone(), standing.clone(), shutdown));
        Ok(Self { served, tasks, standing, context })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.served.addr
    }

    /// In what standing it is.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// What its parts share, for tests.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Waits until it has stopped, which the shutdown token begins.
    pub async fn stopped(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a part of the sync server panicked");
            }
        }
        self.served.stopped().await;
    }
}

/// Ready is who knows the master, and, as master, has listed the store and planned once.
async fn tell_readiness(context: Arc<Context>, readiness: Readiness, shutdown: CancellationToken) {
    let (mut standing, mut reconciled) = (context.standing.clone(), context.reconciled.subscribe());
    loop {
        let planned = *reconciled.borrow_and_update();
        match &*standing.borrow_and_update() {
            Standing::Unknown => {
                readiness.set_waiting("no sync master is known: the metadata does not answer, or none is elected yet")
            }
            Standing::Master(term) if term.epoch != planned => {
                readiness.set_waiting("this sync master has not listed the canonical store yet");
            }
            Standing::Follower(_) | Standing::Master(_) => readiness.set_ready(),
        }
        tokio::select! {
            changed = standing.changed() => if changed.is_err() { return },
            changed = reconciled.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => break,
        }
    }
    readiness.set_waiting("stopping");
}

/// The engine only checks and describes schemas: it opens no segment.
fn schema_engine() -> EngineOptions {
    EngineOptions {
        threads: 1,
        point_threads: 1,
        write_threads: 1,
        handle_budget: 8,
        writer_budget: 1,
        ..EngineOptions::default()
    }
}

/// The tables; tried until the metadata answers.
async fn prepare(catalog: &Catalog) {
    loop {
        match catalog.ensure_tables(REPLICAS).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(%error, table = TROUGH, "cannot prepare the tables yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// A context over the settings' metadata and store.
pub(crate) fn context(settings: &Arc<Settings>, standing: watch::Receiver<Standing>) -> anyhow::Result<Context> {
    let options = trough_reql::Options::from_url(&settings.rethinkdb_url()).context("read the RETHINKDB_* settings")?;
    let catalog = Catalog::new(trough_reql::Client::new(options));
    let store = trough_store::open_with(
        &settings.store,
        &trough_store::StoreOptions::new(settings.store_timeout, settings.store_options.clone()),
    )
    .context("open the canonical store (STORE)")?;
    let http = trough_http::peer_client(settings)?;
    Ok(Context::new(settings.clone(), catalog, store, http, standing))
}

fn http_options(settings: &Settings) -> anyhow::Result<HttpOptions> {
    let ca_pem = match &settings.tls_ca {
        Some(path) => Some(std::fs::read(path).with_context(|| format!("read TLS_CA {}", path.display()))?),
        None => None,
    };
    Ok(HttpOptions { token: settings.token.clone(), ca_pem, ..HttpOptions::default() })
}
