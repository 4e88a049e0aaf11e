//! The old read endpoint: one statement on one segment, rows as JSON objects, as the Python trough wrote them.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, Row, types::ValueRef};
use tokio_util::sync::CancellationToken;
use trough_core::{ErrorCode, SegmentError, wire::QueryStats};

use crate::{
    conn,
    control::Control,
    encode,
    engine::{Inner, SegmentFile},
    json::{self, Fields},
    output::{INLINE_BYTES, INLINE_TIME, unless_it_panics},
    query::{BATCH_BYTES, stopped},
    report::{Notes, OnEnd},
    sql,
    statement::{Failure, Verdict, check_reads, judge},
    stream::{ByteStream, Chunk, Sender},
};

/// What the old trough says to everything that is not one SELECT.
const ONE_SELECT: &str = "Exactly one SELECT query per request, please.";

/// Runs the statement; see [`crate::Engine::legacy_read`].
pub(crate) async fn read(
    inner: &Arc<Inner>,
    file: SegmentFile,
    text: String,
    cancel: CancellationToken,
    on_end: Option<OnEnd>,
) -> Result<ByteStream, SegmentError> {
    let notes = Notes::new(on_end);
    let files = [Ok(file.clone())];
    let checked = sql::check_text(&text, &inner.options.limits).and_then(|()| {
        let one = sql::reads(&text) && !sql::has_second_statement(&text);
        if one { Ok(()) } else { Err(SegmentError::new(ErrorCode::BadSql, ONE_SELECT)) }
    });
    if let Err(error) = checked {
        notes.tell(&text, &files, QueryStats::default(), Some(&error));
        return Err(error);
    }
    if inner.options.inline_reads
        && let Some((body, stats)) = unless_it_panics(|| inline(inner, &file, &text))
    {
        notes.tell(&text, &files, stats, None);
        return Ok(ByteStream::whole(body));
    }
    let control = Control::new(inner.options.limits.query_timeout, None, Some(cancel));
    let (sender, stream) = ByteStream::channel(&control, inner.point.handle());
    let engine = inner.clone();
    inner.point.submit(Box::new(move || {
        let mut stats = QueryStats::default();
        let entered = notes.segment(0, &file).entered();
        let last = answer(&engine, &file, &text, &control, &sender, &mut stats);
        drop(entered);
        notes.took(0, control.elapsed());
        stats.micros = control.elapsed().as_micros() as u64;
        (stats.ok, stats.failed) = if last.is_ok() { (1, 0) } else { (0, 1) };
        notes.tell(&text, &files, stats, last.as_ref().err());
        // A reader that is gone needs neither an end nor an error.
        let _ = sender.send(last.map_or_else(Chunk::Failed, Chunk::Last));
    }));
    stream.begun().await
}

fn prepare<'c>(conn: &'c Connection, text: &str) -> Result<CachedStatement<'c>, Failure> {
    conn::take_quoted_names_for_texts(conn, true)?;
    let statement = conn.prepare_cached(text)?;
    check_reads(&statement).map_err(|failure| match failure {
        Failure::Ours(e) if e.code == ErrorCode::Forbidden => Failure::Ours(SegmentError::new(e.code, ONE_SELECT)),
        other => other,
    })?;
    Ok(statement)
}

/// Writes the answer, in the pool; gives its last bytes.
fn answer(
    inner: &Inner,
    file: &SegmentFile,
    text: &str,
    control: &Arc<Control>,
    sender: &Sender,
    stats: &mut QueryStats,
) -> Result<Bytes, SegmentError> {
    let mut again = false;
    loop {
        let lease = inner.cache.checkout(file, &inner.options, control);
        let mut lease = lease.map_err(|e| match e.code {
            ErrorCode::Cancelled => control.stop_reason().unwrap_or(e),
            _ => e,
        })?;
        lease.obey(control);
        let mut sent = false;
        let failure = match stream(inner, lease.conn(), text, sender, &mut sent, stats) {
            Ok(last) => return Ok(last),
            Err(failure) => failure,
        };
        let failure = match judge(&mut lease, file, &inner.options, failure) {
            Verdict::Again(_) if !sent && !again => {
                again = true;
                continue;
            }
            Verdict::Again(failure) | Verdict::Failed(failure) => failure,
        };
        return Err(match failure {
            Failure::Sqlite(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => {
                control.stop_reason().unwrap_or_else(|| crate::errors::sqlite(&file.id, &e))
            }
            Failure::Sqlite(e) => crate::conn::explain_read(file, &e),
            Failure::Ours(e) => e,
        });
    }
}

fn stream(
    inner: &Inner,
    conn: &Connection,
    text: &str,
    sender: &Sender,
    sent: &mut bool,
    stats: &mut QueryStats,
) -> Result<Bytes, Failure> {
    let mut statement = prepare(conn, text)?;
    let mut writer = RowWriter::new(&statement);
    let (max_rows, max_bytes) = (inner.options.limits.max_rows, inner.options.limits.max_bytes);
    let (mut count, mut bytes) = (0u64, 0u64);
    let mut rows = statement.raw_query();
    let mut since: Option<Instant> = None;
    while let Some(row) = rows.next()? {
        writer.row(row, inner.options.limits.max_value_bytes)?;
        count += 1;
        let total = bytes + writer.out.len() as u64;
        if max_rows > 0 && count > max_rows {
            let text = format!("the result has more than {max_rows} rows (MAX_ROWS)");
            return Err(Failure::Ours(SegmentError::new(ErrorCode::RowLimit, text)));
        }
        if max_bytes > 0 && total > max_bytes {
            let text = format!("the result has more than {max_bytes} bytes (MAX_BYTES)");
            return Err(Failure::Ours(SegmentError::new(ErrorCode::ByteLimit, text)));
        }
        // The clock is asked once in a while only.
        let late = count.is_multiple_of(256) && since.get_or_insert_with(Instant::now).elapsed().as_millis() > 200;
        if writer.out.len() >= BATCH_BYTES || late {
            bytes = total;
            since = None;
            let full = std::mem::replace(&mut writer.out, Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 4));
            *sent = true;
            if sender.send(Chunk::More(full.into())).is_err() {
                return match sender.stop_reason() {
                    // The reader is gone.
                    Some(error) if error.code == ErrorCode::Cancelled => Ok(Bytes::new()),
                    reason => Err(Failure::Ours(reason.unwrap_or_else(stopped))),
                };
            }
        }
        (stats.rows, stats.bytes) = (count, total);
    }
    Ok(writer.end().into())
}

/// Answers on the caller's own thread if the segment is open already and the statement is over in no time. Gives
/// nothing if not, and for every failure: the pool's threads then tell it.
fn inline(inner: &Inner, file: &SegmentFile, text: &str) -> Option<(Vec<u8>, QueryStats)> {
    let lease = inner.cache.checkout_inline(file)?;
    let control = Control::new(INLINE_TIME, Some(INLINE_TIME), None);
    lease.obey(&control);
    let mut statement = prepare(lease.conn(), text).ok()?;
    let mut writer = RowWriter::new(&statement);
    let (max_rows, max_bytes) = (inner.options.limits.max_rows, inner.options.limits.max_bytes);
    let mut count = 0;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().ok()? {
        writer.row(row, INLINE_BYTES).ok()?;
        count += 1;
        let bytes = writer.out.len();
        if bytes > INLINE_BYTES || max_rows > 0 && count > max_rows || max_bytes > 0 && bytes as u64 > max_bytes {
            return None;
        }
    }
    inner.cache.count_inline();
    let micros = control.elapsed().as_micros() as u64;
    let body = writer.end();
    let stats = QueryStats { ok: 1, failed: 0, rows: count, bytes: body.len() as u64, micros };
    Some((body, stats))
}

/// Rows as objects: `[` rows joined by `,\n` then `]\n`.
struct RowWriter {
    fields: Fields,
    first: bool,
    out: Vec<u8>,
}

impl RowWriter {
    fn new(statement: &rusqlite::Statement<'_>) -> Self {
        let mut out = Vec::with_capacity(512);
        out.push(b'[');
        Self { fields: Fields::of(statement.column_names()), first: true, out }
    }

    fn row(&mut self, row: &Row<'_>, most: usize) -> Result<(), Failure> {
        let out = &mut self.out;
        let begin = out.len();
        if !std::mem::take(&mut self.first) {
            out.extend_from_slice(b",\n");
        }
        let mut before = b'{';
        for (column, name) in &self.fields.columns {
            out.push(before);
            out.extend_from_slice(name);
            before = b',';
            encode::check_row(out.len() - begin, most)?;
            match row.get_ref(*column)? {
                ValueRef::Null => out.extend_from_slice(b"null"),
                ValueRef::Integer(n) => json::integer(n, out),
                ValueRef::Real(r) => json::real(r, out),
                ValueRef::Blob(bytes) => json::blob(bytes, out),
                ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                    Ok(text) => json::string(text, out),
                    Err(_) => return Err(Failure::Ours(not_utf8(row, *column, bytes))),
                },
            }
        }
        out.push(b'}');
        Ok(())
    }

    fn end(mut self) -> Vec<u8> {
        self.out.extend_from_slice(b"]\n");
        self.out
    }
}

/// Python's text for it.
fn not_utf8(row: &Row<'_>, column: usize, bytes: &[u8]) -> SegmentError {
    let statement: &rusqlite::Statement<'_> = row.as_ref();
    let name = statement.column_name(column).unwrap_or_default();
    let start: String = String::from_utf8_lossy(bytes).chars().take(80).collect();
    let text = format!("Could not decode to UTF-8 column '{name}' with text '{start}'");
    SegmentError::new(ErrorCode::TypeMismatch, text)
}
