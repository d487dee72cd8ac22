//! Counters that threads bump without touching each other's cache lines, and one snapshot of them.
//!
//! A thread writes only the shard of its own slot; [`Counters::snapshot`] sums the shards. The sum is
//! exact once the counted threads have stopped and approximate while they run.

use std::fmt;

use crossbeam_utils::CachePadded;

use crate::sync::thread_slot;
use crate::sync::uncounted::{AtomicU64, Ordering};
use crate::units::FileNumber;

/// Shards: enough that the threads of a big machine rarely share one; a power of two.
const SHARDS: usize = 64;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident => $variant:ident,)*) => {
        /// What is counted; one variant for each field of [`Stats`].
        #[derive(Clone, Copy, Debug)]
        #[repr(usize)]
        pub(crate) enum Counter { $($variant,)* }

        const COUNTERS: usize = [$(stringify!($name)),*].len();

        /// A snapshot of a volume's counters since it was made.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
        #[non_exhaustive]
        pub struct Stats { $($(#[$doc])* pub $name: u64,)* }

        impl Stats {
            fn from_sums(sums: [u64; COUNTERS]) -> Self {
                Self { $($name: sums[Counter::$variant as usize],)* }
            }
        }

        impl fmt::Display for Stats {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "{:<28}{}", stringify!($name), self.$name)?;)*
                Ok(())
            }
        }
    };
}

counters! {
    /// Status lookups answered by the tree.
    status_hits => StatusHits,
    /// Status lookups that had to ask the mapping store.
    status_misses => StatusMisses,
    /// Status entries dropped by the shrinker.
    status_shrunk => StatusShrunk,
    /// Delayed extents inserted.
    delayed_inserts => DelayedInserts,
    /// Second looks under the data lock that found the hole of the first look filled: the races survived.
    second_look_changed => SecondLookChanged,
    /// Runs allocated at once although delayed allocation is on, because space was low.
    immediate_allocations => ImmediateAllocations,
    /// Allocations that writeback made for delayed runs: one for each, unless free space is scattered.
    delayed_runs_placed => DelayedRunsPlaced,
    /// Runs given to the block layer by writeback.
    writeback_runs => WritebackRuns,
    /// Blocks given to the block layer by writeback.
    writeback_blocks => WritebackBlocks,
    /// Writeback runs that ended in an error.
    writeback_errors => WritebackErrors,
    /// Passes of writeback in the background.
    background_passes => BackgroundPasses,
    /// Writers that had to wait for writeback because too much was dirty.
    writers_throttled => WritersThrottled,
    /// Pages that came into memory.
    pages_cached => PagesCached,
    /// Clean pages that left memory because there were too many.
    pages_evicted => PagesEvicted,
    /// Blocks that were read before anybody asked for them.
    blocks_read_ahead => BlocksReadAhead,
    /// Conversions that zeroed blocks on the device because the store had no room to split an extent.
    zeroed_instead_of_split => ZeroedInsteadOfSplit,
    /// Files that were closed with promised but never written space; always a defect.
    reservation_leaks => ReservationLeaks,
    /// Bios given to the block queue.
    bios => Bios,
    /// Bios merged into a neighbour.
    bios_merged => BiosMerged,
    /// Requests that began inside a bio, because it was too large for one. There are as many requests as bios that
    /// read or change something, less those merged, and these.
    bios_split => BiosSplit,
    /// Requests given to the device once more after it had failed them.
    device_retries => DeviceRetries,
    /// Requests given to the device.
    device_requests => DeviceRequests,
    /// Flushes given to the device.
    device_flushes => DeviceFlushes,
}

/// Sharded counters; cheap to bump from any thread.
pub struct Counters {
    shards: Box<[CachePadded<[AtomicU64; COUNTERS]>]>,
}

impl Default for Counters {
    fn default() -> Self {
        let shard = || CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
        }
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

impl Counters {
    /// Counts one.
    pub(crate) fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts `by`.
    pub(crate) fn add(&self, counter: Counter, by: u64) {
        let shard = &self.shards[thread_slot::current() % SHARDS];
        shard[counter as usize].fetch_add(by, Ordering::Relaxed);
    }

    /// The sums of all shards.
    pub fn snapshot(&self) -> Stats {
        Stats::from_sums(std::array::from_fn(|counter| {
            self.shards
                .iter()
                .map(|shard| shard[counter].load(Ordering::Relaxed))
                .sum()
        }))
    }

    /// Counts and reports a file that ended with reserved clusters: space promised and never used.
    pub(crate) fn report_reservation_leak(&self, file: FileNumber, clusters: u64) {
        self.count(Counter::ReservationLeaks);
        #[cfg(feature = "tracing")]
        tracing::warn!(
            file = file.0,
            clusters,
            "file closed with reserved clusters"
        );
        #[cfg(not(feature = "tracing"))]
        let _ = (file, clusters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_threads() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| counters.count(Counter::StatusHits)));
            }
        });
        counters.add(Counter::Bios, 5);
        let stats = counters.snapshot();
        assert_eq!(
            (stats.status_hits, stats.bios, stats.status_misses),
            (8000, 5, 0)
        );
        assert!(stats.to_string().contains("status_hits"));
    }
}
