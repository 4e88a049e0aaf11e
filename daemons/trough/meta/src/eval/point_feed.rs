//! Changefeeds on one document.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Exec;
use super::changes::{Feed, Options, aborted, skipped};
use super::stream::{Source, Step};
use crate::datum::Datum;
use crate::error::Result;

pub(super) struct PointFeed {
    pub(super) feed: Arc<Feed>,
    pub(super) options: Options,
    pub(super) ready: VecDeque<Datum>,
    /// Changes up to this commit are in the initial value.
    pub(super) since: i64,
}

impl Source for PointFeed {
    fn next(&mut self, _ex: &Exec) -> Result<Step> {
        if let Some(item) = self.ready.pop_front() {
            return Ok(Step::Item(item));
        }
        let taken = self.feed.queue.take();
        if taken.skipped > 0 {
            self.ready.push_back(skipped(taken.skipped));
        }
        for change in taken.changes {
            if change.commit > self.since && change.old != change.new {
                let side = |doc: &Option<Datum>| doc.clone().unwrap_or(Datum::Null);
                self.ready.push_back(self.options.change(side(&change.old), side(&change.new), None));
            }
        }
        match self.ready.pop_front() {
            Some(item) => Ok(Step::Item(item)),
            None if taken.closed => Err(aborted()),
            None => Ok(Step::Wait),
        }
    }
}
