//! Walks over ranges.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::RangeInclusive;

use smallvec::SmallVec;

use super::{Extent, Pinned, Value};

/// How many extents a walk reads from one state of the map.
const BATCH: usize = 64;

/// A walk over the extents that overlap a range; made by [`Pinned::overlapping`].
///
/// Extents come in order and never overlap or rewind. A walk of up to 64 extents sees one state of
/// the map, that of the first [`next`](Iterator::next); so it is linearizable. A longer walk reads
/// 64 extents at a time, each time from the state that is current then; an extent that meanwhile
/// grew over blocks already visited is cut there.
pub struct Overlapping<'p, V> {
    pinned: &'p Pinned<'p, V>,
    /// What is left to read: `first..=last`.
    rest: Option<(u64, u64)>,
    /// The blocks below were visited by earlier batches.
    visited: u64,
    /// What was read and not yet returned, last extent first.
    batch: SmallVec<[Extent<V>; BATCH]>,
}

impl<V> fmt::Debug for Overlapping<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlapping")
            .field("rest", &self.rest)
            .finish_non_exhaustive()
    }
}

impl<'p, V: Value> Overlapping<'p, V> {
    pub(super) fn new(pinned: &'p Pinned<'p, V>, range: Option<(u64, u64)>) -> Self {
        Self {
            pinned,
            rest: range,
            visited: 0,
            batch: SmallVec::new(),
        }
    }

    /// Reads the next batch, from `first` on.
    fn refill(&mut self, first: u64, last: u64) {
        let visited = self.visited;
        let extents = &mut self.batch;
        self.pinned.read(|array| {
            let found = array.overlapping(first, last).take(BATCH);
            extents.extend(found.filter_map(|extent| extent.within(visited, u64::MAX)));
        });
        self.rest = match extents.last() {
            Some(end) if extents.len() == BATCH && end.last() < last => {
                self.visited = end.last() + 1;
                Some((self.visited, last))
            }
            _ => None,
        };
        extents.reverse();
    }
}

impl<V: Value> Iterator for Overlapping<'_, V> {
    type Item = Extent<V>;

    fn next(&mut self) -> Option<Extent<V>> {
        if self.batch.is_empty()
            && let Some((first, last)) = self.rest
        {
            self.refill(first, last);
        }
        self.batch.pop()
    }
}

impl<V: Value> FusedIterator for Overlapping<'_, V> {}

/// A walk over the gaps in a range; made by [`Pinned::gaps`].
pub struct Gaps<'p, V> {
    extents: Overlapping<'p, V>,
    /// The part of the range behind the extents seen so far.
    rest: Option<(u64, u64)>,
}

impl<V> fmt::Debug for Gaps<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gaps")
            .field("rest", &self.rest)
            .finish_non_exhaustive()
    }
}

impl<'p, V: Value> Gaps<'p, V> {
    pub(super) fn new(pinned: &'p Pinned<'p, V>, range: Option<(u64, u64)>) -> Self {
        Self {
            extents: Overlapping::new(pinned, range),
            rest: range,
        }
    }
}

impl<V: Value> Iterator for Gaps<'_, V> {
    type Item = RangeInclusive<u64>;

    fn next(&mut self) -> Option<RangeInclusive<u64>> {
        while let Some((first, last)) = self.rest.take() {
            let Some(extent) = self.extents.next() else {
                return Some(first..=last);
            };
            if extent.last() < last {
                self.rest = Some((extent.last() + 1, last));
            }
            if first < extent.start() {
                return Some(first..=extent.start() - 1);
            }
        }
        None
    }
}

impl<V: Value> FusedIterator for Gaps<'_, V> {}
