//! .
use crate::engine::*;
use trough_core::{wire::*, *};
pub(crate) enum Work {
    Script(String),
    Statements(Vec<WriteStatement>),
}
pub(crate) struct Writers;
impl Writers {
    pub(crate) fn new(_n: usize) -> Self {
        Self
    }
    pub(crate) fn is_open(&self, _i: &SegmentId) -> bool {
        false
    }
    pub(crate) fn stats(&self, _s: &mut EngineStats) {}
}
pub(crate) async fn submit(_i: &std::sync::Arc<Inner>, _s: SegmentFile, _w: Work, _g: Guard) -> WriteResult {
    WriteResult::Err { error: crate::errors::pool_gone() }
}
