//! Damaged segment files through every tier: a hot copy (checked before it is served), a mount, and ranged reads. Whatever lies
//! there, nothing crashes, every error names the segment and a reason, and no tier gives rows where another sees damage that
//! the file's header shows.
#![allow(missing_docs)]

use std::sync::Arc;

use rusqlite::Connection;
use tokio::runtime::Handle;
use trough_core::ErrorCode;
use trough_engine::{EngineOptions, Mode, Remote};

mod common;
use common::{
    Answer, Bench, bench_with,
    faulty::{Faults, Faulty, options},
    request,
};

/// SplitMix64: every run sees the same files.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// Blocks of the stores that are read by ranges: HDFS's, and those of object stores.
const UNITS: [usize; 2] = [4096, 65_536];

fn bench(unit: usize) -> Bench {
    let store = Arc::new(Faulty(Arc::new(Faults { unit, ..Faults::default() })));
    let remote = Remote::new(store, options(), Handle::current()).expect("a VFS");
    bench_with(EngineOptions { remote: Some(remote), threads: 2, point_threads: 2, ..EngineOptions::default() })
}

/// A sound file.
fn sound(bench: &Bench, page: u32, journal: &str) -> Vec<u8> {
    let path = bench.path("sound");
    let _ = std::fs::remove_file(&path);
    let conn = Connection::open(&path).expect("opened");
    let sql = format!(
        "PRAGMA page_size={page}; PRAGMA journal_mode={journal}; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);\
         CREATE INDEX t_name ON t (name); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 800)\
         INSERT INTO t SELECT i, printf('name-%06d', i) FROM n;"
    );
    conn.execute_batch(&sql).expect("made");
    drop(conn);
    std::fs::read(&path).expect("read")
}

const SCAN: &str = "SELECT count(*), sum(id), max(name), sum(length(name)) FROM t";

async fn ask(bench: &Bench, name: &str, mode: Mode) -> Answer {
    let answer = bench.query_files(vec![Ok(bench.file(name, mode))], request(&[name], SCAN, None)).await;
    assert!(answer.error.is_none(), "only the segment fails: {answer:?}");
    assert_eq!(answer.rows.len() + answer.errors.len(), 1, "{name} {mode:?}: a row or a reason: {answer:?}");
    if let Some((_, error)) = answer.errors.first() {
        assert_ne!(error.code, ErrorCode::Internal, "{name} {mode:?}: {error:?}");
        let named = error.message.contains(&format!("segment '{name}'"));
        // What an empty or foreign database lacks is told as SQLite tells it.
        let lacks = matches!(error.code, ErrorCode::NoSuchTable | ErrorCode::NoSuchColumn | ErrorCode::BadSql);
        assert!((named || lacks) && error.message.len() > 10, "{name} {mode:?}: {error:?}");
    }
    answer
}

/// The file through all tiers; what each answered.
async fn through_all(bench: &Bench, name: &str, bytes: &[u8]) -> (bool, Answer, Answer) {
    std::fs::write(bench.path(name), bytes).expect("written");
    let checked = bench.engine.check(bench.path(name)).await.is_ok();
    if checked {
        ask(bench, name, Mode::Hot).await;
    }
    let mount = ask(bench, name, Mode::Immutable).await;
    let direct = ask(bench, name, Mode::Remote).await;
    assert_eq!(mount.rows, direct.rows, "{name}: the tiers see the same");
    (checked, mount, direct)
}

async fn refused(bench: &Bench, name: &str, bytes: &[u8], why: &str) {
    let (checked, mount, direct) = through_all(bench, name, bytes).await;
    assert!(!checked, "{name}: a hot copy is not served");
    for (tier, answer) in [("mount", mount), ("direct", direct)] {
        let (_, error) = answer.errors.first().expect("refused");
        assert_eq!(error.code, ErrorCode::Corrupt, "{name} {tier}: {error:?}");
        assert!(error.message.contains(why), "{name} {tier}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_header_shows_is_refused_with_the_reason() {
    for unit in UNITS {
        damage_of_headers(bench(unit)).await;
    }
}

async fn damage_of_headers(bench: Bench) {
    let file = sound(&bench, 4096, "DELETE");
    let (checked, mount, _) = through_all(&bench, "whole", &file).await;
    assert!(checked && mount.errors.is_empty());
    let large = sound(&bench, 65_536, "DELETE");
    let (checked, mount, direct) = through_all(&bench, "pages-of-64k", &large).await;
    assert!(checked && mount.errors.is_empty() && direct.errors.is_empty());
    for length in [1, 99, 100, 511] {
        refused(&bench, &format!("short-{length}"), &file[..length], "too short").await;
    }
    for length in [512, 4095, 4096, 4097, file.len() / 2, file.len() - 4096, file.len() - 1] {
        refused(&bench, &format!("cut-{length}"), &file[..length], "truncated").await;
    }
    refused(&bench, "cut-64k", &large[..large.len() - 65_536], "truncated").await;
    refused(&bench, "encrypted", &Random(1).bytes(40_960), "not a database").await;
    // Encrypted but for the part of the header that some programs leave readable.
    let mut readable = Random(2).bytes(file.len());
    readable[..32].copy_from_slice(&file[..32]);
    let (checked, mount, direct) = through_all(&bench, "encrypted-behind-its-header", &readable).await;
    assert!(!checked && !mount.errors.is_empty() && !direct.errors.is_empty());
    refused(&bench, "zeros", &[0; 8192], "not a database").await;
    let mut odd = file.clone();
    odd[16..18].copy_from_slice(&[0x03, 0x01]);
    refused(&bench, "page-size", &odd, "page size of 769").await;
    let (_, mount, direct) = through_all(&bench, "empty", &[]).await;
    for answer in [mount, direct] {
        assert_eq!(answer.errors[0].1.code, ErrorCode::NoSuchTable, "an empty file is an empty database");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wal_header_is_refused_with_what_to_do() {
    for unit in UNITS {
        a_wal_header(bench(unit)).await;
    }
}

async fn a_wal_header(bench: Bench) {
    let mut wal = sound(&bench, 4096, "DELETE");
    wal[18..20].copy_from_slice(&[2, 2]);
    std::fs::write(bench.path("wal"), &wal).expect("written");
    for mode in [Mode::Immutable, Mode::Remote] {
        let answer = ask(&bench, "wal", mode).await;
        let (_, error) = answer.errors.first().expect("refused");
        assert_eq!(error.code, ErrorCode::Corrupt);
        assert!(error.message.contains("WAL") && error.message.contains("journal_mode = DELETE"), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_damage_crashes_nothing_and_the_tiers_agree() {
    for unit in UNITS {
        random_damage(bench(unit)).await;
    }
}

async fn random_damage(bench: Bench) {
    let mut random = Random(20_240_607);
    let files = [512, 1024, 4096, 65_536].map(|page| (page as usize, sound(&bench, page, "DELETE")));
    let (mut refused, mut answered) = (0, 0);
    for n in 0..240 {
        let (page, file) = &files[n % files.len()];
        let mut bytes = file.clone();
        let pages = bytes.len() / page;
        match n / files.len() % 6 {
            // The header's fields.
            0 => (0..1 + random.below(4)).for_each(|_| bytes[random.below(100)] = random.next() as u8),
            // The head of a page: its kind, its cells.
            1 => {
                let at = random.below(pages) * page + if random.below(2) == 0 { 0 } else { 8 };
                let noise = random.bytes(4);
                let at = if at < 100 { 100 } else { at };
                bytes[at..at + 4].copy_from_slice(&noise);
            }
            // A page of nothing, or of something else.
            2 => {
                let at = random.below(pages) * page;
                let noise = if random.below(2) == 0 { vec![0; *page] } else { random.bytes(*page) };
                bytes[at..at + page].copy_from_slice(&noise);
            }
            // Two pages exchanged.
            3 => {
                let (a, b) = (random.below(pages), random.below(pages));
                let first = bytes[a * page..(a + 1) * page].to_vec();
                bytes.copy_within(b * page..(b + 1) * page, a * page);
                bytes[b * page..(b + 1) * page].copy_from_slice(&first);
            }
            // Cut anywhere.
            4 => bytes.truncate(random.below(file.len())),
            // Single bits.
            _ => (0..1 + random.below(40)).for_each(|_| {
                let at = random.below(file.len());
                bytes[at] ^= 1 << random.below(8);
            }),
        }
        let (_, mount, _) = through_all(&bench, &format!("damaged-{n}"), &bytes).await;
        if mount.errors.is_empty() { answered += 1 } else { refused += 1 }
    }
    assert!(refused > 100 && answered > 10, "the damage is of all kinds: {refused} refused, {answered} answered");
}
