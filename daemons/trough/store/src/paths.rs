//! Names and paths of stores that are no directories of this machine: slashes between plain names, all UTF-8.

use trough_core::SegmentId;

use crate::StoreError;

/// The segment that a file's name stands for.
pub(crate) fn segment_of(name: &str) -> Option<SegmentId> {
    SegmentId::new(name.strip_suffix(".sqlite")?).ok()
}

/// A path below `root` joined from a relative one.
pub(crate) fn join(root: &str, relative: &str) -> String {
    let root = root.trim_end_matches('/');
    if relative.is_empty() && !root.is_empty() { root.to_owned() } else { format!("{root}/{relative}") }
}

/// The full path and the segment of what `path` names: in full, or relative to `root`, which begins with a slash.
///
/// # Errors
/// [`StoreError::InvalidPath`] for what lies outside, or is no segment's file.
pub(crate) fn resolve(operation: &'static str, root: &str, path: &str) -> Result<(String, SegmentId), StoreError> {
    let refuse = |why| Err(StoreError::InvalidPath { operation, path: path.to_owned(), root: root.to_owned(), why });
    let prefix = format!("{}/", root.trim_end_matches('/'));
    let relative = match path.strip_prefix(&prefix) {
        Some(relative) => relative,
        None if path.starts_with('/') => return refuse("it lies outside"),
        None => path,
    };
    if relative.contains('\0') {
        return refuse("it contains a NUL");
    }
    if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refuse("it has a part that is no plain name");
    }
    match relative.rsplit('/').next().and_then(segment_of) {
        Some(segment) => Ok((format!("{prefix}{relative}"), segment)),
        None => refuse("its name is not SEGMENT.sqlite"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        for root in ["/a/b", "/"] {
            for path in ["300/300123.sqlite", "300123.sqlite", "x/y/z/300123.sqlite"] {
                let full = join(root, path);
                let resolved = resolve("stat", root, path).expect("below");
                assert_eq!((resolved.0.as_str(), resolved.1.as_str()), (full.as_str(), "300123"));
                assert_eq!(resolve("stat", root, &full).expect("in full"), resolved);
            }
            for path in ["", "/", "../x.sqlite", "a//x.sqlite", "a/./x.sqlite", "x.db", "a/\0x.sqlite", "a/x.sqlite/"] {
                assert!(resolve("stat", root, path).is_err(), "{path:?} below {root}");
            }
        }
        assert!(resolve("stat", "/a/b", "/a/bc/x.sqlite").is_err());
        assert_eq!((join("/", ""), join("/a/", ""), join("/", "x")), ("/".into(), "/a".into(), "/x".into()));
    }
}
