//! Sequences: pulled element by element, with transformations applied on the way, so that a sequence of any length
//! takes little memory.

use std::collections::VecDeque;
use std::sync::Arc;

use super::changes::Feed;
use super::val::{Callable, Items, Slice};
use super::{Exec, system};
use crate::datum::{Datum, key};
use crate::error::{Class, QueryError, Result};
use crate::store::catalog::Table;
use crate::store::scan::{self, Range, Space};

/// What a source gives.
pub(crate) enum Step {
    Item(Datum),
    End,
    /// Only from a changefeed: nothing at the moment.
    Wait,
}

/// Where elements come from.
pub(crate) trait Source: Send {
    fn next(&mut self, ex: &Exec) -> Result<Step>;
}

/// What happens to each element.
#[derive(Clone)]
pub(crate) enum Transform {
    Map(Callable),
    /// With the function that decides about a missing field.
    Filter(Callable, Option<Callable>),
    ConcatMap(Callable),
    /// Maps, and leaves out elements for which a field is missing.
    SkipMap(Callable),
    /// Joins `left` and `right`.
    Zip,
}

/// What CHANGES would follow.
#[derive(Clone)]
pub(crate) enum Origin {
    /// Ranges of one table.
    Ranges(Ranges),
    /// The first documents of them, after the transformations.
    Limit { ranges: Ranges, transforms: Vec<Transform>, limit: usize },
    /// Nothing, for this reason.
    Nothing(&'static str),
}

/// Ranges of one table by its primary key or an index.
#[derive(Clone)]
pub(crate) struct Ranges {
    pub(crate) table: Arc<Table>,
    pub(crate) space: Space,
    /// Each with how often it was asked for.
    pub(crate) ranges: Vec<(Range, usize)>,
    /// Set by ORDER_BY: whether it goes down.
    pub(crate) down: Option<bool>,
}

/// A sequence.
pub(crate) struct Stream {
    source: Box<dyn Source>,
    transforms: Vec<Transform>,
    ready: VecDeque<Datum>,
    /// Whether it is an array in disguise: finite, in memory, sent as one value.
    pub(crate) array: bool,
    /// Whether it never ends by itself.
    pub(crate) infinite: bool,
    pub(crate) origin: Origin,
    /// The changefeed it comes from.
    pub(crate) feed: Option<Arc<Feed>>,
    /// Documents straight from a table in no stated order.
    pub(crate) unordered_table: Option<Arc<Table>>,
}

const EAGER: &str = "Cannot call `changes` on an eager stream.";
const UNFOLLOWABLE: &str = "Cannot call `changes` on this stream.";

impl Stream {
    pub(crate) fn new(source: impl Source + 'static) -> Stream {
        Stream {
            source: Box::new(source),
            transforms: Vec::new(),
            ready: VecDeque::new(),
            array: false,
            infinite: false,
            origin: Origin::Nothing(UNFOLLOWABLE),
            feed: None,
            unordered_table: None,
        }
    }

    pub(crate) fn array(items: Items) -> Stream {
        let mut stream = Stream::new(ArraySource { items, at: 0 });
        stream.array = true;
        stream.origin = Origin::Nothing(EAGER);
        stream
    }

    pub(crate) fn from_vec(items: Vec<Datum>) -> Stream {
        let mut stream = Stream::new(VecSource(items.into()));
        stream.array = true;
        stream.origin = Origin::Nothing(EAGER);
        stream
    }

    /// Values that are a stream for the client, though they are known already.
    pub(crate) fn of_values(items: Vec<Datum>) -> Stream {
        Stream { array: false, ..Stream::from_vec(items) }
    }

    /// A slice of a table.
    pub(crate) fn slice(slice: &Slice) -> Result<Stream> {
        if let Some(kind) = system::kind(&slice.table) {
            return Ok(Stream::new(system::Rows::new(kind)));
        }
        let space = slice.space()?;
        let range = slice.range.clone().unwrap_or_else(Range::all);
        let mut stream = Stream::new(ScanSource {
            table: slice.table.clone(),
            space,
            rest: Some(range.clone()),
            down: slice.down.unwrap_or(false),
            page: VecDeque::new(),
            rows: 32,
        });
        let ranges = vec![(range, 1)];
        stream.origin = Origin::Ranges(Ranges { table: slice.table.clone(), space, ranges, down: slice.down });
        if slice.down.is_none() && space == Space::Primary {
            stream.unordered_table = Some(slice.table.clone());
        }
        Ok(stream)
    }

    /// GET_ALL: keys with how often each was asked for.
    pub(crate) fn keys(table: Arc<Table>, space: Space, keys: Vec<(Datum, usize)>) -> Result<Stream> {
        let mut points = VecDeque::new();
        let mut ranges = Vec::with_capacity(keys.len());
        for (value, times) in keys {
            if space == Space::Primary {
                key::primary(&value)?;
            }
            let range = Range::one(&value);
            ranges.push((range.clone(), times));
            points.push_back((range, times));
        }
        let mut stream =
            Stream::new(KeysSource { table: table.clone(), space, points, current: None, again: Vec::new() });
        stream.origin = Origin::Ranges(Ranges { table, space, ranges, down: None });
        Ok(stream)
    }

    pub(crate) fn push(&mut self, transform: Transform) {
        if !matches!(transform, Transform::Filter(..)) {
            self.unordered_table = None;
        }
        self.transforms.push(transform);
    }

    pub(crate) fn transforms(&self) -> &[Transform] {
        &self.transforms
    }

    /// The next element. `Wait` only for changefeeds.
    pub(crate) fn step(&mut self, ex: &Exec) -> Result<Step> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Step::Item(item));
            }
            ex.check_cancelled()?;
            match self.source.next(ex)? {
                Step::Item(item) if self.transforms.is_empty() => return Ok(Step::Item(item)),
                Step::Item(item) => transform(ex, &self.transforms, item, &mut self.ready)?,
                other => return Ok(other),
            }
        }
    }

    /// The next element of a sequence that is not a changefeed.
    pub(crate) fn next(&mut self, ex: &Exec) -> Result<Option<Datum>> {
        match self.step(ex)? {
            Step::Item(item) => Ok(Some(item)),
            Step::End => Ok(None),
            Step::Wait => Err(infinite_feed()),
        }
    }

    /// Fails for a sequence that never ends.
    pub(crate) fn finite(&self) -> Result<()> {
        if self.feed.is_some() {
            return Err(infinite_feed());
        }
        if self.infinite {
            return Err(QueryError::logic(
                "Cannot use an infinite stream with an aggregation function (`reduce`, `count`, etc.) or coerce it to an \
                 array.",
            ));
        }
        Ok(())
    }

    /// All elements as an array.
    pub(crate) fn collect(mut self, ex: &Exec) -> Result<Datum> {
        self.finite()?;
        let mut items = Vec::new();
        while let Some(item) = self.next(ex)? {
            items.push(item);
            ex.check_len(items.len())?;
        }
        Ok(Datum::array(items))
    }

    /// The elements from `left` up to but without `right`.
    pub(crate) fn sliced(self, left: u64, right: Option<u64>) -> Stream {
        let (array, feed, infinite) = (self.array, self.feed.clone(), self.infinite);
        let origin = match (&self.origin, right) {
            (Origin::Ranges(ranges), Some(limit)) if left == 0 => Origin::Limit {
                ranges: ranges.clone(),
                transforms: self.transforms.clone(),
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
            },
            (Origin::Nothing(why), _) => Origin::Nothing(why),
            _ => Origin::Nothing(UNFOLLOWABLE),
        };
        let mut stream =
            Stream::new(SliceSource { inner: self, skip: left, take: right.map(|r| r.saturating_sub(left)) });
        (stream.array, stream.feed, stream.infinite, stream.origin) = (array, feed, infinite, origin);
        stream
    }
}

fn infinite_feed() -> QueryError {
    QueryError::logic("Cannot call a terminal (`reduce`, `count`, etc.) on an infinite stream (such as a changefeed).")
}

/// Sends one element through transformations.
pub(crate) fn transform(ex: &Exec, steps: &[Transform], item: Datum, out: &mut VecDeque<Datum>) -> Result<()> {
    let Some((step, rest)) = steps.split_first() else {
        out.push_back(item);
        return Ok(());
    };
    match step {
        Transform::Map(func) => {
            let mapped = func.datum(ex, &[item])?;
            transform(ex, rest, mapped, out)
        }
        Transform::SkipMap(func) => match func.datum(ex, &[item]) {
            Ok(mapped) => transform(ex, rest, mapped, out),
            Err(error) if error.class == Class::NonExistence => Ok(()),
            Err(error) => Err(error),
        },
        Transform::Filter(func, default) => {
            if filter(ex, func, default.as_ref(), &item)? {
                transform(ex, rest, item, out)
            } else {
                Ok(())
            }
        }
        Transform::ConcatMap(func) => {
            let mut inner = func.call(ex, &[item])?.stream(ex)?;
            inner.finite()?;
            while let Some(item) = inner.next(ex)? {
                transform(ex, rest, item, out)?;
            }
            Ok(())
        }
        Transform::Zip => {
            let left = item.as_object()?.get("left").cloned();
            let left = left.ok_or_else(|| QueryError::logic("ZIP can only be called on the result of a join."))?;
            let zipped = match item.as_object()?.get("right") {
                Some(right) => crate::datum::merge::merge(&left, right),
                None => left,
            };
            transform(ex, rest, zipped, out)
        }
    }
}

/// Whether FILTER keeps an element.
pub(crate) fn filter(ex: &Exec, func: &Callable, default: Option<&Callable>, item: &Datum) -> Result<bool> {
    let error = match filter_once(ex, func, item) {
        Ok(keep) => return Ok(keep),
        Err(error) if error.class == Class::NonExistence => error,
        Err(error) => return Err(error),
    };
    let Some(default) = default else { return Ok(false) };
    match default.datum(ex, &[]) {
        Ok(value) => Ok(value.truthy()),
        Err(raised) if raised.class == Class::EmptyUser => Err(error),
        Err(raised) => Err(raised),
    }
}

fn filter_once(ex: &Exec, func: &Callable, item: &Datum) -> Result<bool> {
    let (value, pattern) = match func {
        Callable::Constant(value) => (value.clone(), true),
        Callable::Closure(closure) => {
            // A function that spells an object out is a pattern, as an object alone is.
            let spelled = matches!(closure.func.body, crate::term::Term::Object(_) | crate::term::Term::Value(_));
            (func.call_flagged(ex, std::slice::from_ref(item), true)?.datum(ex)?, spelled)
        }
        _ => (func.datum(ex, std::slice::from_ref(item))?, false),
    };
    match &value {
        Datum::Object(_) | Datum::Literal(_) if pattern => matches_pattern(&value, item),
        value => Ok(value.truthy()),
    }
}

fn matches_pattern(pattern: &Datum, value: &Datum) -> Result<bool> {
    match pattern {
        Datum::Literal(exact) => Ok(exact.as_ref().as_ref() == Some(value)),
        Datum::Object(fields) => {
            let object = value.as_object()?;
            for (name, wanted) in fields.iter() {
                let Some(found) = object.get(name) else {
                    return Err(QueryError::non_existence(format!("No attribute `{name}` in object.")));
                };
                let same = match (wanted, found) {
                    (Datum::Object(_), Datum::Object(_)) | (Datum::Literal(_), _) => matches_pattern(wanted, found)?,
                    (wanted, found) => wanted == found,
                };
                if !same {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

struct ArraySource {
    items: Items,
    at: usize,
}

impl Source for ArraySource {
    fn next(&mut self, _ex: &Exec) -> Result<Step> {
        self.at += 1;
        Ok(self.items.get(self.at - 1).map_or(Step::End, |item| Step::Item(item.clone())))
    }
}

struct VecSource(VecDeque<Datum>);

impl Source for VecSource {
    fn next(&mut self, _ex: &Exec) -> Result<Step> {
        Ok(self.0.pop_front().map_or(Step::End, Step::Item))
    }
}

struct ScanSource {
    table: Arc<Table>,
    space: Space,
    rest: Option<Range>,
    down: bool,
    page: VecDeque<scan::Row>,
    /// How many rows the next page has: a query that stops early should not read much ahead.
    rows: usize,
}

impl Source for ScanSource {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        while self.page.is_empty() {
            let Some(range) = self.rest.take() else { return Ok(Step::End) };
            let page =
                ex.read(|connection| scan::page(connection, &self.table, self.space, &range, self.down, self.rows))?;
            self.rows = (self.rows * 4).min(2048);
            (self.page, self.rest) = (page.rows.into(), page.rest);
        }
        Ok(self.page.pop_front().map_or(Step::End, |row| Step::Item(row.doc)))
    }
}

struct KeysSource {
    table: Arc<Table>,
    space: Space,
    points: VecDeque<(Range, usize)>,
    current: Option<(ScanSource, usize)>,
    /// Copies still owed of an element whose key was asked for more than once.
    again: Vec<Datum>,
}

impl Source for KeysSource {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        loop {
            if let Some(item) = self.again.pop() {
                return Ok(Step::Item(item));
            }
            if let Some((scan, times)) = &mut self.current {
                if let Step::Item(item) = scan.next(ex)? {
                    self.again = vec![item; *times];
                    continue;
                }
                self.current = None;
            }
            let Some((range, times)) = self.points.pop_front() else { return Ok(Step::End) };
            let scan = ScanSource {
                table: self.table.clone(),
                space: self.space,
                rest: Some(range),
                down: false,
                page: VecDeque::new(),
                rows: 256,
            };
            self.current = Some((scan, times));
        }
    }
}

struct SliceSource {
    inner: Stream,
    skip: u64,
    take: Option<u64>,
}

impl Source for SliceSource {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        if self.take == Some(0) {
            return Ok(Step::End);
        }
        loop {
            match self.inner.step(ex)? {
                Step::Item(_) if self.skip > 0 => self.skip -= 1,
                Step::Item(item) => {
                    self.take = self.take.map(|take| take - 1);
                    return Ok(Step::Item(item));
                }
                other => return Ok(other),
            }
        }
    }
}
