//! Full scan of 1,000,000 rows of one segment through the foreign table, beside postgres_fdw on loopback.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::TryStreamExt as _;

use crate::{
    Args,
    report::{Report, median},
};

const ROWS: i64 = 1_000_000;

async fn scan(pg: &tokio_postgres::Client, schema: &str) -> Result<Duration> {
    // Every row crosses into the executor and is looked at there: the aggregate's argument cannot be pushed down.
    let sql = format!(
        "SELECT count(*), sum(length(t) + n::int % 7), max(r) FROM (SELECT n, t, r, d FROM {schema}.million OFFSET 0) m"
    );
    let started = Instant::now();
    let row = pg.query_one(&sql, &[]).await?;
    let time = started.elapsed();
    ensure!(row.get::<_, i64>(0) == ROWS, "{schema}.million has {} rows", row.get::<_, i64>(0));
    Ok(time)
}

async fn fetch(pg: &tokio_postgres::Client, schema: &str) -> Result<Duration> {
    let started = Instant::now();
    let rows = pg.query_raw(&format!("SELECT n, t, r, d FROM {schema}.million"), Vec::<String>::new()).await?;
    let mut rows = std::pin::pin!(rows);
    let mut count = 0;
    while rows.try_next().await?.is_some() {
        count += 1;
    }
    ensure!(count == ROWS, "{schema}.million gave {count} rows");
    Ok(started.elapsed())
}

pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let pg = args.postgres().await?;
    let (mut scans, mut fetches) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for round in 0..6 {
        let times = (scan(&pg, "archive").await?, scan(&pg, "remote").await?);
        let streamed = (fetch(&pg, "archive").await?, fetch(&pg, "remote").await?);
        if round > 0 {
            scans.0.push(times.0);
            scans.1.push(times.1);
            fetches.0.push(streamed.0);
            fetches.1.push(streamed.1);
        }
    }
    report.times(
        "full scan of 1,000,000 rows, aggregated locally",
        median(scans.0),
        "postgres_fdw",
        median(scans.1),
        1.0,
    );
    report.times("  the same, sent to the client", median(fetches.0), "postgres_fdw", median(fetches.1), 1.0);
    Ok(())
}
