//! Asynchronous execution below an Append: the scans of all its foreign tables ask at once, and whichever has rows goes on.
//!
//! All scans of a backend share the runtime thread's one eventfd, and a set of events takes a descriptor only once. So the first
//! pending scan of ours below an Append stands for all: it alone puts the eventfd into the Append's set, and when it is told of
//! an event, it looks after the others as well, as postgres_fdw does for scans that share a connection.

use pgrx::{pg_guard, pg_sys};

use crate::{
    compat, pg,
    plan::{self, Planning},
    runtime, scan,
};

/// `IsForeignPathAsyncCapable`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn is_foreign_path_async_capable(path: *mut pg_sys::ForeignPath) -> bool {
    // SAFETY: the planner's path of a relation of ours.
    let relation = match unsafe { plan::planning((*path).path.parent) } {
        Some(Planning::Scan(relation)) => relation,
        Some(Planning::Upper(upper)) => &upper.relation,
        Some(Planning::Sorted(_)) | None => return false,
    };
    relation.tables.members().iter().all(|member| member.table.async_capable)
}

/// `ForeignAsyncRequest`: the Append wants a row.
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn foreign_async_request(areq: *mut pg_sys::AsyncRequest) {
    // SAFETY: the executor's request to a scan of ours.
    unsafe { answer(areq) }
}

/// `ForeignAsyncConfigureWait`: the Append is about to wait.
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn foreign_async_configure_wait(areq: *mut pg_sys::AsyncRequest) {
    // SAFETY: the executor's request to a scan of ours, below an Append that has made its set of events.
    unsafe {
        if pending(areq).next() != Some(areq) {
            return;
        }
        let append = (*areq).requestor.cast::<pg_sys::AppendState>();
        let fd = runtime::arm();
        if pending(areq).any(|one| scan::is_ready(one_scan(one))) {
            runtime::wake_self();
        }
        pg_sys::AddWaitEventToSet(
            (*append).as_eventset,
            pg_sys::WL_SOCKET_READABLE,
            fd,
            std::ptr::null_mut(),
            areq.cast(),
        );
    }
}

/// `ForeignAsyncNotify`: something has come, for this scan or for another that it stands for.
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn foreign_async_notify(areq: *mut pg_sys::AsyncRequest) {
    runtime::disarm();
    pgrx::check_for_interrupts!();
    // SAFETY: the executor's requests to scans of ours. The caller has unmarked this one, and responds for it.
    unsafe {
        let others: Vec<_> = pending(areq).filter(|one| *one != areq).collect();
        answer(areq);
        for other in others {
            (*other).callback_pending = false;
            answer(other);
            compat::async_response(other);
            let instrument = (*(*other).requestee).instrument;
            if !instrument.is_null() {
                let rows = if has_row((*other).result) { 1.0 } else { 0.0 };
                pg_sys::InstrUpdateTupleCount(instrument, rows);
            }
        }
    }
}

/// Gives the request its row, its end, or a promise.
unsafe fn answer(areq: *mut pg_sys::AsyncRequest) {
    // SAFETY: as for the callers. ExecProcNodeReal is ExecForeignScan, which evaluates local conditions and projects.
    unsafe {
        let node = (*areq).requestee;
        let next = (*node).ExecProcNodeReal.expect("an initialised node has it");
        let slot = next(node);
        if has_row(slot) {
            compat::async_done(areq, slot);
        } else if scan::is_pending(one_scan(areq)) {
            compat::async_pending(areq);
        } else {
            compat::async_done(areq, std::ptr::null_mut());
        }
    }
}

unsafe fn has_row(slot: *mut pg_sys::TupleTableSlot) -> bool {
    // SAFETY: null or a valid slot.
    !slot.is_null() && unsafe { u32::from((*slot).tts_flags) & pg_sys::TTS_FLAG_EMPTY == 0 }
}

unsafe fn one_scan(areq: *mut pg_sys::AsyncRequest) -> *mut pg_sys::ForeignScanState {
    // SAFETY: only foreign scans are asked asynchronously.
    unsafe { (*areq).requestee.cast() }
}

/// The requests to scans of ours that wait below the same Append, in its order.
unsafe fn pending(areq: *mut pg_sys::AsyncRequest) -> impl Iterator<Item = *mut pg_sys::AsyncRequest> {
    // SAFETY: the requestor is the only kind of node that asks asynchronously; its array has an entry per subplan, null for those
    // that are not asked so.
    unsafe {
        debug_assert!(pg::is_a((*areq).requestor.cast(), pg_sys::NodeTag::T_AppendState));
        let append = (*areq).requestor.cast::<pg_sys::AppendState>();
        let requests = (*append).as_asyncrequests;
        (0..(*append).as_nplans as usize).map(move |i| *requests.add(i)).filter(|one| {
            !one.is_null() && (**one).callback_pending && {
                let routine = (*one_scan(*one)).fdwroutine;
                (*routine).ForeignAsyncNotify.is_some_and(|f| std::ptr::fn_addr_eq(f, OURS))
            }
        })
    }
}

/// Tells scans of ours from those of other wrappers.
const OURS: unsafe extern "C-unwind" fn(*mut pg_sys::AsyncRequest) = foreign_async_notify;
