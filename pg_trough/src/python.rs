//! Tables of which a segment lives on workers of the Python trough alone. These run plain SQLite: conditions and aggregates, which
//! are shipped with functions of ours, are evaluated here then, on plain rows of the segments that are asked.
//!
//! A plan is made for the workers that there are when it is made. Plans that are kept are made anew when a Python worker turns out to be
//! asked after all, or when none is left.

use std::time::{Duration, Instant};

use pgrx::pg_sys;
use trough_client::{Discovery, SegmentPattern};

use crate::{
    cluster::{self, Cluster},
    compat,
    plandata::ScanPlan,
    runtime,
    table::ForeignTable,
};

/// How long planning waits to learn who serves the segments.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long planning does not ask again where nobody could tell.
const REST: Duration = Duration::from_secs(10);

/// Why plain rows of the table are to be fetched, if they are. Where nobody can be asked who serves what, they are not: the query fails.
///
/// # Safety
/// The planner's relation.
pub(crate) unsafe fn alone(rel: *mut pg_sys::RelOptInfo, table: &ForeignTable) -> Option<String> {
    // SAFETY: as for the caller.
    let user = unsafe { compat::planned_user(rel) };
    // Whoever may not ask is told when the query runs.
    let cluster = cluster::try_of(table.server, user).ok()?;
    let discovery = &cluster.discovery;
    let python = match discovery.has_python() {
        Some(known) => known,
        None if cluster.unheard.get().is_some_and(|at| at.elapsed() < REST) => false,
        None => {
            let asked = discovery.clone();
            let found = within(async move { asked.find_python().await.ok() });
            cluster.unheard.set(found.is_none().then(Instant::now));
            found.unwrap_or(false)
        }
    };
    if !python {
        return None;
    }
    let pattern = table.segment_pattern().unwrap_or(SegmentPattern::All);
    let asked: Discovery = discovery.clone();
    match within(async move { asked.python_alone(&pattern).await.ok() }) {
        Some(alone) => {
            alone.map(|(segment, node)| format!("segment {segment} is served by the Python worker {node} only"))
        }
        None => Some("there are Python workers, and who serves the segments was not learned in time".to_owned()),
    }
}

/// What comes in time.
fn within<T: Send + 'static>(asked: impl Future<Output = Option<T>> + Send + 'static) -> Option<T> {
    runtime::block_on(async move { tokio::time::timeout(PATIENCE, asked).await.ok().flatten() })
}

/// A plan begins to run: one that was made for Python workers is the last of its kind once there are none.
pub(crate) fn begins(plan: &ScanPlan, cluster: &Cluster) {
    if plan.python.is_some() && cluster.discovery.has_python() == Some(false) {
        plan_anew();
    }
}

/// Has every kept plan of this session made anew at its next use.
pub(crate) fn plan_anew() {
    // SAFETY: marks kept plans; those that run are not touched.
    unsafe { pg_sys::ResetPlanCache() };
}

/// Shows in EXPLAIN why conditions are evaluated here.
///
/// # Safety
/// EXPLAIN's state.
pub(crate) unsafe fn explain(plan: &ScanPlan, es: *mut pg_sys::ExplainState) {
    if let Some(why) = &plan.python {
        // SAFETY: as for the caller.
        unsafe { crate::explain::text("Plain Rows", why, es) };
    }
}
