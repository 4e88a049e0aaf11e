//! HDFS by libhdfs, Hadoop's own client in a JVM within this process (the crate hdrs; a build feature). For clusters whose
//! HDFS only Java's client can reach. It promises less than [`crate::hdfs`]: see [`replace`] for its rename; mtimes are the
//! name node's, in whole seconds.
//!
//! Held in memory: one connected client, which reconnects by itself. Calls block, so each runs on a thread that may; Java
//! gives up after the time allowed, too, so that such threads come back even where nobody waits for them any more.
//!
//! Options (see [`crate::StoreOptions`]): any of Hadoop's properties, which go before those of the `core-site.xml` and
//! `hdfs-site.xml` on the CLASSPATH. And `user`, `kerberos.ccache`.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use hdrs::{Client, ClientBuilder, File, Metadata};
use tokio::sync::Semaphore;

use crate::{
    HDFS_CLIENT, ListOptions, Store, StoreError, StoreOptions,
    hdfs::{Place, number},
    remote::{FileSystem, Opened, RemoteStore, Status, Writer},
};

mod error;
mod replace;

/// Calls under way at the same time: threads that a name node that hangs may keep.
const CALLS: usize = 64;
/// The longest name, in bytes: so that [`replace::aside`] has room around it.
const MAX_NAME_BYTES: usize = 235;

/// A store of a URL `hdfs://HOST[:PORT]/DIRECTORY`.
///
/// # Errors
/// [`StoreError::BadUrl`] for a URL or options that cannot be understood, [`StoreError::Unprepared`] where a JVM cannot
/// run in this process.
pub(crate) fn open(url: &url::Url, options: &StoreOptions, list: ListOptions) -> Result<Arc<dyn Store>, StoreError> {
    let bad = |why: String| StoreError::BadUrl { url: url.to_string(), why };
    let place = Place::of(url).map_err(bad)?;
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    prepared(&variable("CLASSPATH"), &variable("LIBHDFS_OPTS"))
        .map_err(|why| StoreError::Unprepared { url: url.to_string(), why: why.to_owned() })?;
    let java = Java {
        client: Mutex::new(None),
        server: place.server,
        timeout: options.timeout,
        calls: Arc::new(Semaphore::new(CALLS)),
        replication: number(&options.backend, "dfs.replication", 1..=512, 1).map_err(bad)?.unwrap_or(0) as usize,
        block_size: number(&options.backend, "dfs.blocksize", 512..=1 << 30, 512).map_err(bad)?.unwrap_or(0) as usize,
        properties: properties(options),
    };
    let name = format!("{}{}", java.server, place.root);
    Ok(Arc::new(RemoteStore::new(Arc::new(java), name, &place.root, list)))
}

/// What the environment must say before a JVM starts; it is read once, by libhdfs.
fn prepared(classpath: &str, jvm_options: &str) -> Result<(), &'static str> {
    if classpath.is_empty() {
        return Err("HDFS_CLIENT is hdrs, and CLASSPATH is not set; set it to what `hadoop classpath --glob` prints");
    }
    if !jvm_options.split_whitespace().any(|option| option == "-Xrs") {
        return Err(
            "HDFS_CLIENT is hdrs, and LIBHDFS_OPTS lacks -Xrs, without which the JVM takes SIGTERM for itself; \
                    set LIBHDFS_OPTS='-Xrs -Xmx512m'",
        );
    }
    Ok(())
}

/// Hadoop's properties: ours first, which end a call within the time allowed, then those of the settings over them.
fn properties(options: &StoreOptions) -> Vec<(String, String)> {
    let limit = options.timeout.as_millis().clamp(1, 3_600_000).to_string();
    let ours = [
        // Else all stores of this process that name the same server would have the first one's properties.
        ("fs.hdfs.impl.disable.cache", "true"),
        ("ipc.client.connect.timeout", &limit),
        ("ipc.client.connect.max.retries", "1"),
        ("ipc.client.connect.max.retries.on.timeouts", "0"),
        ("ipc.client.connect.retry.interval", "100"),
        ("ipc.client.rpc-timeout.ms", &limit),
        ("dfs.client.socket-timeout", &limit),
        ("dfs.datanode.socket.write.timeout", &limit),
        ("dfs.client.max.block.acquire.failures", "1"),
        ("dfs.client.retry.window.base", "100"),
    ];
    let ours = ours.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let theirs = options.backend.iter().filter(|(key, _)| *key != HDFS_CLIENT);
    ours.chain(theirs.map(|(key, value)| (key.clone(), value.clone()))).collect()
}

struct Java {
    client: Mutex<Option<Arc<Client>>>,
    server: String,
    timeout: Duration,
    calls: Arc<Semaphore>,
    /// 0: as Java's configuration says.
    replication: usize,
    /// Bytes; 0: as Java's configuration says.
    block_size: usize,
    properties: Vec<(String, String)>,
}

impl std::fmt::Debug for Java {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Java").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Java {
    /// The client; the first call starts the JVM. Blocks.
    fn client(&self) -> io::Result<Arc<Client>> {
        let mut slot = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*slot {
            return Ok(Arc::clone(client));
        }
        let mut builder = ClientBuilder::new(&self.server);
        for (key, value) in &self.properties {
            builder = match key.as_str() {
                "user" => builder.with_user(value),
                "kerberos.ccache" => builder.with_kerberos_ticket_cache_path(value),
                _ => builder.with_config(key, value),
            };
        }
        let client = Arc::new(builder.connect()?);
        *slot = Some(Arc::clone(&client));
        Ok(client)
    }

    /// Runs what blocks where it may, and waits as long as is allowed. What had no answer may happen yet.
    async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        path: &str,
        work: impl FnOnce(&Client) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let java = Arc::clone(self);
        let answer = async {
            let Ok(permit) = Arc::clone(&self.calls).acquire_owned().await else {
                return Err(StoreError::shutting_down(operation, path.to_owned()));
            };
            let done = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                work(&*java.client()?)
            });
            match done.await {
                Ok(done) => done.map_err(|e| error::sort(operation, path, e)),
                Err(e) if e.is_panic() => Err(error::unreadable(operation, path)),
                Err(_) => Err(StoreError::shutting_down(operation, path.to_owned())),
            }
        };
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                let why = format!("{} has not answered within {} s", self.server, self.timeout.as_secs_f64());
                Err(StoreError::Unavailable { operation, path: path.to_owned(), why })
            }
        }
    }

    /// The same for what may be done twice: a connection that went stale fails the first time.
    async fn call_again<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        path: &str,
        work: impl Fn(&Client) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.call(operation, path, move |client| match work(client) {
            Err(e) if error::is_unexplained(&e) => work(client),
            other => other,
        })
        .await
    }
}

/// The directory that a path lies in.
fn above(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((above, _)) if !above.is_empty() => above,
        _ => "/",
    }
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn status(metadata: &Metadata) -> Status {
    Status {
        name: metadata.path().rsplit('/').next().unwrap_or_default().to_owned(),
        directory: metadata.is_dir(),
        bytes: metadata.len(),
        mtime_ms: milliseconds(metadata.modified()),
        accessed_ms: milliseconds(metadata.accessed()),
    }
}

#[async_trait]
impl FileSystem for Arc<Java> {
    async fn stat(&self, operation: &'static str, path: &str) -> Result<Status, StoreError> {
        let place = path.to_owned();
        let found =
            self.call_again(operation, path, move |client| replace::find(client, &place, || client.metadata(&place)));
        Ok(Status { name: String::new(), ..status(&found.await?) })
    }

    /// All at once: libhdfs hands a directory over as a whole.
    async fn list(
        &self,
        operation: &'static str,
        path: &str,
        each: &mut (dyn FnMut(Status) -> Result<(), StoreError> + Send),
    ) -> Result<(), StoreError> {
        let place = path.to_owned();
        let found = self.call_again(operation, path, move |client| {
            replace::list(|| Ok(client.read_dir(&place)?.into_inner().map(|found| status(&found)).collect()))
        });
        found.await?.into_iter().try_for_each(each)
    }

    async fn make_directory(&self, operation: &'static str, path: &str) -> Result<(), StoreError> {
        let place = path.to_owned();
        self.call_again(operation, path, move |client| {
            // Java would make the directories above, too: a store that is gone must not come back empty.
            client.metadata(above(&place))?;
            client.create_dir(&place)
        })
        .await
    }

    async fn create(&self, operation: &'static str, path: &str) -> Result<Box<dyn Writer>, StoreError> {
        let (place, replication, block_size) = (path.to_owned(), self.replication, self.block_size);
        let made = self.call_again(operation, path, move |client| {
            // As for directories. Its name is unique, so nothing is overwritten.
            client.metadata(above(&place))?;
            let mut open = client.open_file();
            open.create(true).write(true).with_replication(replication).with_blocksize(block_size).open(&place)
        });
        let file = Some(made.await?);
        Ok(Box::new(JavaWriter { java: Arc::clone(self), operation, path: path.to_owned(), file }))
    }

    async fn set_mtime(&self, _operation: &'static str, _path: &str, _mtime_ms: i64) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn sets_mtimes(&self) -> bool {
        false
    }

    async fn rename(&self, operation: &'static str, from: &str, to: &str) -> Result<(), StoreError> {
        let (old, new) = (from.to_owned(), to.to_owned());
        // In one call: a caller that goes away does not leave it half done.
        self.call(operation, to, move |client| replace::replace(client, &old, &new)).await
    }

    async fn remove(&self, operation: &'static str, path: &str) -> Result<bool, StoreError> {
        let place = path.to_owned();
        self.call(operation, path, move |client| replace::remove(client, &place)).await
    }

    async fn open(&self, operation: &'static str, path: &str) -> Result<Arc<dyn Opened>, StoreError> {
        let place = path.to_owned();
        let opened = self.call_again(operation, path, move |client| {
            replace::find(client, &place, || {
                let bytes = client.metadata(&place)?.len();
                Ok((bytes, client.open_file().read(true).open(&place)?))
            })
        });
        let (bytes, file) = opened.await?;
        let file = Some(Arc::new(file));
        Ok(Arc::new(JavaReader { java: Arc::clone(self), path: path.to_owned(), bytes, file }))
    }

    fn allows(&self, name: &str) -> Result<(), &'static str> {
        if name.contains(':') {
            Err("HDFS allows no ':' in names")
        } else if name.chars().any(|c| c.len_utf8() > 3) {
            Err("libhdfs takes no characters beyond U+FFFF in names; HDFS_CLIENT: native does")
        } else if name.len() > MAX_NAME_BYTES {
            Err("the file name is longer than 235 bytes")
        } else {
            Ok(())
        }
    }
}

/// Closing talks to the servers, so a file is dropped where that may block.
fn close_elsewhere(file: impl Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn_blocking(move || drop(file));
    }
}

struct JavaWriter {
    java: Arc<Java>,
    operation: &'static str,
    path: String,
    /// None once it is closed, and where a write had no answer.
    file: Option<File>,
}

impl JavaWriter {
    fn take(&mut self) -> Result<File, StoreError> {
        self.file.take().ok_or_else(|| {
            let why = "an earlier write to it had no answer".to_owned();
            StoreError::Unavailable { operation: self.operation, path: self.path.clone(), why }
        })
    }
}

#[async_trait]
impl Writer for JavaWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let mut file = self.take()?;
        let written = self.java.call(self.operation, &self.path, move |_| {
            file.write_all(&bytes)?;
            Ok(file)
        });
        self.file = Some(written.await?);
        Ok(())
    }

    async fn close(&mut self) -> Result<(), StoreError> {
        let file = self.take()?;
        self.java.call(self.operation, &self.path, move |_| file.try_close()).await
    }
}

impl Drop for JavaWriter {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            close_elsewhere(file);
        }
    }
}

struct JavaReader {
    java: Arc<Java>,
    path: String,
    bytes: u64,
    /// Always there, until it is dropped.
    file: Option<Arc<File>>,
}

#[async_trait]
impl Opened for JavaReader {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    async fn read(&self, offset: u64, len: usize) -> Result<Vec<Bytes>, StoreError> {
        let Some(file) = self.file.clone() else {
            return Err(StoreError::shutting_down("read", self.path.clone()));
        };
        self.java
            .call_again("read", &self.path, move |_| {
                let (mut buffer, mut done) = (vec![0; len], 0);
                while done < len {
                    match file.read_at(&mut buffer[done..], offset + done as u64)? {
                        0 => break,
                        more => done += more,
                    }
                }
                buffer.truncate(done);
                Ok(vec![Bytes::from(buffer)])
            })
            .await
    }
}

impl Drop for JavaReader {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            close_elsewhere(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_jvm_needs_is_said() {
        assert!(prepared("", "-Xrs").expect_err("no jars").contains("CLASSPATH"));
        assert!(prepared("/x.jar", "-Xmx1g").expect_err("no -Xrs").contains("SIGTERM"));
        assert_eq!(prepared("/x.jar", "-Xmx1g -Xrs"), Ok(()));
    }

    #[test]
    fn the_settings_go_over_what_bounds_a_call() {
        let backend = [("ipc.client.connect.max.retries".to_owned(), "7".to_owned())];
        let options = StoreOptions::new(Duration::from_secs(3), backend.into_iter().collect());
        let all = properties(&options);
        let last = |key: &str| all.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        assert_eq!(last("ipc.client.rpc-timeout.ms"), Some("3000"));
        assert_eq!(last("ipc.client.connect.max.retries"), Some("7"));
    }
}
