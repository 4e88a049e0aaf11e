//! The table that a statement writes: which segments belong to it, and how a row's values are read and encoded.

use pgrx::{PgSqlErrorCode, pg_sys};
use trough_client::SegmentPattern;
use trough_core::SegmentId;

use crate::{
    encode,
    errors::{Failure, OrRaise},
    pg,
    rows::RowBuffer,
    table::ForeignTable,
};

/// A table that may be written.
pub(crate) struct Target {
    /// The table.
    pub(crate) table: ForeignTable,
    /// Its name in PostgreSQL.
    pub(crate) relation: String,
    /// The segment column's index.
    pub(crate) segment: usize,
    /// The table's segments, if not all.
    pattern: Option<SegmentPattern>,
}

impl Target {
    /// The table, if it may be written; else the statement ends here.
    pub(crate) fn of(table: ForeignTable) -> Self {
        let relation = pg::relation_name(table.relid);
        let state = PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
        if table.read_only {
            Failure::new(state, format!("foreign table \"{relation}\" is read-only"))
                .hint("The option read_only of the table or its server says so.")
                .raise();
        }
        let Some(segment) = table.table.segment_column() else {
            let message =
                format!("foreign table \"{relation}\" has no segment column, so no row says where it belongs");
            Failure::new(state, message)
                .hint("Add a column: ALTER FOREIGN TABLE … ADD COLUMN segment text OPTIONS (segment 'true')")
                .raise()
        };
        Self { pattern: table.segment_pattern(), relation, segment, table }
    }

    /// The place of a segment's rows; a name that no segment of the table can have ends the statement.
    pub(crate) fn place(&self, rows: &mut RowBuffer, name: &str) -> usize {
        if let Some(place) = rows.place(name) {
            return place;
        }
        let segment = SegmentId::new(name)
            .map_err(|e| Failure::new(PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION, e.to_string()))
            .or_raise();
        if self.pattern.as_ref().is_some_and(|p| !p.matches(name)) {
            Failure::new(
                PgSqlErrorCode::ERRCODE_CHECK_VIOLATION,
                format!("segment \"{name}\" does not belong to foreign table \"{}\"", self.relation),
            )
            .hint("The option segments says which do.")
            .raise();
        }
        rows.begin(segment)
    }
}

/// The attributes of a slot.
pub(crate) struct Attributes {
    slot: *mut pg_sys::TupleTableSlot,
}

impl Attributes {
    /// All attributes of a slot.
    ///
    /// # Safety
    /// The slot holds a tuple, and keeps it while this lives.
    pub(crate) unsafe fn of(slot: *mut pg_sys::TupleTableSlot) -> Self {
        // SAFETY: as for the caller.
        unsafe {
            let natts = (*(*slot).tts_tupleDescriptor).natts;
            if i32::from((*slot).tts_nvalid) < natts {
                pg_sys::slot_getsomeattrs_int(slot, natts);
            }
        }
        Self { slot }
    }

    /// An attribute, by its index from 0; none if it is NULL.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<pg_sys::Datum> {
        // SAFETY: after slot_getsomeattrs the slot's arrays hold every attribute.
        unsafe { (!*(*self.slot).tts_isnull.add(index)).then(|| *(*self.slot).tts_values.add(index)) }
    }

    /// An attribute that is a text.
    ///
    /// # Safety
    /// It is one.
    pub(crate) unsafe fn text(&self, index: usize) -> Option<String> {
        // SAFETY: as for the caller.
        self.get(index).map(|datum| unsafe { encode::text(datum) })
    }
}

/// The segment of the last row: rows often come segment by segment.
#[derive(Default)]
pub(crate) struct Last {
    name: Vec<u8>,
    place: usize,
}

impl Last {
    /// The place of the rows of a row's segment, which is an attribute of the row; none if it is NULL.
    ///
    /// # Safety
    /// The attribute is a text.
    pub(crate) unsafe fn place(
        &mut self,
        target: &Target,
        rows: &mut RowBuffer,
        row: &Attributes,
        segment: usize,
    ) -> Option<usize> {
        let datum = row.get(segment)?;
        // SAFETY: as for the caller.
        let bytes = unsafe { pg::varlena_bytes(datum) };
        // No segment's name is empty.
        if self.name.is_empty() || self.name != bytes {
            // SAFETY: as for the caller.
            self.place = target.place(rows, &unsafe { encode::text(datum) });
            self.name.clear();
            self.name.extend_from_slice(bytes);
        }
        Some(self.place)
    }
}

/// Memory for what encoding one row takes: output functions and detoasting leave things behind.
pub(crate) struct Scratch(pg_sys::MemoryContext);

impl Scratch {
    /// A context below another, which outlives this.
    ///
    /// # Safety
    /// `parent` is valid.
    pub(crate) unsafe fn new(parent: pg_sys::MemoryContext) -> Self {
        // SAFETY: as for the caller.
        Self(unsafe { pg_sys::AllocSetContextCreateInternal(parent, c"trough written row".as_ptr(), 0, 8192, 1 << 23) })
    }

    /// Runs `work` in it; what it allocated is gone with the next call.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        // SAFETY: the context lives as long as the statement. If `work` raises, PostgreSQL sets the context itself.
        unsafe {
            if !(*self.0).isReset {
                pg_sys::MemoryContextReset(self.0);
            }
            let before = pg_sys::MemoryContextSwitchTo(self.0);
            let result = work();
            pg_sys::MemoryContextSwitchTo(before);
            result
        }
    }
}
