//! How a directory of this machine is read, for [`crate::listing`].

use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;

use super::{Inner, blocking};
use crate::{
    Collected, StoreError, crashsafe,
    listing::{ATTEMPTS, Columns, Reading, Stamp, Tree},
    paths::join,
};

/// The store's directory as a tree to be listed.
#[derive(Debug)]
pub(super) struct LocalTree(pub(super) Arc<Inner>);

#[async_trait]
impl Tree for LocalTree {
    fn url(&self) -> &str {
        &self.0.url
    }

    fn full(&self, relative: &str) -> String {
        join(&self.0.root_text, relative)
    }

    async fn stamp(&self, relative: &str) -> Result<Option<Stamp>, StoreError> {
        let relative = relative.to_owned();
        blocking(&self.0, move |inner| {
            if relative.is_empty() {
                inner.check("list")?;
            }
            let path = inner.root.join(&relative);
            unless_gone(inner, &relative, &path, fs::metadata(&path).and_then(|m| stamp(&m)))
        })
        .await
    }

    async fn read(&self, relative: &str, stamp: Stamp) -> Result<Option<Reading>, StoreError> {
        let relative = relative.to_owned();
        blocking(&self.0, move |inner| {
            let path = inner.root.join(&relative);
            unless_gone(inner, &relative, &path, read_directory(&path, stamp))
        })
        .await
    }

    /// Judged by ctime: a publication sets their mtime.
    async fn sweep(&self, relative: &str, older_than: Duration) -> Result<Collected, StoreError> {
        let relative = relative.to_owned();
        blocking(&self.0, move |inner| {
            let path = inner.root.join(relative);
            sweep_directory(&path, older_than).map_err(|e| inner.error("collect garbage in", &path, e))
        })
        .await
    }
}

fn stamp(metadata: &fs::Metadata) -> io::Result<Stamp> {
    let modified = metadata.modified()?;
    let nanos = |d: Duration| i128::try_from(d.as_nanos()).unwrap_or(i128::MAX);
    Ok(Stamp(match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => nanos(after),
        Err(before) => -nanos(before.duration()),
    }))
}

/// A directory that is gone is none; a root that is gone is an error.
fn unless_gone<T>(inner: &Inner, relative: &str, path: &Path, result: io::Result<T>) -> Result<Option<T>, StoreError> {
    match result.map_err(|e| inner.error("list", path, e)) {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::NotFound { .. }) if !relative.is_empty() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reads a directory. One that changes meanwhile is read again and the names are put together, since a reader may
/// miss a name that is renamed over just then.
fn read_directory(path: &Path, mut stamp_now: Stamp) -> io::Result<Reading> {
    let mut names = BTreeSet::new();
    let mut steady = false;
    for _ in 0..ATTEMPTS {
        for dirent in fs::read_dir(path)? {
            names.insert(dirent?.file_name());
        }
        let after = stamp(&fs::metadata(path)?)?;
        steady = after == stamp_now;
        if steady {
            break;
        }
        stamp_now = after;
    }
    let mut columns = Columns::default();
    for name in &names {
        let Some(text) = name.to_str() else {
            if Path::new(name).extension().is_some_and(|e| e == "sqlite") {
                columns.skip();
            }
            continue;
        };
        if !columns.wants(text) {
            continue;
        }
        let file = path.join(name);
        let metadata = match fs::symlink_metadata(&file) {
            Ok(metadata) if metadata.is_symlink() => match fs::metadata(&file) {
                Ok(target) if target.is_dir() => {
                    columns.skip();
                    continue;
                }
                other => other,
            },
            other => other,
        };
        let metadata = match metadata {
            Ok(metadata) => metadata,
            // Removed since its name was read, or a link to nowhere.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        if metadata.is_dir() {
            columns.directory(text, None);
        } else if metadata.is_file() {
            columns.file(text, metadata.len(), crashsafe::mtime_ms(&metadata))?;
        }
    }
    Ok(Reading { columns, stamp: stamp_now, steady })
}

fn sweep_directory(path: &Path, older_than: Duration) -> io::Result<Collected> {
    use std::os::unix::fs::MetadataExt;
    let mut collected = Collected::default();
    for dirent in fs::read_dir(path)? {
        let dirent = dirent?;
        if !dirent.file_name().to_str().is_some_and(crashsafe::is_temporary) {
            continue;
        }
        let metadata = match dirent.metadata() {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => continue,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let touched_ms = metadata.ctime().saturating_mul(1000) + metadata.ctime_nsec() / 1_000_000;
        let age_ms = u128::try_from(crashsafe::now_ms().saturating_sub(touched_ms)).unwrap_or(0);
        if age_ms < older_than.as_millis() {
            collected.kept += 1;
            continue;
        }
        match fs::remove_file(dirent.path()) {
            Ok(()) => {
                collected.removed += 1;
                collected.bytes += metadata.len();
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(collected)
}
