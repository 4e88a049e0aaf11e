//! Scrubbing on demand: copies are compared with their records and with the store; damaged ones are kept aside and fetched again.
//! It ends with the connection of whoever asked. In memory: the ids of what is to be looked at, and one buffer a copy in hand.

use std::{
    collections::VecDeque,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt as _};
use tokio::{io::AsyncReadExt as _, sync::mpsc};
use trough_core::{
    ErrorCode, SegmentError, SegmentId,
    wire::scrub::{
        DAMAGED, Finding, NOT_REPAIRED, REPAIRED, STORE_DIFFERS, STORE_MISSING, ScrubCounts, ScrubLine, ScrubRequest,
        UNREADABLE,
    },
};
use trough_store::{Throttle as _, TokenBucket};

use super::sum::{self, HEADER};
use crate::{files::LocalFile, heal, state::Worker};

/// Copies looked at at the same time.
const AT_ONCE: usize = 4;
/// Bytes a second, where the request does not say.
const BANDWIDTH: u64 = 100_000_000;
/// Between two lines that tell how far it is.
const PROGRESS: Duration = Duration::from_millis(500);
/// How long a repair may take until it is reported as not done; it goes on all the same.
const REPAIR_LIMIT: Duration = Duration::from_secs(600);

/// What was found of one copy.
enum Verdict {
    /// It is as recorded, or, without a recorded hash, sound.
    Sound { hashed: bool },
    /// It is being written or replaced.
    Skipped,
    /// It is not what it should be.
    Damaged(SegmentError),
    /// It cannot be read.
    Unreadable(String),
}

struct Examined {
    segment: SegmentId,
    bytes: u64,
    verdict: Verdict,
    /// What is wrong with the canonical copy, by a look at its directory entry.
    store: Option<(&'static str, String)>,
}

/// Scrubs, and tells how it goes, as long as somebody listens.
pub(crate) fn run(worker: Arc<Worker>, request: ScrubRequest, chosen: Vec<SegmentId>) -> impl Stream<Item = ScrubLine> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let listening = sender.clone();
        tokio::select! {
            () = scrub(&worker, &request, chosen, sender) => {}
            () = listening.closed() => tracing::info!("scrubbing was cancelled"),
            () = worker.shutdown.cancelled() => {}
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

async fn scrub(worker: &Arc<Worker>, request: &ScrubRequest, chosen: Vec<SegmentId>, out: mpsc::Sender<ScrubLine>) {
    let throttle = TokenBucket::new(request.bandwidth.unwrap_or(BANDWIDTH));
    let mut counts = ScrubCounts { total: chosen.len() as u64, ..ScrubCounts::default() };
    // Also while a slow throttle lets nothing through: whoever asks knows that it goes on, and whoever does not any more is noticed.
    let mut ticks = tokio::time::interval(PROGRESS);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut repairing = VecDeque::new();
    let mut examined = std::pin::pin!(
        futures::stream::iter(chosen).map(|segment| examine(worker, segment, &throttle)).buffer_unordered(AT_ONCE)
    );
    loop {
        let next = tokio::select! {
            next = examined.next() => next,
            _ = ticks.tick() => {
                if out.send(ScrubLine::Progress(counts)).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let Some(Examined { segment, bytes, verdict, store }) = next else { break };
        counts.done += 1;
        counts.bytes += bytes;
        let found = |what: &str, detail: String| finding(&segment, Some(worker), what, detail);
        let mut lines = Vec::new();
        match verdict {
            Verdict::Sound { hashed } => counts.without_hash += u64::from(!hashed),
            Verdict::Skipped => counts.skipped += 1,
            Verdict::Unreadable(why) => {
                counts.failed += 1;
                lines.push(found(UNREADABLE, why));
            }
            Verdict::Damaged(error) => {
                counts.damaged += 1;
                if request.check {
                    let detail = format!("{}; without --check it is kept aside and fetched again", error.message);
                    lines.push(found(DAMAGED, detail));
                } else if withdraw(worker, &segment, &error).await {
                    repairing.push_back((segment.clone(), error.message, Instant::now()));
                } else {
                    counts.skipped += 1;
                }
            }
        }
        if let Some((what, detail)) = store {
            counts.store_damaged += 1;
            lines.push(finding(&segment, None, what, detail));
        }
        for line in lines {
            if out.send(line).await.is_err() {
                return;
            }
        }
    }
    while let Some((segment, why, since)) = repairing.pop_front() {
        let Some(repaired) = repaired(worker, &segment, since) else {
            repairing.push_back((segment, why, since));
            tokio::time::sleep(PROGRESS / 5).await;
            if out.send(ScrubLine::Progress(counts)).await.is_err() {
                return;
            }
            continue;
        };
        let line = match repaired {
            Ok(()) => {
                counts.repaired += 1;
                finding(&segment, Some(worker), REPAIRED, format!("{why}; kept in quarantine and fetched again"))
            }
            Err(trouble) => finding(&segment, Some(worker), NOT_REPAIRED, format!("{why}; {trouble}")),
        };
        if out.send(line).await.is_err() {
            return;
        }
    }
    let _ = out.send(ScrubLine::End(counts)).await;
}

fn finding(segment: &SegmentId, worker: Option<&Arc<Worker>>, what: &str, detail: String) -> ScrubLine {
    ScrubLine::Finding(Finding {
        segment: Some(segment.clone()),
        node: worker.map(|worker| worker.node.clone()),
        what: what.to_owned(),
        detail,
    })
}

/// Takes a damaged copy out of service; false if it is being written or is another one by now.
async fn withdraw(worker: &Arc<Worker>, segment: &SegmentId, error: &SegmentError) -> bool {
    let _busy = worker.busy.acquire(std::slice::from_ref(segment)).await;
    if worker.locks.held(segment).is_some() || worker.files.get(segment).is_none() {
        return false;
    }
    if worker.files.get(segment).is_some_and(|file| file.broken.is_none()) {
        heal::withdraw_copy(worker, segment, error).await;
    }
    worker.wants.look_at(segment.clone());
    true
}

/// Whether the copy was fetched again; none while it is not known yet.
fn repaired(worker: &Worker, segment: &SegmentId, since: Instant) -> Option<Result<(), String>> {
    let local = worker.files.get(segment);
    if local.is_some_and(|file| file.broken.is_none()) {
        return Some(Ok(()));
    }
    if worker.wants.get(segment).is_none() {
        return Some(Err("kept aside; it is not assigned to this worker, so it is not fetched again".to_owned()));
    }
    if let Some(trouble) = worker.copies.trouble(segment) {
        return Some(Err(format!("kept aside, and it cannot be fetched again: {trouble}")));
    }
    let late = || format!("kept aside, and not fetched again within {} s; it goes on", REPAIR_LIMIT.as_secs());
    (since.elapsed() > REPAIR_LIMIT).then(|| Err(late()))
}

async fn examine(worker: &Arc<Worker>, segment: SegmentId, throttle: &TokenBucket) -> Examined {
    let of = |bytes, verdict| Examined { segment: segment.clone(), bytes, verdict, store: None };
    let Some(local) = worker.files.get(&segment).filter(|file| file.plain) else { return of(0, Verdict::Skipped) };
    if worker.locks.held(&segment).is_some() {
        return of(0, Verdict::Skipped);
    }
    if let Some(why) = &local.broken {
        return of(0, Verdict::Damaged(SegmentError::new(ErrorCode::Corrupt, why.to_string())));
    }
    let bytes = local.stamp.bytes;
    let mut verdict = compare(worker, &segment, &local, throttle).await;
    if matches!(verdict, Verdict::Damaged(_) | Verdict::Unreadable(_)) {
        // What was replaced meanwhile is not what was looked at.
        let same = worker.files.get(&segment).is_some_and(|now| now.stamp == local.stamp && now.plain);
        if !same || worker.locks.held(&segment).is_some() {
            verdict = Verdict::Skipped;
        }
    }
    let store = at_store(worker, &segment).await;
    Examined { store, ..of(bytes, verdict) }
}

async fn compare(worker: &Worker, segment: &SegmentId, local: &LocalFile, throttle: &TokenBucket) -> Verdict {
    let corrupt = |message: String| Verdict::Damaged(SegmentError::new(ErrorCode::Corrupt, message));
    match tokio::fs::metadata(&local.path).await {
        Ok(found) if found.len() != local.stamp.bytes => {
            return corrupt(format!("the copy has {} bytes, not {}", found.len(), local.stamp.bytes));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return corrupt("the copy's file is gone".to_owned());
        }
        Err(error) => return Verdict::Unreadable(error.to_string()),
    }
    let want = worker.wants.get(segment).filter(|want| want.is(local.stamp));
    let Some((want, recorded)) = want.as_ref().and_then(|want| Some((want, want.sha256.as_deref()?))) else {
        return by_sqlite(worker, local, throttle).await;
    };
    let has = match sum::of_file(&local.path, None, throttle).await {
        Ok(has) if has == recorded => return Verdict::Sound { hashed: true },
        Ok(has) => has,
        Err(error) => return Verdict::Unreadable(error.to_string()),
    };
    // The worker that wrote the segment has its own file, which differs from what it promoted in the header's counters alone.
    let differs = format!("the copy has SHA-256 {has}, recorded is {recorded}");
    match worker.store.read_range(&want.remote_path, 0, HEADER).await {
        Ok(header) if header.len() == HEADER => match sum::of_file(&local.path, Some(&header), throttle).await {
            Ok(has) if has == recorded => Verdict::Sound { hashed: true },
            Ok(_) => corrupt(differs),
            Err(error) => Verdict::Unreadable(error.to_string()),
        },
        Ok(_) => corrupt(differs),
        // There is nothing to compare with, which is told by itself.
        Err(error) if error.is_not_found() => by_sqlite(worker, local, throttle).await,
        Err(error) => {
            Verdict::Unreadable(format!("{differs}; whether it is the writer's own file cannot be told: {error}"))
        }
    }
}

async fn by_sqlite(worker: &Worker, local: &LocalFile, throttle: &TokenBucket) -> Verdict {
    throttle.acquire(local.stamp.bytes).await;
    match worker.engine.check(local.path.to_path_buf()).await {
        Ok(()) => Verdict::Sound { hashed: false },
        Err(error) if error.code == ErrorCode::Corrupt => Verdict::Damaged(error),
        Err(error) => Verdict::Unreadable(error.message),
    }
}

/// What is wrong with the canonical copy, as far as a look at its entry tells.
async fn at_store(worker: &Worker, segment: &SegmentId) -> Option<(&'static str, String)> {
    let want = worker.wants.get(segment)?;
    match worker.store.stat_path(&want.remote_path).await {
        Ok(entry) => {
            let is = entry.bytes == want.bytes
                && want.mtime_ms.is_none_or(|mtime| crate::files::same_time(mtime, entry.mtime_ms));
            (!is).then(|| {
                let detail = format!(
                    "{} has {} bytes of {}, recorded are {} of {:?}; the sync master takes note with its next listing",
                    entry.path, entry.bytes, entry.mtime_ms, want.bytes, want.mtime_ms
                );
                (STORE_DIFFERS, detail)
            })
        }
        Err(error) if error.is_not_found() => {
            let detail = format!(
                "{} is not there; --repair-store puts a worker's copy there, SHRED removes the rest",
                want.remote_path
            );
            Some((STORE_MISSING, detail))
        }
        Err(error) => {
            tracing::warn!(%segment, %error, "cannot compare a copy with the store");
            None
        }
    }
}

/// The local copies that a request means.
///
/// # Errors
/// If its expression is none.
pub(crate) fn chosen(worker: &Worker, request: &ScrubRequest) -> Result<Vec<SegmentId>, String> {
    let pattern = match request.matching.as_deref().map(regex::Regex::new).transpose() {
        Ok(pattern) => pattern,
        Err(error) => return Err(format!("matching: {error}")),
    };
    let mut ids = match &request.segments {
        Some(segments) => segments.iter().filter(|s| worker.files.contains(s)).cloned().collect(),
        None => worker.files.ids(),
    };
    ids.retain(|id| pattern.as_ref().is_none_or(|p| p.is_match(id.as_str())));
    Ok(ids)
}

/// Reads a file to its end.
pub(super) async fn read_all(path: &Path, throttle: &TokenBucket, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
    const CHUNK: usize = 1 << 20;
    let mut file = tokio::fs::File::open(path).await?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        throttle.acquire(read as u64).await;
        take(&buffer[..read]);
    }
}
