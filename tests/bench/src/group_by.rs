//! GROUP BY with count and sum over all segments through the foreign table; in-process threads over the same files, a
//! plain partitioned table and postgres_fdw beside it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rusqlite::{Connection, OpenFlags};

use crate::{
    Args, points,
    report::{Report, median},
};

const ROUNDS: usize = 7;
const SQL: &str = "SELECT carrier, count(*), sum(distance) FROM flights GROUP BY carrier";

type Groups = HashMap<String, (i64, i64)>;

fn part(connections: &mut [Connection]) -> Result<Groups> {
    let mut groups = Groups::new();
    for connection in connections.iter() {
        let mut statement = connection.prepare_cached(SQL)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let carrier = row.get_ref(0)?.as_str()?;
            let (count, sum): (i64, i64) = (row.get(1)?, row.get(2)?);
            match groups.get_mut(carrier) {
                Some(group) => *group = (group.0 + count, group.1 + sum),
                None => drop(groups.insert(carrier.to_owned(), (count, sum))),
            }
        }
    }
    Ok(groups)
}

pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let segments = points::segments(args, 1_000_000).await?;
    let threads = std::thread::available_parallelism()?.get();
    let mut parts: Vec<Vec<Connection>> = (0..threads).map(|_| Vec::new()).collect();
    for (i, (_, _, file)) in segments.iter().enumerate() {
        parts[i % threads].push(Connection::open_with_flags(
            file,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?);
    }

    let pg = args.postgres().await?;
    let mut ours = Vec::new();
    let mut in_process = Vec::new();
    let mut plain = Vec::new();
    let mut fdw = Vec::new();
    for round in 0..=ROUNDS {
        let started = Instant::now();
        let lists: Vec<Groups> = std::thread::scope(|scope| {
            let handles: Vec<_> = parts.iter_mut().map(|connections| scope.spawn(move || part(connections))).collect();
            handles.into_iter().map(|h| h.join().expect("the peer does not panic")).collect::<Result<_>>()
        })?;
        let mut expected = Groups::new();
        for (carrier, (count, sum)) in lists.into_iter().flatten() {
            let group = expected.entry(carrier).or_default();
            *group = (group.0 + count, group.1 + sum);
        }
        let peer_time = started.elapsed();
        let mut times = [Duration::ZERO; 3];
        for (schema, time) in ["archive", "partitioned", "remote"].into_iter().zip(&mut times) {
            let started = Instant::now();
            let rows = pg
                .query(
                    &format!("SELECT carrier, count(*), sum(distance)::bigint FROM {schema}.flights GROUP BY carrier"),
                    &[],
                )
                .await?;
            *time = started.elapsed();
            let got: Groups = rows.iter().map(|r| (r.get(0), (r.get(1), r.get(2)))).collect();
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
