//! How much a listener takes on at the same time: connections, in all and of one address, and requests.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trough_config::HttpLimits;

/// So many times MAX_REQUESTS may wait; further requests are refused at once.
const QUEUE: usize = 4;

/// Counts connections.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    all: AtomicUsize,
    by_peer: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    doors: Arc<Doors>,
    peer: IpAddr,
}

impl Doors {
    /// A place for a connection.
    ///
    /// # Errors
    /// The setting that says that there is none.
    pub(crate) fn enter(self: &Arc<Self>, peer: IpAddr, limits: &HttpLimits) -> Result<Place, &'static str> {
        if self.all.load(Relaxed) >= limits.max_connections {
            return Err("MAX_CONNECTIONS");
        }
        let mut by_peer = self.by_peer.lock();
        let count = by_peer.entry(peer).or_default();
        if *count >= limits.max_connections_per_peer {
            return Err("MAX_CONNECTIONS_PER_PEER");
        }
        *count += 1;
        self.all.fetch_add(1, Relaxed);
        Ok(Place { doors: self.clone(), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.doors.all.fetch_sub(1, Relaxed);
        let mut by_peer = self.doors.by_peer.lock();
        if let Some(count) = by_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                by_peer.remove(&self.peer);
            }
        }
    }
}

/// Counts requests.
#[derive(Debug)]
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
    wait: Duration,
}

impl Gate {
    pub(crate) fn new(limits: &HttpLimits) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limits.max_requests)),
            waiting: AtomicUsize::new(0),
            most_waiting: limits.max_requests * QUEUE,
            wait: limits.request_wait,
        }
    }

    /// A place for a request, after a while if need be; none if there is none by then.
    pub(crate) async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Some(permit);
        }
        let _waiting = Waiting::begin(&self.waiting, self.most_waiting)?;
        // The semaphore is never closed.
        tokio::time::timeout(self.wait, self.permits.clone().acquire_owned()).await.ok()?.ok()
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Relaxed) < most).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
