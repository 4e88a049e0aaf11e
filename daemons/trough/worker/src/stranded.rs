//! Files with acknowledged writes that were never promoted, whose write lock another node has taken over. They are kept for a person to
//! look at, and nothing else ever reads them.
//!
//! | in LOCAL_DATA | is |
//! |---|---|
//! | `held/ID.held` | an empty file: the segment's file here was made writable, and its lock was not given back since |
//! | `stranded/ID.sqlite.MILLISECONDS` | such a file, kept when another was to take its place |
//! | `stranded/ID.sqlite.MILLISECONDS-wal` | its log, where it could not be brought into the file: SQLite takes both together |

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use trough_core::{ErrorCode, SegmentError, SegmentId};
use trough_store::crashsafe;

use crate::state::Worker;

/// What a note's name ends with. It must not be taken for a segment's file.
const SUFFIX: &str = ".held";

/// The two directories.
#[derive(Debug)]
pub(crate) struct Stranded {
    held: PathBuf,
    kept: PathBuf,
    /// What is in `held`.
    noted: Mutex<HashSet<SegmentId>>,
    /// Whether `held` was there at the start.
    kept_notes: bool,
}

impl Stranded {
    /// Reads the notes of earlier processes.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn open(local_data: &Path) -> io::Result<Self> {
        let held = local_data.join("held");
        let (mut noted, mut kept_notes) = (HashSet::new(), true);
        match fs::read_dir(&held) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => kept_notes = false,
            names => {
                for name in names? {
                    let name = name?.file_name();
                    let id = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
                    noted.extend(id.and_then(|id| SegmentId::new(id).ok()));
                }
            }
        }
        Ok(Self { held, kept: local_data.join("stranded"), noted: Mutex::new(noted), kept_notes })
    }

    fn note_of(&self, segment: &SegmentId) -> PathBuf {
        self.held.join(format!("{segment}{SUFFIX}"))
    }

    /// Notes, durably, that the segments' files are about to be written. Blocks.
    fn note(&self, segments: &[SegmentId]) -> io::Result<()> {
        fs::create_dir_all(&self.held)?;
        for segment in segments {
            fs::File::create(self.note_of(segment))?;
            self.noted.lock().insert(segment.clone());
        }
        crashsafe::sync_directory(&self.held)
    }

    /// The file is the canonical copy. A note that a crash leaves does no harm.
    pub(crate) fn forget(&self, segment: &SegmentId) {
        if !self.noted.lock().remove(segment) {
            return;
        }
        match fs::remove_file(self.note_of(segment)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%segment, %error, "cannot remove the note of a write lock");
            }
            _ => {}
        }
    }

    /// Whether an earlier process certainly did not get as far as noting the segment. In a directory without notes nothing is certain: it may be
    /// the mount point of a disk that is missing.
    pub(crate) fn was_never_noted(&self, segment: &SegmentId) -> bool {
        self.kept_notes && !self.is_noted(segment)
    }

    /// Whether the segment's file may hold writes that were never promoted.
    pub(crate) fn is_noted(&self, segment: &SegmentId) -> bool {
        self.noted.lock().contains(segment)
    }

    /// Keeps a second name of the file and of its log, if there is one, durably. Blocks.
    fn keep(&self, segment: &SegmentId, path: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.kept)?;
        let mut at_ms = crashsafe::now_ms();
        let kept = loop {
            let to = self.kept.join(format!("{}.{at_ms}", segment.file_name()));
            match fs::hard_link(path, &to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => at_ms += 1,
                done => break done.map(|()| to)?,
            }
        };
        match fs::hard_link(with_log(path), with_log(&kept)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        crashsafe::sync_directory(&self.kept)?;
        Ok(kept)
    }

    /// Removes what was kept of a segment that is shredded. Blocks.
    pub(crate) fn shred(&self, segment: &SegmentId) {
        self.forget(segment);
        let prefix = format!("{}.", segment.file_name());
        let Ok(names) = fs::read_dir(&self.kept) else { return };
        for name in names.flatten() {
            // Digits only: `a.sqlite` may be a segment, too.
            let file = name.file_name();
            let at_ms = file.to_str().and_then(|file| file.strip_prefix(&prefix)).unwrap_or_default();
            let at_ms = ["-wal", "-shm"].iter().find_map(|log| at_ms.strip_suffix(log)).unwrap_or(at_ms);
            if at_ms.is_empty() || !at_ms.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            if let Err(error) = fs::remove_file(name.path()) {
                tracing::warn!(%segment, path = %name.path().display(), %error, "cannot remove a file that was kept");
            }
        }
    }
}

/// The name of a file's log.
fn with_log(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Notes that the segments' files are about to be written.
///
/// # Errors
/// What the file system says: they must not be written then.
pub(crate) async fn note(worker: &Arc<Worker>, segments: Vec<SegmentId>) -> Result<(), SegmentError> {
    if segments.is_empty() {
        return Ok(());
    }
    let noting = {
        let worker = worker.clone();
        tokio::task::spawn_blocking(move || worker.stranded.note(&segments))
    };
    finished(noting, "note write locks in LOCAL_DATA").await
}

/// Keeps the segment's file if it may hold writes that were never promoted and this process may not write it any more. Call it before the
/// file is replaced or removed; the segment must be busy.
///
/// # Errors
/// The file cannot be kept: it must stay where it is.
pub(crate) async fn set_aside(worker: &Arc<Worker>, segment: &SegmentId) -> Result<(), SegmentError> {
    if !worker.stranded.is_noted(segment) || worker.locks.held(segment).is_some() {
        return Ok(());
    }
    let Some(file) = worker.hot_file(segment) else { return Ok(()) };
    if let Err(error) = worker.engine.seal(file).await {
        tracing::warn!(%segment, error = error.message, "a file that is set aside cannot be put in order before");
    }
    let keeping = {
        let (worker, segment) = (worker.clone(), segment.clone());
        tokio::task::spawn_blocking(move || {
            let kept = worker.stranded.keep(&segment, &worker.files.path_of(&segment))?;
            worker.stranded.forget(&segment);
            Ok(kept)
        })
    };
    let kept = finished(keeping, &format!("set the file of segment '{segment}' aside")).await?;
    worker.locks.forget_file(segment);
    tracing::error!(
        %segment, kept = %kept.display(),
        "another node took the write lock over; what was acknowledged here since the last promotion is only in the file that was kept"
    );
    Ok(())
}

async fn finished<T>(task: tokio::task::JoinHandle<io::Result<T>>, what: &str) -> Result<T, SegmentError> {
    let failed = |why: String| SegmentError::new(ErrorCode::Io, format!("cannot {what}: {why}"));
    task.await.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_stays_until_it_is_shredded() {
        let dir = tempfile::tempdir().expect("a directory");
        let stranded = Stranded::open(dir.path()).expect("opened");
        let (a, b) = (SegmentId::new("a").expect("id"), SegmentId::new("a.sqlite").expect("id"));
        stranded.note(&[a.clone(), b.clone()]).expect("noted");
        let stranded = Stranded::open(dir.path()).expect("opened again");
        assert!(stranded.is_noted(&a));
        let path = dir.path().join("x");
        fs::write(&path, "writes").expect("written");
        let (first, second) = (stranded.keep(&a, &path).expect("kept"), stranded.keep(&a, &path).expect("kept"));
        assert_ne!(first, second);
        fs::write(dir.path().join("x-wal"), "log").expect("written");
        let third = stranded.keep(&a, &path).expect("kept");
        assert_eq!(fs::read(with_log(&third)).expect("kept with it"), b"log");
        fs::remove_file(dir.path().join("x-wal")).expect("removed");
        let other = stranded.keep(&b, &path).expect("kept");
        assert!(!with_log(&other).exists());
        stranded.shred(&a);
        assert!(!first.exists() && !second.exists() && !with_log(&third).exists() && !stranded.is_noted(&a));
        assert!(other.exists() && stranded.is_noted(&b));
    }
}
