//! First rows of many segments: what the engine picks is what SQLite gives by the same two statements.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test that cannot go on panics")]

mod common;

use common::*;
use trough_core::{Value, wire::QueryRequest};
use trough_engine::Mode;

/// Segments of one round; the first rows are known long before the last is asked.
const SEGMENTS: usize = 40;

/// A value of the column: one of the classes in `classes`.
fn value(random: &mut fastrand::Rng, classes: &[u8]) -> String {
    match classes[random.usize(..classes.len())] {
        b'n' => "NULL".into(),
        b'i' => random.i64(-20..20).to_string(),
        b'r' => format!("{:.1}", random.f64() * 40.0 - 20.0),
        b't' => format!("'{}'", ["a", "B", "b", "A", "10", "9", "", "é"][random.usize(..8)]),
        _ => format!("x'{:02x}'", random.u8(..)),
    }
}

/// The keys of the rows that plain SQLite gives: the map's on each segment, the reduce's over them all.
fn expected(b: &Bench, names: &[&str], asked: &QueryRequest, keys: usize) -> Vec<String> {
    let all = rusqlite::Connection::open_in_memory().unwrap();
    let columns: Vec<String> = (1..=keys + 1).map(|i| format!("c{i}")).collect();
    all.execute_batch(&format!("CREATE TABLE partial({})", columns.join(", "))).unwrap();
    let limit = |v: &Value| if let Value::Integer(n) = v { *n } else { unreachable!("a limit") };
    for name in names {
        let conn = rusqlite::Connection::open(b.path(name)).unwrap();
        let mut map = conn.prepare(&asked.map).unwrap();
        let mut rows = map.query([limit(&asked.params[0])]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<rusqlite::types::Value> = (0..=keys).map(|i| row.get(i).unwrap()).collect();
            let places = vec!["?"; keys + 1].join(", ");
            all.execute(&format!("INSERT INTO partial VALUES ({places})"), rusqlite::params_from_iter(values)).unwrap();
        }
    }
    let mut reduce = all.prepare(asked.reduce.as_ref().unwrap()).unwrap();
    let mut rows = reduce.query([limit(&asked.reduce_params[0])]).unwrap();
    let mut found = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let values: Vec<rusqlite::types::Value> = (0..keys).map(|i| row.get(i).unwrap()).collect();
        found.push(format!("{:?}", values.into_iter().map(same).collect::<Vec<_>>()));
    }
    found
}

/// 1 and 1.0 sort as one value, and either may come first.
fn same(value: rusqlite::types::Value) -> Value {
    match value {
        rusqlite::types::Value::Null => Value::Null,
        rusqlite::types::Value::Integer(n) => Value::Real(n as f64),
        rusqlite::types::Value::Real(r) => Value::Real(r),
        rusqlite::types::Value::Text(t) => Value::Text(t),
        rusqlite::types::Value::Blob(b) => Value::Blob(b),
    }
}

async fn round(seed: u64, mode: Mode) {
    let random = &mut fastrand::Rng::with_seed(seed);
    let b = bench();
    let classes: &[u8] = [&b"i"[..], b"in", b"irn", b"t", b"tn", b"irtbn", b"n", b"ttti"][random.usize(..8)];
    let declared = ["", "INTEGER", "TEXT", "REAL", "TEXT COLLATE NOCASE", "COLLATE NOCASE"][random.usize(..6)];
    let names: Vec<String> = (0..SEGMENTS).map(|i| format!("s{i:02}")).collect();
    // Segments that were written by others may have been declared otherwise, with indexes or without.
    let mixed = random.u8(..4) == 0;
    let index = random.bool();
    for name in &names {
        let declared = if mixed { ["", "TEXT", "INTEGER"][random.usize(..3)] } else { declared };
        let mut script = format!(
            "PRAGMA synchronous = OFF; BEGIN; CREATE TABLE t(id INTEGER PRIMARY KEY, a {declared}, b {declared});"
        );
        if index != (mixed && random.bool()) {
            script += ["CREATE INDEX i ON t(a);", "CREATE INDEX i ON t(a, b);"][random.usize(..2)];
        }
        for _ in 0..random.usize(..12) {
            script += &format!("INSERT INTO t(a, b) VALUES ({}, {});", value(random, classes), value(random, classes));
        }
        b.make(name, &(script + "COMMIT;"));
    }
    let keys = 1 + usize::from(random.bool());
    let binary = if random.bool() { " COLLATE BINARY" } else { "" };
    let direction = |random: &mut fastrand::Rng| {
        ["ASC NULLS LAST", "ASC NULLS FIRST", "DESC NULLS LAST", "DESC NULLS FIRST"][random.usize(..4)]
    };
    let mut list = format!("c1 {}", direction(random));
    let mut items = format!("a{binary} AS c1");
    if keys == 2 {
        list += &format!(", c2 {}", direction(random));
        items += &format!(", b{binary} AS c2");
    }
    let wanted = random.i64(1..25);
    let condition = ["", " WHERE id > 1", " WHERE a IS NOT NULL OR b IS NOT NULL"][random.usize(..3)];
    let names = names.iter().map(String::as_str).collect::<Vec<_>>();
    let asked = QueryRequest {
        params: vec![Value::Integer(wanted)],
        reduce_params: vec![Value::Integer(wanted)],
        ..request(
            &names,
            &format!("SELECT {items}, id AS c{} FROM t{condition} ORDER BY {list} LIMIT +?1", keys + 1),
            Some(&format!("SELECT * FROM partial ORDER BY {list} LIMIT ?1")),
        )
    };
    // Twice: the second time on connections and statements that were kept.
    for _ in 0..2 {
        let files = names.iter().map(|name| Ok(b.file(name, mode))).collect();
        let answer = b.query_files(files, asked.clone()).await;
        assert!(answer.error.is_none() && answer.errors.is_empty(), "{answer:?}");
        let found: Vec<String> = answer
            .values()
            .into_iter()
            .map(|row| {
                let whole = |v| if let Value::Integer(n) = v { Value::Real(n as f64) } else { v };
                format!("{:?}", row.into_iter().take(keys).map(whole).collect::<Vec<_>>())
            })
            .collect();
        let what = format!("seed {seed}: {declared:?} mixed {mixed}: {}", asked.map);
        assert_eq!(found, expected(&b, &names, &asked, keys), "{what}");
    }
}

#[tokio::test]
async fn first_rows_are_those_of_sqlite() {
    for seed in 0..150 {
        round(seed, Mode::Immutable).await;
    }
    for seed in 150..170 {
        round(seed, Mode::Hot).await;
    }
}
