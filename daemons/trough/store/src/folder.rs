//! What a listing hands over: the segments of one directory at a time, with a number by which a caller knows that it
//! has seen these very contents before. So a caller's cost of a listing that found nothing new grows with directories,
//! not with segments.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use trough_core::SegmentId;

use crate::{Entry, EntryStream, StoreError};

/// A listing in progress, by directories. An `Err` ends it: what came before is then no complete listing, and nothing
/// may be concluded from what is missing in it. Dropping it stops it.
pub type FolderStream = BoxStream<'static, Result<Folder, StoreError>>;

/// The segments of a directory as they were when it was last read, in columns.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Never given twice in a process.
    id: u64,
    /// All segment ids, one behind the other.
    ids: Box<str>,
    /// Per segment: where its id ends in `ids`, its length, its mtime in milliseconds.
    segments: Box<[(u32, u64, i64)]>,
}

impl Contents {
    /// Takes the columns over; every id in them must be a valid one.
    pub(crate) fn new(ids: String, segments: Vec<(u32, u64, i64)>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, ids: ids.into(), segments: segments.into() }
    }

    /// How many segments.
    pub(crate) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether both hold the same segments, of the same lengths and times.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        self.ids == other.ids && self.segments == other.segments
    }
}

#[derive(Debug)]
enum Held {
    /// What was read, and the directory's full path without a slash at its end.
    Directory(String, Arc<Contents>),
    /// Of a store that has no directories.
    Loose(Entry),
}

/// Segments that a listing found.
#[derive(Debug)]
pub struct Folder(Held);

impl Folder {
    pub(crate) fn directory(path: &str, contents: Arc<Contents>) -> Self {
        Self(Held::Directory(path.trim_end_matches('/').to_owned(), contents))
    }

    pub(crate) fn loose(entry: Entry) -> Self {
        Self(Held::Loose(entry))
    }

    /// A number that stands for this directory holding exactly these entries: a later listing that gives it again found
    /// the same. None where the store cannot tell.
    pub fn id(&self) -> Option<u64> {
        match &self.0 {
            Held::Directory(_, contents) => Some(contents.id),
            Held::Loose(_) => None,
        }
    }

    /// How many segments it holds.
    pub fn len(&self) -> usize {
        match &self.0 {
            Held::Directory(_, contents) => contents.len(),
            Held::Loose(_) => 1,
        }
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its segments, one after the other.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let (mut begin, mut at) = (0, 0);
        std::iter::from_fn(move || {
            let n = at;
            at += 1;
            match &self.0 {
                Held::Loose(entry) => (n == 0).then(|| entry.clone()),
                Held::Directory(path, contents) => {
                    let &(end, bytes, mtime_ms) = contents.segments.get(n)?;
                    let id = &contents.ids[begin..end as usize];
                    begin = end as usize;
                    let segment = SegmentId::new(id).expect("checked when the directory was read");
                    let path = format!("{path}/{}", segment.file_name());
                    Some(Entry { segment, path, bytes, mtime_ms })
                }
            }
        })
    }
}

/// The entries of all folders, one by one.
pub(crate) fn entries(folders: FolderStream) -> EntryStream {
    let flat = folders.flat_map(|folder| {
        let entries: Vec<Result<Entry, StoreError>> = match folder {
            Ok(folder) => folder.entries().map(Ok).collect(),
            Err(e) => vec![Err(e)],
        };
        stream::iter(entries)
    });
    flat.boxed()
}
