//! New segment files, made from a schema's script.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use trough_core::{ErrorCode, SegmentError};

use crate::{
    describe, errors,
    files::{directory_of, sync_directory},
    options::Limits,
    sql,
    sync::sync_all,
};

/// Threads that write and sync the files of one batch.
const THREADS: usize = 8;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A name in `path`'s directory that nobody else uses; it begins with a dot, so that no scan takes it for a segment.
fn temporary(path: &Path) -> PathBuf {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".new.{}.{number}", std::process::id()))
}

fn failed(path: &Path, e: &io::Error) -> SegmentError {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut error = errors::io(&format!("create '{name}'"), e);
    if error.code == ErrorCode::UnknownSegment {
        error.code = ErrorCode::Io;
    }
    error
}

/// From so many files on, one sync of the file system is cheaper than one of each file.
const MANY: usize = 32;

/// Creates the files that are not there; gives each one's length.
pub(crate) fn create_many(paths: &[PathBuf], schema: &str, limits: &Limits) -> Vec<Result<u64, SegmentError>> {
    let template = match paths.first() {
        Some(first) => template(first, schema, limits),
        None => return Vec::new(),
    };
    let bytes = match template {
        Ok(bytes) => bytes,
        Err(e) => return vec![Err(e); paths.len()],
    };
    let sync_each = paths.len() < MANY;
    let results: Vec<Mutex<Option<Result<u64, SegmentError>>>> = paths.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(i) else { break };
            let made = create_one(path, &bytes, sync_each).map_err(|e| failed(path, &e));
            *results[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS.min(paths.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut results: Vec<_> = results
        .into_iter()
        .map(|r| r.into_inner().unwrap_or_else(PoisonError::into_inner).unwrap_or_else(|| Err(errors::pool_gone())))
        .collect();
    // The names are durable when the directories are; and with the whole file system everything is.
    let make_durable = |path: &Path| {
        if sync_each { sync_directory(path) } else { File::open(directory_of(path)).and_then(|dir| sync_all(&dir)) }
    };
    let mut directories: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    directories.sort_by_key(|path| path.parent());
    directories.dedup_by_key(|path| path.parent());
    for path in directories {
        if let Err(e) = make_durable(path) {
            for (other, result) in paths.iter().zip(&mut results) {
                if other.parent() == path.parent() {
                    *result = Err(failed(other, &e));
                }
            }
        }
    }
    results
}

/// Writes, syncs and names one file.
fn create_one(path: &Path, bytes: &[u8], sync: bool) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(meta) => return Ok(meta.len()),
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Err(_) => {}
    }
    if bytes.is_empty() {
        // Nothing to sync but the name.
        OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        return Ok(0);
    }
    let temporary = temporary(path);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        if sync {
            file.sync_data()?;
        }
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        // What is half made is of no use to anybody.
        let _ = fs::remove_file(&temporary);
    })?;
    Ok(bytes.len() as u64)
}

/// The bytes of a database that the schema's script makes: none for a blank script.
fn template(first: &Path, schema: &str, limits: &Limits) -> Result<Vec<u8>, SegmentError> {
    if sql::is_blank(schema) {
        return Ok(Vec::new());
    }
    let path = temporary(first);
    File::create(&path).map_err(|e| failed(first, &e))?;
    let made = describe::run_script(rusqlite::Connection::open(&path), schema, limits);
    let told = |e: SegmentError| match e.code {
        ErrorCode::DiskFull | ErrorCode::Io => SegmentError::new(e.code, format!("make a segment: {}", e.message)),
        _ => SegmentError::new(ErrorCode::BadSql, format!("schema: {}", e.message)),
    };
    let bytes = made.map_err(told).and_then(|conn| {
        drop(conn);
        fs::read(&path).map_err(|e| failed(first, &e))
    });
    // The template's bytes are in memory now.
    let _ = fs::remove_file(&path);
    bytes
}
