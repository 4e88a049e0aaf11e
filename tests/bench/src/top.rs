//! ORDER BY … LIMIT 10 over all aircraft, beside postgres_fdw over the same rows in a partitioned table, which sorts there.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::{
    Args,
    report::{Report, median, ms},
};

const ROUNDS: usize = 9;

async fn top(pg: &tokio_postgres::Client, schema: &str) -> Result<(Vec<i64>, Duration)> {
    let sql = format!(
        "SELECT segment, time_hour, carrier, flight, dep_delay FROM {schema}.flights \
         ORDER BY dep_delay DESC NULLS LAST LIMIT 10"
    );
    let started = Instant::now();
    let rows = pg.query(&sql, &[]).await?;
    Ok((rows.iter().map(|row| row.get::<_, i64>(4) * 100_000 + row.get::<_, i64>(3)).collect(), started.elapsed()))
}

pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let pg = args.postgres().await?;
    let mut times: [Vec<Duration>; 3] = Default::default();
    for round in 0..=ROUNDS {
        let found = [top(&pg, "archive").await?, top(&pg, "remote").await?, top(&pg, "partitioned").await?];
        ensure!(found.iter().all(|f| f.0 == found[0].0 && f.0.len() == 10), "the answers differ: {found:?}");
        if round > 0 {
            times.iter_mut().zip(found).for_each(|(times, (_, time))| times.push(time));
        }
    }
    let [ours, fdw, plain] = times.map(median);
    report.times("ORDER BY … LIMIT 10 over 4,044 segments", ours, "postgres_fdw to a partitioned table", fdw, 1.0);
    report.row(
        "  the same",
        ms(ours),
        format!("{} plain partitioned table", ms(plain)),
        format!("{:.2} x", ours.as_secs_f64() / plain.as_secs_f64()),
        "printed",
        None,
    );
    Ok(())
}
