//! How an edit gets into the tree.
//!
//! Nodes that readers can see are never changed, but for one link or one value. An edit fills new
//! leaves for all those it touches, new index nodes above them up to the lowest node that has all of
//! them below itself, and stores one link: the place of that node. Until then nobody sees anything of the
//! edit, from then on everybody sees all of it.

use core::ops::Range;
use core::ptr;

use smallvec::SmallVec;

use super::index::{FANOUT, Index};
use super::leaf::{Entry, LEAF, Leaf, LeafRef};
use super::link::Link;
use super::probe::{Mutation, Step as Moment};
use super::search::{Step, Steps};
use super::tree::{Place, Tree};
use super::writer::Writer;
use crate::sync::atomic::Ordering;

/// A leaf that overflows shares what it has with a neighbour before a new one is made, so that leaves are fuller
/// than two thirds (the B*-tree: Bayer and McCreight, Knuth). A leaf that an edit left with fewer entries joins a neighbour, if both then fill three quarters
/// of a leaf at most. (Merging late is what keeps a tree that breathes still: Johnson and Shasha,
/// "B-trees with inserts and deletes: why free-at-empty is better than merge-at-half", 1993.)
const FEW_ENTRIES: usize = if LEAF < 8 { 2 } else { LEAF / 4 };
const FEW_CHILDREN: usize = if FANOUT < 8 { 2 } else { FANOUT / 4 };

/// Nodes of one level with their lower bounds.
type Nodes = SmallVec<[(u64, Link); FANOUT]>;

/// One edit on its way into the tree.
struct Splice<'t, 'w> {
    tree: &'t Tree,
    writer: &'w mut Writer,
    version: u64,
}

/// What an edit takes out of the tree.
#[derive(Default)]
struct Leaving {
    nodes: SmallVec<[Link; 16]>,
    /// Nodes that leave with all below them.
    trees: SmallVec<[Link; 4]>,
}

impl Leaving {
    /// What lies between two children leaves with all below it.
    fn between<'t>(&mut self, left: Option<&Step<'t>>, right: Option<&Step<'t>>) {
        let (Some(left), Some(right)) = (left, right) else {
            return;
        };
        let mut empty = |index: &Index, range: Range<usize>| {
            self.trees.extend(range.map(|at| index.child(at).load()));
        };
        if ptr::eq(left.index, right.index) {
            empty(left.index, left.at + 1..right.at);
        } else {
            empty(left.index, left.at + 1..left.index.count());
            empty(right.index, 0..right.at);
        }
    }

    /// Hands everything over, after the edit was published.
    fn retire(self, writer: &mut Writer) {
        self.nodes.into_iter().for_each(|node| writer.retire(node));
        self.trees
            .into_iter()
            .for_each(|top| writer.retire_all(top));
    }
}

/// Puts `new` in place of `old`, as one change for readers. `place` is where `old` was gathered, none in an
/// empty map; `skipped` entries there stay as they are.
///
/// # Safety
/// `writer` is what the writer lock of the map of `tree` guards (R1), and the tree is as it was when `old` was
/// gathered (N2). `old` are all entries that overlap the hull of `old` and `new`; both are sorted and disjoint,
/// and differ (N4).
pub(super) unsafe fn splice<'t>(
    tree: &'t Tree,
    writer: &mut Writer,
    place: Option<&Place<'_, 't>>,
    skipped: usize,
    old: &[Entry],
    new: &[Entry],
) {
    let mut splice = Splice {
        version: tree.next_edit(),
        tree,
        writer,
    };
    let Some(place) = place else {
        let mut nodes = Nodes::new();
        splice.pack_leaves(new, true, &mut nodes);
        return splice.finish(nodes, Leaving::default());
    };
    if place.inside {
        let from = place.from + skipped;
        let to = from + old.len();
        let leaf = place.spot.leaf;
        if !splice.in_place(leaf, from, old, new)
            && !splice.within_leaf(place.steps.last(), leaf, (from, to), new)
        {
            splice.across_leaves((place.steps, leaf, from), (place.steps, leaf, to), new);
        }
        return;
    }
    let start = |entries: &[Entry]| entries.first().map_or(u64::MAX, |entry| entry.start);
    let last = |entries: &[Entry]| entries.last().map_or(0, |entry| entry.last);
    let (first, last) = (start(old).min(start(new)), last(old).max(last(new)));
    let (mut to_left, mut to_right) = (Steps::new(), Steps::new());
    // SAFETY: the caller holds the writer lock (R1), and nothing here makes a node free (N2).
    let ends = unsafe {
        (
            tree.find(first, &mut to_left),
            tree.find(last, &mut to_right),
        )
    };
    if let (Some(left), Some(right)) = ends {
        let begins = old.first().is_some_and(|entry| entry.start == first);
        let from = left.rank - usize::from(begins);
        splice.across_leaves(
            (&to_left, left.leaf, from),
            (&to_right, right.leaf, right.rank),
            new,
        );
    }
}

/// Makes entry `at` of a leaf longer, which it [can](LeafRef::can_grow). For the holder of the writer lock.
pub(super) fn grow(tree: &Tree, leaf: LeafRef<'_>, at: usize, last: u64) {
    let version = tree.next_edit();
    tree.probe.at(Moment::Built);
    tree.publish(|| leaf.grow(at, last, version));
}

/// Gives entry `at` of a leaf another value. For the holder of the writer lock.
pub(super) fn flip(tree: &Tree, leaf: LeafRef<'_>, at: usize, bits: u64) {
    let version = tree.next_edit();
    tree.probe.at(Moment::Built);
    tree.publish(|| leaf.flip(at, bits, version));
}

impl<'t> Splice<'t, '_> {
    /// An extent that only gets another value, or only grows at its end, changes in place.
    fn in_place(&self, leaf: LeafRef<'t>, at: usize, old: &[Entry], new: &[Entry]) -> bool {
        match (old, new) {
            ([old], [new]) if (old.start, old.last) == (new.start, new.last) => {
                flip(self.tree, leaf, at, new.bits);
            }
            ([old], [new])
                if (old.start, old.bits) == (new.start, new.bits)
                    && old.last < new.last
                    && leaf.can_grow(at, new.last) =>
            {
                grow(self.tree, leaf, at, new.last);
            }
            _ => return false,
        }
        true
    }

    /// The most frequent case: one leaf takes the place of one. False when it is another case.
    #[cfg(not(any(loom, feature = "shuttle")))]
    fn within_leaf(
        &mut self,
        step: Option<&Step<'t>>,
        old: LeafRef<'t>,
        (from, to): (usize, usize),
        new: &[Entry],
    ) -> bool {
        let shrinks = new.len() < to - from;
        let few = old.count() - (to - from) + new.len() < FEW_ENTRIES;
        if old.wide || shrinks && few && step.is_some() {
            return false;
        }
        let cut = (from, to);
        let Some(leaf) = self.writer.leaf_from(old.leaf, cut, new, self.version) else {
            return false;
        };
        self.replace_child(step, leaf);
        self.writer.retire(old.link());
        true
    }

    /// Under a model checker a leaf is filled entry by entry only.
    #[cfg(any(loom, feature = "shuttle"))]
    fn within_leaf(
        &mut self,
        _: Option<&Step<'t>>,
        _: LeafRef<'t>,
        _: (usize, usize),
        _: &[Entry],
    ) -> bool {
        false
    }

    /// The general case, level by level: `new` takes the place of everything from entry `from` of
    /// the leaf at the end of `left` up to entry `to` of the leaf at the end of `right`.
    fn across_leaves(
        &mut self,
        (to_left, left_leaf, from): (&Steps<'t>, LeafRef<'t>, usize),
        (to_right, right_leaf, to): (&Steps<'t>, LeafRef<'t>, usize),
        new: &[Entry],
    ) {
        let mut entries = SmallVec::<[Entry; 64]>::new();
        left_leaf.copy_to(0..from, &mut entries);
        entries.extend_from_slice(new);
        right_leaf.copy_to(to..right_leaf.count(), &mut entries);
        let at_end = to == right_leaf.count();

        let mut leaving = Leaving::default();
        leaving.nodes.push(left_leaf.link());
        let mut held = left_leaf.count();
        if !ptr::eq(left_leaf.leaf, right_leaf.leaf) {
            leaving.nodes.push(right_leaf.link());
            held += right_leaf.count();
        }
        let (mut left, mut right) = (to_left.clone(), to_right.clone());
        leaving.between(left.last(), right.last());
        let few = entries.len() < held && entries.len() < FEW_ENTRIES;
        let room = match entries.len() {
            0 => None,
            len if few => Some(LEAF * 3 / 4 - len),
            // Any neighbour will do.
            len if len > LEAF && !at_end => Some(LEAF),
            _ => None,
        };
        if let Some(room) = room {
            let joined = join_leaf(left.last_mut(), right.last_mut(), &mut entries, room);
            leaving.nodes.extend(joined);
        }
        let mut nodes = Nodes::new();
        self.pack_leaves(&entries, at_end, &mut nodes);

        while let (Some(l), Some(r)) = (left.pop(), right.pop()) {
            let one_node = ptr::eq(l.index, r.index);
            if one_node && l.at == r.at && nodes.len() == 1 {
                self.replace_child(Some(&l), nodes[0].1);
                return leaving.retire(self.writer);
            }
            let mut held = l.index.count();
            leaving.nodes.push(l.link());
            if !one_node {
                leaving.nodes.push(r.link());
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
            leaving.between(left.last(), right.last());
            let few = children.len() < held && children.len() < FEW_CHILDREN;
            if !children.is_empty() && few {
                let joined = join_index(left.last_mut(), right.last_mut(), &mut children);
                leaving.nodes.extend(joined);
            }
            nodes = match left.is_empty() {
                true => children,
                false => self.pack_children(&children, at_end),
            };
        }
        self.finish(nodes, leaving);
    }

    /// Fills as few leaves as hold `entries`, evenly; but when nothing comes behind, all but the last
    /// one fully, because what is appended next goes there too.
    fn pack_leaves(&mut self, mut entries: &[Entry], at_end: bool, nodes: &mut Nodes) {
        // Not by recursion, which would go as deep as there are leaves: only halves of one leaf, and even
        // parts, are packed by calls.
        while !entries.is_empty() {
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
            let (left, right) = entries.split_at(middle);
            self.pack_leaves(left, at_end, nodes);
            entries = right;
        }
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
    fn finish(&mut self, mut nodes: Nodes, leaving: Leaving) {
        while nodes.len() > 1 {
            nodes = self.pack_children(&nodes, true);
        }
        self.replace_child(None, nodes.first().map_or(Link::NULL, |(_, node)| *node));
        leaving.retire(self.writer);
    }

    /// The one store: `node` takes the place of the child at `step`, or that of the root.
    fn replace_child(&mut self, step: Option<&Step<'t>>, node: Link) {
        let slot = step.map_or(&self.tree.root, |step| step.index.child(step.at));
        let ordering = match self.tree.probe.is(Mutation::RelaxedPublish) {
            true => Ordering::Relaxed,
            // To the Acquire of `AtomicLink::load`.
            false => Ordering::Release,
        };
        self.tree.probe.at(Moment::Built);
        self.tree.publish(|| slot.store(node, ordering));
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

/// Adds the entries of a neighbour, if there is one with at most `room` of them, to those of the leaf at `left`
/// and `right`.
fn join_leaf<'t>(
    left: Option<&mut Step<'t>>,
    right: Option<&mut Step<'t>>,
    entries: &mut SmallVec<[Entry; 64]>,
    room: usize,
) -> Option<Link> {
    if let Some(step) = left
        && step.at > 0
    {
        let link = step.index.child(step.at - 1).load();
        // SAFETY: in the tree, and the caller holds the writer lock (R1), so it stays there (N2). Beside leaves
        // are leaves (N3).
        let leaf = unsafe { link.leaf() };
        if leaf.count() <= room {
            let mut joined = SmallVec::new();
            leaf.copy_to(0..leaf.count(), &mut joined);
            joined.extend_from_slice(entries);
            *entries = joined;
            step.at -= 1;
            return Some(link);
        }
    }
    if let Some(step) = right
        && step.at + 1 < step.index.count()
    {
        let link = step.index.child(step.at + 1).load();
        // SAFETY: as above (R1, N2, N3).
        let leaf = unsafe { link.leaf() };
        if leaf.count() <= room {
            leaf.copy_to(0..leaf.count(), entries);
            step.at += 1;
            return Some(link);
        }
    }
    None
}

/// As [`join_leaf`], for index nodes.
fn join_index<'t>(
    left: Option<&mut Step<'t>>,
    right: Option<&mut Step<'t>>,
    children: &mut Nodes,
) -> Option<Link> {
    let room = FANOUT * 3 / 4 - children.len();
    if let Some(step) = left
        && step.at > 0
    {
        let link = step.index.child(step.at - 1).load();
        // SAFETY: in the tree, and the caller holds the writer lock (R1), so it stays there (N2). Beside index
        // nodes are index nodes (N3).
        let node = unsafe { link.index() };
        if node.count() <= room {
            children[0].0 = step.index.separator(step.at);
            children.insert_many(0, children_of(node, 0..node.count()));
            step.at -= 1;
            return Some(link);
        }
    }
    if let Some(step) = right
        && step.at + 1 < step.index.count()
    {
        let link = step.index.child(step.at + 1).load();
        // SAFETY: as above (R1, N2, N3).
        let node = unsafe { link.index() };
        if node.count() <= room {
            let first = children.len();
            children.extend(children_of(node, 0..node.count()));
            children[first].0 = step.index.separator(step.at + 1);
            step.at += 1;
            return Some(link);
        }
    }
    None
}
