//! What discovery knows, for people who ask: counts and ages, nothing that queries depend on.

use std::time::Instant;

use super::{Discovery, Endpoint};

/// What is known at a moment.
#[derive(Clone, Debug)]
pub struct Known {
    /// The addresses of workers, with what this process did with each, and whether its lease runs.
    pub workers: Vec<(Endpoint, bool)>,
    /// Whether the workers' leases are being followed; they are not judged while the database cannot be asked.
    pub connected: bool,
    /// The number of segments in the followed tables, and since when they were built; none until a listing was asked for.
    pub followed: Option<(usize, Instant)>,
    /// Segments that were looked up by name and are kept.
    pub looked_up: usize,
    /// Listings that are kept.
    pub listings: usize,
}

impl Discovery {
    /// What is known now.
    pub fn known(&self) -> Known {
        let mut state = self.inner.state.write();
        let view = state.view();
        Known {
            workers: view.endpoints.iter().enumerate().map(|(n, e)| (e.clone(), view.is_live(n as u32))).collect(),
            connected: state.nodes.connected,
            followed: state.followed.as_ref().map(|f| (f.len(), f.born())),
            looked_up: state.cached.len(),
            listings: state.listings.len(),
        }
    }
}
