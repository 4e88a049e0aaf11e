//! kill -9 at any moment: every acknowledged write is there, and nothing is half there.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use common::{allow, bench, id};
use trough_engine::{Engine, EngineOptions, Mode, SegmentFile};

const DIR: &str = "TROUGH_ENGINE_KILL_TEST_DIR";
const SEGMENTS: usize = 12;
const ROUNDS: u64 = 25;

/// The child's part: writes for ever, tells each acknowledged write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writes() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let round: u64 = std::env::var("TROUGH_ENGINE_KILL_TEST_ROUND").unwrap().parse().unwrap();
    let engine = Engine::new(EngineOptions { checkpoint_pages: 20, ..EngineOptions::default() });
    let tasks = (0..SEGMENTS * 2).map(|task| {
        let engine = engine.clone();
        let name = format!("s{}", task % SEGMENTS);
        let file = SegmentFile::new(id(&name), Path::new(&dir).join(format!("{name}.sqlite")), Mode::Hot);
        tokio::spawn(async move {
            for n in 0.. {
                let key = format!("{round}.{task}.{n}");
                let sql = format!("insert into t values('{key}', 1); insert into t values('{key}', 2)");
                engine.write_script(file.clone(), sql, allow()).await.unwrap();
                writeln!(std::io::stdout(), "ack {name} {key}").unwrap();
            }
        })
    });
    futures::future::join_all(tasks.collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn acknowledged_writes_survive_kill_9() {
    if std::env::var(DIR).is_ok() {
        return;
    }
    let b = bench();
    let names: Vec<String> = (0..SEGMENTS).map(|i| format!("s{i}")).collect();
    for name in &names {
        b.engine.create(b.path(name), "create table t(k, part, primary key(k, part))".into()).await.unwrap();
    }
    let mut acknowledged: HashSet<(String, String)> = HashSet::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_writes", "--nocapture", "--test-threads=1"])
            .env(DIR, b.dir.path())
            .env("TROUGH_ENGINE_KILL_TEST_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Each time at another moment; what was told before the end counts.
        let mut left = 1 + round * 37 % 200;
        while let Some(Ok(line)) = lines.next() {
            if let Some((name, key)) = line.strip_prefix("ack ").and_then(|rest| rest.split_once(' ')) {
                acknowledged.insert((name.to_owned(), key.to_owned()));
                left -= u64::from(left > 0);
                if left == 0 {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
    }
    let mut found = HashSet::new();
    for name in &names {
        let text = b.read(name, "select k, count(*) n from t group by k").await.unwrap();
        let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        for row in rows {
            assert_eq!(row["n"], 2, "half a transaction in {name}: {row}");
            found.insert((name.clone(), row["k"].as_str().unwrap().to_owned()));
        }
        assert!(b.engine.seal(b.hot(name)).await.unwrap());
        b.engine.check(b.path(name)).await.unwrap();
    }
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged writes are lost: {lost:?}", lost.len(), acknowledged.len());
    assert!(acknowledged.len() > 100);
}
