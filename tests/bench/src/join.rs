//! A nested-loop join of 1,000 keys with the flights on the segment column, beside postgres_fdw with the same plan over an
//! indexed partitioned table, and beside postgres_fdw's own choice.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::{
    Args, points,
    report::{Report, median, ms},
};

const ROUNDS: usize = 7;
/// Only this plan asks each key for its rows.
const NESTED_LOOP: &str = "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off";
const ANY: &str = "RESET enable_hashjoin; RESET enable_mergejoin; RESET enable_material";

type Answer = (i64, i64, i64);

async fn join(pg: &tokio_postgres::Client, schema: &str) -> Result<(Answer, Duration)> {
    let sql = format!(
        "SELECT count(*), sum(k.id + f.distance)::bigint, count(DISTINCT f.segment) \
         FROM bench_keys k JOIN {schema}.flights f ON f.segment = k.segment AND f.month = 6"
    );
    let started = Instant::now();
    let row = pg.query_one(&sql, &[]).await?;
    Ok(((row.get(0), row.get(1), row.get(2)), started.elapsed()))
}

pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let keys: Vec<String> =
        points::segments(args, points::AIRCRAFT, 1000).await?.iter().map(|(id, _, _)| id.to_string()).collect();
    let pg = args.postgres().await?;
    pg.batch_execute("CREATE TEMPORARY TABLE bench_keys (id bigint NOT NULL, segment text NOT NULL)").await?;
    pg.execute("INSERT INTO bench_keys SELECT row_number() OVER (), k FROM unnest($1::text[]) k", &[&keys]).await?;
    // With its server's estimates postgres_fdw knows that an index on the key is worth a question for each.
    pg.batch_execute("ANALYZE bench_keys; ALTER FOREIGN TABLE remote.flights OPTIONS (ADD use_remote_estimate 'true')")
        .await?;
    let mut times: [Vec<Duration>; 3] = Default::default();
    for round in 0..=ROUNDS {
        pg.batch_execute(NESTED_LOOP).await?;
        let ours = join(&pg, "archive").await?;
        let same = join(&pg, "remote").await?;
        pg.batch_execute(ANY).await?;
        let own = join(&pg, "remote").await?;
        ensure!(ours.0 == same.0 && ours.0 == own.0, "the answers differ: {:?} {:?} {:?}", ours.0, same.0, own.0);
        if round > 0 {
            times.iter_mut().zip([ours, same, own]).for_each(|(times, (_, time))| times.push(time));
        }
    }
    pg.batch_execute("ALTER FOREIGN TABLE remote.flights OPTIONS (DROP use_remote_estimate)").await?;
    let [ours, same, own] = times.map(median);
    report.times("nested-loop join of 1,000 keys on the segment column", ours, "postgres_fdw", same, 1.0);
    report.row(
        "  the same",
        ms(ours),
        format!("{} postgres_fdw by its own plan", ms(own)),
        format!("{:.2} x", ours.as_secs_f64() / own.as_secs_f64()),
        "printed",
        None,
    );
    Ok(())
}
