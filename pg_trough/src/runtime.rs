//! The backend's one runtime thread, and how the backend waits for it.
//!
//! The thread starts with the first request of a backend, never when the library is loaded, and has every signal
//! blocked, so that PostgreSQL's handlers run in PostgreSQL's thread only. It wakes the backend by an eventfd; the
//! backend waits on that, its latch and the postmaster's death together, and so can be cancelled at any moment.

use std::{
    cell::Cell,
    future::Future,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::{Arc, OnceLock},
};

use pgrx::pg_sys;
use tokio::{
    runtime::{Builder, Handle},
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use crate::{compat, errors::Failure};

struct Runtime {
    handle: Handle,
    wake: Wake,
}

/// Wakes the backend. Cheap to clone; any thread may use it.
#[derive(Clone)]
struct Wake(Arc<OwnedFd>);

impl Wake {
    fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the descriptor is an open eventfd; a full counter already wakes, so the result does not matter.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn reset(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the descriptor is an open, non-blocking eventfd; an empty counter is no error to us.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

thread_local! {
    /// Latch, postmaster's death and eventfd, for the backend's thread.
    static EVENTS: Cell<*mut pg_sys::WaitEventSet> = const { Cell::new(std::ptr::null_mut()) };
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> ! {
    Failure::new(pgrx::PgSqlErrorCode::ERRCODE_SYSTEM_ERROR, format!("{what}: {error}")).raise()
}

fn runtime() -> &'static Runtime {
    if let Some(runtime) = RUNTIME.get() {
        return runtime;
    }
    let started = start().unwrap_or_else(|e| failed("start the runtime thread of pg_trough", &e));
    RUNTIME.get_or_init(|| started)
}

fn start() -> std::io::Result<Runtime> {
    // SAFETY: plain system calls; the signal mask is restored before anything else runs in this thread.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let wake = Wake(Arc::new(OwnedFd::from_raw_fd(fd)));
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let thread = std::thread::Builder::new()
            .name("pg_trough".into())
            .spawn(move || runtime.block_on(std::future::pending::<()>()));
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        thread?;
        Ok(Runtime { handle, wake })
    }
}

/// Makes functions that must be called inside a runtime callable until the guard is dropped.
pub(crate) fn enter() -> tokio::runtime::EnterGuard<'static> {
    runtime().handle.enter()
}

/// Waits until the runtime thread has something, the latch is set or a signal came; acts on interrupts.
fn wait(wake: &Wake) {
    // SAFETY: the set lives as long as the process and is used by this thread only.
    unsafe {
        let mut set = EVENTS.get();
        if set.is_null() {
            set = compat::wait_event_set();
            let (no_socket, null) = (pg_sys::PGINVALID_SOCKET, std::ptr::null_mut());
            pg_sys::AddWaitEventToSet(set, pg_sys::WL_LATCH_SET, no_socket, pg_sys::MyLatch, null);
            pg_sys::AddWaitEventToSet(set, pg_sys::WL_EXIT_ON_PM_DEATH, no_socket, null.cast(), null);
            pg_sys::AddWaitEventToSet(set, pg_sys::WL_SOCKET_READABLE, wake.0.as_raw_fd(), null.cast(), null);
            EVENTS.set(set);
        }
        let mut event = pg_sys::WaitEvent::default();
        pg_sys::WaitEventSetWait(set, -1, &mut event, 1, pg_sys::PG_WAIT_EXTENSION);
        if event.events & pg_sys::WL_LATCH_SET != 0 {
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        wake.reset();
    }
    pgrx::check_for_interrupts!();
}

/// A task of the runtime thread that ends when this is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a future to its end, acting on interrupts meanwhile; an interrupt drops the future.
pub(crate) fn block_on<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = runtime();
    let (tx, mut rx) = oneshot::channel();
    let wake = runtime.wake.clone();
    let task = Task(
        runtime
            .handle
            .spawn(async move {
                // A receiver that is gone was cancelled.
                let _ = tx.send(future.await);
                wake.wake();
            })
            .abort_handle(),
    );
    loop {
        match rx.try_recv() {
            Ok(value) => {
                drop(task);
                return value;
            }
            Err(oneshot::error::TryRecvError::Empty) => wait(&runtime.wake),
            Err(oneshot::error::TryRecvError::Closed) => {
                failed("run a request", &"the runtime thread of pg_trough failed; see the server's log")
            }
        }
    }
}

/// Items that a task makes, in order; the task waits while too many are unread, and ends when this is dropped.
pub(crate) struct Feed<T> {
    items: mpsc::Receiver<T>,
    wake: Wake,
    _task: Task,
}

/// Where a task puts its items.
pub(crate) struct Sink<T> {
    items: mpsc::Sender<T>,
    wake: Wake,
}

impl<T> Sink<T> {
    /// Hands over an item, waiting for room; false if nobody reads any more.
    pub(crate) async fn send(&self, item: T) -> bool {
        let sent = self.items.send(item).await.is_ok();
        self.wake.wake();
        sent
    }
}

impl<T> Drop for Sink<T> {
    fn drop(&mut self) {
        // The end is an event too. The channel closes right after; `Feed::next` polls again in that case.
        self.wake.wake();
    }
}

/// Starts a task that feeds the backend; `room` items may be unread.
pub(crate) fn feed<T, F>(room: usize, task: impl FnOnce(Sink<T>) -> F) -> Feed<T>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = runtime();
    let (tx, rx) = mpsc::channel(room);
    let future = task(Sink { items: tx, wake: runtime.wake.clone() });
    let wake = runtime.wake.clone();
    let task = runtime.handle.spawn(async move {
        future.await;
        // Everything of the task is dropped here, the channel's sender too: only now can the end be seen.
        wake.wake();
    });
    Feed { items: rx, wake: runtime.wake.clone(), _task: Task(task.abort_handle()) }
}

impl<T> Feed<T> {
    /// The next item, waiting for it; none when the task has ended. Acts on interrupts.
    pub(crate) fn next(&mut self) -> Option<T> {
        loop {
            match self.items.try_recv() {
                Ok(item) => return Some(item),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => wait(&self.wake),
            }
        }
    }
}
