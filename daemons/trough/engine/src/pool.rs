//! Threads for SQLite. A pool keeps as many threads at work as it was told; a thread that waits for a slow client does
//! not count, another takes its place, so that readers who stall cannot stop the others.

use std::{
    cell::RefCell,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use crate::engine::EngineStats;

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The most threads that may wait for slow clients; more requests wait for one of them.
const MAX_BLOCKED: usize = 512;
/// A thread above the pool's size ends after so long without work.
const SURPLUS_IDLE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    blocked: usize,
    closed: bool,
}

struct Shared {
    name: &'static str,
    size: usize,
    state: Mutex<State>,
    wake: Condvar,
}

thread_local! {
    /// The pool whose work runs on this thread.
    static PLACE: RefCell<Option<PoolRef>> = const { RefCell::new(None) };
}

/// Runs `wait`, which may take long without using the processor; if this is a pool's thread, another takes its place
/// meanwhile.
pub(crate) fn while_waiting<T>(wait: impl FnOnce() -> T) -> T {
    match PLACE.with_borrow(Clone::clone) {
        Some(pool) => pool.while_blocked(wait),
        None => wait(),
    }
}

/// A pool of threads; closed, its queue emptied, when the last owner is gone.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

/// A way back to the pool for work that runs in it.
#[derive(Clone)]
pub(crate) struct PoolRef(Arc<Shared>);

impl Pool {
    pub(crate) fn new(name: &'static str, size: usize) -> Self {
        let shared = Shared { name, size: size.max(1), state: Mutex::default(), wake: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn size(&self) -> usize {
        self.shared.size
    }

    pub(crate) fn handle(&self) -> PoolRef {
        PoolRef(self.shared.clone())
    }

    pub(crate) fn submit(&self, job: Job) {
        submit(&self.shared, job);
    }

    /// Work that waits for a thread.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.state.lock().queue.len()
    }

    pub(crate) fn stats(&self, stats: &mut EngineStats) {
        let state = self.shared.state.lock();
        stats.queued += state.queue.len() as u64;
        stats.running += (state.threads - state.idle).saturating_sub(state.blocked) as u64;
        stats.blocked += state.blocked as u64;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl PoolRef {
    /// Puts work behind what waits already.
    pub(crate) fn submit(&self, job: Job) {
        submit(&self.0, job);
    }

    /// Whether other work waits for a thread.
    pub(crate) fn is_contended(&self) -> bool {
        !self.0.state.lock().queue.is_empty()
    }

    /// Runs `wait`, which may take long without using the processor, while another thread takes this one's place.
    pub(crate) fn while_blocked<T>(&self, wait: impl FnOnce() -> T) -> T {
        {
            let mut state = self.0.state.lock();
            state.blocked += 1;
            if !state.queue.is_empty() {
                add_thread(&self.0, &mut state);
            }
        }
        let result = wait();
        self.0.state.lock().blocked -= 1;
        result
    }
}

fn submit(shared: &Arc<Shared>, job: Job) {
    let mut state = shared.state.lock();
    state.queue.push_back(job);
    if state.idle >= state.queue.len() {
        drop(state);
        shared.wake.notify_one();
    } else {
        add_thread(shared, &mut state);
    }
}

/// Starts a thread if fewer than the pool's size are at work.
fn add_thread(shared: &Arc<Shared>, state: &mut State) {
    if state.threads - state.blocked.min(MAX_BLOCKED) >= shared.size {
        return;
    }
    let worker = shared.clone();
    match std::thread::Builder::new().name(shared.name.into()).stack_size(4 << 20).spawn(move || work(&worker)) {
        Ok(_) => state.threads += 1,
        Err(e) => tracing::error!(pool = shared.name, error = %e, "cannot start a thread"),
    }
}

fn work(shared: &Arc<Shared>) {
    PLACE.set(Some(PoolRef(shared.clone())));
    let mut state = shared.state.lock();
    loop {
        if let Some(job) = state.queue.pop_front() {
            drop(state);
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!(pool = shared.name, "work ended in a panic");
            }
            state = shared.state.lock();
            continue;
        }
        let surplus = state.threads - state.blocked.min(MAX_BLOCKED) > shared.size;
        if state.closed || surplus && state.idle >= shared.size {
            break;
        }
        state.idle += 1;
        let timed_out = if surplus {
            shared.wake.wait_for(&mut state, SURPLUS_IDLE).timed_out()
        } else {
            shared.wake.wait(&mut state);
            false
        };
        state.idle -= 1;
        if timed_out && state.queue.is_empty() && state.threads - state.blocked.min(MAX_BLOCKED) > shared.size {
            break;
        }
    }
    state.threads -= 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_blocked_thread_is_replaced() {
        let pool = Pool::new("test", 1);
        let (release, gate) = mpsc::channel::<()>();
        let (done, finished) = mpsc::channel();
        let handle = pool.handle();
        let first = done.clone();
        pool.submit(Box::new(move || {
            handle.while_blocked(|| gate.recv().expect("released"));
            first.send("first").expect("listening");
        }));
        pool.submit(Box::new(move || done.send("second").expect("listening")));
        let wait = Duration::from_secs(10);
        assert_eq!(finished.recv_timeout(wait), Ok("second"));
        release.send(()).expect("waiting");
        assert_eq!(finished.recv_timeout(wait), Ok("first"));
    }

    #[test]
    fn a_panic_does_not_cost_the_thread() {
        let pool = Pool::new("test", 1);
        let (done, finished) = mpsc::channel();
        pool.submit(Box::new(|| panic!("as the test wants")));
        pool.submit(Box::new(move || done.send(()).expect("listening")));
        assert_eq!(finished.recv_timeout(Duration::from_secs(10)), Ok(()));
    }
}
