//! HDFS by its own protocol, without a JVM (hdfs-native): rename over an existing file is atomic, mtimes are set in
//! milliseconds, name services with several name nodes, Kerberos and delegation tokens work as Hadoop's configuration
//! says.
//!
//! Options (see [`crate::StoreOptions`]): any of Hadoop's properties, which go before those of `core-site.xml` and
//! `hdfs-site.xml` in HADOOP_CONF_DIR; among them `dfs.replication` and `dfs.blocksize` of the files that are written.
//! And `hadoop.conf.dir`, `user`, `kerberos.principal`, `kerberos.keytab`, `kerberos.ccache`.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use hdfs_native::{Client, ClientBuilder, HdfsError, WriteOptions, file};

use crate::{
    HDFS_CLIENT, ListOptions, Store, StoreError, StoreOptions,
    remote::{FileSystem, Opened, RemoteStore, Status, Writer},
};

mod error;

/// What stands for "leave it as it is" in a call that sets times.
const LEAVE: u64 = u64::MAX;

/// A store of a URL `hdfs://HOST[:PORT]/DIRECTORY`.
///
/// # Errors
/// [`StoreError::BadUrl`] for a URL or options that cannot be understood.
pub(crate) fn open(url: &url::Url, options: &StoreOptions, list: ListOptions) -> Result<Arc<dyn Store>, StoreError> {
    let bad = |why: String| StoreError::BadUrl { url: url.to_string(), why };
    let Place { server, root } = Place::of(url).map_err(bad)?;
    let told = |key: &str| options.backend.contains_key(key);
    if (told("kerberos.keytab") || told("kerberos.ccache")) && !told("kerberos.principal") {
        return Err(bad("kerberos.keytab and kerberos.ccache need a kerberos.principal beside them".to_owned()));
    }
    let native = Native {
        client: Mutex::default(),
        server,
        timeout: options.timeout,
        write: write_options(options).map_err(bad)?,
        properties: options.backend.clone(),
    };
    let name = format!("{}{root}", native.server);
    Ok(Arc::new(RemoteStore::new(Arc::new(native), name, &root, list)))
}

/// What a URL `hdfs://HOST[:PORT]/DIRECTORY` names.
pub(crate) struct Place {
    /// `hdfs://HOST[:PORT]`.
    pub(crate) server: String,
    /// Begins with a slash.
    pub(crate) root: String,
}

impl Place {
    pub(crate) fn of(url: &url::Url) -> Result<Self, String> {
        if url.host_str().is_none_or(str::is_empty) {
            return Err("it names no name node or name service".into());
        }
        let root = percent_encoding::percent_decode_str(url.path()).decode_utf8().map_err(|e| e.to_string())?;
        let mut server = url.clone();
        server.set_path("");
        server.set_query(None);
        Ok(Self {
            server: server.as_str().trim_end_matches('/').to_owned(),
            root: format!("/{}", root.trim_matches('/')),
        })
    }
}

/// An option that is a multiple of `unit` within a range.
pub(crate) fn number(
    options: &BTreeMap<String, String>,
    key: &str,
    range: RangeInclusive<u64>,
    unit: u64,
) -> Result<Option<u64>, String> {
    let Some(text) = options.get(key) else { return Ok(None) };
    match text.parse::<u64>() {
        Ok(number) if range.contains(&number) && number.is_multiple_of(unit) => Ok(Some(number)),
        _ => {
            let (low, high) = (range.start(), range.end());
            let multiple = if unit == 1 { String::new() } else { format!(" that is a multiple of {unit}") };
            Err(format!("{key}: {text:?} is no number from {low} to {high}{multiple}"))
        }
    }
}

fn write_options(options: &StoreOptions) -> Result<WriteOptions, String> {
    let mut write = WriteOptions::default().overwrite(false).create_parent(false);
    if let Some(copies) = number(&options.backend, "dfs.replication", 1..=512, 1)? {
        write = write.replication(copies as u32);
    }
    if let Some(bytes) = number(&options.backend, "dfs.blocksize", 512..=1 << 40, 512)? {
        write = write.block_size(bytes);
    }
    Ok(write)
}

/// The client, made when it is first used, so that it lives in the runtime that uses it, and made anew when something
/// had no answer: the connection may be dead without knowing.
struct Native {
    client: Mutex<Slot>,
    server: String,
    timeout: Duration,
    write: WriteOptions,
    properties: BTreeMap<String, String>,
}

#[derive(Default)]
struct Slot {
    client: Option<Arc<Client>>,
    /// Whether a client before had no answer. The name node that it asked may hang, and a client goes from one name node
    /// to the next only when it is refused, so the next client asks them in an order of its own.
    unanswered: bool,
}

impl std::fmt::Debug for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Native").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Native {
    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self, operation: &'static str, path: &str) -> Result<Arc<Client>, StoreError> {
        let mut slot = self.slot();
        if let Some(client) = &slot.client {
            return Ok(Arc::clone(client));
        }
        let mut builder = ClientBuilder::new().with_url(&self.server);
        let service = self.server.trim_start_matches("hdfs://");
        let mut properties = Vec::new();
        if slot.unanswered {
            properties.push((format!("dfs.client.failover.random.order.{service}"), "true"));
        }
        for (key, value) in &self.properties {
            builder = match key.as_str() {
                "hadoop.conf.dir" => builder.with_config_dir(value),
                "user" => builder.with_user(value),
                "kerberos.principal" => builder.with_kerberos_principal(value),
                "kerberos.keytab" => builder.with_kerberos_keytab(value),
                "kerberos.ccache" => builder.with_kerberos_cache(value),
                HDFS_CLIENT => builder,
                _ => {
                    properties.push((key.clone(), value.as_str()));
                    builder
                }
            };
        }
        let client = builder.with_config(properties).build().map_err(|e| match e {
            HdfsError::InvalidArgument(why) if why == "No NameNode hosts found" => {
                let why = format!(
                    "no name node of the name service {service} is known: STORE_OPTIONS or Hadoop's configuration must have \
                     dfs.ha.namenodes.{service}, without spaces, and a dfs.namenode.rpc-address.{service}.NAME for each; a single \
                     name node is named with its port"
                );
                StoreError::Unavailable { operation, path: path.to_owned(), why }
            }
            e => error::sort(operation, path, e),
        })?;
        let client = Arc::new(client);
        slot.client = Some(Arc::clone(&client));
        Ok(client)
    }

    /// Waits for an answer to `client` as long as is allowed.
    async fn within<T>(
        &self,
        client: &Arc<Client>,
        operation: &'static str,
        path: &str,
        answer: impl Future<Output = Result<T, HdfsError>> + Send,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => answer.map_err(|e| error::sort(operation, path, e)),
            Err(_) => {
                let mut slot = self.slot();
                if slot.client.as_ref().is_some_and(|now| Arc::ptr_eq(now, client)) {
                    *slot = Slot { client: None, unanswered: true };
                }
                let why = format!("{} has not answered within {} s", self.server, self.timeout.as_secs_f64());
                Err(StoreError::Unavailable { operation, path: path.to_owned(), why })
            }
        }
    }
}

fn status(name: String, status: &hdfs_native::client::FileStatus) -> Status {
    Status {
        name,
        directory: status.isdir,
        bytes: status.length as u64,
        mtime_ms: i64::try_from(status.modification_time).unwrap_or(i64::MAX),
        accessed_ms: i64::try_from(status.access_time).unwrap_or(i64::MAX),
    }
}

#[async_trait]
impl FileSystem for Arc<Native> {
    async fn stat(&self, operation: &'static str, path: &str) -> Result<Status, StoreError> {
        let client = self.client(operation, path)?;
        let found = self.within(&client, operation, path, client.get_file_info(path)).await?;
        Ok(status(String::new(), &found))
    }

    async fn list(
        &self,
        operation: &'static str,
        path: &str,
        each: &mut (dyn FnMut(Status) -> Result<(), StoreError> + Send),
    ) -> Result<(), StoreError> {
        let client = self.client(operation, path)?;
        let listing = client.list_status_iter(path, false);
        // A listing ends with its first error, or with none: then it was complete.
        while let Some(found) =
            self.within(&client, operation, path, async { listing.next().await.transpose() }).await?
        {
            let name = found.path.rsplit('/').next().unwrap_or_default().to_owned();
            each(status(name, &found))?;
        }
        Ok(())
    }

    async fn make_directory(&self, operation: &'static str, path: &str) -> Result<(), StoreError> {
        let client = self.client(operation, path)?;
        self.within(&client, operation, path, client.mkdirs(path, 0o755, false)).await
    }

    async fn create(&self, operation: &'static str, path: &str) -> Result<Box<dyn Writer>, StoreError> {
        let client = self.client(operation, path)?;
        let writer = self.within(&client, operation, path, client.create(path, &self.write)).await?;
        Ok(Box::new(NativeWriter { native: Arc::clone(self), operation, path: path.to_owned(), client, writer }))
    }

    async fn set_mtime(&self, operation: &'static str, path: &str, mtime_ms: i64) -> Result<bool, StoreError> {
        let client = self.client(operation, path)?;
        let mtime = u64::try_from(mtime_ms).map_err(|_| {
            StoreError::from_io(operation, path, std::io::Error::other("HDFS has no mtime before 1970"))
        })?;
        self.within(&client, operation, path, client.set_times(path, mtime, LEAVE)).await?;
        Ok(true)
    }

    async fn rename(&self, operation: &'static str, from: &str, to: &str) -> Result<(), StoreError> {
        let client = self.client(operation, to)?;
        self.within(&client, operation, to, client.rename(from, to, true)).await
    }

    async fn remove(&self, operation: &'static str, path: &str) -> Result<bool, StoreError> {
        let client = self.client(operation, path)?;
        self.within(&client, operation, path, client.delete(path, false)).await
    }

    async fn open(&self, operation: &'static str, path: &str) -> Result<Arc<dyn Opened>, StoreError> {
        let client = self.client(operation, path)?;
        let reader = self.within(&client, operation, path, client.read(path)).await?;
        Ok(Arc::new(NativeReader { native: Arc::clone(self), path: path.to_owned(), client, reader }))
    }

    fn allows(&self, name: &str) -> Result<(), &'static str> {
        if name.contains(':') { Err("HDFS allows no ':' in names") } else { Ok(()) }
    }
}

struct NativeWriter {
    native: Arc<Native>,
    operation: &'static str,
    path: String,
    client: Arc<Client>,
    writer: file::FileWriter,
}

#[async_trait]
impl Writer for NativeWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.native.within(&self.client, self.operation, &self.path, self.writer.write_bytes(bytes)).await.map(drop)
    }

    async fn close(&mut self) -> Result<(), StoreError> {
        self.native.within(&self.client, self.operation, &self.path, self.writer.close()).await
    }
}

struct NativeReader {
    native: Arc<Native>,
    path: String,
    client: Arc<Client>,
    reader: file::FileReader,
}

#[async_trait]
impl Opened for NativeReader {
    fn bytes(&self) -> u64 {
        self.reader.file_length() as u64
    }

    async fn read(&self, offset: u64, len: usize) -> Result<Vec<Bytes>, StoreError> {
        // The client panics outside of the file.
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.reader.file_length());
        let len = len.min(self.reader.file_length() - offset);
        let pieces = self.reader.read_range_stream(offset, len).try_collect();
        self.native.within(&self.client, "read", &self.path, pieces).await
    }
}
