//! ORDER_BY, DISTINCT and ordered unions.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use trough_reql::proto::term_type as t;

use super::stream::{Source, Step, Stream, Transform};
use super::val::{Callable, Slice, Val};
use super::{Args, Exec, Shortcut, eval};
use crate::datum::{Datum, key};
use crate::error::{Class, QueryError, Result};
use crate::term::Term;

/// One thing to order by, and whether downwards.
struct Criterion {
    by: Callable,
    down: bool,
}

/// An element's values for all criteria; none where the element lacks it: that comes first.
type Ranks = Vec<Option<Datum>>;

impl Criterion {
    fn rank(&self, ex: &Exec, item: &Datum) -> Result<Option<Datum>> {
        match self.by.datum(ex, std::slice::from_ref(item)) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.class == Class::NonExistence => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn ranks(ex: &Exec, criteria: &[Criterion], item: &Datum) -> Result<Ranks> {
    criteria.iter().map(|criterion| criterion.rank(ex, item)).collect()
}

fn compare(criteria: &[Criterion], a: &Ranks, b: &Ranks) -> Ordering {
    for (criterion, (a, b)) in criteria.iter().zip(a.iter().zip(b)) {
        let order = a.cmp(b);
        if order != Ordering::Equal {
            return if criterion.down { order.reverse() } else { order };
        }
    }
    Ordering::Equal
}

fn direction(term: &Term) -> bool {
    matches!(term, Term::Call(call) if call.op == t::DESC)
}

pub(super) fn order_by(ex: &Exec, args: &mut Args) -> Result<Val> {
    let mut criteria = Vec::with_capacity(args.len());
    for at in 1..args.len() {
        let down = direction(args.term(at));
        criteria.push(Criterion { by: args.func(ex, at, Shortcut::Field)?, down });
    }
    let target = args.val(ex, 0)?;
    let index = args.opt_text(ex, "index")?;
    if let Some(index) = index {
        let slice = match target {
            Val::Table(table) => Slice::whole(table),
            Val::Slice(slice) => slice,
            _ => {
                return Err(QueryError::logic(
                    "Indexed order_by can only be performed on a TABLE or TABLE_SLICE. Make sure order_by comes before \
                     any transformations (such as map) or filters.",
                ));
            }
        };
        if slice.down.is_some() {
            return Err(QueryError::logic("Cannot perform multiple indexed ORDER_BYs on the same table."));
        }
        if let Some(bounded) = slice.index.as_ref().filter(|bounded| **bounded != index) {
            return Err(QueryError::logic(format!(
                "Cannot order by index `{index}` after calling BETWEEN on index `{bounded}`."
            )));
        }
        let down = args.call.opt("index").is_some_and(direction);
        let slice = Slice { index: Some(index.clone()), down: Some(down), ..slice };
        slice.space()?;
        if criteria.is_empty() {
            return Ok(Val::Slice(slice));
        }
        // Equal index values are put in order by the rest.
        criteria.insert(0, Criterion { by: Callable::Field(Datum::Str(index)), down });
        let table = slice.table.clone();
        let mut stream = slice.stream()?;
        if let Some(found) = table.indexes.get(slice.index.as_deref().unwrap_or_default()) {
            let function = super::val::Closure { func: found.function.clone(), env: super::Env::default() };
            criteria[0].by = Callable::Closure(function);
        }
        stream = Stream::new(RunSource { inner: stream, criteria, run: Default::default(), next: None });
        return Ok(Val::Selection(table, stream));
    }
    let (table, mut stream) = target.selection(ex)?;
    if criteria.is_empty() {
        return Err(QueryError::logic("Must specify something to order by."));
    }
    stream.finite()?;
    let unordered = stream.unordered_table.clone();
    let mut items = Vec::new();
    while let Some(item) = stream.next(ex)? {
        let ranks = ranks(ex, &criteria, &item)?;
        items.push((ranks, item));
        ex.check_len(items.len())?;
    }
    items.sort_by(|a, b| {
        compare(&criteria, &a.0, &b.0).then_with(|| match &unordered {
            // Equals stay in the order of the unordered read, which is RethinkDB's: part by part, then by key.
            Some(table) => {
                let place = |doc: &Datum| {
                    let key = doc.field(&table.primary_key).unwrap_or(Datum::Null);
                    (key::shard(&key), key)
                };
                place(&a.1).cmp(&place(&b.1))
            }
            None => Ordering::Equal,
        })
    });
    let stream = Stream::from_vec(items.into_iter().map(|item| item.1).collect());
    Val::from_selection(ex, table, stream)
}

/// Sorts each run of elements that are equal by the first criterion.
struct RunSource {
    inner: Stream,
    criteria: Vec<Criterion>,
    run: std::collections::VecDeque<Datum>,
    next: Option<(Ranks, Datum)>,
}

impl Source for RunSource {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        if let Some(item) = self.run.pop_front() {
            return Ok(Step::Item(item));
        }
        let mut run: Vec<(Ranks, Datum)> = self.next.take().into_iter().collect();
        while let Some(item) = self.inner.next(ex)? {
            let entry = (ranks(ex, &self.criteria, &item)?, item);
            if run.first().is_some_and(|first| first.0[0] != entry.0[0]) {
                self.next = Some(entry);
                break;
            }
            run.push(entry);
            ex.check_len(run.len())?;
        }
        run.sort_by(|a, b| compare(&self.criteria, &a.0, &b.0));
        self.run.extend(run.into_iter().map(|entry| entry.1));
        Ok(self.run.pop_front().map_or(Step::End, Step::Item))
    }
}

pub(super) fn distinct(ex: &Exec, args: &mut Args) -> Result<Val> {
    let index = args.opt_text(ex, "index")?;
    let target = args.val(ex, 0)?;
    if let (Some(index), Val::Table(_) | Val::Slice(_)) = (&index, &target) {
        let slice = target.slice(ex)?;
        let by = match slice.table.indexes.get(index.as_ref()) {
            Some(found) => {
                Callable::Closure(super::val::Closure { func: found.function.clone(), env: super::Env::default() })
            }
            None => Callable::Field(Datum::Str(index.clone())),
        };
        let multi = slice.table.indexes.get(index.as_ref()).is_some_and(|index| index.multi);
        let down = slice.down.or(Some(false));
        let slice = Slice { index: Some(index.clone()), down, ..slice };
        slice.space()?;
        let mut stream = slice.stream()?;
        stream.push(if multi { Transform::ConcatMap(by) } else { Transform::Map(by) });
        if multi {
            return Ok(Val::Seq(Stream::of_values(unique(ex, stream)?)));
        }
        return Ok(Val::Seq(Stream::new(DistinctSource { inner: stream, last: None })));
    }
    if index.is_some() {
        return Err(QueryError::logic("Can only perform an indexed distinct on a TABLE."));
    }
    // Of a table the distinct documents are a stream.
    let streams = matches!(target, Val::Table(_) | Val::Slice(Slice { index: None, .. }));
    let all = unique(ex, target.stream(ex)?)?;
    Ok(if streams { Val::Seq(Stream::of_values(all)) } else { Val::Datum(Datum::array(all)) })
}

fn unique(ex: &Exec, mut stream: Stream) -> Result<Vec<Datum>> {
    stream.finite()?;
    let mut seen = BTreeSet::new();
    while let Some(item) = stream.next(ex)? {
        seen.insert(item);
        ex.check_len(seen.len())?;
    }
    Ok(seen.into_iter().collect())
}

/// Leaves out elements equal to the one before.
struct DistinctSource {
    inner: Stream,
    last: Option<Datum>,
}

impl Source for DistinctSource {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        while let Some(item) = self.inner.next(ex)? {
            if self.last.as_ref() != Some(&item) {
                self.last = Some(item.clone());
                return Ok(Step::Item(item));
            }
        }
        Ok(Step::End)
    }
}

/// UNION of sequences that are in order, by what `interleave` names.
pub(super) fn merge_union(ex: &Exec, args: &Args, interleave: &Term, streams: Vec<Stream>) -> Result<Val> {
    let terms = match interleave {
        Term::Array(terms) => terms.clone(),
        Term::Value(Datum::Array(items)) => items.iter().cloned().map(Term::Value).collect(),
        other => vec![other.clone()],
    };
    let mut criteria = Vec::with_capacity(terms.len());
    for term in &terms {
        let by = eval(ex, term, args.env)?.callable(ex, Shortcut::Field)?;
        criteria.push(Criterion { by, down: direction(term) });
    }
    if streams.iter().any(|stream| stream.infinite || stream.feed.is_some()) {
        return Err(QueryError::logic("Cannot use an infinite stream with an ordered `union`."));
    }
    let array = streams.iter().all(|stream| stream.array);
    let heads = streams.into_iter().map(|stream| (None, stream)).collect();
    let mut stream = Stream::new(MergeSource { heads, criteria });
    stream.array = array;
    Val::seq(ex, stream)
}

struct MergeSource {
    heads: Vec<(Option<(Ranks, Datum)>, Stream)>,
    criteria: Vec<Criterion>,
}

impl Source for MergeSource {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        let mut at = 0;
        while at < self.heads.len() {
            let (head, stream) = &mut self.heads[at];
            if head.is_none() {
                match stream.next(ex)? {
                    Some(item) => *head = Some((ranks(ex, &self.criteria, &item)?, item)),
                    None => {
                        self.heads.remove(at);
                        continue;
                    }
                }
            }
            at += 1;
        }
        let empty = Ranks::new();
        let rank = |head: &(Option<(Ranks, Datum)>, Stream)| head.0.as_ref().map_or(&empty, |head| &head.0).clone();
        let least = (0..self.heads.len())
            .min_by(|a, b| compare(&self.criteria, &rank(&self.heads[*a]), &rank(&self.heads[*b])));
        Ok(least.and_then(|at| self.heads[at].0.take()).map_or(Step::End, |head| Step::Item(head.1)))
    }
}
