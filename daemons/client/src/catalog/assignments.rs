//! Assignments: what each node shall hold, and the generation of the plan that is in force.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use trough_core::{
    NodeId, SegmentId,
    records::{Assignment, Time},
};
use trough_reql::{Expr, r};

use super::{
    ASSIGNMENT, Catalog, CatalogError, Change, MAX_KEYS, Result, Rows, TROUGH, by_ids, changed_rows, document,
    error::FENCED, majority, of_ours, to_json,
};

/// The plan that is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Raised by one with each plan that is published.
    pub generation: u64,
    /// The epoch of the master that published it.
    pub epoch: u64,
}

/// What a promotion made: the canonical copy's length, time and hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canonical {
    /// Which segment.
    pub segment: SegmentId,
    /// Length of the canonical copy.
    pub bytes: u64,
    /// Its modification time, milliseconds since 1970.
    pub mtime_ms: i64,
    /// Its SHA-256 in hex.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// The document of [`Catalog::found_shares`].
#[derive(Deserialize)]
struct Found {
    shares: Vec<Share>,
}

#[derive(Deserialize)]
struct Share {
    node: NodeId,
    share: f64,
}

const FOUND: &str = "found";
/// The Python master's document in the table of assignments.
const RING_ASSIGNMENTS: &str = "ring-assignments";

/// What says that a segment exists: an assignment, without the rest of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Assigned {
    /// Which segment is assigned.
    pub segment: SegmentId,
}

impl Catalog {
    /// A node's assignments, as a stream.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn assignments_of_node(&self, node: &NodeId) -> Result<Rows<Assignment>> {
        let query = majority(ASSIGNMENT).get_all([node.as_str()]).index("node");
        self.read_rows("read a node's assignments", &query).await
    }

    /// A segment's assignments.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn assignments_of_segment(&self, segment: &SegmentId) -> Result<Vec<Assignment>> {
        self.assignments_of_segments(std::slice::from_ref(segment)).await
    }

    /// The assignments of some segments.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn assignments_of_segments(&self, segments: &[SegmentId]) -> Result<Vec<Assignment>> {
        let mut all = Vec::new();
        for batch in segments.chunks(MAX_KEYS) {
            let query = majority(ASSIGNMENT).get_all(batch.iter().map(|s| Expr::from(s.as_str()))).index("segment");
            all.extend(self.read_vec::<Assignment>("read the assignments of segments", &query).await?);
        }
        Ok(all)
    }

    /// All assignments, as a stream; the Python master's `ring-assignments` is left out.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn all_assignments(&self) -> Result<Rows<Assignment>> {
        self.read_rows("read all assignments", &majority(ASSIGNMENT)).await
    }

    /// Writes and deletes assignments for the master of `epoch`, [`MAX_KEYS`] a statement. Each put carries `epoch` whatever it
    /// said, and `assigned_on` is the server's time for those that have none.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`] if a newer epoch was raised or stands in one of the rows: the caller must stop being master. Rows
    /// of earlier batches, and rows of the same batch without a newer epoch, may have been written; the newer master's plan replaces them.
    pub async fn commit_assignments(&self, puts: &[Assignment], deletes: &[String], epoch: u64) -> Result<()> {
        const WHAT: &str = "commit assignments";
        for batch in puts.chunks(MAX_KEYS) {
            self.refuse_if_deposed(WHAT, epoch).await?;
            let rows = batch.iter().map(|a| {
                let mut fields = to_json(a);
                fields["epoch"] = json!(epoch);
                if a.assigned_on.is_some() { r::expr(fields) } else { document(fields, [("assigned_on", r::now())]) }
            });
            let insert = r::table(ASSIGNMENT)
                .insert(r::array(rows))
                .conflict_fn(|_, old, new| {
                    let newer = old.clone().g("epoch").default(0).gt(new.clone().g("epoch"));
                    let time = |row: Expr| row.g("mtime_ms").default(0);
                    let same_file =
                        old.clone().g("bytes").eq(new.clone().g("bytes")).and(time(old.clone()).eq(time(new.clone())));
                    // What a later version wrote of the same file stays; of another file it would be wrong.
                    r::branch(newer, fenced(epoch), r::branch(same_file, old.merge(new.clone()), new))
                })
                .durability("hard");
            self.write(WHAT, &insert).await?;
        }
        for batch in deletes.chunks(MAX_KEYS) {
            self.refuse_if_deposed(WHAT, epoch).await?;
            let delete = by_ids(r::table(ASSIGNMENT), batch.iter().map(String::as_str))
                .replace(|old| {
                    let newer = old.g("epoch").default(0).gt(epoch);
                    r::branch(newer, fenced(epoch), Json::Null)
                })
                .durability("hard");
            self.write(WHAT, &delete).await?;
        }
        Ok(())
    }

    pub(super) async fn refuse_if_deposed(&self, what: &'static str, epoch: u64) -> Result<()> {
        let current = self.current_epoch().await?;
        if current > epoch {
            let message = format!("{FENCED} epoch {current} has been raised above {epoch}");
            return Err(CatalogError::Fenced { what, message });
        }
        Ok(())
    }

    /// Follows a node's assignments, beginning with all of them.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn assignment_feed(&self, node: &NodeId) -> Result<Rows<Change<Assignment>>> {
        self.follow("follow a node's assignments", r::table(ASSIGNMENT).get_all([node.as_str()]).index("node")).await
    }

    /// Follows which segments are assigned to anybody, beginning with all: one row for each assignment. Changes that leave
    /// the segment as it was are not told.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn assigned_feed(&self) -> Result<Rows<Change<Assigned>>> {
        self.follow("follow the assignments", r::table(ASSIGNMENT).pluck(["segment"])).await
    }

    /// Records what a promotion made in the segment's assignments, or, where it has none yet, beside them for the master
    /// ([`Catalog::canonical_of_segments`]); how many assignments were changed.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn record_canonical(
        &self,
        segment: &SegmentId,
        bytes: u64,
        mtime_ms: i64,
        sha256: Option<&str>,
    ) -> Result<u64> {
        const WHAT: &str = "record a promotion";
        let fields = json!({"bytes": bytes, "mtime_ms": mtime_ms, "sha256": sha256});
        let update = r::table(ASSIGNMENT)
            .get_all([segment.as_str()])
            .index("segment")
            .update(r::expr(fields))
            .durability("hard");
        let summary = self.write(WHAT, &update).await?;
        let assigned = summary.replaced + summary.unchanged;
        if assigned == 0 {
            let row = json!({
                "id": canonical_id(segment), "segment": segment, "bytes": bytes, "mtime_ms": mtime_ms, "sha256": sha256,
            });
            self.write(WHAT, &r::table(TROUGH).insert(r::expr(row)).conflict("replace").durability("hard")).await?;
        }
        Ok(assigned)
    }

    /// What promotions recorded of segments that had no assignment then.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn canonical_of_segments(&self, segments: &[SegmentId]) -> Result<Vec<Canonical>> {
        let mut all = Vec::new();
        for batch in segments.chunks(MAX_KEYS) {
            let ids: Vec<String> = batch.iter().map(canonical_id).collect();
            let query = by_ids(majority(TROUGH), ids.iter().map(String::as_str));
            all.extend(self.read_vec::<Canonical>("read recorded promotions", &query).await?);
        }
        Ok(all)
    }

    /// Forgets what [`Catalog::canonical_of_segments`] gave, once assignments carry it.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn forget_canonical(&self, segments: &[SegmentId]) -> Result<()> {
        for batch in segments.chunks(MAX_KEYS) {
            let ids: Vec<String> = batch.iter().map(canonical_id).collect();
            let delete = by_ids(r::table(TROUGH), ids.iter().map(String::as_str)).delete();
            self.write("forget recorded promotions", &delete).await?;
        }
        Ok(())
    }

    /// The share of all wanted bytes (0 to 1) that each node held when a Python master's placement was taken over; empty if
    /// none ever was.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn found_shares(&self) -> Result<HashMap<NodeId, f64>> {
        let row: Option<Found> =
            of_ours(self.read_one("read the shares that were found", &majority(TROUGH).get(FOUND)).await)?;
        Ok(row.map(|row| row.shares.into_iter().map(|one| (one.node, one.share)).collect()).unwrap_or_default())
    }

    /// Records the shares that were found, in place of earlier ones, for the master of `epoch`.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`] if a newer epoch was raised.
    pub async fn record_found_shares(&self, shares: &HashMap<NodeId, f64>, epoch: u64) -> Result<()> {
        const WHAT: &str = "record the shares that were found";
        self.refuse_if_deposed(WHAT, epoch).await?;
        let shares: Vec<Json> = shares.iter().map(|(node, share)| json!({"node": node, "share": share})).collect();
        let row = json!({"id": FOUND, "epoch": epoch, "shares": shares});
        self.write(WHAT, &r::table(TROUGH).insert(r::expr(row)).conflict("replace").durability("hard")).await?;
        Ok(())
    }

    /// The document `ring-assignments`: `{NODE: {ring, weight}}`, as the Python master reads it; none if there is none.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn ring_assignments(&self) -> Result<Option<serde_json::Map<String, Json>>> {
        self.read_one("read the ring assignments", &majority(ASSIGNMENT).get(RING_ASSIGNMENTS)).await
    }

    /// Writes the document `ring-assignments` for the master of `epoch`.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`] if a newer epoch was raised.
    pub async fn put_ring_assignments(&self, mut rings: serde_json::Map<String, Json>, epoch: u64) -> Result<()> {
        const WHAT: &str = "write the ring assignments";
        self.refuse_if_deposed(WHAT, epoch).await?;
        rings.insert("id".to_owned(), json!(RING_ASSIGNMENTS));
        let put = r::table(ASSIGNMENT).insert(r::expr(Json::Object(rings))).conflict("replace").durability("hard");
        self.write(WHAT, &put).await?;
        Ok(())
    }

    /// The plan that is in force; generation 0 before the first.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn generation(&self) -> Result<Generation> {
        let query = majority(TROUGH).get("generation");
        Ok(of_ours(self.read_one("read the generation", &query).await)?.unwrap_or_default())
    }

    /// Publishes the plan that was written under generation `expected + 1`, by one compare-and-set; the new generation.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`] if a newer epoch published; [`CatalogError::Conflict`] if another generation than `expected` is in force.
    pub async fn publish_generation(&self, expected: u64, epoch: u64) -> Result<u64> {
        const WHAT: &str = "publish a plan";
        self.refuse_if_deposed(WHAT, epoch).await?;
        let next = json!({"id": "generation", "generation": expected + 1, "epoch": epoch});
        let statement = r::table(TROUGH)
            .get("generation")
            .replace(|old| {
                let newer = old.clone().g("epoch").default(0).gt(epoch);
                let as_expected = old.clone().g("generation").default(0).eq(expected);
                let settled = r::branch(old.clone().eq(Json::Null), r::expr(first_generation()), old);
                r::branch(newer, fenced(epoch), r::branch(as_expected, r::expr(next), settled))
            })
            .return_changes("always")
            .durability("hard");
        let summary = self.write(WHAT, &statement).await?;
        let now: Generation = changed_rows(WHAT, &summary)?.pop().unwrap_or_default();
        if summary.inserted + summary.replaced > 0 && now == (Generation { generation: expected + 1, epoch }) {
            return Ok(now.generation);
        }
        Err(CatalogError::Conflict {
            what: WHAT,
            expected: format!("generation {expected}"),
            found: format!("generation {} of epoch {}", now.generation, now.epoch),
        })
    }
}

impl Canonical {
    /// The modification time as the database carries times.
    pub fn time(&self) -> Time {
        Time::from_epoch(self.mtime_ms as f64 / 1000.0)
    }
}

fn first_generation() -> Json {
    json!({"id": "generation", "generation": 0, "epoch": 0})
}

fn fenced(epoch: u64) -> Expr {
    r::error(format!("{FENCED} a row carries a newer epoch than {epoch}"))
}

fn canonical_id(segment: &SegmentId) -> String {
    format!("canonical:{segment}")
}
