//! SHA-256 of a segment's file, as it is or with the canonical copy's counters in its header.

use std::path::Path;

use sha2::{Digest as _, Sha256};
use trough_store::TokenBucket;

use super::demand::read_all;

/// Bytes of a database file's header.
pub(crate) const HEADER: usize = 100;
/// What SQLite writes there when it copies a database: the journal's mode (18, 19), the change counter (24 to 27) and with
/// which version and when it was last counted (92 to 99). Nothing of the content.
const COUNTERS: [std::ops::Range<usize>; 3] = [18..20, 24..28, 92..100];

/// The SHA-256 of the file in hex; with another file's header given, as if its counters stood in this one.
pub(crate) async fn of_file(path: &Path, header: Option<&[u8]>, throttle: &TokenBucket) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut head = Vec::new();
    read_all(path, throttle, |bytes| {
        let mut rest = bytes;
        if header.is_some() && head.len() < HEADER {
            let (first, after) = rest.split_at(rest.len().min(HEADER - head.len()));
            head.extend_from_slice(first);
            rest = after;
            if head.len() == HEADER {
                hash.update(with_counters(&head, header.unwrap_or_default()));
            }
        }
        hash.update(rest);
    })
    .await?;
    if header.is_some() && head.len() < HEADER {
        hash.update(&head);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn with_counters(head: &[u8], other: &[u8]) -> Vec<u8> {
    let mut head = head.to_vec();
    for range in COUNTERS {
        if let Some(theirs) = other.get(range.clone()) {
            head[range].copy_from_slice(theirs);
        }
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn counters_are_taken_from_the_other_header_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
            change(&mut bytes);
            let path = dir.path().join(name);
            std::fs::write(&path, &bytes).expect("written");
            (path, bytes)
        };
        let free = TokenBucket::new(0);
        let (canonical, bytes) = write("canonical", &|_| {});
        let (own, _) = write("own", &|b| (b[18], b[25], b[99]) = (2, 7, 9));
        let (damaged, _) = write("damaged", &|b| b[200] ^= 1);
        let recorded = of_file(&canonical, None, &free).await.expect("read");
        assert_eq!(recorded.len(), 64);
        assert_ne!(of_file(&own, None, &free).await.expect("read"), recorded);
        assert_eq!(of_file(&own, Some(&bytes[..HEADER]), &free).await.expect("read"), recorded);
        assert_ne!(of_file(&damaged, Some(&bytes[..HEADER]), &free).await.expect("read"), recorded);
    }
}
