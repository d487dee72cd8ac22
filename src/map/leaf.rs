//! The nodes at level 0, which hold the extents.

use core::ops::Range;
#[cfg(not(any(loom, feature = "shuttle")))]
use core::ptr;
use core::ptr::NonNull;

use smallvec::{Array, SmallVec};

use super::MODELLED;
use super::link::{Kind, Link};
use crate::sync::Witness;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Entries in a packed leaf; with these, leaf and header fill 512 bytes.
pub(super) const LEAF: usize = if MODELLED { 4 } else { 30 };
/// Entries in a wide leaf, which has two lanes for each number.
pub(super) const WIDE: usize = LEAF / 2;

/// The largest offset of a start in a packed leaf; the next one marks unused lanes.
const SPAN: u64 = u32::MAX as u64 - 1;
const UNUSED: i32 = i32::MAX;

/// The version of a leaf that is not part of the tree any more; no leaf in the tree has it.
pub(super) const RETIRED: u64 = u64::MAX;

/// A packed extent: its first and last block and the bits of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) start: u64,
    pub(super) last: u64,
    pub(super) bits: u64,
}

/// A node at level 0: the extents of a range of blocks.
///
/// A *packed* leaf holds up to [`LEAF`] entries whose starts are kept as 32-bit offsets from the
/// first one. Where 32 bits do not suffice, the leaf is *wide*: entry `i` has its start in the
/// offsets `2i` and `2i + 1` and its length in the lens of the same indices, and there are at most
/// [`WIDE`] entries. Which of the two it is says the link to the leaf.
///
/// Everything but the values, the lens of a packed leaf and the version is constant from publication to
/// recycling (N1).
#[repr(C, align(64))]
pub(super) struct Leaf {
    /// The first start; together with the offsets 32 lanes, which are compared at once.
    base: u64,
    offsets: [i32; LEAF],
    values: [AtomicU64; LEAF],
    /// The last block minus the first. While the leaf is published they only grow (N6).
    lens: [AtomicU32; LEAF],
    /// The number of the edit that changed the leaf last, or [`RETIRED`].
    version: AtomicU64,
    count: u32,
    witness: Witness,
}

#[cfg(not(any(loom, feature = "shuttle")))]
const _: () = assert!(size_of::<Leaf>() == 512);

/// A number as lanes hold it: signed comparison, which is all that AVX2 has, orders it as unsigned
/// comparison orders the number.
fn lane32(number: u32) -> i32 {
    (number ^ 1 << 31).cast_signed()
}

fn offset32(lane: i32) -> u32 {
    lane.cast_unsigned() ^ 1 << 31
}

impl Link {
    pub(super) fn to_leaf(leaf: NonNull<Leaf>, wide: bool) -> Self {
        let kind = if wide {
            Kind::WideLeaf
        } else {
            Kind::PackedLeaf
        };
        Self::new(leaf, kind)
    }

    /// # Safety
    /// The link leads to a leaf that stays published or protected for `'t` (R1).
    #[inline(always)]
    pub(super) unsafe fn leaf<'t>(self) -> LeafRef<'t> {
        debug_assert!(!self.is_null() && !self.is_index());
        // SAFETY: there is a leaf, whole and aligned (P1). It stays by the caller's promise (R1), and nothing
        // writes a plain field of it meanwhile (N1).
        let leaf: &Leaf = unsafe { self.node().as_ref() };
        leaf.witness.read();
        LeafRef {
            leaf,
            wide: self.is_wide(),
        }
    }
}

impl Leaf {
    pub(super) fn new() -> Self {
        Self {
            base: 0,
            offsets: [UNUSED; LEAF],
            values: core::array::from_fn(|_| AtomicU64::new(0)),
            lens: core::array::from_fn(|_| AtomicU32::new(0)),
            version: AtomicU64::new(RETIRED),
            count: 0,
            witness: Witness::new(),
        }
    }

    /// Whether `entries` go into one leaf, and if so, whether it must be wide.
    pub(super) fn shape(entries: &[Entry]) -> Option<bool> {
        let [first, .., last] = entries else {
            // One entry is packed if its length allows it.
            return entries.first().map(|entry| !entry.is_short());
        };
        // Before a look at all: a long edit asks again behind each leaf.
        if entries.len() > LEAF {
            return None;
        }
        let packs = last.start - first.start <= SPAN && entries.iter().all(Entry::is_short);
        match packs {
            true => Some(false),
            false => (entries.len() <= WIDE).then_some(true),
        }
    }

    /// Fills an unpublished leaf. `entries` has the given [shape](Self::shape).
    pub(super) fn fill(&mut self, entries: &[Entry], wide: bool, version: u64) {
        self.witness.written();
        self.base = entries[0].start;
        self.offsets = [UNUSED; LEAF];
        for (at, entry) in entries.iter().enumerate() {
            self.put(at, *entry, wide);
        }
        self.count = entries.len() as u32;
        self.version.store(version, Ordering::Relaxed);
    }

    fn put(&mut self, at: usize, entry: Entry, wide: bool) {
        let len = entry.last - entry.start;
        if wide {
            for (lane, shift) in [(2 * at, 0), (2 * at + 1, 32)] {
                self.offsets[lane] = ((entry.start >> shift) as u32).cast_signed();
                self.lens[lane].store((len >> shift) as u32, Ordering::Relaxed);
            }
        } else {
            self.offsets[at] = lane32((entry.start - self.base) as u32);
            self.lens[at].store(len as u32, Ordering::Relaxed);
        }
        self.values[at].store(entry.bits, Ordering::Relaxed);
    }

    /// Fills an unpublished packed leaf with what `old`, a packed leaf too, holds, but with `new` in
    /// place of its entries `from..to`; false, having done nothing, when that does not go into one packed leaf.
    #[cfg(not(any(loom, feature = "shuttle")))]
    pub(super) fn fill_from(
        &mut self,
        old: &Leaf,
        (from, to): (usize, usize),
        new: &[Entry],
        version: u64,
    ) -> bool {
        let count = old.count as usize;
        let tail = count - to;
        let after = from + new.len();
        let total = after + tail;
        let old_start = |at: usize| old.base + u64::from(offset32(old.offsets[at]));
        let base = match new.first() {
            _ if from > 0 => old.base,
            Some(first) => first.start,
            None if tail > 0 => old_start(to),
            None => return false,
        };
        let last_start = match new.last() {
            _ if tail > 0 => old_start(count - 1),
            Some(last) => last.start,
            None => old_start(from - 1),
        };
        if total > LEAF || last_start - base > SPAN || !new.iter().all(Entry::is_short) {
            return false;
        }
        // SAFETY: both are leaves that are borrowed here, and they do not overlap: one is unpublished (P2).
        // Some of `old` are atomics, but nobody writes them now: that needs the writer lock, which we have
        // (N2).
        unsafe { ptr::copy_nonoverlapping(old, self, 1) };
        if after != to {
            self.offsets[after..total].copy_from_slice(&old.offsets[to..count]);
            // SAFETY: there are as many lens and values as offsets: in bounds as the slices above, from `after`
            // and from `to` on `tail` of them (L1). Otherwise as the copy above (P2, N2).
            unsafe {
                let lens = self.lens.as_mut_ptr().add(after);
                ptr::copy_nonoverlapping(old.lens.as_ptr().add(to), lens, tail);
                let values = self.values.as_mut_ptr().add(after);
                ptr::copy_nonoverlapping(old.values.as_ptr().add(to), values, tail);
            }
            if total < count {
                self.offsets[total..count].fill(UNUSED);
            }
        }
        if base != old.base {
            let moved = old.base.wrapping_sub(base) as u32;
            for offset in &mut self.offsets[after..total] {
                *offset = offset.wrapping_add(moved.cast_signed());
            }
            self.base = base;
        }
        for (at, entry) in (from..).zip(new) {
            self.put(at, *entry, false);
        }
        self.count = total as u32;
        self.version.store(version, Ordering::Relaxed);
        true
    }

    /// Marks a leaf that has left the tree.
    pub(super) fn retire(&self) {
        // Release, to the Acquire of `LeafRef::version`: who sees it sees all that changed in place before.
        self.version.store(RETIRED, Ordering::Release);
    }

    /// Tells a model checker that the memory is free for other uses.
    pub(super) fn freed(&self) {
        self.witness.freed();
    }

    /// The version, for the holder of the writer lock, also of a leaf that has left the tree.
    pub(super) fn version_now(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// The packed search: what the lanes are compared with to count the starts up to `block`. A
    /// block below the base compares as one above all starts.
    #[inline(always)]
    pub(super) fn lane_of(&self, block: u64) -> i32 {
        lane32(block.wrapping_sub(self.base).min(SPAN) as u32)
    }

    pub(super) fn offsets(&self) -> &[i32; LEAF] {
        &self.offsets
    }

    /// Entry `at` of a packed leaf.
    #[inline(always)]
    fn packed(&self, at: usize) -> Entry {
        let start = self.base + u64::from(offset32(self.offsets[at]));
        // Acquire, from the Release of `LeafRef::grow` and `LeafRef::flip`.
        let len = || self.lens[at].load(Ordering::Acquire);
        let mut before = len();
        loop {
            let bits = self.values[at].load(Ordering::Acquire);
            // Lens only grow: this one was the same while the value was read, so both were true then.
            let after = len();
            if before == after {
                let last = start + u64::from(before);
                return Entry { start, last, bits };
            }
            before = after;
        }
    }

    /// Entries of a packed leaf, whose bits and lens may be of two moments.
    #[inline(always)]
    fn packed_entries(&self, range: Range<usize>) -> impl ExactSizeIterator<Item = Entry> + '_ {
        let offsets = self.offsets[range.clone()].iter();
        let lens = self.lens[range.clone()].iter();
        let values = self.values[range].iter();
        offsets.zip(lens).zip(values).map(|((offset, len), bits)| {
            let start = self.base + u64::from(offset32(*offset));
            Entry {
                start,
                // Acquire, as in `packed`.
                last: start + u64::from(len.load(Ordering::Acquire)),
                bits: bits.load(Ordering::Acquire),
            }
        })
    }

    fn wide_start(&self, at: usize) -> u64 {
        let [low, high] = [self.offsets[2 * at], self.offsets[2 * at + 1]];
        u64::from(low.cast_unsigned()) | u64::from(high.cast_unsigned()) << 32
    }

    /// Entry `at` of a wide leaf.
    fn wide(&self, at: usize) -> Entry {
        let start = self.wide_start(at);
        // Never written while the leaf is published.
        let len = |lane: usize| u64::from(self.lens[lane].load(Ordering::Relaxed));
        Entry {
            start,
            last: start + (len(2 * at) | len(2 * at + 1) << 32),
            // Acquire, from the Release of `LeafRef::flip`.
            bits: self.values[at].load(Ordering::Acquire),
        }
    }
}

impl Entry {
    fn is_short(&self) -> bool {
        self.last - self.start <= u64::from(u32::MAX)
    }
}

/// Appends `entries`.
#[inline(always)]
fn append<A: Array<Item = Entry>>(
    entries: impl ExactSizeIterator<Item = Entry>,
    out: &mut SmallVec<A>,
) {
    let (filled, most) = (out.len(), entries.len());
    out.reserve(most);
    // SAFETY: the place after what is filled, within what was just reserved in `out` or at its end (L1).
    let free = unsafe { out.as_mut_ptr().add(filled) };
    let mut added = 0;
    for Entry { start, last, bits } in entries.take(most) {
        // SAFETY: at most `most`, which were reserved; `out`, borrowed here, is not touched meanwhile (L1).
        // Field by field, because the processor stalls on an entry that is written in parts and then copied as
        // a whole.
        unsafe {
            let place = free.add(added);
            (&raw mut (*place).start).write(start);
            (&raw mut (*place).last).write(last);
            (&raw mut (*place).bits).write(bits);
        }
        added += 1;
    }
    // SAFETY: so many were reserved, and all have just been written (L1).
    unsafe { out.set_len(filled + added) };
}

/// A leaf and its kind.
#[derive(Clone, Copy)]
pub(super) struct LeafRef<'t> {
    pub(super) leaf: &'t Leaf,
    pub(super) wide: bool,
}

impl<'t> LeafRef<'t> {
    pub(super) fn link(self) -> Link {
        Link::to_leaf(self.leaf.into(), self.wide)
    }

    pub(super) fn count(self) -> usize {
        self.leaf.count as usize
    }

    /// The number of the edit that changed the leaf last. Read before the entries: they are then
    /// at least as new. Acquire, from the Release of [`flip`](Self::flip).
    pub(super) fn version(self) -> u64 {
        self.leaf.version.load(Ordering::Acquire)
    }

    #[inline(always)]
    pub(super) fn entry(self, at: usize) -> Entry {
        match self.wide {
            false => self.leaf.packed(at),
            true => self.leaf.wide(at),
        }
    }

    /// The first block of the entry.
    pub(super) fn start(self, at: usize) -> u64 {
        match self.wide {
            false => self.leaf.base + u64::from(offset32(self.leaf.offsets[at])),
            true => self.leaf.wide_start(at),
        }
    }

    /// The start of the first entry.
    #[inline(always)]
    pub(super) fn base(self) -> u64 {
        self.leaf.base
    }

    /// How many entries of a wide leaf start at `block` or before.
    pub(super) fn wide_rank(self, block: u64) -> usize {
        let starts = (0..self.count()).map(|at| self.leaf.wide_start(at));
        starts.filter(|start| *start <= block).count()
    }

    /// The end of those entries in `range` that start at `last` or before.
    #[inline(always)]
    pub(super) fn end_of(self, range: Range<usize>, last: u64) -> usize {
        match range.end.checked_sub(1) {
            Some(end) if range.start <= end && self.start(end) > last => {
                let mut within = range.start..end;
                within.find(|at| self.start(*at) > last).unwrap_or(end)
            }
            _ => range.end,
        }
    }

    /// Appends the entries `range` to `out`. Each number is one that the entry had; that they belong together
    /// shows the [`version`](Self::version) if it is the same before and after.
    #[inline(always)]
    pub(super) fn copy_to<A: Array<Item = Entry>>(
        self,
        range: Range<usize>,
        out: &mut SmallVec<A>,
    ) {
        match self.wide {
            false => append(self.leaf.packed_entries(range), out),
            true => append(range.map(|at| self.leaf.wide(at)), out),
        }
    }

    /// Makes entry `at` of a packed leaf longer, in place: one store that readers see. For the
    /// holder of the writer lock (N2).
    pub(super) fn grow(self, at: usize, last: u64, version: u64) {
        let len = (last - self.start(at)) as u32;
        // Release, to the Acquire of `packed`.
        self.leaf.lens[at].store(len, Ordering::Release);
        // As in `flip`.
        self.leaf.version.store(version, Ordering::Release);
    }

    /// Whether entry `at` can [`grow`](Self::grow) up to `last`.
    pub(super) fn can_grow(self, at: usize, last: u64) -> bool {
        !self.wide && last - self.start(at) <= u64::from(u32::MAX)
    }

    /// Gives entry `at` other bits, in place: one store that readers see. For the holder of the
    /// writer lock (N2).
    pub(super) fn flip(self, at: usize, bits: u64, version: u64) {
        // Release, to the Acquire of `packed` and `wide`.
        self.leaf.values[at].store(bits, Ordering::Release);
        // Release, to the Acquire of `version`: whoever sees a later edit sees that this leaf has changed.
        self.leaf.version.store(version, Ordering::Release);
    }
}
