//! One mapped range, and how callers write ranges.

use core::fmt;
use core::ops::{Bound, RangeBounds, RangeInclusive};

use super::Value;
use super::leaf::Entry;

/// A range of blocks and the value of its first block. Never empty.
///
/// Both ends are inclusive inside, because an extent may end with block [`u64::MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Extent<V> {
    start: u64,
    last: u64,
    value: V,
}

impl<V: fmt::Debug> fmt::Debug for Extent<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={} => {:?}", self.start, self.last, self.value)
    }
}

impl<V: Value> Extent<V> {
    /// The blocks `start..=last`, which must not be reversed, with `value` at `start`.
    pub(super) fn new(start: u64, last: u64, value: V) -> Self {
        debug_assert!(start <= last);
        Self { start, last, value }
    }

    pub(super) fn pack(self) -> Entry {
        Entry {
            start: self.start,
            last: self.last,
            bits: self.value.pack(),
        }
    }

    #[inline(always)]
    pub(super) fn unpack(entry: Entry) -> Self {
        Self::new(entry.start, entry.last, V::unpack(entry.bits))
    }

    /// The first block.
    pub fn start(self) -> u64 {
        self.start
    }

    /// The last block.
    pub fn last(self) -> u64 {
        self.last
    }

    /// How many blocks, at least 1; [`u64::MAX`] also for the one extent that covers all 2^64
    /// blocks.
    #[allow(clippy::len_without_is_empty, reason = "an extent is never empty")]
    pub fn len(self) -> u64 {
        (self.last - self.start).saturating_add(1)
    }

    /// The blocks.
    pub fn range(self) -> RangeInclusive<u64> {
        self.start..=self.last
    }

    /// The value of the first block.
    pub fn value(self) -> V {
        self.value
    }

    /// The value of `block`: that of the first block, advanced; `None` when `block` is not inside.
    pub fn value_at(self, block: u64) -> Option<V> {
        self.contains(block)
            .then(|| self.value.advance(block - self.start))
    }

    /// Whether `block` is one of the blocks.
    pub fn contains(self, block: u64) -> bool {
        self.start <= block && block <= self.last
    }

    /// The part inside `range`, its value advanced to where it starts; `None` when no block is
    /// inside.
    pub fn clip(self, range: impl RangeBounds<u64>) -> Option<Self> {
        let (first, last) = inclusive(&range)?;
        self.within(first, last)
    }

    /// The part inside `first..=last`.
    pub(super) fn within(self, first: u64, last: u64) -> Option<Self> {
        let (start, last) = (self.start.max(first), self.last.min(last));
        (start <= last).then(|| Self::new(start, last, self.value.advance(start - self.start)))
    }

    /// Whether `next` lies right behind and is one with `self`.
    pub(super) fn merges(self, next: Self) -> bool {
        self.last.checked_add(1) == Some(next.start) && self.value.can_merge(self.len(), next.value)
    }
}

/// The first and the last block of `range`; `None` when it has no block.
pub(super) fn inclusive(range: &impl RangeBounds<u64>) -> Option<(u64, u64)> {
    let first = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.checked_add(1)?,
        Bound::Unbounded => 0,
    };
    let last = match range.end_bound() {
        Bound::Included(&last) => last,
        Bound::Excluded(&end) => end.checked_sub(1)?,
        Bound::Unbounded => u64::MAX,
    };
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_every_shape_become_inclusive() {
        assert_eq!(inclusive(&(3..7)), Some((3, 6)));
        assert_eq!(inclusive(&(3..=7)), Some((3, 7)));
        assert_eq!(inclusive(&..), Some((0, u64::MAX)));
        assert_eq!(inclusive(&(..0)), None);
        assert_eq!(inclusive(&(7..7)), None);
        let after_the_end = (Bound::Excluded(u64::MAX), Bound::Unbounded);
        assert_eq!(inclusive(&after_the_end), None);
    }

    #[test]
    fn the_extent_of_everything_has_a_saturated_length() {
        assert_eq!(Extent::new(0, u64::MAX, ()).len(), u64::MAX);
        assert_eq!(Extent::new(1, u64::MAX, ()).len(), u64::MAX);
        assert_eq!(Extent::new(2, u64::MAX, ()).len(), u64::MAX - 1);
    }

    #[test]
    fn clipping_advances_the_value() {
        let extent = Extent::new(10, 19, 100_u64);
        assert_eq!(extent.clip(15..), Some(Extent::new(15, 19, 105)));
        assert_eq!(extent.clip(..12), Some(Extent::new(10, 11, 100)));
        assert_eq!(extent.clip(20..), None);
        let values = [9, 10, 15, 19, 20].map(|block| extent.value_at(block));
        assert_eq!(values, [None, Some(100), Some(105), Some(109), None]);
    }
}
