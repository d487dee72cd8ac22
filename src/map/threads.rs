//! The registration that each thread has by itself, and what needs it. Only with the feature `std`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::RangeBounds;

use super::reclaim::{Epochs, Handle};
use super::{Editor, Extent, ExtentMap, Lookup, Pinned, Reclaimer, Replaced, Value};
use crate::error::Result;
use crate::sync::thread_local;

/// So few registrations are gone through with each new one.
const FEW: usize = 16;

/// What a thread is registered with.
struct Registrations {
    /// The one used last.
    last: Option<Handle>,
    /// By the address of the reclaimer, which is not used again as long as there is a registration.
    all: BTreeMap<usize, Handle>,
    /// When there are so many, those of reclaimers that are gone are looked for.
    sweep_at: usize,
}

thread_local! {
    static REGISTRATIONS: RefCell<Registrations> = const {
        RefCell::new(Registrations { last: None, all: BTreeMap::new(), sweep_at: FEW })
    };
}

impl Registrations {
    fn with(&mut self, reclaimer: &Reclaimer) -> Option<Handle> {
        match &self.last {
            Some(last) if reclaimer.has_registered(last) => Some(last.clone()),
            _ => self.among_all(reclaimer),
        }
    }

    #[cold]
    fn among_all(&mut self, reclaimer: &Reclaimer) -> Option<Handle> {
        let found = self.all.get(&reclaimer.epochs().address())?;
        self.last = Some(found.clone());
        self.last.clone()
    }

    /// Adds a registration, and takes out those with reclaimers that are gone, if it is time.
    fn add(&mut self, address: usize, handle: Handle) -> Vec<Handle> {
        let mut gone = Vec::new();
        if self.all.len() < FEW || self.all.len() >= self.sweep_at {
            gone.extend(self.last.take());
            self.all.retain(|_, handle| {
                let is_orphan = handle.is_orphan();
                gone.extend(is_orphan.then(|| handle.clone()));
                !is_orphan
            });
            // Each then has been looked at for one that has come since.
            self.sweep_at = 2 * self.all.len().max(FEW);
        }
        self.all.insert(address, handle);
        gone
    }

    /// Takes out the registration with one reclaimer.
    fn take(&mut self, address: usize) -> [Option<Handle>; 2] {
        [self.last.take(), self.all.remove(&address)]
    }
}

/// Changes the thread's registrations. Those that `change` returns end outside of the borrow: unregistering runs deferred
/// functions.
fn change<T>(change: impl FnOnce(&mut Registrations) -> T) {
    // A thread that is being torn down keeps no registration.
    let ended = REGISTRATIONS.try_with(|registrations| {
        let mut registrations = registrations.try_borrow_mut().ok()?;
        Some(change(&mut registrations))
    });
    drop(ended);
}

impl Epochs {
    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }
}

impl Drop for Epochs {
    fn drop(&mut self) {
        // The dropping thread gives up its own registration at once; other threads do so some time when they
        // register with another reclaimer.
        change(|registrations| registrations.take(self.address()));
    }
}

impl Reclaimer {
    /// The calling thread's registration.
    pub(super) fn handle(&self) -> Handle {
        let known = REGISTRATIONS.try_with(|registrations| registrations.borrow_mut().with(self));
        known.ok().flatten().unwrap_or_else(|| self.remember())
    }

    #[cold]
    fn remember(&self) -> Handle {
        let handle = self.register();
        change(|registrations| registrations.add(self.epochs().address(), handle.clone()));
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
        // SAFETY: a guard of this map's collector, by the thread's handle of it, is held until the entry has
        // been copied out (R1).
        let entry = unsafe { self.tree.get(block) }?;
        Some(Extent::unpack(entry))
    }

    /// The extent that holds `block` or the gap around it. Never blocks; linearizable. Same as
    /// `pin().lookup(block)`.
    pub fn lookup(&self, block: u64) -> Lookup<V> {
        self.pin().lookup(block)
    }

    /// Takes the writer lock, waiting for other writers; dropping the editor releases it. Not for a thread that has
    /// an editor of this map already: it would wait for itself for ever, here and in each method that changes the map.
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
