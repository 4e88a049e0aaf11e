//! The executor's callbacks for writing row by row.

use pgrx::{pg_guard, pg_sys};

use super::{
    change::Change,
    insert::{Insert, Rows},
    unsupported,
};
use crate::{memory, pg, table};

/// What a result relation's `ri_FdwState` holds.
enum State {
    Insert(Insert),
    Change(Change),
}

unsafe fn state_of<'a>(rel: *mut pg_sys::ResultRelInfo) -> Option<&'a mut State> {
    // SAFETY: only this module sets it.
    unsafe { (*rel).ri_FdwState.cast::<State>().as_mut() }
}

unsafe fn insert_of<'a>(rel: *mut pg_sys::ResultRelInfo) -> &'a mut Insert {
    match unsafe { state_of(rel) } {
        Some(State::Insert(insert)) => insert,
        _ => unreachable!("the INSERT has begun"),
    }
}

unsafe fn change_of<'a>(rel: *mut pg_sys::ResultRelInfo) -> &'a mut Change {
    match unsafe { state_of(rel) } {
        Some(State::Change(change)) => change,
        _ => unreachable!("the UPDATE or DELETE has begun"),
    }
}

/// The SQLite statement of a result relation.
///
/// # Safety
/// The executor's structure.
pub(crate) unsafe fn sql(rel: *mut pg_sys::ResultRelInfo) -> Option<String> {
    match unsafe { state_of(rel) }? {
        State::Insert(insert) => Some(insert.sql().to_owned()),
        State::Change(change) => Some(change.sql().to_owned()).filter(|sql| !sql.is_empty()),
    }
}

/// `BeginForeignModify`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn begin_foreign_modify(
    state: *mut pg_sys::ModifyTableState,
    rel: *mut pg_sys::ResultRelInfo,
    _private: *mut pg_sys::List,
    index: i32,
    flags: i32,
) {
    // SAFETY: the executor's structures.
    unsafe {
        let explain_only = flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 != 0;
        let estate = (*state).ps.state;
        let table = table::load((*(*rel).ri_RelationDesc).rd_id);
        let begun = match (*state).operation {
            pg_sys::CmdType::CMD_INSERT => {
                let insert = Insert::begin(estate, rel, table, Rows::Named, String::new(), explain_only);
                let lists = (*(*state).ps.plan.cast::<pg_sys::ModifyTable>()).returningLists;
                if let Some(list) = pg::list::<pg_sys::Node>(lists).nth(index as usize) {
                    insert.refuse_returning(list);
                }
                State::Insert(insert)
            }
            _ => State::Change(Change::begin(state, rel, table, explain_only)),
        };
        (*rel).ri_FdwState = memory::own((*estate).es_query_cxt, begun).cast();
    }
}

/// `BeginForeignInsert`: COPY, and rows that a partitioned table routes here.
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn begin_foreign_insert(
    state: *mut pg_sys::ModifyTableState,
    rel: *mut pg_sys::ResultRelInfo,
) {
    // SAFETY: the executor's structures.
    unsafe {
        let table = table::load((*(*rel).ri_RelationDesc).rd_id);
        let plan = (*state).ps.plan.cast::<pg_sys::ModifyTable>();
        if !plan.is_null() && (*plan).onConflictAction != pg_sys::OnConflictAction::ONCONFLICT_NONE {
            unsupported("ON CONFLICT by way of a partitioned table", &pg::relation_name(table.relid)).raise();
        }
        let rows = if (*state).operation == pg_sys::CmdType::CMD_INSERT { Rows::Named } else { Rows::Whole };
        if rows == Rows::Whole && ((*rel).ri_usesFdwDirectModify || !(*rel).ri_FdwState.is_null()) {
            unsupported("moving rows into a partition that the same UPDATE changes", &pg::relation_name(table.relid))
                .raise();
        }
        let estate = (*state).ps.state;
        let insert = Insert::begin(estate, rel, table, rows, String::new(), false);
        if let Some(projection) = (*rel).ri_projectReturning.as_ref() {
            insert.refuse_returning(projection.pi_state.expr.cast());
        }
        let begun = State::Insert(insert);
        (*rel).ri_FdwState = memory::own((*estate).es_query_cxt, begun).cast();
    }
}

/// `GetForeignModifyBatchSize`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn get_foreign_modify_batch_size(rel: *mut pg_sys::ResultRelInfo) -> i32 {
    // SAFETY: the executor's structures.
    unsafe {
        let triggers = !(*rel).ri_TrigDesc.is_null();
        if !(*rel).ri_projectReturning.is_null() || !(*rel).ri_WithCheckOptions.is_null() || triggers {
            return 1;
        }
        match state_of(rel) {
            Some(State::Insert(insert)) => insert.table().batch_size,
            _ => 1,
        }
    }
}

/// Refuses a row that another partition should have: a scan of the partitioned table would not find it here.
///
/// # Safety
/// The executor's structures; the slot's attributes are the table's.
pub(crate) unsafe fn check_partition(
    estate: *mut pg_sys::EState,
    rel: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
) {
    // SAFETY: as for the caller.
    unsafe {
        if (*(*(*rel).ri_RelationDesc).rd_rel).relispartition {
            pg_sys::ExecPartitionCheck(rel, slot, estate, true);
        }
    }
}

/// `ExecForeignInsert`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn exec_foreign_insert(
    estate: *mut pg_sys::EState,
    rel: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    _plan_slot: *mut pg_sys::TupleTableSlot,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the executor's structures; the state was set when the INSERT began.
    unsafe {
        check_partition(estate, rel, slot);
        insert_of(rel).take(slot);
        slot
    }
}

/// `ExecForeignBatchInsert`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn exec_foreign_batch_insert(
    estate: *mut pg_sys::EState,
    rel: *mut pg_sys::ResultRelInfo,
    slots: *mut *mut pg_sys::TupleTableSlot,
    _plan_slots: *mut *mut pg_sys::TupleTableSlot,
    count: *mut i32,
) -> *mut *mut pg_sys::TupleTableSlot {
    // SAFETY: `slots` holds `count` slots.
    unsafe {
        let insert = insert_of(rel);
        for i in 0..*count as usize {
            let slot = *slots.add(i);
            check_partition(estate, rel, slot);
            insert.take(slot);
        }
        slots
    }
}

/// `ExecForeignUpdate`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn exec_foreign_update(
    estate: *mut pg_sys::EState,
    rel: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    plan_slot: *mut pg_sys::TupleTableSlot,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the executor's structures; no slot means that the row does not count.
    unsafe {
        check_partition(estate, rel, slot);
        if change_of(rel).take(Some(slot), plan_slot) { slot } else { std::ptr::null_mut() }
    }
}

/// `ExecForeignDelete`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn exec_foreign_delete(
    _estate: *mut pg_sys::EState,
    rel: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    plan_slot: *mut pg_sys::TupleTableSlot,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: as for UPDATE.
    unsafe {
        let change = change_of(rel);
        if !change.take(None, plan_slot) {
            return std::ptr::null_mut();
        }
        change.fill_old(slot, plan_slot);
        slot
    }
}

/// `EndForeignModify` and `EndForeignInsert`: what is collected is written before the statement ends.
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn end_foreign_modify(
    _estate: *mut pg_sys::EState,
    rel: *mut pg_sys::ResultRelInfo,
) {
    // SAFETY: the executor's structures.
    match unsafe { state_of(rel) } {
        Some(State::Insert(insert)) => insert.flush(),
        Some(State::Change(change)) => change.flush(),
        None => {}
    }
}
