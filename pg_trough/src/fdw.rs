//! The functions that the foreign-data wrapper is declared with, and the table of callbacks.

use pgrx::{pg_guard, pg_sys};

use crate::{analyze, append, explain, import, join, modify, options, plan, scan, upper};

/// A version-1 function's record.
macro_rules! declare {
    ($finfo:ident) => {
        /// Says that the function of this name follows version 1 of the calling convention.
        #[unsafe(no_mangle)]
        pub(crate) extern "C" fn $finfo() -> &'static pg_sys::Pg_finfo_record {
            static RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &RECORD
        }
    };
}

declare!(pg_finfo_trough_fdw_handler);
declare!(pg_finfo_trough_fdw_validator);

/// `trough_fdw_handler()`
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn trough_fdw_handler(_fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: a node of this size and tag, in the caller's memory context.
    unsafe {
        let routine = pg_sys::palloc0(size_of::<pg_sys::FdwRoutine>()).cast::<pg_sys::FdwRoutine>();
        (*routine).type_ = pg_sys::NodeTag::T_FdwRoutine;
        (*routine).GetForeignRelSize = Some(plan::get_foreign_rel_size);
        (*routine).GetForeignPaths = Some(plan::get_foreign_paths);
        (*routine).GetForeignPlan = Some(plan::get_foreign_plan);
        (*routine).GetForeignJoinPaths = Some(join::inside::get_foreign_join_paths);
        (*routine).GetForeignUpperPaths = Some(upper::get_foreign_upper_paths);
        (*routine).BeginForeignScan = Some(scan::begin_foreign_scan);
        (*routine).IterateForeignScan = Some(scan::iterate_foreign_scan);
        (*routine).ReScanForeignScan = Some(scan::rescan_foreign_scan);
        (*routine).EndForeignScan = Some(scan::end_foreign_scan);
        (*routine).AnalyzeForeignTable = Some(analyze::analyze_foreign_table);
        (*routine).ExplainForeignScan = Some(explain::explain_foreign_scan);
        (*routine).IsForeignPathAsyncCapable = Some(append::is_foreign_path_async_capable);
        (*routine).ForeignAsyncRequest = Some(append::foreign_async_request);
        (*routine).ForeignAsyncConfigureWait = Some(append::foreign_async_configure_wait);
        (*routine).ForeignAsyncNotify = Some(append::foreign_async_notify);
        (*routine).IsForeignRelUpdatable = Some(modify::is_foreign_rel_updatable);
        (*routine).PlanForeignModify = Some(modify::plan_foreign_modify);
        (*routine).BeginForeignModify = Some(modify::begin_foreign_modify);
        (*routine).ExecForeignInsert = Some(modify::exec_foreign_insert);
        (*routine).ExecForeignBatchInsert = Some(modify::exec_foreign_batch_insert);
        (*routine).GetForeignModifyBatchSize = Some(modify::get_foreign_modify_batch_size);
        (*routine).EndForeignModify = Some(modify::end_foreign_modify);
        (*routine).BeginForeignInsert = Some(modify::begin_foreign_insert);
        (*routine).EndForeignInsert = Some(modify::end_foreign_modify);
        (*routine).AddForeignUpdateTargets = Some(modify::add_foreign_update_targets);
        (*routine).ExecForeignUpdate = Some(modify::exec_foreign_update);
        (*routine).ExecForeignDelete = Some(modify::exec_foreign_delete);
        (*routine).PlanDirectModify = Some(modify::plan_direct_modify);
        (*routine).BeginDirectModify = Some(modify::begin_direct_modify);
        (*routine).IterateDirectModify = Some(modify::iterate_direct_modify);
        (*routine).EndDirectModify = Some(modify::end_direct_modify);
        (*routine).ExplainDirectModify = Some(modify::explain_direct_modify);
        (*routine).ExecForeignTruncate = Some(modify::exec_foreign_truncate);
        (*routine).ExplainForeignModify = Some(explain::explain_foreign_modify);
        (*routine).ImportForeignSchema = Some(import::import_foreign_schema);
        pg_sys::Datum::from(routine)
    }
}

/// `trough_fdw_validator(text[], oid)`
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn trough_fdw_validator(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: PostgreSQL passes the options as a text array and a catalog's OID.
    unsafe {
        let args = (*fcinfo).args.as_slice(2);
        let list = pg_sys::untransformRelOptions(args[0].value);
        options::validate(list, pg_sys::Oid::from(args[1].value.value() as u32));
        pg_sys::Datum::from(0)
    }
}
