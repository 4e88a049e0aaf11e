//! GROUP BY with count and sum over all segments through the foreign table; in-process threads over the same files, a
//! plain partitioned table and postgres_fdw beside it. Over the flights (4,044 segments), and over 10,000 segments of 1,000
//! rows each.

use std::{
    collections::HashMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rusqlite::{Connection, OpenFlags};
use trough_core::SegmentId;

use crate::{
    Args, points,
    report::{Report, median},
};

const ROUNDS: usize = 7;
const SQL: &str = "SELECT carrier, count(*), sum(distance) FROM flights GROUP BY carrier";

const SMALL: &str = "SELECT g, count(*), sum(v) FROM small GROUP BY g";
/// Segments of `small`; tests/bench/small.sql makes them.
const SMALL_SEGMENTS: usize = 10_000;

type Groups = HashMap<String, (i64, i64)>;

/// Every segment's file, dealt out to as many threads as there are cores.
struct InProcess {
    sql: &'static str,
    parts: Vec<Vec<Connection>>,
}

impl InProcess {
    fn open(sql: &'static str, segments: &[(SegmentId, String, PathBuf)]) -> Result<Self> {
        let threads = std::thread::available_parallelism()?.get();
        let mut parts: Vec<Vec<Connection>> = (0..threads).map(|_| Vec::new()).collect();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        for (i, (_, _, file)) in segments.iter().enumerate() {
            parts[i % threads].push(Connection::open_with_flags(file, flags)?);
        }
        Ok(Self { sql, parts })
    }

    fn run(&mut self) -> Result<Groups> {
        let sql = self.sql;
        let lists: Vec<Groups> = std::thread::scope(|scope| {
            let handles: Vec<_> =
                self.parts.iter_mut().map(|connections| scope.spawn(move || part(sql, connections))).collect();
            handles.into_iter().map(|h| h.join().expect("the peer does not panic")).collect::<Result<_>>()
        })?;
        let mut all = Groups::new();
        for (name, (count, sum)) in lists.into_iter().flatten() {
            let group = all.entry(name).or_default();
            *group = (group.0 + count, group.1 + sum);
        }
        Ok(all)
    }
}

fn part(sql: &str, connections: &mut [Connection]) -> Result<Groups> {
    let mut groups = Groups::new();
    for connection in connections.iter() {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name = row.get_ref(0)?.as_str()?;
            let (count, sum): (i64, i64) = (row.get(1)?, row.get(2)?);
            match groups.get_mut(name) {
                Some(group) => *group = (group.0 + count, group.1 + sum),
                None => drop(groups.insert(name.to_owned(), (count, sum))),
            }
        }
    }
    Ok(groups)
}

async fn groups(pg: &tokio_postgres::Client, sql: &str) -> Result<(Groups, Duration)> {
    let started = Instant::now();
    let rows = pg.query(sql, &[]).await?;
    let time = started.elapsed();
    Ok((rows.iter().map(|r| (r.get(0), (r.get(1), r.get(2)))).collect(), time))
}

/// 12 groups of 10,000,000 rows in 10,000 segments.
pub(crate) async fn small(args: &Args, report: &mut Report) -> Result<()> {
    let segments = points::segments(args, "^small-", i64::MAX).await?;
    ensure!(segments.len() == SMALL_SEGMENTS, "{} segments of small", segments.len());
    let mut peer = InProcess::open(SMALL, &segments)?;
    let pg = args.postgres().await?;
    let (mut ours, mut in_process) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let started = Instant::now();
        let expected = peer.run()?;
        let peer_time = started.elapsed();
        ensure!(expected.len() == 12 && expected.values().map(|g| g.0).sum::<i64>() == 10_000_000, "{expected:?}");
        let sql = "SELECT g, count(*), sum(v)::bigint FROM archive.small GROUP BY g";
        let (got, time) = groups(&pg, sql).await?;
        ensure!(got == expected, "archive.small disagrees: {got:?} {expected:?}");
        if round > 0 {
            ours.push(time);
            in_process.push(peer_time);
        }
    }
    report.times(
        "GROUP BY, 12 groups, 10,000 segments of 1,000 rows",
        median(ours),
        "in-process threads",
        median(in_process),
        1.3,
    );
    Ok(())
}

pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let segments = points::segments(args, points::AIRCRAFT, i64::MAX).await?;
    let mut peer = InProcess::open(SQL, &segments)?;
    let pg = args.postgres().await?;
    let mut ours = Vec::new();
    let mut in_process = Vec::new();
    let mut plain = Vec::new();
    let mut fdw = Vec::new();
    for round in 0..=ROUNDS {
        let started = Instant::now();
        let expected = peer.run()?;
        let peer_time = started.elapsed();
        let mut times = [Duration::ZERO; 3];
        for (schema, time) in ["archive", "partitioned", "remote"].into_iter().zip(&mut times) {
            let sql = format!("SELECT carrier, count(*), sum(distance)::bigint FROM {schema}.flights GROUP BY carrier");
            let (got, took) = groups(&pg, &sql).await?;
            *time = took;
            ensure!(got == expected, "{schema}.flights disagrees: {got:?} {expected:?}");
        }
        if round > 0 {
            in_process.push(peer_time);
            ours.push(times[0]);
            plain.push(times[1]);
            fdw.push(times[2]);
        }
    }
    let ours = median(ours);
    report.times(
        &format!("GROUP BY over {} segments", segments.len()),
        ours,
        "in-process threads",
        median(in_process),
        1.5,
    );
    report.times("  the same", ours, "postgres_fdw to a partitioned table", median(fdw), 1.0);
    let plain = median(plain);
    report.row(
        "  the same",
        crate::report::ms(ours),
        format!("{} plain partitioned table", crate::report::ms(plain)),
        format!("{:.2} x", ours.as_secs_f64() / plain.as_secs_f64()),
        "printed",
        None,
    );
    Ok(())
}
