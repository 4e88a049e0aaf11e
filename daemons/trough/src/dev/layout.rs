//! Where a development cluster's files lie and which ports its parts have.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use trough_config::Settings;

/// How long a part may take to say whether it is ready.
const ANSWER_LIMIT: std::time::Duration = std::time::Duration::from_secs(2);
/// The first line of every settings file.
const WRITTEN: &str = "# Written by `trough dev` at each start.\n";

/// What the command line asks for; none: as before, or the default.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub workers: Option<u16>,
    pub cold_workers: Option<u16>,
    pub base_port: Option<u16>,
    pub store: Option<String>,
    pub lease: Option<u16>,
}

/// What `dev.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Choices {
    workers: u16,
    cold_workers: u16,
    base_port: u16,
    store: Option<String>,
    lease: u16,
}

/// One process of the cluster.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// `meta`, `sync`, `worker-1`, `cold-1`, …
    pub name: String,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// Its ports with what each is for; the first tells whether it is ready.
    pub ports: Vec<(u16, &'static str)>,
}

impl Part {
    /// Whether it serves.
    pub(super) async fn is_ready(&self, http: &reqwest::Client, scheme: &str) -> Result<(), String> {
        let port = self.ports[0].0;
        if self.name == "meta" {
            return tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .map(drop)
                .map_err(|e| format!("port {port}: {e}"));
        }
        let url = format!("{scheme}://127.0.0.1:{port}/readyz");
        let answer = http.get(url).timeout(ANSWER_LIMIT).send().await.map_err(|e| e.to_string())?;
        match answer.status().as_u16() {
            200 => Ok(()),
            status => Err(format!("/readyz says {status}: {}", answer.text().await.unwrap_or_default().trim())),
        }
    }

    /// Whether its ports can be bound.
    pub(super) fn check_ports(&self) -> anyhow::Result<()> {
        for (port, what) in &self.ports {
            if let Err(e) = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))) {
                bail!(
                    "port {port} ({}, {what}) cannot be had: {e}; stop what uses it, or choose other ports with --base-port",
                    self.name
                );
            }
        }
        Ok(())
    }
}

/// A cluster's directory, locked for as long as this lives.
#[derive(Debug)]
pub(super) struct Layout {
    dir: PathBuf,
    choices: Choices,
    parts: Vec<Part>,
    shared: Settings,
    _lock: fs::File,
}

impl Layout {
    /// Makes or opens the directory and decides on everything.
    pub(super) fn open(dir: &Path, wishes: &Wishes) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("make the directory {} (--dir)", dir.display()))?;
        let dir = dir.canonicalize().with_context(|| format!("find the directory {} (--dir)", dir.display()))?;
        let lock_path = dir.join("dev.lock");
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .with_context(|| format!("open {}", lock_path.display()))?;
        if lock.try_lock().is_err() {
            bail!("{} is in use by another `trough dev`; stop that one, or choose another --dir", dir.display());
        }
        let choices_path = dir.join("dev.json");
        let before: Option<Choices> = match fs::read(&choices_path) {
            Ok(bytes) => {
                Some(serde_json::from_slice(&bytes).with_context(|| format!("read {}", choices_path.display()))?)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(e).with_context(|| format!("read {}", choices_path.display())),
        };
        let before =
            before.unwrap_or(Choices { workers: 3, cold_workers: 1, base_port: 26_000, store: None, lease: 30 });
        let choices = Choices {
            workers: wishes.workers.unwrap_or(before.workers),
            cold_workers: wishes.cold_workers.unwrap_or(before.cold_workers),
            base_port: wishes.base_port.unwrap_or(before.base_port),
            store: wishes.store.clone().or(before.store),
            lease: wishes.lease.unwrap_or(before.lease),
        };
        let last = u32::from(choices.base_port) + 10 * u32::from(choices.workers + choices.cold_workers + 1);
        if last > 65_535 {
            bail!(
                "the ports from {} on do not suffice for so many workers; choose a lower --base-port",
                choices.base_port
            );
        }
        let own = |name: &str| OWN_SETTINGS.iter().any(|key| name.strip_prefix("TROUGH_") == Some(key));
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| !own(name));
        let shared = Settings::from_parts("", environment).context("the environment's settings")?;
        let mut layout = Self { dir, choices, parts: Vec::new(), shared, _lock: lock };
        layout.parts = layout.make_parts();
        for sub in ["logs", "meta", "nodes"] {
            fs::create_dir_all(layout.dir.join(sub)).with_context(|| format!("make {sub}"))?;
        }
        write_file(&choices_path, &serde_json::to_string_pretty(&layout.choices)?)?;
        Ok(layout)
    }

    /// The processes, in the order in which they start.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The log of a part.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// Where the process ids are written.
    pub(super) fn pids(&self) -> PathBuf {
        self.dir.join("pids.json")
    }

    /// What clients connect to.
    pub(super) fn url(&self) -> String {
        let tls = match &self.shared.rethinkdb_tls {
            Some(ca) => {
                let encoded: String = ca
                    .bytes()
                    .map(|b| if b.is_ascii_alphanumeric() { char::from(b).into() } else { format!("%{b:02X}") })
                    .collect();
                format!("?tls={encoded}")
            }
            None => String::new(),
        };
        format!("rethinkdb://127.0.0.1:{}/trough_configuration{tls}", self.choices.base_port)
    }

    /// What the environment says to all parts.
    pub(super) fn shared(&self) -> &Settings {
        &self.shared
    }

    /// Whether all ports can be bound.
    pub(super) fn check_ports(&self) -> anyhow::Result<()> {
        self.parts.iter().try_for_each(Part::check_ports)
    }

    fn node_dir(&self, name: &str) -> PathBuf {
        self.dir.join("nodes").join(name)
    }

    fn store_dir(&self) -> PathBuf {
        self.dir.join("store")
    }

    fn make_parts(&self) -> Vec<Part> {
        let base = self.choices.base_port;
        let settings = |name: &str| self.node_dir(name).join("settings.yml").display().to_string();
        let meta_dir = self.dir.join("meta").display().to_string();
        let mut parts = vec![
            Part {
                name: "meta".into(),
                args: [
                    "meta",
                    "--dir",
                    &meta_dir,
                    "--listen",
                    &format!("127.0.0.1:{base}"),
                    "--http",
                    &format!("127.0.0.1:{}", base + 2),
                    "--config",
                    &settings("meta"),
                ]
                .map(str::to_owned)
                .into(),
                ports: vec![(base, "metadata"), (base + 2, "metadata's health and metrics")],
            },
            Part {
                name: "sync".into(),
                args: vec!["sync".into(), "--config".into(), settings("sync")],
                ports: vec![(base + 1, "sync server")],
            },
        ];
        let hot = (1..=self.choices.workers).map(|i| (format!("worker-{i}"), false));
        let cold = (1..=self.choices.cold_workers).map(|i| (format!("cold-{i}"), true));
        for (i, (name, cold)) in hot.chain(cold).enumerate() {
            let first = base + 10 * (i as u16 + 1);
            let mut args = vec!["worker".into(), "--config".into(), settings(&name)];
            if cold {
                args.push("--cold".into());
            }
            let ports = vec![(first, "read port"), (first + 1, "write port"), (first + 2, "segment manager")];
            parts.push(Part { name, args, ports });
        }
        parts
    }

    /// Writes every node's settings file.
    pub(super) fn write_settings(&self) -> anyhow::Result<()> {
        let store = match &self.choices.store {
            Some(url) => url.clone(),
            None => {
                fs::create_dir_all(self.store_dir()).context("make the canonical store's directory")?;
                self.store_dir().display().to_string()
            }
        };
        let directory = store.starts_with('/') || store.starts_with("file://");
        let mount = store.strip_prefix("file://").unwrap_or(&store);
        for part in &self.parts {
            let dir = self.node_dir(&part.name);
            if part.name == "meta" {
                // It has all it needs from its arguments and the environment, and must not take the host's own settings.
                fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
                write_file(&dir.join("settings.yml"), WRITTEN)?;
                continue;
            }
            fs::create_dir_all(dir.join("data")).with_context(|| format!("make {}", dir.display()))?;
            let mut settings = vec![
                ("HOSTNAME", json!(part.name)),
                ("LISTEN", json!("127.0.0.1")),
                ("EXTERNAL_IP", json!("127.0.0.1")),
                ("RETHINKDB_HOSTS", json!([format!("127.0.0.1:{}", self.choices.base_port)])),
                ("STORE", json!(store)),
                ("HDFS_PATH", json!(mount)),
                ("COLD_STORAGE_PATH", json!(format!("{mount}/{{prefix}}/{{segment_id}}.sqlite"))),
                // What is no directory has no mount.
                ("COLD_MODE", json!(if directory { "mount" } else { "direct" })),
                ("LOCAL_DATA", json!(dir.join("data").display().to_string())),
                ("SYNC_SERVER_PORT", json!(self.choices.base_port + 1)),
                ("SYNC_LOOP_TIMING", json!(5)),
                ("ELECTION_CYCLE", json!(2)),
                ("HOST_CHECK_WAIT_PERIOD", json!(1)),
                ("LEASE", json!(self.choices.lease)),
                ("MOVE_GRACE", json!(60)),
                ("COPY_THREAD_POOL_SIZE", json!(8)),
                ("SHUTDOWN_GRACE", json!(3)),
            ];
            let names = ["READ_PORT", "WRITE_PORT", "SYNC_LOCAL_PORT"];
            if part.ports.len() == names.len() {
                settings.extend(names.into_iter().zip(&part.ports).map(|(name, (port, _))| (name, json!(port))));
            }
            let mut text = String::from(WRITTEN);
            for (key, value) in settings {
                // JSON is YAML; every value stands on one line.
                text.push_str(&format!("{key}: {value}\n"));
            }
            write_file(&dir.join("settings.yml"), &text)?;
        }
        Ok(())
    }
}

/// Settings that every part has for itself; the environment must not override them.
pub(super) const OWN_SETTINGS: &[&str] = &[
    "SETTINGS",
    "HOSTNAME",
    "LISTEN",
    "EXTERNAL_IP",
    "RETHINKDB_HOSTS",
    "RETHINKDB_DATABASE",
    "STORE",
    "HDFS_PATH",
    "COLD_STORAGE_PATH",
    "LOCAL_DATA",
    "READ_PORT",
    "WRITE_PORT",
    "SYNC_SERVER_PORT",
    "SYNC_LOCAL_PORT",
    "RUN_AS_COLD_STORAGE_NODE",
];

/// Writes a small file so that a reader sees the old text or the new one.
pub(super) fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_decides_and_later_options_override() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = Wishes { workers: Some(2), cold_workers: Some(0), base_port: Some(31_000), ..Wishes::default() };
        let layout = Layout::open(dir.path(), &first).expect("opens");
        let names: Vec<_> = layout.parts().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["meta", "sync", "worker-1", "worker-2"]);
        assert!(Layout::open(dir.path(), &first).is_err(), "one cluster per directory");
        drop(layout);
        let again = Layout::open(dir.path(), &Wishes { cold_workers: Some(1), ..Wishes::default() }).expect("opens");
        assert_eq!(again.url(), "rethinkdb://127.0.0.1:31000/trough_configuration");
        assert_eq!(again.parts().len(), 5);
        again.write_settings().expect("writes");
        for part in &again.parts()[1..] {
            let path = again.node_dir(&part.name).join("settings.yml");
            let text = fs::read_to_string(path).expect("written");
            let settings = trough_config::Settings::from_yaml(&text).expect("settings that the daemons accept");
            assert_eq!(settings.hostname.as_str(), part.name);
        }
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
        let port = taken.local_addr().expect("bound").port();
        let part = Part { name: "meta".into(), args: vec![], ports: vec![(port, "metadata")] };
        let error = part.check_ports().expect_err("in use").to_string();
        assert!(error.contains(&port.to_string()) && error.contains("--base-port"), "{error}");
    }
}
