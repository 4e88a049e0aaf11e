//! One thread's frames on their way to the answer, and the quick answers that need no other thread.

use std::time::{Duration, Instant};

use trough_core::{
    ErrorCode, SegmentError,
    wire::{Frame, QueryStats},
};

use crate::{
    control::Control,
    encode,
    engine::{Inner, SegmentFile},
    statement::{Query, RowsFrame},
};

/// A statement that runs on the caller's own thread gives up after so long, and is run again in the pool.
pub(crate) const INLINE_TIME: Duration = Duration::from_micros(250);
/// … or when its answer becomes so long.
pub(crate) const INLINE_BYTES: usize = 32 << 10;

/// One thread's frames on their way to the answer.
pub(crate) struct Output {
    pub(crate) frames: Vec<u8>,
    /// Names of the columns that the frames told last.
    pub(crate) names: Vec<String>,
    pub(crate) since: Instant,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { frames: Vec::new(), names: Vec::new(), since: Instant::now() }
    }

    /// Tells the columns, unless they were told in these frames already.
    pub(crate) fn columns(&mut self, segment: Option<u32>, statement: &rusqlite::Statement<'_>) {
        let n = statement.column_count();
        let same =
            self.names.len() == n && (0..n).all(|i| statement.column_name(i).is_ok_and(|name| name == self.names[i]));
        if same {
            return;
        }
        let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        Frame::Columns { segment, names: names.clone() }.encode(&mut self.frames);
        self.names = names;
    }
}

/// Whether a result keeps within a request's limits.
pub(crate) fn within(rows: u64, max_rows: u64, bytes: u64, max_bytes: u64) -> Result<(), SegmentError> {
    if rows > max_rows {
        let text = format!("the result has more than {max_rows} rows, the limit of this request");
        return Err(SegmentError::new(ErrorCode::RowLimit, text));
    }
    if bytes > max_bytes {
        let text = format!("the result has more than {max_bytes} bytes, the limit of this request");
        return Err(SegmentError::new(ErrorCode::ByteLimit, text));
    }
    Ok(())
}

/// Runs what answers on the caller's own thread. rusqlite panics where SQLite is out of memory in the midst of a value; that, too, is for the
/// pool's threads to tell.
pub(crate) fn unless_it_panics<T>(answer: impl FnOnce() -> Option<T>) -> Option<T> {
    // What was being written is dropped, and a connection whose statement was dropped is as good as before.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(answer)).unwrap_or_else(|_| {
        tracing::error!("an answer on the caller's thread ended in a panic");
        None
    })
}

/// Answers on the caller's own thread if the segment is open already and the statement is over in no time. Gives nothing if not,
/// and for every failure: the pool's threads then tell it.
pub(crate) fn inline(
    inner: &Inner,
    file: &SegmentFile,
    map: &Query,
    max_rows: u64,
    max_bytes: u64,
) -> Option<(Vec<u8>, QueryStats)> {
    let lease = inner.cache.checkout_inline(file)?;
    let control = Control::new(INLINE_TIME, Some(INLINE_TIME), None);
    lease.obey(&control);
    let mut statement = map.prepare(lease.conn(), Some(&file.id)).ok()?;
    let mut output = Output { frames: Vec::with_capacity(512), names: Vec::new(), since: Instant::now() };
    output.columns(Some(0), &statement);
    let columns = statement.column_count();
    let mut frame: Option<RowsFrame> = None;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().ok()? {
        let open = frame.get_or_insert_with(|| RowsFrame::open(Some(0), &mut output.frames));
        encode::row(row, columns, INLINE_BYTES, &mut output.frames).ok()?;
        open.row();
        if output.frames.len() > INLINE_BYTES {
            return None;
        }
    }
    let (rows, bytes) = frame.map_or((0, 0), |frame| frame.close(&mut output.frames));
    within(rows, max_rows, bytes, max_bytes).ok()?;
    let micros = control.elapsed().as_micros() as u64;
    let stats = QueryStats { ok: 1, failed: 0, rows, bytes, micros };
    Frame::End(stats).encode(&mut output.frames);
    inner.cache.count_inline();
    Some((output.frames, stats))
}

#[cfg(test)]
mod tests {
    use super::unless_it_panics;

    #[test]
    fn a_panic_is_no_answer() {
        assert_eq!(unless_it_panics(|| Some(1)), Some(1));
        assert_eq!(unless_it_panics::<u8>(|| panic!("out of memory")), None);
    }
}
