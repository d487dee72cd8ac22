//! The one file that names synchronisation primitives: `std` and `parking_lot` normally, those of a model
//! checker under the feature `shuttle` (random schedules) or `--cfg loom` (all schedules and orderings).
//! Everything else imports from here.
//!
//! Locks never poison: a guard is what `lock()`, `read()` and `write()` return.

#[cfg(not(any(loom, feature = "shuttle")))]
mod imp {
    pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock, RwLockWriteGuard};
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic;
    pub(crate) use std::thread_local;
}

#[cfg(any(loom, feature = "shuttle"))]
mod imp {
    use std::sync::PoisonError;

    #[cfg(loom)]
    use loom as model;
    #[cfg(not(loom))]
    use shuttle as model;

    use model::sync::RwLockReadGuard;
    pub(crate) use model::sync::{MutexGuard, RwLockWriteGuard, atomic};
    pub(crate) use std::sync::Arc;

    /// The model checker's own, with the syntax of the standard one for constants.
    macro_rules! model_thread_local {
        ($(#[$doc:meta])* static $name:ident: $type:ty = const $init:block;) => {
            #[cfg(loom)]
            loom::thread_local! { $(#[$doc])* static $name: $type = $init; }
            #[cfg(not(loom))]
            shuttle::thread_local! { $(#[$doc])* static $name: $type = $init; }
        };
    }
    pub(crate) use model_thread_local as thread_local;

    /// The model checker's mutex with guards instead of poison results.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(model::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(model::sync::Mutex::new(value))
        }
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    /// The model checker's reader-writer lock with guards instead of poison results.
    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T>(model::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(model::sync::RwLock::new(value))
        }
        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }
        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

pub(crate) use imp::*;

/// What is never a scheduling point: statistics and hints, which no protocol depends on.
pub(crate) mod uncounted {
    pub(crate) use std::sync::OnceLock;
    pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
}

/// Small numbers for running threads, given back when a thread ends, so that a table of slots indexed by
/// them stays as small as the largest number of threads that ever ran at once.
pub(crate) mod thread_slot {
    use std::sync::Mutex;

    struct Slots {
        free: Vec<usize>,
        next: usize,
    }

    static SLOTS: Mutex<Slots> = Mutex::new(Slots {
        free: Vec::new(),
        next: 0,
    });

    struct Slot(usize);

    impl Slot {
        fn take() -> Self {
            let mut slots = SLOTS
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            Self(slots.free.pop().unwrap_or_else(|| {
                slots.next += 1;
                slots.next - 1
            }))
        }
    }

    impl Drop for Slot {
        fn drop(&mut self) {
            SLOTS
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .free
                .push(self.0);
        }
    }

    thread_local! {
        static SLOT: Slot = Slot::take();
    }

    /// The calling thread's number; 0 while the thread is being torn down.
    pub(crate) fn current() -> usize {
        SLOT.try_with(|slot| slot.0).unwrap_or(0)
    }
}
