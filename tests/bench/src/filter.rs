//! One row in a hundred of a segment of 1,000,000, by a condition that no index helps: beside SQLite in-process on the same
//! file, and postgres_fdw.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::TryStreamExt as _;
use rusqlite::{Connection, OpenFlags};

use crate::{
    Args, points,
    report::{Report, median},
};

const ROUNDS: usize = 9;
const WHERE: &str = "d < 1111";

async fn fetch(pg: &tokio_postgres::Client, schema: &str) -> Result<(usize, i64, Duration)> {
    let started = Instant::now();
    let sql = format!("SELECT n, t, r, d FROM {schema}.million WHERE {WHERE}");
    let rows = pg.query_raw(&sql, Vec::<String>::new()).await?;
    let mut rows = std::pin::pin!(rows);
    let (mut count, mut sum) = (0, 0);
    while let Some(row) = rows.try_next().await? {
        count += 1;
        sum += row.get::<_, i64>(0) + row.get::<_, &str>(1).len() as i64 + row.get::<_, i64>(3);
    }
    Ok((count, sum, started.elapsed()))
}

fn in_process(connection: &Connection) -> Result<(usize, i64, Duration)> {
    let started = Instant::now();
    let mut statement = connection.prepare_cached(&format!("SELECT n, t, r, d FROM million WHERE {WHERE}"))?;
    let mut rows = statement.query([])?;
    let (mut count, mut sum) = (0, 0);
    while let Some(row) = rows.next()? {
        count += 1;
        let text = row.get_ref(1)?.as_str()?.to_owned();
        std::hint::black_box(row.get::<_, f64>(2)?);
        sum += row.get::<_, i64>(0)? + text.len() as i64 + row.get::<_, i64>(3)?;
    }
    Ok((count, sum, started.elapsed()))
}

pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let segments = points::segments(args, "^bench-million$", 1).await?;
    ensure!(segments.len() == 1, "the segment bench-million is not served");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&segments[0].2, flags)?;
    let pg = args.postgres().await?;
    let mut times: [Vec<Duration>; 3] = Default::default();
    for round in 0..=ROUNDS {
        let found = [fetch(&pg, "archive").await?, in_process(&connection)?, fetch(&pg, "remote").await?];
        let (count, sum, _) = found[0];
        ensure!(found.iter().all(|f| (f.0, f.1) == (count, sum)), "the answers differ: {found:?}");
        ensure!((8_000..12_000).contains(&count), "{count} rows are not one in a hundred");
        if round > 0 {
            times.iter_mut().zip(found).for_each(|(times, (_, _, time))| times.push(time));
        }
    }
    let [ours, sqlite, fdw] = times.map(median);
    report.times("filtered scan, 1 % of 1,000,000 rows", ours, "SQLite in-process", sqlite, 1.2);
    report.times("  the same", ours, "postgres_fdw", fdw, 0.8);
    Ok(())
}
