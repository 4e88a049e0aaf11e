//! Service rows: what this node should advertise, what it does, and the task that makes the second the first, in batches.
//!
//! In memory: two bits a segment for each. The rows themselves are in the table `services`.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::Notify;
use trough_client::{
    CatalogError,
    catalog::{MAX_KEYS, segment_service},
};
use trough_config::Heartbeat;
use trough_core::{
    SegmentId,
    records::{ROLE_READ, ROLE_WRITE, Service},
};

use crate::{state::Worker, system};

/// The row `trough-read`.
pub(crate) const READ: u8 = 1;
/// The row `trough-write`.
pub(crate) const WRITE: u8 = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Bits {
    wanted: u8,
    actual: u8,
    /// Whether the segment stands in `dirty`.
    queued: bool,
}

#[derive(Debug, Default)]
struct Rows {
    bits: HashMap<SegmentId, Bits>,
    dirty: Vec<SegmentId>,
}

/// Keeps the service rows as they should be.
#[derive(Debug, Default)]
pub(crate) struct Advertiser {
    rows: Mutex<Rows>,
    wake: Notify,
    written: Notify,
    /// The rows in the database must be read again: a master may have deleted them while the lease did not run.
    reread: AtomicBool,
}

impl Advertiser {
    /// The segment shall have exactly these rows.
    pub(crate) fn set(&self, segment: &SegmentId, wanted: u8) {
        let mut rows = self.rows.lock();
        let bits = rows.bits.entry(segment.clone()).or_default();
        bits.wanted = wanted;
        if bits.wanted != bits.actual && !bits.queued {
            bits.queued = true;
            rows.dirty.push(segment.clone());
            drop(rows);
            self.wake.notify_one();
        }
    }

    /// The segment shall have no rows.
    pub(crate) fn clear(&self, segment: &SegmentId) {
        let known = self.rows.lock().bits.contains_key(segment);
        if known {
            self.set(segment, 0);
        }
    }

    /// Has the rows in the database read again.
    pub(crate) fn reread(&self) {
        self.reread.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Waits until the rows of these segments are in the database as they should be; false if that took too long.
    pub(crate) async fn settled(&self, segments: &[SegmentId], patience: Duration) -> bool {
        let all = async {
            loop {
                let written = self.written.notified();
                tokio::pin!(written);
                written.as_mut().enable();
                let done = {
                    let rows = self.rows.lock();
                    segments.iter().all(|s| rows.bits.get(s).is_none_or(|b| b.wanted == b.actual))
                };
                if done {
                    return;
                }
                written.await;
            }
        };
        tokio::time::timeout(patience, all).await.is_ok()
    }

    /// How many rows wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.rows.lock().dirty.len()
    }

    fn take(&self, max: usize) -> Vec<(SegmentId, u8, u8)> {
        let mut rows = self.rows.lock();
        let rows = &mut *rows;
        let at = rows.dirty.len().saturating_sub(max);
        let batch = rows.dirty.split_off(at);
        batch
            .into_iter()
            .filter_map(|segment| {
                let bits = rows.bits.get_mut(&segment)?;
                bits.queued = false;
                (bits.wanted != bits.actual).then_some((segment, bits.wanted, bits.actual))
            })
            .collect()
    }

    fn finished(&self, batch: &[(SegmentId, u8, u8)], written: bool) {
        let mut rows = self.rows.lock();
        let rows = &mut *rows;
        for (segment, wanted, _) in batch {
            let Some(bits) = rows.bits.get_mut(segment) else { continue };
            if written {
                bits.actual = *wanted;
            }
            if bits.wanted == bits.actual {
                if bits.wanted == 0 {
                    rows.bits.remove(segment);
                }
            } else if !bits.queued {
                bits.queued = true;
                rows.dirty.push(segment.clone());
            }
        }
    }

    /// Takes what the database holds now.
    fn take_actual(&self, actual: HashMap<SegmentId, u8>) {
        let mut rows = self.rows.lock();
        let rows = &mut *rows;
        for bits in rows.bits.values_mut() {
            bits.actual = 0;
        }
        for (segment, bits) in actual {
            rows.bits.entry(segment).or_default().actual = bits;
        }
        rows.dirty.clear();
        for (segment, bits) in &mut rows.bits {
            bits.queued = bits.wanted != bits.actual;
            if bits.queued {
                rows.dirty.push(segment.clone());
            }
        }
    }

    /// HEARTBEAT: segment: every row is written anew.
    pub(crate) fn renew_all(&self) {
        self.take_actual(HashMap::new());
        self.wake.notify_one();
    }
}

/// Writes rows until the shutdown.
pub(crate) async fn run(worker: Arc<Worker>) {
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = worker.shutdown.cancelled() => return,
            () = worker.advertiser.wake.notified() => {}
            () = tokio::time::sleep(pause), if !pause.is_zero() => {}
        }
        pause = match write_all(&worker).await {
            Ok(()) => Duration::ZERO,
            Err(error) => {
                tracing::warn!(%error, waiting = worker.advertiser.waiting(), "cannot write service rows, trying again");
                (pause * 2).clamp(Duration::from_millis(200), Duration::from_secs(5))
            }
        };
    }
}

async fn write_all(worker: &Worker) -> Result<(), CatalogError> {
    let advertiser = &worker.advertiser;
    if advertiser.reread.swap(false, Ordering::AcqRel) {
        match read_rows(worker).await {
            Ok(actual) => advertiser.take_actual(actual),
            Err(error) => {
                advertiser.reread.store(true, Ordering::Release);
                return Err(error);
            }
        }
    }
    loop {
        let batch = advertiser.take(MAX_KEYS / 2);
        if batch.is_empty() {
            advertiser.written.notify_waiters();
            return Ok(());
        }
        let result = write_batch(worker, &batch).await;
        advertiser.finished(&batch, result.is_ok());
        advertiser.written.notify_waiters();
        result?;
    }
}

async fn write_batch(worker: &Worker, batch: &[(SegmentId, u8, u8)]) -> Result<(), CatalogError> {
    let load = system::load_per_processor();
    let (mut puts, mut deletes) = (Vec::new(), Vec::new());
    for (segment, wanted, actual) in batch {
        for (bit, role) in [(READ, ROLE_READ), (WRITE, ROLE_WRITE)] {
            if wanted & bit != 0 && actual & bit == 0 {
                puts.push(service(worker, role, segment, load));
            } else if wanted & bit == 0 && actual & bit != 0 {
                deletes.push(Service::segment_id(role, &worker.node, segment));
            }
        }
    }
    if !deletes.is_empty() {
        worker.catalog.withdraw(&deletes).await?;
    }
    if !puts.is_empty() {
        worker.catalog.advertise(&puts).await?;
    }
    Ok(())
}

fn service(worker: &Worker, role: &str, segment: &SegmentId, load: f64) -> Service {
    let (url, port) = match role {
        ROLE_WRITE => (&worker.urls.write, worker.urls.write_port),
        _ => (&worker.urls.read, worker.urls.read_port),
    };
    let mut service = segment_service(role, &worker.node, segment, url, port, load);
    service.host = Some(system::hostname().to_owned());
    if worker.settings.heartbeat == Heartbeat::Segment {
        service.ttl = 4.0 * worker.settings.sync_loop_timing.as_secs_f64();
    }
    service
}

/// The rows that this node has in the database; one with another URL than ours does not count.
async fn read_rows(worker: &Worker) -> Result<HashMap<SegmentId, u8>, CatalogError> {
    let mut rows = worker.catalog.services_of_node(&worker.node).await?;
    let mut actual = HashMap::new();
    let mut foreign = Vec::new();
    while let Some(row) = rows.next().await {
        let row = row?;
        let (Some(segment), Some(role)) = (&row.segment, row.role.as_deref()) else { continue };
        let bit = match role {
            ROLE_READ => READ,
            ROLE_WRITE => WRITE,
            _ => continue,
        };
        let ours = service(worker, role, segment, 0.0);
        if row.id != ours.id {
            foreign.push(row.id);
        } else if row.url == ours.url && row.ttl >= ours.ttl {
            *actual.entry(segment.clone()).or_default() |= bit;
        } else if !worker.advertiser.wants(segment, bit) {
            foreign.push(row.id);
        }
    }
    if !foreign.is_empty() {
        worker.catalog.withdraw(&foreign).await?;
    }
    Ok(actual)
}

impl Advertiser {
    fn wants(&self, segment: &SegmentId, bit: u8) -> bool {
        self.rows.lock().bits.get(segment).is_some_and(|bits| bits.wanted & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: &str) -> SegmentId {
        SegmentId::new(id).expect("id")
    }

    #[test]
    fn only_differences_are_written() {
        let rows = Advertiser::default();
        rows.set(&id("a"), READ | WRITE);
        rows.set(&id("b"), READ);
        rows.set(&id("a"), READ);
        let batch = rows.take(10);
        assert_eq!(batch.len(), 2);
        rows.finished(&batch, true);
        assert!(rows.take(10).is_empty());
        // A failed batch is tried again.
        rows.set(&id("b"), 0);
        let batch = rows.take(10);
        rows.finished(&batch, false);
        assert_eq!(rows.take(10), [(id("b"), 0, READ)]);
    }

    #[test]
    fn what_the_database_holds_is_compared() {
        let rows = Advertiser::default();
        rows.set(&id("a"), READ);
        rows.take_actual(HashMap::from([(id("a"), READ), (id("old"), WRITE)]));
        assert_eq!(rows.take(10), [(id("old"), 0, WRITE)]);
    }
}
