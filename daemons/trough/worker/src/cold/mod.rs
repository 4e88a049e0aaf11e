//! A cold worker: serves read-only where the data lies. It copies nothing and writes nothing; what is assigned to it is
//! advertised. In mount mode it opens files under COLD_STORAGE_PATH; in [`direct`] mode it reads ranges of the canonical store's
//! files.

pub(crate) mod direct;

use std::{path::PathBuf, sync::Arc};

use trough_config::ColdMode;
use trough_core::SegmentId;
use trough_engine::SegmentFile;

use crate::{
    advertise::READ,
    files::{LocalFile, Stamp, Want},
    state::Worker,
};

/// Where the segment lies: COLD_STORAGE_PATH with `{prefix}` and `{segment_id}` filled in.
pub(crate) fn path_of(template: &str, segment: &SegmentId) -> PathBuf {
    // One pass over the template: an id that holds braces is not filled in again.
    let mut path = String::with_capacity(template.len() + 2 * segment.as_str().len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        path.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("{prefix}") {
            path.push_str(segment.store_prefix());
            rest = after;
        } else if let Some(after) = rest.strip_prefix("{segment_id}") {
            path.push_str(segment.as_str());
            rest = after;
        } else {
            path.push('{');
            rest = &rest[1..];
        }
    }
    path.push_str(rest);
    path.into()
}

/// A cold segment as the engine wants it.
pub(crate) fn segment_file(worker: &Worker, segment: &SegmentId, local: &LocalFile) -> SegmentFile {
    match worker.settings.cold_mode {
        ColdMode::Mount => local.segment_file(segment, false),
        ColdMode::Direct => SegmentFile::new(segment.clone(), local.path.clone(), trough_engine::Mode::Remote),
    }
}

/// Looks at what has changed when it has, and at everything that is assigned from time to time, until the shutdown.
pub(crate) async fn run(worker: Arc<Worker>) {
    let mut ticks = tokio::time::interval(worker.settings.sync_loop_timing);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let all = tokio::select! {
            () = worker.shutdown.cancelled() => return,
            _ = ticks.tick() => true,
            () = worker.wants.wake.notified() => false,
        };
        if worker.wants.is_complete() {
            let changed = worker.wants.take_changed();
            let looking = worker.clone();
            // A mount may be slow to answer.
            let looked = tokio::task::spawn_blocking(move || match changed {
                Some(changed) if !all => changed.iter().for_each(|segment| look(&looking, segment)),
                _ => look_at_all(&looking),
            });
            if looked.await.is_err() {
                tracing::error!("looking at the cold segments failed");
            }
            worker.settled.cancel();
        }
    }
}

fn look_at_all(worker: &Worker) {
    for segment in worker.files.ids() {
        if worker.wants.get(&segment).is_none() {
            look(worker, &segment);
        }
    }
    for segment in worker.wants.ids() {
        look(worker, &segment);
    }
}

fn look(worker: &Worker, segment: &SegmentId) {
    match (worker.wants.get(segment), worker.settings.cold_mode) {
        (None, _) => forget(worker, segment),
        (Some(_), ColdMode::Mount) => look_at_mount(worker, segment),
        (Some(want), ColdMode::Direct) => look_at_assignment(worker, segment, &want),
    }
}

fn forget(worker: &Worker, segment: &SegmentId) {
    worker.advertiser.clear(segment);
    if worker.files.remove(segment).is_some() {
        worker.engine.evict(segment);
    }
}

/// The master has seen the file in the store: it is served as it was assigned, and opened when it is asked for.
fn look_at_assignment(worker: &Worker, segment: &SegmentId, want: &Want) {
    let stamp = Stamp { bytes: want.bytes, mtime_ms: want.mtime_ms.unwrap_or(0) };
    let known = worker.files.get(segment);
    if known.is_none_or(|file| file.stamp != stamp || file.path.to_str() != Some(&want.remote_path)) {
        if let Some(remote) = &worker.engine.options().remote {
            // The next query asks the store, instead of believing what is open.
            remote.recheck(&want.remote_path);
        }
        worker.files.put(segment.clone(), std::path::Path::new(&*want.remote_path).into(), stamp, true);
    }
    worker.advertiser.set(segment, READ);
}

fn look_at_mount(worker: &Worker, segment: &SegmentId) {
    let path = path_of(&worker.settings.cold_storage_path, segment);
    let known = worker.files.get(segment).map(|file| file.stamp);
    match std::fs::metadata(&path) {
        Ok(metadata) => {
            let stamp = Stamp::of(&metadata);
            if known != Some(stamp) {
                worker.files.put(segment.clone(), path.into(), stamp, true);
                worker.engine.evict(segment);
            }
            worker.advertiser.set(segment, READ);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if known.is_some() {
                tracing::warn!(%segment, path = %path.display(), %error, "cold segment is gone from the mount");
            }
            forget(worker, segment);
        }
        // ESTALE, EIO, a server that does not answer: nothing follows about the file.
        Err(error) => {
            tracing::warn!(%segment, path = %path.display(), %error, "cannot look at a cold segment on the mount");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_filled_in_once() {
        let path = |id: &str| path_of("/mnt/{prefix}/{segment_id}.sqlite", &SegmentId::new(id).expect("id"));
        assert_eq!(path("300123"), PathBuf::from("/mnt/300/300123.sqlite"));
        assert_eq!(path("{segment_id}x"), PathBuf::from("/mnt/{segment_i/{segment_id}x.sqlite"));
    }
}
