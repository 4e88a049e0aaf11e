//! Sequences into sequences: MAP, FILTER, CONCAT_MAP, UNION, ZIP, RANGE, FOLD, OFFSETS_OF, DIFFERENCE, SAMPLE.

use std::collections::VecDeque;

use trough_reql::proto::term_type as t;

use super::stream::{Origin, Source, Step, Stream, Transform, filter};
use super::val::{Callable, Val};
use super::{Args, Exec, Shortcut, order};
use crate::datum::{Datum, MAX_DEPTH};
use crate::error::{Class, QueryError, Result};
use crate::term::Term;

pub(super) fn seq(ex: &Exec, args: &mut Args) -> Result<Val> {
    match args.call.op {
        t::FILTER => {
            let target = args.val(ex, 0)?;
            let func = args.val_flagged(ex, 1, true)?.callable(ex, Shortcut::Constant)?;
            let default = args.call.opt("default").map(|term| default_callable(term, args));
            let (table, mut stream) = target.selection(ex)?;
            stream.push(Transform::Filter(func, default));
            Val::from_selection(ex, table, stream)
        }
        t::MAP => map(ex, args),
        t::CONCAT_MAP => {
            let mut stream = args.val(ex, 0)?.stream(ex)?;
            stream.push(Transform::ConcatMap(args.func(ex, 1, Shortcut::None)?));
            stream.origin = Origin::Nothing("Cannot call `changes` after `concat_map`.");
            Val::seq(ex, stream)
        }
        t::ZIP => {
            let mut stream = args.val(ex, 0)?.stream(ex)?;
            stream.push(Transform::Zip);
            stream.origin = Origin::Nothing("Cannot call `changes` after `zip`.");
            Val::seq(ex, stream)
        }
        t::UNION => union(ex, args),
        t::RANGE => range(ex, args),
        t::FOLD => fold(ex, args),
        t::OFFSETS_OF => {
            let mut stream = args.val(ex, 0)?.stream(ex)?;
            stream.finite()?;
            let array = stream.array;
            let wanted = match args.val(ex, 1)? {
                Val::Func(closure) => Callable::Closure(closure),
                other => Callable::Equals(other.datum(ex)?),
            };
            let (mut at, mut out) = (0, Vec::new());
            while let Some(item) = stream.next(ex)? {
                if filter(ex, &wanted, None, &item)? {
                    out.push(Datum::count(at));
                    ex.check_len(out.len())?;
                }
                at += 1;
            }
            Ok(if array { Val::Datum(Datum::array(out)) } else { Val::Seq(Stream::of_values(out)) })
        }
        _ => {
            let (table, mut stream) = args.val(ex, 0)?.selection(ex)?;
            let unwanted = args.val(ex, 1)?.stream(ex)?.collect(ex)?;
            let unwanted = unwanted.as_array()?.iter().cloned().collect();
            let array = stream.array;
            stream = Stream::new(DifferenceSource { inner: stream, unwanted });
            stream.array = array;
            Val::from_selection(ex, table, stream)
        }
    }
}

/// FILTER's default as a function: it runs only when it is wanted.
fn default_callable(term: &Term, args: &Args) -> Callable {
    let func = crate::term::Func { params: Vec::new(), body: term.clone() };
    Callable::Closure(super::val::Closure { func: std::sync::Arc::new(func), env: args.env.clone() })
}

fn map(ex: &Exec, args: &mut Args) -> Result<Val> {
    let last = args.len() - 1;
    let mut streams = Vec::with_capacity(last);
    for at in 0..last {
        streams.push(args.val(ex, at)?.stream(ex)?);
    }
    let func = args.func(ex, last, Shortcut::None)?;
    if let Some(arity) = func.arity()
        && arity != last
    {
        return Err(QueryError::logic(format!(
            "The function passed to `map` expects {arity} argument{}, but {last} sequence{} found.",
            if arity == 1 { "" } else { "s" },
            if last == 1 { " was" } else { "s were" },
        )));
    }
    if last == 1
        && let Some(mut stream) = streams.pop()
    {
        stream.push(Transform::Map(func));
        return Val::seq(ex, stream);
    }
    let array = streams.iter().all(|stream| stream.array);
    let infinite = streams.iter().all(|stream| stream.infinite);
    let mut stream = Stream::new(MapSource { streams, func });
    (stream.array, stream.infinite) = (array, infinite);
    Val::seq(ex, stream)
}

struct MapSource {
    streams: Vec<Stream>,
    func: Callable,
}

impl Source for MapSource {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        let mut values = Vec::with_capacity(self.streams.len());
        for stream in &mut self.streams {
            match stream.next(ex)? {
                Some(value) => values.push(value),
                None => return Ok(Step::End),
            }
        }
        self.func.datum(ex, &values).map(Step::Item)
    }
}

struct DifferenceSource {
    inner: Stream,
    unwanted: std::collections::BTreeSet<Datum>,
}

impl Source for DifferenceSource {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        loop {
            match self.inner.step(ex)? {
                Step::Item(item) if self.unwanted.contains(&item) => {}
                other => return Ok(other),
            }
        }
    }
}

fn union(ex: &Exec, args: &mut Args) -> Result<Val> {
    let mut streams = VecDeque::with_capacity(args.len());
    for at in 0..args.len() {
        streams.push_back(args.val(ex, at)?.stream(ex)?);
    }
    if let Some(term) = args.call.opt("interleave").cloned()
        && !matches!(term, Term::Value(Datum::Bool(_)))
    {
        return order::merge_union(ex, args, &term, streams.into());
    }
    if streams.iter().any(|stream| stream.feed.is_some()) {
        return Err(QueryError::logic(
            "A union of changefeeds is not supported by the embedded metadata server. A real RethinkDB has it.",
        ));
    }
    let array = streams.iter().all(|stream| stream.array);
    let infinite = streams.iter().any(|stream| stream.infinite);
    let mut stream = Stream::new(UnionSource(streams));
    (stream.array, stream.infinite) = (array, infinite);
    Val::seq(ex, stream)
}

struct UnionSource(VecDeque<Stream>);

impl Source for UnionSource {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        while let Some(stream) = self.0.front_mut() {
            if let Some(item) = stream.next(ex)? {
                return Ok(Step::Item(item));
            }
            self.0.pop_front();
        }
        Ok(Step::End)
    }
}

fn range(ex: &Exec, args: &mut Args) -> Result<Val> {
    let (next, end) = match args.len() {
        0 => (0, None),
        1 => (0, Some(args.int(ex, 0)?)),
        _ => (args.int(ex, 0)?, Some(args.int(ex, 1)?)),
    };
    let mut stream = Stream::new(RangeSource { next, end });
    stream.infinite = end.is_none();
    Ok(Val::Seq(stream))
}

struct RangeSource {
    next: i64,
    end: Option<i64>,
}

impl Source for RangeSource {
    fn next(&mut self, _ex: &Exec) -> Result<Step> {
        if self.end.is_some_and(|end| self.next >= end) {
            return Ok(Step::End);
        }
        if self.next > 1 << 53 {
            return Err(QueryError::logic("`range` out of safe double bounds."));
        }
        self.next += 1;
        Ok(Step::Item(Datum::Num((self.next - 1) as f64)))
    }
}

fn fold(ex: &Exec, args: &mut Args) -> Result<Val> {
    let mut stream = args.val(ex, 0)?.stream(ex)?;
    let mut base = args.datum(ex, 1)?;
    let func = args.func(ex, 2, Shortcut::None)?;
    if func.arity().is_some_and(|arity| arity != 2) {
        return Err(QueryError::logic("The accumulator function passed to `fold` should expect 2 arguments"));
    }
    let callable = |name: &str| -> Result<Option<Callable>> {
        args.opt_val(ex, name)?.map(|value| value.callable(ex, Shortcut::None)).transpose()
    };
    let (emit, final_emit) = (callable("emit")?, callable("final_emit")?);
    let Some(emit) = emit else {
        stream.finite()?;
        while let Some(item) = stream.next(ex)? {
            base = shallow(func.datum(ex, &[base, item])?)?;
        }
        return match final_emit {
            Some(last) => last.call(ex, &[base]),
            None => Ok(Val::Datum(base)),
        };
    };
    let (array, infinite) = (stream.array, stream.infinite);
    let mut out = Stream::new(FoldSource { stream, base, func, emit, last: final_emit, ready: VecDeque::new() });
    (out.array, out.infinite) = (array, infinite);
    Val::seq(ex, out)
}

/// An accumulated value, which must not nest deeper with every step.
pub(super) fn shallow(value: Datum) -> Result<Datum> {
    if value.depth() > MAX_DEPTH {
        return Err(QueryError::new(
            Class::Resource,
            format!("Nesting depth limit exceeded: a value may not nest deeper than {MAX_DEPTH} levels."),
        ));
    }
    Ok(value)
}

struct FoldSource {
    stream: Stream,
    base: Datum,
    func: Callable,
    emit: Callable,
    last: Option<Callable>,
    ready: VecDeque<Datum>,
}

impl Source for FoldSource {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Step::Item(item));
            }
            let Some(item) = self.stream.next(ex)? else {
                let Some(last) = self.last.take() else { return Ok(Step::End) };
                let emitted = last.datum(ex, std::slice::from_ref(&self.base))?;
                self.ready.extend(emitted.as_array()?.iter().cloned());
                continue;
            };
            let next = shallow(self.func.datum(ex, &[self.base.clone(), item.clone()])?)?;
            let emitted = self.emit.datum(ex, &[self.base.clone(), item, next.clone()])?;
            self.ready.extend(emitted.as_array()?.iter().cloned());
            self.base = next;
        }
    }
}

pub(super) fn sample(ex: &Exec, args: &mut Args) -> Result<Val> {
    let (table, mut stream) = args.val(ex, 0)?.selection(ex)?;
    let count = args.int(ex, 1)?;
    let count = usize::try_from(count)
        .map_err(|_| QueryError::logic(format!("Number of items to sample must be non-negative, got `{count}`.")))?;
    ex.check_len(count)?;
    stream.finite()?;
    let (mut seen, mut kept): (u64, Vec<Datum>) = (0, Vec::new());
    while let Some(item) = stream.next(ex)? {
        seen += 1;
        if kept.len() < count {
            kept.push(item);
        } else if let Ok(at) = usize::try_from(random_u64()? % seen)
            && at < count
        {
            kept[at] = item;
        }
    }
    Val::from_selection(ex, table, Stream::from_vec(kept))
}

/// Random bits.
pub(super) fn random_u64() -> Result<u64> {
    getrandom::u64().map_err(|error| QueryError::internal(format!("no randomness: {error}")))
}
