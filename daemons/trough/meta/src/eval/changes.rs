//! CHANGES: what a changefeed follows, its initial values, and how a commit's changes become the feed's.
//!
//! A feed subscribes first and reads its initial values after. Each page of them is one consistent read with the number of
//! the last commit in it, and covers the places it went over. Of a change, each side is shown only if its place
//! has been covered by a page from before the change; and the changes up to a page's commit are told before the page, as a
//! document may have moved to a place in it from one before: so nothing is missed and nothing told twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use trough_reql::proto::response_note as note;

use super::limit_feed::LimitFeed;
use super::point_feed::PointFeed;
use super::stream::{Origin, Ranges, Source, Step, Stream, Transform, transform};
use super::val::{Callable, Single, Val};
use super::{Args, Exec};
use crate::datum::{Datum, Object, key, object};
use crate::error::{Class, QueryError, Result};
use crate::feed::{Change, FeedQueue};
use crate::store::catalog::Table;
use crate::store::scan::{self, Range, Space};
use crate::store::writer::entries;

/// What the connection needs to know about a changefeed.
pub(crate) struct Feed {
    /// Its note on the wire.
    pub(crate) note: u64,
    /// Whether it gives `{state: ...}`.
    pub(crate) states: bool,
    pub(crate) queue: Arc<FeedQueue>,
    /// How long changes gather before they are told.
    pub(crate) gather: Option<Duration>,
}

/// The options of CHANGES.
#[derive(Clone, Copy)]
pub(super) struct Options {
    pub(super) initial: bool,
    pub(super) states: bool,
    pub(super) types: bool,
    pub(super) offsets: bool,
}

pub(super) fn changes(ex: &Exec, args: &mut Args) -> Result<Val> {
    let (squash, gather) = match args.opt(ex, "squash")? {
        None | Some(Datum::Bool(false)) => (false, None),
        Some(Datum::Bool(true)) => (true, None),
        Some(Datum::Num(seconds)) if seconds >= 0.0 => (true, Some(Duration::from_secs_f64(seconds.min(86400.0)))),
        Some(Datum::Num(_)) => {
            return Err(QueryError::logic("Expected BOOL or a positive NUMBER but found a negative NUMBER."));
        }
        Some(other) => {
            return Err(other.type_error(format!("Expected BOOL or NUMBER but found {}.", other.type_name())));
        }
    };
    let options = Options {
        initial: args.opt_bool(ex, "include_initial")?,
        states: args.opt_bool(ex, "include_states")?,
        types: args.opt_bool(ex, "include_types")?,
        offsets: args.opt_bool(ex, "include_offsets")?,
    };
    let limit = match args.opt(ex, "changefeed_queue_size")? {
        None => super::DEFAULT_ARRAY_LIMIT,
        Some(size) => {
            let size = size.as_int()?;
            usize::try_from(size)
                .ok()
                .filter(|size| *size > 0)
                .ok_or_else(|| QueryError::logic(format!("Illegal changefeed queue size `{size}`.  (Must be >= 1.)")))?
        }
    };
    let start = Start { options, squash, gather, queue_limit: limit };
    match args.val(ex, 0)? {
        Val::Single(single) => start.point(ex, single),
        Val::Datum(datum) => {
            let error = match &datum {
                Datum::Array(_) => QueryError::logic("Cannot call `changes` on an eager stream."),
                other => other.type_error(format!("Cannot convert {} to SEQUENCE", other.type_name())),
            };
            Err(error.at(crate::error::Frame::Arg(0)))
        }
        sequence => {
            let stream = sequence.stream(ex)?;
            start.sequence(ex, &stream)
        }
    }
}

/// A feed that is about to begin.
struct Start {
    options: Options,
    squash: bool,
    gather: Option<Duration>,
    queue_limit: usize,
}

impl Start {
    fn subscribe(&self, ex: &Exec, table: &Table, key: Option<Vec<u8>>, note: u64) -> Result<(Arc<Feed>, i64)> {
        if super::system::kind(table).is_some() {
            return Err(QueryError::logic(
                "Changefeeds on system tables are not supported by the embedded metadata server. A real RethinkDB has \
                 them.",
            ));
        }
        if ex.in_transaction() {
            return Err(QueryError::logic("Cannot call `changes` inside a write."));
        }
        let queue = Arc::new(FeedQueue::new(table.num, key, self.queue_limit));
        if self.squash && !self.options.initial {
            queue.begin_squash();
        }
        let commit = ex.store()?.writer().subscribe(queue.clone())?;
        // The table may have gone before the feed was registered.
        ex.catalog()?.current(table)?;
        Ok((Arc::new(Feed { note, states: self.options.states, queue, gather: self.gather }), commit))
    }

    /// Fails if offsets are asked of a feed that has none.
    fn no_offsets(&self, what: &str) -> Result<()> {
        if self.options.offsets {
            return Err(QueryError::logic(format!("Cannot include offsets for {what} subs.")));
        }
        Ok(())
    }

    fn point(&self, ex: &Exec, single: Single) -> Result<Val> {
        self.no_offsets("point")?;
        let key = key::primary(&single.key)?;
        let (feed, _) = self.subscribe(ex, &single.table, Some(key.clone()), note::ATOM_FEED)?;
        let (row, commit) = ex.read(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let commit = scan::commit_number(&transaction)?;
            Ok((scan::get(&transaction, single.table.num, &key)?, commit))
        })?;
        if self.squash {
            ex.store()?.writer().settled()?;
            feed.queue.begin_squash();
        }
        let mut ready = VecDeque::new();
        if self.options.states && self.options.initial {
            ready.push_back(self.options.state("initializing"));
        }
        if self.options.initial {
            ready.push_back(self.options.initial(row.unwrap_or(Datum::Null), None));
        }
        if self.options.states {
            ready.push_back(self.options.state("ready"));
        }
        // Without initial values everything from the subscription on is told.
        let since = if self.options.initial { commit } else { 0 };
        Ok(feed_value(feed.clone(), PointFeed { feed, options: self.options, ready, since }))
    }

    fn sequence(&self, ex: &Exec, stream: &Stream) -> Result<Val> {
        match &stream.origin {
            Origin::Nothing(why) => Err(QueryError::logic(*why).at(crate::error::Frame::Arg(0))),
            Origin::Ranges(ranges) => {
                check(stream.transforms())?;
                self.no_offsets("range")?;
                self.ranges(ex, ranges.clone(), stream.transforms().to_vec())
            }
            Origin::Limit { ranges, transforms, limit } => {
                if !stream.transforms().is_empty() {
                    return Err(QueryError::logic(
                        "Changefeeds are not supported on queries that have a transformation following a `limit` term.  \
                         Transformations include terms such as `filter`, `map`, `pluck`, etc.  Consider moving the \
                         transformation before the `limit` term.",
                    ));
                }
                check(transforms)?;
                if ranges.down.is_none() {
                    return Err(QueryError::logic("Cannot get changes on the first elements of an unordered stream."));
                }
                if *limit > ex.query.array_limit {
                    return Err(QueryError::new(
                        Class::Resource,
                        format!(
                            "Array size limit `{}` exceeded.  (`.limit(X).changes()` is illegal if X is larger than the \
                             array size limit.)",
                            ex.query.array_limit
                        ),
                    ));
                }
                let (feed, _) = self.subscribe(ex, &ranges.table, None, note::ORDER_BY_LIMIT_FEED)?;
                if self.squash {
                    feed.queue.begin_squash();
                }
                let source =
                    LimitFeed::start(ex, feed.clone(), self.options, ranges.clone(), transforms.clone(), *limit)?;
                Ok(feed_value(feed, source))
            }
        }
    }

    fn ranges(&self, ex: &Exec, ranges: Ranges, transforms: Vec<Transform>) -> Result<Val> {
        let (feed, commit) = self.subscribe(ex, &ranges.table, None, note::SEQUENCE_FEED)?;
        let mut ready = VecDeque::new();
        let mut covered = Vec::new();
        let mut scanning = VecDeque::new();
        if self.options.initial {
            if self.options.states {
                ready.push_back(self.options.state("initializing"));
            }
            scanning.extend(ranges.ranges.iter().cloned());
        } else {
            if self.options.states {
                ready.push_back(self.options.state("ready"));
            }
            covered.extend(ranges.ranges.iter().map(|(range, _)| Covered { range: range.clone(), commit }));
        }
        let source = RangeFeed {
            feed: feed.clone(),
            options: self.options,
            ranges,
            transforms,
            ready,
            scanning,
            coming: VecDeque::new(),
            covered,
            squash: self.squash,
            told_ready: !self.options.initial,
            gave_initial: false,
        };
        Ok(feed_value(feed, source))
    }
}

fn feed_value(feed: Arc<Feed>, source: impl Source + 'static) -> Val {
    let mut stream = Stream::new(source);
    stream.infinite = true;
    stream.feed = Some(feed);
    Val::Seq(stream)
}

/// Fails for transformations that a feed cannot follow.
fn check(transforms: &[Transform]) -> Result<()> {
    let pure = |func: &Callable| {
        if func.deterministic(true) {
            Ok(())
        } else {
            Err(QueryError::logic("Cannot call `changes` after a non-deterministic function."))
        }
    };
    transforms.iter().try_for_each(|transform| match transform {
        Transform::Map(func) | Transform::SkipMap(func) => pure(func),
        Transform::Filter(func, default) => {
            pure(func)?;
            default.as_ref().map_or(Ok(()), pure)
        }
        Transform::ConcatMap(_) | Transform::Zip => Err(QueryError::logic("Cannot call `changes` after `concat_map`.")),
    })
}

impl Options {
    pub(super) fn state(&self, name: &str) -> Datum {
        self.typed(object([("state", name.into())]), "state")
    }

    pub(super) fn initial(&self, new: Datum, offset: Option<usize>) -> Datum {
        let mut out = Object::with_capacity(3);
        if self.offsets {
            out.set("new_offset", offset.map_or(Datum::Null, Datum::count));
        }
        out.set("new_val", new);
        self.typed(out.into(), "initial")
    }

    pub(super) fn change(&self, old: Datum, new: Datum, offsets: Option<(Option<usize>, Option<usize>)>) -> Datum {
        let kind = match (&old, &new) {
            (Datum::Null, _) => "add",
            (_, Datum::Null) => "remove",
            _ => "change",
        };
        let mut out = Object::with_capacity(5);
        out.set("new_val", new);
        out.set("old_val", old);
        if let (true, Some((old, new))) = (self.offsets, offsets) {
            out.set("new_offset", new.map_or(Datum::Null, Datum::count));
            out.set("old_offset", old.map_or(Datum::Null, Datum::count));
        }
        self.typed(out.into(), kind)
    }

    fn typed(&self, change: Datum, kind: &str) -> Datum {
        match (&change, self.types) {
            (Datum::Object(fields), true) => {
                let mut out = fields.as_ref().clone();
                out.set("type", kind.into());
                out.into()
            }
            _ => change,
        }
    }
}

/// What a feed says when it could not keep every change.
pub(super) fn skipped(count: usize) -> Datum {
    object([("error", format!("Changefeed cache over array size limit, skipped {count} elements.").into())])
}

/// The end of a feed whose table is gone.
pub(super) fn aborted() -> QueryError {
    QueryError::op_failed("Changefeed aborted (unavailable).")
}

/// Places whose documents were told as initial values, as of a commit.
struct Covered {
    range: Range,
    commit: i64,
}

struct RangeFeed {
    feed: Arc<Feed>,
    options: Options,
    ranges: Ranges,
    transforms: Vec<Transform>,
    ready: VecDeque<Datum>,
    /// What is left of the initial values.
    scanning: VecDeque<(Range, usize)>,
    /// Changes that were taken from the queue and wait for the initial values.
    coming: VecDeque<Arc<Change>>,
    covered: Vec<Covered>,
    /// Whether changes that wait together become one, once the initial values are read.
    squash: bool,
    told_ready: bool,
    /// Whether the batch that goes out has initial values: the state `ready` waits for the next.
    gave_initial: bool,
}

impl Source for RangeFeed {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Step::Item(item));
            }
            if !self.scanning.is_empty() {
                self.scan(ex)?;
                self.gave_initial = true;
                continue;
            }
            if !self.told_ready {
                self.told_ready = true;
                if self.squash {
                    ex.store()?.writer().settled()?;
                    self.feed.queue.begin_squash();
                }
                if self.options.states {
                    self.ready.push_back(self.options.state("ready"));
                }
                if std::mem::take(&mut self.gave_initial) && self.options.states {
                    return Ok(Step::Wait);
                }
                continue;
            }
            let closed = self.take();
            while let Some(change) = self.coming.pop_front() {
                self.settle(change.commit);
                self.change(ex, &change)?;
            }
            if self.ready.is_empty() {
                return if closed { Err(aborted()) } else { Ok(Step::Wait) };
            }
        }
    }
}

impl RangeFeed {
    /// Takes what waits in the queue; whether the table is gone.
    fn take(&mut self) -> bool {
        let taken = self.feed.queue.take();
        if taken.skipped > 0 {
            self.ready.push_back(skipped(taken.skipped));
        }
        self.coming.extend(taken.changes);
        taken.closed
    }

    /// Tells the changes that a page as of `commit` shows, before it does.
    fn catch_up(&mut self, ex: &Exec, commit: i64) -> Result<()> {
        if self.covered.is_empty() || self.ranges.space == Space::Primary {
            // Nothing was told before, or nothing moves.
            return Ok(());
        }
        ex.store()?.writer().settled()?;
        self.take();
        while let Some(change) = self.coming.pop_front_if(|change| change.commit <= commit) {
            self.change(ex, &change)?;
        }
        Ok(())
    }

    /// Reads a page of initial values.
    fn scan(&mut self, ex: &Exec) -> Result<()> {
        let Some((range, times)) = self.scanning.pop_front() else { return Ok(()) };
        let (page, commit) = ex.read(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let commit = scan::commit_number(&transaction)?;
            Ok((scan::page(&transaction, &self.ranges.table, self.ranges.space, &range, false, 1000)?, commit))
        })?;
        self.catch_up(ex, commit)?;
        let done = Range {
            from: range.from.clone(),
            to: page.rest.as_ref().map_or_else(|| range.to.clone(), |rest| rest.from.clone()),
        };
        for row in page.rows {
            let mut out = VecDeque::new();
            transform(ex, &self.transforms, row.doc, &mut out)?;
            for value in out {
                for _ in 0..times {
                    self.ready.push_back(self.options.initial(value.clone(), None));
                }
            }
        }
        if let Some(rest) = page.rest {
            self.scanning.push_front((rest, times));
        }
        // Neighbours of one age are one.
        match self.covered.last_mut() {
            Some(last) if last.commit == commit && last.range.to == done.from => last.range.to = done.to,
            _ => self.covered.push(Covered { range: done, commit }),
        }
        Ok(())
    }

    /// Once every page is from before the changes that come, the pages need not be told apart any more.
    fn settle(&mut self, commit: i64) {
        if self.covered.len() > self.ranges.ranges.len() && self.covered.iter().all(|c| c.commit < commit) {
            let commit = self.covered.iter().map(|c| c.commit).max().unwrap_or(0);
            let ranges = self.ranges.ranges.iter();
            self.covered = ranges.map(|(range, _)| Covered { range: range.clone(), commit }).collect();
        }
    }

    /// Tells one change, as far as it is in the feed's ranges.
    fn change(&mut self, ex: &Exec, change: &Change) -> Result<()> {
        let old = self.sides(ex, change, change.old.as_ref())?;
        let new = self.sides(ex, change, change.new.as_ref())?;
        for at in 0..old.len().max(new.len()) {
            let side = |docs: &[Datum]| docs.get(at).cloned().unwrap_or(Datum::Null);
            let (old, new) = (side(&old), side(&new));
            if old != new {
                self.ready.push_back(self.options.change(old, new, None));
            }
        }
        Ok(())
    }

    /// What the feed shows of a document: once for each of its places in the ranges.
    fn sides(&self, ex: &Exec, change: &Change, doc: Option<&Datum>) -> Result<Vec<Datum>> {
        let Some(doc) = doc else { return Ok(Vec::new()) };
        let mut times = 0;
        for place in places(&self.ranges, doc, &change.key) {
            let told = self.covered.iter().any(|c| c.range.contains(&place) && c.commit < change.commit);
            if told {
                let asked = self.ranges.ranges.iter().filter(|range| range.0.contains(&place));
                times += asked.map(|range| range.1).sum::<usize>();
            }
        }
        if times == 0 {
            return Ok(Vec::new());
        }
        let mut out = VecDeque::new();
        match transform(ex, &self.transforms, doc.clone(), &mut out) {
            Ok(()) => Ok(out.pop_front().map(|value| vec![value; times]).unwrap_or_default()),
            // A document that a function fails on is not in the feed, as it would not be in an index.
            Err(error) if matches!(error.class, Class::Logic | Class::NonExistence | Class::User | Class::Resource) => {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}

/// A document's places in what the ranges are over.
pub(super) fn places(ranges: &Ranges, doc: &Datum, primary: &[u8]) -> Vec<Vec<u8>> {
    match ranges.space {
        Space::Primary => vec![primary.to_vec()],
        Space::Index(num) => {
            let Some(index) = ranges.table.indexes.values().find(|index| index.num == num) else { return Vec::new() };
            entries(index, doc, primary)
        }
    }
}
