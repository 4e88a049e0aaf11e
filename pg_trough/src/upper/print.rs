//! The SELECT list of an aggregating scan.

use pgrx::pg_sys;
use trough_pushdown::{
    Aggregate, Column, Shipper, StateKind,
    aggregate::{self, group_key},
    grouping::derived,
};

use crate::{
    aggfn, pg,
    plandata::{Output, Source, Stored},
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
    // SAFETY: as for the caller.
    unsafe {
        let mut printed = Printed::default();
        for (attribute, item) in shape.items.iter().enumerate() {
            let node = item.expr.cast::<pg_sys::Node>();
            if pg::is_a(node, pg_sys::NodeTag::T_Aggref) {
                let aggref = node.cast::<pg_sys::Aggref>();
                let call = walker.aggregate(aggref);
                let print = if shape.whole { aggregate::whole } else { aggregate::partial };
                let aggregate = print(&call, shipper).ok()?;
                let stored = argument(&call, &aggregate, tables);
                let source = if shape.whole {
                    Source::Final(aggregate.state, aggfn::finish((*aggref).aggfnoid), stored, Vec::new())
                } else {
                    Source::State(aggregate.state, stored, Vec::new())
                };
                printed.aggregates.push(aggregate);
                printed.states.push(Output { attribute, source });
                continue;
            }
            // What is neither a key nor an aggregate is only there where the keys determine it.
            if !item.key {
                return None;
            }
            let expr = walker.expr(node);
            // The planner would put a reference to the scan's own output into the parameters that the key needs.
            if matches!(expr, trough_pushdown::Expr::Value(_)) && (*node).type_ != pg_sys::NodeTag::T_Const {
                return None;
            }
            let collation = pg_sys::exprCollation(node);
            let column = match expr {
                trough_pushdown::Expr::Column(index) => Some((index, tables.scope().column(index)?)),
                _ => None,
            };
            if column.is_some_and(|(_, column)| column.segment) {
                printed.by_segment = true;
                printed.outputs.push(Output { attribute, source: Source::Segment });
                if shape.whole && !walk::collation(collation.into()).deterministic {
                    return None;
                }
                continue;
            }
            let key = group_key(&expr, collation.into(), !shape.whole, shipper).ok()?;
            let stored = match column {
                Some((index, column)) if column.encoding == key.encoding => tables.stored(index)?,
                _ => stored("?column?", key.type_oid, key.encoding),
            };
            printed.keys.push(key.sql);
            printed.outputs.push(Output { attribute, source: Source::Column(stored) });
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

/// The columns of a whole aggregation's answer as conditions on groups see them, with the expressions that they stand for.
/// What PostgreSQL finishes has none.
pub(super) fn answers(shape: &Shape, printed: &Printed, grouping: &trough_pushdown::Grouping) -> Answers {
    let mut answers = Answers::default();
    let mut add = |attribute: usize, column: Option<Column>| {
        if let Some(column) = column {
            answers.places.push(shape.items[attribute].expr.cast());
            answers.columns.push(Some(column));
        }
    };
    let keys = printed.outputs.iter().filter_map(|output| match &output.source {
        Source::Column(stored) => Some((output.attribute, stored)),
        _ => None,
    });
    for (place, (attribute, stored)) in keys.enumerate() {
        add(attribute, Some(derived(grouping.name(place), stored.type_oid, stored.encoding)));
    }
    for (output, columns) in printed.states.iter().zip(grouping.columns()) {
        let Source::Final(state, ..) = &output.source else { continue };
        let (type_oid, encoding) = match *state {
            StateKind::Count | StateKind::Int8 => (trough_pushdown::oid::INT8, trough_pushdown::Encoding::Integer),
            StateKind::Value { type_oid, encoding } => (type_oid, encoding),
            _ => continue,
        };
        add(output.attribute, Some(derived(grouping.name(columns[0]), type_oid, encoding)));
    }
    answers
}

/// See [`answers`].
#[derive(Default)]
pub(super) struct Answers {
    pub(super) places: Vec<*mut pg_sys::Node>,
    pub(super) columns: Vec<Option<Column>>,
}

/// How an aggregate's value is stored, for reading it and for messages.
fn argument(call: &aggregate::Call, aggregate: &Aggregate, tables: &Tables) -> Stored {
    let column = match call.args.as_slice() {
        [trough_pushdown::Expr::Column(index)] => tables.stored(*index),
        _ => None,
    };
    let name = column.as_ref().map_or("*", |column| column.name.as_str());
    match (aggregate.state, &column) {
        (StateKind::Value { encoding, .. }, Some(column)) if column.encoding == encoding => column.clone(),
        (StateKind::Value { type_oid, encoding }, _) => stored(name, type_oid, encoding),
        _ => stored(name, trough_pushdown::oid::INT8, trough_pushdown::Encoding::Integer),
    }
}

/// A value that an expression makes.
fn stored(name: &str, type_oid: u32, encoding: trough_pushdown::Encoding) -> Stored {
    Stored {
        name: name.into(),
        type_oid,
        typmod: -1,
        encoding,
        invalid_text: trough_pushdown::InvalidText::Error,
        trusted: false,
    }
}
