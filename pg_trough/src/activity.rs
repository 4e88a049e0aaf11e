//! What fan-outs are under way in all backends, without shared memory: each backend that has asked segments keeps one small
//! mapped file, and whoever wants to know reads the files of all.
//!
//! A file lies in the data directory (`pg_stat_tmp/pg_trough.PID`), is locked (flock) for as long as its backend lives, and is removed at
//! its exit. One that is not locked was left by a backend that was killed: its reader removes it. Counters are written by the runtime thread
//! with plain atomic stores; texts are guarded by a generation, which readers compare before and after.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::*},
    },
};

use pgrx::{pg_guard, pg_sys};
use trough_client::query::FanOutStats;

use crate::pg;

/// Where the files lie, below the data directory. PostgreSQL keeps it for extensions, and leaves it out of base backups.
const DIRECTORY: &str = "pg_stat_tmp";
const PREFIX: &str = "pg_trough.";
/// The layout's version; files of another are not read.
const MAGIC: u64 = 0x7472_6f75_6768_0001;
/// Fan-outs of one backend that are shown at most; further ones run unseen.
const SLOTS: usize = 32;

const SERVER: usize = 64;
const RELATION: usize = 192;
const SQL: usize = 1024;

/// Its numbers are part of the layout.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free = 0,
    /// Being filled in.
    Claimed = 1,
    /// It is worked out who serves the segments.
    Discovering = 2,
    /// Workers are at work.
    Running = 3,
    /// There are more rows than the backend has taken.
    Waiting = 4,
}

#[repr(C)]
struct Header {
    magic: u64,
    pid: i32,
    database: u32,
}

#[repr(C)]
struct Slot {
    /// Raised before and after the texts are written.
    generation: AtomicU64,
    state: AtomicU32,
    user: AtomicU32,
    started: AtomicI64,
    counters: [AtomicU64; COUNTERS],
    texts: [AtomicU32; (SERVER + RELATION + SQL) / 4],
}

/// Segments, done, failed, unknown, workers, requests, retries, rows, bytes.
const COUNTERS: usize = 9;

#[repr(C)]
struct Mapped {
    header: Header,
    slots: [Slot; SLOTS],
}

struct Own {
    mapped: &'static Mapped,
    path: PathBuf,
    /// Keeps the lock.
    _file: File,
}

static OWN: OnceLock<Option<Own>> = OnceLock::new();

/// A fan-out that is shown until this is dropped.
pub(crate) struct Running(&'static Slot);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.state.store(State::Free as u32, Release);
    }
}

impl Running {
    /// Says what is waited for.
    pub(crate) fn state(&self, state: State) {
        self.0.state.store(state as u32, Relaxed);
    }

    /// Says what was done so far.
    pub(crate) fn counts(&self, stats: &FanOutStats) {
        let FanOutStats { segments, unknown, done, failed, workers, requests, retries, rows, bytes, .. } = *stats;
        let all = [segments, done, failed, unknown, workers, requests, retries, rows, bytes];
        for (counter, value) in self.0.counters.iter().zip(all) {
            counter.store(value, Relaxed);
        }
    }
}

/// Shows a fan-out of this backend; none if there is no room or no file can be made.
pub(crate) fn begin(server: &str, relation: &str, sql: &str) -> Option<Running> {
    let own = OWN.get_or_init(|| open_own().ok()).as_ref()?;
    let slot = own.mapped.slots.iter().find(|slot| {
        slot.state.compare_exchange(State::Free as u32, State::Claimed as u32, Acquire, Relaxed).is_ok()
    })?;
    slot.generation.fetch_add(1, AcqRel);
    let mut texts = Vec::with_capacity(SERVER + RELATION + SQL);
    for (text, room) in [(server, SERVER), (relation, RELATION), (sql, SQL)] {
        let end = texts.len() + room;
        texts.extend_from_slice(&text.as_bytes()[..text.floor_char_boundary(room)]);
        texts.resize(end, 0);
    }
    for (place, bytes) in slot.texts.iter().zip(texts.as_chunks::<4>().0) {
        place.store(u32::from_ne_bytes(*bytes), Relaxed);
    }
    let running = Running(slot);
    running.counts(&FanOutStats::default());
    // SAFETY: reads of the backend's own state, by its own thread.
    let (user, started) = unsafe { (pg_sys::GetUserId(), pg_sys::GetCurrentTimestamp()) };
    slot.user.store(user.into(), Relaxed);
    slot.started.store(started, Relaxed);
    slot.generation.fetch_add(1, AcqRel);
    running.state(State::Discovering);
    Some(running)
}

fn directory() -> PathBuf {
    // SAFETY: set in every backend before it serves anybody.
    Path::new(&unsafe { pg::text(pg_sys::DataDir) }).join(DIRECTORY)
}

fn open_own() -> std::io::Result<Own> {
    // SAFETY: set in every backend.
    let (pid, database) = unsafe { (pg_sys::MyProcPid, pg_sys::MyDatabaseId) };
    let path = directory().join(format!("{PREFIX}{pid}"));
    let file = loop {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        // SAFETY: the descriptor is open. Readers hold the lock for moments only.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        // A reader may have removed what a killed backend left, between the opening and the lock.
        if std::fs::metadata(&path).is_ok_and(|there| file.metadata().is_ok_and(|ours| there.ino() == ours.ino())) {
            break file;
        }
    };
    file.set_len(0)?;
    file.set_len(size_of::<Mapped>() as u64)?;
    // SAFETY: a shared mapping of a whole file that only grows; it stays for the life of the process. All zeroes is a valid value.
    let mapped = unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let at =
            libc::mmap(std::ptr::null_mut(), size_of::<Mapped>(), protection, libc::MAP_SHARED, file.as_raw_fd(), 0);
        if at == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let mapped = at.cast::<Mapped>();
        (*mapped).header = Header { magic: MAGIC, pid, database: database.into() };
        &*mapped
    };
    // SAFETY: a callback that takes no argument, registered once per process.
    unsafe { pg_sys::on_proc_exit(Some(remove_own), pg_sys::Datum::from(0)) };
    Ok(Own { mapped, path, _file: file })
}

#[pg_guard]
unsafe extern "C-unwind" fn remove_own(_code: i32, _arg: pg_sys::Datum) {
    if let Some(Some(own)) = OWN.get() {
        let _ = std::fs::remove_file(&own.path);
    }
}

/// One fan-out of some backend.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) pid: i32,
    pub(crate) database: pg_sys::Oid,
    pub(crate) user: pg_sys::Oid,
    pub(crate) state: &'static str,
    /// Microseconds since 2000.
    pub(crate) started: i64,
    pub(crate) counters: [u64; COUNTERS],
    pub(crate) server: String,
    pub(crate) relation: String,
    pub(crate) sql: String,
}

/// The fan-outs of all backends, by backend.
pub(crate) fn all() -> Vec<Shown> {
    let Ok(entries) = std::fs::read_dir(directory()) else { return Vec::new() };
    let mut paths: Vec<_> = entries
        .flatten()
        .filter(|e| e.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)))
        .map(|e| e.path())
        .collect();
    paths.sort();
    let own = OWN.get().and_then(Option::as_ref).map(|own| own.path.as_path());
    paths.iter().filter_map(|path| read(path, own == Some(path)).ok()).flatten().collect()
}

fn read(path: &Path, own: bool) -> std::io::Result<Vec<Shown>> {
    let mut first = Vec::new();
    let mut file = File::open(path)?;
    // SAFETY: the descriptor is open.
    if !own && unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } == 0 {
        // Its backend is gone and could not remove it.
        std::fs::remove_file(path)?;
        return Ok(Vec::new());
    }
    file.read_to_end(&mut first)?;
    let mut second = Vec::new();
    File::open(path)?.read_to_end(&mut second)?;
    if first.len() != size_of::<Mapped>() || second.len() != first.len() {
        return Ok(Vec::new());
    }
    let header = Raw { bytes: &first, at: 0 };
    if header.u64(std::mem::offset_of!(Header, magic)) != MAGIC {
        return Ok(Vec::new());
    }
    let pid = header.u32(std::mem::offset_of!(Header, pid)) as i32;
    let database = header.u32(std::mem::offset_of!(Header, database)).into();
    let mut shown = Vec::new();
    for i in 0..SLOTS {
        let at = std::mem::offset_of!(Mapped, slots) + i * size_of::<Slot>();
        let (slot, again) = (Raw { bytes: &first, at }, Raw { bytes: &second, at });
        let generation = |raw: &Raw<'_>| raw.u64(std::mem::offset_of!(Slot, generation));
        let state = match slot.u32(std::mem::offset_of!(Slot, state)) {
            n if n == State::Discovering as u32 => "discovering",
            n if n == State::Running as u32 => "running",
            n if n == State::Waiting as u32 => "waiting for the backend",
            _ => continue,
        };
        if generation(&slot) % 2 != 0 || generation(&slot) != generation(&again) {
            continue;
        }
        let texts = std::mem::offset_of!(Slot, texts);
        shown.push(Shown {
            pid,
            database,
            user: slot.u32(std::mem::offset_of!(Slot, user)).into(),
            state,
            started: slot.u64(std::mem::offset_of!(Slot, started)) as i64,
            counters: std::array::from_fn(|n| slot.u64(std::mem::offset_of!(Slot, counters) + n * 8)),
            server: slot.text(texts, SERVER),
            relation: slot.text(texts + SERVER, RELATION),
            sql: slot.text(texts + SERVER + RELATION, SQL),
        });
    }
    Ok(shown)
}

/// Values in a file's bytes, which are as long as the layout.
struct Raw<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Raw<'_> {
    fn u64(&self, offset: usize) -> u64 {
        let at = self.at + offset;
        u64::from_ne_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    fn u32(&self, offset: usize) -> u32 {
        let at = self.at + offset;
        u32::from_ne_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"))
    }

    fn text(&self, offset: usize, room: usize) -> String {
        let bytes = &self.bytes[self.at + offset..][..room];
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(room);
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }
}
