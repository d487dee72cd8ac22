//! Which entries were used lately, told without readers sharing a cache line.

use std::fmt;

use crossbeam_utils::CachePadded;

use crate::sync::thread_slot;
use crate::sync::uncounted::{AtomicU64, OnceLock, Ordering};

/// Tables: enough that the threads of a big machine rarely share one.
const SHARDS: usize = 64;
/// 64-bit words in one table: 32768 bits.
const WORDS: usize = 512;

/// The "referenced" hints of all status trees of a volume, for the second chance of their shrinker.
///
/// A reader sets a bit in the table of its own thread slot, and only if it is not yet set; the bit
/// is chosen by a hash of tree and entry. The shrinker asks all tables and clears the bit. Entries
/// that hash alike share a bit: then one lives a round longer or shorter than it deserves, which
/// costs a lookup in the mapping, never an answer.
pub struct ReferenceHints {
    /// A table is made by the first lookup of its threads.
    shards: [OnceLock<Box<Table>>; SHARDS],
}

type Table = CachePadded<[AtomicU64; WORDS]>;

impl fmt::Debug for ReferenceHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self
            .shards
            .iter()
            .filter(|shard| shard.get().is_some())
            .count();
        f.debug_struct("ReferenceHints")
            .field("tables", &tables)
            .finish()
    }
}

impl Default for ReferenceHints {
    fn default() -> Self {
        Self {
            shards: [const { OnceLock::new() }; SHARDS],
        }
    }
}

impl ReferenceHints {
    /// Notes that the entry of `tree` that starts at `start` was used.
    pub(super) fn set(&self, tree: u64, start: u64) {
        let shard = &self.shards[thread_slot::current() % SHARDS];
        let table =
            shard.get_or_init(|| Box::new(CachePadded::new([const { AtomicU64::new(0) }; WORDS])));
        let (word, bit) = Self::place(tree, start);
        if table[word].load(Ordering::Relaxed) & bit == 0 {
            table[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether the entry was used since it was last asked for here.
    pub(super) fn take(&self, tree: u64, start: u64) -> bool {
        let (word, bit) = Self::place(tree, start);
        let mut used = false;
        for table in self.shards.iter().filter_map(OnceLock::get) {
            if table[word].load(Ordering::Relaxed) & bit != 0 {
                table[word].fetch_and(!bit, Ordering::Relaxed);
                used = true;
            }
        }
        used
    }

    /// The word and the bit in it for an entry.
    fn place(tree: u64, start: u64) -> (usize, u64) {
        // Fibonacci hashing (Knuth, vol. 3, 6.4), the odd constant being 2^64 over the golden
        // ratio.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let hash = (tree.wrapping_mul(GOLDEN).rotate_left(32) ^ start).wrapping_mul(GOLDEN);
        ((hash >> 32) as usize % WORDS, 1 << (hash >> 58))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_set_by_any_thread_is_taken_once() {
        let hints = ReferenceHints::default();
        hints.set(1, 100);
        std::thread::scope(|scope| {
            scope.spawn(|| hints.set(1, 100));
            scope.spawn(|| hints.set(1, 200));
        });
        assert!(hints.take(1, 100) && hints.take(1, 200));
        assert!(!hints.take(1, 100) && !hints.take(1, 200));
    }

    #[test]
    fn threads_that_run_at_once_do_not_all_share_a_table() {
        let hints = ReferenceHints::default();
        hints.set(1, 100);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                hints.set(1, 100);
                std::thread::scope(|scope| drop(scope.spawn(|| hints.set(1, 100))));
            });
        });
        let tables = hints.shards.iter().filter(|shard| shard.get().is_some());
        assert!(tables.count() > 1);
    }

    #[test]
    fn entries_of_many_trees_spread_over_the_table() {
        let places = (0..64).flat_map(|tree| (0..64).map(move |i| (tree, i * 8)));
        let distinct: std::collections::HashSet<_> = places
            .map(|(tree, start)| ReferenceHints::place(tree, start))
            .collect();
        // Of 4096 keys thrown at 32768 bits, about 3850 land alone or first.
        assert!(distinct.len() > 3500, "{}", distinct.len());
    }
}
