//! The tree of nodes that is the map, as readers see it.

use core::ptr::NonNull;

#[cfg(any(loom, feature = "shuttle"))]
use smallvec::SmallVec;

use super::leaf::Entry;
use super::link::AtomicLink;
use super::lookup::{LeafStamp, Stamp};
use super::probe::{Mutation, Probe, Step as Moment};
use super::search::{Isa, Spot, Steps, upper_bound};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::uncounted;

/// The root of the tree, and what readers need to find their way.
#[derive(Debug)]
pub(super) struct Tree {
    /// The topmost node; null when the map is empty.
    pub(super) root: AtomicLink,
    isa: Isa,
    /// Never the same for two maps of a process, and a new one whenever node memory is given back:
    /// as long as it stays, the address of a leaf can be looked at under the writer lock (R4).
    life: AtomicU64,
    /// Twice the number of edits that are visible, plus one while the next becomes visible.
    edits: crossbeam_utils::CachePadded<AtomicU64>,
    pub(super) probe: Probe,
}

static NEXT_LIFE: uncounted::AtomicU64 = uncounted::AtomicU64::new(0);

fn new_life() -> u64 {
    NEXT_LIFE.fetch_add(1, uncounted::Ordering::Relaxed)
}

impl Tree {
    pub(super) fn new(probe: Probe) -> Self {
        Self {
            root: AtomicLink::new(),
            isa: Isa::detect(),
            life: AtomicU64::new(new_life()),
            edits: crossbeam_utils::CachePadded::new(AtomicU64::new(0)),
            probe,
        }
    }

    /// What [`edits`](Self::edits) was; equal results have the same state between them, unless they
    /// are odd.
    pub(super) fn version(&self) -> u64 {
        // Acquire, from the Release of `publish`: an even version comes with its state.
        self.edits.load(Ordering::Acquire)
    }

    /// The number that the next edit has.
    pub(super) fn next_edit(&self) -> u64 {
        self.edits.load(Ordering::Relaxed) / 2 + 1
    }

    /// Makes an edit visible by `store`, which is one Release store of the holder of the writer
    /// lock (N2).
    pub(super) fn publish(&self, store: impl FnOnce()) {
        let edits = self.edits.load(Ordering::Relaxed);
        // Whoever sees the edit sees that this is no longer the old number: ordered before the
        // Release of `store`.
        self.edits.store(edits + 1, Ordering::Relaxed);
        self.probe.at(Moment::Announced);
        store();
        // Release, to the Acquire of `version`.
        self.edits.store(edits + 2, Ordering::Release);
        self.probe.at(Moment::Published);
    }

    /// Which life of node memory this is; see the field.
    pub(super) fn life(&self) -> u64 {
        self.life.load(Ordering::Relaxed)
    }

    /// Makes stamps invalid whose leaves may be gone for good. For the holder of the writer lock.
    pub(super) fn renew(&self) {
        // Relaxed: read by `is_current` under the writer lock; a reader that still reads the old
        // one makes a stamp that is invalid already.
        self.life.store(new_life(), Ordering::Relaxed);
    }

    /// The extent that holds `block`.
    ///
    /// # Safety
    /// The caller has pinned the map's collector or holds the writer lock (R1).
    #[inline(always)]
    pub(super) unsafe fn get(&self, block: u64) -> Option<Entry> {
        let root = self.root.load();
        if root.is_null() {
            return None;
        }
        #[cfg(any(loom, feature = "shuttle"))]
        if self.probe.is(Mutation::ReadTorn) {
            // SAFETY: the caller's promise (R1).
            let spot = unsafe { self.find(block, &mut Steps::new()) }?;
            let (at, mut torn) = (spot.rank.checked_sub(1)?, SmallVec::<[Entry; 1]>::new());
            spot.leaf.copy_to(at..at + 1, &mut torn);
            return torn.pop().filter(|entry| block <= entry.last);
        }
        // SAFETY: all below the root, which is not null, is protected by the caller's guard or lock (R1).
        unsafe { self.isa.get(root, block) }
    }

    /// The extents that hold `blocks`, one after the other.
    ///
    /// # Safety
    /// The caller has pinned the map's collector or holds the writer lock (R1).
    pub(super) unsafe fn get_many(&self, blocks: &[u64], found: &mut [Option<Entry>]) {
        // SAFETY: all below each root is protected by the caller's guard or lock (R1).
        unsafe { self.isa.get_many(&self.root, blocks, found) };
    }

    /// The spot of `block`, and in `steps` the way there; none when the map is empty.
    ///
    /// # Safety
    /// The caller has pinned the map's collector or holds the writer lock, for `'t` (R1).
    #[inline(always)]
    pub(super) unsafe fn find<'t>(&self, block: u64, steps: &mut Steps<'t>) -> Option<Spot<'t>> {
        let root = self.root.load();
        if root.is_null() {
            return None;
        }
        // SAFETY: all below the root, which is not null, is protected by the caller's guard or lock (R1).
        Some(unsafe { self.isa.find(root, block, steps) })
    }

    /// Whether no edit has changed what the stamp was made of.
    ///
    /// # Safety
    /// The caller holds the writer lock (R4).
    pub(super) unsafe fn is_current(&self, stamp: &Stamp) -> bool {
        let current = |stamp: &LeafStamp| match stamp.leaf.map(NonNull::with_exposed_provenance) {
            None => stamp.version == self.edits.load(Ordering::Relaxed),
            // SAFETY: the leaf was in this map when the stamp was made, and no node memory was given back since
            // (R4): there still is a leaf (P1), which nobody but the holder of the writer lock fills (N2). Its
            // chunk is exposed.
            Some(leaf) => stamp.is_in_use(unsafe { leaf.as_ref() }),
        };
        stamp.life == self.life()
            && (self.probe.is(Mutation::TrustStaleLook) || stamp.leaves.iter().all(current))
    }

    /// Finds the place of an edit of `first..=last`; none in an empty map.
    ///
    /// # Safety
    /// The caller holds the writer lock until it has looked at the place for the last time (R1), and makes no
    /// node free before (N2).
    #[inline(always)]
    pub(super) unsafe fn place<'s, 't>(
        &'t self,
        (first, last): (u64, u64),
        steps: &'s mut Steps<'t>,
    ) -> Option<Place<'s, 't>> {
        // SAFETY: the caller holds the writer lock (R1).
        let spot = unsafe { self.find(first, steps) }?;
        let (from, count) = (spot.first_reaching(first), spot.leaf.count());
        let to = spot.leaf.end_of(from..count, last);
        let inside = to < count || upper_bound(steps).is_none_or(|upper| last < upper);
        Some(Place {
            steps,
            spot,
            from,
            to,
            inside,
        })
    }

    /// The last extent.
    ///
    /// # Safety
    /// The caller has pinned the map's collector or holds the writer lock (R1).
    pub(super) unsafe fn last(&self) -> Option<Entry> {
        // SAFETY: the caller's promise (R1). No block lies behind this one, so its leaf is the last one, whose
        // last entry is read at once.
        let spot = unsafe { self.find(u64::MAX, &mut Steps::new()) }?;
        Some(spot.leaf.entry(spot.leaf.count() - 1))
    }
}

/// Where an edit is.
#[derive(Clone, Copy)]
pub(super) struct Place<'s, 't> {
    /// The way to the leaf of the first block that matters.
    pub(super) steps: &'s Steps<'t>,
    pub(super) spot: Spot<'t>,
    /// The entries of the leaf that matter.
    pub(super) from: usize,
    pub(super) to: usize,
    /// Whether all that matters lies in the range of the leaf.
    pub(super) inside: bool,
}
