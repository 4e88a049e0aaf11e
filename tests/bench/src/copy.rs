//! COPY of 1,000,000 rows into 100 new segments, durable at its end, beside rusqlite in-process with one durable transaction
//! a segment on the same disk.

use std::{fmt::Write as _, time::Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::SinkExt as _;

use crate::{
    Args,
    report::{Report, median},
};

const ROWS: i64 = 1_000_000;
const SEGMENTS: i64 = 100;
const ROUNDS: usize = 3;
const TABLE: &str = "create table copied (n integer not null, t text not null, r real) strict;";

fn text(n: i64) -> String {
    format!("row number {n} of a million")
}

/// What COPY reads, in pieces: rows come in no order of segments.
fn pieces(run: &str) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for n in 0..ROWS {
        let segment = n % SEGMENTS;
        writeln!(piece, "{run}-{segment}\t{n}\t{}\t{}", text(n), n as f64 / 8.0).expect("a String takes everything");
        if piece.len() > 1 << 16 {
            pieces.push(Bytes::from(std::mem::take(&mut piece)));
        }
    }
    pieces.push(Bytes::from(piece));
    pieces
}

pub(crate) async fn run(args: &Args, report: &mut Report) -> Result<()> {
    let pg = args.postgres().await?;
    pg.batch_execute(&format!(
        "SELECT trough.register_schema('archive', 'copied', '{TABLE}');
         DROP FOREIGN TABLE IF EXISTS archive.copied;
         IMPORT FOREIGN SCHEMA copied FROM SERVER archive INTO archive;",
    ))
    .await?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let dir = tempfile::tempdir_in(&args.cluster)?;
        let started = Instant::now();
        for segment in 0..SEGMENTS {
            let mut connection = rusqlite::Connection::open(dir.path().join(format!("{segment}.sqlite")))?;
            connection.execute_batch(&format!("pragma synchronous = full; {TABLE}"))?;
            let transaction = connection.transaction()?;
            {
                let mut insert = transaction.prepare("insert into copied values (?1, ?2, ?3)")?;
                for n in (segment..ROWS).step_by(SEGMENTS as usize) {
                    insert.execute((n, text(n), n as f64 / 8.0))?;
                }
            }
            transaction.commit()?;
        }
        peer.push(started.elapsed());

        let run = format!("copied-{}-{round}", std::process::id());
        let pieces = pieces(&run);
        let started = Instant::now();
        let sink = pg.copy_in("COPY archive.copied (segment, n, t, r) FROM STDIN").await?;
        let mut sink = std::pin::pin!(sink);
        for piece in pieces {
            sink.feed(piece).await?;
        }
        let copied = sink.finish().await?;
        ours.push(started.elapsed());
        ensure!(copied == ROWS as u64, "{copied} rows were copied");
        let sql = "SELECT count(*), sum(n)::bigint FROM archive.copied WHERE segment LIKE $1";
        let row = pg.query_one(sql, &[&format!("{run}-%")]).await?;
        ensure!((row.get::<_, i64>(0), row.get::<_, i64>(1)) == (ROWS, ROWS * (ROWS - 1) / 2), "{row:?}");
    }
    report.times(
        "COPY of 1,000,000 rows into 100 segments",
        median(ours),
        "rusqlite in-process, one transaction a segment",
        median(peer),
        2.0,
    );
    Ok(())
}
