//! Files held open for reads at any place: what a cold worker in direct mode reads segments through.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Entry, Expected, Store, StoreError};

/// One file of the store, held open. All reads are of the file that was opened, never of one that has replaced it.
#[async_trait]
pub trait RangeReader: Send + Sync + std::fmt::Debug {
    /// The file as it was when it was opened.
    fn entry(&self) -> &Entry;

    /// Bytes `offset..offset + len`, fewer at the file's end, in the pieces in which they came.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] or [`StoreError::NotFound`] if the file was replaced or deleted and the one that was opened
    /// can no longer be read: opening it again helps.
    async fn read(&self, offset: u64, len: usize) -> Result<Vec<Bytes>, StoreError>;
}

/// Opens the file at `path` for reads at any place: as the backend does it, else by [`Store::read_range`] and a look at the
/// file after each read. `seen` is what lay there a moment ago, where that is known.
///
/// # Errors
/// [`StoreError::NotFound`] if there is no such file.
pub async fn open_ranges(
    store: &Arc<dyn Store>,
    path: &str,
    seen: Option<&Expected>,
) -> Result<Arc<dyn RangeReader>, StoreError> {
    if let Some(reader) = store.open_ranges(path, seen).await? {
        return Ok(reader);
    }
    let entry = store.stat_path(path).await?;
    Ok(Arc::new(ByPath { store: store.clone(), entry }))
}

/// Reads by the path, and looks afterwards whether the same file still lies there.
#[derive(Debug)]
struct ByPath {
    store: Arc<dyn Store>,
    entry: Entry,
}

#[async_trait]
impl RangeReader for ByPath {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    async fn read(&self, offset: u64, len: usize) -> Result<Vec<Bytes>, StoreError> {
        let bytes = self.store.read_range(&self.entry.path, offset, len).await?;
        let now = self.store.stat_path(&self.entry.path).await?;
        if (now.bytes, now.mtime_ms) != (self.entry.bytes, self.entry.mtime_ms) {
            let why = "another file lies there than the one that was opened".to_owned();
            return Err(StoreError::Conflict { operation: "read", path: self.entry.path.clone(), why });
        }
        Ok(vec![bytes])
    }
}
