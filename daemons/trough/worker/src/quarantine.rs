//! Broken copies, kept for a person to look at: LOCAL_DATA/quarantine/ID.sqlite.MILLISECONDS, with the reason beside it in a
//! file of the same name ending in `.reason`. The newest [`KEPT`] are kept; nothing else ever reads them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use trough_core::SegmentId;
use trough_store::crashsafe;

/// How many broken copies are kept.
const KEPT: usize = 16;
/// The directory in LOCAL_DATA.
const DIRECTORY: &str = "quarantine";
/// What the reason's file ends in.
const REASON: &str = ".reason";

/// One broken copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Broken {
    /// The segment.
    pub(crate) segment: SegmentId,
    /// What was found wrong.
    pub(crate) reason: String,
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// The copy's length.
    pub(crate) bytes: u64,
    /// The copy's name in the directory.
    pub(crate) file: String,
}

/// The directory of broken copies.
#[derive(Debug)]
pub(crate) struct Quarantine {
    dir: PathBuf,
    /// The oldest first.
    kept: Mutex<Vec<Broken>>,
}

impl Quarantine {
    /// Reads what an earlier process kept. A directory that cannot be read is an empty one, and said to be unreadable.
    pub(crate) fn open(local_data: &Path) -> Self {
        let dir = local_data.join(DIRECTORY);
        let kept = read(&dir).unwrap_or_else(|error| {
            tracing::warn!(dir = %dir.display(), %error, "cannot read the directory of broken copies");
            Vec::new()
        });
        Self { dir, kept: Mutex::new(kept) }
    }

    /// Keeps a second name of the broken file, so that it may be replaced. Returns where.
    ///
    /// # Errors
    /// What the file system says; nothing is kept then.
    pub(crate) fn keep(&self, segment: &SegmentId, path: &Path, reason: &str) -> io::Result<PathBuf> {
        let mut kept = self.kept.lock();
        fs::create_dir_all(&self.dir)?;
        let last = kept.last().map_or(0, |broken| broken.at_ms);
        let at_ms = crashsafe::now_ms().max(last + 1);
        let file = format!("{}.{at_ms}", segment.file_name());
        let to = self.dir.join(&file);
        fs::hard_link(path, &to)?;
        let bytes = fs::metadata(&to)?.len();
        let broken = Broken { segment: segment.clone(), reason: reason.to_owned(), at_ms, bytes, file };
        fs::write(self.reason_of(&broken), serde_json::to_vec_pretty(&broken)?)?;
        kept.push(broken);
        while kept.len() > KEPT {
            let oldest = kept.remove(0);
            for path in [self.dir.join(&oldest.file), self.reason_of(&oldest)] {
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "cannot remove an old broken copy");
                }
            }
        }
        Ok(to)
    }

    /// What is kept, the newest first.
    pub(crate) fn list(&self) -> Vec<Broken> {
        self.kept.lock().iter().rev().cloned().collect()
    }

    fn reason_of(&self, broken: &Broken) -> PathBuf {
        self.dir.join(format!("{}{REASON}", broken.file))
    }
}

fn read(dir: &Path) -> io::Result<Vec<Broken>> {
    let mut kept = Vec::new();
    let names = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(kept),
        other => other?,
    };
    for name in names {
        let path = name?.path();
        if path.to_str().is_some_and(|path| path.ends_with(REASON))
            && let Ok(broken) = serde_json::from_slice::<Broken>(&fs::read(&path)?)
        {
            kept.push(broken);
        }
    }
    kept.sort_by_key(|broken| broken.at_ms);
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_with_their_reasons() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.sqlite");
        let quarantine = Quarantine::open(dir.path());
        assert!(quarantine.list().is_empty());
        let segment = SegmentId::new("x").expect("an id");
        for n in 0..KEPT + 3 {
            fs::write(&path, format!("broken {n}")).expect("written");
            let kept = quarantine.keep(&segment, &path, &format!("reason {n}")).expect("kept");
            fs::remove_file(&path).expect("removed");
            assert_eq!(fs::read_to_string(kept).expect("there"), format!("broken {n}"));
        }
        let again = Quarantine::open(dir.path());
        assert_eq!(again.list(), quarantine.list());
        assert_eq!(again.list().len(), KEPT);
        assert_eq!(again.list()[0].reason, format!("reason {}", KEPT + 2));
        assert_eq!(fs::read_dir(dir.path().join(DIRECTORY)).expect("there").count(), 2 * KEPT);
    }
}
