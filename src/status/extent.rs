//! What is known about a block.

use crate::error::{Error, Result};
use crate::map::{Extent, Value};
use crate::units::{DiskBlock, DiskRun, FileBlock, FileRange, MAX_FILE_BLOCKS};

/// What is known about the blocks of an extent; exactly one of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Status {
    /// Space is allocated, the first block at this place, and holds data.
    Written(DiskBlock),
    /// Space is allocated, the first block at this place, and reads as zeros until it is written.
    Unwritten(DiskBlock),
    /// Data waits in memory; space is promised but not chosen.
    Delayed,
    /// Known to have neither space nor data.
    Hole,
}

/// The bits of a packed status below its kind.
const BLOCK_BITS: u32 = 62;

impl Status {
    /// Disk blocks that a status can name are below this.
    pub const MAX_DISK_BLOCKS: u64 = 1 << BLOCK_BITS;

    /// Whether it is [`Written`](Self::Written).
    pub const fn is_written(self) -> bool {
        matches!(self, Self::Written(_))
    }

    /// Whether it is [`Unwritten`](Self::Unwritten).
    pub const fn is_unwritten(self) -> bool {
        matches!(self, Self::Unwritten(_))
    }

    /// Whether it is [`Delayed`](Self::Delayed).
    pub const fn is_delayed(self) -> bool {
        matches!(self, Self::Delayed)
    }

    /// Whether it is [`Hole`](Self::Hole).
    pub const fn is_hole(self) -> bool {
        matches!(self, Self::Hole)
    }

    /// Whether space is allocated: written or unwritten.
    pub const fn is_allocated(self) -> bool {
        self.disk_block().is_some()
    }

    /// Where the first block is; `None` without space.
    pub const fn disk_block(self) -> Option<DiskBlock> {
        match self {
            Self::Written(block) | Self::Unwritten(block) => Some(block),
            Self::Delayed | Self::Hole => None,
        }
    }
}

impl Value for Status {
    fn pack(self) -> u64 {
        let (kind, block) = match self {
            Self::Written(block) => (0, block.0),
            Self::Unwritten(block) => (1, block.0),
            Self::Delayed => (2, 0),
            Self::Hole => (3, 0),
        };
        kind << BLOCK_BITS | block & (Self::MAX_DISK_BLOCKS - 1)
    }

    fn unpack(bits: u64) -> Self {
        let block = DiskBlock(bits & (Self::MAX_DISK_BLOCKS - 1));
        match bits >> BLOCK_BITS {
            0 => Self::Written(block),
            1 => Self::Unwritten(block),
            2 => Self::Delayed,
            _ => Self::Hole,
        }
    }

    fn advance(self, by: u64) -> Self {
        match self {
            Self::Written(block) => Self::Written(DiskBlock(block.0.wrapping_add(by))),
            Self::Unwritten(block) => Self::Unwritten(DiskBlock(block.0.wrapping_add(by))),
            Self::Delayed | Self::Hole => self,
        }
    }

    fn can_merge(self, len: u64, next: Self) -> bool {
        self.advance(len) == next
    }
}

/// A range of file blocks and their status; a [`DiskBlock`] in it is that of the first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StatusExtent {
    /// The blocks; none only in what [`clip`](Self::clip) returns.
    pub range: FileRange,
    /// Their status.
    pub status: Status,
}

impl StatusExtent {
    /// The disk blocks behind the extent; `None` without space.
    pub fn disk_run(self) -> Option<DiskRun> {
        self.status
            .disk_block()
            .map(|start| DiskRun::new(start, self.range.len()))
    }

    /// Both extents as one, if `next` directly follows and goes on with the same kind, on the volume too.
    pub fn join(self, next: Self) -> Option<Self> {
        let one = self.range.end() == next.range.start()
            && self.status.can_merge(self.range.len(), next.status);
        one.then(|| Self {
            range: FileRange::new(self.range.start(), next.range.end()),
            ..self
        })
    }

    /// The part inside `range`; a part without blocks when they have none in common.
    #[must_use]
    pub fn clip(self, range: FileRange) -> Self {
        let range = self.range.intersect(range);
        let skipped = range.start().0.saturating_sub(self.range.start().0);
        Self {
            range,
            status: self.status.advance(skipped),
        }
    }
}

impl From<Extent<Status>> for StatusExtent {
    fn from(extent: Extent<Status>) -> Self {
        let range = FileRange::at(FileBlock(extent.start()), extent.len());
        Self {
            range,
            status: extent.value(),
        }
    }
}

/// Refuses what no tree can hold: blocks that no file has, or disk blocks that do not fit into a
/// status.
pub(super) fn check(range: FileRange, status: Status) -> Result<()> {
    if range.end().0 > MAX_FILE_BLOCKS {
        return Err(Error::InvalidInput("blocks beyond the largest file"));
    }
    let disk_end = status
        .disk_block()
        .map_or(0, |block| block.0.saturating_add(range.len()));
    if disk_end > Status::MAX_DISK_BLOCKS {
        return Err(Error::InvalidInput("disk blocks beyond the largest volume"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_loses_nothing() {
        let last = DiskBlock(Status::MAX_DISK_BLOCKS - 1);
        let blocks = [DiskBlock(0), DiskBlock(12345), last];
        let allocated = blocks.map(|block| [Status::Written(block), Status::Unwritten(block)]);
        for status in allocated
            .into_iter()
            .flatten()
            .chain([Status::Delayed, Status::Hole])
        {
            assert_eq!(Status::unpack(status.pack()), status);
        }
    }

    #[test]
    fn a_status_is_exactly_one_of_four() {
        let place = DiskBlock(7);
        let kinds = [
            Status::Written(place),
            Status::Unwritten(place),
            Status::Delayed,
            Status::Hole,
        ];
        for (i, status) in kinds.into_iter().enumerate() {
            let is = [
                status.is_written(),
                status.is_unwritten(),
                status.is_delayed(),
                status.is_hole(),
            ];
            assert_eq!(is, [0, 1, 2, 3].map(|kind| kind == i), "{status:?}");
            assert_eq!(status.is_allocated(), i < 2);
            assert_eq!(status.disk_block(), (i < 2).then_some(place));
        }
    }

    #[test]
    fn only_the_same_kind_merges_and_space_only_when_adjacent() {
        let kinds = [
            Status::Written(DiskBlock(10)),
            Status::Unwritten(DiskBlock(10)),
            Status::Delayed,
            Status::Hole,
        ];
        for (i, status) in kinds.into_iter().enumerate() {
            for (j, next) in kinds.into_iter().enumerate() {
                assert_eq!(
                    status.can_merge(3, next.advance(3)),
                    i == j,
                    "{status:?} {next:?}"
                );
            }
        }
        assert!(!kinds[0].can_merge(3, kinds[0].advance(4)));
    }

    #[test]
    fn extents_are_joined_that_follow_each_other_in_file_and_volume() {
        let at = |start, len, status| StatusExtent {
            range: FileRange::at(FileBlock(start), len),
            status,
        };
        let written = |block| Status::Written(DiskBlock(block));
        let first = at(10, 5, written(100));
        assert_eq!(
            first.join(at(15, 2, written(105))),
            Some(at(10, 7, written(100)))
        );
        assert_eq!(first.join(at(16, 2, written(105))), None);
        assert_eq!(first.join(at(15, 2, written(106))), None);
    }

    #[test]
    fn clipping_moves_the_disk_block() {
        let extent = StatusExtent {
            range: FileRange::at(FileBlock(10), 10),
            status: Status::Written(DiskBlock(100)),
        };
        let part = extent.clip(FileRange::at(FileBlock(15), 100));
        assert_eq!(part.range, FileRange::at(FileBlock(15), 5));
        assert_eq!(part.disk_run(), Some(DiskRun::new(DiskBlock(105), 5)));
        assert!(
            extent
                .clip(FileRange::at(FileBlock(0), 10))
                .range
                .is_empty()
        );
    }
}
