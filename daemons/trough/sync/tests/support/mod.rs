//! A metadata server, sync servers and invented workers, all on loopback in this process.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use trough_client::{Catalog, catalog::segment_service};
use trough_config::Settings;
use trough_core::{
    NodeId, SegmentId,
    records::{ROLE_NODES, ROLE_READ, Service},
};
use trough_meta::MetaServer;
use trough_sync::{Server, mastership::Standing};

pub(crate) struct Cluster {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) meta: MetaServer,
    pub(crate) catalog: Catalog,
}

pub(crate) struct Sync {
    pub(crate) server: Server,
    pub(crate) stop: CancellationToken,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir_all(dir.path().join("store")).expect("the store's directory");
        let meta = MetaServer::start_ephemeral(&dir.path().join("meta")).await.expect("metadata server");
        let url = format!("rethinkdb://{}/trough_configuration", meta.local_addr());
        let catalog = Catalog::new(trough_reql::Client::new(trough_reql::Options::from_url(&url).expect("a URL")));
        catalog.ensure_tables(1).await.expect("tables");
        Self { dir, meta, catalog }
    }

    pub(crate) fn store(&self) -> std::path::PathBuf {
        self.dir.path().join("store")
    }

    pub(crate) fn settings(&self, name: &str, more: &str) -> Arc<Settings> {
        let text = format!(
            "HOSTNAME: {name}\nLISTEN: 127.0.0.1\nSYNC_SERVER_PORT: 0\nRETHINKDB_HOSTS: ['{}']\nSTORE: {}\n\
             LOCAL_DATA: {}\nSYNC_LOOP_TIMING: 0.5\nELECTION_CYCLE: 0.2\nHOST_CHECK_WAIT_PERIOD: 0.2\n",
            self.meta.local_addr(),
            self.store().display(),
            self.dir.path().display(),
        );
        let over = more.lines().filter_map(|line| line.split_once(": "));
        let over = over.map(|(key, value)| (format!("TROUGH_{key}"), value.to_owned()));
        Arc::new(Settings::from_parts(&text, over).expect("settings"))
    }

    pub(crate) async fn sync(&self, name: &str, more: &str) -> Sync {
        let stop = CancellationToken::new();
        let server = Server::start(self.settings(name, more), stop.clone()).await.expect("sync server");
        Sync { server, stop }
    }

    /// A file in the store; only workers care what is in it.
    pub(crate) fn canonical(&self, id: &str, bytes: usize) -> SegmentId {
        let segment = SegmentId::new(id).expect("valid");
        let path = self.store().join(segment.store_path());
        std::fs::create_dir_all(path.parent().expect("below the store")).expect("directory");
        std::fs::write(path, vec![0; bytes]).expect("file");
        segment
    }

    pub(crate) async fn heartbeat(&self, name: &str, change: impl FnOnce(&mut Service)) {
        let node = NodeId::new(name).expect("valid");
        let mut service = Service {
            id: Service::node_id(&node),
            role: Some(ROLE_NODES.into()),
            node: Some(node),
            ttl: 600.0,
            available_bytes: Some(1 << 30),
            cold_storage: Some(false),
            ..Service::default()
        };
        change(&mut service);
        self.catalog.heartbeat_node(&service).await.expect("heartbeat");
    }

    /// What workers do with their assignments: serve them.
    pub(crate) async fn serve_all(&self) {
        for row in self.assignments().await {
            let service = segment_service(ROLE_READ, &row.node, &row.segment, "http://127.0.0.1:1/", 1, 0.0);
            self.catalog.advertise(&[service]).await.expect("advertise");
        }
    }

    pub(crate) async fn assignments(&self) -> Vec<trough_core::records::Assignment> {
        use futures::StreamExt as _;
        let mut rows = self.catalog.all_assignments().await.expect("assignments");
        let mut all = Vec::new();
        while let Some(row) = rows.next().await {
            all.push(row.expect("a row"));
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }
}

impl Sync {
    pub(crate) fn is_master(&self) -> bool {
        self.server.standing().borrow().term().is_some()
    }

    pub(crate) fn epoch(&self) -> Option<u64> {
        self.server.standing().borrow().term().map(|t| t.epoch)
    }

    pub(crate) fn knows_master(&self) -> bool {
        matches!(&*self.server.standing().borrow(), Standing::Follower(_)) || self.is_master()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let addr: SocketAddr = self.server.addr();
        format!("http://{addr}{path}")
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.server.stopped().await;
    }
}

/// Waits until `condition` holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(std::time::Instant::now() < limit, "gave up waiting until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
