//! The registration that each thread has by itself, and what needs it. Only with the feature `std`.

use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::RangeBounds;

use super::reclaim::{Epochs, Handle};
use super::{Editor, Extent, ExtentMap, Lookup, Pinned, Reclaimer, Replaced, Value};
use crate::error::Result;
use crate::sync::thread_local;

thread_local! {
    /// The reclaimers this thread is registered with; the one used last is first.
    static REGISTRATIONS: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Epochs {
    fn drop(&mut self) {
        // The dropping thread gives up its own registration at once; other threads do so when they
        // next register with a reclaimer.
        forget_dropped();
    }
}

/// Unregisters this thread from reclaimers that are gone.
fn forget_dropped() {
    let dropped = REGISTRATIONS.try_with(|registrations| {
        let mut registrations = registrations.try_borrow_mut().ok()?;
        Some(
            registrations
                .extract_if(.., |handle| handle.is_orphan())
                .collect(),
        )
    });
    // Outside the borrow: unregistering runs deferred functions.
    drop::<Option<Vec<Handle>>>(dropped.ok().flatten());
}

impl Reclaimer {
    /// The calling thread's registration.
    pub(super) fn handle(&self) -> Handle {
        let known = REGISTRATIONS.try_with(|registrations| {
            let mut registrations = registrations.borrow_mut();
            let own = |handle: &Handle| self.has_registered(handle);
            if !registrations.first().is_some_and(own) {
                let index = registrations.iter().position(own)?;
                registrations.swap(0, index);
            }
            Some(registrations[0].clone())
        });
        known.ok().flatten().unwrap_or_else(|| self.remember())
    }

    #[cold]
    fn remember(&self) -> Handle {
        forget_dropped();
        let handle = self.register();
        // A thread that is being torn down keeps no registration.
        let _ = REGISTRATIONS.try_with(|registrations| {
            registrations.borrow_mut().push(handle.clone());
        });
        handle
    }
}

impl<V: Value> ExtentMap<V> {
    /// A reader's view, which makes many lookups cheap. Never blocks. Keep it as long as you like:
    /// it holds no memory back between calls.
    pub fn pin(&self) -> Pinned<'_, V> {
        Pinned::new(self, self.reclaimer.handle())
    }

    /// The extent that holds `block`, whole. Never blocks; linearizable. Same as
    /// `pin().get(block)`.
    pub fn get(&self, block: u64) -> Option<Extent<V>> {
        let handle = self.reclaimer.handle();
        let _guard = handle.pin();
        // SAFETY: pinned.
        let entry = unsafe { self.tree.get(block) }?;
        Some(Extent::unpack(entry))
    }

    /// The extent that holds `block` or the gap around it. Never blocks; linearizable. Same as
    /// `pin().lookup(block)`.
    pub fn lookup(&self, block: u64) -> Lookup<V> {
        self.pin().lookup(block)
    }

    /// Takes the writer lock, waiting for other writers; dropping the editor releases it.
    pub fn edit(&self) -> Editor<'_, V> {
        Editor::new(self, self.lock(), None)
    }

    /// One [`Editor::insert`] under the writer lock.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) when `range` is empty or reversed.
    pub fn insert(&self, range: impl RangeBounds<u64>, value: V) -> Result<Replaced<V>> {
        self.edit().insert(range, value)
    }

    /// One [`Editor::remove`] under the writer lock.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) when `range` is empty or reversed.
    pub fn remove(&self, range: impl RangeBounds<u64>) -> Result<Replaced<V>> {
        self.edit().remove(range)
    }
}
