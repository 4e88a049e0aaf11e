//! Noticing that files have changed.

use std::{os::unix::fs::MetadataExt as _, path::Path, time::SystemTime};

/// What files looked like when they were looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen(Vec<Option<(SystemTime, u64, u64)>>);

impl Seen {
    /// Looks at the files: when they were changed, how long they are, and which they are.
    pub(crate) fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let look = |path: &Path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len(), meta.ino()))
        };
        Self(paths.into_iter().map(look).collect())
    }
}
