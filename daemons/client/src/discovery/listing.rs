//! Listings: all segments that fulfil a condition, out of the followed tables.
//!
//! A segment that exists and that nobody serves is waited for a little: a copy that is on its way is worth more than an
//! error. It is waited for once; one that has been missing for longer fails the next query at once.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use trough_core::SegmentId;

use super::{Discovery, DiscoveryError, Inner, Located, Phase, SegmentPattern, State, follow};

/// How many listings are kept.
const MAX_LISTINGS: usize = 4;
/// The greatest part of a query's time that is left for the query itself when waiting ends.
const LEFT_FOR_QUERY: Duration = Duration::from_secs(1);

/// A listing that stands while neither version nor liveness changes.
pub(super) struct Listing {
    key: String,
    version: u64,
    liveness: u64,
    located: Located,
    missing_since: Option<Instant>,
}

impl Discovery {
    /// Where every segment that fulfils the condition can be read; `missing` names those that exist and that nobody serves, after waiting for
    /// them for up to [`super::DiscoveryOptions::settle`]. A condition that names its segments is looked up; any other makes the
    /// tables be followed.
    ///
    /// # Errors
    /// [`DiscoveryError`] if the first listing fails.
    pub async fn all(&self, pattern: &SegmentPattern) -> Result<Located, DiscoveryError> {
        match pattern.named() {
            Some(segments) => self.find(&segments).await,
            None => self.listed(pattern, None).await,
        }
    }

    /// As [`Discovery::all`], but as things stand: nothing that is missing is waited for.
    ///
    /// # Errors
    /// As [`Discovery::all`].
    pub async fn all_now(&self, pattern: &SegmentPattern) -> Result<Located, DiscoveryError> {
        match pattern.named() {
            Some(segments) => self.find(&segments).await,
            None => {
                self.ensure_followed().await?;
                Ok(self.listing(pattern).0)
            }
        }
    }

    /// [`Discovery::all`] for a condition that does not name its segments; waiting ends well before the deadline.
    pub(crate) async fn listed(
        &self,
        pattern: &SegmentPattern,
        deadline: Option<Instant>,
    ) -> Result<Located, DiscoveryError> {
        self.ensure_followed().await?;
        let mut changed = self.inner.changed.subscribe();
        let (first, since) = self.listing(pattern);
        let Some(since) = since else { return Ok(first) };
        let now = Instant::now();
        let in_time = deadline.map(|d| {
            let left = d.saturating_duration_since(now);
            now + left.saturating_sub(LEFT_FOR_QUERY.min(left / 4))
        });
        let settled = since + self.inner.options.settle;
        let limit = in_time.map_or(settled, |t| t.min(settled));
        let mut located = first.clone();
        while !located.missing.is_empty() && Instant::now() < limit {
            let mut pending = located.missing.to_vec();
            let served = async {
                loop {
                    changed.borrow_and_update();
                    // The sender lives as long as this discovery.
                    if self.inner.state.write().all_served(&mut pending) || changed.changed().await.is_err() {
                        return;
                    }
                }
            };
            // Whatever ends the waiting, the listing says what came of it.
            let _ = tokio::time::timeout_at(limit.into(), served).await;
            located = self.listing(pattern).0;
            // What came into being since the call, as provisioning goes on, is no part of this listing until it is served.
            located.missing = Arc::new(there_before(&first, &located.missing));
        }
        Ok(located)
    }

    /// The listing as things stand, and since when the longest missing segment is missing.
    fn listing(&self, pattern: &SegmentPattern) -> (Located, Option<Instant>) {
        let key = pattern.key();
        let mut state = self.inner.state.write();
        let state = &mut *state;
        let view = state.view();
        let (version, liveness) = (state.version, view.liveness());
        if let Some(kept) =
            state.listings.iter().find(|l| l.key == key && l.version == version && l.liveness == liveness)
        {
            // Numbers of addresses never change, so the entries stand while loads move on.
            let located = Located { endpoints: view.endpoints.clone(), ..kept.located.clone() };
            return (located, kept.missing_since);
        }
        let State { followed, nodes, .. } = state;
        let listed = followed
            .as_mut()
            .map(|f| f.list(|id| pattern.matches(id), &view, |node| nodes.own_endpoint(node)))
            .unwrap_or_default();
        let missing_since = listed.missing_since;
        let located = Located {
            endpoints: view.endpoints.clone(),
            entries: Arc::new(listed.entries),
            missing: Arc::new(listed.missing),
            named: Arc::default(),
        };
        state.listings.retain(|l| l.key != key);
        if state.listings.len() >= MAX_LISTINGS {
            state.listings.remove(0);
        }
        state.listings.push(Listing { key, version, liveness, located: located.clone(), missing_since });
        (located, missing_since)
    }

    /// The tables are followed from here on, and have been read once.
    async fn ensure_followed(&self) -> Result<(), DiscoveryError> {
        let mut phase = self.inner.phase.subscribe();
        if matches!(*phase.borrow(), Phase::Ready) {
            return Ok(());
        }
        self.ensure_nodes().await?;
        {
            let weak: Weak<Inner> = Arc::downgrade(&self.inner);
            let mut tasks = self.inner.tasks.lock();
            tasks.table.get_or_insert_with(|| tokio::spawn(follow::table(weak)).abort_handle());
        }
        let limit = self.inner.options.load_timeout;
        let settled = tokio::time::timeout(limit, phase.wait_for(|p| !matches!(p, Phase::Starting))).await;
        match settled.as_ref().map(|p| p.as_ref().map(|p| (**p).clone())) {
            Ok(Ok(Phase::Failed(why))) => Err(DiscoveryError::Listing(why)),
            Ok(_) => Ok(()),
            Err(_) => Err(DiscoveryError::Timeout(limit)),
        }
    }
}

impl State {
    /// Takes from the end of `pending` what is served or gone; whether nothing is left. A segment is looked at once it is the last, so that
    /// all calls together look at each about once.
    fn all_served(&mut self, pending: &mut Vec<SegmentId>) -> bool {
        let view = self.view();
        let Self { followed, nodes, .. } = self;
        let Some(followed) = followed else { return true };
        while let Some(segment) = pending.last() {
            if followed.is_missing(segment, &view, |node| nodes.own_endpoint(node)) {
                return false;
            }
            pending.pop();
        }
        true
    }
}

/// Those of `missing` that the first listing had, served or not.
fn there_before(first: &Located, missing: &[SegmentId]) -> Vec<SegmentId> {
    if missing.is_empty() {
        return Vec::new();
    }
    let wanted: HashSet<&SegmentId> = missing.iter().collect();
    let known = first.missing.iter().chain(first.entries.iter().map(|(segment, _)| segment));
    known.filter(|segment| wanted.contains(segment)).cloned().collect()
}
