//! .
use crate::engine::*;
use std::{path::*, sync::Arc};
use trough_core::*;
/// A checked copy of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The copy.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// The segment's own mtime when the copy was taken, in milliseconds since 1970.
    pub mtime_ms: i64,
    /// The copy's SHA-256, in lower-case hex.
    pub sha256: String,
    /// Which state of the segment it is, for [`Engine::settle`].
    pub(crate) writes: u64,
}
pub(crate) struct Header {
    pub(crate) wal: bool,
}
pub(crate) fn header(_p: &Path) -> Result<Header, String> {
    Err(String::new())
}
pub(crate) fn check(_p: &Path) -> Result<(), SegmentError> {
    Ok(())
}
fn no() -> SegmentError {
    SegmentError::new(ErrorCode::Internal, "")
}
pub(crate) async fn snapshot(_i: &Arc<Inner>, _s: SegmentFile, _d: PathBuf) -> Result<Snapshot, SegmentError> {
    Err(no())
}
pub(crate) async fn settle(_i: &Arc<Inner>, _s: SegmentFile, _d: Snapshot, _m: i64) -> Result<bool, SegmentError> {
    Err(no())
}
pub(crate) async fn seal(_i: &Arc<Inner>, _s: SegmentFile) -> Result<bool, SegmentError> {
    Err(no())
}
pub(crate) async fn replace(_i: &Arc<Inner>, _s: SegmentFile, _d: PathBuf) -> Result<(), SegmentError> {
    Err(no())
}
pub(crate) async fn remove(_i: &Arc<Inner>, _s: SegmentFile) -> Result<(), SegmentError> {
    Err(no())
}
