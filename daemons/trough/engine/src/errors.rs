//! SQLite's errors as ours: a code to branch on and a text that names the thing and never a path.

use rusqlite::ffi::{self, ErrorCode as Sqlite};
use trough_core::{ErrorCode, SegmentError, SegmentId};

/// The thread that should have answered is gone.
pub(crate) fn pool_gone() -> SegmentError {
    SegmentError::new(ErrorCode::Internal, "the worker failed while it made the answer (see its log)")
}

/// A file system error about a segment's file.
pub(crate) fn io(what: &str, error: &std::io::Error) -> SegmentError {
    let code = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::FileTooLarge => {
            ErrorCode::DiskFull
        }
        std::io::ErrorKind::NotFound => ErrorCode::UnknownSegment,
        _ => ErrorCode::Io,
    };
    SegmentError::new(code, format!("{what}: {error}"))
}

/// SQLite's own text, without what rusqlite puts around it.
pub(crate) fn text(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqliteFailure(failure, None) => ffi::code_to_str(failure.extended_code).to_owned(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

/// What SQLite said about a statement on `id`.
pub(crate) fn sqlite(id: &SegmentId, error: &rusqlite::Error) -> SegmentError {
    let SegmentError { code, message, .. } = plain(error);
    let message = match code {
        ErrorCode::Corrupt | ErrorCode::Io | ErrorCode::DiskFull | ErrorCode::Unavailable | ErrorCode::Internal => {
            format!("segment '{id}': {message}")
        }
        _ => message,
    };
    SegmentError::new(code, message)
}

/// What SQLite said, whatever it was about.
pub(crate) fn plain(error: &rusqlite::Error) -> SegmentError {
    let message = text(error);
    let failure = match error {
        rusqlite::Error::SqliteFailure(failure, _) => Some(failure),
        rusqlite::Error::SqlInputError { error, .. } => Some(error),
        _ => None,
    };
    let Some(failure) = failure else {
        let code = match error {
            rusqlite::Error::InvalidParameterCount(..) | rusqlite::Error::InvalidParameterName(_) => {
                ErrorCode::BadRequest
            }
            rusqlite::Error::MultipleStatement => ErrorCode::BadSql,
            _ => ErrorCode::Internal,
        };
        return SegmentError::new(code, message);
    };
    let code = match failure.code {
        Sqlite::Unknown if message.starts_with("no such table: ") => ErrorCode::NoSuchTable,
        Sqlite::Unknown if message.starts_with("no such column: ") || message.contains(" has no column named ") => {
            ErrorCode::NoSuchColumn
        }
        Sqlite::Unknown if too_much(&message) => ErrorCode::Limit,
        Sqlite::Unknown if message.starts_with(crate::functions::REJECTED) => ErrorCode::TypeMismatch,
        Sqlite::Unknown if message.starts_with("not authorized") || message.starts_with("access to ") => {
            ErrorCode::Forbidden
        }
        Sqlite::Unknown | Sqlite::TypeMismatch | Sqlite::ApiMisuse | Sqlite::ParameterOutOfRange => ErrorCode::BadSql,
        Sqlite::AuthorizationForStatementDenied | Sqlite::ReadOnly | Sqlite::PermissionDenied => ErrorCode::Forbidden,
        Sqlite::OperationInterrupted => ErrorCode::Cancelled,
        Sqlite::ConstraintViolation => ErrorCode::Constraint,
        Sqlite::TooBig | Sqlite::OutOfMemory => ErrorCode::Limit,
        Sqlite::DiskFull => ErrorCode::DiskFull,
        Sqlite::DatabaseCorrupt | Sqlite::NotADatabase => ErrorCode::Corrupt,
        Sqlite::CannotOpen | Sqlite::SystemIoFailure => ErrorCode::Io,
        Sqlite::DatabaseBusy | Sqlite::DatabaseLocked | Sqlite::FileLockingProtocolFailed => ErrorCode::Unavailable,
        _ => ErrorCode::Internal,
    };
    if let Some(error) = message.strip_prefix(crate::functions::FAULT) {
        return SegmentError::new(ErrorCode::DataException, error);
    }
    SegmentError::new(code, message)
}

fn too_much(message: &str) -> bool {
    message.starts_with("too many ")
        || message.starts_with("Expression tree is too large")
        || message.contains("parser stack overflow")
        || message.starts_with("variable number must be between")
        || message.starts_with("at most ")
}
