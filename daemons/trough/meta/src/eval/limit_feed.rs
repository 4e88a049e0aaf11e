//! Changefeeds on the first documents of an order: after each commit that touches the table the documents are read
//! anew, and what differs is told.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Exec;
use super::changes::{Feed, Options, aborted, places, skipped};
use super::stream::{Ranges, Source, Step, Transform, transform};
use crate::datum::Datum;
use crate::error::Result;
use crate::feed::Change;
use crate::store::scan;

/// One of the first documents.
#[derive(Clone, PartialEq)]
struct Entry {
    place: Vec<u8>,
    value: Datum,
    /// The primary key: what makes it the same document in another state.
    key: Datum,
}

pub(super) struct LimitFeed {
    feed: Arc<Feed>,
    options: Options,
    ranges: Ranges,
    transforms: Vec<Transform>,
    limit: usize,
    top: Vec<Entry>,
    /// The commit that `top` was read at.
    commit: i64,
    ready: VecDeque<Datum>,
}

impl LimitFeed {
    pub(super) fn start(
        ex: &Exec,
        feed: Arc<Feed>,
        options: Options,
        ranges: Ranges,
        transforms: Vec<Transform>,
        limit: usize,
    ) -> Result<LimitFeed> {
        let mut this =
            LimitFeed { feed, options, ranges, transforms, limit, top: Vec::new(), commit: 0, ready: VecDeque::new() };
        (this.top, this.commit) = this.read(ex)?;
        if options.initial {
            if options.states {
                this.ready.push_back(options.state("initializing"));
            }
            for (at, entry) in this.top.iter().enumerate() {
                this.ready.push_back(options.initial(entry.value.clone(), Some(at)));
            }
        }
        if options.states {
            this.ready.push_back(options.state("ready"));
        }
        Ok(this)
    }

    /// The first documents and the commit they are as of.
    fn read(&self, ex: &Exec) -> Result<(Vec<Entry>, i64)> {
        let down = self.ranges.down.unwrap_or(false);
        ex.read(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let commit = scan::commit_number(&transaction)?;
            let mut top = Vec::new();
            for (range, _) in &self.ranges.ranges {
                let mut rest = Some(range.clone());
                while let (Some(range), true) = (rest.take(), top.len() < self.limit) {
                    let wanted = (self.limit - top.len()).clamp(16, 1000);
                    let page = scan::page(&transaction, &self.ranges.table, self.ranges.space, &range, down, wanted)?;
                    for row in page.rows {
                        let key = row.doc.field(&self.ranges.table.primary_key)?;
                        let mut out = VecDeque::new();
                        transform(ex, &self.transforms, row.doc, &mut out)?;
                        if top.len() < self.limit {
                            top.extend(out.into_iter().map(|value| Entry {
                                place: row.place.clone(),
                                value,
                                key: key.clone(),
                            }));
                        }
                    }
                    rest = page.rest;
                }
            }
            top.truncate(self.limit);
            Ok((top, commit))
        })
    }

    /// Whether a change can matter: a document that is shown, or one that comes before the last shown.
    fn matters(&self, change: &Change) -> bool {
        if change.commit <= self.commit {
            return false;
        }
        if self.top.len() < self.limit {
            return true;
        }
        let Some(last) = self.top.last() else { return false };
        let down = self.ranges.down.unwrap_or(false);
        [&change.old, &change.new].into_iter().flatten().any(|doc| {
            places(&self.ranges, doc, &change.key)
                .iter()
                .any(|place| if down { *place >= last.place } else { *place <= last.place })
        })
    }

    /// Tells what is different between two states.
    fn tell(&mut self, next: Vec<Entry>) {
        let before = std::mem::replace(&mut self.top, next);
        let find = |entries: &[Entry], key: &Datum| entries.iter().position(|entry| entry.key == *key);
        let gone: Vec<usize> = (0..before.len()).filter(|at| find(&self.top, &before[*at].key).is_none()).collect();
        let come: Vec<usize> = (0..self.top.len()).filter(|at| find(&before, &self.top[*at].key).is_none()).collect();
        for (at, entry) in self.top.iter().enumerate() {
            if let Some(old) = find(&before, &entry.key)
                && before[old].value != entry.value
            {
                let offsets = Some((Some(old), Some(at)));
                self.ready.push_back(self.options.change(before[old].value.clone(), entry.value.clone(), offsets));
            }
        }
        // One that left and one that came in its stead are one change.
        for at in 0..gone.len().max(come.len()) {
            let (old, new) = (gone.get(at).copied(), come.get(at).copied());
            let value = |entries: &[Entry], at: Option<usize>| at.map_or(Datum::Null, |at| entries[at].value.clone());
            let change = self.options.change(value(&before, old), value(&self.top, new), Some((old, new)));
            self.ready.push_back(change);
        }
    }
}

impl Source for LimitFeed {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Step::Item(item));
            }
            let taken = self.feed.queue.take();
            if taken.skipped > 0 {
                self.ready.push_back(skipped(taken.skipped));
            }
            if taken.skipped > 0 || taken.changes.iter().any(|change| self.matters(change)) {
                let (next, commit) = self.read(ex)?;
                self.commit = commit;
                self.tell(next);
            }
            if self.ready.is_empty() {
                return if taken.closed { Err(aborted()) } else { Ok(Step::Wait) };
            }
        }
    }
}
