//! Single-segment lookup through the foreign table, prepared, beside postgres_fdw.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    Args, points,
    report::{Report, ms, percentile},
};

const LOOKUPS: usize = 5_000;

pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let segments = points::segments(args, points::AIRCRAFT, 1000).await?;
    let pg = args.postgres().await?;
    let sql = |schema| format!("SELECT carrier, flight, dest FROM {schema}.flights WHERE segment = $1 AND month = $2");
    let ours = pg
        .prepare_typed(&sql("archive"), &[tokio_postgres::types::Type::TEXT, tokio_postgres::types::Type::INT8])
        .await?;
    let peer = pg
        .prepare_typed(&sql("remote"), &[tokio_postgres::types::Type::TEXT, tokio_postgres::types::Type::INT8])
        .await?;
    let mut times: [Vec<Duration>; 2] = Default::default();
    for i in 0..LOOKUPS + 500 {
        let (segment, month) = (segments[i * 7919 % segments.len()].0.as_str(), (i % 12) as i64 + 1);
        let mut rows = [0; 2];
        for (which, statement) in [&ours, &peer].into_iter().enumerate() {
            let started = Instant::now();
            rows[which] = pg.query(statement, &[&segment, &month]).await?.len();
            if i >= 500 {
                times[which].push(started.elapsed());
            }
        }
        anyhow::ensure!(rows[0] == rows[1], "{segment}, month {month}: {} rows, postgres_fdw {}", rows[0], rows[1]);
    }
    let [mut ours, mut peer] = times;
    ours.sort();
    peer.sort();
    report.times(
        "single-segment lookup, prepared, p50",
        percentile(&ours, 0.5),
        "postgres_fdw",
        percentile(&peer, 0.5),
        1.0,
    );
    report.row(
        "  its p99",
        ms(percentile(&ours, 0.99)),
        format!("{} postgres_fdw", ms(percentile(&peer, 0.99))),
        format!("{:.2} x", percentile(&ours, 0.99).as_secs_f64() / percentile(&peer, 0.99).as_secs_f64()),
        "printed",
        None,
    );
    Ok(())
}
