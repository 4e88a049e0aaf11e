//! The segment files of LOCAL_DATA. In memory: one entry a file, rebuilt at start from one reading of the directory and
//! one stat a file; no file is opened for it. On disk: the files themselves, nothing else.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use trough_core::{NodeId, SegmentId, records::Assignment};
use trough_engine::{Mode, SegmentFile};
use trough_store::{crashsafe, partial};

/// What a copy's name ends in that a later attempt may go on with.
const PARTIAL: &str = ".sqlite._COPYING_.part";
/// What the store adds to the name of its note.
const NOTE: &str = ".note";

/// Length and modification time: what tells two versions of a copy apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) bytes: u64,
    pub(crate) mtime_ms: i64,
}

impl Stamp {
    /// Whether a local file with this stamp is the canonical copy that the assignment describes. A time of whole
    /// seconds is compared in seconds: the store keeps no finer ones. A Python master records no time at all.
    pub(crate) fn is_version(self, bytes: u64, mtime_ms: Option<i64>) -> bool {
        self.bytes == bytes && mtime_ms.is_none_or(|mtime| same_time(self.mtime_ms, mtime))
    }

    pub(crate) fn of(metadata: &fs::Metadata) -> Self {
        Self { bytes: metadata.len(), mtime_ms: crashsafe::mtime_ms(metadata) }
    }
}

/// Whether two times are the same at the coarser one's resolution.
pub(crate) fn same_time(a: i64, b: i64) -> bool {
    a == b || (a % 1000 == 0 || b % 1000 == 0) && a.div_euclid(1000) == b.div_euclid(1000)
}

/// What is known of one local file.
#[derive(Clone, Debug)]
pub(crate) struct LocalFile {
    pub(crate) path: Arc<Path>,
    pub(crate) stamp: Stamp,
    /// Whether it is only ever replaced by rename, so that it can be read without SQLite's locks.
    pub(crate) plain: bool,
    /// Whether reads are answered from it: not before it was once what the assignment says (a file of an earlier life may
    /// be old), and not once others are known to serve a newer version.
    pub(crate) served: bool,
    /// What its check found wrong.
    pub(crate) broken: Option<Arc<str>>,
    /// Length and time in the assignment that it was fetched for: the store may hold a newer version than the
    /// assignment says, until the master has listed again.
    pub(crate) fetched_for: Option<(u64, Option<i64>)>,
}

/// All local files.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    map: RwLock<HashMap<SegmentId, LocalFile>>,
    bytes: AtomicU64,
    /// The segments of which there may be a part of a copy.
    partials: Mutex<HashSet<SegmentId>>,
}

impl Files {
    /// Reads the directory (it is made if it is missing), and removes what interrupted copies and snapshots left behind,
    /// save what a copy may go on with.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let files = Self::empty(dir);
        let (mut found, mut logs) = (Vec::new(), HashSet::new());
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            let Some(text) = name.to_str() else {
                tracing::warn!(name = %String::from_utf8_lossy(name.as_bytes()), "file whose name is no text is left alone");
                continue;
            };
            if let Some(segment) = partial_name(text) {
                files.partials.lock().insert(segment);
            } else if crashsafe::is_temporary(text) {
                match fs::remove_file(dir.join(text)) {
                    Ok(()) => tracing::info!(file = text, "removed what an interrupted copy left behind"),
                    Err(e) => tracing::warn!(file = text, error = %e, "cannot remove what an interrupted copy left"),
                }
            } else if let Some(id) = text.strip_suffix(".sqlite") {
                match SegmentId::new(id) {
                    Ok(segment) => found.push(segment),
                    Err(e) => tracing::warn!(file = text, error = %e, "file that is no segment is left alone"),
                }
            } else if let Some(id) = text.strip_suffix(".sqlite-wal") {
                logs.insert(id.to_owned());
            }
        }
        let mut map = HashMap::with_capacity(found.len());
        for segment in found {
            let path: Arc<Path> = dir.join(segment.file_name()).into();
            let metadata = match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => metadata,
                Ok(_) => continue,
                Err(e) => {
                    tracing::warn!(%segment, error = %e, "cannot look at the segment's file");
                    continue;
                }
            };
            let stamp = Stamp::of(&metadata);
            files.bytes.fetch_add(stamp.bytes, Ordering::Relaxed);
            let plain = !logs.contains(segment.as_str());
            // Whether it is what it should be is not known yet.
            let file = LocalFile { path, stamp, plain, served: false, broken: None, fetched_for: None };
            map.insert(segment, file);
        }
        *files.map.write() = map;
        Ok(files)
    }

    /// No files: a cold worker has none of its own.
    pub(crate) fn empty(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), map: RwLock::default(), bytes: AtomicU64::new(0), partials: Mutex::default() }
    }

    /// Where the segment's file belongs.
    pub(crate) fn path_of(&self, segment: &SegmentId) -> PathBuf {
        self.dir.join(segment.file_name())
    }

    /// Where a copy of the segment is fetched to that a later attempt may go on with, noted as being there; none for an id
    /// that makes too long a name.
    pub(crate) fn begin_partial(&self, segment: &SegmentId) -> Option<PathBuf> {
        let path = self.partial_of(segment)?;
        self.partials.lock().insert(segment.clone());
        Some(path)
    }

    /// The segment's copy is whole, or was removed.
    pub(crate) fn end_partial(&self, segment: &SegmentId) {
        self.partials.lock().remove(segment);
    }

    /// The segments of which there may be a part of a copy.
    pub(crate) fn partials(&self) -> Vec<SegmentId> {
        self.partials.lock().iter().cloned().collect()
    }

    /// Removes the part of a copy. Blocks.
    pub(crate) fn discard_partial(&self, segment: &SegmentId) {
        let Some(path) = self.partial_of(segment) else { return };
        match partial::discard(&path) {
            Ok(()) => {
                self.end_partial(segment);
                tracing::info!(%segment, "removed a part of a copy that nobody wants any more");
            }
            Err(error) => tracing::warn!(%segment, %error, "cannot remove a part of a copy"),
        }
    }

    fn partial_of(&self, segment: &SegmentId) -> Option<PathBuf> {
        let name = format!(".{segment}{PARTIAL}");
        (name.len() + NOTE.len() <= crashsafe::MAX_NAME_BYTES).then(|| self.dir.join(name))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn get(&self, segment: &SegmentId) -> Option<LocalFile> {
        self.map.read().get(segment).cloned()
    }

    pub(crate) fn contains(&self, segment: &SegmentId) -> bool {
        self.map.read().contains_key(segment)
    }

    /// Notes a file that has come, or changed.
    pub(crate) fn put(&self, segment: SegmentId, path: Arc<Path>, stamp: Stamp, plain: bool) {
        let file = LocalFile { path, stamp, plain, served: true, broken: None, fetched_for: None };
        self.bytes.fetch_add(stamp.bytes, Ordering::Relaxed);
        if let Some(old) = self.map.write().insert(segment, file) {
            self.bytes.fetch_sub(old.stamp.bytes, Ordering::Relaxed);
        }
    }

    /// Changes one entry, if it is there.
    pub(crate) fn update(&self, segment: &SegmentId, change: impl FnOnce(&mut LocalFile)) {
        let mut map = self.map.write();
        if let Some(file) = map.get_mut(segment) {
            let before = file.stamp.bytes;
            change(file);
            self.bytes.fetch_add(file.stamp.bytes, Ordering::Relaxed);
            self.bytes.fetch_sub(before, Ordering::Relaxed);
        }
    }

    /// Forgets a file.
    pub(crate) fn remove(&self, segment: &SegmentId) -> Option<LocalFile> {
        let old = self.map.write().remove(segment)?;
        self.bytes.fetch_sub(old.stamp.bytes, Ordering::Relaxed);
        Some(old)
    }

    /// How many there are, and their bytes.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.map.read().len() as u64, self.bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn ids(&self) -> Vec<SegmentId> {
        self.map.read().keys().cloned().collect()
    }

    /// The broken ones, with what is wrong.
    pub(crate) fn broken(&self) -> Vec<(SegmentId, Arc<str>)> {
        self.map.read().iter().filter_map(|(id, file)| Some((id.clone(), file.broken.clone()?))).collect()
    }
}

/// The segment that a part of a copy, or the note to it, is of.
fn partial_name(name: &str) -> Option<SegmentId> {
    let name = name.strip_suffix(NOTE).unwrap_or(name);
    SegmentId::new(name.strip_prefix('.')?.strip_suffix(PARTIAL)?).ok()
}

/// A file of our own beside the segments, removed when it is dropped; if it was renamed into its place, there is nothing to
/// remove.
#[derive(Debug)]
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    /// A new name for a copy of the segment; nothing is created.
    pub(crate) fn new(files: &Files, segment: &SegmentId, node: &NodeId, fence: u64) -> Self {
        Self(files.dir.join(crashsafe::temporary_name(&segment.file_name(), node, fence)))
    }

    /// A file that is there, or may come to be.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.0.display(), %error, "cannot remove a temporary file");
            }
            _ => {}
        }
    }
}

impl LocalFile {
    /// As the engine wants it; `written` is whether this node may write it.
    pub(crate) fn segment_file(&self, segment: &SegmentId, written: bool) -> SegmentFile {
        let mode = if self.plain && !written { Mode::Immutable } else { Mode::Hot };
        SegmentFile::new(segment.clone(), self.path.clone(), mode)
    }
}

/// What this node shall hold of a segment: the assignment, less what nobody asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Want {
    pub(crate) remote_path: Arc<str>,
    pub(crate) bytes: u64,
    pub(crate) mtime_ms: Option<i64>,
    pub(crate) sha256: Option<Box<str>>,
    pub(crate) cold: bool,
    /// A Python master wrote it, and never again since: length and time are what the store was last seen to hold.
    pub(crate) python: bool,
}

impl Want {
    pub(crate) fn of(assignment: &Assignment) -> Self {
        Self {
            remote_path: assignment.remote_path.as_str().into(),
            bytes: assignment.bytes,
            mtime_ms: assignment.mtime_ms,
            sha256: assignment.sha256.as_deref().map(Into::into),
            cold: assignment.hash_ring.as_str() == Some("cold"),
            python: assignment.generation == 0,
        }
    }

    /// Whether a local file with this stamp is the canonical copy.
    pub(crate) fn is(&self, stamp: Stamp) -> bool {
        stamp.is_version(self.bytes, self.mtime_ms)
    }

    /// The modification time of the canonical copy that a file with this stamp equals: at the finer resolution, if it is the
    /// assigned version.
    pub(crate) fn version_of(&self, stamp: Stamp) -> i64 {
        match self.mtime_ms {
            Some(mtime) if self.is(stamp) => mtime.max(stamp.mtime_ms),
            _ => stamp.mtime_ms,
        }
    }

    /// Whether a local file is the canonical copy, or was fetched for this very assignment.
    pub(crate) fn is_met_by(&self, file: &LocalFile) -> bool {
        self.is(file.stamp) || file.fetched_for == Some((self.bytes, self.mtime_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_at_the_coarser_resolution() {
        assert!(same_time(1_000_123, 1_000_123));
        assert!(same_time(1_000_123, 1_000_000));
        assert!(!same_time(1_000_123, 1_000_124));
        assert!(!same_time(1_000_123, 1_001_000));
    }

    #[test]
    fn a_directory_is_read_once_and_leftovers_go() {
        let dir = tempfile::tempdir().expect("directory");
        let part = ".p.sqlite._COPYING_.part";
        for name in ["a.sqlite", "b:c.sqlite", "b:c.sqlite-wal", "x.txt", ".a.sqlite._COPYING_.n.1.u", part] {
            fs::write(dir.path().join(name), b"12345").expect("write");
        }
        let files = Files::open(dir.path()).expect("open");
        assert_eq!(files.totals(), (2, 10));
        let id = |id: &str| SegmentId::new(id).expect("id");
        assert!(files.get(&id("a")).expect("there").plain);
        assert!(!files.get(&id("b:c")).expect("there").plain);
        assert!(!dir.path().join(".a.sqlite._COPYING_.n.1.u").exists());
        assert_eq!(files.partials(), [id("p")], "a copy may go on with it");
        assert_eq!(files.begin_partial(&id("p")), Some(dir.path().join(part)));
        assert_eq!(files.begin_partial(&id(&"x".repeat(240))), None);
        files.discard_partial(&id("p"));
        assert!(files.partials().is_empty() && !dir.path().join(part).exists());
        files.update(&id("a"), |f| f.stamp.bytes = 100);
        assert_eq!(files.totals(), (2, 105));
        files.remove(&id("a"));
        assert_eq!(files.totals(), (1, 5));
    }
}
