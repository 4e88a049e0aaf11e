//! INNER_JOIN, OUTER_JOIN, EQ_JOIN.

use std::collections::VecDeque;
use std::sync::Arc;

use trough_reql::proto::term_type as t;

use super::stream::{Source, Step, Stream};
use super::val::{Callable, Val};
use super::{Args, Exec, Shortcut, select};
use crate::datum::{Datum, object};
use crate::error::{Class, Result};
use crate::store::catalog::Table;
use crate::store::scan::Space;

pub(super) fn join(ex: &Exec, args: &mut Args) -> Result<Val> {
    let left = args.val(ex, 0)?.stream(ex)?;
    let (array, infinite) = (left.array, left.infinite);
    let mut stream = if args.call.op == t::EQ_JOIN {
        let by = args.func(ex, 1, Shortcut::Field)?;
        let table = args.val(ex, 2)?.table(ex)?;
        let index = args.opt_text(ex, "index")?;
        let space = select::space(&table, index.as_deref())?;
        Stream::new(EqSource { left, by, table, space, ready: VecDeque::new() })
    } else {
        // The right side is read once and kept: it is gone through for every element of the left.
        let right = args.val(ex, 1)?.stream(ex)?.collect(ex)?;
        let on = args.func(ex, 2, Shortcut::Constant)?;
        let outer = args.call.op == t::OUTER_JOIN;
        Stream::new(LoopSource { left, right, on, outer, ready: VecDeque::new() })
    };
    (stream.array, stream.infinite) = (array, infinite);
    Val::seq(ex, stream)
}

struct LoopSource {
    left: Stream,
    right: Datum,
    on: Callable,
    outer: bool,
    ready: VecDeque<Datum>,
}

impl Source for LoopSource {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Step::Item(item));
            }
            let Some(left) = self.left.next(ex)? else { return Ok(Step::End) };
            for right in self.right.as_array()?.iter() {
                if self.on.call(ex, &[left.clone(), right.clone()])?.truthy(ex)? {
                    self.ready.push_back(object([("left", left.clone()), ("right", right.clone())]));
                }
            }
            if self.outer && self.ready.is_empty() {
                self.ready.push_back(object([("left", left)]));
            }
        }
    }
}

struct EqSource {
    left: Stream,
    by: Callable,
    table: Arc<Table>,
    space: Space,
    ready: VecDeque<Datum>,
}

impl Source for EqSource {
    fn next(&mut self, ex: &Exec) -> Result<Step> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Step::Item(item));
            }
            let Some(left) = self.left.next(ex)? else { return Ok(Step::End) };
            let key = match self.by.datum(ex, std::slice::from_ref(&left)) {
                Ok(Datum::Null) => continue,
                Ok(key) => key,
                Err(error) if error.class == Class::NonExistence => continue,
                Err(error) => return Err(error),
            };
            let mut rows = Stream::keys(self.table.clone(), self.space, vec![(key, 1)])?;
            while let Some(right) = rows.next(ex)? {
                self.ready.push_back(object([("left", left.clone()), ("right", right)]));
            }
        }
    }
}
