//! The SELECT list of an aggregating scan.

use pgrx::pg_sys;
use trough_pushdown::{
    Aggregate, Shipper, StateKind,
    aggregate::{self, group_key},
};

use crate::{
    pg,
    plandata::{Finish, Output, Source, Stored},
    relation::{Relation, Tables},
    walk::{self, Walker},
};

use super::Shape;

/// The printed columns of a shape.
#[derive(Default)]
pub(super) struct Printed {
    pub(super) keys: Vec<String>,
    pub(super) aggregates: Vec<Aggregate>,
    /// What the keys make.
    pub(super) outputs: Vec<Output>,
    /// What the aggregates make, in their order.
    pub(super) states: Vec<Output>,
    pub(super) by_segment: bool,
}

/// Prints a shape, if all of it can be shipped.
///
/// # Safety
/// The shape's items are valid expressions over the tables.
pub(super) unsafe fn print(
    shape: &Shape,
    tables: &Tables,
    walker: &mut Walker<'_>,
    shipper: &mut Shipper<'_>,
) -> Option<Printed> {
    // SAFETY: the items are valid expressions over the relation.
    unsafe {
        let mut printed = Printed::default();
        for (attribute, item) in shape.items.iter().enumerate() {
            let node = item.expr.cast::<pg_sys::Node>();
            if pg::tag(node) == pg_sys::NodeTag::T_Aggref {
                let aggref = node.cast::<pg_sys::Aggref>();
                let call = walker.aggregate(aggref);
                let aggregate = aggregate::partial(&call, shipper).ok()?;
                let stored = argument(&call, tables);
                let source = if shape.whole {
                    Source::Final(aggregate.state, finish(call.function, aggregate.state), stored, Vec::new())
                } else {
                    Source::State(aggregate.state, stored, Vec::new())
                };
                printed.aggregates.push(aggregate);
                printed.states.push(Output { attribute, source });
                continue;
            }
            // What is neither a key nor an aggregate is only there where the keys determine it.
            if item.sortref == 0 {
                return None;
            }
            let expr = walker.expr(node);
            let trough_pushdown::Expr::Column(index) = expr else { return None };
            let column = tables.scope().column(index)?;
            let collation = pg_sys::exprCollation(node);
            if column.segment {
                printed.by_segment = true;
                printed.outputs.push(Output { attribute, source: Source::Segment });
                if shape.whole && !walk::collation(collation.into()).deterministic {
                    return None;
                }
                continue;
            }
            printed.keys.push(group_key(&expr, collation.into(), !shape.whole, shipper).ok()?);
            let source = Source::Column(tables.stored(index)?);
            printed.outputs.push(Output { attribute, source });
        }
        Some(printed)
    }
}

/// Whether all of a shape can be shipped.
///
/// # Safety
/// As for [`print`].
pub(super) unsafe fn ships(shape: &Shape, base: &Relation) -> bool {
    let mut walker = Walker::new(&base.tables);
    let mut shipper = Shipper::new(base.tables.scope(), &walk::collation);
    // SAFETY: as for the caller.
    unsafe { print(shape, &base.tables, &mut walker, &mut shipper).is_some() }
}

fn finish(function: u32, state: StateKind) -> Finish {
    match (function, state) {
        // avg(bigint) and sum(bigint) share a state.
        (2100, StateKind::Int128) | (_, StateKind::IntPair | StateKind::RealTriple) => Finish::Average,
        (_, StateKind::Int128) => Finish::Sum,
        _ => Finish::Same,
    }
}

/// How an aggregate's argument is stored, for reading minima and maxima and for messages.
fn argument(call: &aggregate::Call, tables: &Tables) -> Stored {
    let column = match call.args.as_slice() {
        [trough_pushdown::Expr::Column(index)] => tables.stored(*index),
        _ => None,
    };
    match column {
        Some(stored) => stored,
        None => Stored {
            name: "*".into(),
            type_oid: trough_pushdown::oid::INT8,
            typmod: -1,
            encoding: trough_pushdown::Encoding::Integer,
            invalid_text: trough_pushdown::InvalidText::Error,
        },
    }
}
