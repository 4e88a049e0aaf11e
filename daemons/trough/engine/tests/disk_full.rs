//! A disk that is really full. Needs the right to mount a small tmpfs; without it the page limit's test in `write.rs` stands
//! alone, and this says so.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{path::Path, process::Command};

use common::{Bench, bench};
use trough_core::ErrorCode;
use trough_engine::Mode;

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn mount(b: &Bench) -> Option<Mounted<'_>> {
    let run = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(b.dir.path()).output();
    run.is_ok_and(|output| output.status.success()).then(|| Mounted(b.dir.path()))
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_half_written() {
    let b = bench();
    let Some(_mounted) = mount(&b) else {
        eprintln!("skipped: no right to mount a tmpfs");
        return;
    };
    b.engine.create(b.path("s"), "create table t(a, b)".into()).await.unwrap();
    std::fs::write(b.path("ballast"), vec![1; 500_000]).unwrap();
    let mut kept = 0;
    let error = loop {
        match b
            .write("s", &format!("insert into t values({kept}, 1); insert into t values({kept}, zeroblob(20000))"))
            .await
        {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 1000);
    };
    assert_eq!(error.code, ErrorCode::DiskFull, "{error}");
    assert!(error.message.contains("'s'"), "{error}");
    assert!(kept > 5);
    for _ in 0..2 {
        let expected = format!("[{{\"n\":{},\"m\":{}}}]\n", 2 * kept, kept - 1);
        assert_eq!(b.read("s", "select count(*) n, max(a) m from t").await.unwrap(), expected);
        b.engine.evict(&common::id("s"));
    }
    std::fs::write(b.path("fill"), vec![1; 1 << 20]).unwrap_err();
    let many = (0..50).map(|i| b.path(&format!("n{i}"))).collect();
    let created = b.engine.create_many(many, "create table t(a)".into()).await;
    assert!(created.iter().all(|made| made.as_ref().is_err_and(|e| e.code == ErrorCode::DiskFull)), "{created:?}");
    let snapshot = b.engine.snapshot(b.hot("s"), b.dir.path().join("copy")).await.unwrap_err();
    assert_eq!(snapshot.code, ErrorCode::DiskFull, "{snapshot}");
    assert!(!b.dir.path().join("copy").exists());
    // There is room again: everything goes on, from what was acknowledged.
    std::fs::remove_file(b.path("fill")).unwrap();
    std::fs::remove_file(b.path("ballast")).unwrap();
    b.write("s", "delete from t where b <> 1; insert into t values(-1, 1)").await.unwrap();
    assert!(b.engine.seal(b.hot("s")).await.unwrap());
    b.engine.check(b.path("s")).await.unwrap();
    let rows = b.read_as("s", Mode::Immutable, "select count(*) n from t").await.unwrap();
    assert_eq!(rows, format!("[{{\"n\":{}}}]\n", kept + 1));
}
