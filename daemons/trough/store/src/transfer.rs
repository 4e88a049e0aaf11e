//! What transfers of every backend have in common.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use crate::{Progress, RangeReader, StoreError, Throttle, download::Parts};

/// Bytes copied between two looks at the limits.
pub(crate) const CHUNK: usize = 1 << 20;

/// Removes a file of this machine when dropped, unless it was told not to.
pub(crate) struct Remove(pub(crate) Option<PathBuf>);

impl Remove {
    pub(crate) fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for Remove {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // Removal is a courtesy here: what is left of a transfer is collected later.
            drop(fs::remove_file(path));
        }
    }
}

/// Creates a file that must not exist.
pub(crate) fn create_new(operation: &'static str, path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().write(true).create_new(true).open(path).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => StoreError::Conflict {
            operation,
            path: path.to_string_lossy().into_owned(),
            why: "the file to be written exists".into(),
        },
        _ => StoreError::from_io(operation, path.to_string_lossy(), e),
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T, F>(operation: &'static str, path: &Path, work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|e| StoreError::from_io(operation, path.to_string_lossy(), e)),
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => Err(StoreError::shutting_down(operation, path.to_string_lossy().into_owned())),
    }
}

/// Hashes all that `reader` reads.
pub(crate) async fn sha256(reader: &Arc<dyn RangeReader>, parts: Parts) -> Result<String, StoreError> {
    let bytes = reader.entry().bytes;
    let fetches = (0..bytes.div_ceil(parts.bytes)).map(|n| reader.read(n * parts.bytes, parts.bytes as usize));
    let mut fetches = stream::iter(fetches).buffered(parts.at_once);
    let mut hash = Sha256::new();
    while let Some(pieces) = fetches.try_next().await? {
        hash = blocking("verify", Path::new(""), move || {
            pieces.iter().for_each(|piece| hash.update(piece));
            Ok(hash)
        })
        .await?;
    }
    Ok(hex(&hash.finalize()))
}

/// A local file that is being sent, in chunks, within the limits.
pub(crate) struct Outgoing {
    file: Option<File>,
    path: PathBuf,
    /// Its length when it was opened.
    pub(crate) bytes: u64,
    done: u64,
    throttle: Option<Arc<dyn Throttle>>,
    progress: Option<Progress>,
}

impl Outgoing {
    /// Opens the file.
    pub(crate) async fn open(
        path: &Path,
        throttle: Option<Arc<dyn Throttle>>,
        progress: Option<Progress>,
    ) -> Result<Self, StoreError> {
        let local = path.to_owned();
        let (file, bytes) = blocking("publish from", path, move || {
            let file = File::open(local)?;
            let bytes = file.metadata()?.len();
            Ok((file, bytes))
        })
        .await?;
        Ok(Self { file: Some(file), path: path.to_owned(), bytes, done: 0, throttle, progress })
    }

    /// The next chunk, of at most `limit` bytes; empty at the end. Fails if the file's length has changed.
    pub(crate) async fn chunk(&mut self, limit: u64) -> Result<Bytes, StoreError> {
        let want = self.bytes.saturating_sub(self.done).min(limit);
        if let Some(throttle) = &self.throttle {
            throttle.acquire(want).await;
        }
        let Some(mut file) = self.file.take() else {
            return Err(StoreError::shutting_down("publish from", self.path.to_string_lossy().into_owned()));
        };
        // At the end one byte more is asked for, so that a file that grew is noticed.
        let ask = want.max(1);
        let (file, buffer) = blocking("publish from", &self.path, move || {
            let mut buffer = Vec::new();
            (&mut file).take(ask).read_to_end(&mut buffer)?;
            Ok((file, buffer))
        })
        .await?;
        self.file = Some(file);
        if buffer.len() as u64 != want {
            return Err(StoreError::Conflict {
                operation: "publish",
                path: self.path.to_string_lossy().into_owned(),
                why: format!("it changed from {} bytes while it was read", self.bytes),
            });
        }
        Ok(buffer.into())
    }

    /// Says that so many bytes more have arrived.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.done += bytes;
        if let Some(progress) = &self.progress {
            progress(self.done);
        }
    }

    /// Bytes that have arrived.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }
}
