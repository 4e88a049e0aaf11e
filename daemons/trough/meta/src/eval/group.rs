//! GROUP and what follows it: terms on grouped data run group by group.

use std::collections::BTreeMap;

use trough_reql::proto::term_type as t;

use super::aggregate::{Gather, gather_func};
use super::stream::Stream;
use super::val::{Callable, Slice, Val};
use super::{Args, Exec, Shortcut, dispatch};
use crate::datum::Datum;
use crate::error::{Class, QueryError, Result};
use crate::term::Term;

/// How elements are told apart.
struct Grouping {
    stream: Stream,
    by: Vec<Callable>,
    multi: bool,
}

fn grouping(ex: &Exec, args: &mut Args) -> Result<Grouping> {
    let target = args.val(ex, 0)?;
    if let Val::Grouped(_) = target {
        return Err(QueryError::logic("Cannot call `group` on the output of `group` (did you mean to `ungroup`?)."));
    }
    let mut by = Vec::with_capacity(args.len());
    for at in 1..args.len() {
        by.push(args.func(ex, at, Shortcut::Field)?);
    }
    let stream = match args.opt_text(ex, "index")? {
        Some(index) => {
            let table = target.table(ex)?;
            by.push(match table.indexes.get(index.as_ref()) {
                Some(found) => {
                    Callable::Closure(super::val::Closure { func: found.function.clone(), env: super::Env::default() })
                }
                None => Callable::Field(Datum::Str(index.clone())),
            });
            let slice = Slice { table, index: Some(index), range: None, down: Some(false) };
            slice.space()?;
            slice.stream()?
        }
        None => target.stream(ex)?,
    };
    if by.is_empty() {
        return Err(QueryError::logic("Cannot group by nothing."));
    }
    stream.finite()?;
    Ok(Grouping { stream, by, multi: args.opt_bool(ex, "multi")? })
}

impl Grouping {
    /// The groups that an element belongs to; an element that lacks the field belongs to the group null.
    fn keys(&self, ex: &Exec, item: &Datum) -> Result<Vec<Datum>> {
        let mut values = Vec::with_capacity(self.by.len());
        for by in &self.by {
            values.push(match by.datum(ex, std::slice::from_ref(item)) {
                Ok(value) => value,
                Err(error) if error.class == Class::NonExistence => Datum::Null,
                Err(error) => return Err(error),
            });
        }
        if !self.multi {
            return Ok(vec![if values.len() == 1 { values.swap_remove(0) } else { Datum::array(values) }]);
        }
        // Every combination of the elements of arrays.
        let mut keys: Vec<Vec<Datum>> = vec![Vec::new()];
        for value in values {
            let options = match &value {
                Datum::Array(items) => items.to_vec(),
                other => vec![other.clone()],
            };
            keys = keys
                .into_iter()
                .flat_map(|key| {
                    options.iter().map(move |option| {
                        let mut key = key.clone();
                        key.push(option.clone());
                        key
                    })
                })
                .collect();
            ex.check_len(keys.len())?;
        }
        let single = self.by.len() == 1;
        Ok(keys.into_iter().map(|mut key| if single { key.swap_remove(0) } else { Datum::array(key) }).collect())
    }
}

pub(super) fn group(ex: &Exec, args: &mut Args) -> Result<Val> {
    let mut grouping = grouping(ex, args)?;
    let mut groups: BTreeMap<Datum, Vec<Datum>> = BTreeMap::new();
    let mut total = 0;
    while let Some(item) = grouping.stream.next(ex)? {
        for key in grouping.keys(ex, &item)? {
            groups.entry(key).or_default().push(item.clone());
            total += 1;
        }
        if total > ex.query.array_limit {
            return Err(QueryError::new(
                Class::Resource,
                format!(
                    "Grouped data over size limit `{}`.  Try putting a reduction (like `.reduce` or `.count`) on the \
                     end.",
                    ex.query.array_limit
                ),
            ));
        }
    }
    Ok(Val::Grouped(groups.into_iter().map(|(key, items)| (key, Datum::array(items))).collect()))
}

/// An aggregate straight over a GROUP, without gathering the groups' elements; `None` if the call is no such thing.
pub(super) fn streamed(ex: &Exec, args: &Args) -> Result<Option<Val>> {
    if !matches!(args.call.op, t::COUNT | t::SUM | t::AVG | t::MIN | t::MAX | t::REDUCE) {
        return Ok(None);
    }
    let Term::Call(inner) = args.term(0) else { return Ok(None) };
    if inner.op != t::GROUP {
        return Ok(None);
    }
    let mut outer = again(args);
    let func = gather_func(ex, &mut outer)?;
    let terms = super::expand(ex, &inner.args, args.env)?;
    let mut inner_args = Args { call: inner, env: args.env, terms, first: None, no_recurse: false, literal_ok: false };
    let mut grouping = grouping(ex, &mut inner_args)?;
    let mut groups: BTreeMap<Datum, Gather> = BTreeMap::new();
    while let Some(item) = grouping.stream.next(ex)? {
        for key in grouping.keys(ex, &item)? {
            let gather = groups.entry(key).or_insert_with(|| Gather::new(args.call.op, func.clone()));
            gather.add(ex, item.clone())?;
        }
        ex.check_len(groups.len())?;
    }
    let mut out = Vec::with_capacity(groups.len());
    for (key, gather) in groups {
        match gather.result() {
            Ok(value) => out.push((key, value)),
            // A group in which nothing counts is left out.
            Err(error) if error.class == Class::NonExistence => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(Val::Grouped(out)))
}

fn again<'c>(args: &Args<'c>) -> Args<'c> {
    Args {
        call: args.call,
        env: args.env,
        terms: args.terms.clone(),
        first: None,
        no_recurse: false,
        literal_ok: args.literal_ok,
    }
}

/// Runs a call on each group's data.
pub(super) fn map_groups(ex: &Exec, args: &Args, groups: Vec<(Datum, Datum)>) -> Result<Val> {
    if args.call.op == t::GROUP {
        return Err(QueryError::logic("Cannot call `group` on the output of `group` (did you mean to `ungroup`?)."));
    }
    let mut out = Vec::with_capacity(groups.len());
    for (key, data) in groups {
        let mut one = again(args);
        one.first = Some(Val::Datum(data));
        let value = match dispatch(ex, &mut one)? {
            value if value.is_datum() => value.datum(ex)?,
            sequence => sequence.stream(ex)?.collect(ex)?,
        };
        out.push((key, value));
    }
    Ok(Val::Grouped(out))
}

pub(super) fn ungroup(ex: &Exec, args: &mut Args) -> Result<Val> {
    match args.val(ex, 0)? {
        Val::Grouped(groups) => {
            let items = groups
                .into_iter()
                .map(|(key, data)| crate::datum::object([("group", key), ("reduction", data)]))
                .collect();
            Ok(Val::Datum(Datum::array(items)))
        }
        other => Err(other.wrong(ex, "GROUPED_DATA")),
    }
}
