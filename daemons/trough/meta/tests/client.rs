//! The Rust client against the metadata server: what trough itself does with it, over one connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::join_all};
use serde_json::{Value, json};
use tempfile::TempDir;
use trough_meta::{MetaOptions, MetaServer};
use trough_reql::{Client, Cursor, Error, ErrorClass, Expr, Options, r};

/// Longer than anything takes that goes well.
const LONG: Duration = Duration::from_secs(30);

/// A server with the database `d`, the table `t` and its index `n`, and a client of it.
async fn start() -> (TempDir, MetaServer, Client) {
    let dir = tempfile::tempdir().expect("a directory");
    let server = MetaServer::start_ephemeral(dir.path()).await.expect("a server");
    let client = Client::new(Options::from_url(&server.url("d")).expect("a URL"));
    client.run(&r::db_create("d")).await.expect("a database");
    client.run(&r::table_create("t").opt("replicas", 1).opt("shards", 1)).await.expect("a table");
    client.run(&table().index_create("n")).await.expect("an index");
    client.run(&table().wait()).await.expect("ready");
    client.run(&table().index_wait()).await.expect("ready");
    (dir, server, client)
}

fn table() -> Expr {
    r::table("t")
}

/// Documents 0 to `count` - 1; `n` is the id modulo 10.
async fn fill(client: &Client, count: u64) {
    let all: Vec<u64> = (0..count).collect();
    for batch in all.chunks(1000) {
        let rows = batch.iter().map(|id| json!({"id": id, "n": id % 10, "text": format!("row {id}")}));
        let insert = table().insert(r::array(rows)).durability("soft");
        assert_eq!(client.write(&insert).await.expect("inserted").inserted, batch.len() as u64);
    }
}

async fn next(cursor: &mut Cursor<Value>) -> Value {
    let row = tokio::time::timeout(LONG, cursor.next()).await.expect("in time");
    row.expect("a row").expect("no error")
}

#[tokio::test]
async fn writes_are_counted_and_refusals_are_errors() {
    let (_dir, server, client) = start().await;
    let insert = table().insert(json!([{"id": 1, "n": 1}, {"id": 2, "n": 2}]));
    assert_eq!(client.write(&insert).await.expect("inserted").inserted, 2);
    let again = client.write(&insert).await.expect_err("the keys are taken");
    let Error::Write { summary } = &again else { panic!("{again}") };
    assert_eq!(summary.errors, 2);
    assert!(again.to_string().contains("Duplicate primary key `id`"), "{again}");

    let newer = |epoch: u64| {
        table().insert(json!({"id": 1, "epoch": epoch})).conflict_fn(move |_, old, new| {
            let fenced = r::error(format!("fenced: a newer epoch than {epoch}"));
            r::branch(old.g("epoch").default(0).gt(epoch), fenced, new)
        })
    };
    assert_eq!(client.write(&newer(5)).await.expect("replaced").replaced, 1);
    assert_eq!(client.write(&newer(5)).await.expect("the same").unchanged, 1);
    let refused = client.write(&newer(4)).await.expect_err("older");
    assert!(refused.to_string().contains("fenced: a newer epoch than 4"), "{refused}");

    let missing = table().get(7).update(json!({"a": 1}));
    assert_eq!(client.write(&missing).await.expect("skipped").skipped, 1);
    let changed = table().get_all([2]).update_fn(|row| r::object([("m", row.g("n").add(1))])).return_changes(true);
    let changed = client.write(&changed).await.expect("updated");
    assert_eq!(
        changed.changes,
        Some(vec![json!({"old_val": {"id": 2, "n": 2}, "new_val": {"id": 2, "n": 2, "m": 3}})])
    );
    let generated = client.write(&table().insert(json!({"n": 9}))).await.expect("inserted");
    assert_eq!(generated.generated_keys.len(), 1);
    assert_eq!(client.write(&table().delete()).await.expect("deleted").deleted, 3);
    server.shutdown().await;
}

#[tokio::test]
async fn one_of_many_candidates_is_elected() {
    let (_dir, server, client) = start().await;
    let elect = |me: String| {
        let now = || r::object([("last_heartbeat", r::now())]);
        table()
            .get("master")
            .replace(move |old| {
                let age = r::now().sub(old.clone().g("last_heartbeat"));
                let vacant = old.clone().eq(Value::Null).or(age.gt(old.clone().g("ttl")));
                let candidate = r::expr(json!({"id": "master", "holder": me, "ttl": 30})).merge(now());
                let mine = old.clone().g("holder").default(Value::Null).eq(me);
                r::branch(vacant, candidate, r::branch(mine, old.clone().merge(now()), old))
            })
            .return_changes("always")
            .durability("hard")
    };
    let outcomes = join_all((0..50).map(|number| {
        let (client, statement) = (client.clone(), elect(format!("candidate {number}")));
        async move { client.write(&statement).await.expect("an answer") }
    }))
    .await;
    assert_eq!(outcomes.iter().map(|outcome| outcome.inserted).sum::<u64>(), 1);
    let holders: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.changes.as_ref().expect("always")[0]["new_val"]["holder"].clone())
        .collect();
    assert!(holders.iter().all(|holder| *holder == holders[0] && holder.is_string()), "{holders:?}");
    let winner = holders[0].as_str().expect("a holder").to_owned();
    assert_eq!(client.write(&elect(winner)).await.expect("renewed").replaced, 1);
    server.shutdown().await;
}

#[tokio::test]
async fn reads_by_key_index_and_condition() {
    let (_dir, server, client) = start().await;
    fill(&client, 2500).await;
    let rows = async |query: Expr| client.run_as::<Vec<Value>>(&query).await.expect("rows");
    let keys: Vec<u64> = (0..1000).map(|key| key * 3).collect();
    assert_eq!(rows(table().get_all(keys)).await.len(), 834);
    assert_eq!(rows(table().get_all([3, 4]).index("n")).await.len(), 500);
    assert_eq!(rows(table().get_all(Vec::<u64>::new())).await.len(), 0);
    assert_eq!(rows(table().between(10, 20).right_bound("closed")).await.len(), 11);
    assert_eq!(rows(table().between(r::minval(), 1).index("n")).await.len(), 250);
    assert_eq!(rows(table().filter(|row| row.g("text").match_("^row 1\\d$"))).await.len(), 10);
    assert_eq!(rows(table().filter_obj(json!({"n": 3, "text": "row 13"}))).await.len(), 1);
    let last = rows(table().order_by([r::desc("id")]).limit(2).pluck(["id"])).await;
    assert_eq!(last, [json!({"id": 2499}), json!({"id": 2498})]);
    assert_eq!(client.run(&table().count()).await.expect("a number"), json!(2500));
    assert_eq!(client.run(&table().get("nobody")).await.expect("null"), Value::Null);
    let nested = r::expr(json!([1, 2])).map(|n| table().get_all([n]).index("n").count());
    assert_eq!(client.run(&nested).await.expect("numbers"), json!([250, 250]));
    let now: Value = client.run(&r::now()).await.expect("a time");
    assert_eq!(now["$reql_type$"], "TIME");
    server.shutdown().await;
}

#[tokio::test]
async fn cursors_stream_and_may_be_dropped() {
    let (_dir, server, client) = start().await;
    fill(&client, 20_000).await;
    let whole: Cursor<Value> = client.cursor(&table()).await.expect("a cursor");
    let ids: Vec<u64> = whole.map(|row| row.expect("a row")["id"].as_u64().expect("an id")).collect().await;
    assert_eq!(ids.len(), 20_000);
    assert_eq!(ids.iter().sum::<u64>(), 19_999 * 10_000);
    for _ in 0..100 {
        let mut dropped: Cursor<Value> = client.cursor(&table()).await.expect("a cursor");
        next(&mut dropped).await;
    }
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut cursor: Cursor<Value> = client.cursor(&table()).await.expect("a cursor");
        next(&mut cursor).await;
        open.push(cursor);
    }
    // Ten cursors are open, and nobody waits for them.
    assert_eq!(client.run(&table().count()).await.expect("a number"), json!(20_000));
    let read = join_all(open.into_iter().map(|cursor| cursor.count())).await;
    assert!(read.into_iter().all(|rows| rows == 19_999));
    server.shutdown().await;
}

#[tokio::test]
async fn feeds_tell_changes_while_other_queries_run() {
    let (_dir, server, client) = start().await;
    fill(&client, 20).await;
    let changes = table().get_all([3]).index("n").changes().include_initial(true).include_states(true);
    let mut feed: Cursor<Value> = client.feed(&changes).await.expect("a feed");
    assert_eq!(next(&mut feed).await, json!({"state": "initializing"}));
    let initial = [next(&mut feed).await, next(&mut feed).await];
    assert!(initial.iter().all(|row| row["new_val"]["n"] == 3 && row.get("old_val").is_none()), "{initial:?}");
    assert_eq!(next(&mut feed).await, json!({"state": "ready"}));

    let mut more: Vec<Cursor<Value>> = Vec::new();
    for id in 0..20 {
        more.push(client.feed(&table().get(id).changes()).await.expect("a feed"));
    }
    let waiting = tokio::spawn(async move {
        let change = next(&mut feed).await;
        (change, feed)
    });
    let answers = join_all((0..200).map(|_| async { client.run(&table().count()).await })).await;
    assert!(answers.into_iter().all(|answer| answer.expect("an answer") == json!(20)));
    assert!(!waiting.is_finished());
    client.write(&table().get(13).update(json!({"n": 4}))).await.expect("updated");
    let (change, mut feed) = waiting.await.expect("no panic");
    assert_eq!(change["old_val"]["n"], 3);
    assert_eq!(change["new_val"], Value::Null, "it left the selection");
    drop(more);
    client.write(&table().get(14).update(json!({"n": 3}))).await.expect("updated");
    let change = next(&mut feed).await;
    assert_eq!((&change["old_val"], &change["new_val"]["id"]), (&Value::Null, &json!(14)));
    server.shutdown().await;
}

#[tokio::test]
async fn noreply_writes_are_there_after_waiting_for_them() {
    let (_dir, server, client) = start().await;
    for id in 0..100 {
        client.run_noreply(&table().insert(json!({"id": id}))).await.expect("sent");
    }
    client.noreply_wait().await.expect("carried out");
    assert_eq!(client.run(&table().count()).await.expect("a number"), json!(100));
    assert!(client.server_info().await.expect("info")["id"].is_string());
    server.shutdown().await;
}

#[tokio::test]
async fn errors_have_their_class() {
    let (_dir, server, client) = start().await;
    fill(&client, 10).await;
    let class = async |query: Expr| match client.run(&query).await {
        Err(Error::Runtime { class, .. }) => class,
        other => panic!("{other:?}"),
    };
    assert_eq!(class(r::table("nope")).await, ErrorClass::OpFailed);
    assert_eq!(class(table().get_all([1]).index("nope")).await, ErrorClass::OpFailed);
    assert_eq!(class(r::error("mine")).await, ErrorClass::User);
    assert_eq!(class(table().get("nobody").g("field")).await, ErrorClass::NonExistence);
    assert_eq!(class(r::expr(1).add("text")).await, ErrorClass::QueryLogic);
    let short = client.with_optarg("array_limit", 5).run(&table().coerce_to("array")).await;
    assert!(matches!(&short, Err(Error::Runtime { class: ErrorClass::ResourceLimit, .. })), "{short:?}");
    let unknown = client.run(&Expr::wire(json!([99_999, []]))).await;
    assert!(matches!(&unknown, Err(Error::Compile(_) | Error::Client(_) | Error::Runtime { .. })), "{unknown:?}");
    // None of them hurt the connection.
    assert_eq!(client.run(&r::expr(1)).await.expect("an answer"), json!(1));
    server.shutdown().await;
}

#[tokio::test]
async fn a_restarted_server_is_found_again_with_everything_on_it() {
    let (dir, server, client) = start().await;
    let address = server.local_addr();
    client.write(&table().insert(json!({"id": 1})).durability("hard")).await.expect("inserted");
    let mut feed: Cursor<Value> = client.feed(&table().changes()).await.expect("a feed");
    server.shutdown().await;
    let end = tokio::time::timeout(LONG, feed.next()).await.expect("in time");
    assert!(matches!(&end, Some(Err(error)) if error.is_retryable()), "{end:?}");
    assert!(feed.next().await.is_none());
    let away = client.run(&table().count()).await.expect_err("nobody there");
    assert!(away.is_retryable(), "{away}");

    let server = MetaServer::start(MetaOptions::new(dir.path(), address)).await.expect("the port is free again");
    let deadline = Instant::now() + LONG;
    loop {
        match client.run(&table().count()).await {
            Ok(count) => break assert_eq!(count, json!(1)),
            Err(error) => assert!(error.is_retryable() && Instant::now() < deadline, "{error}"),
        }
    }
    server.shutdown().await;
}

#[tokio::test]
async fn password_and_tls_are_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("a usable certificate");
    let listen = "127.0.0.1:0".parse().expect("an address");
    let options = MetaOptions {
        password: Some("p@ss".to_owned()),
        tls: Some(Arc::new(tls)),
        ..MetaOptions::new(dir.path(), listen)
    };
    let server = MetaServer::start(options).await.expect("a server");
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).expect("written");
    let url = |login: &str| {
        let (address, ca) = (server.local_addr(), ca.display());
        Options::from_url(&format!("rethinkdb://{login}@{address}/d?tls={ca}&tls_name=localhost")).expect("a URL")
    };
    let right = Client::new(url("admin:p%40ss"));
    assert_eq!(right.run(&r::expr(1)).await.expect("an answer"), json!(1));
    for wrong in ["admin:pass", "admin", "nobody:p%40ss"] {
        let refused = Client::new(url(wrong)).run(&r::expr(1)).await;
        assert!(matches!(&refused, Err(Error::Auth { .. })), "{refused:?}");
    }
    let plain = Client::new(Options { tls: None, ..url("admin:p%40ss") });
    assert!(matches!(plain.run(&r::expr(1)).await, Err(Error::Connect { .. })));
    drop(right);
    server.shutdown().await;
}
