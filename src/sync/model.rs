//! The primitives of the model checkers, in the shape of those of normal builds.

#[cfg(loom)]
use loom as model;
#[cfg(not(loom))]
use shuttle as model;

pub(crate) use model::sync::atomic;
pub(crate) use model::thread;
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

/// What `lock` is made of: guards instead of results that could tell of a poisoned lock.
pub(super) mod locks {
    use std::sync::PoisonError;

    use super::model;

    pub(crate) use model::sync::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    };

    pub(crate) fn lock<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
        lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn get_mut<T>(lock: &mut Mutex<T>) -> &mut T {
        lock.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn try_lock<T>(lock: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        lock.try_lock().ok()
    }
    pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }
    /// Patience never runs out: the model checkers know no time.
    pub(crate) fn wait_for<'a, T>(
        condvar: &Condvar,
        guard: MutexGuard<'a, T>,
        _: std::time::Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        (wait(condvar, guard), false)
    }
    pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
        lock.read().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
        lock.write().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn try_write<T>(lock: &RwLock<T>) -> Option<RwLockWriteGuard<'_, T>> {
        lock.try_write().ok()
    }
}
