//! Carrying out a plan that an operator has looked at: what it says and nothing else, in steps, throttled as all moves are. In
//! memory: the plan; with the mastership it is gone, and to be applied again: what is done already is left alone.

use serde::Serialize;
use tokio::sync::oneshot;
use trough_core::{NodeId, SegmentId};

use super::{Reconciler, Stop};
use crate::{
    model::{Model, Ring, Row, SegmentIx},
    plan::{Drop, Plan, Policy, Presence, Put, Why, WorkerView},
    saved::{Change, SavedPlan},
};

/// What an operator asks of the reconciliation.
pub(crate) enum Planning {
    /// A plan of everything that is to be changed.
    Make(oneshot::Sender<Result<SavedPlan, String>>),
    /// Carry the plan out.
    Apply(Box<SavedPlan>, oneshot::Sender<Result<Applied, Vec<String>>>),
}

/// How far a plan is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// `running`, `done` or `stopped`.
    pub state: &'static str,
    /// Copies that it makes.
    pub copies: u64,
    /// Those that are live.
    pub copied: u64,
    /// Copies that it drops.
    pub drops: u64,
    /// Those that are dropped.
    pub dropped: u64,
    /// Why it stopped.
    pub error: Option<String>,
}

/// A plan that is being carried out.
pub(super) struct Applying {
    plan: SavedPlan,
    pub(super) progress: Applied,
}

impl Applying {
    pub(super) fn new(plan: SavedPlan) -> Self {
        let progress = Applied { state: "running", copies: plan.copies, drops: plan.drops, ..Applied::default() };
        Self { plan, progress }
    }

    pub(super) fn is_running(&self) -> bool {
        self.progress.state == "running"
    }

    fn stop(&mut self, why: String) {
        tracing::warn!(why, "applying a plan stopped");
        (self.progress.state, self.progress.error) = ("stopped", Some(why));
    }

    /// What is to be done now.
    fn step(
        &mut self,
        model: &Model,
        workers: &[WorkerView],
        locked: &dyn Fn(&SegmentId) -> bool,
        generation: u64,
        policy: &Policy,
    ) -> Plan {
        let mut plan = Plan::default();
        let alive = |node: &NodeId| {
            let ix = model.nodes.get(node);
            workers.iter().any(|w| Some(w.node) == ix && w.presence == Presence::Alive && !w.draining)
        };
        let (mut copied, mut dropped, mut moving, mut moving_bytes) = (0, 0, 0, 0);
        let mut open = Vec::new();
        for change in &self.plan.segments {
            let Some((ix, rows)) = model.find(&change.segment).map(|ix| (ix, model.rows(ix))) else {
                self.stop(format!("segment {} is not known any more", change.segment));
                return Plan::default();
            };
            let row_of = |node: &NodeId| {
                let node = model.nodes.get(node)?;
                rows.iter().find(|row| row.node == node)
            };
            for put in &change.puts {
                match row_of(&put.node) {
                    Some(row) if row.live => copied += 1,
                    Some(_) => (moving, moving_bytes) = (moving + 1, moving_bytes + change.bytes),
                    None if !alive(&put.node) => {
                        let why = format!("worker {} is gone or drained; make another plan", put.node);
                        self.stop(why);
                        return Plan::default();
                    }
                    None => open.push((ix, change, put)),
                }
            }
            let ready = change.puts.iter().all(|put| row_of(&put.node).is_some_and(|row| row.live));
            for node in &change.drops {
                match row_of(node) {
                    None => dropped += 1,
                    Some(row) if ready && !locked(&change.segment) => {
                        plan.drops.push(Drop { segment: ix, node: row.node, needs_live: change.wanted });
                    }
                    Some(_) => {}
                }
            }
        }
        for (ix, change, put) in open {
            let moves = put.why != "repair";
            let fits = moving == 0 || (moving < policy.moves && moving_bytes + change.bytes <= policy.move_bytes);
            if moves && !fits {
                continue;
            }
            if moves {
                (moving, moving_bytes) = (moving + 1, moving_bytes + change.bytes);
            }
            plan.puts.extend(put_of(model, ix, change, &put.node, &put.ring, moves, generation));
        }
        (self.progress.copied, self.progress.dropped) = (copied, dropped);
        if copied == self.progress.copies && dropped == self.progress.drops {
            self.progress.state = "done";
            tracing::info!(copied, dropped, "a plan was applied");
        }
        plan.summary.moves = plan.puts.iter().filter(|put| put.why == Why::Move).count() as u64;
        plan.summary.repairs = plan.puts.len() as u64 - plan.summary.moves;
        plan.summary.drops = plan.drops.len() as u64;
        plan
    }
}

fn put_of(
    model: &Model,
    ix: SegmentIx,
    change: &Change,
    node: &NodeId,
    ring: &serde_json::Value,
    moves: bool,
    generation: u64,
) -> Option<Put> {
    let row = Row {
        node: model.nodes.get(node)?,
        ring: Ring::from_json(ring),
        bytes: change.bytes,
        mtime_ms: Some(change.mtime_ms),
        sha256: None,
        generation,
        assigned_on: None,
        live: false,
    };
    Some(Put { segment: ix, row, why: if moves { Why::Move } else { Why::Repair } })
}

impl Reconciler {
    /// Answers an operator.
    pub(super) async fn answer(&mut self, asked: Planning) -> Result<(), Stop> {
        let context = self.context.clone();
        let _committing = context.committing.lock().await;
        let survey = match self.survey().await {
            Ok(survey) => survey,
            Err(Stop::Deposed) => return Err(Stop::Deposed),
            Err(Stop::Failed(error)) => {
                let why = format!("{error:#}");
                match asked {
                    Planning::Make(answer) => drop(answer.send(Err(why))),
                    Planning::Apply(_, answer) => drop(answer.send(Err(vec![why]))),
                }
                return Ok(());
            }
        };
        match asked {
            Planning::Make(answer) => {
                let at = context.catalog.server_now().await?;
                let (model, generation) = (std::mem::take(&mut self.model), self.generation);
                let made = tokio::task::spawn_blocking(move || {
                    let plan = SavedPlan::make(&model, &survey.workers, &survey.desired, generation, at);
                    (model, plan)
                });
                let (model, plan) = made.await.map_err(|e| Stop::Failed(anyhow::anyhow!("planning failed: {e}")))?;
                self.model = model;
                drop(answer.send(Ok(plan)));
            }
            Planning::Apply(plan, answer) => {
                let mut changes = plan.outdated(&self.model, &survey.workers);
                if self.applying.as_ref().is_some_and(Applying::is_running) {
                    changes.insert(0, "another plan is being applied".to_owned());
                }
                if !changes.is_empty() {
                    drop(answer.send(Err(changes)));
                    return Ok(());
                }
                tracing::info!(copies = plan.copies, bytes = plan.bytes, drops = plan.drops, "applying a plan");
                let applying = Applying::new(*plan);
                drop(answer.send(Ok(applying.progress.clone())));
                self.applying = Some(applying);
                context.nudge.notify_one();
            }
        }
        Ok(())
    }

    /// Goes on with the plan that is being applied, if one is. The models' live copies must have been looked at.
    pub(super) async fn go_on_applying(&mut self, workers: &[WorkerView]) -> Result<(), Stop> {
        let Some(mut applying) = self.applying.take_if(|applying| applying.is_running()) else { return Ok(()) };
        let policy = self.policy();
        let plan = {
            let locks = self.context.locks.read();
            let locked = |segment: &SegmentId| !locks.complete || locks.get(segment).is_some();
            applying.step(&self.model, workers, &locked, self.generation + 1, &policy)
        };
        let done = if plan.is_empty() { Ok(()) } else { self.commit(&plan).await };
        self.applying = Some(applying);
        done
    }
}
