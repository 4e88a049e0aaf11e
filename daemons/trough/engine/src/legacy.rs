//! .
use crate::engine::*;
pub(crate) async fn read(
    _i: &std::sync::Arc<Inner>,
    _s: SegmentFile,
    _q: String,
    _c: tokio_util::sync::CancellationToken,
) -> Result<crate::stream::ByteStream, trough_core::SegmentError> {
    Err(crate::errors::pool_gone())
}
