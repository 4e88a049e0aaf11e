//! The write client against a sync master and workers that refuse, vanish and lose answers: what may have been kept is never sent
//! twice.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use common::*;
use futures::StreamExt;
use serde_json::{Value as J, json};
use trough_client::{
    WriteClient, WriteError,
    catalog::Candidate,
    http::HttpOptions,
    write::{PromoteSet, WriteOptions},
};
use trough_core::{
    ErrorCode, SchemaId, SegmentId, Value,
    wire::{SegmentWrite, WriteResult, WriteStatement},
};

/// What the fake servers share: where each segment is, what came, and what the next write gets.
#[derive(Default)]
struct Servers {
    urls: Mutex<Vec<String>>,
    provisioned: Mutex<HashMap<String, usize>>,
    written: Mutex<Vec<String>>,
    requests: AtomicUsize,
    mood: Mutex<Mood>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Mood {
    #[default]
    Well,
    NotWritableOnce,
    LosesAnswers,
}

type Shared = Arc<Servers>;

async fn listen(app: Router) -> (String, u16, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (format!("http://127.0.0.1:{port}/"), port, task)
}

async fn worker(servers: Shared) -> (String, tokio::task::JoinHandle<()>) {
    let app = Router::new().route("/v1/write", post(write)).with_state(servers.clone());
    let (url, _, task) = listen(app).await;
    servers.urls.lock().unwrap().push(url.clone());
    (url, task)
}

async fn write(State(servers): State<Shared>, body: axum::body::Bytes) -> Response {
    let body: J = rmp_serde::from_slice(&body).unwrap();
    servers.requests.fetch_add(1, Ordering::SeqCst);
    let mood = *servers.mood.lock().unwrap();
    let mut results = Vec::new();
    for one in body["writes"].as_array().unwrap() {
        if mood == Mood::NotWritableOnce {
            *servers.mood.lock().unwrap() = Mood::Well;
            results.push(json!({"error": {"code": "not_writable", "message": "no lock here"}}));
            continue;
        }
        let segment = one["segment"].as_str().unwrap().to_owned();
        if segment == "bad" {
            results.push(json!({"error": {"code": "constraint", "message": "NOT NULL constraint failed"}}));
            continue;
        }
        servers.written.lock().unwrap().push(segment);
        results.push(json!({"changes": one["statements"][0]["rows"].as_array().map_or(0, Vec::len)}));
    }
    if mood == Mood::LosesAnswers {
        let broken = futures::stream::once(async { Err::<Vec<u8>, _>(std::io::Error::other("lost")) });
        return Body::from_stream(broken).into_response();
    }
    Json(json!({"results": results})).into_response()
}

async fn master(servers: Shared) -> (String, u16, tokio::task::JoinHandle<()>) {
    let app = Router::new()
        .route("/v1/provision", post(provision))
        .route("/v1/promote", post(async |Json(body): Json<J>| {
            let lines = body["segments"].as_array().unwrap().iter().map(|s| {
                let s = s.as_str().unwrap();
                if s == "bad" {
                    json!({"segment": s, "error": {"code": "corrupt", "message": "quick_check failed"}}).to_string()
                } else {
                    json!({"segment": s, "remote_path": format!("/x/{s}.sqlite")}).to_string()
                }
            });
            lines.collect::<Vec<_>>().join("\n")
        }))
        .route("/v1/segment/{id}", delete(async |Path(id): Path<String>| {
            if id == "none" {
                return (StatusCode::NOT_FOUND, "no such segment").into_response();
            }
            Json(json!({"steps": ["copies deleted", "canonical file deleted"]})).into_response()
        }))
        .route("/schema/{id}", put(async |Json(body): Json<J>| match body["sql"].as_str() {
            Some("bad") => (StatusCode::BAD_REQUEST, "schema sql failed validation: near \"bad\"").into_response(),
            _ => StatusCode::CREATED.into_response(),
        }))
        .route("/v1/schema/{id}/describe", get(async || {
            Json(json!({"tables": [{"name": "t", "strict": true, "without_rowid": false, "sql": "create table t(a)",
                "columns": [{"name": "a", "type": "INTEGER", "not_null": true, "primary_key": 1, "default": null, "generated": false}]}],
                "views": []}))
        }))
        .with_state(servers);
    listen(app).await
}

async fn provision(State(servers): State<Shared>, Json(body): Json<J>) -> Json<J> {
    let urls = servers.urls.lock().unwrap().clone();
    let results: Vec<J> = body["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| {
            let s = s.as_str().unwrap();
            if s == "cold" {
                return json!({"segment": s, "error": {"code": "forbidden", "message": "cold segment"}});
            }
            *servers.provisioned.lock().unwrap().entry(s.to_owned()).or_default() += 1;
            let url = &urls[s.len() % urls.len()];
            json!({"segment": s, "write_url": format!("{url}?segment={s}"), "size": 4096})
        })
        .collect();
    Json(json!({"results": results}))
}

async fn elect(cluster: &Cluster, url: &str, port: u16, holder: &str, ttl: f64) {
    let candidate = Candidate {
        holder: holder.into(),
        node: node("sync"),
        url: url.into(),
        port,
        ttl,
        load: 0.0,
        host: "h".into(),
    };
    assert!(cluster.catalog.elect(&candidate).await.unwrap().mine);
}

fn insert(segment: &SegmentId, rows: usize) -> SegmentWrite {
    let statement = WriteStatement {
        sql: "insert into t values (?1)".into(),
        rows: (0..rows as i64).map(|n| vec![Value::Integer(n)]).collect(),
        ..WriteStatement::default()
    };
    SegmentWrite { segment: segment.clone(), statements: vec![statement] }
}

fn changes(result: &WriteResult) -> Result<u64, ErrorCode> {
    match result {
        WriteResult::Ok { changes, .. } => Ok(*changes),
        WriteResult::Err { error } => Err(error.code),
    }
}

struct Setting {
    cluster: Cluster,
    servers: Shared,
    client: WriteClient,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

async fn setting() -> Setting {
    let cluster = Cluster::start().await;
    let servers = Shared::default();
    let mut tasks = Vec::new();
    for _ in 0..2 {
        tasks.push(worker(servers.clone()).await.1);
    }
    let (url, port, task) = master(servers.clone()).await;
    tasks.push(task);
    elect(&cluster, &url, port, "m", 60.0).await;
    let options =
        WriteOptions { timeout: Duration::from_secs(5), segments_per_request: 100, ..WriteOptions::default() };
    let client = WriteClient::new(cluster.discovery(), &HttpOptions::default(), options).unwrap();
    Setting { cluster, servers, client, tasks }
}

#[tokio::test]
async fn writes_are_provisioned_grouped_and_answered_in_order() {
    let Setting { servers, client, cluster: _cluster, tasks: _tasks } = setting().await;
    let mut segments = segs(1_050);
    segments.extend([seg("bad"), seg("cold"), seg("odd")]);
    let writes: Vec<SegmentWrite> = segments.iter().enumerate().map(|(i, s)| insert(s, i % 5)).collect();
    let results = client.write(writes.clone()).await.unwrap();
    for (i, (segment, result)) in segments.iter().zip(&results).enumerate() {
        let expected = match segment.as_str() {
            "bad" => Err(ErrorCode::Constraint),
            "cold" => Err(ErrorCode::Forbidden),
            _ => Ok((i % 5) as u64),
        };
        assert_eq!(changes(result), expected, "{segment}");
    }
    assert_eq!(servers.written.lock().unwrap().len(), 1_051);
    assert!(servers.requests.load(Ordering::SeqCst) <= 13);
    client.write(writes[..10].to_vec()).await.unwrap();
    assert!(servers.provisioned.lock().unwrap().values().all(|n| *n == 1), "writers are remembered");
}

#[tokio::test]
async fn a_lost_lock_is_provisioned_again_and_a_lost_answer_is_not_sent_again() {
    let Setting { servers, client, cluster: _cluster, tasks: _tasks } = setting().await;
    let one = segs(1);
    *servers.mood.lock().unwrap() = Mood::NotWritableOnce;
    assert_eq!(changes(&client.write(vec![insert(&one[0], 3)]).await.unwrap()[0]), Ok(3));
    assert_eq!(servers.provisioned.lock().unwrap()["s00000"], 2);
    assert_eq!(servers.written.lock().unwrap().len(), 1);

    *servers.mood.lock().unwrap() = Mood::LosesAnswers;
    let result = client.write(vec![insert(&one[0], 3)]).await.unwrap().remove(0);
    let WriteResult::Err { error } = result else { panic!("its fate is unknown") };
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("not known"), "{error}");
    assert_eq!(servers.written.lock().unwrap().len(), 2, "sent once");
}

#[tokio::test]
async fn a_worker_that_is_gone_is_replaced() {
    let Setting { servers, client, tasks, cluster: _cluster } = setting().await;
    let one = segs(1);
    client.write(vec![insert(&one[0], 1)]).await.unwrap();
    for task in &tasks[..2] {
        task.abort();
    }
    servers.urls.lock().unwrap().clear();
    worker(servers.clone()).await;
    // An idle connection to the old worker may still seem open, so its end must have been noticed.
    until("the write to go to the new worker", async || {
        matches!(client.write(vec![insert(&one[0], 2)]).await.unwrap()[0], WriteResult::Ok { changes: 2, .. })
    })
    .await;
}

#[tokio::test]
async fn another_master_is_found() {
    let Setting { cluster, servers, client, tasks } = setting().await;
    let one = segs(1);
    client.provision(&one, &SchemaId::new("default").unwrap()).await.unwrap();
    tasks[2].abort();
    let (url, port, _task) = master(servers.clone()).await;
    let takeover = async {
        cluster.catalog.resign("m").await.unwrap();
        elect(&cluster, &url, port, "m2", 60.0).await;
    };
    let schema = SchemaId::new("default").unwrap();
    let (provisioned, ()) = tokio::join!(client.provision(&one, &schema), takeover);
    assert_eq!(provisioned.unwrap()[&one[0]].as_ref().unwrap().size, Some(4096));

    cluster.catalog.resign("m2").await.unwrap();
    let hurried = client.with_options(WriteOptions { timeout: Duration::from_millis(300), ..client.options().clone() });
    let nobody = WriteClient::new(cluster.discovery(), &HttpOptions::default(), hurried.options().clone()).unwrap();
    let error = nobody.provision(&segs(2), &schema).await.unwrap_err();
    assert!(matches!(error, WriteError::NoMaster { .. }), "{error}");
}

#[tokio::test]
async fn promote_shred_and_schemas() {
    let Setting { client, cluster: _cluster, .. } = setting().await;
    let set = PromoteSet::Ids(vec![seg("a"), seg("bad"), seg("c")]);
    let done: Vec<_> = client.promote(set).await.unwrap().map(Result::unwrap).collect().await;
    assert_eq!(done.len(), 3);
    assert_eq!(done[0].result.as_deref().unwrap(), "/x/a.sqlite");
    assert_eq!(done[1].result.as_ref().unwrap_err().code, ErrorCode::Corrupt);

    assert_eq!(client.shred(&seg("a")).await.unwrap().steps.len(), 2);
    assert_eq!(client.shred(&seg("none")).await.unwrap_err().code(), ErrorCode::UnknownSegment);

    let id = SchemaId::new("s").unwrap();
    assert!(client.register_schema(&id, "create table t (a)").await.unwrap());
    let error = client.register_schema(&id, "bad").await.unwrap_err();
    assert!(error.to_string().contains("schema sql failed validation"), "{error}");
    let described = client.describe_schema(&id).await.unwrap();
    assert_eq!((described.tables[0].columns[0].primary_key, described.tables[0].strict), (1, true));
}
