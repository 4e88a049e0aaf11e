//! SELECT DISTINCT: different rows per segment and per worker, and PostgreSQL's own Unique on top.

use pgrx::pg_sys;

use crate::{compat, memory, pg, plan::Planning, relation::Relation};

use super::{Shape, Upper, group::scan_path, shape::sortref};

/// Adds the paths of the stage UPPERREL_DISTINCT.
///
/// # Safety
/// The arguments are the planner's.
pub(super) unsafe fn add_paths(
    root: *mut pg_sys::PlannerInfo,
    base: &Relation,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: the planner's structures.
    unsafe {
        let parse = (*root).parse;
        let clause = compat::distinct_clause(root);
        if (*parse).hasDistinctOn || clause.is_null() || (*parse).hasTargetSRFs || (*parse).hasWindowFuncs {
            return;
        }
        let target = (*root).upper_targets[pg_sys::UpperRelationKind::UPPERREL_DISTINCT as usize];
        if target.is_null() {
            return;
        }
        let exprs: Vec<_> =
            pg::list::<pg_sys::Expr>((*target).exprs).enumerate().map(|(i, expr)| (expr, sortref(target, i))).collect();
        let whole = Shape::rows(exprs.iter().copied(), true, base);
        let is_whole = whole.is_some();
        let Some(shape) = whole.or_else(|| Shape::rows(exprs.iter().copied(), false, base)) else { return };
        let upper = Upper { relation: base.clone(), shapes: vec![shape] };
        (*output).fdw_private = memory::own(pg_sys::CurrentMemoryContext, Planning::Upper(upper)).cast();

        let keys = pg::make_list(exprs.iter().map(|(expr, _)| *expr));
        let null = std::ptr::null_mut();
        let groups = pg_sys::estimate_num_groups(root, keys, (*input).rows, null, std::ptr::null_mut());
        if is_whole {
            pg_sys::add_path(output, scan_path(root, base, input, output, target, groups, 0));
            return;
        }
        let sub = || scan_path(root, base, input, output, target, groups * 4.0, 0);
        if pg_sys::grouping_is_hashable(clause) {
            let path = pg_sys::create_agg_path(
                root,
                output,
                sub(),
                target,
                pg_sys::AggStrategy::AGG_HASHED,
                pg_sys::AggSplit::AGGSPLIT_SIMPLE,
                clause,
                std::ptr::null_mut(),
                std::ptr::null(),
                groups,
            );
            pg_sys::add_path(output, path.cast());
        }
        let pathkeys = (*root).distinct_pathkeys;
        if pg_sys::grouping_is_sortable(clause) && !pathkeys.is_null() {
            // Sorted as ORDER BY wants it, where that is longer.
            let wanted = if pg::list_len((*root).sort_pathkeys) > pg::list_len(pathkeys) {
                (*root).sort_pathkeys
            } else {
                pathkeys
            };
            let sorted = pg_sys::create_sort_path(root, output, sub(), wanted, -1.0);
            let path =
                pg_sys::create_upper_unique_path(root, output, sorted.cast(), pg::list_len(pathkeys) as i32, groups);
            pg_sys::add_path(output, path.cast());
        }
    }
}
