//! The processes of a development cluster. Each has a pipe from us as its standard input: however we end, the pipe
//! closes and the process stops by itself.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use tokio::process::{Child, Command};

use super::layout::{Layout, OWN_SETTINGS, Part, write_file};

/// How long a part may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// The running processes, by name.
#[derive(Debug)]
pub(super) struct Children {
    program: PathBuf,
    logs: PathBuf,
    pids: PathBuf,
    running: BTreeMap<String, Child>,
}

impl Children {
    /// None are running yet.
    pub(super) fn new(layout: &Layout) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program's file")?;
        let logs = layout.log("x").parent().map(Path::to_owned).unwrap_or_default();
        let children = Self { program, logs, pids: layout.pids(), running: BTreeMap::new() };
        children.write_pids()?;
        Ok(children)
    }

    /// Starts a part.
    pub(super) fn spawn(&mut self, part: &Part) -> anyhow::Result<()> {
        let log_path = self.logs.join(format!("{}.log", part.name));
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("open {}", log_path.display()))?;
        let mut command = Command::new(&self.program);
        command
            .args(&part.args)
            .arg("--follow-stdin")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("duplicate the log's descriptor")?)
            .stderr(log)
            // A group of its own: Ctrl-C in a terminal reaches us alone, and we stop the parts in order.
            .process_group(0);
        for key in OWN_SETTINGS {
            command.env_remove(format!("TROUGH_{key}"));
        }
        let child = command.spawn().with_context(|| format!("run {}", self.program.display()))?;
        self.running.insert(part.name.clone(), child);
        self.write_pids()
    }

    /// Whether a part is running, as far as was seen.
    pub(super) fn is_running(&self, name: &str) -> bool {
        self.running.contains_key(name)
    }

    /// Takes note of parts that ended.
    pub(super) fn reap(&mut self) -> anyhow::Result<Vec<(String, ExitStatus)>> {
        let mut ended = Vec::new();
        for (name, child) in &mut self.running {
            if let Some(status) = child.try_wait().with_context(|| format!("look after {name}"))? {
                ended.push((name.clone(), status));
            }
        }
        for (name, _) in &ended {
            self.running.remove(name);
        }
        if !ended.is_empty() {
            self.write_pids()?;
        }
        Ok(ended)
    }

    /// The last lines of a part's log.
    pub(super) fn log_tail(&self, name: &str) -> String {
        let text = fs::read(self.logs.join(format!("{name}.log"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Stops workers, then the sync server, then the metadata; kills what does not stop.
    pub(super) async fn stop_all(&mut self) -> anyhow::Result<()> {
        let rank = |name: &str| match name {
            "meta" => 2,
            "sync" => 1,
            _ => 0,
        };
        for wave in 0..=2 {
            let mut stopping = Vec::new();
            while let Some(name) = self.running.keys().find(|n| rank(n) == wave).cloned() {
                if let Some(mut child) = self.running.remove(&name) {
                    // Ends its standard input, which asks it to stop.
                    drop(child.stdin.take());
                    stopping.push((name, child));
                }
            }
            for (name, mut child) in stopping {
                if tokio::time::timeout(STOP_LIMIT, child.wait()).await.is_err() {
                    eprintln!("trough dev: {name} did not stop within {} s and is killed", STOP_LIMIT.as_secs());
                    child.kill().await.with_context(|| format!("kill {name}"))?;
                }
            }
        }
        self.write_pids()
    }

    fn write_pids(&self) -> anyhow::Result<()> {
        let pids: BTreeMap<&str, u32> =
            self.running.iter().filter_map(|(name, child)| Some((name.as_str(), child.id()?))).collect();
        write_file(&self.pids, &serde_json::to_string_pretty(&pids)?)
    }
}
