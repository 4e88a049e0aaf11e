//! Shreds: what was shredded must not come back with a worker that was away meanwhile and still has a copy.
//!
//! A row says up to which modification time copies of a segment belong to a life that was shredded. Promotions give the canonical copies of
//! its next life later ones, so no clock decides. The row stays.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::json;
use trough_core::SegmentId;
use trough_reql::r;

use super::{Catalog, MAX_KEYS, Result, TROUGH, by_ids, majority};

/// A row of the table `trough`.
#[derive(Deserialize)]
struct Shred {
    segment: SegmentId,
    mtime_ms: i64,
}

impl Catalog {
    /// Records that copies of the segment up to this modification time are shredded.
    ///
    /// # Errors
    /// [`CatalogError`](super::CatalogError).
    pub async fn record_shred(&self, segment: &SegmentId, mtime_ms: i64) -> Result<()> {
        let row = json!({"id": shred_id(segment), "segment": segment, "mtime_ms": mtime_ms});
        let insert = r::table(TROUGH)
            .insert(r::expr(row))
            .conflict_fn(|_, old, new| {
                let later = old.clone().g("mtime_ms").gt(new.clone().g("mtime_ms"));
                r::branch(later, old, new)
            })
            .durability("hard");
        self.write("record a shred", &insert).await?;
        Ok(())
    }

    /// Up to which modification time copies of these segments are shredded; the others never were.
    ///
    /// # Errors
    /// [`CatalogError`](super::CatalogError).
    pub async fn shreds_of_segments(&self, segments: &[SegmentId]) -> Result<HashMap<SegmentId, i64>> {
        let mut all = HashMap::new();
        for batch in segments.chunks(MAX_KEYS) {
            let ids: Vec<String> = batch.iter().map(shred_id).collect();
            let query = by_ids(majority(TROUGH), ids.iter().map(String::as_str));
            let rows = self.read_vec::<Shred>("read recorded shreds", &query).await?;
            all.extend(rows.into_iter().map(|row| (row.segment, row.mtime_ms)));
        }
        Ok(all)
    }
}

fn shred_id(segment: &SegmentId) -> String {
    format!("shredded:{segment}")
}
