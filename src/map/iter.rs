//! Walks over ranges.

use core::fmt;
use core::iter::FusedIterator;
use core::ops::RangeInclusive;

use smallvec::SmallVec;

use super::leaf::Entry;
use super::{Extent, Pinned, Value};

/// How many extents a walk reads from one state of the map at first ...
const BATCH: usize = 64;
/// ... and, when it turns out to be a long one, from each state after.
const LONG_BATCH: usize = 256;

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
        if self.returned == self.batch.len() && !self.refill::<V>(read) {
            return None;
        }
        let entry = self.batch.get(self.returned)?;
        self.returned += 1;
        Some(Extent::unpack(*entry))
    }

    /// Reads the next batch; false at the end of the walk.
    fn refill<V: Value>(
        &mut self,
        read: impl FnOnce((u64, u64), usize, &mut SmallVec<[Entry; BATCH]>),
    ) -> bool {
        let Some((first, last)) = self.rest.take() else {
            return false;
        };
        // One more at first, so that it shows whether a walk of `BATCH` ends there.
        let limit = if self.resumed { LONG_BATCH } else { BATCH + 1 };
        read((first, last), limit, &mut self.batch);
        self.returned = 0;
        let end = self.batch.get(limit - 1);
        let next = end.and_then(|end| end.last.checked_add(1));
        self.rest = next.filter(|next| *next <= last).map(|next| (next, last));
        // What meanwhile grew over visited blocks is cut.
        if let Some(grown) = self.batch.first_mut()
            && self.resumed
            && let Some(rest) = Extent::<V>::unpack(*grown).within(first, u64::MAX)
        {
            *grown = rest.pack();
        }
        self.resumed = true;
        !self.batch.is_empty()
    }

    /// All that are left, in order.
    #[inline]
    pub(super) fn fold<V: Value, R>(
        mut self,
        mut read: impl FnMut((u64, u64), usize, &mut SmallVec<[Entry; BATCH]>),
        init: R,
        mut add: impl FnMut(R, Extent<V>) -> R,
    ) -> R {
        let mut sum = init;
        loop {
            for entry in &self.batch[self.returned..] {
                sum = add(sum, Extent::unpack(*entry));
            }
            if !self.refill::<V>(&mut read) {
                return sum;
            }
        }
    }
}

/// A walk over the extents that overlap a range; made by [`Pinned::overlapping`].
///
/// Extents come in order and never overlap or rewind. A walk of up to 64 extents sees one state of
/// the map, that of the first [`next`](Iterator::next); so it is linearizable. A longer walk reads on
/// 256 extents at a time, each time from the state that is current then; an extent that meanwhile
/// grew over blocks already visited is cut there. Between calls a walk holds no memory back.
#[must_use = "iterators are lazy"]
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

    #[inline]
    fn fold<R, F: FnMut(R, Extent<V>) -> R>(self, init: R, add: F) -> R {
        let pinned = self.pinned;
        self.batches.fold(
            |range, limit, out| pinned.read(range, limit, out),
            init,
            add,
        )
    }
}

impl<V: Value> FusedIterator for Overlapping<'_, V> {}

/// A walk over the gaps in a range; made by [`Pinned::gaps`].
#[must_use = "iterators are lazy"]
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
        next_gap(&mut self.rest, &mut self.extents)
    }
}

/// The next gap in `rest`, the part of a range behind the extents seen so far; `extents` walks over those that overlap the
/// range.
pub(super) fn next_gap<V: Value>(
    rest: &mut Option<(u64, u64)>,
    extents: &mut impl Iterator<Item = Extent<V>>,
) -> Option<RangeInclusive<u64>> {
    while let Some((first, last)) = rest.take() {
        let Some(extent) = extents.next() else {
            return Some(first..=last);
        };
        if extent.last() < last {
            *rest = Some((extent.last() + 1, last));
        }
        if first < extent.start() {
            return Some(first..=extent.start() - 1);
        }
    }
    None
}

impl<V: Value> FusedIterator for Gaps<'_, V> {}
