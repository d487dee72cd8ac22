//! The map itself.

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::ptr::NonNull;

use crossbeam_epoch::{Atomic, LocalHandle, Owned, unprotected};

use super::array::Array;
use super::lookup::Stamp;
use super::reclaim::Limbo;
use super::{Editor, Extent, Lookup, Pinned, Reclaimer, Replaced, Value};
use crate::error::Result;
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;
use crate::sync::uncounted::AtomicU64;

/// A concurrent map from disjoint ranges of `u64` blocks to values.
///
/// Reads go through [`pin`](Self::pin) or [`get`](Self::get) and never wait; writes go through
/// [`edit`](Self::edit) and exclude each other. See the [module](super) for what is promised.
///
/// ```
/// use extent_map::map::ExtentMap;
///
/// let map = ExtentMap::new();
/// map.insert(0..8, 100_u64)?;
/// map.remove(2..4)?;
/// let right = map.get(5).unwrap();
/// assert_eq!((right.range(), right.value()), (4..=7, 104));
/// assert_eq!(map.get(3), None);
/// # Ok::<(), extent_map::Error>(())
/// ```
pub struct ExtentMap<V> {
    /// The current state (M1, M2).
    root: Atomic<Array>,
    /// The writer lock.
    writer: Mutex<Limbo>,
    reclaimer: Reclaimer,
    id: u64,
    value: PhantomData<V>,
}

impl<V: Value> Default for ExtentMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Value + fmt::Debug> fmt::Debug for ExtentMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.pin().iter()).finish()
    }
}

impl<V: Value> ExtentMap<V> {
    /// An empty map with a reclaimer of its own.
    pub fn new() -> Self {
        Self::with_reclaimer(&Reclaimer::new())
    }

    /// An empty map that shares `reclaimer`: the better choice when there are many maps.
    pub fn with_reclaimer(reclaimer: &Reclaimer) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        Self {
            root: Atomic::new(Array::default()),
            writer: Mutex::new(Limbo::default()),
            reclaimer: reclaimer.clone(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            value: PhantomData,
        }
    }

    /// A reader's view, which makes many lookups cheap. Never blocks. Keep it as long as you like:
    /// it holds no memory back between calls.
    pub fn pin(&self) -> Pinned<'_, V> {
        Pinned::new(self, self.reclaimer.handle())
    }

    /// The extent that holds `block`, whole. Never blocks; linearizable. Same as
    /// `pin().get(block)`.
    pub fn get(&self, block: u64) -> Option<Extent<V>> {
        self.pin().get(block)
    }

    /// The extent that holds `block` or the gap around it. Never blocks; linearizable. Same as
    /// `pin().lookup(block)`.
    pub fn lookup(&self, block: u64) -> Lookup<V> {
        self.pin().lookup(block)
    }

    /// Takes the writer lock, waiting for other writers; dropping the editor releases it.
    pub fn edit(&self) -> Editor<'_, V> {
        let writer = self.writer.lock();
        Editor::new(self, writer, self.reclaimer.handle())
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

    /// Where an answer read from `array` comes from.
    pub(super) fn stamp(&self, array: &Array) -> Stamp {
        Stamp {
            map: self.id,
            version: array.version(),
        }
    }

    /// Calls `read` with the current state. `handle` is this thread's registration with the map's
    /// reclaimer.
    pub(super) fn read<R>(&self, handle: &LocalHandle, read: impl FnOnce(&Array) -> R) -> R {
        let guard = handle.pin();
        // Acquire, from the Release of `publish`: the array is seen initialised.
        let root = self.root.load(Ordering::Acquire, &guard);
        // SAFETY: not null and initialised (M1); not freed while `guard` lives (M3), which outlives
        // the call.
        read(unsafe { root.deref() })
    }

    /// The current state, for whoever holds the writer lock.
    ///
    /// # Safety
    /// The caller holds the writer lock and publishes nothing while it uses the answer.
    pub(super) unsafe fn current(&self) -> &Array {
        // SAFETY: a guard that protects nothing is enough, because the root cannot be replaced
        // (M4). Relaxed: the writer lock orders this behind the store of the writer before.
        let root = self.root.load(Ordering::Relaxed, unsafe { unprotected() });
        // SAFETY: not null (M1), and alive until it is replaced (M4), which the caller rules out.
        unsafe { root.deref() }
    }

    /// Makes `next` the current state: the one store by which readers see an edit.
    ///
    /// # Safety
    /// `limbo` is what this map's writer lock guards, and `handle` is registered with this map's
    /// reclaimer.
    pub(super) unsafe fn publish(&self, next: Array, limbo: &mut Limbo, handle: &LocalHandle) {
        // Release, to the Acquire of `read`.
        // SAFETY: the old root is not dereferenced through this guard.
        let old = self.root.swap(Owned::new(next), Ordering::Release, unsafe {
            unprotected()
        });
        let old = NonNull::new(old.as_raw().cast_mut()).expect("M1: the root is never null");
        // SAFETY: `Owned` is a box; replaced just now and by us alone (M2). Readers load the root
        // under guards of the same collector (`read`).
        unsafe { limbo.retire(old, handle) }
    }
}

impl<V> Drop for ExtentMap<V> {
    fn drop(&mut self) {
        let root = std::mem::take(&mut self.root);
        // SAFETY: not null (M1), and nobody else has the map (M5).
        drop(unsafe { root.into_owned() });
    }
}
