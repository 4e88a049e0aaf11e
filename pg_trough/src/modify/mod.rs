//! Writing. Rows are collected per segment and written when the statement ends, in one SQLite transaction per segment
//! ([`insert`], [`change`]); what one SQLite statement per segment can do is done so ([`direct`]).
//!
//! There is no transaction over segments: [`send`] says which ones a failed statement changed, and [`transaction`] which ones a
//! rollback leaves as they are.

use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};

mod change;
mod direct;
mod exec;
mod identity;
mod insert;
mod plan;
mod put;
mod returning;
mod send;
mod target;
pub(crate) mod transaction;
mod truncate;

pub(crate) use direct::{begin_direct_modify, end_direct_modify, explain_direct_modify, iterate_direct_modify};
pub(crate) use exec::{
    begin_foreign_insert, begin_foreign_modify, end_foreign_modify, exec_foreign_batch_insert, exec_foreign_delete,
    exec_foreign_insert, exec_foreign_update, get_foreign_modify_batch_size, sql,
};
pub(crate) use identity::{Identity, add_foreign_update_targets, store};
pub(crate) use plan::{identity, plan_direct_modify, plan_foreign_modify};
pub(crate) use truncate::exec_foreign_truncate;

use crate::{errors::Failure, table};

/// Encoded rows that are sent together, about.
const WAVE: usize = 16 << 20;

/// `IsForeignRelUpdatable`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn is_foreign_rel_updatable(rel: pg_sys::Relation) -> i32 {
    // SAFETY: an open relation.
    let table = table::load(unsafe { (*rel).rd_id });
    if table.read_only || table.table.segment_column().is_none() {
        return 0;
    }
    1 << pg_sys::CmdType::CMD_INSERT | 1 << pg_sys::CmdType::CMD_UPDATE | 1 << pg_sys::CmdType::CMD_DELETE
}

fn unsupported(what: &str, relation: &str) -> Failure {
    Failure::new(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("{what} is not supported on foreign table \"{relation}\""),
    )
}
