//! The canonical store, as the engine reads ranges of its files.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use trough_config::Settings;
use trough_core::{ErrorCode, SegmentError};
use trough_engine::{Remote, RemoteError, RemoteFile, RemoteOptions, RemoteStamp, RemoteStore};
use trough_store::{Entry, Expected, RangeReader, Store, StoreError};

#[derive(Debug)]
struct Canonical(Arc<dyn Store>);

#[derive(Debug)]
struct Open(Arc<dyn RangeReader>);

/// The store's files for the engine; the reads run on the present runtime.
///
/// # Errors
/// If SQLite does not take the VFS.
pub(crate) fn remote(store: &Arc<dyn Store>, settings: &Settings) -> Result<Remote, SegmentError> {
    let options = RemoteOptions {
        cache_bytes: settings.cold_cache_bytes,
        check_every: settings.cold_check,
        read_timeout: settings.cold_read_timeout,
    };
    Remote::new(Arc::new(Canonical(store.clone())), options, tokio::runtime::Handle::current())
}

fn stamp(entry: &Entry) -> RemoteStamp {
    RemoteStamp { bytes: entry.bytes, mtime_ms: entry.mtime_ms }
}

fn told(error: &StoreError) -> RemoteError {
    let reopen = match error {
        StoreError::NotFound { .. } | StoreError::Conflict { .. } => true,
        other => other.is_transient() || other.code() == ErrorCode::Corrupt,
    };
    RemoteError { code: error.code(), message: error.to_string(), reopen }
}

impl RemoteStore for Canonical {
    fn open(
        &self,
        path: Arc<str>,
        seen: Option<RemoteStamp>,
    ) -> BoxFuture<'static, Result<Arc<dyn RemoteFile>, RemoteError>> {
        let store = self.0.clone();
        Box::pin(async move {
            let seen = seen.map(|stamp| Expected { bytes: stamp.bytes, mtime_ms: stamp.mtime_ms, sha256: None });
            let reader = trough_store::open_ranges(&store, &path, seen.as_ref()).await.map_err(|e| told(&e))?;
            Ok(Arc::new(Open(reader)) as Arc<dyn RemoteFile>)
        })
    }

    fn stat(&self, path: Arc<str>) -> BoxFuture<'static, Result<RemoteStamp, RemoteError>> {
        let store = self.0.clone();
        Box::pin(async move { store.stat_path(&path).await.map(|entry| stamp(&entry)).map_err(|e| told(&e)) })
    }

    fn unit(&self) -> usize {
        self.0.read_unit()
    }
}

impl RemoteFile for Open {
    fn stamp(&self) -> RemoteStamp {
        stamp(self.0.entry())
    }

    fn read(self: Arc<Self>, offset: u64, len: usize) -> BoxFuture<'static, Result<Vec<Bytes>, RemoteError>> {
        Box::pin(async move { self.0.read(offset, len).await.map_err(|e| told(&e)) })
    }
}
