//! A result on its way from the runtime to threads that wait for it.

use std::{future::Future, sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use trough_core::ErrorCode;

use super::RemoteError;
use crate::pool;

/// A thread waits so long before it gives its place in the pool away.
const KEEP_PLACE: Duration = Duration::from_millis(2);
/// How often a thread that waits looks whether its request is over.
const LOOK: Duration = Duration::from_millis(20);

/// One result, for any number of waiters.
#[derive(Debug)]
pub(super) struct Flight<T> {
    result: Mutex<Option<Result<T, RemoteError>>>,
    landed: Condvar,
}

/// The waiter's request is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stopped;

impl<T: Clone + Send + 'static> Flight<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { result: Mutex::new(None), landed: Condvar::new() })
    }

    /// Runs `work` on the runtime, for at most `limit`; `done` sees the result before the waiters do.
    pub(super) fn start(
        self: &Arc<Self>,
        runtime: &Handle,
        what: &'static str,
        limit: Duration,
        work: impl Future<Output = Result<T, RemoteError>> + Send + 'static,
        done: impl FnOnce(&Result<T, RemoteError>) + Send + 'static,
    ) {
        let mut landing = Landing { flight: self.clone(), done: Some(done) };
        runtime.spawn(async move {
            let result = match tokio::time::timeout(limit, work).await {
                Ok(result) => result,
                Err(_) => Err(RemoteError::timeout(what, limit)),
            };
            landing.land(result);
        });
    }

    /// Waits for the result, while `stop` says no.
    pub(super) fn wait(&self, stop: impl Fn() -> bool) -> Result<Result<T, RemoteError>, Stopped> {
        let mut result = self.result.lock();
        if result.is_none() {
            self.landed.wait_for(&mut result, KEEP_PLACE);
        }
        if let Some(result) = result.as_ref() {
            return Ok(result.clone());
        }
        drop(result);
        pool::while_waiting(|| {
            let mut result = self.result.lock();
            loop {
                if let Some(result) = result.as_ref() {
                    return Ok(result.clone());
                }
                if stop() {
                    return Err(Stopped);
                }
                self.landed.wait_for(&mut result, LOOK);
            }
        })
    }
}

/// Tells the waiters, whatever becomes of the work: a runtime that shuts down drops it.
struct Landing<T: Clone + Send + 'static, D: FnOnce(&Result<T, RemoteError>)> {
    flight: Arc<Flight<T>>,
    done: Option<D>,
}

impl<T: Clone + Send + 'static, D: FnOnce(&Result<T, RemoteError>)> Landing<T, D> {
    fn land(&mut self, result: Result<T, RemoteError>) {
        let Some(done) = self.done.take() else { return };
        done(&result);
        *self.flight.result.lock() = Some(result);
        self.flight.landed.notify_all();
    }
}

impl<T: Clone + Send + 'static, D: FnOnce(&Result<T, RemoteError>)> Drop for Landing<T, D> {
    fn drop(&mut self) {
        let message = "the read was broken off: this process is stopping, or failed (see its log)".to_owned();
        self.land(Err(RemoteError { code: ErrorCode::Unavailable, message, reopen: false }));
    }
}
