//! Discovery over the metadata server: what is kept, what is followed, who is asked.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::time::{Duration, Instant};

use common::*;
use trough_client::{Discovery, DiscoveryOptions, SegmentPattern, catalog::LockOutcome, discovery::Located};
use trough_core::{
    SegmentId,
    records::{ROLE_READ, Service},
};

/// Nodes that would be asked for the first segment.
fn nodes(located: &Located) -> Vec<String> {
    let Some((_, refs)) = located.entries.first() else { return Vec::new() };
    let mut all: Vec<String> =
        refs.as_slice().iter().map(|n| located.endpoints[*n as usize].node.id.to_string()).collect();
    all.sort();
    all
}

async fn find(discovery: &Discovery, segment: &SegmentId) -> Vec<String> {
    nodes(&discovery.find(std::slice::from_ref(segment)).await.unwrap())
}

async fn listed(discovery: &Discovery) -> usize {
    discovery.all(&SegmentPattern::All).await.unwrap().entries.len()
}

#[tokio::test]
async fn lookups_are_kept_until_they_are_invalidated() {
    let cluster = Cluster::start().await;
    let (a, b) = (honest_worker("a").await, honest_worker("b").await);
    cluster.serve(&a, &segs(1)).await;
    let discovery = cluster.discovery();
    let s = &segs(1)[0];
    assert_eq!(find(&discovery, s).await, ["a"]);
    cluster.serve(&b, &segs(1)).await;
    assert_eq!(find(&discovery, s).await, ["a"], "kept");
    // Its lease is heard of in its own time.
    until("the second copy to be found", async || {
        discovery.invalidate(s);
        find(&discovery, s).await == ["a", "b"]
    })
    .await;
    let copies = discovery.locate(&segs(2)).await.unwrap();
    assert_eq!((copies.len(), copies[s].len(), copies[s][0].writable), (1, 2, false));
}

#[tokio::test]
async fn a_lock_sends_reads_to_its_holder() {
    let cluster = Cluster::start().await;
    let (a, b) = (honest_worker("a").await, honest_worker("b").await);
    cluster.serve(&a, &segs(1)).await;
    cluster.serve(&b, &segs(1)).await;
    let s = &segs(1)[0];
    let discovery = cluster.discovery();
    assert_eq!(listed(&discovery).await, 1);
    assert_eq!(find(&discovery, s).await, ["a", "b"]);
    let lock = cluster.catalog.acquire_locks(&segs(1), &b.node, "p", 1).await.unwrap().remove(0);
    until("the lock to be heard of", async || find(&discovery, s).await == ["b"]).await;
    assert_eq!(find(&cluster.discovery(), s).await, ["b"], "looked up as well as followed");
    assert!(discovery.locate(&segs(1)).await.unwrap()[s][0].writable);
    let LockOutcome::Acquired { lock, .. } = lock else { panic!("acquired") };
    cluster.catalog.release_lock(&lock).await.unwrap();
    until("the release to be heard of", async || find(&discovery, s).await == ["a", "b"]).await;
}

#[tokio::test]
async fn a_listing_is_followed() {
    let cluster = Cluster::start().await;
    let (a, b) = (honest_worker("a").await, honest_worker("b").await);
    cluster.serve(&a, &segs(2_500)).await;
    let discovery = cluster.discovery();
    assert_eq!(listed(&discovery).await, 2_500);
    cluster.serve(&b, &[seg("new")]).await;
    let told = Instant::now();
    until("the new segment", async || listed(&discovery).await == 2_501).await;
    println!("a new segment is listed after {:?}", told.elapsed());
    cluster.catalog.withdraw(&[Service::segment_id(ROLE_READ, &a.node, &segs(1)[0])]).await.unwrap();
    until("the withdrawn segment to go", async || listed(&discovery).await == 2_500).await;
    let pattern = SegmentPattern::regex("^s0000[1-3]$").unwrap();
    assert_eq!(discovery.all(&pattern).await.unwrap().entries.len(), 3);

    // A node that leaves takes its copies along, at once.
    cluster.catalog.remove_node(&a.node).await.unwrap();
    until("the node to go", async || listed(&discovery).await == 1).await;
    assert_eq!(discovery.all(&SegmentPattern::All).await.unwrap().missing.len(), 2_499);
}

#[tokio::test]
async fn leases_end_by_our_own_clock() {
    let cluster = Cluster::start().await;
    let a = honest_worker("a").await;
    cluster.serve(&a, &segs(1)).await;
    cluster.catalog.heartbeat_node(&node_row(&a, 0.4)).await.unwrap();
    let discovery = cluster.discovery();
    assert_eq!(find(&discovery, &segs(1)[0]).await, ["a"]);
    until("the lease to end", async || find(&discovery, &segs(1)[0]).await.is_empty()).await;
    cluster.catalog.heartbeat_node(&node_row(&a, 60.0)).await.unwrap();
    until("the lease to run again", async || find(&discovery, &segs(1)[0]).await == ["a"]).await;
}

#[tokio::test]
async fn without_the_database_what_was_known_is_used() {
    let cluster = Cluster::start().await;
    let a = honest_worker("a").await;
    cluster.serve(&a, &segs(3)).await;
    let options = DiscoveryOptions { ttl: Duration::ZERO, ..DiscoveryOptions::default() };
    let looked_up = Discovery::new(cluster.catalog.clone(), options);
    let followed = cluster.discovery();
    assert_eq!(find(&looked_up, &segs(1)[0]).await, ["a"]);
    assert_eq!(listed(&followed).await, 3);
    let Some(meta) = cluster.meta else { return };
    meta.shutdown().await;
    assert_eq!(listed(&followed).await, 3);
    assert_eq!(find(&looked_up, &segs(1)[0]).await, ["a"]);
    let error = looked_up.find(&[seg("never seen")]).await.unwrap_err();
    assert!(error.to_string().starts_with("discover segments"), "{error}");
}
