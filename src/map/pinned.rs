//! A reader's view of a map.

use core::cell::Cell;
use core::fmt;
use core::ops::RangeBounds;

use smallvec::{Array, SmallVec};

use super::extent::inclusive;
use super::leaf::Entry;
use super::probe::Mutation;
use super::reclaim::Handle;
use super::{Extent, ExtentMap, Gaps, Lookup, Overlapping, Value};

/// A lookup this near behind the one before begins a sequence, perhaps.
const NEAR: u64 = 64;

/// How many lookups share a pin.
const TOGETHER: usize = 128;

/// A reader's view of a map, for the thread that made it.
///
/// It keeps what makes a lookup cheap: the thread's registration with the reclaimer, and for lookups in
/// rising order the last extent found, which it answers from as long as the map has not changed. It does
/// not keep the pin itself: each call pins on its own, so a view that is kept for long holds no memory
/// back. Two calls may hence see two states of the map. No call blocks.
pub struct Pinned<'m, V> {
    map: &'m ExtentMap<V>,
    handle: Handle,
    /// The block looked up last.
    asked: Cell<u64>,
    /// An extent that was in the map at `version`.
    recent: Cell<Entry>,
    version: Cell<u64>,
}

impl<V> fmt::Debug for Pinned<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").finish_non_exhaustive()
    }
}

impl<'m, V: Value> Pinned<'m, V> {
    pub(super) fn new(map: &'m ExtentMap<V>, handle: Handle) -> Self {
        let none = Entry {
            start: u64::MAX,
            last: u64::MAX,
            bits: 0,
        };
        Self {
            map,
            handle,
            asked: Cell::new(u64::MAX / 2),
            recent: Cell::new(none),
            // No state has this version, and no moment of publishing one: the first one has 1.
            version: Cell::new(u64::MAX),
        }
    }

    /// The extent that holds `block`, whole. Linearizable.
    #[inline]
    pub fn get(&self, block: u64) -> Option<Extent<V>> {
        let recent = self.recent.get();
        if block.wrapping_sub(recent.start) <= recent.last - recent.start && self.is_recent() {
            return Some(Extent::unpack(recent));
        }
        let ahead = block.wrapping_sub(self.asked.replace(block));
        if ahead <= NEAR {
            return self.get_and_keep(block);
        }
        let _guard = self.handle.pin();
        // SAFETY: a guard of this map's collector is held until the entry has been copied out (R1).
        let entry = unsafe { self.map.tree.get(block) }?;
        Some(Extent::unpack(entry))
    }

    /// Whether the map has not changed since `recent` was read.
    fn is_recent(&self) -> bool {
        self.map.tree.version() == self.version.get()
            || self.map.tree.probe.is(Mutation::CacheWithoutCheck)
    }

    fn get_and_keep(&self, block: u64) -> Option<Extent<V>> {
        // Before the lookup: whatever is published after this makes another version.
        let version = self.map.tree.version();
        let _guard = self.handle.pin();
        // SAFETY: as in `get` (R1).
        let entry = unsafe { self.map.tree.get(block) }?;
        self.recent.set(entry);
        // While an edit is being published the version is odd: never equal to that of a state.
        self.version
            .set(version | u64::from(!version.is_multiple_of(2)) << 63);
        Some(Extent::unpack(entry))
    }

    /// Looks `blocks` up, one after the other, and calls `each` with every block and the extent that holds it,
    /// whole. Each lookup is linearizable; all together are not one.
    ///
    /// Cheaper than as many calls of [`get`](Self::get): it pins once for 128 blocks, and not while `each` runs.
    pub fn get_many(&self, blocks: &[u64], mut each: impl FnMut(u64, Option<Extent<V>>)) {
        let mut found = [None; TOGETHER];
        for blocks in blocks.chunks(TOGETHER) {
            {
                let _guard = self.handle.pin();
                // SAFETY: the guard is held until all of them have been copied out (R1).
                unsafe { self.map.tree.get_many(blocks, &mut found) };
            }
            for (block, found) in blocks.iter().zip(found) {
                each(*block, found.map(Extent::unpack));
            }
        }
    }

    /// The extent that holds `block` or the gap around it, with a stamp for
    /// [`Editor::revalidate`](super::Editor::revalidate). Linearizable.
    pub fn lookup(&self, block: u64) -> Lookup<V> {
        let _guard = self.handle.pin();
        // SAFETY: as in `get` (R1).
        Lookup::unpack(unsafe { self.map.tree.look(block) })
    }

    /// The first `limit` extents that overlap a range, from one state.
    pub(super) fn read<A: Array<Item = Entry>>(
        &self,
        range: (u64, u64),
        limit: usize,
        out: &mut SmallVec<A>,
    ) {
        let _guard = self.handle.pin();
        // SAFETY: as in `get` (R1).
        unsafe { self.map.tree.read(range, limit, out) };
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
        let _guard = self.handle.pin();
        // SAFETY: as in `get` (R1).
        unsafe { self.map.tree.last() }.map(Extent::unpack)
    }

    /// The first extent that holds `block` or lies behind it. Linearizable.
    pub fn next_from(&self, block: u64) -> Option<Extent<V>> {
        let mut found = SmallVec::<[Entry; 1]>::new();
        self.read((block, u64::MAX), 1, &mut found);
        found.pop().map(Extent::unpack)
    }
}

impl<'p, V: Value> IntoIterator for &'p Pinned<'_, V> {
    type Item = Extent<V>;
    type IntoIter = Overlapping<'p, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
