//! The stream of a query's rows: it sends requests as their turn comes, sorts out what failed, and asks again.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{FuturesUnordered, Stream},
};
use trough_core::{ErrorCode, SegmentError, SegmentId};

use super::{
    Batch, LeftOut, QueryError, SegmentSet, Shared,
    exchange::{Chunk, Exchange, Outcome, Past, Step, Target},
    plan::{self, Again, Planned},
    skip,
};
use crate::discovery::Endpoint;

/// What a query did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FanOutStats {
    /// Segments asked.
    pub segments: u64,
    /// Named segments that do not exist.
    pub unknown: u64,
    /// Segments done: all of their rows are delivered, or they were left out.
    pub done: u64,
    /// Segments that failed and were left out.
    pub failed: u64,
    /// Workers asked.
    pub workers: u64,
    /// Copies on cold workers that were asked; all others are on hot ones.
    pub cold: u64,
    /// Requests sent.
    pub requests: u64,
    /// Segments that were asked again.
    pub retries: u64,
    /// Rows delivered.
    pub rows: u64,
    /// Bytes of rows delivered.
    pub bytes: u64,
    /// Time that workers spent, summed, in microseconds.
    pub worker_micros: u64,
}

/// What a query has to tell.
#[derive(Clone, Debug)]
pub enum QueryEvent {
    /// Some rows.
    Rows(Batch),
    /// No more rows of these segments come: all of them are delivered. Only if [`super::QueryOptions::tell_done`] is set; segments that were left
    /// out are not among them.
    Done(Vec<SegmentId>),
}

/// A query's rows. [`QueryStream::next`] may be cancelled and called again.
pub struct QueryStream {
    shared: Arc<Shared>,
    started: Instant,
    work: FuturesUnordered<BoxFuture<'static, Event>>,
    queue: VecDeque<Chunk>,
    /// Requests in flight by base URL.
    in_flight: HashMap<Arc<str>, usize>,
    requests_in_flight: usize,
    asked: HashSet<Arc<str>>,
    ready: VecDeque<QueryEvent>,
    stats: FanOutStats,
    left_out: LeftOut,
    over: bool,
}

enum Event {
    Planned(Result<Planned, QueryError>),
    Step(Box<Exchange>, Step),
}

impl QueryStream {
    pub(super) fn new(shared: Arc<Shared>, segments: SegmentSet) -> Self {
        let work: FuturesUnordered<BoxFuture<'static, Event>> = FuturesUnordered::new();
        let started = Instant::now();
        let deadline = shared.options.timeout.and_then(|t| started.checked_add(t));
        let planning = plan::first(shared.clone(), segments, deadline);
        work.push(Box::pin(async move { Event::Planned(planning.await) }));
        Self {
            shared,
            started,
            work,
            queue: VecDeque::new(),
            in_flight: HashMap::new(),
            requests_in_flight: 0,
            asked: HashSet::new(),
            ready: VecDeque::new(),
            stats: FanOutStats::default(),
            left_out: LeftOut::default(),
            over: false,
        }
    }

    /// What was done so far.
    pub fn stats(&self) -> FanOutStats {
        let under_way = self.shared.progress.load(Ordering::Relaxed);
        FanOutStats { done: self.stats.done + under_way, ..self.stats }
    }

    /// What was left out so far.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// The next rows, in no order; none at the end. An error is the last item.
    ///
    /// # Errors
    /// [`QueryError`], naming segment and worker.
    pub async fn next(&mut self) -> Option<Result<Batch, QueryError>> {
        loop {
            match self.next_event().await? {
                Ok(QueryEvent::Rows(batch)) => return Some(Ok(batch)),
                Ok(QueryEvent::Done(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// As [`QueryStream::next`], with the ends of segments among the rows; they come in no order, but each after its rows.
    ///
    /// # Errors
    /// As [`QueryStream::next`].
    pub async fn next_event(&mut self) -> Option<Result<QueryEvent, QueryError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                if let QueryEvent::Rows(batch) = &event {
                    self.stats.rows += u64::from(batch.count);
                    self.stats.bytes += batch.data.len() as u64;
                    if self.shared.options.enough_rows.is_some_and(|enough| self.stats.rows >= enough) {
                        self.end();
                    }
                }
                return Some(Ok(event));
            }
            if self.over {
                return None;
            }
            self.send_what_may_go();
            let event = match self.deadline() {
                None => self.work.next().await,
                Some(deadline) => match tokio::time::timeout_at(deadline.into(), self.work.next()).await {
                    Ok(event) => event,
                    Err(_) => return Some(Err(self.fail(self.late()))),
                },
            };
            let taken = match event {
                None => {
                    self.over = true;
                    return None;
                }
                Some(Event::Planned(Ok(planned))) => {
                    self.stats.segments += planned.segments;
                    self.leave_out(planned.left_out);
                    self.queue.extend(planned.chunks);
                    Ok(())
                }
                Some(Event::Planned(Err(error))) => Err(error),
                Some(Event::Step(exchange, Step::Rows(rows))) => {
                    self.ready.extend(rows.into_iter().map(QueryEvent::Rows));
                    self.go_on(exchange);
                    Ok(())
                }
                Some(Event::Step(exchange, Step::Over(outcome))) => self.take_outcome(*exchange, *outcome),
            };
            if let Err(error) = taken {
                return Some(Err(self.fail(error)));
            }
        }
    }

    /// Ends the query: every request is dropped, and with it every connection.
    fn end(&mut self) {
        self.over = true;
        self.work = FuturesUnordered::new();
        self.queue.clear();
        self.ready.clear();
    }

    fn fail(&mut self, error: QueryError) -> QueryError {
        self.end();
        error
    }

    fn deadline(&self) -> Option<Instant> {
        self.shared.options.timeout.and_then(|t| self.started.checked_add(t))
    }

    fn late(&self) -> QueryError {
        let after = self.shared.options.timeout.unwrap_or_default();
        let mut waiting: Vec<&str> = self.in_flight.iter().filter(|(_, n)| **n > 0).map(|(url, _)| &**url).collect();
        waiting.sort_unstable();
        let waiting = if waiting.is_empty() { "discovery".to_owned() } else { waiting.join(", ") };
        QueryError::Deadline { after, waiting }
    }

    /// Starts requests: in all and per worker no more than allowed, but at least one per worker.
    fn send_what_may_go(&mut self) {
        let options = &self.shared.options;
        // Where a few rows may be enough, nothing more is asked for before they have come.
        let per_worker = if options.enough_rows.is_some() { 1 } else { options.per_worker.max(1) };
        let most = options.max_in_flight.max(1);
        let mut left = VecDeque::new();
        while let Some(chunk) = self.queue.pop_front() {
            let busy = self.in_flight.get(&chunk.endpoint.url).copied().unwrap_or(0);
            if busy >= per_worker || (busy > 0 && self.requests_in_flight >= most) {
                left.push_back(chunk);
                continue;
            }
            *self.in_flight.entry(chunk.endpoint.url.clone()).or_default() += 1;
            self.requests_in_flight += 1;
            self.stats.requests += 1;
            if chunk.endpoint.cold {
                self.stats.cold += chunk.targets.len() as u64;
            }
            if self.asked.insert(chunk.endpoint.url.clone()) {
                self.stats.workers += 1;
            }
            let exchange = Exchange::new(self.shared.clone(), chunk, self.deadline());
            self.go_on(Box::new(exchange));
        }
        self.queue = left;
    }

    fn go_on(&mut self, mut exchange: Box<Exchange>) {
        self.work.push(Box::pin(async move {
            let step = exchange.step().await;
            Event::Step(exchange, step)
        }));
    }

    fn take_outcome(&mut self, exchange: Exchange, outcome: Outcome) -> Result<(), QueryError> {
        let endpoint = exchange.endpoint.clone();
        drop(exchange);
        self.requests_in_flight -= 1;
        if let Some(n) = self.in_flight.get_mut(&endpoint.url) {
            *n -= 1;
        }
        self.stats.worker_micros += outcome.stats.micros;
        self.ready.extend(outcome.rows.into_iter().map(QueryEvent::Rows));
        if !outcome.done.is_empty() {
            self.ready.push_back(QueryEvent::Done(outcome.done));
        }
        if outcome.broken.is_none() {
            self.stats.done += outcome.stats.ok;
        }
        let mut again = Vec::new();
        for (target, error, delivered) in outcome.failed {
            let shown = QueryError::Segment {
                segment: target.segment.clone(),
                node: endpoint.node.id.clone(),
                url: endpoint.url.to_string(),
                error: error.clone(),
            };
            again.extend(self.retry(&endpoint, target, &error, shown, delivered)?);
        }
        if let Some((error, rest)) = outcome.broken {
            if is_retryable(error.code) {
                endpoint.node.report_failure(self.shared.discovery.failure_memory());
            }
            let count = rest.len();
            for (target, delivered) in rest {
                let mut error = error.clone();
                if delivered {
                    error.message.push_str(" (after some of the rows; run the query again)");
                }
                let shown = QueryError::Worker {
                    node: endpoint.node.id.clone(),
                    url: endpoint.url.to_string(),
                    first: target.segment.clone(),
                    count,
                    error: error.clone(),
                };
                again.extend(self.retry(&endpoint, target, &error, shown, delivered)?);
            }
        }
        if !again.is_empty() {
            self.stats.retries += again.len() as u64;
            let planning = plan::again(self.shared.clone(), again);
            self.work.push(Box::pin(async move { Event::Planned(planning.await) }));
        }
        Ok(())
    }

    /// How a segment that failed is to be asked again; none if it is left out. Else the error that ends the query.
    fn retry(
        &mut self,
        endpoint: &Endpoint,
        target: Target,
        error: &SegmentError,
        shown: QueryError,
        delivered: bool,
    ) -> Result<Option<Again>, QueryError> {
        let mut past = target
            .past
            .as_deref()
            .cloned()
            .unwrap_or_else(|| Past { tried: vec![endpoint.url.clone()], ..Past::default() });
        past.attempts += 1;
        if delivered {
            return Err(shown);
        }
        if !is_retryable(error.code) || past.attempts >= self.shared.options.attempts.max(1) {
            if !skip::may_skip(error.code, &self.shared.options) {
                return Err(shown);
            }
            let mut left_out = LeftOut::default();
            left_out.fail(target.segment, shown);
            self.leave_out(left_out);
            return Ok(None);
        }
        let moved_to = error.hint.clone().filter(|_| error.code == ErrorCode::Moved);
        let mut others_only = false;
        let look_up = match error.code {
            ErrorCode::UnknownSegment | ErrorCode::Moved => {
                others_only = past.rediscovered;
                past.rediscovered = true;
                true
            }
            // A broken worker may have been replaced since it was looked up.
            _ => past.attempts > 1,
        };
        Ok(Some(Again { target, past, error: shown, moved_to, look_up, others_only }))
    }

    fn leave_out(&mut self, left_out: LeftOut) {
        self.stats.unknown += left_out.unknown;
        self.stats.failed += left_out.failed;
        self.stats.done += left_out.failed;
        self.left_out.add(left_out);
    }
}

/// Whether another copy may do; a worker that stops cancels what it was doing.
fn is_retryable(code: ErrorCode) -> bool {
    code.is_retryable() || code == ErrorCode::Cancelled
}

impl Stream for QueryStream {
    type Item = Result<Batch, QueryError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let next = std::pin::pin!(self.next());
        next.poll(cx)
    }
}
