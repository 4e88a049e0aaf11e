//! Planning of what stands on top of scans, stage by stage: aggregations, as a Finalize Aggregate over a scan that gives
//! transition states or, where the segment column is grouped by, whole; and DISTINCT.

mod distinct;
mod group;
mod plan;
mod print;
mod shape;

use pgrx::{pg_guard, pg_sys};

use crate::{
    guc, order, pg,
    plan::{self as base, Planning},
    relation::Relation,
};

pub(crate) use plan::plan;
pub(crate) use shape::Shape;

/// What is kept of an upper relation: an aggregation that can be shipped.
pub(crate) struct Upper {
    /// What is aggregated.
    pub(crate) relation: Relation,
    /// The ways in which it can be; a path's `fdw_private` begins with the index of its own.
    pub(crate) shapes: Vec<Shape>,
}

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
        if !(*output).fdw_private.is_null() {
            return;
        }
        match (stage, base::planning(input)) {
            (pg_sys::UpperRelationKind::UPPERREL_ORDERED, Some(Planning::Scan(_))) => order::note_sorted(input, output),
            (pg_sys::UpperRelationKind::UPPERREL_FINAL, Some(Planning::Sorted(scan))) => {
                order::add_limited_paths(root, *scan, output, extra.cast());
            }
            (pg_sys::UpperRelationKind::UPPERREL_FINAL, Some(Planning::Scan(_))) => {
                order::add_limited_paths(root, input, output, extra.cast());
            }
            _ => {}
        }
        let scan = match base::planning(input) {
            Some(Planning::Scan(relation)) if relation.is_exact() && !has_pseudoconstants(root, input) => {
                Some(relation)
            }
            _ => None,
        };
        let aggregated = scan.filter(|_| guc::AGGREGATES.get());
        match (stage, aggregated) {
            (pg_sys::UpperRelationKind::UPPERREL_GROUP_AGG, Some(relation)) => {
                group::add_paths(root, relation, input, output, extra.cast());
            }
            (pg_sys::UpperRelationKind::UPPERREL_PARTIAL_GROUP_AGG, Some(relation)) => {
                group::add_partial_paths(root, relation, input, output, extra.cast());
            }
            (pg_sys::UpperRelationKind::UPPERREL_DISTINCT, Some(relation)) => {
                distinct::add_paths(root, relation, input, output);
            }
            _ => {}
        }
    }
}

/// Whether conditions without columns are checked around the scans below, where nothing on top may be shipped.
pub(crate) unsafe fn has_pseudoconstants(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo) -> bool {
    unsafe {
        (*root).hasPseudoConstantQuals
            && ((*rel).reloptkind != pg_sys::RelOptKind::RELOPT_BASEREL
                || pg::list::<pg_sys::RestrictInfo>((*rel).baserestrictinfo).any(|info| (*info).pseudoconstant))
    }
}
