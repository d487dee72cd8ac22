//! A reader's view of a map.

use std::fmt;
use std::ops::RangeBounds;
use std::rc::Rc;

use crossbeam_epoch::LocalHandle;

use super::array::Array;
use super::extent::inclusive;
use super::{Extent, ExtentMap, Gaps, Lookup, Overlapping, Value};

/// A reader's view of a map, for the thread that made it.
///
/// It keeps what makes a lookup cheap, the thread's registration with the reclaimer, but not the
/// pin itself: each call pins on its own, so a view that is kept for long holds no memory back. Two
/// calls may hence see two states of the map. No call blocks.
pub struct Pinned<'m, V> {
    map: &'m ExtentMap<V>,
    handle: Rc<LocalHandle>,
}

impl<V> fmt::Debug for Pinned<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").finish_non_exhaustive()
    }
}

impl<'m, V: Value> Pinned<'m, V> {
    pub(super) fn new(map: &'m ExtentMap<V>, handle: Rc<LocalHandle>) -> Self {
        Self { map, handle }
    }

    /// Calls `read` with the current state.
    pub(super) fn read<R>(&self, read: impl FnOnce(&Array) -> R) -> R {
        self.map.read(&self.handle, read)
    }

    /// The extent that holds `block`, whole. Linearizable.
    pub fn get(&self, block: u64) -> Option<Extent<V>> {
        self.read(|array| array.find(block).ok())
    }

    /// The extent that holds `block` or the gap around it, with a stamp for
    /// [`Editor::revalidate`](super::Editor::revalidate). Linearizable.
    pub fn lookup(&self, block: u64) -> Lookup<V> {
        self.read(|array| Lookup {
            answer: array.find(block),
            stamp: self.map.stamp(array),
        })
    }

    /// The extents that have a block in `range`, whole, in order; none when `range` is empty or
    /// reversed.
    ///
    /// Consistency: see [`Overlapping`].
    pub fn overlapping(&self, range: impl RangeBounds<u64>) -> Overlapping<'_, V> {
        Overlapping::new(self, inclusive(&range))
    }

    /// The largest parts of `range` in which nothing is mapped, in order; none when `range` is
    /// empty or reversed.
    ///
    /// Consistency: as that of [`Overlapping`], of which it is the complement.
    pub fn gaps(&self, range: impl RangeBounds<u64>) -> Gaps<'_, V> {
        Gaps::new(self, inclusive(&range))
    }

    /// All extents in order. Same as `overlapping(..)`.
    pub fn iter(&self) -> Overlapping<'_, V> {
        self.overlapping(..)
    }

    /// The first extent of the map. Linearizable.
    pub fn first(&self) -> Option<Extent<V>> {
        self.next_from(0)
    }

    /// The last extent of the map. Linearizable.
    pub fn last(&self) -> Option<Extent<V>> {
        self.read(|array| array.from(0).next_back())
    }

    /// The first extent that holds `block` or lies behind it. Linearizable.
    pub fn next_from(&self, block: u64) -> Option<Extent<V>> {
        self.read(|array| array.from(block).next())
    }
}

impl<'p, V: Value> IntoIterator for &'p Pinned<'_, V> {
    type Item = Extent<V>;
    type IntoIter = Overlapping<'p, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
