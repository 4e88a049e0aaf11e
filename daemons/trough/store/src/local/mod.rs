//! The canonical store in a local directory (or any mount). Held in memory: what each directory held when it was
//! last read ([`crate::listing`]). All else is on disk. Blocking calls run on tokio's blocking threads.

use std::{
    fs::{self, File},
    io,
    path::{Component, Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use trough_core::SegmentId;

use crate::{
    Collected, Entry, EntryStream, Expected, Fetched, FolderStream, GetOptions, ListOptions, ListStats, PublishOptions,
    RangeReader, Store, StoreError, crashsafe, listing::Listing, paths::segment_of,
};

mod ranges;
mod transfer;
mod tree;

/// A canonical store in a local directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalStore(Arc<Inner>, Arc<Listing<tree::LocalTree>>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// `root`, as text.
    root_text: String,
    url: String,
    /// The file system that the root was on when it was first looked at. Another one means that the store's was
    /// unmounted, and what is seen is the mount point.
    device: OnceLock<u64>,
}

impl LocalStore {
    /// A store in the directory `root`, which is looked at only when it is used.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`] if `root` is not absolute or not UTF-8.
    pub fn new(root: &Path, options: ListOptions) -> Result<Self, StoreError> {
        let bad = |why: &str| StoreError::BadUrl { url: root.to_string_lossy().into_owned(), why: why.to_owned() };
        let root: PathBuf = root.components().collect();
        let text = root.to_str().ok_or_else(|| bad("it is not UTF-8"))?.to_owned();
        let url = url::Url::from_directory_path(&root).map_err(|()| bad("it is not absolute"))?;
        let inner = Arc::new(Inner {
            root_text: text,
            url: url.as_str().trim_end_matches('/').to_owned(),
            root,
            device: OnceLock::new(),
        });
        let tree = tree::LocalTree(Arc::clone(&inner));
        Ok(Self(inner, Listing::new(Arc::new(tree), options)))
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    async fn blocking<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    {
        blocking(&self.0, work).await
    }
}

/// Runs what blocks where it may.
async fn blocking<T, F>(inner: &Arc<Inner>, work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
{
    let shared = Arc::clone(inner);
    match tokio::task::spawn_blocking(move || work(&shared)).await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => Err(StoreError::shutting_down("use store", inner.root_text.clone())),
    }
}

impl Inner {
    /// Checks that the store is there, on the file system where it was.
    fn check(&self, operation: &'static str) -> Result<(), StoreError> {
        use std::os::unix::fs::MetadataExt;
        let unavailable = |why: String| StoreError::Unavailable { operation, path: self.root_text.clone(), why };
        let metadata = fs::metadata(&self.root).map_err(|e| unavailable(e.to_string()))?;
        if !metadata.is_dir() {
            return Err(unavailable("it is not a directory".into()));
        }
        if *self.device.get_or_init(|| metadata.dev()) != metadata.dev() {
            return Err(unavailable("another file system is mounted there than before".into()));
        }
        Ok(())
    }

    /// Sorts an I/O error; a missing file in a missing store is an unavailable store.
    fn error(&self, operation: &'static str, path: &Path, source: io::Error) -> StoreError {
        let error = StoreError::from_io(operation, path.to_string_lossy(), source);
        match error {
            StoreError::NotFound { .. } => self.check(operation).err().unwrap_or(error),
            other => other,
        }
    }

    /// The path below the root that `path` names, in full or relative.
    fn relative(&self, operation: &'static str, path: &str) -> Result<PathBuf, StoreError> {
        let refuse =
            |why| Err(StoreError::InvalidPath { operation, path: path.to_owned(), root: self.root_text.clone(), why });
        let given = Path::new(path);
        let relative = match given.strip_prefix(&self.root) {
            Ok(relative) => relative,
            Err(_) if given.is_absolute() => return refuse("it lies outside"),
            Err(_) => given,
        };
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return refuse("it has a part that is no plain name");
        }
        match relative.file_name() {
            None => refuse("it names no file"),
            Some(_) if path.contains('\0') => refuse("it contains a NUL"),
            Some(_) => Ok(relative.components().collect()),
        }
    }

    /// The full path and the segment of a file below the root.
    fn resolve(&self, operation: &'static str, path: &str) -> Result<(PathBuf, SegmentId), StoreError> {
        let relative = self.relative(operation, path)?;
        let segment = relative.file_name().and_then(|n| n.to_str()).and_then(segment_of);
        let Some(segment) = segment else {
            let (path, root) = (path.to_owned(), self.root_text.clone());
            return Err(StoreError::InvalidPath { operation, path, root, why: "its name is not SEGMENT.sqlite" });
        };
        Ok((self.root.join(relative), segment))
    }

    fn entry(&self, path: &Path, segment: SegmentId, metadata: &fs::Metadata) -> Entry {
        Entry {
            segment,
            path: path.to_string_lossy().into_owned(),
            bytes: metadata.len(),
            mtime_ms: crashsafe::mtime_ms(metadata),
        }
    }
}

#[async_trait]
impl Store for LocalStore {
    fn url(&self) -> &str {
        &self.0.url
    }

    fn path_of(&self, segment: &SegmentId) -> String {
        // The root "/" alone ends with a slash.
        format!("{}/{}", self.0.root_text.trim_end_matches('/'), segment.store_path())
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.blocking(|inner| inner.check("check store")).await
    }

    fn list_folders(&self) -> FolderStream {
        self.1.folders(false)
    }

    fn list_all(&self) -> EntryStream {
        self.1.list(true)
    }

    fn list_stats(&self) -> ListStats {
        self.1.stats()
    }

    async fn stat_path(&self, path: &str) -> Result<Entry, StoreError> {
        let path = path.to_owned();
        self.blocking(move |inner| {
            let (path, segment) = inner.resolve("stat", &path)?;
            let metadata = fs::metadata(&path).map_err(|e| inner.error("stat", &path, e))?;
            if !metadata.is_file() {
                let (path, root) = (path.to_string_lossy().into_owned(), inner.root_text.clone());
                return Err(StoreError::InvalidPath { operation: "stat", path, root, why: "it is not a file" });
            }
            Ok(inner.entry(&path, segment, &metadata))
        })
        .await
    }

    async fn get(&self, path: &str, dest: &Path, options: GetOptions) -> Result<Fetched, StoreError> {
        transfer::get(self, path, dest, options).await
    }

    async fn read_range(&self, path: &str, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        let path = path.to_owned();
        self.blocking(move |inner| {
            let (path, _) = inner.resolve("read", &path)?;
            let read = || ranges::read_at(&File::open(&path)?, offset, len);
            read().map_err(|e| inner.error("read", &path, e))
        })
        .await
    }

    async fn open_ranges(
        &self,
        path: &str,
        _seen: Option<&Expected>,
    ) -> Result<Option<Arc<dyn RangeReader>>, StoreError> {
        ranges::open(self, "open", path).await.map(Some)
    }

    async fn publish(&self, local: &Path, segment: &SegmentId, options: PublishOptions) -> Result<Entry, StoreError> {
        transfer::publish(self, local, segment, options).await
    }

    async fn delete_path(&self, path: &str) -> Result<bool, StoreError> {
        let path = path.to_owned();
        self.blocking(move |inner| {
            let (path, _) = inner.resolve("delete", &path)?;
            inner.check("delete")?;
            match crashsafe::remove_durably(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
                other => other.map_err(|e| inner.error("delete", &path, e)),
            }
        })
        .await
    }

    async fn collect_garbage(&self, older_than: Duration) -> Result<Collected, StoreError> {
        self.1.collect_garbage(older_than).await
    }
}
