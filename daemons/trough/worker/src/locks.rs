//! Write locks: those that this process holds, and, followed by changefeed, those of other nodes. In memory only;
//! the table `lock` is the record.

use std::{collections::HashMap, sync::Arc, time::Instant};

use parking_lot::{Mutex, RwLock};
use trough_core::{NodeId, SegmentId, records::Lock};
use trough_http::events::{Events, What};

pub(crate) use crate::tenure::{Base, Held, guard, still_held};
use crate::undo::Undo;

/// A tenure whose lock vanished while the file may hold what was never promoted.
#[derive(Clone, Debug)]
pub(crate) struct Orphan {
    lock: Lock,
    /// What the file was when that was known last.
    pub(crate) base: Base,
    /// Whether the store was looked at, and says that nobody else has written the segment.
    confirmed: bool,
}

/// All locks that matter here.
#[derive(Debug)]
pub(crate) struct Locks {
    events: Events,
    held: RwLock<HashMap<SegmentId, Arc<Held>>>,
    /// Other nodes' locks, and when each was first seen.
    foreign: RwLock<HashMap<SegmentId, (NodeId, Instant)>>,
    /// Segments whose lock vanished from the database while this process held it and their files may hold what was never promoted.
    /// Either the database was lost: nobody else has the lock, so the files are kept as they are until it is back. Or this process was
    /// out of reach while another took the lock over and gave it back: then the store has what the other has promoted.
    orphans: RwLock<HashMap<SegmentId, Orphan>>,
    /// Segments whose lock another node took over while their files here may have held what was never promoted. If that comes to nothing, the
    /// lock becomes this process's again.
    bereft: RwLock<HashMap<SegmentId, Lock>>,
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
        !orphans.is_empty() && orphans.contains_key(segment)
    }

    /// Whether a file here is nothing to answer from: another node has had its lock since it was written, or nobody knows yet if an orphan's file
    /// is all there is of the segment.
    pub(crate) fn is_doubtful(&self, segment: &SegmentId) -> bool {
        let orphans = self.orphans.read();
        let bereft = self.bereft.read();
        !orphans.is_empty() && orphans.get(segment).is_some_and(|orphan| !orphan.confirmed)
            || !bereft.is_empty() && bereft.contains_key(segment)
    }

    /// All orphans.
    pub(crate) fn orphans(&self) -> Vec<(SegmentId, Orphan)> {
        self.orphans.read().iter().map(|(segment, orphan)| (segment.clone(), orphan.clone())).collect()
    }

    /// Nobody else has written the orphan.
    pub(crate) fn confirm_orphan(&self, segment: &SegmentId) {
        if let Some(orphan) = self.orphans.write().get_mut(segment) {
            orphan.confirmed = true;
        }
    }

    /// Another has had the lock and given it back: the file is no orphan, but one of those with what was never promoted.
    pub(crate) fn overtaken(&self, segment: &SegmentId) {
        self.orphans.write().remove(segment);
    }

    /// Whether a lock of this process that comes back, exactly as it was, is to be taken up: the file may still hold what was never promoted.
    pub(crate) fn is_missed(&self, row: &Lock) -> bool {
        let same = |lock: &Lock| {
            (&lock.node, &lock.holder, lock.fence, &lock.acquired_on)
                == (&row.node, &row.holder, row.fence, &row.acquired_on)
        };
        self.orphans.read().get(&row.segment).is_some_and(|orphan| same(&orphan.lock))
            || self.bereft.read().get(&row.segment).is_some_and(same)
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
                let orphan = Orphan { lock: tenure.lock.clone(), base: tenure.last_base(), confirmed: false };
                self.orphans.write().insert(segment.clone(), orphan);
            } else if !promoted {
                self.bereft.write().insert(segment.clone(), tenure.lock.clone());
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

#[cfg(test)]
mod tests {
    use trough_core::records::Time;

    use super::*;
    use crate::{files::Stamp, tenure::tests::lock};

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
        assert!(locks.is_doubtful(&segment()));
        locks.confirm_orphan(&segment());
        assert!(!locks.is_doubtful(&segment()));
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
        assert!(!locks.is_missed(&lock("me", "a", 1)), "all of it was promoted");
        for back in [true, false] {
            locks.acquired(lock("me", "a", 3), Base::Unknown).note_write();
            locks.changed(&segment(), Some(&lock("other", "b", 4)));
            assert!(locks.is_missed(&lock("me", "a", 3)) && !locks.is_orphan(&segment()));
            // One that was taken anew is not the one that was lost.
            let anew = Lock { acquired_on: Some(Time::from_epoch(1.0)), ..lock("me", "a", 3) };
            assert!(!locks.is_missed(&lock("me", "a", 4)) && !locks.is_missed(&anew));
            if back {
                locks.acquired(lock("me", "a", 3), Base::Unknown);
            } else {
                locks.forget_file(&segment());
            }
            assert!(!locks.is_missed(&lock("me", "a", 3)));
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
}
