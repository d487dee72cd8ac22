//! Plain memory that loom watches.

use loom::cell::UnsafeCell;

/// A plain number that loom watches for races.
#[derive(Default)]
pub(crate) struct Watched(UnsafeCell<u64>);

// SAFETY: loom ends an execution before two accesses meet that are not ordered.
unsafe impl Sync for Watched {}

impl Watched {
    pub(crate) fn set(&self, value: u64) {
        self.0.with_mut(|number| {
            // SAFETY: see `Sync`.
            unsafe { *number = value }
        });
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.with(|number| {
            // SAFETY: see `Sync`.
            unsafe { *number }
        })
    }
}
