//! GROUP BY: the paths of an aggregation over a relation of ours.

use pgrx::pg_sys;

use crate::{
    compat::{self, Cost},
    memory, pg,
    plan::{self, Planning},
    relation::Relation,
};

use super::{Item, Shape, Upper, print};

/// Adds the paths of the stage UPPERREL_GROUP_AGG.
///
/// # Safety
/// The arguments are the planner's, `extra` the stage's.
pub(super) unsafe fn add_paths(
    root: *mut pg_sys::PlannerInfo,
    base: &Relation,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut pg_sys::GroupPathExtraData,
) {
    // SAFETY: the planner's structures.
    unsafe {
        if !(*(*root).parse).groupingSets.is_null() {
            return;
        }
        let group_clause = compat::group_clause(root);
        let having = (*extra).havingQual;
        let target = (*output).reltarget;

        let partial_target = partial_target(root, target, group_clause, having);
        let decomposes = !(*root).hasNonPartialAggs && !(*root).hasNonSerialAggs;
        let partial = decomposes.then(|| shape_of(partial_target)).filter(|shape| print::ships(shape, base));
        let whole = if having.is_null() { whole_shape(target, group_clause, base) } else { None };
        let (has_partial, has_whole) = (partial.is_some(), whole.is_some());
        if !has_partial && !has_whole {
            return;
        }

        let groups = groups(root, input, group_clause, (*extra).targetList);
        // The whole shape, if there is one, stands first.
        let upper = Upper { relation: base.clone(), shapes: whole.into_iter().chain(partial).collect() };
        (*output).fdw_private = memory::own(pg_sys::CurrentMemoryContext, Planning::Upper(upper)).cast();

        if has_whole {
            let path = scan_path(root, base, input, output, target, groups, 0);
            pg_sys::add_path(output, path);
        }
        if !has_partial {
            return;
        }
        let answered = answered(groups, group_clause);
        let sub = || scan_path(root, base, input, output, partial_target, answered, has_whole.into());
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

/// Adds the paths of the stage UPPERREL_PARTIAL_GROUP_AGG: of one partition of a table, aggregated in parts.
///
/// # Safety
/// The arguments are the planner's, `extra` the stage's.
pub(super) unsafe fn add_partial_paths(
    root: *mut pg_sys::PlannerInfo,
    base: &Relation,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut pg_sys::GroupPathExtraData,
) {
    // SAFETY: the planner's structures.
    unsafe {
        let decomposes = !(*root).hasNonPartialAggs && !(*root).hasNonSerialAggs;
        if !(*(*root).parse).groupingSets.is_null() || !decomposes {
            return;
        }
        let target = (*output).reltarget;
        let shape = shape_of(target);
        if !print::ships(&shape, base) {
            return;
        }
        let group_clause = compat::group_clause(root);
        let groups = groups(root, input, group_clause, (*extra).targetList);
        let upper = Upper { relation: base.clone(), shapes: vec![shape] };
        (*output).fdw_private = memory::own(pg_sys::CurrentMemoryContext, Planning::Upper(upper)).cast();
        let path = scan_path(root, base, input, output, target, answered(groups, group_clause), 0);
        pg_sys::add_path(output, path);
    }
}

/// How many groups are expected.
unsafe fn groups(
    root: *mut pg_sys::PlannerInfo,
    input: *mut pg_sys::RelOptInfo,
    group_clause: *mut pg_sys::List,
    target_list: *mut pg_sys::List,
) -> f64 {
    unsafe {
        let keys = pg::list::<pg_sys::SortGroupClause>(group_clause)
            .map(|clause| pg_sys::get_sortgroupclause_expr(clause, target_list));
        let keys = pg::make_list(keys);
        if keys.is_null() {
            return 1.0;
        }
        pg_sys::estimate_num_groups(root, keys, (*input).rows, std::ptr::null_mut(), std::ptr::null_mut())
    }
}

/// How many rows come of so many groups: each request to a worker answers with every group once.
fn answered(groups: f64, group_clause: *mut pg_sys::List) -> f64 {
    if group_clause.is_null() { 4.0 } else { groups * 4.0 }
}

/// The path of an aggregating scan of a shape that gives so many rows.
unsafe fn scan_path(
    root: *mut pg_sys::PlannerInfo,
    base: &Relation,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    target: *mut pg_sys::PathTarget,
    rows: f64,
    shape: usize,
) -> *mut pg_sys::Path {
    // SAFETY: the planner's structures.
    unsafe {
        // Aggregating where the rows are always beats bringing the rows here.
        let rows = rows.min((*input).rows.max(1.0));
        let total = plan::STARTUP + 0.9 * (base.scanned * plan::SCANNED + rows * plan::FETCHED);
        let cost = Cost { rows, startup: plan::STARTUP, total };
        let tag = pg::make_list([pg::string_node(&shape.to_string())]);
        compat::foreign_upper_path(root, output, target, cost, tag)
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
        Shape { items, whole: false }
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
        let mut shape = Shape { items: Vec::new(), whole: true };
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
        (by_segment && print::ships(&shape, base)).then_some(shape)
    }
}
