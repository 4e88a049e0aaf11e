//! The canonical store in an object store: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `azblob://CONTAINER/PREFIX`, by
//! OpenDAL. A put is atomic, so there are no temporary names: an upload is not seen before its last request, and what a
//! crash leaves of one in parts is removed by the bucket's own rule for unfinished uploads.
//!
//! The mtime is the service's, usually in whole seconds, since that is what a listing tells; the promotion's own is kept
//! beside it in the object's metadata and decides who was first. No two versions of an object get the same mtime: a
//! publication waits until the clock of the service has moved on. Object stores have no directories whose times tell what
//! changed, so every listing is a whole one. Nothing is remembered in memory but what the last listing counted.
//!
//! Options: what OpenDAL calls them (`region`, `endpoint`, `access_key_id`, …). Without credentials among them, they
//! come from where the service's own tools find them: environment, profile, instance.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use opendal::{ErrorKind, Metadata, Operator};
use trough_core::SegmentId;

use crate::{
    Collected, Entry, EntryStream, Expected, Fetched, Folder, FolderStream, GetOptions, ListStats, PublishOptions,
    RangeReader, Store, StoreError, StoreOptions, crashsafe,
    download::{Parts, download},
    error::believed,
    paths::{self, segment_of},
};

mod publish;

/// Where the promotion's mtime is kept, in the object's metadata. Letters only: Azure allows no other signs, and some proxies no underscores.
const MTIME: &str = "troughmtime";
/// What a fetch reads at a time: a request costs tens of milliseconds.
const PARTS: Parts = Parts { bytes: 8 << 20, at_once: 4 };
/// How often a fetch begins anew because the object was replaced under it.
const FETCHES: usize = 4;
/// How often a failed request is sent again.
const RETRIES: usize = 3;

/// A store of one of these URLs.
///
/// # Errors
/// [`StoreError::BadUrl`] for a URL or options that cannot be understood.
pub(crate) fn open(url: &url::Url, options: &StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    let bad = |why: String| StoreError::BadUrl { url: url.to_string(), why };
    let (scheme, name) = match url.scheme() {
        "gs" => ("gcs", "bucket"),
        "azblob" => ("azblob", "container"),
        _ => ("s3", "bucket"),
    };
    let bucket = url.host_str().filter(|host| !host.is_empty());
    let bucket = bucket.ok_or_else(|| bad(format!("it names no {name}")))?;
    let root = percent_encoding::percent_decode_str(url.path()).decode_utf8().map_err(|e| bad(e.to_string()))?;
    let root = format!("/{}", root.trim_matches('/'));
    let mut settings = options.backend.clone();
    settings.insert(name.to_owned(), bucket.to_owned());
    let operator = Operator::via_iter(scheme, settings).map_err(|e| bad(e.to_string()))?;
    let operator = operator
        .layer(opendal::layers::RetryLayer::new().with_max_times(RETRIES).with_jitter())
        .layer(opendal::layers::TimeoutLayer::new().with_timeout(options.timeout).with_io_timeout(options.timeout));
    let url = format!("{}://{bucket}{}", url.scheme(), root.trim_end_matches('/'));
    Ok(Arc::new(ObjectStore(Arc::new(Inner {
        operator,
        url,
        root,
        timeout: options.timeout,
        stats: Mutex::default(),
    }))))
}

/// A canonical store in an object store. Cheap to clone.
#[derive(Clone, Debug)]
struct ObjectStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    operator: Operator,
    url: String,
    /// Begins with a slash; what follows is the prefix of all keys.
    root: String,
    timeout: Duration,
    /// Of the last complete listing.
    stats: Mutex<ListStats>,
}

/// An object as the service tells it.
struct Object {
    entry: Entry,
    /// The promotion's mtime, or the service's.
    promoted_ms: i64,
    etag: Option<String>,
}

impl Inner {
    /// Waits for an answer: each of its requests has the store's timeout, and may be sent again.
    async fn within<T>(
        &self,
        operation: &'static str,
        path: &str,
        answer: impl IntoFuture<Output = opendal::Result<T>, IntoFuture: Send>,
    ) -> Result<T, StoreError> {
        let limit = self.timeout * (RETRIES as u32 + 1);
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|e| sort(operation, path, &e)),
            Err(_) => {
                let why = format!("{} has not answered within {} s", self.url, limit.as_secs_f64());
                Err(StoreError::Unavailable { operation, path: path.to_owned(), why })
            }
        }
    }

    /// Checks that the bucket is there, by listing one key of the store.
    async fn check(&self, operation: &'static str) -> Result<(), StoreError> {
        let probe = async {
            let mut lister = self.operator.lister_with(&prefix(&self.root)).limit(1).await?;
            lister.next().await.transpose()
        };
        match self.within(operation, &self.root, probe).await {
            Err(StoreError::NotFound { operation, path }) => {
                let why = format!("the bucket of {} does not exist; create it, or correct STORE", self.url);
                Err(StoreError::Unavailable { operation, path, why })
            }
            other => other.map(drop),
        }
    }

    fn is_gcs(&self) -> bool {
        self.url.starts_with("gs://")
    }

    /// Whether the service can hold an object of this segment's name.
    fn allows(&self, operation: &'static str, segment: &SegmentId) -> Result<(), StoreError> {
        let name = segment.file_name();
        let why = if name.len() > crashsafe::MAX_NAME_BYTES {
            "the file name is longer than 255 bytes"
        } else if self.is_gcs() && !gcs_allows(&name) {
            "in gs:// a segment's name may have only the letters a to z and A to Z, digits, and - _ . ! ~ * ' ( )"
        } else {
            return Ok(());
        };
        let path = paths::join(&self.root, &segment.store_path());
        Err(StoreError::InvalidPath { operation, path, root: self.root.clone(), why })
    }

    async fn object(&self, operation: &'static str, path: &str) -> Result<Object, StoreError> {
        let (path, segment) = paths::resolve(operation, &self.root, path)?;
        let found = self.within(operation, &path, self.operator.stat(key(&path))).await;
        let metadata = believed(found, self.check(operation)).await?;
        let mtime_ms = mtime_ms(&metadata);
        let told = metadata.user_metadata().and_then(|data| data.get(MTIME)).and_then(|text| text.parse().ok());
        Ok(Object {
            entry: Entry { segment, path, bytes: metadata.content_length(), mtime_ms },
            promoted_ms: told.unwrap_or(mtime_ms),
            etag: metadata.etag().map(str::to_owned),
        })
    }

    /// Bytes of the object, which must still be the one with this etag.
    async fn read(&self, object: &Object, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        let end = object.entry.bytes.min(offset.saturating_add(len as u64));
        if offset >= end {
            return Ok(Bytes::new());
        }
        let path = &object.entry.path;
        let mut read = self.operator.read_with(key(path)).range(offset..end);
        if let Some(etag) = &object.etag {
            read = read.if_match(etag);
        }
        let replaced = || {
            let why = "another object lies there than the one that was opened".to_owned();
            StoreError::Conflict { operation: "read", path: path.clone(), why }
        };
        let bytes = match self.within("read", path, read).await {
            Ok(buffer) => buffer.to_bytes(),
            Err(StoreError::Conflict { .. }) => return Err(replaced()),
            Err(e) => return believed(Err(e), self.check("read")).await,
        };
        // What a download in Google's JSON interface does with a condition is not said: there a look at the object follows.
        if self.is_gcs() && self.object("read", path).await?.etag != object.etag {
            return Err(replaced());
        }
        Ok(bytes)
    }
}

/// Signs beside letters and digits that OpenDAL 0.55 sends to Google's service as they are. Others it encodes twice where an
/// object goes up in one request, so that the object gets another name.
const GCS_SIGNS: &[u8] = b"-_.!~*'()";

/// Whether Google's service can hold a key whose name is this, see [`GCS_SIGNS`].
fn gcs_allows(name: &str) -> bool {
    name.bytes().all(|sign| sign.is_ascii_alphanumeric() || GCS_SIGNS.contains(&sign))
}

/// The key of a path.
fn key(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// What all keys of the store begin with.
fn prefix(root: &str) -> String {
    let root = key(root).trim_end_matches('/');
    if root.is_empty() { String::new() } else { format!("{root}/") }
}

fn mtime_ms(metadata: &Metadata) -> i64 {
    metadata.last_modified().map_or(0, |time| time.into_inner().as_millisecond())
}

/// What the service's errors mean to the store.
fn sort(operation: &'static str, path: &str, error: &opendal::Error) -> StoreError {
    let path = path.to_owned();
    let source = |kind| std::io::Error::new(kind, error.to_string());
    match error.kind() {
        ErrorKind::NotFound => StoreError::NotFound { operation, path },
        ErrorKind::PermissionDenied => {
            StoreError::Denied { operation, path, source: source(std::io::ErrorKind::PermissionDenied) }
        }
        ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists => {
            StoreError::Conflict { operation, path, why: "somebody else has published it".into() }
        }
        // Whatever goes wrong on the way to the service says nothing about what it holds.
        // A bucket that does not exist is a fault of the configuration to OpenDAL.
        ErrorKind::RateLimited | ErrorKind::Unexpected | ErrorKind::ConfigInvalid => {
            StoreError::Unavailable { operation, path, why: error.to_string() }
        }
        _ => StoreError::Io { operation, path, source: source(std::io::ErrorKind::Other) },
    }
}

/// One version of an object, for reads.
struct ObjectRanges {
    inner: Arc<Inner>,
    object: Object,
}

impl std::fmt::Debug for ObjectRanges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectRanges").field("entry", &self.object.entry).finish_non_exhaustive()
    }
}

#[async_trait]
impl RangeReader for ObjectRanges {
    fn entry(&self) -> &Entry {
        &self.object.entry
    }

    async fn read(&self, offset: u64, len: usize) -> Result<Vec<Bytes>, StoreError> {
        Ok(vec![self.inner.read(&self.object, offset, len).await?])
    }
}

/// A listing under way.
struct Listed {
    inner: Arc<Inner>,
    lister: Option<opendal::Lister>,
    stats: ListStats,
}

impl Listed {
    /// The next segment; none at the end of a complete listing, which is then counted.
    async fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        let inner = Arc::clone(&self.inner);
        let unavailable = |e| match e {
            // The bucket is gone.
            StoreError::NotFound { operation, path } => {
                StoreError::Unavailable { operation, path, why: format!("the bucket of {} does not exist", inner.url) }
            }
            other => other,
        };
        let lister = match &mut self.lister {
            Some(lister) => lister,
            empty => {
                let prefix = prefix(&inner.root);
                let lister = inner.operator.lister_with(&prefix).recursive(true);
                empty.insert(inner.within("list", &inner.root, lister).await.map_err(unavailable)?)
            }
        };
        while let Some(found) = inner.within("list", &inner.root, next_of(lister)).await.map_err(unavailable)? {
            let path = format!("/{}", found.path());
            let below = path.strip_prefix(inner.root.trim_end_matches('/')).unwrap_or(&path).trim_start_matches('/');
            let name = below.rsplit('/').next().unwrap_or_default();
            if crashsafe::is_temporary(name) {
                self.stats.temporaries += 1;
                continue;
            }
            if below.split('/').any(|part| part.starts_with('.')) || !name.ends_with(".sqlite") {
                continue;
            }
            let Some(segment) = segment_of(name) else {
                self.stats.skipped += 1;
                continue;
            };
            self.stats.entries += 1;
            let metadata = found.metadata();
            let (bytes, mtime_ms) = (metadata.content_length(), mtime_ms(metadata));
            return Ok(Some(Entry { segment, path, bytes, mtime_ms }));
        }
        *self.inner.stats.lock().unwrap_or_else(PoisonError::into_inner) = self.stats;
        Ok(None)
    }
}

async fn next_of(lister: &mut opendal::Lister) -> opendal::Result<Option<opendal::Entry>> {
    lister.next().await.transpose()
}

#[async_trait]
impl Store for ObjectStore {
    fn url(&self) -> &str {
        &self.0.url
    }

    fn path_of(&self, segment: &SegmentId) -> String {
        paths::join(&self.0.root, &segment.store_path())
    }

    fn allows(&self, segment: &SegmentId) -> Result<(), StoreError> {
        self.0.allows("keep", segment)
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.0.check("check").await
    }

    fn list(&self) -> EntryStream {
        let listed = Listed { inner: Arc::clone(&self.0), lister: None, stats: ListStats::default() };
        stream::unfold(Some(listed), |listed| async move {
            let mut listed = listed?;
            match listed.next().await {
                Ok(Some(entry)) => Some((Ok(entry), Some(listed))),
                Ok(None) => None,
                Err(e) => Some((Err(e), None)),
            }
        })
        .boxed()
    }

    fn list_folders(&self) -> FolderStream {
        self.list().map(|entry| entry.map(Folder::loose)).boxed()
    }

    fn list_all(&self) -> EntryStream {
        self.list()
    }

    fn list_stats(&self) -> ListStats {
        *self.0.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stat_path(&self, path: &str) -> Result<Entry, StoreError> {
        self.0.object("stat", path).await.map(|object| object.entry)
    }

    async fn get(&self, path: &str, dest: &Path, options: GetOptions) -> Result<Fetched, StoreError> {
        let mut left = FETCHES;
        loop {
            left -= 1;
            let object = self.0.object("get", path).await?;
            let (opened, version) = (object.entry.path.clone(), object.etag.clone());
            let reader: Arc<dyn RangeReader> = Arc::new(ObjectRanges { inner: Arc::clone(&self.0), object });
            match download(&reader, version.as_deref(), dest, PARTS, &options).await {
                // Replaced while it was read: the new one is fetched.
                Err(StoreError::Conflict { path, .. }) if path == opened && left > 0 => {}
                other => return other,
            }
        }
    }

    async fn read_range(&self, path: &str, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        let mut left = FETCHES;
        loop {
            left -= 1;
            let object = self.0.object("read", path).await?;
            match self.0.read(&object, offset, len).await {
                Err(StoreError::Conflict { .. }) if left > 0 => {}
                other => return other,
            }
        }
    }

    async fn open_ranges(
        &self,
        path: &str,
        _seen: Option<&Expected>,
    ) -> Result<Option<Arc<dyn RangeReader>>, StoreError> {
        let object = self.0.object("open", path).await?;
        Ok(Some(Arc::new(ObjectRanges { inner: Arc::clone(&self.0), object })))
    }

    fn read_unit(&self) -> usize {
        64 << 10
    }

    async fn publish(&self, local: &Path, segment: &SegmentId, options: PublishOptions) -> Result<Entry, StoreError> {
        publish::publish(&self.0, local, segment, options).await
    }

    async fn delete_path(&self, path: &str) -> Result<bool, StoreError> {
        let object = match self.0.object("delete", path).await {
            Ok(object) => object,
            Err(e) if e.is_not_found() => return Ok(false),
            Err(e) => return Err(e),
        };
        let path = object.entry.path;
        self.0.within("delete", &path, self.0.operator.delete(key(&path))).await.map(|()| true)
    }

    /// There are no temporary objects: an upload that was not finished is not there.
    async fn collect_garbage(&self, _older_than: Duration) -> Result<Collected, StoreError> {
        self.0.check("collect garbage").await.map(|()| Collected::default())
    }
}
