//! The master's loop: looks at the store and the nodes, plans, commits. One per term.
//!
//! Holds the [`Model`]. Every write is preceded by a look at the term and carries its epoch, so that a master that lost
//! its election writes nothing, and what it had on its way is refused.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::StreamExt as _;
use serde_json::json;
use trough_client::catalog::{ASSIGNMENT, CatalogError, NodeStatus};
use trough_core::{SegmentId, records::Assignment};
use trough_reql::r;

use crate::{
    context::Context,
    mastership::Term,
    model::{Canonical, Model},
    placing,
    plan::{Desired, Drop, Plan, Policy, Presence, Put, WorkerView, reconcile},
    view::{self, ClusterView},
    workers::WorkerMemory,
};

/// Keys in one commit.
const BATCH: usize = 1_000;
/// Complete listings in a row that must miss a segment until people are told.
const MISSED_LIMIT: u8 = 2;
/// Pause after a nudge, so that one round takes in many.
const GATHER: Duration = Duration::from_millis(100);
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
    rings_written: String,
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
            rings_written: String::new(),
        }
    }

    /// Runs until the term is over.
    pub(crate) async fn run(mut self, term: Term) {
        let cycle = self.context.settings.sync_loop_timing;
        let mut loaded = false;
        self.wait_for_tables().await;
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
                // However often it is nudged, at least a third of the time is left to others.
                () = async {
                    self.context.nudge.notified().await;
                    tokio::time::sleep(GATHER.max(took / 2)).await;
                } => {}
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
        self.model = model;
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
        let survey = self.survey().await?;
        if !survey.plan.is_empty() {
            self.commit(&survey).await?;
        }
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
        let mut listing = self.context.store.list();
        let mut count = 0u64;
        while let Some(entry) = listing.next().await {
            let entry = entry.context("list the canonical store")?;
            let found = Canonical { bytes: entry.bytes, mtime_ms: entry.mtime_ms };
            self.model.observe(&entry.segment, &entry.path, found);
            count += 1;
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
        let policy = Policy {
            moves: settings.move_segments,
            move_bytes: settings.move_bytes.unwrap_or(u64::MAX),
            ..Policy::default()
        };
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
        let survey = self.survey().await.map_err(failed)?;
        let lines = view::worker_lines(&self.model, &survey.workers, &survey.desired, &survey.nodes);
        Ok(view::plan_text(&self.model, &survey.plan, &lines))
    }

    fn check_term(&self) -> Result<u64, Stop> {
        match &self.term {
            Some(term) if term.is_valid() => Ok(term.epoch),
            _ => Err(Stop::Deposed),
        }
    }

    /// Writes the plan in batches, additions first, and publishes its generation.
    async fn commit(&mut self, survey: &Survey) -> Result<(), Stop> {
        let now = self.context.catalog.server_now().await?;
        let mut changed = 0;
        for batch in survey.plan.puts.chunks(BATCH) {
            let mut batch = batch.to_vec();
            let recorded = self.fill_hashes(&mut batch).await?;
            let epoch = self.check_term()?;
            let records: Vec<Assignment> = batch
                .iter_mut()
                .map(|put| {
                    put.row.assigned_on.get_or_insert(now);
                    self.model.assignment(put.segment, &put.row, epoch)
                })
                .collect();
            self.context.catalog.commit_assignments(&records, &[], epoch).await?;
            records.iter().for_each(|record| self.model.load(record));
            if !recorded.is_empty() {
                self.context.catalog.forget_canonical(&recorded).await?;
            }
            changed += records.len();
        }
        for batch in survey.plan.drops.chunks(BATCH) {
            let batch = self.still_surplus(batch).await?;
            let epoch = self.check_term()?;
            let ids: Vec<String> = batch
                .iter()
                .map(|d| Assignment::row_id(self.model.nodes.name(d.node), self.model.id(d.segment)))
                .collect();
            if !ids.is_empty() {
                self.context.catalog.commit_assignments(&[], &ids, epoch).await?;
            }
            batch.iter().for_each(|d| self.model.unload(d.segment, d.node));
            changed += ids.len();
        }
        if changed == 0 {
            return Ok(());
        }
        let epoch = self.check_term()?;
        match self.context.catalog.publish_generation(self.generation, epoch).await {
            Ok(generation) => self.generation = generation,
            Err(CatalogError::Conflict { .. }) => {
                self.generation = self.context.catalog.generation().await?.generation;
            }
            Err(error) => return Err(error.into()),
        }
        let s = &survey.plan.summary;
        metrics::counter!("trough_sync_assignments_changed_total").increment(changed as u64);
        tracing::info!(
            generation = self.generation,
            repairs = s.repairs,
            moves = s.moves,
            refreshes = s.refreshes,
            drops = s.drops,
            deferred = s.deferred,
            "committed assignments"
        );
        Ok(())
    }

    /// Adds the hashes that promotions recorded, to rows of the same length and time. Returned are the segments whose
    /// promotion is recorded beside the assignments and shall stand in them from now on.
    async fn fill_hashes(&self, puts: &mut [Put]) -> Result<Vec<SegmentId>, Stop> {
        let mut unknown = Vec::new();
        for put in puts.iter_mut().filter(|p| p.row.sha256.is_none()) {
            let same = |r: &&crate::model::Row| r.bytes == put.row.bytes && r.mtime_ms == put.row.mtime_ms;
            put.row.sha256 = self.model.rows(put.segment).iter().filter(same).find_map(|r| r.sha256.clone());
            if put.row.sha256.is_none() {
                unknown.push(self.model.id(put.segment).clone());
            }
        }
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let recorded: HashMap<SegmentId, _> = self
            .context
            .catalog
            .canonical_of_segments(&unknown)
            .await?
            .into_iter()
            .map(|c| (c.segment.clone(), c))
            .collect();
        for put in puts.iter_mut().filter(|p| p.row.sha256.is_none()) {
            let Some(found) = recorded.get(self.model.id(put.segment)) else { continue };
            if found.bytes == put.row.bytes && Some(found.mtime_ms) == put.row.mtime_ms {
                put.row.sha256 = found.sha256.as_deref().map(Into::into);
            }
        }
        Ok(recorded.into_keys().collect())
    }

    /// Of drops that were planned, those for which enough other copies are live at this very moment.
    async fn still_surplus(&self, drops: &[Drop]) -> Result<Vec<Drop>, Stop> {
        let segments: BTreeSet<&SegmentId> = drops.iter().map(|d| self.model.id(d.segment)).collect();
        let segments: Vec<SegmentId> = segments.into_iter().cloned().collect();
        let services = self.context.catalog.services_of_segments(&segments).await?;
        Ok(drops
            .iter()
            .filter(|drop| {
                let dropped = self.model.nodes.name(drop.node);
                let live = services.get(self.model.id(drop.segment)).map_or(0, |rows| {
                    rows.iter()
                        .filter(|row| row.alive && row.service.role.as_deref() == Some(trough_core::records::ROLE_READ))
                        .filter(|row| row.service.node.as_ref().is_some_and(|n| n != dropped))
                        .count()
                });
                live >= usize::from(drop.needs_live)
            })
            .copied()
            .collect())
    }

    /// The document that Python readers look at: every hot worker with a ring and its weight.
    async fn write_ring_assignments(&mut self, workers: &[WorkerView]) -> Result<(), Stop> {
        let rings = self.context.settings.maximum_assignments.max(1) as usize;
        let mut document = serde_json::Map::from_iter([("id".to_owned(), json!("ring-assignments"))]);
        let hot = workers.iter().filter(|w| !w.cold && w.presence != Presence::Gone);
        for (i, worker) in hot.enumerate() {
            let name = self.model.nodes.name(worker.node).to_string();
            document.insert(name, json!({"ring": i % rings, "weight": worker.weight}));
        }
        let document = serde_json::Value::Object(document);
        let text = document.to_string();
        if text == self.rings_written {
            return Ok(());
        }
        let epoch = self.check_term()?;
        if self.context.catalog.current_epoch().await? > epoch {
            return Err(Stop::Deposed);
        }
        let put = r::table(ASSIGNMENT).insert(r::expr(document)).conflict("replace").durability("hard");
        self.context.catalog.client().write(&put).await.context("write the ring assignments")?;
        self.rings_written = text;
        Ok(())
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
