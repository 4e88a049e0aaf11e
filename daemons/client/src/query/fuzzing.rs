//! What is read of Python workers' answers, without a network.

use trough_core::SegmentError;

use super::python;

/// Names of the columns, number of rows, and their values in MessagePack.
///
/// # Errors
/// Why the body is no answer.
pub fn python_rows(body: &[u8]) -> Result<(Vec<String>, u32, Vec<u8>), SegmentError> {
    python::rows(body).map(|rows| (rows.columns, rows.count, rows.data))
}
