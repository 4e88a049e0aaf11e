//! Threads that run queries. They have large stacks, since terms and values nest, and may block on SQLite and on the
//! writer, which the threads that serve connections must not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Stack of a thread that evaluates terms: enough for the deepest term and value that are let in.
pub(crate) const STACK_BYTES: usize = 128 * 1024 * 1024;

/// Most threads. Each waits for the writer while its write is on the way to the disk, so this bounds how many writes
/// share an fsync.
const MAX_THREADS: usize = 128;

/// A thread with nothing to do for this long ends.
const IDLE: Duration = Duration::from_secs(20);

type Job = Box<dyn FnOnce() + Send>;

/// A pool that grows as needed.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
    emptied: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// Jobs taken and not finished.
    running: usize,
}

impl Pool {
    /// Runs a job on some thread.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.state.lock();
        state.jobs.push_back(Box::new(job));
        if state.idle < state.jobs.len() && state.threads < MAX_THREADS {
            let shared = self.0.clone();
            let spawned = std::thread::Builder::new()
                .name("meta-query".into())
                .stack_size(STACK_BYTES)
                .spawn(move || work(&shared));
            match spawned {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    tracing::error!(%error, "could not start a thread for queries");
                }
                Err(_) => {}
            }
        }
        drop(state);
        self.0.arrived.notify_one();
    }

    /// Waits until no job waits or runs. Blocks.
    pub(crate) fn drain(&self) {
        let mut state = self.0.state.lock();
        while state.running > 0 || (!state.jobs.is_empty() && state.threads > 0) {
            self.0.emptied.wait(&mut state);
        }
    }
}

fn work(shared: &Shared) {
    let mut state = shared.state.lock();
    loop {
        if let Some(job) = state.jobs.pop_front() {
            state.running += 1;
            drop(state);
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                tracing::error!("a query panicked");
            }
            state = shared.state.lock();
            state.running -= 1;
            if state.running == 0 && state.jobs.is_empty() {
                shared.emptied.notify_all();
            }
            continue;
        }
        state.idle += 1;
        let timed_out = shared.arrived.wait_for(&mut state, IDLE).timed_out();
        state.idle -= 1;
        if timed_out && state.jobs.is_empty() {
            state.threads -= 1;
            return;
        }
    }
}
