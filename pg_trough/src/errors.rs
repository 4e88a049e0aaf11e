//! Errors as PostgreSQL reports them: SQLSTATE, message, detail, hint.

use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys::panic::ErrorReport};
use trough_core::{ErrorCode, SegmentError};

use crate::trace;

/// An error on its way to PostgreSQL.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// SQLSTATE.
    pub(crate) code: PgSqlErrorCode,
    /// One sentence that names the thing.
    pub(crate) message: String,
    /// More about it.
    pub(crate) detail: Option<String>,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// Whether it came of a request, and so shall say which.
    traced: bool,
}

impl Failure {
    /// An error without detail and hint.
    pub(crate) fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None, traced: false }
    }

    /// Adds a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a detail.
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Has it say the statement's trace, by which the workers' logs tell more.
    pub(crate) fn traced(mut self) -> Self {
        self.traced = true;
        self
    }

    /// Reports it: the statement ends here.
    pub(crate) fn raise(self) -> ! {
        self.report(PgLogLevel::ERROR);
        unreachable!("ERROR does not return")
    }

    /// Reports it as a warning: the statement goes on.
    pub(crate) fn warn(self) {
        self.report(PgLogLevel::WARNING);
    }

    fn report(self, level: PgLogLevel) {
        let mut report = ErrorReport::new(self.code, self.message, "pg_trough");
        if let Some(detail) = self.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = self.hint {
            report = report.set_hint(hint);
        }
        if self.traced {
            trace::arm();
        }
        report.report(level);
        trace::disarm();
    }
}

/// What was said of a segment, its name in front in double quotes as PostgreSQL writes names.
pub(crate) fn of_segment(segment: &str, message: &str) -> String {
    match message.strip_prefix(&format!("segment '{segment}'")) {
        Some(rest) => format!("segment \"{segment}\"{rest}"),
        None => format!("segment \"{segment}\": {message}"),
    }
}

/// Results whose error PostgreSQL shall report.
pub(crate) trait OrRaise<T> {
    /// The value, or the end of the statement.
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for Result<T, Failure> {
    fn or_raise(self) -> T {
        self.unwrap_or_else(|failure| failure.raise())
    }
}

/// The SQLSTATE of a code on the wire.
pub(crate) fn sqlstate(error: &SegmentError) -> PgSqlErrorCode {
    match error.code {
        ErrorCode::BadRequest | ErrorCode::BadSql => PgSqlErrorCode::ERRCODE_FDW_ERROR,
        ErrorCode::Unauthorized => PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
        ErrorCode::UnknownSegment => PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_CREATE_EXECUTION,
        ErrorCode::NoSuchTable => PgSqlErrorCode::ERRCODE_FDW_TABLE_NOT_FOUND,
        ErrorCode::NoSuchColumn => PgSqlErrorCode::ERRCODE_FDW_COLUMN_NAME_NOT_FOUND,
        ErrorCode::Forbidden => PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        ErrorCode::Constraint => match () {
            () if error.message.contains("UNIQUE") || error.message.contains("PRIMARY KEY") => {
                PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION
            }
            () if error.message.contains("NOT NULL") => PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
            () if error.message.contains("CHECK") => PgSqlErrorCode::ERRCODE_CHECK_VIOLATION,
            () if error.message.contains("FOREIGN KEY") => PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION,
            () => PgSqlErrorCode::ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION,
        },
        ErrorCode::Conflict => PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
        ErrorCode::DataException => match error.message.get(..5) {
            Some("22003") => PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            Some("22011") => PgSqlErrorCode::ERRCODE_SUBSTRING_ERROR,
            Some("22012") => PgSqlErrorCode::ERRCODE_DIVISION_BY_ZERO,
            Some("22023") => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            Some("22025") => PgSqlErrorCode::ERRCODE_INVALID_ESCAPE_SEQUENCE,
            _ => PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        },
        ErrorCode::TypeMismatch => PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
        ErrorCode::Deadline | ErrorCode::Cancelled => PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
        ErrorCode::RowLimit | ErrorCode::ByteLimit | ErrorCode::Limit => PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        ErrorCode::Corrupt => PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        ErrorCode::DiskFull => PgSqlErrorCode::ERRCODE_DISK_FULL,
        ErrorCode::Io => PgSqlErrorCode::ERRCODE_IO_ERROR,
        ErrorCode::Unavailable | ErrorCode::Moved => PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION,
        ErrorCode::NotWritable => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        _ => PgSqlErrorCode::ERRCODE_FDW_ERROR,
    }
}
