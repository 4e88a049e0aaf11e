//! Write locks: those that this process holds, and, followed by changefeed, those of other nodes. In memory only;
//! the table `lock` is the record.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use trough_core::{ErrorCode, NodeId, SegmentError, SegmentId, records::Lock};
use trough_engine::Guard;
use trough_http::events::{Events, What};

use crate::{files::Stamp, lease::Lease, undo::Undo};

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
    fn new(lock: Lock, base: Base) -> Self {
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
    fn is_row(&self, row: &Lock) -> bool {
        row.node == self.lock.node && row.holder == self.lock.holder && row.fence == self.lock.fence
    }
}

/// All locks that matter here.
#[derive(Debug)]
pub(crate) struct Locks {
    events: Events,
    held: RwLock<HashMap<SegmentId, Arc<Held>>>,
    /// Other nodes' locks, and when each was first seen.
    foreign: RwLock<HashMap<SegmentId, (NodeId, Instant)>>,
    /// Segments whose lock vanished from the database while this process held it and their files may hold what was never promoted:
    /// the database was lost. Nobody else has the lock, so the files are kept as they are until it is back.
    orphans: RwLock<HashSet<SegmentId>>,
    /// Segments whose lock another node took over while their files here may have held what was never promoted. If that comes to nothing, the
    /// lock becomes this process's again.
    bereft: RwLock<HashSet<SegmentId>>,
    /// Locks that could not be given back.
    owed: Mutex<Vec<Undo>>,
}

impl Locks {
    /// Of the node whose events these are.
    pub(crate) fn new(events: Events) -> Self {
        Self {
            events,
            held: RwLock::default(),
            foreign: RwLock::default(),
            orphans: RwLock::default(),
            bereft: RwLock::default(),
            owed: Mutex::default(),
        }
    }

    /// The tenure of this process, if it has the lock.
    pub(crate) fn held(&self, segment: &SegmentId) -> Option<Arc<Held>> {
        self.held.read().get(segment).filter(|held| held.is_valid()).cloned()
    }

    /// Whether the segment's lock vanished while the file held what was never promoted.
    pub(crate) fn is_orphan(&self, segment: &SegmentId) -> bool {
        let orphans = self.orphans.read();
        !orphans.is_empty() && orphans.contains(segment)
    }

    /// Whether a lock of this process that comes back is to be taken up: the file may still hold what was never promoted.
    pub(crate) fn is_missed(&self, segment: &SegmentId) -> bool {
        self.is_orphan(segment) || self.bereft.read().contains(segment)
    }

    /// The file that may have held what was never promoted is not there any more.
    pub(crate) fn forget_file(&self, segment: &SegmentId) {
        self.orphans.write().remove(segment);
        self.bereft.write().remove(segment);
    }

    /// Notes a lock that could not be given back.
    pub(crate) fn owe(&self, undo: Undo) {
        self.owed.lock().push(undo);
    }

    /// The locks that could not be given back, to be tried again.
    pub(crate) fn take_owed(&self) -> Vec<Undo> {
        std::mem::take(&mut *self.owed.lock())
    }

    /// The other node that has the lock, and since when that is known.
    pub(crate) fn foreign(&self, segment: &SegmentId) -> Option<(NodeId, Instant)> {
        let foreign = self.foreign.read();
        if foreign.is_empty() { None } else { foreign.get(segment).cloned() }
    }

    /// Notes a lock that this process has just acquired; a tenure that it has already is kept.
    pub(crate) fn acquired(&self, lock: Lock, base: Base) -> Arc<Held> {
        self.foreign.write().remove(&lock.segment);
        self.forget_file(&lock.segment);
        let mut held = self.held.write();
        if let Some(old) = held.get(&lock.segment)
            && old.is_valid()
            && old.is_row(&lock)
        {
            return old.clone();
        }
        self.events.note(&lock.segment, What::LockTaken { fence: lock.fence });
        let tenure = Arc::new(Held::new(lock, base));
        if let Some(old) = held.insert(tenure.lock.segment.clone(), tenure.clone()) {
            old.invalidate();
        }
        tenure
    }

    /// Forgets a tenure that was given back.
    pub(crate) fn released(&self, tenure: &Arc<Held>) {
        tenure.invalidate();
        let mut held = self.held.write();
        if held.get(&tenure.lock.segment).is_some_and(|now| Arc::ptr_eq(now, tenure)) {
            held.remove(&tenure.lock.segment);
        }
    }

    /// Takes an event of the lock feed: the row as it stands now, or that it is gone.
    pub(crate) fn changed(&self, segment: &SegmentId, now: Option<&Lock>) {
        let mine = self.held.read().get(segment).cloned();
        if let Some(tenure) = mine {
            // An event from before the acquisition carries a lower fence and says nothing.
            let lost = match now {
                None => true,
                Some(row) => !tenure.is_row(row) && (row.fence > tenure.lock.fence || row.node != *self.events.node()),
            };
            let stale = now.is_some_and(|row| row.fence < tenure.lock.fence);
            if lost && !stale {
                self.lost(&tenure, now.is_none());
            }
        }
        self.others(segment, now);
    }

    /// Takes the row as it was read after the tenure was acquired: if it is another's, the tenure is over, whatever its fence is. Fences begin
    /// anew when a lock is given back.
    pub(crate) fn confirmed(&self, tenure: &Arc<Held>, now: Option<&Lock>) {
        let segment = &tenure.lock.segment;
        let is_last = self.held.read().get(segment).is_some_and(|last| Arc::ptr_eq(last, tenure));
        if is_last && !now.is_some_and(|row| tenure.is_row(row)) {
            self.lost(tenure, now.is_none());
            self.others(segment, now);
        }
    }

    fn lost(&self, tenure: &Arc<Held>, vanished: bool) {
        let segment = &tenure.lock.segment;
        // One that is being given back is not valid any more.
        if tenure.is_valid() {
            tracing::warn!(%segment, fence = tenure.lock.fence, "the write lock was taken away");
            self.events.note(segment, What::LockLost { fence: tenure.lock.fence });
            let promoted = matches!(tenure.base(), Some(Base::Canonical(_)));
            if vanished && !promoted {
                tracing::error!(
                    %segment,
                    "the write lock vanished from the metadata, and the file may hold what was never promoted: it is kept; \
                     restore the metadata"
                );
                self.orphans.write().insert(segment.clone());
            } else if !promoted {
                self.bereft.write().insert(segment.clone());
            }
        }
        self.released(tenure);
    }

    /// Notes whether another node has the lock.
    fn others(&self, segment: &SegmentId, now: Option<&Lock>) {
        match now.filter(|row| row.node != *self.events.node()) {
            Some(row) => {
                self.orphans.write().remove(segment);
                let mut foreign = self.foreign.write();
                if foreign.get(segment).is_none_or(|(node, _)| *node != row.node) {
                    foreign.insert(segment.clone(), (row.node.clone(), Instant::now()));
                }
            }
            None => {
                self.foreign.write().remove(segment);
            }
        }
    }

    /// Takes the complete list of other nodes' locks, after the feed began anew. Gives the tenures of this process that it
    /// does not show, to be looked at one by one: they may be younger than the list.
    pub(crate) fn replace(&self, rows: &HashMap<SegmentId, Lock>) -> Vec<Arc<Held>> {
        let mut foreign = self.foreign.write();
        let others = rows.iter().filter(|(_, row)| row.node != *self.events.node()).map(|(segment, row)| {
            let known = foreign.get(segment).filter(|(node, _)| *node == row.node);
            (segment.clone(), known.cloned().unwrap_or_else(|| (row.node.clone(), Instant::now())))
        });
        *foreign = others.collect();
        drop(foreign);
        self.held
            .read()
            .values()
            .filter(|held| !rows.get(&held.lock.segment).is_some_and(|row| held.is_row(row)))
            .cloned()
            .collect()
    }

    /// All tenures of this process.
    pub(crate) fn all_held(&self) -> Vec<Arc<Held>> {
        self.held.read().values().filter(|held| held.is_valid()).cloned().collect()
    }

    /// Tenures that ended here but may still stand in the database: giving them back failed.
    pub(crate) fn unreleased(&self) -> Vec<Arc<Held>> {
        self.held.read().values().filter(|held| !held.is_valid()).cloned().collect()
    }

    /// How many this process holds, and how many others.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.held.read().len(), self.foreign.read().len())
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
mod tests {
    use super::*;

    fn lock(node: &str, holder: &str, fence: u64) -> Lock {
        serde_json::from_value(serde_json::json!({
            "id": "write:lock:s", "node": node, "segment": "s", "holder": holder, "fence": fence
        }))
        .expect("a lock")
    }

    fn segment() -> SegmentId {
        SegmentId::new("s").expect("id")
    }

    #[test]
    fn a_tenure_ends_when_the_feed_shows_another() {
        let locks = Locks::new(Events::in_memory(NodeId::new("me").expect("id"), 9));
        let held = locks.acquired(lock("me", "a", 2), Base::Fresh);
        // Older events of the feed say nothing.
        locks.changed(&segment(), Some(&lock("me", "old", 1)));
        locks.changed(&segment(), Some(&lock("me", "a", 2)));
        assert!(held.is_valid());
        locks.changed(&segment(), Some(&lock("other", "b", 3)));
        assert!(!held.is_valid() && locks.held(&segment()).is_none());
        assert_eq!(locks.foreign(&segment()).map(|(node, _)| node), Some(NodeId::new("other").expect("id")));
        locks.changed(&segment(), None);
        assert_eq!(locks.foreign(&segment()), None);
    }

    #[test]
    fn a_lock_that_vanishes_leaves_an_orphan_and_one_that_is_given_back_does_not() {
        let locks = Locks::new(Events::in_memory(NodeId::new("me").expect("id"), 9));
        let held = locks.acquired(lock("me", "a", 1), Base::Unknown);
        held.invalidate();
        locks.changed(&segment(), None);
        assert!(!locks.is_orphan(&segment()), "given back");
        locks.acquired(lock("me", "a", 2), Base::Canonical(Stamp { bytes: 1, mtime_ms: 2 }));
        locks.changed(&segment(), None);
        assert!(!locks.is_orphan(&segment()), "all of it was promoted");
        let held = locks.acquired(lock("me", "a", 3), Base::Canonical(Stamp { bytes: 1, mtime_ms: 2 }));
        held.note_write();
        locks.changed(&segment(), None);
        assert!(locks.is_orphan(&segment()) && locks.held(&segment()).is_none());
        locks.acquired(lock("me", "a", 3), Base::Unknown);
        assert!(!locks.is_orphan(&segment()), "back");
        locks.changed(&segment(), None);
        locks.changed(&segment(), Some(&lock("other", "b", 4)));
        assert!(!locks.is_orphan(&segment()), "another node's now");
    }

    #[test]
    fn a_lock_that_was_taken_over_is_missed_as_long_as_the_file_is_there() {
        let locks = Locks::new(Events::in_memory(NodeId::new("me").expect("id"), 9));
        locks.acquired(lock("me", "a", 1), Base::Canonical(Stamp { bytes: 1, mtime_ms: 2 }));
        locks.changed(&segment(), Some(&lock("other", "b", 2)));
        assert!(!locks.is_missed(&segment()), "all of it was promoted");
        for back in [true, false] {
            locks.acquired(lock("me", "a", 3), Base::Unknown).note_write();
            locks.changed(&segment(), Some(&lock("other", "b", 4)));
            assert!(locks.is_missed(&segment()) && !locks.is_orphan(&segment()));
            if back {
                locks.acquired(lock("me", "a", 3), Base::Unknown);
            } else {
                locks.forget_file(&segment());
            }
            assert!(!locks.is_missed(&segment()));
        }
    }

    #[test]
    fn fences_that_begin_anew_hide_no_other_holder() {
        let locks = Locks::new(Events::in_memory(NodeId::new("me").expect("id"), 9));
        let held = locks.acquired(lock("me", "a", 5), Base::Unknown);
        locks.confirmed(&held, Some(&lock("me", "a", 5)));
        assert!(held.is_valid());
        // Another took it over and gave it back, a third has it.
        locks.confirmed(&held, Some(&lock("other", "b", 1)));
        assert!(!held.is_valid() && locks.held(&segment()).is_none() && locks.foreign(&segment()).is_some());
        // What was read before the next tenure does not end it.
        let next = locks.acquired(lock("me", "a", 2), Base::Unknown);
        locks.confirmed(&held, Some(&lock("other", "b", 1)));
        assert!(next.is_valid() && locks.foreign(&segment()).is_none());
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
