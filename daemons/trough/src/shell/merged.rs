//! MERGE: one result of all connected segments. Workers add up what their segments give; what they gave comes together in a
//! temporary table, over which the last statement runs.

use std::time::Instant;

use anyhow::Context as _;
use tokio::sync::mpsc;
use trough_client::{Batch, QueryTemplate, SegmentSet};
use trough_core::{SegmentError, Value};
use trough_engine::Combiner;

use super::{
    each::{TICK, print},
    merge::{self, Merge},
    render::Sheet,
    session::{Session, Tally},
};

/// Rows that go from the last statement to the output at a time.
const ROWS_AT_ONCE: usize = 500;

/// What is done with the rows that workers give.
enum Taker {
    /// They are printed, but for so many; until so many were printed.
    Print {
        sheet: Sheet,
        skip: u64,
        left: u64,
    },
    Combine(Option<Box<Combiner>>),
}

/// What the last statement gives.
enum Finished {
    Columns(Vec<String>),
    Rows(Vec<Vec<Value>>),
}

impl Session {
    /// Runs a SELECT over all connected segments together.
    pub(super) async fn merge(&mut self, sql: &str) -> anyhow::Result<()> {
        let plan = merge::plan(sql)?;
        self.run_merge(&plan).await
    }

    pub(super) async fn run_merge(&mut self, plan: &Merge) -> anyhow::Result<()> {
        self.need_segments()?;
        let began = Instant::now();
        let mut options = self.query_options();
        let (template, mut taker) = match plan {
            Merge::Rows { map, limit } => {
                let (rows, skip) = limit.unwrap_or((u64::MAX, 0));
                options.enough_rows = limit.map(|(rows, skip)| rows.saturating_add(skip));
                let template = QueryTemplate { map: map.clone(), ..QueryTemplate::default() };
                (template, Taker::Print { sheet: self.sheet(), skip, left: rows })
            }
            Merge::Combined { map, combine, .. } => {
                let template = QueryTemplate { map: map.clone(), reduce: combine.clone(), ..QueryTemplate::default() };
                (template, Taker::Combine(None))
            }
        };
        let mut tally = Tally::default();
        self.out.progress.begin(self.connected.count());
        let mut tick = tokio::time::interval(TICK);
        let mut pages = self.connected.pages(&self.discovery);
        while let Some(page) = pages.recv().await {
            let mut stream = self.queries.fan_out(SegmentSet::Ids(page?), template.clone(), options.clone());
            loop {
                let batch = tokio::select! {
                    batch = stream.next() => batch,
                    _ = tick.tick() => {
                        let stats = stream.stats();
                        self.out.progress.tell(tally.segments + stats.done, tally.failed() + stats.failed);
                        continue;
                    }
                };
                let Some(batch) = batch.transpose()? else { break };
                self.take_merged(&mut taker, &batch)?;
            }
            let stats = stream.stats();
            tally.segments += stats.segments + stats.unknown;
            tally.left_out.add(stream.left_out().clone());
            if matches!(taker, Taker::Print { left: 0, .. }) {
                break;
            }
        }
        self.out.progress.end();
        tally.rows = match (taker, plan) {
            (Taker::Print { mut sheet, .. }, _) => {
                let mut text = String::new();
                sheet.end(&mut text);
                self.out.take(&mut text)?;
                sheet.rows()
            }
            (Taker::Combine(combiner), Merge::Combined { finish, hidden, .. }) => {
                self.finish_merge(combiner, finish.clone(), *hidden).await?
            }
            (Taker::Combine(_), Merge::Rows { .. }) => 0,
        };
        self.sum_up(&tally, began)
    }

    fn take_merged(&mut self, taker: &mut Taker, batch: &Batch) -> anyhow::Result<()> {
        match taker {
            Taker::Combine(combiner) => {
                let combiner = match combiner {
                    Some(combiner) => combiner,
                    None => combiner.insert(Box::new(Combiner::new(&batch.columns)?)),
                };
                Ok(combiner.add(&batch.columns, &batch.data)?)
            }
            Taker::Print { sheet, skip: 0, left: u64::MAX } => {
                let mut text = String::new();
                print(sheet, batch, false, &mut text)?;
                Ok(self.out.take(&mut text)?)
            }
            Taker::Print { sheet, skip, left } => {
                let mut text = String::new();
                sheet.columns(&batch.columns, &mut text);
                for row in trough_sync::rows::rows(batch)? {
                    if *skip > 0 {
                        *skip -= 1;
                    } else if *left > 0 {
                        *left -= 1;
                        sheet.row(&row, &mut text);
                    }
                }
                Ok(self.out.take(&mut text)?)
            }
        }
    }

    /// Runs the last statement, which takes its time on a thread of its own, and prints what it gives; how many rows.
    async fn finish_merge(
        &mut self,
        combiner: Option<Box<Combiner>>,
        sql: String,
        hidden: usize,
    ) -> anyhow::Result<u64> {
        let (mut sheet, mut text) = (self.sheet(), String::new());
        if let Some(combiner) = combiner {
            let (sender, mut receiver) = mpsc::channel(4);
            let work = tokio::task::spawn_blocking(move || finish(&combiner, &sql, hidden, &sender));
            while let Some(part) = receiver.recv().await {
                match part {
                    Finished::Columns(names) => sheet.columns(&names, &mut text),
                    Finished::Rows(rows) => rows.iter().for_each(|row| sheet.row(row, &mut text)),
                }
                self.out.take(&mut text)?;
            }
            work.await.context("run the last statement")??;
        }
        sheet.end(&mut text);
        self.out.take(&mut text)?;
        Ok(sheet.rows())
    }
}

fn finish(combiner: &Combiner, sql: &str, hidden: usize, sender: &mpsc::Sender<Finished>) -> Result<(), SegmentError> {
    let mut rows = Vec::new();
    let stopped = sender.clone();
    let columns = |mut names: Vec<String>| {
        names.truncate(names.len() - hidden.min(names.len()));
        sender.blocking_send(Finished::Columns(names)).is_ok()
    };
    let result = combiner.select(
        sql,
        move || stopped.is_closed(),
        columns,
        |mut row| {
            row.truncate(row.len() - hidden.min(row.len()));
            rows.push(row);
            rows.len() < ROWS_AT_ONCE || sender.blocking_send(Finished::Rows(std::mem::take(&mut rows))).is_ok()
        },
    );
    // Nobody is left to be told once the query is cancelled.
    let _ = sender.blocking_send(Finished::Rows(rows));
    result
}
