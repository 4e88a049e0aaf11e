//! TRUNCATE: every segment of the table that has rows is emptied.

use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};
use trough_client::{QueryTemplate, SegmentPattern, SegmentSet};
use trough_core::{
    Value,
    wire::{SegmentWrite, WriteStatement},
};
use trough_pushdown::quote_identifier;

use super::{
    direct::{SEGMENTS_AT_A_TIME, probe},
    send::Sender,
    target::Target,
    unsupported,
};
use crate::{
    cluster,
    decode::{Item, Reader},
    errors::Failure,
    pg, table,
};

/// `ExecForeignTruncate`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn exec_foreign_truncate(
    rels: *mut pg_sys::List,
    behavior: pg_sys::DropBehavior::Type,
    restart: bool,
) {
    // SAFETY: open relations, all of one server.
    let targets: Vec<Target> =
        unsafe { pg::list::<pg_sys::RelationData>(rels).map(|rel| Target::of(table::load((*rel).rd_id))).collect() };
    // All are checked before the first is touched.
    for target in &targets {
        if !target.table.truncatable {
            Failure::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("foreign table \"{}\" does not allow truncates", target.relation),
            )
            .hint("The option truncatable of the table or its server says so.")
            .raise();
        }
        if behavior == pg_sys::DropBehavior::DROP_CASCADE {
            unsupported("TRUNCATE … CASCADE", &target.relation).raise();
        }
    }
    for target in &targets {
        truncate(target, restart);
    }
}

fn truncate(target: &Target, restart: bool) {
    // SAFETY: set in every backend.
    let user = unsafe { pg_sys::GetUserId() };
    let cluster = cluster::of(target.table.server, user);
    let name = quote_identifier(&target.table.table.name);
    let map = if restart {
        // What AUTOINCREMENT counts on from; SQLite makes the table with the first such table.
        format!(
            "SELECT s FROM (SELECT count(*) AS s FROM sqlite_schema WHERE name = 'sqlite_sequence') \
             WHERE s > 0 OR EXISTS (SELECT 1 FROM {name})"
        )
    } else {
        format!("SELECT 0 FROM {name} LIMIT 1")
    };
    let set = SegmentSet::Pattern(target.table.segment_pattern().unwrap_or(SegmentPattern::All));
    let found = probe(&cluster, target, set, QueryTemplate { map, ..QueryTemplate::default() }, false);
    let mut sender = Sender::new(&target.table, user);
    let delete = WriteStatement { sql: format!("DELETE FROM {name}"), ..WriteStatement::default() };
    let forget = WriteStatement {
        sql: "DELETE FROM sqlite_sequence WHERE name = ?1".to_owned(),
        rows: vec![vec![Value::Text(target.table.table.name.clone())]],
        ..WriteStatement::default()
    };
    for some in found.chunks(SEGMENTS_AT_A_TIME) {
        let write = |(segment, data): &(_, bytes::Bytes)| {
            let counts = !matches!(Reader::new(data, 0).next(), Some(Item::Integer(0)));
            let mut statements = vec![delete.clone()];
            statements.extend(counts.then(|| forget.clone()));
            SegmentWrite { segment: Clone::clone(segment), statements }
        };
        sender.send(some.iter().map(write).collect());
    }
}
