//! One tenure of a write lock by this process: what is known of the segment's file, and what every write must ask.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use trough_core::{ErrorCode, SegmentError, records::Lock};
use trough_engine::Guard;

use crate::{files::Stamp, lease::Lease};

/// What the local file of a held segment is, as long as nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// Made from its schema; there is no canonical copy.
    Fresh,
    /// The canonical copy with this stamp: promoted from here, or fetched.
    Canonical(Stamp),
    /// A file of an earlier life with this stamp. It may hold acknowledged writes that were never promoted.
    Found(Stamp),
    /// Unknown, and perhaps never promoted.
    Unknown,
}

/// One tenure of a write lock by this process.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) lock: Lock,
    /// Shared by writes in flight; exclusive for whoever settles, replaces or releases.
    pub(crate) gate: Arc<tokio::sync::RwLock<()>>,
    valid: AtomicBool,
    /// Writes begun, acknowledged or not.
    writes: AtomicU64,
    base: Mutex<Known>,
}

/// What is known of a held segment's file.
#[derive(Clone, Copy, Debug)]
struct Known {
    base: Base,
    /// Writes begun when it was that.
    writes: u64,
    /// Since when it is that, or when it was last provisioned.
    since: Instant,
    /// Whether it was provisioned and not written since: its writer is still to come.
    awaited: bool,
}

impl Held {
    pub(crate) fn new(lock: Lock, base: Base) -> Self {
        Self {
            lock,
            gate: Arc::default(),
            valid: AtomicBool::new(true),
            writes: AtomicU64::new(0),
            base: Mutex::new(Known { base, writes: 0, since: Instant::now(), awaited: true }),
        }
    }

    /// Whether this process still has the lock, as far as it knows.
    pub(crate) fn is_valid(&self) -> bool {
        self.valid.load(Ordering::Acquire)
    }

    /// From now on nothing is acknowledged under this tenure.
    pub(crate) fn invalidate(&self) {
        self.valid.store(false, Ordering::Release);
    }

    /// Notes that a write begins. Call it with the gate shared, before the write.
    pub(crate) fn note_write(&self) {
        self.writes.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that a write that was begun has certainly changed nothing.
    pub(crate) fn note_refusal(&self) {
        self.writes.fetch_sub(1, Ordering::AcqRel);
    }

    /// Sets what the file is now. Call it with the gate exclusive, so that no write is in flight.
    pub(crate) fn set_base(&self, base: Base) {
        let writes = self.writes.load(Ordering::Acquire);
        let mut known = self.base.lock();
        let awaited = known.awaited && writes == known.writes;
        *known = Known { base, writes, since: Instant::now(), awaited };
    }

    /// Notes that the segment was provisioned again: somebody means to write it.
    pub(crate) fn provisioned_again(&self) {
        let mut known = self.base.lock();
        (known.since, known.awaited) = (Instant::now(), true);
    }

    /// What the file was when that was known last.
    pub(crate) fn last_base(&self) -> Base {
        self.base.lock().base
    }

    /// What the file is, unless writes have begun since; exact only with the gate exclusive.
    pub(crate) fn base(&self) -> Option<Base> {
        let known = *self.base.lock();
        (known.writes == self.writes.load(Ordering::Acquire)).then_some(known.base)
    }

    /// Whether the file has been what it is for so long.
    pub(crate) fn rests_for(&self, time: Duration) -> bool {
        self.base.lock().since.elapsed() >= time
    }

    /// Whether it was provisioned and not written since.
    pub(crate) fn is_awaited(&self) -> bool {
        let known = *self.base.lock();
        known.awaited && known.writes == self.writes.load(Ordering::Acquire)
    }

    /// Whether the lock's row in the database is this tenure.
    pub(crate) fn is_row(&self, row: &Lock) -> bool {
        row.node == self.lock.node && row.holder == self.lock.holder && row.fence == self.lock.fence
    }
}

/// What SQLite asks inside every write transaction, right before its commit: is the lock still ours, and does our lease
/// provably run?
pub(crate) fn guard(held: Arc<Held>, lease: Arc<Lease>) -> Guard {
    Box::new(move || {
        let segment = &held.lock.segment;
        if !held.is_valid() {
            return Err(SegmentError::new(
                ErrorCode::NotWritable,
                format!("the write lock of segment '{segment}' was lost; provision it again. Nothing was written"),
            ));
        }
        if !lease.runs() {
            return Err(SegmentError::new(
                ErrorCode::Unavailable,
                format!(
                    "this node cannot renew its lease (RethinkDB does not answer), so it cannot prove that it holds the \
                     write lock of segment '{segment}'; nothing was written, try again"
                ),
            ));
        }
        Ok(())
    })
}

/// What is asked after a commit, before it is acknowledged: the process may have been stopped for long since the guard was asked, and another
/// node may have taken the lock over without what was committed meanwhile.
pub(crate) fn still_held(held: &Held, lease: &Lease) -> Result<(), SegmentError> {
    if held.is_valid() && lease.runs() {
        return Ok(());
    }
    let message = format!(
        "the write lock of segment '{}' or this node's lease went while the write was committed; whether it is kept is not \
         known: look before it is repeated",
        held.lock.segment
    );
    Err(SegmentError::new(ErrorCode::Io, message))
}

#[cfg(test)]
pub(crate) mod tests {
    use trough_core::NodeId;
    use trough_http::events::Events;

    use super::*;
    use crate::locks::Locks;

    pub(crate) fn lock(node: &str, holder: &str, fence: u64) -> Lock {
        serde_json::from_value(serde_json::json!({
            "id": "write:lock:s", "node": node, "segment": "s", "holder": holder, "fence": fence
        }))
        .expect("a lock")
    }

    #[test]
    fn the_guard_wants_lock_and_lease() {
        let locks = Locks::new(Events::in_memory(NodeId::new("me").expect("id"), 9));
        let held = locks.acquired(lock("me", "a", 1), Base::Fresh);
        let lease = Arc::new(Lease::new(Duration::from_secs(60)));
        let ask = guard(held.clone(), lease.clone());
        assert_eq!(ask().expect_err("no lease yet").code, ErrorCode::Unavailable);
        lease.renewed(Instant::now());
        assert_eq!(ask(), Ok(()));
        assert_eq!(still_held(&held, &lease), Ok(()));
        assert_eq!(still_held(&held, &Lease::new(Duration::from_secs(60))).expect_err("no lease").code, ErrorCode::Io);
        locks.released(&held);
        assert_eq!(still_held(&held, &lease).expect_err("released").code, ErrorCode::Io);
        assert_eq!(ask().expect_err("released").code, ErrorCode::NotWritable);
    }

    #[test]
    fn a_write_takes_the_base_away() {
        let held = Held::new(lock("me", "a", 1), Base::Fresh);
        assert_eq!(held.base(), Some(Base::Fresh));
        held.note_write();
        held.note_refusal();
        assert_eq!(held.base(), Some(Base::Fresh));
        held.note_write();
        assert_eq!(held.base(), None);
        let stamp = Stamp { bytes: 1, mtime_ms: 2 };
        held.set_base(Base::Canonical(stamp));
        assert_eq!(held.base(), Some(Base::Canonical(stamp)));
    }
}
