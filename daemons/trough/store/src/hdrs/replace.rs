//! A rename over an existing file, by a client whose rename refuses to replace one: the old file is put aside, the new one
//! takes its place, the old one is removed. In between, the name is missing for a moment. Whoever looks then sees the file
//! that was put aside and looks again. A crash in that moment leaves both files beside the name; the next publication puts
//! that right, and the collection of old uploads gives the old file its name back instead of removing it.

use std::{io, thread, time::Duration};

use hdrs::Client;

use super::error::is_false;
use crate::{crashsafe, remote::Status};

/// How long is waited between two looks at a file that is being replaced.
const PAUSE: Duration = Duration::from_millis(20);
/// How often: whoever put the file aside and has not come back by then is dead.
const LOOKS: usize = 100;
/// Looks in a row that must find neither the file nor one put aside, until it is missing: two replacements may follow one
/// another.
const MISSES: usize = 3;

/// ENOENT.
const ABSENT: i32 = 2;
/// EEXIST.
const EXISTS: i32 = 17;

/// Where `path` is put aside.
pub(super) fn aside(path: &str) -> String {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    format!("{directory}/{}", crashsafe::aside_name(name))
}

fn is_there(client: &Client, path: &str) -> io::Result<bool> {
    match client.metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Looks for a file that may be being replaced.
pub(super) fn find<T>(client: &Client, path: &str, look: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let replaceable = path.ends_with(".sqlite");
    let (aside, mut misses) = (aside(path), 0);
    for _ in 0..LOOKS {
        match look() {
            Err(e) if e.kind() == io::ErrorKind::NotFound && replaceable => {}
            other => return other,
        }
        if is_there(client, &aside)? {
            misses = 0;
            thread::sleep(PAUSE);
            continue;
        }
        misses += 1;
        if misses == MISSES {
            break;
        }
    }
    look()
}

/// Lists a directory, again while something in it is being replaced.
pub(super) fn list(read: impl Fn() -> io::Result<Vec<Status>>) -> io::Result<Vec<Status>> {
    for _ in 0..LOOKS {
        let found = read()?;
        if !replaced(&found) {
            return Ok(found);
        }
        thread::sleep(PAUSE);
    }
    read()
}

/// Whether something was put aside whose name nothing has taken yet.
fn replaced(found: &[Status]) -> bool {
    let mut aside = found.iter().filter_map(|status| crashsafe::put_aside(&status.name)).peekable();
    aside.peek().is_some() && {
        let names: std::collections::HashSet<&str> = found.iter().map(|status| status.name.as_str()).collect();
        aside.any(|name| !names.contains(name))
    }
}

/// Renames a file to a name that nothing has.
fn rename_new(client: &Client, from: &str, to: &str) -> io::Result<()> {
    match client.rename_file(from, to) {
        // No reason was given; these are the likely ones.
        Err(e) if is_false(&e) && !is_there(client, from)? => Err(io::Error::from_raw_os_error(ABSENT)),
        Err(e) if is_false(&e) && is_there(client, to)? => Err(io::Error::from_raw_os_error(EXISTS)),
        other => other,
    }
}

/// Renames `from` over `to`.
pub(super) fn replace(client: &Client, from: &str, to: &str) -> io::Result<()> {
    let aside = aside(to);
    if is_there(client, to)? {
        // One that was left by a crash is older than what lies there.
        delete(client, &aside)?;
        rename_new(client, to, &aside).map_err(|e| match e.kind() {
            // Somebody else replaces it.
            io::ErrorKind::NotFound => io::Error::from_raw_os_error(EXISTS),
            _ => e,
        })?;
    }
    let renamed = rename_new(client, from, to);
    if renamed.is_err() && !is_there(client, to)? {
        if is_there(client, &aside)? {
            let back = rename_new(client, &aside, to);
            tracing::warn!(path = to, restored = back.is_ok(), "a replacement failed half-way");
        }
        return renamed;
    }
    if let Err(error) = delete(client, &aside) {
        // The collection of old uploads comes by.
        tracing::warn!(path = aside, %error, "the replaced file is left beside the new one");
    }
    renamed
}

/// Removes a file; false if there was none.
fn delete(client: &Client, path: &str) -> io::Result<bool> {
    match client.remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) if is_false(&e) && !is_there(client, path)? => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes a file, unless it is all that is left of what it was put aside for; then it gets its name back.
pub(super) fn remove(client: &Client, path: &str) -> io::Result<bool> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    if let Some(original) = crashsafe::put_aside(name) {
        let original = format!("{directory}/{original}");
        if is_there(client, path)? && !is_there(client, &original)? {
            tracing::warn!(path = original, "a replacement was left half-done; the old file gets its name back");
            return rename_new(client, path, &original).map(|()| false);
        }
    }
    delete(client, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_aside_is_known() {
        let path = "/a/300/300123.sqlite";
        assert_eq!(aside(path), "/a/300/.300123.sqlite._COPYING_.replaced");
        let named =
            |name: &str| Status { name: name.to_owned(), directory: false, bytes: 1, mtime_ms: 0, accessed_ms: 0 };
        let (file, aside) = (named("300123.sqlite"), named(".300123.sqlite._COPYING_.replaced"));
        assert!(replaced(&[named("other.sqlite"), aside.clone()]));
        assert!(!replaced(&[file.clone(), aside]));
        assert!(!replaced(&[file, named(".300123.sqlite._COPYING_.w1.3.0123")]));
    }
}
