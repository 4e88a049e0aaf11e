//! Error codes that travel over the wire, so that a client can branch on them without reading text.

use serde::{Deserialize, Serialize};

/// What went wrong with a segment or a whole request, as it travels on the wire (snake case).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request itself cannot be understood.
    BadRequest,
    /// The token is missing, unknown, or lacks the role.
    Unauthorized,
    /// This node holds no copy of the segment. Another may: discover again.
    UnknownSegment,
    /// Another node holds the segment's write lock; the hint is its base URL.
    Moved,
    /// This node does not hold the segment's write lock, so it cannot write it.
    NotWritable,
    /// SQLite rejected the statement.
    BadSql,
    /// The statement names a table that the segment lacks.
    NoSuchTable,
    /// The statement names a column that the segment's table lacks.
    NoSuchColumn,
    /// SQLite's authorizer refused the statement (a write on the read port, ATTACH, …).
    Forbidden,
    /// A constraint refused the rows; nothing of the transaction was kept.
    Constraint,
    /// A row that the request relies on was changed by somebody else; nothing of the transaction was kept.
    Conflict,
    /// A stored value has a type that the query declared impossible.
    TypeMismatch,
    /// An expression's error for a row, in PostgreSQL's words behind its SQLSTATE: `22012: division by zero`.
    DataException,
    /// The deadline passed; SQLite was interrupted.
    Deadline,
    /// The client went away or cancelled.
    Cancelled,
    /// The result exceeds the row limit.
    RowLimit,
    /// The result exceeds the byte limit.
    ByteLimit,
    /// Some other SQLite limit (length, depth, variables) was exceeded.
    Limit,
    /// The file is not a database, is truncated, or fails its check.
    Corrupt,
    /// The disk is full; nothing was half-written.
    DiskFull,
    /// The file system or the network failed.
    Io,
    /// The metadata or another node cannot be reached.
    Unavailable,
    /// A fault of our own; also a code that only a later version knows, so that the rest of what it says can be read.
    #[serde(other)]
    Internal,
}

impl ErrorCode {
    /// The code's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::UnknownSegment => "unknown_segment",
            Self::Moved => "moved",
            Self::NotWritable => "not_writable",
            Self::BadSql => "bad_sql",
            Self::NoSuchTable => "no_such_table",
            Self::NoSuchColumn => "no_such_column",
            Self::Forbidden => "forbidden",
            Self::Constraint => "constraint",
            Self::Conflict => "conflict",
            Self::TypeMismatch => "type_mismatch",
            Self::DataException => "data_exception",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::RowLimit => "row_limit",
            Self::ByteLimit => "byte_limit",
            Self::Limit => "limit",
            Self::Corrupt => "corrupt",
            Self::DiskFull => "disk_full",
            Self::Io => "io",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// The code of a wire name; an unknown name (a newer peer's) is [`ErrorCode::Internal`].
    pub fn from_wire(name: &str) -> Self {
        serde_json::from_value(serde_json::Value::String(name.to_owned())).unwrap_or(Self::Internal)
    }

    /// Whether asking another copy of the same segment may succeed.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::UnknownSegment | Self::Moved | Self::Corrupt | Self::Io | Self::Unavailable)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One segment's failure: a code to branch on, a text for people, and sometimes where to go instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct SegmentError {
    /// What kind of failure it is.
    pub code: ErrorCode,
    /// The text for people; it names the thing.
    pub message: String,
    /// For [`ErrorCode::Moved`], the base URL of the node to ask instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl SegmentError {
    /// A failure without a hint.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_a_later_version_is_internal() {
        let error: SegmentError = serde_json::from_str(r#"{"code": "from_the_future", "message": "m"}"#).expect("read");
        assert_eq!((error.code, error.message.as_str()), (ErrorCode::Internal, "m"));
        let error: SegmentError = serde_json::from_str(r#"{"code": "disk_full", "message": "m"}"#).expect("read");
        assert_eq!(error.code, ErrorCode::DiskFull);
    }
}
