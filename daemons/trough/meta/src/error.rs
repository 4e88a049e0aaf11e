//! What can go wrong with a query, as the wire tells it, and with the server itself.

use trough_reql::proto::{error_type, response_type};

/// The class of a query's error; each has a number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The term is malformed; nothing ran.
    Compile,
    /// The query broke the protocol.
    Client,
    /// A fault of ours.
    Internal,
    /// A limit was exceeded.
    Resource,
    /// The query makes no sense for its data.
    Logic,
    /// A value is missing: what DEFAULT catches.
    NonExistence,
    /// The operation was certainly not carried out.
    OpFailed,
    /// The operation may or may not have been carried out.
    OpIndeterminate,
    /// The user may not do that.
    Permission,
    /// Raised by the term ERROR.
    User,
    /// Raised by ERROR without a message: inside a default it raises what was caught.
    EmptyUser,
}

/// Why a query failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct QueryError {
    /// What kind of error it is.
    pub(crate) class: Class,
    /// The sentence for the client.
    pub(crate) message: String,
    /// Where in the term it happened, innermost frame first.
    pub(crate) frames: Vec<Frame>,
}

/// One step into a term: an argument's number or an optional argument's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Positional argument.
    Arg(usize),
    /// Optional argument.
    Opt(String),
}

impl QueryError {
    pub(crate) fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), frames: Vec::new() }
    }

    pub(crate) fn logic(message: impl Into<String>) -> Self {
        Self::new(Class::Logic, message)
    }

    pub(crate) fn non_existence(message: impl Into<String>) -> Self {
        Self::new(Class::NonExistence, message)
    }

    pub(crate) fn op_failed(message: impl Into<String>) -> Self {
        Self::new(Class::OpFailed, message)
    }

    pub(crate) fn compile(message: impl Into<String>) -> Self {
        Self::new(Class::Compile, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Class::Internal, message)
    }

    /// The error for an array longer than the limit.
    pub(crate) fn array_limit(limit: usize) -> Self {
        Self::new(
            Class::Resource,
            format!(
                "Array over size limit `{limit}`.  To raise the number of allowed elements, modify the `array_limit` \
                 option to `.run` (not available in the Data Explorer), or use an index."
            ),
        )
    }

    /// The same error, seen from one term further out.
    pub(crate) fn at(mut self, frame: Frame) -> Self {
        self.frames.push(frame);
        self
    }

    /// The response type and, for runtime errors, the number of the class.
    pub(crate) fn wire(&self) -> (u64, Option<u64>) {
        let runtime = |number| (response_type::RUNTIME_ERROR, Some(number));
        match self.class {
            Class::Compile => (response_type::COMPILE_ERROR, None),
            Class::Client => (response_type::CLIENT_ERROR, None),
            Class::Internal => runtime(error_type::INTERNAL),
            Class::Resource => runtime(error_type::RESOURCE_LIMIT),
            Class::Logic | Class::EmptyUser => runtime(error_type::QUERY_LOGIC),
            Class::NonExistence => runtime(error_type::NON_EXISTENCE),
            Class::OpFailed => runtime(error_type::OP_FAILED),
            Class::OpIndeterminate => runtime(error_type::OP_INDETERMINATE),
            Class::Permission => runtime(error_type::PERMISSION_ERROR),
            Class::User => runtime(error_type::USER),
        }
    }
}

impl From<rusqlite::Error> for QueryError {
    fn from(error: rusqlite::Error) -> Self {
        // No text begins "Cannot perform": old clients take that for a replica that is away and retry for ever.
        Self::op_failed(format!("The metadata store failed: {error}."))
    }
}

/// The result of evaluating something.
pub(crate) type Result<T, E = QueryError> = std::result::Result<T, E>;

/// Why the server could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory could not be made or opened.
    #[error("open metadata directory {path}: {source}; check that it exists and is writable")]
    Directory {
        /// The directory.
        path: std::path::PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Another process serves this directory.
    #[error("metadata directory {path} is in use by another process; stop that one or choose another directory")]
    Locked {
        /// The directory.
        path: std::path::PathBuf,
    },
    /// The database in the directory could not be opened or is from a newer version.
    #[error("open metadata database {path}: {message}")]
    Database {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A thread of the server does not work any more.
    #[error("the metadata server does not work on: {0}")]
    Stuck(String),
    /// The address could not be listened on.
    #[error("listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Listening beyond loopback without a password would let anybody in.
    #[error("refusing to listen on {address} without a password: set one, or listen on loopback")]
    Unprotected {
        /// The address.
        address: std::net::SocketAddr,
    },
    /// No randomness for salts and identifiers.
    #[error("make credentials: {0}")]
    Credentials(String),
    /// A thread could not be started.
    #[error("start a thread: {0}")]
    Thread(std::io::Error),
}
