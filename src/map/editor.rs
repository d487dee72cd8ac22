//! The writer's side of a map.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::{Deref, RangeBounds};
use std::rc::Rc;

use crossbeam_epoch::LocalHandle;
use smallvec::SmallVec;

use super::array::Array;
use super::extent::inclusive;
use super::reclaim::Limbo;
use super::{Extent, ExtentMap, Lookup, Value};
use crate::error::{Error, Result};
use crate::sync::MutexGuard;

/// The writer lock of a map, and what it allows. Dropping it releases the lock.
///
/// Each call that changes something is one atomic change for readers; a call that changes nothing
/// publishes nothing and leaves the stamps of earlier lookups valid.
pub struct Editor<'m, V> {
    map: &'m ExtentMap<V>,
    limbo: MutexGuard<'m, Limbo>,
    handle: Rc<LocalHandle>,
}

impl<V> fmt::Debug for Editor<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Editor").finish_non_exhaustive()
    }
}

impl<'m, V: Value> Editor<'m, V> {
    /// `limbo` is the held writer lock of `map`, `handle` a registration with the map's reclaimer.
    pub(super) fn new(
        map: &'m ExtentMap<V>,
        limbo: MutexGuard<'m, Limbo>,
        handle: Rc<LocalHandle>,
    ) -> Self {
        Self { map, limbo, handle }
    }

    /// Maps `range`, with `value` at its first block, over whatever was there.
    ///
    /// What sticks out on either side stays, its value advanced; neighbours that can merge do.
    /// Returns what the call replaced.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `range` is empty or reversed.
    pub fn insert(&mut self, range: impl RangeBounds<u64>, value: V) -> Result<Replaced<V>> {
        let (first, last) = Self::bounds(&range)?;
        Ok(self.replace(first, last, |_| [Extent::new(first, last, value)]))
    }

    /// Unmaps `range`. Returns what the call removed.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `range` is empty or reversed.
    pub fn remove(&mut self, range: impl RangeBounds<u64>) -> Result<Replaced<V>> {
        let (first, last) = Self::bounds(&range)?;
        Ok(self.replace(first, last, |_| []))
    }

    /// Gives every mapped part of `range` the value that `change` returns for it, or unmaps it on
    /// `None`.
    ///
    /// `change` sees the extents in order, clipped to `range`, and its answer is the value at the
    /// start of what it saw. All answers become visible in one atomic change; if `change` panics,
    /// nothing does. Returns what was there before.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `range` is empty or reversed.
    pub fn update(
        &mut self,
        range: impl RangeBounds<u64>,
        mut change: impl FnMut(Extent<V>) -> Option<V>,
    ) -> Result<Replaced<V>> {
        let (first, last) = Self::bounds(&range)?;
        Ok(self.replace(first, last, |old| {
            let changed = old.iter().filter_map(move |extent| {
                change(*extent).map(|value| Extent::new(extent.start(), extent.last(), value))
            });
            changed.collect::<SmallVec<[Extent<V>; 4]>>()
        }))
    }

    /// The extent that holds `block`, whole.
    pub fn get(&self, block: u64) -> Option<Extent<V>> {
        self.current().find(block).ok()
    }

    /// The extent that holds `block` or the gap around it.
    pub fn lookup(&self, block: u64) -> Lookup<V> {
        let array = self.current();
        Lookup {
            answer: array.find(block),
            stamp: self.map.stamp(array),
        }
    }

    /// Whether the answer in `lookup` is certainly still the answer of this map: true only if no
    /// edit changed the map since; false for a lookup in another map. O(1).
    pub fn revalidate(&self, lookup: &Lookup<V>) -> bool {
        lookup.stamp == self.map.stamp(self.current())
    }

    /// The extents that have a block in `range`, whole, in order; none when `range` is empty or
    /// reversed.
    pub fn overlapping(
        &self,
        range: impl RangeBounds<u64>,
    ) -> impl FusedIterator<Item = Extent<V>> + '_ {
        let walk = inclusive(&range).map(|(first, last)| self.current().overlapping(first, last));
        walk.into_iter().flatten()
    }

    /// All extents in order.
    pub fn iter(&self) -> impl FusedIterator<Item = Extent<V>> + '_ {
        self.overlapping(..)
    }

    /// The first extent that holds `block` or lies behind it.
    pub fn next_from(&self, block: u64) -> Option<Extent<V>> {
        self.current().from(block).next()
    }

    fn bounds(range: &impl RangeBounds<u64>) -> Result<(u64, u64)> {
        inclusive(range).ok_or(Error::InvalidInput("empty or reversed range"))
    }

    fn current(&self) -> &Array {
        // SAFETY: an editor holds the writer lock, and `replace`, which publishes, needs `&mut
        // self`.
        unsafe { self.map.current() }
    }

    /// Puts what `new` makes of the parts in `first..=last` in their place.
    fn replace<N: IntoIterator<Item = Extent<V>>>(
        &mut self,
        first: u64,
        last: u64,
        new: impl FnOnce(&[Extent<V>]) -> N,
    ) -> Replaced<V> {
        let array = self.current();
        let old = array
            .overlapping(first, last)
            .filter_map(|extent| extent.within(first, last));
        let replaced = Replaced(old.collect());
        if let Some(next) = array.splice(first, last, new(&replaced)) {
            // SAFETY: `limbo` and `handle` belong to `map` by construction (`ExtentMap::edit`).
            unsafe { self.map.publish(next, &mut self.limbo, &self.handle) }
        }
        replaced
    }
}

/// What an edit replaced: the extents that were in its range, clipped to the range, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced<V: Value>(SmallVec<[Extent<V>; 4]>);

impl<V: Value> Deref for Replaced<V> {
    type Target = [Extent<V>];

    fn deref(&self) -> &[Extent<V>] {
        &self.0
    }
}

impl<V: Value> IntoIterator for Replaced<V> {
    type Item = Extent<V>;
    type IntoIter = smallvec::IntoIter<[Extent<V>; 4]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
