//! Segments read by ranges, over a store that fails as it is told.
#![allow(missing_docs)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use trough_core::{ErrorCode, SegmentError, Value, wire::QueryRequest};
use trough_engine::{EngineOptions, Format, Mode, Remote, RemoteOptions};

mod common;
use common::{
    Answer, Bench, bench_with,
    faulty::{Faults, Faulty, options},
    request,
};

const ROWS: i64 = 20_000;

fn engine(faults: Faults, options: RemoteOptions) -> (Bench, Arc<Faults>, Remote) {
    let faults = Arc::new(faults);
    let remote = Remote::new(Arc::new(Faulty(faults.clone())), options, Handle::current()).expect("a VFS");
    let options =
        EngineOptions { remote: Some(remote.clone()), threads: 2, point_threads: 2, ..EngineOptions::default() };
    (bench_with(options), faults, remote)
}

fn sound() -> (Bench, Arc<Faults>, Remote) {
    engine(Faults::default(), options())
}

fn table(page: u32, mark: &str) -> String {
    format!(
        "PRAGMA page_size={page}; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, mark TEXT); CREATE INDEX t_name ON t (name);\
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})\
         INSERT INTO t SELECT i, printf('name-%08d', i * 7919 % {ROWS}), '{mark}' FROM n;"
    )
}

async fn ask(bench: &Bench, name: &str, sql: &str) -> Answer {
    bench.query_files(vec![Ok(bench.file(name, Mode::Remote))], request(&[name], sql, None)).await
}

async fn one(bench: &Bench, name: &str, sql: &str) -> Value {
    let answer = ask(bench, name, sql).await;
    assert!(answer.errors.is_empty() && answer.error.is_none(), "{answer:?}");
    answer.values()[0][0].clone()
}

async fn failure(bench: &Bench, name: &str, sql: &str) -> SegmentError {
    let answer = ask(bench, name, sql).await;
    assert!(answer.rows.is_empty(), "{answer:?}");
    answer.errors.first().map(|(_, e)| e.clone()).or(answer.error).expect("an error")
}

/// Puts another file into its place, as a promotion does.
fn replace(bench: &Bench, name: &str, sql: &str) {
    bench.make("next", sql);
    let later = std::time::SystemTime::now() + Duration::from_secs(5);
    std::fs::File::options().write(true).open(bench.path("next")).and_then(|f| f.set_modified(later)).expect("touched");
    std::fs::rename(bench.path("next"), bench.path(name)).expect("renamed");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_the_local_file() {
    // Pieces of a row each are kept as they come; others are put together.
    for (page, piece) in [(512, 64 << 10), (4096, 64 << 10), (4096, 1500), (4096, 100_000), (65_536, 64 << 10)] {
        let (bench, ..) = engine(Faults { piece, ..Faults::default() }, options());
        let name = format!("p{page}");
        bench.make(&name, &table(page, "x"));
        for sql in [
            "SELECT count(*), sum(id), max(name) FROM t",
            "SELECT id FROM t WHERE name = 'name-00012345'",
            "SELECT id, name FROM t WHERE id IN (1, 999, 20000, 20001) ORDER BY id DESC",
            "SELECT a.name, b.name FROM t a, t b ORDER BY a.mark || b.mark, b.name DESC, a.name LIMIT 3 OFFSET 10",
        ] {
            let sql = if sql.contains("t b") {
                sql.replace("t a, t b", "(SELECT * FROM t LIMIT 300) a, (SELECT * FROM t LIMIT 300) b")
            } else {
                sql.into()
            };
            let local = bench.query(&[&name], request(&[&name], &sql, None)).await;
            let remote = ask(&bench, &name, &sql).await;
            assert!(!local.rows.is_empty() && remote.errors.is_empty(), "{sql}: {remote:?}");
            assert_eq!(local.rows, remote.rows, "{sql}");
        }
    }
    let (bench, ..) = sound();
    bench.make("p4096", &table(4096, "x"));
    let old = bench.read_as("p4096", Mode::Remote, "SELECT name FROM t WHERE id = 3").await.expect("the old endpoint");
    assert_eq!(old, bench.read("p4096", "SELECT name FROM t WHERE id = 3").await.expect("local"));
    let refused = failure(&bench, "p4096", "DELETE FROM t").await;
    assert_eq!(refused.code, ErrorCode::Forbidden);
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_fetch_little_and_scans_fetch_ahead() {
    let (bench, faults, remote) = sound();
    bench.make("a", &table(4096, &"wide".repeat(40)));
    let size = std::fs::metadata(bench.path("a")).expect("made").len();
    assert_eq!(one(&bench, "a", "SELECT id FROM t WHERE name = 'name-00000000'").await, Value::Integer(ROWS));
    let lookup = bench.engine.stats().remote;
    assert!(lookup.fetches <= 8 && lookup.fetched_bytes < 128 << 10, "{lookup:?} of {size}");
    assert_eq!(one(&bench, "a", "SELECT count(*) FROM t WHERE mark >= ''").await, Value::Integer(ROWS));
    let scan = bench.engine.stats().remote;
    assert!(scan.fetches - lookup.fetches < size / (256 << 10) + 20, "{scan:?} of {size}");
    assert!(scan.fetched_bytes <= size + (512 << 10), "nothing is fetched twice: {scan:?} of {size}");
    assert_eq!(one(&bench, "a", "SELECT count(*) FROM t WHERE mark >= ''").await, Value::Integer(ROWS));
    assert_eq!(bench.engine.stats().remote.fetches, scan.fetches, "all of it is in memory");
    assert_eq!(faults.opens.load(Ordering::SeqCst), 1);
    remote.forget_blocks();
    assert_eq!(bench.engine.stats().remote.blocks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_keeps_within_its_bytes() {
    let limit = 512 << 10;
    let (bench, ..) = engine(Faults::default(), RemoteOptions { cache_bytes: limit, ..options() });
    for name in ["a", "b"] {
        bench.make(name, &table(4096, &"wide".repeat(40)));
    }
    for name in ["a", "b", "a"] {
        assert_eq!(one(&bench, name, "SELECT count(*) FROM t WHERE mark >= ''").await, Value::Integer(ROWS));
        let stats = bench.engine.stats().remote;
        assert!(stats.block_bytes <= limit && stats.blocks > 20, "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_one_block_share_a_fetch() {
    let faults = Faults { gate: Semaphore::new(0), ..Faults::default() };
    let (bench, faults, _) = engine(faults, options());
    bench.make("a", &table(4096, "x"));
    let sql = "SELECT id FROM t WHERE name = 'name-00000000'";
    let release = async {
        // All ten wait for the file's first read before it comes.
        while bench.engine.stats().remote.block_misses < 10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.engine.stats().remote.fetches, 1);
        faults.gate.close();
    };
    let asks = futures::future::join_all((0..10).map(|_| one(&bench, "a", sql)));
    let (answers, ()) = futures::join!(asks, release);
    assert!(answers.iter().all(|v| *v == Value::Integer(ROWS)));
    let stats = bench.engine.stats().remote;
    assert!(stats.fetches <= 8, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_hangs_is_left_at_the_deadline_and_by_cancellation() {
    let faults = Faults { gate: Semaphore::new(0), ..Faults::default() };
    let (bench, ..) = engine(faults, options());
    for i in 0..8 {
        bench.make(&format!("s{i}"), &table(4096, "x"));
    }
    bench.make("hot", &table(4096, "x"));
    let begun = Instant::now();
    let mut late = request(&["s0"], "SELECT count(*) FROM t", None);
    late.deadline_ms = Some(300);
    let ask = |request: QueryRequest| bench.query_files(vec![Ok(bench.file("s0", Mode::Remote))], request);
    let answer = ask(late).await;
    assert_eq!(answer.error.expect("failed").code, ErrorCode::Deadline);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    let cancel = CancellationToken::new();
    let hanging = (0..8).map(|i| {
        let name = format!("s{i}");
        let request = request(&[&name], "SELECT count(*) FROM t", None);
        let files = vec![Ok(bench.file(&name, Mode::Remote))];
        bench.engine.query(files, request, Format::MessagePack, cancel.clone())
    });
    let all = futures::future::join_all(hanging);
    let meanwhile = async {
        // More reads hang than there are threads; others are answered all the same.
        while bench.engine.stats().blocked < 4 {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.read("hot", "SELECT count(*) AS n FROM t").await.expect("answered"), "[{\"n\":20000}]\n");
        cancel.cancel();
    };
    let (streams, ()) = futures::join!(all, meanwhile);
    for stream in streams {
        let answer = Answer::decode(&stream.collect().await.expect("whole"));
        assert_eq!(answer.error.expect("failed").code, ErrorCode::Cancelled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_is_named() {
    let faults = Faults { gate: Semaphore::new(0), ..Faults::default() };
    let (bench, faults, _) = engine(faults, RemoteOptions { read_timeout: Duration::from_millis(200), ..options() });
    bench.make("a", &table(4096, "x"));
    let error = failure(&bench, "a", "SELECT count(*) FROM t").await;
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("segment 'a'") && error.message.contains("COLD_READ_TIMEOUT"), "{error:?}");
    faults.gate.close();
    assert_eq!(one(&bench, "a", "SELECT count(*) FROM t").await, Value::Integer(ROWS), "the next query reads anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_is_opened_again_without_a_failed_query() {
    let (bench, faults, remote) = sound();
    bench.make("a", &table(4096, "old"));
    let sql = "SELECT min(mark) || max(mark) FROM t WHERE id + 0 > 0";
    let text = |t: &str| Value::Text(t.into());
    assert_eq!(one(&bench, "a", "SELECT mark FROM t WHERE id = 1").await, text("old"));
    // The store's blocks of the old file are gone, which an open connection finds out by a failing read.
    replace(&bench, "a", &table(4096, "new"));
    assert_eq!(one(&bench, "a", sql).await, text("newnew"));
    assert_eq!(bench.engine.stats().remote.files_reopened, 1);
    // The old file can still be read: nobody notices, until the store is asked.
    faults.old_files_go.store(false, Ordering::SeqCst);
    replace(&bench, "a", &format!("{} UPDATE t SET mark = 'newest';", table(4096, "x")));
    assert_eq!(one(&bench, "a", sql).await, text("newnew"));
    remote.recheck(bench.path("a").to_str().expect("text"));
    assert_eq!(one(&bench, "a", sql).await, text("newestnewest"));
    std::fs::remove_file(bench.path("a")).expect("removed");
    remote.recheck(bench.path("a").to_str().expect("text"));
    let error = failure(&bench, "a", sql).await;
    assert_eq!(error.code, ErrorCode::UnknownSegment);
    assert!(error.message.contains("segment 'a'"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_files_are_asked_about_from_time_to_time() {
    let (bench, faults, _) = engine(Faults::default(), RemoteOptions { check_every: Duration::ZERO, ..options() });
    bench.make("a", &table(4096, "old"));
    for (mark, stats) in [("old", 0), ("new", 1)] {
        assert_eq!(one(&bench, "a", "SELECT mark FROM t WHERE id = 1").await, Value::Text(mark.into()));
        assert_eq!(faults.stats.load(Ordering::SeqCst), stats);
        replace(&bench, "a", &table(4096, "new"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_rows_were_sent_a_replaced_file_is_an_error_and_no_mixture() {
    let faults = Faults { gate: Semaphore::new(8), ..Faults::default() };
    let (bench, faults, _) = engine(faults, options());
    bench.make("a", &table(4096, &"o".repeat(200)));
    let files = vec![Ok(bench.file("a", Mode::Remote))];
    let query = request(&["a"], "SELECT id, mark FROM t", None);
    let stream = bench.engine.query(files, query, Format::MessagePack, CancellationToken::new()).await;
    replace(&bench, "a", &table(4096, &"n".repeat(200)));
    faults.gate.close();
    let answer = Answer::decode(&stream.collect().await.expect("whole"));
    assert!(!answer.rows.is_empty(), "rows were sent before");
    let (_, error) = answer.errors.first().expect("a failure of the segment");
    assert!(error.message.contains("segment 'a'") && error.message.contains("gone"), "{error:?}");
    let marks = answer.values().iter().filter(|row| row[1] == Value::Text("o".repeat(200))).count();
    assert_eq!(marks, answer.rows.len(), "all of the old file");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_once_is_tried_again_and_what_fails_on_is_told() {
    let (bench, faults, _) = engine(Faults { failing_reads: AtomicI64::new(1), ..Faults::default() }, options());
    bench.make("a", &table(4096, "x"));
    let scan = "SELECT count(*) FROM t WHERE mark >= ''";
    assert_eq!(one(&bench, "a", scan).await, Value::Integer(ROWS), "the header's read failed once");
    bench.make("b", &table(4096, "x"));
    assert_eq!(one(&bench, "b", "SELECT count(*) FROM t WHERE id = 1").await, Value::Integer(1));
    faults.failing_reads.store(1, Ordering::SeqCst);
    assert_eq!(one(&bench, "b", scan).await, Value::Integer(ROWS), "a read within a query failed once");
    let map = request(&["b"], "SELECT count(*) AS n FROM t WHERE name >= ''", Some("SELECT sum(n) FROM partial"));
    faults.failing_reads.store(1, Ordering::SeqCst);
    let answer = bench.query_files(vec![Ok(bench.file("b", Mode::Remote))], map).await;
    assert_eq!(answer.values(), [[Value::Integer(ROWS)]], "map and reduce: {answer:?}");
    faults.failing_reads.store(i64::MAX, Ordering::SeqCst);
    bench.make("c", &table(4096, "x"));
    let error = failure(&bench, "c", scan).await;
    assert_eq!(error.code, ErrorCode::Io);
    assert!(error.message.contains("segment 'c'") && error.message.contains("on fire"), "{error:?}");
}
