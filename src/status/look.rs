//! A lookup that a writer can check later.

use super::{Status, StatusExtent};
use crate::map::Lookup;
use crate::units::{FileBlock, FileRange, MAX_FILE_BLOCKS};

/// What [`StatusTree::look`](super::StatusTree::look) saw of one block.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub(super) lookup: Lookup<Status>,
    pub(super) change_counter: u64,
}

impl Look {
    /// The entry that holds the block, whole; `None` when nothing is known about the block.
    pub fn extent(&self) -> Option<StatusExtent> {
        self.lookup.extent().map(StatusExtent::from)
    }

    /// The largest range around the block about which nothing is known; `None` when the block is
    /// known. Its end is where the next entry starts, or [`MAX_FILE_BLOCKS`].
    pub fn gap(&self) -> Option<FileRange> {
        let (first, last) = self.lookup.gap()?.into_inner();
        // The gap behind the last entry goes on to the end of the `u64` space.
        let end = last.saturating_add(1).min(MAX_FILE_BLOCKS);
        Some(FileRange::new(FileBlock(first), FileBlock(end)))
    }

    /// The change counter from before the lookup: while [`StatusTree::change_counter`] equals it,
    /// what was seen is no older than the last change.
    ///
    /// [`StatusTree::change_counter`]: super::StatusTree::change_counter
    pub fn change_counter(&self) -> u64 {
        self.change_counter
    }
}
