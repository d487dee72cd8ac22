//! What a lookup saw, and a stamp by which a writer tells whether it is still so.

use std::ops::RangeInclusive;

use super::{Extent, Value};

/// The state of a map that an answer was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Which map; never the same for two maps of a process.
    pub(super) map: u64,
    /// Which of its states.
    pub(super) version: u64,
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
