//! Planning of aggregations over one foreign table: as a Finalize Aggregate over a scan that gives transition states, or,
//! where the segment column is grouped by, whole.

use pgrx::{pg_guard, pg_sys};
use trough_pushdown::{
    Aggregate, Shipper, StateKind,
    aggregate::{self, group_key},
    statement,
};

use crate::{
    compat::{self, Cost},
    guc, memory, pg,
    plan::{self, Planning},
    plandata::{Finish, Output, ScanPlan, Source, Stored},
    relation::{Relation, Tables},
    walk::{self, Walker},
};

/// An aggregation that can be shipped.
pub(crate) struct Upper {
    /// What is aggregated.
    relation: Relation,
    /// In parts, for PostgreSQL to finish.
    partial: Option<Shape>,
    /// Whole, because no group spans segments.
    whole: Option<Shape>,
}

/// The columns of the scan's tuple: group keys and aggregates.
#[derive(Clone)]
struct Shape {
    items: Vec<Item>,
}

#[derive(Clone)]
struct Item {
    expr: *mut pg_sys::Expr,
    sortref: pg_sys::Index,
}

/// Which of a relation's two shapes a path stands for; in the path's `fdw_private`.
const PARTIAL: &str = "partial";
const WHOLE: &str = "whole";

/// `GetForeignUpperPaths`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn get_foreign_upper_paths(
    root: *mut pg_sys::PlannerInfo,
    stage: pg_sys::UpperRelationKind::Type,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut std::ffi::c_void,
) {
    // SAFETY: the planner's structures; `extra` is what the stage says.
    unsafe {
        if stage != pg_sys::UpperRelationKind::UPPERREL_GROUP_AGG || !(*output).fdw_private.is_null() {
            return;
        }
        let Some(Planning::Scan(base)) = plan::planning(input) else { return };
        let parse = (*root).parse;
        if !base.is_exact()
            || !guc::AGGREGATES.get()
            || !(*parse).groupingSets.is_null()
            || (*input).reloptkind != pg_sys::RelOptKind::RELOPT_BASEREL
            || has_pseudoconstants(input)
        {
            return;
        }
        group_paths(root, base, input, output, extra.cast());
    }
}

unsafe fn has_pseudoconstants(rel: *mut pg_sys::RelOptInfo) -> bool {
    unsafe { pg::list::<pg_sys::RestrictInfo>((*rel).baserestrictinfo).any(|info| (*info).pseudoconstant) }
}

unsafe fn group_paths(
    root: *mut pg_sys::PlannerInfo,
    base: &Relation,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut pg_sys::GroupPathExtraData,
) {
    // SAFETY: the planner's structures.
    unsafe {
        let group_clause = compat::group_clause(root);
        let having = (*extra).havingQual;
        let target = (*output).reltarget;

        let partial_target = partial_target(root, target, group_clause, having);
        let decomposes = !(*root).hasNonPartialAggs && !(*root).hasNonSerialAggs;
        let partial = decomposes.then(|| shape_of(partial_target)).filter(|shape| ships(shape, base, false).is_some());
        let whole = if having.is_null() { whole_shape(target, group_clause, base) } else { None };
        if partial.is_none() && whole.is_none() {
            return;
        }

        let mut group_exprs = std::ptr::null_mut();
        for clause in pg::list::<pg_sys::SortGroupClause>(group_clause) {
            let expr = pg_sys::get_sortgroupclause_expr(clause, (*root).processed_tlist);
            group_exprs = pg_sys::lappend(group_exprs, expr.cast());
        }
        let groups = if group_exprs.is_null() {
            1.0
        } else {
            pg_sys::estimate_num_groups(root, group_exprs, (*input).rows, std::ptr::null_mut(), std::ptr::null_mut())
        };

        let upper = Upper { relation: base.clone(), partial, whole };
        let (has_partial, has_whole) = (upper.partial.is_some(), upper.whole.is_some());
        (*output).fdw_private = memory::own(pg_sys::CurrentMemoryContext, Planning::Upper(upper)).cast();

        let scan = |rows: f64| {
            // Aggregating where the rows are always beats bringing the rows here.
            let rows = rows.min((*input).rows.max(1.0));
            let total = plan::STARTUP + 0.9 * (base.scanned * plan::SCANNED + rows * plan::FETCHED);
            Cost { rows, startup: plan::STARTUP, total }
        };
        let tag = |name: &str| pg::make_list([pg::string_node(name)]);
        if has_whole {
            let path = compat::foreign_upper_path(root, output, target, scan(groups), tag(WHOLE));
            pg_sys::add_path(output, path);
        }
        if !has_partial {
            return;
        }
        // Each worker request answers with every group once.
        let rows = if group_exprs.is_null() { 4.0 } else { groups * 4.0 };
        let sub = || compat::foreign_upper_path(root, output, partial_target, scan(rows), tag(PARTIAL));
        let costs = compat::final_aggregate_costs(root);
        let split = pg_sys::AggSplit::AGGSPLIT_FINAL_DESERIAL;
        let finalize = |sub: *mut pg_sys::Path, strategy| {
            let path = pg_sys::create_agg_path(
                root,
                output,
                sub,
                target,
                strategy,
                split,
                group_clause,
                having.cast(),
                &costs,
                groups,
            );
            pg_sys::add_path(output, path.cast());
        };
        if group_clause.is_null() {
            finalize(sub(), pg_sys::AggStrategy::AGG_PLAIN);
            return;
        }
        if (*extra).flags & pg_sys::GROUPING_CAN_USE_HASH as i32 != 0 && pg_sys::grouping_is_hashable(group_clause) {
            finalize(sub(), pg_sys::AggStrategy::AGG_HASHED);
        }
        if (*extra).flags & pg_sys::GROUPING_CAN_USE_SORT as i32 != 0 && !(*root).group_pathkeys.is_null() {
            let sorted = pg_sys::create_sort_path(root, output, sub(), (*root).group_pathkeys, -1.0);
            finalize(sorted.cast(), pg_sys::AggStrategy::AGG_SORTED);
        }
    }
}

/// What a partial aggregation gives: group keys, then transition states. As the planner's own
/// `make_partial_grouping_target`.
unsafe fn partial_target(
    root: *mut pg_sys::PlannerInfo,
    grouping: *mut pg_sys::PathTarget,
    group_clause: *mut pg_sys::List,
    having: *mut pg_sys::Node,
) -> *mut pg_sys::PathTarget {
    // SAFETY: the planner's structures; the Aggrefs are copied before they are marked.
    unsafe {
        let target = pg_sys::create_empty_pathtarget();
        let mut others = std::ptr::null_mut();
        for (i, expr) in pg::list::<pg_sys::Expr>((*grouping).exprs).enumerate() {
            let sortref = key_ref(grouping, i, group_clause);
            if sortref != 0 {
                pg_sys::add_column_to_pathtarget(target, expr, sortref);
            } else {
                others = pg_sys::lappend(others, expr.cast());
            }
        }
        if !having.is_null() {
            others = pg_sys::lappend(others, having.cast());
        }
        let flags = pg_sys::PVC_INCLUDE_AGGREGATES | pg_sys::PVC_RECURSE_WINDOWFUNCS | pg_sys::PVC_INCLUDE_PLACEHOLDERS;
        pg_sys::add_new_columns_to_pathtarget(target, pg_sys::pull_var_clause(others.cast(), flags as i32));
        for i in 0..pg::list_len((*target).exprs) {
            let cell = (*(*target).exprs).elements.add(i);
            let node = (*cell).ptr_value.cast::<pg_sys::Node>();
            if pg::tag(node) == pg_sys::NodeTag::T_Aggref {
                let copy = pg_sys::palloc(size_of::<pg_sys::Aggref>()).cast::<pg_sys::Aggref>();
                std::ptr::copy_nonoverlapping(node.cast::<pg_sys::Aggref>(), copy, 1);
                pg_sys::mark_partial_aggref(copy, pg_sys::AggSplit::AGGSPLIT_INITIAL_SERIAL);
                (*cell).ptr_value = copy.cast();
            }
        }
        pg_sys::set_pathtarget_cost_width(root, target)
    }
}

unsafe fn sortref(target: *mut pg_sys::PathTarget, index: usize) -> pg_sys::Index {
    unsafe { if (*target).sortgrouprefs.is_null() { 0 } else { *(*target).sortgrouprefs.add(index) } }
}

/// The reference of a column that is grouped by; 0 for others.
unsafe fn key_ref(target: *mut pg_sys::PathTarget, index: usize, group_clause: *mut pg_sys::List) -> pg_sys::Index {
    unsafe {
        let sortref = sortref(target, index);
        let grouped = sortref != 0
            && !group_clause.is_null()
            && !pg_sys::get_sortgroupref_clause_noerr(sortref, group_clause).is_null();
        if grouped { sortref } else { 0 }
    }
}

unsafe fn shape_of(target: *mut pg_sys::PathTarget) -> Shape {
    unsafe {
        let items = pg::list::<pg_sys::Expr>((*target).exprs)
            .enumerate()
            .map(|(i, expr)| Item { expr, sortref: sortref(target, i) })
            .collect();
        Shape { items }
    }
}

/// The columns of a whole aggregation: the segment column is among the keys, and everything else is made of keys and
/// aggregates.
unsafe fn whole_shape(
    target: *mut pg_sys::PathTarget,
    group_clause: *mut pg_sys::List,
    base: &Relation,
) -> Option<Shape> {
    // SAFETY: the planner's structures.
    unsafe {
        let mut shape = Shape { items: Vec::new() };
        let flags = pg_sys::PVC_INCLUDE_AGGREGATES | pg_sys::PVC_RECURSE_WINDOWFUNCS | pg_sys::PVC_INCLUDE_PLACEHOLDERS;
        let mut by_segment = false;
        for (i, expr) in pg::list::<pg_sys::Expr>((*target).exprs).enumerate() {
            let sortref = key_ref(target, i, group_clause);
            let parts: Vec<_> = if sortref != 0 {
                vec![Item { expr, sortref }]
            } else {
                let parts = pg_sys::pull_var_clause(expr.cast(), flags as i32);
                pg::list::<pg_sys::Expr>(parts).map(|expr| Item { expr, sortref: 0 }).collect()
            };
            for item in parts {
                if item.sortref != 0 && pg::is_a(item.expr.cast(), pg_sys::NodeTag::T_Var) {
                    let var = item.expr.cast::<pg_sys::Var>();
                    by_segment |= base.tables.is_segment(&*var);
                }
                let known = |known: &Item| pg_sys::equal(known.expr.cast(), item.expr.cast());
                match shape.items.iter_mut().find(|i| known(i)) {
                    Some(known) => known.sortref = known.sortref.max(item.sortref),
                    None => shape.items.push(item),
                }
            }
        }
        (by_segment && ships(&shape, base, true).is_some()).then_some(shape)
    }
}

/// The printed columns of a shape.
#[derive(Default)]
struct Printed {
    keys: Vec<String>,
    aggregates: Vec<Aggregate>,
    /// What the keys make.
    outputs: Vec<Output>,
    /// What the aggregates make, in their order.
    states: Vec<Output>,
    by_segment: bool,
}

/// Prints a shape, if all of it can be shipped.
unsafe fn print(
    shape: &Shape,
    tables: &Tables,
    whole: bool,
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
                let source = if whole {
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
                if whole && !walk::collation(collation.into()).deterministic {
                    return None;
                }
                continue;
            }
            printed.keys.push(group_key(&expr, collation.into(), !whole, shipper).ok()?);
            let source = Source::Column(tables.stored(index)?);
            printed.outputs.push(Output { attribute, source });
        }
        Some(printed)
    }
}

unsafe fn ships(shape: &Shape, base: &Relation, whole: bool) -> Option<()> {
    let mut walker = Walker::new(&base.tables);
    let mut shipper = Shipper::new(base.tables.scope(), &walk::collation);
    unsafe { print(shape, &base.tables, whole, &mut walker, &mut shipper).map(drop) }
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

/// The plan of an aggregating scan.
///
/// # Safety
/// The arguments are the planner's, `upper` what was kept of the relation.
pub(crate) unsafe fn plan(
    upper: &Upper,
    path: *mut pg_sys::ForeignPath,
    tlist: *mut pg_sys::List,
    outer_plan: *mut pg_sys::Plan,
) -> *mut pg_sys::ForeignScan {
    // SAFETY: the planner's structures.
    unsafe {
        let tag = pg::list::<pg_sys::Node>((*path).fdw_private).next().expect("paths carry their shape's name");
        let whole = compat::string_value(tag) == WHOLE;
        let shape = if whole { &upper.whole } else { &upper.partial };
        let shape = shape.as_ref().expect("a path is made for a shape that ships");
        let relation = &upper.relation;
        let tables = &relation.tables;
        let mut walker = Walker::new(tables);
        let mut shipper = Shipper::new(tables.scope(), &walk::collation);
        // Printed first, as in the SELECT list, so that parameters number from the left.
        let printed = print(shape, tables, whole, &mut walker, &mut shipper)
            .expect("the shape was printed when the path was made");
        let from = relation.from(&mut walker, &mut shipper);
        let (conditions, keys) = plan::print_conditions(&relation.split, tables, true, &mut walker, &mut shipper);
        let grouped = statement::grouped(&from, &printed.keys, &printed.aggregates, &conditions, printed.by_segment);
        let mut outputs = printed.outputs;
        for (mut output, columns) in printed.states.into_iter().zip(grouped.columns) {
            if let Source::State(_, _, places) | Source::Final(_, _, _, places) = &mut output.source {
                *places = columns;
            }
            outputs.push(output);
        }
        let slots = walker.into_slots();
        let names: Vec<_> = tables.members().iter().map(|m| pg::relation_name(m.table.relid)).collect();
        let scan = ScanPlan {
            relations: Some(format!("Aggregate on ({})", names.join(", "))),
            map: grouped.statement.map,
            reduce: grouped.statement.reduce,
            params: shipper.into_params(),
            outputs,
            width: grouped.width,
            slots: slots.len(),
            keys,
            ..ScanPlan::of(tables)
        };
        let mut scan_tlist = std::ptr::null_mut();
        for (i, item) in shape.items.iter().enumerate() {
            let entry = pg_sys::makeTargetEntry(
                pg_sys::copyObjectImpl(item.expr.cast()).cast(),
                i as i16 + 1,
                std::ptr::null_mut(),
                false,
            );
            (*entry).ressortgroupref = item.sortref;
            scan_tlist = pg_sys::lappend(scan_tlist, entry.cast());
        }
        let exprs = plan::expressions(&slots, &relation.split.segment, tables);
        let nil = std::ptr::null_mut();
        pg_sys::make_foreignscan(tlist, nil, 0, exprs, scan.to_list(), scan_tlist, nil, outer_plan)
    }
}
