//! What PostgreSQL's transactions mean over segments: nothing can be taken back. A rollback says so, naming what it leaves;
//! PREPARE TRANSACTION after a write is refused.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    ffi::c_void,
};

use pgrx::{PgLogLevel, PgSqlErrorCode, pg_guard, pg_sys, pg_sys::panic::ErrorReport};
use trough_core::SegmentId;

use super::send::listed;
use crate::errors::Failure;

/// What one statement wrote within the transaction.
struct Write {
    statement: u64,
    /// The nesting level of the (sub)transaction that it belongs to.
    level: i32,
    server: String,
    changed: BTreeSet<SegmentId>,
    /// Sent, and not answered yet.
    sending: BTreeSet<SegmentId>,
}

thread_local! {
    static WRITES: RefCell<Vec<Write>> = const { RefCell::new(Vec::new()) };
    static STATEMENTS: Cell<u64> = const { Cell::new(0) };
}

/// A number for a statement that is about to write.
pub(crate) fn begin_statement() -> u64 {
    let statement = STATEMENTS.get() + 1;
    if statement == 1 {
        // SAFETY: callbacks that stay registered as long as the process lives, as the library does.
        unsafe {
            pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(subtransaction_event), std::ptr::null_mut());
        }
    }
    STATEMENTS.set(statement);
    statement
}

fn with(statement: u64, server: &str, change: impl FnOnce(&mut Write)) {
    // SAFETY: reads the current transaction's state.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    WRITES.with_borrow_mut(|writes| {
        let at = writes.iter().position(|w| w.statement == statement).unwrap_or_else(|| {
            let (changed, sending) = (BTreeSet::new(), BTreeSet::new());
            writes.push(Write { statement, level, server: server.to_owned(), changed, sending });
            writes.len() - 1
        });
        change(&mut writes[at]);
    });
}

/// Notes that a statement's writes are on their way.
pub(crate) fn sending(statement: u64, server: &str, segments: &[SegmentId]) {
    with(statement, server, |write| write.sending.extend(segments.iter().cloned()));
}

/// Notes what a statement has changed so far; nothing is on its way.
pub(crate) fn sent(statement: u64, server: &str, changed: &[SegmentId]) {
    with(statement, server, |write| {
        write.sending.clear();
        write.changed.extend(changed.iter().cloned());
    });
}

/// Notes that an error tells what the statement changed, so that the rollback need not.
pub(crate) fn told(statement: u64) {
    WRITES.with_borrow_mut(|writes| writes.retain(|w| w.statement != statement));
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_event(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent as E;
    match event {
        E::XACT_EVENT_PRE_PREPARE if WRITES.with_borrow(|writes| writes.iter().any(|w| !w.changed.is_empty())) => {
            Failure::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                "cannot PREPARE a transaction that has written to foreign tables of pg_trough",
            )
            .detail("Each statement's writes are kept when it ends; there is nothing left to commit or roll back.")
            .raise()
        }
        E::XACT_EVENT_ABORT | E::XACT_EVENT_PARALLEL_ABORT => abandon(0),
        E::XACT_EVENT_COMMIT | E::XACT_EVENT_PARALLEL_COMMIT | E::XACT_EVENT_PREPARE => {
            WRITES.with_borrow_mut(Vec::clear);
        }
        _ => {}
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn subtransaction_event(
    event: pg_sys::SubXactEvent::Type,
    _sub: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    use pg_sys::SubXactEvent as E;
    // SAFETY: reads the current transaction's state.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    match event {
        E::SUBXACT_EVENT_ABORT_SUB => abandon(level),
        E::SUBXACT_EVENT_COMMIT_SUB => WRITES.with_borrow_mut(|writes| {
            writes.iter_mut().filter(|w| w.level >= level).for_each(|w| w.level = level - 1);
        }),
        _ => {}
    }
}

/// Says what a rollback down to a level leaves in the segments.
fn abandon(level: i32) {
    let mut left = Vec::new();
    WRITES.with_borrow_mut(|writes| {
        let (gone, kept) = std::mem::take(writes).into_iter().partition(|w| w.level >= level);
        (left, *writes) = (gone, kept);
    });
    let servers: BTreeSet<_> = left.iter().map(|w: &Write| w.server.clone()).collect();
    for server in servers {
        let of = || left.iter().filter(|w| w.server == server);
        let changed: BTreeSet<_> = of().flat_map(|w| &w.changed).collect();
        let sending: BTreeSet<_> = of().flat_map(|w| &w.sending).filter(|s| !changed.contains(s)).collect();
        let mut detail = Vec::new();
        if !changed.is_empty() {
            detail.push(format!("It was kept in {}.", listed(changed)));
        }
        if !sending.is_empty() {
            detail.push(format!("It is not known whether it was kept in {}.", listed(sending)));
        }
        if detail.is_empty() {
            continue;
        }
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("the rollback does not take back what was written through server \"{server}\""),
            "pg_trough",
        )
        .set_detail(detail.join(" "))
        .report(PgLogLevel::WARNING);
    }
}
