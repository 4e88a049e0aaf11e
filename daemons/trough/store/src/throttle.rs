//! Limits on bandwidth, shared by all transfers that are given the same limit.

use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// Asked before every chunk of a transfer.
#[async_trait]
pub trait Throttle: Send + Sync {
    /// Waits until `bytes` more may travel.
    async fn acquire(&self, bytes: u64);
}

/// So many bytes a second over all who share it, with bursts of up to one second's worth. Waiters are served in
/// the order they came. The rate may change at any time; who waits then goes on at the new one.
#[derive(Debug)]
pub struct TokenBucket {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// Bytes a second; 0 is no limit.
    rate: f64,
    /// Bytes that were asked for so far.
    granted: f64,
    /// Bytes that may have travelled by `at`.
    earned: f64,
    at: Instant,
}

impl State {
    fn advance(&mut self) {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        // Credit is at most what a second earns; without a limit nobody owes anything.
        self.earned = if self.rate == 0.0 {
            self.granted
        } else {
            (self.earned + passed * self.rate).min(self.granted + self.rate)
        };
        self.at = now;
    }
}

impl TokenBucket {
    /// The longest that a waiter sleeps before it looks again.
    const LONGEST: f64 = 3600.0;

    /// A limit of `bytes_per_second`; 0 is none.
    pub fn new(bytes_per_second: u64) -> Self {
        let state = State { rate: bytes_per_second as f64, granted: 0.0, earned: 0.0, at: Instant::now() };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// From now on it is `bytes_per_second`; 0 is no limit.
    pub fn set_rate(&self, bytes_per_second: u64) {
        {
            let mut state = self.state.lock();
            state.advance();
            state.rate = bytes_per_second as f64;
        }
        self.changed.notify_waiters();
    }

    /// The rate; 0 is no limit.
    pub fn rate(&self) -> u64 {
        self.state.lock().rate as u64
    }

    /// How long until all that was granted up to `ticket` is earned; none if it is.
    fn wait(&self, ticket: f64) -> Option<Duration> {
        let mut state = self.state.lock();
        state.advance();
        let owed = ticket - state.earned;
        (state.rate > 0.0 && owed > 0.0).then(|| Duration::from_secs_f64((owed / state.rate).min(Self::LONGEST)))
    }
}

#[async_trait]
impl Throttle for TokenBucket {
    async fn acquire(&self, bytes: u64) {
        let ticket = {
            let mut state = self.state.lock();
            state.advance();
            let ticket = state.granted;
            state.granted += bytes as f64;
            ticket
        };
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let Some(wait) = self.wait(ticket) else { return };
            tokio::select! {
                () = sleep(wait) => {}
                () = changed => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn holds_the_rate_over_many_waiters() {
        let bucket = TokenBucket::new(1_000_000);
        let begun = Instant::now();
        futures::future::join_all((0..50).map(|_| bucket.acquire(4_000))).await;
        let took = begun.elapsed().as_secs_f64();
        assert!(took >= 0.19, "{took}");
    }

    #[tokio::test]
    async fn a_waiter_goes_on_at_the_new_rate() {
        let bucket = Arc::new(TokenBucket::new(1));
        bucket.acquire(1 << 30).await;
        let waiting = tokio::spawn({
            let bucket = bucket.clone();
            async move { bucket.acquire(1).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "a century to wait");
        bucket.set_rate(0);
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("goes on").expect("no panic");
        bucket.acquire(1 << 40).await;
        bucket.set_rate(1);
        assert_eq!(bucket.rate(), 1);
        assert!(bucket.wait(f64::from(1 << 30)).is_none(), "what was free is not owed");
    }
}
