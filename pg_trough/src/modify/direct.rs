//! Writes that one SQLite statement per segment does: UPDATE and DELETE whose conditions and values are all shipped, and
//! INSERT with RETURNING or ON CONFLICT DO NOTHING, whose rows are collected first. What is returned is what SQLite stored.

use std::rc::Rc;

use pgrx::{pg_guard, pg_sys};
use trough_client::{QueryTemplate, SegmentSet};
use trough_core::{
    SegmentId,
    wire::{Packed, SegmentWrite, WriteStatement},
};
use trough_pushdown::Column;

use super::{
    exec::check_partition,
    insert::{Insert, Rows},
    plan::{DirectPlan, Work},
    put,
    returning::Returned,
    send::{Sender, Written},
    target::Target,
};
use crate::{
    cluster::{self, Cluster},
    compat, encode,
    errors::OrRaise,
    explain, memory, pg,
    plandata::{ScanPlan, Wanted},
    rows, segments,
    table::{self, Limits, OnFault},
    warn,
};

/// Segments that are written together; what they return is held in memory.
pub(crate) const SEGMENTS_AT_A_TIME: usize = 256;

/// A direct write under way. Owned by the query's memory context.
struct Direct {
    doing: Doing,
    returned: Option<Returned>,
    counts: bool,
    begun: bool,
}

enum Doing {
    Insert(Box<Insert>),
    Change(Box<Change>),
}

struct Change {
    target: Target,
    cluster: Rc<Cluster>,
    sender: Sender,
    probe: ScanPlan,
    sql: String,
    sets: Vec<(usize, Column)>,
    values: Vec<(*mut pg_sys::ExprState, pg_sys::Oid)>,
    conditions: Vec<*mut pg_sys::ExprState>,
    /// The row of parameters, and the segments that are still to be written.
    row: Packed,
    left: Vec<SegmentId>,
}

/// The segments in which a query has a row, with the first one's bytes. What cannot be read is an error, whatever the
/// options allow a scan: nobody would learn what was not changed.
pub(crate) fn probe(
    cluster: &Cluster,
    target: &Target,
    set: SegmentSet,
    template: QueryTemplate,
    named: bool,
) -> Vec<(SegmentId, bytes::Bytes)> {
    let limits = Limits { on_missing: target.table.limits.on_missing, ..Limits::default() };
    let mut rows = cluster.ask(&target.relation, set, template, Wanted::All, limits, named);
    let mut found = Vec::new();
    while let Some(batch) = rows.next() {
        if let Some(segment) = batch.segment.filter(|_| batch.count > 0) {
            found.push((segment, batch.data));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

unsafe fn direct_of<'a>(node: *mut pg_sys::ForeignScanState) -> Option<&'a mut Direct> {
    // SAFETY: only begin_direct_modify sets it.
    unsafe { (*node).fdw_state.cast::<Direct>().as_mut() }
}

/// `BeginDirectModify`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn begin_direct_modify(node: *mut pg_sys::ForeignScanState, flags: i32) {
    // SAFETY: the executor's structures.
    unsafe {
        if flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 != 0 {
            return;
        }
        let estate = (*node).ss.ps.state;
        let rel = (*node).resultRelInfo;
        let foreign = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
        let plan = DirectPlan::from_list((*foreign).fdw_private);
        let table = table::load((*(*rel).ri_RelationDesc).rd_id);
        let context = (*estate).es_query_cxt;
        let returned = plan.returning.map(|columns| Returned::new(&table, &columns, context));
        let doing = match plan.work {
            Work::Insert { suffix } => {
                Doing::Insert(Box::new(Insert::begin(estate, rel, table, Rows::Named, suffix, false)))
            }
            Work::Change { probe, sql, sets } => {
                let target = Target::of(table);
                let user = compat::modify_user(estate, rel);
                let parent = (&raw mut (*node).ss.ps).cast::<pg_sys::PlanState>();
                let (mut values, mut conditions) = (Vec::new(), Vec::new());
                for (i, expr) in pg::list::<pg_sys::Expr>((*foreign).fdw_exprs).enumerate() {
                    let state = compat::init_once(expr, parent);
                    if i < probe.slots {
                        values.push((state, table::base_type(pg_sys::exprType(expr.cast()))));
                    } else {
                        conditions.push(state);
                    }
                }
                let column = |i: usize| target.table.table.column(i).cloned();
                let sets = sets.into_iter().filter_map(|(slot, i)| Some((slot, column(i)?))).collect();
                Doing::Change(Box::new(Change {
                    cluster: cluster::of(target.table.server, user),
                    sender: Sender::new(&target.table, user),
                    probe: *probe,
                    sql,
                    sets,
                    values,
                    conditions,
                    row: Packed::default(),
                    left: Vec::new(),
                    target,
                }))
            }
        };
        let direct = Direct { doing, returned, counts: plan.counts, begun: false };
        (*node).fdw_state = memory::own(context, direct).cast();
    }
}

/// `IterateDirectModify`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn iterate_direct_modify(
    node: *mut pg_sys::ForeignScanState,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the executor's structures.
    unsafe {
        let direct = direct_of(node).expect("the write has begun");
        let estate = (*node).ss.ps.state;
        let slot = (*node).ss.ss_ScanTupleSlot;
        if let Some(clear) = (*(*slot).tts_ops).clear {
            clear(slot);
        }
        if !direct.begun {
            direct.begun = true;
            // The plan below keeps things longer than for one row.
            let before = pg_sys::MemoryContextSwitchTo((*estate).es_query_cxt);
            match &mut direct.doing {
                Doing::Insert(insert) => collect(insert, node),
                Doing::Change(change) => change.begin((*node).ss.ps.ps_ExprContext),
            }
            pg_sys::MemoryContextSwitchTo(before);
        }
        loop {
            if let Some(returned) = &mut direct.returned
                && returned.next(slot)
            {
                (*slot).tts_tableOid = (*(*(*node).resultRelInfo).ri_RelationDesc).rd_id;
                let projection = (*(*node).resultRelInfo).ri_projectReturning;
                (*(*projection).pi_exprContext).ecxt_scantuple = slot;
                if direct.counts {
                    (*estate).es_processed += 1;
                }
                return slot;
            }
            let written = match &mut direct.doing {
                Doing::Insert(insert) => insert.write_wave(),
                Doing::Change(change) => change.write_wave(),
            };
            let Some(written) = written else { return slot };
            match &mut direct.returned {
                Some(returned) => returned.add(written),
                None if direct.counts => (*estate).es_processed += written.iter().map(|w| w.changes).sum::<u64>(),
                None => {}
            }
        }
    }
}

/// `EndDirectModify`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn end_direct_modify(_node: *mut pg_sys::ForeignScanState) {}

/// Takes all rows of the plan below an INSERT.
unsafe fn collect(insert: &mut Insert, node: *mut pg_sys::ForeignScanState) {
    // SAFETY: the executor's node; its errors unwind through the boundary.
    unsafe {
        let (below, estate, rel) = ((*node).ss.ps.lefttree, (*node).ss.ps.state, (*node).resultRelInfo);
        loop {
            let slot = compat::exec_proc_node(below);
            if slot.is_null() || (*slot).tts_flags & pg_sys::TTS_FLAG_EMPTY as u16 != 0 {
                return;
            }
            check_partition(estate, rel, slot);
            insert.take(slot);
        }
    }
}

impl Change {
    /// Evaluates the values, and finds the segments that have rows to change.
    unsafe fn begin(&mut self, context: *mut pg_sys::ExprContext) {
        // SAFETY: the executor's expression context and states; what is kept of the values are copies.
        unsafe {
            let scratch = pg_sys::AllocSetContextCreateInternal(
                (*context).ecxt_per_query_memory,
                c"trough write values".as_ptr(),
                0,
                8192,
                1 << 23,
            );
            let before = pg_sys::MemoryContextSwitchTo(scratch);
            let values: Vec<_> =
                self.values.iter().map(|(state, type_oid)| (compat::evaluate(*state, context), *type_oid)).collect();
            let params: Vec<_> = self
                .probe
                .params
                .iter()
                .map(|param| {
                    let (datum, type_oid) = values[param.slot];
                    encode::parameter(datum, type_oid, param.element, param.encode)
                })
                .collect();
            let mut data = Vec::new();
            params.iter().for_each(|value| rows::put(value, &mut data));
            for (slot, column) in &self.sets {
                put::put(values[*slot].0, column, &self.target.relation, &mut data).or_raise();
            }
            let columns = (params.len() + self.sets.len()) as u32;
            self.row = Packed { count: 1, columns, data: data.into() };
            let chosen = segments::choose(&self.probe, &values, &self.conditions, context, &self.cluster);
            if let Some((name, count)) = chosen.impossible
                && self.target.table.limits.on_missing == OnFault::Error
            {
                warn::impossible(&self.cluster.server, &name, count).raise();
            }
            if let Some(set) = chosen.set {
                // What the probe's segments cannot answer, the statement is not run on.
                let template = QueryTemplate {
                    map: self.probe.map.clone(),
                    params,
                    bytewise: self.probe.bytewise,
                    ..QueryTemplate::default()
                };
                let found = probe(&self.cluster, &self.target, set, template, chosen.named);
                self.left = found.into_iter().map(|(segment, _)| segment).collect();
                self.left.reverse();
            }
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextDelete(scratch);
        }
    }

    /// Writes some of the segments; nothing at the end.
    fn write_wave(&mut self) -> Option<Vec<Written>> {
        if self.left.is_empty() {
            return None;
        }
        let now = self.left.split_off(self.left.len().saturating_sub(SEGMENTS_AT_A_TIME));
        let write = |segment| {
            let statement =
                WriteStatement { sql: self.sql.clone(), packed: Some(self.row.clone()), ..WriteStatement::default() };
            SegmentWrite { segment, statements: vec![statement] }
        };
        let writes = now.into_iter().rev().map(write).collect();
        Some(self.sender.send(writes))
    }
}

/// `ExplainDirectModify`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn explain_direct_modify(
    node: *mut pg_sys::ForeignScanState,
    es: *mut pg_sys::ExplainState,
) {
    // SAFETY: EXPLAIN's structures; the plan is ours.
    unsafe {
        let foreign = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
        let plan = DirectPlan::from_list((*foreign).fdw_private);
        match plan.work {
            Work::Insert { suffix } => {
                if !(*es).verbose {
                    return;
                }
                let rel = (*node).resultRelInfo;
                let table = table::load((*(*rel).ri_RelationDesc).rd_id);
                let insert = Insert::begin((*node).ss.ps.state, rel, table, Rows::Named, suffix, true);
                explain::text("SQLite SQL", insert.sql(), es);
            }
            Work::Change { probe, sql, sets } => {
                let table = table::load(probe.relid.into());
                explain::statements(
                    foreign,
                    &probe,
                    &[("Probe SQL", Some(&probe.map)), ("SQLite SQL", Some(&sql))],
                    es,
                );
                if (*es).verbose && !sets.is_empty() {
                    let exprs: Vec<_> = pg::list::<pg_sys::Node>((*foreign).fdw_exprs).collect();
                    let list: Vec<_> = sets
                        .iter()
                        .enumerate()
                        .filter_map(|(i, (slot, column))| {
                            let name = &table.table.column(*column)?.name;
                            let value = explain::shown(exprs[*slot], foreign, es);
                            Some(format!("?{} = {value} as {name}", probe.params.len() + i + 1))
                        })
                        .collect();
                    explain::text("Values", &list.join(", "), es);
                }
            }
        }
    }
}
