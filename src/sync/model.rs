//! The primitives of the model checkers, in the shape of those of normal builds.

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
