//! The promotions under way: how many at the same time, how fast, how far each is, and, for tests, where the process ends as if
//! it were killed.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use trough_config::Settings;
use trough_core::SegmentId;
use trough_store::{CrashAt, PublishOptions, PublishStep, TokenBucket};

/// The step before publication: the checked snapshot lies beside the segment.
pub(crate) const SNAPSHOT: &str = "SnapshotTaken";
/// The step after it: the canonical copy is recorded in the assignments.
pub(crate) const RECORDED: &str = "Recorded";

/// How far a promotion is, for the status page.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) since: Instant,
    pub(crate) stage: Mutex<&'static str>,
    pub(crate) bytes: AtomicU64,
    pub(crate) done: Arc<AtomicU64>,
}

/// All promotions of a worker.
pub(crate) struct Promotions {
    running: Mutex<HashMap<SegmentId, Arc<Progress>>>,
    slots: Semaphore,
    pub(crate) throttle: Arc<TokenBucket>,
    over: Notify,
    crash_at: Option<Arc<str>>,
}

/// One promotion under way; dropped, it is over.
pub(crate) struct Promotion<'a> {
    promotions: &'a Promotions,
    segment: &'a SegmentId,
    progress: Arc<Progress>,
}

impl Promotions {
    /// As the settings say.
    ///
    /// # Errors
    /// If CRASH_AT names no step.
    pub(crate) fn new(settings: &Settings) -> anyhow::Result<Self> {
        if let Some(step) = &settings.crash_at {
            let known = steps();
            anyhow::ensure!(known.iter().any(|s| s == step), "CRASH_AT is '{step}'; steps are {}", known.join(", "));
            tracing::warn!(step, "CRASH_AT is set: this process will end at that step of its next promotion");
        }
        Ok(Self {
            running: Mutex::default(),
            slots: Semaphore::new(settings.promotion_pool_size),
            throttle: Arc::new(TokenBucket::new(settings.promotion_bandwidth.unwrap_or(0))),
            over: Notify::new(),
            crash_at: settings.crash_at.as_deref().map(Into::into),
        })
    }

    /// Notes a promotion; none, if the segment has one already.
    pub(crate) fn begin<'a>(&'a self, segment: &'a SegmentId) -> Option<Promotion<'a>> {
        let progress = Arc::new(Progress {
            since: Instant::now(),
            stage: Mutex::new("waiting"),
            bytes: AtomicU64::new(0),
            done: Arc::default(),
        });
        let mut running = self.running.lock();
        if running.contains_key(segment) {
            return None;
        }
        running.insert(segment.clone(), progress.clone());
        Some(Promotion { promotions: self, segment, progress })
    }

    /// What is under way, the oldest first.
    pub(crate) fn snapshot(&self) -> Vec<(SegmentId, Arc<Progress>)> {
        let mut all: Vec<_> = self.running.lock().iter().map(|(s, p)| (s.clone(), p.clone())).collect();
        all.sort_by_key(|(_, progress)| progress.since);
        all
    }

    /// Waits until none is under way.
    pub(crate) async fn all_over(&self) {
        loop {
            let over = self.over.notified();
            tokio::pin!(over);
            over.as_mut().enable();
            if self.running.lock().is_empty() {
                return;
            }
            over.await;
        }
    }

    /// Ends the process if CRASH_AT says so.
    pub(crate) fn reach(&self, step: &str) {
        if let Some(at) = &self.crash_at {
            crash(at, step);
        }
    }
}

impl Promotion<'_> {
    /// Waits until it may begin.
    pub(crate) async fn slot(&self) -> SemaphorePermit<'_> {
        let permit = self.promotions.slots.acquire().await.expect("the semaphore is never closed");
        self.stage("snapshot");
        permit
    }

    /// Notes what it does now.
    pub(crate) fn stage(&self, stage: &'static str) {
        *self.progress.stage.lock() = stage;
    }

    /// Has the publication of `bytes` reported, throttled and, for tests, crashed.
    pub(crate) fn watch(&self, options: &mut PublishOptions, bytes: u64) {
        self.stage("upload");
        self.progress.bytes.store(bytes, Ordering::Relaxed);
        let done = self.progress.done.clone();
        options.progress = Some(Arc::new(move |bytes| done.store(bytes, Ordering::Relaxed)));
        options.throttle = Some(self.promotions.throttle.clone());
        options.crash_at = self.promotions.crash_at.clone().map(|at| -> CrashAt {
            Arc::new(move |step| {
                crash(&at, &name(step));
                false
            })
        });
    }
}

impl Drop for Promotion<'_> {
    fn drop(&mut self) {
        self.promotions.running.lock().remove(self.segment);
        self.promotions.over.notify_waiters();
    }
}

fn name(step: PublishStep) -> String {
    format!("{step:?}")
}

/// The steps that CRASH_AT can name, in order.
fn steps() -> Vec<String> {
    let publication = PublishStep::ALL.into_iter().map(name);
    std::iter::once(SNAPSHOT.to_owned()).chain(publication).chain([RECORDED.to_owned()]).collect()
}

fn crash(at: &str, step: &str) {
    if at == step {
        tracing::error!(step, "CRASH_AT: the process ends here");
        std::process::abort();
    }
}
