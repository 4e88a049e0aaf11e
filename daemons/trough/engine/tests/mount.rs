//! What a network mount does to an open file, injected below SQLite by the hook that its own tests use: the system calls of
//! its file layer are replaced. One test a process: the hook is the process's.
#![allow(missing_docs)]
#![allow(unsafe_code, reason = "SQLite's hook for system calls is a C interface")]

use std::{
    ffi::{c_int, c_void},
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

use rusqlite::ffi;
use trough_core::{ErrorCode, Value};
use trough_engine::Mode;

mod common;
use common::{Answer, Bench, bench, request};

/// Reads that fail from now on, and how.
static FAILING: AtomicI64 = AtomicI64::new(0);
static ERRNO: AtomicI64 = AtomicI64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);

/// `pread(2)`, which may fail.
unsafe extern "C" fn pread(fd: c_int, buffer: *mut c_void, count: usize, offset: i64) -> isize {
    if FAILING.fetch_sub(1, Ordering::SeqCst) > 0 {
        FAILED.fetch_add(1, Ordering::SeqCst);
        set_errno(ERRNO.load(Ordering::SeqCst) as i32);
        return -1;
    }
    // SAFETY: SQLite gives a buffer of `count` bytes and a descriptor that is open during the call.
    let (fd, buffer) = unsafe {
        (std::os::fd::BorrowedFd::borrow_raw(fd), std::slice::from_raw_parts_mut(buffer.cast::<u8>(), count))
    };
    match rustix::io::pread(fd, buffer, offset as u64) {
        Ok(n) => n as isize,
        Err(e) => {
            set_errno(e.raw_os_error());
            -1
        }
    }
}

fn set_errno(errno: i32) {
    unsafe extern "C" {
        fn __errno_location() -> *mut c_int;
    }
    // SAFETY: the thread's own errno.
    unsafe { *__errno_location() = errno };
}

fn inject() {
    // SAFETY: the VFS is SQLite's own and lives as long as the process; the function has the signature of the call that it
    // stands for.
    unsafe {
        let vfs = ffi::sqlite3_vfs_find(c"unix-none".as_ptr());
        let set = (*vfs).xSetSystemCall.expect("a unix VFS has the hook");
        let hook: unsafe extern "C" fn(c_int, *mut c_void, usize, i64) -> isize = pread;
        let hook = std::mem::transmute::<*const (), ffi::sqlite3_syscall_ptr>(hook as *const ());
        // Which of the two is used depends on how SQLite was compiled.
        let replaced = [c"pread", c"pread64"].map(|name| set(vfs, name.as_ptr(), hook));
        assert!(replaced.contains(&ffi::SQLITE_OK), "{replaced:?}");
    }
}

async fn ask(bench: &Bench, sql: &str) -> Answer {
    bench.query_files(vec![Ok(bench.file("a", Mode::Immutable))], request(&["a"], sql, None)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_handle_and_a_failed_read_are_tried_again_once() {
    const ESTALE: i64 = 116;
    const EIO: i64 = 5;
    let bench = bench();
    bench.make(
        "a",
        "CREATE TABLE t (n INTEGER PRIMARY KEY, pad TEXT); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
         WHERE i < 5000) INSERT INTO t SELECT i, printf('%0500d', i) FROM n;",
    );
    inject();
    let scan = "SELECT count(*) FROM t WHERE pad > ''";
    let all = [[Value::Integer(5000)]];
    for errno in [ESTALE, EIO] {
        ERRNO.store(errno, Ordering::SeqCst);
        bench.engine.evict(&common::id("a"));
        // A connection that is opened for the query, then one that was open before.
        for _ in 0..2 {
            let before = FAILED.load(Ordering::SeqCst);
            FAILING.store(1, Ordering::SeqCst);
            let answer = ask(&bench, scan).await;
            assert_eq!(FAILED.load(Ordering::SeqCst), before + 1, "a read failed");
            assert_eq!(answer.values(), all, "{answer:?}");
        }
        // The old endpoint.
        FAILING.store(1, Ordering::SeqCst);
        let old = bench.read_as("a", Mode::Immutable, scan).await.expect("tried again");
        assert_eq!(old, "[{\"count(*)\":5000}]\n");
        // What goes on failing is told.
        FAILING.store(i64::MAX, Ordering::SeqCst);
        let answer = ask(&bench, scan).await;
        FAILING.store(0, Ordering::SeqCst);
        let (_, error) = answer.errors.first().expect("a reason");
        assert_eq!(error.code, ErrorCode::Io, "{error:?}");
        assert!(error.message.contains("segment 'a'"), "{error:?}");
        assert_eq!(ask(&bench, scan).await.values(), all, "the mount is well again");
    }
    // After rows were sent there is no second try, which would send them again.
    let request = request(&["a"], "SELECT n, pad FROM t", None);
    let files = vec![Ok(bench.file("a", Mode::Immutable))];
    bench.engine.evict(&common::id("a"));
    let cancel = tokio_util::sync::CancellationToken::new();
    let stream = bench.engine.query(files, request, trough_engine::Format::MessagePack, cancel).await;
    FAILING.store(i64::MAX, Ordering::SeqCst);
    let answer = Answer::decode(&stream.collect().await.expect("whole"));
    FAILING.store(0, Ordering::SeqCst);
    assert!(!answer.rows.is_empty() && answer.rows.len() < 5000, "{} rows", answer.rows.len());
    assert_eq!(answer.errors.len(), 1, "{:?}", answer.errors);
    let numbers: Vec<_> = answer.values().into_iter().map(|mut row| row.swap_remove(0)).collect();
    assert!(numbers.iter().enumerate().all(|(i, n)| *n == Value::Integer(i as i64 + 1)), "each row once");
}
