//! The nodes of the tree, and the tagged links between them.

use core::fmt;
use core::ops::Range;
use core::ptr::{self, NonNull};

use crate::sync::Witness;
use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Model checkers follow every atomic, so they get small nodes.
const MODELLED: bool = cfg!(any(loom, feature = "shuttle"));

/// Entries in a packed leaf; with these, leaf and header fill 512 bytes.
pub(super) const LEAF: usize = if MODELLED { 4 } else { 30 };
/// Entries in a wide leaf, which has two lanes for each number.
pub(super) const WIDE: usize = LEAF / 2;
/// Children of an index node, which fills 256 bytes.
pub(super) const FANOUT: usize = if MODELLED { 4 } else { 16 };

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

/// A number as lanes hold it: signed comparison, which is all that AVX2 has, orders it as unsigned
/// comparison orders the number.
pub(super) fn lane64(number: u64) -> i64 {
    (number ^ 1 << 63).cast_signed()
}

/// As [`lane64`].
fn lane32(number: u32) -> i32 {
    (number ^ 1 << 31).cast_signed()
}

/// A node at level 0: the extents of a range of blocks.
///
/// A *packed* leaf holds up to [`LEAF`] entries whose starts are kept as 32-bit offsets from the
/// first one. Where 32 bits do not suffice, the leaf is *wide*: entry `i` has its start in the
/// offsets `2i` and `2i + 1` and its length in the lens of the same indices, and there are at most
/// [`WIDE`] entries. Which of the two it is says the link to the leaf.
///
/// Everything but the values and the version is constant from publication to recycling (N1).
#[repr(C, align(64))]
pub(super) struct Leaf {
    /// The first start; together with the offsets 32 lanes, which are compared at once.
    base: u64,
    offsets: [i32; LEAF],
    values: [AtomicU64; LEAF],
    /// The last block minus the first.
    lens: [u32; LEAF],
    /// The number of the edit that changed the leaf last, or [`RETIRED`].
    version: AtomicU64,
    count: u32,
    witness: Witness,
}

/// A node above level 0: the ranges of up to [`FANOUT`] nodes of the level below.
///
/// Child 0 has everything below the first separator: its own lower bound is that of the node, which
/// only the node's parent knows. Everything but the children is constant from publication to
/// recycling (N1).
#[repr(C, align(64))]
pub(super) struct Index {
    /// Bit `i` is set for every child `i` but the first. It stands where the separator of child 0
    /// would, so that comparing all lanes and masking with it counts the separators up to a block.
    used: u64,
    /// The lower bounds of the children 1 and up.
    separators: [i64; FANOUT - 1],
    children: [AtomicLink; FANOUT],
    witness: Witness,
}

#[cfg(not(any(loom, feature = "shuttle")))]
const _: () = assert!(size_of::<Leaf>() == 512 && size_of::<Index>() == 256);

/// A pointer to a node, or to none. Nodes are aligned, so the lowest bits can tell the kind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Link(*mut u8);

const INDEX: usize = 0;
const PACKED: usize = 1;
const WIDE_LEAF: usize = 2;
const TAG: usize = 3;

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({:p})", self.0)
    }
}

// SAFETY: a link is an address; following it is what needs promises.
unsafe impl Send for Link {}

impl Link {
    pub(super) const NULL: Self = Self(ptr::null_mut());

    fn new(node: *mut u8, tag: usize) -> Self {
        Self(node.map_addr(|address| address | tag))
    }

    pub(super) fn to_leaf(leaf: NonNull<Leaf>, wide: bool) -> Self {
        Self::new(leaf.as_ptr().cast(), if wide { WIDE_LEAF } else { PACKED })
    }

    pub(super) fn to_index(node: NonNull<Index>) -> Self {
        Self::new(node.as_ptr().cast(), INDEX)
    }

    pub(super) fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub(super) fn is_index(self) -> bool {
        self.0.addr() & TAG == INDEX
    }

    pub(super) fn is_wide(self) -> bool {
        self.0.addr() & TAG == WIDE_LEAF
    }

    /// The node's address.
    pub(super) fn node<N>(self) -> NonNull<N> {
        let node = self.0.map_addr(|address| address & !TAG);
        // SAFETY: only nodes are asked for, never `NULL`; a node's address is not null.
        unsafe { NonNull::new_unchecked(node.cast()) }
    }

    /// # Safety
    /// The link leads to a leaf that stays published or protected for `'t` (R1).
    #[inline(always)]
    pub(super) unsafe fn leaf<'t>(self) -> LeafRef<'t> {
        debug_assert!(!self.is_null() && !self.is_index());
        // SAFETY: the caller's promise; nothing writes a plain field of it meanwhile (N1).
        let leaf: &Leaf = unsafe { self.node().as_ref() };
        leaf.witness.read();
        LeafRef {
            leaf,
            wide: self.is_wide(),
        }
    }

    /// # Safety
    /// The link leads to an index node that stays published or protected for `'t` (R1).
    #[inline(always)]
    pub(super) unsafe fn index<'t>(self) -> &'t Index {
        debug_assert!(!self.is_null() && self.is_index());
        // SAFETY: the caller's promise; nothing writes a plain field of it meanwhile (N1).
        let node: &Index = unsafe { self.node().as_ref() };
        node.witness.read();
        node
    }
}

/// A place that holds a link.
#[derive(Debug)]
pub(super) struct AtomicLink(AtomicPtr<u8>);

impl AtomicLink {
    pub(super) fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Acquire, from the Release of [`store`](Self::store): the node is seen as it was filled.
    #[inline(always)]
    pub(super) fn load(&self) -> Link {
        Link(self.0.load(Ordering::Acquire))
    }

    /// Publishes what the link leads to. Only the holder of the writer lock may (N2).
    pub(super) fn store(&self, link: Link, ordering: Ordering) {
        self.0.store(link.0, ordering);
    }
}

impl Leaf {
    pub(super) fn new() -> Self {
        Self {
            base: 0,
            offsets: [UNUSED; LEAF],
            values: core::array::from_fn(|_| AtomicU64::new(0)),
            lens: [0; LEAF],
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
        let packs = last.start - first.start <= SPAN && entries.iter().all(Entry::is_short);
        match packs {
            true => (entries.len() <= LEAF).then_some(false),
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
                self.lens[lane] = (len >> shift) as u32;
            }
        } else {
            self.offsets[at] = lane32((entry.start - self.base) as u32);
            self.lens[at] = len as u32;
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
        // SAFETY: both are leaves, and they do not overlap: one is unpublished. The values of `old`
        // are atomics, but nobody writes them now: that needs the writer lock, which we have (N2).
        unsafe { ptr::copy_nonoverlapping(old, self, 1) };
        if after != to {
            self.offsets[after..total].copy_from_slice(&old.offsets[to..count]);
            self.lens[after..total].copy_from_slice(&old.lens[to..count]);
            // SAFETY: in bounds as the slices above; otherwise as the copy above.
            unsafe {
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
        self.version.store(RETIRED, Ordering::Relaxed);
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
        Entry {
            start,
            last: start + u64::from(self.lens[at]),
            // Acquire, from the Release of `LeafRef::flip`.
            bits: self.values[at].load(Ordering::Acquire),
        }
    }

    fn wide_start(&self, at: usize) -> u64 {
        let [low, high] = [self.offsets[2 * at], self.offsets[2 * at + 1]];
        u64::from(low.cast_unsigned()) | u64::from(high.cast_unsigned()) << 32
    }

    /// Entry `at` of a wide leaf.
    fn wide(&self, at: usize) -> Entry {
        let start = self.wide_start(at);
        let len = u64::from(self.lens[2 * at]) | u64::from(self.lens[2 * at + 1]) << 32;
        Entry {
            start,
            last: start + len,
            // As in `packed`.
            bits: self.values[at].load(Ordering::Acquire),
        }
    }
}

fn offset32(lane: i32) -> u32 {
    lane.cast_unsigned() ^ 1 << 31
}

impl Entry {
    fn is_short(&self) -> bool {
        self.last - self.start <= u64::from(u32::MAX)
    }
}

/// A leaf and its kind.
#[derive(Clone, Copy)]
pub(super) struct LeafRef<'t> {
    pub(super) leaf: &'t Leaf,
    pub(super) wide: bool,
}

impl<'t> LeafRef<'t> {
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
    pub(super) fn end_of(self, range: Range<usize>, last: u64) -> usize {
        match range.end.checked_sub(1) {
            Some(end) if range.start <= end && self.start(end) > last => {
                let mut within = range.start..end;
                within.find(|at| self.start(*at) > last).unwrap_or(end)
            }
            _ => range.end,
        }
    }

    /// Appends the entries `range` to `out`.
    pub(super) fn copy_to(self, range: Range<usize>, out: &mut impl Extend<Entry>) {
        match self.wide {
            false => out.extend(range.map(|at| self.leaf.packed(at))),
            true => out.extend(range.map(|at| self.leaf.wide(at))),
        }
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

impl Index {
    pub(super) fn new() -> Self {
        Self {
            used: 0,
            separators: [0; FANOUT - 1],
            children: core::array::from_fn(|_| AtomicLink::new()),
            witness: Witness::new(),
        }
    }

    /// Fills an unpublished node. There are at most [`FANOUT`] children, each with its lower bound,
    /// of which the first does not count.
    pub(super) fn fill(&mut self, children: &[(u64, Link)]) {
        self.witness.written();
        self.used = (1 << children.len()) - 2;
        for (separator, (lower, _)) in self.separators.iter_mut().zip(&children[1..]) {
            *separator = lane64(*lower);
        }
        for (slot, (_, child)) in self.children.iter().zip(children) {
            slot.store(*child, Ordering::Relaxed);
        }
    }

    /// Tells a model checker that the memory is free for other uses.
    pub(super) fn freed(&self) {
        self.witness.freed();
    }

    pub(super) fn count(&self) -> usize {
        self.used.count_ones() as usize + 1
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// The place of child `at`.
    #[inline(always)]
    pub(super) fn child(&self, at: usize) -> &AtomicLink {
        &self.children[at]
    }

    /// The lower bound of child `at`, which is not the first.
    pub(super) fn separator(&self, at: usize) -> u64 {
        self.separators[at - 1].cast_unsigned() ^ 1 << 63
    }

    /// The child in whose range `block` lies, counted one by one.
    #[inline(always)]
    pub(super) fn rank(&self, block: u64) -> usize {
        let lane = lane64(block);
        let used = &self.separators[..self.count() - 1];
        used.iter().map(|bound| usize::from(*bound <= lane)).sum()
    }
}
