//! Workers of the Python trough, which run plain SQLite only: where a segment lives on nobody else, what relies on functions of ours
//! cannot be sent.

use std::time::Instant;

use trough_core::{NodeId, SegmentId};

use super::{Discovery, DiscoveryError, SegmentPattern};

impl Discovery {
    /// Whether a worker of the Python trough lives; none if the workers have not been asked for yet.
    pub fn has_python(&self) -> Option<bool> {
        let state = self.inner.state.read();
        state.clock.is_some().then(|| state.nodes.python_lives(Instant::now()))
    }

    /// As [`Discovery::has_python`], after the workers were asked for.
    ///
    /// # Errors
    /// [`DiscoveryError`] if the database cannot be asked.
    pub async fn find_python(&self) -> Result<bool, DiscoveryError> {
        self.ensure_nodes().await?;
        Ok(self.has_python().unwrap_or(false))
    }

    /// The first of the segments that fulfil the condition of which every copy that may be asked is on a worker of the Python trough, and
    /// one of these workers.
    ///
    /// # Errors
    /// [`DiscoveryError`] if the first listing fails.
    pub async fn python_alone(&self, pattern: &SegmentPattern) -> Result<Option<(SegmentId, NodeId)>, DiscoveryError> {
        let located = self.all_now(pattern).await?;
        let endpoint = |n: &u32| &located.endpoints[*n as usize];
        let alone = located.entries.iter().filter(|(_, copies)| copies.as_slice().iter().all(|n| endpoint(n).legacy));
        let first = alone.min_by(|(a, _), (b, _)| a.cmp(b));
        Ok(first.and_then(|(segment, copies)| {
            Some((segment.clone(), endpoint(copies.as_slice().first()?).node.id.clone()))
        }))
    }
}
