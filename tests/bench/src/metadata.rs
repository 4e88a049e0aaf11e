//! `trough meta`: 100,000 inserts in batches of 1,000, 10,000 lookups by secondary index, one client; SQLite in-process
//! with the same durability beside it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rusqlite::Connection;
use serde_json::json;
use trough_meta::MetaServer;
use trough_reql::{Client, Options, r};

use crate::report::{Report, ms};

const DOCUMENTS: usize = 100_000;
const BATCH: usize = 1_000;
const LOOKUPS: usize = 10_000;
const SEGMENTS: usize = 20_000;

fn document(i: usize) -> serde_json::Value {
    json!({
        "id": format!("trough-read:worker-{}:segment-{}", i % 5, i), "role": "trough-read", "node": format!("worker-{}", i % 5),
        "segment": format!("segment-{}", i % SEGMENTS), "url": format!("http://worker-{}:6444/?segment=segment-{i}", i % 5),
        "port": 6444, "ttl": 1e12, "load": 0.25,
    })
}

pub(crate) async fn run(report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let peer = Connection::open(dir.path().join("peer.sqlite"))?;
    peer.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full;
         create table d (id text primary key, segment text, doc text) without rowid; create index d_segment on d (segment);",
    )?;
    let started = Instant::now();
    for batch in 0..DOCUMENTS / BATCH {
        let transaction = peer.unchecked_transaction()?;
        for i in batch * BATCH..(batch + 1) * BATCH {
            let doc = document(i);
            peer.prepare_cached("insert into d values (?1, ?2, ?3)")?.execute((
                doc["id"].as_str(),
                doc["segment"].as_str(),
                doc.to_string(),
            ))?;
        }
        transaction.commit()?;
    }
    let peer_insert = started.elapsed();
    let started = Instant::now();
    for i in 0..LOOKUPS {
        let mut statement = peer.prepare_cached("select doc from d where segment = ?1")?;
        let rows = statement
            .query_map([format!("segment-{}", i * 7919 % SEGMENTS)], |row| row.get::<_, String>(0))?
            .collect::<Result<Vec<_>, _>>()?;
        let parsed: Vec<serde_json::Value> =
            rows.iter().map(|row| serde_json::from_str(row)).collect::<Result<_, _>>()?;
        ensure!(parsed.len() == DOCUMENTS / SEGMENTS);
    }
    let peer_lookup = started.elapsed();

    let server = MetaServer::start_ephemeral(dir.path().join("meta")).await?;
    let address = server.local_addr();
    let client = Client::new(Options {
        hosts: vec![(address.ip().to_string(), address.port())],
        db: "bench".into(),
        ..Options::default()
    });
    client.run(&r::db_create("bench")).await?;
    client.run(&r::table_create("d")).await?;
    client.run(&r::table("d").index_create("segment")).await?;
    client.run(&r::table("d").index_wait()).await?;
    let started = Instant::now();
    for batch in 0..DOCUMENTS / BATCH {
        let docs: Vec<_> = (batch * BATCH..(batch + 1) * BATCH).map(document).collect();
        client.write(&r::table("d").insert(r::expr(serde_json::Value::Array(docs))).durability("hard")).await?;
    }
    let insert = started.elapsed();
    let started = Instant::now();
    for i in 0..LOOKUPS {
        let found =
            client.run(&r::table("d").get_all([format!("segment-{}", i * 7919 % SEGMENTS)]).index("segment")).await?;
        ensure!(found.as_array().is_some_and(|a| a.len() == DOCUMENTS / SEGMENTS), "{found}");
    }
    let lookup = started.elapsed();
    server.shutdown().await;

    let ratio = |a: Duration, b: Duration| format!("{:.2} x", a.as_secs_f64() / b.as_secs_f64());
    report.row(
        "trough meta: 100,000 inserts",
        ms(insert),
        format!("{} SQLite in-process", ms(peer_insert)),
        ratio(insert, peer_insert),
        "printed",
        None,
    );
    let each = lookup / LOOKUPS as u32;
    report.row(
        "trough meta: 10,000 lookups by index",
        format!("{} each", ms(each)),
        format!("{} SQLite in-process", ms(peer_lookup / LOOKUPS as u32)),
        ratio(lookup, peer_lookup),
        "< 1 ms each",
        Some(each < Duration::from_millis(1)),
    );
    Ok(())
}
