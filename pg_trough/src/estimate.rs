//! The option `use_remote_estimate`: how many rows fulfil the shipped conditions is asked of a few segments while the query is
//! planned, and scaled up.

use std::time::Duration;

use pgrx::pg_sys;
use trough_client::{QueryTemplate, SegmentSet};

use crate::{
    analyze::Random,
    cluster, compat, encode,
    order::Arrangement,
    pg,
    plan::{self, Split},
    relation::Relation,
    segments, table,
};

/// Segments that are asked.
const SEGMENTS: usize = 32;
/// How long planning waits for them; after that the planner's own estimate is used.
const PATIENCE: Duration = Duration::from_secs(1);

/// The rows that fulfil all conditions but those that PostgreSQL evaluates per row; none if a condition's value is not known
/// yet, or the segments do not answer in time.
///
/// # Safety
/// The planner's structures; the conditions are over the relation's tables.
pub(crate) unsafe fn rows(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    relation: &Relation,
    split: &Split,
) -> Option<f64> {
    // SAFETY: as for the caller; values and conditions live in the planner's memory context.
    unsafe {
        let (plan, exprs) = plan::scan_plan(relation, split, &[], &Arrangement::any(rel));
        let (mut values, mut conditions) = (Vec::new(), Vec::new());
        for (i, expr) in pg::list::<pg_sys::Node>(exprs).enumerate() {
            if i >= plan.slots {
                conditions.push(pg_sys::ExecInitExpr(expr.cast(), std::ptr::null_mut()));
                continue;
            }
            let known = pg_sys::estimate_expression_value(root, expr);
            if !pg::is_a(known, pg_sys::NodeTag::T_Const) {
                return None;
            }
            let known = known.cast::<pg_sys::Const>();
            values.push(((!(*known).constisnull).then_some((*known).constvalue), table::base_type((*known).consttype)));
        }
        let params = plan
            .params
            .iter()
            .map(|param| {
                let (datum, type_oid) = values[param.slot];
                encode::parameter(datum, type_oid, param.element, param.encode)
            })
            .collect();
        let user = compat::planned_user(rel);
        let cluster = cluster::of(plan.server.into(), user);
        let context = pg_sys::CreateStandaloneExprContext();
        let chosen = segments::choose(&plan, &values, &conditions, context, &cluster);
        pg_sys::FreeExprContext(context, true);
        let mut ids = match chosen.set {
            None => return Some(0.0),
            Some(SegmentSet::Ids(ids)) => ids,
            Some(SegmentSet::Pattern(pattern)) => cluster.list(pattern),
        };
        let segments = ids.len();
        let asked = Random::new().sample(&mut ids, SEGMENTS);
        if asked == 0 {
            return Some(0.0);
        }
        let map = format!("SELECT count(*) FROM ({})", plan.map);
        let template = QueryTemplate { map, params, ..QueryTemplate::default() };
        let counted = cluster.total(SegmentSet::Ids(ids), template, PATIENCE)?;
        Some(counted as f64 / asked as f64 * segments as f64)
    }
}
