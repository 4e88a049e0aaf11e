//! One segment, one change at a time: provisioning, promotion, replacement and removal of a segment's file exclude each other.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;
use trough_core::SegmentId;

/// The segments that somebody is at work on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    set: Mutex<HashSet<SegmentId>>,
    freed: Notify,
}

/// Holds its segments until it is dropped.
#[derive(Debug)]
pub(crate) struct BusyGuard {
    inner: Arc<Inner>,
    segments: Vec<SegmentId>,
}

impl Busy {
    /// Waits until nobody is at work on any of the segments, then has them all at once: so two who want several in
    /// different orders cannot wait for each other.
    pub(crate) async fn acquire(&self, segments: &[SegmentId]) -> BusyGuard {
        loop {
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(guard) = self.try_acquire(segments) {
                return guard;
            }
            freed.await;
        }
    }

    /// The same, or none if somebody is at work on one of them.
    pub(crate) fn try_acquire(&self, segments: &[SegmentId]) -> Option<BusyGuard> {
        let mut set = self.0.set.lock();
        if segments.iter().any(|s| set.contains(s)) {
            return None;
        }
        set.extend(segments.iter().cloned());
        Some(BusyGuard { inner: self.0.clone(), segments: segments.to_vec() })
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        let mut set = self.inner.set.lock();
        for segment in &self.segments {
            set.remove(segment);
        }
        drop(set);
        self.inner.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_who_want_the_same_take_turns() {
        let busy = Busy::default();
        let ids: Vec<SegmentId> = ["a", "b", "c"].iter().map(|s| SegmentId::new(s).expect("id")).collect();
        let inside = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let tasks = (0..20).map(|i| {
            let (busy, inside) = (busy.clone(), inside.clone());
            let wanted = vec![ids[i % 3].clone(), ids[(i + 1) % 3].clone()];
            tokio::spawn(async move {
                let _guard = busy.acquire(&wanted).await;
                assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no overlap");
        }
    }
}
