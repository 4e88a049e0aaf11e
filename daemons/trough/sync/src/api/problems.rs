//! `GET /v1/problems`: segments that somebody may have to look after, each with the reason and what to do. Paged: the work
//! of one answer grows with what is wrong, not with the segments that there are.

use std::sync::Arc;

use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use trough_core::{NodeId, SegmentId, records::Lock};

use super::{Api, answer};
use crate::{
    reports::{self, Broken},
    view::{Needy, Stale},
};

/// The most that one answer lists.
const MOST: usize = 500;
/// Seconds after which a write lock counts as held long.
const LONG: f64 = 3_600.0;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    UnderReplicated,
    Missing,
    Stale,
    Quarantined,
    CopyFailed,
    Locked,
}

#[derive(Debug, PartialEq, Serialize)]
struct Problem {
    segment: SegmentId,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<NodeId>,
    reason: String,
    action: String,
    /// Since when, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<f64>,
}

/// Where a problem stands in its list: what comes first, then the segment, then the node.
type Place = (u64, String, String);

/// A list from which one page is taken.
struct Page {
    after: Option<Place>,
    limit: usize,
    matching: Option<regex::Regex>,
    found: Vec<(Place, Problem)>,
}

impl Page {
    /// Takes the entries in whatever order they come; only those that may be on the page are made.
    fn take<T>(&mut self, all: impl Iterator<Item = T>, place: impl Fn(&T) -> Place, make: impl Fn(T) -> Problem) {
        for entry in all {
            let at = place(&entry);
            let wanted = self.after.as_ref().is_none_or(|after| at > *after)
                && self.matching.as_ref().is_none_or(|pattern| pattern.is_match(&at.1));
            if !wanted {
                continue;
            }
            // One more than the page holds, so that it is known whether another follows.
            let full = self.found.len() > self.limit;
            if full && self.found.last().is_some_and(|(last, _)| at >= *last) {
                continue;
            }
            let slot = self.found.partition_point(|(other, _)| *other < at);
            self.found.insert(slot, (at, make(entry)));
            self.found.truncate(self.limit + 1);
        }
    }

    fn end(mut self) -> (Vec<Problem>, Option<String>) {
        let more = self.found.len() > self.limit;
        self.found.truncate(self.limit);
        let next = self.found.last().filter(|_| more).and_then(|(place, _)| serde_json::to_string(place).ok());
        (self.found.into_iter().map(|(_, problem)| problem).collect(), next)
    }
}

#[derive(Deserialize)]
pub(super) struct Wish {
    kind: Option<Kind>,
    after: Option<String>,
    limit: Option<usize>,
    matching: Option<String>,
    /// Seconds after which a write lock is listed.
    locked_for: Option<f64>,
}

/// Counts of every kind, and one page of the kind that was asked for.
pub(super) async fn list(State(api): State<Arc<Api>>, Query(wish): Query<Wish>) -> Response {
    let matching = match wish.matching.as_deref().filter(|text| !text.is_empty()).map(regex::Regex::new).transpose() {
        Ok(matching) => matching,
        Err(e) => return answer::error(&answer::bad(format!("matching: {e}"))),
    };
    let after = match wish.after.as_deref().map(serde_json::from_str::<Place>).transpose() {
        Ok(after) => after,
        Err(_) => return answer::error(&answer::bad("after: give the \"next\" of an earlier answer")),
    };
    let mut page = Page { after, limit: wish.limit.unwrap_or(50).clamp(1, MOST), matching, found: Vec::new() };
    let (reports, nodes) = match (api.reports.get(&api.context).await, api.context.nodes().await) {
        (Ok(reports), Ok(nodes)) => (reports, nodes),
        (Err(e), _) | (_, Err(e)) => return answer::error(&answer::of_catalog(e)),
    };
    let view = api.context.view.read().clone();
    let now = crate::view::now();
    let long = wish.locked_for.unwrap_or(LONG);
    let is_alive = |node: &NodeId| nodes.iter().any(|n| n.alive && n.node() == Some(node));
    let broken = || {
        let kept = |said: &reports::Said| -> Vec<Broken> {
            // What is still in its place is not kept aside again for every look.
            let mut all = said.quarantine.clone();
            all.extend(said.broken.iter().filter(|b| said.quarantine.iter().all(|q| q.segment != b.segment)).cloned());
            all
        };
        reports.said.iter().flat_map(move |(node, said)| kept(said).into_iter().map(move |b| (node, b)))
    };
    let failed = || reports.said.iter().flat_map(|(node, said)| said.copies.failed.iter().map(move |f| (node, f)));
    let locks = api.context.locks.read();
    let held_long = |lock: &&Lock| held_for(lock, now) >= long || !is_alive(&lock.node);
    let counts = json!({
        "under_replicated": view.summary.under_replicated,
        "missing": view.missing_count,
        "stale": view.stale_count,
        "quarantined": broken().count(),
        "copy_failed": failed().count(),
        "locked": locks.iter().filter(held_long).count(),
    });
    match wish.kind {
        None => {}
        Some(Kind::UnderReplicated) => page.take(
            view.listed.needy.iter(),
            |n| (n.live as u64, n.segment.to_string(), String::new()),
            under_replicated,
        ),
        Some(Kind::Missing) => page.take(view.missing.iter(), |s| (0, s.to_string(), String::new()), missing),
        Some(Kind::Stale) => page.take(
            view.listed.stale.iter(),
            |s| (s.canonical_ms.max(0) as u64, s.segment.to_string(), s.node.to_string()),
            stale,
        ),
        Some(Kind::Quarantined) => {
            // The newest first.
            let rank = |b: &Broken| u64::MAX - b.at_ms.unwrap_or(i64::MAX).max(0) as u64;
            page.take(broken(), |(node, b)| (rank(b), b.segment.to_string(), node.to_string()), quarantined);
        }
        Some(Kind::CopyFailed) => page.take(
            failed(),
            |(node, f)| (u64::MAX - f.attempts, f.segment.to_string(), node.to_string()),
            |(node, f)| Problem {
                segment: f.segment.clone(),
                node: Some(node.clone()),
                reason: format!("{} (tried {})", f.error, times(f.attempts)),
                action: "it is tried again by itself; look at the canonical file and at the worker's disk".to_owned(),
                since: None,
            },
        ),
        Some(Kind::Locked) => page.take(
            locks.iter().filter(held_long),
            |l| {
                let since = l.acquired_on.as_ref().map_or(0.0, |t| t.epoch_time);
                (u64::from(is_alive(&l.node)) << 40 | since.max(0.0) as u64, l.segment.to_string(), String::new())
            },
            |l| locked(l, is_alive(&l.node)),
        ),
    }
    drop(locks);
    let (problems, next) = page.end();
    let document = json!({
        "counts": counts, "kind": wish.kind, "problems": problems, "next": next, "silent": reports.silent,
        "pageable": crate::view::LISTED,
    });
    answer::json(StatusCode::OK, &document)
}

fn held_for(lock: &Lock, now: f64) -> f64 {
    lock.acquired_on.as_ref().map_or(0.0, |t| now - t.epoch_time)
}

fn times(n: u64) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}

fn under_replicated(n: &Needy) -> Problem {
    let mut reason = match n.live {
        0 => format!("no live copy of {}", n.wanted),
        live => format!("{live} of {} copies live", n.wanted),
    };
    if n.coming > 0 {
        reason.push_str(&format!(", {} on the way", n.coming));
    }
    if n.away > 0 {
        reason.push_str(&format!(", {} on workers that are away", n.away));
    }
    let action = match (n.coming, n.away) {
        (1.., _) => "wait for the copy; if it fails, it is listed among the failed copies",
        (0, 1..) => "bring the worker back; after MOVE_GRACE the copies are made anew elsewhere",
        (0, 0) => "it is placed soon; if not, look for workers that are alive and have room",
    };
    Problem { segment: n.segment.clone(), node: None, reason, action: action.to_owned(), since: None }
}

fn missing(segment: &SegmentId) -> Problem {
    Problem {
        segment: segment.clone(),
        node: None,
        reason: "there are copies, but no file in the canonical store".to_owned(),
        action: "promote it again where it is served, or restore its file, or shred it".to_owned(),
        since: None,
    }
}

fn stale(s: &Stale) -> Problem {
    Problem {
        segment: s.segment.clone(),
        node: Some(s.node.clone()),
        reason: "the copy is older than the canonical file".to_owned(),
        action: "it is replaced by itself; if it stays, look for it among the failed copies".to_owned(),
        since: Some(s.canonical_ms as f64 / 1000.0),
    }
}

fn quarantined((node, broken): (&NodeId, Broken)) -> Problem {
    let action = match &broken.file {
        Some(file) => format!(
            "it was withdrawn and is fetched again where it is assigned; the broken file is quarantine/{file} in the worker's \
             LOCAL_DATA: look at it, check the disk, then remove it"
        ),
        None => "it is fetched again where it is assigned; check the worker's disk".to_owned(),
    };
    Problem {
        segment: broken.segment,
        node: Some(node.clone()),
        reason: broken.reason,
        action,
        since: broken.at_ms.map(|ms| ms as f64 / 1000.0),
    }
}

fn locked(lock: &Lock, alive: bool) -> Problem {
    let (reason, action) = match (alive, lock.under_promotion) {
        (false, _) => (
            "its holder is away, and has what was written since the last promotion",
            "bring the worker back with its LOCAL_DATA; only if that is lost, delete the lock's row",
        ),
        (true, true) => ("it is being promoted", "wait for the promotion"),
        (true, false) => ("it is open for writing", "promote it when its writer is done"),
    };
    Problem {
        segment: lock.segment.clone(),
        node: Some(lock.node.clone()),
        reason: reason.to_owned(),
        action: action.to_owned(),
        since: lock.acquired_on.as_ref().map(|t| t.epoch_time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(after: Option<Place>, limit: usize, matching: Option<&str>) -> Page {
        let matching = matching.map(|m| regex::Regex::new(m).expect("a pattern"));
        Page { after, limit, matching, found: Vec::new() }
    }

    #[test]
    fn pages_follow_one_another_whatever_the_order_they_are_found_in() {
        let ids: Vec<SegmentId> = (0..25).rev().map(|n| SegmentId::new(&format!("s{n:02}")).expect("an id")).collect();
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let mut page = page(after, 10, None);
            page.take(ids.iter(), |s| (0, s.to_string(), String::new()), missing);
            let (problems, next) = page.end();
            seen.extend(problems.into_iter().map(|p| p.segment));
            match next {
                Some(next) => after = Some(serde_json::from_str(&next).expect("a place")),
                None => break,
            }
        }
        assert_eq!(seen, ids.iter().rev().cloned().collect::<Vec<_>>());
        let mut only = page(None, 10, Some("^s1"));
        only.take(ids.iter(), |s| (0, s.to_string(), String::new()), missing);
        let (problems, next) = only.end();
        assert_eq!((problems.len(), next), (10, None));
    }

    #[test]
    fn the_reason_says_where_the_copies_are() {
        let needy =
            |live, coming, away| Needy { segment: SegmentId::new("s").expect("an id"), live, wanted: 2, coming, away };
        assert_eq!(under_replicated(&needy(0, 0, 2)).reason, "no live copy of 2, 2 on workers that are away");
        let one = under_replicated(&needy(1, 1, 1));
        assert_eq!(one.reason, "1 of 2 copies live, 1 on the way, 1 on workers that are away");
        assert!(one.action.starts_with("wait"));
    }
}
