//! Times a metadata server in this process: `cargo run --release -p trough-meta --example measure`.

use std::time::Instant;

use serde_json::{Value, json};
use trough_meta::MetaServer;
use trough_reql::{Client, Options, r};

const DOCUMENTS: usize = 100_000;
const SEGMENTS: usize = 20_000;

fn document(i: usize) -> Value {
    json!({
        "id": format!("trough-read:worker-{}:segment-{i}", i % 5), "role": "trough-read",
        "node": format!("worker-{}", i % 5), "segment": format!("segment-{}", i % SEGMENTS),
        "url": format!("http://worker-{}:6444/?segment=segment-{i}", i % 5), "port": 6444, "ttl": 1e12, "load": 0.25,
    })
}

fn report(what: &str, count: usize, started: Instant) {
    let elapsed = started.elapsed();
    let each = elapsed / u32::try_from(count).unwrap_or(1);
    println!(
        "{what:<44} {:>10.1} ms {:>12.1?} each {:>10.0} /s",
        elapsed.as_secs_f64() * 1e3,
        each,
        count as f64 / elapsed.as_secs_f64()
    );
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir =
        tempfile::tempdir_in(std::env::args().nth(1).unwrap_or_else(|| std::env::temp_dir().display().to_string()))?;
    let server = MetaServer::start_ephemeral(dir.path()).await?;
    let address = server.local_addr();
    let hosts = vec![(address.ip().to_string(), address.port())];
    let client = Client::new(Options { hosts, db: "bench".into(), ..Options::default() });
    client.run(&r::db_create("bench")).await?;
    for table in ["services", "single"] {
        client.run(&r::table_create(table)).await?;
        for index in ["segment", "role"] {
            client.run(&r::table(table).index_create(index)).await?;
        }
    }
    let services = || r::table("services");

    let started = Instant::now();
    for batch in 0..DOCUMENTS / 1000 {
        let docs: Vec<_> = (batch * 1000..(batch + 1) * 1000).map(document).collect();
        client.write(&services().insert(r::expr(Value::Array(docs)))).await?;
    }
    report("insert, batches of 1,000, durable", DOCUMENTS, started);

    let started = Instant::now();
    for i in 0..2000 {
        client.write(&r::table("single").insert(r::expr(document(i)))).await?;
    }
    report("insert, one at a time, durable", 2000, started);

    let started = Instant::now();
    for i in 2000..12_000 {
        client.write(&r::table("single").insert(r::expr(document(i))).durability("soft")).await?;
    }
    report("insert, one at a time, soft", 10_000, started);

    let started = Instant::now();
    let mut tasks = Vec::new();
    for task in 0..64 {
        let client = client.clone();
        tasks.push(tokio::spawn(async move {
            for i in 0..100 {
                let doc = document(100_000 + task * 1000 + i);
                client.write(&r::table("single").insert(r::expr(doc))).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    report("insert, 64 at a time, durable", 6400, started);

    let started = Instant::now();
    for i in 0..10_000 {
        let id = format!("trough-read:worker-{}:segment-{}", i * 7 % 5, i * 7);
        anyhow::ensure!(client.run(&services().get(id)).await?.is_object());
    }
    report("get", 10_000, started);

    let started = Instant::now();
    for i in 0..10_000 {
        let key = format!("segment-{}", i * 7919 % SEGMENTS);
        let found = client.run(&services().get_all([key]).index("segment")).await?;
        anyhow::ensure!(found.as_array().is_some_and(|found| found.len() == DOCUMENTS / SEGMENTS));
    }
    report("get_all by index, 5 documents", 10_000, started);

    let started = Instant::now();
    let found = client.run(&services().count()).await?;
    anyhow::ensure!(found == json!(DOCUMENTS));
    report("count", DOCUMENTS, started);

    let started = Instant::now();
    let found = client.run(&services().filter_obj(json!({"role": "trough-nodes"})).count()).await?;
    anyhow::ensure!(found == json!(0));
    report("filter by a field, whole table", DOCUMENTS, started);

    let started = Instant::now();
    let alive = services().filter(|row| (r::now().sub(row.clone().g("load"))).gt(row.g("ttl"))).count();
    client.run(&alive).await?;
    report("filter by a function, whole table", DOCUMENTS, started);

    let started = Instant::now();
    let found = client.run(&services()).await?;
    anyhow::ensure!(found.as_array().is_some_and(|found| found.len() == DOCUMENTS));
    report("read the whole table", DOCUMENTS, started);

    let started = Instant::now();
    client
        .write(&services().get_all(["segment-1", "segment-2"]).index("segment").update(r::expr(json!({"load": 1}))))
        .await?;
    report("update by index", 10, started);

    let started = Instant::now();
    client.write(&services().get_all(["trough-read"]).index("role").delete()).await?;
    report("delete everything by index", DOCUMENTS, started);
    server.shutdown().await;
    Ok(())
}
