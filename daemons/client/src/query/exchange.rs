//! One request to one worker, and what comes of it.
//!
//! Rows are held back until the end record, as long as they fit: then nothing of a request that breaks has been delivered, and
//! all of it can be asked elsewhere. A reduced answer is held whole (within the buffer's bound), for its rows cannot be told apart
//! by segment; another is let go once it outgrows [`HOLD_BYTES`], and from then on those segments that have delivered cannot be
//! asked again.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use futures::FutureExt;
use trough_core::{
    ErrorCode, SegmentError, SegmentId,
    trace::TRACEPARENT,
    wire::{Frame, FrameDecoder, MSGPACK, QueryRequest, QueryStats},
};

use super::{Batch, Shared, python, skip};
use crate::{
    discovery::{Endpoint, InFlight},
    http,
};

/// How much of an answer without reduce is held back.
const HOLD_BYTES: usize = 256 << 10;
/// Segments that a Python worker is asked at the same time.
const PYTHON_AT_ONCE: usize = 4;
/// What a held batch costs beside its bytes.
const BATCH_COST: usize = 128;

/// A segment that is to be asked, with what was tried before.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) segment: SegmentId,
    pub(super) past: Option<Box<Past>>,
}

/// What was tried of a segment.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// Base URLs that were asked.
    pub(super) tried: Vec<Arc<str>>,
    /// How often it was asked.
    pub(super) attempts: u32,
    /// Whether it has been looked up anew because a worker did not know it.
    pub(super) rediscovered: bool,
}

/// Why a request ends before its end record.
enum Stop {
    /// All of it broke.
    Broken(SegmentError),
    /// A segment failed for good, and with it the query.
    Segment(u32, SegmentError),
}

impl From<SegmentError> for Stop {
    fn from(error: SegmentError) -> Self {
        Self::Broken(error)
    }
}

/// Some segments to be asked of one worker.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) endpoint: Endpoint,
    pub(super) targets: Vec<Target>,
}

/// What a step of a request gave.
pub(super) enum Step {
    /// Rows to deliver; the request goes on.
    Rows(Vec<Batch>),
    /// The request is over.
    Over(Box<Outcome>),
}

/// How a request ended.
#[derive(Default)]
pub(super) struct Outcome {
    /// The last rows to deliver.
    pub(super) rows: Vec<Batch>,
    /// Segments all of whose rows are delivered with `rows`, if that is to be told.
    pub(super) done: Vec<SegmentId>,
    /// Segments that failed by themselves, and whether some of their rows have been delivered.
    pub(super) failed: Vec<(Target, SegmentError, bool)>,
    /// If the request broke: why, and the segments that had not failed by themselves before, each with whether rows of it have
    /// been delivered.
    pub(super) broken: Option<(SegmentError, Vec<(Target, bool)>)>,
    /// The end record's counts.
    pub(super) stats: QueryStats,
}

/// A request in flight.
pub(super) struct Exchange {
    shared: Arc<Shared>,
    pub(super) endpoint: Endpoint,
    pub(super) targets: Vec<Target>,
    deadline: Option<Instant>,
    response: Option<reqwest::Response>,
    decoder: FrameDecoder,
    columns: Columns,
    held: Vec<(Option<u32>, Batch)>,
    held_bytes: usize,
    holding: bool,
    /// By index of the segment: whether rows of it have been delivered. Empty until the first.
    delivered: Vec<bool>,
    delivered_reduced: bool,
    failed: HashMap<u32, SegmentError>,
    rows: u64,
    /// Segments that the worker has told it is done with.
    progress: u64,
    ended: Option<QueryStats>,
    /// Segments that a Python worker, which takes them one by one, was asked so far.
    asked: usize,
    _in_flight: InFlight,
}

/// The names that stand for the rows of a segment: its own, else those that came last.
#[derive(Default)]
struct Columns {
    last: Option<Arc<[String]>>,
    own: HashMap<Option<u32>, Arc<[String]>>,
}

impl Columns {
    fn put(&mut self, segment: Option<u32>, names: Vec<String>) {
        let same = self.last.as_ref().filter(|last| last[..] == names[..]).cloned();
        match same {
            // As long as all segments agree, none needs an entry.
            Some(_) if self.own.is_empty() => {}
            None if self.last.is_none() => self.last = Some(names.into()),
            same => {
                let names = same.unwrap_or_else(|| names.into());
                self.own.insert(segment, names.clone());
                self.last = Some(names);
            }
        }
    }

    fn of(&self, segment: Option<u32>) -> Option<Arc<[String]>> {
        self.own.get(&segment).or(self.last.as_ref()).cloned()
    }
}

impl Exchange {
    pub(super) fn new(shared: Arc<Shared>, chunk: Chunk, deadline: Option<Instant>) -> Self {
        let _in_flight = chunk.endpoint.node.begin();
        Self {
            shared,
            endpoint: chunk.endpoint,
            targets: chunk.targets,
            deadline,
            response: None,
            decoder: FrameDecoder::default(),
            columns: Columns::default(),
            held: Vec::new(),
            held_bytes: 0,
            holding: true,
            delivered: Vec::new(),
            delivered_reduced: false,
            failed: HashMap::new(),
            rows: 0,
            progress: 0,
            ended: None,
            asked: 0,
            _in_flight,
        }
    }

    /// Goes on until there are rows to deliver or the request is over.
    pub(super) async fn step(&mut self) -> Step {
        match self.advance().await {
            Ok(Some(rows)) => Step::Rows(rows),
            Ok(None) => Step::Over(Box::new(self.finish(None))),
            Err(error) => Step::Over(Box::new(self.finish(Some(error)))),
        }
    }

    async fn advance(&mut self) -> Result<Option<Vec<Batch>>, Stop> {
        if self.endpoint.legacy {
            return self.advance_python().await;
        }
        if self.response.is_none() {
            self.response = Some(self.send().await?);
        }
        loop {
            if self.ended.is_some() {
                self.drain();
                return Ok(None);
            }
            let mut rows = Vec::new();
            while self.ended.is_none()
                && let Some(frame) = self.decoder.next_frame().map_err(|e| garbage(e.0))?
            {
                self.take(frame, &mut rows)?;
                if let Some(stats) = self.ended {
                    self.check_end(&stats)?;
                }
            }
            // What came together with the end record is delivered before the end is told.
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
            if self.ended.is_some() {
                continue;
            }
            let response = self.response.as_mut().expect("a response is there from the first step on");
            let stall = self.shared.options.stall;
            match tokio::time::timeout(stall, response.chunk()).await {
                Ok(Ok(Some(bytes))) => self.decoder.push(&bytes),
                Ok(Ok(None)) => return Err(broken("the answer stopped before its end record").into()),
                Ok(Err(e)) => return Err(broken(format!("the answer broke off: {}", http::chain(&e))).into()),
                Err(_) => return Err(broken(format!("nothing came for {stall:?}")).into()),
            }
        }
    }

    /// The same with a worker of the Python trough: its answers are turned into what ours would send.
    async fn advance_python(&mut self) -> Result<Option<Vec<Batch>>, Stop> {
        while self.asked < self.targets.len() {
            let Shared { template, options, client, .. } = &*self.shared;
            let left = self.deadline.map(|d| d.saturating_duration_since(Instant::now()));
            let first = self.asked;
            let some = &self.targets[first..(first + PYTHON_AT_ONCE).min(self.targets.len())];
            self.asked += some.len();
            let trace = options.trace;
            let asked = some.iter().map(|t| python::ask(client, &self.endpoint.url, &t.segment, template, left, trace));
            let (answers, reduced) = (futures::future::join_all(asked).await, template.reduce.is_some());
            let mut rows = Vec::new();
            for (segment, answer) in (first as u32..).zip(answers) {
                match answer {
                    Ok(found) if found.count == 0 => {}
                    Ok(found) => {
                        let segment = (!reduced).then_some(segment);
                        self.take(Frame::Columns { segment, names: found.columns }, &mut rows)?;
                        self.take(Frame::Rows { segment, count: found.count, data: found.data.into() }, &mut rows)?;
                    }
                    // It does not answer at all: another copy of all its segments may.
                    Err(error) if error.code == ErrorCode::Unavailable => return Err(error.into()),
                    Err(error) => self.take(Frame::SegmentError { segment, error }, &mut rows)?,
                }
            }
            self.take(Frame::Progress { done: self.asked as u64 }, &mut rows)?;
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
        }
        let failed = self.failed.len() as u64;
        self.ended = Some(QueryStats {
            ok: self.targets.len() as u64 - failed,
            failed,
            rows: self.rows,
            ..QueryStats::default()
        });
        Ok(None)
    }

    async fn send(&mut self) -> Result<reqwest::Response, SegmentError> {
        let Shared { template, options, client, .. } = &*self.shared;
        let left = self.deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let request = QueryRequest {
            segments: self.targets.iter().map(|t| t.segment.clone()).collect(),
            map: template.map.clone(),
            reduce: template.reduce.clone(),
            params: template.params.clone(),
            reduce_params: template.reduce_params.clone(),
            deadline_ms: left.map(|d| (d.as_millis() as u64).max(1)),
            max_rows: template.max_rows,
            max_bytes: template.max_bytes,
            bytewise: template.bytewise,
            proxied: false,
        };
        let body = serde_json::to_vec(&request)
            .map_err(|e| SegmentError::new(ErrorCode::BadRequest, format!("write the request: {e}")))?;
        let url = format!("{}v1/query", self.endpoint.url);
        let mut post = http::post(client, url, "application/json", MSGPACK, body);
        if let Some(trace) = options.trace {
            post = post.header(TRACEPARENT, trace.to_string());
        }
        let sent = tokio::time::timeout(options.stall, post.send()).await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(e)) => return Err(broken(http::chain(&e))),
            Err(_) => return Err(broken(format!("no answer within {:?}", options.stall))),
        };
        if !response.status().is_success() {
            let read = tokio::time::timeout(options.stall, http::failure(response)).await;
            return Err(read.unwrap_or_else(|_| broken("the error's text did not come")));
        }
        let media_type = response.headers().get(reqwest::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        if !media_type.is_some_and(|m| m.starts_with(MSGPACK)) {
            return Err(garbage(format!("media type {:?}, not {MSGPACK}", media_type.unwrap_or("none"))));
        }
        Ok(response)
    }

    fn take(&mut self, frame: Frame, rows: &mut Vec<Batch>) -> Result<(), Stop> {
        match frame {
            Frame::Columns { segment, names } => {
                self.target(segment)?;
                self.columns.put(segment, names);
            }
            Frame::Rows { segment, count, data } => {
                if self.target(segment)?.is_none() != self.shared.template.reduce.is_some() {
                    return Err(garbage("rows of a segment and rows of a reduce in the wrong place".to_owned()).into());
                }
                let columns = self.columns.of(segment).ok_or_else(|| garbage("rows without columns".to_owned()))?;
                self.rows += u64::from(count);
                self.put(segment, count, columns, data, rows);
            }
            Frame::SegmentError { segment, error } => {
                self.target(Some(segment))?;
                if !error.code.is_retryable() && !skip::may_skip(error.code, &self.shared.options) {
                    return Err(Stop::Segment(segment, error));
                }
                self.held.retain(|(s, _)| *s != Some(segment));
                self.failed.insert(segment, error);
            }
            Frame::Progress { done } => {
                self.shared.progress.fetch_add(done.saturating_sub(self.progress), Ordering::Relaxed);
                self.progress = self.progress.max(done);
            }
            Frame::Error(error) => return Err(error.into()),
            Frame::End(stats) => self.ended = Some(stats),
        }
        Ok(())
    }

    fn put(&mut self, segment: Option<u32>, count: u32, columns: Arc<[String]>, data: Bytes, rows: &mut Vec<Batch>) {
        let cost = data.len() + BATCH_COST;
        let name = segment.map(|i| self.targets[i as usize].segment.clone());
        self.held.push((segment, Batch { segment: name, columns, count, data }));
        if self.holding {
            self.held_bytes += cost;
            let total = self.shared.held_bytes.fetch_add(cost, Ordering::Relaxed) + cost;
            // Where failed segments are left out, holding back is what makes it possible.
            let whole = segment.is_none() || self.shared.options.skip_failed;
            let own_limit = if whole { usize::MAX } else { HOLD_BYTES };
            self.holding = self.held_bytes <= own_limit && total <= self.shared.options.buffer_bytes;
        }
        if !self.holding {
            self.let_go(rows);
        }
    }

    /// Delivers what was held back.
    fn let_go(&mut self, rows: &mut Vec<Batch>) {
        self.shared.held_bytes.fetch_sub(std::mem::take(&mut self.held_bytes), Ordering::Relaxed);
        for (segment, batch) in self.held.drain(..) {
            match segment {
                Some(i) => {
                    self.delivered.resize(self.targets.len(), false);
                    self.delivered[i as usize] = true;
                }
                None => self.delivered_reduced = true,
            }
            rows.push(batch);
        }
    }

    fn target(&self, segment: Option<u32>) -> Result<Option<u32>, SegmentError> {
        match segment {
            Some(i) if i as usize >= self.targets.len() => {
                Err(garbage(format!("segment {i} of a request for {}", self.targets.len())))
            }
            segment => Ok(segment),
        }
    }

    /// A count that disagrees means that rows or segments were lost on the way.
    fn check_end(&self, stats: &QueryStats) -> Result<(), SegmentError> {
        let (asked, failed) = (self.targets.len() as u64, self.failed.len() as u64);
        if stats.ok + stats.failed != asked || stats.failed != failed || stats.rows != self.rows {
            return Err(garbage(format!(
                "the end record counts {} segments done, {} failed and {} rows, but {asked} were asked, {failed} errors and {} rows came",
                stats.ok, stats.failed, stats.rows, self.rows
            )));
        }
        Ok(())
    }

    /// Reads the last chunk's end, so that the connection can be used again.
    fn drain(&mut self) {
        let Some(mut response) = self.response.take() else { return };
        if response.chunk().now_or_never().is_none() {
            tokio::spawn(async move {
                let end = tokio::time::Duration::from_secs(1);
                let _ = tokio::time::timeout(end, response.chunk()).await;
            });
        }
    }

    fn finish(&mut self, stopped: Option<Stop>) -> Outcome {
        let mut outcome = Outcome { stats: self.ended.unwrap_or_default(), ..Outcome::default() };
        if stopped.is_none() {
            self.let_go(&mut outcome.rows);
            self.endpoint.node.report_success();
        }
        let mut targets = std::mem::take(&mut self.targets);
        match stopped {
            None => {
                // In a reduced answer a failed segment has no part, so it alone can be asked elsewhere.
                for (i, target) in targets.into_iter().enumerate() {
                    if let Some(why) = self.failed.remove(&(i as u32)) {
                        let delivered = self.delivered.get(i).copied().unwrap_or(false);
                        outcome.failed.push((target, why, delivered));
                    } else if self.shared.options.tell_done {
                        outcome.done.push(target.segment);
                    }
                }
            }
            Some(Stop::Segment(i, why)) => outcome.failed.push((targets.swap_remove(i as usize), why, true)),
            Some(Stop::Broken(error)) => {
                let delivered = |i: usize| self.delivered_reduced || self.delivered.get(i).copied().unwrap_or(false);
                let rest = targets.into_iter().enumerate().map(|(i, t)| (t, delivered(i))).collect();
                outcome.broken = Some((error, rest));
            }
        }
        outcome
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.shared.held_bytes.fetch_sub(self.held_bytes, Ordering::Relaxed);
        self.shared.progress.fetch_sub(self.progress, Ordering::Relaxed);
    }
}

/// The connection or the worker broke; another copy may do.
fn broken(why: impl Into<String>) -> SegmentError {
    SegmentError::new(ErrorCode::Unavailable, why)
}

/// The worker says what makes no sense; another copy may do.
fn garbage(why: String) -> SegmentError {
    SegmentError::new(ErrorCode::Unavailable, format!("the worker answered garbage: {why}"))
}
