//! Reads of documents and index entries: by key and by range, a page at a time, so that nothing stays open between
//! pages and memory stays bounded whatever the range holds.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::catalog::Table;
use crate::datum::{Datum, json, key};
use crate::error::{QueryError, Result};

/// A page ends with the row that makes it at least this many bytes.
const PAGE_BYTES: usize = 256 * 1024;

/// Keys from `from` up to but without `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
}

impl Range {
    /// Every key.
    pub(crate) fn all() -> Range {
        Range { from: Vec::new(), to: vec![0xff] }
    }

    /// The keys between two values.
    pub(crate) fn between(low: &Datum, low_open: bool, high: &Datum, high_open: bool) -> Range {
        let (mut from, mut to) = (key::encoded(low), key::encoded(high));
        if low_open {
            from.push(key::AFTER);
        }
        if !high_open {
            to.push(key::AFTER);
        }
        Range { from, to }
    }

    /// One value: in an index, all entries with it.
    pub(crate) fn one(value: &Datum) -> Range {
        Range::between(value, false, value, false)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.from >= self.to
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.from.as_slice() <= key && key < self.to.as_slice()
    }
}

/// What a range is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// A table's documents by primary key.
    Primary,
    /// An index's entries.
    Index(i64),
}

/// A document with its place in the range.
pub(crate) struct Row {
    /// Its key, or the entry's.
    pub(crate) place: Vec<u8>,
    pub(crate) doc: Datum,
}

/// A page of a range. If there is more, `rest` is what is left of it.
pub(crate) struct Page {
    pub(crate) rows: Vec<Row>,
    pub(crate) rest: Option<Range>,
}

/// One document.
pub(crate) fn get(connection: &Connection, table: i64, key: &[u8]) -> Result<Option<Datum>> {
    let mut statement = connection.prepare_cached("SELECT doc FROM documents WHERE table_num = ?1 AND key = ?2")?;
    let mut rows = statement.query(params![table, key])?;
    match rows.next()? {
        Some(row) => {
            decode(row.get_ref(0)?.as_blob().map_err(|error| QueryError::internal(error.to_string()))?).map(Some)
        }
        None => Ok(None),
    }
}

/// The next page of a range, up or down, of at most `limit` rows.
pub(crate) fn page(
    connection: &Connection,
    table: &Table,
    space: Space,
    range: &Range,
    down: bool,
    limit: usize,
) -> Result<Page> {
    let mut rows = Vec::new();
    if range.is_empty() {
        return Ok(Page { rows, rest: None });
    }
    let sql = match (space, down) {
        (Space::Primary, false) => {
            "SELECT key, doc FROM documents WHERE table_num = ?1 AND key >= ?2 AND key < ?3 ORDER BY key"
        }
        (Space::Primary, true) => {
            "SELECT key, doc FROM documents WHERE table_num = ?1 AND key >= ?2 AND key < ?3 ORDER BY key DESC"
        }
        (Space::Index(_), false) => {
            "SELECT e.entry, d.doc FROM entries e CROSS JOIN documents d ON d.table_num = ?4 AND d.key = e.key
             WHERE e.index_num = ?1 AND e.entry >= ?2 AND e.entry < ?3 ORDER BY e.entry"
        }
        (Space::Index(_), true) => {
            "SELECT e.entry, d.doc FROM entries e CROSS JOIN documents d ON d.table_num = ?4 AND d.key = e.key
             WHERE e.index_num = ?1 AND e.entry >= ?2 AND e.entry < ?3 ORDER BY e.entry DESC"
        }
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = match space {
        Space::Primary => statement.query(params![table.num, range.from, range.to])?,
        Space::Index(num) => statement.query(params![num, range.from, range.to, table.num])?,
    };
    let mut bytes = 0;
    while rows.len() < limit && bytes < PAGE_BYTES {
        let Some(row) = found.next()? else {
            return Ok(Page { rows, rest: None });
        };
        let blob = |at| row.get_ref(at)?.as_blob().map_err(|error| QueryError::internal(error.to_string()));
        let doc = blob(1)?;
        bytes += doc.len() + 64;
        rows.push(Row { place: blob(0)?.to_vec(), doc: decode(doc)? });
    }
    let rest = rows.last().map(|last| {
        if down {
            Range { from: range.from.clone(), to: last.place.clone() }
        } else {
            let mut from = last.place.clone();
            from.push(0);
            Range { from, to: range.to.clone() }
        }
    });
    Ok(Page { rows, rest: rest.filter(|rest| !rest.is_empty()) })
}

/// How many documents or entries a range holds.
pub(crate) fn count(connection: &Connection, table: i64, space: Space, range: &Range) -> Result<usize> {
    let (sql, num) = match space {
        Space::Primary => ("SELECT count(*) FROM documents WHERE table_num = ?1 AND key >= ?2 AND key < ?3", table),
        Space::Index(num) => ("SELECT count(*) FROM entries WHERE index_num = ?1 AND entry >= ?2 AND entry < ?3", num),
    };
    let count: i64 = connection.prepare_cached(sql)?.query_row(params![num, range.from, range.to], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The number of the last commit that the connection sees.
pub(crate) fn commit_number(connection: &Connection) -> Result<i64> {
    let number = connection
        .prepare_cached("SELECT value FROM facts WHERE name = 'commit'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(number.unwrap_or(0))
}

fn decode(doc: &[u8]) -> Result<Datum> {
    json::parse(doc, json::Pseudo::Convert)
        .map_err(|error| QueryError::internal(format!("A stored document is not JSON: {error}.")))
}
