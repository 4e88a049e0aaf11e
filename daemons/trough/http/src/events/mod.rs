//! What happened to segments lately, for people who want a segment's story.
//!
//! In memory: a bounded ring, the newest last. On disk, where a directory is given: a bounded log ([`log`]), so that a
//! restart keeps the ring. Nobody waits for either, and nothing relies on them: the records are in the metadata. An event
//! holds no SQL and no value of a row.

mod log;
mod routes;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, path::Path, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use trough_core::{ErrorCode, NodeId, SegmentError, SegmentId};

pub use routes::routes;

/// The longest reason that is kept, in characters.
const LONGEST_REASON: usize = 300;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The segment was made writable.
    Provisioned {
        /// Bytes of its file.
        bytes: u64,
        /// Whether the file was made from its schema; else there was one.
        new: bool,
    },
    /// Write provisioning was refused.
    ProvisionRefused {
        /// Why.
        reason: String,
    },
    /// The node has the write lock now.
    LockTaken {
        /// The tenure's number.
        fence: u64,
    },
    /// The node gave the write lock back.
    LockReleased {
        /// The tenure's number.
        fence: u64,
    },
    /// The write lock was taken away from the node.
    LockLost {
        /// The tenure's number.
        fence: u64,
    },
    /// What was written became the canonical copy.
    Promoted {
        /// Its length.
        bytes: u64,
        /// Its time, milliseconds since 1970.
        mtime_ms: i64,
        /// Its hash.
        sha256: String,
    },
    /// A promotion failed; the canonical copy is as it was.
    PromotionFailed {
        /// Why.
        reason: String,
    },
    /// The canonical copy was fetched where there was none.
    Copied {
        /// Its length.
        bytes: u64,
        /// Its time.
        mtime_ms: i64,
    },
    /// A newer canonical copy replaced the local one.
    Freshened {
        /// Its length.
        bytes: u64,
        /// Its time.
        mtime_ms: i64,
    },
    /// The canonical copy could not be fetched; it is tried again.
    CopyFailed {
        /// Why.
        reason: String,
    },
    /// The local copy was found broken and is served no more.
    Quarantined {
        /// What was found.
        reason: String,
    },
    /// The local copy was removed: enough other nodes have one.
    Dropped,
    /// The segment was removed for good.
    Shredded,
    /// The master assigned a copy.
    Assigned {
        /// To whom.
        to: NodeId,
        /// On which ring, or `cold`.
        ring: String,
        /// `repair`: there were too few copies; `move`: to even out the load, to empty a worker, or to change the tier.
        why: String,
    },
    /// The master took an assignment back: enough other copies are live.
    Unassigned {
        /// From whom.
        from: NodeId,
    },
}

/// One event, as the log and the API have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, milliseconds since 1970 by the node's clock.
    pub at_ms: i64,
    /// To which segment.
    pub segment: SegmentId,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

#[derive(Debug)]
struct Shared {
    node: NodeId,
    kept: usize,
    ring: Mutex<VecDeque<Event>>,
    log: Option<log::Log>,
}

/// The events of one daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events(Arc<Shared>);

impl Events {
    /// At most `kept` events, in memory only. With 0 there are none.
    pub fn in_memory(node: NodeId, kept: usize) -> Self {
        Self(Arc::new(Shared { node, kept, ring: Mutex::default(), log: None }))
    }

    /// The same, with a log in `dir`; what an earlier process logged there is taken over. Without a log that can be
    /// read and written, they are kept in memory only, and that is said.
    pub fn with_log(node: NodeId, kept: usize, dir: &Path) -> Self {
        if kept == 0 {
            return Self::in_memory(node, kept);
        }
        match log::open(dir, kept) {
            Ok((earlier, log)) => Self(Arc::new(Shared { node, kept, ring: Mutex::new(earlier), log: Some(log) })),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "cannot keep a log of segment events, a restart forgets them");
                Self::in_memory(node, kept)
            }
        }
    }

    /// Whose events they are.
    pub fn node(&self) -> &NodeId {
        &self.0.node
    }

    /// Notes an event. Does not block: what the log cannot take at once is missing in it.
    pub fn note(&self, segment: &SegmentId, what: What) {
        if self.0.kept == 0 {
            return;
        }
        let event = Event { at_ms: now_ms(), segment: segment.clone(), what };
        // Under the ring's lock, so that the log has the ring's order.
        let mut ring = self.0.ring.lock();
        if let Some(log) = &self.0.log {
            log.append(event.clone());
        }
        if ring.len() >= self.0.kept {
            ring.pop_front();
        }
        ring.push_back(event);
    }

    /// The latest events, of one segment or of all, the newest first.
    pub fn latest(&self, segment: Option<&SegmentId>, limit: usize) -> Vec<Event> {
        let ring = self.0.ring.lock();
        let wanted = |event: &&Event| segment.is_none_or(|segment| event.segment == *segment);
        ring.iter().rev().filter(wanted).take(limit).cloned().collect()
    }

    /// Waits until the log has everything that was noted. Blocks.
    pub fn flush(&self) {
        if let Some(log) = &self.0.log {
            log.flush();
        }
    }
}

/// An error as a reason: its text, cut, unless it may quote a statement or a value.
pub fn reason(error: &SegmentError) -> String {
    match error.code {
        ErrorCode::BadSql
        | ErrorCode::NoSuchTable
        | ErrorCode::NoSuchColumn
        | ErrorCode::Constraint
        | ErrorCode::Conflict
        | ErrorCode::TypeMismatch
        | ErrorCode::DataException => format!("SQLite refused it ({})", error.code.as_str()),
        _ => error.message.chars().take(LONGEST_REASON).collect(),
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
