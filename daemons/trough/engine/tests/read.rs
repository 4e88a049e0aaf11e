//! The old read endpoint: the recorded exchanges that concern SQL, refusals, bad files, limits.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{bench, bench_with};
use tokio_util::sync::CancellationToken;
use trough_core::ErrorCode;
use trough_engine::{EngineOptions, Limits, Mode};

const ONE_SELECT: &str = "Exactly one SELECT query per request, please.";

const DATA: &str = "create table foo (id integer primary key, bar varchar(100), baz real);
    insert into foo (bar, baz) values ('a', 1.5);
    insert into foo (bar) values ('b'), ('c''d'), ('e'), ('é中😀');
    create table n(i int, r real, t text, b blob, z);
    insert into n values (9223372036854775807, 1e300, 'tab\tquote\"slash/back\\', x'00ff41', null), (-5, -0.0, '', x'', 2);";

#[tokio::test]
async fn recorded_answers() {
    let b = bench();
    b.make("seg-1", DATA);
    for (sql, expected) in [
        ("select id from foo where id = 1;", "[{\"id\":1}]\n"),
        (
            "select i, r, t, z from n order by i",
            "[{\"i\":-5,\"r\":0.0,\"t\":\"\",\"z\":2},\n{\"i\":9223372036854775807,\"r\":1e+300,\"t\":\"tab\\tquote\\\"slash/back\\\\\",\"z\":null}]\n",
        ),
        ("select b from n", "[{\"b\":\"AP9B\"},\n{\"b\":\"\"}]\n"),
        ("select 1, 1+1, count(*), 'x' as y", "[{\"1\":1,\"1+1\":2,\"count(*)\":1,\"y\":\"x\"}]\n"),
        ("select 1 as a, 2 as a", "[{\"a\":2}]\n"),
        ("  \n select 1 as one", "[{\"one\":1}]\n"),
        ("SeLeCt 1 As One", "[{\"One\":1}]\n"),
        ("with w as (select 1 as x) select * from w", "[{\"x\":1}]\n"),
        ("select (select max(id) from foo) as m", "[{\"m\":5}]\n"),
        ("select * from foo where id = 999", "[]\n"),
        ("select 1/0 as d", "[{\"d\":null}]\n"),
        ("select 9e999 as i, -9e999 as j", "[{\"i\":1e999,\"j\":-1e999}]\n"),
        ("select bar from foo where id = 5", "[{\"bar\":\"\\u00e9\\u4e2d\\ud83d\\ude00\"}]\n"),
        (
            "select 'abc' regexp '^b' as no, 'abc' regexp 'b' as yes, null regexp 'a' as n",
            "[{\"no\":0,\"yes\":1,\"n\":0}]\n",
        ),
        (
            "select 'foobar' regexp 'foo(?!baz)' as a, 'abab' regexp '^(ab)\\1$' as b, 5 regexp '5' as c",
            "[{\"a\":1,\"b\":1,\"c\":1}]\n",
        ),
        ("select seedcrawledstatus(200) s", "[{\"s\":\"Crawled\"}]\n"),
        ("select seedcrawledstatus(404) s", "[{\"s\":\"Crawled (HTTP error 404)\"}]\n"),
        ("select seedcrawledstatus(-5003) s", "[{\"s\":\"Not crawled (queued)\"}]\n"),
        ("select seedcrawledstatus(-9998) s", "[{\"s\":\"Not crawled (blocked by robots)\"}]\n"),
        ("select seedcrawledstatus(-1) s", "[{\"s\":\"Not crawled (-1)\"}]\n"),
        ("select seedcrawledstatus(399) s", "[{\"s\":\"Redirected\"}]\n"),
        ("select seedcrawledstatus(null) s", "[{\"s\":\"Not crawled (None)\"}]\n"),
        ("select seedcrawledstatus('200') s", "[{\"s\":\"Crawled\"}]\n"),
        (
            "select buildredirectarray('http://b/', 200, 'RR', '[{\"seed\": \"x\", \"status\": \"Redirected\"}]') s",
            "[{\"s\":\"[{\\\"seed\\\": \\\"x\\\", \\\"status\\\": \\\"Redirected\\\"}, {\\\"seed\\\": \\\"http://b/\\\", \\\"status\\\": \\\"Crawled\\\"}]\"}]\n",
        ),
        (
            "select buildredirectarray('u', 301, 'RRR', null) s",
            "[{\"s\":\"[null, null, {\\\"seed\\\": \\\"u\\\", \\\"status\\\": \\\"Redirected\\\"}]\"}]\n",
        ),
        // Different on purpose: allowed where nothing is written.
        ("values (1)", "[{\"column1\":1}]\n"),
        (
            "pragma table_info(n)",
            "[{\"cid\":0,\"name\":\"i\",\"type\":\"INT\",\"notnull\":0,\"dflt_value\":null,\"pk\":0},\n{\"cid\":1,\"name\":\"r\",\"type\":\"REAL\",\"notnull\":0,\"dflt_value\":null,\"pk\":0},\n{\"cid\":2,\"name\":\"t\",\"type\":\"TEXT\",\"notnull\":0,\"dflt_value\":null,\"pk\":0},\n{\"cid\":3,\"name\":\"b\",\"type\":\"BLOB\",\"notnull\":0,\"dflt_value\":null,\"pk\":0},\n{\"cid\":4,\"name\":\"z\",\"type\":\"\",\"notnull\":0,\"dflt_value\":null,\"pk\":0}]\n",
        ),
        // Clients of old may quote texts doubly.
        ("select \"nosuch\" as t", "[{\"t\":\"nosuch\"}]\n"),
    ] {
        // Twice: in the pool first, then on the caller's thread; and as an immutable file.
        for mode in [Mode::Hot, Mode::Hot, Mode::Immutable] {
            assert_eq!(b.read_as("seg-1", mode, sql).await.unwrap(), expected, "{sql}");
        }
    }
    assert!(b.read("seg-1", "explain select 1").await.unwrap().contains("\"opcode\":\"Init\""));
    assert!(b.engine.stats().inline_reads > 0);
}

#[tokio::test]
async fn recorded_refusals() {
    let b = bench();
    b.make("seg-1", DATA);
    for (sql, text) in [
        ("insert into foo(bar) values('x')", ONE_SELECT),
        ("", ONE_SELECT),
        ("selec", ONE_SELECT),
        ("attach ':memory:' as m", ONE_SELECT),
        ("select 1; select 2", ONE_SELECT),
        ("with w as (select 1) insert into foo(bar) select 'x'", "not authorized"),
        ("select * from nosuch", "no such table: nosuch"),
        ("select nosuch from foo", "no such column: nosuch"),
        ("select seedcrawledstatus('x') s", "user-defined function raised exception"),
        ("select buildredirectarray('http://c/', 404, '', null) s", "user-defined function raised exception"),
    ] {
        for _ in 0..2 {
            assert_eq!(b.read("seg-1", sql).await.unwrap_err().message, text, "{sql}");
        }
    }
    for sql in [
        "pragma journal_mode = delete",
        "pragma user_version = 3",
        "pragma writable_schema = on",
        "pragma wal_checkpoint",
        "select load_extension('x')",
        "explain insert into foo(bar) values ('x')",
        "pragma foreign_keys = on",
    ] {
        let error = b.read("seg-1", sql).await.unwrap_err();
        assert!(matches!(error.code, ErrorCode::Forbidden | ErrorCode::BadSql), "{sql}: {error:?}");
    }
    assert_eq!(b.read("seg-1", "pragma user_version").await.unwrap(), "[{\"user_version\":0}]\n");
    assert_eq!(b.read("seg-1", "select count(*) c from foo").await.unwrap(), "[{\"c\":5}]\n");
    let invalid = b.read("seg-1", "select cast(x'41ff' as text) as t").await.unwrap_err();
    assert_eq!(invalid.message, "Could not decode to UTF-8 column 't' with text 'A\u{fffd}'");
    let pattern = b.read("seg-1", "select 'a' regexp '('").await.unwrap_err();
    assert!(pattern.message.starts_with("REGEXP: "), "{pattern}");
    assert!(b.read("seg-1", "select 'a\0b'").await.unwrap_err().message.contains("NUL"));
}

#[tokio::test]
async fn bad_files_are_named() {
    let b = bench();
    let big = format!("{DATA} insert into n(t) select hex(randomblob(3000)) from n a, n b, n c;");
    b.make("good", &big);
    std::fs::write(b.path("text"), "no database at all, but long enough to have a header, were it one. ".repeat(20))
        .unwrap();
    std::fs::write(b.path("short"), "x").unwrap();
    let whole = std::fs::read(b.path("good")).unwrap();
    std::fs::write(b.path("cut"), &whole[..whole.len() - 5000]).unwrap();
    let mut garbled = whole.clone();
    garbled[4096..8192].fill(0xa5);
    std::fs::write(b.path("garbled"), garbled).unwrap();
    std::fs::write(b.path("empty"), "").unwrap();
    std::fs::create_dir(b.path("dir")).unwrap();
    {
        let conn = rusqlite::Connection::open(b.path("wal")).unwrap();
        conn.execute_batch("pragma journal_mode=wal; create table foo(x)").unwrap();
    }
    for mode in [Mode::Hot, Mode::Immutable] {
        for (name, code, part) in [
            ("absent", ErrorCode::UnknownSegment, "no copy"),
            ("text", ErrorCode::Corrupt, "not a database"),
            ("short", ErrorCode::Corrupt, "too short"),
            ("cut", ErrorCode::Corrupt, "truncated"),
            ("garbled", ErrorCode::Corrupt, "malformed"),
            ("dir", ErrorCode::Io, "directory"),
        ] {
            let error = b.read_as(name, mode, "select count(*) from foo, n").await.unwrap_err();
            assert_eq!(error.code, code, "{name}: {error}");
            assert!(error.message.contains(part) && error.message.contains(&format!("'{name}'")), "{error}");
            let directory = b.dir.path().to_str().unwrap();
            assert!(!error.message.contains(directory), "a path leaks: {error}");
        }
        assert_eq!(b.read_as("empty", mode, "select 1 x").await.unwrap(), "[{\"x\":1}]\n");
        let error = b.read_as("empty", mode, "select * from foo").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::NoSuchTable);
    }
    let error = b.read_as("wal", Mode::Immutable, "select * from foo").await.unwrap_err();
    assert!(error.message.contains("WAL mode"), "{error}");
    for (name, sound) in [
        ("good", true),
        ("text", false),
        ("short", false),
        ("cut", false),
        ("garbled", false),
        ("empty", true),
        ("dir", false),
        ("absent", false),
        ("wal", true),
    ] {
        assert_eq!(b.engine.check(b.path(name)).await.is_ok(), sound, "{name}");
    }
}

#[tokio::test]
async fn limits_are_errors() {
    let limits = Limits {
        max_rows: 10,
        max_bytes: 10_000,
        max_sql_bytes: 2000,
        max_expr_depth: 50,
        max_value_bytes: 100_000,
        query_timeout: std::time::Duration::from_millis(200),
        ..Limits::default()
    };
    let b = bench_with(EngineOptions { limits, ..EngineOptions::default() });
    b.make("s", "create table t(a)");
    let ten = "with recursive n(i) as (values(1) union all select i+1 from n limit 10) select i from n";
    assert!(b.read("s", ten).await.is_ok());
    let deep = format!("select {}1", "1+".repeat(60));
    let long = format!("select '{}'", "x".repeat(2000));
    for (sql, code) in [
        (ten.replace("limit 10", "limit 11").as_str(), ErrorCode::RowLimit),
        ("select printf('%20000d', 1)", ErrorCode::ByteLimit),
        (long.as_str(), ErrorCode::Limit),
        (deep.as_str(), ErrorCode::Limit),
        ("select length(zeroblob(200000))", ErrorCode::Limit),
        ("with recursive n(i) as (values(1) union all select i+1 from n) select count(*) from n", ErrorCode::Deadline),
    ] {
        for _ in 0..2 {
            let error = b.read("s", sql).await.unwrap_err();
            assert_eq!(error.code, code, "{sql:.60}: {error}");
        }
    }
}

#[tokio::test]
async fn dropping_the_answer_interrupts() {
    let b = bench();
    b.make("s", "create table t(a)");
    let endless = "with recursive n(i) as (values(1) union all select i+1 from n) select i, hex(zeroblob(500)) from n";
    let streams = futures::future::join_all(
        (0..8).map(|_| b.engine.legacy_read(b.hot("s"), endless.into(), CancellationToken::new())),
    )
    .await;
    assert!(streams.iter().all(Result::is_ok));
    // Eight readers that take nothing do not keep another one from its answer.
    assert_eq!(b.read("s", "select 1 x").await.unwrap(), "[{\"x\":1}]\n");
    drop(streams);
    let token = CancellationToken::new();
    let count = "with recursive n(i) as (values(1) union all select i+1 from n) select count(*) from n";
    let silent = b.engine.legacy_read(b.hot("s"), count.into(), token.clone());
    token.cancel();
    assert_eq!(silent.await.unwrap_err().code, ErrorCode::Cancelled);
    let quiet = async {
        while b.engine.stats().handles_busy > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), quiet).await.expect("all interrupted");
}

#[tokio::test]
async fn the_cache_keeps_within_its_budget() {
    let b = bench_with(EngineOptions { handle_budget: 64, ..EngineOptions::default() });
    let names: Vec<String> = (0..200).map(|i| format!("s{i}")).collect();
    for name in &names {
        b.make(name, "create table t(a); insert into t values(1)");
    }
    for _ in 0..2 {
        for name in &names {
            assert_eq!(b.read_as(name, Mode::Immutable, "select a from t").await.unwrap(), "[{\"a\":1}]\n");
            assert!(b.engine.stats().handles_open <= 65);
        }
    }
    assert!(b.engine.stats().handle_evictions > 0);
    b.engine.evict(&common::id("s199"));
}
