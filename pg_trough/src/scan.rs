//! Execution of a scan: values are evaluated, segments chosen, and rows decoded as they come.

use std::{rc::Rc, task::Poll};

use pgrx::{pg_guard, pg_sys};
use trough_client::{Batch, QueryTemplate, SegmentSet};
use trough_core::Value;

use crate::{
    cluster::{self, Cluster, Rows, Told},
    compat,
    decode::{self, Arena, Decoder, Item, Reader},
    encode,
    join::batch,
    memory, modify, pg,
    plandata::{ScanPlan, Source, Wanted},
    python,
    replay::Replay,
    runtime, segments,
    state::StateDecoder,
    table::OnFault,
    warn,
};

/// A scan under way. Owned by the query's memory context.
pub(crate) struct Scan {
    plan: ScanPlan,
    cluster: Rc<Cluster>,
    values: Vec<(*mut pg_sys::ExprState, pg_sys::Oid)>,
    /// Which values are a batch's keys, and of which of its arrays.
    batched: Vec<(usize, usize)>,
    /// The batch's arrays.
    given: Vec<pg_sys::Datum>,
    conditions: Vec<*mut pg_sys::ExprState>,
    outputs: Vec<(usize, Maker)>,
    arena: Arena,
    rows: Option<Rows>,
    /// What was fetched before, for runs that ask for the same.
    replay: Replay,
    begun: bool,
    /// Whether nothing that the scan's values depend on has changed since the last run.
    unchanged: bool,
    /// Whether an Append asks for rows without waiting for them.
    asynchronous: bool,
    /// Whether the last look for a row found that none has come yet.
    pending: bool,
    batch: Option<Current>,
    /// The last row's rowid and fingerprint, if it is to be changed.
    identity: Option<(i64, i64)>,
    /// What earlier runs of the scan did, and this one when it ended.
    done: Told,
}

/// What makes an attribute.
enum Maker {
    Segment,
    /// Whether a rowid comes before the fingerprint.
    Identity(bool),
    Column(Decoder),
    /// Of these columns, counted from the first that is no column of its own.
    State(StateDecoder, Vec<usize>),
}

/// The batch that rows are taken from.
struct Current {
    batch: Batch,
    at: usize,
    left: u32,
    /// The segment's name, in memory of the scan.
    segment: Option<Vec<u64>>,
}

/// The executor's node as this module uses it.
unsafe fn scan_of<'a>(node: *mut pg_sys::ForeignScanState) -> Option<&'a mut Scan> {
    // SAFETY: only begin_foreign_scan sets it.
    unsafe { (*node).fdw_state.cast::<Scan>().as_mut() }
}

/// `BeginForeignScan`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn begin_foreign_scan(node: *mut pg_sys::ForeignScanState, flags: i32) {
    // SAFETY: the executor's structures.
    unsafe {
        if flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 != 0 {
            return;
        }
        let foreign = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
        let plan = ScanPlan::from_list((*foreign).fdw_private);
        let cluster = cluster::of(pg_sys::Oid::from(plan.server), compat::scan_user(node));
        python::begins(&plan, &cluster);
        let parent = (&raw mut (*node).ss.ps).cast::<pg_sys::PlanState>();
        let mut values = Vec::new();
        let mut batched = Vec::new();
        let mut conditions = Vec::new();
        for (i, expr) in pg::list::<pg_sys::Expr>((*foreign).fdw_exprs).enumerate() {
            let state = compat::init_once(expr, parent);
            if i < plan.slots {
                batched.extend(batch::batch_array(expr.cast()).map(|array| (i, array)));
                values.push((state, crate::table::base_type(pg_sys::exprType(expr.cast()))));
            } else {
                conditions.push(state);
            }
        }
        let own = plan.outputs.iter().filter(|o| matches!(o.source, Source::Column(_))).count();
        let after = |columns: &[usize]| columns.iter().map(|c| c - own).collect::<Vec<_>>();
        let outputs = plan
            .outputs
            .iter()
            .map(|output| {
                let maker = match &output.source {
                    Source::Segment => Maker::Segment,
                    Source::Identity(rowid) => Maker::Identity(*rowid),
                    Source::Column(stored) => Maker::Column(Decoder::new(stored.clone())),
                    Source::State(kind, stored, columns) => {
                        Maker::State(StateDecoder::new(*kind, None, stored.clone()), after(columns))
                    }
                    Source::Final(kind, finish, stored, columns) => {
                        Maker::State(StateDecoder::new(*kind, Some(*finish), stored.clone()), after(columns))
                    }
                };
                (output.attribute, maker)
            })
            .collect();
        let asynchronous = (*node).ss.ps.async_capable;
        let mut replay = Replay::default();
        if flags & pg_sys::EXEC_FLAG_REWIND as i32 != 0 && !asynchronous && batched.is_empty() {
            replay.keep();
        }
        let scan = Scan {
            plan,
            cluster,
            values,
            batched,
            given: Vec::new(),
            conditions,
            outputs,
            arena: Arena::default(),
            rows: None,
            replay,
            begun: false,
            unchanged: false,
            asynchronous,
            pending: false,
            batch: None,
            identity: None,
            done: Told::default(),
        };
        (*node).fdw_state = memory::own((*(*node).ss.ps.state).es_query_cxt, scan).cast();
    }
}

/// `IterateForeignScan`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn iterate_foreign_scan(
    node: *mut pg_sys::ForeignScanState,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the executor's structures; the slot has as many attributes as the scan's tuple.
    unsafe {
        let slot = (*node).ss.ss_ScanTupleSlot;
        let scan = scan_of(node).expect("the scan has begun");
        // ExecClearTuple; the slot is a virtual one, whose clear callback frees nothing of ours.
        if let Some(clear) = (*(*slot).tts_ops).clear {
            clear(slot);
        }
        if !scan.begun {
            scan.begin((*node).ss.ps.ps_ExprContext);
        }
        if scan.next_row(slot) {
            match scan.identity {
                Some((rowid, print)) => modify::store(slot, rowid, print),
                None => drop(pg_sys::ExecStoreVirtualTuple(slot)),
            }
        }
        slot
    }
}

/// `ReScanForeignScan`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn rescan_foreign_scan(node: *mut pg_sys::ForeignScanState) {
    // SAFETY: the executor's node.
    if let Some(scan) = unsafe { scan_of(node) } {
        // A batch's keys are given without a word. A scan that has not begun has nothing to compare with.
        let repeats = !scan.asynchronous && scan.batched.is_empty();
        // SAFETY: as above.
        let unchanged = unsafe { (*node).ss.ps.chgParam.is_null() };
        scan.unchanged = repeats && unchanged && (scan.begun || scan.unchanged);
        scan.batch = None;
        scan.begun = false;
        if repeats {
            scan.replay.keep();
        } else {
            scan.stop();
        }
    }
}

/// `EndForeignScan`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn end_foreign_scan(node: *mut pg_sys::ForeignScanState) {
    // SAFETY: the executor's node.
    if let Some(scan) = unsafe { scan_of(node) } {
        scan.stop();
        let limits = scan.plan.limits;
        warn::left_out(&scan.cluster.server, &scan.plan.table, limits, &std::mem::take(&mut scan.done.left_out));
    }
}

/// Whether the last look for a row, of a scan that does not wait, found that none has come yet.
///
/// # Safety
/// The executor's node.
pub(crate) unsafe fn is_pending(node: *mut pg_sys::ForeignScanState) -> bool {
    // SAFETY: as for the caller.
    unsafe { scan_of(node) }.is_some_and(|scan| scan.pending)
}

/// Whether something has come for a scan that does not wait.
///
/// # Safety
/// The executor's node.
pub(crate) unsafe fn is_ready(node: *mut pg_sys::ForeignScanState) -> bool {
    // SAFETY: as for the caller.
    unsafe { scan_of(node) }.is_some_and(|scan| scan.rows.as_ref().is_none_or(Rows::is_ready))
}

/// Gives a scan the keys of a batch, as arrays that live until it has ended or begins anew.
///
/// # Safety
/// The executor's node, of a plan with as many arrays.
pub(crate) unsafe fn give(node: *mut pg_sys::ForeignScanState, arrays: Vec<pg_sys::Datum>) {
    // SAFETY: as for the caller.
    if let Some(scan) = unsafe { scan_of(node) } {
        scan.given = arrays;
    }
}

/// How often a scan showed rows again without asking for them.
///
/// # Safety
/// The executor's node.
pub(crate) unsafe fn replays(node: *mut pg_sys::ForeignScanState) -> u64 {
    // SAFETY: as for the caller.
    unsafe { scan_of(node) }.map_or(0, |scan| scan.replay.hits())
}

/// What a scan did, for EXPLAIN ANALYZE; none if it did not run.
///
/// # Safety
/// The executor's node.
pub(crate) unsafe fn told(node: *mut pg_sys::ForeignScanState) -> Option<Told> {
    unsafe { scan_of(node) }.map(|scan| scan.so_far())
}

impl Scan {
    /// Evaluates the values and asks the segments.
    unsafe fn begin(&mut self, context: *mut pg_sys::ExprContext) {
        self.begun = true;
        if std::mem::take(&mut self.unchanged) && self.replay.again() {
            return;
        }
        // SAFETY: the executor's expression context and states; the values are used before per-tuple memory is reset.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo((*context).ecxt_per_query_memory);
            let scratch = pg_sys::AllocSetContextCreateInternal(
                (*context).ecxt_per_query_memory,
                c"trough scan values".as_ptr(),
                0,
                8192,
                1 << 23,
            );
            pg_sys::MemoryContextSwitchTo(scratch);
            let mut values: Vec<_> = self
                .values
                .iter()
                .map(|(state, type_oid)| {
                    let mut null = false;
                    let evaluate = (**state).evalfunc.expect("ExecInitExpr sets it");
                    let datum = evaluate(*state, context, &mut null);
                    ((!null).then_some(datum), *type_oid)
                })
                .collect();
            for (slot, array) in &self.batched {
                values[*slot].0 = self.given.get(*array).copied();
            }
            let mut params: Vec<_> = self
                .plan
                .params
                .iter()
                .map(|param| {
                    let (datum, type_oid) = values[param.slot];
                    encode::parameter(datum, type_oid, param.element, param.encode)
                })
                .collect();
            let wanted = self.plan.enough.map_or(Wanted::All, |enough| enough.wanted(&values));
            let limit = self.plan.enough.map(|_| Value::Integer(wanted.limit()));
            params.extend(limit.clone());
            let chosen = segments::choose(&self.plan, &values, &self.conditions, context, &self.cluster);
            if let Some((name, count)) = chosen.impossible {
                if self.plan.limits.on_missing == OnFault::Error {
                    warn::impossible(&self.cluster.server, &name, count).raise();
                }
                self.done.stats.unknown += count;
                self.done.left_out.unknown += count;
            }
            let known = self.replay.begin(&params, chosen.set.as_ref());
            // What an earlier run has all of needs no requests that are still under way.
            if !known || self.replay.is_complete() {
                self.stop();
            }
            if let Some(set) = chosen.set.filter(|_| !known) {
                // One segment's rows or groups are already what the reduce would make of them.
                let alone = matches!(&set, SegmentSet::Ids(ids) if ids.len() == 1);
                let needless = alone || limit.is_some() && wanted.segments_to_pick_from().is_none();
                let template = QueryTemplate {
                    map: self.plan.map.clone(),
                    reduce: self.plan.reduce.clone().filter(|_| !needless),
                    params,
                    reduce_params: limit.into_iter().collect(),
                    bytewise: self.plan.bytewise,
                    ..QueryTemplate::default()
                };
                let relation = match &self.plan.relations {
                    Some(relations) => relations.clone(),
                    None => pg::relation_name(self.plan.relid.into()),
                };
                self.rows = Some(self.cluster.ask(&relation, set, template, wanted, self.plan.limits, chosen.named));
            }
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextDelete(scratch);
        }
    }

    /// Drops the requests; what they did is kept.
    fn stop(&mut self) {
        self.done = self.so_far();
        self.rows = None;
        self.batch = None;
    }

    fn so_far(&self) -> Told {
        let mut sum = self.done.clone();
        if let Some(rows) = &self.rows {
            sum.add(rows.told());
        }
        sum
    }

    /// Takes the next batch that has rows.
    fn next_batch(&mut self) -> bool {
        self.pending = false;
        loop {
            if let Some(batch) = self.replay.next() {
                self.show(batch);
                return true;
            }
            let Some(rows) = &mut self.rows else { return false };
            let next = if self.asynchronous {
                match rows.poll_next() {
                    Poll::Ready(next) => next,
                    Poll::Pending => {
                        self.pending = true;
                        return false;
                    }
                }
            } else {
                rows.next()
            };
            let Some(batch) = next else {
                self.replay.complete();
                self.stop();
                return false;
            };
            if batch.count == 0 {
                continue;
            }
            let name = batch.segment.as_ref().map(|s| s.as_str().to_owned());
            if batch.columns.len() != self.plan.width {
                let why = format!("{} columns came where {} were asked for", batch.columns.len(), self.plan.width);
                decode::garbage(&self.plan.table, name.as_deref(), &why).raise();
            }
            self.replay.came(&batch);
            self.show(batch);
            return true;
        }
    }

    fn show(&mut self, batch: Batch) {
        self.arena.reserve(batch.data.len(), self.plan.width);
        let segment = batch.segment.as_ref().map(|s| segments::words(s.as_str()));
        self.batch = Some(Current { at: 0, left: batch.count, segment, batch });
    }

    /// Decodes the next row into the slot; false at the end.
    unsafe fn next_row(&mut self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        while self.batch.as_ref().is_none_or(|b| b.left == 0) {
            self.batch = None;
            if !self.next_batch() {
                return false;
            }
        }
        let Some(current) = &mut self.batch else { return false };
        self.arena.reset();
        let mut reader = Reader::new(&current.batch.data, current.at);
        // SAFETY: the slot's arrays hold an entry per attribute of the tuple.
        let (values, nulls) = unsafe {
            let natts = (*(*slot).tts_tupleDescriptor).natts as usize;
            let nulls = std::slice::from_raw_parts_mut((*slot).tts_isnull, natts);
            nulls.fill(true);
            (std::slice::from_raw_parts_mut((*slot).tts_values, natts), nulls)
        };
        let named = |batch: &Batch| batch.segment.as_ref().map(|s| s.as_str().to_owned());
        let broken = |batch: &Batch| {
            decode::garbage(
                &self.plan.table,
                named(batch).as_deref(),
                "the rows end early or hold no MessagePack value",
            )
        };
        let mut read = 0;
        let mut rest = Vec::new();
        for (attribute, maker) in &mut self.outputs {
            let datum = match maker {
                Maker::Segment => match &current.segment {
                    Some(words) => Some(pg_sys::Datum::from(words.as_ptr())),
                    None => broken(&current.batch).raise(),
                },
                Maker::Identity(rowid) => {
                    let mut integer = || match reader.next() {
                        Some(Item::Integer(n)) => n,
                        _ => broken(&current.batch).raise(),
                    };
                    let row = if *rowid { integer() } else { 0 };
                    self.identity = Some((row, integer()));
                    read += 1 + usize::from(*rowid);
                    continue;
                }
                Maker::Column(decoder) => {
                    let Some(item) = reader.next() else { broken(&current.batch).raise() };
                    read += 1;
                    match decoder.decode(item, &mut self.arena) {
                        Ok(datum) => datum,
                        Err(why) => {
                            let segment = named(&current.batch);
                            decode::unfit(&why, decoder.stored(), &self.plan.table, segment.as_deref()).raise()
                        }
                    }
                }
                Maker::State(decoder, columns) => {
                    while read < self.plan.width {
                        let Some(item) = reader.next() else { broken(&current.batch).raise() };
                        rest.push(item);
                        read += 1;
                    }
                    let mut items = [Item::Null; 4];
                    for (item, column) in items.iter_mut().zip(columns.iter()) {
                        *item = rest[*column];
                    }
                    match decoder.decode(&items[..columns.len()], &mut self.arena) {
                        Ok(datum) => datum,
                        Err(why) => {
                            let segment = named(&current.batch);
                            decode::unfit(&why, decoder.stored(), &self.plan.table, segment.as_deref()).raise()
                        }
                    }
                }
            };
            if let Some(datum) = datum {
                values[*attribute] = datum;
                nulls[*attribute] = false;
            }
        }
        // A row without columns of ours is one NULL.
        while read < self.plan.width {
            if reader.next().is_none() {
                broken(&current.batch).raise();
            }
            read += 1;
        }
        current.at = reader.at();
        current.left -= 1;
        if current.left == 0 && current.at != current.batch.data.len() {
            decode::garbage(&self.plan.table, named(&current.batch).as_deref(), "bytes are left after the last row")
                .raise();
        }
        true
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        if self.asynchronous {
            runtime::unwatch();
        }
    }
}
