//! Committing a plan: batches of assignments under the term's epoch, then the generation.

use std::collections::{BTreeSet, HashMap};

use trough_client::catalog::CatalogError;
use trough_core::{
    NodeId, SegmentId,
    records::{Assignment, ROLE_READ},
};

use super::{Reconciler, Stop};
use crate::{
    model::Row,
    placing,
    plan::{Drop, Plan, Presence, Put, WorkerView},
};

/// Keys in one commit.
const BATCH: usize = 1_000;

impl Reconciler {
    pub(super) fn check_term(&self) -> Result<u64, Stop> {
        match &self.term {
            Some(term) if term.is_valid() => Ok(term.epoch),
            _ => Err(Stop::Deposed),
        }
    }

    /// Writes the plan in batches, additions first, and publishes its generation.
    pub(super) async fn commit(&mut self, plan: &Plan) -> Result<(), Stop> {
        let now = self.context.catalog.server_now().await?;
        let mut changed = 0;
        for batch in plan.puts.chunks(BATCH) {
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
        for batch in plan.drops.chunks(BATCH) {
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
        let s = &plan.summary;
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
            let same = |r: &&Row| r.bytes == put.row.bytes && r.mtime_ms == put.row.mtime_ms;
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
                        .filter(|row| row.alive && row.service.role.as_deref() == Some(ROLE_READ))
                        .filter(|row| row.service.node.as_ref().is_some_and(|n| n != dropped))
                        .count()
                });
                live >= usize::from(drop.needs_live)
            })
            .copied()
            .collect())
    }

    /// Takes over what a Python master placed, if some of it stands: what each worker holds is recorded before anything is
    /// planned, so that the change itself moves nothing (KEEP_FOUND).
    pub(super) async fn take_over(&mut self) -> Result<(), Stop> {
        if !self.may_be_python {
            return Ok(());
        }
        let settings = self.context.settings.clone();
        let model = std::mem::take(&mut self.model);
        let judged = tokio::task::spawn_blocking(move || {
            let shares = placing::is_python(&model).then(|| placing::shares(&model, &settings)).transpose();
            (model, shares)
        });
        let (model, shares) = judged.await.map_err(|e| Stop::Failed(anyhow::anyhow!("taking over failed: {e}")))?;
        self.model = model;
        if let Some(shares) = shares? {
            // Without a term it is only planned.
            if self.term.is_some() {
                let epoch = self.check_term()?;
                self.context.catalog.record_found_shares(&shares, epoch).await?;
                tracing::info!(workers = shares.len(), "took over a placement of a Python sync master");
            }
            self.model.found = shares;
        }
        self.may_be_python = false;
        Ok(())
    }

    /// The document that a Python master reads: every hot worker with a ring and its weight.
    pub(super) async fn write_ring_assignments(&mut self, workers: &[WorkerView]) -> Result<(), Stop> {
        let rings = self.context.settings.maximum_assignments.max(1) as usize;
        let old = match self.rings_written.take() {
            Some(old) => old,
            None => {
                let mut stored = self.context.catalog.ring_assignments().await?.unwrap_or_default();
                stored.remove("id");
                stored
            }
        };
        let hot: Vec<(NodeId, u64)> = workers
            .iter()
            .filter(|w| !w.cold && w.presence != Presence::Gone)
            .map(|w| (self.model.nodes.name(w.node).clone(), w.weight))
            .collect();
        let document = placing::ring_assignments(&old, &hot, rings);
        if document != old {
            let epoch = self.check_term()?;
            self.context.catalog.put_ring_assignments(document.clone(), epoch).await?;
        }
        self.rings_written = Some(document);
        Ok(())
    }
}
