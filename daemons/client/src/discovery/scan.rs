//! A listing that is read and forgotten: the served segments in the order of their ids, in memory that does not grow with their
//! number. What of it is to be queried next is kept by [`Discovery::remember`], so that the query looks nothing up.

use std::{sync::Arc, time::Instant};

use futures::StreamExt;
use trough_core::{
    NodeId, SegmentId,
    records::{Lock, ROLE_READ, ROLE_WRITE, Service},
};

use super::{Cached, Copy, Discovery, DiscoveryError, SegmentPattern, State, table::Refs};
use crate::catalog::{CatalogError, MAX_KEYS, Rows};

/// A segment that somebody serves.
#[derive(Clone, Debug)]
pub struct Served {
    /// Which.
    pub segment: SegmentId,
    /// The living copies, of both tiers.
    pub copies: Vec<Copy>,
    /// Every address that a row names.
    refs: Refs,
}

/// Served segments in the order of their ids, as the database gives them.
pub struct Scan {
    discovery: Discovery,
    rows: Rows<Service>,
    matching: SegmentPattern,
    /// The rows of the segment that is being read.
    group: Vec<Service>,
    over: bool,
}

impl Discovery {
    /// The served segments whose ids fulfil the condition, in the order of the ids, a page at a time. Nothing of it is kept.
    ///
    /// # Errors
    /// [`DiscoveryError`] if the database cannot be asked.
    pub async fn scan(&self, matching: SegmentPattern) -> Result<Scan, DiscoveryError> {
        let catalog = self.inner.catalog.clone();
        let (rows, ()) = futures::try_join!(
            async { catalog.services_in_order(&matching.literal_prefix()).await.map_err(failed) },
            self.ensure_nodes()
        )?;
        Ok(Scan { discovery: self.clone(), rows, matching, group: Vec::new(), over: false })
    }

    /// Keeps where the segments are served, for [`super::DiscoveryOptions::ttl`]. Their write locks are looked up for it.
    ///
    /// # Errors
    /// [`DiscoveryError`] if the locks cannot be read.
    pub async fn remember(&self, served: &[Served]) -> Result<(), DiscoveryError> {
        let segments: Vec<SegmentId> = served.iter().map(|s| s.segment.clone()).collect();
        let mut locks = Vec::new();
        for batch in segments.chunks(MAX_KEYS) {
            locks.extend(self.inner.catalog.look_up_locks(batch).await.map_err(failed)?);
        }
        self.inner.state.write().keep(served, locks, self.inner.options.max_cached);
        Ok(())
    }
}

fn failed(error: CatalogError) -> DiscoveryError {
    Arc::new(error).into()
}

impl Scan {
    /// At most `most` further segments, and fewer where the next would have to be waited for; none at the end.
    ///
    /// # Errors
    /// [`DiscoveryError`] if the database fails.
    pub async fn next_page(&mut self, most: usize) -> Result<Option<Vec<Served>>, DiscoveryError> {
        let mut page = Vec::new();
        while page.len() < most && !self.over {
            // What the database has sent already belongs to this page; waiting is for the first segment only.
            let row = match futures::poll!(self.rows.next()) {
                std::task::Poll::Ready(row) => row,
                std::task::Poll::Pending if page.is_empty() => self.rows.next().await,
                std::task::Poll::Pending => break,
            };
            match row.transpose().map_err(failed)? {
                Some(row) => page.extend(self.take(row)),
                None => {
                    self.over = true;
                    page.extend(self.finish_group());
                }
            }
        }
        Ok((!page.is_empty()).then_some(page))
    }

    /// Takes a row in; the segment before, if this is the first row of another.
    fn take(&mut self, row: Service) -> Option<Served> {
        let fits = row.segment.as_ref().is_some_and(|s| self.matching.matches(s.as_str()));
        if !fits {
            return None;
        }
        let another = self.group.first().is_some_and(|first| first.segment != row.segment);
        let before = another.then(|| self.finish_group()).flatten();
        self.group.push(row);
        before
    }

    fn finish_group(&mut self) -> Option<Served> {
        let rows = std::mem::take(&mut self.group);
        self.discovery.inner.state.write().served(&rows)
    }
}

impl State {
    /// What the rows of one segment say; none if no living node serves it.
    fn served(&mut self, rows: &[Service]) -> Option<Served> {
        let segment = rows.first()?.segment.clone()?;
        let has_role = |row: &&Service, role: &str| row.role.as_deref() == Some(role);
        let writer: Option<NodeId> =
            rows.iter().filter(|row| has_role(row, ROLE_WRITE) && self.row_lives(row)).find_map(|row| row.node.clone());
        let living: Vec<&Service> = rows.iter().filter(|row| has_role(row, ROLE_READ) && self.row_lives(row)).collect();
        let mut refs = Refs::default();
        for row in living {
            if let (Some(node), Some(url)) = (&row.node, &row.url) {
                refs.insert(self.nodes.endpoint(node, url));
            }
        }
        let view = self.view();
        let copies: Vec<Copy> = refs
            .as_slice()
            .iter()
            .filter(|n| view.is_live(**n))
            .map(|n| {
                let e = &view.endpoints[*n as usize];
                Copy {
                    node: e.node.id.clone(),
                    read_url: e.url.clone(),
                    load: e.load,
                    cold: e.cold,
                    writable: writer.as_ref() == Some(&e.node.id),
                }
            })
            .collect();
        (!copies.is_empty()).then_some(Served { segment, copies, refs })
    }

    fn keep(&mut self, served: &[Served], locks: Vec<Lock>, max: usize) {
        self.version += 1;
        let at = Instant::now();
        if self.cached.len() + served.len() > max {
            self.cached.clear();
        }
        for one in served {
            let kept = Cached { copies: one.refs.clone(), holder: None, at };
            self.cached.insert(one.segment.clone(), kept);
        }
        for lock in locks {
            if let Some(kept) = self.cached.get_mut(&lock.segment) {
                kept.holder = Some(lock.node);
            }
        }
    }
}
