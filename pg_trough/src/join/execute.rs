//! Execution of lookup joins. A batch of outer rows is held in memory; the segments that they name are asked at once, and
//! inner rows are joined with them as they come.

use std::{
    collections::{HashMap, HashSet},
    ffi::c_int,
};

use pgrx::{pg_guard, pg_sys};

use crate::{explain, memory, pg, scan};

use super::{
    lookup::{Attribute, Kind, Lookup, NAME},
    node as executor,
};

/// Outer rows in a batch, at most.
pub(super) const MOST_ROWS: usize = 8192;
/// Bytes that an outer row takes besides its tuple: its entry, and its key.
pub(super) const ROW_OVERHEAD: usize = size_of::<Row>() + 64;
/// How much larger each batch is than the one before.
const GROWTH: usize = 4;
/// The end of a chain of rows with the same key.
const END: u32 = u32::MAX;

struct ScanMethods(pg_sys::CustomScanMethods);
// SAFETY: function pointers and a static name; never written.
unsafe impl Sync for ScanMethods {}
static SCAN: ScanMethods =
    ScanMethods(pg_sys::CustomScanMethods { CustomName: NAME.as_ptr(), CreateCustomScanState: Some(create_state) });

struct ExecMethods(pg_sys::CustomExecMethods);
// SAFETY: as above.
unsafe impl Sync for ExecMethods {}
static EXEC: ExecMethods = ExecMethods(pg_sys::CustomExecMethods {
    CustomName: NAME.as_ptr(),
    BeginCustomScan: Some(begin),
    ExecCustomScan: Some(exec),
    EndCustomScan: Some(end),
    ReScanCustomScan: Some(rescan),
    MarkPosCustomScan: None,
    RestrPosCustomScan: None,
    EstimateDSMCustomScan: None,
    InitializeDSMCustomScan: None,
    ReInitializeDSMCustomScan: None,
    InitializeWorkerCustomScan: None,
    ShutdownCustomScan: None,
    ExplainCustomScan: Some(explain_state),
});

/// Makes the plan node known by its name.
pub(crate) fn register() {
    // SAFETY: the methods are static; the name is registered once, when the library is loaded.
    unsafe { pg_sys::RegisterCustomScanMethods(methods()) }
}

/// The plan node's methods.
pub(crate) fn methods() -> *const pg_sys::CustomScanMethods {
    &SCAN.0
}

/// The executor's node.
#[repr(C)]
struct State {
    /// Must be first.
    custom: pg_sys::CustomScanState,
    /// Owned by the query's memory context.
    run: *mut Run,
}

/// A join under way.
struct Run {
    plan: Lookup,
    outer: *mut pg_sys::PlanState,
    inner: *mut pg_sys::PlanState,
    /// With their types.
    keys: Vec<(*mut pg_sys::ExprState, pg_sys::Oid)>,
    conditions: *mut pg_sys::ExprState,
    /// Holds the batch's rows, and their keys as arrays.
    memory: pg_sys::MemoryContext,
    /// An outer row that is read from the batch.
    slot: *mut pg_sys::TupleTableSlot,
    /// The inner row at hand.
    inner_slot: *mut pg_sys::TupleTableSlot,
    batch: Batch,
    phase: Phase,
    outer_ended: bool,
    size: usize,
}

/// Outer rows.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    /// The first row of each key.
    first: HashMap<Box<[u8]>, u32>,
    /// Rows that have met an inner one.
    matched: usize,
}

struct Row {
    tuple: pg_sys::MinimalTuple,
    /// The next with the same key.
    next: u32,
    matched: bool,
}

/// What comes next.
#[derive(Clone, Copy)]
enum Phase {
    /// Another batch.
    Fill,
    /// This outer row with the inner row at hand, or else the next inner row.
    Match(u32),
    /// From this outer row on, those that have no inner one.
    Rest(usize),
    /// Nothing.
    Done,
}

#[pg_guard]
unsafe extern "C-unwind" fn create_state(_scan: *mut pg_sys::CustomScan) -> *mut pg_sys::Node {
    // SAFETY: a zeroed node of its size and tag.
    unsafe {
        let state = pg_sys::palloc0(size_of::<State>()).cast::<State>();
        (*state).custom.ss.ps.type_ = pg_sys::NodeTag::T_CustomScanState;
        (*state).custom.methods = &EXEC.0;
        state.cast()
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn begin(node: *mut pg_sys::CustomScanState, estate: *mut pg_sys::EState, flags: c_int) {
    // SAFETY: the executor's structures; the plan is one of ours.
    unsafe {
        let scan = (*node).ss.ps.plan.cast::<pg_sys::CustomScan>();
        let json = pg::list::<pg_sys::Node>((*scan).custom_private).next().expect("the plan has one word");
        let plan: Lookup = serde_json::from_str(&crate::compat::string_value(json)).expect("the planner wrote it");
        let flags = flags & !(pg_sys::EXEC_FLAG_BACKWARD | pg_sys::EXEC_FLAG_MARK) as c_int;
        let mut children = pg::list::<pg_sys::Plan>((*scan).custom_plans)
            .map(|child| pg_sys::ExecInitNode(child, estate, flags))
            .collect::<Vec<_>>()
            .into_iter();
        let (Some(outer), Some(inner)) = (children.next(), children.next()) else {
            unreachable!("the planner made two plans")
        };
        (*node).custom_ps = pg::make_list([outer, inner]);
        let parent = (&raw mut (*node).ss.ps).cast::<pg_sys::PlanState>();
        let mut exprs = pg::list::<pg_sys::Expr>((*scan).custom_exprs);
        let keys = exprs
            .by_ref()
            .take(plan.keys)
            .map(|expr| {
                let type_oid = crate::table::base_type(pg_sys::exprType(expr.cast()));
                (pg_sys::ExecInitExpr(expr, parent), type_oid)
            })
            .collect();
        let conditions = pg_sys::ExecInitQual(pg::make_list(exprs), parent);
        let slot = pg_sys::ExecInitExtraTupleSlot(estate, (*outer).ps_ResultTupleDesc, &pg_sys::TTSOpsMinimalTuple);
        let memory = pg_sys::AllocSetContextCreateInternal(
            (*estate).es_query_cxt,
            c"trough lookup join".as_ptr(),
            0,
            8192,
            1 << 23,
        );
        let size = plan.first_batch;
        let run = Run {
            plan,
            outer,
            inner,
            keys,
            conditions,
            memory,
            slot,
            inner_slot: std::ptr::null_mut(),
            batch: Batch::default(),
            phase: Phase::Fill,
            outer_ended: false,
            size,
        };
        (*node.cast::<State>()).run = memory::own((*estate).es_query_cxt, run);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn exec(node: *mut pg_sys::CustomScanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the executor's node.
    unsafe { pg_sys::ExecScan(&mut (*node).ss, Some(next), Some(recheck)) }
}

#[pg_guard]
unsafe extern "C-unwind" fn recheck(_node: *mut pg_sys::ScanState, _slot: *mut pg_sys::TupleTableSlot) -> bool {
    // Queries that lock rows have no such plans.
    true
}

#[pg_guard]
unsafe extern "C-unwind" fn next(node: *mut pg_sys::ScanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the executor's node, whose state was made by create_state.
    unsafe {
        let run = &mut *(*node.cast::<State>()).run;
        let slot = (*node).ss_ScanTupleSlot;
        let context = (*node).ps.ps_ExprContext;
        executor::clear(slot);
        (*context).ecxt_scantuple = slot;
        run.next(slot, context);
        slot
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn rescan(node: *mut pg_sys::CustomScanState) {
    // SAFETY: the executor's node, whose state was made by create_state.
    unsafe {
        let run = &mut *(*node.cast::<State>()).run;
        for child in [run.outer, run.inner] {
            if !(*node).ss.ps.chgParam.is_null() {
                pg_sys::UpdateChangedParamSet(child, (*node).ss.ps.chgParam);
            }
        }
        if (*run.outer).chgParam.is_null() {
            pg_sys::ExecReScan(run.outer);
        }
        pg_sys::ExecScanReScan(&mut (*node).ss);
        run.forget();
        run.phase = Phase::Fill;
        run.outer_ended = false;
        run.size = run.plan.first_batch;
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn end(node: *mut pg_sys::CustomScanState) {
    // SAFETY: the executor's node, whose state was made by create_state.
    unsafe {
        let run = &mut *(*node.cast::<State>()).run;
        run.forget();
        pg_sys::ExecEndNode(run.outer);
        pg_sys::ExecEndNode(run.inner);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn explain_state(
    node: *mut pg_sys::CustomScanState,
    ancestors: *mut pg_sys::List,
    es: *mut pg_sys::ExplainState,
) {
    // SAFETY: EXPLAIN's structures; the node is ours.
    unsafe {
        let run = &*(*node.cast::<State>()).run;
        let scan = (*node).ss.ps.plan.cast::<pg_sys::CustomScan>();
        let context = pg_sys::set_deparse_context_plan((*es).deparse_cxt, scan.cast(), ancestors);
        let exprs: Vec<_> = pg::list::<pg_sys::Node>((*scan).custom_exprs)
            .map(|expr| pg::text(pg_sys::deparse_expression(expr, context, true, false)))
            .collect();
        let (keys, conditions) = exprs.split_at(run.plan.keys);
        explain::text("Join Type", &format!("{:?}", run.plan.kind), es);
        explain::text("Keys", &keys.join(", "), es);
        if !conditions.is_empty() {
            explain::text("Join Filter", &conditions.join(" AND "), es);
        }
    }
}

impl Run {
    /// Drops the batch.
    unsafe fn forget(&mut self) {
        // SAFETY: the slot shows a row of the batch, or nothing.
        unsafe { executor::clear(self.slot) };
        self.batch = Batch::default();
        // SAFETY: nothing but the batch is in it.
        unsafe { pg_sys::MemoryContextReset(self.memory) };
    }

    /// Puts the next row into the slot; leaves it empty at the end.
    unsafe fn next(&mut self, slot: *mut pg_sys::TupleTableSlot, context: *mut pg_sys::ExprContext) {
        // SAFETY: the executor's structures.
        unsafe {
            loop {
                pgrx::check_for_interrupts!();
                match self.phase {
                    Phase::Done => return,
                    Phase::Fill => self.fill(slot, context),
                    Phase::Match(END) => self.next_inner(),
                    Phase::Match(at) => {
                        let row = &self.batch.rows[at as usize];
                        self.phase = Phase::Match(row.next);
                        let once = matches!(self.plan.kind, Kind::Semi | Kind::Anti);
                        if once && row.matched {
                            continue;
                        }
                        self.show(at, true, slot);
                        pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
                        if !executor::holds(self.conditions, context) {
                            executor::clear(slot);
                            continue;
                        }
                        let row = &mut self.batch.rows[at as usize];
                        self.batch.matched += usize::from(!row.matched);
                        row.matched = true;
                        if self.plan.kind != Kind::Anti {
                            return;
                        }
                        executor::clear(slot);
                    }
                    Phase::Rest(at) => {
                        let rest = self.batch.rows[at..].iter().position(|row| !row.matched);
                        let Some(at) = rest.map(|rest| at + rest) else {
                            self.phase = Phase::Fill;
                            continue;
                        };
                        self.phase = Phase::Rest(at + 1);
                        self.show(at as u32, false, slot);
                        return;
                    }
                }
            }
        }
    }

    /// Reads outer rows, and asks for the segments that they name.
    unsafe fn fill(&mut self, slot: *mut pg_sys::TupleTableSlot, context: *mut pg_sys::ExprContext) {
        // SAFETY: the executor's structures; rows and arrays live in the batch's memory.
        unsafe {
            self.forget();
            let mut elements: Vec<Vec<pg_sys::Datum>> = vec![Vec::new(); self.keys.len()];
            let mut seen: Vec<HashSet<usize>> = vec![HashSet::new(); self.keys.len()];
            let by_value: Vec<_> = self.keys.iter().map(|(_, type_oid)| pg_sys::get_typbyval(*type_oid)).collect();
            let room = pg_sys::work_mem as usize * 1024;
            let mut bytes = 0;
            while !self.outer_ended && self.batch.rows.len() < self.size && bytes < room {
                let Some(outer) = executor::next(self.outer) else {
                    self.outer_ended = true;
                    break;
                };
                let before = pg_sys::MemoryContextSwitchTo(self.memory);
                let tuple = executor::copy(outer);
                pg_sys::MemoryContextSwitchTo(before);
                bytes += (*tuple).t_len as usize + ROW_OVERHEAD;
                let at = self.batch.rows.len() as u32;
                self.batch.rows.push(Row { tuple, next: END, matched: false });
                self.show(at, false, slot);
                pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
                for (place, (key, type_oid)) in self.keys.iter().enumerate() {
                    let Some(datum) = executor::evaluate(*key, context) else {
                        match place {
                            0 => break,
                            _ => continue,
                        }
                    };
                    if place == 0 {
                        let mut number = [0; 8];
                        let name = met(datum, *type_oid, &mut number);
                        if let Some(first) = self.batch.first.get_mut(name) {
                            self.batch.rows[at as usize].next = std::mem::replace(first, at);
                            // The value is asked for already; other columns' are new.
                            continue;
                        }
                        self.batch.first.insert(name.into(), at);
                    }
                    // What fits into a datum is sent once.
                    if by_value[place] && !seen[place].insert(datum.value()) {
                        continue;
                    }
                    let before = pg_sys::MemoryContextSwitchTo(self.memory);
                    elements[place].push(executor::copy_datum(datum, *type_oid));
                    pg_sys::MemoryContextSwitchTo(before);
                }
                executor::clear(slot);
            }
            self.size = (self.size * GROWTH).min(MOST_ROWS);
            self.phase = match (self.batch.rows.is_empty(), self.batch.first.is_empty()) {
                (true, _) => Phase::Done,
                (false, true) => self.rest(),
                (false, false) => {
                    let before = pg_sys::MemoryContextSwitchTo(self.memory);
                    let arrays = make_arrays(&elements, &self.keys);
                    pg_sys::MemoryContextSwitchTo(before);
                    pg_sys::ExecReScan(self.inner);
                    scan::give(self.inner.cast(), arrays);
                    Phase::Match(END)
                }
            };
        }
    }
}

impl Run {
    /// What comes after the last inner row.
    fn rest(&self) -> Phase {
        match self.plan.kind {
            Kind::Inner | Kind::Semi => Phase::Fill,
            Kind::Left | Kind::Anti => Phase::Rest(0),
        }
    }

    /// Reads an inner row, and finds the outer ones that name its segment, or have its value.
    unsafe fn next_inner(&mut self) {
        // SAFETY: the executor's node; the value is a text or an integer.
        unsafe {
            let all = self.batch.matched == self.batch.rows.len();
            if all && matches!(self.plan.kind, Kind::Semi | Kind::Anti) {
                self.phase = self.rest();
                return;
            }
            let Some(inner) = executor::next(self.inner) else {
                self.phase = self.rest();
                return;
            };
            executor::read(inner);
            let at = self.plan.meets;
            let mut number = [0; 8];
            let found = match *(*inner).tts_isnull.add(at) {
                true => None,
                false => {
                    let value = *(*inner).tts_values.add(at);
                    self.batch.first.get(met(value, self.plan.meets_type.into(), &mut number))
                }
            };
            self.inner_slot = inner;
            self.phase = Phase::Match(found.copied().unwrap_or(END));
        }
    }

    /// Shows an outer row, with the inner row at hand or with NULLs.
    unsafe fn show(&mut self, at: u32, with_inner: bool, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: the slots' arrays have the attributes that the plan says; the tuple is of the batch.
        unsafe {
            pg_sys::ExecForceStoreMinimalTuple(self.batch.rows[at as usize].tuple, self.slot, false);
            executor::read(self.slot);
            executor::clear(slot);
            for (place, attribute) in self.plan.attributes.iter().enumerate() {
                let (from, index) = match *attribute {
                    Attribute::Outer(index) => (self.slot, index),
                    Attribute::Inner(index) if with_inner => (self.inner_slot, index),
                    Attribute::Inner(_) => {
                        *(*slot).tts_values.add(place) = pg_sys::Datum::from(0);
                        *(*slot).tts_isnull.add(place) = true;
                        continue;
                    }
                };
                *(*slot).tts_values.add(place) = *(*from).tts_values.add(index);
                *(*slot).tts_isnull.add(place) = *(*from).tts_isnull.add(index);
            }
            pg_sys::ExecStoreVirtualTuple(slot);
        }
    }
}

/// What rows meet by: the same bytes for equal texts, and for equal integers of all types.
///
/// # Safety
/// The datum is an integer or a text.
unsafe fn met(datum: pg_sys::Datum, type_oid: pg_sys::Oid, number: &mut [u8; 8]) -> &[u8] {
    let integer = match type_oid {
        pg_sys::INT2OID => i64::from(datum.value() as i16),
        pg_sys::INT4OID => i64::from(datum.value() as i32),
        pg_sys::INT8OID => datum.value() as i64,
        // SAFETY: as for the caller.
        _ => return unsafe { pg::varlena_bytes(datum) },
    };
    *number = integer.to_ne_bytes();
    number
}

/// The keys as arrays, in the current memory context.
unsafe fn make_arrays(
    elements: &[Vec<pg_sys::Datum>],
    keys: &[(*mut pg_sys::ExprState, pg_sys::Oid)],
) -> Vec<pg_sys::Datum> {
    // SAFETY: the elements are of their types.
    unsafe {
        elements
            .iter()
            .zip(keys)
            .map(|(elements, (_, type_oid))| {
                let (mut len, mut by_value, mut align) = (0, false, 0);
                pg_sys::get_typlenbyvalalign(*type_oid, &mut len, &mut by_value, &mut align);
                let (data, count) = (elements.as_ptr().cast_mut(), elements.len() as c_int);
                pg_sys::Datum::from(pg_sys::construct_array(data, count, *type_oid, len.into(), by_value, align))
            })
            .collect()
    }
}
