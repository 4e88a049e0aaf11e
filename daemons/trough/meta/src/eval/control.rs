//! What decides what runs: ERROR, AND, OR, NOT, BRANCH, DEFAULT, FUNCALL.

use trough_reql::proto::term_type as t;

use super::val::Val;
use super::{Args, Exec, Shortcut};
use crate::datum::Datum;
use crate::error::{Class, Frame, QueryError, Result};

pub(super) fn simple(ex: &Exec, args: &mut Args) -> Result<Val> {
    match args.call.op {
        t::ERROR => {
            if args.len() == 0 {
                return Err(QueryError::new(Class::EmptyUser, "Empty ERROR term outside a default block."));
            }
            Err(QueryError::new(Class::User, args.text(ex, 0)?.to_string()))
        }
        t::AND | t::OR => {
            let stop_at = args.call.op == t::OR;
            let mut value = Val::Datum(Datum::Bool(!stop_at));
            for at in 0..args.len() {
                value = args.val(ex, at)?;
                if value.truthy(ex)? == stop_at {
                    break;
                }
            }
            Ok(value)
        }
        _ => {
            let value = args.val(ex, 0)?;
            Ok(Val::Datum(Datum::Bool(!value.truthy(ex)?)))
        }
    }
}

pub(super) fn default(ex: &Exec, args: &mut Args) -> Result<Val> {
    let mut caught = None;
    let found = match args.val(ex, 0) {
        Ok(Val::Datum(Datum::Null)) => Datum::Null,
        Ok(Val::Single(single)) => match single.row(ex) {
            Ok(Datum::Null) => Datum::Null,
            Ok(_) => return Ok(Val::Single(single)),
            Err(error) if error.class == Class::NonExistence => {
                let message = Datum::from(error.message.clone());
                caught = Some(error);
                message
            }
            Err(error) => return Err(error),
        },
        Ok(value) => return Ok(value),
        Err(error) if error.class == Class::NonExistence => {
            let message = Datum::from(error.message.clone());
            caught = Some(error);
            message
        }
        Err(error) => return Err(error),
    };
    let instead = args.val(ex, 1).and_then(|value| match value {
        Val::Func(closure) => closure.call(ex, &[found], false),
        other => Ok(other),
    });
    match instead {
        Err(error) if error.class == Class::EmptyUser => match caught {
            Some(caught) => Err(caught),
            None => Ok(Val::Datum(Datum::Null)),
        },
        other => other,
    }
}

pub(super) fn branch(ex: &Exec, args: &mut Args) -> Result<Val> {
    if args.len().is_multiple_of(2) {
        return Err(QueryError::logic("Cannot call `branch` term with an even number of arguments."));
    }
    let last = args.len() - 1;
    for at in (0..last).step_by(2) {
        if args.val(ex, at)?.truthy(ex)? {
            return args.val(ex, at + 1);
        }
    }
    args.val(ex, last)
}

pub(super) fn funcall(ex: &Exec, args: &mut Args) -> Result<Val> {
    let func = args.func(ex, 0, Shortcut::Constant)?;
    if args.len() == 1 {
        return func.call(ex, &[]);
    }
    let first = args.val(ex, 1)?;
    let mut values = vec![Datum::Null];
    for at in 2..args.len() {
        values.push(args.datum(ex, at)?);
    }
    if let Val::Grouped(groups) = first {
        let mut out = Vec::with_capacity(groups.len());
        for (key, data) in groups {
            values[0] = data;
            out.push((key, func.call(ex, &values)?.datum(ex)?));
        }
        return Ok(Val::Grouped(out));
    }
    values[0] = first.datum(ex).map_err(|error| error.at(Frame::Arg(1)))?;
    func.call(ex, &values)
}
