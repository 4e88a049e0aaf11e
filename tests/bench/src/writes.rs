//! Durable single-row writes to one segment by 8 writers, beside rusqlite with one transaction a row.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::{Args, http, report::Report};

const WRITERS: usize = 8;
const ROWS: usize = 4_000;

pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let pg = args.postgres().await?;
    pg.execute(
        "SELECT trough.register_schema('archive', 'bench', 'create table w (n integer primary key, t text) strict;')",
        &[],
    )
    .await?;
    let segment = format!("bench-writes-{}", std::process::id());
    let url: String = pg.query_one("SELECT trough.provision('archive', $1, 'bench')", &[&segment]).await?.get(0);
    let host = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).context("write url")?.to_owned();

    // The peer writes on the same disk.
    let dir = tempfile::tempdir_in(&args.cluster)?;
    let peer = rusqlite::Connection::open(dir.path().join("peer.sqlite"))?;
    peer.execute_batch("pragma synchronous = full; create table w (n integer primary key, t text) strict;")?;
    let started = Instant::now();
    for n in 0..ROWS {
        peer.prepare_cached("insert into w values (?1, 'some text of a usual length, about as long as a URL')")?
            .execute([n as i64])?;
    }
    let peer = ROWS as f64 / started.elapsed().as_secs_f64();

    let started = Instant::now();
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (host, path) = (&host, format!("/?segment={segment}"));
                scope.spawn(move || -> Result<()> {
                    let mut connection = http::Connection::open(host)?;
                    for i in 0..ROWS / WRITERS {
                        let n = i * WRITERS + writer;
                        let sql = format!(
                            "insert into w values ({n}, 'some text of a usual length, about as long as a URL')"
                        );
                        let (status, body) = connection.post(&path, sql.as_bytes())?;
                        ensure!(status == 200, "{status} {}", String::from_utf8_lossy(body));
                    }
                    Ok(())
                })
            })
            .collect();
        handles.into_iter().try_for_each(|h| h.join().expect("the writer does not panic"))
    })?;
    let ours = ROWS as f64 / started.elapsed().as_secs_f64();
    report.row(
        "durable single-row writes, one segment, 8 writers",
        format!("{ours:.0}/s"),
        format!("{peer:.0}/s rusqlite, one transaction a row"),
        format!("{:.2} x", ours / peer),
        ">= 1.0 x",
        Some(ours >= peer),
    );
    Ok(())
}
