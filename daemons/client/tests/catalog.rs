//! The catalog over the metadata server: leases, election, fencing, locks, batches, feeds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::collections::HashMap;

use common::*;
use futures::StreamExt;
use serde_json::{Value as Json, json};
use trough_client::{
    Catalog, CatalogError,
    catalog::{Candidate, Change, LockOutcome, Rows, TABLES, TAKEOVER_MARGIN, segment_service},
};
use trough_core::{
    NodeId, SchemaId, SegmentId,
    records::{Assignment, Lock, ROLE_NODES, ROLE_READ, ROLE_WRITE, Schema, Service, Time},
};
use trough_reql::r;

fn lease(name: &str, ttl: f64) -> Service {
    let node = node(name);
    Service {
        id: Service::node_id(&node),
        role: Some(ROLE_NODES.into()),
        node: Some(node),
        ttl,
        load: 0.5,
        available_bytes: Some(1 << 40),
        cold_storage: Some(false),
        ..Service::default()
    }
}

/// Puts a node's last heartbeat into the past.
async fn age(catalog: &Catalog, node: &NodeId, seconds: f64) {
    let past =
        r::table("services").get(Service::node_id(node)).update(r::object([("last_heartbeat", r::now().sub(seconds))]));
    assert_eq!(catalog.client().write(&past).await.unwrap().replaced, 1);
}

async fn collect<T>(rows: Rows<T>) -> Vec<T> {
    rows.map(Result::unwrap).collect().await
}

fn candidate(holder: &str, ttl: f64) -> Candidate {
    Candidate {
        holder: holder.into(),
        node: node("sync"),
        url: format!("http://{holder}:6111/"),
        port: 6111,
        ttl,
        load: 0.0,
        host: "h".into(),
    }
}

fn assignment(n: &str, s: &SegmentId, ring: u32) -> Assignment {
    let node = node(n);
    Assignment {
        id: Assignment::row_id(&node, s),
        node,
        segment: s.clone(),
        hash_ring: json!(ring),
        assigned_on: None,
        remote_path: s.store_path(),
        bytes: 7,
        mtime_ms: Some(1_700_000_000_123),
        sha256: None,
        generation: 1,
        epoch: 0,
    }
}

#[tokio::test]
async fn tables_are_made_once_whoever_makes_them() {
    let cluster = Cluster::start().await;
    let (a, b) = tokio::join!(cluster.catalog.ensure_tables(3), cluster.catalog.ensure_tables(1));
    a.unwrap();
    b.unwrap();
    assert_eq!(cluster.catalog.schemas().await.unwrap(), [Schema { id: "default".into(), sql: String::new() }]);
}

/// With several hosts in RETHINKDB_URL, of one cluster: each makes the same at the same moment.
#[tokio::test]
async fn what_several_servers_made_becomes_one() {
    let Ok(url) = std::env::var("RETHINKDB_URL") else { return };
    let name = format!("trough_test_{}", fastrand::u32(..));
    let options = trough_reql::Options::from_url(&format!("{}/{name}", url.trim_end_matches('/'))).unwrap();
    if options.hosts.len() < 2 {
        return;
    }
    let each = options.hosts.iter().map(|host| trough_reql::Options { hosts: vec![host.clone()], ..options.clone() });
    let catalogs: Vec<Catalog> = each.map(|options| Catalog::new(trough_reql::Client::new(options))).collect();
    // Each on its own, as if it knew of no other; whoever meets a name that is ambiguous tries again.
    let prepared = catalogs.iter().map(|catalog| async move {
        for _ in 0..60 {
            match catalog.ensure_tables(3).await {
                Ok(()) => return,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(250)).await,
            }
        }
        catalog.ensure_tables(3).await.unwrap();
    });
    futures::future::join_all(prepared).await;
    let client = catalogs[0].client();
    let system = |table| r::db("rethinkdb").table(table);
    let databases = system("db_config").filter(|db| db.g("name").match_(format!("^{name}"))).count();
    assert_eq!(client.run(&databases).await.unwrap(), 1);
    let tables = system("table_config").filter_obj(r::object([("db", name.as_str())])).count();
    assert_eq!(client.run(&tables).await.unwrap(), TABLES.len());
}

#[tokio::test]
async fn leases_run_by_the_servers_clock() {
    let cluster = Cluster::start().await;
    let catalog = &cluster.catalog;
    catalog.heartbeat_node(&lease("a", 30.0)).await.unwrap();
    let first = catalog.nodes().await.unwrap().remove(0);
    assert!(first.alive && first.age_seconds < 5.0);
    let born = first.service.first_heartbeat.clone().unwrap();

    age(catalog, &node("a"), 31.0).await;
    let late = catalog.node(&node("a")).await.unwrap().unwrap();
    assert!(!late.alive && late.age_seconds >= 31.0 && !late.dead_for(10.0));
    assert!(!catalog.remove_dead_node(&node("a"), 10.0).await.unwrap(), "within the margin it stays");

    catalog.heartbeat_node(&lease("a", 30.0)).await.unwrap();
    let again = catalog.nodes().await.unwrap().remove(0);
    assert!(again.alive);
    assert_eq!(again.service.first_heartbeat.unwrap(), born, "the first heartbeat is kept");

    age(catalog, &node("a"), 41.0).await;
    assert!(catalog.remove_dead_node(&node("a"), 10.0).await.unwrap());
    assert!(catalog.nodes().await.unwrap().is_empty());
    assert!(!catalog.remove_dead_node(&node("a"), 10.0).await.unwrap());

    catalog.heartbeat_node(&lease("b", 30.0)).await.unwrap();
    catalog.set_draining(&node("b"), true).await.unwrap();
    catalog.heartbeat_node(&lease("b", 30.0)).await.unwrap();
    assert!(catalog.nodes().await.unwrap()[0].service.draining, "a heartbeat does not undo an operator's drain");
    catalog.set_draining(&node("b"), false).await.unwrap();
    assert!(!catalog.nodes().await.unwrap()[0].service.draining);
}

#[tokio::test]
async fn service_rows_are_what_python_reads() {
    let cluster = Cluster::start().await;
    let catalog = &cluster.catalog;
    catalog.heartbeat_node(&lease("n1", 30.0)).await.unwrap();
    let s = seg("a:b/c".replace('/', "%").as_str());
    let row = segment_service(ROLE_READ, &node("n1"), &s, "http://n1:6444", 6444, 0.25);
    catalog.advertise(std::slice::from_ref(&row)).await.unwrap();
    let stored: Json = catalog.client().run(&r::table("services").get(row.id.as_str())).await.unwrap();
    assert_eq!(stored["id"], "trough-read:n1:a:b%c");
    assert_eq!(stored["url"], "http://n1:6444/?segment=a:b%25c");
    assert_eq!(stored["ttl"], 1e12);
    assert_eq!(stored["last_heartbeat"]["$reql_type$"], "TIME");
    let live =
        r::table("services").filter(|row| r::now().sub(row.clone().g("last_heartbeat")).lt(row.g("ttl"))).count();
    assert_eq!(catalog.client().run(&live).await.unwrap(), 2, "the old clients' filter takes both rows for alive");

    let found = catalog.services_of_segment(&s).await.unwrap();
    assert_eq!((found.len(), found[0].alive, found[0].cold), (1, true, false));
    age(catalog, &node("n1"), 31.0).await;
    assert!(!catalog.services_of_segment(&s).await.unwrap()[0].alive, "a row lives no longer than its node's lease");
}

#[tokio::test]
async fn many_rows_go_in_batches_and_come_as_streams() {
    let cluster = Cluster::start().await;
    let catalog = &cluster.catalog;
    let segments = segs(2_345);
    for n in ["n1", "n2"] {
        catalog.heartbeat_node(&lease(n, 30.0)).await.unwrap();
        let rows: Vec<Service> =
            segments.iter().map(|s| segment_service(ROLE_READ, &node(n), s, "http://n:1/", 1, 0.0)).collect();
        catalog.advertise(&rows).await.unwrap();
    }
    catalog.advertise(&[segment_service(ROLE_WRITE, &node("n1"), &segments[0], "http://n:2/", 2, 0.0)]).await.unwrap();
    assert_eq!(catalog.services_of_segments(&segments).await.unwrap().len(), 2_345);
    assert_eq!(catalog.services_of_segment(&segments[0]).await.unwrap().len(), 3);
    assert_eq!(collect(catalog.services_of_node(&node("n1")).await.unwrap()).await.len(), 2_347);
    assert_eq!(collect(catalog.stream_read_services(None).await.unwrap()).await.len(), 4_690);
    assert_eq!(collect(catalog.stream_read_services(Some("^s0000[0-4]$")).await.unwrap()).await.len(), 10);

    let ids: Vec<String> = segments.iter().map(|s| Service::segment_id(ROLE_READ, &node("n2"), s)).collect();
    assert_eq!(catalog.withdraw(&ids).await.unwrap(), 2_345);
    assert_eq!(catalog.delete_node_services(&node("n1")).await.unwrap(), 0, "a node whose lease runs keeps its rows");
    catalog.heartbeat_node(&lease("n1", 0.0)).await.unwrap();
    assert_eq!(catalog.delete_node_services(&node("n1")).await.unwrap(), 2_346);
    assert_eq!(catalog.nodes().await.unwrap().len(), 2, "the node's own row stays");
}

#[tokio::test]
async fn one_of_two_candidates_is_elected_and_fences_the_other() {
    let cluster = Cluster::start().await;
    let catalog = &cluster.catalog;
    let (a, b) = (candidate("A", 30.0), candidate("B", 30.0));
    let (first, second) = tokio::join!(catalog.elect(&a), catalog.elect(&b));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first.mine != second.mine, "exactly one");
    assert_eq!(first.master.holder, second.master.holder);
    let (winner, loser) = if first.mine { (&a, &b) } else { (&b, &a) };
    assert!(first.won != second.won);
    let renewed = catalog.elect(winner).await.unwrap();
    assert!(renewed.mine);
    assert_eq!(renewed.master.first_heartbeat, first.master.first_heartbeat, "a renewal keeps the tenure");

    assert!(matches!(catalog.raise_epoch(&loser.holder).await, Err(CatalogError::NotMaster { .. })));
    let old_epoch = catalog.raise_epoch(&winner.holder).await.unwrap();
    assert_eq!((old_epoch, catalog.current_epoch().await.unwrap()), (1, 1));
    let s = segs(3);
    catalog.commit_assignments(&[assignment("n1", &s[0], 0)], &[], old_epoch).await.unwrap();

    // The master pauses; the other is elected once the ttl has passed by the server's clock.
    assert!(!catalog.elect(loser).await.unwrap().mine);
    let past = r::table("services").get("trough-sync-master").update(r::object([("last_heartbeat", r::now().sub(31))]));
    catalog.client().write(&past).await.unwrap();
    let taken = catalog.elect(loser).await.unwrap();
    assert!(taken.mine && taken.won);
    assert!(!catalog.elect(winner).await.unwrap().mine, "the paused one finds itself deposed");
    let epoch = catalog.raise_epoch(&loser.holder).await.unwrap();
    assert_eq!(epoch, 2);
    catalog.commit_assignments(&[assignment("n2", &s[0], 0)], &[], epoch).await.unwrap();

    // What the deposed one still writes is refused, new rows and old ones.
    let late = catalog.commit_assignments(&[assignment("n1", &s[1], 0)], &[], old_epoch).await;
    assert!(late.as_ref().is_err_and(CatalogError::is_fenced), "{late:?}");
    let gone = catalog.commit_assignments(&[], &[Assignment::row_id(&node("n2"), &s[0])], old_epoch).await;
    assert!(gone.is_err_and(|e| e.is_fenced()));
    assert!(catalog.publish_generation(0, old_epoch).await.is_err_and(|e| e.is_fenced()));
    assert_eq!(catalog.assignments_of_segment(&s[0]).await.unwrap().len(), 2);

    assert_eq!(catalog.publish_generation(0, epoch).await.unwrap(), 1);
    assert!(matches!(catalog.publish_generation(0, epoch).await, Err(CatalogError::Conflict { .. })));
    assert_eq!(catalog.generation().await.unwrap().generation, 1);

    assert!(!catalog.resign(&winner.holder).await.unwrap());
    assert!(catalog.resign(&loser.holder).await.unwrap());
    assert!(catalog.master().await.unwrap().is_none());
}

#[tokio::test]
async fn the_conflict_function_refuses_an_older_epoch() {
    // Without the epoch document, the rows themselves fence.
    let cluster = Cluster::start().await;
    let catalog = &cluster.catalog;
    let s = segs(1_500);
    let puts: Vec<Assignment> = s.iter().map(|s| assignment("n1", s, 0)).collect();
    catalog.commit_assignments(&puts, &[], 5).await.unwrap();
    let ids: Vec<String> = puts.iter().map(|a| a.id.clone()).collect();
    assert!(catalog.commit_assignments(&puts[..1], &[], 4).await.is_err_and(|e| e.is_fenced()));
    assert!(catalog.commit_assignments(&[], &ids[..1], 4).await.is_err_and(|e| e.is_fenced()));
    let rows = collect(catalog.assignments_of_node(&node("n1")).await.unwrap()).await;
    assert_eq!(rows.len(), 1_500);
    assert!(rows.iter().all(|a| a.epoch == 5 && a.assigned_on.is_some()));

    // A Python master's document and rows do no harm.
    let python = r::array([
        r::expr(json!({"id": "ring-assignments", "n1": {"ring": 0, "weight": 1}})),
        r::expr(
            json!({"id": "n9:old", "node": "n9", "segment": "old", "hash_ring": "cold", "remote_path": "/o", "bytes": 3}),
        ),
    ]);
    catalog.client().write(&r::table("assignment").insert(python)).await.unwrap();
    let all = collect(catalog.all_assignments().await.unwrap()).await;
    assert_eq!(all.len(), 1_501);
    catalog.commit_assignments(&[], &["n9:old".to_owned()], 5).await.unwrap();
    catalog.commit_assignments(&[], &ids, 6).await.unwrap();
    assert!(collect(catalog.all_assignments().await.unwrap()).await.is_empty());
}

fn acquired(outcomes: &[LockOutcome]) -> Vec<bool> {
    outcomes.iter().map(|o| matches!(o, LockOutcome::Acquired { .. })).collect()
}

#[tokio::test]
async fn locks_change_hands_only_when_they_may() {
    let cluster = Cluster::start().await;
    let catalog = &cluster.catalog;
    let (n1, n2, s) = (node("n1"), node("n2"), segs(3));
    catalog.heartbeat_node(&lease("n1", 30.0)).await.unwrap();
    catalog.heartbeat_node(&lease("n2", 30.0)).await.unwrap();

    let (one, two) = tokio::join!(catalog.acquire_locks(&s, &n1, "p1", 1), catalog.acquire_locks(&s, &n2, "p2", 1));
    for (one, two) in one.unwrap().iter().zip(two.unwrap()) {
        assert!(matches!(one, LockOutcome::Acquired { .. }) != matches!(two, LockOutcome::Acquired { .. }));
        assert_eq!(one.lock(), two.lock());
    }
    for lock in collect(catalog.locks().await.unwrap()).await {
        assert!(catalog.release_lock(&lock).await.unwrap());
        assert!(!catalog.release_lock(&lock).await.unwrap());
    }

    let mine = catalog.acquire_locks(&s, &n1, "p1", 1).await.unwrap();
    assert_eq!(acquired(&mine), [true; 3]);
    assert_eq!((mine[0].lock().fence, mine[0].lock().id.as_str()), (1, "write:lock:s00000"));
    let again = catalog.acquire_locks(&s, &n1, "p1", 3).await.unwrap();
    assert_eq!((acquired(&again), again[0].lock().fence, again[0].lock().epoch), (vec![true; 3], 1, 3));
    let older = catalog.acquire_locks(&s, &n1, "p1", 2).await;
    assert!(older.is_err_and(|e| e.is_fenced()), "an older master's order is refused");

    // The same node, restarted: its own locks, with a higher fence.
    let restarted = catalog.acquire_locks(&s[..1], &n1, "p1b", 3).await.unwrap();
    assert_eq!((acquired(&restarted), restarted[0].lock().fence), (vec![true], 2));
    assert!(!catalog.release_lock(mine[0].lock()).await.unwrap(), "an earlier tenure releases nothing");
    assert!(!catalog.holds_lock(mine[0].lock()).await.unwrap());
    assert!(catalog.holds_lock(restarted[0].lock()).await.unwrap());

    // Another node: refused while the lease and the margin run, then taken over.
    assert_eq!(acquired(&catalog.acquire_locks(&s, &n2, "p2", 3).await.unwrap()), [false; 3]);
    age(catalog, &n1, 31.0).await;
    assert_eq!(acquired(&catalog.acquire_locks(&s, &n2, "p2", 3).await.unwrap()), [false; 3]);
    age(catalog, &n1, 31.0 + TAKEOVER_MARGIN).await;
    let taken = catalog.acquire_locks(&s, &n2, "p2", 3).await.unwrap();
    assert_eq!((acquired(&taken), taken[0].lock().fence, taken[1].lock().fence), (vec![true; 3], 3, 2));
    assert!(!catalog.release_lock(restarted[0].lock()).await.unwrap());
    // What cannot be made use of becomes its former holder's again, as it was.
    let LockOutcome::Acquired { lock, former: Some(former) } = &taken[1] else { panic!("taken over") };
    assert_eq!((&former.node, former.fence, former), (&n1, 1, again[1].lock()));
    assert!(catalog.restore_lock(lock, former).await.unwrap());
    assert_eq!(catalog.lock(&lock.segment).await.unwrap().as_ref(), Some(former));
    assert!(!catalog.restore_lock(lock, former).await.unwrap(), "only its own lock");
    let taken = catalog.acquire_locks(&s, &n2, "p2", 3).await.unwrap();
    assert_eq!(collect(catalog.locks_of_node(&n2).await.unwrap()).await.len(), 3);

    // One promotion at a time.
    let lock = taken[0].lock();
    assert!(catalog.set_under_promotion(lock, true).await.unwrap());
    assert!(!catalog.set_under_promotion(lock, true).await.unwrap());
    assert!(catalog.lock(&lock.segment).await.unwrap().unwrap().under_promotion);
    assert!(catalog.set_under_promotion(lock, false).await.unwrap());
    assert!(!catalog.set_under_promotion(restarted[0].lock(), true).await.unwrap());

    let locks: Vec<Lock> = taken.iter().map(|o| o.lock().clone()).collect();
    let mut stale = locks.clone();
    stale[1].fence += 1;
    assert_eq!(catalog.release_locks(&stale).await.unwrap(), 2);
    assert_eq!(catalog.release_locks(&locks).await.unwrap(), 1);
}

#[tokio::test]
async fn a_python_lock_reads_and_is_taken_over() {
    let cluster = Cluster::start().await;
    let catalog = &cluster.catalog;
    let row = json!({"id": "write:lock:x", "node": "py", "segment": "x", "under_promotion": false,
        "acquired_on": Time::from_epoch(1_795_373_910.578)});
    catalog.client().write(&r::table("lock").insert(row)).await.unwrap();
    let lock = catalog.lock(&seg("x")).await.unwrap().unwrap();
    assert_eq!((lock.fence, lock.holder), (0, None));
    // The node py has no row: it has stopped.
    let taken = catalog.acquire_locks(&[seg("x")], &node("n1"), "p", 1).await.unwrap();
    assert_eq!((acquired(&taken), taken[0].lock().fence), (vec![true], 1));
}

#[tokio::test]
async fn feeds_begin_with_what_is_there() {
    let cluster = Cluster::start().await;
    let catalog = &cluster.catalog;
    let s = segs(2);
    catalog.acquire_locks(&s[..1], &node("n1"), "p", 1).await.unwrap();
    catalog.commit_assignments(&[assignment("n1", &s[0], 0), assignment("n2", &s[0], 1)], &[], 1).await.unwrap();
    let mut locks = catalog.lock_feed().await.unwrap();
    let mut assigned = catalog.assignment_feed(&node("n1")).await.unwrap();
    assert!(
        matches!(locks.next().await.unwrap().unwrap(), Change::Row { old: None, new: Some(l) } if l.segment == s[0])
    );
    assert_eq!(locks.next().await.unwrap().unwrap(), Change::Ready);
    assert!(
        matches!(assigned.next().await.unwrap().unwrap(), Change::Row { new: Some(a), .. } if a.node == node("n1"))
    );
    assert_eq!(assigned.next().await.unwrap().unwrap(), Change::Ready);

    let lock = catalog.lock(&s[0]).await.unwrap().unwrap();
    catalog.release_lock(&lock).await.unwrap();
    assert!(matches!(locks.next().await.unwrap().unwrap(), Change::Row { old: Some(_), new: None }));
    catalog.commit_assignments(&[assignment("n2", &s[1], 0), assignment("n1", &s[1], 1)], &[], 1).await.unwrap();
    assert!(
        matches!(assigned.next().await.unwrap().unwrap(), Change::Row { old: None, new: Some(a) } if a.segment == s[1])
    );
}

#[tokio::test]
async fn promotions_and_schemas_are_recorded() {
    let cluster = Cluster::start().await;
    let catalog = &cluster.catalog;
    let s = segs(2);
    catalog.commit_assignments(&[assignment("n1", &s[0], 0), assignment("n2", &s[0], 1)], &[], 1).await.unwrap();
    assert_eq!(catalog.record_canonical(&s[0], 99, 5_000, Some("ab")).await.unwrap(), 2);
    let rows = catalog.assignments_of_segment(&s[0]).await.unwrap();
    assert!(rows.iter().all(|a| a.bytes == 99 && a.mtime_ms == Some(5_000) && a.sha256.as_deref() == Some("ab")));
    assert_eq!(catalog.record_canonical(&s[1], 98, 6_000, Some("cd")).await.unwrap(), 0);
    let beside = catalog.canonical_of_segments(&s).await.unwrap();
    assert_eq!((beside.len(), beside[0].bytes, beside[0].mtime_ms), (1, 98, 6_000));
    catalog.forget_canonical(&s).await.unwrap();
    assert!(catalog.canonical_of_segments(&s).await.unwrap().is_empty());

    let schema = Schema { id: "crawl".into(), sql: "create table t (a);".into() };
    assert!(catalog.put_schema(&schema).await.unwrap());
    assert!(!catalog.put_schema(&schema).await.unwrap());
    let id = SchemaId::new("crawl").unwrap();
    assert_eq!(catalog.require_schema(&id).await.unwrap(), schema);
    let missing = catalog.require_schema(&SchemaId::new("nope").unwrap()).await.unwrap_err();
    assert!(missing.to_string().contains("nope"));
    let by_id: HashMap<String, String> = catalog.schemas().await.unwrap().into_iter().map(|s| (s.id, s.sql)).collect();
    assert_eq!(by_id.len(), 2);
}

#[tokio::test]
async fn a_shred_is_remembered_with_its_latest_time() {
    let cluster = Cluster::start().await;
    let (catalog, s) = (&cluster.catalog, segs(2));
    assert!(catalog.shreds_of_segments(&s).await.unwrap().is_empty());
    for mtime_ms in [5, 9, 7] {
        catalog.record_shred(&s[0], mtime_ms).await.unwrap();
    }
    let shreds = catalog.shreds_of_segments(&s).await.unwrap();
    assert_eq!(shreds.into_iter().collect::<Vec<_>>(), [(s[0].clone(), 9)]);
}

#[tokio::test]
async fn a_node_whose_rows_were_deleted_hears_of_it_with_its_next_renewal() {
    let cluster = Cluster::start().await;
    let (catalog, n1) = (&cluster.catalog, node("n1"));
    let renew = async || catalog.heartbeat_node(&lease("n1", 30.0)).await.unwrap();
    assert!(renew().await, "there was no row");
    assert!(!renew().await);
    catalog.delete_node_services(&n1).await.unwrap();
    assert!(renew().await);
    assert!(!renew().await, "once is enough");
    // One without a row gets none.
    catalog.remove_node(&n1).await.unwrap();
    catalog.delete_node_services(&n1).await.unwrap();
    assert!(catalog.node(&n1).await.unwrap().is_none());
}
