//! Walks over ranges.

use core::fmt;
use core::iter::FusedIterator;
use core::ops::RangeInclusive;

use smallvec::SmallVec;

use super::node::Entry;
use super::{Extent, Pinned, Value};

/// How many extents a walk reads from one state of the map.
const BATCH: usize = 64;

/// Where a walk is, and what it has read ahead.
pub(super) struct Batches {
    /// What is left to read: `first..=last`.
    rest: Option<(u64, u64)>,
    /// Whether something was read before, all of it below `rest`.
    resumed: bool,
    batch: SmallVec<[Entry; BATCH]>,
    /// How much of the batch was returned.
    returned: usize,
}

impl Batches {
    pub(super) fn new(range: Option<(u64, u64)>) -> Self {
        Self {
            rest: range,
            resumed: false,
            batch: SmallVec::new(),
            returned: 0,
        }
    }

    /// The next extent; `read` reads the first few that overlap a range from one state of the map.
    #[inline]
    pub(super) fn next<V: Value>(
        &mut self,
        read: impl FnOnce((u64, u64), usize, &mut SmallVec<[Entry; BATCH]>),
    ) -> Option<Extent<V>> {
        if self.returned == self.batch.len() {
            let (first, last) = self.rest.take()?;
            read((first, last), BATCH, &mut self.batch);
            self.returned = 0;
            let next = self
                .batch
                .get(BATCH - 1)
                .and_then(|end| end.last.checked_add(1));
            self.rest = next.filter(|next| *next <= last).map(|next| (next, last));
            // What meanwhile grew over visited blocks is cut.
            if let Some(grown) = self.batch.first_mut()
                && self.resumed
                && let Some(rest) = Extent::<V>::unpack(*grown).within(first, u64::MAX)
            {
                *grown = rest.pack();
            }
            self.resumed = true;
        }
        let entry = self.batch.get(self.returned)?;
        self.returned += 1;
        Some(Extent::unpack(*entry))
    }
}

/// A walk over the extents that overlap a range; made by [`Pinned::overlapping`].
///
/// Extents come in order and never overlap or rewind. A walk of up to 64 extents sees one state of
/// the map, that of the first [`next`](Iterator::next); so it is linearizable. A longer walk reads
/// 64 extents at a time, each time from the state that is current then; an extent that meanwhile
/// grew over blocks already visited is cut there. Between calls a walk holds no memory back.
pub struct Overlapping<'p, V> {
    pinned: &'p Pinned<'p, V>,
    batches: Batches,
}

impl<V> fmt::Debug for Overlapping<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlapping")
            .field("rest", &self.batches.rest)
            .finish_non_exhaustive()
    }
}

impl<'p, V: Value> Overlapping<'p, V> {
    pub(super) fn new(pinned: &'p Pinned<'p, V>, range: Option<(u64, u64)>) -> Self {
        Self {
            pinned,
            batches: Batches::new(range),
        }
    }
}

impl<V: Value> Iterator for Overlapping<'_, V> {
    type Item = Extent<V>;

    #[inline]
    fn next(&mut self) -> Option<Extent<V>> {
        let pinned = self.pinned;
        self.batches
            .next(|range, limit, out| pinned.read(range, limit, out))
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
