//! What the writer lock of a map guards: the memory of its nodes.

use super::index::Index;
use super::leaf::{Entry, Leaf};
use super::limbo::Limbo;
use super::link::Link;
use super::pool::Pool;
use super::probe::{Mutation, Step};
use super::reclaim::Handle;
use super::tree::Tree;

/// The nodes of a map and those in limbo. Whoever has this has the writer lock.
#[derive(Default)]
pub(super) struct Writer {
    leaves: Pool<Leaf>,
    indices: Pool<Index>,
    limbo: Limbo,
}

impl Writer {
    /// A leaf that is not published yet, filled with `entries`, which have the given shape.
    pub(super) fn leaf(&mut self, entries: &[Entry], wide: bool, version: u64) -> Link {
        let mut leaf = self.leaves.take(Leaf::new);
        // SAFETY: initialised (P1), and ours alone: the pool hands it out once (P2), and free nodes are in
        // nobody's reach (R2).
        unsafe { leaf.as_mut() }.fill(entries, wide, version);
        Link::to_leaf(leaf, wide)
    }

    /// A packed leaf that is not published yet, as [`Leaf::fill_from`] fills it.
    #[cfg(not(any(loom, feature = "shuttle")))]
    pub(super) fn leaf_from(
        &mut self,
        old: &Leaf,
        cut: (usize, usize),
        new: &[Entry],
        version: u64,
    ) -> Option<Link> {
        let mut leaf = self.leaves.take(Leaf::new);
        // SAFETY: as in `leaf` (P1, P2, R2).
        if unsafe { leaf.as_mut() }.fill_from(old, cut, new, version) {
            return Some(Link::to_leaf(leaf, false));
        }
        self.leaves.give(leaf);
        None
    }

    /// An index node that is not published yet.
    pub(super) fn index(&mut self, children: &[(u64, Link)]) -> Link {
        let mut node = self.indices.take(Index::new);
        // SAFETY: as in `leaf` (P1, P2, R2).
        unsafe { node.as_mut() }.fill(children);
        Link::to_index(node)
    }

    /// Takes in a node that an edit has taken out of the tree.
    pub(super) fn retire(&mut self, node: Link) {
        if !node.is_index() {
            // SAFETY: out of the tree, but not free yet (R2): only the holder of the writer lock makes it so,
            // later (N2).
            unsafe { node.leaf() }.leaf.retire();
        }
        self.limbo.push(node);
    }

    /// Takes in a node and all below it.
    pub(super) fn retire_all(&mut self, top: Link) {
        if top.is_index() {
            // SAFETY: as in `retire` (R2, N2); the links of a node out of the tree stay as they were (N5).
            let index = unsafe { top.index() };
            (0..index.count()).for_each(|at| self.retire_all(index.child(at).load()));
        }
        self.retire(top);
    }

    /// After an edit: seals a complete batch, and makes nodes free that nobody can reach any more.
    /// `handle` is asked for only then.
    #[inline(always)]
    pub(super) fn settle(&mut self, tree: &Tree, handle: impl FnOnce() -> Handle) {
        let (leaves, indices) = (&self.leaves, &self.indices);
        if self.limbo.is_due(|| leaves.used() + indices.used()) {
            self.turn_over(tree, &handle());
        }
    }

    #[inline(never)]
    fn turn_over(&mut self, tree: &Tree, handle: &Handle) {
        self.limbo.seal(handle);
        self.limbo.press(handle);
        for node in self.limbo.drain(tree.probe.is(Mutation::EarlyFree)) {
            if node.is_index() {
                let node = node.node::<Index>();
                // SAFETY: initialised (P1); no reader can reach it (R2), and limbo hands it out and the pool
                // takes it once (P2).
                unsafe { node.as_ref() }.freed();
                self.indices.give(node);
            } else {
                let leaf = node.node::<Leaf>();
                // SAFETY: as above (P1, R2, P2).
                unsafe { leaf.as_ref() }.freed();
                self.leaves.give(leaf);
            }
        }
        self.limbo.shrink();
        if self.leaves.is_slack() || self.indices.is_slack() {
            self.trim(tree);
        }
        tree.probe.at(Step::Retired);
    }

    /// How many leaves and index nodes are in the tree, if none was lost.
    #[cfg(all(test, not(loom), not(feature = "shuttle")))]
    pub(super) fn used(&self) -> (usize, usize) {
        let (leaves, indices) = self.limbo.census();
        (self.leaves.used() - leaves, self.indices.used() - indices)
    }

    #[cold]
    fn trim(&mut self, tree: &Tree) {
        let indices = self.indices.trim(Index::new);
        if self.leaves.trim(Leaf::new) || indices {
            tree.renew();
        }
    }
}
