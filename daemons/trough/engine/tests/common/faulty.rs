//! A store of remote files that fails as it is told.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use trough_core::ErrorCode;
use trough_engine::{RemoteError, RemoteFile, RemoteOptions, RemoteStamp, RemoteStore};

/// What goes wrong.
#[derive(Debug)]
pub struct Faults {
    /// Reads that fail from now on.
    pub failing_reads: AtomicI64,
    /// Whether another file at the path makes reads of the old one fail.
    pub old_files_go: AtomicBool,
    /// A permit for each read; closed for no limit.
    pub gate: Semaphore,
    pub opens: AtomicU64,
    pub stats: AtomicU64,
    /// Bytes of a block.
    pub unit: usize,
    /// Bytes of the pieces in which a read comes.
    pub piece: usize,
}

impl Default for Faults {
    fn default() -> Self {
        let gate = Semaphore::new(0);
        gate.close();
        Self {
            failing_reads: AtomicI64::new(0),
            old_files_go: AtomicBool::new(true),
            gate,
            opens: AtomicU64::new(0),
            stats: AtomicU64::new(0),
            unit: 4096,
            piece: 64 << 10,
        }
    }
}

fn pieces(bytes: &Bytes, of: usize) -> Vec<Bytes> {
    (0..bytes.len()).step_by(of).map(|at| bytes.slice(at..bytes.len().min(at + of))).collect()
}

/// Local files, read as if they were far away.
#[derive(Clone, Debug)]
pub struct Faulty(pub Arc<Faults>);

struct Open {
    bytes: Bytes,
    stamp: RemoteStamp,
    path: Arc<str>,
    faults: Arc<Faults>,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)
    }
}

pub fn options() -> RemoteOptions {
    RemoteOptions { check_every: Duration::from_secs(3600), ..RemoteOptions::default() }
}

fn error(code: ErrorCode, message: &str, reopen: bool) -> RemoteError {
    RemoteError { code, message: message.into(), reopen }
}

fn stamp(path: &Path) -> Result<RemoteStamp, RemoteError> {
    let gone = |_| error(ErrorCode::UnknownSegment, "no such file", true);
    let meta = std::fs::metadata(path).map_err(gone)?;
    let mtime = meta.modified().expect("a time").duration_since(UNIX_EPOCH).expect("after 1970");
    Ok(RemoteStamp { bytes: meta.len(), mtime_ms: mtime.as_millis() as i64 })
}

impl RemoteStore for Faulty {
    fn open(
        &self,
        path: Arc<str>,
        _seen: Option<RemoteStamp>,
    ) -> BoxFuture<'static, Result<Arc<dyn RemoteFile>, RemoteError>> {
        let faults = self.0.clone();
        Box::pin(async move {
            faults.opens.fetch_add(1, Ordering::SeqCst);
            let stamp = stamp(Path::new(&*path))?;
            let bytes = std::fs::read(&*path).expect("readable").into();
            Ok(Arc::new(Open { bytes, stamp, path, faults }) as Arc<dyn RemoteFile>)
        })
    }

    fn stat(&self, path: Arc<str>) -> BoxFuture<'static, Result<RemoteStamp, RemoteError>> {
        self.0.stats.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { stamp(Path::new(&*path)) })
    }

    fn unit(&self) -> usize {
        self.0.unit
    }
}

impl RemoteFile for Open {
    fn stamp(&self) -> RemoteStamp {
        self.stamp
    }

    fn read(self: Arc<Self>, offset: u64, len: usize) -> BoxFuture<'static, Result<Vec<Bytes>, RemoteError>> {
        Box::pin(async move {
            if let Ok(permit) = self.faults.gate.acquire().await {
                permit.forget();
            }
            if self.faults.failing_reads.fetch_sub(1, Ordering::SeqCst) > 0 {
                return Err(error(ErrorCode::Io, "the disk is on fire", true));
            }
            if self.faults.old_files_go.load(Ordering::SeqCst) && stamp(Path::new(&*self.path)) != Ok(self.stamp) {
                return Err(error(ErrorCode::Unavailable, "the blocks of the old file are gone", true));
            }
            let begin = self.bytes.len().min(offset as usize);
            let bytes = self.bytes.slice(begin..self.bytes.len().min(begin + len));
            Ok(pieces(&bytes, self.faults.piece))
        })
    }
}
