//! The documents of the database `trough_configuration`, field for field as the Python trough writes them,
//! with ours added (`#[serde(default)]`, so that a Python row reads too).

use serde::{Deserialize, Serialize};

use crate::{NodeId, SegmentId};

/// The role of a row that says: this node serves reads of this segment.
pub const ROLE_READ: &str = "trough-read";
/// The role of a row that says: this node takes writes of this segment.
pub const ROLE_WRITE: &str = "trough-write";
/// The role of a worker's own row, its lease.
pub const ROLE_NODES: &str = "trough-nodes";
/// The sync master's row id (and role, where it has one).
pub const SYNC_MASTER_ID: &str = "trough-sync-master";
/// The ttl of a service row that lives as long as its node's lease, in seconds.
pub const ROW_TTL_FOREVER: f64 = 1e12;

/// A point in time as RethinkDB carries it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Time {
    #[serde(rename = "$reql_type$")]
    kind: String,
    /// Seconds since 1970-01-01T00:00:00Z, to the millisecond.
    pub epoch_time: f64,
    timezone: String,
}

impl Time {
    /// A time in UTC.
    pub fn from_epoch(seconds: f64) -> Self {
        Self { kind: "TIME".into(), epoch_time: (seconds * 1000.0).round() / 1000.0, timezone: "+00:00".into() }
    }
}

/// A row of the table `services`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// `ROLE:NODE:SEGMENT`; never parsed back.
    pub id: String,
    /// [`ROLE_READ`], [`ROLE_WRITE`], [`ROLE_NODES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Who serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// What is served; none on a node's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<SegmentId>,
    /// Where, for requests: `http://HOST:PORT/?segment=ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The port of `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Seconds after `last_heartbeat` that the row counts as alive.
    pub ttl: f64,
    /// The node's load average per core when it was written.
    #[serde(default)]
    pub load: f64,
    /// When the row was first written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_heartbeat: Option<Time>,
    /// When it was last renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat: Option<Time>,
    /// On our read rows: the modification time (milliseconds since 1970) of the canonical copy that is served, or of an
    /// older one; 0 where it is known to equal none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_ms: Option<i64>,
    /// The machine's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// On a node's row: bytes it may hold (STORAGE_IN_BYTES).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    /// On a node's row: whether it is a cold worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_storage: Option<bool>,
    /// On our node rows: base URL of the read port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_url: Option<String>,
    /// On our node rows: base URL of the write port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_url: Option<String>,
    /// On our node rows: base URL of the worker's segment manager (SYNC_LOCAL_PORT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manage_url: Option<String>,
    /// On our node rows: the failure domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// On our node rows: whether an operator drains it (it keeps nothing new).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// On our node rows: whether it is about to end: whoever can ask another node does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopping: bool,
    /// On our node rows: the protocol that it speaks; none is [`crate::protocol::FIRST_PROTOCOL`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// On our node rows: the program's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// On our node rows: bytes of segments it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// On our node rows: segments it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<u64>,
    /// On our node rows: copies waiting or in flight, for the status page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copying: Option<u64>,
}

impl Service {
    /// The id of the row that says that `node` serves `segment` in `role`.
    pub fn segment_id(role: &str, node: &NodeId, segment: &SegmentId) -> String {
        format!("{role}:{node}:{segment}")
    }

    /// The protocol that the node speaks, by its own row.
    pub fn speaks(&self) -> u32 {
        self.protocol.unwrap_or(crate::protocol::FIRST_PROTOCOL)
    }

    /// The id of a node's own row.
    pub fn node_id(node: &NodeId) -> String {
        format!("{ROLE_NODES}:{node}:None")
    }
}

/// A row of the table `assignment`: this node shall hold a copy of this segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// `NODE:SEGMENT`.
    pub id: String,
    /// Who shall hold it.
    pub node: NodeId,
    /// Which segment.
    pub segment: SegmentId,
    /// The ring's number, or `"cold"`; null where an old Python row has none.
    #[serde(default)]
    pub hash_ring: serde_json::Value,
    /// When it was assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_on: Option<Time>,
    /// Where the canonical copy lies.
    pub remote_path: String,
    /// Its length.
    pub bytes: u64,
    /// Its modification time, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime_ms: Option<i64>,
    /// Its SHA-256 in hex, where a promotion recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The plan's generation.
    #[serde(default)]
    pub generation: u64,
    /// The epoch of the master that wrote it; a lower one is refused.
    #[serde(default)]
    pub epoch: u64,
}

impl Assignment {
    /// The id of the row that gives `segment` to `node`.
    pub fn row_id(node: &NodeId, segment: &SegmentId) -> String {
        format!("{node}:{segment}")
    }
}

/// A row of the table `lock`: this node alone may write this segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lock {
    /// `write:lock:SEGMENT`.
    pub id: String,
    /// Who holds it.
    pub node: NodeId,
    /// What is locked.
    pub segment: SegmentId,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acquired_on: Option<Time>,
    /// Whether a promotion is running.
    #[serde(default)]
    pub under_promotion: bool,
    /// The holding process (a UUID), so that a restarted node knows its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// Raised by one each time the lock changes hands; part of a promotion's temporary name.
    #[serde(default)]
    pub fence: u64,
    /// The epoch of the master that asked for it.
    #[serde(default)]
    pub epoch: u64,
}

impl Lock {
    /// The id of a segment's lock.
    pub fn row_id(segment: &SegmentId) -> String {
        format!("write:lock:{segment}")
    }
}

/// A row of the table `schema`: the SQL script a new segment starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// The schema's name.
    pub id: String,
    /// Its SQL script.
    pub sql: String,
}

/// The document `controls` of the table `trough`: what an operator has set for the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Controls {
    /// Set while placement is paused.
    #[serde(default)]
    pub paused: Option<Paused>,
    /// What is set over the settings of every node.
    #[serde(default)]
    pub throttles: Throttles,
}

/// A pause of placement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paused {
    /// Since when.
    pub since: Time,
    /// Why, as the operator said.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Limits set at run time; none is what the settings say, 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttles {
    /// MOVE_SEGMENTS.
    #[serde(default)]
    pub move_segments: Option<u64>,
    /// MOVE_BYTES.
    #[serde(default)]
    pub move_bytes: Option<u64>,
    /// COPY_BANDWIDTH.
    #[serde(default)]
    pub copy_bandwidth: Option<u64>,
    /// PROMOTION_BANDWIDTH.
    #[serde(default)]
    pub promotion_bandwidth: Option<u64>,
    /// COPY_THREAD_POOL_SIZE.
    #[serde(default)]
    pub copy_thread_pool_size: Option<u64>,
}
