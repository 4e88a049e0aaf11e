//! Log lines that clients can cause, kept to so many a while.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lets some pass in each period, and counts the rest.
#[derive(Debug)]
pub struct Rate {
    most: u32,
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Instant,
    passed: u32,
    held_back: u64,
}

impl Rate {
    /// At most `most` in each `period`.
    pub fn new(most: u32, period: Duration) -> Self {
        Self { most, period, state: Mutex::new(State { since: Instant::now(), passed: 0, held_back: 0 }) }
    }

    /// Whether one more may pass; then gives how many were held back since the last that did.
    pub fn pass(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.since.elapsed() >= self.period {
            (state.since, state.passed) = (Instant::now(), 0);
        }
        if state.passed >= self.most {
            state.held_back += 1;
            return None;
        }
        state.passed += 1;
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted() {
        let rate = Rate::new(2, Duration::from_secs(3600));
        assert_eq!([rate.pass(), rate.pass(), rate.pass(), rate.pass()], [Some(0), Some(0), None, None]);
        let always = Rate::new(1, Duration::ZERO);
        assert_eq!([always.pass(), always.pass()], [Some(0), Some(0)]);
    }
}
