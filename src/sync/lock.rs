//! Locks that know their place in the order. They never poison: a guard is what `lock()`, `read()` and `write()`
//! return.

use core::fmt;
use core::ops::{Deref, DerefMut};
#[cfg(feature = "std")]
use std::time::Duration;

use super::rank::{Held, Place, Ranked};

#[cfg(any(loom, feature = "shuttle"))]
use super::model::locks as imp;
#[cfg(not(any(loom, feature = "shuttle")))]
use super::plain::locks as imp;

/// A lock with one holder.
pub(crate) struct Mutex<T> {
    ranked: Ranked,
    lock: imp::Mutex<T>,
}

/// A lock with one writer or many readers.
#[cfg(feature = "std")]
pub(crate) struct RwLock<T> {
    ranked: Ranked,
    lock: imp::RwLock<T>,
}

/// Has the lock until it is dropped. What it says first it does first: who listens hears of the end before the next
/// holder can begin.
pub(crate) struct Guard<G> {
    _held: Held,
    guard: G,
}

pub(crate) type MutexGuard<'a, T> = Guard<imp::MutexGuard<'a, T>>;
#[cfg(feature = "std")]
pub(crate) type RwLockReadGuard<'a, T> = Guard<imp::RwLockReadGuard<'a, T>>;
#[cfg(feature = "std")]
pub(crate) type RwLockWriteGuard<'a, T> = Guard<imp::RwLockWriteGuard<'a, T>>;

impl<T> Mutex<T> {
    pub(crate) fn new(place: impl Into<Place>, value: T) -> Self {
        Self {
            ranked: Ranked::new(place.into()),
            lock: imp::Mutex::new(value),
        }
    }

    #[inline]
    #[cfg_attr(feature = "testing", track_caller)]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.ranked.wanted("exclusive");
        let guard = imp::lock(&self.lock);
        Guard {
            _held: self.ranked.taken("exclusive"),
            guard,
        }
    }

    /// What it guards, for who has it to itself.
    #[cfg(feature = "std")]
    #[inline]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        imp::get_mut(&mut self.lock)
    }

    /// Takes the lock if nobody has it.
    #[cfg(feature = "std")]
    #[cfg_attr(feature = "testing", track_caller)]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = imp::try_lock(&self.lock)?;
        Some(Guard {
            _held: self.ranked.taken("exclusive"),
            guard,
        })
    }
}

/// Where threads wait for what the holders of one [`Mutex`] change.
#[cfg(feature = "std")]
#[derive(Default)]
pub(crate) struct Condvar(imp::Condvar);

#[cfg(feature = "std")]
impl Condvar {
    /// Gives the lock back until somebody notifies, perhaps without a reason.
    pub(crate) fn wait<'a, T>(&self, held: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let Guard { _held, guard } = held;
        let guard = imp::wait(&self.0, guard);
        Guard { _held, guard }
    }

    /// As [`wait`](Self::wait), but no longer than `patience`: says whether that ran out. Model checkers know no time.
    pub(crate) fn wait_for<'a, T>(
        &self,
        held: MutexGuard<'a, T>,
        patience: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        let Guard { _held, guard } = held;
        let (guard, ran_out) = imp::wait_for(&self.0, guard, patience);
        (Guard { _held, guard }, ran_out)
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

#[cfg(feature = "std")]
impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar")
    }
}

#[cfg(feature = "std")]
impl<T> RwLock<T> {
    pub(crate) fn new(place: impl Into<Place>, value: T) -> Self {
        Self {
            ranked: Ranked::new(place.into()),
            lock: imp::RwLock::new(value),
        }
    }

    #[cfg_attr(feature = "testing", track_caller)]
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.ranked.wanted("shared");
        let guard = imp::read(&self.lock);
        Guard {
            _held: self.ranked.taken("shared"),
            guard,
        }
    }

    #[cfg_attr(feature = "testing", track_caller)]
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.ranked.wanted("exclusive");
        let guard = imp::write(&self.lock);
        Guard {
            _held: self.ranked.taken("exclusive"),
            guard,
        }
    }
}

impl<G: Deref> Deref for Guard<G> {
    type Target = G::Target;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Guard<G> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.guard
    }
}

impl<G: Deref<Target: fmt::Debug>> fmt::Debug for Guard<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guard.fmt(f)
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.fmt(f)
    }
}

#[cfg(feature = "std")]
impl<T: fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.fmt(f)
    }
}
