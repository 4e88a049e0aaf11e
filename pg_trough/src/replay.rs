//! What a scan that is run again has fetched already. The inner side of a nested loop and a correlated sub-select run once per
//! row of something else, often with the same values: they are shown the same rows instead of asking for them again. A statement
//! sees one state of the data, so that both answers are right.
//!
//! Rows are kept as they came, in at most `work_mem` per scan.

use std::collections::HashMap;

use pgrx::pg_sys;
use trough_client::{Batch, SegmentSet};
use trough_core::Value;

/// What an entry takes besides its bytes.
const ENTRY: usize = 128;
/// More segments than this in a key are not worth comparing.
const MOST_SEGMENTS: usize = 64;

/// A scan's rows, of this run and of earlier ones.
#[derive(Default)]
pub(crate) struct Replay {
    /// Whether rows are kept at all.
    on: bool,
    /// Whether there was no room for the rows of one run alone.
    too_large: bool,
    /// Bytes that may be held, and that are.
    room: usize,
    held: usize,
    /// The run at hand, if it is kept.
    run: Option<Run>,
    /// Runs that were complete.
    earlier: HashMap<String, Vec<Batch>>,
    /// How often rows were shown again.
    hits: u64,
}

#[derive(Default)]
struct Run {
    /// Its values and segments.
    key: String,
    batches: Vec<Batch>,
    /// The next that is shown.
    at: usize,
    /// Whether these are all.
    complete: bool,
}

impl Replay {
    /// Keeps rows from now on.
    pub(crate) fn keep(&mut self) {
        self.on = true;
        // SAFETY: a setting, read by the backend's own thread.
        self.room = unsafe { pg_sys::work_mem } as usize * 1024;
    }

    /// Shows the last run again, if all that it gave was kept: with what it fetched, and then with the rest.
    pub(crate) fn again(&mut self) -> bool {
        let Some(run) = &mut self.run else { return false };
        run.at = 0;
        self.hits += 1;
        true
    }

    /// Begins a run with these values over these segments; true if its rows are there already.
    pub(crate) fn begin(&mut self, values: &[Value], set: Option<&SegmentSet>) -> bool {
        if !self.on || self.too_large {
            return false;
        }
        let key = match set {
            // A pattern that is not turned into names is the same for every run of a scan.
            None | Some(SegmentSet::Pattern(_)) => format!("{values:?} {}", set.is_some()),
            Some(SegmentSet::Ids(ids)) if ids.len() <= MOST_SEGMENTS => format!("{values:?} {ids:?}"),
            Some(SegmentSet::Ids(_)) => {
                self.end();
                return false;
            }
        };
        if self.run.as_ref().is_some_and(|run| run.key == key) {
            return self.again();
        }
        self.end();
        if let Some(batches) = self.earlier.get(&key) {
            self.run = Some(Run { key, batches: batches.clone(), at: 0, complete: true });
            self.hits += 1;
            return true;
        }
        let entry = key.len() + ENTRY;
        if self.held + entry <= self.room {
            self.held += entry;
            self.run = Some(Run { key, ..Run::default() });
        }
        false
    }

    /// The next rows, if they were fetched before.
    pub(crate) fn next(&mut self) -> Option<Batch> {
        let run = self.run.as_mut()?;
        let batch = run.batches.get(run.at).cloned()?;
        run.at += 1;
        Some(batch)
    }

    /// Keeps rows that have come, as long as there is room for all of the run's.
    pub(crate) fn came(&mut self, batch: &Batch) {
        let Some(run) = &mut self.run else { return };
        self.held += batch.data.len() + ENTRY;
        if self.held > self.room {
            self.held -= batch.data.len() + ENTRY;
            self.drop_run();
            self.too_large = self.earlier.is_empty();
            return;
        }
        // A copy: what came may be a small part of what its bytes are held in.
        run.batches.push(Batch { data: batch.data.to_vec().into(), ..batch.clone() });
        run.at = run.batches.len();
    }

    /// Notes that all rows have come.
    pub(crate) fn complete(&mut self) {
        if let Some(run) = &mut self.run {
            run.complete = true;
        }
    }

    /// Whether all rows of the run at hand are here.
    pub(crate) fn is_complete(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.complete)
    }

    /// How often rows were shown again.
    pub(crate) fn hits(&self) -> u64 {
        self.hits
    }

    /// Puts the run at hand away.
    fn end(&mut self) {
        match self.run.take_if(|run| run.complete) {
            Some(run) => drop(self.earlier.insert(run.key, run.batches)),
            None => self.drop_run(),
        }
    }

    fn drop_run(&mut self) {
        if let Some(run) = self.run.take() {
            let bytes: usize = run.batches.iter().map(|batch| batch.data.len() + ENTRY).sum();
            self.held = self.held.saturating_sub(bytes + run.key.len() + ENTRY);
        }
    }
}
