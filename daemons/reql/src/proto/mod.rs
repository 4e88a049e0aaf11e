//! RethinkDB's wire protocol: numbers, frames, the handshake and SCRAM-SHA-256, for both sides.
//! Nothing here knows what a term means.

pub mod frame;
pub mod handshake;
pub mod scram;
pub mod term_type;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use frame::{Frame, WireError, WireReader, encode_frame, write_frame};

/// The port RethinkDB's client drivers use.
pub const DEFAULT_PORT: u16 = 28015;

/// A query's JSON must be shorter than this many bytes.
pub const MAX_QUERY_BYTES: usize = 128 * 1024 * 1024;

/// Queries that may be running on one connection at a time.
pub const MAX_CONCURRENT_QUERIES: usize = 1024;

/// What a query frame asks for: the first element of its JSON array.
pub mod query_type {
    /// Run a term.
    pub const START: u64 = 1;
    /// Send the next batch of this token's cursor.
    pub const CONTINUE: u64 = 2;
    /// End this token's cursor or running query.
    pub const STOP: u64 = 3;
    /// Answer once every earlier noreply query has been carried out.
    pub const NOREPLY_WAIT: u64 = 4;
    /// Name the server.
    pub const SERVER_INFO: u64 = 5;
}

/// What a response holds: its field `t`.
pub mod response_type {
    /// One value; `r` has one element.
    pub const SUCCESS_ATOM: u64 = 1;
    /// The last batch of a sequence.
    pub const SUCCESS_SEQUENCE: u64 = 2;
    /// A batch of a sequence that goes on.
    pub const SUCCESS_PARTIAL: u64 = 3;
    /// Answer to NOREPLY_WAIT.
    pub const WAIT_COMPLETE: u64 = 4;
    /// Answer to SERVER_INFO.
    pub const SERVER_INFO: u64 = 5;
    /// The query broke the protocol.
    pub const CLIENT_ERROR: u64 = 16;
    /// The term is malformed.
    pub const COMPILE_ERROR: u64 = 17;
    /// The query failed as it ran; `e` holds the class.
    pub const RUNTIME_ERROR: u64 = 18;
}

/// Class of a runtime error: field `e` of a response.
pub mod error_type {
    /// A bug in the server.
    pub const INTERNAL: u64 = 1_000_000;
    /// A limit was exceeded, such as the array limit.
    pub const RESOURCE_LIMIT: u64 = 2_000_000;
    /// The query makes no sense for its data.
    pub const QUERY_LOGIC: u64 = 3_000_000;
    /// A value is missing; what DEFAULT catches.
    pub const NON_EXISTENCE: u64 = 3_100_000;
    /// The operation was certainly not carried out.
    pub const OP_FAILED: u64 = 4_100_000;
    /// The operation may or may not have been carried out.
    pub const OP_INDETERMINATE: u64 = 4_200_000;
    /// Raised by the term ERROR.
    pub const USER: u64 = 5_000_000;
    /// The user lacks a permission.
    pub const PERMISSION_ERROR: u64 = 6_000_000;
}

/// Notes about a feed: elements of a response's field `n`.
pub mod response_note {
    /// Changes of a table or selection.
    pub const SEQUENCE_FEED: u64 = 1;
    /// Changes of one document.
    pub const ATOM_FEED: u64 = 2;
    /// Changes of `order_by(...).limit(n)`.
    pub const ORDER_BY_LIMIT_FEED: u64 = 3;
    /// Changes of several feeds in one.
    pub const UNIONED_FEED: u64 = 4;
    /// The feed carries `{state: ...}` documents.
    pub const INCLUDES_STATES: u64 = 5;
}

/// A query frame's JSON, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// `[1, term, {global optargs}]`
    Start {
        /// The term as sent.
        term: Value,
        /// Global optargs, each a term of its own.
        optargs: Map<String, Value>,
    },
    /// `[2]`
    Continue,
    /// `[3]`
    Stop,
    /// `[4]`
    NoreplyWait,
    /// `[5]`
    ServerInfo,
}

impl Query {
    /// Parses a query frame's JSON; the error is a sentence fit for a CLIENT_ERROR response.
    pub fn parse(json: &[u8]) -> Result<Query, String> {
        // JSON nested deeper than serde_json's limit is refused here rather than overflowing a stack later.
        let parsed: Value =
            serde_json::from_slice(json).map_err(|error| format!("The query is not valid JSON: {error}."))?;
        let Value::Array(parts) = parsed else {
            return Err("Expected a query to be a JSON array.".to_owned());
        };
        let mut parts = parts.into_iter();
        let kind = parts.next().and_then(|kind| kind.as_u64());
        match kind {
            Some(query_type::START) => {
                let term = parts.next().ok_or("A START query holds no term.")?;
                let optargs = match parts.next() {
                    None | Some(Value::Null) => Map::new(),
                    Some(Value::Object(optargs)) => optargs,
                    Some(_) => return Err("The global optargs of a query must be an object.".to_owned()),
                };
                Ok(Query::Start { term, optargs })
            }
            Some(query_type::CONTINUE) => Ok(Query::Continue),
            Some(query_type::STOP) => Ok(Query::Stop),
            Some(query_type::NOREPLY_WAIT) => Ok(Query::NoreplyWait),
            Some(query_type::SERVER_INFO) => Ok(Query::ServerInfo),
            _ => Err("Expected a query type between 1 and 5 as the first element of a query.".to_owned()),
        }
    }
}

/// A response frame's JSON.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Response {
    /// One of [`response_type`].
    pub t: u64,
    /// The values; for an error one sentence.
    #[serde(default)]
    pub r: Vec<Value>,
    /// One of [`error_type`], with a runtime error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e: Option<u64>,
    /// Where in the term an error happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b: Option<Value>,
    /// Of [`response_note`], with sequences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<Vec<u64>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn queries_are_taken_apart() {
        assert_eq!(
            Query::parse(br#"[1,[59,[]],{"db":[14,["t"]]}]"#),
            Ok(Query::Start {
                term: json!([59, []]),
                optargs: json!({"db": [14, ["t"]]}).as_object().cloned().expect("an object")
            })
        );
        assert_eq!(Query::parse(b"[1,3]"), Ok(Query::Start { term: json!(3), optargs: Map::new() }));
        assert_eq!(Query::parse(b"[4]"), Ok(Query::NoreplyWait));
        for bad in ["", "{}", "[]", "[1]", "[6]", "[1,2,3]", "[\"1\"]", "[1,2,{}"] {
            assert!(Query::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
