//! The rows of a writing statement until its end, by segment: encoded in memory up to a budget, beyond it in a temporary file
//! of PostgreSQL's, so that a statement of any size writes each segment once.

use std::collections::HashMap;

use bytes::Bytes;
use pgrx::pg_sys;
use trough_core::{SegmentId, Value, wire::Packed};

use crate::compat;

/// Rows by segment.
pub(crate) struct RowBuffer {
    /// Where a segment's rows are in `segments`.
    places: HashMap<String, usize>,
    segments: Vec<Rows>,
    /// The first segment that was not taken out.
    next: usize,
    bytes: usize,
    budget: usize,
    file: Option<TempFile>,
    /// Where the file's own memory lies.
    context: pg_sys::MemoryContext,
}

/// One segment's rows.
struct Rows {
    segment: SegmentId,
    runs: Vec<Run>,
    encoded: Vec<u8>,
    /// What lies in the file, in order: where, and how long.
    spilled: Vec<(Place, usize)>,
}

/// Rows that follow each other and go into the same statement.
#[derive(Clone, Copy)]
struct Run {
    statement: usize,
    columns: u32,
    count: u64,
    bytes: usize,
}

/// Rows of one statement, to be sent.
pub(crate) struct Batch {
    /// Which of the caller's statements.
    pub(crate) statement: usize,
    /// The rows.
    pub(crate) rows: Packed,
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
        Self { places: HashMap::new(), segments: Vec::new(), next: 0, bytes: 0, budget, file: None, context }
    }

    /// The place of a segment that has rows already.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// Makes room for a segment's rows, and gives its place.
    pub(crate) fn begin(&mut self, segment: SegmentId) -> usize {
        self.bytes += OVERHEAD;
        self.places.insert(segment.as_str().to_owned(), self.segments.len());
        self.segments.push(Rows { segment, runs: Vec::new(), encoded: Vec::new(), spilled: Vec::new() });
        self.segments.len() - 1
    }

    /// Adds a row of so many values, which `write` appends, for one of the caller's statements.
    pub(crate) fn push(&mut self, place: usize, statement: usize, columns: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let rows = &mut self.segments[place];
        let before = rows.encoded.len();
        write(&mut rows.encoded);
        let bytes = rows.encoded.len() - before;
        match rows.runs.last_mut() {
            Some(run) if run.statement == statement && run.columns == columns => {
                run.count += 1;
                run.bytes += bytes;
            }
            _ => rows.runs.push(Run { statement, columns, count: 1, bytes }),
        }
        self.bytes += bytes;
        if self.bytes > self.budget {
            self.spill();
        }
    }

    /// Moves what is in memory to the file.
    fn spill(&mut self) {
        let context = self.context;
        let file = self.file.get_or_insert_with(|| TempFile::create(context));
        for rows in self.segments.iter_mut().filter(|rows| !rows.encoded.is_empty()) {
            let place = file.append(&rows.encoded);
            rows.spilled.push((place, rows.encoded.len()));
            rows.encoded = Vec::new();
        }
        self.bytes = self.segments.len() * OVERHEAD;
        // Segments without rows in memory still take their share, and the budget must let rows in again.
        self.budget = self.budget.max(self.bytes * 2);
    }

    /// Takes segments with their rows out, in the order in which they came, until they make `bytes`, at least one; none at
    /// the end. Nothing is added once this has begun.
    pub(crate) fn take(&mut self, bytes: usize) -> Vec<(SegmentId, Vec<Batch>)> {
        let mut taken = Vec::new();
        let mut size = 0;
        while size < bytes
            && let Some(rows) = self.segments.get_mut(self.next)
        {
            self.next += 1;
            let mut all = Vec::new();
            for (place, len) in std::mem::take(&mut rows.spilled) {
                let file = self.file.as_mut().expect("rows were spilled to it");
                file.read(place, len, &mut all);
            }
            match all.is_empty() {
                true => all = std::mem::take(&mut rows.encoded),
                false => all.append(&mut rows.encoded),
            }
            size += all.len() + OVERHEAD;
            let mut all = Bytes::from(all);
            let batch = |run: Run| {
                let rows = Packed { count: run.count, columns: run.columns, data: all.split_to(run.bytes) };
                Batch { statement: run.statement, rows }
            };
            taken.push((rows.segment.clone(), std::mem::take(&mut rows.runs).into_iter().map(batch).collect()));
        }
        if self.next == self.segments.len() {
            self.segments.clear();
            self.places.clear();
            (self.next, self.bytes) = (0, 0);
            if let Some(file) = self.file.take() {
                file.close();
            }
        }
        taken
    }
}

/// Appends a value.
pub(crate) fn put(value: &Value, out: &mut Vec<u8>) {
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

    /// Reads what was written at a place.
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
                format!("read rows of a statement back: {read} of {len} bytes came"),
            )
            .raise();
        }
    }
}
