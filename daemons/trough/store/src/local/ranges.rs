//! A file of the directory, held open for reads at any place.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;

use super::LocalStore;
use crate::{Entry, RangeReader, StoreError, crashsafe};

/// Reads up to `len` bytes at `offset`, fewer at the file's end.
pub(super) fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let left = file.metadata()?.len().saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(len)];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(done);
    Ok(Bytes::from(bytes))
}

#[derive(Debug)]
struct LocalRanges {
    store: LocalStore,
    path: PathBuf,
    file: Arc<File>,
    entry: Entry,
}

/// Opens the file at `path`.
pub(super) async fn open(
    store: &LocalStore,
    operation: &'static str,
    path: &str,
) -> Result<Arc<dyn RangeReader>, StoreError> {
    let (path, handle) = (path.to_owned(), store.clone());
    store
        .blocking(move |inner| {
            let (path, segment) = inner.resolve(operation, &path)?;
            let open = |path: &Path| {
                let file = File::open(path)?;
                let metadata = file.metadata()?;
                Ok((file, metadata))
            };
            let (file, metadata) = open(&path).map_err(|e| inner.error(operation, &path, e))?;
            if !metadata.is_file() {
                let (path, root) = (path.to_string_lossy().into_owned(), inner.root_text.clone());
                return Err(StoreError::InvalidPath { operation, path, root, why: "it is not a file" });
            }
            let entry = inner.entry(&path, segment, &metadata);
            Ok(Arc::new(LocalRanges { store: handle, path, file: Arc::new(file), entry }) as Arc<dyn RangeReader>)
        })
        .await
}

#[async_trait]
impl RangeReader for LocalRanges {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    async fn read(&self, offset: u64, len: usize) -> Result<Vec<Bytes>, StoreError> {
        let (file, path) = (self.file.clone(), self.path.clone());
        let (bytes, mtime_ms) = (self.entry.bytes, self.entry.mtime_ms);
        self.store
            .blocking(move |inner| {
                let read = || Ok((read_at(&file, offset, len)?, file.metadata()?));
                let (read, now) = read().map_err(|e| inner.error("read", &path, e))?;
                if (now.len(), crashsafe::mtime_ms(&now)) != (bytes, mtime_ms) {
                    let (path, why) = (path.to_string_lossy().into_owned(), "it was changed in place".to_owned());
                    return Err(StoreError::Conflict { operation: "read", path, why });
                }
                Ok(vec![read])
            })
            .await
    }
}
