//! The fan-out against workers that answer garbage, stop, hang, move and fail: each segment is counted exactly once, or the
//! query fails and names what failed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use common::*;
use trough_client::{QueryClient, QueryError, QueryEvent, QueryOptions, QueryTemplate, SegmentPattern, SegmentSet};
use trough_core::{ErrorCode, SegmentId, wire::Frame};

fn map() -> QueryTemplate {
    QueryTemplate { map: "SELECT 1 AS n".into(), ..QueryTemplate::default() }
}

fn reduced() -> QueryTemplate {
    QueryTemplate { reduce: Some("SELECT count(*) AS n FROM partial".into()), ..map() }
}

fn quick() -> QueryOptions {
    QueryOptions { stall: Duration::from_millis(300), segments_per_request: 10, ..QueryOptions::default() }
}

fn integer(data: &[u8]) -> i64 {
    rmp::decode::read_int(&mut &data[..]).unwrap()
}

/// The rows by segment and their sum.
async fn run(
    client: &QueryClient,
    segments: &[SegmentId],
    template: QueryTemplate,
    options: QueryOptions,
) -> Result<(HashMap<Option<SegmentId>, u32>, i64), QueryError> {
    let mut stream = client.fan_out(SegmentSet::Ids(segments.to_vec()), template, options);
    let (mut rows, mut sum) = (HashMap::new(), 0);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        assert_eq!(*batch.columns, ["n".to_owned()]);
        *rows.entry(batch.segment).or_default() += batch.count;
        sum += integer(&batch.data);
    }
    assert!(stream.next().await.is_none());
    Ok((rows, sum))
}

/// Every segment on a bad worker and on an honest one: each must be counted once whatever the bad one does.
async fn survives(bad: impl Fn(trough_core::wire::QueryRequest) -> Reply + Send + Sync + 'static) {
    let cluster = Cluster::start().await;
    let (bad, good) = (Worker::start("bad", bad).await, honest_worker("good").await);
    let segments = segs(50);
    cluster.serve(&bad, &segments).await;
    cluster.serve(&good, &segments).await;
    for _ in 0..3 {
        let client = cluster.queries();
        let (rows, sum) = run(&client, &segments, map(), quick()).await.unwrap();
        assert_eq!((rows.len(), sum), (50, 50));
        assert!(rows.values().all(|n| *n == 1), "{rows:?}");
        let (_, sum) = run(&client, &segments, reduced(), quick()).await.unwrap();
        assert_eq!(sum, 50);
        let client = cluster.queries();
        let (_, sum) = run(&client, &segments, reduced(), quick()).await.unwrap();
        assert_eq!(sum, 50);
    }
    assert!(bad.requests() > 0);
}

#[tokio::test]
async fn segments_are_asked_once_and_spread() {
    let cluster = Cluster::start().await;
    let workers = [honest_worker("a").await, honest_worker("b").await, honest_worker("c").await];
    let segments = segs(300);
    for (i, worker) in workers.iter().enumerate() {
        let own: Vec<SegmentId> =
            segments.iter().enumerate().filter(|(n, _)| n % 3 != i).map(|(_, s)| s.clone()).collect();
        cluster.serve(worker, &own).await;
    }
    let client = cluster.queries();
    let (rows, sum) = run(&client, &segments, map(), quick()).await.unwrap();
    assert_eq!((rows.len(), sum), (300, 300));
    let (_, sum) = run(&client, &segments, reduced(), quick()).await.unwrap();
    assert_eq!(sum, 300);
    assert!(workers.iter().all(|w| w.requests() >= 5), "{:?}", workers.each_ref().map(Worker::requests));

    let set = SegmentSet::Pattern(SegmentPattern::Prefix("s0001".into()));
    let mut stream = client.fan_out(set, map(), quick());
    let mut n = 0;
    while let Some(batch) = stream.next().await {
        n += batch.unwrap().count;
    }
    assert_eq!(n, 10);
    assert_eq!((stream.stats().segments, stream.stats().rows, stream.stats().retries), (10, 10, 0));
}

#[tokio::test]
async fn garbage_is_asked_elsewhere() {
    survives(|_| Reply::Html("<html>it works</html>".into())).await;
    survives(|_| Reply::Whole(vec![b"<html>502 Bad Gateway</html>".to_vec()])).await;
    survives(|_| Reply::Status(502, "Bad Gateway".into())).await;
    survives(|_| Reply::Whole(vec![bytes(&[columns(Some(70_000)), end(1, 0, 0)])])).await;
}

#[tokio::test]
async fn a_stream_that_stops_is_asked_elsewhere() {
    let half = |r: &trough_core::wire::QueryRequest| {
        let mut frames = honest(r);
        frames.truncate(frames.len() / 2 + 1);
        bytes(&frames)
    };
    survives(move |r| Reply::Break(vec![half(&r)])).await;
    survives(move |r| Reply::Whole(vec![half(&r)])).await;
    // All rows, but no end record.
    survives(|r| {
        let mut frames = honest(&r);
        frames.pop();
        Reply::Break(vec![bytes(&frames)])
    })
    .await;
}

#[tokio::test]
async fn counts_that_disagree_are_not_believed() {
    survives(|r| {
        let mut frames = honest(&r);
        let lost = frames.len() - 2;
        frames.remove(lost);
        Reply::Whole(vec![bytes(&frames)])
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_hangs_is_asked_elsewhere() {
    survives(|r| {
        let frames = honest(&r);
        Reply::Hang(vec![bytes(&frames[..frames.len() - 1])])
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_gone_is_asked_elsewhere() {
    let cluster = Cluster::start().await;
    let (gone, good) = (honest_worker("gone").await, honest_worker("good").await);
    let segments = segs(50);
    cluster.serve(&gone, &segments).await;
    cluster.serve(&good, &segments).await;
    drop(gone);
    let (rows, sum) = run(&cluster.queries(), &segments, map(), quick()).await.unwrap();
    assert_eq!((rows.len(), sum), (50, 50));
}

#[tokio::test]
async fn segments_that_fail_alone_are_asked_elsewhere_alone() {
    for code in [ErrorCode::UnknownSegment, ErrorCode::Corrupt, ErrorCode::Io] {
        survives(move |r| {
            let n = r.segments.len();
            let mut frames = vec![segment_error(0, code, "not here", None)];
            if r.reduce.is_some() {
                frames.extend([columns(None), row(None, n as i64 - 1), end(n - 1, 1, 1)]);
            } else {
                // Rows of the failed segment that came before its error do not count.
                frames = vec![columns(Some(0)), row(Some(0), 1), frames.remove(0)];
                frames.extend((1..n).map(|i| row(Some(i as u32), 1)));
                frames.push(end(n - 1, 1, n as u64));
            }
            Reply::Whole(vec![bytes(&frames)])
        })
        .await;
    }
}

#[tokio::test]
async fn moved_hints_are_followed() {
    let cluster = Cluster::start().await;
    let holder = honest_worker("holder").await;
    let hint = holder.url.clone();
    let old = Worker::start("old", move |r| {
        let mut frames: Vec<Frame> = (0..r.segments.len() as u32)
            .map(|i| segment_error(i, ErrorCode::Moved, "locked elsewhere", Some(&hint)))
            .collect();
        frames.push(end(0, r.segments.len(), 0));
        Reply::Whole(vec![bytes(&frames)])
    })
    .await;
    let segments = segs(20);
    cluster.serve(&old, &segments).await;
    let (rows, sum) = run(&cluster.queries(), &segments, map(), quick()).await.unwrap();
    assert_eq!((rows.len(), sum, holder.requests() > 0), (20, 20, true));
}

#[tokio::test]
async fn errors_that_are_final_name_segment_and_worker() {
    let cluster = Cluster::start().await;
    let worker = Worker::start("w", |r| {
        let n = r.segments.len();
        let mut frames = vec![segment_error(0, ErrorCode::NoSuchColumn, "no such column: nope", None)];
        frames.push(end(n - 1, 1, 0));
        Reply::Whole(vec![bytes(&frames)])
    })
    .await;
    cluster.serve(&worker, &segs(1)).await;
    let error = run(&cluster.queries(), &segs(1), map(), quick()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NoSuchColumn);
    let text = error.to_string();
    assert!(text.contains("s00000") && text.contains("worker w") && text.contains("no such column: nope"), "{text}");
    assert_eq!(worker.requests(), 1);

    let refused = Worker::start("r", |_| Reply::Status(401, r#"{"error":"unknown token"}"#.into())).await;
    let other = [seg("other")];
    cluster.serve(&refused, &other).await;
    let error = run(&cluster.queries(), &other, map(), quick()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unauthorized);
    assert_eq!(refused.requests(), 1);
}

#[tokio::test]
async fn rows_that_were_delivered_are_never_counted_twice() {
    let cluster = Cluster::start().await;
    let half = Worker::start("half", |_| {
        let big = Frame::Rows { segment: Some(0), count: 1, data: vec![1; 300 << 10].into() };
        Reply::Hang(vec![bytes(&[columns(Some(0)), big])])
    })
    .await;
    cluster.serve(&half, &segs(1)).await;
    let client = cluster.queries();
    let mut stream = client.fan_out(SegmentSet::Ids(segs(1)), map(), quick());
    assert_eq!(stream.next().await.unwrap().unwrap().count, 1);
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("after some of the rows"), "{error}");
    assert!(stream.next().await.is_none());
    assert_eq!(half.requests(), 1);
}

#[tokio::test]
async fn deadlines_are_kept_and_say_who_is_late() {
    let cluster = Cluster::start().await;
    let slow = Worker::start("slow", |_| Reply::Hang(vec![bytes(&[Frame::Progress { done: 0 }])])).await;
    cluster.serve(&slow, &segs(1)).await;
    let options = QueryOptions { timeout: Some(Duration::from_millis(200)), stall: Duration::from_secs(9), ..quick() };
    let started = Instant::now();
    let error = run(&cluster.queries(), &segs(1), map(), options).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Deadline);
    assert!(error.to_string().contains(&slow.url), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
    until("the request to be dropped", async || slow.hanging() == 0).await;
}

#[tokio::test]
async fn dropping_the_stream_drops_the_requests() {
    let cluster = Cluster::start().await;
    let slow = Worker::start("slow", |_| Reply::Hang(Vec::new())).await;
    cluster.serve(&slow, &segs(1)).await;
    let client = cluster.queries();
    let mut stream = client.fan_out(SegmentSet::Ids(segs(1)), map(), QueryOptions::default());
    assert!(tokio::time::timeout(Duration::from_millis(200), stream.next()).await.is_err());
    assert_eq!(slow.hanging(), 1);
    drop(stream);
    until("the request to be dropped", async || slow.hanging() == 0).await;
}

#[tokio::test]
async fn unknown_and_unserved_segments_are_told_apart() {
    let cluster = Cluster::start().await;
    let worker = honest_worker("w").await;
    cluster.serve(&worker, &segs(1)).await;
    let mut asked = segs(1);
    asked.push(seg("no such:one"));
    let client = cluster.queries();
    let error = run(&client, &asked, map(), quick()).await.unwrap_err();
    assert!(matches!(error, QueryError::Unknown { .. }) && error.to_string().contains("no such:one"), "{error}");
    let lenient = QueryOptions { unknown_is_error: false, ..quick() };
    let (rows, _) = run(&client, &asked, map(), lenient).await.unwrap();
    assert_eq!(rows.len(), 1);

    cluster.catalog.remove_node(&worker.node).await.unwrap();
    until("the node to be gone", async || {
        matches!(run(&client, &segs(1), map(), quick()).await, Err(QueryError::Unserved { .. }))
    })
    .await;
    let set = SegmentSet::Pattern(SegmentPattern::All);
    let error = client.fan_out(set, map(), quick()).next().await.unwrap().unwrap_err();
    assert!(matches!(error, QueryError::Unserved { .. }), "{error}");
}

#[tokio::test]
async fn workers_get_no_more_than_their_share_at_once() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let cluster = Cluster::start().await;
    let worker = Worker::start("w", |r| {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        NOW.fetch_sub(1, Ordering::SeqCst);
        Reply::Whole(vec![bytes(&honest(&r))])
    })
    .await;
    let segments = segs(200);
    cluster.serve(&worker, &segments).await;
    let (rows, _) = run(&cluster.queries(), &segments, map(), quick()).await.unwrap();
    assert_eq!((rows.len(), worker.requests()), (200, 20));
    assert!(MOST.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn where_any_rows_do_few_segments_are_asked() {
    let cluster = Cluster::start().await;
    let worker = honest_worker("w").await;
    let segments = segs(200);
    cluster.serve(&worker, &segments).await;
    let client = cluster.queries();
    let enough = |rows| QueryOptions { segments_per_request: 1_000, enough_rows: Some(rows), ..quick() };
    let (rows, _) = run(&client, &segments, map(), enough(3)).await.unwrap();
    assert_eq!((rows.len(), worker.requests()), (3, 1));
    // 4, then 16, then 64.
    let (rows, _) = run(&client, &segments, map(), enough(21)).await.unwrap();
    assert_eq!((rows.len(), worker.requests()), (21, 1 + 3));
    let (rows, _) = run(&client, &segments, map(), enough(1_000)).await.unwrap();
    assert_eq!((rows.len(), worker.requests()), (200, 4 + 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_segment_requests_are_lean() {
    let cluster = Cluster::start().await;
    let worker = honest_worker("w").await;
    cluster.serve(&worker, &segs(1)).await;
    let client = cluster.queries();
    let mut times = Vec::new();
    for _ in 0..500 {
        let started = Instant::now();
        run(&client, &segs(1), map(), QueryOptions::default()).await.unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    println!("one segment: p50 {:?}, p99 {:?}", times[250], times[495]);
    assert!(times[250] < Duration::from_millis(20));
}

#[tokio::test]
async fn the_ends_of_segments_are_told_after_their_rows() {
    let cluster = Cluster::start().await;
    let segments = segs(200);
    // Alone, the first segment fails.
    let worker = Worker::start("w", |r| {
        let mut frames = honest(&r);
        if let Some(bad) = r.segments.iter().position(|s| s.as_str() == "s00000") {
            let n = r.segments.len();
            frames.remove(1 + bad);
            *frames.last_mut().unwrap() = end(n - 1, 1, n as u64 - 1);
            frames.insert(1, segment_error(bad as u32, ErrorCode::NoSuchTable, "none", None));
        }
        Reply::Whole(vec![bytes(&frames)])
    })
    .await;
    cluster.serve(&worker, &segments).await;
    let options = QueryOptions { tell_done: true, skip_failed: true, segments_per_request: 1_000, ..quick() };
    let mut stream = cluster.queries().fan_out(SegmentSet::Ids(segments.clone()), map(), options);
    let (mut rows, mut done) = (HashMap::new(), Vec::new());
    while let Some(event) = stream.next_event().await {
        match event.unwrap() {
            QueryEvent::Rows(batch) => *rows.entry(batch.segment.unwrap()).or_insert(0) += batch.count,
            QueryEvent::Done(ended) => {
                assert!(ended.iter().all(|segment| rows.get(segment) == Some(&1)), "their rows came before");
                done.extend(ended);
            }
        }
    }
    done.sort_unstable();
    assert_eq!(done, segments[1..]);
    assert_eq!(stream.left_out().failed, 1);
    // 4, then 16, then 64, then the rest.
    assert_eq!(worker.requests(), 4);
}

#[tokio::test]
async fn rows_that_come_with_the_end_record_are_delivered() {
    // More than is held back, and the last rows in the same piece as the end record: in one piece, then in two.
    const ROWS: u32 = 600_000;
    for pieces in [1, 2] {
        let cluster = Cluster::start().await;
        let worker = Worker::start("big", move |_| {
            let part = |count: u32| Frame::Rows { segment: Some(0), count, data: vec![7; count as usize].into() };
            let first = bytes(&[columns(Some(0)), part(ROWS / 2), part(ROWS / 4)]);
            let last = bytes(&[part(ROWS / 4 - 1), part(1), end(1, 0, u64::from(ROWS))]);
            Reply::Whole(if pieces == 1 { vec![[first, last].concat()] } else { vec![first, last] })
        })
        .await;
        let segments = segs(1);
        cluster.serve(&worker, &segments).await;
        let mut stream = cluster.queries().fan_out(SegmentSet::Ids(segments), map(), quick());
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch.unwrap();
            assert_eq!(batch.data.len(), batch.count as usize);
            rows += batch.count;
        }
        assert_eq!((rows, stream.stats().rows), (ROWS, u64::from(ROWS)));
    }
}
