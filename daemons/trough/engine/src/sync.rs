//! Durability for many segments at once. When the transactions of many segments wait for their turn, each file's own fsync
//! would be what they wait for; so they are committed without, and one `syncfs` makes all of them durable before any of
//! them is acknowledged.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use trough_core::{SegmentError, wire::WriteResult};

use crate::{errors, files::directory_of};

/// A committed write whose client waits until it is durable.
pub(crate) struct Pending {
    pub(crate) path: Arc<Path>,
    pub(crate) reply: oneshot::Sender<WriteResult>,
    pub(crate) result: WriteResult,
}

/// The thread that makes them durable; it ends with its owner.
pub(crate) struct Syncer {
    pending: Mutex<Option<Sender<Vec<Pending>>>>,
}

impl Syncer {
    pub(crate) fn new() -> Self {
        Self { pending: Mutex::new(None) }
    }

    /// Answers the writes once they are durable.
    pub(crate) fn submit(&self, writes: Vec<Pending>) {
        let mut pending = self.pending.lock();
        let sender = pending.get_or_insert_with(|| {
            let (sender, receiver) = unbounded();
            let started = std::thread::Builder::new().name("trough-sync".into()).spawn(move || run(&receiver));
            if let Err(e) = started {
                tracing::error!(error = %e, "cannot start a thread");
            }
            sender
        });
        // Without the thread the replies are dropped, which their clients see as a failure.
        let _ = sender.send(writes);
    }
}

fn run(pending: &Receiver<Vec<Pending>>) {
    let mut file_systems = FileSystems::default();
    while let Ok(mut writes) = pending.recv() {
        writes.extend(pending.try_iter().flatten());
        let mut outcome: HashMap<PathBuf, Result<(), SegmentError>> = HashMap::new();
        let mut synced: HashMap<u64, Result<(), SegmentError>> = HashMap::new();
        for write in &writes {
            let directory = directory_of(&write.path);
            if !outcome.contains_key(directory) {
                let result = file_systems.sync(directory, &mut synced);
                outcome.insert(directory.to_owned(), result);
            }
        }
        for write in writes {
            let directory = directory_of(&write.path);
            let result = match &outcome[directory] {
                Ok(()) => write.result,
                Err(error) => WriteResult::Err { error: error.clone() },
            };
            // A client that is gone needs no answer.
            let _ = write.reply.send(result);
        }
    }
}

/// Open directories, by path, and the device each lies on.
#[derive(Default)]
struct FileSystems {
    open: HashMap<PathBuf, (u64, File)>,
}

impl FileSystems {
    /// Makes everything on the directory's file system durable, once per round.
    fn sync(
        &mut self,
        directory: &Path,
        synced: &mut HashMap<u64, Result<(), SegmentError>>,
    ) -> Result<(), SegmentError> {
        let failed = |e: &io::Error| errors::io("make the writes durable", e);
        if !self.open.contains_key(directory) {
            let open = || {
                let file = File::open(directory)?;
                Ok((file.metadata()?.dev(), file))
            };
            self.open.insert(directory.to_owned(), open().map_err(|e: io::Error| failed(&e))?);
        }
        let (device, file) = &self.open[directory];
        synced.entry(*device).or_insert_with(|| sync_all(file).map_err(|e| failed(&e))).clone()
    }
}

/// Makes everything on the file system of `file` durable.
pub(crate) fn sync_all(file: &File) -> io::Result<()> {
    rustix::fs::syncfs(file).map_err(io::Error::from)
}
