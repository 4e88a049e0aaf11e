//! Scrubbing: local copies are checked one after the other, slowly, for ever. What is found broken is withdrawn and
//! fetched again. On demand ([`demand`]) they are compared with their records and the store as well.

mod demand;
pub(crate) mod http;
mod restore;
mod sum;

use std::{sync::Arc, time::Duration};

use trough_core::ErrorCode;

use crate::state::Worker;

/// Bytes a second at most.
const RATE: f64 = 20e6;
/// The shortest pause between two files.
const PAUSE: Duration = Duration::from_secs(1);

/// Scrubs until the shutdown.
pub(crate) async fn run(worker: Arc<Worker>) {
    let mut todo = Vec::new();
    loop {
        let mut bytes = 0;
        let next = todo.pop();
        if let Some(segment) = next {
            // A file that is written is checked when it is promoted.
            let local = worker.files.get(&segment).filter(|file| file.plain && file.broken.is_none());
            if let Some(local) = local.filter(|_| worker.locks.held(&segment).is_none()) {
                bytes = local.stamp.bytes;
                let result = worker.engine.check(local.path.to_path_buf()).await;
                if result.is_err_and(|error| error.code == ErrorCode::Corrupt) {
                    worker.suspect(&segment);
                }
            }
        } else {
            todo = worker.files.ids();
        }
        let pause = PAUSE.max(Duration::from_secs_f64(bytes as f64 / RATE));
        tokio::select! {
            () = worker.shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
