//! The engine beside plain rusqlite, on the same files in one run:
//! point reads over 1,000 segments, map and reduce over 4,044, durable single-row writes by eight writers.
//!
//! `cargo run --release -p trough-engine --example engine_bench [-- DIR [points] [groups] [scan] [writes]]`
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};
use tokio_util::sync::CancellationToken;
use trough_core::{
    SegmentId, Value,
    wire::{Frame, FrameDecoder, QueryRequest, WriteStatement},
};
use trough_engine::{Engine, EngineOptions, Format, Mode, SegmentFile};

const POINT_SEGMENTS: usize = 1000;
const SEGMENTS: usize = 4044;
const ROWS: usize = 83;
const MAP: &str = "select carrier, count(*) as n, sum(delay) as s from flights group by carrier";
const REDUCE: &str = "select carrier, sum(n), sum(s) from partial group by carrier";

fn path(dir: &Path, i: usize) -> PathBuf {
    dir.join(format!("s{i}.sqlite"))
}

fn file(dir: &Path, i: usize, mode: Mode) -> SegmentFile {
    SegmentFile::new(SegmentId::new(&format!("s{i}")).unwrap(), path(dir, i), mode)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let given = std::env::args().nth(1).map(PathBuf::from);
    let dir = given.unwrap_or_else(|| std::env::temp_dir().join("trough-engine-bench"));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    runtime.block_on(async {
        let engine = Engine::new(EngineOptions::default());
        load(&engine, &dir).await;
        let asked: Vec<String> = std::env::args().skip(2).collect();
        let wanted = |part: &str| asked.is_empty() || asked.iter().any(|a| a == part);
        if wanted("points") {
            points(&engine, &dir).await;
        }
        if wanted("groups") {
            groups(&engine, &dir).await;
        }
        if wanted("scan") {
            scan(&engine, &dir).await;
        }
        if wanted("writes") {
            writes(&engine, &dir).await;
        }
    });
    std::fs::remove_dir_all(&dir).unwrap();
}

async fn load(engine: &Engine, dir: &Path) {
    let schema = "create table flights(id integer primary key, carrier text, delay int, tail text, distance real); create index c on flights(carrier);";
    let began = Instant::now();
    let paths = (0..SEGMENTS).map(|i| path(dir, i)).collect();
    for made in engine.create_many(paths, schema.into()).await {
        made.unwrap();
    }
    println!("create {SEGMENTS} segments, durable: {:.0?}", began.elapsed());
    let began = Instant::now();
    let writes = (0..SEGMENTS).map(|i| {
        let rows = (0..ROWS).map(|row| {
            let carrier = format!("C{}", (i + row * row) % 12);
            vec![
                Value::Text(carrier),
                Value::Integer((row as i64 * 7) % 60 - 20),
                Value::Text(format!("N{i}")),
                Value::Real(row as f64 * 1.5),
            ]
        });
        let sql = "insert into flights(carrier, delay, tail, distance) values(?1, ?2, ?3, ?4)".into();
        engine.write(
            file(dir, i, Mode::Hot),
            vec![WriteStatement { sql, rows: rows.collect(), ..WriteStatement::default() }],
            Box::new(|| Ok(())),
        )
    });
    futures::future::join_all(writes).await;
    println!("write {ROWS} rows into each, one durable transaction each: {:.0?}", began.elapsed());
    let began = Instant::now();
    let seals = (0..SEGMENTS).map(|i| engine.seal(file(dir, i, Mode::Hot)));
    for sealed in futures::future::join_all(seals).await {
        assert!(sealed.unwrap());
    }
    println!("seal all: {:.0?}", began.elapsed());
}

fn open(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX).unwrap()
}

fn point_sql(n: usize) -> String {
    format!("select id, carrier, delay, tail from flights where id = {}", n % ROWS + 1)
}

/// A cheap sequence of segments without a pattern.
fn scattered(n: usize) -> usize {
    (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % POINT_SEGMENTS
}

async fn points(engine: &Engine, dir: &Path) {
    let n = 40_000;
    let read_row = |conn: &Connection, sql: &str, cached: bool| {
        let row = |row: &rusqlite::Row<'_>| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get::<_, String>(3)?))
        };
        if cached {
            conn.prepare_cached(sql).unwrap().query_row([], row).unwrap()
        } else {
            conn.query_row(sql, [], row).unwrap()
        }
    };
    let began = Instant::now();
    for i in 0..n / 4 {
        read_row(&open(&path(dir, scattered(i))), &point_sql(i), false);
    }
    let opening = (n / 4) as f64 / began.elapsed().as_secs_f64();
    let open: Vec<Connection> = (0..POINT_SEGMENTS).map(|i| open(&path(dir, i))).collect();
    let began = Instant::now();
    for i in 0..n {
        read_row(&open[scattered(i)], &point_sql(i), false);
    }
    let kept = n as f64 / began.elapsed().as_secs_f64();
    println!(
        "point reads, rusqlite on one thread: {opening:.0}/s opening each time, {kept:.0}/s with connections kept"
    );
    drop(open);
    for mode in [Mode::Immutable, Mode::Hot] {
        for label in ["first", "again"] {
            let worst = Arc::new(AtomicU64::new(0));
            let began = Instant::now();
            let tasks: Vec<_> = (0..8)
                .map(|t| {
                    let (engine, dir, worst) = (engine.clone(), dir.to_owned(), worst.clone());
                    tokio::spawn(async move {
                        for i in (t..n).step_by(8) {
                            let began = Instant::now();
                            let file = file(&dir, scattered(i), mode);
                            let mut stream =
                                engine.legacy_read(file, point_sql(i), CancellationToken::new()).await.unwrap();
                            assert!(stream.take_whole().unwrap().len() > 10);
                            worst.fetch_max(began.elapsed().as_micros() as u64, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            let rate = n as f64 / began.elapsed().as_secs_f64();
            println!(
                "point reads, engine, 8 tasks, {mode:?}, {label}: {rate:.0}/s, worst {} us",
                worst.load(Ordering::Relaxed)
            );
        }
    }
    println!("  {:?}", engine.stats());
}

fn request(map: &str, reduce: Option<&str>) -> QueryRequest {
    QueryRequest {
        segments: Vec::new(),
        map: map.into(),
        reduce: reduce.map(str::to_owned),
        params: Vec::new(),
        reduce_params: Vec::new(),
        deadline_ms: None,
        max_rows: None,
        max_bytes: None,
        bytewise: false,
        proxied: false,
    }
}

async fn groups(engine: &Engine, dir: &Path) {
    let threads = engine.options().threads;
    let mut best = Duration::MAX;
    for round in 0..3 {
        let began = Instant::now();
        let next = AtomicUsize::new(0);
        let parts: Vec<HashMap<String, (i64, i64)>> = std::thread::scope(|scope| {
            let work = || {
                let mut sums: HashMap<String, (i64, i64)> = HashMap::new();
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= SEGMENTS {
                        return sums;
                    }
                    let conn = open(&path(dir, i));
                    let mut statement = conn.prepare(MAP).unwrap();
                    let mut rows = statement.query([]).unwrap();
                    while let Some(row) = rows.next().unwrap() {
                        let sum = sums.entry(row.get(0).unwrap()).or_default();
                        sum.0 += row.get::<_, i64>(1).unwrap();
                        sum.1 += row.get::<_, i64>(2).unwrap();
                    }
                }
            };
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            handles.into_iter().map(|h| h.join().unwrap()).collect()
        });
        let rows: i64 = parts.iter().flat_map(HashMap::values).map(|(n, _)| n).sum();
        assert_eq!(rows as usize, SEGMENTS * ROWS);
        best = best.min(began.elapsed());
        println!(
            "group by over {SEGMENTS}, plain rusqlite on {threads} threads, round {round}: {:.1?}",
            began.elapsed()
        );
    }
    for (mode, cold) in [(Mode::Immutable, true), (Mode::Immutable, false), (Mode::Hot, false)] {
        for round in 0..3 {
            for i in (0..SEGMENTS).take_while(|_| cold) {
                engine.evict(&SegmentId::new(&format!("s{i}")).unwrap());
            }
            let files = (0..SEGMENTS).map(|i| Ok(file(dir, i, mode))).collect();
            let began = Instant::now();
            let stream =
                engine.query(files, request(MAP, Some(REDUCE)), Format::MessagePack, CancellationToken::new()).await;
            let bytes = stream.collect().await.unwrap();
            let took = began.elapsed();
            let ratio = took.as_secs_f64() / best.as_secs_f64();
            let state = if cold { "cold" } else { "open" };
            println!(
                "group by, engine, {mode:?}, {state}, round {round}: {took:.1?} ({ratio:.2} x), {} bytes",
                bytes.len()
            );
        }
    }
    for mode in [Mode::Immutable] {
        let files = (0..SEGMENTS).map(|i| Ok(file(dir, i, mode))).collect();
        let began = Instant::now();
        let stream = engine.query(files, request(MAP, None), Format::MessagePack, CancellationToken::new()).await;
        let bytes = stream.collect().await.unwrap();
        println!("the map alone, engine, {mode:?}: {:.1?}, {} bytes", began.elapsed(), bytes.len());
    }
}

async fn scan(engine: &Engine, dir: &Path) {
    let rows = 1_000_000;
    let big = dir.join("big.sqlite");
    let conn = Connection::open(&big).unwrap();
    conn.execute_batch(&format!(
        "pragma synchronous=off; create table t(id integer primary key, a int, b real, c text);
         with recursive n(i) as (values(1) union all select i+1 from n limit {rows})
         insert into t select i, i * 7919 % 10007, i * 0.25, 'text number ' || i from n"
    ))
    .unwrap();
    drop(conn);
    let sql = "select id, a, b, c from t";
    let began = Instant::now();
    let conn = open(&big);
    let mut statement = conn.prepare(sql).unwrap();
    let mut result = statement.query([]).unwrap();
    let mut sum = 0;
    while let Some(row) = result.next().unwrap() {
        sum += row.get_ref(0).unwrap().as_i64().unwrap() + row.get_ref(3).unwrap().as_str().unwrap().len() as i64;
    }
    println!("scan of {rows} rows, plain rusqlite: {:.0?} ({sum})", began.elapsed());
    let segment = || SegmentFile::new(SegmentId::new("big").unwrap(), big.clone(), Mode::Immutable);
    for format in [Format::MessagePack, Format::MessagePack, Format::Ndjson] {
        let began = Instant::now();
        let mut asked = request(sql, None);
        asked.segments = vec![SegmentId::new("big").unwrap()];
        let mut stream = engine.query(vec![Ok(segment())], asked, format, CancellationToken::new()).await;
        let (mut bytes, mut counted, mut decoder) = (0, 0, FrameDecoder::default());
        while let Some(piece) = futures::StreamExt::next(&mut stream).await {
            let piece = piece.unwrap();
            bytes += piece.len();
            if format == Format::MessagePack {
                decoder.push(&piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    if let Frame::Rows { count, .. } = frame {
                        counted += count;
                    }
                }
            }
        }
        println!("scan, engine, {format:?}: {:.0?}, {bytes} bytes, {counted} rows", began.elapsed());
    }
}

async fn writes(engine: &Engine, dir: &Path) {
    let n = 2000;
    for mode in ["delete", "wal"] {
        let conn = Connection::open(dir.join(format!("peer-{mode}.sqlite"))).unwrap();
        conn.execute_batch(&format!("pragma journal_mode={mode}; pragma synchronous=full; create table t(a, b)"))
            .unwrap();
        let began = Instant::now();
        let rows = if mode == "wal" { n } else { n / 4 };
        for i in 0..rows {
            conn.execute("insert into t values(?1, 'some text')", [i as i64]).unwrap();
        }
        println!("durable rows, rusqlite, {mode}: {:.0}/s", f64::from(rows) / began.elapsed().as_secs_f64());
    }
    engine.create(dir.join("w.sqlite"), "create table t(a, b)".into()).await.unwrap();
    let segment = || SegmentFile::new(SegmentId::new("w").unwrap(), dir.join("w.sqlite"), Mode::Hot);
    for writers in [1, 8, 64] {
        let before = engine.stats();
        let began = Instant::now();
        let tasks = (0..writers).map(|t| {
            let (engine, segment) = (engine.clone(), segment());
            tokio::spawn(async move {
                for i in (t..n).step_by(writers as usize) {
                    let sql = format!("insert into t values({i}, 'some text')");
                    engine.write_script(segment.clone(), sql, Box::new(|| Ok(()))).await.unwrap();
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let after = engine.stats();
        println!(
            "durable rows, engine, {writers} writers: {:.0}/s in {} transactions",
            f64::from(n) / began.elapsed().as_secs_f64(),
            after.commits - before.commits
        );
    }
}
