//! How an edit gets into the tree.
//!
//! Nodes that readers can see are never changed, but for one link or one value. An edit fills new
//! leaves for all those it touches, new index nodes above them up to the lowest node that has all of
//! them below itself, and stores one link: the place of that node. Until then nobody sees anything of the
//! edit, from then on everybody sees all of it.

use core::ops::Range;

use smallvec::SmallVec;

use super::node::{Entry, FANOUT, Index, LEAF, Leaf, Link};
use super::probe::{Mutation, Step as Moment};
use super::search::{Path, Step};
use super::tree::Tree;
use super::writer::Writer;
use crate::sync::atomic::Ordering;

/// A leaf that an edit left with fewer entries joins a neighbour, if both then fill three quarters
/// of a leaf at most. (Merging late is what keeps a tree that breathes still: Johnson and Shasha,
/// "B-trees with inserts and deletes: why free-at-empty is better than merge-at-half", 1993.)
const FEW_ENTRIES: usize = if LEAF < 8 { 2 } else { LEAF / 4 };
const FEW_CHILDREN: usize = if FANOUT < 8 { 2 } else { FANOUT / 4 };

/// Nodes of one level with their lower bounds.
type Nodes = SmallVec<[(u64, Link); FANOUT + 2]>;

/// One edit on its way into the tree.
struct Splice<'t> {
    tree: &'t Tree,
    writer: &'t mut Writer,
    version: u64,
    /// Nodes that the edit takes out of the tree ...
    replaced: SmallVec<[Link; 16]>,
    /// ... and nodes that it takes out with all below them.
    emptied: SmallVec<[Link; 4]>,
}

/// Puts `new` in place of `old`, as one change for readers.
///
/// # Safety
/// `writer` is what the writer lock of the map of `tree` guards. `old` are all entries that overlap the hull of
/// `old` and `new`; both are sorted and disjoint, and differ.
pub(super) unsafe fn splice(tree: &Tree, writer: &mut Writer, old: &[Entry], new: &[Entry]) {
    let start = |entries: &[Entry]| entries.first().map_or(u64::MAX, |entry| entry.start);
    let last = |entries: &[Entry]| entries.last().map_or(0, |entry| entry.last);
    let (first, last) = (start(old).min(start(new)), last(old).max(last(new)));
    let mut splice = Splice {
        version: tree.next_edit(),
        tree,
        writer,
        replaced: SmallVec::new(),
        emptied: SmallVec::new(),
    };
    // SAFETY: the caller holds the writer lock.
    let Some(left) = (unsafe { tree.path(first) }) else {
        let mut nodes = Nodes::new();
        splice.pack_leaves(new, true, &mut nodes);
        return splice.finish(nodes);
    };
    // The entries before stay.
    let from = left.rank - usize::from(old.first().is_some_and(|entry| entry.start == first));
    if let ([old], [new]) = (old, new)
        && (old.start, old.last) == (new.start, new.last)
    {
        let flip = || left.leaf.flip(from, new.bits, splice.version);
        return splice.publish(flip);
    }
    let one_leaf = left.upper().is_none_or(|upper| last < upper);
    if one_leaf && splice.within_leaf(&left, from, from + old.len(), new) {
        return;
    }
    let right = match one_leaf {
        true => None,
        // SAFETY: the caller holds the writer lock.
        false => unsafe { tree.path(last) },
    };
    let right = right.as_ref().unwrap_or(&left);
    let to = match one_leaf {
        true => from + old.len(),
        false => right.rank,
    };
    splice.across_leaves((&left, from), (right, to), new);
}

impl<'t> Splice<'t> {
    /// The most frequent case: one leaf takes the place of one. False when it is another case.
    #[cfg(not(any(loom, feature = "shuttle")))]
    fn within_leaf(&mut self, path: &Path<'t>, from: usize, to: usize, new: &[Entry]) -> bool {
        let old = path.leaf;
        let shrinks = new.len() < to - from;
        let few = old.count() - (to - from) + new.len() < FEW_ENTRIES;
        if old.wide || shrinks && few && !path.steps.is_empty() {
            return false;
        }
        let Some(leaf) = self
            .writer
            .leaf_from(old.leaf, (from, to), new, self.version)
        else {
            return false;
        };
        self.replaced.push(path.link);
        self.replace_child(path.steps.last(), leaf);
        true
    }

    /// Under a model checker a leaf is filled entry by entry only.
    #[cfg(any(loom, feature = "shuttle"))]
    fn within_leaf(&mut self, _: &Path<'t>, _: usize, _: usize, _: &[Entry]) -> bool {
        false
    }

    /// The general case, level by level: `new` takes the place of everything from entry `from` of
    /// the leaf at the end of `left` up to entry `to` of the leaf at the end of `right`.
    fn across_leaves(
        &mut self,
        (left, from): (&Path<'t>, usize),
        (right, to): (&Path<'t>, usize),
        new: &[Entry],
    ) {
        let mut entries = SmallVec::<[Entry; 2 * LEAF + 4]>::new();
        left.leaf.copy_to(0..from, &mut entries);
        entries.extend_from_slice(new);
        right.leaf.copy_to(to..right.leaf.count(), &mut entries);
        let at_end = to == right.leaf.count();

        self.replaced.push(left.link);
        let mut held = left.leaf.count();
        if left.link != right.link {
            self.replaced.push(right.link);
            held += right.leaf.count();
        }
        let (mut left, mut right) = (left.steps.clone(), right.steps.clone());
        self.empty_between(left.last(), right.last());
        let few = entries.len() < held && entries.len() < FEW_ENTRIES;
        if !entries.is_empty() && few {
            self.join_leaf(left.last_mut(), right.last_mut(), &mut entries);
        }
        let mut nodes = Nodes::new();
        self.pack_leaves(&entries, at_end, &mut nodes);

        while let (Some(l), Some(r)) = (left.pop(), right.pop()) {
            let one_node = l.node == r.node;
            if one_node && l.at == r.at && nodes.len() == 1 {
                return self.replace_child(Some(&l), nodes[0].1);
            }
            let mut held = l.index.count();
            self.replaced.push(l.node);
            if !one_node {
                self.replaced.push(r.node);
                held += r.index.count();
            }
            let mut children = Nodes::new();
            children.extend(children_of(l.index, 0..l.at));
            if let Some(first) = nodes.first_mut() {
                // It has the range of the child it replaces, from its lower bound on.
                first.0 = lower_bound(l.index, l.at);
            }
            children.extend(nodes);
            children.extend(children_of(r.index, r.at + 1..r.index.count()));
            let at_end = r.at + 1 == r.index.count();
            self.empty_between(left.last(), right.last());
            let few = children.len() < held && children.len() < FEW_CHILDREN;
            if !children.is_empty() && few {
                self.join_index(left.last_mut(), right.last_mut(), &mut children);
            }
            nodes = match left.is_empty() {
                true => children,
                false => self.pack_children(&children, at_end),
            };
        }
        self.finish(nodes);
    }

    /// Adds the entries of a neighbour, if there is one that has few enough, to those of the leaf at
    /// `left` and `right`.
    fn join_leaf(
        &mut self,
        left: Option<&mut Step<'t>>,
        right: Option<&mut Step<'t>>,
        entries: &mut SmallVec<[Entry; 2 * LEAF + 4]>,
    ) {
        let room = LEAF * 3 / 4 - entries.len();
        if let Some(step) = left
            && step.at > 0
        {
            let link = step.index.child(step.at - 1).load();
            // SAFETY: in the tree, and the caller holds the writer lock (R1).
            let leaf = unsafe { link.leaf() };
            if leaf.count() <= room {
                let mut joined = SmallVec::new();
                leaf.copy_to(0..leaf.count(), &mut joined);
                joined.extend_from_slice(entries);
                *entries = joined;
                step.at -= 1;
                self.replaced.push(link);
                return;
            }
        }
        if let Some(step) = right
            && step.at + 1 < step.index.count()
        {
            let link = step.index.child(step.at + 1).load();
            // SAFETY: as above.
            let leaf = unsafe { link.leaf() };
            if leaf.count() <= room {
                leaf.copy_to(0..leaf.count(), entries);
                step.at += 1;
                self.replaced.push(link);
            }
        }
    }

    /// As [`join_leaf`](Self::join_leaf), for index nodes.
    fn join_index(
        &mut self,
        left: Option<&mut Step<'t>>,
        right: Option<&mut Step<'t>>,
        children: &mut Nodes,
    ) {
        let room = FANOUT * 3 / 4 - children.len();
        if let Some(step) = left
            && step.at > 0
        {
            let link = step.index.child(step.at - 1).load();
            // SAFETY: in the tree, and the caller holds the writer lock (R1).
            let node = unsafe { link.index() };
            if node.count() <= room {
                children[0].0 = step.index.separator(step.at);
                children.insert_many(0, children_of(node, 0..node.count()));
                step.at -= 1;
                self.replaced.push(link);
                return;
            }
        }
        if let Some(step) = right
            && step.at + 1 < step.index.count()
        {
            let link = step.index.child(step.at + 1).load();
            // SAFETY: as above.
            let node = unsafe { link.index() };
            if node.count() <= room {
                let first = children.len();
                children.extend(children_of(node, 0..node.count()));
                children[first].0 = step.index.separator(step.at + 1);
                step.at += 1;
                self.replaced.push(link);
            }
        }
    }

    /// Notes what lies between two children: it leaves the tree with all below it.
    fn empty_between(&mut self, left: Option<&Step<'t>>, right: Option<&Step<'t>>) {
        let (Some(left), Some(right)) = (left, right) else {
            return;
        };
        let mut empty = |index: &Index, range: Range<usize>| {
            self.emptied.extend(range.map(|at| index.child(at).load()));
        };
        if left.node == right.node {
            empty(left.index, left.at + 1..right.at);
        } else {
            empty(left.index, left.at + 1..left.index.count());
            empty(right.index, 0..right.at);
        }
    }

    /// Fills as few leaves as hold `entries`, evenly; but when nothing comes behind, all but the last
    /// one fully, because what is appended next goes there too.
    fn pack_leaves(&mut self, entries: &[Entry], at_end: bool, nodes: &mut Nodes) {
        if entries.is_empty() {
            return;
        }
        if let Some(wide) = Leaf::shape(entries) {
            let leaf = self.writer.leaf(entries, wide, self.version);
            return nodes.push((entries[0].start, leaf));
        }
        let leaves = entries.len().div_ceil(LEAF);
        let middle = match leaves {
            // They would fit, if they were not so far apart.
            1 => entries.len() / 2,
            _ if at_end => LEAF,
            _ => entries.len() * (leaves / 2) / leaves,
        };
        self.pack_leaves(&entries[..middle], at_end, nodes);
        self.pack_leaves(&entries[middle..], at_end, nodes);
    }

    /// As [`pack_leaves`](Self::pack_leaves), for index nodes.
    fn pack_children(&mut self, children: &[(u64, Link)], at_end: bool) -> Nodes {
        let count = children.len().div_ceil(FANOUT).max(1);
        let each = match at_end {
            true => FANOUT,
            false => children.len().div_ceil(count).max(1),
        };
        let fill = |children: &[(u64, Link)]| (children[0].0, self.writer.index(children));
        children.chunks(each).map(fill).collect()
    }

    /// Makes `nodes`, which are all of one level, the tree.
    fn finish(&mut self, mut nodes: Nodes) {
        while nodes.len() > 1 {
            nodes = self.pack_children(&nodes, true);
        }
        self.replace_child(None, nodes.first().map_or(Link::NULL, |(_, node)| *node));
    }

    /// The one store: `node` takes the place of the child at `step`, or that of the root.
    fn replace_child(&mut self, step: Option<&Step<'t>>, node: Link) {
        let slot = step.map_or(&self.tree.root, |step| step.index.child(step.at));
        let ordering = match self.tree.probe.is(Mutation::RelaxedPublish) {
            true => Ordering::Relaxed,
            // To the Acquire of `AtomicLink::load`.
            false => Ordering::Release,
        };
        self.publish(|| slot.store(node, ordering));
        for node in self.replaced.drain(..) {
            self.writer.retire(node);
        }
        for top in self.emptied.drain(..) {
            self.writer.retire_all(top);
        }
    }

    fn publish(&self, store: impl FnOnce()) {
        self.tree.probe.at(Moment::Built);
        self.tree.publish(store);
    }
}

/// The lower bound of child `at`; any number for the first one, which has that of its parent.
fn lower_bound(index: &Index, at: usize) -> u64 {
    match at {
        0 => 0,
        _ => index.separator(at),
    }
}

fn children_of(
    index: &Index,
    range: Range<usize>,
) -> impl ExactSizeIterator<Item = (u64, Link)> + '_ {
    range.map(|at| (lower_bound(index, at), index.child(at).load()))
}
