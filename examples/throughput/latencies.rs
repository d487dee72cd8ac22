//! How long operations took, by kind. Each thread has its own.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::mix::{KINDS, Kind};

/// The times of many operations in nanoseconds, to one in a hundred.
#[derive(Clone, Debug)]
pub(crate) struct Latencies([Histogram<u64>; KINDS]);

/// The shares of operations whose times are told.
pub(crate) const SHARES: [(&str, f64); 4] =
    [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

impl Default for Latencies {
    fn default() -> Self {
        const LONGEST: u64 = 100_000_000_000;
        let empty = || Histogram::new_with_bounds(1, LONGEST, 2).expect("good bounds");
        Self(std::array::from_fn(|_| empty()))
    }
}

impl Latencies {
    pub(crate) fn add(&mut self, kind: Kind, time: Duration) {
        self.0[kind as usize].saturating_record(time.as_nanos() as u64);
    }

    /// Does `work` and takes its time.
    #[inline(always)]
    pub(crate) fn time<R>(&mut self, kind: Kind, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        self.add(kind, start.elapsed());
        result
    }

    /// Takes in what another thread has seen.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (all, some) in self.0.iter_mut().zip(&other.0) {
            all.add(some).expect("equal bounds");
        }
    }

    pub(crate) fn count(&self, kind: Kind) -> u64 {
        self.0[kind as usize].len()
    }

    /// The nanoseconds that this share of the operations of a kind took at most.
    pub(crate) fn at(&self, kind: Kind, share: f64) -> u64 {
        let times = &self.0[kind as usize];
        // Not longer than the longest one, although that is known to one in a hundred only.
        times.value_at_quantile(share).min(times.max())
    }

    /// The same of all kinds together.
    pub(crate) fn of_all(&self) -> Histogram<u64> {
        let mut all = self.0[0].clone();
        for some in &self.0[1..] {
            all.add(some).expect("equal bounds");
        }
        all
    }
}
