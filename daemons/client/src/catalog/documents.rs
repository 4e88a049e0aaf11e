//! Documents as they stand, for backup and restore: nothing of them is interpreted, so that nothing of them is lost.

use serde_json::{Value as Json, json};
use trough_core::records::SYNC_MASTER_ID;
use trough_reql::r;

use super::{
    ASSIGNMENT, Catalog, CatalogError, LOCK, MAX_KEYS, Result, Rows, SCHEMA, SERVICES, TROUGH, by_ids, majority,
};

/// A document of any table.
pub type Document = serde_json::Map<String, Json>;

/// The tables that a backup holds, in the order in which they are read. A promotion that is recorded beside the assignments is
/// read before them, so that it stands in one or the other; locks come last, so that one taken meanwhile is among them: of a lock
/// that is given back meanwhile nothing but its release is missed.
pub const BACKED_UP: [&str; 4] = [TROUGH, SCHEMA, ASSIGNMENT, LOCK];

impl Catalog {
    /// Every document of a table, as a stream.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn documents(&self, table: &str) -> Result<Rows<Document>> {
        self.read_rows("read the documents of a table", &majority(table)).await
    }

    /// How many documents a table has.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn count_documents(&self, table: &str) -> Result<u64> {
        const WHAT: &str = "count the documents of a table";
        let count = self.client.run_as(&r::table(table).count()).await;
        count.map_err(|e| CatalogError::reql(WHAT, e))
    }

    /// Writes documents as they are, over those of the same ids.
    ///
    /// # Errors
    /// [`CatalogError`]; batches before the failed one are written.
    pub async fn put_documents(&self, table: &str, documents: &[Document]) -> Result<()> {
        for batch in documents.chunks(MAX_KEYS) {
            let rows = batch.iter().map(|d| r::expr(Json::Object(d.clone())));
            let insert = r::table(table).insert(r::array(rows)).conflict("replace").durability("hard");
            self.write("restore documents", &insert).await?;
        }
        Ok(())
    }

    /// Deletes every document of a table.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn clear_table(&self, table: &str) -> Result<u64> {
        const WHAT: &str = "clear a table";
        Ok(self.write(WHAT, &r::table(table).delete().durability("hard")).await?.deleted)
    }

    /// Raises the epoch over all that may ever have been seen, and ends the mastership: whoever was master steps down, and
    /// what it has on its way is refused.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn begin_anew(&self, epoch: u64) -> Result<()> {
        const WHAT: &str = "raise the epoch after a restore";
        let row = json!({"id": "epoch", "epoch": epoch, "holder": null});
        self.write(WHAT, &r::table(TROUGH).insert(r::expr(row)).conflict("replace").durability("hard")).await?;
        self.write(WHAT, &by_ids(r::table(SERVICES), [SYNC_MASTER_ID]).delete()).await?;
        Ok(())
    }
}
