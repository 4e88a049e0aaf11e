//! The paths of foreign scans, whose makers take more arguments with each version.

use pgrx::pg_sys;

/// What a scan's path says beyond its cost.
#[derive(Clone, Copy)]
pub(crate) struct ScanPath {
    /// What it gives; null for what its relation gives.
    pub(crate) target: *mut pg_sys::PathTarget,
    /// What it is sorted by.
    pub(crate) pathkeys: *mut pg_sys::List,
    /// The relations that its parameters come from.
    pub(crate) required_outer: pg_sys::Relids,
    /// Our own words.
    pub(crate) private: *mut pg_sys::List,
}

/// The path of a base relation's scan.
///
/// # Safety
/// The arguments are the planner's.
pub(crate) unsafe fn foreign_scan_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    cost: Cost,
    path: &ScanPath,
) -> *mut pg_sys::Path {
    // SAFETY: as for the caller; NIL and null stand for "none".
    unsafe {
        pg_sys::create_foreignscan_path(
            root,
            rel,
            path.target,
            cost.rows,
            #[cfg(feature = "pg18")]
            0,
            cost.startup,
            cost.total,
            path.pathkeys,
            path.required_outer,
            std::ptr::null_mut(),
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            std::ptr::null_mut(),
            path.private,
        )
        .cast()
    }
}

/// The path of a join's scan.
///
/// # Safety
/// The arguments are the planner's.
pub(crate) unsafe fn foreign_join_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    cost: Cost,
    restrictions: *mut pg_sys::List,
) -> *mut pg_sys::Path {
    let nil = std::ptr::null_mut();
    #[cfg(not(any(feature = "pg17", feature = "pg18")))]
    let _ = restrictions;
    // SAFETY: as for the caller; NIL and null stand for "none".
    unsafe {
        pg_sys::create_foreign_join_path(
            root,
            rel,
            std::ptr::null_mut(),
            cost.rows,
            #[cfg(feature = "pg18")]
            0,
            cost.startup,
            cost.total,
            nil,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            restrictions,
            nil,
        )
        .cast()
    }
}

/// The path of an upper relation's scan.
///
/// # Safety
/// The arguments are the planner's.
pub(crate) unsafe fn foreign_upper_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    target: *mut pg_sys::PathTarget,
    cost: Cost,
    private: *mut pg_sys::List,
) -> *mut pg_sys::Path {
    let nil = std::ptr::null_mut();
    // SAFETY: as for the caller; NIL and null stand for "none".
    unsafe {
        pg_sys::create_foreign_upper_path(
            root,
            rel,
            target,
            cost.rows,
            #[cfg(feature = "pg18")]
            0,
            cost.startup,
            cost.total,
            nil,
            std::ptr::null_mut(),
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            nil,
            private,
        )
        .cast()
    }
}

/// A path's estimates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Rows.
    pub(crate) rows: f64,
    /// Before the first row.
    pub(crate) startup: f64,
    /// To the last.
    pub(crate) total: f64,
}
