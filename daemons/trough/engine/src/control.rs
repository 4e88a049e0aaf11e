//! When a running query must stop: its deadline, its client's departure, the limits on what it gives back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use trough_core::{ErrorCode, SegmentError};

/// A client that takes nothing for so long is given up.
const STALL: Duration = Duration::from_secs(3600);

/// Shared by all threads that work for one request.
#[derive(Debug)]
pub(crate) struct Control {
    started: Instant,
    /// Microseconds after `started` when the request must be over.
    deadline: AtomicU64,
    /// Whether waiting for the client moves the deadline: it does for the default timeout, not for a deadline that
    /// the client set.
    elastic: bool,
    timeout: Duration,
    cancelled: AtomicBool,
    token: Option<CancellationToken>,
    /// The request's failure, once there is one; it stops all threads.
    failure: Mutex<Option<SegmentError>>,
    failed: AtomicBool,
    done: AtomicU64,
}

impl Control {
    pub(crate) fn new(default: Duration, deadline: Option<Duration>, token: Option<CancellationToken>) -> Arc<Self> {
        let timeout = deadline.unwrap_or(default);
        Arc::new(Self {
            started: Instant::now(),
            deadline: AtomicU64::new(u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX)),
            elastic: deadline.is_none(),
            timeout,
            cancelled: AtomicBool::new(false),
            token,
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            done: AtomicU64::new(0),
        })
    }

    /// Time since the request came.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// The client kept a thread waiting for so long.
    pub(crate) fn waited(&self, time: Duration) {
        if self.elastic {
            self.deadline.fetch_add(u64::try_from(time.as_micros()).unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Whether a client that takes nothing for so long has lost its claim to a thread.
    pub(crate) fn stalled(&self, time: Duration) -> bool {
        time > STALL
    }

    /// One more segment is done.
    pub(crate) fn segment_done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Segments done so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Stops all threads of the request; the first failure is the one that is told.
    pub(crate) fn fail(&self, error: SegmentError) {
        let mut failure = self.failure.lock();
        if failure.is_none() {
            *failure = Some(error);
        }
        self.failed.store(true, Ordering::Release);
    }

    pub(crate) fn failure(&self) -> Option<SegmentError> {
        if self.failed.load(Ordering::Acquire) { self.failure.lock().clone() } else { None }
    }

    /// Whether the work must stop now; cheap enough to be asked every thousand steps of SQLite's machine.
    pub(crate) fn must_stop(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
            || self.failed.load(Ordering::Relaxed)
            || self.elapsed().as_micros() as u64 > self.deadline.load(Ordering::Relaxed)
            || self.token.as_ref().is_some_and(CancellationToken::is_cancelled)
    }

    /// Why the work must stop, if it must.
    pub(crate) fn stop_reason(&self) -> Option<SegmentError> {
        if let Some(error) = self.failure() {
            return Some(error);
        }
        if self.cancelled.load(Ordering::Relaxed) || self.token.as_ref().is_some_and(CancellationToken::is_cancelled) {
            return Some(SegmentError::new(ErrorCode::Cancelled, "the query was cancelled"));
        }
        if self.elapsed().as_micros() as u64 > self.deadline.load(Ordering::Relaxed) {
            let ms = self.timeout.as_millis();
            return Some(SegmentError::new(
                ErrorCode::Deadline,
                format!("the query was interrupted: its deadline of {ms} ms passed"),
            ));
        }
        None
    }
}
