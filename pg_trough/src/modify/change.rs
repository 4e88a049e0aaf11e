//! UPDATE and DELETE row by row: PostgreSQL finds the rows and computes what becomes of them.
//!
//! Nothing is written before the statement ends, so it never sees its own changes. A row that was changed or deleted by somebody
//! else since it was read fails the statement: what was computed from it would be wrong.

use std::collections::{HashMap, HashSet};

use pgrx::{PgSqlErrorCode, pg_sys};
use trough_core::{
    Value,
    wire::{SegmentWrite, WriteStatement},
};
use trough_pushdown::{Column, quote_identifier};

use super::{
    WAVE,
    identity::{self, Identity, Junk},
    put,
    send::Sender,
    target::{Attributes, Scratch, Target},
};
use crate::{
    compat,
    errors::{Failure, OrRaise},
    guc,
    rows::{self, RowBuffer},
    table::ForeignTable,
};

/// An UPDATE or DELETE under way. Owned by the query's memory context.
pub(crate) struct Change {
    target: Target,
    /// None under EXPLAIN.
    sender: Option<Sender>,
    /// The columns that are set, with their indexes; none for DELETE.
    columns: Vec<(usize, Column)>,
    junk: Junk,
    sql: String,
    rows: RowBuffer,
    touched: HashMap<usize, Touched>,
    scratch: Scratch,
}

/// The rows of a segment that were changed already.
#[derive(Default)]
struct Touched {
    /// By rowid, 512 neighbours at a time.
    rowids: HashMap<i64, [u64; 8]>,
    keys: HashSet<Vec<u8>>,
}

impl Touched {
    /// Notes a row; false if it is known.
    fn note_rowid(&mut self, rowid: i64) -> bool {
        let bits = self.rowids.entry(rowid >> 9).or_default();
        let word = &mut bits[(rowid >> 6 & 7) as usize];
        let bit = 1u64 << (rowid & 63);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

impl Change {
    /// For the rows of an UPDATE or DELETE.
    ///
    /// # Safety
    /// The executor's structures.
    pub(crate) unsafe fn begin(
        state: *mut pg_sys::ModifyTableState,
        rel: *mut pg_sys::ResultRelInfo,
        table: ForeignTable,
        explain_only: bool,
    ) -> Self {
        let target = Target::of(table);
        // SAFETY: as for the caller.
        unsafe {
            let estate = (*state).ps.state;
            let subplan = (*(*state).ps.lefttree).plan;
            let identity = Identity::of(&target.table);
            let desc = (*(*rel).ri_RelationDesc).rd_att;
            let junk = Junk::find((*subplan).targetlist, desc, &target.table, target.segment, &identity);
            let columns = match (*state).operation {
                pg_sys::CmdType::CMD_UPDATE => set_columns(estate, rel, &target.table),
                _ => Vec::new(),
            };
            let update = (*state).operation == pg_sys::CmdType::CMD_UPDATE;
            let sql = change_sql(&target.table, &identity, &columns, update);
            Self {
                sender: (!explain_only).then(|| Sender::new(&target.table, compat::modify_user(estate, rel))),
                columns,
                junk,
                sql,
                rows: RowBuffer::new(guc::WRITE_BUFFER.get() as usize * 1024, (*estate).es_query_cxt),
                touched: HashMap::new(),
                scratch: Scratch::new((*estate).es_query_cxt),
                target,
            }
        }
    }

    /// The SQLite statement; none if nothing of a row can change.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// Takes a row: `new` is what an UPDATE makes of it. False if the statement has changed it already: only the first change
    /// counts.
    ///
    /// # Safety
    /// The slots hold tuples: `plan` the plan's, `new` the table's.
    pub(crate) unsafe fn take(
        &mut self,
        new: Option<*mut pg_sys::TupleTableSlot>,
        plan: *mut pg_sys::TupleTableSlot,
    ) -> bool {
        // SAFETY: as for the caller.
        let (row, new) = unsafe { (Attributes::of(plan), new.map(|slot| Attributes::of(slot))) };
        let Self { target, columns, junk, sql, rows, touched, scratch, .. } = self;
        scratch.run(|| {
            // SAFETY: the plan's row.
            let (segment, rowid) = unsafe { (junk.segment(&row), junk.rowid(&row)) };
            let (Some(segment), Some(print)) = (segment, junk.print(&row)) else {
                Failure::new(
                    PgSqlErrorCode::ERRCODE_FDW_ERROR,
                    format!("a row of foreign table \"{}\" came without its identity", target.relation),
                )
                .raise()
            };
            if let Some(new) = &new {
                // SAFETY: the segment column is a text.
                let moved = unsafe { new.text(target.segment) };
                if moved.as_deref() != Some(&segment) {
                    let to = moved.map_or("NULL".to_owned(), |m| format!("\"{m}\""));
                    Failure::new(
                        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                        format!("a row of foreign table \"{}\" cannot change its segment", target.relation),
                    )
                    .detail(format!("It is in segment \"{segment}\" and would go to {to}."))
                    .hint("Insert it into the other segment, and delete it from this one.")
                    .raise();
                }
            }
            let place = target.place(rows, &segment);
            let touched = touched.entry(place).or_default();
            let mut key = Vec::new();
            let known = match rowid {
                Some(rowid) => !touched.note_rowid(rowid),
                None => {
                    for (index, junk) in &junk.keys {
                        let Some(column) = target.table.table.column(*index) else { continue };
                        // SAFETY: the attribute is of the column's type.
                        unsafe { put::put(row.get(*junk), column, &target.relation, &mut key).or_raise() };
                    }
                    !touched.keys.insert(key.clone())
                }
            };
            if known {
                return false;
            }
            if sql.is_empty() {
                return true;
            }
            let width = columns.len() + rowid.map_or(junk.keys.len(), |_| 1) + 1;
            rows.push(place, 0, width as u32, |out| {
                if let Some(new) = &new {
                    for (index, column) in columns.iter() {
                        // SAFETY: the attribute is of the column's type.
                        unsafe { put::put(new.get(*index), column, &target.relation, out).or_raise() };
                    }
                }
                match rowid {
                    Some(rowid) => rows::put(&Value::Integer(rowid), out),
                    None => out.extend_from_slice(&key),
                }
                rows::put(&Value::Integer(print), out);
            });
            true
        })
    }

    /// Fills a slot with the row as it was read.
    ///
    /// # Safety
    /// The slots are the executor's: `plan` holds the plan's tuple, `slot` is one of the table's.
    pub(crate) unsafe fn fill_old(&self, slot: *mut pg_sys::TupleTableSlot, plan: *mut pg_sys::TupleTableSlot) {
        // SAFETY: as for the caller; a whole row is a composite datum of the table's type.
        unsafe {
            let Some(whole) = self.junk.whole(&Attributes::of(plan)) else { return };
            let header = pg_sys::pg_detoast_datum(whole.cast_mut_ptr()).cast::<pg_sys::HeapTupleHeaderData>();
            let mut tuple = pg_sys::HeapTupleData {
                t_len: pgrx::varsize_any(header.cast()) as u32,
                t_data: header,
                ..Default::default()
            };
            // The slot keeps what it is given.
            pg_sys::ExecForceStoreHeapTuple(pg_sys::heap_copytuple(&mut tuple), slot, true);
        }
    }

    /// Writes everything that is collected.
    pub(crate) fn flush(&mut self) {
        while let Some(sender) = &mut self.sender {
            let wave = self.rows.take(WAVE);
            if wave.is_empty() {
                break;
            }
            let writes = wave.into_iter().map(|(segment, batches)| {
                let statement = |batch: rows::Batch| WriteStatement {
                    sql: self.sql.clone(),
                    packed: Some(batch.rows),
                    each: Some(1),
                    ..WriteStatement::default()
                };
                SegmentWrite { segment, statements: batches.into_iter().map(statement).collect() }
            });
            sender.send(writes.collect());
        }
        self.touched.clear();
    }
}

/// The columns that an UPDATE sets: those it names and those that PostgreSQL computes from them; all if a trigger may set others.
unsafe fn set_columns(
    estate: *mut pg_sys::EState,
    rel: *mut pg_sys::ResultRelInfo,
    table: &ForeignTable,
) -> Vec<(usize, Column)> {
    // SAFETY: the executor's structures.
    unsafe {
        let updated = pg_sys::ExecGetAllUpdatedCols(rel, estate);
        let member = |index: usize| index as i32 + 1 - pg_sys::FirstLowInvalidHeapAttributeNumber;
        if let Some(index) =
            (0..table.generated.len()).find(|i| table.generated[*i] && pg_sys::bms_is_member(member(*i), updated))
        {
            let name = table.table.column(index).map_or("", |c| c.name.as_str());
            Failure::new(
                PgSqlErrorCode::ERRCODE_GENERATED_ALWAYS,
                format!("column \"{name}\" can only be updated to DEFAULT"),
            )
            .detail(format!("Column \"{name}\" is a generated column."))
            .raise();
        }
        let triggers = (*rel).ri_TrigDesc;
        let all = !triggers.is_null() && (*triggers).trig_update_before_row;
        let set = |index: usize| all || pg_sys::bms_is_member(member(index), updated);
        let columns = table.table.columns.iter().enumerate();
        columns
            .filter_map(|(index, column)| Some((index, column.clone()?)))
            .filter(|(index, column)| !column.segment && set(*index) && !table.generated[*index])
            .collect()
    }
}

fn change_sql(table: &ForeignTable, identity: &Identity, columns: &[(usize, Column)], update: bool) -> String {
    let target = quote_identifier(&table.table.name);
    let mut number = 0;
    let mut next = || {
        number += 1;
        format!("?{number}")
    };
    let sets: Vec<_> = columns.iter().map(|(_, c)| format!("{} = {}", quote_identifier(&c.name), next())).collect();
    let mut same: Vec<String> = match identity {
        Identity::Rowid(name) => vec![format!("{name} = {}", next())],
        Identity::Keys(keys) => {
            let keys = keys.iter().filter_map(|key| table.table.column(*key));
            keys.map(|c| format!("{} IS {}", quote_identifier(&c.name), next())).collect()
        }
    };
    same.push(format!("{} = {}", identity::fingerprint(table), next()));
    match (update, sets.is_empty()) {
        (false, _) => format!("DELETE FROM {target} WHERE {}", same.join(" AND ")),
        // Only the segment column is set, to what it is.
        (true, true) => String::new(),
        (true, false) => format!("UPDATE {target} SET {} WHERE {}", sets.join(", "), same.join(" AND ")),
    }
}
