//! Listing a directory tree, reading again only what changed. Kept per directory: its mtime, its subdirectories and,
//! in compact columns, its segments. A directory's mtime moves when a file is created, renamed or removed in it; an
//! mtime younger than the clock's tick proves nothing, so it is believed only once it has stood still for a while.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::{
    StreamExt,
    stream::{self, FuturesUnordered},
};
use tokio::task::JoinHandle;
use trough_core::SegmentId;

use super::{Inner, LocalStore, segment_of};
use crate::{Collected, Entry, EntryStream, ListStats, Store, StoreError, crashsafe};

/// An mtime this old by the wall clock is believed at first sight: no clock is that wrong.
const LONG_AGO: Duration = Duration::from_secs(600);
/// How often a directory that changes while it is read is read again at once.
const ATTEMPTS: usize = 4;

/// What is remembered between listings.
#[derive(Debug, Default)]
pub(super) struct State {
    directories: HashMap<PathBuf, Arc<Directory>>,
    last_sweep: Option<Instant>,
    pub(super) stats: ListStats,
}

/// One directory as it was when it was last read. Paths are relative to the root.
#[derive(Debug)]
struct Directory {
    mtime: SystemTime,
    /// When `mtime` was first seen.
    first_seen: Instant,
    /// Whether nothing can have changed since the reading without moving `mtime`.
    settled: bool,
    subdirectories: Box<[String]>,
    /// All segment ids, one behind the other.
    ids: Box<str>,
    /// Per segment: where its id ends in `ids`, its length, its mtime in milliseconds.
    segments: Box<[(u32, u64, i64)]>,
    skipped: u64,
    temporaries: u64,
}

impl Directory {
    fn entries<'a>(&'a self, prefix: &'a Path) -> impl Iterator<Item = Entry> + 'a {
        let mut begin = 0;
        self.segments.iter().map(move |&(end, bytes, mtime_ms)| {
            let id = &self.ids[begin..end as usize];
            begin = end as usize;
            let segment = SegmentId::new(id).expect("checked when the directory was read");
            let path = prefix.join(segment.file_name()).to_string_lossy().into_owned();
            Entry { segment, path, bytes, mtime_ms }
        })
    }
}

/// What looking at one directory gave.
struct Looked {
    relative: PathBuf,
    /// None: it is gone.
    directory: Option<Arc<Directory>>,
    relisted: bool,
}

/// A listing under way.
struct Walk {
    inner: Arc<Inner>,
    all: bool,
    begun: Instant,
    waiting: VecDeque<PathBuf>,
    running: FuturesUnordered<JoinHandle<Result<Looked, StoreError>>>,
    seen: HashMap<PathBuf, Arc<Directory>>,
    stats: ListStats,
}

/// Lists the tree.
pub(super) fn list(inner: Arc<Inner>, all: bool) -> EntryStream {
    let root = inner.root.clone();
    walk(inner, all)
        .flat_map(move |looked| {
            let entries: Vec<Result<Entry, StoreError>> = match looked {
                Ok((relative, directory)) => directory.entries(&root.join(relative)).map(Ok).collect(),
                Err(e) => vec![Err(e)],
            };
            stream::iter(entries)
        })
        .boxed()
}

type Found = (PathBuf, Arc<Directory>);

/// Every directory of the tree, read anew where it may have changed. Ends after the first error.
fn walk(inner: Arc<Inner>, all: bool) -> impl futures::Stream<Item = Result<Found, StoreError>> + Send {
    let begun = Instant::now();
    let due = inner.cache.lock().last_sweep.is_none_or(|at| begun.duration_since(at) >= inner.options.sweep);
    let walk = Walk {
        inner,
        all: all || due,
        begun,
        waiting: VecDeque::from([PathBuf::new()]),
        running: FuturesUnordered::new(),
        seen: HashMap::new(),
        stats: ListStats::default(),
    };
    stream::unfold(Some(walk), |walk| async move {
        let mut walk = walk?;
        match walk.next().await {
            Ok(Some(found)) => Some((Ok(found), Some(walk))),
            Ok(None) => {
                walk.finish();
                None
            }
            Err(e) => Some((Err(e), None)),
        }
    })
}

impl Walk {
    async fn next(&mut self) -> Result<Option<Found>, StoreError> {
        loop {
            while self.running.len() < self.inner.options.parallelism.max(1)
                && let Some(relative) = self.waiting.pop_front()
            {
                let (inner, all) = (Arc::clone(&self.inner), self.all);
                self.running.push(tokio::task::spawn_blocking(move || look(&inner, relative, all)));
            }
            let looked = match self.running.next().await {
                None => return Ok(None),
                Some(Ok(looked)) => looked?,
                Some(Err(e)) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
                Some(Err(_)) => {
                    return Err(StoreError::Unavailable {
                        operation: "list",
                        path: self.inner.root_text.clone(),
                        why: "this process is shutting down".into(),
                    });
                }
            };
            let Some(directory) = looked.directory else { continue };
            self.stats.directories += 1;
            self.stats.relisted += u64::from(looked.relisted);
            self.stats.entries += directory.segments.len() as u64;
            self.stats.skipped += directory.skipped;
            self.stats.temporaries += directory.temporaries;
            self.waiting.extend(directory.subdirectories.iter().map(|name| looked.relative.join(name)));
            self.seen.insert(looked.relative.clone(), Arc::clone(&directory));
            return Ok(Some((looked.relative, directory)));
        }
    }

    /// The listing is complete: remember it.
    fn finish(self) {
        if self.stats.skipped > 0 {
            tracing::warn!(
                store = self.inner.url,
                skipped = self.stats.skipped,
                "the canonical store holds files whose names are no segment ids, or links to directories"
            );
        }
        let mut state = self.inner.cache.lock();
        if self.all {
            state.last_sweep = Some(self.begun);
        }
        state.directories = self.seen;
        state.stats = self.stats;
    }
}

/// Looks at one directory and reads it if it may have changed.
fn look(inner: &Inner, relative: PathBuf, all: bool) -> Result<Looked, StoreError> {
    let path = inner.root.join(&relative);
    let is_root = relative.as_os_str().is_empty();
    if is_root {
        inner.check("list")?;
    }
    let now = Instant::now();
    let gone = |e: io::Error| match inner.error("list", &path, e) {
        StoreError::NotFound { .. } if !is_root => {
            Ok(Looked { relative: relative.clone(), directory: None, relisted: false })
        }
        other => Err(other),
    };
    let mtime = match fs::metadata(&path).and_then(|m| m.modified()) {
        Ok(mtime) => mtime,
        Err(e) => return gone(e),
    };
    let cached = inner.cache.lock().directories.get(&relative).cloned();
    let cached = cached.filter(|directory| directory.mtime == mtime);
    if !all && let Some(directory) = cached.as_ref().filter(|directory| directory.settled) {
        return Ok(Looked { relative, directory: Some(Arc::clone(directory)), relisted: false });
    }
    let first_seen = cached.map_or(now, |directory| directory.first_seen);
    let (read, mtime, steady) = match read_directory(inner, &path, mtime) {
        Ok(read) => read,
        Err(e) => return gone(e),
    };
    let age = SystemTime::now().duration_since(mtime).unwrap_or_default();
    let settled = steady && (age >= LONG_AGO || now.duration_since(first_seen) >= inner.options.settle);
    let first_seen = if steady { first_seen } else { now };
    let directory = Arc::new(Directory { mtime, first_seen, settled, ..read });
    Ok(Looked { relative, directory: Some(directory), relisted: true })
}

/// Reads a directory. One that changes meanwhile is read again and the names are put together, since a reader may
/// miss a name that is renamed over just then. Also returns its mtime and whether it stood still.
fn read_directory(inner: &Inner, path: &Path, mut mtime: SystemTime) -> io::Result<(Directory, SystemTime, bool)> {
    let mut names = BTreeSet::new();
    let mut steady = false;
    for _ in 0..ATTEMPTS {
        for dirent in fs::read_dir(path)? {
            names.insert(dirent?.file_name());
        }
        let after = fs::metadata(path)?.modified()?;
        steady = after == mtime;
        if steady {
            break;
        }
        mtime = after;
    }
    let (mut ids, mut segments, mut subdirectories) = (String::new(), Vec::new(), Vec::new());
    let (mut skipped, mut temporaries) = (0, 0);
    for name in &names {
        let Some(text) = name.to_str() else {
            skipped += u64::from(Path::new(name).extension().is_some_and(|e| e == "sqlite"));
            continue;
        };
        if crashsafe::is_temporary(text) {
            temporaries += 1;
            continue;
        }
        if text.starts_with('.') {
            continue;
        }
        let file = path.join(name);
        let metadata = match fs::symlink_metadata(&file) {
            Ok(metadata) if metadata.is_symlink() => match fs::metadata(&file) {
                Ok(target) if target.is_dir() => {
                    skipped += 1;
                    continue;
                }
                other => other,
            },
            other => other,
        };
        let metadata = match metadata {
            Ok(metadata) => metadata,
            // Removed since its name was read, or a link to nowhere.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        if metadata.is_dir() {
            subdirectories.push(text.to_owned());
        } else if metadata.is_file() && text.ends_with(".sqlite") {
            let Some(segment) = segment_of(text) else {
                tracing::debug!(store = inner.url, file = %file.display(), "not a segment id");
                skipped += 1;
                continue;
            };
            ids.push_str(segment.as_str());
            let end =
                u32::try_from(ids.len()).map_err(|_| io::Error::other("more than 4 GiB of names in a directory"))?;
            segments.push((end, metadata.len(), crashsafe::mtime_ms(&metadata)));
        }
    }
    let directory = Directory {
        mtime,
        first_seen: Instant::now(),
        settled: false,
        subdirectories: subdirectories.into(),
        ids: ids.into(),
        segments: segments.into(),
        skipped,
        temporaries,
    };
    Ok((directory, mtime, steady))
}

/// Removes temporaries that were last touched `older_than` ago, judged by ctime: a publication sets their mtime.
pub(super) async fn collect_garbage(store: &LocalStore, older_than: Duration) -> Result<Collected, StoreError> {
    let mut collected = Collected::default();
    let mut found = std::pin::pin!(walk(Arc::clone(&store.0), false));
    while let Some(next) = found.next().await {
        let (relative, directory) = next?;
        if directory.temporaries == 0 {
            continue;
        }
        let one = store
            .blocking(move |inner| {
                let path = inner.root.join(relative);
                sweep_directory(&path, older_than).map_err(|e| inner.error("collect garbage in", &path, e))
            })
            .await?;
        collected.removed += one.removed;
        collected.bytes += one.bytes;
        collected.kept += one.kept;
    }
    if collected.removed > 0 {
        tracing::info!(store = store.url(), removed = collected.removed, "removed abandoned uploads");
    }
    Ok(collected)
}

fn sweep_directory(path: &Path, older_than: Duration) -> io::Result<Collected> {
    use std::os::unix::fs::MetadataExt;
    let mut collected = Collected::default();
    for dirent in fs::read_dir(path)? {
        let dirent = dirent?;
        if !dirent.file_name().to_str().is_some_and(crashsafe::is_temporary) {
            continue;
        }
        let metadata = match dirent.metadata() {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => continue,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let touched_ms = metadata.ctime().saturating_mul(1000) + metadata.ctime_nsec() / 1_000_000;
        let age_ms = u128::try_from(crashsafe::now_ms().saturating_sub(touched_ms)).unwrap_or(0);
        if age_ms < older_than.as_millis() {
            collected.kept += 1;
            continue;
        }
        match fs::remove_file(dirent.path()) {
            Ok(()) => {
                collected.removed += 1;
                collected.bytes += metadata.len();
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(collected)
}
