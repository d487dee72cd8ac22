//! How much memory the whole process has asked for: an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

/// More than there are threads at a time, mostly: each counts in a line of its own.
const SLOTS: usize = 64;

/// What threads asked for less what they gave back. Only the sum says something.
static LIVE: [CachePadded<AtomicI64>; SLOTS] =
    [const { CachePadded::new(AtomicI64::new(0)) }; SLOTS];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SLOT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The system's allocator; counts the bytes that are asked for and not given back.
#[derive(Debug)]
pub(crate) struct Counting;

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

// SAFETY: passes every call on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promises are those that `System` needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promises are those that `System` needs.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: the caller's promises are those that `System` needs.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promises are those that `System` needs.
        unsafe { System.dealloc(pointer, layout) }
    }
}
