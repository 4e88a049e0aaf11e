//! The penalty box: a host that failed is tried after those that did not, until its time is over.

use std::time::{Duration, Instant};

const FIRST_PENALTY: Duration = Duration::from_secs(1);
const LONGEST_PENALTY: Duration = Duration::from_secs(30);

/// What is known about each host of the options, by its position there.
#[derive(Debug)]
pub(crate) struct Hosts {
    hosts: Vec<Host>,
    /// Where to begin, so that many clients spread over all hosts.
    first: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Host {
    /// In a row.
    failures: u32,
    penalty_ends: Option<Instant>,
}

impl Hosts {
    pub(crate) fn new(count: usize, first: usize) -> Hosts {
        Hosts { hosts: vec![Host::default(); count], first }
    }

    /// All hosts in the order to try them: those without penalty, then those whose penalty ends first.
    pub(crate) fn order(&self, now: Instant) -> Vec<usize> {
        let count = self.hosts.len();
        let mut order: Vec<usize> = (0..count).map(|at| (self.first + at) % count).collect();
        order.sort_by_key(|host| self.hosts[*host].penalty_ends.filter(|ends| *ends > now));
        order
    }

    /// A host could not be reached, or its connection broke.
    pub(crate) fn failed(&mut self, host: usize, now: Instant) {
        let host = &mut self.hosts[host];
        let penalty = FIRST_PENALTY * 2u32.pow(host.failures.min(5));
        host.failures += 1;
        host.penalty_ends = Some(now + penalty.min(LONGEST_PENALTY));
    }

    /// A host shook hands. Its failures count on, since one that then says nothing would else always come first.
    pub(crate) fn connected(&mut self, host: usize) {
        self.hosts[host].penalty_ends = None;
    }

    /// A host answered queries.
    pub(crate) fn served(&mut self, host: usize) {
        self.hosts[host] = Host::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_hosts_come_last_until_their_penalty_ends() {
        let now = Instant::now();
        let mut hosts = Hosts::new(3, 1);
        assert_eq!(hosts.order(now), [1, 2, 0]);
        hosts.failed(1, now);
        hosts.failed(1, now);
        hosts.failed(2, now);
        assert_eq!(hosts.order(now), [0, 2, 1]);
        assert_eq!(hosts.order(now + Duration::from_millis(1500)), [2, 0, 1]);
        assert_eq!(hosts.order(now + Duration::from_secs(3)), [1, 2, 0]);
        hosts.connected(1);
        assert_eq!(hosts.order(now), [1, 0, 2]);
        hosts.failed(1, now);
        assert_eq!(hosts.order(now + Duration::from_secs(3)), [2, 0, 1], "its third failure");
        hosts.served(1);
        hosts.failed(1, now);
        assert_eq!(hosts.order(now + Duration::from_secs(1)), [1, 2, 0], "its first failure after it served");
        for _ in 0..100 {
            hosts.failed(0, now);
        }
        assert_eq!(hosts.order(now + LONGEST_PENALTY), [1, 2, 0]);
    }
}
