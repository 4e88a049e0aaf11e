//! Limits on bandwidth, shared by all transfers that are given the same limit.

use std::time::Duration;

use async_trait::async_trait;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// Asked before every chunk of a transfer.
#[async_trait]
pub trait Throttle: Send + Sync {
    /// Waits until `bytes` more may travel.
    async fn acquire(&self, bytes: u64);
}

/// So many bytes a second over all who share it, with bursts of up to one second's worth. Waiters are served in
/// the order they came.
#[derive(Debug)]
pub struct TokenBucket {
    bytes_per_second: f64,
    /// When the bytes granted so far will have been earned; in the past while there is credit.
    paid_until: Mutex<Instant>,
}

impl TokenBucket {
    /// A limit of `bytes_per_second` (at least 1).
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1) as f64, paid_until: Mutex::new(Instant::now()) }
    }
}

#[async_trait]
impl Throttle for TokenBucket {
    async fn acquire(&self, bytes: u64) {
        const BURST: Duration = Duration::from_secs(1);
        let start = {
            let mut paid_until = self.paid_until.lock().await;
            let now = Instant::now();
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            let start = (*paid_until).max(earliest);
            *paid_until = start + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
            start
        };
        sleep_until(start).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn holds_the_rate_over_many_waiters() {
        let bucket = TokenBucket::new(1_000_000);
        let begun = Instant::now();
        futures::future::join_all((0..50).map(|_| bucket.acquire(4_000))).await;
        let took = begun.elapsed().as_secs_f64();
        assert!(took >= 0.19, "{took}");
    }
}
