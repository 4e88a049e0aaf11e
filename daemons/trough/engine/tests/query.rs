//! `POST /v1/query`: map, reduce, parameters, failures of one segment and of the whole, limits, back-pressure, forms.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use common::{Answer, Bench, Got, bench, bench_with, request};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use trough_core::{ErrorCode, SegmentError, Value, wire::QueryRequest};
use trough_engine::{EngineOptions, Format, Limits};

fn segments(b: &Bench, n: i64) -> Vec<String> {
    let names: Vec<String> = (0..n).map(|i| format!("s{i}")).collect();
    for (i, name) in names.iter().enumerate() {
        b.make(name, &format!("create table t(k text, v int); insert into t values('a',{i}),('b',{i}*10),('a',1)"));
    }
    names
}

fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn map_alone_tags_rows_with_their_segment() {
    let b = bench();
    let names = segments(&b, 50);
    let names = refs(&names);
    let answer = b.query(&names, request(&names, "select k, v from t order by rowid", None)).await;
    assert_eq!(answer.columns, ["k", "v"]);
    assert_eq!(answer.rows.len(), 150);
    for i in 0..50 {
        let mine: Vec<_> = answer.rows.iter().filter(|(segment, _)| *segment == Some(i)).collect();
        assert_eq!(mine.len(), 3);
        assert_eq!(mine[1].1, [Got::Value(Value::Text("b".into())), Got::Value(Value::Integer(i64::from(i) * 10))]);
    }
    let end = answer.end.unwrap();
    assert_eq!((end.ok, end.failed, end.rows), (50, 0, 150));
}

#[tokio::test]
async fn first_rows_are_those_that_sqlite_picks() {
    let b = bench();
    let names = segments(&b, 300);
    let names = refs(&names);
    let map = "select k as c1, v as c2, :segment as c3, nullif(v % 7, 3) as k1 from t order by k1 desc nulls last, c2, c1, c3 limit ?1";
    let picked = "SELECT * FROM partial ORDER BY k1 DESC NULLS LAST, c2 ASC NULLS LAST, c1 ASC NULLS LAST, c3 ASC NULLS LAST LIMIT ?1";
    for limit in [1, 2, 7, 500, 899, 2000] {
        let mut answers = Vec::new();
        // A blank more, and it is SQLite's.
        for reduce in [picked.to_owned(), format!("{picked} ")] {
            let mut request = request(&names, map, Some(&reduce));
            (request.params, request.reduce_params) = (vec![Value::Integer(limit)], vec![Value::Integer(limit)]);
            let answer = b.query(&names, request).await;
            assert_eq!(answer.columns, ["c1", "c2", "c3", "k1"]);
            assert_eq!(answer.end.unwrap().ok, 300);
            answers.push(answer.values());
        }
        assert_eq!(answers[0].len() as i64, limit.min(900));
        assert_eq!(answers[0], answers[1]);
    }
}

#[tokio::test]
async fn connections_of_wide_requests_are_kept_as_far_as_there_is_room() {
    for (budget, kept) in [(160, 140), (64, 56)] {
        let b = bench_with(EngineOptions { handle_budget: budget, threads: 1, ..EngineOptions::default() });
        let names = segments(&b, 140);
        let names = refs(&names);
        for round in 0..3 {
            let answer =
                b.query(&names, request(&names, "select v from t", Some("select count(*) from partial"))).await;
            assert_eq!(answer.values(), [vec![Value::Integer(420)]]);
            let stats = b.engine.stats();
            assert_eq!((stats.handles_open, stats.handle_hits, stats.handle_evictions), (kept, round * kept, 0));
        }
    }
}

#[tokio::test]
async fn reduce_runs_over_all_partial_rows() {
    let b = bench();
    let names = segments(&b, 300);
    let names = refs(&names);
    let map = "select k, count(*) as n, sum(v) as s from t group by k";
    let reduce = "select k, sum(n), sum(s) from partial group by k order by k";
    let answer = b.query(&names, request(&names, map, Some(reduce))).await;
    let sum: i64 = (0..300).sum();
    assert_eq!(
        answer.values(),
        [
            vec![Value::Text("a".into()), Value::Integer(600), Value::Integer(sum + 300)],
            vec![Value::Text("b".into()), Value::Integer(300), Value::Integer(sum * 10)],
        ]
    );
    assert!(answer.rows.iter().all(|(segment, _)| segment.is_none()));
    let end = answer.end.unwrap();
    assert_eq!((end.ok, end.rows), (300, 2));
}

#[tokio::test]
async fn parameters_are_typed_and_the_segment_is_one() {
    let b = bench();
    b.make("x:y", "create table t(a)");
    let values = vec![
        Value::Null,
        Value::Integer(i64::MIN),
        Value::Real(-0.0),
        Value::Text("it's \0".into()),
        Value::Blob(vec![0, 255]),
        Value::Real(f64::INFINITY),
    ];
    let mut asked = request(&["x:y"], "select :segment, ?1, ?2, ?3, ?4, ?5, ?6, typeof(?3), ':segment'", None);
    asked.params = values.clone();
    for _ in 0..3 {
        let answer = b.query(&["x:y"], asked.clone()).await;
        let row = &answer.values()[0];
        assert_eq!(row[0], Value::Text("x:y".into()));
        assert_eq!(row[1..7], values);
        assert!(matches!(row[3], Value::Real(r) if r.is_sign_negative()));
        assert_eq!(row[7..], [Value::Text("real".into()), Value::Text(":segment".into())]);
    }
    asked.params.pop();
    let answer = b.query(&["x:y"], asked.clone()).await;
    assert_eq!(answer.error.unwrap().code, ErrorCode::BadRequest);
    asked.reduce = Some("select ?1 + n from partial".into());
    asked.map = "select 1 as n".into();
    asked.params.clear();
    asked.reduce_params = vec![Value::Integer(41)];
    assert_eq!(b.query(&["x:y"], asked).await.values(), [[Value::Integer(42)]]);
}

#[tokio::test]
async fn one_segments_failure_is_its_own() {
    let b = bench();
    let names = segments(&b, 4);
    b.make("other", "create table u(a)");
    std::fs::write(b.path("bad"), "garbage ".repeat(1000)).unwrap();
    let mut files: Vec<_> = names.iter().map(|name| Ok(b.hot(name))).collect();
    files.push(Ok(b.hot("other")));
    files.push(Ok(b.hot("bad")));
    files.push(Ok(b.hot("absent")));
    let moved = SegmentError { code: ErrorCode::Moved, message: "elsewhere".into(), hint: Some("http://h/".into()) };
    files.push(Err(moved.clone()));
    let all = ["s0", "s1", "s2", "s3", "other", "bad", "absent", "gone"];
    for reduce in [None, Some("select sum(v) from partial")] {
        let answer = b.query_files(files.clone(), request(&all, "select v from t", reduce)).await;
        let mut errors = answer.errors.clone();
        errors.sort_by_key(|(segment, _)| *segment);
        let codes: Vec<_> = errors.iter().map(|(segment, e)| (*segment, e.code)).collect();
        assert_eq!(
            codes,
            [
                (4, ErrorCode::NoSuchTable),
                (5, ErrorCode::Corrupt),
                (6, ErrorCode::UnknownSegment),
                (7, ErrorCode::Moved)
            ]
        );
        assert_eq!(errors[3].1, moved);
        let end = answer.end.unwrap();
        assert_eq!((end.ok, end.failed), (4, 4));
        match reduce {
            None => assert_eq!(answer.rows.len(), 12),
            Some(_) => assert_eq!(answer.values(), [[Value::Integer(66 + 4)]]),
        }
    }
}

#[tokio::test]
async fn what_is_wrong_everywhere_is_told_once() {
    let b = bench();
    let names = segments(&b, 20);
    let names = refs(&names);
    for (map, reduce, code) in [
        ("select from", None, ErrorCode::BadSql),
        ("select 1; select 2", None, ErrorCode::BadSql),
        ("delete from t", None, ErrorCode::Forbidden),
        ("attach 'x' as y", None, ErrorCode::Forbidden),
        ("select load_extension('x')", None, ErrorCode::Forbidden),
        ("-- nothing", None, ErrorCode::BadSql),
        ("select v from t", Some("select nosuch from partial"), ErrorCode::BadSql),
        ("select v from t", Some("drop table partial"), ErrorCode::BadSql),
        ("select v, v from t", Some("select 1"), ErrorCode::BadRequest),
    ] {
        let answer = b.query(&names, request(&names, map, reduce)).await;
        assert!(answer.end.is_none() && answer.errors.is_empty(), "{map}: {answer:?}");
        assert_eq!(answer.error.unwrap().code, code, "{map}");
    }
    // A doubly quoted text is a column's name here, and nothing else.
    let answer = b.query(&names[..1], request(&names[..1], "select \"nosuch\" from t", None)).await;
    assert_eq!(answer.errors[0].1.code, ErrorCode::NoSuchColumn);
}

#[tokio::test]
async fn texts_in_utf_16_do_not_sort_by_the_bytes_of_utf_8() {
    let b = bench();
    let script = "create table t(a text); insert into t values('a'), ('Ā'), ('\u{ff5e}'), ('\u{10000}')";
    b.make("le", &format!("pragma encoding = 'UTF-16le'; {script}"));
    b.make("be", &format!("pragma encoding = 'UTF-16be'; {script}"));
    b.make("eight", script);
    let names = ["le", "be", "eight"];
    let bytewise = |map, reduce| QueryRequest { bytewise: true, ..request(&names, map, reduce) };
    for reduce in
        [None, Some("select * from partial order by c1 asc nulls last limit ?1"), Some("select max(c1) from partial")]
    {
        for _ in 0..2 {
            let mut request = bytewise("select a as c1 from t where a > 'Ā' order by a limit 1", reduce);
            request.reduce_params = vec![Value::Integer(1); usize::from(reduce.is_some_and(|r| r.contains("limit")))];
            let answer = b.query(&names, request).await;
            assert_eq!(answer.values(), [[Value::Text("\u{ff5e}".into())]], "{reduce:?}");
            let mut refused: Vec<_> = answer.errors.iter().map(|(at, e)| (*at, e.code)).collect();
            refused.sort_by_key(|(at, _)| *at);
            assert_eq!(refused, [(0, ErrorCode::TypeMismatch), (1, ErrorCode::TypeMismatch)]);
            assert!(answer.errors.iter().all(|(_, e)| e.message.contains("UTF-16")));
        }
    }
    // What does not rely on it is answered, on the same connections.
    let answer = b.query(&names, request(&names, "select a from t where a = 'Ā'", None)).await;
    assert_eq!(answer.rows.len(), 3);
}

#[tokio::test]
async fn invalid_text_travels_as_its_bytes() {
    let b = bench();
    b.make("s", "create table t(a); insert into t values(cast(x'41ff' as text)), ('fine')");
    let answer = b.query(&["s"], request(&["s"], "select a from t", None)).await;
    assert_eq!(answer.rows[0].1, [Got::Invalid(vec![0x41, 0xff])]);
    assert_eq!(answer.rows[1].1, [Got::Value(Value::Text("fine".into()))]);
    let reduced = b.query(&["s"], request(&["s"], "select a from t", Some("select a from partial"))).await;
    assert_eq!(reduced.rows[0].1, [Got::Invalid(vec![0x41, 0xff])]);
}

#[tokio::test]
async fn limits_and_deadlines() {
    let b = bench();
    let names = segments(&b, 10);
    let names = refs(&names);
    let mut asked = request(&names, "select v from t", None);
    asked.max_rows = Some(30);
    assert!(b.query(&names, asked.clone()).await.end.is_some());
    asked.max_rows = Some(29);
    assert_eq!(b.query(&names, asked.clone()).await.error.unwrap().code, ErrorCode::RowLimit);
    asked.max_rows = None;
    asked.max_bytes = Some(10);
    assert_eq!(b.query(&names, asked).await.error.unwrap().code, ErrorCode::ByteLimit);

    let endless = "with recursive n(i) as (values(1) union all select i+1 from n) select count(*) as c from n";
    for (map, reduce) in [(endless, None), ("select v from t", Some(endless))] {
        let mut asked = request(&names, map, reduce);
        asked.deadline_ms = Some(100);
        let began = Instant::now();
        let answer = b.query(&names, asked).await;
        assert_eq!(answer.error.unwrap().code, ErrorCode::Deadline);
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    let limits = Limits { max_partial_bytes: 1000, ..Limits::default() };
    let small = bench_with(EngineOptions { limits, ..EngineOptions::default() });
    small.make("s", "create table t(a)");
    let many = "with recursive n(i) as (values(1) union all select i+1 from n limit 100000) select i from n";
    let answer = small.query(&["s"], request(&["s"], many, Some("select count(*) from partial"))).await;
    assert_eq!(answer.error.unwrap().code, ErrorCode::ByteLimit);
}

#[tokio::test]
async fn a_large_answer_comes_in_pieces_and_a_slow_reader_holds_it_back() {
    let b = bench();
    let names = segments(&b, 3);
    let names = refs(&names);
    let map = "with recursive n(i) as (values(1) union all select i+1 from n limit 30000) select i, hex(zeroblob(50)) h from n";
    let files = names.iter().map(|name| Ok(b.hot(name))).collect();
    let mut stream =
        b.engine.query(files, request(&names, map, None), Format::MessagePack, CancellationToken::new()).await;
    let mut bytes = Vec::new();
    let mut pieces = 0;
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.unwrap());
        pieces += 1;
        tokio::task::yield_now().await;
    }
    assert!(pieces > 10 && bytes.len() > 9_000_000);
    let answer = Answer::decode(&bytes);
    assert_eq!(answer.rows.len(), 90_000);
    let sum: i64 = answer.values().iter().map(|row| if let Value::Integer(i) = row[0] { i } else { 0 }).sum();
    assert_eq!(sum, 3 * 30_000 * 30_001 / 2);
    assert_eq!(answer.end.unwrap().rows, 90_000);
}

#[tokio::test]
async fn a_failure_after_rows_were_sent_is_in_the_answer() {
    let b = bench();
    b.make("s", "create table t(a)");
    let map = "with recursive n(i) as (values(1) union all select i+1 from n limit 30000) \
               select case when i < 30000 then hex(zeroblob(50)) else seedcrawledstatus('x') end from n";
    let answer = b.query(&["s"], request(&["s"], map, None)).await;
    assert_eq!(answer.errors.len(), 1);
    assert!(answer.rows.len() > 1000);
    assert_eq!(answer.end.unwrap().failed, 1);
    // A segment that fails leaves nothing in `partial`.
    let answer = b.query(&["s"], request(&["s"], map, Some("select count(*) from partial"))).await;
    assert_eq!(answer.values(), [[Value::Integer(0)]]);
}

#[tokio::test]
async fn silence_is_broken_by_progress() {
    let b = bench();
    b.make("s", "create table t(a)");
    let map = "with recursive n(i) as (values(1) union all select i+1 from n) select count(*) from n";
    let mut asked = request(&["s"], map, None);
    asked.deadline_ms = Some(1500);
    let files = vec![Ok(b.hot("s"))];
    let stream = b.engine.query(files, asked, Format::Ndjson, CancellationToken::new()).await;
    let text = String::from_utf8(stream.collect().await.unwrap()).unwrap();
    assert!(text.starts_with("{\"progress\":{\"done\":0}}\n{\"error\":{\"code\":\"deadline\""), "{text}");
}

#[tokio::test]
async fn json_forms() {
    let b = bench();
    b.make("s\"1", "create table t(a, b); insert into t values(1, x'00'), ('é', 9e999), (cast(x'ff' as text), null)");
    let names = ["s\"1", "absent"];
    for (format, name) in [(Format::Ndjson, "lines"), (Format::Json, "document")] {
        let files = names.iter().map(|n| Ok(b.hot(n))).collect();
        let stream =
            b.engine.query(files, request(&names, "select a, b from t", None), format, CancellationToken::new()).await;
        let text = String::from_utf8(stream.collect().await.unwrap()).unwrap();
        let rows = [
            r#"{"segment":"s\"1","row":{"a":1,"b":{"blob":"AA=="}}}"#,
            r#"{"segment":"s\"1","row":{"a":"\u00e9","b":{"real":"inf"}}}"#,
            r#"{"segment":"s\"1","row":{"a":{"invalid_text":"/w=="},"b":null}}"#,
        ];
        for row in rows {
            assert!(text.contains(row), "{name}: {text}");
        }
        let error = r#"{"segment":"absent","error":{"code":"unknown_segment","message":"this node has no copy of segment 'absent'"}}"#;
        assert!(text.contains(error), "{text}");
        if format == Format::Json {
            let document: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(document["rows"].as_array().unwrap().len(), 3);
            assert_eq!(document["errors"].as_array().unwrap().len(), 1);
            assert_eq!(document["end"]["rows"], 3);
        } else {
            let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
            assert_eq!(lines.len(), 5);
            assert_eq!(lines[4]["end"]["failed"], 1);
        }
    }
    for sql in ["nonsense", "select 1; select 2"] {
        let files = vec![Ok(b.hot("s\"1"))];
        let stream =
            b.engine.query(files, request(&names[..1], sql, None), Format::Json, CancellationToken::new()).await;
        let document: serde_json::Value = serde_json::from_slice(&stream.collect().await.unwrap()).unwrap();
        assert_eq!(document["error"]["code"], "bad_sql");
    }
}

#[tokio::test]
async fn no_segments_is_an_empty_answer() {
    let b = bench();
    for reduce in [None, Some("select count(*) from partial")] {
        let answer = b.query(&[], request(&[], "select 1", reduce)).await;
        assert_eq!(answer.end.unwrap().rows, 0);
    }
}
