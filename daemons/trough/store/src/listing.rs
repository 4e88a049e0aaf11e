//! Listing a directory tree, reading again only what changed; generic over how a directory is read ([`Tree`]). Kept
//! per directory, in memory only: its mtime, its subdirectories and, in compact columns, its segments. A directory's
//! mtime moves when a file is created, renamed or removed in it; an mtime younger than the clock's tick proves nothing,
//! so it is believed only once it has stood still for a while.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use futures::{
    Stream, StreamExt,
    stream::{self, FuturesUnordered},
};
use tokio::task::JoinHandle;

use crate::{
    Collected, EntryStream, Folder, FolderStream, ListStats, StoreError, crashsafe,
    folder::{self, Contents},
    paths::segment_of,
};

/// An mtime this old by the wall clock is believed at first sight: no clock is that wrong.
const LONG_AGO: Duration = Duration::from_secs(600);
/// How often a directory that changes while it is read is read again at once.
pub(crate) const ATTEMPTS: usize = 4;
/// Entries of a directory that are read in the time that one look at a directory's mtime takes.
const ENTRIES_PER_LOOK: usize = 100;

/// How a store lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListOptions {
    /// How long a directory's mtime must have stood still, as we saw it, before an unchanged mtime is believed.
    pub settle: Duration,
    /// How often everything is read again.
    pub sweep: Duration,
    /// Directories read at a time.
    pub parallelism: usize,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self { settle: Duration::from_secs(5), sweep: Duration::from_secs(24 * 3600), parallelism: 8 }
    }
}

/// A directory's mtime, nanoseconds since 1970. Only ever compared for equality with an earlier one of the same
/// directory, and with the clock to tell young ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) i128);

impl Stamp {
    /// From milliseconds.
    pub(crate) fn from_ms(ms: i64) -> Self {
        Self(i128::from(ms) * 1_000_000)
    }

    fn age(self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let age = i128::try_from(now).unwrap_or(i128::MAX).saturating_sub(self.0);
        Duration::from_nanos(u64::try_from(age.max(0)).unwrap_or(u64::MAX))
    }
}

/// What a directory holds, in columns.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    /// Names, and mtimes where reading the directory told them.
    subdirectories: Vec<(String, Option<Stamp>)>,
    /// All segment ids, one behind the other.
    ids: String,
    /// Per segment: where its id ends in `ids`, its length, its mtime in milliseconds.
    segments: Vec<(u32, u64, i64)>,
    skipped: u64,
    temporaries: u64,
}

impl Columns {
    /// Whether a name may be a segment's or a subdirectory's; if not, it is counted, and that is all.
    pub(crate) fn wants(&mut self, name: &str) -> bool {
        let temporary = crashsafe::is_temporary(name);
        self.temporaries += u64::from(temporary);
        !temporary && !name.starts_with('.')
    }

    /// Adds a subdirectory.
    pub(crate) fn directory(&mut self, name: &str, stamp: Option<Stamp>) {
        self.subdirectories.push((name.to_owned(), stamp));
    }

    /// Adds a file; others than segments are passed over.
    ///
    /// # Errors
    /// If the names together are too long to count.
    pub(crate) fn file(&mut self, name: &str, bytes: u64, mtime_ms: i64) -> io::Result<()> {
        if !name.ends_with(".sqlite") {
            return Ok(());
        }
        let Some(segment) = segment_of(name) else {
            tracing::debug!(name, "not a segment id");
            self.skipped += 1;
            return Ok(());
        };
        self.ids.push_str(segment.as_str());
        let end =
            u32::try_from(self.ids.len()).map_err(|_| io::Error::other("more than 4 GiB of names in a directory"))?;
        self.segments.push((end, bytes, mtime_ms));
        Ok(())
    }

    /// Counts something that was left out and that a person may miss.
    pub(crate) fn skip(&mut self) {
        self.skipped += 1;
    }
}

/// A directory that was read.
#[derive(Debug)]
pub(crate) struct Reading {
    /// What it holds.
    pub(crate) columns: Columns,
    /// Its mtime after the reading.
    pub(crate) stamp: Stamp,
    /// Whether its mtime stood still meanwhile.
    pub(crate) steady: bool,
}

/// A directory tree that can be listed. Directories are named relative to the root, by names with slashes between them;
/// the root is the empty text.
#[async_trait]
pub(crate) trait Tree: Send + Sync + std::fmt::Debug + 'static {
    /// The store's URL, for the log.
    fn url(&self) -> &str;

    /// The full path of what is named relative to the root.
    fn full(&self, relative: &str) -> String;

    /// A directory's mtime; none if it is gone. A root that is gone is an error.
    async fn stamp(&self, relative: &str) -> Result<Option<Stamp>, StoreError>;

    /// Reads a directory whose mtime was `stamp` just before; none if it is gone. A root that is gone is an error.
    async fn read(&self, relative: &str, stamp: Stamp) -> Result<Option<Reading>, StoreError>;

    /// Removes a directory's temporary files that nobody has touched for `older_than`.
    async fn sweep(&self, relative: &str, older_than: Duration) -> Result<Collected, StoreError>;
}

/// One directory as it was when it was last read.
#[derive(Debug)]
struct Directory {
    stamp: Stamp,
    /// When `stamp` was first seen.
    first_seen: Instant,
    /// Whether nothing can have changed since the reading without moving `stamp`.
    settled: bool,
    subdirectories: Box<[(Box<str>, Option<Stamp>)]>,
    contents: Arc<Contents>,
    skipped: u64,
    temporaries: u64,
}

impl Directory {
    /// Whether reading it anew is the cheap way to learn its subdirectories' mtimes, where reading tells them.
    fn tells_of_subdirectories(&self) -> bool {
        let entries = self.contents.len() + self.subdirectories.len();
        self.subdirectories.first().is_some_and(|(_, stamp)| stamp.is_some())
            && self.subdirectories.len() * ENTRIES_PER_LOOK >= entries
    }
}

/// What is remembered between listings.
#[derive(Debug, Default)]
struct State {
    directories: HashMap<String, Arc<Directory>>,
    last_sweep: Option<Instant>,
    stats: ListStats,
}

/// A tree, and what its listings remember.
#[derive(Debug)]
pub(crate) struct Listing<T> {
    tree: Arc<T>,
    options: ListOptions,
    state: Mutex<State>,
}

type Found = (String, Arc<Directory>);

impl<T: Tree> Listing<T> {
    pub(crate) fn new(tree: Arc<T>, options: ListOptions) -> Arc<Self> {
        Arc::new(Self { tree, options, state: Mutex::default() })
    }

    /// What the last complete listing did.
    pub(crate) fn stats(&self) -> ListStats {
        self.state().stats
    }

    /// The state holds whole values only, so a holder that panicked left nothing broken.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists the tree by directories; those without segments are left out.
    pub(crate) fn folders(self: &Arc<Self>, all: bool) -> FolderStream {
        let tree = Arc::clone(&self.tree);
        self.walk(all)
            .filter_map(move |looked| {
                let folder = match looked {
                    Ok((_, directory)) if directory.contents.len() == 0 => None,
                    Ok((relative, directory)) => {
                        Some(Ok(Folder::directory(&tree.full(&relative), Arc::clone(&directory.contents))))
                    }
                    Err(e) => Some(Err(e)),
                };
                std::future::ready(folder)
            })
            .boxed()
    }

    /// Lists the tree.
    pub(crate) fn list(self: &Arc<Self>, all: bool) -> EntryStream {
        folder::entries(self.folders(all))
    }

    /// Every directory of the tree, read anew where it may have changed. Ends after the first error.
    fn walk(self: &Arc<Self>, all: bool) -> impl Stream<Item = Result<Found, StoreError>> + Send + use<T> {
        let begun = Instant::now();
        let due = self.state().last_sweep.is_none_or(|at| begun.duration_since(at) >= self.options.sweep);
        let walk = Walk {
            listing: Arc::clone(self),
            all: all || due,
            begun,
            waiting: VecDeque::from([(String::new(), None)]),
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

    /// Looks at one directory and reads it if it may have changed. `told` is its mtime, if its parent's reading told it.
    async fn look(&self, relative: String, told: Option<Stamp>, all: bool) -> Result<Looked, StoreError> {
        let now = Instant::now();
        let stamp = match told {
            Some(stamp) => Some(stamp),
            None => self.tree.stamp(&relative).await?,
        };
        let Some(stamp) = stamp else { return Ok(Looked { relative, directory: None, relisted: false }) };
        let before = self.state().directories.get(&relative).cloned();
        let cached = before.clone().filter(|directory| directory.stamp == stamp);
        if !all && let Some(directory) = cached.as_ref().filter(|d| d.settled && !d.tells_of_subdirectories()) {
            return Ok(Looked { relative, directory: Some(Arc::clone(directory)), relisted: false });
        }
        let first_seen = cached.as_ref().map_or(now, |directory| directory.first_seen);
        let Some(Reading { columns, stamp, steady }) = self.tree.read(&relative, stamp).await? else {
            return Ok(Looked { relative, directory: None, relisted: false });
        };
        let settled = steady && (stamp.age() >= LONG_AGO || now.duration_since(first_seen) >= self.options.settle);
        let contents = Contents::new(columns.ids, columns.segments);
        // What was read again and found as it was keeps its number.
        let contents = match before {
            Some(before) if before.contents.equals(&contents) => Arc::clone(&before.contents),
            _ => Arc::new(contents),
        };
        let directory = Directory {
            stamp,
            first_seen: if steady { first_seen } else { now },
            settled,
            subdirectories: columns.subdirectories.into_iter().map(|(name, at)| (name.into(), at)).collect(),
            contents,
            skipped: columns.skipped,
            temporaries: columns.temporaries,
        };
        // Read for its subdirectories' mtimes only: nothing in it had changed.
        let relisted = all || !cached.is_some_and(|d| d.settled && d.stamp == stamp);
        Ok(Looked { relative, directory: Some(Arc::new(directory)), relisted })
    }

    /// Removes temporaries that nobody has touched for `older_than`.
    pub(crate) async fn collect_garbage(self: &Arc<Self>, older_than: Duration) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        let mut found = std::pin::pin!(self.walk(false));
        while let Some(next) = found.next().await {
            let (relative, directory) = next?;
            if directory.temporaries == 0 {
                continue;
            }
            let one = self.tree.sweep(&relative, older_than).await?;
            collected.removed += one.removed;
            collected.bytes += one.bytes;
            collected.kept += one.kept;
        }
        if collected.removed > 0 {
            tracing::info!(store = self.tree.url(), removed = collected.removed, "removed abandoned uploads");
        }
        Ok(collected)
    }
}

/// What looking at one directory gave.
struct Looked {
    relative: String,
    /// None: it is gone.
    directory: Option<Arc<Directory>>,
    relisted: bool,
}

/// A listing under way.
struct Walk<T> {
    listing: Arc<Listing<T>>,
    all: bool,
    begun: Instant,
    waiting: VecDeque<(String, Option<Stamp>)>,
    running: FuturesUnordered<JoinHandle<Result<Looked, StoreError>>>,
    seen: HashMap<String, Arc<Directory>>,
    stats: ListStats,
}

impl<T: Tree> Walk<T> {
    async fn next(&mut self) -> Result<Option<Found>, StoreError> {
        loop {
            while self.running.len() < self.listing.options.parallelism.max(1)
                && let Some((relative, stamp)) = self.waiting.pop_front()
            {
                let (listing, all) = (Arc::clone(&self.listing), self.all);
                self.running.push(tokio::spawn(async move { listing.look(relative, stamp, all).await }));
            }
            let looked = match self.running.next().await {
                None => return Ok(None),
                Some(Ok(looked)) => looked?,
                Some(Err(e)) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
                Some(Err(_)) => return Err(StoreError::shutting_down("list", self.listing.tree.full(""))),
            };
            let Some(directory) = looked.directory else { continue };
            self.stats.directories += 1;
            self.stats.relisted += u64::from(looked.relisted);
            self.stats.entries += directory.contents.len() as u64;
            self.stats.skipped += directory.skipped;
            self.stats.temporaries += directory.temporaries;
            self.waiting.extend(directory.subdirectories.iter().map(|(name, stamp)| {
                let name =
                    if looked.relative.is_empty() { name.to_string() } else { format!("{}/{name}", looked.relative) };
                // One told by an earlier reading may have moved since.
                (name, stamp.filter(|_| looked.relisted || directory.tells_of_subdirectories()))
            }));
            self.seen.insert(looked.relative.clone(), Arc::clone(&directory));
            return Ok(Some((looked.relative, directory)));
        }
    }

    /// The listing is complete: remember it.
    fn finish(self) {
        if self.stats.skipped > 0 {
            tracing::warn!(
                store = self.listing.tree.url(),
                skipped = self.stats.skipped,
                "the canonical store holds files whose names are no segment ids, or links to directories"
            );
        }
        let mut state = self.listing.state();
        if self.all {
            state.last_sweep = Some(self.begun);
        }
        state.directories = self.seen;
        state.stats = self.stats;
    }
}
