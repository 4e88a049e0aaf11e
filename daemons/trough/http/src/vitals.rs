//! Whether the loops that a daemon lives by still turn.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The loops of a daemon that must not stand still. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Vitals(Arc<Mutex<Vec<Loop>>>);

#[derive(Debug)]
struct Loop {
    name: &'static str,
    bound: Duration,
    last: Arc<Mutex<Instant>>,
}

/// Held by a loop, which tells by it that it has turned. A loop that ends drops it, and is not waited for any more.
#[derive(Debug)]
pub struct Beat(Arc<Mutex<Instant>>);

impl Beat {
    /// The loop has turned.
    pub fn turned(&self) {
        *self.0.lock() = Instant::now();
    }
}

impl Vitals {
    /// From now on the loop `name` has to turn at least every `bound`.
    pub fn expect(&self, name: &'static str, bound: Duration) -> Beat {
        let last = Arc::new(Mutex::new(Instant::now()));
        self.0.lock().push(Loop { name, bound, last: last.clone() });
        Beat(last)
    }

    /// The first loop that has stood still for longer than it may, as a sentence; none if all turn.
    pub fn stuck(&self) -> Option<String> {
        let mut loops = self.0.lock();
        loops.retain(|l| Arc::strong_count(&l.last) > 1);
        loops.iter().find_map(|l| {
            let still = l.last.lock().elapsed();
            (still > l.bound).then(|| format!("the {} loop has stood still for {:.1} s", l.name, still.as_secs_f64()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stands_still_is_named() {
        let vitals = Vitals::default();
        let (lease, other) =
            (vitals.expect("lease", Duration::from_secs(45)), vitals.expect("other", Duration::from_secs(90)));
        tokio::time::advance(Duration::from_secs(45)).await;
        assert_eq!(vitals.stuck(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(vitals.stuck().as_deref(), Some("the lease loop has stood still for 46.0 s"));
        lease.turned();
        assert_eq!(vitals.stuck(), None);
        tokio::time::advance(Duration::from_secs(45)).await;
        assert_eq!(vitals.stuck().as_deref(), Some("the other loop has stood still for 91.0 s"));
        drop(other);
        assert_eq!(vitals.stuck(), None, "a loop that has ended is not waited for");
    }
}
