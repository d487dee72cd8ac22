//! How much memory the whole process uses.

use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

#[path = "../../tests/common/counting.rs"]
mod counting;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting(count);

/// More than there are threads at a time, mostly: each counts in a line of its own.
const SLOTS: usize = 64;

/// What threads asked for less what they gave back. Only the sum says something.
static LIVE: [CachePadded<AtomicI64>; SLOTS] =
    [const { CachePadded::new(AtomicI64::new(0)) }; SLOTS];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SLOT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The bytes that somebody asked for and nobody has given back; about, while others do.
pub(crate) fn live() -> i64 {
    LIVE.iter().map(|slot| slot.load(Relaxed)).sum()
}

fn count(bytes: i64) {
    let slot = SLOT.get().unwrap_or_else(|| {
        let slot = THREADS.fetch_add(1, Relaxed) % SLOTS;
        SLOT.set(Some(slot));
        slot
    });
    LIVE[slot].fetch_add(bytes, Relaxed);
}
