//! Scrubbing the canonical copies: they are read and compared with the hashes that promotions recorded. A damaged or missing one is
//! replaced by a worker's copy, if that is asked for and the copy has the recorded hash.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use sha2::{Digest as _, Sha256};
use trough_core::{
    NodeId, SegmentId,
    protocol::SCRUBS_SINCE,
    records::Assignment,
    wire::scrub::{Finding, STORE_DAMAGED, STORE_DIFFERS, STORE_REPAIRED, ScrubCounts, ScrubRequest, UNREADABLE},
};
use trough_store::{Entry, StoreError, Throttle as _, TokenBucket};

use super::{
    Api, answer,
    scrub::{Gone, Sink},
};
use crate::context::by_name;

/// Records looked up together.
const BATCH: usize = 500;
/// Bytes read at a time.
const CHUNK: usize = 4 << 20;
/// Bytes a second, where the request does not say.
const BANDWIDTH: u64 = 100_000_000;
/// How long a worker may take to upload its copy.
const RESTORE_LIMIT: Duration = Duration::from_secs(600);

/// What to do about it where it is not done.
const ADVICE: &str = "--repair-store puts a worker's copy with the recorded hash there";

/// Reads the canonical copies that the request means, one after the other.
pub(super) async fn run(api: &Arc<Api>, request: &ScrubRequest, sink: &Sink) -> Result<(), Gone> {
    let store = &api.context.store;
    let pattern = request.matching.as_deref().and_then(|p| regex::Regex::new(p).ok());
    let listing: BoxStream<'static, Result<Entry, StoreError>> = match &request.segments {
        None => store.list(),
        Some(segments) => {
            let (store, segments) = (store.clone(), segments.clone());
            let looked = futures::stream::iter(segments).then(move |segment| {
                let store = store.clone();
                async move { store.stat(&segment).await }
            });
            // What is missing is found by those who have a copy.
            looked.filter(|found| std::future::ready(!found.as_ref().is_err_and(StoreError::is_not_found))).boxed()
        }
    };
    let throttle = TokenBucket::new(request.bandwidth.unwrap_or(BANDWIDTH));
    let mut counts = ScrubCounts::default();
    let mut batches = std::pin::pin!(listing.chunks(BATCH));
    while let Some(batch) = batches.next().await {
        let mut entries = Vec::with_capacity(batch.len());
        for entry in batch {
            match entry {
                Ok(entry) if pattern.as_ref().is_none_or(|p| p.is_match(entry.segment.as_str())) => entries.push(entry),
                Ok(_) => {}
                Err(error) => {
                    counts.failed += 1;
                    sink.found(finding(None, UNREADABLE, format!("the store cannot be listed: {error}"))).await?;
                }
            }
        }
        let segments: Vec<SegmentId> = entries.iter().map(|e| e.segment.clone()).collect();
        let records = match records(api, &segments).await {
            Ok(records) => records,
            Err(why) => {
                counts.failed += 1;
                sink.found(finding(None, UNREADABLE, why)).await?;
                continue;
            }
        };
        for entry in entries {
            let rows = records.get(&entry.segment).map_or(&[][..], Vec::as_slice);
            if request.node.as_ref().is_some_and(|node| rows.iter().all(|row| row.node != *node)) {
                continue;
            }
            counts.total += 1;
            one(api, request, &entry, rows, &throttle, &mut counts, sink).await?;
            counts.done += 1;
            sink.count(None, counts).await?;
        }
    }
    sink.count(None, counts).await
}

async fn records(api: &Api, segments: &[SegmentId]) -> Result<HashMap<SegmentId, Vec<Assignment>>, String> {
    let mut records: HashMap<SegmentId, Vec<Assignment>> = HashMap::new();
    for row in api.context.catalog.assignments_of_segments(segments).await.map_err(|e| e.to_string())? {
        records.entry(row.segment.clone()).or_default().push(row);
    }
    Ok(records)
}

async fn one(
    api: &Arc<Api>,
    request: &ScrubRequest,
    entry: &Entry,
    rows: &[Assignment],
    throttle: &TokenBucket,
    counts: &mut ScrubCounts,
    sink: &Sink,
) -> Result<(), Gone> {
    let segment = &entry.segment;
    let of_file = |row: &&Assignment| row.bytes == entry.bytes && row.mtime_ms == Some(entry.mtime_ms);
    let Some(recorded) = rows.iter().filter(of_file).find_map(|row| row.sha256.as_deref()) else {
        counts.without_hash += 1;
        // A promotion that has just ended is recorded in a moment; a file that was put there by hand is taken note of.
        if !rows.is_empty() && rows.iter().all(|row| row.bytes != entry.bytes) {
            let detail = format!("{} has {} bytes, recorded are {}", entry.path, entry.bytes, rows[0].bytes);
            sink.found(finding(Some(segment), STORE_DIFFERS, detail)).await?;
        }
        return Ok(());
    };
    let wrong = match hash(api, entry, throttle).await {
        Ok(has) if has == recorded => {
            counts.bytes += entry.bytes;
            return Ok(());
        }
        Ok(has) => format!("{} has SHA-256 {has}, recorded is {recorded}", entry.path),
        Err(error) if error.is_not_found() => return Ok(()),
        Err(StoreError::Unavailable { .. }) => {
            counts.failed += 1;
            let why = format!("{} cannot be read: the store does not answer", entry.path);
            return sink.found(finding(Some(segment), UNREADABLE, why)).await;
        }
        Err(error) => format!("{} cannot be read whole: {error}", entry.path),
    };
    // One that was replaced meanwhile is another file.
    if api.context.store.stat(segment).await.ok().as_ref() != Some(entry) {
        counts.skipped += 1;
        return Ok(());
    }
    counts.store_damaged += 1;
    if !request.repair_store {
        return sink.found(finding(Some(segment), STORE_DAMAGED, format!("{wrong}; {ADVICE}"))).await;
    }
    let repaired = restore(api, segment, recorded, rows).await;
    counts.store_repaired += u64::from(repaired.is_ok());
    sink.found(outcome(segment, wrong, repaired)).await
}

async fn hash(api: &Api, entry: &Entry, throttle: &TokenBucket) -> Result<String, StoreError> {
    let (mut hash, mut offset) = (Sha256::new(), 0);
    while offset < entry.bytes {
        let length = CHUNK.min(usize::try_from(entry.bytes - offset).unwrap_or(CHUNK));
        throttle.acquire(length as u64).await;
        let bytes = api.context.store.read_range(&entry.path, offset, length).await?;
        if bytes.is_empty() {
            break;
        }
        hash.update(&bytes);
        offset += bytes.len() as u64;
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Puts a canonical copy back that is missing, from a worker's copy with the recorded hash.
pub(super) async fn put_back(api: &Arc<Api>, segment: &SegmentId, sink: &Sink) -> Result<(), Gone> {
    // Several workers report the same; the first one's copy is there by now.
    if api.context.store.stat(segment).await.is_ok() {
        return Ok(());
    }
    let found = match records(api, std::slice::from_ref(segment)).await {
        Ok(records) => {
            let rows = records.get(segment).map_or(&[][..], Vec::as_slice);
            match rows.iter().find_map(|row| row.sha256.as_deref()) {
                Some(recorded) => restore(api, segment, recorded, rows).await,
                None => Err("no promotion recorded a hash of it; restore it by hand".to_owned()),
            }
        }
        Err(why) => Err(why),
    };
    sink.found(outcome(segment, "it was missing".to_owned(), found)).await
}

fn outcome(segment: &SegmentId, wrong: String, repaired: Result<NodeId, String>) -> Finding {
    match repaired {
        Ok(node) => finding(Some(segment), STORE_REPAIRED, format!("{wrong}; replaced by the copy of worker {node}")),
        Err(why) => finding(Some(segment), STORE_DAMAGED, format!("{wrong}; not replaced: {why}")),
    }
}

/// Asks the workers that have a copy, one after the other, until one puts it into the store.
async fn restore(api: &Api, segment: &SegmentId, sha256: &str, rows: &[Assignment]) -> Result<NodeId, String> {
    let context = &api.context;
    let epoch = context.term().ok_or("this server is not the sync master any more")?.epoch;
    let nodes = context.nodes().await.map_err(|e| e.to_string())?;
    let by_name = by_name(&nodes);
    let mut refusals = Vec::new();
    for row in rows {
        let Some(status) = by_name.get(&row.node).filter(|n| n.alive && n.service.speaks() >= SCRUBS_SINCE) else {
            continue;
        };
        let Some(url) = context.manage_url(status) else { continue };
        let body = serde_json::json!({"segment": segment, "sha256": sha256, "epoch": epoch});
        let sent = context.http.post(format!("{url}v1/restore")).timeout(RESTORE_LIMIT).json(&body).send().await;
        match sent {
            Ok(answer) if answer.status().is_success() => {
                context.mark_dirty([segment.clone()]);
                return Ok(row.node.clone());
            }
            Ok(answer) => refusals.push(format!("{}: {}", row.node, answer.text().await.unwrap_or_default().trim())),
            Err(error) => refusals.push(format!("{}: {}", row.node, answer::chain(&error))),
        }
    }
    match refusals.is_empty() {
        true => Err("no living worker has a copy; restore it by hand".to_owned()),
        false => Err(format!("{}; restore it by hand", refusals.join("; "))),
    }
}

fn finding(segment: Option<&SegmentId>, what: &str, detail: String) -> Finding {
    Finding { segment: segment.cloned(), node: None, what: what.to_owned(), detail }
}
