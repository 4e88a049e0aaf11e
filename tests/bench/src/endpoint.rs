//! The old read endpoint, one segment a request: GROUP BY over each segment's rows, over kept connections, beside the same statements
//! in-process on one thread.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use rusqlite::{Connection, OpenFlags};
use trough_core::SegmentId;

use crate::{http, report::Report};

const CONNECTIONS: usize = 8;
const REQUESTS: usize = 40_000;
/// What the issue asks for, requests a second.
const TARGET: f64 = 3_000.0;

/// Requests a second over `CONNECTIONS` connections to each worker; every answer must be a list of rows.
fn over_http(segments: &[(SegmentId, String)], sql: &str) -> Result<f64> {
    let paths: Vec<(&str, String)> =
        segments.iter().map(|(id, host)| (host.as_str(), format!("/?segment={}", id.url_encoded()))).collect();
    let next = AtomicUsize::new(0);
    let client = || -> Result<()> {
        let mut connections: HashMap<&str, http::Connection> = HashMap::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= REQUESTS {
                return Ok(());
            }
            let (host, path) = &paths[i * 7919 % paths.len()];
            let connection = match connections.entry(host) {
                std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
                std::collections::hash_map::Entry::Vacant(place) => place.insert(http::Connection::open(host)?),
            };
            let (status, body) = connection.post(path, sql.as_bytes())?;
            ensure!(status == 200 && body.starts_with(b"[{"), "{status} {}", String::from_utf8_lossy(body));
        }
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| client.join().expect("the client does not panic"))
    })?;
    Ok(REQUESTS as f64 / began.elapsed().as_secs_f64())
}

/// The same on one thread, each segment's connection kept open.
fn in_process(segments: &[(SegmentId, String)], files: &HashMap<String, PathBuf>, sql: &str) -> Result<f64> {
    let open = |(id, _): &(SegmentId, String)| {
        let file = files.get(id.as_str()).with_context(|| format!("file of {id}"))?;
        Ok(Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?)
    };
    let connections: Vec<Connection> = segments.iter().map(open).collect::<Result<_>>()?;
    let began = Instant::now();
    for i in 0..REQUESTS {
        let mut statement = connections[i * 7919 % connections.len()].prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        let mut count = 0;
        while rows.next()?.is_some() {
            count += 1;
        }
        ensure!(count > 0, "no groups");
    }
    Ok(REQUESTS as f64 / began.elapsed().as_secs_f64())
}

/// `segments`: each with the `host:port` of a copy; `files`: where a copy of each lies.
pub(crate) fn group_by(
    segments: &[(SegmentId, String)],
    files: &HashMap<String, PathBuf>,
    sql: &str,
    report: &mut Report,
) -> Result<()> {
    let peer = in_process(segments, files, sql)?;
    let rate = over_http(segments, sql)?;
    report.row(
        &format!("old read endpoint: GROUP BY over 1,000 rows, {CONNECTIONS} connections"),
        format!("{rate:.0}/s"),
        format!("{peer:.0}/s in-process, one thread"),
        format!("{:.2} x", rate / peer),
        &format!(">= {TARGET:.0}/s"),
        Some(rate >= TARGET),
    );
    Ok(())
}
