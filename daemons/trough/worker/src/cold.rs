//! A cold worker on a mount: serves read-only where the data lies. It copies nothing and writes nothing; what is assigned to
//! it and found under COLD_STORAGE_PATH is advertised.

use std::{path::PathBuf, sync::Arc};

use trough_core::SegmentId;

use crate::{advertise::READ, files::Stamp, state::Worker};

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

/// Looks at everything that is assigned, until the shutdown.
pub(crate) async fn run(worker: Arc<Worker>) {
    let mut ticks = tokio::time::interval(worker.settings.sync_loop_timing);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = worker.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
            () = worker.wants.wake.notified() => {}
        }
        if worker.wants.is_complete() {
            worker.wants.take_changed();
            let looking = worker.clone();
            // A mount may be slow to answer.
            if tokio::task::spawn_blocking(move || look(&looking)).await.is_err() {
                tracing::error!("looking at the cold segments failed");
            }
            worker.settled.cancel();
        }
    }
}

fn look(worker: &Worker) {
    for segment in worker.files.ids() {
        if worker.wants.get(&segment).is_none() {
            worker.files.remove(&segment);
            worker.advertiser.clear(&segment);
            worker.engine.evict(&segment);
        }
    }
    for segment in worker.wants.ids() {
        let path = path_of(&worker.settings.cold_storage_path, &segment);
        let known = worker.files.get(&segment).map(|file| file.stamp);
        match std::fs::metadata(&path) {
            Ok(metadata) => {
                let stamp = Stamp::of(&metadata);
                if known != Some(stamp) {
                    worker.files.put(segment.clone(), path.into(), stamp, true);
                    worker.engine.evict(&segment);
                }
                worker.advertiser.set(&segment, READ);
            }
            Err(error) => {
                if known.is_some() {
                    tracing::warn!(%segment, path = %path.display(), %error, "cold segment is gone from the mount");
                    worker.files.remove(&segment);
                    worker.engine.evict(&segment);
                }
                worker.advertiser.clear(&segment);
            }
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
