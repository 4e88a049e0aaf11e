//! What is told of a query when it is over, and how SQLite would run a statement.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::sync::mpsc;

use common::{bench, request};
use tokio_util::sync::CancellationToken;
use trough_core::ErrorCode;
use trough_engine::{Dialect, Format, OnEnd, QueryReport};

/// What a test keeps of a report.
#[derive(Debug)]
struct Told {
    sql: String,
    segments: usize,
    figures: (u64, u64, u64),
    slowest: Option<String>,
    segment_error: Option<ErrorCode>,
    error: Option<ErrorCode>,
}

fn listener() -> (OnEnd, mpsc::Receiver<Told>) {
    let (sender, told) = mpsc::channel();
    let on_end: OnEnd = Box::new(move |report: &QueryReport<'_>| {
        let stats = report.stats;
        let kept = Told {
            sql: report.sql.to_owned(),
            segments: report.segments,
            figures: (stats.ok, stats.failed, stats.rows),
            slowest: report.slowest.map(|(file, _)| file.id.to_string()),
            segment_error: report.segment_error.map(|e| e.code),
            error: report.error.map(|e| e.code),
        };
        sender.send(kept).unwrap();
    });
    (on_end, told)
}

#[tokio::test]
async fn a_query_is_told_once_when_it_is_over() {
    let b = bench();
    b.make("a", "create table t(k); insert into t values(1),(2)");
    b.make("b", "create table t(k); insert into t values(3)");
    b.make("c", "create table other(k)");
    let ask = async |names: &[&str], map: &str, reduce: Option<&str>| {
        let (on_end, told) = listener();
        let files = names.iter().map(|name| Ok(b.hot(name))).collect();
        let query = request(names, map, reduce);
        let stream =
            b.engine.query_told(files, query, Format::MessagePack, CancellationToken::new(), Some(on_end)).await;
        stream.collect().await.unwrap();
        let first = told.recv().unwrap();
        assert!(told.recv().is_err(), "told twice");
        first
    };
    let told = ask(&["a", "b", "c"], "select k from t", None).await;
    assert_eq!((told.sql.as_str(), told.segments, told.figures), ("select k from t", 3, (2, 1, 3)));
    assert_eq!((told.segment_error, told.error), (Some(ErrorCode::NoSuchTable), None));
    assert!(["a", "b", "c"].contains(&told.slowest.as_deref().unwrap()));
    let told = ask(&["a", "b"], "select k from t", Some("select sum(k) from partial")).await;
    assert_eq!((told.figures, told.error), ((2, 0, 1), None));
    // The second time the segment is open, and the answer made on the caller's thread.
    for _ in 0..2 {
        let told = ask(&["a"], "select k from t where k > 1", None).await;
        assert_eq!((told.segments, told.figures), (1, (1, 0, 1)));
    }
    let told = ask(&["a"], "select k from t; select 1", None).await;
    assert_eq!((told.figures, told.error), ((0, 0, 0), Some(ErrorCode::BadSql)));
    let told = ask(&["a", "b"], "selec", None).await;
    assert_eq!(told.error, Some(ErrorCode::BadSql));
}

#[tokio::test]
async fn the_old_endpoint_tells_the_same() {
    let b = bench();
    b.make("a", "create table t(k); insert into t values(1),(2)");
    let ask = async |sql: &str| {
        let (on_end, told) = listener();
        let read = b.engine.legacy_read_told(b.hot("a"), sql.into(), CancellationToken::new(), Some(on_end)).await;
        if let Ok(stream) = read {
            let _ = stream.collect().await;
        }
        told.recv().unwrap()
    };
    for _ in 0..2 {
        let told = ask("select k from t").await;
        assert_eq!((told.figures, told.error), ((1, 0, 2), None));
    }
    let told = ask("select k from nowhere").await;
    assert_eq!((told.figures, told.error), ((0, 1, 0), Some(ErrorCode::NoSuchTable)));
    assert_eq!(ask("delete from t").await.error, Some(ErrorCode::BadSql));
}

#[tokio::test]
async fn a_plan_is_asked_without_running_anything() {
    let b = bench();
    b.make("a", "create table t(k integer primary key, v); create index by_v on t(v)");
    let plan = async |sql: &str| b.engine.plan(b.hot("a"), sql.into(), Dialect::Strict).await;
    assert_eq!(plan("select * from t where v = ?1").await.unwrap(), ["SEARCH t USING COVERING INDEX by_v (v=?)"]);
    assert_eq!(plan("select * from t order by k").await.unwrap(), ["SCAN t"]);
    let nested = plan("select k from t where v in (select k from t where k > ?1)").await.unwrap();
    assert!(nested.iter().any(|line| line.starts_with("  ")), "{nested:?}");
    for refused in ["delete from t", "select 1; select 2", "attach 'x' as y", "select * from nowhere"] {
        assert!(plan(refused).await.is_err(), "{refused}");
    }
}
