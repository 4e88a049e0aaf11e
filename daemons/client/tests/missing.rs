//! Segments that exist and that nobody serves: they fail a query, they are never left out of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::time::{Duration, Instant};

use common::*;
use serde_json::json;
use trough_client::{
    Discovery, QueryClient, QueryError, QueryOptions, QueryTemplate, SegmentPattern, SegmentSet, catalog::LockOutcome,
    discovery::Located, http::HttpOptions,
};
use trough_core::{
    ErrorCode, SegmentId,
    records::{ROLE_READ, Service},
};
use trough_reql::r;

/// Longer than any of these tests.
const LONG: Duration = Duration::from_secs(60);

fn listed_ids(located: &Located) -> (Vec<&SegmentId>, Vec<&SegmentId>) {
    let mut entries: Vec<&SegmentId> = located.entries.iter().map(|(s, _)| s).collect();
    let mut missing: Vec<&SegmentId> = located.missing.iter().collect();
    entries.sort();
    missing.sort();
    (entries, missing)
}

async fn counts(discovery: &Discovery) -> (usize, usize) {
    let located = discovery.all_now(&SegmentPattern::All).await.unwrap();
    (located.entries.len(), located.missing.len())
}

async fn scan(discovery: &Discovery, timeout: Duration) -> Result<usize, QueryError> {
    let client = QueryClient::new(discovery.clone(), &HttpOptions::default()).unwrap();
    let template = QueryTemplate { map: "SELECT 1 AS n".into(), ..QueryTemplate::default() };
    let options = QueryOptions { timeout: Some(timeout), ..QueryOptions::default() };
    let mut stream = client.fan_out(SegmentSet::Pattern(SegmentPattern::All), template, options);
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        rows += batch?.count as usize;
    }
    Ok(rows)
}

/// Starts listing everything in a task, and comes back once it waits.
async fn listing(discovery: &Discovery) -> tokio::task::JoinHandle<Located> {
    // The first listing is done, so that the task has nothing to do but wait.
    counts(discovery).await;
    let discovery = discovery.clone();
    let task = tokio::spawn(async move { discovery.all(&SegmentPattern::All).await.unwrap() });
    tokio::task::yield_now().await;
    assert!(!task.is_finished());
    task
}

#[tokio::test]
async fn rows_of_a_dead_node_gone_its_segments_are_missing() {
    let cluster = Cluster::start().await;
    let (a, b) = (honest_worker("a").await, honest_worker("b").await);
    let s = segs(4);
    cluster.serve(&a, &s[..2]).await;
    cluster.serve(&b, &s[2..]).await;
    let mut rows = cluster.assign(&a.node, &s[..2]).await;
    rows.extend(cluster.assign(&b.node, &s[..1]).await);
    cluster.assign(&b.node, &s[2..]).await;
    let python = r::array([
        r::expr(json!({"id": "ring-assignments", "a": {"ring": 0, "weight": 1}})),
        r::expr(json!({"id": "b:s00003", "node": "b", "segment": "s00003", "hash_ring": "cold", "remote_path": "/o"})),
    ]);
    cluster.catalog.client().write(&r::table("assignment").insert(python).conflict("replace")).await.unwrap();
    let followed = cluster.discovery();
    assert_eq!(scan(&followed, LONG).await.unwrap(), 4);

    cluster.catalog.remove_node(&a.node).await.unwrap();
    cluster.catalog.delete_node_services(&a.node).await.unwrap();
    until("the node to be gone", async || counts(&followed).await.0 == 2).await;
    for discovery in [&followed, &cluster.discovery()] {
        let located = discovery.all(&SegmentPattern::All).await.unwrap();
        assert_eq!(listed_ids(&located), (vec![&s[2], &s[3]], vec![&s[0], &s[1]]));
        let error = scan(discovery, LONG).await.unwrap_err();
        assert!(matches!(error, QueryError::Unserved { count: 2, .. }), "{error}");
        let some = SegmentPattern::Prefix("s00001".into());
        assert_eq!(listed_ids(&discovery.all(&some).await.unwrap()), (vec![], vec![&s[1]]));
    }

    // One of two assignments gone: the segment exists still. All gone: it was shredded.
    cluster.catalog.commit_assignments(&[], &rows[1..2], 1).await.unwrap();
    until("the shredded segment to go", async || counts(&followed).await == (2, 1)).await;
    cluster.catalog.commit_assignments(&[], &rows[..1], 1).await.unwrap();
    assert!(matches!(scan(&followed, LONG).await, Err(QueryError::Unserved { count: 1, .. })));
    cluster.catalog.commit_assignments(&[], &rows[2..], 1).await.unwrap();
    until("the last shredded segment to go", async || counts(&followed).await == (2, 0)).await;
    assert_eq!(scan(&followed, LONG).await.unwrap(), 2);
}

#[tokio::test]
async fn a_copy_on_its_way_is_waited_for() {
    let cluster = Cluster::start().await;
    let a = honest_worker("a").await;
    let s = segs(3);
    cluster.assign(&a.node, &s[..2]).await;
    let discovery = cluster.settling(LONG);
    let task = listing(&discovery).await;
    cluster.serve(&a, &s[..1]).await;
    until("the first copy", async || counts(&discovery).await == (1, 1)).await;
    assert!(!task.is_finished());
    // What comes into being while the listing waits is no part of it.
    cluster.assign(&a.node, &s[2..]).await;
    until("the new segment", async || counts(&discovery).await == (1, 2)).await;
    cluster.serve(&a, &s[1..2]).await;
    let located = task.await.unwrap();
    assert_eq!(listed_ids(&located), (vec![&s[0], &s[1]], vec![]));
}

#[tokio::test]
async fn a_segment_shredded_while_it_is_waited_for_vanishes() {
    let cluster = Cluster::start().await;
    let a = honest_worker("a").await;
    let rows = cluster.assign(&a.node, &segs(1)).await;
    let task = listing(&cluster.settling(LONG)).await;
    cluster.catalog.commit_assignments(&[], &rows, 1).await.unwrap();
    assert_eq!(listed_ids(&task.await.unwrap()), (vec![], vec![]));
}

#[tokio::test]
async fn a_node_that_comes_back_ends_the_waiting() {
    let cluster = Cluster::start().await;
    let a = honest_worker("a").await;
    cluster.serve(&a, &segs(2)).await;
    cluster.catalog.remove_node(&a.node).await.unwrap();
    let task = listing(&cluster.settling(LONG)).await;
    cluster.catalog.heartbeat_node(&node_row(&a, 60.0)).await.unwrap();
    assert_eq!(task.await.unwrap().entries.len(), 2);
}

#[tokio::test]
async fn waiting_ends_before_the_query_does_and_happens_once() {
    let cluster = Cluster::start().await;
    let a = honest_worker("a").await;
    cluster.assign(&a.node, &segs(1)).await;
    // An error that says why, not a deadline.
    let error = scan(&cluster.settling(LONG), Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, QueryError::Unserved { .. }), "{error}");

    let settle = Duration::from_secs(1);
    let discovery = cluster.settling(settle);
    let began = Instant::now();
    assert_eq!(discovery.all(&SegmentPattern::All).await.unwrap().missing.len(), 1);
    assert!(began.elapsed() > settle / 2);
    let began = Instant::now();
    assert_eq!(discovery.all(&SegmentPattern::All).await.unwrap().missing.len(), 1);
    assert!(began.elapsed() < settle / 2, "it has been waited for");
}

#[tokio::test]
async fn a_lock_alone_says_that_a_segment_exists() {
    let cluster = Cluster::start().await;
    let a = honest_worker("a").await;
    cluster.catalog.heartbeat_node(&node_row(&a, 60.0)).await.unwrap();
    let lock = cluster.catalog.acquire_locks(&segs(1), &a.node, "p", 1).await.unwrap().remove(0);
    let discovery = cluster.settling(LONG);
    let task = listing(&discovery).await;
    cluster.serve(&a, &segs(1)).await;
    assert_eq!(task.await.unwrap().entries.len(), 1, "provisioned to its end");

    cluster.catalog.withdraw(&[Service::segment_id(ROLE_READ, &a.node, &segs(1)[0])]).await.unwrap();
    until("the copy to go", async || counts(&discovery).await == (0, 1)).await;
    let LockOutcome::Acquired { lock, .. } = lock else { panic!("acquired") };
    cluster.catalog.release_lock(&lock).await.unwrap();
    until("the segment to go", async || counts(&discovery).await == (0, 0)).await;
}

#[tokio::test]
async fn what_is_invalidated_stays_listed() {
    let cluster = Cluster::start().await;
    let a = honest_worker("a").await;
    cluster.serve(&a, &segs(2)).await;
    let discovery = cluster.discovery();
    assert_eq!(counts(&discovery).await, (2, 0));
    discovery.invalidate(&segs(1)[0]);
    assert_eq!(counts(&discovery).await, (2, 0));
    assert_eq!(discovery.find(&segs(1)).await.unwrap().entries.len(), 1);
    assert_eq!(counts(&discovery).await, (2, 0));
}

/// What a query over all segments counts, and what it leaves out.
async fn lenient(discovery: &Discovery, reduce: bool) -> Result<(i64, u64, Vec<SegmentId>), QueryError> {
    let client = QueryClient::new(discovery.clone(), &HttpOptions::default()).unwrap();
    let reduce = reduce.then(|| "SELECT count(*) AS n FROM partial".to_owned());
    let template = QueryTemplate { map: "SELECT 1 AS n".into(), reduce, ..QueryTemplate::default() };
    let options = QueryOptions { skip_failed: true, attempts: 2, ..QueryOptions::default() };
    let mut stream = client.fan_out(SegmentSet::Pattern(SegmentPattern::All), template, options);
    let mut sum = 0;
    while let Some(batch) = stream.next().await {
        sum += rmp::decode::read_int::<i64, _>(&mut &batch?.data[..]).unwrap();
    }
    let left_out = stream.left_out();
    assert_eq!(left_out.failed, stream.stats().failed);
    let mut failed: Vec<_> = left_out.failures.iter().map(|(segment, _)| segment.clone()).collect();
    failed.sort();
    Ok((sum, left_out.failed, failed))
}

#[tokio::test]
async fn segments_that_fail_by_themselves_are_left_out_where_it_is_wanted() {
    let cluster = Cluster::start().await;
    let s = segs(6);
    // Of s0 the table is missing, s1 is corrupt, s2 fails in its middle, s5 is assigned and served by nobody.
    let worker = Worker::start("a", |r| {
        let code = |id: &SegmentId| match id.as_str() {
            "s00000" => Some(ErrorCode::NoSuchTable),
            "s00001" => Some(ErrorCode::Corrupt),
            "s00002" => Some(ErrorCode::TypeMismatch),
            _ => None,
        };
        let (mut frames, mut good) = (vec![columns(r.reduce.is_none().then_some(0))], 0);
        for (i, id) in r.segments.iter().enumerate() {
            match code(id) {
                Some(code) => {
                    if code == ErrorCode::TypeMismatch && r.reduce.is_none() {
                        frames.push(row(Some(i as u32), 1));
                        good += 1;
                    }
                    frames.push(segment_error(i as u32, code, "no", None));
                }
                None if r.reduce.is_none() => {
                    frames.push(row(Some(i as u32), 1));
                    good += 1;
                }
                None => {}
            }
        }
        let failed = r.segments.iter().filter(|id| code(id).is_some()).count();
        let ok = r.segments.len() - failed;
        if r.reduce.is_some() {
            frames.push(row(None, ok as i64));
            good = 1;
        }
        frames.push(end(ok, failed, good));
        Reply::Whole(vec![bytes(&frames)])
    })
    .await;
    cluster.serve(&worker, &s[..5]).await;
    cluster.assign(&worker.node, &s).await;
    for reduce in [false, true] {
        let (sum, failed, ids) = lenient(&cluster.discovery(), reduce).await.unwrap();
        assert_eq!((sum, failed), (2, 4), "reduce: {reduce}");
        assert_eq!(ids, [s[0].clone(), s[1].clone(), s[2].clone(), s[5].clone()]);
    }
    assert!(scan(&cluster.discovery(), LONG).await.is_err());
}

#[tokio::test]
async fn what_concerns_the_whole_query_is_never_left_out() {
    let codes = [ErrorCode::BadSql, ErrorCode::Forbidden, ErrorCode::RowLimit, ErrorCode::Deadline, ErrorCode::Limit];
    for code in codes {
        let cluster = Cluster::start().await;
        let worker = Worker::start("a", move |r| {
            let mut frames = vec![columns(Some(0)), segment_error(0, code, "no", None)];
            frames.extend((1..r.segments.len()).map(|i| row(Some(i as u32), 1)));
            frames.push(end(r.segments.len() - 1, 1, r.segments.len() as u64 - 1));
            Reply::Whole(vec![bytes(&frames)])
        })
        .await;
        cluster.serve(&worker, &segs(3)).await;
        let failed = lenient(&cluster.discovery(), false).await.unwrap_err();
        assert_eq!(failed.code(), code);
    }
}
