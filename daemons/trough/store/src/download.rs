//! Fetching a file of any store through ranged reads: parts at the same time, written in order by a thread of their own,
//! which also hashes them and has them written out while others come.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::{
    Entry, Fetched, GetOptions, Progress, RangeReader, StoreError, crashsafe,
    partial::{self, Origin},
    transfer::{Remove, blocking, hex},
};

/// Files up to this length are not resumed.
const RESUMED: u64 = 8 << 20;
/// So many bytes are written out together while others come, so that little is left to wait for at the end.
const WRITE_OUT: u64 = 32 << 20;
/// Parts that wait to be written.
const WAITING: usize = 2;

/// How a file is fetched in parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    /// Bytes of one.
    pub(crate) bytes: u64,
    /// Parts fetched at a time.
    pub(crate) at_once: usize,
}

/// Copies all that `reader` reads to the file `dest`, durably and with the same mtime; `version` is what the store tells
/// versions apart by beside length and mtime. On an error, and if the call is dropped, `dest` is removed, or left for
/// the next call if it can go on from there.
pub(crate) async fn download(
    reader: &Arc<dyn RangeReader>,
    version: Option<&str>,
    dest: &Path,
    parts: Parts,
    options: &GetOptions,
) -> Result<Fetched, StoreError> {
    let entry = reader.entry();
    let expected = options.expected.as_ref().filter(|expected| expected.is(entry));
    let sha256 = expected.and_then(|expected| expected.sha256.as_deref());
    if let Some(progress) = &options.progress {
        progress(0);
    }
    if entry.bytes <= parts.bytes.min(RESUMED) {
        return whole(reader, dest, options).await;
    }
    if !options.resume {
        return in_parts(reader, dest, parts, options, None).await;
    }
    let origin = Origin::new(entry, version, sha256);
    let fetched = in_parts(reader, dest, parts, options, Some(origin.clone())).await?;
    match (&fetched.sha256, sha256) {
        // What an interrupted fetch left was not what it should have been.
        (Some(has), Some(wanted)) if fetched.resumed > 0 && !has.eq_ignore_ascii_case(wanted) => {
            tracing::warn!(
                path = entry.path,
                resumed = fetched.resumed,
                "a resumed copy has another hash, it is fetched anew"
            );
            let left = dest.to_owned();
            blocking("get to", dest, move || partial::discard(&left)).await?;
            in_parts(reader, dest, parts, options, Some(origin)).await
        }
        _ => Ok(fetched),
    }
}

/// Bytes `begin..begin + len`, all of them, once they may travel, in the pieces in which they came.
async fn part(
    reader: &Arc<dyn RangeReader>,
    options: &GetOptions,
    begin: u64,
    len: u64,
) -> Result<Vec<Bytes>, StoreError> {
    if let Some(throttle) = &options.throttle {
        throttle.acquire(len).await;
    }
    let pieces = reader.read(begin, usize::try_from(len).unwrap_or(usize::MAX)).await?;
    let came: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    if came != len {
        let why = format!("{came} bytes came of {len} at {begin}");
        return Err(StoreError::Conflict { operation: "get", path: reader.entry().path.clone(), why });
    }
    Ok(pieces)
}

/// A small file, in one read and one piece of blocking work.
async fn whole(reader: &Arc<dyn RangeReader>, dest: &Path, options: &GetOptions) -> Result<Fetched, StoreError> {
    let Entry { bytes, mtime_ms, .. } = *reader.entry();
    let contents = part(reader, options, 0, bytes).await?;
    let guard = Remove(Some(dest.to_owned()));
    let (path, hash, replace) = (dest.to_owned(), options.hash, options.resume);
    let written = tokio::task::spawn_blocking(move || {
        let mut guard = guard;
        // What is there already is not ours to remove.
        let mut to = partial::create(&path, replace).inspect_err(|_| guard.keep())?;
        let mut write = || {
            contents.iter().try_for_each(|piece| to.write_all(piece))?;
            crashsafe::set_mtime_ms(&to, mtime_ms)?;
            to.sync_all()
        };
        write().map_err(|e| StoreError::from_io("get to", path.to_string_lossy(), e))?;
        let sha256 = hash.then(|| {
            let hash = contents.iter().fold(Sha256::new(), |hash, piece| hash.chain_update(piece));
            hex(&hash.finalize())
        });
        Ok((sha256, guard))
    });
    let (sha256, mut guard) = joined(written.await, dest)?;
    if let Some(progress) = &options.progress {
        progress(bytes);
    }
    guard.keep();
    Ok(Fetched { bytes, resumed: 0, mtime_ms, sha256 })
}

fn joined<T>(result: Result<Result<T, StoreError>, tokio::task::JoinError>, dest: &Path) -> Result<T, StoreError> {
    match result {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => Err(StoreError::shutting_down("get to", dest.to_string_lossy().into_owned())),
    }
}

async fn in_parts(
    reader: &Arc<dyn RangeReader>,
    dest: &Path,
    parts: Parts,
    options: &GetOptions,
    origin: Option<Origin>,
) -> Result<Fetched, StoreError> {
    let Entry { bytes, mtime_ms, .. } = *reader.entry();
    let (path, hash, progress) = (dest.to_owned(), options.hash, options.progress.clone());
    let resumes = origin.is_some();
    let opened = tokio::task::spawn_blocking(move || Writing::open(path, origin.as_ref(), hash, progress));
    let writing = joined(opened.await, dest)?;
    let resumed = writing.done;
    let (parts_to, parts_of) = mpsc::channel(WAITING);
    let writer = tokio::task::spawn_blocking(move || writing.run(parts_of, mtime_ms));
    let fetches = (resumed..bytes).step_by(parts.bytes as usize);
    let fetches = fetches.map(|begin| part(reader, options, begin, parts.bytes.min(bytes - begin)));
    let mut fetches = stream::iter(fetches).buffered(parts.at_once);
    let outcome = async {
        while let Some(part) = fetches.try_next().await? {
            // A writer that is gone has failed, and says why.
            if parts_to.send(Some(part)).await.is_err() {
                break;
            }
        }
        Ok::<_, StoreError>(())
    }
    .await;
    if outcome.is_ok() {
        drop(parts_to.send(None).await);
    }
    drop(parts_to);
    // What was handed over is written whatever the outcome.
    let written = joined(writer.await, dest);
    outcome?;
    // Only a call that is still waited for makes the file whole: to one that was dropped just now the next goes on.
    let (sha256, mut guard) = written?;
    if resumes {
        let dest = dest.to_owned();
        blocking("get to", &dest.clone(), move || partial::complete(&dest)).await?;
    }
    guard.keep();
    Ok(Fetched { bytes, resumed, mtime_ms, sha256 })
}

/// The writer's side of a fetch.
struct Writing {
    path: PathBuf,
    file: File,
    done: u64,
    hash: Option<Sha256>,
    progress: Option<Progress>,
    /// Writes out what was written up to some time ago.
    writing_out: Option<thread::JoinHandle<io::Result<()>>>,
    written_out: u64,
    /// Removes the file, unless it is whole or to be gone on from.
    guard: Remove,
}

impl Writing {
    fn open(
        path: PathBuf,
        origin: Option<&Origin>,
        hash: bool,
        progress: Option<Progress>,
    ) -> Result<Self, StoreError> {
        let (mut file, done) = match origin {
            Some(origin) => partial::open(&path, origin)?,
            None => (partial::create(&path, false)?, 0),
        };
        let mut hash = hash.then(Sha256::new);
        if let Some(hash) = &mut hash
            && done > 0
        {
            let read = file.seek(SeekFrom::Start(0)).and_then(|_| io::copy(&mut (&file).take(done), hash));
            read.map_err(|e| StoreError::from_io("get to", path.to_string_lossy(), e))?;
        }
        let guard = Remove(origin.is_none().then(|| path.clone()));
        Ok(Self { path, file, done, hash, progress, writing_out: None, written_out: done, guard })
    }

    /// Writes what comes; after the last of it, which is none, makes it durable. Gives the hash, if it was asked for, and
    /// what removes the file unless it is kept.
    fn run(
        mut self,
        mut parts: mpsc::Receiver<Option<Vec<Bytes>>>,
        mtime_ms: i64,
    ) -> Result<(Option<String>, Remove), StoreError> {
        let path = std::mem::take(&mut self.path);
        let failed = |e| StoreError::from_io("get to", path.to_string_lossy(), e);
        loop {
            match parts.blocking_recv() {
                Some(Some(part)) => self.write(&part).map_err(failed)?,
                Some(None) => break,
                None => return Err(failed(io::Error::other("it was not fetched to its end"))),
            }
        }
        self.finish(mtime_ms).map_err(failed)?;
        Ok((self.hash.map(|hash| hex(&hash.finalize())), self.guard))
    }

    fn write(&mut self, part: &[Bytes]) -> io::Result<()> {
        for piece in part {
            self.file.write_all(piece)?;
            self.done += piece.len() as u64;
            if let Some(hash) = &mut self.hash {
                hash.update(piece);
            }
        }
        if self.writing_out.as_ref().is_some_and(thread::JoinHandle::is_finished) {
            self.wait()?;
        }
        if self.writing_out.is_none() && self.done - self.written_out >= WRITE_OUT {
            let file = self.file.try_clone()?;
            self.written_out = self.done;
            self.writing_out = Some(thread::Builder::new().name("write out".into()).spawn(move || file.sync_data())?);
        }
        if let Some(progress) = &self.progress {
            progress(self.done);
        }
        Ok(())
    }

    /// An error of writing out is told once only, so it must not be lost.
    fn wait(&mut self) -> io::Result<()> {
        match self.writing_out.take().map(thread::JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }

    fn finish(&mut self, mtime_ms: i64) -> io::Result<()> {
        self.wait()?;
        crashsafe::set_mtime_ms(&self.file, mtime_ms)?;
        self.file.sync_all()
    }
}
