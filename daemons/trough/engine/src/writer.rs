//! Write connections and group commit.
//!
//! Each segment that is written has a slot: a queue, and the one write connection while it is open. Requests that wait together
//! share one durable transaction, each within a savepoint, so that one that fails takes nothing but itself back. What must
//! not happen while a transaction runs (seal, replace, …) waits in the same queue.

use std::{
    cell::Cell,
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use trough_core::{
    SegmentError, SegmentId,
    wire::{WriteResult, WriteStatement},
};

use crate::{
    engine::{EngineStats, Guard, Inner, SegmentFile},
    errors,
    transaction::{self, Request},
    write_conn::WriteConn,
};

/// What a request wants done.
#[derive(Debug)]
pub(crate) enum Work {
    /// An SQL script.
    Script(String),
    /// Statements with their rows of parameters.
    Statements(Vec<WriteStatement>),
}

/// Work that has the segment's file to itself, between two transactions.
pub(crate) type Exclusive = Box<dyn FnOnce(&Inner, &SegmentFile, &mut Desk) + Send>;

enum Queued {
    Write(Request),
    Exclusive(SegmentFile, Exclusive),
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Queued>,
    /// A thread works on it, or is about to.
    scheduled: bool,
    /// When it was used last, in uses of any slot and by the clock.
    used: u64,
    used_at: Option<Instant>,
    open: bool,
}

/// What a thread that works on a slot has before it.
#[derive(Default)]
pub(crate) struct Desk {
    /// The write connection, while it is open.
    pub(crate) conn: Option<WriteConn>,
    /// Transactions committed since the slot was made.
    pub(crate) writes: u64,
    /// Tells this slot from an earlier one of the same segment.
    pub(crate) slot: u64,
    /// The mtime of the promoted copy that the segment equals, until it is written again.
    pub(crate) settled: Option<SystemTime>,
}

impl Desk {
    /// Closes the writer, if one is open; see [`WriteConn::close`]. What fails is told in the log: the commits are durable.
    pub(crate) fn close(&mut self, inner: &Inner, id: &SegmentId, plain: bool) {
        if let Some(conn) = self.conn.take()
            && let Err(e) = conn.close(inner, id, self.settled, plain)
        {
            tracing::warn!(segment = %id, error = %e, "cannot move the log into the file before closing");
        }
    }
}

struct Slot {
    queue: Mutex<Queue>,
    /// Locked by the one thread that is scheduled.
    desk: Mutex<Desk>,
}

/// All slots.
pub(crate) struct Writers {
    slots: Mutex<HashMap<SegmentId, Arc<Slot>>>,
    budget: usize,
    uses: AtomicU64,
    open: AtomicU64,
    commits: AtomicU64,
    writes: AtomicU64,
}

impl Writers {
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            slots: Mutex::default(),
            budget: budget.max(1),
            uses: AtomicU64::new(1),
            open: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        }
    }

    pub(crate) fn stats(&self, stats: &mut EngineStats) {
        stats.writers_open = self.open.load(Ordering::Relaxed);
        stats.commits = self.commits.load(Ordering::Relaxed);
        stats.writes = self.writes.load(Ordering::Relaxed);
    }

    /// A transaction was committed for so many requests.
    pub(crate) fn count(&self, requests: usize) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(requests as u64, Ordering::Relaxed);
    }

    /// Puts work into a segment's queue; whether a thread must be found for it.
    fn enqueue(&self, id: &SegmentId, queued: Queued) -> Option<Arc<Slot>> {
        let use_number = self.uses.fetch_add(1, Ordering::Relaxed);
        // The queue is locked under the map, so that no slot is given up between the look-up and the push.
        let mut slots = self.slots.lock();
        let slot = slots.entry(id.clone()).or_insert_with(|| {
            let desk = Desk { slot: use_number, ..Desk::default() };
            Arc::new(Slot { queue: Mutex::default(), desk: Mutex::new(desk) })
        });
        let mut queue = slot.queue.lock();
        queue.waiting.push_back(queued);
        queue.used = use_number;
        queue.used_at = Some(Instant::now());
        let idle = !std::mem::replace(&mut queue.scheduled, true);
        idle.then(|| slot.clone())
    }

    /// The open slots that nobody used for so long.
    fn idle(&self, time: Duration) -> Vec<SegmentId> {
        let slots = self.slots.lock();
        let idle = slots.iter().filter(|(_, slot)| {
            let queue = slot.queue.lock();
            queue.open && !queue.scheduled && queue.used_at.is_some_and(|at| at.elapsed() > time)
        });
        idle.map(|(id, _)| id.clone()).collect()
    }

    /// All segments whose writer is open or just being opened.
    fn in_use(&self) -> Vec<SegmentId> {
        let slots = self.slots.lock();
        let in_use = slots.iter().filter(|(_, slot)| {
            let queue = slot.queue.lock();
            queue.open || queue.scheduled
        });
        in_use.map(|(id, _)| id.clone()).collect()
    }

    /// The open slot that was used longest ago and does nothing, if there are more than the budget allows.
    fn surplus(&self) -> Option<SegmentId> {
        if self.open.load(Ordering::Relaxed) <= self.budget as u64 {
            return None;
        }
        let slots = self.slots.lock();
        let idle = slots.iter().filter_map(|(id, slot)| {
            let queue = slot.queue.lock();
            (queue.open && !queue.scheduled).then_some((queue.used, id))
        });
        idle.min().map(|(_, id)| id.clone())
    }
}

/// Queues a write and waits for its end.
pub(crate) async fn submit(inner: &Arc<Inner>, file: SegmentFile, work: Work, guard: Guard) -> WriteResult {
    if let Err(error) = transaction::check(&work, &inner.options.limits) {
        return WriteResult::Err { error };
    }
    let (reply, answer) = oneshot::channel();
    let id = file.id.clone();
    schedule(inner, &id, Queued::Write(Request { file, work, guard, reply }));
    answer.await.unwrap_or_else(|_| WriteResult::Err { error: errors::pool_gone() })
}

/// Queues work that needs the segment's file for itself and waits for its end.
pub(crate) async fn exclusive<T: Send + 'static>(
    inner: &Arc<Inner>,
    file: SegmentFile,
    work: impl FnOnce(&Inner, &SegmentFile, &mut Desk) -> Result<T, SegmentError> + Send + 'static,
) -> Result<T, SegmentError> {
    let (reply, answer) = oneshot::channel();
    let id = file.id.clone();
    let work: Exclusive = Box::new(move |inner, file, desk| {
        let _ = reply.send(work(inner, file, desk));
    });
    schedule(inner, &id, Queued::Exclusive(file, work));
    answer.await.unwrap_or_else(|_| Err(errors::pool_gone()))
}

fn schedule(inner: &Arc<Inner>, id: &SegmentId, queued: Queued) {
    if let Some(slot) = inner.writers.enqueue(id, queued) {
        start(inner, id.clone(), slot);
    }
}

fn start(inner: &Arc<Inner>, id: SegmentId, slot: Arc<Slot>) {
    let engine = inner.clone();
    inner.write.submit(Box::new(move || drain(&engine, id, slot)));
}

/// Works on a slot's queue until it is empty or other slots wait.
fn drain(inner: &Arc<Inner>, id: SegmentId, slot: Arc<Slot>) {
    // A panic in a transaction must not leave the slot scheduled for ever.
    let unwinding = Unscheduled { inner, id: &id, slot: &slot, armed: Cell::new(true) };
    let mut desk = slot.desk.lock();
    loop {
        let was_open = desk.conn.is_some();
        match next(inner, &slot) {
            Next::Writes(requests) => transaction::commit(inner, &mut desk, requests),
            Next::Exclusive(file, work) => work(inner, &file, &mut desk),
            Next::Nothing => break,
        }
        let is_open = desk.conn.is_some();
        if is_open != was_open {
            slot.queue.lock().open = is_open;
            if is_open {
                inner.writers.open.fetch_add(1, Ordering::Relaxed);
            } else {
                inner.writers.open.fetch_sub(1, Ordering::Relaxed);
            }
        }
        if inner.write.handle().is_contended() {
            unwinding.armed.set(false);
            drop(desk);
            start(inner, id.clone(), slot.clone());
            close_surplus(inner);
            return;
        }
    }
    unwinding.armed.set(false);
    drop(desk);
    close_surplus(inner);
}

struct Unscheduled<'a> {
    inner: &'a Arc<Inner>,
    id: &'a SegmentId,
    slot: &'a Arc<Slot>,
    armed: Cell<bool>,
}

impl Drop for Unscheduled<'_> {
    fn drop(&mut self) {
        if self.armed.get() {
            start(self.inner, self.id.clone(), self.slot.clone());
        }
    }
}

enum Next {
    Writes(Vec<Request>),
    Exclusive(SegmentFile, Exclusive),
    Nothing,
}

/// What to do next: all writes at the queue's head that may share a transaction, or one piece of exclusive work. An empty
/// queue ends the schedule, and gives the slot up if it holds nothing open.
fn next(inner: &Inner, slot: &Arc<Slot>) -> Next {
    let most = inner.options.group_commit_requests.max(1);
    let mut queue = slot.queue.lock();
    let mut writes = Vec::new();
    while writes.len() < most {
        match queue.waiting.pop_front() {
            Some(Queued::Write(request)) => writes.push(request),
            Some(Queued::Exclusive(file, work)) if writes.is_empty() => return Next::Exclusive(file, work),
            Some(exclusive) => {
                queue.waiting.push_front(exclusive);
                break;
            }
            None => break,
        }
    }
    if !writes.is_empty() {
        return Next::Writes(writes);
    }
    queue.scheduled = false;
    let open = queue.open;
    drop(queue);
    if !open {
        let mut slots = inner.writers.slots.lock();
        slots.retain(|_, other| {
            if !Arc::ptr_eq(other, slot) {
                return true;
            }
            let queue = other.queue.lock();
            queue.scheduled || queue.open
        });
    }
    Next::Nothing
}

fn close_surplus(inner: &Arc<Inner>) {
    if let Some(id) = inner.writers.surplus() {
        close(inner, &id, false);
    }
}

fn close(inner: &Arc<Inner>, id: &SegmentId, plain: bool) {
    // The file's path is the connection's own; what is given here is only the segment.
    let file = SegmentFile::new(id.clone(), std::path::Path::new(""), crate::engine::Mode::Hot);
    let work: Exclusive = Box::new(move |inner, file, desk| desk.close(inner, &file.id, plain));
    schedule(inner, id, Queued::Exclusive(file, work));
}

/// Closes all writers, after what waits for them, and makes their files plain.
pub(crate) async fn close_all(inner: &Arc<Inner>) {
    let closing = inner.writers.in_use().into_iter().map(|id| {
        let file = SegmentFile::new(id, std::path::Path::new(""), crate::engine::Mode::Hot);
        exclusive(inner, file, |inner, file, desk| {
            desk.close(inner, &file.id, true);
            Ok(())
        })
    });
    futures::future::join_all(closing).await;
}

/// Starts the thread that closes writers which nobody uses; it ends soon after the engine.
pub(crate) fn close_idle_from_time_to_time(inner: &Arc<Inner>) {
    let engine = Arc::downgrade(inner);
    let pause = (inner.options.writer_idle / 4).clamp(Duration::from_millis(10), Duration::from_secs(5));
    let tend = move || {
        loop {
            std::thread::sleep(pause);
            let Some(inner) = engine.upgrade() else { return };
            for id in inner.writers.idle(inner.options.writer_idle) {
                close(&inner, &id, true);
            }
        }
    };
    if let Err(e) = std::thread::Builder::new().name("trough-tend".into()).spawn(tend) {
        tracing::error!(error = %e, "cannot start a thread");
    }
}
