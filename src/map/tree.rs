//! The tree of nodes that is the map, as readers see it.

use core::ptr;

use smallvec::{Array, SmallVec};

use super::lookup::{LeafStamp, Stamp};
use super::node::{AtomicLink, Entry, Index, LeafRef, Link};
use super::probe::{Mutation, Probe};
use super::search::{Isa, Path};
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

/// What an answer for one block is made of: the extent, or the first and the last block of the gap.
pub(super) type Answer = Result<Entry, (u64, u64)>;

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
        use super::probe::Step;
        let edits = self.edits.load(Ordering::Relaxed);
        // Whoever sees the edit sees that this is no longer the old number: ordered before the
        // Release of `store`.
        self.edits.store(edits + 1, Ordering::Relaxed);
        self.probe.at(Step::Announced);
        store();
        // Release, to the Acquire of `version`.
        self.edits.store(edits + 2, Ordering::Release);
        self.probe.at(Step::Published);
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
    /// The caller has pinned the map's collector or holds the writer lock.
    #[inline(always)]
    pub(super) unsafe fn get(&self, block: u64) -> Option<Entry> {
        let root = self.root.load();
        if root.is_null() {
            return None;
        }
        // SAFETY: all below the root is protected (R1).
        unsafe { self.isa.get(root, block) }
    }

    /// The way to the leaf in whose range `block` lies; none when the map is empty.
    ///
    /// # Safety
    /// The caller has pinned the map's collector or holds the writer lock, for `'t`.
    pub(super) unsafe fn path<'t>(&self, block: u64) -> Option<Path<'t>> {
        let root = self.root.load();
        if root.is_null() {
            return None;
        }
        // SAFETY: all below the root is protected (R1).
        Some(unsafe { self.isa.path(root, block) })
    }

    /// The extent that holds `block` or the gap around it, and what it was read from.
    ///
    /// # Safety
    /// The caller has pinned the map's collector or holds the writer lock.
    pub(super) unsafe fn look(&self, block: u64) -> (Answer, Stamp) {
        // Read before the leaves, so that the stamp is never younger than the answer.
        let life = self.life.load(Ordering::Relaxed);
        loop {
            let edits = self.version();
            // SAFETY: the caller's promise.
            let Some(path) = (unsafe { self.path(block) }) else {
                let empty = LeafStamp::empty(edits);
                return (Err((0, u64::MAX)), Stamp::new(life, [empty, empty]));
            };
            // SAFETY: the caller's promise.
            let mut walk = unsafe { Walk::new(self, path) };
            let own = walk.stamp();
            let rank = walk.path.rank;
            let before = rank.checked_sub(1).map(|at| walk.path.leaf.entry(at));
            if let Some(entry) = before.filter(|entry| entry.last >= block) {
                return (Ok(entry), Stamp::new(life, [own, own]));
            }
            let mut first = before.map(|entry| entry.last + 1);
            let mut last = (rank < walk.path.leaf.count()).then(|| walk.path.leaf.start(rank) - 1);
            let mut other = own;
            // A leaf is never empty, so at most one end of the gap lies in a neighbour.
            if first.is_none() {
                // SAFETY: the caller's promise.
                first = Some(if unsafe { walk.previous() } {
                    other = walk.stamp();
                    walk.path.leaf.entry(walk.path.leaf.count() - 1).last + 1
                } else {
                    0
                });
            } else if last.is_none() {
                // SAFETY: the caller's promise.
                last = Some(if unsafe { walk.next() } {
                    other = walk.stamp();
                    walk.path.leaf.start(0) - 1
                } else {
                    u64::MAX
                });
            }
            if walk.holds() {
                let gap = (first.unwrap_or(0), last.unwrap_or(u64::MAX));
                return (Err(gap), Stamp::new(life, [own, other]));
            }
        }
    }

    /// Whether no edit has changed what the stamp was made of.
    ///
    /// # Safety
    /// The caller holds the writer lock.
    pub(super) unsafe fn is_current(&self, stamp: &Stamp) -> bool {
        let current = |leaf: &LeafStamp| match leaf.leaf.is_null() {
            true => leaf.version == self.edits.load(Ordering::Relaxed),
            // SAFETY: the leaf was in this map when the stamp was made, and no node memory was
            // given back since (R4).
            false => leaf.is_in_use(unsafe { &*leaf.leaf }),
        };
        stamp.life == self.life.load(Ordering::Relaxed)
            && (self.probe.is(Mutation::TrustStaleLook) || stamp.leaves.iter().all(current))
    }

    /// Reads the first `limit` extents that have a block in `first..=last`, whole, in order, from
    /// one state.
    ///
    /// # Safety
    /// The caller has pinned the map's collector or holds the writer lock.
    pub(super) unsafe fn read<A: Array<Item = Entry>>(
        &self,
        (first, last): (u64, u64),
        limit: usize,
        out: &mut SmallVec<A>,
    ) {
        loop {
            out.clear();
            // SAFETY: the caller's promise.
            let Some(path) = (unsafe { self.path(first) }) else {
                return;
            };
            // SAFETY: the caller's promise.
            let mut walk = unsafe { Walk::new(self, path) };
            let mut from = walk.first_reaching(first);
            loop {
                let leaf = walk.path.leaf;
                let room = leaf.count().min(from.saturating_add(limit - out.len()));
                let to = leaf.end_of(from..room, last);
                leaf.copy_to(from..to, out);
                // SAFETY: the caller's promise.
                if to < leaf.count() || out.len() == limit || !unsafe { walk.next() } {
                    break;
                }
                from = 0;
            }
            if walk.holds() {
                return;
            }
        }
    }

    /// The last extent.
    ///
    /// # Safety
    /// The caller has pinned the map's collector or holds the writer lock.
    pub(super) unsafe fn last(&self) -> Option<Entry> {
        // SAFETY: the caller's promise. No block lies behind this one, so the last leaf is that of
        // its path, and its last entry is read at once.
        let path = unsafe { self.path(u64::MAX) }?;
        Some(path.leaf.entry(path.leaf.count() - 1))
    }
}

/// A walk from leaf to leaf, which can tell whether all it read belongs to one state.
///
/// It remembers every link it followed. When each place still holds its link afterwards, the tree
/// held all of them at one instant between: a node that left the tree does not come back as long as
/// somebody is pinned who could have seen it (R1), so an equal link was there all the time. (A double
/// collect: Afek et al., "Atomic snapshots of shared memory", 1993.) Values change in place, so each
/// leaf also has a version.
pub(super) struct Walk<'t> {
    tree: &'t Tree,
    pub(super) path: Path<'t>,
    followed: SmallVec<[(&'t AtomicLink, Link); 16]>,
    leaves: SmallVec<[(LeafRef<'t>, u64); 8]>,
}

impl<'t> Walk<'t> {
    /// Starts at the leaf of `path`.
    ///
    /// # Safety
    /// The map's collector is pinned, or the writer lock held, for `'t`.
    unsafe fn new(tree: &'t Tree, path: Path<'t>) -> Self {
        let mut leaves = SmallVec::new();
        leaves.push((path.leaf, path.leaf.version()));
        Self {
            tree,
            path,
            followed: SmallVec::new(),
            leaves,
        }
    }

    /// The stamp of the current leaf, as it was when the walk entered it.
    fn stamp(&self) -> LeafStamp {
        let &(leaf, version) = self.leaves.last().expect("a walk is in a leaf");
        LeafStamp {
            leaf: ptr::from_ref(leaf.leaf),
            version,
        }
    }

    /// The first entry of the current leaf that ends at `block` or behind it.
    fn first_reaching(&self, block: u64) -> usize {
        let (leaf, rank) = (self.path.leaf, self.path.rank);
        match rank.checked_sub(1) {
            Some(before) if leaf.entry(before).last >= block => before,
            _ => rank,
        }
    }

    /// Goes to the next leaf; false when there is none.
    ///
    /// # Safety
    /// As for [`new`](Self::new).
    unsafe fn next(&mut self) -> bool {
        self.remember();
        let inner = |index: &Index, at: usize| (at + 1 < index.count()).then(|| at + 1);
        // SAFETY: the caller's promise.
        unsafe { self.turn(inner, |_| 0) }
    }

    /// Goes to the previous leaf; false when there is none.
    ///
    /// # Safety
    /// As for [`new`](Self::new).
    unsafe fn previous(&mut self) -> bool {
        self.remember();
        // SAFETY: the caller's promise.
        unsafe { self.turn(|_, at| at.checked_sub(1), |index| index.count() - 1) }
    }

    /// Before the first step aside: notes the way that led here.
    fn remember(&mut self) {
        if self.followed.is_empty() {
            let steps = &self.path.steps;
            let top = steps.first().map_or(self.path.link, |step| step.node);
            self.followed.push((&self.tree.root, top));
            let below = steps.iter().skip(1).map(|step| step.node);
            let slots = steps.iter().map(|step| step.index.child(step.at));
            self.followed
                .extend(slots.zip(below.chain([self.path.link])));
        }
    }

    /// Goes up until `aside` knows another child, and down again to the leaf by way of `end`.
    ///
    /// # Safety
    /// As for [`new`](Self::new).
    unsafe fn turn(
        &mut self,
        aside: impl Fn(&Index, usize) -> Option<usize>,
        end: impl Fn(&Index) -> usize,
    ) -> bool {
        let steps = &mut self.path.steps;
        let Some(level) = steps
            .iter()
            .rposition(|step| aside(step.index, step.at).is_some())
        else {
            return false;
        };
        steps.truncate(level + 1);
        let step = &mut steps[level];
        step.at = aside(step.index, step.at).unwrap_or(step.at);
        loop {
            let step = &steps[steps.len() - 1];
            let slot = step.index.child(step.at);
            let node = slot.load();
            self.followed.push((slot, node));
            if !node.is_index() {
                // SAFETY: the caller's promise (R1).
                let leaf = unsafe { node.leaf() };
                (self.path.link, self.path.leaf) = (node, leaf);
                self.leaves.push((leaf, leaf.version()));
                return true;
            }
            // SAFETY: the caller's promise (R1).
            let index = unsafe { node.index() };
            let at = end(index);
            steps.push(super::search::Step { node, index, at });
        }
    }

    /// Whether everything read belongs to one state.
    fn holds(&self) -> bool {
        let unchanged = |(leaf, version): &(LeafRef<'_>, u64)| leaf.version() == *version;
        let in_place = |(slot, link): &(&AtomicLink, Link)| slot.load() == *link;
        self.tree.probe.is(Mutation::WalkWithoutCheck)
            || self.leaves.iter().all(unchanged) && self.followed.iter().all(in_place)
    }
}
