//! A cluster in one process: the metadata server, a directory as canonical store, and workers. There is no sync master: the
//! tests assign.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use trough_client::Catalog;
use trough_config::Settings;
use trough_core::{
    NodeId, SegmentId,
    records::{Assignment, Schema},
};
use trough_meta::MetaServer;
use trough_store::Store;
use trough_worker::Addresses;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Cluster {
    meta: parking_lot::Mutex<Option<MetaServer>>,
    meta_at: std::net::SocketAddr,
    pub catalog: Catalog,
    pub store: Arc<dyn Store>,
    pub dir: tempfile::TempDir,
    pub client: reqwest::Client,
}

pub struct Worker {
    pub node: NodeId,
    pub at: Addresses,
    pub data: PathBuf,
    pub shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

pub fn id(id: &str) -> SegmentId {
    SegmentId::new(id).expect("a valid id")
}

/// Waits until `condition` gives a value.
pub async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Cluster {
    pub async fn start() -> Self {
        let _ = tracing_subscriber_init();
        let dir = tempfile::tempdir().expect("temporary directory");
        let meta = MetaServer::start_ephemeral(&dir.path().join("meta")).await.expect("metadata server");
        let meta_at = meta.local_addr();
        let url = format!("rethinkdb://{meta_at}/trough_configuration");
        let options = trough_reql::Options::from_url(&url).expect("url");
        let catalog = Catalog::new(trough_reql::Client::new(options));
        catalog.ensure_tables(1).await.expect("tables");
        let root = dir.path().join("store");
        std::fs::create_dir_all(&root).expect("store directory");
        let store = trough_store::open(&root.display().to_string()).expect("store");
        let meta = parking_lot::Mutex::new(Some(meta));
        Self { meta, meta_at, catalog, store, dir, client: reqwest::Client::new() }
    }

    pub async fn stop_meta(&self) {
        let meta = self.meta.lock().take();
        meta.expect("running").shutdown().await;
    }

    pub async fn start_meta(&self) {
        let options = trough_meta::MetaOptions::new(self.dir.path().join("meta"), self.meta_at);
        let meta = MetaServer::start(options).await.expect("metadata server");
        *self.meta.lock() = Some(meta);
    }

    pub fn store_root(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub fn settings(&self, name: &str, extra: &str) -> Settings {
        let defaults = [
            ("HOSTNAME", name.to_owned()),
            ("LOCAL_DATA", self.dir.path().join(name).display().to_string()),
            ("STORE", self.store_root().display().to_string()),
            ("RETHINKDB_HOSTS", self.meta_at.to_string()),
            ("READ_PORT", "0".into()),
            ("WRITE_PORT", "0".into()),
            ("SYNC_LOCAL_PORT", "0".into()),
            ("LISTEN", "127.0.0.1".into()),
            ("SYNC_LOOP_TIMING", "0.3".into()),
            ("LEASE", "3".into()),
            ("SHUTDOWN_GRACE", "0.5".into()),
            ("MINIMUM_ASSIGNMENTS", "1".into()),
        ];
        let defaults = defaults.iter().filter(|(key, _)| !extra.contains(key));
        let yaml = defaults.map(|(key, value)| format!("{key}: '{value}'\n")).collect::<String>() + extra;
        Settings::from_yaml(&yaml).expect("settings")
    }

    /// Starts a worker and waits until it serves.
    pub async fn worker(&self, name: &str, extra: &str) -> Worker {
        let settings = Arc::new(self.settings(name, extra));
        let (ready, serving) = tokio::sync::oneshot::channel();
        let shutdown = CancellationToken::new();
        let (node, data) = (settings.hostname.clone(), settings.local_data.clone());
        let stop = shutdown.clone();
        let task = tokio::spawn(async move {
            trough_worker::run(settings, stop, move |at| {
                let _ = ready.send(at);
            })
            .await
        });
        let at = tokio::time::timeout(PATIENCE, serving).await.expect("worker starts in time").expect("worker starts");
        Worker { node, at, data, shutdown, task }
    }

    pub async fn schema(&self, name: &str, sql: &str) {
        self.catalog.put_schema(&Schema { id: name.into(), sql: sql.into() }).await.expect("schema");
    }

    /// Assigns the segment's canonical copy to the workers, and to nobody else.
    pub async fn assign(&self, segment: &str, workers: &[&Worker]) {
        let segment = id(segment);
        let entry = self.store.stat(&segment).await.expect("canonical copy");
        let puts: Vec<Assignment> = workers
            .iter()
            .enumerate()
            .map(|(ring, worker)| Assignment {
                id: Assignment::row_id(&worker.node, &segment),
                node: worker.node.clone(),
                segment: segment.clone(),
                hash_ring: ring.into(),
                assigned_on: None,
                remote_path: entry.path.clone(),
                bytes: entry.bytes,
                mtime_ms: Some(entry.mtime_ms),
                sha256: None,
                generation: 1,
                epoch: 0,
            })
            .collect();
        let old = self.catalog.assignments_of_segment(&segment).await.expect("assignments");
        let deletes: Vec<String> =
            old.into_iter().map(|a| a.id).filter(|old| puts.iter().all(|put| put.id != *old)).collect();
        self.catalog.commit_assignments(&puts, &deletes, 0).await.expect("commit");
    }

    pub async fn post(&self, url: String, body: impl Into<reqwest::Body>) -> (u16, String) {
        let answer = self.client.post(url).body(body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    pub async fn read(&self, worker: &Worker, segment: &str, sql: &str) -> (u16, String) {
        self.post(format!("http://{}/?segment={}", worker.at.read, id(segment).url_encoded()), sql.to_owned()).await
    }

    pub async fn write(&self, worker: &Worker, segment: &str, sql: &str) -> (u16, String) {
        self.post(format!("http://{}/?segment={}", worker.at.write, id(segment).url_encoded()), sql.to_owned()).await
    }

    pub async fn manage(&self, worker: &Worker, path: &str, body: serde_json::Value) -> (u16, serde_json::Value) {
        let answer =
            self.client.post(format!("http://{}{path}", worker.at.manage)).json(&body).send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("text");
        (status, serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)))
    }

    pub async fn provision(&self, worker: &Worker, segment: &str, schema: &str) {
        let body = serde_json::json!({"segment": segment, "schema": schema});
        let (status, answer) = self.manage(worker, "/provision", body).await;
        assert_eq!(status, 200, "{answer}");
    }

    pub async fn promote(&self, worker: &Worker, segment: &str) {
        let (status, answer) = self.manage(worker, "/promote", serde_json::json!({ "segment": segment })).await;
        assert_eq!(status, 200, "{answer}");
    }

    pub async fn status(&self, worker: &Worker) -> serde_json::Value {
        let url = format!("http://{}/status", worker.at.read);
        self.client.get(url).send().await.expect("an answer").json().await.expect("JSON")
    }

    /// Waits until the worker answers the query for the segment with `wanted`.
    pub async fn until_read(&self, worker: &Worker, segment: &str, sql: &str, wanted: &str) {
        wait_for(&format!("{wanted} from {segment} on {}", worker.node), async || {
            let (status, text) = self.read(worker, segment, sql).await;
            (status == 200 && text == wanted).then_some(())
        })
        .await;
    }

    /// Waits until nobody has the segment's write lock.
    pub async fn until_unlocked(&self, segment: &str) {
        wait_for("the release of the write lock", async || {
            self.catalog.lock(&id(segment)).await.expect("catalog").is_none().then_some(())
        })
        .await;
    }

    /// Replaces the canonical copy by a file that is one row richer and newer.
    pub async fn replace_canonical(&self, segment: &str, sql: &str) {
        let entry = self.store.stat(&id(segment)).await.expect("canonical copy");
        let newer = self.store_root().join(".new.sqlite._COPYING_.test");
        std::fs::copy(&entry.path, &newer).expect("copy");
        let db = rusqlite::Connection::open(&newer).expect("open");
        db.execute_batch(sql).expect("change");
        drop(db);
        let later = std::time::UNIX_EPOCH + Duration::from_millis(entry.mtime_ms as u64 + 10_000);
        std::fs::File::options().write(true).open(&newer).expect("open").set_modified(later).expect("set time");
        std::fs::rename(&newer, &entry.path).expect("rename");
    }
}

fn tracing_subscriber_init() -> Option<()> {
    let level = std::env::var("TEST_LOG").ok()?;
    trough_http::init_logging(&trough_http::Logging::of_level("worker", &level)).ok().map(drop)
}

impl Worker {
    pub fn has_file(&self, segment: &str) -> bool {
        self.data.join(id(segment).file_name()).exists()
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("stops in order");
    }
}
