//! Durable changes to a directory: temporary name, fsync, rename, fsync of the directory. Everything that must
//! survive a crash whole goes through here. All functions block.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use trough_core::NodeId;
use uuid::Uuid;

/// What marks a temporary name.
const MARK: &str = "._COPYING_";
/// The longest name that every file system takes, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// A new temporary name for `name`: `.NAME._COPYING_.NODE.FENCE.UUID`. NAME and NODE are shortened where the
/// whole would be longer than a file name may be; the UUID alone makes it unique.
pub fn temporary_name(name: &str, node: &NodeId, fence: u64) -> String {
    let uuid = Uuid::new_v4().simple();
    let fixed = 1 + MARK.len() + 1 + 1 + 20 + 1 + 32;
    let node = shorten(node.as_str(), 64);
    let name = shorten(name, MAX_NAME_BYTES - fixed - node.len());
    format!(".{name}{MARK}.{node}.{fence}.{uuid}")
}

/// Whether `name` is a temporary one: ours, or one that `hdfs dfs -put` is still writing (`NAME._COPYING_`).
pub fn is_temporary(name: &str) -> bool {
    (name.starts_with('.') && name.contains(MARK)) || name.ends_with(MARK)
}

/// What [`aside_name`] puts after the name.
#[cfg(feature = "hdrs")]
const ASIDE: &str = "._COPYING_.replaced";

/// The temporary name of a file `name` that is being replaced where that takes two steps.
#[cfg(feature = "hdrs")]
pub(crate) fn aside_name(name: &str) -> String {
    format!(".{name}{ASIDE}")
}

/// Which name the file was put aside for.
#[cfg(feature = "hdrs")]
pub(crate) fn put_aside(name: &str) -> Option<&str> {
    name.strip_prefix('.')?.strip_suffix(ASIDE)
}

fn shorten(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Makes what happened in the directory `dir` (creations, renames, removals) durable.
///
/// # Errors
/// What the system says, except that a file system that cannot sync directories is left in peace.
pub fn sync_directory(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

/// Creates the directory `dir` below the existing `root`, one level at a time, each durable. `root` itself is
/// never created: if it is missing, something is not mounted.
///
/// # Errors
/// What the system says; `NotFound` if `root` is missing.
pub fn create_directories(root: &Path, relative: &Path) -> io::Result<()> {
    let mut at = root.to_path_buf();
    for part in relative.components() {
        let parent = at.clone();
        at.push(part);
        match fs::create_dir(&at) {
            Ok(()) => sync_directory(&parent)?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && at.is_dir() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Renames `from` over `to` in one step and makes it durable. `from` must have been synced before.
///
/// # Errors
/// What the system says. If the rename failed, `to` is as it was.
pub fn rename_durably(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_directory(parent(to))
}

/// Removes a file durably; false if there was none.
///
/// # Errors
/// What the system says.
pub fn remove_durably(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory(parent(path)).map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Replaces the small file `path` by `contents`: after a crash it holds the old or the new, whole.
///
/// # Errors
/// What the system says; the old file is then as it was.
pub fn write_durably(path: &Path, contents: &[u8]) -> io::Result<()> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let name = shorten(&name, MAX_NAME_BYTES - 64).to_owned();
    let temporary = path.with_file_name(format!(".{name}{MARK}.{}", Uuid::new_v4().simple()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        rename_durably(&temporary, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Sets a file's mtime, in milliseconds since 1970.
///
/// # Errors
/// What the system says.
pub fn set_mtime_ms(file: &File, mtime_ms: i64) -> io::Result<()> {
    let distance = Duration::from_millis(mtime_ms.unsigned_abs());
    let time = if mtime_ms >= 0 { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) };
    file.set_modified(time.ok_or_else(|| io::Error::other("mtime out of range"))?)
}

/// A file's mtime in milliseconds since 1970, rounded down.
pub fn mtime_ms(metadata: &fs::Metadata) -> i64 {
    use std::os::unix::fs::MetadataExt;
    metadata.mtime().saturating_mul(1000).saturating_add(metadata.mtime_nsec() / 1_000_000)
}

/// Milliseconds since 1970, now, by this host's clock.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_recognised_and_fit() {
        let node = NodeId::new(&"n".repeat(255)).expect("valid");
        let name = format!("{}.sqlite", "é".repeat(124));
        let temporary = temporary_name(&name, &node, u64::MAX);
        assert!(temporary.len() <= MAX_NAME_BYTES, "{}", temporary.len());
        assert!(is_temporary(&temporary));
        let node = NodeId::new("w1").expect("valid");
        assert!(temporary_name("300123.sqlite", &node, 7).starts_with(".300123.sqlite._COPYING_.w1.7."));
        assert!(is_temporary("x.sqlite._COPYING_"));
        assert!(!is_temporary("x._COPYING_.sqlite"));
    }

    #[test]
    fn writes_durably_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("state.json");
        write_durably(&path, b"one").expect("written");
        write_durably(&path, b"two").expect("replaced");
        assert_eq!(fs::read(&path).expect("there"), b"two");
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 1);
        assert!(create_directories(&dir.path().join("absent"), Path::new("a")).is_err());
        assert!(remove_durably(&path).expect("removed") && !remove_durably(&path).expect("already gone"));
    }
}
