//! Writes: scripts, statements, group commit, what is refused, what survives.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use common::{allow, bench, bench_with, id};
use trough_core::{
    ErrorCode, SegmentError, Value,
    wire::{Packed, WriteResult, WriteStatement},
};
use trough_engine::{EngineOptions, Limits, Mode};

#[tokio::test]
async fn recorded_writes() {
    let b = bench();
    b.engine
        .create(b.path("s"), "create table foo (id integer primary key, bar varchar(100), baz real);".into())
        .await
        .unwrap();
    for sql in [
        "insert into foo (bar, baz) values ('a', 1.5)",
        "insert into foo (bar) values ('b'); insert into foo (bar) values ('c''d');",
        "  insert into foo(bar) values('e')  \n",
        "select 1",
        "insert into foo(bar) values('é中😀')",
        "create table n(i int, r real, t text, b blob, z); insert into n values (9223372036854775807, 1e300, 'tab\tquote\"slash/back\\', x'00ff41', null), (-5, -0.0, '', x'', 2);",
        "-- only a remark",
    ] {
        b.write("s", sql).await.unwrap();
    }
    for sql in ["", "   ", " \n;\t"] {
        assert_eq!(b.write("s", sql).await.unwrap_err().message, "No query provided.");
    }
    assert_eq!(b.write("s", "insert into nosuch values (1)").await.unwrap_err().message, "no such table: nosuch");
    // Readers see a write at once.
    assert_eq!(b.read("s", "select count(*) c from foo").await.unwrap(), "[{\"c\":5}]\n");
    b.write("s", "insert into foo(bar) values('x')").await.unwrap();
    assert_eq!(b.read("s", "select count(*) c from foo").await.unwrap(), "[{\"c\":6}]\n");
    assert_eq!(b.write("never", "create table t(a)").await.unwrap_err().code, ErrorCode::UnknownSegment);
}

#[tokio::test]
async fn a_script_is_all_or_nothing() {
    let b = bench();
    b.engine.create(b.path("s"), "create table t(a primary key)".into()).await.unwrap();
    for sql in [
        "insert into t values(1); insert into nosuch values(2)",
        "create table u(x); insert into t values(1), (1)",
        "begin; insert into t values(1); commit; insert into t values(1)",
        "insert into t values(1); insert or rollback into t values(1)",
        "insert into t values(1); rollback",
        "insert into t values(1); attach 'x.sqlite' as x",
        "insert into t values(1); pragma journal_mode=off",
        "insert into t values(1); pragma synchronous=off",
        "insert into t values(1); pragma writable_schema=on",
        "insert into t values(1); vacuum",
        "insert into t values(1); vacuum into 'copy.sqlite'",
        "insert into t values(1); select load_extension('x')",
        "insert into t values(1); release trough_request",
        "insert into t values(1); insert into t values(2",
    ] {
        let error = b.write("s", sql).await.unwrap_err();
        assert!(!error.message.is_empty(), "{sql}");
        assert_eq!(b.read("s", "select count(*) c from t").await.unwrap(), "[{\"c\":0}]\n", "{sql}");
        assert!(b.read("s", "select * from u").await.is_err());
    }
    b.write("s", "begin immediate; insert into t values(1); end; savepoint a; insert into t values(2); rollback to a; release a; commit;")
        .await
        .unwrap();
    assert_eq!(b.read("s", "select group_concat(a) c from t").await.unwrap(), "[{\"c\":\"1\"}]\n");
    b.write("s", "pragma user_version=7").await.unwrap();
    assert_eq!(b.read("s", "pragma user_version").await.unwrap(), "[{\"user_version\":7}]\n");
}

#[tokio::test]
async fn requests_share_transactions_and_fail_alone() {
    let b = bench();
    b.engine.create(b.path("s"), "create table t(a primary key, b not null)".into()).await.unwrap();
    let writes = (0..400).map(|i| {
        let sql = match i % 8 {
            0 => "insert into t values(-1, 1); insert into t values(-1, 1)".to_owned(),
            1 => format!("insert or rollback into t values({i}, null)"),
            2 => "nonsense".to_owned(),
            _ => format!("insert into t values({i}, 1)"),
        };
        let (engine, file) = (b.engine.clone(), b.hot("s"));
        async move { (i, engine.write_script(file, sql, allow()).await) }
    });
    for (i, result) in futures::future::join_all(writes).await {
        assert_eq!(result.is_ok(), i % 8 > 2, "{i}: {result:?}");
    }
    let stats = b.engine.stats();
    assert_eq!(stats.writes, 250);
    assert!(stats.commits < 100, "{stats:?}");
    assert_eq!(b.read("s", "select count(*) c, min(a) m from t").await.unwrap(), "[{\"c\":250,\"m\":3}]\n");
}

#[tokio::test]
async fn the_guard_decides_before_the_commit() {
    let b = bench();
    b.engine.create(b.path("s"), "create table t(a)".into()).await.unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let lost = || SegmentError::new(ErrorCode::NotWritable, "the lock is gone");
    // Refused at once, and refused at the last moment.
    for allowed in [0, 1] {
        let calls = calls.clone();
        calls.store(0, Ordering::Relaxed);
        let guard =
            Box::new(move || if calls.fetch_add(1, Ordering::Relaxed) < allowed { Ok(()) } else { Err(lost()) });
        let error = b.engine.write_script(b.hot("s"), "insert into t values(1)".into(), guard).await.unwrap_err();
        assert_eq!(error, lost());
    }
    // Neighbours in the same transaction are not harmed.
    let open = Arc::new(AtomicBool::new(true));
    let writes = (0..40).map(|i| {
        let (engine, file, open) = (b.engine.clone(), b.hot("s"), open.clone());
        let turn = AtomicUsize::new(0);
        let guard: trough_engine::Guard = Box::new(move || {
            let second = turn.fetch_add(1, Ordering::Relaxed) == 1;
            if i % 2 == 0 && second && open.load(Ordering::Relaxed) { Err(lost()) } else { Ok(()) }
        });
        async move { engine.write_script(file, format!("insert into t values({i})"), guard).await.is_ok() }
    });
    let done = futures::future::join_all(writes).await;
    assert_eq!(done.iter().filter(|ok| **ok).count(), 20);
    assert_eq!(b.read("s", "select count(*) c, sum(a % 2) o from t").await.unwrap(), "[{\"c\":20,\"o\":20}]\n");
}

fn statement(sql: &str, rows: Vec<Vec<Value>>) -> WriteStatement {
    WriteStatement { sql: sql.into(), rows, ..WriteStatement::default() }
}

#[tokio::test]
async fn statements_with_rows() {
    let b = bench();
    b.engine.create(b.path("s"), "create table t(a integer primary key, b)".into()).await.unwrap();
    let row = |i: i64| vec![Value::Integer(i), Value::Text(format!("x{i}"))];
    let list = vec![
        statement("insert into t values(?1, ?2)", (0..1000).map(row).collect()),
        statement("update t set b = b || '!' where a < 10", vec![]),
        statement("delete from t where a = ?1 returning b", vec![vec![Value::Integer(3)], vec![Value::Integer(-1)]]),
        statement("create index i on t(b)", vec![]),
    ];
    match b.engine.write(b.hot("s"), list, allow()).await {
        WriteResult::Ok { changes, returned, packed } => {
            assert_eq!(packed, None);
            assert_eq!(changes, 1000 + 10 + 1);
            assert_eq!(returned, [[Value::Text("x3!".into())]]);
        }
        WriteResult::Err { error } => panic!("{error}"),
    }
    for (list, code) in [
        (vec![statement("insert into t values(?1, ?2)", vec![row(5000), row(5000)])], ErrorCode::Constraint),
        (vec![statement("insert into t values(?1, ?2)", vec![row(5000), vec![Value::Null]])], ErrorCode::BadRequest),
        (
            vec![statement("insert into t values(5000, 1)", vec![]), statement("insert into u values(1)", vec![])],
            ErrorCode::NoSuchTable,
        ),
        (vec![statement("insert into t(c) values(1)", vec![])], ErrorCode::NoSuchColumn),
        (vec![statement("/* x */ commit", vec![])], ErrorCode::BadSql),
        (vec![statement("insert into t values(5000, 1); select 1", vec![])], ErrorCode::BadSql),
        (vec![statement("attach 'x' as x", vec![])], ErrorCode::Forbidden),
    ] {
        match b.engine.write(b.hot("s"), list.clone(), allow()).await {
            WriteResult::Ok { .. } => panic!("{list:?}"),
            WriteResult::Err { error } => assert_eq!(error.code, code, "{list:?}: {error}"),
        }
    }
    assert_eq!(b.read("s", "select count(*) c from t").await.unwrap(), "[{\"c\":999}]\n");
}

#[tokio::test]
async fn packed_rows_and_expected_changes() {
    let b = bench();
    b.engine.create(b.path("s"), "create table t(a integer primary key, b, s)".into()).await.unwrap();
    let statement = |sql: &str, count, columns, data: &'static [u8], each| WriteStatement {
        sql: sql.into(),
        packed: Some(Packed { count, columns, data: bytes::Bytes::from_static(data) }),
        each,
        ..WriteStatement::default()
    };
    let run = |list: Vec<WriteStatement>| b.engine.write(b.hot("s"), list, allow());
    // NULL makes the key; the second text is not UTF-8.
    let rows = b"\xc0\xa1x\x07\xc7\x01\x01\xff";
    let insert = statement("insert into t values(?1, ?2, :segment) returning a, b, s", 2, 2, rows, Some(1));
    match run(vec![insert]).await {
        WriteResult::Ok { changes: 2, returned, packed: Some(packed) } => {
            assert!(returned.is_empty());
            assert_eq!((packed.count, packed.columns), (2, 3));
            assert_eq!(&packed.data[..], b"\x01\xa1x\xa1s\x07\xc7\x01\x01\xff\xa1s");
        }
        other => panic!("{other:?}"),
    }
    let update = |key: &'static [u8]| statement("update t set b = 'y' where a = ?1", 1, 1, key, Some(1));
    match run(vec![update(b"\x07"), update(b"\x63")]).await {
        WriteResult::Err { error } => assert_eq!(error.code, ErrorCode::Conflict, "{error}"),
        other => panic!("{other:?}"),
    }
    for broken in [
        statement("insert into t values(?1, ?2, 1)", 1, 2, b"\x01", None),
        statement("insert into t values(?1, ?2, 1)", 1, 2, b"\x21\x02\x03", None),
        WriteStatement { rows: vec![vec![Value::Null]], ..update(b"\x07") },
    ] {
        match run(vec![broken]).await {
            WriteResult::Err { error } => assert_eq!(error.code, ErrorCode::BadRequest, "{error}"),
            other => panic!("{other:?}"),
        }
    }
    let left = b.read("s", "select count(*) c, sum(b = 'y') y from t").await.unwrap();
    assert_eq!(left, "[{\"c\":2,\"y\":0}]\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_never_wait_for_writers() {
    let b = Arc::new(bench_with(EngineOptions { checkpoint_pages: 10, ..EngineOptions::default() }));
    b.engine.create(b.path("s"), "create table t(a)".into()).await.unwrap();
    b.write("s", "insert into t values(0)").await.unwrap();
    let writing = {
        let b = b.clone();
        tokio::spawn(async move {
            for i in 1..300 {
                b.write(
                    "s",
                    &format!("insert into t values({i}); insert into t select hex(randomblob(2000)) from t limit 20"),
                )
                .await
                .unwrap();
            }
        })
    };
    let mut last = 0;
    while !writing.is_finished() {
        for _ in 0..10 {
            let text = b.read("s", "select max(a) m from t where typeof(a) = 'integer'").await.unwrap();
            let now: u32 = text["[{\"m\":".len()..text.len() - 3].parse().unwrap();
            assert!(now >= last, "a reader went back in time");
            last = now;
        }
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn a_full_disk_keeps_nothing_and_reads_go_on() {
    let b = bench_with(EngineOptions { max_segment_pages: 50, ..EngineOptions::default() });
    b.engine.create(b.path("s"), "create table t(a)".into()).await.unwrap();
    b.write("s", "insert into t values('kept')").await.unwrap();
    let big = "insert into t values('lost'); insert into t values(zeroblob(1000000))";
    let (full, small) = tokio::join!(b.write("s", big), b.write("s", "insert into t values('also kept')"));
    let error = full.unwrap_err();
    assert_eq!(error.code, ErrorCode::DiskFull);
    assert!(error.message.contains("'s'"), "{error}");
    small.unwrap();
    let rows = b.read("s", "select a from t").await.unwrap();
    assert_eq!(rows, "[{\"a\":\"kept\"},\n{\"a\":\"also kept\"}]\n");
    b.write("s", "insert into t values('more')").await.unwrap();
}

#[tokio::test]
async fn an_endless_script_is_interrupted() {
    let limits = Limits { query_timeout: std::time::Duration::from_millis(200), ..Limits::default() };
    let b = bench_with(EngineOptions { limits, ..EngineOptions::default() });
    b.engine.create(b.path("s"), "create table t(a)".into()).await.unwrap();
    let endless =
        "with recursive n(i) as (values(1) union all select i+1 from n) insert into t select i from n where i < 0";
    assert_eq!(b.write("s", endless).await.unwrap_err().code, ErrorCode::Deadline);
    b.write("s", "insert into t values(1)").await.unwrap();
    assert_eq!(b.read("s", "select a from t").await.unwrap(), "[{\"a\":1}]\n");
}

#[tokio::test]
async fn idle_writers_are_closed_beyond_the_budget() {
    let b = bench_with(EngineOptions { writer_budget: 4, ..EngineOptions::default() });
    let paths = (0..40).map(|i| b.path(&format!("s{i}"))).collect();
    for made in b.engine.create_many(paths, "create table t(a)".into()).await {
        assert!(made.unwrap() > 0);
    }
    for round in 0..2 {
        for i in 0..40 {
            b.write(&format!("s{i}"), "insert into t values(1)").await.unwrap();
            let expected = format!("[{{\"c\":{}}}]\n", round + 1);
            assert_eq!(b.read(&format!("s{i}"), "select count(*) c from t").await.unwrap(), expected);
        }
    }
    let wait = async {
        while b.engine.stats().writers_open > 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.unwrap();
}

#[tokio::test]
async fn an_immutable_reader_keeps_its_pages_until_it_ends() {
    let b = bench_with(EngineOptions { checkpoint_pages: 1, ..EngineOptions::default() });
    b.make("s", "create table t(a); with recursive n(i) as (values(1) union all select i+1 from n limit 60000) insert into t select hex(zeroblob(30)) from n");
    let sql = "select count(*) as n from (select a from t)";
    assert_eq!(b.read_as("s", Mode::Immutable, sql).await.unwrap(), "[{\"n\":60000}]\n");
    let mut stream = b
        .engine
        .legacy_read(b.file("s", Mode::Immutable), "select a from t".into(), tokio_util::sync::CancellationToken::new())
        .await
        .unwrap();
    let first = futures::StreamExt::next(&mut stream).await.unwrap().unwrap();
    for _ in 0..5 {
        b.write("s", "delete from t where rowid % 2 = 0; insert into t values('new')").await.unwrap();
    }
    assert!(b.engine.is_being_written(&id("s")));
    // A new reader sees the writes, however it asks; the old one its own state.
    let now = b.read_as("s", Mode::Immutable, "select count(*) c from t where a = 'new'").await.unwrap();
    assert_ne!(now, "[{\"c\":0}]\n");
    let rest = stream.collect().await.unwrap();
    let rows = first.iter().chain(&rest).filter(|byte| **byte == b'\n').count();
    assert_eq!(rows, 60_000);
}

#[tokio::test]
async fn many_segments_are_made_durable_together() {
    let b = bench();
    let names: Vec<String> = (0..300).map(|i| format!("s{i}")).collect();
    let paths = names.iter().map(|name| b.path(name)).collect();
    assert!(b.engine.create_many(paths, "create table t(a)".into()).await.iter().all(Result::is_ok));
    for _ in 0..2 {
        let writes = names.iter().map(|name| b.write(name, "insert into t values(1)"));
        for done in futures::future::join_all(writes).await {
            done.unwrap();
        }
    }
    for name in &names {
        assert_eq!(b.read(name, "select count(*) c from t").await.unwrap(), "[{\"c\":2}]\n");
    }
    // One alone again, by its own fsync.
    b.write("s0", "insert into t values(1)").await.unwrap();
    assert_eq!(b.read("s0", "select count(*) c from t").await.unwrap(), "[{\"c\":3}]\n");
}
