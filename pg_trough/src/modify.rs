//! INSERT and COPY: rows are collected per segment and written when the statement ends, in one SQLite transaction per
//! segment.

use std::sync::Arc;

use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};
use trough_client::{SegmentPattern, WriteClient};
use trough_core::{
    SchemaId, SegmentId, Value,
    wire::{SegmentWrite, WriteResult, WriteStatement},
};
use trough_pushdown::{Column, quote_identifier};

use crate::{
    cluster, compat, encode,
    errors::{Failure, OrRaise, sqlstate},
    guc, memory, pg,
    rows::RowBuffer,
    runtime,
    table::{self, ForeignTable},
};

/// An INSERT or COPY under way. Owned by the query's memory context.
pub(crate) struct Modify {
    table: ForeignTable,
    relation: String,
    /// The segment column's index.
    segment: usize,
    /// The columns that are sent, with their indexes.
    columns: Vec<(usize, Column)>,
    sql: String,
    writer: Option<Writer>,
    /// The table's segments, if not all.
    pattern: Option<SegmentPattern>,
    rows: RowBuffer,
    written: Vec<SegmentId>,
}

struct Writer {
    server: String,
    client: Arc<WriteClient>,
}

/// Encoded rows that are sent together, about.
const WAVE: usize = 16 << 20;

unsafe fn modify_of<'a>(rel: *mut pg_sys::ResultRelInfo) -> Option<&'a mut Modify> {
    // SAFETY: only this module sets it.
    unsafe { (*rel).ri_FdwState.cast::<Modify>().as_mut() }
}

/// The SQLite statement of an INSERT.
///
/// # Safety
/// The executor's structure.
pub(crate) unsafe fn sql(rel: *mut pg_sys::ResultRelInfo) -> Option<String> {
    unsafe { modify_of(rel) }.map(|m| m.sql.clone())
}

/// `IsForeignRelUpdatable`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn is_foreign_rel_updatable(rel: pg_sys::Relation) -> i32 {
    // SAFETY: an open relation.
    let table = table::load(unsafe { (*rel).rd_id });
    if table.read_only || table.table.segment_column().is_none() { 0 } else { 1 << pg_sys::CmdType::CMD_INSERT }
}

fn unsupported(what: &str, relation: &str) -> Failure {
    Failure::new(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        format!("{what} is not supported on foreign table \"{relation}\""),
    )
}

/// `PlanForeignModify`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn plan_foreign_modify(
    root: *mut pg_sys::PlannerInfo,
    plan: *mut pg_sys::ModifyTable,
    relation: pg_sys::Index,
    _index: i32,
) -> *mut pg_sys::List {
    // SAFETY: the planner's structures.
    unsafe {
        let rte = *(*root).simple_rte_array.add(relation as usize);
        let name = pg::relation_name((*rte).relid);
        match (*plan).operation {
            pg_sys::CmdType::CMD_INSERT => {}
            pg_sys::CmdType::CMD_UPDATE => unsupported("UPDATE", &name).raise(),
            pg_sys::CmdType::CMD_DELETE => unsupported("DELETE", &name).raise(),
            _ => unsupported("MERGE", &name).raise(),
        }
        if (*plan).onConflictAction != pg_sys::OnConflictAction::ONCONFLICT_NONE {
            unsupported("ON CONFLICT", &name).raise();
        }
        std::ptr::null_mut()
    }
}

/// `BeginForeignModify`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn begin_foreign_modify(
    state: *mut pg_sys::ModifyTableState,
    rel: *mut pg_sys::ResultRelInfo,
    _private: *mut pg_sys::List,
    _index: i32,
    flags: i32,
) {
    unsafe { begin((*state).ps.state, rel, flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 != 0) }
}

/// `BeginForeignInsert`: COPY, and rows that a partitioned table routes here.
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn begin_foreign_insert(
    state: *mut pg_sys::ModifyTableState,
    rel: *mut pg_sys::ResultRelInfo,
) {
    // SAFETY: the executor's structures.
    unsafe {
        let plan = (*state).ps.plan.cast::<pg_sys::ModifyTable>();
        if !plan.is_null() && (*plan).onConflictAction != pg_sys::OnConflictAction::ONCONFLICT_NONE {
            unsupported("ON CONFLICT", &pg::relation_name((*(*rel).ri_RelationDesc).rd_id)).raise();
        }
        begin((*state).ps.state, rel, false);
    }
}

unsafe fn begin(estate: *mut pg_sys::EState, rel: *mut pg_sys::ResultRelInfo, explain_only: bool) {
    // SAFETY: the executor's structures.
    unsafe {
        let relation = (*rel).ri_RelationDesc;
        let table = table::load((*relation).rd_id);
        let name = pg::relation_name(table.relid);
        if table.read_only {
            Failure::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("foreign table \"{name}\" is read-only"),
            )
            .hint("The option read_only of the table or its server says so.")
            .raise();
        }
        let Some(segment) = table.table.segment_column() else {
            Failure::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("foreign table \"{name}\" has no segment column, so no row says where it belongs"),
            )
            .hint("Add a column: ALTER FOREIGN TABLE … ADD COLUMN segment text OPTIONS (segment 'true')")
            .raise()
        };
        let returning = !(*rel).ri_projectReturning.is_null();
        let columns = sent_columns(estate, rel, &table, returning);
        let names: Vec<_> = columns.iter().map(|(_, c)| quote_identifier(&c.name)).collect();
        let marks: Vec<_> = (1..=columns.len()).map(|i| format!("?{i}")).collect();
        let target = quote_identifier(&table.table.name);
        let sql = if columns.is_empty() {
            format!("INSERT INTO {target} DEFAULT VALUES")
        } else {
            format!("INSERT INTO {target} ({}) VALUES ({})", names.join(", "), marks.join(", "))
        };
        let writer = (!explain_only).then(|| {
            let cluster = cluster::of(table.server, compat::modify_user(estate, rel));
            let schema = SchemaId::new(&table.schema)
                .map_err(|e| Failure::new(PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE, e.to_string()))
                .or_raise();
            Writer { server: cluster.server.clone(), client: Arc::new(cluster.writer(&schema)) }
        });
        let modify = Modify {
            relation: name,
            segment,
            columns,
            sql,
            writer,
            pattern: table.segment_pattern(),
            rows: RowBuffer::new(guc::WRITE_BUFFER.get() as usize * 1024, (*estate).es_query_cxt),
            written: Vec::new(),
            table,
        };
        (*rel).ri_FdwState = memory::own((*estate).es_query_cxt, modify).cast();
    }
}

/// The columns that an INSERT names or PostgreSQL has a value for; the others keep SQLite's defaults. With RETURNING all
/// are sent, so that what is returned is what is stored.
unsafe fn sent_columns(
    estate: *mut pg_sys::EState,
    rel: *mut pg_sys::ResultRelInfo,
    table: &ForeignTable,
    returning: bool,
) -> Vec<(usize, Column)> {
    // SAFETY: the executor's structures.
    unsafe {
        let tuple_desc = (*(*rel).ri_RelationDesc).rd_att;
        let named = compat::inserted_columns(estate, rel);
        let sent = |index: usize| {
            let attribute = compat::attribute(tuple_desc, index);
            let member = index as i32 + 1 - pg_sys::FirstLowInvalidHeapAttributeNumber;
            returning || named.is_null() || (*attribute).atthasdef || pg_sys::bms_is_member(member, named)
        };
        let columns = table.table.columns.iter().enumerate();
        columns
            .filter_map(|(index, column)| Some((index, column.clone()?)))
            .filter(|(index, column)| !column.segment && !table.generated[*index] && sent(*index))
            .collect()
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
        modify_of(rel).map_or(1, |m| m.table.batch_size)
    }
}

/// `ExecForeignInsert`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn exec_foreign_insert(
    _estate: *mut pg_sys::EState,
    rel: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    _plan_slot: *mut pg_sys::TupleTableSlot,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the executor's structures; the state was set when the INSERT began.
    unsafe {
        let modify = modify_of(rel).expect("the INSERT has begun");
        modify.take(slot);
        slot
    }
}

/// `ExecForeignBatchInsert`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn exec_foreign_batch_insert(
    _estate: *mut pg_sys::EState,
    rel: *mut pg_sys::ResultRelInfo,
    slots: *mut *mut pg_sys::TupleTableSlot,
    _plan_slots: *mut *mut pg_sys::TupleTableSlot,
    count: *mut i32,
) -> *mut *mut pg_sys::TupleTableSlot {
    // SAFETY: `slots` holds `count` slots.
    unsafe {
        let modify = modify_of(rel).expect("the INSERT has begun");
        for i in 0..*count as usize {
            modify.take(*slots.add(i));
        }
        slots
    }
}

/// `EndForeignModify` and `EndForeignInsert`: what is collected is written before the statement ends.
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn end_foreign_modify(
    _estate: *mut pg_sys::EState,
    rel: *mut pg_sys::ResultRelInfo,
) {
    // SAFETY: the executor's structures.
    if let Some(modify) = unsafe { modify_of(rel) } {
        modify.flush();
    }
}

impl Modify {
    /// Takes a row.
    unsafe fn take(&mut self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: after slot_getsomeattrs the slot's arrays hold every attribute.
        unsafe {
            let natts = (*(*slot).tts_tupleDescriptor).natts;
            if i32::from((*slot).tts_nvalid) < natts {
                pg_sys::slot_getsomeattrs_int(slot, natts);
            }
            let get = |index: usize| (!*(*slot).tts_isnull.add(index)).then(|| *(*slot).tts_values.add(index));
            let Some(segment) = get(self.segment) else {
                Failure::new(
                    PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
                    format!("a row for foreign table \"{}\" has no segment", self.relation),
                )
                .raise()
            };
            let name = encode::text(segment);
            if !self.rows.knows(&name) {
                let segment = SegmentId::new(&name)
                    .map_err(|e| Failure::new(PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION, e.to_string()))
                    .or_raise();
                if self.pattern.as_ref().is_some_and(|p| !p.matches(&name)) {
                    Failure::new(
                        PgSqlErrorCode::ERRCODE_CHECK_VIOLATION,
                        format!("segment \"{name}\" does not belong to foreign table \"{}\"", self.relation),
                    )
                    .hint("The option segments says which do.")
                    .raise();
                }
                self.rows.begin(segment);
            }
            let computed = self.table.generated.iter().enumerate().filter(|(_, generated)| **generated);
            if let Some((index, _)) = computed.into_iter().find(|(index, _)| get(*index).is_some()) {
                self.not_computed(index).raise();
            }
            let (columns, relation) = (&self.columns, &self.relation);
            let row = columns.iter().map(|(index, column)| match get(*index) {
                None => Value::Null,
                Some(datum) => encode::stored(datum, column, relation).or_raise(),
            });
            self.rows.push(&name, row);
        }
    }

    /// The error for a value of a column that SQLite computes, as PostgreSQL words it for its own.
    #[cold]
    fn not_computed(&self, index: usize) -> Failure {
        let name = self.table.table.column(index).map_or("", |c| c.name.as_str());
        Failure::new(
            PgSqlErrorCode::ERRCODE_GENERATED_ALWAYS,
            format!("cannot insert a non-DEFAULT value into column \"{name}\""),
        )
        .detail(format!("Column \"{name}\" is a generated column."))
    }

    /// Writes what is collected, in waves.
    fn flush(&mut self) {
        loop {
            let wave = self.rows.take(self.columns.len(), WAVE);
            if wave.is_empty() {
                break;
            }
            self.send(wave);
        }
    }

    fn send(&mut self, wave: Vec<(SegmentId, Vec<Vec<Value>>)>) {
        let Some(writer) = &self.writer else { return };
        let statement = |rows| WriteStatement { sql: self.sql.clone(), rows };
        let writes: Vec<SegmentWrite> = wave
            .into_iter()
            .map(|(segment, rows)| SegmentWrite { segment, statements: vec![statement(rows)] })
            .collect();
        let segments: Vec<SegmentId> = writes.iter().map(|w| w.segment.clone()).collect();
        let client = writer.client.clone();
        let results = runtime::block_on(async move { client.write(writes).await });
        let results = match results {
            Ok(results) => results,
            Err(error) => self.with_written(cluster::write_failure(&writer.server, &error)).raise(),
        };
        let mut first = None;
        for (segment, result) in segments.into_iter().zip(results) {
            match result {
                WriteResult::Ok { .. } => self.written.push(segment),
                WriteResult::Err { error } => {
                    first.get_or_insert((segment, error));
                }
            }
        }
        if let Some((segment, error)) = first {
            let failure = Failure::new(
                sqlstate(&error),
                format!("segment \"{segment}\", table \"{}\": {}", self.table.table.name, error.message),
            );
            self.with_written(failure).raise();
        }
    }

    /// Says which segments keep what the failed statement wrote.
    fn with_written(&self, failure: Failure) -> Failure {
        const SHOWN: usize = 10;
        let mut names: Vec<_> = self.written.iter().map(|s| s.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        match names.len() {
            0 => failure.detail("Nothing of the statement was kept."),
            n => {
                let more = if n > SHOWN { format!(" and {} more", n - SHOWN) } else { String::new() };
                let shown = names[..n.min(SHOWN)].join(", ");
                failure.detail(format!("Kept were its rows of {n} other segments: {shown}{more}."))
            }
        }
    }
}
