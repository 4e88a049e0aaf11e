//! A call's arguments, evaluated as its implementation asks for them.

use std::sync::Arc;

use trough_reql::proto::term_type as t;

use super::val::{Callable, Val};
use super::{Env, Exec, eval, eval_flagged};
use crate::datum::Datum;
use crate::error::{Frame, QueryError, Result};
use crate::term::{Call, Term};

/// A term's arguments with ARGS spliced in.
pub(super) fn expand<'t>(ex: &Exec, args: &'t [Term], env: &Env) -> Result<std::borrow::Cow<'t, [Term]>> {
    let is_args = |term: &Term| matches!(term, Term::Call(call) if call.op == t::ARGS);
    if !args.iter().any(is_args) {
        return Ok(args.into());
    }
    let mut out = Vec::with_capacity(args.len());
    for arg in args {
        match arg {
            Term::Call(call) if call.op == t::ARGS => {
                let value = eval(ex, &call.args[0], env)?.datum(ex)?;
                out.extend(value.as_array()?.iter().cloned().map(Term::Value));
            }
            other => out.push(other.clone()),
        }
    }
    Ok(out.into())
}

/// A call's arguments as its implementation sees them.
pub(crate) struct Args<'c> {
    pub(crate) call: &'c Arc<Call>,
    pub(crate) env: &'c Env,
    pub(super) terms: std::borrow::Cow<'c, [Term]>,
    /// The first argument's value, if it is known already.
    pub(super) first: Option<Val>,
    /// Whether the call stands for a function over a sequence's elements, which must not be sequences.
    pub(crate) no_recurse: bool,
    pub(crate) literal_ok: bool,
}

impl Args<'_> {
    pub(crate) fn len(&self) -> usize {
        self.terms.len()
    }

    pub(crate) fn term(&self, at: usize) -> &Term {
        &self.terms[at]
    }

    pub(crate) fn val(&mut self, ex: &Exec, at: usize) -> Result<Val> {
        self.val_flagged(ex, at, false)
    }

    pub(crate) fn val_flagged(&mut self, ex: &Exec, at: usize, literal_ok: bool) -> Result<Val> {
        if at == 0
            && let Some(first) = self.first.take()
        {
            return Ok(first);
        }
        eval_flagged(ex, &self.terms[at], self.env, literal_ok).map_err(|error| error.at(Frame::Arg(at)))
    }

    pub(crate) fn datum(&mut self, ex: &Exec, at: usize) -> Result<Datum> {
        self.val(ex, at)?.datum(ex).map_err(|error| error.at(Frame::Arg(at)))
    }

    pub(crate) fn int(&mut self, ex: &Exec, at: usize) -> Result<i64> {
        self.datum(ex, at)?.as_int().map_err(|error| error.at(Frame::Arg(at)))
    }

    pub(crate) fn num(&mut self, ex: &Exec, at: usize) -> Result<f64> {
        self.datum(ex, at)?.as_num().map_err(|error| error.at(Frame::Arg(at)))
    }

    pub(crate) fn text(&mut self, ex: &Exec, at: usize) -> Result<Arc<str>> {
        self.datum(ex, at)?.as_str().cloned().map_err(|error| error.at(Frame::Arg(at)))
    }

    /// A function argument; a plain value becomes a function by `shortcut`.
    pub(crate) fn func(&mut self, ex: &Exec, at: usize, shortcut: Shortcut) -> Result<Callable> {
        let val = self.val(ex, at)?;
        val.callable(ex, shortcut).map_err(|error| error.at(Frame::Arg(at)))
    }

    /// An optional argument's value: the call's own, else the whole query's.
    pub(crate) fn opt_val(&self, ex: &Exec, name: &str) -> Result<Option<Val>> {
        if let Some(term) = self.call.opt(name) {
            return eval(ex, term, self.env).map(Some).map_err(|error| error.at(Frame::Opt(name.to_owned())));
        }
        ex.opt_val(name)
    }

    pub(crate) fn opt(&self, ex: &Exec, name: &str) -> Result<Option<Datum>> {
        self.opt_val(ex, name)?.map(|val| val.datum(ex)).transpose()
    }

    pub(crate) fn opt_bool(&self, ex: &Exec, name: &str) -> Result<bool> {
        Ok(self.opt(ex, name)?.is_some_and(|value| value.truthy()))
    }

    pub(crate) fn opt_text(&self, ex: &Exec, name: &str) -> Result<Option<Arc<str>>> {
        self.opt(ex, name)?.map(|value| value.as_str().cloned()).transpose()
    }

    /// Whether a bound is open.
    pub(crate) fn open(&self, ex: &Exec, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.opt(ex, name)? else { return Ok(default) };
        match value.as_str()?.as_ref() {
            "open" => Ok(true),
            "closed" => Ok(false),
            _ => Err(QueryError::logic(format!(
                "Expected `open` or `closed` for optarg `{name}` (got `{}`).",
                crate::datum::print::truncated(&value)
            ))),
        }
    }
}

/// What a value means where a function is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortcut {
    /// An error.
    None,
    /// A function that always gives the value.
    Constant,
    /// A function that gives the field of that name.
    Field,
}
