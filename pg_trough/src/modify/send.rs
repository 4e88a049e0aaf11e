//! Sending what a statement writes, one transaction per segment, and saying what was changed if it fails.

use std::sync::Arc;

use pgrx::{PgSqlErrorCode, pg_sys};
use trough_client::WriteClient;
use trough_core::{
    ErrorCode, SchemaId, SegmentId,
    wire::{Packed, SegmentWrite, WriteResult},
};

use super::transaction;
use crate::{
    cluster,
    errors::{Failure, OrRaise, sqlstate},
    runtime,
    table::ForeignTable,
};

/// Writes for one statement and table.
pub(crate) struct Sender {
    server: String,
    /// The SQLite table, for messages.
    table: String,
    client: Arc<WriteClient>,
    /// The statement, for the record of the transaction.
    statement: u64,
    /// The segments that it has changed so far.
    changed: Vec<SegmentId>,
}

/// What was done in one segment.
pub(crate) struct Written {
    /// The segment.
    pub(crate) segment: SegmentId,
    /// Rows changed.
    pub(crate) changes: u64,
    /// What the statements returned.
    pub(crate) rows: Option<Packed>,
}

impl Sender {
    /// For a table, as a user.
    pub(crate) fn new(table: &ForeignTable, user: pg_sys::Oid) -> Self {
        let cluster = cluster::of(table.server, user);
        let schema = SchemaId::new(&table.schema)
            .map_err(|e| Failure::new(PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE, e.to_string()))
            .or_raise();
        Self {
            server: cluster.server.clone(),
            table: table.table.name.clone(),
            client: Arc::new(cluster.writer(&schema)),
            statement: transaction::begin_statement(),
            changed: Vec::new(),
        }
    }

    /// Writes, each element in a transaction of its own; if one of them fails, the statement ends here, naming the segments
    /// that were changed.
    pub(crate) fn send(&mut self, writes: Vec<SegmentWrite>) -> Vec<Written> {
        if writes.is_empty() {
            return Vec::new();
        }
        let segments: Vec<SegmentId> = writes.iter().map(|w| w.segment.clone()).collect();
        transaction::sending(self.statement, &self.server, &segments);
        let client = self.client.clone();
        let results = runtime::block_on(async move { client.write(writes).await });
        let results = match results {
            Ok(results) => results,
            Err(error) => self.fail(cluster::write_failure(&self.server, &error), &[]),
        };
        let mut done = Vec::with_capacity(results.len());
        let mut failed = Vec::new();
        let mut unknown = Vec::new();
        for (segment, result) in segments.into_iter().zip(results) {
            match result {
                WriteResult::Ok { changes, packed, .. } => {
                    if changes > 0 {
                        self.changed.push(segment.clone());
                    }
                    done.push(Written { segment, changes, rows: packed });
                }
                WriteResult::Err { error } => {
                    if error.code == ErrorCode::Unavailable && error.message.contains("not known") {
                        unknown.push(segment.clone());
                    }
                    failed.push((segment, error));
                }
            }
        }
        if let Some((segment, error)) = failed.first() {
            let failure = Failure::new(
                sqlstate(error),
                format!("segment \"{segment}\", table \"{}\": {}", self.table, error.message),
            )
            .traced();
            let failure = match error.code {
                ErrorCode::Conflict => failure.hint("Repeat the statement."),
                _ => failure,
            };
            self.fail(failure, &unknown);
        }
        transaction::sent(self.statement, &self.server, &self.changed);
        done
    }

    /// Ends the statement, saying which segments were changed by it.
    fn fail(&self, failure: Failure, unknown: &[SegmentId]) -> ! {
        transaction::told(self.statement);
        let mut detail = match self.changed.len() {
            0 => "Nothing of the statement was kept.".to_owned(),
            _ => format!("Kept is what it changed in {}.", listed(&self.changed)),
        };
        if !unknown.is_empty() {
            detail.push_str(&format!(" It is not known whether its changes were kept in {}.", listed(unknown)));
        }
        failure.detail(detail).raise()
    }
}

/// How many segments there are, and the names of the first.
pub(crate) fn listed<'a>(segments: impl IntoIterator<Item = &'a SegmentId>) -> String {
    const SHOWN: usize = 10;
    let mut names: Vec<_> = segments.into_iter().map(|s| s.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let all = names.len();
    let more = if all > SHOWN { format!(" and {} more", all - SHOWN) } else { String::new() };
    let what = if all == 1 { "segment" } else { "segments" };
    format!("{all} {what}: {}{more}", names[..all.min(SHOWN)].join(", "))
}
