//! Writes: INSERT, UPDATE, REPLACE, DELETE, FOR_EACH. What decides a document's new state runs inside the writer's
//! transaction, on the state that it replaces: that is what makes an election by one REPLACE sound.

use std::sync::Arc;

use trough_reql::proto::term_type as t;

use super::stats::{Return, Stats, add_stats};
use super::stream::Stream;
use super::val::{Callable, Val};
use super::{Args, Exec, Query, Shortcut, system};
use crate::datum::merge::{has_literal, merge};
use crate::datum::{Datum, MAX_DEPTH, Object, key, print};
use crate::error::{QueryError, Result};
use crate::store::catalog::Table;
use crate::store::scan;
use crate::store::writer::Tx;

/// Documents in one job for the writer: enough to share its fsync, few enough to let others in between.
const BATCH: usize = 1000;

/// Longest array in a stored document, in elements.
const STORED_ARRAY: usize = 100_000;

/// What INSERT does about a document that is there already.
#[derive(Clone)]
enum Conflict {
    Error,
    Replace,
    Update,
    Func(Callable),
}

/// What becomes of a document.
#[derive(Clone)]
enum Rewrite {
    Replace(Callable),
    Update(Callable),
    Delete,
}

/// What one write does.
enum Op {
    /// A checked document with its key.
    Insert(Datum, Vec<u8>),
    /// One that cannot be inserted, and why.
    Bad(String),
    /// The document with this primary key, given as the value and encoded.
    Rewrite(Datum, Vec<u8>),
}

/// How a batch of writes goes.
#[derive(Clone)]
struct Plan {
    table: Arc<Table>,
    conflict: Conflict,
    rewrite: Rewrite,
    returns: Return,
}

pub(super) fn write(ex: &Exec, args: &mut Args) -> Result<Val> {
    match args.call.op {
        t::FOR_EACH => for_each(ex, args),
        t::INSERT => insert(ex, args),
        _ => rewrite(ex, args),
    }
}

/// RETURN_CHANGES and whether the answer may come before the disk has it.
fn options(ex: &Exec, args: &Args, table: Option<&Table>) -> Result<(Return, bool)> {
    if args.call.opt("return_vals").is_some() {
        return Err(QueryError::logic(
            "Error: encountered obsolete optarg `return_vals`.  Use `return_changes` instead.",
        ));
    }
    let returns = match args.opt(ex, "return_changes")? {
        None => Return::No,
        Some(Datum::Str(text)) if text.as_ref() == "always" => Return::Always,
        Some(Datum::Str(text)) => {
            return Err(QueryError::logic(format!(
                "Invalid return_changes value `{text}` (options are `true`, `false`, and `'always'`.)"
            )));
        }
        Some(other) if other.truthy() => Return::Yes,
        Some(_) => Return::No,
    };
    let noreply = args.opt_bool(ex, "noreply")?;
    let soft = match args.opt_text(ex, "durability")?.as_deref() {
        None => noreply || table.is_some_and(|table| table.soft),
        Some("hard") => false,
        Some("soft") => true,
        Some(other) => {
            return Err(QueryError::logic(format!(
                "Durability option `{other}` unrecognized (options are \"hard\" and \"soft\")."
            )));
        }
    };
    Ok((returns, soft))
}

fn insert(ex: &Exec, args: &mut Args) -> Result<Val> {
    let table = args.val(ex, 0)?.table(ex).map_err(|error| error.at(crate::error::Frame::Arg(0)))?;
    system::refuse_write(&table)?;
    let (returns, soft) = options(ex, args, Some(&table))?;
    let conflict = match args.opt_val(ex, "conflict")? {
        None => Conflict::Error,
        Some(Val::Func(closure)) => {
            let func = Callable::Closure(closure);
            if !func.deterministic(true) {
                return Err(QueryError::logic("The conflict function passed to `insert` must be deterministic."));
            }
            if func.arity().is_some_and(|arity| arity != 3) {
                return Err(QueryError::logic("The conflict function passed to `insert` should expect 3 arguments."));
            }
            Conflict::Func(func)
        }
        Some(other) => match other.datum(ex)?.as_str()?.as_ref() {
            "error" => Conflict::Error,
            "replace" => Conflict::Replace,
            "update" => Conflict::Update,
            other => {
                return Err(QueryError::logic(format!(
                    "Conflict option `{other}` unrecognized (options are \"error\", \"replace\" and \"update\")."
                )));
            }
        },
    };
    let source = match args.val(ex, 1)? {
        value if value.is_datum() => match value.datum(ex)? {
            object @ (Datum::Object(_) | Datum::Time(_) | Datum::Binary(_)) => Stream::from_vec(vec![object]),
            other => Val::Datum(other).stream(ex)?,
        },
        other => other.stream(ex)?,
    };
    let plan = Plan { table, conflict, rewrite: Rewrite::Delete, returns };
    let mut generated = Vec::new();
    let mut source = source;
    source.finite()?;
    let primary = plan.table.primary_key.clone();
    let answer = run(ex, &plan, soft, |ops| {
        while ops.len() < BATCH {
            let Some(doc) = source.next(ex)? else { return Ok(false) };
            let doc = with_key(doc, &primary, &mut generated);
            ops.push(match checked(&doc, &primary) {
                Ok(key) => Op::Insert(doc, key),
                Err(error) => Op::Bad(error.message),
            });
        }
        Ok(true)
    })?;
    let mut object = answer.as_object()?.as_ref().clone();
    if !generated.is_empty() {
        let total = generated.len();
        if total > ex.query.array_limit {
            generated.truncate(ex.query.array_limit);
            let kept = generated.len();
            let warning = format!("Too many generated keys ({total}), array truncated to {kept}.");
            object.set("warnings", Datum::array(vec![warning.into()]));
        }
        object.set("generated_keys", Datum::array(generated));
    }
    Ok(Val::Datum(object.into()))
}

/// A document with a primary key: a new one if it has none.
fn with_key(doc: Datum, primary: &Arc<str>, generated: &mut Vec<Datum>) -> Datum {
    match &doc {
        Datum::Object(object) if object.get(primary).is_none() => {
            let key = Datum::from(uuid::Uuid::new_v4().to_string());
            generated.push(key.clone());
            let mut object = object.as_ref().clone();
            object.set(primary.clone(), key);
            object.into()
        }
        _ => doc,
    }
}

/// The key of a document that may be stored.
fn checked(doc: &Datum, primary: &str) -> Result<Vec<u8>> {
    let Datum::Object(object) = doc else {
        return Err(doc.expected("OBJECT"));
    };
    let value = object.get(primary).ok_or_else(|| {
        QueryError::logic(format!("Inserted object must have primary key `{primary}`:\n{}", print::pretty(doc)))
    })?;
    let key = key::primary(value)?;
    storable(doc)?;
    Ok(key)
}

/// Fails for what cannot be stored: bounds, literals, arrays that are too long, values that nest too deep.
fn storable(doc: &Datum) -> Result<()> {
    if doc.depth() > MAX_DEPTH {
        return Err(QueryError::logic(format!("A document may not nest deeper than {MAX_DEPTH} levels.")));
    }
    if has_literal(doc) {
        return Err(crate::datum::json::stray_literal());
    }
    walk(doc)
}

fn walk(value: &Datum) -> Result<()> {
    match value {
        Datum::MinVal | Datum::MaxVal => Err(QueryError::logic("`r.minval` and `r.maxval` cannot be written to disk.")),
        Datum::Array(items) if items.len() > STORED_ARRAY => {
            Err(QueryError::logic("Array too large for disk writes (limit 100,000 elements)."))
        }
        Datum::Array(items) => items.iter().try_for_each(walk),
        Datum::Object(object) => object.iter().try_for_each(|field| walk(&field.1)),
        _ => Ok(()),
    }
}

fn rewrite(ex: &Exec, args: &mut Args) -> Result<Val> {
    let op = args.call.op;
    let non_atomic = args.opt_bool(ex, "non_atomic")?;
    let rewrite = if op == t::DELETE {
        Rewrite::Delete
    } else {
        if !non_atomic && !crate::term::deterministic(args.term(1), true) {
            return Err(QueryError::logic(
                "Could not prove argument deterministic.  Maybe you want to use the non_atomic flag?",
            ));
        }
        if op == t::UPDATE {
            let func = args.val_flagged(ex, 1, true)?.callable(ex, Shortcut::Constant)?;
            Rewrite::Update(func)
        } else {
            Rewrite::Replace(args.func(ex, 1, Shortcut::Constant)?)
        }
    };
    let target = args.val(ex, 0)?;
    if let Val::Single(single) = target {
        system::refuse_write(&single.table)?;
        let (returns, soft) = options(ex, args, Some(&single.table))?;
        let encoded = key::primary(&single.key)?;
        let mut once = Some(Op::Rewrite(single.key.clone(), encoded));
        let plan = Plan { table: single.table, conflict: Conflict::Error, rewrite, returns };
        return run(ex, &plan, soft, |ops| {
            ops.extend(once.take());
            Ok(false)
        })
        .map(Val::Datum);
    }
    if !matches!(target, Val::Table(_) | Val::Slice(_) | Val::Selection(..)) {
        return Err(target.wrong(ex, "SELECTION").at(crate::error::Frame::Arg(0)));
    }
    let (Some(table), mut source) = target.selection(ex)? else {
        return Err(QueryError::internal("a selection without a table"));
    };
    system::refuse_write(&table)?;
    let (returns, soft) = options(ex, args, Some(&table))?;
    source.finite()?;
    let primary = table.primary_key.clone();
    let plan = Plan { table, conflict: Conflict::Error, rewrite, returns };
    run(ex, &plan, soft, |ops| {
        while ops.len() < BATCH {
            let Some(doc) = source.next(ex)? else { return Ok(false) };
            let value = doc.field(&primary)?;
            let key = key::primary(&value)?;
            ops.push(Op::Rewrite(value, key));
        }
        Ok(true)
    })
    .map(Val::Datum)
}

/// Runs batches that `fill` makes until it says that there is no more.
fn run(ex: &Exec, plan: &Plan, soft: bool, mut fill: impl FnMut(&mut Vec<Op>) -> Result<bool>) -> Result<Datum> {
    ex.query.may_write()?;
    let mut total = Stats::new();
    loop {
        let mut ops = Vec::new();
        let more = fill(&mut ops)?;
        if !ops.is_empty() {
            let (query, plan) = (ex.query.clone(), plan.clone());
            let part = if ex.in_transaction() {
                return Err(QueryError::logic(
                    "Cannot nest writes or meta ops in stream operations.  Use FOR_EACH instead.",
                ));
            } else {
                ex.store()?.writer().run(soft, Box::new(move |tx| apply(tx, &query, &plan, ops)))?
            };
            total.merge(&part, ex.query.array_limit)?;
        }
        if !more {
            return Ok(total.answer(plan.returns, ex.query.array_limit));
        }
    }
}

/// Carries out one batch inside the writer's transaction.
fn apply(tx: &mut Tx, query: &Arc<Query>, plan: &Plan, ops: Vec<Op>) -> Result<Datum> {
    let table = tx.catalog.current(&plan.table)?.clone();
    let mut stats = Stats::new();
    for op in ops {
        match op {
            Op::Bad(message) => {
                stats.error(plan.returns, &Datum::Null, message);
            }
            Op::Insert(doc, key) => {
                let old = scan::get(tx.connection, table.num, &key)?;
                let decided = match &old {
                    None => Ok(Some(doc)),
                    Some(old) => {
                        let ex = Exec::inside(query, tx.connection);
                        resolve(&ex, &plan.conflict, &table.primary_key, old, &doc)
                    }
                };
                finish(tx, plan, &table, &key, old, decided, &mut stats)?;
            }
            Op::Rewrite(value, key) => {
                let old = scan::get(tx.connection, table.num, &key)?;
                let ex = Exec::inside(query, tx.connection);
                let decided = decide(&ex, &plan.rewrite, old.as_ref())
                    .and_then(|new| valid_replace(&table.primary_key, &value, old.as_ref(), new));
                finish(tx, plan, &table, &key, old, decided, &mut stats)?;
            }
        }
    }
    Ok(stats.part())
}

/// What INSERT makes of a document that is there already.
fn resolve(ex: &Exec, conflict: &Conflict, primary: &str, old: &Datum, new: &Datum) -> Result<Option<Datum>> {
    let resolved = match conflict {
        Conflict::Replace => new.clone(),
        Conflict::Update => merge(old, new),
        Conflict::Func(func) => func.datum(ex, &[primary.into(), old.clone(), new.clone()])?,
        Conflict::Error => {
            return Err(QueryError::op_failed(format!(
                "Duplicate primary key `{primary}`:\n{}\n{}",
                print::pretty(old),
                print::pretty(new)
            )));
        }
    };
    valid_replace(primary, &old.field(primary)?, Some(old), resolved)
}

fn decide(ex: &Exec, rewrite: &Rewrite, old: Option<&Datum>) -> Result<Datum> {
    let before = || old.cloned().unwrap_or(Datum::Null);
    match rewrite {
        Rewrite::Delete => Ok(Datum::Null),
        Rewrite::Replace(func) => func.datum(ex, &[before()]),
        Rewrite::Update(func) => {
            let Some(old) = old else { return Ok(Datum::Null) };
            match func.call_flagged(ex, std::slice::from_ref(old), true)?.datum(ex)? {
                Datum::Null => Ok(old.clone()),
                change => Ok(merge(old, &change)),
            }
        }
    }
}

/// Checks a document's new state; none means that it goes.
fn valid_replace(primary: &str, key: &Datum, old: Option<&Datum>, new: Datum) -> Result<Option<Datum>> {
    let object = match &new {
        Datum::Null => return Ok(None),
        Datum::Object(object) => object,
        other => {
            return Err(QueryError::logic(format!(
                "Inserted value must be an OBJECT (got {}):\n{}",
                other.type_name(),
                print::pretty(other)
            )));
        }
    };
    let Some(value) = object.get(primary) else {
        return Err(QueryError::logic(format!(
            "Inserted object must have primary key `{primary}`:\n{}",
            print::pretty(&new)
        )));
    };
    if value != key {
        let Some(old) = old else {
            return Err(QueryError::logic(format!(
                "Primary key `{primary}` cannot be changed (null -> {})",
                print::pretty(&new)
            )));
        };
        let (old, new) = (print::pretty(old), print::pretty(&new));
        return Err(QueryError::logic(format!("Primary key `{primary}` cannot be changed (`{old}` -> `{new}`).")));
    }
    storable(&new)?;
    Ok(Some(new))
}

/// Stores what was decided and counts it.
fn finish(
    tx: &mut Tx,
    plan: &Plan,
    table: &Table,
    key: &[u8],
    old: Option<Datum>,
    decided: Result<Option<Datum>>,
    stats: &mut Stats,
) -> Result<()> {
    let new = match decided {
        Ok(new) => new,
        Err(error) => {
            stats.error(plan.returns, &old.unwrap_or(Datum::Null), error.message);
            return Ok(());
        }
    };
    // Equal values may still be told apart: times in other zones, -0.
    let same = match (&old, &new) {
        (None, None) => true,
        (Some(a), Some(b)) => a == b,
        _ => false,
    };
    if !same {
        tx.put(table, key, old.as_ref(), new.as_ref())?;
    }
    match (&old, &new) {
        (None, None) => stats.skipped += 1,
        (None, Some(_)) => stats.inserted += 1,
        (Some(_), None) => stats.deleted += 1,
        (Some(_), Some(_)) if same => stats.unchanged += 1,
        (Some(_), Some(_)) => stats.replaced += 1,
    }
    if plan.returns == Return::Always || (plan.returns == Return::Yes && !same) {
        let pair = [("new_val", new.unwrap_or(Datum::Null)), ("old_val", old.unwrap_or(Datum::Null))];
        stats.changes.push(crate::datum::object(pair));
    }
    Ok(())
}

fn for_each(ex: &Exec, args: &mut Args) -> Result<Val> {
    const FAIL: &str = "FOR_EACH expects one or more basic write queries.";
    let mut stream = args.val(ex, 0)?.stream(ex)?;
    let func = args.func(ex, 1, Shortcut::Constant)?;
    stream.finite()?;
    let mut total = Object::default();
    while let Some(item) = stream.next(ex)? {
        let value = func.call(ex, &[item])?;
        if !value.is_datum() {
            return Err(QueryError::logic(FAIL));
        }
        match value.datum(ex)? {
            object @ Datum::Object(_) => add_stats(&mut total, &object, ex.query.array_limit)?,
            Datum::Array(items) => {
                for item in items.iter() {
                    add_stats(&mut total, item, ex.query.array_limit)?;
                }
            }
            other => {
                return Err(QueryError::logic(format!("{FAIL}  Expected type ARRAY but found {}.", other.type_name())));
            }
        }
    }
    Ok(Val::Datum(total.into()))
}
