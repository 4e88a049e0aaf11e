//! What a write did.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The counters of a write, in documents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WriteSummary {
    /// New documents.
    pub inserted: u64,
    /// Documents that changed.
    pub replaced: u64,
    /// Documents that were already as wished.
    pub unchanged: u64,
    /// Rows that were not there.
    pub skipped: u64,
    /// Documents that went.
    pub deleted: u64,
    /// Documents that were refused.
    pub errors: u64,
    /// Why one of them was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
    /// `{old_val, new_val}` of each document, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<Value>>,
    /// Primary keys that the server chose.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub generated_keys: Vec<String>,
    /// Such as: too many keys were chosen to list them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
