//! What a lookup saw, and a stamp by which a writer tells whether it is still so.

use core::num::NonZero;
use core::ops::RangeInclusive;

use super::leaf::{Entry, Leaf, RETIRED};
use super::{Extent, Value};

/// What an answer for one block is made of: the extent, or the first and the last block of the gap.
pub(super) type Answer = Result<Entry, (u64, u64)>;

/// The state of a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeafStamp {
    /// Where it was; none when the map was empty. No more than its address: the memory may be another leaf's by now.
    pub(super) leaf: Option<NonZero<usize>>,
    /// Which state.
    pub(super) version: u64,
}

impl LeafStamp {
    /// Of an empty map.
    pub(super) fn empty(version: u64) -> Self {
        Self {
            leaf: None,
            version,
        }
    }

    /// Whether `leaf`, which the stamp is of, is still in the tree and in that state. For the
    /// holder of the writer lock.
    pub(super) fn is_in_use(&self, leaf: &Leaf) -> bool {
        self.version != RETIRED && self.version == leaf.version_now()
    }
}

/// The state of whatever an answer was read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// That of the tree.
    pub(super) life: u64,
    /// The leaf of the block, and the one that holds the other end of the gap.
    pub(super) leaves: [LeafStamp; 2],
}

impl Stamp {
    pub(super) fn new(life: u64, leaves: [LeafStamp; 2]) -> Self {
        Self { life, leaves }
    }
}

/// The answer for one block: its extent, or else the gap around it.
///
/// The answer was true at one instant inside the lookup. Under the writer lock,
/// [`Editor::revalidate`] tells whether it still is.
///
/// [`Editor::revalidate`]: super::Editor::revalidate
#[derive(Clone, Copy, Debug)]
pub struct Lookup<V> {
    /// The gap is inclusive on both sides.
    pub(super) answer: Result<Extent<V>, (u64, u64)>,
    pub(super) stamp: Stamp,
}

impl<V: Value> Lookup<V> {
    pub(super) fn unpack((answer, stamp): (Answer, Stamp)) -> Self {
        Self {
            answer: answer.map(Extent::unpack),
            stamp,
        }
    }

    /// The extent that holds the block, whole; `None` when the block is not mapped.
    pub fn extent(&self) -> Option<Extent<V>> {
        self.answer.ok()
    }

    /// The largest range around the block in which nothing is mapped; `None` when the block is
    /// mapped.
    pub fn gap(&self) -> Option<RangeInclusive<u64>> {
        self.answer.err().map(|(first, last)| first..=last)
    }
}
