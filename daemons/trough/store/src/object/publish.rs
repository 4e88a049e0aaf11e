//! Publication by one atomic put. What was read from the local file is hashed on its way, so that a wrong hash stops it
//! before anything is seen; the lock is checked when all but the last request is done.

use std::{path::Path, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use trough_core::SegmentId;

use super::{Inner, MTIME, Object, key};
use crate::{
    CrashAt, Entry, PublishOptions, PublishStep, StoreError, crashsafe, paths,
    transfer::{CHUNK, Outgoing, hex},
};

const OPERATION: &str = "publish";
/// Bytes of a part of a large upload.
const PART: usize = 8 << 20;
/// Parts sent at a time.
const AT_ONCE: usize = 4;
/// The coarsest clock of a service.
const TICK: Duration = Duration::from_secs(1);
/// An mtime this old by this host's clock is past by the service's, too: no clock is that wrong.
const LONG_AGO_MS: i64 = 600_000;

fn crash(crash_at: Option<&CrashAt>, step: PublishStep) -> Result<(), StoreError> {
    if !crash_at.is_some_and(|crash_at| crash_at(step)) {
        return Ok(());
    }
    let source = std::io::Error::other(format!("injected crash at {step:?}"));
    Err(StoreError::Io { operation: OPERATION, path: String::new(), source })
}

/// The object that is there now, if there is one.
async fn present(inner: &Inner, path: &str) -> Result<Option<Object>, StoreError> {
    match inner.object(OPERATION, path).await {
        Ok(object) => Ok(Some(object)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

pub(super) async fn publish(
    inner: &Arc<Inner>,
    local: &Path,
    segment: &SegmentId,
    options: PublishOptions,
) -> Result<Entry, StoreError> {
    use PublishStep as S;
    let crash_at = options.crash_at.clone();
    let at = |step| crash(crash_at.as_ref(), step);
    let path = paths::join(&inner.root, &segment.store_path());
    inner.allows(OPERATION, segment)?;
    at(S::Begun)?;
    let mut from = Outgoing::open(local, options.throttle.clone(), options.progress.clone()).await?;
    at(S::DirectoryMade)?;

    let before = present(inner, &path).await?;
    let looked = tokio::time::Instant::now();
    let not_older = |object: &Object| object.promoted_ms >= options.mtime_ms;
    if let Some(object) = before.as_ref().filter(|object| not_older(object)) {
        let why = format!(
            "the canonical copy's mtime {} is not older than the new one's {}",
            object.promoted_ms, options.mtime_ms
        );
        return Err(StoreError::Conflict { operation: OPERATION, path, why });
    }
    let can = inner.operator.info().full_capability();
    let mut writer = inner
        .operator
        .writer_with(key(&path))
        .chunk(PART)
        .concurrent(AT_ONCE)
        .user_metadata([(MTIME.to_owned(), options.mtime_ms.to_string())]);
    // Where the service can, it refuses to replace another object than the one that was looked at.
    match before.as_ref().map(|object| object.etag.as_deref()) {
        None if can.write_with_if_not_exists => writer = writer.if_not_exists(true),
        Some(Some(etag)) if can.write_with_if_match => writer = writer.if_match(etag),
        _ => {}
    }
    let mut writer = inner.within(OPERATION, &path, writer).await?;
    let outcome = async {
        at(S::TemporaryMade)?;
        let mut hash = options.sha256.is_some().then(Sha256::new);
        let mut half_told = false;
        loop {
            if !half_told && from.done() >= from.bytes / 2 {
                half_told = true;
                at(S::HalfWritten)?;
            }
            let chunk = from.chunk(CHUNK as u64).await?;
            if chunk.is_empty() {
                break;
            }
            if let Some(hash) = &mut hash {
                hash.update(&chunk);
            }
            let sent = chunk.len() as u64;
            inner.within(OPERATION, &path, writer.write(chunk)).await?;
            from.sent(sent);
        }
        from.sent(0);
        at(S::Written)?;
        at(S::Synced)?;
        if let (Some(hash), Some(expected)) = (hash, &options.sha256) {
            let got = hex(&hash.finalize());
            if !got.eq_ignore_ascii_case(expected) {
                let why = format!("its SHA-256 is {got} instead of {expected}");
                return Err(StoreError::Damaged { operation: OPERATION, path: path.clone(), why });
            }
        }
        at(S::Verified)?;
        if let Some(before) = &before
            && crashsafe::now_ms().saturating_sub(before.entry.mtime_ms) < LONG_AGO_MS
        {
            tokio::time::sleep_until(looked + TICK).await;
        }
        if let Some(check) = options.before_rename {
            let path = path.clone();
            check().await.map_err(|source| StoreError::Refused { operation: OPERATION, path, source })?;
        }
        at(S::Checked)
    }
    .await;
    if let Err(e) = outcome {
        // A single put has sent nothing yet; the parts of a large one are given up. Nothing of it was seen.
        drop(writer.abort().await);
        return Err(e);
    }
    let closed = inner.within(OPERATION, &path, writer.close()).await;
    at(S::Renamed)?;
    let after = match closed {
        Ok(closed) => {
            let after = inner.object(OPERATION, &path).await?;
            // OpenDAL sends no metadata with an upload to Azure in parts: there the etag tells that it is ours.
            let ours = closed.etag().is_some() && closed.etag() == after.etag.as_deref();
            if after.promoted_ms != options.mtime_ms && !ours {
                let why = "somebody else published just afterwards".to_owned();
                return Err(StoreError::Conflict { operation: OPERATION, path, why });
            }
            after
        }
        // The answer to the first try may have been lost, and the second found our own object there.
        Err(e @ StoreError::Conflict { .. }) => match inner.object(OPERATION, &path).await {
            Ok(after) if after.promoted_ms == options.mtime_ms && after.entry.bytes == from.bytes => after,
            _ => return Err(e),
        },
        Err(e) => return Err(e),
    };
    if after.entry.bytes != from.bytes {
        let why = format!("{} bytes arrived of {}", after.entry.bytes, from.bytes);
        return Err(StoreError::Damaged { operation: OPERATION, path, why });
    }
    at(S::Durable)?;
    Ok(after.entry)
}
