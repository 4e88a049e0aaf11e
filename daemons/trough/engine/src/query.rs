//! `POST /v1/query`: the map statement on each of many segments, in parallel over the pool; the frames of the answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use trough_core::{
    ErrorCode, SegmentError,
    wire::{Frame, QueryRequest, QueryStats},
};

use crate::{
    cache::Lease,
    control::Control,
    encode,
    engine::{Inner, SegmentFile},
    output::{Output, inline, unless_it_panics, within},
    pool::PoolRef,
    reduce::Partial,
    render::{Format, Renderer},
    report::{Notes, OnEnd},
    sql,
    statement::{Failure, Query, RowsFrame, Verdict, judge},
    stream::{ByteStream, Chunk, Sender, Stop},
    top::Top,
};

/// A thread's frames are handed over when they are so long.
pub(crate) const BATCH_BYTES: usize = 128 << 10;
/// … or when they waited for so long.
const BATCH_TIME: Duration = Duration::from_millis(50);
/// A thread gives way to other requests after so long, between two segments.
const SLICE: Duration = Duration::from_millis(10);
/// Everything the threads of one request share.
pub(crate) struct Run {
    pub(crate) inner: Arc<Inner>,
    pool: PoolRef,
    files: Vec<Result<SegmentFile, SegmentError>>,
    pub(crate) map: Query,
    partial: Option<Partial>,
    top: Option<Top>,
    pub(crate) control: Arc<Control>,
    sender: Sender,
    renderer: Option<Mutex<Renderer>>,
    notes: Notes,
    next: AtomicUsize,
    at_work: AtomicUsize,
    ok: AtomicU64,
    failed: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    max_rows: u64,
    max_bytes: u64,
}

/// Runs a request; see [`crate::Engine::query`].
pub(crate) async fn run(
    inner: &Arc<Inner>,
    files: Vec<Result<SegmentFile, SegmentError>>,
    request: QueryRequest,
    format: Format,
    cancel: CancellationToken,
    on_end: Option<OnEnd>,
) -> ByteStream {
    let notes = Notes::new(on_end);
    let ids: Arc<[_]> = if format == Format::MessagePack { Arc::default() } else { request.segments.clone().into() };
    let renderer = (format != Format::MessagePack).then(|| Renderer::new(format, ids));
    let refuse = |renderer: Option<Renderer>, error: SegmentError| {
        let mut frames = Vec::new();
        Frame::Error(error).encode(&mut frames);
        ByteStream::whole(renderer.map_or(frames.clone(), |mut r| r.render(&frames)))
    };
    let limits = &inner.options.limits;
    let check = |text: &str, what: &str| {
        sql::check_text(text, limits)?;
        if sql::has_second_statement(text) {
            return Err(SegmentError::new(ErrorCode::BadSql, format!("{what} must be one statement")));
        }
        Ok(())
    };
    let checked =
        check(&request.map, "map").and_then(|()| request.reduce.as_deref().map_or(Ok(()), |r| check(r, "reduce")));
    if let Err(e) = checked {
        notes.tell(&request.map, &files, QueryStats::default(), Some(&e));
        return refuse(renderer, e);
    }
    let deadline = request.deadline_ms.map(Duration::from_millis);
    let smaller = |asked: Option<u64>, set: u64| match asked {
        Some(asked) if set > 0 => asked.min(set),
        Some(asked) => asked,
        None if set > 0 => set,
        None => u64::MAX,
    };
    let (max_rows, max_bytes) =
        (smaller(request.max_rows, limits.max_rows), smaller(request.max_bytes, limits.max_bytes));
    let top = Top::new(&request, limits.max_partial_bytes);
    let map = Query::new(&request.map, request.params).bytewise(request.bytewise);

    if let ([Ok(file)], None, true) = (files.as_slice(), &request.reduce, inner.options.inline_reads)
        && let Some((frames, stats)) = unless_it_panics(|| inline(inner, file, &map, max_rows, max_bytes))
    {
        notes.took(0, Duration::from_micros(stats.micros));
        notes.tell(map.sql(), &files, stats, None);
        return ByteStream::whole(match renderer {
            Some(mut renderer) => renderer.render(&frames),
            None => frames,
        });
    }

    let single = files.len() == 1 && request.reduce.is_none();
    let pool = if single { &inner.point } else { &inner.scan };
    let control = Control::new(limits.query_timeout, deadline, Some(cancel));
    let (sender, stream) = ByteStream::channel(&control, pool.handle());
    let tasks = files.len().clamp(1, pool.size());
    let reduce = request.reduce.filter(|_| top.is_none());
    let run = Arc::new(Run {
        inner: inner.clone(),
        pool: pool.handle(),
        top,
        partial: reduce.map(|reduce| Partial::new(Query::new(&reduce, request.reduce_params), limits.clone())),
        map,
        control,
        sender,
        renderer: renderer.map(Mutex::new),
        notes,
        next: AtomicUsize::new(0),
        at_work: AtomicUsize::new(tasks),
        ok: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        rows: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        max_rows,
        max_bytes,
        files,
    });
    for _ in 0..tasks {
        start(run.clone());
    }
    drop(run);
    match stream.with_progress(format).begun().await {
        Ok(stream) => stream,
        Err(e) => refuse(None, e),
    }
}

fn start(run: Arc<Run>) {
    let pool = run.pool.clone();
    pool.submit(Box::new(move || work(&run)));
}

/// One thread's share: takes the next segment until there is none.
fn work(run: &Arc<Run>) {
    let mut output = Output::new();
    let mut rows = Vec::new();
    let began = Instant::now();
    let (mut at, mut slowest) = (began, None::<(usize, Duration)>);
    loop {
        if run.control.must_stop() {
            break;
        }
        let index = run.next.fetch_add(1, Ordering::Relaxed);
        let Some(file) = run.files.get(index) else { break };
        let span = file.as_ref().map_or_else(|_| tracing::Span::none(), |file| run.notes.segment(index, file));
        let entered = span.entered();
        let result = match file {
            Ok(file) => match (&run.partial, &run.top) {
                (Some(partial), _) => run.map_segment(file, partial, &mut rows),
                (None, Some(top)) => top.take(run, file),
                (None, None) => run.stream_segment(index as u32, file, &mut output),
            },
            Err(e) => Err(Trouble::Segment(e.clone())),
        };
        drop(entered);
        let now = Instant::now();
        let took = now.duration_since(std::mem::replace(&mut at, now));
        if slowest.is_none_or(|(_, most)| took > most) {
            slowest = Some((index, took));
        }
        run.control.segment_done();
        match result {
            Ok(()) => {
                run.ok.fetch_add(1, Ordering::Relaxed);
            }
            Err(Trouble::Stopped) => break,
            Err(Trouble::Segment(error)) if concerns_all(&error) => run.control.fail(error),
            Err(Trouble::Segment(error)) => {
                run.failed.fetch_add(1, Ordering::Relaxed);
                run.notes.failed(&error);
                Frame::SegmentError { segment: index as u32, error }.encode(&mut output.frames);
            }
        }
        let contended = began.elapsed() > SLICE && run.pool.is_contended();
        let due = output.frames.len() >= BATCH_BYTES || output.since.elapsed() > BATCH_TIME || contended;
        if due && run.flush(&mut output).is_err() {
            break;
        }
        if contended {
            if let Some(partial) = &run.partial
                && let Err(error) = partial.insert(&mut rows)
            {
                run.control.fail(error);
            }
            run.note_slowest(slowest);
            start(run.clone());
            return;
        }
    }
    if let Some(partial) = &run.partial
        && let Err(error) = partial.insert(&mut rows)
    {
        run.control.fail(error);
    }
    run.note_slowest(slowest);
    if run.at_work.load(Ordering::Acquire) > 1 {
        // Others are at work: whoever is last must find these frames in the answer already.
        let _ = run.flush(&mut output);
    }
    if run.at_work.fetch_sub(1, Ordering::AcqRel) == 1 {
        run.finish(output);
    }
}

/// Why a segment gave no complete rows.
pub(crate) enum Trouble {
    /// The request is over.
    Stopped,
    /// This segment failed.
    Segment(SegmentError),
}

impl From<Stop> for Trouble {
    fn from(_: Stop) -> Self {
        Self::Stopped
    }
}

/// How a try on one connection failed.
enum Attempt {
    /// The file could not be read through this connection, which was closed; another may do.
    Again(Failure),
    /// For good.
    Failed(Failure),
}

/// Whether an error of one segment would be the same on every other.
fn concerns_all(error: &SegmentError) -> bool {
    match error.code {
        ErrorCode::Forbidden | ErrorCode::BadRequest | ErrorCode::RowLimit | ErrorCode::ByteLimit => true,
        ErrorCode::BadSql => ["syntax error", "incomplete input", "unrecognized token", "must be one", "no rows"]
            .iter()
            .any(|part| error.message.contains(part)),
        _ => false,
    }
}

impl Run {
    /// The map's rows on one segment, into the answer.
    fn stream_segment(&self, index: u32, file: &SegmentFile, output: &mut Output) -> Result<(), Trouble> {
        let begin = output.frames.len();
        let (mut sent, mut again) = (false, false);
        let result = loop {
            let result = self.on_lease(file, |lease| self.stream_rows(index, file, lease, output, &mut sent));
            match result {
                Err(Attempt::Again(_)) if !sent && !again => {
                    again = true;
                    output.frames.truncate(begin);
                    output.names.clear();
                }
                Err(Attempt::Again(failure) | Attempt::Failed(failure)) => break Err(failure),
                Ok(()) => break Ok(()),
            }
        };
        result.map_err(|failure| {
            if !sent {
                // Nothing of it was handed over: the segment's rows are taken back, and its columns' names with them.
                output.frames.truncate(begin);
                output.names.clear();
            }
            self.trouble(file, failure)
        })
    }

    fn stream_rows(
        &self,
        index: u32,
        file: &SegmentFile,
        lease: &Lease<'_>,
        output: &mut Output,
        sent: &mut bool,
    ) -> Result<(), Failure> {
        let mut statement = self.map.prepare(lease.conn(), Some(&file.id))?;
        self.stream_statement(Some(index), &mut statement, output, sent)
    }

    /// A prepared statement's rows, into the answer.
    pub(crate) fn stream_statement(
        &self,
        segment: Option<u32>,
        statement: &mut rusqlite::Statement<'_>,
        output: &mut Output,
        sent: &mut bool,
    ) -> Result<(), Failure> {
        output.columns(segment, statement);
        let mut begin = output.frames.len();
        let result = self.stream_frames(segment, statement, output, &mut begin, sent);
        if result.is_err() {
            // A frame that was not filled in is no frame.
            output.frames.truncate(begin);
        }
        result
    }

    /// The rows in frames; `begin` is where the open one begins.
    fn stream_frames(
        &self,
        segment: Option<u32>,
        statement: &mut rusqlite::Statement<'_>,
        output: &mut Output,
        begin: &mut usize,
        sent: &mut bool,
    ) -> Result<(), Failure> {
        let (columns, most) = (statement.column_count(), self.max_row_bytes());
        let mut frame: Option<RowsFrame> = None;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            let open = frame.get_or_insert_with(|| RowsFrame::open(segment, &mut output.frames));
            encode::row(row, columns, most, &mut output.frames)?;
            open.row();
            if output.frames.len() - *begin >= BATCH_BYTES {
                self.close(frame.take(), &mut output.frames)?;
                *begin = output.frames.len();
                *sent = true;
                let names = std::mem::take(&mut output.names);
                if self.flush(output).is_err() {
                    return Err(Failure::Ours(stopped()));
                }
                // What follows may come after another thread's frames, so the columns are told again.
                Frame::Columns { segment, names: names.clone() }.encode(&mut output.frames);
                output.names = names;
                *begin = output.frames.len();
            }
        }
        self.close(frame, &mut output.frames)
    }

    /// Ends a rows frame and counts it.
    pub(crate) fn close(&self, frame: Option<RowsFrame>, out: &mut [u8]) -> Result<(), Failure> {
        let Some(frame) = frame else { return Ok(()) };
        let (rows, bytes) = frame.close(out);
        let rows = self.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        Ok(within(rows, self.max_rows, bytes, self.max_bytes)?)
    }

    /// The map's rows on one segment, towards the table `partial`: all of them or none.
    fn map_segment(&self, file: &SegmentFile, partial: &Partial, rows: &mut Vec<u8>) -> Result<(), Trouble> {
        let begin = rows.len();
        let result = self.map_on(file, |lease| {
            rows.truncate(begin);
            let mut statement = self.map.prepare(lease.conn(), Some(&file.id))?;
            let columns = partial.columns(&statement)?;
            let mut result = statement.raw_query();
            while let Some(row) = result.next()? {
                encode::row(row, columns, self.max_row_bytes(), rows)?;
                if rows.len() - begin > BATCH_BYTES {
                    partial.check_room((rows.len() - begin) as u64)?;
                }
            }
            Ok(())
        });
        if let Err(trouble) = result {
            rows.truncate(begin);
            return Err(trouble);
        }
        if rows.len() >= BATCH_BYTES {
            partial.insert(rows).map_err(Trouble::Segment)?;
        }
        Ok(())
    }

    /// Runs `work`, which gives nothing away, on a connection, and again from the beginning if an old one failed.
    pub(crate) fn map_on(
        &self,
        file: &SegmentFile,
        mut work: impl FnMut(&Lease<'_>) -> Result<(), Failure>,
    ) -> Result<(), Trouble> {
        let mut again = false;
        let result = loop {
            match self.on_lease(file, &mut work) {
                Err(Attempt::Again(_)) if !again => again = true,
                Err(Attempt::Again(failure) | Attempt::Failed(failure)) => break Err(failure),
                Ok(()) => break Ok(()),
            }
        };
        result.map_err(|failure| self.trouble(file, failure))
    }

    /// Runs `work` on a connection. A connection whose file could not be read is closed.
    fn on_lease(
        &self,
        file: &SegmentFile,
        work: impl FnOnce(&Lease<'_>) -> Result<(), Failure>,
    ) -> Result<(), Attempt> {
        let lease = self.inner.cache.checkout(file, &self.inner.options, &self.control);
        let mut lease = lease.map_err(|e| Attempt::Failed(Failure::Ours(e)))?;
        lease.obey(&self.control);
        if !lease.reused && !self.inner.cache.can_keep(self.files.len()) {
            lease.discard();
        }
        work(&lease).map_err(|failure| match judge(&mut lease, file, &self.inner.options, failure) {
            Verdict::Again(failure) => Attempt::Again(failure),
            Verdict::Failed(failure) => Attempt::Failed(failure),
        })
    }

    pub(crate) fn max_row_bytes(&self) -> usize {
        self.inner.options.limits.max_value_bytes
    }

    fn trouble(&self, file: &SegmentFile, failure: Failure) -> Trouble {
        if let Failure::Sqlite(e) = &failure
            && e.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted)
            && self.control.stop_reason().is_some()
        {
            return Trouble::Stopped;
        }
        let error = match failure {
            Failure::Sqlite(e) => crate::conn::explain_read(file, &e),
            Failure::Ours(e) => e,
        };
        if error.code == ErrorCode::Cancelled { Trouble::Stopped } else { Trouble::Segment(error) }
    }

    /// Hands the frames over.
    pub(crate) fn flush(&self, output: &mut Output) -> Result<(), Stop> {
        output.since = Instant::now();
        output.names.clear();
        if output.frames.is_empty() {
            return Ok(());
        }
        let capacity = output.frames.len().min(BATCH_BYTES + BATCH_BYTES / 4);
        let frames = std::mem::replace(&mut output.frames, Vec::with_capacity(capacity));
        self.send(frames, false)
    }

    fn send(&self, frames: Vec<u8>, last: bool) -> Result<(), Stop> {
        let chunk = |bytes: Vec<u8>| if last { Chunk::Last(bytes.into()) } else { Chunk::More(bytes.into()) };
        match &self.renderer {
            None => self.sender.send(chunk(frames)),
            Some(renderer) => {
                // Held while sending: what is rendered depends on what went before.
                let mut renderer = renderer.try_lock().unwrap_or_else(|| self.pool.while_blocked(|| renderer.lock()));
                self.sender.send(chunk(renderer.render(&frames)))
            }
        }
    }

    fn note_slowest(&self, slowest: Option<(usize, Duration)>) {
        if let Some((index, time)) = slowest {
            self.notes.took(index, time);
        }
    }

    /// The last thread's duty: the reduce statement, and the answer's end.
    fn finish(&self, mut output: Output) {
        let reduced = match (&self.partial, &self.top) {
            _ if self.control.stop_reason().is_some() => Ok(()),
            (Some(partial), _) => partial.reduce(self, &mut output),
            (None, Some(top)) => top.give(self, &mut output),
            (None, None) => Ok(()),
        };
        if let Err(error) = reduced {
            self.control.fail(self.control.stop_reason().unwrap_or(error));
        }
        let stats = QueryStats {
            ok: self.ok.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            micros: self.control.elapsed().as_micros() as u64,
        };
        let error = self.control.stop_reason();
        // Told before the end is sent: who has the answer finds what is told of it.
        self.notes.tell(self.map.sql(), &self.files, stats, error.as_ref());
        let last = error.map_or(Frame::End(stats), Frame::Error);
        last.encode(&mut output.frames);
        // A reader that is gone needs no end.
        let _ = self.send(output.frames, true);
    }
}

pub(crate) fn stopped() -> SegmentError {
    SegmentError::new(ErrorCode::Cancelled, "the reader is gone")
}
