//! INSERT and COPY: which columns are sent, and the rows until they are.

use std::collections::HashMap;

use pgrx::{PgSqlErrorCode, pg_sys};
use trough_core::wire::{SegmentWrite, WriteStatement};
use trough_pushdown::{Column, quote_identifier};

use super::{
    WAVE, put,
    send::{Sender, Written},
    target::{Attributes, Last, Scratch, Target},
};
use crate::{
    compat,
    errors::{Failure, OrRaise},
    guc, pg,
    rows::RowBuffer,
    table::ForeignTable,
};

/// Columns with their indexes.
type Columns = Vec<(usize, Column)>;

/// An INSERT or COPY under way. Owned by the query's memory context.
pub(crate) struct Insert {
    target: Target,
    /// None under EXPLAIN.
    sender: Option<Sender>,
    /// The columns that are sent, with their indexes.
    columns: Vec<(usize, Column)>,
    /// Those that the INSERT does not name but a trigger may set: sent in the rows where they are not NULL.
    others: Vec<(usize, Column)>,
    /// Those that SQLite computes: a value would be lost.
    computed: Vec<usize>,
    /// What stands behind VALUES.
    suffix: String,
    /// Statements with more columns, by which of `others` they have.
    wider: HashMap<Vec<usize>, usize>,
    sqls: Vec<String>,
    rows: RowBuffer,
    last: Last,
    scratch: Scratch,
}

impl Insert {
    /// For the rows of an INSERT, COPY, or UPDATE that moves rows here.
    ///
    /// # Safety
    /// The executor's structures.
    pub(crate) unsafe fn begin(
        estate: *mut pg_sys::EState,
        rel: *mut pg_sys::ResultRelInfo,
        table: ForeignTable,
        rows: Rows,
        suffix: String,
        explain_only: bool,
    ) -> Self {
        let target = Target::of(table);
        // SAFETY: as for the caller.
        unsafe {
            let (columns, others) = sent_columns(estate, rel, &target.table, rows);
            let first = insert_sql(&target.table, &columns, &suffix);
            Self {
                sender: (!explain_only).then(|| Sender::new(&target.table, compat::modify_user(estate, rel))),
                columns,
                others,
                computed: (0..target.table.generated.len()).filter(|i| target.table.generated[*i]).collect(),
                suffix,
                wider: HashMap::new(),
                sqls: vec![first],
                rows: RowBuffer::new(guc::WRITE_BUFFER.get() as usize * 1024, (*estate).es_query_cxt),
                last: Last::default(),
                scratch: Scratch::new((*estate).es_query_cxt),
                target,
            }
        }
    }

    /// The SQLite statement.
    pub(crate) fn sql(&self) -> &str {
        &self.sqls[0]
    }

    /// The table.
    pub(crate) fn table(&self) -> &ForeignTable {
        &self.target.table
    }

    /// Takes a row.
    ///
    /// # Safety
    /// The slot's attributes are the table's.
    pub(crate) unsafe fn take(&mut self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: as for the caller.
        let row = unsafe { Attributes::of(slot) };
        let Self { target, columns, others, computed, suffix, wider, sqls, rows, last, scratch, .. } = self;
        scratch.run(|| {
            // SAFETY: the segment column is a text.
            let Some(place) = (unsafe { last.place(target, rows, &row, target.segment) }) else {
                Failure::new(
                    PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
                    format!("a row for foreign table \"{}\" has no segment", target.relation),
                )
                .raise()
            };
            if let Some(index) = computed.iter().find(|index| row.get(**index).is_some()) {
                generated(&target.table, *index).raise();
            }
            let extra: Vec<usize> = (0..others.len()).filter(|i| row.get(others[*i].0).is_some()).collect();
            let sent = || columns.iter().chain(extra.iter().map(|i| &others[*i]));
            let statement = match extra.is_empty() {
                true => 0,
                false => *wider.entry(extra.clone()).or_insert_with(|| {
                    let list: Vec<_> = sent().cloned().collect();
                    sqls.push(insert_sql(&target.table, &list, suffix));
                    sqls.len() - 1
                }),
            };
            rows.push(place, statement, (columns.len() + extra.len()) as u32, |out| {
                for (index, column) in sent() {
                    // SAFETY: the attribute is of the column's type.
                    unsafe { put::put(row.get(*index), column, &target.relation, out).or_raise() };
                }
            });
        });
    }

    /// Writes some of what is collected; nothing at the end.
    pub(crate) fn write_wave(&mut self) -> Option<Vec<Written>> {
        let wave = self.rows.take(WAVE);
        let sender = self.sender.as_mut().filter(|_| !wave.is_empty())?;
        let writes = wave.into_iter().map(|(segment, batches)| {
            let statement = |batch: crate::rows::Batch| WriteStatement {
                sql: self.sqls[batch.statement].clone(),
                packed: Some(batch.rows),
                ..WriteStatement::default()
            };
            SegmentWrite { segment, statements: batches.into_iter().map(statement).collect() }
        });
        Some(sender.send(writes.collect()))
    }

    /// Writes everything that is collected.
    pub(crate) fn flush(&mut self) {
        while self.write_wave().is_some() {}
    }

    /// Row by row, what is returned is what is sent. A column that is left to SQLite has no value before the statement's end, so
    /// RETURNING must not read it.
    ///
    /// # Safety
    /// The expressions are the executor's, of a RETURNING clause, or null.
    pub(crate) unsafe fn refuse_returning(&self, returning: *mut pg_sys::Node) {
        unsafe fn read(node: *mut pg_sys::Node, attributes: &mut Vec<usize>) {
            if node.is_null() {
                return;
            }
            // SAFETY: casts follow tags; the walker visits children only.
            unsafe {
                if !pg::is_a(node, pg_sys::NodeTag::T_Var) {
                    compat::walk_children(node, &mut |child| {
                        read(child, attributes);
                        false
                    });
                    return;
                }
                let var = node.cast::<pg_sys::Var>();
                if i64::from((*var).varno) != i64::from(pg_sys::OUTER_VAR) {
                    attributes.extend(usize::try_from((*var).varattno));
                }
            }
        }
        let mut attributes = Vec::new();
        // SAFETY: as for the caller.
        unsafe { read(returning, &mut attributes) };
        // The whole row is attribute 0.
        let is_read = |index: usize| attributes.contains(&(index + 1)) || attributes.contains(&0);
        let is_sent = |index: usize| self.columns.iter().any(|(i, _)| *i == index);
        let columns = self.target.table.table.columns.iter().enumerate();
        let mut columns = columns.filter_map(|(index, column)| Some((index, column.as_ref()?)));
        if let Some((_, column)) = columns.find(|(i, column)| !column.segment && is_read(*i) && !is_sent(*i)) {
            let what = format!("RETURNING the column \"{}\", which the INSERT does not name,", column.name);
            super::unsupported(&what, &self.target.relation)
                .detail(
                    "The rows go one by one through row triggers, generated columns, a CHECK OPTION or a partitioned table, \
                     and are written when the statement ends; until then SQLite has not given the column its value.",
                )
                .raise();
        }
    }
}

/// Where the rows come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// An INSERT or COPY, which names columns.
    Named,
    /// An UPDATE that moves rows from another partition: they come whole.
    Whole,
}

fn insert_sql(table: &ForeignTable, columns: &[(usize, Column)], suffix: &str) -> String {
    let names: Vec<_> = columns.iter().map(|(_, c)| quote_identifier(&c.name)).collect();
    let marks: Vec<_> = (1..=columns.len()).map(|i| format!("?{i}")).collect();
    let target = quote_identifier(&table.table.name);
    if columns.is_empty() {
        // With DEFAULT VALUES, SQLite knows no ON CONFLICT.
        let nothing = if suffix.contains("ON CONFLICT") { "(_rowid_) VALUES (NULL)" } else { "DEFAULT VALUES" };
        return format!("INSERT INTO {target} {nothing}{suffix}");
    }
    format!("INSERT INTO {target} ({}) VALUES ({}){suffix}", names.join(", "), marks.join(", "))
}

/// The columns that an INSERT names or PostgreSQL has a value for; the others keep SQLite's defaults, unless a trigger sets
/// them.
unsafe fn sent_columns(
    estate: *mut pg_sys::EState,
    rel: *mut pg_sys::ResultRelInfo,
    table: &ForeignTable,
    rows: Rows,
) -> (Columns, Columns) {
    // SAFETY: the executor's structures.
    unsafe {
        let tuple_desc = (*(*rel).ri_RelationDesc).rd_att;
        let named = pg_sys::ExecGetInsertedCols(rel, estate);
        let sent = |index: usize| {
            let attribute = compat::attribute(tuple_desc, index);
            let member = index as i32 + 1 - pg_sys::FirstLowInvalidHeapAttributeNumber;
            rows == Rows::Whole
                || (*attribute).atthasdef
                || (*attribute).attidentity != 0
                || pg_sys::bms_is_member(member, named)
        };
        let triggers = (*rel).ri_TrigDesc;
        let triggers = !triggers.is_null() && (*triggers).trig_insert_before_row;
        let columns = table.table.columns.iter().enumerate();
        let (named, others): (Vec<_>, Vec<_>) = columns
            .filter_map(|(index, column)| Some((index, column.clone()?)))
            .filter(|(index, column)| !column.segment && !table.generated[*index])
            .partition(|(index, _)| sent(*index));
        (named, if triggers { others } else { Vec::new() })
    }
}

/// The error for a value of a column that SQLite computes, as PostgreSQL words it for its own.
#[cold]
pub(crate) fn generated(table: &ForeignTable, index: usize) -> Failure {
    let name = table.table.column(index).map_or("", |c| c.name.as_str());
    Failure::new(
        PgSqlErrorCode::ERRCODE_GENERATED_ALWAYS,
        format!("cannot insert a non-DEFAULT value into column \"{name}\""),
    )
    .detail(format!("Column \"{name}\" is a generated column."))
}
