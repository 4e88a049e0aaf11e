//! Fields of objects, and of every object of a sequence: BRACKET, GET_FIELD, HAS_FIELDS, PLUCK, WITHOUT, MERGE, KEYS,
//! VALUES, OBJECT.

use std::sync::Arc;

use trough_reql::proto::term_type as t;

use super::stream::Transform;
use super::val::{Callable, Val};
use super::{Args, Exec, arrays};
use crate::datum::merge::{Path, merge};
use crate::datum::{Datum, Object, print};
use crate::error::{QueryError, Result};
use crate::term::{Call, name};

/// What a term on objects does with a sequence of them.
enum Over {
    Map,
    Filter,
    SkipMap,
}

pub(super) fn bracket(ex: &Exec, args: &mut Args) -> Result<Val> {
    let target = args.val(ex, 0)?;
    let key = args.datum(ex, 1)?;
    match key {
        Datum::Num(_) => arrays::nth_of(ex, target, &key),
        Datum::Str(field) => on_objects(ex, args, target, Over::SkipMap, |object| object.field(&field)),
        other => Err(bad_key(&other)),
    }
}

fn bad_key(key: &Datum) -> QueryError {
    key.type_error(format!("Expected NUMBER or STRING as second argument to `bracket` but found {}.", key.type_name()))
}

/// BRACKET of two values.
pub(super) fn bracket_datum(ex: &Exec, target: Datum, key: &Datum) -> Result<Val> {
    match (&target, key) {
        (Datum::Object(_), Datum::Str(field)) => target.field(field).map(Val::Datum),
        (_, Datum::Num(_)) => arrays::nth_of(ex, Val::Datum(target), key),
        (Datum::Array(items), Datum::Str(field)) => {
            let mut out = Vec::new();
            for item in items.iter() {
                if let Datum::Object(object) = item {
                    out.extend(object.get(field).cloned());
                } else {
                    return Err(not_object("bracket", item));
                }
            }
            Ok(Val::Datum(Datum::array(out)))
        }
        (_, Datum::Str(_)) => Err(not_object("bracket", &target)),
        (_, other) => Err(bad_key(other)),
    }
}

fn not_object(term: &str, value: &Datum) -> QueryError {
    value.type_error(format!("Cannot perform {term} on a non-object non-sequence `{}`.", print::truncated(value)))
}

/// Applies `each` to an object, or the whole term to every object of a sequence.
fn on_objects(
    ex: &Exec,
    args: &Args,
    target: Val,
    over: Over,
    each: impl FnOnce(&Datum) -> Result<Datum>,
) -> Result<Val> {
    let term = name(args.call.op);
    if target.is_datum() {
        let datum = target.datum(ex)?;
        return match &datum {
            Datum::Object(_) => each(&datum).map(Val::Datum),
            Datum::Array(items) => on_sequence(ex, args, Val::Datum(Datum::Array(items.clone())), over, &term),
            Datum::Time(_) | Datum::Binary(_) | Datum::Literal(_) => {
                let kind = datum.type_name();
                Err(QueryError::logic(format!("Cannot call `{term}` on objects of type `{kind}`.")))
            }
            other => Err(not_object(&term, other)),
        };
    }
    match target {
        Val::Db(_) | Val::Func(_) | Val::Grouped(_) => {
            let shown = target.show(ex)?;
            Err(QueryError::logic(format!("Cannot perform {term} on a non-object non-sequence `{shown}`.")))
        }
        sequence => on_sequence(ex, args, sequence, over, &term),
    }
}

fn on_sequence(ex: &Exec, args: &Args, target: Val, over: Over, term: &str) -> Result<Val> {
    if args.no_recurse {
        return Err(QueryError::logic(format!("Cannot perform {term} on a sequence of sequences.")));
    }
    let method = Callable::Method(settled(ex, args)?, args.env.clone());
    match over {
        Over::Filter => {
            let (table, mut stream) = target.selection(ex)?;
            stream.push(Transform::Filter(method, None));
            Val::from_selection(ex, table, stream)
        }
        Over::Map | Over::SkipMap => {
            let mut stream = target.stream(ex)?;
            stream.push(if matches!(over, Over::Map) { Transform::Map(method) } else { Transform::SkipMap(method) });
            Val::seq(ex, stream)
        }
    }
}

/// The call as each element runs it: ARGS spliced in now, since elements must not run them again.
fn settled(_ex: &Exec, args: &Args) -> Result<Arc<Call>> {
    if args.terms.len() == args.call.args.len() {
        return Ok(args.call.clone());
    }
    Ok(Arc::new(Call { op: args.call.op, args: args.terms.to_vec(), opts: args.call.opts.clone() }))
}

pub(super) fn fields(ex: &Exec, args: &mut Args) -> Result<Val> {
    let target = args.val(ex, 0)?;
    // Elements of a sequence run the term again, so its other arguments are not wanted now.
    let many = !args.no_recurse
        && match &target {
            Val::Datum(datum) => matches!(datum, Datum::Array(_)),
            Val::Single(_) => false,
            _ => true,
        };
    let over = match args.call.op {
        t::GET_FIELD => Over::SkipMap,
        t::HAS_FIELDS => Over::Filter,
        _ => Over::Map,
    };
    if many {
        return on_objects(ex, args, target, over, |object| Ok(object.clone()));
    }
    if args.call.op == t::MERGE {
        return merged(ex, args, target);
    }
    if args.call.op == t::GET_FIELD {
        let field = args.datum(ex, 1)?;
        return on_objects(ex, args, target, over, |object| object.field(field.as_str()?));
    }
    let path = path(ex, args)?;
    let op = args.call.op;
    on_objects(ex, args, target, over, |object| match op {
        t::HAS_FIELDS => Ok(Datum::Bool(path.present(object))),
        t::PLUCK => path.project(object, false),
        _ => path.remove(object, false),
    })
}

fn path(ex: &Exec, args: &mut Args) -> Result<Path> {
    let paths = (1..args.len()).map(|at| args.datum(ex, at)).collect::<Result<Vec<_>>>()?;
    Path::new(&Datum::array(paths))
}

fn merged(ex: &Exec, args: &mut Args, target: Val) -> Result<Val> {
    let mut datum = match target.datum(ex)? {
        object @ Datum::Object(_) => object,
        other => {
            return on_objects(ex, args, Val::Datum(other), Over::Map, |object| Ok(object.clone()));
        }
    };
    for at in 1..args.len() {
        let value = match args.val_flagged(ex, at, true)? {
            Val::Func(closure) => closure.call(ex, std::slice::from_ref(&datum), true)?.datum(ex)?,
            other => other.datum(ex)?,
        };
        if let Datum::Time(_) | Datum::Binary(_) = value {
            return Err(QueryError::logic(format!("Cannot merge objects of type `{}`.", value.type_name())));
        }
        datum = merge(&datum, &value);
    }
    Ok(Val::Datum(datum))
}

pub(super) fn with_fields(ex: &Exec, args: &mut Args) -> Result<Val> {
    let mut stream = args.val(ex, 0)?.stream(ex)?;
    // A path that is none fails now, not at the first element.
    path(ex, args)?;
    let method = |op| {
        let call = Call { op, args: args.terms.to_vec(), opts: Vec::new() };
        Callable::Method(Arc::new(call), args.env.clone())
    };
    stream.push(Transform::Filter(method(t::HAS_FIELDS), None));
    stream.push(Transform::Map(method(t::PLUCK)));
    Val::seq(ex, stream)
}

pub(super) fn object(ex: &Exec, args: &mut Args) -> Result<Val> {
    if args.call.op == t::OBJECT {
        if !args.len().is_multiple_of(2) {
            return Err(QueryError::logic(format!(
                "OBJECT expects an even number of arguments (but found {}).",
                args.len()
            )));
        }
        let mut out = Object::default();
        for at in (0..args.len()).step_by(2) {
            let name = args.text(ex, at)?;
            let value = args.datum(ex, at + 1)?;
            if let Some(old) = out.get(&name) {
                return Err(QueryError::logic(format!(
                    "Duplicate key \"{name}\" in object.  (got {} and {} as values)",
                    print::truncated(old),
                    print::truncated(&value)
                )));
            }
            out.set(name, value);
        }
        return Ok(Val::Datum(out.into()));
    }
    let value = args.datum(ex, 0)?;
    let Datum::Object(object) = &value else {
        return Err(QueryError::logic(format!(
            "Cannot call `{}` on objects of type `{}`.",
            name(args.call.op),
            value.type_name()
        )));
    };
    let items = object.iter().map(|(name, value)| match args.call.op {
        t::KEYS => Datum::Str(name.clone()),
        _ => value.clone(),
    });
    Ok(Val::Datum(Datum::array(items.collect())))
}
