//! What an interrupted fetch leaves for the next one: the first bytes of the file, at its destination, and a note beside it
//! that says which version of which file they are of. Both have temporary names if the destination has one.
//!
//! The note is written before the first byte, and bytes are written in order, so after a crash of the process the file's
//! length says what is there. After a crash of the host it may say too much: then the bytes are used only if a hash
//! of the whole is known, by which the result is judged.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Entry, StoreError, transfer::create_new};

/// What the note's name adds to the destination's.
const NOTE: &str = ".note";
/// The kernel's name for the present boot.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Which version of which file the bytes are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    path: String,
    bytes: u64,
    mtime_ms: i64,
    /// What else the store tells versions apart by.
    version: Option<String>,
    /// The SHA-256 that the whole shall have.
    sha256: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    origin: Origin,
    boot: Option<String>,
}

impl Origin {
    pub(crate) fn new(entry: &Entry, version: Option<&str>, sha256: Option<&str>) -> Self {
        Self {
            path: entry.path.clone(),
            bytes: entry.bytes,
            mtime_ms: entry.mtime_ms,
            version: version.map(str::to_owned),
            sha256: sha256.map(str::to_owned),
        }
    }
}

/// Where the note to a destination lies.
pub(crate) fn note_of(dest: &Path) -> PathBuf {
    let mut name = dest.as_os_str().to_owned();
    name.push(NOTE);
    name.into()
}

/// Removes what an interrupted fetch to `dest` left. Blocks.
///
/// # Errors
/// What the system says; that there is nothing is no error.
pub fn discard(dest: &Path) -> io::Result<()> {
    for path in [dest.to_owned(), note_of(dest)] {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Opens `dest` for the bytes that are missing of the file `origin`; returns how many are there. What is there of
/// another file or version goes. Nobody else may be fetching to it. Blocks.
pub(crate) fn open(dest: &Path, origin: &Origin) -> Result<(File, u64), StoreError> {
    let failed = |e| StoreError::from_io("get to", dest.to_string_lossy(), e);
    let file = File::options().read(true).append(true).create(true).open(dest).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let (path, why) = (dest.to_string_lossy().into_owned(), "it is being fetched to already".to_owned());
            return Err(StoreError::Conflict { operation: "get to", path, why });
        }
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    let there = file.metadata().map_err(failed)?.len();
    let boot = fs::read_to_string(BOOT).ok();
    let note = fs::read(note_of(dest)).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok());
    let usable = note.is_some_and(|note| {
        let same_boot = note.boot.is_some() && note.boot == boot;
        note.origin == *origin && there <= origin.bytes && (same_boot || origin.sha256.is_some())
    });
    if usable {
        return Ok((file, there));
    }
    file.set_len(0).map_err(failed)?;
    let note = Note { origin: origin.clone(), boot };
    let text = serde_json::to_vec(&note).map_err(|e| failed(e.into()))?;
    fs::write(note_of(dest), text).map_err(failed)?;
    Ok((file, 0))
}

/// The file is whole: nothing more is to be noted about it. Blocks.
pub(crate) fn complete(dest: &Path) -> io::Result<()> {
    match fs::remove_file(note_of(dest)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// A new file, which must not exist; if `replace`, what an interrupted fetch left there goes. Blocks.
pub(crate) fn create(dest: &Path, replace: bool) -> Result<File, StoreError> {
    if replace {
        discard(dest).map_err(|e| StoreError::from_io("get to", dest.to_string_lossy(), e))?;
    }
    create_new("get to", dest)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use trough_core::SegmentId;

    use super::*;

    #[test]
    fn only_bytes_of_the_same_version_are_used() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let dest = dir.path().join("x");
        let segment = SegmentId::new("x").expect("an id");
        let entry = Entry { segment, path: "/a/x.sqlite".into(), bytes: 10, mtime_ms: 5 };
        let origin = Origin::new(&entry, None, None);
        let leave = |origin: &Origin| {
            let (mut file, there) = open(&dest, origin).expect("opened");
            assert!(matches!(open(&dest, origin), Err(StoreError::Conflict { .. })), "one at a time");
            file.write_all(b"1234").expect("written");
            there
        };
        assert_eq!(leave(&origin), 0);
        assert_eq!(leave(&origin), 4);
        assert_eq!(leave(&origin), 8);
        assert_eq!(leave(&origin), 0, "more than the whole is nothing");
        for other in [
            Origin { mtime_ms: 6, ..origin.clone() },
            Origin { bytes: 11, ..origin.clone() },
            Origin { version: Some("2".into()), ..origin.clone() },
            Origin { sha256: Some("00".into()), ..origin.clone() },
        ] {
            assert_eq!(leave(&other), 0, "{other:?}");
            assert_eq!(leave(&other), 4, "{other:?}");
        }
        // Of another boot: only where a hash tells whether it is right.
        for (sha256, there) in [(None, 0), (Some("00".to_owned()), 4)] {
            let origin = Origin { sha256, ..origin.clone() };
            discard(&dest).expect("removed");
            leave(&origin);
            let note = Note { origin: origin.clone(), boot: Some("another".into()) };
            fs::write(note_of(&dest), serde_json::to_vec(&note).expect("JSON")).expect("written");
            assert_eq!(leave(&origin), there);
        }
        fs::write(note_of(&dest), b"{").expect("written");
        assert_eq!(leave(&origin), 0, "a torn note is none");
        complete(&dest).expect("removed");
        assert_eq!(leave(&origin), 0);
        discard(&dest).expect("removed");
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 0);
    }
}
