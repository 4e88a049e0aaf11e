//! .
use crate::engine::*;
pub(crate) async fn run(
    _i: &std::sync::Arc<Inner>,
    _s: Vec<Result<SegmentFile, trough_core::SegmentError>>,
    _q: trough_core::wire::QueryRequest,
    _f: crate::Format,
    _c: tokio_util::sync::CancellationToken,
) -> crate::stream::ByteStream {
    whole(vec![])
}
