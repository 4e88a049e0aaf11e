//! The rows that SQLite returned, as tuples of the foreign table.

use std::collections::VecDeque;

use bytes::Bytes;
use pgrx::pg_sys;
use trough_core::SegmentId;
use trough_pushdown::quote_identifier;

use super::send::Written;
use crate::{
    decode::{self, Arena, Decoder, Reader},
    relation::stored,
    segments,
    table::ForeignTable,
};

/// The RETURNING clause for some columns, by their indexes.
pub(crate) fn clause(table: &ForeignTable, columns: &[usize]) -> String {
    let columns = columns.iter().filter_map(|i| table.table.column(*i)).filter(|c| !c.segment);
    let list: Vec<_> = columns.map(|c| quote_identifier(&c.name)).collect();
    format!(" RETURNING {}", if list.is_empty() { "NULL".to_owned() } else { list.join(", ") })
}

/// Rows that wait to be read.
pub(crate) struct Returned {
    outputs: Vec<(usize, Decoder)>,
    /// The attribute that is the segment's name, if it is wanted.
    segment: Option<usize>,
    table: String,
    arena: Arena,
    waiting: VecDeque<Rows>,
    /// Where the segments' names are kept.
    context: pg_sys::MemoryContext,
}

struct Rows {
    segment: SegmentId,
    name: pg_sys::Datum,
    data: Bytes,
    at: usize,
    left: u64,
}

impl Returned {
    /// For what [`clause`] made of the same columns; the context lives as long as the statement.
    pub(crate) fn new(table: &ForeignTable, columns: &[usize], context: pg_sys::MemoryContext) -> Self {
        let of = |segment: bool| {
            let columns = columns.iter().filter_map(|i| Some((*i, table.table.column(*i)?)));
            columns.filter(move |(_, c)| c.segment == segment)
        };
        Self {
            outputs: of(false).map(|(i, c)| (i, Decoder::new(stored(c, table.typmods[i])))).collect(),
            segment: of(true).map(|(i, _)| i).next(),
            table: table.table.name.clone(),
            arena: Arena::default(),
            waiting: VecDeque::new(),
            context,
        }
    }

    /// Takes what was written.
    pub(crate) fn add(&mut self, written: Vec<Written>) {
        for one in written {
            let Some(rows) = one.rows.filter(|rows| rows.count > 0) else { continue };
            if rows.columns as usize != self.outputs.len().max(1) {
                let why = format!("{} columns came where {} were asked for", rows.columns, self.outputs.len().max(1));
                decode::garbage(&self.table, Some(one.segment.as_str()), &why).raise();
            }
            // SAFETY: the context is valid; a segment's name is short.
            let name = unsafe {
                let before = pg_sys::MemoryContextSwitchTo(self.context);
                let name = segments::segment_datum(one.segment.as_str());
                pg_sys::MemoryContextSwitchTo(before);
                name
            };
            self.waiting.push_back(Rows { segment: one.segment, name, data: rows.data, at: 0, left: rows.count });
        }
    }

    /// Puts the next row into the slot; false if none waits.
    ///
    /// # Safety
    /// The slot is cleared and of the table's type.
    pub(crate) unsafe fn next(&mut self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        let Some(rows) = self.waiting.front_mut() else { return false };
        if rows.at == 0 {
            self.arena.reserve(rows.data.len(), self.outputs.len());
        }
        self.arena.reset();
        // SAFETY: the slot's arrays hold an entry per attribute.
        let (values, nulls) = unsafe {
            let natts = (*(*slot).tts_tupleDescriptor).natts as usize;
            let nulls = std::slice::from_raw_parts_mut((*slot).tts_isnull, natts);
            nulls.fill(true);
            (std::slice::from_raw_parts_mut((*slot).tts_values, natts), nulls)
        };
        let segment = rows.segment.as_str();
        let broken = || decode::garbage(&self.table, Some(segment), "the rows end early or hold no MessagePack value");
        let mut reader = Reader::new(&rows.data, rows.at);
        for (attribute, decoder) in &mut self.outputs {
            let Some(item) = reader.next() else { broken().raise() };
            match decoder.decode(item, &mut self.arena) {
                Ok(None) => {}
                Ok(Some(datum)) => (values[*attribute], nulls[*attribute]) = (datum, false),
                Err(why) => decode::unfit(&why, decoder.stored(), &self.table, Some(segment)).raise(),
            }
        }
        if self.outputs.is_empty() && reader.next().is_none() {
            broken().raise();
        }
        if let Some(attribute) = self.segment {
            (values[attribute], nulls[attribute]) = (rows.name, false);
        }
        rows.at = reader.at();
        rows.left -= 1;
        // SAFETY: every attribute is set.
        unsafe { pg_sys::ExecStoreVirtualTuple(slot) };
        if rows.left == 0 {
            self.waiting.pop_front();
        }
        true
    }
}
