//! The SQLite VFS of remote files: read-only, immutable, without locks, without anything beside the file. Everything that could
//! change a file is refused.
//!
//! A connection's file is handed over by a name that only stands for it: SQLite never sees a path.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use sqlite_plugin::{
    flags::{AccessFlags, LockLevel, OpenOpts},
    vars,
    vfs::{RegisterOpts, Vfs, VfsHandle, VfsResult, register_static},
};
use trough_core::{ErrorCode, SegmentError};

use super::{
    RemoteError,
    ahead::Ahead,
    open::{OpenFile, Unread},
};
use crate::conn::Current;

const NAME: &std::ffi::CStr = c"trough-remote";

/// Files that are about to be opened by SQLite, by the name that stands for each.
static HANDED_OVER: OnceLock<Mutex<HashMap<String, Arc<Link>>>> = OnceLock::new();
static NUMBERS: AtomicU64 = AtomicU64::new(0);

fn handed_over() -> &'static Mutex<HashMap<String, Arc<Link>>> {
    HANDED_OVER.get_or_init(Mutex::default)
}

/// What a connection and its file know of each other.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) file: Arc<OpenFile>,
    current: Current,
    /// Why the last read failed; SQLite only says that one did.
    failed: Mutex<Option<RemoteError>>,
}

impl Link {
    pub(crate) fn new(file: Arc<OpenFile>, current: Current) -> Arc<Self> {
        Arc::new(Self { file, current, failed: Mutex::new(None) })
    }

    /// Why the last read failed.
    pub(crate) fn failure(&self) -> Option<RemoteError> {
        self.failed.lock().clone()
    }
}

/// A connection to a remote file.
pub(crate) fn connect(link: &Arc<Link>) -> rusqlite::Result<Connection> {
    let name = NUMBERS.fetch_add(1, Ordering::Relaxed).to_string();
    handed_over().lock().insert(name.clone(), link.clone());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let opened = Connection::open_with_flags_and_vfs(format!("file:{name}?immutable=1"), flags, NAME);
    handed_over().lock().remove(&name);
    opened
}

/// Makes the VFS known to SQLite, once in a process.
pub(super) fn register() -> Result<(), SegmentError> {
    static REGISTERED: OnceLock<Result<(), i32>> = OnceLock::new();
    let register = || register_static(NAME.into(), RemoteVfs, RegisterOpts { make_default: false }).map(drop);
    REGISTERED.get_or_init(register).map_err(|code| {
        SegmentError::new(ErrorCode::Internal, format!("SQLite does not take the VFS for remote files (code {code})"))
    })
}

struct RemoteVfs;

enum RemoteHandle {
    /// One connection's view of a remote file.
    Remote { link: Arc<Link>, ahead: Ahead },
    /// What a statement spills, in a local file without a name.
    Temporary(File),
}

fn of(code: i32) -> impl Fn(std::io::Error) -> i32 {
    move |error| if error.kind() == std::io::ErrorKind::StorageFull { vars::SQLITE_FULL } else { code }
}

fn read_local(file: &File, offset: usize, data: &mut [u8]) -> VfsResult<usize> {
    let mut done = 0;
    while done < data.len() {
        match file.read_at(&mut data[done..], (offset + done) as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Err(vars::SQLITE_IOERR_READ),
        }
    }
    Ok(done)
}

impl VfsHandle for RemoteHandle {
    fn readonly(&self) -> bool {
        matches!(self, Self::Remote { .. })
    }

    fn in_memory(&self) -> bool {
        false
    }
}

impl Vfs for RemoteVfs {
    type Handle = RemoteHandle;

    fn canonical_path<'a>(&self, path: Cow<'a, str>) -> VfsResult<Cow<'a, str>> {
        Ok(path)
    }

    fn open(&self, path: Option<&str>, _opts: OpenOpts) -> VfsResult<RemoteHandle> {
        let Some(name) = path else {
            return tempfile::tempfile().map(RemoteHandle::Temporary).map_err(of(vars::SQLITE_CANTOPEN));
        };
        // Nothing lies beside a file.
        let link = handed_over().lock().remove(name).ok_or(vars::SQLITE_CANTOPEN)?;
        let ahead = link.file.ahead();
        Ok(RemoteHandle::Remote { link, ahead })
    }

    fn delete(&self, _path: &str) -> VfsResult<()> {
        Err(vars::SQLITE_READONLY)
    }

    fn access(&self, _path: &str, _flags: AccessFlags) -> VfsResult<bool> {
        Ok(false)
    }

    fn file_size(&self, handle: &mut RemoteHandle) -> VfsResult<usize> {
        let bytes = match handle {
            RemoteHandle::Remote { link, .. } => link.file.stamp.bytes,
            RemoteHandle::Temporary(file) => file.metadata().map_err(of(vars::SQLITE_IOERR_FSTAT))?.len(),
        };
        usize::try_from(bytes).map_err(|_| vars::SQLITE_IOERR_FSTAT)
    }

    fn truncate(&self, handle: &mut RemoteHandle, size: usize) -> VfsResult<()> {
        let RemoteHandle::Temporary(file) = handle else { return Err(vars::SQLITE_READONLY) };
        file.set_len(size as u64).map_err(of(vars::SQLITE_IOERR_TRUNCATE))
    }

    fn write(&self, handle: &mut RemoteHandle, offset: usize, data: &[u8]) -> VfsResult<usize> {
        let RemoteHandle::Temporary(file) = handle else { return Err(vars::SQLITE_READONLY) };
        file.write_all_at(data, offset as u64).map_err(of(vars::SQLITE_IOERR_WRITE))?;
        Ok(data.len())
    }

    fn read(&self, handle: &mut RemoteHandle, offset: usize, data: &mut [u8]) -> VfsResult<usize> {
        let (link, ahead) = match handle {
            RemoteHandle::Remote { link, ahead } => (link, ahead),
            RemoteHandle::Temporary(file) => return read_local(file, offset, data),
        };
        let stop = || link.current.must_stop();
        // A panic must not unwind into SQLite.
        let read = catch_unwind(AssertUnwindSafe(|| link.file.read(offset as u64, data, ahead, &stop)));
        match read {
            Ok(Ok(n)) => Ok(n),
            Ok(Err(Unread::Stopped)) => Err(vars::SQLITE_INTERRUPT),
            Ok(Err(Unread::Failed(error))) => {
                *link.failed.lock() = Some(error);
                Err(vars::SQLITE_IOERR_READ)
            }
            Err(_) => Err(vars::SQLITE_IOERR),
        }
    }

    fn lock(&self, _handle: &mut RemoteHandle, _level: LockLevel) -> VfsResult<()> {
        Ok(())
    }

    fn unlock(&self, _handle: &mut RemoteHandle, _level: LockLevel) -> VfsResult<()> {
        Ok(())
    }

    fn check_reserved_lock(&self, _handle: &mut RemoteHandle) -> VfsResult<bool> {
        Ok(false)
    }

    fn close(&self, _handle: RemoteHandle) -> VfsResult<()> {
        Ok(())
    }

    fn device_characteristics(&self, handle: &mut RemoteHandle) -> VfsResult<i32> {
        Ok(if handle.readonly() { vars::SQLITE_IOCAP_IMMUTABLE } else { 0 })
    }
}
