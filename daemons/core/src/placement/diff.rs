//! What a placement changes, and how even it is.

use super::{NONE, Placement, SegmentTable, Worker};

/// What happens to one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// The node is to load it.
    Add,
    /// The node holds it already, for another ring.
    Renumber {
        /// The ring it was on.
        from: usize,
    },
    /// The node is to drop it, once enough others are live.
    Remove,
}

/// One difference between what stood and what is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// The segment's index.
    pub segment: usize,
    /// The copy's ring (for a removal, the one it was on).
    pub ring: usize,
    /// The node's index.
    pub node: u16,
    /// What happens.
    pub kind: ChangeKind,
}

/// What moves, in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Copies to load.
    pub adds: u64,
    /// Their bytes.
    pub added_bytes: u64,
    /// Copies to drop.
    pub removes: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Copies that change their ring only.
    pub renumbered: u64,
    /// Copies that are wanted and for which no worker is left.
    pub missing: u64,
}

/// What each node holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    /// Bytes by node index.
    pub bytes: Vec<u64>,
    /// Copies by node index.
    pub copies: Vec<u64>,
    /// Of the workers that may hold something: the greatest bytes per weight over the mean. 1 if there is nothing.
    pub max_over_mean: f64,
}

/// The changes of one placement, segment by segment: for each first what is to be loaded, then what is to be
/// dropped.
#[derive(Debug)]
pub struct Changes<'a> {
    placement: &'a Placement,
    table: &'a SegmentTable,
    segment: usize,
    /// The changes of the segments before `segment` that are still to be handed out, last first.
    pending: Vec<Change>,
}

impl Iterator for Changes<'_> {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        while self.pending.is_empty() && self.segment < self.table.len() {
            let segment = self.segment;
            self.segment += 1;
            let (before, after) = (self.table.previous(segment), self.placement.assigned(segment));
            // Most segments stay as they are.
            let rest = |cells: &[u16]| cells.iter().all(|node| *node == NONE);
            let common = before.len().min(after.len());
            if before[..common] == after[..common] && rest(&before[common..]) && rest(&after[common..]) {
                continue;
            }
            changes(segment, before, after, &mut self.pending);
            self.pending.reverse();
        }
        self.pending.pop()
    }
}

fn changes(segment: usize, before: &[u16], after: &[u16], out: &mut Vec<Change>) {
    let cells = |row: &'_ [u16]| row.iter().copied().enumerate().filter(|(_, node)| *node != NONE).collect::<Vec<_>>();
    for (ring, node) in cells(after) {
        match before.iter().position(|n| *n == node) {
            None => out.push(Change { segment, ring, node, kind: ChangeKind::Add }),
            Some(from) if from != ring => {
                out.push(Change { segment, ring, node, kind: ChangeKind::Renumber { from } });
            }
            Some(_) => {}
        }
    }
    for (ring, node) in cells(before) {
        let first = before.iter().position(|n| *n == node) == Some(ring);
        if first && !after.contains(&node) {
            out.push(Change { segment, ring, node, kind: ChangeKind::Remove });
        }
    }
}

impl Placement {
    /// What is to be done. `table` is the one that was placed.
    pub fn changes<'a>(&'a self, table: &'a SegmentTable) -> Changes<'a> {
        Changes { placement: self, table, segment: 0, pending: Vec::new() }
    }

    /// What moves, in sum.
    pub fn moves(&self, table: &SegmentTable) -> Moves {
        let mut moves = Moves::default();
        for change in self.changes(table) {
            let bytes = table.bytes(change.segment);
            match change.kind {
                ChangeKind::Add => {
                    moves.adds += 1;
                    moves.added_bytes = moves.added_bytes.saturating_add(bytes);
                }
                ChangeKind::Remove => {
                    moves.removes += 1;
                    moves.removed_bytes = moves.removed_bytes.saturating_add(bytes);
                }
                ChangeKind::Renumber { .. } => moves.renumbered += 1,
            }
        }
        for segment in 0..table.len() {
            let placed = self.assigned(segment).iter().filter(|node| **node != NONE).count();
            moves.missing += (table.copies(segment).min(self.rings) - placed) as u64;
        }
        moves
    }

    /// What each node is to hold.
    pub fn balance(&self, table: &SegmentTable, workers: &[Worker]) -> Balance {
        let mut bytes = vec![0_u64; self.nodes.len()];
        let mut copies = vec![0_u64; self.nodes.len()];
        for segment in 0..table.len() {
            for node in self.assigned(segment).iter().filter(|node| **node != NONE) {
                let node = usize::from(*node);
                bytes[node] = bytes[node].saturating_add(table.bytes(segment));
                copies[node] += 1;
            }
        }
        let able = workers.iter().filter(|w| !w.draining && w.weight_bytes > 0);
        let indexes: std::collections::HashMap<_, _> = self.nodes.iter().zip(0..).collect();
        let (mut most, mut sum, mut weight) = (0.0_f64, 0.0, 0.0);
        for worker in able {
            let held = indexes.get(&worker.node).map_or(0, |i: &usize| bytes[*i]) as f64;
            most = most.max(held / worker.weight_bytes as f64);
            sum += held;
            weight += worker.weight_bytes as f64;
        }
        let max_over_mean = if sum > 0.0 { most / (sum / weight) } else { 1.0 };
        Balance { bytes, copies, max_over_mean }
    }
}
