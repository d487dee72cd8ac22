//! One immutable state of a map: a sorted array of slots.

use std::iter::FusedIterator;
use std::ops::Range;

use smallvec::SmallVec;

use super::{Extent, Value};

/// A packed extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    start: u64,
    last: u64,
    bits: u64,
}

impl Slot {
    fn pack<V: Value>(extent: Extent<V>) -> Self {
        Self {
            start: extent.start(),
            last: extent.last(),
            bits: extent.value().pack(),
        }
    }

    fn unpack<V: Value>(self) -> Extent<V> {
        Extent::new(self.start, self.last, V::unpack(self.bits))
    }
}

/// A complete state of a map (invariant M6) and its number: later states have larger numbers.
#[derive(Debug, Default)]
pub(super) struct Array {
    version: u64,
    slots: Box<[Slot]>,
}

impl Array {
    /// The number of this state.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// How many extents there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The extent that holds `block`, or else the gap around it.
    pub(super) fn find<V: Value>(&self, block: u64) -> Result<Extent<V>, (u64, u64)> {
        let index = self.at_or_after(block);
        match self.slots.get(index) {
            Some(slot) if slot.start <= block => Ok(slot.unpack()),
            next => {
                let first = index
                    .checked_sub(1)
                    .map_or(0, |before| self.slots[before].last + 1);
                Err((first, next.map_or(u64::MAX, |slot| slot.start - 1)))
            }
        }
    }

    /// The extents that have a block in `first..=last`, whole, in order.
    pub(super) fn overlapping<V: Value>(
        &self,
        first: u64,
        last: u64,
    ) -> impl FusedIterator<Item = Extent<V>> + '_ {
        self.from(first)
            .take_while(move |extent| extent.start() <= last)
            .fuse()
    }

    /// The extents that end at `block` or later, whole, in order.
    pub(super) fn from<V: Value>(
        &self,
        block: u64,
    ) -> impl DoubleEndedIterator<Item = Extent<V>> + FusedIterator + '_ {
        self.slots[self.at_or_after(block)..]
            .iter()
            .map(|slot| slot.unpack())
    }

    /// The next state, in which `new` stands in place of whatever was in `first..=last`; `None`
    /// when it would be the same. `new` is sorted, disjoint and inside `first..=last`.
    ///
    /// Copies what lies on either side untouched, so the cost is a `memcpy` of the map.
    pub(super) fn splice<V: Value>(
        &self,
        first: u64,
        last: u64,
        new: impl IntoIterator<Item = Extent<V>>,
    ) -> Option<Self> {
        let cut = self.overlap(first, last);
        // One neighbour more on each side: it may merge with what lies between.
        let outer = cut.start.saturating_sub(1)..(cut.end + 1).min(self.slots.len());
        let left = first.checked_sub(1).map(|last| {
            let slots = self.slots[outer.start..cut.end].iter();
            slots.filter_map(move |slot| slot.unpack().within(0, last))
        });
        let right = last.checked_add(1).map(|first| {
            let slots = self.slots[cut.start..outer.end].iter();
            slots.filter_map(move |slot| slot.unpack().within(first, u64::MAX))
        });

        let mut middle = SmallVec::<[Slot; 8]>::new();
        let pieces = left
            .into_iter()
            .flatten()
            .chain(new)
            .chain(right.into_iter().flatten());
        for piece in pieces {
            match middle.last_mut() {
                Some(before) if before.unpack::<V>().merges(piece) => before.last = piece.last(),
                _ => middle.push(Slot::pack(piece)),
            }
        }
        if middle[..] == self.slots[outer.clone()] {
            return None;
        }
        let (prefix, suffix) = (&self.slots[..outer.start], &self.slots[outer.end..]);
        let slots = [prefix, &middle[..], suffix].concat().into_boxed_slice();
        Some(Self {
            version: self.version + 1,
            slots,
        })
    }

    /// The index of the first slot that ends at `block` or later.
    fn at_or_after(&self, block: u64) -> usize {
        self.slots.partition_point(|slot| slot.last < block)
    }

    /// The indices of the slots that have a block in `first..=last`.
    fn overlap(&self, first: u64, last: u64) -> Range<usize> {
        let start = self.at_or_after(first);
        start..start + self.slots[start..].partition_point(|slot| slot.start <= last)
    }
}
