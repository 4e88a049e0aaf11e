//! Parameterized paths: a nested loop asks, per row of the other side, only for the segments that the row names.

use std::ffi::c_void;

use pgrx::{pg_guard, pg_sys};

use crate::{
    compat::{self, ScanPath},
    pg,
    plan::{self, Ships, Split},
    relation::Relation,
};

/// Adds a path per set of other relations whose rows name the segments to ask. Where the table's own conditions name them,
/// every join condition that SQLite can evaluate is worth a path too.
///
/// # Safety
/// The arguments are the planner's; `base` is what was kept of the relation.
pub(crate) unsafe fn add_paths(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo, base: &Relation) {
    if base.ships == Ships::Nothing {
        return;
    }
    // SAFETY: the planner's structures; parameterizations are made once per set of relations and can be compared by address.
    unsafe {
        let named = plan::keys(&base.split, &base.tables).is_finite();
        let mut infos: Vec<*mut pg_sys::ParamPathInfo> = Vec::new();
        for clause in join_clauses(root, rel) {
            let mut split = Split::default();
            split.add((*clause).clause, &base.tables, base.ships);
            let ships = split.local.is_empty();
            if !(ships && named || plan::keys(&split, &base.tables).is_finite()) {
                continue;
            }
            let outer = pg_sys::bms_union((*clause).clause_relids, (*rel).lateral_relids);
            let outer = pg_sys::bms_del_member(outer, (*rel).relid as i32);
            if outer.is_null() {
                continue;
            }
            let info = pg_sys::get_baserel_parampathinfo(root, rel, outer);
            if !infos.contains(&info) {
                infos.push(info);
            }
        }
        for info in infos {
            let mut split = base.split.clone();
            for clause in pg::list::<pg_sys::RestrictInfo>((*info).ppi_clauses) {
                split.add((*clause).clause, &base.tables, base.ships);
            }
            let segment = pg::make_list(split.segment.iter().copied());
            let inner = pg_sys::JoinType::JOIN_INNER;
            let share = pg_sys::clauselist_selectivity(root, segment, (*rel).relid as i32, inner, std::ptr::null_mut());
            let scanned = ((*rel).tuples * share).max(1.0);
            let cost = plan::scan_cost(root, rel, &split, &base.tables, scanned, (*info).ppi_rows);
            let path = ScanPath { required_outer: (*info).ppi_req_outer, ..ScanPath::default() };
            pg_sys::add_path(rel, compat::foreign_scan_path(root, rel, cost, &path));
        }
    }
}

/// The join conditions that can be evaluated in a scan of the relation: those that the query has, and those that follow
/// from its equalities.
unsafe fn join_clauses(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo) -> Vec<*mut pg_sys::RestrictInfo> {
    // SAFETY: the planner's structures; `search` outlives the calls that are given it.
    unsafe {
        let mut clauses: Vec<_> = pg::list::<pg_sys::RestrictInfo>((*rel).joininfo)
            .filter(|clause| pg_sys::join_clause_is_movable_to(*clause, rel))
            .collect();
        if !(*rel).has_eclass_joins {
            return clauses;
        }
        let mut search = Search { current: std::ptr::null_mut(), done: Vec::new() };
        loop {
            search.current = std::ptr::null_mut();
            let implied = pg_sys::generate_implied_equalities_for_column(
                root,
                rel,
                Some(is_next),
                (&raw mut search).cast(),
                (*rel).lateral_referencers,
            );
            if search.current.is_null() {
                return clauses;
            }
            clauses.extend(
                pg::list::<pg_sys::RestrictInfo>(implied)
                    .filter(|clause| pg_sys::join_clause_is_movable_to(*clause, rel)),
            );
            search.done.push(search.current);
        }
    }
}

/// Finds the expressions of the relation that the query holds equal to others, one per call.
struct Search {
    current: *mut pg_sys::Expr,
    done: Vec<*mut pg_sys::Expr>,
}

/// Whether a member of an equivalence class is the expression that is looked for, or the next one.
#[pg_guard]
unsafe extern "C-unwind" fn is_next(
    _root: *mut pg_sys::PlannerInfo,
    _rel: *mut pg_sys::RelOptInfo,
    _class: *mut pg_sys::EquivalenceClass,
    member: *mut pg_sys::EquivalenceMember,
    search: *mut c_void,
) -> bool {
    // SAFETY: `search` is the one of join_clauses; `equal` compares any two nodes.
    unsafe {
        let search = &mut *search.cast::<Search>();
        let expr = (*member).em_expr;
        let same = |other: *mut pg_sys::Expr| pg_sys::equal(other.cast(), expr.cast());
        if !search.current.is_null() {
            return same(search.current);
        }
        if search.done.iter().any(|done| same(*done)) {
            return false;
        }
        search.current = expr;
        true
    }
}
