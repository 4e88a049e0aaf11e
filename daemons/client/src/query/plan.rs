//! Which worker is asked for which segments.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt};
use trough_core::SegmentId;

use super::{
    LeftOut, QueryError, QueryOptions, SegmentSet, Shared,
    exchange::{Chunk, Past, Target},
    skip,
};
use crate::{
    catalog::{CatalogError, MAX_KEYS},
    discovery::{Endpoint, Located, Refs, SegmentPattern, pick, pick_home},
};

/// What planning gave.
pub(super) struct Planned {
    pub(super) chunks: Vec<Chunk>,
    pub(super) segments: u64,
    /// Segments that do not exist, or failed for good.
    pub(super) left_out: LeftOut,
}

/// Looks the segments of a new query up and cuts them into requests.
pub(super) async fn first(
    shared: Arc<Shared>,
    segments: SegmentSet,
    deadline: Option<Instant>,
) -> Result<Planned, QueryError> {
    let (named, pattern) = match segments {
        SegmentSet::Ids(ids) => {
            let mut seen = HashSet::with_capacity(ids.len());
            (Some(ids.into_iter().filter(|id| seen.insert(id.clone())).collect::<Vec<_>>()), SegmentPattern::All)
        }
        SegmentSet::Pattern(pattern) => (pattern.named(), pattern),
    };
    let (located, left_out) = match named {
        Some(ids) => {
            let located = shared.discovery.find(&ids).await?;
            let left_out = judge_missing(&shared, &located).await?;
            (located, left_out)
        }
        None => {
            let located = shared.discovery.listed(&pattern, deadline).await?;
            let left_out = judge_unserved(&shared, &located.missing).await?;
            (located, left_out)
        }
    };
    let segments = located.entries.len() as u64;
    Ok(Planned { chunks: chunks(&located, &shared), segments, left_out })
}

/// Those of the segments that exist by their rows, by an assignment or by a lock, whether anybody serves them or not.
async fn existing(shared: &Shared, segments: &[SegmentId]) -> Result<HashSet<SegmentId>, CatalogError> {
    let catalog = shared.discovery.catalog();
    let mut exist = HashSet::new();
    for batch in segments.chunks(MAX_KEYS) {
        let (rows, assigned, locked) = futures::try_join!(
            catalog.raw_services_of_segments(batch),
            catalog.assignments_of_segments(batch),
            catalog.locks_of_segments(batch)
        )?;
        exist.extend(rows.into_iter().filter_map(|r| r.segment));
        exist.extend(assigned.into_iter().map(|a| a.segment));
        exist.extend(locked.into_iter().map(|l| l.segment));
    }
    Ok(exist)
}

/// How many batches of assignments are looked up at a time.
const BATCHES: usize = 4;

/// Named segments that are missing and exist fail the query or are left out; so are those that do not exist. Rows and locks have
/// just been looked up.
async fn judge_missing(shared: &Shared, located: &Located) -> Result<LeftOut, QueryError> {
    let mut left_out = LeftOut::default();
    let missing = located.missing.as_slice();
    if missing.is_empty() {
        return Ok(left_out);
    }
    let mut exist = (*located.named).clone();
    let unnamed: Vec<SegmentId> = missing.iter().filter(|s| !exist.contains(*s)).cloned().collect();
    let batches: Vec<Vec<SegmentId>> = unnamed.chunks(MAX_KEYS).map(<[SegmentId]>::to_vec).collect();
    let catalog = shared.discovery.catalog();
    let assigned = futures::stream::iter(batches)
        .map(|batch| async move { catalog.assignments_of_segments(&batch).await })
        .buffer_unordered(BATCHES)
        .try_concat();
    let assigned = assigned.await.map_err(|e| QueryError::Discovery(Arc::new(e).into()))?;
    exist.extend(assigned.into_iter().map(|a| a.segment));
    unserved(shared, missing.iter().filter(|s| exist.contains(*s)), &mut left_out)?;
    let unknown = || missing.iter().filter(|s| !exist.contains(*s));
    match unknown().next() {
        Some(first) if shared.options.unknown_is_error => {
            return Err(QueryError::Unknown { first: first.clone(), count: missing.len() - exist.len() });
        }
        _ => left_out.unknown(unknown()),
    }
    Ok(left_out)
}

/// Listed segments that nobody serves fail the query or are left out; those that have been shredded since are neither.
async fn judge_unserved(shared: &Shared, missing: &[SegmentId]) -> Result<LeftOut, QueryError> {
    let mut left_out = LeftOut::default();
    if missing.is_empty() {
        return Ok(left_out);
    }
    match existing(shared, missing).await {
        Ok(exist) => unserved(shared, missing.iter().filter(|s| exist.contains(*s)), &mut left_out)?,
        Err(error) => {
            tracing::warn!(%error, "missing segments cannot be looked up; the listing is believed");
            unserved(shared, missing.iter(), &mut left_out)?;
        }
    }
    Ok(left_out)
}

/// Segments that exist and that nobody serves.
fn unserved<'a>(
    shared: &Shared,
    segments: impl Iterator<Item = &'a SegmentId> + Clone,
    left_out: &mut LeftOut,
) -> Result<(), QueryError> {
    let Some(first) = segments.clone().next() else { return Ok(()) };
    if !shared.options.skip_failed {
        return Err(QueryError::Unserved { first: first.clone(), count: segments.count() });
    }
    for segment in segments {
        left_out.fail(segment.clone(), QueryError::Unserved { first: segment.clone(), count: 1 });
    }
    Ok(())
}

/// A query of so many segments is a wide one.
const WIDE: usize = 64;

/// Picks a copy of each segment and cuts each worker's share into even requests, the workers' turns alternating.
fn chunks(located: &Located, shared: &Shared) -> Vec<Chunk> {
    let mut planned = vec![0u32; located.endpoints.len()];
    let mut shares: Vec<Vec<u32>> = vec![Vec::new(); located.endpoints.len()];
    // A few segments go to whoever has least to do; many spread by themselves, and go where they were asked before.
    let wide = located.entries.len() >= WIDE;
    for (i, (segment, copies)) in located.entries.iter().enumerate() {
        let choice = if wide {
            pick_home(&located.endpoints, copies, &planned, segment)
        } else {
            pick(&located.endpoints, copies, &planned, |_| true)
        };
        if let Some(n) = choice {
            planned[n as usize] += 1;
            shares[n as usize].push(i as u32);
        }
    }
    let limit = per_request(shared);
    let growing = shared.options.enough_rows.is_some() || shared.options.tell_done;
    let mut cut: Vec<std::vec::IntoIter<Chunk>> = Vec::new();
    for (endpoint, share) in located.endpoints.iter().zip(shares).filter(|(_, share)| !share.is_empty()) {
        let target = |i: &u32| Target { segment: located.entries[*i as usize].0.clone(), past: None };
        let chunk = |part: &[u32]| Chunk { endpoint: endpoint.clone(), targets: part.iter().map(target).collect() };
        cut.push(parts(&share, limit, growing).map(chunk).collect::<Vec<_>>().into_iter());
    }
    let mut all = Vec::new();
    while !cut.is_empty() {
        cut.retain_mut(|chunks| chunks.next().map(|chunk| all.push(chunk)).is_some());
    }
    all
}

/// Where a few rows may be enough, or the first are wanted soon, a worker is first asked for so many segments, then each time for [`GROWTH`]
/// times more.
const FIRST: usize = 4;
const GROWTH: usize = 4;

/// Cuts a worker's share into even requests, or into growing ones.
fn parts(share: &[u32], limit: usize, growing: bool) -> impl Iterator<Item = &[u32]> {
    let mut each = if growing { FIRST } else { share.len().div_ceil(share.len().div_ceil(limit)) };
    let mut rest = share;
    std::iter::from_fn(move || {
        let (part, after) = rest.split_at(each.min(limit).min(rest.len()));
        rest = after;
        if growing {
            each = (each * GROWTH).min(limit);
        }
        (!part.is_empty()).then_some(part)
    })
}

fn per_request(shared: &Shared) -> usize {
    let QueryOptions { segments_per_request, segments_per_reduce, .. } = shared.options;
    let limit = if shared.template.reduce.is_some() { segments_per_reduce } else { segments_per_request };
    limit.max(1)
}

/// A segment to be asked again.
pub(super) struct Again {
    pub(super) target: Target,
    pub(super) past: Past,
    /// The error, should there be nobody left to ask.
    pub(super) error: QueryError,
    /// Where a worker said that it is.
    pub(super) moved_to: Option<String>,
    /// Whether it must be looked up anew.
    pub(super) look_up: bool,
    /// Whether only copies that were not asked yet are worth asking.
    pub(super) others_only: bool,
}

/// Finds other copies for segments that failed, after a pause that grows with the attempts.
pub(super) async fn again(shared: Arc<Shared>, failed: Vec<Again>) -> Result<Planned, QueryError> {
    let worst = failed.iter().map(|a| if a.moved_to.is_some() { 0 } else { a.past.attempts }).max().unwrap_or(0);
    if worst > 1 {
        tokio::time::sleep(Duration::from_millis(25 << worst.min(6))).await;
    }
    let look_up: Vec<SegmentId> = failed.iter().filter(|a| a.look_up).map(|a| a.target.segment.clone()).collect();
    if !look_up.is_empty()
        && let Err(error) = shared.discovery.refresh(&look_up).await
    {
        tracing::warn!(%error, "segments cannot be looked up anew; what was known is used");
    }
    let ids: Vec<SegmentId> = failed.iter().map(|a| a.target.segment.clone()).collect();
    let located = shared.discovery.find(&ids).await?;
    let mut left_out = judge_missing(&shared, &located).await?;

    let mut chunks: Vec<Chunk> = Vec::new();
    let limit = per_request(&shared);
    let mut planned = vec![0u32; located.endpoints.len()];
    let copies_of: HashMap<&SegmentId, &Refs> = located.entries.iter().map(|(s, refs)| (s, refs)).collect();
    for one in failed {
        let Again { mut target, mut past, error, moved_to, others_only, .. } = one;
        let entry = copies_of.get(&target.segment);
        let endpoint: Endpoint = match (moved_to, entry) {
            (Some(url), _) => shared.discovery.endpoint_of_url(&url),
            (None, None) => continue,
            (None, Some(copies)) => {
                let fresh = |e: &Endpoint| !past.tried.contains(&e.url);
                let any = |_: &Endpoint| !others_only;
                let next = pick(&located.endpoints, copies, &planned, fresh)
                    .or_else(|| pick(&located.endpoints, copies, &planned, any));
                let Some(n) = next else {
                    if !skip::may_skip(error.code(), &shared.options) {
                        return Err(error);
                    }
                    left_out.fail(target.segment, error);
                    continue;
                };
                planned[n as usize] += 1;
                located.endpoints[n as usize].clone()
            }
        };
        past.tried.push(endpoint.url.clone());
        target.past = Some(Box::new(past));
        match chunks.iter_mut().find(|c| c.endpoint.url == endpoint.url && c.targets.len() < limit) {
            Some(chunk) => chunk.targets.push(target),
            None => chunks.push(Chunk { endpoint, targets: vec![target] }),
        }
    }
    Ok(Planned { chunks, segments: 0, left_out })
}
