//! GROUP BY: the paths of an aggregation over a relation of ours.

use pgrx::pg_sys;
use trough_pushdown::aggregate;

use crate::{
    compat::{self, Cost},
    memory, pg,
    plan::{self, Planning},
    relation::Relation,
};

use super::{
    Shape, Upper,
    shape::{self, keys_target},
};

/// What the planner asks for.
struct Group<'a> {
    root: *mut pg_sys::PlannerInfo,
    base: &'a Relation,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut pg_sys::GroupPathExtraData,
    clause: *mut pg_sys::List,
    having: *mut pg_sys::List,
    groups: f64,
}

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
        let clause = compat::group_clause(root);
        let having = (*extra).havingQual.cast::<pg_sys::List>();
        let target = (*output).reltarget;

        let whole = Shape::whole(target, clause, having, base);
        let parts_target = parts_target(root, target, clause, having);
        let decomposes = !(*root).hasNonPartialAggs && !(*root).hasNonSerialAggs;
        let parts = if decomposes { Shape::in_parts(parts_target, base) } else { None };
        let rows = if decomposes || whole.is_some() { None } else { rows(root, target, clause, having, base) };
        let (has_whole, has_parts) = (whole.is_some(), parts.is_some());
        let (rows, rows_target) = rows.unzip();
        // The whole shape, if there is one, stands first.
        let shapes: Vec<_> = whole.into_iter().chain(parts).chain(rows).collect();
        if shapes.is_empty() {
            return;
        }
        let groups = groups(root, input, clause, (*extra).targetList);
        (*output).fdw_private =
            memory::own(pg_sys::CurrentMemoryContext, Planning::Upper(Upper { relation: base.clone(), shapes })).cast();

        let group = Group { root, base, input, output, extra, clause, having, groups };
        if has_whole {
            group.add_whole();
        }
        if has_parts {
            let sub = || scan_path(root, base, input, output, parts_target, answered(groups, clause), has_whole.into());
            group.add_aggregates(&sub, pg_sys::AggSplit::AGGSPLIT_FINAL_DESERIAL);
        }
        if let Some(target) = rows_target {
            // Nobody knows how many different rows there are; they are at least as many as the groups.
            let answered = answered(groups, clause).max((*input).rows / 10.0);
            let sub = || scan_path(root, base, input, output, target, answered, 0);
            group.add_aggregates(&sub, pg_sys::AggSplit::AGGSPLIT_SIMPLE);
        }
    }
}

impl Group<'_> {
    /// Groups that are computed where they lie.
    unsafe fn add_whole(&self) {
        // SAFETY: the planner's structures.
        unsafe {
            let inner = pg_sys::JoinType::JOIN_INNER;
            let share = pg_sys::clauselist_selectivity(self.root, self.having, 0, inner, std::ptr::null_mut());
            let target = (*self.output).reltarget;
            let rows = (self.groups * share).max(1.0);
            pg_sys::add_path(self.output, scan_path(self.root, self.base, self.input, self.output, target, rows, 0));
        }
    }

    /// Agg nodes over a scan.
    unsafe fn add_aggregates(&self, sub: &dyn Fn() -> *mut pg_sys::Path, split: pg_sys::AggSplit::Type) {
        // SAFETY: the planner's structures.
        unsafe {
            let (root, output) = (self.root, self.output);
            let costs = compat::aggregate_costs(root, split);
            let aggregate = |sub: *mut pg_sys::Path, strategy| {
                let target = (*output).reltarget;
                let path = pg_sys::create_agg_path(
                    root,
                    output,
                    sub,
                    target,
                    strategy,
                    split,
                    self.clause,
                    self.having,
                    &costs,
                    self.groups,
                );
                pg_sys::add_path(output, path.cast());
            };
            // Also where nothing is grouped by: from 16 on, aggregates with DISTINCT may count on their input's order.
            let sorted = || match (*root).group_pathkeys.is_null() {
                true => sub(),
                false => pg_sys::create_sort_path(root, output, sub(), (*root).group_pathkeys, -1.0).cast(),
            };
            if self.clause.is_null() {
                aggregate(sorted(), pg_sys::AggStrategy::AGG_PLAIN);
                return;
            }
            let flags = (*self.extra).flags as u32;
            if flags & pg_sys::GROUPING_CAN_USE_HASH != 0 && pg_sys::grouping_is_hashable(self.clause) {
                aggregate(sub(), pg_sys::AggStrategy::AGG_HASHED);
            }
            if flags & pg_sys::GROUPING_CAN_USE_SORT != 0 && !(*root).group_pathkeys.is_null() {
                aggregate(sorted(), pg_sys::AggStrategy::AGG_SORTED);
            }
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
        let Some(shape) = Shape::in_parts(target, base) else { return };
        let group_clause = compat::group_clause(root);
        let groups = groups(root, input, group_clause, (*extra).targetList);
        let upper = Upper { relation: base.clone(), shapes: vec![shape] };
        (*output).fdw_private = memory::own(pg_sys::CurrentMemoryContext, Planning::Upper(upper)).cast();
        let path = scan_path(root, base, input, output, target, answered(groups, group_clause), 0);
        pg_sys::add_path(output, path);
    }
}

/// What a partial aggregation gives: group keys, then transition states.
unsafe fn parts_target(
    root: *mut pg_sys::PlannerInfo,
    grouping: *mut pg_sys::PathTarget,
    group_clause: *mut pg_sys::List,
    having: *mut pg_sys::List,
) -> *mut pg_sys::PathTarget {
    // SAFETY: the planner's structures; the Aggrefs are copied before they are marked.
    unsafe {
        let target = keys_target(grouping, group_clause);
        for part in shape::parts(target, grouping, having) {
            if !pg::is_a(part.cast(), pg_sys::NodeTag::T_Aggref) {
                pg_sys::add_column_to_pathtarget(target, part, 0);
                continue;
            }
            let copy = pg_sys::palloc(size_of::<pg_sys::Aggref>()).cast::<pg_sys::Aggref>();
            std::ptr::copy_nonoverlapping(part.cast::<pg_sys::Aggref>(), copy, 1);
            pg_sys::mark_partial_aggref(copy, pg_sys::AggSplit::AGGSPLIT_INITIAL_SERIAL);
            pg_sys::add_column_to_pathtarget(target, copy.cast(), 0);
        }
        pg_sys::set_pathtarget_cost_width(root, target)
    }
}

/// The different rows of keys and arguments, if that is all that the aggregates look at: those with DISTINCT, and those to
/// which it makes no difference.
unsafe fn rows(
    root: *mut pg_sys::PlannerInfo,
    grouping: *mut pg_sys::PathTarget,
    clause: *mut pg_sys::List,
    having: *mut pg_sys::List,
    base: &Relation,
) -> Option<(Shape, *mut pg_sys::PathTarget)> {
    // SAFETY: the planner's structures.
    unsafe {
        let target = keys_target(grouping, clause);
        let keys = pg::list_len((*target).exprs);
        for part in shape::parts(target, grouping, having) {
            if !pg::is_a(part.cast(), pg_sys::NodeTag::T_Aggref) {
                return None;
            }
            let aggref = part.cast::<pg_sys::Aggref>();
            let ignores = aggregate::shape((*aggref).aggfnoid.into()).is_some_and(|s| s.ignores_duplicates());
            if (*aggref).aggkind != b'n' as i8 || (*aggref).aggdistinct.is_null() && !ignores {
                return None;
            }
            let args = pg::list::<pg_sys::TargetEntry>((*aggref).args).map(|entry| (*entry).expr);
            for expr in args.chain([(*aggref).aggfilter]) {
                if expr.is_null() {
                    continue;
                }
                let mut columns = Vec::new();
                shape::collect(expr.cast(), &[], &mut columns);
                // An argument has fewer values than the columns that it reads.
                let itself = !columns.is_empty() && Shape::rows([(expr, 0)], false, base).is_some();
                for column in if itself { vec![expr] } else { columns } {
                    let known = |known: *mut pg_sys::Expr| pg_sys::equal(known.cast(), column.cast());
                    if !pg::list::<pg_sys::Expr>((*target).exprs).any(known) {
                        pg_sys::add_column_to_pathtarget(target, column, 0);
                    }
                }
            }
        }
        let exprs = pg::list::<pg_sys::Expr>((*target).exprs).enumerate();
        let items: Vec<_> =
            exprs.map(|(i, expr)| (expr, if i < keys { shape::sortref(target, i) } else { 0 })).collect();
        let shape = Shape::rows(items, false, base)?;
        Some((shape, pg_sys::set_pathtarget_cost_width(root, target)))
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
///
/// # Safety
/// The arguments are the planner's.
pub(super) unsafe fn scan_path(
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
