//! The HDFS that `tests/bench/run.sh` starts, and Hadoop's own tool on it: the peer of what copies.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// A running HDFS.
pub(crate) struct Hadoop {
    /// Where `tests/lib/hadoop.py` keeps it.
    dir: PathBuf,
    /// The directory of it that everybody may write to, as a URL.
    pub(crate) url: String,
    classpath: String,
}

impl Hadoop {
    /// The one that runs in `dir`.
    pub(crate) fn at(dir: &Path) -> Result<Self> {
        let script = |arguments: &[&str]| -> Result<String> {
            let done =
                Command::new("tests/lib/hadoop.py").args(arguments).output().context("run tests/lib/hadoop.py")?;
            ensure!(done.status.success(), "tests/lib/hadoop.py: {}", String::from_utf8_lossy(&done.stderr));
            Ok(String::from_utf8(done.stdout)?.trim().to_owned())
        };
        let text = dir.to_str().context("its directory is no text")?;
        Ok(Self { dir: dir.to_owned(), url: script(&["url", text])?, classpath: script(&["classpath"])? })
    }

    /// `hdfs dfs ARGUMENTS`, as the script `hdfs` runs it: a JVM with its own defaults. Returns how long it took.
    pub(crate) fn dfs(&self, arguments: &[&str]) -> Result<Duration> {
        let conf = self.dir.join("conf");
        let began = Instant::now();
        let done = Command::new("java")
            .args(["-Djava.net.preferIPv4Stack=true", "--add-opens=java.base/java.lang=ALL-UNNAMED"])
            .arg("-DHADOOP_USER_NAME=trough")
            .arg("-cp")
            .arg(format!("{}:{}", conf.display(), self.classpath))
            .arg("org.apache.hadoop.fs.FsShell")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("run java")?;
        let took = began.elapsed();
        ensure!(done.status.success(), "hdfs dfs {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(took)
    }
}

/// `/PATH` of `hdfs://HOST:PORT/PATH`.
pub(crate) fn path_of(url: &str) -> &str {
    let after = url.find("://").map_or(0, |at| at + 3);
    url[after..].find('/').map_or("/", |at| &url[after + at..])
}
