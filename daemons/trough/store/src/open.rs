//! From a URL to a store.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{ListOptions, LocalStore, Store, StoreError, hdfs, object};

/// The option that chooses HDFS's client.
pub const HDFS_CLIENT: &str = "hdfs.client";

/// How a store is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// How long one request to a server may take.
    pub timeout: Duration,
    /// What the backend's own parts are told, by its own names: Hadoop's properties and [`HDFS_CLIENT`] for HDFS; region,
    /// endpoint and the like for object stores.
    pub backend: BTreeMap<String, String>,
    /// How it is listed.
    pub list: ListOptions,
}

impl StoreOptions {
    /// Options of a store that is listed as usual.
    pub fn new(timeout: Duration, backend: BTreeMap<String, String>) -> Self {
        Self { timeout, backend, list: ListOptions::default() }
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self::new(Duration::from_secs(60), BTreeMap::new())
    }
}

/// Opens the store that `url` names, with default options.
///
/// # Errors
/// As [`open_with`].
pub fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    open_with(url, &StoreOptions::default())
}

/// Opens the store that `url` names: `file:///DIRECTORY` or a plain path, `hdfs://HOST[:PORT]/DIRECTORY`,
/// `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `azblob://CONTAINER/PREFIX`. Touches nothing yet.
///
/// # Errors
/// [`StoreError::NoBackend`] for a scheme that this build does not have, [`StoreError::BadUrl`] for what is no URL.
pub fn open_with(url: &str, options: &StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    let bad = |why: &str| StoreError::BadUrl { url: url.to_owned(), why: why.to_owned() };
    let parse = || {
        let parsed = url::Url::parse(url).map_err(|e| bad(&e.to_string()))?;
        match (parsed.query(), parsed.fragment()) {
            (None, None) => Ok(parsed),
            _ => Err(bad("'?' and '#' must be percent-encoded")),
        }
    };
    let path = match url.split_once("://") {
        None if url.is_empty() => return Err(bad("it is empty")),
        None => std::path::absolute(url).map_err(|e| bad(&e.to_string()))?,
        Some(("file", _)) => parse()?.to_file_path().map_err(|()| bad("a host other than localhost cannot be read"))?,
        Some(("hdfs", _)) => return open_hdfs(&parse()?, options),
        Some(("s3" | "gs" | "azblob", _)) => return object::open(&parse()?, options),
        Some((scheme, _)) => {
            return Err(StoreError::NoBackend { url: url.to_owned(), scheme: scheme.to_owned() });
        }
    };
    Ok(Arc::new(LocalStore::new(&path, options.list)?))
}

/// By the client that the options choose: `native`, which needs no JVM, or `hdrs`, which is libhdfs in one.
fn open_hdfs(url: &url::Url, options: &StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    match options.backend.get(HDFS_CLIENT).map_or("native", String::as_str) {
        "native" => hdfs::open(url, options, options.list),
        #[cfg(feature = "hdrs")]
        "hdrs" => crate::hdrs::open(url, options, options.list),
        #[cfg(not(feature = "hdrs"))]
        "hdrs" => {
            let why = "HDFS_CLIENT is hdrs, which this build lacks; build with `cargo build --release -p trough --features \
                       hdrs`, or set HDFS_CLIENT: native";
            Err(StoreError::Unprepared { url: url.to_string(), why: why.to_owned() })
        }
        other => {
            let why = format!("{HDFS_CLIENT} (HDFS_CLIENT) must be native or hdrs, not {other:?}");
            Err(StoreError::Unprepared { url: url.to_string(), why })
        }
    }
}
