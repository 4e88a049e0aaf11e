//! What a client makes of an answer, without a connection.

use bytes::Bytes;
use serde_json::Value;

use crate::cursor::{Answer, decode};

/// The values of an answer's JSON, and whether more are to come; each may fail by itself.
///
/// # Errors
/// What the answer says went wrong, or why it is none.
pub fn answer(body: &[u8]) -> Result<(Vec<Result<Value, String>>, bool), String> {
    match decode::<Value>(&Bytes::copy_from_slice(body)).map_err(|e| e.to_string())? {
        Answer::Atom(value) => Ok((vec![Ok(value)], false)),
        Answer::Rows { rows, more } => Ok((rows.into_iter().map(|row| row.map_err(|e| e.to_string())).collect(), more)),
    }
}
