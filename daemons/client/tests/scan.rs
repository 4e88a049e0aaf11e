//! Listings that are read and forgotten, and what is kept of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use common::*;
use trough_client::{
    Discovery, SegmentPattern,
    catalog::segment_service,
    discovery::{Scan, Served},
};
use trough_core::{SegmentId, records::ROLE_WRITE};

async fn all(mut scan: Scan, most: usize) -> Vec<Served> {
    let mut served = Vec::new();
    while let Some(page) = scan.next_page(most).await.unwrap() {
        assert!(!page.is_empty() && page.len() <= most);
        served.extend(page);
    }
    assert!(scan.next_page(most).await.unwrap().is_none());
    served
}

async fn ids(discovery: &Discovery, pattern: &str) -> Vec<SegmentId> {
    let scan = discovery.scan(SegmentPattern::regex(pattern).unwrap()).await.unwrap();
    all(scan, 7).await.into_iter().map(|served| served.segment).collect()
}

#[tokio::test]
async fn segments_come_in_order_with_their_copies() {
    let cluster = Cluster::start().await;
    let (a, b) = (honest_worker("a").await, honest_worker("b").await);
    let segments = segs(30);
    cluster.serve(&a, &segments).await;
    cluster.serve(&b, &segments[10..]).await;
    let write = segment_service(ROLE_WRITE, &b.node, &segments[20], &b.url, b.port, 0.1);
    cluster.catalog.advertise(&[write]).await.unwrap();
    let discovery = cluster.discovery();
    let served = all(discovery.scan(SegmentPattern::All).await.unwrap(), 4).await;
    assert_eq!(served.iter().map(|s| s.segment.clone()).collect::<Vec<_>>(), segments);
    assert!(served.iter().enumerate().all(|(i, s)| s.copies.len() == if i < 10 { 1 } else { 2 }));
    let writable: Vec<_> = served.iter().flat_map(|s| &s.copies).filter(|copy| copy.writable).collect();
    assert_eq!((writable.len(), &writable[0].node), (1, &b.node));

    assert_eq!(ids(&discovery, "^s0000[3-5]$").await, segments[3..6]);
    assert_eq!(ids(&discovery, "2$").await.len(), 3);
    assert_eq!(ids(&discovery, "^S").await, []);
    let known = discovery.known();
    assert_eq!((known.looked_up, known.followed), (0, None), "nothing of it is kept");
}

#[tokio::test]
async fn dead_nodes_serve_nothing() {
    let cluster = Cluster::start().await;
    let (a, b) = (honest_worker("a").await, honest_worker("b").await);
    cluster.serve(&a, &segs(3)).await;
    cluster.serve(&b, &segs(1)).await;
    cluster.catalog.remove_node(&a.node).await.unwrap();
    assert_eq!(ids(&cluster.discovery(), "").await, segs(1));
}

#[tokio::test]
async fn what_is_remembered_is_not_looked_up() {
    let cluster = Cluster::start().await;
    let (a, b) = (honest_worker("a").await, honest_worker("b").await);
    let segments = segs(3);
    cluster.serve(&a, &segments).await;
    cluster.serve(&b, &segments).await;
    cluster.catalog.acquire_locks(&segments[..1], &b.node, "p", 1).await.unwrap();
    let discovery = cluster.discovery();
    let served = all(discovery.scan(SegmentPattern::All).await.unwrap(), 10).await;
    discovery.remember(&served).await.unwrap();
    assert_eq!(discovery.known().looked_up, 3);
    // Without the database only what is kept can be found.
    let Some(meta) = cluster.meta else { return };
    meta.shutdown().await;
    let located = discovery.find(&segments).await.unwrap();
    let copies: Vec<usize> = located.entries.iter().map(|(_, refs)| refs.as_slice().len()).collect();
    assert_eq!(copies, [1, 2, 2], "a locked segment is read from its holder");
    let holder = located.entries[0].1.as_slice()[0];
    assert_eq!(located.endpoints[holder as usize].node.id, b.node);
}
