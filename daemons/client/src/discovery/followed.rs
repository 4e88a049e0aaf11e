//! The followed tables in memory: which segments exist, and who says that it serves them. Nothing in here talks to anybody.
//!
//! A segment exists while there is a service row, an assignment or a lock of it. Those without a service row are kept too: a listing that
//! left them out would silently lack their rows.

use std::{
    collections::{HashMap, HashSet, hash_map},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use trough_core::{
    NodeId, SegmentId,
    records::{Lock, ROLE_READ, Service},
};

use super::{
    State,
    table::{Refs, View},
};
use crate::catalog::{Assigned, Change};

/// The unit of [`Entry::missing_since`].
const TICK: Duration = Duration::from_millis(100);

/// What is known of a segment: 24 bytes.
#[derive(Debug, Default)]
struct Entry {
    /// The addresses that service rows name.
    copies: Refs,
    /// When a listing first found nobody who serves it, in [`TICK`]s after [`Followed::born`], plus one.
    missing_since: Option<NonZeroU32>,
    /// How many assignments there are of it; at the greatest number it stays.
    assigned: u16,
    /// Whether there is a lock of it.
    locked: bool,
    /// Whether it is to be looked up at its next use by name.
    doubted: bool,
}

impl Entry {
    fn exists(&self) -> bool {
        !self.copies.is_empty() || self.assigned > 0 || self.locked
    }

    fn set_copies(&mut self, copies: Refs) {
        self.copies = copies;
        self.missing_since = None;
    }
}

/// The tables `services`, `assignment` and `lock`, as the feeds tell them.
#[derive(Debug)]
pub(super) struct Followed {
    /// Tells one building of the tables from the next.
    pub(super) serial: u64,
    born: Instant,
    entries: HashMap<SegmentId, Entry>,
    locks: HashMap<SegmentId, NodeId>,
    /// Look-ups under way, and what the feeds changed since the first of them began: there the feeds are believed.
    lookups: usize,
    touched: HashSet<SegmentId>,
}

impl Default for Followed {
    fn default() -> Self {
        Self {
            serial: 0,
            born: Instant::now(),
            entries: HashMap::new(),
            locks: HashMap::new(),
            lookups: 0,
            touched: HashSet::new(),
        }
    }
}

/// A listing's parts.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) entries: Vec<(SegmentId, Refs)>,
    pub(super) missing: Vec<SegmentId>,
    /// Since when the longest missing one is.
    pub(super) missing_since: Option<Instant>,
}

impl Followed {
    /// Takes one change in; whether it was the end of the initial rows.
    pub(super) fn take_service(&mut self, state: &mut State, change: Change<Service>) -> bool {
        let Change::Row { old, new } = change else { return true };
        let place = |state: &mut State, row: &Service| {
            if row.role.as_deref() != Some(ROLE_READ) {
                return None;
            }
            let number = state.nodes.endpoint(row.node.as_ref()?, row.url.as_deref()?);
            Some((row.segment.clone()?, number))
        };
        let now = new.as_ref().filter(|row| state.row_lives(row)).and_then(|row| place(state, row));
        let before = old.as_ref().and_then(|row| place(state, row)).filter(|before| now.as_ref() != Some(before));
        // What came goes first, so that a row that changed its address never leaves nothing.
        if let Some((segment, number)) = now {
            self.add_copy(segment, number);
        }
        if let Some((segment, number)) = before {
            self.touch(&segment);
            self.edit(segment, |entry| entry.copies.remove(number));
        }
        false
    }

    /// As [`Followed::take_service`], for a lock.
    pub(super) fn take_lock(&mut self, change: Change<Lock>) -> bool {
        let Change::Row { old, new } = change else { return true };
        match (old, new) {
            (_, Some(lock)) => self.put_lock(lock.segment, lock.node),
            (Some(lock), None) => {
                self.touch(&lock.segment);
                self.set_holder(lock.segment, None);
            }
            (None, None) => {}
        }
        false
    }

    /// As [`Followed::take_service`], for an assignment.
    pub(super) fn take_assignment(&mut self, change: Change<Assigned>) -> bool {
        let Change::Row { old, new } = change else { return true };
        if old == new {
            return false;
        }
        if let Some(Assigned { segment }) = new {
            self.edit(segment, |entry| entry.assigned = entry.assigned.saturating_add(1));
        }
        if let Some(Assigned { segment }) = old {
            self.edit(segment, |entry| {
                if entry.assigned < u16::MAX {
                    entry.assigned = entry.assigned.saturating_sub(1);
                }
            });
        }
        false
    }

    /// How many segments there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether a row, an assignment or a lock speaks for a segment.
    pub(super) fn contains(&self, segment: &SegmentId) -> bool {
        self.entries.contains_key(segment)
    }

    /// When the tables were built.
    pub(super) fn born(&self) -> Instant {
        self.born
    }

    pub(super) fn add_copy(&mut self, segment: SegmentId, number: u32) {
        self.touch(&segment);
        self.edit(segment, |entry| {
            entry.copies.insert(number);
            entry.missing_since = None;
        });
    }

    pub(super) fn put_lock(&mut self, segment: SegmentId, node: NodeId) {
        self.touch(&segment);
        self.set_holder(segment, Some(node));
    }

    fn set_holder(&mut self, segment: SegmentId, holder: Option<NodeId>) {
        let locked = holder.is_some();
        match holder {
            Some(node) => drop(self.locks.insert(segment.clone(), node)),
            None => drop(self.locks.remove(&segment)),
        }
        self.edit(segment, |entry| entry.locked = locked);
    }

    /// Changes what is known of a segment, and forgets it once nothing speaks for it.
    fn edit(&mut self, segment: SegmentId, change: impl FnOnce(&mut Entry)) {
        match self.entries.entry(segment) {
            hash_map::Entry::Occupied(mut known) => {
                change(known.get_mut());
                if !known.get().exists() {
                    known.remove();
                }
            }
            hash_map::Entry::Vacant(place) => {
                let mut entry = Entry::default();
                change(&mut entry);
                if entry.exists() {
                    place.insert(entry);
                }
            }
        }
    }

    fn touch(&mut self, segment: &SegmentId) {
        if self.lookups > 0 {
            self.touched.insert(segment.clone());
        }
    }

    /// A look-up begins: what the feeds change from here on is newer than what it will find.
    pub(super) fn begin_lookup(&mut self) {
        self.lookups += 1;
    }

    pub(super) fn end_lookup(&mut self) {
        self.lookups = self.lookups.saturating_sub(1);
        if self.lookups == 0 {
            self.touched = HashSet::new();
        }
    }

    /// Takes in what a look-up found, unless the feeds have told something newer.
    pub(super) fn take_lookup(&mut self, segment: SegmentId, copies: Refs, holder: Option<NodeId>) {
        let newer = self.touched.contains(&segment);
        if let Some(entry) = self.entries.get_mut(&segment) {
            entry.doubted = false;
        }
        if !newer {
            self.set_holder(segment.clone(), holder);
            self.edit(segment, |entry| entry.set_copies(copies));
        }
    }

    /// Has a segment looked up at its next use by name; it stays in the listings.
    pub(super) fn doubt(&mut self, segment: &SegmentId) {
        if let Some(entry) = self.entries.get_mut(segment) {
            entry.doubted = true;
        }
    }

    /// The addresses that are said to serve the segment; none if there is no such address.
    pub(super) fn copies(&self, segment: &SegmentId) -> Option<&Refs> {
        self.entries.get(segment).map(|e| &e.copies).filter(|copies| !copies.is_empty())
    }

    pub(super) fn holder(&self, segment: &SegmentId) -> Option<&NodeId> {
        self.locks.get(segment)
    }

    pub(super) fn is_doubted(&self, segment: &SegmentId) -> bool {
        self.entries.get(segment).is_some_and(|e| e.doubted)
    }

    /// Whether the segment exists and nobody serves it. `number` gives a node's own address.
    pub(super) fn is_missing(
        &self,
        segment: &SegmentId,
        view: &View,
        number: impl FnOnce(&NodeId) -> Option<u32>,
    ) -> bool {
        let Some(entry) = self.entries.get(segment) else { return false };
        let holder = self.locks.get(segment).and_then(number);
        entry.copies.is_empty() || view.usable(&entry.copies, holder).is_empty()
    }

    /// All segments whose ids match, with the addresses that may be asked.
    pub(super) fn list(
        &mut self,
        matches: impl Fn(&str) -> bool,
        view: &View,
        mut number: impl FnMut(&NodeId) -> Option<u32>,
    ) -> Listed {
        let mut listed = Listed::default();
        let mut longest: Option<NonZeroU32> = None;
        let ticks = self.born.elapsed().as_millis() / TICK.as_millis();
        let now = NonZeroU32::MIN.saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX));
        for (segment, entry) in self.entries.iter_mut().filter(|(segment, _)| matches(segment.as_str())) {
            let usable = if entry.copies.is_empty() {
                // A lock alone serves nothing: the holder has the file once its service row says so.
                Refs::default()
            } else {
                let lock = if entry.locked { self.locks.get(segment) } else { None };
                view.usable(&entry.copies, lock.and_then(&mut number))
            };
            if usable.is_empty() {
                let since = *entry.missing_since.get_or_insert(now);
                longest = Some(longest.map_or(since, |l| l.min(since)));
                listed.missing.push(segment.clone());
            } else {
                entry.missing_since = None;
                listed.entries.push((segment.clone(), usable));
            }
        }
        listed.missing_since = longest.map(|since| self.born + TICK * (since.get() - 1));
        listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(s: &str) -> SegmentId {
        SegmentId::new(s).expect("valid")
    }

    fn assigned(old: Option<&str>, new: Option<&str>) -> Change<Assigned> {
        let side = |s: Option<&str>| s.map(|s| Assigned { segment: id(s) });
        Change::Row { old: side(old), new: side(new) }
    }

    #[test]
    fn a_segment_exists_while_anything_speaks_for_it() {
        assert_eq!(size_of::<Entry>(), 24);
        let mut all = Followed::default();
        let s = id("s");
        all.take_assignment(assigned(None, Some("s")));
        all.take_assignment(assigned(None, Some("s")));
        all.take_assignment(assigned(Some("s"), Some("s")));
        all.take_assignment(assigned(Some("s"), None));
        assert!(all.entries.contains_key(&s) && all.copies(&s).is_none());
        all.add_copy(s.clone(), 7);
        all.put_lock(s.clone(), NodeId::new("n").expect("valid"));
        all.take_assignment(assigned(Some("s"), None));
        all.take_lookup(s.clone(), Refs::default(), Some(NodeId::new("n").expect("valid")));
        assert!(all.entries.contains_key(&s), "locked");
        all.take_lookup(s.clone(), Refs::default(), None);
        assert!(all.entries.is_empty() && all.locks.is_empty());
    }

    #[test]
    fn feeds_are_believed_before_look_ups_that_began_earlier() {
        let mut all = Followed::default();
        let (s, other) = (id("s"), id("other"));
        all.add_copy(s.clone(), 1);
        all.add_copy(other.clone(), 1);
        all.begin_lookup();
        all.touch(&s);
        all.edit(s.clone(), |e| e.copies.remove(1));
        all.doubt(&other);
        all.take_lookup(s.clone(), [1].into_iter().collect(), None);
        all.take_lookup(other.clone(), [2].into_iter().collect(), None);
        assert!(!all.entries.contains_key(&s), "what was shredded meanwhile does not come back");
        assert_eq!(all.copies(&other).map(Refs::as_slice), Some(&[2][..]));
        assert!(!all.is_doubted(&other));
        all.end_lookup();
        all.take_lookup(s.clone(), [1].into_iter().collect(), None);
        assert!(all.copies(&s).is_some());
    }
}
