//! What no client may do with SQL, on every path that takes some: the old read endpoint, map, reduce, a script that writes, a
//! statement that writes, a schema. And what a segment's file may not do to those who read it.

mod common;

use std::time::{Duration, Instant};

use common::{Bench, allow, bench, bench_with, request};
use trough_core::{
    ErrorCode, SegmentError,
    wire::{WriteResult, WriteStatement},
};
use trough_engine::{Engine, EngineOptions, Limits, Mode};

/// Refused on every path.
const NOWHERE: &[&str] = &[
    "attach 'other.sqlite' as o",
    "attach ':memory:' as o",
    "attach '' as o",
    "attach database 'file:/etc/passwd?mode=ro' as o",
    "detach main",
    "vacuum",
    "vacuum into 'copy.sqlite'",
    "select load_extension('x')",
    "select load_extension('x', 'y')",
    "select fts3_tokenizer('simple')",
    "select fts3_tokenizer('simple', x'0000000000000000')",
    // Functions and tables of SQLite's shell, which the library must not have.
    "select readfile('/etc/passwd')",
    "select writefile('f', 'x')",
    "select edit('x')",
    "select * from fsdir('/')",
    "select * from zipfile('f.zip')",
    "select * from sqlite_dbpage",
    "select * from csv",
    "create virtual table x using csv(filename='/etc/passwd')",
    "create virtual table x using fsdir",
    "create virtual table x using zipfile('f.zip')",
    "create virtual table x using sqlite_dbpage",
    // The table of tables.
    "insert into sqlite_schema values('table','x','x',2,'create table x(y)')",
    "update sqlite_schema set sql = 'create table t(a, b)' where name = 't'",
    "delete from sqlite_master",
    "drop table sqlite_sequence",
    "drop table sqlite_schema",
    "alter table sqlite_schema rename to x",
    // What is temporary outlives the request, on a connection that others use.
    "create temp table t(a)",
    "create temporary table other(a)",
    "create temp table o as select 1",
    "create temp view t as select 1 a",
    "create temp trigger g after insert on t begin delete from t; end",
    "create table temp.t(a)",
    "create table temp.o as select 1",
    "create view temp.t as select 1 a",
    "create trigger temp.g after insert on t begin delete from t; end",
    "create virtual table temp.t using fts5(a)",
    "rollback",
    "select * from pragma_writable_schema(1)",
    "select * from pragma_journal_mode('off')",
    "select * from pragma_temp_store_directory('/tmp')",
];

/// Pragmas that write, reveal or weaken something.
const PRAGMAS: &[&str] = &[
    "analysis_limit=1",
    "auto_vacuum=1",
    "automatic_index=0",
    "busy_timeout=0",
    "cache_size=1000000",
    "cache_spill=0",
    "case_sensitive_like=1",
    "cell_size_check=0",
    "checkpoint_fullfsync=0",
    "count_changes=1",
    "data_store_directory='/tmp'",
    "default_cache_size=1000000",
    "empty_result_callbacks=1",
    "encoding='UTF-16'",
    "full_column_names=1",
    "fullfsync=0",
    "hard_heap_limit=1",
    "hexkey='00'",
    "ignore_check_constraints=1",
    "incremental_vacuum",
    "incremental_vacuum(1)",
    "journal_mode=off",
    "journal_mode=memory",
    "journal_mode=delete",
    "journal_size_limit=0",
    "key='x'",
    "legacy_alter_table=1",
    "legacy_file_format=1",
    "lock_proxy_file='/tmp/x'",
    "lock_status",
    "locking_mode=exclusive",
    "max_page_count=1",
    "mmap_size=1000000000",
    "page_size=512",
    "parser_trace=1",
    "query_only=0",
    "read_uncommitted=1",
    "rekey='x'",
    "reverse_unordered_selects=1",
    "schema_version=9",
    "secure_delete=0",
    "short_column_names=0",
    "shrink_memory",
    "soft_heap_limit=1",
    "synchronous=off",
    "temp_store=1",
    "temp_store_directory",
    "temp_store_directory='/tmp'",
    "textkey='x'",
    "threads=8",
    "trusted_schema=1",
    "vdbe_trace=1",
    "wal_autocheckpoint=0",
    "wal_checkpoint",
    "wal_checkpoint(truncate)",
    "writable_schema=1",
    "writable_schema=reset",
];

/// Refused where one only reads.
const READING: &[&str] = &[
    "insert into t values(9)",
    "replace into t values(9)",
    "update t set a = 9",
    "delete from t",
    "delete from t returning a",
    "with w as (select 1) delete from t",
    "with w(a) as (select 1) insert into t select a from w",
    "create table x(y)",
    "create index i on t(a)",
    "create view v as select 1",
    "create trigger g after insert on t begin select 1; end",
    "create virtual table f using fts5(x)",
    "drop table t",
    "alter table t add column b",
    "alter table t rename to u",
    "reindex",
    "analyze",
    "begin",
    "commit",
    "savepoint s",
    "explain delete from t",
    "explain query plan delete from t",
    "pragma user_version=9",
    "pragma application_id=9",
    "pragma foreign_keys=1",
    "pragma defer_foreign_keys=1",
    "pragma recursive_triggers=1",
    "pragma optimize",
    "select * from pragma_user_version(9)",
    "select 1; delete from t",
];

fn segment(b: &Bench) {
    b.make("s", "create table t(a); insert into t values(1); create table q(id integer primary key autoincrement)");
}

async fn map(b: &Bench, sql: &str) -> Result<(), SegmentError> {
    let answer = b.query(&["s"], request(&["s"], sql, None)).await;
    answer.error.or(answer.errors.into_iter().next().map(|(_, e)| e)).map_or(Ok(()), Err)
}

async fn reduce(b: &Bench, sql: &str) -> Result<(), SegmentError> {
    let answer = b.query(&["s"], request(&["s"], "select a from t", Some(sql))).await;
    answer.error.or(answer.errors.into_iter().next().map(|(_, e)| e)).map_or(Ok(()), Err)
}

async fn statement(b: &Bench, sql: &str) -> Result<(), SegmentError> {
    let statement = WriteStatement { sql: sql.into(), ..WriteStatement::default() };
    match b.engine.write(b.hot("s"), vec![statement], allow()).await {
        WriteResult::Err { error } => Err(error),
        _ => Ok(()),
    }
}

fn pragmas() -> impl Iterator<Item = String> {
    PRAGMAS.iter().map(|pragma| format!("pragma {pragma}"))
}

#[tokio::test]
async fn reading_reads_the_segment_and_nothing_else() {
    let b = bench();
    segment(&b);
    let before = std::fs::read(b.path("s")).expect("a file");
    let all = NOWHERE.iter().chain(READING).map(|sql| (*sql).to_owned()).chain(pragmas());
    for sql in all {
        for (path, outcome) in [
            ("read", b.read("s", &sql).await.map(drop)),
            ("immutable", b.read_as("s", Mode::Immutable, &sql).await.map(drop)),
            ("map", map(&b, &sql).await),
            ("reduce", reduce(&b, &sql).await),
        ] {
            assert!(outcome.is_err(), "{path}: {sql} was done");
        }
    }
    assert_eq!(std::fs::read(b.path("s")).expect("a file"), before, "the file was changed");
    let names: Vec<_> =
        std::fs::read_dir(b.dir.path()).expect("a directory").map(|e| e.expect("a name").file_name()).collect();
    assert_eq!(names, ["s.sqlite"], "something was written beside it");
    assert_eq!(b.read("s", "select a from t").await.expect("still reads"), "[{\"a\":1}]\n");
}

#[tokio::test]
async fn writing_stays_within_the_segment() {
    let b = bench();
    segment(&b);
    for sql in NOWHERE.iter().map(|sql| (*sql).to_owned()).chain(pragmas()) {
        for (path, outcome) in [
            ("script", b.write("s", &sql).await),
            ("script after a row", b.write("s", &format!("insert into t values(9); {sql}")).await),
            ("statement", statement(&b, &sql).await),
            ("schema", b.engine.validate_schema(&sql).map_err(|e| SegmentError::new(ErrorCode::BadSql, e))),
            ("new segment", b.engine.create(b.path("new"), sql.clone()).await.map(drop)),
        ] {
            assert!(outcome.is_err(), "{path}: {sql} was done");
        }
    }
    assert_eq!(b.read("s", "select a from t").await.expect("reads"), "[{\"a\":1}]\n");
    assert!(!b.path("new").exists());
    b.engine.close_writers().await;
    let others: Vec<_> = std::fs::read_dir(b.dir.path())
        .expect("a directory")
        .map(|e| e.expect("a name").file_name().into_string().expect("UTF-8"))
        .filter(|name| !name.starts_with("s.sqlite"))
        .collect();
    assert_eq!(others, [""; 0], "something was written beside it");
}

#[tokio::test]
async fn what_one_client_sets_does_not_stay_for_the_next() {
    let b = bench();
    segment(&b);
    // What SQLite itself does with its temporary schema must go on.
    for sql in [
        "alter table t rename to u",
        "alter table u rename column a to b",
        "alter table u rename column b to a",
        "alter table u rename to t",
    ] {
        b.write("s", sql).await.expect(sql);
    }
    for sql in ["pragma foreign_keys=1", "pragma recursive_triggers=1", "pragma defer_foreign_keys=1", "savepoint mine"]
    {
        b.write("s", sql).await.expect(sql);
    }
    b.write("s", "insert into t values(2)").await.expect("written");
    assert_eq!(b.read("s", "select count(*) n from t").await.expect("reads"), "[{\"n\":2}]\n");
}

/// Work and memory without end: each ends with an error, soon.
#[tokio::test]
async fn bombs_are_put_out() {
    let limits = Limits { query_timeout: Duration::from_millis(1500), ..Limits::default() };
    let b = bench_with(EngineOptions { limits, heap_limit: 512 << 20, ..EngineOptions::default() });
    segment(&b);
    let deep_expression = format!("select 1{}", "+1".repeat(5000));
    let compound = format!("select 1{}", " union all select 1".repeat(600));
    let joins = format!("select 1 from t t0{}", (1..70).map(|i| format!(", t t{i}")).collect::<String>());
    let columns = format!("select {}1", "1,".repeat(5000));
    let variables = format!("select {}?", "?,".repeat(300_000));
    let nested = format!("select * from {}t{}", "(select * from ".repeat(50_000), ")".repeat(50_000));
    let arguments = format!("select max({}1)", "1,".repeat(5000));
    let like = format!("select 'a' like '{}'", "%a".repeat(40_000));
    let json = format!("select json('{}')", "[".repeat(1_000_000 - 100));
    for sql in [
        "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c",
        "with recursive c(x) as (select 'a' union all select x || x from c) select length(x) from c where length(x) > 1e12",
        "with recursive c(x) as (select 1 union all select x + 1 from c) select group_concat(hex(zeroblob(1000000))) from c",
        "with recursive c(x) as (select 1 union all select x + 1 from c) select x from c order by x desc",
        "with recursive c(x) as (select 1 union all select x + 1 from c) select json_group_array(hex(zeroblob(1000000))) from c",
        "select randomblob(2000000000)",
        "select length(hex(randomblob(1000000000)))",
        "select zeroblob(3000000000)",
        "select hex(zeroblob(1000000000))",
        "select replace(hex(zeroblob(1000000)), '0', hex(zeroblob(1000000)))",
        "select quote(zeroblob(250000000))",
        "select count(*) from t a, (with recursive c(x) as (select 1 union all select x+1 from c limit 100000) select x from c) b, \
         (with recursive c(x) as (select 1 union all select x+1 from c limit 100000) select x from c) d where b.x + d.x < 0",
        &deep_expression,
        &compound,
        &joins,
        &columns,
        &variables,
        &nested,
        &arguments,
        &like,
        &json,
    ] {
        let shown = &sql[..sql.len().min(90)];
        let begun = Instant::now();
        assert!(b.read("s", sql).await.is_err(), "read: {shown}");
        assert!(map(&b, sql).await.is_err(), "map: {shown}");
        assert!(reduce(&b, sql).await.is_err(), "reduce: {shown}");
        let took = begun.elapsed();
        // Without an end it would take for ever; this is for a machine that is very busy.
        assert!(took < Duration::from_secs(180), "{shown} took {took:?}");
    }
    assert_eq!(b.read("s", "select a from t").await.expect("still reads"), "[{\"a\":1}]\n");
}

/// Wide rows of values that SQLite makes as they are read, and many long rows between two of its questions for the time.
#[tokio::test]
async fn wide_and_long_rows_end() {
    let limits = Limits { max_value_bytes: 16 << 20, max_partial_bytes: 128 << 20, ..Limits::default() };
    let b = bench_with(EngineOptions { limits: limits.clone(), ..EngineOptions::default() });
    segment(&b);
    let wide = format!("select zeroblob(15000000) c0{}", ", zeroblob(15000000)".repeat(99));
    let long = "with recursive c(x) as (select 1 union all select x + 1 from c) select zeroblob(15000000) c0 from c";
    for outcome in [b.read("s", &wide).await.map(drop), map(&b, &wide).await, reduce(&b, &wide).await] {
        assert_eq!(outcome.expect_err("refused").code, ErrorCode::Limit);
    }
    let returning = format!("insert into t values(5) returning {}", wide.replace(" c0", "").replace("select ", ""));
    assert_eq!(statement(&b, &returning).await.expect_err("refused").code, ErrorCode::Limit);
    for (sql, wanted, code) in [(wide.as_str(), 5, ErrorCode::Limit), (long, 5000, ErrorCode::ByteLimit)] {
        let mut first = request(&["s"], sql, Some("SELECT * FROM partial ORDER BY c0 ASC NULLS LAST LIMIT ?1"));
        first.reduce_params = vec![trough_core::Value::Integer(wanted)];
        let answer = b.query(&["s"], first).await;
        assert_eq!(answer.errors.into_iter().next().map(|(_, e)| e).or(answer.error).expect("refused").code, code);
    }
    assert_eq!(b.read("s", "select a from t").await.expect("still reads"), "[{\"a\":1}]\n");

    // A thousand steps of SQLite's machine, after which it asks for the time, are gigabytes here.
    let limits = Limits { query_timeout: Duration::from_millis(200), ..limits };
    let b = Bench { engine: Engine::new(EngineOptions { limits, ..EngineOptions::default() }), dir: b.dir };
    for outcome in [b.read("s", long).await.map(drop), map(&b, long).await] {
        assert_eq!(outcome.expect_err("interrupted").code, ErrorCode::Deadline);
    }
}

/// A file from who knows where: what its schema asks for is not done.
#[tokio::test]
async fn a_hostile_file_does_no_harm() {
    let b = bench();
    b.make(
        "s",
        "create table t(a); insert into t values(1);
         create view loads as select load_extension('x') from t;
         create view tokenizes as select fts3_tokenizer('simple') from t;
         create view endless as with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) n from c;
         create view itself as select * from t where a in (select n from endless);
         create trigger loading after insert on t begin select load_extension('x'); end;",
    );
    // Modules that this library does not have, and names of SQLite's own, put there by hand.
    let conn = rusqlite::Connection::open(b.path("s")).expect("opened");
    conn.execute_batch(
        "pragma writable_schema=1;
         insert into sqlite_schema values('table', 'pages', 'pages', 0, 'CREATE VIRTUAL TABLE pages USING sqlite_dbpage');
         insert into sqlite_schema values('table', 'files', 'files', 0, 'CREATE VIRTUAL TABLE files USING fsdir');",
    )
    .expect("made");
    drop(conn);
    let limits = Limits { query_timeout: Duration::from_millis(700), ..Limits::default() };
    let b = Bench { engine: Engine::new(EngineOptions { limits, ..EngineOptions::default() }), dir: b.dir };
    for table in ["loads", "tokenizes", "endless", "itself", "pages", "files"] {
        let sql = format!("select * from {table}");
        assert!(b.read("s", &sql).await.is_err(), "{table} was read");
        assert!(map(&b, &sql).await.is_err(), "{table} was read by map");
    }
    assert!(b.write("s", "insert into t values(2)").await.is_err(), "the trigger loaded an extension");
    assert_eq!(b.read("s", "select a from t").await.expect("what is sound reads"), "[{\"a\":1}]\n");
}
