//! The one place that names synchronisation primitives: `std`, `parking_lot` and `crossbeam-epoch` normally, `core`
//! and `spin` without the standard library, those of a model checker under the feature `shuttle` (random schedules)
//! or `--cfg loom` (all schedules and orderings). Everything else imports from here.
//!
//! Locks never poison, and each has a [`Rank`]: tests panic where one is taken out of order.

#[cfg(all(loom, not(crossbeam_loom)))]
mod endless_epoch;
#[cfg(feature = "std")]
pub(crate) mod journal;
mod lock;
#[cfg(any(loom, feature = "shuttle"))]
mod model;
#[cfg(all(feature = "shuttle", not(loom)))]
mod model_epoch;
mod rank;
#[cfg(feature = "std")]
pub(crate) mod thread_slot;
mod witness;

#[cfg(feature = "std")]
pub(crate) use lock::{Condvar, RwLock, RwLockWriteGuard};
pub(crate) use lock::{Mutex, MutexGuard};
#[cfg(any(loom, feature = "shuttle"))]
pub(crate) use model::{Arc, atomic, thread, thread_local};
pub(crate) use rank::Rank;
#[cfg(feature = "testing")]
pub use rank::ignore_lock_order;
#[cfg(feature = "std")]
pub(crate) use rank::{DoingIo, IoAllowed, begin_io};
pub(crate) use witness::Witness;

#[cfg(not(any(loom, feature = "shuttle")))]
mod plain {
    pub(crate) use core::sync::atomic;

    #[cfg(feature = "std")]
    pub(crate) use alloc::sync::Arc;
    #[cfg(feature = "std")]
    pub(crate) use std::{thread, thread_local};

    /// What `lock` is made of.
    pub(super) mod locks {
        #[cfg(feature = "std")]
        pub(crate) use parking_lot::{
            Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
        };
        #[cfg(not(feature = "std"))]
        pub(crate) use spin::{Mutex, MutexGuard};

        #[inline(always)]
        pub(crate) fn lock<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
            lock.lock()
        }
        #[cfg(feature = "std")]
        #[inline(always)]
        pub(crate) fn get_mut<T>(lock: &mut Mutex<T>) -> &mut T {
            lock.get_mut()
        }
        #[cfg(feature = "std")]
        pub(crate) fn try_lock<T>(lock: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
            lock.try_lock()
        }
        #[cfg(feature = "std")]
        pub(crate) fn wait<'a, T>(
            condvar: &Condvar,
            mut guard: MutexGuard<'a, T>,
        ) -> MutexGuard<'a, T> {
            condvar.wait(&mut guard);
            guard
        }
        #[cfg(feature = "std")]
        pub(crate) fn wait_for<'a, T>(
            condvar: &Condvar,
            mut guard: MutexGuard<'a, T>,
            patience: std::time::Duration,
        ) -> (MutexGuard<'a, T>, bool) {
            let ran_out = condvar.wait_for(&mut guard, patience).timed_out();
            (guard, ran_out)
        }
        #[cfg(feature = "std")]
        pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
            lock.read()
        }
        #[cfg(feature = "std")]
        pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
            lock.write()
        }
        #[cfg(feature = "std")]
        pub(crate) fn try_write<T>(lock: &RwLock<T>) -> Option<RwLockWriteGuard<'_, T>> {
            lock.try_write()
        }
    }
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

/// What is never a scheduling point: statistics and hints, which no protocol depends on, and what watches the protocols.
pub(crate) mod uncounted {
    pub(crate) use core::sync::atomic::*;
    #[cfg(feature = "std")]
    pub(crate) use std::sync::OnceLock;
    #[cfg(feature = "testing")]
    pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
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
