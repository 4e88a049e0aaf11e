//! What PostgreSQL's executor has as inline functions. Each may raise an error, which becomes a panic here.

use pgrx::pg_sys::{self, ffi::pg_guard_ffi_boundary};

unsafe extern "C-unwind" {
    #[link_name = "datumCopy"]
    fn pg_datum_copy(value: pg_sys::Datum, by_value: bool, len: i32) -> pg_sys::Datum;
}

/// `ExecProcNode`; none at the end.
///
/// # Safety
/// The executor's node.
pub(super) unsafe fn next(node: *mut pg_sys::PlanState) -> Option<*mut pg_sys::TupleTableSlot> {
    // SAFETY: every node has the function.
    unsafe {
        if !(*node).chgParam.is_null() {
            pg_sys::ExecReScan(node);
        }
        let run = (*node).ExecProcNode.expect("ExecInitNode sets it");
        let slot = pg_guard_ffi_boundary(|| run(node));
        (!slot.is_null() && u32::from((*slot).tts_flags) & pg_sys::TTS_FLAG_EMPTY == 0).then_some(slot)
    }
}

/// `ExecClearTuple`
///
/// # Safety
/// A slot.
pub(super) unsafe fn clear(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: every kind of slot has the function.
    unsafe {
        let clear = (*(*slot).tts_ops).clear.expect("every kind of slot has it");
        pg_guard_ffi_boundary(|| clear(slot));
    }
}

/// `ExecCopySlotMinimalTuple`, into the current memory context.
///
/// # Safety
/// A slot that is not empty.
pub(super) unsafe fn copy(slot: *mut pg_sys::TupleTableSlot) -> pg_sys::MinimalTuple {
    // SAFETY: every kind of slot has the function.
    unsafe {
        let copy = (*(*slot).tts_ops).copy_minimal_tuple.expect("every kind of slot has it");
        #[cfg(not(feature = "pg18"))]
        {
            pg_guard_ffi_boundary(|| copy(slot))
        }
        #[cfg(feature = "pg18")]
        {
            pg_guard_ffi_boundary(|| copy(slot, 0))
        }
    }
}

/// `slot_getallattrs`
///
/// # Safety
/// A slot that is not empty.
pub(super) unsafe fn read(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: as for the caller.
    unsafe {
        let natts = (*(*slot).tts_tupleDescriptor).natts;
        if i32::from((*slot).tts_nvalid) < natts {
            pg_sys::slot_getsomeattrs_int(slot, natts);
        }
    }
}

/// `ExecEvalExpr`; none for NULL.
///
/// # Safety
/// The executor's expression and context.
pub(super) unsafe fn evaluate(
    state: *mut pg_sys::ExprState,
    context: *mut pg_sys::ExprContext,
) -> Option<pg_sys::Datum> {
    // SAFETY: every expression has the function.
    unsafe {
        let mut null = false;
        let evaluate = (*state).evalfunc.expect("ExecInitExpr sets it");
        let before = pg_sys::MemoryContextSwitchTo((*context).ecxt_per_tuple_memory);
        let datum = pg_guard_ffi_boundary(|| evaluate(state, context, &mut null));
        pg_sys::MemoryContextSwitchTo(before);
        (!null).then_some(datum)
    }
}

/// `ExecQual`
///
/// # Safety
/// The executor's qualification, null if there is none, and context.
pub(super) unsafe fn holds(state: *mut pg_sys::ExprState, context: *mut pg_sys::ExprContext) -> bool {
    // SAFETY: a qualification is true or false.
    state.is_null() || unsafe { evaluate(state, context) }.is_some_and(|datum| datum.value() != 0)
}

/// `datumCopy`, into the current memory context.
///
/// # Safety
/// The datum is of the type.
pub(super) unsafe fn copy_datum(datum: pg_sys::Datum, type_oid: pg_sys::Oid) -> pg_sys::Datum {
    // SAFETY: utils/datum.h declares it so in 14 to 18.
    unsafe {
        let (mut len, mut by_value) = (0, false);
        pg_sys::get_typlenbyval(type_oid, &mut len, &mut by_value);
        pg_guard_ffi_boundary(|| pg_datum_copy(datum, by_value, len.into()))
    }
}
