//! Reading several leaves as one.

use core::ops::RangeInclusive;
use core::ptr::NonNull;

use smallvec::{Array, SmallVec};

use super::index::Index;
use super::leaf::{Entry, LeafRef};
use super::link::{AtomicLink, Link};
use super::lookup::{Answer, LeafStamp, Stamp};
use super::probe::Mutation;
use super::search::{Spot, Step, Steps};
use super::tree::Tree;

/// How many leaves a walk asks for in advance.
const AHEAD: usize = 6;

/// What takes more than one leaf to answer.
impl Tree {
    /// The extent that holds `block` or the gap around it, and what it was read from.
    ///
    /// # Safety
    /// The caller has pinned the map's collector or holds the writer lock (R1).
    pub(super) unsafe fn look(&self, block: u64) -> (Answer, Stamp) {
        // Read before the leaves, so that the stamp is never younger than the answer.
        let life = self.life();
        loop {
            let edits = self.version();
            let mut walk = Walk::new(self);
            // SAFETY: the caller's guard or lock protects what the walk finds, as long as it lasts (R1).
            let Some(spot) = (unsafe { walk.start(block) }) else {
                let empty = LeafStamp::empty(edits);
                return (Err((0, u64::MAX)), Stamp::new(life, [empty, empty]));
            };
            let own = walk.stamp();
            let before = spot.rank.checked_sub(1).map(|at| spot.leaf.entry(at));
            if let Some(entry) = before.filter(|entry| entry.last >= block) {
                return (Ok(entry), Stamp::new(life, [own, own]));
            }
            let mut first = before.map(|entry| entry.last + 1);
            let behind = (spot.rank < spot.leaf.count()).then(|| spot.leaf.start(spot.rank));
            let mut last = behind.map(|start| start - 1);
            let mut other = own;
            // A leaf is never empty, so at most one end of the gap lies in a neighbour.
            if first.is_none() {
                // SAFETY: as for `start` (R1).
                let leaf = unsafe { walk.previous() };
                first = leaf.map(|leaf| leaf.entry(leaf.count() - 1).last + 1);
                other = walk.stamp();
            } else if last.is_none() {
                // SAFETY: as for `start` (R1).
                let leaf = unsafe { walk.next() };
                last = leaf.map(|leaf| leaf.start(0) - 1);
                other = walk.stamp();
            }
            if walk.holds() {
                let gap = (first.unwrap_or(0), last.unwrap_or(u64::MAX));
                return (Err(gap), Stamp::new(life, [own, other]));
            }
        }
    }

    /// Reads the first `limit` extents that have a block in `first..=last`, whole, in order, from
    /// one state.
    ///
    /// # Safety
    /// The caller has pinned the map's collector or holds the writer lock (R1).
    pub(super) unsafe fn read<A: Array<Item = Entry>>(
        &self,
        (first, last): (u64, u64),
        limit: usize,
        out: &mut SmallVec<A>,
    ) {
        loop {
            out.clear();
            let mut walk = Walk::new(self);
            // SAFETY: the caller's guard or lock protects what the walk finds, as long as it lasts (R1).
            let Some(spot) = (unsafe { walk.start(first) }) else {
                return;
            };
            let mut leaf = spot.leaf;
            let mut from = spot.first_reaching(first);
            if limit > 1 {
                // SAFETY: as for `start` (R1).
                unsafe { walk.prefetch(1..=AHEAD) };
            }
            loop {
                let room = leaf.count().min(from.saturating_add(limit - out.len()));
                let to = leaf.end_of(from..room, last);
                leaf.copy_to(from..to, out);
                if to < leaf.count() || out.len() == limit {
                    break;
                }
                // SAFETY: as for `start` (R1).
                match unsafe { walk.next() } {
                    Some(next) => (leaf, from) = (next, 0),
                    None => break,
                }
                // SAFETY: as for `start` (R1).
                unsafe { walk.prefetch(AHEAD..=AHEAD) };
            }
            if walk.holds() {
                return;
            }
        }
    }
}

/// A walk from leaf to leaf, which can tell whether all it read belongs to one state.
///
/// It remembers every link it followed. When each place still holds its link afterwards, the tree
/// held all of them at one instant between: a node that left the tree does not come back as long as
/// somebody is pinned who could have seen it (R1), so an equal link was there all the time. (A double
/// collect: Afek et al., "Atomic snapshots of shared memory", 1993.) Values change in place, so each
/// leaf also has a version.
struct Walk<'t> {
    tree: &'t Tree,
    steps: Steps<'t>,
    followed: SmallVec<[(&'t AtomicLink, Link); 16]>,
    leaves: SmallVec<[(LeafRef<'t>, u64); 8]>,
}

impl<'t> Walk<'t> {
    #[inline(always)]
    fn new(tree: &'t Tree) -> Self {
        Self {
            tree,
            steps: SmallVec::new(),
            followed: SmallVec::new(),
            leaves: SmallVec::new(),
        }
    }

    /// Goes to the spot of `block`; none when the map is empty.
    ///
    /// # Safety
    /// The map's collector is pinned, or the writer lock held, for `'t` (R1).
    #[inline(always)]
    unsafe fn start(&mut self, block: u64) -> Option<Spot<'t>> {
        // SAFETY: the caller's promise (R1).
        let spot = unsafe { self.tree.find(block, &mut self.steps) }?;
        self.enter(spot.leaf);
        Some(spot)
    }

    fn enter(&mut self, leaf: LeafRef<'t>) {
        self.leaves.push((leaf, leaf.version()));
    }

    /// The stamp of the current leaf, as it was when the walk entered it.
    fn stamp(&self) -> LeafStamp {
        let &(leaf, version) = self.leaves.last().expect("a walk is in a leaf");
        LeafStamp {
            leaf: Some(NonNull::from(leaf.leaf).addr()),
            version,
        }
    }

    /// Goes to the next leaf; none when there is none.
    ///
    /// # Safety
    /// As for [`start`](Self::start) (R1).
    unsafe fn next(&mut self) -> Option<LeafRef<'t>> {
        let aside = |index: &Index, at: usize| (at + 1 < index.count()).then(|| at + 1);
        // SAFETY: the caller's promise (R1).
        unsafe { self.turn(aside, |_| 0) }
    }

    /// Goes to the previous leaf; none when there is none.
    ///
    /// # Safety
    /// As for [`start`](Self::start) (R1).
    unsafe fn previous(&mut self) -> Option<LeafRef<'t>> {
        // SAFETY: the caller's promise (R1).
        unsafe { self.turn(|_, at| at.checked_sub(1), |index| index.count() - 1) }
    }

    /// Asks for some of the leaves to come, so that their memory arrives while those before are read.
    ///
    /// # Safety
    /// As for [`start`](Self::start) (R1).
    #[inline(always)]
    unsafe fn prefetch(&self, ahead: RangeInclusive<usize>) {
        let Some(step) = self.steps.last() else {
            return;
        };
        if step.at == 0
            && let Some(next) = self.next_index()
        {
            next.prefetch();
        }
        for at in ahead.map(|ahead| step.at + ahead) {
            let count = step.index.count();
            if at < count {
                step.index.child(at).load().prefetch();
            } else if let Some(next) = self.next_index() {
                // SAFETY: the caller's promise (R1): the parent is protected, and also out of the tree it leads
                // to what was in it under the same guard (N5). Beside an index node are index nodes (N3).
                let next = unsafe { next.index() };
                if at - count < next.count() {
                    next.child(at - count).load().prefetch();
                }
            }
        }
    }

    /// The index node behind the last one of the way, if it has the same parent.
    fn next_index(&self) -> Option<Link> {
        let parent = self.steps.iter().rev().nth(1)?;
        let at = parent.at + 1;
        (at < parent.index.count()).then(|| parent.index.child(at).load())
    }

    /// Before the first step aside: notes the way that led here.
    fn remember(&mut self) {
        let mut slot = &self.tree.root;
        for step in &self.steps {
            self.followed.push((slot, step.link()));
            slot = step.index.child(step.at);
        }
        let leaf = self.leaves.first().map(|(leaf, _)| leaf.link());
        self.followed.extend(leaf.map(|leaf| (slot, leaf)));
    }

    /// Goes up until `aside` knows another child, and down again to the leaf by way of `end`.
    ///
    /// # Safety
    /// As for [`start`](Self::start) (R1).
    #[inline(always)]
    unsafe fn turn(
        &mut self,
        aside: impl Fn(&Index, usize) -> Option<usize>,
        end: impl Fn(&Index) -> usize,
    ) -> Option<LeafRef<'t>> {
        if self.followed.is_empty() {
            self.remember();
        }
        let mut step = loop {
            let step = self.steps.pop()?;
            if let Some(at) = aside(step.index, step.at) {
                break Step { at, ..step };
            }
        };
        loop {
            self.steps.push(step);
            let slot = step.index.child(step.at);
            let link = slot.load();
            self.followed.push((slot, link));
            if !link.is_index() {
                // SAFETY: the caller's promise (R1): the node above is protected, and also out of the tree it
                // leads to what was in it under the same guard (N5). Its children exist (N3).
                let leaf = unsafe { link.leaf() };
                self.enter(leaf);
                return Some(leaf);
            }
            // SAFETY: as for the leaf (R1, N5, N3).
            let index = unsafe { link.index() };
            let at = end(index);
            step = Step { index, at };
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
