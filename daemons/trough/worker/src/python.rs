//! What the Python trough leaves behind on a host that changes over: assignments that say nothing of the canonical file's time, and
//! copies that carry another time than it.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
};

use futures::StreamExt as _;
use trough_core::SegmentId;
use trough_store::crashsafe;

use crate::{
    files::{LocalFile, Stamp, Want},
    state::Worker,
};

/// A Python master writes an assignment once and never again, whatever becomes of the canonical file: each of its workers lists the
/// store. So does this one, as long as it has such assignments. Whether all was seen.
pub(crate) async fn look_at_store(worker: &Worker) -> bool {
    let mut wanted: HashSet<SegmentId> = worker.wants.of_python();
    if wanted.is_empty() {
        return true;
    }
    let mut listing = worker.store.list();
    while let Some(entry) = listing.next().await {
        match entry {
            Ok(entry) => {
                if wanted.remove(&entry.segment) {
                    worker.wants.found(entry);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot list the store for a Python master's assignments, what is here is served");
                return false;
            }
        }
    }
    true
}

/// Takes the copies that a Python worker made on this host for what they are: once, at the first look at everything after the change.
pub(crate) async fn adopt(worker: &Arc<Worker>) {
    if !worker.adopts.swap(false, Ordering::AcqRel) {
        return;
    }
    let worker = worker.clone();
    let adopting = tokio::task::spawn_blocking(move || {
        let (mut adopted, mut failed) = (0u64, 0u64);
        for segment in worker.files.ids() {
            let (Some(local), Some(want)) = (worker.files.get(&segment), worker.wants.get(&segment)) else { continue };
            let Some(mtime) = time_of(&local, &want).filter(|_| worker.locks.held(&segment).is_none()) else {
                continue;
            };
            let set = std::fs::File::options().write(true).open(&local.path).and_then(|file| {
                crashsafe::set_mtime_ms(&file, mtime)?;
                file.metadata()
            });
            match set {
                Ok(metadata) => {
                    worker.files.update(&segment, |file| file.stamp = Stamp::of(&metadata));
                    adopted += 1;
                }
                Err(error) => {
                    failed += 1;
                    tracing::warn!(%segment, %error, "cannot set the time of a Python worker's copy, it is fetched again");
                }
            }
        }
        tracing::info!(adopted, failed, "took over a Python worker's copies");
    });
    if let Err(error) = adopting.await {
        tracing::error!(%error, "taking over a Python worker's copies panicked");
    }
}

/// The canonical file's time, if the copy is one that a Python worker made of it: as long, and as it judges itself, not older.
fn time_of(local: &LocalFile, want: &Want) -> Option<i64> {
    let mtime = want.mtime_ms?;
    let is_copy = local.plain && local.broken.is_none() && local.stamp.bytes == want.bytes;
    (is_copy && !want.is(local.stamp) && local.stamp.mtime_ms > mtime).then_some(mtime)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_copy_that_is_as_long_and_not_older_is_what_it_claims_to_be() {
        let local = |bytes, mtime_ms| LocalFile {
            path: Path::new("/x").into(),
            stamp: Stamp { bytes, mtime_ms },
            plain: true,
            served: false,
            broken: None,
            fetched_for: None,
        };
        let want =
            |mtime_ms| Want { remote_path: "x".into(), bytes: 10, mtime_ms, sha256: None, cold: false, python: true };
        assert_eq!(time_of(&local(10, 5001), &want(Some(2001))), Some(2001));
        assert_eq!(time_of(&local(10, 1001), &want(Some(2001))), None, "older");
        assert_eq!(time_of(&local(11, 5001), &want(Some(2001))), None, "of another length");
        assert_eq!(time_of(&local(10, 2001), &want(Some(2001))), None, "the same already");
        assert_eq!(time_of(&local(10, 5001), &want(None)), None, "nobody knows");
        assert_eq!(
            time_of(&LocalFile { plain: false, ..local(10, 5001) }, &want(Some(2001))),
            None,
            "with a log beside it"
        );
    }
}
