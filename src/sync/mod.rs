//! The one place that names synchronisation primitives: `std`, `parking_lot` and `crossbeam-epoch` normally, `core`
//! and `spin` without the standard library, those of a model checker under the feature `shuttle` (random schedules)
//! or `--cfg loom` (all schedules and orderings). Everything else imports from here.
//!
//! Locks never poison: a guard is what `lock()`, `read()` and `write()` return.

#[cfg(all(loom, not(crossbeam_loom)))]
mod endless_epoch;
#[cfg(any(loom, feature = "shuttle"))]
mod model;
#[cfg(all(feature = "shuttle", not(loom)))]
mod model_epoch;
#[cfg(feature = "std")]
pub(crate) mod thread_slot;
mod witness;

#[cfg(any(loom, feature = "shuttle"))]
pub(crate) use model::*;
pub(crate) use witness::Witness;

#[cfg(not(any(loom, feature = "shuttle")))]
mod plain {
    pub(crate) use core::sync::atomic;

    #[cfg(feature = "std")]
    pub(crate) use alloc::sync::Arc;
    #[cfg(feature = "std")]
    pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock, RwLockWriteGuard};
    #[cfg(not(feature = "std"))]
    pub(crate) use spin::{Mutex, MutexGuard};
    #[cfg(feature = "std")]
    pub(crate) use std::thread_local;
}
#[cfg(not(any(loom, feature = "shuttle")))]
pub(crate) use plain::*;

/// Epoch-based reclamation. `crossbeam-epoch` knows loom by itself, with `--cfg crossbeam_loom`.
pub(crate) mod epoch {
    #[cfg(all(loom, not(crossbeam_loom)))]
    pub(crate) use super::endless_epoch::{Collector, Guard, LocalHandle};
    #[cfg(all(feature = "shuttle", not(loom)))]
    pub(crate) use super::model_epoch::{Collector, Guard, LocalHandle};
    #[cfg(any(crossbeam_loom, not(any(loom, feature = "shuttle"))))]
    pub(crate) use crossbeam_epoch::{Collector, Guard, LocalHandle};
}

/// What is never a scheduling point: statistics and hints, which no protocol depends on.
pub(crate) mod uncounted {
    pub(crate) use core::sync::atomic::*;
    #[cfg(feature = "std")]
    pub(crate) use std::sync::OnceLock;
}

/// Lets other threads run, one of which this one waits for.
pub(crate) fn yield_now() {
    #[cfg(all(feature = "std", not(any(loom, feature = "shuttle"))))]
    std::thread::yield_now();
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(all(feature = "shuttle", not(loom)))]
    shuttle::thread::yield_now();
    #[cfg(not(feature = "std"))]
    core::hint::spin_loop();
}
