//! Files held open for reads at any place.

use trough_store::{Expected, StoreError, open_ranges};

use super::{Fixture, Scratch, options, segment};

/// Reads are of the file that was opened, or fail: never of one that has replaced it.
pub(super) async fn are_of_the_file_that_was_opened(f: &impl Fixture) {
    let (store, scratch) = (f.store(), Scratch::new());
    let id = segment("300123");
    let path = store.path_of(&id);
    assert!(open_ranges(&store, &path, None).await.expect_err("absent").is_not_found());
    assert!(matches!(open_ranges(&store, "/etc/passwd", None).await, Err(StoreError::InvalidPath { .. })));
    let old: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    let entry = store.publish(&scratch.file(&old), &id, options(1_000)).await.expect("published");
    let reader = open_ranges(&store, &path, None).await.expect("opened");
    assert_eq!(reader.entry(), &entry);
    for (offset, len) in [(0, 1), (0, 300_000), (131_000, 70_000), (299_999, 1), (299_000, 5_000), (4_096, 0)] {
        let bytes = reader.read(offset as u64, len).await.expect("read").concat();
        assert_eq!(bytes[..], old[offset..(offset + len).min(old.len())], "{len} bytes at {offset}");
    }
    for offset in [300_000, 300_001, 1 << 40] {
        assert!(reader.read(offset, 10).await.expect("past the end").concat().is_empty());
    }
    let all = (0..20u64).map(|i| reader.read(i * 10_000, 10_000));
    let all = futures::future::try_join_all(all).await.expect("at the same time");
    assert_eq!(all.concat().concat(), old[..200_000]);

    let new = vec![0xEE; 300_000];
    store.publish(&scratch.file(&new), &id, options(2_000)).await.expect("replaced");
    match reader.read(5_000, 100).await {
        Ok(bytes) => assert_eq!(bytes.concat(), old[5_000..5_100]),
        Err(e) => assert!(matches!(e, StoreError::Conflict { .. } | StoreError::NotFound { .. }), "{e}"),
    }
    let again = open_ranges(&store, &path, None).await.expect("opened again");
    assert_eq!(again.read(5_000, 100).await.expect("read").concat(), new[5_000..5_100]);

    // Replaced by one of the same length before anything was read: what was opened is never taken for what lies there now.
    let unread = open_ranges(&store, &path, None).await.expect("opened");
    let last = store.publish(&scratch.file(&old), &id, options(3_000)).await.expect("replaced");
    match unread.read(5_000, 100).await {
        Ok(bytes) => assert_eq!(bytes.concat(), new[5_000..5_100]),
        Err(e) => assert!(matches!(e, StoreError::Conflict { .. } | StoreError::NotFound { .. }), "{e}"),
    }

    // What was seen there lies there no longer: nothing of the new one is given out as the old one.
    for (bytes, mtime_ms) in [(entry.bytes, entry.mtime_ms), (entry.bytes + 1, 2_000), (last.bytes, last.mtime_ms)] {
        let seen = Expected { bytes, mtime_ms, sha256: None };
        let reader = open_ranges(&store, &path, Some(&seen)).await.expect("opened");
        match reader.read(5_000, 100).await {
            Ok(bytes) => {
                assert_eq!(reader.entry(), &last, "seen {seen:?}");
                assert_eq!(bytes.concat(), old[5_000..5_100]);
            }
            Err(e) => assert!(matches!(e, StoreError::Conflict { .. }) && !seen.is(&last), "{seen:?}: {e}"),
        }
    }
}
