//! Service rows: what this node should advertise, what it does, and the task that makes the second the first, in batches.
//!
//! In memory: two bits and a version a segment for each. The rows themselves are in the table `services`.

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
use tokio_util::sync::CancellationToken;
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

/// The rows of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// [`READ`], [`WRITE`].
    roles: u8,
    /// What the read row says of the version (`version_ms`); 0 where it is known to equal none, -1 where the row says nothing.
    version: i64,
}

impl State {
    fn is(self, other: Self) -> bool {
        self.roles == other.roles && (self.roles & READ == 0 || self.version == other.version)
    }
}

/// What to write for one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Task {
    segment: SegmentId,
    wanted: State,
    actual: State,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bits {
    wanted: State,
    actual: State,
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
    /// Whether all that should be told was told once.
    told: CancellationToken,
}

impl Advertiser {
    /// The segment shall have exactly these rows; what the read row says of the version stays.
    pub(crate) fn set(&self, segment: &SegmentId, roles: u8) {
        self.change(segment, roles, None);
    }

    /// The segment shall have its read row alone, and it shall say that the canonical copy of this time is served.
    pub(crate) fn set_version(&self, segment: &SegmentId, version: i64) {
        self.change(segment, READ, Some(version));
    }

    fn change(&self, segment: &SegmentId, roles: u8, version: Option<i64>) {
        let mut rows = self.rows.lock();
        let bits = rows.bits.entry(segment.clone()).or_default();
        let kept = if roles == 0 { 0 } else { bits.wanted.version };
        bits.wanted = State { roles, version: version.unwrap_or(kept) };
        if !bits.wanted.is(bits.actual) && !bits.queued {
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
                    segments.iter().all(|s| rows.bits.get(s).is_none_or(|b| b.wanted.roles == b.actual.roles))
                };
                if done {
                    return;
                }
                written.await;
            }
        };
        tokio::time::timeout(patience, all).await.is_ok()
    }

    /// Waits until all rows that there should be at the start have been written.
    pub(crate) async fn told(&self) {
        self.told.cancelled().await;
    }

    /// How many rows wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.rows.lock().dirty.len()
    }

    fn take(&self, max: usize) -> Vec<Task> {
        let mut rows = self.rows.lock();
        let rows = &mut *rows;
        let at = rows.dirty.len().saturating_sub(max);
        let batch = rows.dirty.split_off(at);
        batch
            .into_iter()
            .filter_map(|segment| {
                let bits = rows.bits.get_mut(&segment)?;
                bits.queued = false;
                let (wanted, actual) = (bits.wanted, bits.actual);
                (!wanted.is(actual)).then_some(Task { segment, wanted, actual })
            })
            .collect()
    }

    fn finished(&self, batch: &[Task], written: bool) {
        let mut rows = self.rows.lock();
        let rows = &mut *rows;
        for Task { segment, wanted, .. } in batch {
            let Some(bits) = rows.bits.get_mut(segment) else { continue };
            if written {
                bits.actual = *wanted;
            }
            if bits.wanted.is(bits.actual) {
                if bits.wanted.roles == 0 {
                    rows.bits.remove(segment);
                }
            } else if !bits.queued {
                bits.queued = true;
                rows.dirty.push(segment.clone());
            }
        }
    }

    /// Takes what the database holds now.
    fn take_actual(&self, actual: HashMap<SegmentId, State>) {
        let mut rows = self.rows.lock();
        let rows = &mut *rows;
        for bits in rows.bits.values_mut() {
            bits.actual = State::default();
        }
        for (segment, bits) in actual {
            rows.bits.entry(segment).or_default().actual = bits;
        }
        rows.dirty.clear();
        for (segment, bits) in &mut rows.bits {
            bits.queued = !bits.wanted.is(bits.actual);
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
            Ok(()) => {
                worker.advertiser.told.cancel();
                Duration::ZERO
            }
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

async fn write_batch(worker: &Worker, batch: &[Task]) -> Result<(), CatalogError> {
    let load = system::load_per_processor();
    let (mut puts, mut deletes) = (Vec::new(), Vec::new());
    for Task { segment, wanted, actual } in batch {
        for (bit, role) in [(READ, ROLE_READ), (WRITE, ROLE_WRITE)] {
            let newer = bit == READ && wanted.version != actual.version;
            if wanted.roles & bit != 0 && (actual.roles & bit == 0 || newer) {
                let mut row = service(worker, role, segment, load);
                row.version_ms = (bit == READ).then_some(wanted.version);
                puts.push(row);
            } else if wanted.roles & bit == 0 && actual.roles & bit != 0 {
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
async fn read_rows(worker: &Worker) -> Result<HashMap<SegmentId, State>, CatalogError> {
    let mut rows = worker.catalog.services_of_node(&worker.node).await?;
    let mut actual: HashMap<SegmentId, State> = HashMap::new();
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
            let state = actual.entry(segment.clone()).or_default();
            state.roles |= bit;
            if bit == READ {
                state.version = row.version_ms.unwrap_or(-1);
            }
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
        self.rows.lock().bits.get(segment).is_some_and(|bits| bits.wanted.roles & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: &str) -> SegmentId {
        SegmentId::new(id).expect("id")
    }

    fn task(segment: &str, wanted: u8, actual: u8) -> Task {
        let state = |roles| State { roles, version: 0 };
        Task { segment: id(segment), wanted: state(wanted), actual: state(actual) }
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
        assert_eq!(rows.take(10), [task("b", 0, READ)]);
    }

    #[test]
    fn what_the_database_holds_is_compared() {
        let rows = Advertiser::default();
        rows.set(&id("a"), READ);
        let state = |roles| State { roles, version: 0 };
        rows.take_actual(HashMap::from([(id("a"), state(READ)), (id("old"), state(WRITE))]));
        assert_eq!(rows.take(10), [task("old", 0, WRITE)]);
    }

    #[test]
    fn a_newer_version_is_written_again() {
        let rows = Advertiser::default();
        let version = |version| {
            let batch = rows.take(10);
            rows.finished(&batch, true);
            let versions: Vec<i64> = batch.iter().map(|task| task.wanted.version).collect();
            assert_eq!(versions, version);
        };
        rows.set_version(&id("a"), 7);
        version(vec![7]);
        // Under its own write lock, and while it is freshened, it is what it was.
        rows.set(&id("a"), READ | WRITE);
        version(vec![7]);
        rows.set_version(&id("a"), 8);
        version(vec![8]);
        rows.set_version(&id("a"), 8);
        version(vec![]);
        // Withdrawn, nothing is known of it any more.
        rows.clear(&id("a"));
        rows.set(&id("a"), READ);
        version(vec![0]);
        // A row of an earlier build says nothing.
        rows.take_actual(HashMap::from([(id("a"), State { roles: READ, version: -1 })]));
        version(vec![0]);
    }
}
