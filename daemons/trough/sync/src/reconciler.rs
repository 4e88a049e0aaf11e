//! The master's loop: looks at the store and the nodes, plans, commits. One per term.
//!
//! Holds the [`Model`]. Every write is preceded by a look at the term and carries its epoch, so that a master that lost
//! its election writes nothing, and what it had on its way is refused.

mod applying;
mod commit;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::StreamExt as _;
use trough_client::catalog::{CatalogError, NodeStatus};
use trough_core::{SegmentId, records::Assignment};

use applying::Applying;
pub(crate) use applying::{Applied, Planning};

use crate::{
    context::Context,
    mastership::Term,
    model::{Canonical, Model},
    placing,
    plan::{Desired, Plan, Policy, WorkerView, reconcile},
    view::{self, ClusterView},
    workers::WorkerMemory,
};

/// Complete listings in a row that must miss a segment until people are told.
const MISSED_LIMIT: u8 = 2;
/// Pause after a nudge, so that one round takes in many.
const GATHER: Duration = Duration::from_millis(100);
/// The longest further pause while nothing was promoted.
const CALM: Duration = Duration::from_secs(1);
/// Looks at the store at the same time.
const STATS_AT_ONCE: usize = 32;

/// Why a round ended early.
#[derive(Debug)]
enum Stop {
    /// This process is master no more.
    Deposed,
    /// Something failed; the next round tries again.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast_ref::<CatalogError>() {
            Some(e) if e.is_fenced() => Self::Deposed,
            _ => Self::Failed(error),
        }
    }
}

impl From<CatalogError> for Stop {
    fn from(error: CatalogError) -> Self {
        if error.is_fenced() { Self::Deposed } else { Self::Failed(error.into()) }
    }
}

/// Everything that planning needs, gathered from outside.
pub(crate) struct Survey {
    pub(crate) nodes: Vec<NodeStatus>,
    pub(crate) workers: Vec<WorkerView>,
    pub(crate) desired: Desired,
    pub(crate) plan: Plan,
}

/// The loop's state.
pub(crate) struct Reconciler {
    context: Arc<Context>,
    /// None while only planning (`--plan`).
    term: Option<Term>,
    model: Model,
    memory: WorkerMemory,
    generation: u64,
    listed: Option<Instant>,
    missing: Vec<SegmentId>,
    missing_count: u64,
    /// The document `ring-assignments` as it stands; none until it was read.
    rings_written: Option<serde_json::Map<String, serde_json::Value>>,
    /// Whether rows may stand that a Python master wrote: not looked at yet.
    may_be_python: bool,
    /// The plan that an operator has applied last.
    applying: Option<Applying>,
}

impl Reconciler {
    pub(crate) fn new(context: Arc<Context>, term: Option<Term>) -> Self {
        let root = store_root(&context);
        Self {
            context,
            term,
            model: Model::new(&root),
            memory: WorkerMemory::default(),
            generation: 0,
            listed: None,
            missing: Vec::new(),
            missing_count: 0,
            rings_written: None,
            may_be_python: true,
            applying: None,
        }
    }

    /// The limits of a plan, as the settings and the operator have them.
    fn policy(&self) -> Policy {
        let (settings, controls) = (&self.context.settings, self.context.controls.read());
        let throttles = &controls.throttles;
        let none_if_0 = |bytes: u64| if bytes == 0 { u64::MAX } else { bytes };
        Policy {
            moves: throttles.move_segments.unwrap_or(settings.move_segments),
            move_bytes: throttles.move_bytes.or(settings.move_bytes).map_or(u64::MAX, none_if_0),
            paused: controls.paused.is_some(),
            ..Policy::default()
        }
    }

    /// Runs until the term is over.
    pub(crate) async fn run(mut self, term: Term) {
        let cycle = self.context.settings.sync_loop_timing;
        let mut loaded = false;
        self.wait_for_tables().await;
        let (sender, mut asked) = tokio::sync::mpsc::channel(4);
        *self.context.planning.lock() = Some(sender);
        loop {
            let began = Instant::now();
            let outcome = match loaded {
                true => self.round().await,
                false => match self.load().await {
                    Ok(()) => {
                        loaded = true;
                        self.round().await
                    }
                    Err(stop) => Err(stop),
                },
            };
            let took = began.elapsed();
            metrics::histogram!("trough_sync_reconcile_seconds").record(took.as_secs_f64());
            let wait = match outcome {
                Ok(()) if self.applying.as_ref().is_some_and(Applying::is_running) => cycle.min(CALM),
                Ok(()) => cycle,
                Err(Stop::Deposed) => {
                    term.end();
                    return;
                }
                Err(Stop::Failed(error)) => {
                    tracing::warn!(error = format!("{error:#}"), "reconciliation failed, it is tried again");
                    metrics::counter!("trough_sync_reconcile_failures_total").increment(1);
                    let mut view = (**self.context.view.read()).clone();
                    view.error = Some(format!("{error:#}"));
                    *self.context.view.write() = Arc::new(view);
                    cycle.min(Duration::from_secs(2))
                }
            };
            let listing_due = self.listed.map_or(Duration::ZERO, |at| cycle.saturating_sub(at.elapsed()));
            tokio::select! {
                () = tokio::time::sleep(wait.min(listing_due.max(Duration::from_millis(500)))) => {}
                // However often it is nudged, at least a third of the time is left to others; where no promotion waits,
                // more.
                () = async {
                    self.context.nudge.notified().await;
                    tokio::time::sleep(GATHER.max(took / 2)).await;
                    if !self.context.is_dirty() {
                        tokio::time::sleep((took * 4).min(CALM)).await;
                    }
                } => {}
                Some(asked) = asked.recv(), if loaded => if let Err(Stop::Deposed) = self.answer(asked).await {
                    term.end();
                    return;
                },
                () = term.over() => return,
            }
        }
    }

    /// Gives the feeds a moment, so that the first plan knows what is live.
    async fn wait_for_tables(&self) {
        let limit = Instant::now() + Duration::from_secs(10);
        let complete = || self.context.serving.read().complete && self.context.locks.read().complete;
        while !complete() && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reads what is stored.
    async fn load(&mut self) -> Result<(), Stop> {
        let mut model = Model::new(&store_root(&self.context));
        let mut rows = self.context.catalog.all_assignments().await?;
        while let Some(row) = rows.next().await {
            model.load(&row?);
        }
        self.generation = self.context.catalog.generation().await?.generation;
        model.found = self.context.catalog.found_shares().await?;
        *self.context.controls.write() = self.context.catalog.controls().await?;
        self.model = model;
        self.may_be_python = true;
        self.listed = None;
        Ok(())
    }

    async fn round(&mut self) -> Result<(), Stop> {
        let began = Instant::now();
        let dirty = self.context.take_dirty();
        if let Err(error) = self.look_at(&dirty).await {
            self.context.mark_dirty(dirty);
            return Err(error.into());
        }
        if self.listed.is_none_or(|at| at.elapsed() >= self.context.settings.sync_loop_timing) {
            self.list().await?;
        }
        let context = self.context.clone();
        let _committing = context.committing.lock().await;
        // Taken after the listing, which may have seen the file before it was deleted.
        for segment in self.context.take_shredded() {
            if let Some(ix) = self.model.find(&segment) {
                self.model.forget(ix);
            }
        }
        self.take_over().await?;
        let survey = self.survey().await?;
        if !survey.plan.is_empty() {
            self.commit(&survey.plan).await?;
        }
        self.go_on_applying(&survey.workers).await?;
        self.write_ring_assignments(&survey.workers).await?;
        self.publish_view(&survey, began);
        Ok(())
    }

    /// Looks at single segments in the store, and at what is recorded of them.
    async fn look_at(&mut self, segments: &[SegmentId]) -> anyhow::Result<()> {
        if segments.is_empty() {
            return Ok(());
        }
        let store = self.context.store.clone();
        let mut stats = futures::stream::iter(segments.iter().cloned().map(|segment| {
            let store = store.clone();
            async move { (store.stat(&segment).await, segment) }
        }))
        .buffer_unordered(STATS_AT_ONCE);
        while let Some((stat, segment)) = stats.next().await {
            match stat {
                Ok(entry) => {
                    let found = Canonical { bytes: entry.bytes, mtime_ms: entry.mtime_ms };
                    self.model.observe(&segment, &entry.path, found);
                }
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e).context("look at a promoted segment"),
            }
        }
        drop(stats);
        // A promotion records length, time and hash in the assignments that exist.
        let mut stored: HashMap<SegmentId, Vec<Assignment>> = HashMap::new();
        for row in self.context.catalog.assignments_of_segments(segments).await? {
            stored.entry(row.segment.clone()).or_default().push(row);
        }
        for segment in segments {
            self.model.reload(segment, stored.get(segment).map_or(&[], Vec::as_slice));
        }
        Ok(())
    }

    /// Lists the store. An incomplete listing teaches what it showed and nothing about what it did not.
    async fn list(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        self.model.begin_listing();
        let mut listing = self.context.store.list_folders();
        let mut count = 0;
        while let Some(folder) = listing.next().await {
            let folder = folder.context("list the canonical store")?;
            self.model.observe_folder(&folder);
            count += folder.len();
        }
        let gone = self.model.end_listing(MISSED_LIMIT);
        if self.missing_count == 0 && !gone.is_empty() {
            tracing::error!(
                segments = gone.len(),
                first = %self.model.id(gone[0]),
                "segments have copies but no canonical file; promote them again or shred them"
            );
        }
        self.missing_count = gone.len() as u64;
        self.missing = gone.iter().take(view::NAMED).map(|ix| self.model.id(*ix).clone()).collect();
        self.listed = Some(Instant::now());
        metrics::gauge!("trough_sync_segments").set(count as f64);
        tracing::debug!(segments = count, ms = began.elapsed().as_millis() as u64, "listed the store");
        Ok(())
    }

    /// Gathers nodes and live copies, places, and plans.
    async fn survey(&mut self) -> Result<Survey, Stop> {
        let nodes = self.context.catalog.nodes().await?;
        let now = self.context.catalog.server_now().await?;
        let settings = self.context.settings.clone();
        let workers = self.memory.workers(&mut self.model, &nodes, settings.move_grace, Instant::now());
        {
            let serving = self.context.serving.read();
            let names = self.model.nodes.clone();
            self.model.mark_live(|segment, node| serving.serves(segment, names.name(node), now));
        }
        let locked: Vec<bool> = {
            let locks = self.context.locks.read();
            // While the locks are not known, every segment may have one.
            self.model.segments().map(|ix| !locks.complete || locks.get(self.model.id(ix)).is_some()).collect()
        };
        // Planning may take seconds for millions of segments, so it has a thread of its own.
        let (model, views, generation) = (std::mem::take(&mut self.model), workers.clone(), self.generation + 1);
        let policy = self.policy();
        let planned = tokio::task::spawn_blocking(move || {
            let outcome = placing::place(&model, &views, &settings).map(|desired| {
                let plan = reconcile(&model, &views, &desired, &|ix| locked[ix as usize], generation, &policy);
                (desired, plan)
            });
            (model, outcome)
        });
        let (model, outcome) = planned.await.map_err(|e| Stop::Failed(anyhow::anyhow!("planning failed: {e}")))?;
        self.model = model;
        let (desired, plan) = outcome?;
        Ok(Survey { nodes, workers, desired, plan })
    }

    /// What a master would do now; nothing is changed.
    pub(crate) async fn plan_only(mut self) -> anyhow::Result<String> {
        let failed = |stop: Stop| match stop {
            Stop::Failed(error) => error,
            Stop::Deposed => anyhow::anyhow!("another master is at work"),
        };
        self.load().await.map_err(failed)?;
        self.list().await?;
        {
            let mut serving = crate::tables::Serving::default();
            let mut rows = self.context.catalog.stream_read_services(None).await?;
            while let Some(row) = rows.next().await {
                serving.change(None, Some(&row?));
            }
            serving.complete = true;
            *self.context.serving.write() = serving;
            let mut locks = crate::tables::Locks::default();
            let mut rows = self.context.catalog.locks().await?;
            while let Some(row) = rows.next().await {
                locks.change(None, Some(row?));
            }
            locks.complete = true;
            *self.context.locks.write() = locks;
        }
        self.take_over().await.map_err(failed)?;
        let survey = self.survey().await.map_err(failed)?;
        let lines = view::worker_lines(&self.model, &survey.workers, &survey.desired, &survey.nodes);
        Ok(view::plan_text(&self.model, &survey.plan, &lines))
    }

    fn publish_view(&self, survey: &Survey, began: Instant) {
        let summary = survey.plan.summary.clone();
        metrics::gauge!("trough_sync_under_replicated_segments").set(summary.under_replicated as f64);
        metrics::gauge!("trough_sync_unserved_segments").set(summary.unserved as f64);
        metrics::gauge!("trough_sync_copies_in_flight").set(summary.in_flight as f64);
        let workers = view::worker_lines(&self.model, &survey.workers, &survey.desired, &survey.nodes);
        let needy = view::needy(&self.model, &survey.workers, &survey.desired);
        let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        *self.context.view.write() = Arc::new(ClusterView {
            epoch: self.term.as_ref().map_or(0, |t| t.epoch),
            generation: self.generation,
            at,
            took_ms: began.elapsed().as_millis() as u64,
            summary,
            workers,
            needy,
            missing: self.missing.clone(),
            missing_count: self.missing_count,
            applying: self.applying.as_ref().map(|applying| applying.progress.clone()),
            error: None,
        });
    }
}

/// The directory of the canonical copies as records have it: the store's path of a segment without the part that the
/// segment decides.
fn store_root(context: &Context) -> String {
    let probe = SegmentId::new("probe").expect("a valid id");
    let path = context.store.path_of(&probe);
    path.strip_suffix(&probe.store_path()).unwrap_or(&path).trim_end_matches('/').to_owned()
}
