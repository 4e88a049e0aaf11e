//! What can go wrong with the canonical store. Each error names the operation, the path, and what to do.

use std::io;

use trough_core::ErrorCode;

/// Any error, as callbacks hand it in.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A failed operation on the canonical store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file is not there, while the store is.
    #[error("{operation} {path}: no such file in the canonical store; list the store to see what it holds")]
    NotFound {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
    },
    /// The store cannot be reached: not mounted, gone, or its server does not answer. Nothing follows from
    /// this about what the store holds.
    #[error("{operation} {path}: the canonical store is unavailable: {why}; check that it is mounted and reachable")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// What says so.
        why: String,
    },
    /// The process may not do this.
    #[error(
        "{operation} {path}: permission denied ({source}); give this process's user the right, or check the mount's options"
    )]
    Denied {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The disk or quota is full; nothing was half-written under a segment's name.
    #[error("{operation} {path}: no space left ({source}); free space or raise the quota, then try again")]
    Full {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Any other failure of the file system.
    #[error("{operation} {path}: {source}; see the system's log on this host")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Somebody else was faster: what the operation relied on is no longer so.
    #[error("{operation} {path}: {why}; look at the present state and try again")]
    Conflict {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// What changed.
        why: String,
    },
    /// The check before the rename said no; the target is as it was.
    #[error("{operation} {path}: refused before the rename: {source}; the canonical copy is as it was")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// Why the check said no.
        source: BoxError,
    },
    /// What arrived is not what was sent.
    #[error("{operation} {path}: verification failed: {why}; the file was not used, try again and check the disk")]
    Damaged {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// What differs.
        why: String,
    },
    /// The path is not one of this store's.
    #[error("{operation} {path:?}: not a path of the canonical store {root}: {why}")]
    InvalidPath {
        /// What was tried.
        operation: &'static str,
        /// The path as it was given.
        path: String,
        /// The store.
        root: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The store's URL cannot be understood.
    #[error("open {url:?}: {why}; give STORE as file:///DIRECTORY, a plain path, or hdfs://HOST:PORT/DIRECTORY")]
    BadUrl {
        /// The URL as it was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The store cannot be reached from this process as it was built and started.
    #[error("open {url:?}: {why}")]
    Unprepared {
        /// The URL as it was given.
        url: String,
        /// What is missing, and what to do.
        why: String,
    },
    /// This build lacks the backend for the URL's scheme.
    #[error(
        "open {url:?}: this build has no backend for {scheme}://; mount it and give STORE as file:///DIRECTORY, \
         or use a build that has the backend"
    )]
    NoBackend {
        /// The URL as it was given.
        url: String,
        /// Its scheme.
        scheme: String,
    },
}

/// A missing file in a missing store is an unavailable store: a `NotFound` is believed only once `check` has found the
/// store itself.
///
/// # Errors
/// `result`'s, or what `check` says.
pub(crate) async fn believed<T>(
    result: Result<T, StoreError>,
    check: impl Future<Output = Result<(), StoreError>>,
) -> Result<T, StoreError> {
    if matches!(result, Err(StoreError::NotFound { .. })) {
        check.await?;
    }
    result
}

impl StoreError {
    /// Sorts an I/O error into a kind. `NotFound` is taken at its word; see the backend for the check that the
    /// store itself is there.
    pub fn from_io(operation: &'static str, path: impl Into<String>, source: io::Error) -> Self {
        use io::ErrorKind as K;
        let path = path.into();
        match source.kind() {
            K::NotFound => Self::NotFound { operation, path },
            K::PermissionDenied | K::ReadOnlyFilesystem => Self::Denied { operation, path, source },
            K::StorageFull | K::QuotaExceeded => Self::Full { operation, path, source },
            K::StaleNetworkFileHandle
            | K::TimedOut
            | K::NotConnected
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown
            | K::ConnectionAborted
            | K::ConnectionRefused
            | K::ConnectionReset => Self::Unavailable { operation, path, why: source.to_string() },
            _ => Self::Io { operation, path, source },
        }
    }

    /// The process ends before the operation did.
    pub(crate) fn shutting_down(operation: &'static str, path: String) -> Self {
        Self::Unavailable { operation, path, why: "this process is shutting down".into() }
    }

    /// Whether the file is not there (while the store is).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the same call may succeed later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Conflict { .. } | Self::Io { .. })
    }

    /// The code that travels over the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } => ErrorCode::UnknownSegment,
            Self::Unavailable { .. } | Self::Conflict { .. } => ErrorCode::Unavailable,
            Self::Denied { .. } | Self::Io { .. } => ErrorCode::Io,
            Self::Full { .. } => ErrorCode::DiskFull,
            Self::Refused { .. } => ErrorCode::NotWritable,
            Self::Damaged { .. } => ErrorCode::Corrupt,
            Self::InvalidPath { .. } | Self::BadUrl { .. } => ErrorCode::BadRequest,
            Self::NoBackend { .. } | Self::Unprepared { .. } => ErrorCode::Internal,
        }
    }
}
