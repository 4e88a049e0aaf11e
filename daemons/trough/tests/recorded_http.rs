//! All recorded exchanges of the Python trough over HTTP, in their order, on a fresh system: metadata server, sync server and
//! one worker in this process, a directory as canonical store.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trough_config::Settings;

const PATIENCE: Duration = Duration::from_secs(30);

/// Differs on purpose, as the recordings' README lists them: what ours answers.
const ON_PURPOSE: &[(&str, &str)] = &[
    ("read blob", "[{\"b\":\"AP9B\"},\n{\"b\":\"\"}]\n"),
    ("read values", "[{\"column1\":1}]\n"),
    ("write blanks only", "500 Server Error: No query provided.\n"),
];

/// Allowed where SQLite's authorizer finds nothing written.
const ALLOWED: &[&str] = &["read explain", "read pragma"];

struct System {
    write: String,
    store: String,
    ports: [(&'static str, String); 4],
    client: reqwest::Client,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
    meta: trough_meta::MetaServer,
}

fn start<T: Send + 'static, F: Future<Output = anyhow::Result<()>> + Send + 'static>(
    run: impl FnOnce(Box<dyn FnOnce(T) + Send>) -> F,
) -> (JoinHandle<anyhow::Result<()>>, tokio::sync::oneshot::Receiver<T>) {
    let (tx, rx) = tokio::sync::oneshot::channel();
    let ready = Box::new(move |at| {
        let _ = tx.send(at);
    });
    (tokio::spawn(run(ready)), rx)
}

impl System {
    async fn start(dir: &Path) -> Self {
        let meta = trough_meta::MetaServer::start_ephemeral(&dir.join("meta")).await.expect("metadata server");
        let store = dir.join("store");
        std::fs::create_dir_all(&store).expect("store directory");
        let settings = |name: &str| {
            let yaml = format!(
                "HOSTNAME: {name}\nLOCAL_DATA: {}\nSTORE: {}\nRETHINKDB_HOSTS: ['{}']\nREAD_PORT: 0\nWRITE_PORT: 0\n\
                 SYNC_LOCAL_PORT: 0\nSYNC_SERVER_PORT: 0\nLISTEN: 127.0.0.1\nSYNC_LOOP_TIMING: 120\nELECTION_CYCLE: 0.3\n\
                 HOST_CHECK_WAIT_PERIOD: 0.2\nMINIMUM_ASSIGNMENTS: 1\nMAXIMUM_ASSIGNMENTS: 1\nSHUTDOWN_GRACE: 0.5\n",
                dir.join(name).display(),
                store.display(),
                meta.local_addr(),
            );
            Arc::new(Settings::from_yaml(&yaml).expect("settings"))
        };
        let shutdown = CancellationToken::new();
        let (worker_settings, stop) = (settings("worker"), shutdown.clone());
        let (worker, at) = start(move |ready: Box<dyn FnOnce(trough_worker::Addresses) + Send>| {
            trough_worker::run(worker_settings, stop, ready)
        });
        let at = tokio::time::timeout(PATIENCE, at).await.expect("in time").expect("worker starts");
        let (sync_settings, stop) = (settings("sync"), shutdown.clone());
        let (sync, master) = start(move |ready: Box<dyn FnOnce(std::net::SocketAddr) + Send>| {
            trough_sync::run(sync_settings, stop, ready)
        });
        let master = tokio::time::timeout(PATIENCE, master).await.expect("in time").expect("sync server starts");
        let system = Self {
            write: format!("http://{}", at.write),
            store: store.display().to_string(),
            ports: [
                ("read", format!("http://{}", at.read)),
                ("write", format!("http://{}", at.write)),
                ("local", format!("http://{}", at.manage)),
                ("master", format!("http://{master}")),
            ],
            client: reqwest::Client::new(),
            shutdown,
            tasks: vec![worker, sync],
            meta,
        };
        system.until_master().await;
        system
    }

    fn url(&self, role: &str) -> &str {
        self.ports.iter().find(|(name, _)| *name == role).map(|(_, url)| url.as_str()).expect("a role")
    }

    /// Waits until a schema can be asked for, which takes a master.
    async fn until_master(&self) {
        let begun = std::time::Instant::now();
        loop {
            let ready = self.client.get(format!("{}/readyz", self.url("master"))).send().await;
            let schema = self.client.get(format!("{}/schema/default", self.url("master"))).send().await;
            if ready.is_ok_and(|r| r.status() == 200) && schema.is_ok_and(|r| r.status() == 200) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "no master in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        for task in self.tasks {
            task.await.expect("no panic").expect("stops in order");
        }
        self.meta.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_recorded_exchanges_agree() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let system = System::start(dir.path()).await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/http/cases.jsonl");
    let text = std::fs::read_to_string(path).expect("recorded cases");
    let (mut agreed, mut differing) = (0, Vec::new());
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).expect("a case");
        let field = |name: &str| case[name].as_str().expect("a text");
        let method = reqwest::Method::from_bytes(field("method").as_bytes()).expect("a method");
        let mut request = system.client.request(method, format!("{}{}", system.url(field("role")), field("path")));
        for (name, value) in case["headers"].as_object().expect("headers") {
            request = request.header(name, value.as_str().expect("a value"));
        }
        let answer = request.body(field("body").to_owned()).send().await.expect("an answer");
        let status = answer.status().as_u16();
        let media = answer.headers().get("content-type").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = answer.text().await.expect("text");
        match difference(&system, &case, status, media.as_deref(), &body) {
            None => agreed += 1,
            Some(why) => differing.push(format!("{}: {why}", field("name"))),
        }
    }
    assert!(differing.is_empty(), "{agreed} agree, but\n{}", differing.join("\n"));
    assert_eq!(agreed, text.lines().count());
    system.stop().await;
}

fn difference(system: &System, case: &Value, status: u16, media: Option<&str>, body: &str) -> Option<String> {
    let (name, wanted) = (case["name"].as_str().unwrap_or_default(), &case["answer"]);
    let wanted_status = wanted["status"].as_u64().unwrap_or_default() as u16;
    if let Some((_, ours)) = ON_PURPOSE.iter().find(|(case, _)| *case == name) {
        return (body != *ours).then(|| format!("ours should be {ours:?}, not {status} {body:?}"));
    }
    if ALLOWED.contains(&name) {
        return (status != 200).then(|| format!("{status} {body:?}"));
    }
    if wanted_status == 500 {
        return mistake(case, status, body);
    }
    if status != wanted_status {
        return Some(format!("wanted {wanted_status}, got {status} {body:?}"));
    }
    if let Some(wanted) = wanted["content_type"].as_str()
        && media.map(|m| m.split(';').next().unwrap_or(m)) != Some(wanted)
    {
        return Some(format!("wanted {wanted}, got {media:?}"));
    }
    let wanted = wanted["body"].as_str()?.replace("{WRITE_URL}", &system.write).replace("{HDFS_PATH}", &system.store);
    let same = match (serde_json::from_str::<Value>(&wanted), serde_json::from_str::<Value>(body)) {
        (Ok(wanted), Ok(got)) => ordered(wanted) == ordered(got),
        _ => unordered_keys(&wanted) == unordered_keys(body),
    };
    (!same).then(|| format!("wanted {wanted:?}, got {body:?}"))
}

/// A mistake of the client's is any of 400–499 or 500, with a text; on the read and write ports the prefix `500 Server
/// Error: ` stands only under 500. Texts that clients know are the recorded ones.
fn mistake(case: &Value, status: u16, body: &str) -> Option<String> {
    let told = (400..=500).contains(&status) && !body.trim().is_empty();
    let port = matches!(case["role"].as_str(), Some("read" | "write"));
    let prefix = !port || (status == 500) == body.starts_with("500 Server Error: ");
    let name = case["name"].as_str().unwrap_or_default();
    let recorded = case["answer"]["body"].as_str();
    // Who cannot write, and why, is said with the installation's own name; an unknown segment is named, not left out.
    let own_words = matches!(name, "write unprovisioned" | "read unprovisioned");
    let same = own_words || status != 500 || recorded.is_none_or(|recorded| recorded == body);
    (!told || !prefix || !same).then(|| format!("wanted 500 {recorded:?}, got {status} {body:?}"))
}

/// A list of names has no order.
fn ordered(value: Value) -> Value {
    match value {
        Value::Array(mut items) if items.iter().all(Value::is_string) => {
            items.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            Value::Array(items)
        }
        other => other,
    }
}

/// The text that names a set of keys lists them in no particular order.
fn unordered_keys(text: &str) -> String {
    match text.split_once("input json has keys {").and_then(|(_, rest)| rest.split_once('}')) {
        Some((keys, rest)) => {
            let mut keys: Vec<&str> = keys.split(", ").collect();
            keys.sort_unstable();
            format!("{} {rest}", keys.join(", "))
        }
        None => text.to_owned(),
    }
}
