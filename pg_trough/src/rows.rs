//! The rows of an INSERT until its end, by segment: encoded in memory up to a budget, beyond it in a temporary file of
//! PostgreSQL's, so that a statement of any size writes each segment once.

use std::collections::HashMap;

use pgrx::pg_sys;
use trough_core::{SegmentId, Value};

use crate::{
    compat,
    decode::{Item, Reader},
};

/// Rows by segment.
pub(crate) struct RowBuffer {
    segments: HashMap<String, Rows>,
    bytes: usize,
    budget: usize,
    file: Option<TempFile>,
    /// Where the file's own memory lies.
    context: pg_sys::MemoryContext,
}

/// One segment's rows.
struct Rows {
    segment: SegmentId,
    count: usize,
    encoded: Vec<u8>,
    /// What lies in the file, in order: where, and how long.
    spilled: Vec<(Place, usize)>,
}

#[derive(Clone, Copy)]
struct Place {
    file: i32,
    offset: i64,
}

/// A temporary file that belongs to the statement's resource owner, which removes it if the statement fails. It is not
/// closed by Drop, which runs when PostgreSQL has already done so.
struct TempFile(*mut pg_sys::BufFile);

/// What a segment costs beside its rows.
const OVERHEAD: usize = 200;

impl RowBuffer {
    /// A buffer that keeps so many bytes in memory; the context lives as long as the statement.
    pub(crate) fn new(budget: usize, context: pg_sys::MemoryContext) -> Self {
        Self { segments: HashMap::new(), bytes: 0, budget, file: None, context }
    }

    /// Whether the segment has rows already.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.segments.contains_key(name)
    }

    /// Makes room for a segment's rows.
    pub(crate) fn begin(&mut self, segment: SegmentId) {
        self.bytes += OVERHEAD;
        let rows = Rows { segment: segment.clone(), count: 0, encoded: Vec::new(), spilled: Vec::new() };
        self.segments.insert(segment.as_str().to_owned(), rows);
    }

    /// Adds a row to a segment that was begun.
    pub(crate) fn push(&mut self, name: &str, row: impl Iterator<Item = Value>) {
        let rows = self.segments.get_mut(name).expect("the segment was begun");
        let before = rows.encoded.len();
        row.for_each(|value| encode(&value, &mut rows.encoded));
        rows.count += 1;
        self.bytes += rows.encoded.len() - before;
        if self.bytes > self.budget {
            self.spill();
        }
    }

    /// Moves what is in memory to the file.
    fn spill(&mut self) {
        let context = self.context;
        let file = self.file.get_or_insert_with(|| TempFile::create(context));
        for rows in self.segments.values_mut().filter(|rows| !rows.encoded.is_empty()) {
            let place = file.append(&rows.encoded);
            rows.spilled.push((place, rows.encoded.len()));
            rows.encoded = Vec::new();
        }
        self.bytes = self.segments.len() * OVERHEAD;
        // Segments without rows in memory still take their share, and the budget must let rows in again.
        self.budget = self.budget.max(self.bytes * 2);
    }

    /// Takes segments with their rows out until they make `bytes`, at least one; none at the end.
    pub(crate) fn take(&mut self, columns: usize, bytes: usize) -> Vec<(SegmentId, Vec<Vec<Value>>)> {
        let mut taken = Vec::new();
        let mut size = 0;
        while size < bytes {
            let Some(name) = self.segments.keys().next().cloned() else { break };
            let Some(rows) = self.segments.remove(&name) else { break };
            let mut encoded = Vec::new();
            for (place, len) in &rows.spilled {
                let file = self.file.as_mut().expect("rows were spilled to it");
                file.read(*place, *len, &mut encoded);
            }
            encoded.extend_from_slice(&rows.encoded);
            size += encoded.len() + OVERHEAD;
            taken.push((rows.segment, decode(&encoded, rows.count, columns)));
        }
        if self.segments.is_empty() {
            self.bytes = 0;
            if let Some(file) = self.file.take() {
                file.close();
            }
        }
        taken
    }
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    use rmp::encode as e;
    // Writing to a Vec cannot fail.
    let _ = match value {
        Value::Null => e::write_nil(out).map_err(drop),
        Value::Integer(n) => e::write_sint(out, *n).map(drop).map_err(drop),
        Value::Real(r) => e::write_f64(out, *r).map_err(drop),
        Value::Text(text) => e::write_str(out, text).map_err(drop),
        Value::Blob(bytes) => e::write_bin(out, bytes).map_err(drop),
    };
}

fn decode(bytes: &[u8], count: usize, columns: usize) -> Vec<Vec<Value>> {
    let mut reader = Reader::new(bytes, 0);
    let mut value = || match reader.next().expect("these bytes were encoded here") {
        Item::Null => Value::Null,
        Item::Integer(n) => Value::Integer(n),
        Item::Real(r) => Value::Real(r),
        Item::Text(text) | Item::BadText(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        Item::Blob(bytes) => Value::Blob(bytes.to_vec()),
    };
    (0..count).map(|_| (0..columns).map(|_| value()).collect()).collect()
}

impl TempFile {
    fn create(context: pg_sys::MemoryContext) -> Self {
        // SAFETY: the file's structure lives in the statement's context; PostgreSQL removes the file with its resource
        // owner, whatever happens.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(context);
            let file = pg_sys::BufFileCreateTemp(false);
            pg_sys::MemoryContextSwitchTo(before);
            Self(file)
        }
    }

    fn close(self) {
        // SAFETY: the file is open and not used again.
        unsafe { pg_sys::BufFileClose(self.0) }
    }

    /// Writes at the end; where that is.
    fn append(&mut self, bytes: &[u8]) -> Place {
        let mut place = Place { file: 0, offset: 0 };
        // SAFETY: the file is open; BufFileWrite reports what fails.
        unsafe {
            pg_sys::BufFileTell(self.0, &mut place.file, &mut place.offset);
            compat::buf_file_write(self.0, bytes);
        }
        place
    }

    /// Reads what was written at a place, and comes back to the end.
    fn read(&mut self, place: Place, len: usize, out: &mut Vec<u8>) {
        let at = out.len();
        out.resize(at + len, 0);
        // SAFETY: the range was written; `out` has room for it. Nothing is appended once reading has begun.
        let read = unsafe {
            pg_sys::BufFileSeek(self.0, place.file, place.offset, libc::SEEK_SET);
            pg_sys::BufFileRead(self.0, out[at..].as_mut_ptr().cast(), len)
        };
        if read as usize != len {
            crate::errors::Failure::new(
                pgrx::PgSqlErrorCode::ERRCODE_IO_ERROR,
                format!("read rows of an INSERT back: {read} of {len} bytes came"),
            )
            .raise();
        }
    }
}
