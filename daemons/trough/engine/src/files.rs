//! The care of segment files: header and soundness, snapshots for promotion, the ways in which a file is replaced, removed or
//! brought back from WAL mode.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};
use sha2::{Digest, Sha256};
use trough_core::{ErrorCode, SegmentError, SegmentId};

use crate::{
    conn,
    engine::{Inner, SegmentFile, not_here, run},
    errors,
    options::Limits,
    write_conn::WriteConn,
    writer::{self, Desk},
};

/// A checked copy of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The copy.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// The segment's own mtime when the copy was taken, in milliseconds since 1970.
    pub mtime_ms: i64,
    /// The copy's SHA-256, in lower-case hex.
    pub sha256: String,
    /// Which state of the segment it is, for [`crate::Engine::settle`].
    pub(crate) state: State,
}

/// Tells whether a segment was written between two looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// The writer's slot and its transactions, while a writer is open.
    writer: Option<(u64, u64)>,
    mtime_ns: i128,
    log_bytes: u64,
}

/// What a database file's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) wal: bool,
}

/// Bytes of a database file's header.
pub(crate) const HEAD: usize = 100;

/// Reads a file's header; an empty file is an empty database. The reason, if it is no whole database: with the log beside it, if it has one. A
/// checkpoint that a kill or a full disk ended has written the header, but not all of the pages that it counts; the log still has them.
pub(crate) fn header(path: &Path) -> Result<Header, String> {
    let mut file = File::open(path).map_err(|e| e.to_string())?;
    let meta = file.metadata().map_err(|e| e.to_string())?;
    if !meta.is_file() {
        return Err("it is no file".into());
    }
    let mut head = [0u8; HEAD];
    let length = meta.len();
    if length >= SHORTEST {
        file.read_exact(&mut head).map_err(|e| e.to_string())?;
    }
    match header_of(&head, length) {
        Err(Unsound::Truncated { .. }) if has_wal_version(&head) && is_filled(&beside(path, "-wal")) => {
            Ok(Header { wal: true })
        }
        found => found.map_err(|why| why.to_string()),
    }
}

fn is_filled(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.len() > 0)
}

/// The header of a segment's file that nobody changes.
///
/// # Errors
/// The file system's, and what is wrong with the file: SQLite would take a page that is cut off for one that ends in zeros.
pub(crate) fn sound_header(id: &SegmentId, path: &Path) -> Result<Header, SegmentError> {
    let mut head = Vec::with_capacity(HEAD);
    let read = File::open(path).and_then(|file| {
        let length = file.metadata()?.len();
        file.take(HEAD as u64).read_to_end(&mut head)?;
        Ok(length)
    });
    let length = read.map_err(failed(id, "read its header"))?;
    header_of(&head, length).map_err(|why| SegmentError::new(ErrorCode::Corrupt, format!("segment '{id}': {why}")))
}

/// The shortest database that is not empty.
const SHORTEST: u64 = 512;

/// Why a file is no whole database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsound {
    #[error("the file of {0} bytes is too short for a database")]
    Short(u64),
    #[error("the file is not a database (it does not begin like one)")]
    Foreign,
    #[error("the file is not a sound database (a page size of {0} bytes)")]
    PageSize(u64),
    #[error("the file is truncated: {length} bytes of {whole}")]
    Truncated { length: u64, whole: u64 },
}

/// What the first bytes of a file of this length say.
pub(crate) fn header_of(head: &[u8], length: u64) -> Result<Header, Unsound> {
    if length == 0 {
        return Ok(Header { wal: false });
    }
    if length < SHORTEST || head.len() < HEAD {
        return Err(Unsound::Short(length));
    }
    if &head[..16] != b"SQLite format 3\0" {
        return Err(Unsound::Foreign);
    }
    let page = match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    if !(512..=65_536).contains(&page) || !page.is_power_of_two() {
        return Err(Unsound::PageSize(page));
    }
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    // The page count is valid only if it was written together with the change counter.
    let pages = u64::from(number(28));
    if pages > 0 && number(24) == number(92) && length < pages * page {
        return Err(Unsound::Truncated { length, whole: pages * page });
    }
    Ok(Header { wal: has_wal_version(head) })
}

/// Whether a header says WAL for reading or for writing.
fn has_wal_version(head: &[u8]) -> bool {
    head[18] == 2 || head[19] == 2
}

/// Whether a file's header says WAL; not, if there is none.
pub(crate) fn is_wal(path: &Path) -> bool {
    use std::os::unix::fs::FileExt;
    let mut versions = [0; 2];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut versions, 18));
    read.is_ok() && versions.contains(&2)
}

/// Refuses a file that SQLite would take for an empty database although it is not empty.
pub(crate) fn refuse_stub(id: &SegmentId, bytes: u64) -> Result<(), SegmentError> {
    if (1..SHORTEST).contains(&bytes) {
        let text = format!("segment '{id}': the file of {bytes} bytes is too short for a database");
        return Err(SegmentError::new(ErrorCode::Corrupt, text));
    }
    Ok(())
}

/// Whether the file is a whole, sound database.
pub(crate) fn check(path: &Path) -> Result<(), SegmentError> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let corrupt = |why: String| SegmentError::new(ErrorCode::Corrupt, format!("'{name}': {why}"));
    let meta = fs::metadata(path).map_err(|e| errors::io(&format!("'{name}'"), &e))?;
    let header = header(path).map_err(corrupt)?;
    if meta.len() == 0 {
        return Ok(());
    }
    let verdict = || -> rusqlite::Result<String> {
        let conn = if header.wal {
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?
        } else {
            conn::open_immutable(path)?
        };
        conn::set_up(&conn, &Limits::default())?;
        conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
    };
    match verdict() {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(verdict) => Err(corrupt(verdict)),
        Err(e) => Err(corrupt(errors::text(&e))),
    }
}

/// The path with something behind it.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn failed<'a>(id: &'a SegmentId, what: &'a str) -> impl Fn(io::Error) -> SegmentError + use<'a> {
    move |e| match e.kind() {
        io::ErrorKind::NotFound => not_here(id),
        _ => errors::io(&format!("segment '{id}': {what}"), &e),
    }
}

/// The directory that the path names a file in.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Makes a rename or removal in the path's directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

fn state(file: &SegmentFile, desk: &Desk) -> Result<State, SegmentError> {
    let meta = fs::metadata(&file.path).map_err(failed(&file.id, "look at its file"))?;
    Ok(State {
        writer: desk.conn.is_some().then_some((desk.slot, desk.writes)),
        mtime_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
        log_bytes: log_bytes(&file.path),
    })
}

fn log_bytes(path: &Path) -> u64 {
    fs::metadata(beside(path, "-wal")).map_or(0, |meta| meta.len())
}

/// See [`crate::Engine::snapshot`]. The state is pinned between two transactions; copying then goes on beside the writer.
pub(crate) async fn snapshot(inner: &Arc<Inner>, file: SegmentFile, dest: PathBuf) -> Result<Snapshot, SegmentError> {
    let id = file.id.clone();
    let (source, state, empty) = writer::exclusive(inner, file, pin).await?;
    run(inner, move |_| copy(&id, source, state, empty, dest)).await
}

/// Opens a read transaction on the segment as it is now.
fn pin(inner: &Inner, file: &SegmentFile, desk: &mut Desk) -> Result<(Connection, State, bool), SegmentError> {
    if desk.conn.is_none() && log_bytes(&file.path) > 0 {
        // A killed process left a log. While it is there, nobody can tell later whether the file was written since.
        match WriteConn::open(inner, file, true) {
            Ok(conn) => desk.conn = Some(conn),
            Err(e) => {
                tracing::warn!(segment = %file.id, error = %e, "cannot move the log into the file before it is copied")
            }
        }
    }
    if let Some(conn) = &desk.conn {
        // The file's mtime moves with what is moved into it.
        conn.checkpoint_now(inner, &file.id)?;
    }
    let state = state(file, desk)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let source = Connection::open_with_flags(&file.path, flags)?;
        conn::set_up(&source, &inner.options.limits)?;
        source.busy_timeout(conn::BUSY)?;
        source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")?;
        let pages: i64 = source.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        Ok((source, pages))
    };
    let (source, pages) = open().map_err(|e| conn::explain(&file.id, &file.path, &e))?;
    Ok((source, state, pages == 0))
}

fn copy(
    id: &SegmentId,
    source: Connection,
    state: State,
    empty: bool,
    dest: PathBuf,
) -> Result<Snapshot, SegmentError> {
    let made = copy_pages(id, &source, empty, &dest);
    drop(source);
    let checked = made.and_then(|()| {
        check(&dest)
            .map_err(|e| SegmentError::new(e.code, format!("segment '{id}': its copy failed the check: {}", e.message)))
    });
    let hashed = checked.and_then(|()| hash(&dest).map_err(failed(id, "read its copy")));
    match hashed {
        Ok((sha256, bytes)) => {
            let mtime_ms = (state.mtime_ns / 1_000_000) as i64;
            Ok(Snapshot { path: dest, bytes, mtime_ms, sha256, state })
        }
        Err(e) => {
            // What is half made is of no use to anybody.
            let _ = fs::remove_file(&dest);
            Err(e)
        }
    }
}

fn copy_pages(id: &SegmentId, source: &Connection, empty: bool, dest: &Path) -> Result<(), SegmentError> {
    match fs::remove_file(dest) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(id, "remove an old copy")(e)),
        _ => {}
    }
    if !empty {
        let backup = || -> rusqlite::Result<()> {
            let mut copy = Connection::open(dest)?;
            copy.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")?;
            let backup = Backup::new(source, &mut copy)?;
            match backup.step(-1)? {
                StepResult::Done => Ok(()),
                // The source is in a read transaction and the copy is ours alone.
                _ => Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None)),
            }
        };
        backup().map_err(|e| errors::sqlite(id, &e))?;
    }
    let finish = || -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dest)?;
        if !empty {
            // The two version bytes are all that makes a WAL header (file format, 1.3.3); a complete backup has no log.
            file.seek(SeekFrom::Start(18))?;
            file.write_all(&[1, 1])?;
        }
        file.sync_all()
    };
    finish().map_err(failed(id, "write its copy"))
}

fn hash(path: &Path) -> io::Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let bytes = io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok((hasher.finalize().iter().map(|b| format!("{b:02x}")).collect(), bytes))
}

/// See [`crate::Engine::settle`].
pub(crate) async fn settle(
    inner: &Arc<Inner>,
    file: SegmentFile,
    snapshot: Snapshot,
    mtime_ms: i64,
) -> Result<bool, SegmentError> {
    writer::exclusive(inner, file, move |_, file, desk| {
        let now = state(file, desk)?;
        let untouched = match (now.writer, snapshot.state.writer) {
            (Some(now), Some(then)) if now.0 == then.0 => now.1 == then.1,
            _ => now.mtime_ns == snapshot.state.mtime_ns && now.log_bytes == 0,
        };
        if !untouched {
            return Ok(false);
        }
        let mtime = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(mtime_ms).unwrap_or(0));
        let set = || File::options().write(true).open(&file.path)?.set_modified(mtime);
        set().map_err(failed(&file.id, "set its mtime"))?;
        desk.settled = Some(mtime);
        Ok(true)
    })
    .await
}

/// See [`crate::Engine::seal`].
pub(crate) async fn seal(inner: &Arc<Inner>, file: SegmentFile) -> Result<bool, SegmentError> {
    writer::exclusive(inner, file, make_plain).await
}

/// Closes the writer and makes the header plain, if it is not.
fn make_plain(inner: &Inner, file: &SegmentFile, desk: &mut Desk) -> Result<bool, SegmentError> {
    let conn = match desk.conn.take() {
        Some(conn) => conn,
        None => {
            let text = |why| SegmentError::new(ErrorCode::Corrupt, format!("segment '{}': {why}", file.id));
            fs::metadata(&file.path).map_err(failed(&file.id, "look at its file"))?;
            let wal = header(&file.path).map_err(text)?.wal || beside(&file.path, "-journal").exists();
            if !wal {
                return Ok(true);
            }
            // Opening it for writing brings in what a killed process left in the log or the journal.
            let plain = WriteConn::open(inner, file, true)?.close(inner, &file.id, desk.settled, true)?;
            // That it is whole now.
            header(&file.path).map_err(text)?;
            return Ok(plain);
        }
    };
    conn.close(inner, &file.id, desk.settled, true)
}

/// See [`crate::Engine::replace`].
pub(crate) async fn replace(inner: &Arc<Inner>, file: SegmentFile, from: PathBuf) -> Result<(), SegmentError> {
    writer::exclusive(inner, file, move |inner, file, desk| {
        if !from.is_file() {
            let text = format!("segment '{}': the file that should replace it is gone", file.id);
            return Err(SegmentError::new(ErrorCode::Io, text));
        }
        leave(inner, file, desk);
        fs::rename(&from, &file.path).map_err(failed(&file.id, "replace its file"))?;
        inner.cache.evict(&file.id);
        sync_directory(&file.path).map_err(failed(&file.id, "sync its directory"))
    })
    .await
}

/// See [`crate::Engine::remove`].
pub(crate) async fn remove(inner: &Arc<Inner>, file: SegmentFile) -> Result<(), SegmentError> {
    writer::exclusive(inner, file, move |inner, file, desk| {
        leave(inner, file, desk);
        match fs::remove_file(&file.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            done => done.map_err(failed(&file.id, "remove its file"))?,
        }
        inner.cache.evict(&file.id);
        sync_directory(&file.path).map_err(failed(&file.id, "sync its directory"))
    })
    .await
}

/// Before another file (or none) takes the path: the old file is left whole if that can be, and nothing stays beside it that
/// would be taken for a part of its successor.
fn leave(inner: &Inner, file: &SegmentFile, desk: &mut Desk) {
    if (desk.conn.is_some() || beside(&file.path, "-wal").exists())
        && let Err(e) = make_plain(inner, file, desk)
    {
        tracing::warn!(segment = %file.id, error = %e, "the old file could not be put in order before it goes");
    }
    if let Some(conn) = desk.conn.take() {
        drop(conn);
        inner.cache.set_written(&file.id, false);
    }
    for suffix in ["-wal", "-shm", "-journal"] {
        // Mostly they are not there; if one stays, the file that follows is refused by its check.
        let _ = fs::remove_file(beside(&file.path, suffix));
    }
    inner.cache.evict(&file.id);
}
