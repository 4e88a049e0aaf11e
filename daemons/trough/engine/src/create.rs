//! .
pub(crate) fn create_many(
    p: &[std::path::PathBuf],
    _s: &str,
    _l: &crate::options::Limits,
) -> Vec<Result<u64, trough_core::SegmentError>> {
    p.iter().map(|_| Ok(0)).collect()
}
