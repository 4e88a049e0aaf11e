//! What can go wrong with a query.

use std::{fmt, time::Duration};

use crate::{proto::error_type, write::WriteSummary};

/// The class of a runtime error, as the server gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// A bug in the server.
    Internal,
    /// A limit was exceeded, such as the array limit.
    ResourceLimit,
    /// The query makes no sense for its data.
    QueryLogic,
    /// A value is missing.
    NonExistence,
    /// The operation was certainly not carried out.
    OpFailed,
    /// The operation may or may not have been carried out.
    OpIndeterminate,
    /// Raised by the term ERROR.
    User,
    /// The user lacks a permission.
    Permission,
    /// A class that this client does not know.
    Other(u64),
}

impl ErrorClass {
    /// The class with this number.
    pub fn from_code(code: u64) -> ErrorClass {
        match code {
            error_type::INTERNAL => ErrorClass::Internal,
            error_type::RESOURCE_LIMIT => ErrorClass::ResourceLimit,
            error_type::QUERY_LOGIC => ErrorClass::QueryLogic,
            error_type::NON_EXISTENCE => ErrorClass::NonExistence,
            error_type::OP_FAILED => ErrorClass::OpFailed,
            error_type::OP_INDETERMINATE => ErrorClass::OpIndeterminate,
            error_type::USER => ErrorClass::User,
            error_type::PERMISSION_ERROR => ErrorClass::Permission,
            other => ErrorClass::Other(other),
        }
    }

    /// The number of this class.
    pub fn code(self) -> u64 {
        match self {
            ErrorClass::Internal => error_type::INTERNAL,
            ErrorClass::ResourceLimit => error_type::RESOURCE_LIMIT,
            ErrorClass::QueryLogic => error_type::QUERY_LOGIC,
            ErrorClass::NonExistence => error_type::NON_EXISTENCE,
            ErrorClass::OpFailed => error_type::OP_FAILED,
            ErrorClass::OpIndeterminate => error_type::OP_INDETERMINATE,
            ErrorClass::User => error_type::USER,
            ErrorClass::Permission => error_type::PERMISSION_ERROR,
            ErrorClass::Other(code) => code,
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            ErrorClass::Internal => "internal error",
            ErrorClass::ResourceLimit => "limit exceeded",
            ErrorClass::QueryLogic => "query error",
            ErrorClass::NonExistence => "missing value",
            ErrorClass::OpFailed => "operation failed",
            ErrorClass::OpIndeterminate => "outcome unknown",
            ErrorClass::User => "raised by the query",
            ErrorClass::Permission => "permission denied",
            ErrorClass::Other(code) => return write!(out, "error {code}"),
        })
    }
}

/// A query that failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No host could be reached; nothing was sent.
    #[error("connect to RethinkDB: {reason}")]
    Connect {
        /// Each host with what went wrong.
        reason: String,
    },
    /// A host refused user or password.
    #[error("log in to RethinkDB at {host} as {user}: {reason}")]
    Auth {
        /// Host and port.
        host: String,
        /// The user's name.
        user: String,
        /// The server's sentence.
        reason: String,
    },
    /// The deadline passed. A write may have been carried out.
    #[error("RethinkDB did not answer within {after:?}")]
    Timeout {
        /// The time that was given.
        after: Duration,
    },
    /// The connection was lost. A write may have been carried out.
    #[error("connection to RethinkDB lost: {reason}")]
    Closed {
        /// What ended it.
        reason: String,
    },
    /// The query broke the protocol.
    #[error("RethinkDB refused the query: {0}")]
    Client(String),
    /// The term is malformed.
    #[error("RethinkDB cannot compile the query: {0}")]
    Compile(String),
    /// The query failed as it ran.
    #[error("{class}: {message}")]
    Runtime {
        /// Its class.
        class: ErrorClass,
        /// The server's sentence.
        message: String,
    },
    /// Some documents of a write were refused; the others were written.
    #[error("{} of the documents refused: {}", .summary.errors, .summary.first_error.as_deref().unwrap_or("no reason given"))]
    Write {
        /// What was done.
        summary: Box<WriteSummary>,
    },
    /// An answer does not have the form that was asked for.
    #[error("decode RethinkDB's answer: {0}")]
    Decode(String),
    /// The query is too long to be sent.
    #[error("a query of {bytes} bytes exceeds RethinkDB's limit of {limit} bytes")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A URL is malformed.
    #[error("{0}")]
    Url(String),
}

impl Error {
    /// Whether the same query may succeed later without anything being repaired: the server is away, slow, or has no
    /// majority. A write that failed so may have been carried out, unless the error is [`Error::Connect`] or of the
    /// class [`ErrorClass::OpFailed`].
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Connect { .. } | Error::Timeout { .. } | Error::Closed { .. } => true,
            Error::Runtime { class: ErrorClass::OpIndeterminate, message } => message.starts_with("Cannot perform"),
            _ => self.is_unavailable(),
        }
    }

    /// Whether the server that was asked does not reach a table's primary replica or a majority of its replicas, and has
    /// certainly not done what was asked: for seconds after a server of its cluster went or came, or for as long as it is cut off from the others.
    pub fn is_unavailable(&self) -> bool {
        let Error::Runtime { class: ErrorClass::OpFailed, message } = self else { return false };
        ["Cannot perform", "cannot subscribe to table", "Changefeed aborted (unavailable)"]
            .iter()
            .any(|begin| message.starts_with(begin))
    }

    /// The class of a runtime error.
    pub fn class(&self) -> Option<ErrorClass> {
        match self {
            Error::Runtime { class, .. } => Some(*class),
            _ => None,
        }
    }
}
