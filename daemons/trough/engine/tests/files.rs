//! Segment files: created, copied, sealed, replaced and removed, and brought in order after a crash.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{sync::Arc, time::Duration};

use common::{allow, bench, id};
use trough_core::ErrorCode;
use trough_engine::{EngineOptions, Mode};

fn wal_header(path: &std::path::Path) -> bool {
    std::fs::read(path).unwrap().get(18) == Some(&2)
}

#[tokio::test]
async fn files_are_made_from_a_schema() {
    let b = bench();
    assert_eq!(b.engine.create(b.path("empty"), String::new()).await, Ok(0));
    assert_eq!(b.engine.create(b.path("s"), "create table t(a); insert into t values(1)".into()).await, Ok(8192));
    // What is there stays.
    assert_eq!(b.engine.create(b.path("s"), "create table other(a)".into()).await, Ok(8192));
    assert_eq!(b.read("s", "select a from t").await.unwrap(), "[{\"a\":1}]\n");
    b.write("empty", "create table t(a)").await.unwrap();
    let bad = b.engine.create(b.path("bad"), "create create".into()).await.unwrap_err();
    assert_eq!((bad.code, bad.message.as_str()), (ErrorCode::BadSql, "schema: near \"create\": syntax error"));
    let long = b.dir.path().join(format!("{}.sqlite", "x".repeat(255)));
    assert!(b.engine.create(long, String::new()).await.unwrap_err().message.contains("too long"));
    let names: Vec<_> = std::fs::read_dir(b.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{names:?}");
}

#[tokio::test]
async fn a_snapshot_is_whole_and_plain_while_writers_go_on() {
    let b = Arc::new(bench());
    b.engine.create(b.path("s"), "create table t(a); create table log(n)".into()).await.unwrap();
    b.write("s", "insert into t values(1), (2)").await.unwrap();
    let writer = {
        let b = b.clone();
        tokio::spawn(async move {
            for i in 0..100 {
                b.write("s", &format!("insert into t values({i}); insert into log values({i})")).await.unwrap();
            }
        })
    };
    let mut n = 0;
    while !writer.is_finished() {
        let copy = b.dir.path().join(format!("copy-{n}"));
        let snapshot = b.engine.snapshot(b.hot("s"), copy.clone()).await.unwrap();
        assert!(!wal_header(&copy));
        assert_eq!(snapshot.bytes, std::fs::metadata(&copy).unwrap().len());
        let conn = rusqlite::Connection::open(&copy).unwrap();
        let rows: i64 =
            conn.query_row("select (select count(*) from t) - (select count(*) from log)", [], |r| r.get(0)).unwrap();
        assert_eq!(rows, 2, "half a transaction in the copy");
        n += 1;
    }
    writer.await.unwrap();
    assert!(n > 0);
    let empty = b.engine.create(b.path("empty"), String::new()).await;
    assert_eq!(empty, Ok(0));
    let snapshot = b.engine.snapshot(b.hot("empty"), b.dir.path().join("copy-empty")).await.unwrap();
    assert_eq!(snapshot.bytes, 0);
    assert_eq!(snapshot.sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(
        b.engine.snapshot(b.hot("absent"), b.dir.path().join("x")).await.unwrap_err().code,
        ErrorCode::UnknownSegment
    );
}

#[tokio::test]
async fn settling_respects_later_writes() {
    let b = bench();
    b.engine.create(b.path("s"), "create table t(a)".into()).await.unwrap();
    b.write("s", "insert into t values(1)").await.unwrap();
    let mtime = |name: &str| {
        let since = std::fs::metadata(b.path(name)).unwrap().modified().unwrap().duration_since(std::time::UNIX_EPOCH);
        since.unwrap().as_millis() as i64
    };
    let copy = b.dir.path().join("copy");
    let snapshot = b.engine.snapshot(b.hot("s"), copy.clone()).await.unwrap();
    assert_eq!(snapshot.mtime_ms, mtime("s"));
    let raised = snapshot.mtime_ms + 5000;
    assert!(b.engine.settle(b.hot("s"), snapshot.clone(), raised).await.unwrap());
    assert_eq!(mtime("s"), raised);
    b.write("s", "insert into t values(2)").await.unwrap();
    assert!(!b.engine.settle(b.hot("s"), snapshot, raised + 1).await.unwrap());
    // Sealed, the file keeps the time of its last write.
    let snapshot = b.engine.snapshot(b.hot("s"), copy).await.unwrap();
    assert!(b.engine.settle(b.hot("s"), snapshot, raised + 10).await.unwrap());
    assert!(b.engine.seal(b.hot("s")).await.unwrap());
    assert_eq!(mtime("s"), raised + 10);
    assert!(!wal_header(&b.path("s")));
    assert_eq!(b.read_as("s", Mode::Immutable, "select count(*) c from t").await.unwrap(), "[{\"c\":2}]\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn replacing_a_file_fails_no_query() {
    let b = Arc::new(bench());
    let version = |v: i64, name: &str| {
        b.make(name, &format!("create table t(v); with recursive n(i) as (values(1) union all select i+1 from n limit 2000) insert into t select {v} from n"));
    };
    version(0, "s");
    let readers: Vec<_> = [Mode::Hot, Mode::Immutable, Mode::Immutable]
        .into_iter()
        .map(|mode| {
            let b = b.clone();
            tokio::spawn(async move {
                let mut seen = 0;
                while seen < 30 {
                    let text = b.read_as("s", mode, "select min(v) a, max(v) b, count(*) c from t").await.unwrap();
                    let row: serde_json::Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(row[0]["a"], row[0]["b"], "two files in one answer");
                    assert_eq!(row[0]["c"], 2000);
                    let now = row[0]["a"].as_i64().unwrap();
                    assert!(now >= seen, "an old file after a new one");
                    seen = now;
                }
            })
        })
        .collect();
    for v in 1..=30 {
        version(v, "new");
        b.engine.replace(b.hot("s"), b.path("new")).await.unwrap();
    }
    for reader in readers {
        tokio::time::timeout(std::time::Duration::from_secs(60), reader).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_written_file_is_replaced_and_removed_with_what_belongs_to_it() {
    let b = bench();
    b.engine.create(b.path("s"), "create table t(a)".into()).await.unwrap();
    b.write("s", "insert into t values(1)").await.unwrap();
    assert!(b.path("s").with_extension("sqlite-wal").exists());
    b.make("new", "create table t(a); insert into t values('new')");
    b.engine.replace(b.hot("s"), b.path("new")).await.unwrap();
    assert_eq!(b.read("s", "select a from t").await.unwrap(), "[{\"a\":\"new\"}]\n");
    b.write("s", "insert into t values(2)").await.unwrap();
    assert_eq!(b.read("s", "select count(*) c from t").await.unwrap(), "[{\"c\":2}]\n");
    // Renamed over by somebody else: the writer notices.
    b.make("other", "create table t(a)");
    b.engine.seal(b.hot("s")).await.unwrap();
    b.write("s", "insert into t values(3)").await.unwrap();
    b.engine.seal(b.hot("s")).await.unwrap();
    std::fs::rename(b.path("other"), b.path("s")).unwrap();
    b.write("s", "insert into t values(4)").await.unwrap();
    assert_eq!(b.read("s", "select a from t").await.unwrap(), "[{\"a\":4}]\n");
    b.engine.remove(b.hot("s")).await.unwrap();
    assert_eq!(b.read("s", "select a from t").await.unwrap_err().code, ErrorCode::UnknownSegment);
    assert_eq!(std::fs::read_dir(b.dir.path()).unwrap().count(), 0);
    b.engine.remove(b.hot("s")).await.unwrap();
    let gone = b.engine.replace(b.hot("s"), b.path("nothing")).await.unwrap_err();
    assert_eq!(gone.code, ErrorCode::Io);
}

#[tokio::test]
async fn what_a_killed_process_left_is_read_and_brought_in_order() {
    let b = bench();
    b.engine.create(b.path("s"), "create table t(a)".into()).await.unwrap();
    for i in 0..5 {
        b.write("s", &format!("insert into t values({i})")).await.unwrap();
    }
    // The files as they lie on the disk at this moment, the log among them, are what kill -9 leaves.
    for suffix in ["", "-wal"] {
        let from = format!("{}{suffix}", b.path("s").display());
        std::fs::copy(from, format!("{}{suffix}", b.path("killed").display())).unwrap();
    }
    assert_eq!(b.read("killed", "select count(*) c from t").await.unwrap(), "[{\"c\":5}]\n");
    assert!(b.engine.seal(b.hot("killed")).await.unwrap());
    assert!(!wal_header(&b.path("killed")));
    assert!(!b.path("killed").with_extension("sqlite-wal").exists());
    assert_eq!(b.read_as("killed", Mode::Immutable, "select count(*) c from t").await.unwrap(), "[{\"c\":5}]\n");
    // While somebody reads, the header stays, and nothing fails.
    b.write("s", "with recursive n(i) as (values(1) union all select i+1 from n limit 100000) insert into t select hex(zeroblob(20)) from n").await.unwrap();
    let reading = b
        .engine
        .legacy_read(b.hot("s"), "select a from t".into(), tokio_util::sync::CancellationToken::new())
        .await
        .unwrap();
    assert!(!b.engine.seal(b.hot("s")).await.unwrap());
    assert_eq!(reading.collect().await.unwrap().iter().filter(|b| **b == b'\n').count(), 100_005);
    b.engine.write_script(b.hot("s"), "insert into t values(1)".into(), allow()).await.unwrap();
    assert!(b.engine.seal(b.hot("s")).await.unwrap());
    assert!(!b.engine.is_being_written(&id("s")));
}

/// A kill or a full disk ends a checkpoint after the header and before the pages that are new: the file alone is too short.
#[tokio::test]
async fn what_a_checkpoint_left_that_did_not_come_to_its_end_is_whole_with_its_log() {
    let b = bench();
    b.engine.create(b.path("s"), "create table t(a)".into()).await.unwrap();
    b.write("s", "with recursive n(i) as (values(1) union all select i+1 from n limit 100) insert into t select hex(zeroblob(200)) from n").await.unwrap();
    let log = |name: &str| b.path(name).with_extension("sqlite-wal");
    for name in ["whole", "read", "sealed", "checked", "bare"] {
        std::fs::copy(b.path("s"), b.path(name)).unwrap();
        std::fs::copy(log("s"), log(name)).unwrap();
    }
    assert!(b.engine.seal(b.hot("whole")).await.unwrap());
    let whole = std::fs::read(b.path("whole")).unwrap();
    assert!(whole.len() > 8 * 4096);
    for name in ["read", "sealed", "checked", "bare"] {
        let mut begun = whole[..3 * 4096].to_vec();
        // As a checkpoint has it: the header of the log's first page, which says WAL.
        begun[18..20].copy_from_slice(&[2, 2]);
        std::fs::write(b.path(name), begun).unwrap();
    }
    let count = "select count(*) c, sum(length(a)) l from t";
    let all = "[{\"c\":100,\"l\":40000}]\n";
    assert_eq!(b.read("read", count).await.unwrap(), all);
    assert!(b.engine.seal(b.hot("sealed")).await.unwrap());
    assert!(!log("sealed").exists());
    assert_eq!(b.read_as("sealed", Mode::Immutable, count).await.unwrap(), all);
    b.engine.check(b.path("checked")).await.unwrap();
    b.write("checked", "insert into t values('more')").await.unwrap();
    assert_eq!(b.read("checked", "select count(*) c from t").await.unwrap(), "[{\"c\":101}]\n");
    // Without its log it is what it looks like.
    std::fs::remove_file(log("bare")).unwrap();
    let error = b.engine.seal(b.hot("bare")).await.unwrap_err();
    assert!(error.code == ErrorCode::Corrupt && error.message.contains("truncated"), "{error:?}");
}

#[tokio::test]
async fn a_clean_end_leaves_plain_files() {
    let b = bench();
    for name in ["a", "b", "c"] {
        b.engine.create(b.path(name), "create table t(a)".into()).await.unwrap();
        b.write(name, "insert into t values(1)").await.unwrap();
    }
    b.engine.close_writers().await;
    for name in ["a", "b", "c"] {
        assert!(!wal_header(&b.path(name)));
        b.engine.check(b.path(name)).await.unwrap();
    }
    assert_eq!(std::fs::read_dir(b.dir.path()).unwrap().count(), 3);
}

#[tokio::test]
async fn an_idle_writer_is_closed_and_the_file_keeps_its_settled_time() {
    let options = EngineOptions { writer_idle: Duration::from_millis(50), ..EngineOptions::default() };
    let b = common::bench_with(options);
    b.engine.create(b.path("s"), "create table t(a)".into()).await.unwrap();
    b.write("s", "insert into t values(1)").await.unwrap();
    let snapshot = b.engine.snapshot(b.hot("s"), b.dir.path().join("copy")).await.unwrap();
    let raised = snapshot.mtime_ms + 5000;
    // Whether the writer is still open or closed already.
    assert!(b.engine.settle(b.hot("s"), snapshot, raised).await.unwrap());
    let closed = async {
        while b.engine.is_being_written(&id("s")) || wal_header(&b.path("s")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.unwrap();
    assert!(b.engine.seal(b.hot("s")).await.unwrap());
    let mtime = std::fs::metadata(b.path("s")).unwrap().modified().unwrap();
    assert_eq!(mtime.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64, raised);
    assert!(!b.path("s").with_extension("sqlite-wal").exists());
    b.write("s", "insert into t values(2)").await.unwrap();
    assert_eq!(b.read("s", "select count(*) c from t").await.unwrap(), "[{\"c\":2}]\n");
}
