//! The backend's one runtime thread, and how the backend waits for it.
//!
//! The thread starts with the first request of a backend, never when the library is loaded, and has every signal
//! blocked, so that PostgreSQL's handlers run in PostgreSQL's thread only. It wakes the backend by an eventfd; the
//! backend waits on that, its latch and the postmaster's death together, and so can be cancelled at any moment.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
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
struct Wake(Arc<WakeInner>);

struct WakeInner {
    fd: OwnedFd,
    /// Whether the backend sleeps or is about to; nobody else needs a system call.
    waiting: AtomicBool,
}

impl Wake {
    /// Tells the backend that there is something, after it was put where the backend looks.
    fn wake(&self) {
        if !self.0.waiting.swap(false, SeqCst) {
            return;
        }
        let one = 1u64.to_ne_bytes();
        // SAFETY: the descriptor is an open eventfd; a full counter already wakes, so the result does not matter.
        unsafe { libc::write(self.0.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn reset(&self) {
        self.0.waiting.store(false, SeqCst);
        let mut count = [0u8; 8];
        // SAFETY: the descriptor is an open, non-blocking eventfd; an empty counter is no error to us.
        unsafe { libc::read(self.0.fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
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
        let fd = OwnedFd::from_raw_fd(fd);
        let wake = Wake(Arc::new(WakeInner { fd, waiting: AtomicBool::new(false) }));
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

/// Takes what `ready` finds, waiting for it: for the runtime thread, the latch or the postmaster's death. Acts on
/// interrupts.
fn wait_for<T>(wake: &Wake, mut ready: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = ready() {
            return found;
        }
        // Said before looking once more, so that what comes in between wakes us.
        wake.0.waiting.store(true, SeqCst);
        if let Some(found) = ready() {
            wake.0.waiting.store(false, SeqCst);
            return found;
        }
        sleep(wake);
        pgrx::check_for_interrupts!();
    }
}

fn sleep(wake: &Wake) {
    // SAFETY: the set lives as long as the process and is used by this thread only.
    unsafe {
        let mut set = EVENTS.get();
        if set.is_null() {
            set = compat::wait_event_set();
            let (no_socket, null) = (pg_sys::PGINVALID_SOCKET, std::ptr::null_mut());
            pg_sys::AddWaitEventToSet(set, pg_sys::WL_LATCH_SET, no_socket, pg_sys::MyLatch, null);
            pg_sys::AddWaitEventToSet(set, pg_sys::WL_EXIT_ON_PM_DEATH, no_socket, null.cast(), null);
            pg_sys::AddWaitEventToSet(set, pg_sys::WL_SOCKET_READABLE, wake.0.fd.as_raw_fd(), null.cast(), null);
            EVENTS.set(set);
        }
        let mut event = pg_sys::WaitEvent::default();
        pg_sys::WaitEventSetWait(set, -1, &mut event, 1, pg_sys::PG_WAIT_EXTENSION);
        if event.events & pg_sys::WL_LATCH_SET != 0 {
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
    }
    wake.reset();
}

thread_local! {
    /// Looks for interrupts while the backend waits in PostgreSQL's own code.
    static WATCH: RefCell<Option<Task>> = const { RefCell::new(None) };
}

/// How long an interrupt may go unnoticed there.
const INTERRUPT_CHECK: Duration = Duration::from_millis(20);

/// The backend is about to wait for the eventfd in PostgreSQL's own code: what comes from here on makes it readable, and
/// so does an interrupt, as that code may not wait for the latch.
pub(crate) fn arm() -> RawFd {
    let runtime = runtime();
    let wake = runtime.wake.clone();
    wake.0.waiting.store(true, SeqCst);
    let fd = wake.0.fd.as_raw_fd();
    WATCH.with_borrow_mut(|watch| {
        watch.get_or_insert_with(|| {
            let task = runtime.handle.spawn(async move {
                loop {
                    tokio::time::sleep(INTERRUPT_CHECK).await;
                    // SAFETY: a flag that signal handlers set; reading it is one load.
                    if unsafe { std::ptr::read_volatile(&raw const pg_sys::InterruptPending) } != 0 {
                        wake.wake();
                    }
                }
            });
            Task(task.abort_handle())
        });
    });
    fd
}

/// Makes the armed eventfd readable.
pub(crate) fn wake_self() {
    runtime().wake.wake();
}

/// The end of what [`arm`] began.
pub(crate) fn disarm() {
    unwatch();
    runtime().wake.reset();
}

/// Interrupts need not be looked for any more.
pub(crate) fn unwatch() {
    WATCH.with_borrow_mut(Option::take);
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
    let task = runtime.handle.spawn(async move {
        // A receiver that is gone was cancelled.
        let _ = tx.send(future.await);
        wake.wake();
    });
    let _task = Task(task.abort_handle());
    let answer = wait_for(&runtime.wake, || match rx.try_recv() {
        Ok(value) => Some(Some(value)),
        Err(oneshot::error::TryRecvError::Empty) => None,
        Err(oneshot::error::TryRecvError::Closed) => Some(None),
    });
    answer.unwrap_or_else(|| failed("run a request", &"the runtime thread of pg_trough failed; see the server's log"))
}

/// Items that a task makes, in order; the task waits while too many are unread, and ends when this is dropped.
pub(crate) struct Feed<T> {
    items: mpsc::Receiver<Option<T>>,
    ended: bool,
    wake: Wake,
    _task: Task,
}

/// Where a task puts its items. None is the end.
pub(crate) struct Sink<T> {
    items: mpsc::Sender<Option<T>>,
    wake: Wake,
}

impl<T> Sink<T> {
    /// Hands over an item, or the end, waiting for room; false if nobody reads any more. The backend learns of it with the
    /// next [`Sink::flush`], or when there is no more room.
    pub(crate) async fn send(&self, item: Option<T>) -> bool {
        match self.items.try_send(item) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(item)) => {
                self.wake.wake();
                self.items.send(item).await.is_ok()
            }
        }
    }

    /// Wakes the backend for what was handed over.
    pub(crate) fn flush(&self) {
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
        // Everything of the task is dropped here, the channel's sender too: an end that was not said is seen now.
        wake.wake();
    });
    Feed { items: rx, ended: false, wake: runtime.wake.clone(), _task: Task(task.abort_handle()) }
}

impl<T> Feed<T> {
    /// The next item, waiting for it; none when the task has ended. Acts on interrupts.
    pub(crate) fn next(&mut self) -> Option<T> {
        if self.ended {
            return None;
        }
        let items = &mut self.items;
        let item = wait_for(&self.wake, || match items.try_recv() {
            Ok(item) => Some(item),
            Err(mpsc::error::TryRecvError::Disconnected) => Some(None),
            Err(mpsc::error::TryRecvError::Empty) => None,
        });
        self.ended = item.is_none();
        item
    }

    /// The next item if it is there, without waiting.
    pub(crate) fn try_next(&mut self) -> Poll<Option<T>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = match self.items.try_recv() {
            Ok(item) => item,
            Err(mpsc::error::TryRecvError::Disconnected) => None,
            Err(mpsc::error::TryRecvError::Empty) => return Poll::Pending,
        };
        self.ended = item.is_none();
        Poll::Ready(item)
    }

    /// Whether [`Feed::try_next`] would give something.
    pub(crate) fn is_ready(&self) -> bool {
        self.ended || !self.items.is_empty() || self.items.is_closed()
    }
}
