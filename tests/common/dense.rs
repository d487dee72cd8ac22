//! The oracle of a map: a value for each of many slots, deliberately slow and obvious.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use extent_map::map::{Extent, ExtentMap, Value};

/// First block, last block, value of the first block.
pub(crate) type Plain<V> = (u64, u64, V);

pub(crate) fn plain<V: Value>(extent: Extent<V>) -> Plain<V> {
    (extent.start(), extent.last(), extent.value())
}

/// The blocks `first..=last`, which are mapped and unmapped together.
#[derive(Clone, Debug)]
struct Slot<V> {
    first: u64,
    last: u64,
    /// The value of the first block, and whether an extent starts there.
    held: Option<(V, bool)>,
}

/// Slots side by side.
#[derive(Clone, Debug)]
pub(crate) struct Dense<V> {
    slots: Vec<Slot<V>>,
}

impl<V: Value + PartialEq + Debug> Dense<V> {
    /// A slot for each of `len` blocks from `base` on.
    pub(crate) fn new(base: u64, len: usize) -> Self {
        let last = base + (len as u64 - 1);
        Self::with_slots(base..=last, last)
    }

    /// Slots that start at the blocks `firsts`, in order; the last one ends with `last`.
    pub(crate) fn with_slots(firsts: impl IntoIterator<Item = u64>, last: u64) -> Self {
        let mut slots: Vec<Slot<V>> = Vec::new();
        for first in firsts {
            if let Some(before) = slots.last_mut() {
                before.last = first - 1;
            }
            slots.push(Slot {
                first,
                last,
                held: None,
            });
        }
        Self { slots }
    }

    /// How many slots there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Sets the slots `first..=last` to what `value` makes of them and draws the bounds anew.
    fn set(
        &mut self,
        first: usize,
        last: usize,
        mut value: impl FnMut(&Slot<V>) -> Option<(V, bool)>,
    ) {
        for slot in &mut self.slots[first..=last] {
            slot.held = value(slot);
        }
        for bound in [first, last + 1] {
            if let Some((_, starts)) = self
                .slots
                .get_mut(bound)
                .and_then(|slot| slot.held.as_mut())
            {
                *starts = true;
            }
        }
        let touched = first.saturating_sub(1)..(last + 2).min(self.slots.len());
        for slot in touched.skip(1) {
            if let [before, slot] = &mut self.slots[slot - 1..=slot]
                && let (Some((left, _)), Some((value, starts))) = (before.held, &mut slot.held)
                && left.can_merge(before.last - before.first + 1, *value)
            {
                *starts = false;
            }
        }
    }

    pub(crate) fn insert(&mut self, first: usize, last: usize, value: V) {
        let start = self.slots[first].first;
        self.set(first, last, |slot| {
            Some((value.advance(slot.first - start), slot.first == start))
        });
    }

    pub(crate) fn remove(&mut self, first: usize, last: usize) {
        self.set(first, last, |_| None);
    }

    /// `change` gets the first block and the value of each extent, cut to the slots.
    pub(crate) fn update(
        &mut self,
        first: usize,
        last: usize,
        change: impl Fn(u64, V) -> Option<V>,
    ) {
        let start = self.slots[first].first;
        let mut extent = (0, None);
        self.set(first, last, |slot| {
            let (value, starts) = slot.held?;
            let starts = starts || slot.first == start;
            if starts {
                extent = (slot.first, change(slot.first, value));
            }
            let by = slot.first - extent.0;
            extent.1.map(|value| (value.advance(by), starts))
        });
    }

    /// The extents.
    pub(crate) fn extents(&self) -> Vec<Plain<V>> {
        let mut extents: Vec<Plain<V>> = Vec::new();
        for slot in &self.slots {
            match (slot.held, extents.last_mut()) {
                (Some((_, false)), Some(extent)) => extent.1 = slot.last,
                (Some((value, true)), _) => extents.push((slot.first, slot.last, value)),
                (Some(_), None) => panic!("the first block of an extent starts it"),
                (None, _) => {}
            }
        }
        extents
    }

    /// The blocks of some slots.
    pub(crate) fn blocks(&self, first: usize, last: usize) -> RangeInclusive<u64> {
        self.slots[first].first..=self.slots[last].last
    }
}

/// The place of the first of `extents` that ends at `block` or later.
fn place<V>(extents: &[Plain<V>], block: u64) -> usize {
    extents.partition_point(|(_, last, _)| *last < block)
}

/// What a lookup of `block` must answer where `extents` are all there are: an extent or a gap.
pub(crate) fn around<V: Value>(
    extents: &[Plain<V>],
    block: u64,
) -> Result<Plain<V>, RangeInclusive<u64>> {
    let at = place(extents, block);
    match extents.get(at) {
        Some(extent) if extent.0 <= block => Ok(*extent),
        next => {
            let before = at.checked_sub(1).map(|before| extents[before].1 + 1);
            Err(before.unwrap_or(0)..=next.map_or(u64::MAX, |(start, ..)| start - 1))
        }
    }
}

/// Everything that a map says must follow from the oracle.
pub(crate) fn agree<V: Value + PartialEq + Debug>(map: &ExtentMap<V>, dense: &Dense<V>) {
    let expected = dense.extents();
    let view = map.pin();
    assert_eq!(view.iter().map(plain).collect::<Vec<_>>(), expected);
    assert_eq!(map.edit().iter().map(plain).collect::<Vec<_>>(), expected);
    assert_eq!(view.first().map(plain), expected.first().copied());
    assert_eq!(view.last().map(plain), expected.last().copied());
    for slot in &dense.slots {
        let found = view.get(slot.first);
        let value = found.and_then(|extent| extent.value_at(slot.first));
        assert_eq!(value, slot.held.map(|(value, _)| value));
        for block in [slot.first, slot.last] {
            let found = around(&expected, block);
            assert_eq!(view.get(block).map(plain), found.clone().ok());
            let after = expected.get(place(&expected, block)).copied();
            assert_eq!(view.next_from(block).map(plain), after);
            let lookup = view.lookup(block);
            let answer = lookup
                .extent()
                .map(plain)
                .ok_or_else(|| lookup.gap().unwrap());
            assert_eq!(answer, found);
        }
    }
}

/// Where `extents` are all there are, walks over `range` list those there, and with the gaps they tile it.
pub(crate) fn walks_agree<V: Value + PartialEq + Debug>(
    map: &ExtentMap<V>,
    extents: &[Plain<V>],
    range: RangeInclusive<u64>,
) {
    let view = map.pin();
    let found: Vec<_> = view.overlapping(range.clone()).collect();
    let touching = extents.iter().skip(place(extents, *range.start()));
    let touching = touching.take_while(|(start, ..)| start <= range.end());
    assert!(
        found.iter().copied().map(plain).eq(touching.copied()),
        "{found:?} in {range:?}"
    );

    let covered = found
        .iter()
        .map(|extent| extent.clip(range.clone()).unwrap().range());
    let mut tiles: Vec<_> = covered.map(|tile| (tile, true)).collect();
    let gaps: Vec<_> = view.gaps(range.clone()).collect();
    assert!(map.edit().gaps(range.clone()).eq(gaps.iter().cloned()));
    tiles.extend(gaps.into_iter().map(|tile| (tile, false)));
    tiles.sort_by_key(|(tile, _)| *tile.start());
    let mut next = Some(*range.start());
    for (tile, _) in &tiles {
        assert_eq!(Some(*tile.start()), next);
        next = tile.end().checked_add(1);
    }
    assert_eq!(next, range.end().checked_add(1));
    assert!(
        tiles.windows(2).all(|pair| pair[0].1 || pair[1].1),
        "two gaps in a row"
    );
}
