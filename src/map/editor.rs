//! The writer's side of a map.

use core::fmt;
use core::iter::FusedIterator;
use core::ops::{RangeBounds, RangeInclusive};

use smallvec::{Array, SmallVec};

use super::extent::inclusive;
use super::iter::{Batches, next_gap};
use super::leaf::Entry;
use super::probe::{Mutation, Step};
use super::reclaim::Handle;
use super::replaced::Replaced;
use super::search::Steps;
use super::splice::{flip, grow, splice};
use super::tree::Place;
use super::writer::Writer;
use super::{Extent, ExtentMap, Lookup, Value};
use crate::error::{Error, Result};
use crate::sync::MutexGuard;

/// The writer lock of a map, and what it allows. Dropping it releases the lock.
///
/// Each call that changes something is one atomic change for readers; a call that changes nothing
/// publishes nothing and leaves the stamps of earlier lookups valid.
#[must_use = "an editor holds the writer lock and does nothing by itself"]
pub struct Editor<'m, V> {
    map: &'m ExtentMap<V>,
    writer: MutexGuard<'m, Writer>,
    /// The thread's registration, unless threads register by themselves.
    handle: Option<Handle>,
}

impl<V> fmt::Debug for Editor<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Editor").finish_non_exhaustive()
    }
}

impl<'m, V: Value> Editor<'m, V> {
    /// `writer` is the held writer lock of `map`, `handle` a registration with the map's reclaimer.
    pub(super) fn new(
        map: &'m ExtentMap<V>,
        writer: MutexGuard<'m, Writer>,
        handle: Option<Handle>,
    ) -> Self {
        Self {
            map,
            writer,
            handle,
        }
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
        if self.map.tree.probe.is(Mutation::PublishInPieces) {
            let replaced = self.replace(first, last, |_| []);
            self.replace(first, last, |_| [Extent::new(first, last, value)]);
            return Ok(replaced);
        }
        let (map, mut steps) = (self.map, Steps::new());
        // SAFETY: an editor holds the writer lock (R1). It makes nodes free only at the end of `put`, behind
        // which nobody looks at the place (N2).
        let place = unsafe { map.tree.place(around(first, last), &mut steps) };
        Ok(self.insert_at(place.as_ref(), Extent::new(first, last, value)))
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
        // SAFETY: an editor holds the writer lock, beyond the copy of the entry (R1).
        unsafe { self.map.tree.get(block) }.map(Extent::unpack)
    }

    /// The extent that holds `block` or the gap around it.
    pub fn lookup(&self, block: u64) -> Lookup<V> {
        // SAFETY: as in `get` (R1).
        Lookup::unpack(unsafe { self.map.tree.look(block) })
    }

    /// Whether the answer in `lookup` is certainly still the answer of this map. True only if no edit has touched
    /// the nodes it was read from, hence nothing near it; false for a lookup in another map, and for all lookups made
    /// before the map gave node memory back, which it does when it has shrunk a lot. O(1).
    pub fn revalidate(&self, lookup: &Lookup<V>) -> bool {
        // SAFETY: an editor holds the writer lock (R4).
        unsafe { self.map.tree.is_current(&lookup.stamp) }
    }

    /// The extents that have a block in `range`, whole, in order; none when `range` is empty or
    /// reversed.
    pub fn overlapping(
        &self,
        range: impl RangeBounds<u64>,
    ) -> impl FusedIterator<Item = Extent<V>> + '_ {
        let mut batches = Batches::new(inclusive(&range));
        core::iter::from_fn(move || batches.next(|range, limit, out| self.read(range, limit, out)))
            .fuse()
    }

    /// The largest parts of `range` in which nothing is mapped, in order; none when `range` is empty or reversed.
    pub fn gaps(
        &self,
        range: impl RangeBounds<u64>,
    ) -> impl FusedIterator<Item = RangeInclusive<u64>> + '_ {
        let mut rest = inclusive(&range);
        let mut extents = self.overlapping(range);
        core::iter::from_fn(move || next_gap(&mut rest, &mut extents)).fuse()
    }

    /// All extents in order.
    pub fn iter(&self) -> impl FusedIterator<Item = Extent<V>> + '_ {
        self.overlapping(..)
    }

    /// The first extent that holds `block` or lies behind it.
    pub fn next_from(&self, block: u64) -> Option<Extent<V>> {
        let mut found = SmallVec::<[Entry; 1]>::new();
        self.read((block, u64::MAX), 1, &mut found);
        found.pop().map(Extent::unpack)
    }

    fn bounds(range: &impl RangeBounds<u64>) -> Result<(u64, u64)> {
        inclusive(range).ok_or(Error::InvalidInput("empty or reversed range"))
    }

    /// The first `limit` extents that overlap a range.
    fn read<A: Array<Item = Entry>>(&self, range: (u64, u64), limit: usize, out: &mut SmallVec<A>) {
        // SAFETY: as in `get` (R1).
        unsafe { self.map.tree.read(range, limit, out) };
    }

    fn insert_at(&mut self, place: Option<&Place<'_, 'm>>, new: Extent<V>) -> Replaced<V> {
        let done = place.and_then(|place| self.insert_in_place(place, new));
        done.unwrap_or_else(|| self.replace_at(place, new.start(), new.last(), |_| [new]))
    }

    /// Two frequent cases that need no new nodes: the extent before grows, as it does all the time in a file that
    /// is written in order, or an extent gets another value, as it does when delayed blocks are written.
    fn insert_in_place(&self, place: &Place<'_, 'm>, new: Extent<V>) -> Option<Replaced<V>> {
        let (tree, leaf, from, to) = (&self.map.tree, place.spot.leaf, place.from, place.to);
        if !place.inside || from == to || tree.probe.is(Mutation::LeaveUnmerged) {
            return None;
        }
        let extent = |at: usize| Extent::<V>::unpack(leaf.entry(at));
        let first = extent(from);
        if first.merges(new) {
            // Else something lies behind it that has to go or to merge.
            let can_grow = to - from == 1 && leaf.can_grow(from, new.last());
            return can_grow.then(|| {
                tree.probe.at(Step::Locked);
                grow(tree, leaf, from, new.last());
                Replaced(SmallVec::new())
            });
        }
        let at = from + usize::from(first.last() < new.start());
        let old = (at < to).then(|| extent(at))?;
        let last_merges = || new.merges(extent(at + 1));
        if old.range() != new.range() || at + 1 < to && last_merges() {
            return None;
        }
        if old.pack() != new.pack() {
            tree.probe.at(Step::Locked);
            flip(tree, leaf, at, new.pack().bits);
        }
        Some(Replaced(core::iter::once(old).collect()))
    }

    /// Puts what `new` makes of the parts in `first..=last` in their place.
    fn replace<N: IntoIterator<Item = Extent<V>>>(
        &mut self,
        first: u64,
        last: u64,
        new: impl FnOnce(&[Extent<V>]) -> N,
    ) -> Replaced<V> {
        let (map, mut steps) = (self.map, Steps::new());
        // SAFETY: as in `insert` (R1, N2).
        let place = unsafe { map.tree.place(around(first, last), &mut steps) };
        self.replace_at(place.as_ref(), first, last, new)
    }

    fn replace_at<N: IntoIterator<Item = Extent<V>>>(
        &mut self,
        place: Option<&Place<'_, 'm>>,
        first: u64,
        last: u64,
        new: impl FnOnce(&[Extent<V>]) -> N,
    ) -> Replaced<V> {
        let mut old = SmallVec::<[Entry; 8]>::new();
        match place {
            Some(place) if place.inside => {
                place.spot.leaf.copy_to(place.from..place.to, &mut old);
            }
            Some(_) => self.read(around(first, last), usize::MAX, &mut old),
            None => {}
        }
        self.map.tree.probe.at(Step::Locked);

        let mut replaced = SmallVec::new();
        let (mut left, mut right) = (None, None);
        for entry in &old {
            let extent = Extent::<V>::unpack(*entry);
            if entry.start < first {
                left = extent.within(0, first - 1);
            }
            if let Some(inside) = extent.within(first, last) {
                replaced.push(inside);
            }
            if entry.last > last {
                right = extent.within(last + 1, u64::MAX);
            }
        }
        let replaced = Replaced(replaced);

        let mut merged = SmallVec::<[Entry; 8]>::new();
        let merging = !self.map.tree.probe.is(Mutation::LeaveUnmerged);
        let mut add = |piece: Extent<V>| match merged.last_mut() {
            Some(before) if merging && Extent::<V>::unpack(*before).merges(piece) => {
                before.last = piece.last();
            }
            _ => merged.push(piece.pack()),
        };
        left.into_iter().for_each(&mut add);
        new(&replaced).into_iter().for_each(&mut add);
        right.into_iter().for_each(&mut add);
        // All code that belongs to values has run: from here on nothing can panic.
        self.put(place, &old, &merged);
        replaced
    }

    /// Makes `new` take the place of `old`.
    fn put(&mut self, place: Option<&Place<'_, 'm>>, old: &[Entry], new: &[Entry]) {
        let (mut head, mut tail) = (0, 0);
        let shorter = old.len().min(new.len());
        while head < shorter && old[head] == new[head] {
            head += 1;
        }
        while head + tail < shorter && old[old.len() - 1 - tail] == new[new.len() - 1 - tail] {
            tail += 1;
        }
        let (old, new) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
        if old.is_empty() && new.is_empty() {
            return;
        }
        // SAFETY: `writer` is the writer lock of `map` by construction (R1), and was held since `place` and
        // `old` were found: the tree is as it was (N2).
        unsafe { splice(&self.map.tree, &mut self.writer, place, head, old, new) };
        let (map, handle) = (self.map, &self.handle);
        self.writer.settle(&map.tree, || match handle {
            Some(handle) => handle.clone(),
            #[cfg(feature = "std")]
            None => map.reclaimer.handle(),
            #[cfg(not(feature = "std"))]
            None => unreachable!("without std an editor is made with a handle"),
        });
    }
}

/// The blocks that matter for an edit of `first..=last`: one more on each side, because what lies there may
/// merge with what lies between.
fn around(first: u64, last: u64) -> (u64, u64) {
    (first.saturating_sub(1), last.saturating_add(1))
}
