//! Point SELECT over HTTP across 1,000 segments, beside the same statements in-process on one thread.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rusqlite::{Connection, OpenFlags};
use trough_core::SegmentId;

use crate::{
    Args, http,
    report::{Report, ms, percentile},
};

const SQL: &str = "select time_hour, carrier, flight, dest, dep_delay from flights where rowid = 1";
const CONNECTIONS: usize = 8;
const REQUESTS: usize = 160_000;

/// The names of the aircraft's segments.
pub(crate) const AIRCRAFT: &str = "^[A-Z]";

/// The first segments whose names a regular expression matches: id, `host:port` of a read copy, file.
pub(crate) async fn segments(args: &Args, matching: &str, limit: i64) -> Result<Vec<(SegmentId, String, PathBuf)>> {
    let rows = args
        .postgres()
        .await?
        .query(
            "SELECT DISTINCT ON (segment) segment, url, node FROM trough.segments('archive', $1) WHERE healthy ORDER BY segment LIMIT $2",
            &[&matching, &limit],
        )
        .await?;
    let files = files(&args.cluster)?;
    rows.iter()
        .map(|row| {
            let (segment, url, node): (String, String, String) = (row.get(0), row.get(1), row.get(2));
            let host = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).context("read url")?;
            let file = files
                .get(&(node.clone(), segment.clone()))
                .or_else(|| files.iter().find(|((_, s), _)| *s == segment).map(|(_, f)| f))
                .with_context(|| format!("file of {segment} on {node}"))?;
            Ok((SegmentId::new(&segment)?, host.to_owned(), file.clone()))
        })
        .collect()
}

/// Every `*.sqlite` below the cluster's directory, by (name of a directory above it, segment).
pub(crate) fn files(cluster: &std::path::Path) -> Result<HashMap<(String, String), PathBuf>> {
    let mut found = HashMap::new();
    let mut todo = vec![cluster.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "sqlite") {
                let segment = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                for above in path.ancestors().skip(1).take(3) {
                    let name = above.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    found.insert((name, segment.clone()), path.clone());
                }
            }
        }
    }
    Ok(found)
}

pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let segments = segments(args, AIRCRAFT, 1000).await?;
    ensure!(segments.len() == 1000, "only {} segments are live", segments.len());

    let peer = {
        let connections: Vec<Connection> = segments
            .iter()
            .map(|(_, _, file)| {
                Ok(Connection::open_with_flags(
                    file,
                    OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
                )?)
            })
            .collect::<Result<_>>()?;
        let ask = |c: &Connection| -> Result<i64> {
            let mut statement = c.prepare_cached(SQL)?;
            Ok(statement.query_row([], |row| {
                let texts =
                    row.get_ref(0)?.as_str()?.len() + row.get_ref(1)?.as_str()?.len() + row.get_ref(3)?.as_str()?.len();
                Ok(row.get::<_, i64>(2)? + row.get::<_, Option<i64>>(4)?.unwrap_or(0) + texts as i64)
            })?)
        };
        connections.iter().try_for_each(|c| ask(c).map(drop))?;
        let started = Instant::now();
        for i in 0..REQUESTS {
            ask(&connections[i * 7919 % connections.len()])?;
        }
        REQUESTS as f64 / started.elapsed().as_secs_f64()
    };

    let paths: Vec<(String, String)> =
        segments.iter().map(|(id, host, _)| (host.clone(), format!("/?segment={}", id.url_encoded()))).collect();
    let next = AtomicUsize::new(0);
    let client = || -> Result<Vec<Duration>> {
        let mut connections: HashMap<&str, http::Connection> = HashMap::new();
        let mut times = Vec::with_capacity(REQUESTS / CONNECTIONS);
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= REQUESTS {
                return Ok(times);
            }
            let (host, path) = &paths[i * 7919 % paths.len()];
            let connection = match connections.entry(host) {
                std::collections::hash_map::Entry::Occupied(e) => e.into_mut(),
                std::collections::hash_map::Entry::Vacant(e) => e.insert(http::Connection::open(host)?),
            };
            let sent = Instant::now();
            let (status, body) = connection.post(path, SQL.as_bytes())?;
            ensure!(status == 200 && body.starts_with(b"[{"), "{status} {}", String::from_utf8_lossy(body));
            times.push(sent.elapsed());
        }
    };
    let started = Instant::now();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(client)).collect();
        let all: Result<Vec<_>> = handles.into_iter().map(|h| h.join().expect("the client does not panic")).collect();
        all.map(|lists| lists.concat())
    })?;
    let rate = REQUESTS as f64 / started.elapsed().as_secs_f64();
    times.sort();
    let cores = std::thread::available_parallelism()?.get() as f64;
    let per_core = rate / cores / peer;
    report.row(
        "point SELECT over HTTP, 1,000 segments, 8 connections",
        format!("{rate:.0}/s"),
        format!("{peer:.0}/s in-process, one thread"),
        format!("{:.0} % per core", per_core * 100.0),
        ">= 10,000/s, >= 20 % per core",
        Some(rate >= 10_000.0 && per_core >= 0.2),
    );
    let p99 = percentile(&times, 0.99);
    report.row(
        "  its latency",
        format!("p50 {}, p99 {}", ms(percentile(&times, 0.5)), ms(p99)),
        String::new(),
        String::new(),
        "p99 < 10 ms",
        Some(p99 < Duration::from_millis(10)),
    );
    Ok(())
}
