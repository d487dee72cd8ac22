//! The map itself.

use core::fmt;
use core::marker::PhantomData;

use super::probe::Probe;
use super::reclaim::Handle;
use super::tree::Tree;
use super::writer::Writer;
use super::{Editor, Pinned, Reclaimer, Value};
use crate::error::{Error, Result};
use crate::sync::{Mutex, MutexGuard, Rank};

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
/// assert_eq!((right.range(), right.value_at(5)), (4..=7, Some(105)));
/// assert_eq!(map.get(3), None);
/// # Ok::<(), extent_map::Error>(())
/// ```
pub struct ExtentMap<V> {
    pub(super) tree: Tree,
    pub(super) reclaimer: Reclaimer,
    /// The writer lock.
    writer: Mutex<Writer>,
    value: PhantomData<V>,
}

impl<V: Value> Default for ExtentMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Value + fmt::Debug> fmt::Debug for ExtentMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = Pinned::new(self, self.reclaimer.register());
        f.debug_set().entries(view.iter()).finish()
    }
}

impl<V: Value> ExtentMap<V> {
    /// An empty map with a reclaimer of its own.
    pub fn new() -> Self {
        Self::with_reclaimer(&Reclaimer::new())
    }

    /// An empty map that shares `reclaimer`: the better choice when there are many maps.
    pub fn with_reclaimer(reclaimer: &Reclaimer) -> Self {
        Self::probed(reclaimer, Probe::default())
    }

    /// An empty map that a test watches or breaks.
    #[cfg(feature = "testing")]
    pub fn with_probe(reclaimer: &Reclaimer, probe: Probe) -> Self {
        Self::probed(reclaimer, probe)
    }

    fn probed(reclaimer: &Reclaimer, probe: Probe) -> Self {
        Self {
            tree: Tree::new(probe),
            reclaimer: reclaimer.clone(),
            writer: Mutex::new(Rank::Owners, Writer::default()),
            value: PhantomData,
        }
    }

    /// A reader's view for a thread that has registered by itself; never blocks. See
    /// [`pin`](Self::pin).
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `handle` belongs to another reclaimer than that of this map.
    pub fn pin_with(&self, handle: &Handle) -> Result<Pinned<'_, V>> {
        Ok(Pinned::new(self, self.checked(handle)?))
    }

    /// Takes the writer lock for a thread that has registered by itself. See [`edit`](Self::edit).
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `handle` belongs to another reclaimer than that of this map.
    pub fn edit_with(&self, handle: &Handle) -> Result<Editor<'_, V>> {
        let handle = self.checked(handle)?;
        Ok(Editor::new(self, self.lock(), Some(handle)))
    }

    /// Takes the writer lock.
    pub(super) fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock()
    }

    fn checked(&self, handle: &Handle) -> Result<Handle> {
        match self.reclaimer.has_registered(handle) {
            true => Ok(handle.clone()),
            false => Err(Error::InvalidInput("a handle of another reclaimer")),
        }
    }
}
