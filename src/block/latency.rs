//! How long requests take, by kind.

use std::time::Duration;

use crate::device::OperationKind;
use crate::sync::uncounted::{AtomicU64, Ordering};

/// Bucket `n` counts what took at least 2^n ns and less than twice that; the last one everything above.
const BUCKETS: usize = 40;

/// How many requests took how long, in steps of a factor of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    buckets: [u64; BUCKETS],
}

impl Latency {
    /// Requests that were timed.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// A time that the `share` of the requests did not exceed (0.99 for the 99th percentile), at most twice too long;
    /// `None` if there were none. What took longer than 2^40 ns, 18 minutes, is not told apart from 2^40 ns.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = (self.count() as f64 * share).ceil() as u64;
        let mut below = 0;
        let bucket = self.buckets.iter().position(|count| {
            below += count;
            below >= rank.max(1)
        })?;
        Some(Duration::from_nanos(2 << bucket))
    }
}

/// The histograms of a queue.
#[derive(Debug)]
pub(super) struct Latencies([[AtomicU64; BUCKETS]; 5]);

impl Default for Latencies {
    fn default() -> Self {
        Self(std::array::from_fn(|_| {
            std::array::from_fn(|_| AtomicU64::new(0))
        }))
    }
}

impl Latencies {
    pub(super) fn record(&self, kind: OperationKind, took: Duration) {
        let nanos = took.as_nanos().max(1);
        let bucket = (nanos.ilog2() as usize).min(BUCKETS - 1);
        self.0[kind as usize][bucket].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn of(&self, kind: OperationKind) -> Latency {
        let count = |bucket: usize| self.0[kind as usize][bucket].load(Ordering::Relaxed);
        Latency {
            buckets: std::array::from_fn(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_twice_too_long() {
        let latencies = Latencies::default();
        let times = [0, 1, 5, 1000, 1001, 40_000, u64::MAX];
        for nanos in times {
            latencies.record(OperationKind::Read, Duration::from_nanos(nanos));
        }
        let found = latencies.of(OperationKind::Read);
        assert_eq!(found.count(), times.len() as u64);
        for (rank, nanos) in times.iter().enumerate().take(6) {
            let share = (rank + 1) as f64 / times.len() as f64;
            let quantile = found.quantile(share).unwrap().as_nanos() as u64;
            let exact = (*nanos).max(1);
            assert!(exact <= quantile && quantile <= 2 * exact, "{nanos}");
        }
        // The last bucket has no end.
        let longest = found.quantile(1.0).unwrap();
        assert_eq!(longest, Duration::from_nanos(1 << BUCKETS));
        assert_eq!(latencies.of(OperationKind::Write).quantile(0.5), None);
    }
}
