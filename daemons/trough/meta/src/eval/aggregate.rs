//! Sequences into one value: COUNT, SUM, AVG, MIN, MAX, REDUCE, IS_EMPTY, CONTAINS.

use trough_reql::proto::term_type as t;

use super::stream::{Stream, filter};
use super::val::{Callable, Single, Slice, Val};
use super::{Args, Exec, Shortcut, system};
use crate::datum::Datum;
use crate::error::{Class, QueryError, Result};
use crate::store::scan::{self, Range};
use crate::term::name;

/// What gathers elements into one value.
pub(super) struct Gather {
    op: u64,
    func: Option<Callable>,
    count: usize,
    sum: f64,
    best: Option<(Datum, Datum)>,
}

impl Gather {
    pub(super) fn new(op: u64, func: Option<Callable>) -> Gather {
        Gather { op, func, count: 0, sum: 0.0, best: None }
    }

    pub(super) fn add(&mut self, ex: &Exec, item: Datum) -> Result<()> {
        match self.op {
            t::COUNT => {
                let counted = match &self.func {
                    Some(func) => filter(ex, func, None, &item)?,
                    None => true,
                };
                self.count += usize::from(counted);
            }
            t::SUM | t::AVG => {
                // What is null counts as little as what is missing.
                if let Some(value) = self.value(ex, &item)?.filter(|value| !value.is_null()) {
                    self.sum += value.as_num()?;
                    self.count += 1;
                }
            }
            t::MIN | t::MAX => {
                if let Some(value) = self.value(ex, &item)? {
                    let better = match &self.best {
                        None => true,
                        Some((best, _)) if self.op == t::MIN => value < *best,
                        Some((best, _)) => value > *best,
                    };
                    if better {
                        self.best = Some((value, item));
                    }
                }
            }
            _ => {
                self.best = match (self.best.take(), &self.func) {
                    (Some((_, left)), Some(func)) => {
                        Some((Datum::Null, super::seqs::shallow(func.datum(ex, &[left, item])?)?))
                    }
                    _ => Some((Datum::Null, item)),
                };
            }
        }
        Ok(())
    }

    /// What an element counts for; none if it lacks the field.
    fn value(&self, ex: &Exec, item: &Datum) -> Result<Option<Datum>> {
        let Some(func) = &self.func else { return Ok(Some(item.clone())) };
        match func.datum(ex, std::slice::from_ref(item)) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.class == Class::NonExistence => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn result(self) -> Result<Datum> {
        match self.op {
            t::COUNT => Ok(Datum::count(self.count)),
            t::SUM => Datum::number(self.sum),
            t::AVG if self.count == 0 => Err(empty("average")),
            t::AVG => Datum::number(self.sum / self.count as f64),
            op => self.best.map(|best| best.1).ok_or_else(|| match op {
                t::MIN => empty("min"),
                t::MAX => empty("max"),
                _ => QueryError::non_existence("Cannot reduce over an empty stream."),
            }),
        }
    }
}

fn empty(what: &str) -> QueryError {
    QueryError::non_existence(format!(
        "Cannot take the {what} of an empty stream.  (If you passed `{}` a field name, it may be that no elements of \
         the stream had that field.)",
        if what == "average" { "avg" } else { what }
    ))
}

/// What the second argument of COUNT, SUM and the rest means.
pub(super) fn gather_func(ex: &Exec, args: &mut Args) -> Result<Option<Callable>> {
    if args.len() < 2 {
        return Ok(None);
    }
    Ok(Some(match args.call.op {
        t::COUNT => match args.val(ex, 1)? {
            Val::Func(closure) => Callable::Closure(closure),
            other => Callable::Equals(other.datum(ex)?),
        },
        t::REDUCE => args.func(ex, 1, Shortcut::None)?,
        _ => args.func(ex, 1, Shortcut::Field)?,
    }))
}

pub(super) fn aggregate(ex: &Exec, args: &mut Args) -> Result<Val> {
    let target = args.val(ex, 0)?;
    let op = args.call.op;
    match op {
        t::IS_EMPTY => {
            let mut stream = target.stream(ex)?;
            return Ok(Val::Datum(Datum::Bool(stream.next(ex)?.is_none())));
        }
        t::CONTAINS => return contains(ex, args, target.stream(ex)?),
        _ => {}
    }
    let func = gather_func(ex, args)?;
    if op == t::COUNT && func.is_none() {
        return count(ex, target);
    }
    if matches!(op, t::MIN | t::MAX | t::SUM | t::AVG) {
        let index = if args.call.opt("index").is_some() { args.opt_text(ex, "index")? } else { None };
        if index.is_some() && matches!(op, t::SUM | t::AVG) {
            return Err(QueryError::logic(format!("Cannot call {} on an index.", name(op))));
        }
        if index.is_some() && func.is_some() {
            return Err(QueryError::logic(format!("Cannot provide both a function and an index to {}.", name(op))));
        }
        let by_key = matches!(op, t::MIN | t::MAX) && func.is_none() && matches!(target, Val::Table(_));
        if index.is_some() || by_key {
            return extreme(ex, op, target, index);
        }
    }
    let mut stream = target.stream(ex)?;
    stream.finite()?;
    let mut gather = Gather::new(op, func);
    while let Some(item) = stream.next(ex)? {
        gather.add(ex, item)?;
    }
    gather.result().map(Val::Datum)
}

/// The first or last document by an index or the primary key.
fn extreme(ex: &Exec, op: u64, target: Val, index: Option<std::sync::Arc<str>>) -> Result<Val> {
    let table = target.table(ex)?;
    let slice = Slice { table: table.clone(), index, range: None, down: Some(op == t::MAX) };
    slice.space()?;
    match slice.stream()?.next(ex)? {
        Some(row) => Single::from_row(table, row).map(Val::Single),
        None => Err(QueryError::logic(format!("`{}` found no entries in the specified index.", name(op)))),
    }
}

fn count(ex: &Exec, target: Val) -> Result<Val> {
    let count = match target {
        Val::Datum(Datum::Str(text)) => text.chars().count(),
        Val::Datum(Datum::Binary(bytes)) => bytes.len(),
        Val::Datum(Datum::Object(object)) => object.len(),
        Val::Datum(Datum::Array(items)) => items.len(),
        single @ Val::Single(_) => return count(ex, Val::Datum(single.datum(ex)?)),
        Val::Table(table) if system::kind(&table).is_none() => return count(ex, Val::Slice(Slice::whole(table))),
        Val::Slice(slice) => {
            let (space, range) = (slice.space()?, slice.range.clone().unwrap_or_else(Range::all));
            ex.read(|connection| scan::count(connection, slice.table.num, space, &range))?
        }
        other => {
            let mut stream = other.stream(ex)?;
            stream.finite()?;
            let mut count = 0;
            while stream.next(ex)?.is_some() {
                count += 1;
            }
            count
        }
    };
    Ok(Val::Datum(Datum::count(count)))
}

fn contains(ex: &Exec, args: &mut Args, mut stream: Stream) -> Result<Val> {
    let mut wanted = Vec::with_capacity(args.len());
    for at in 1..args.len() {
        wanted.push(match args.val(ex, at)? {
            Val::Func(closure) => Callable::Closure(closure),
            other => Callable::Equals(other.datum(ex)?),
        });
    }
    while let Some(item) = stream.next(ex)? {
        // An element may stand for one plain value and one function.
        for plain in [true, false] {
            let mut found = None;
            for (at, func) in wanted.iter().enumerate() {
                if matches!(func, Callable::Equals(_)) == plain
                    && func.call(ex, std::slice::from_ref(&item))?.truthy(ex)?
                {
                    found = Some(at);
                    break;
                }
            }
            if let Some(at) = found {
                wanted.swap_remove(at);
            }
        }
        if wanted.is_empty() {
            return Ok(Val::Datum(Datum::Bool(true)));
        }
    }
    Ok(Val::Datum(Datum::Bool(false)))
}
