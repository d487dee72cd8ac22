//! Units: what a number counts is part of its type.
//!
//! A [`FileBlock`] numbers blocks inside one file, a [`DiskBlock`] numbers blocks of the volume. Both
//! count *blocks* of the volume's [`BlockSize`]; byte quantities are plain `u64` and say so in their
//! name. All ranges are half-open.

use std::fmt;
use std::ops::Range;

use crate::error::{Error, Result};

/// Bytes in one page of the page cache.
pub const PAGE_SIZE: u64 = 4096;

/// The first file block that no file can have: block numbers are below 2^32 - 1, as in ext4.
pub const MAX_FILE_BLOCKS: u64 = u32::MAX as u64;

/// The most clusters that the files of a volume can have together.
pub const MAX_VOLUME_CLUSTERS: u64 = u32::MAX as u64;

/// A block of a file, counted from the file's start in blocks of the volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FileBlock(pub u64);

/// A block of the volume, counted from the device's start in blocks of the volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DiskBlock(pub u64);

/// The number by which a volume knows a file (an inode number).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FileNumber(pub u64);

impl fmt::Debug for FileBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file block {}", self.0)
    }
}

impl fmt::Debug for DiskBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "disk block {}", self.0)
    }
}

impl fmt::Debug for FileNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {}", self.0)
    }
}

impl fmt::Display for FileNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FileBlock {
    /// The block `by` blocks further on.
    #[must_use]
    pub const fn advance(self, by: u64) -> Self {
        Self(self.0.saturating_add(by))
    }
}

impl DiskBlock {
    /// The block `by` blocks further on.
    #[must_use]
    pub const fn advance(self, by: u64) -> Self {
        Self(self.0.saturating_add(by))
    }
}

/// A half-open range of file blocks. `start <= end` always.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "Range<u64>", into = "Range<u64>"))]
pub struct FileRange {
    start: u64,
    end: u64,
}

impl fmt::Debug for FileRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file blocks {}..{}", self.start, self.end)
    }
}

/// As [`FileRange::new`].
impl From<Range<u64>> for FileRange {
    fn from(blocks: Range<u64>) -> Self {
        Self::new(FileBlock(blocks.start), FileBlock(blocks.end))
    }
}

impl From<FileRange> for Range<u64> {
    fn from(range: FileRange) -> Self {
        range.start..range.end
    }
}

impl FileRange {
    /// The range `start..end`; empty at `start` when `end` lies before it.
    pub const fn new(start: FileBlock, end: FileBlock) -> Self {
        let end = if end.0 < start.0 { start.0 } else { end.0 };
        Self {
            start: start.0,
            end,
        }
    }

    /// `len` blocks from `start` on, cut at the end of the `u64` space.
    pub const fn at(start: FileBlock, len: u64) -> Self {
        Self {
            start: start.0,
            end: start.0.saturating_add(len),
        }
    }

    /// Everything a file can hold from `start` on.
    pub const fn starting_at(start: FileBlock) -> Self {
        Self::new(start, FileBlock(MAX_FILE_BLOCKS))
    }

    /// The first block.
    pub const fn start(self) -> FileBlock {
        FileBlock(self.start)
    }

    /// The block behind the last one.
    pub const fn end(self) -> FileBlock {
        FileBlock(self.end)
    }

    /// How many blocks the range has.
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether the range has no block.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether `block` lies inside.
    pub const fn contains(self, block: FileBlock) -> bool {
        self.start <= block.0 && block.0 < self.end
    }

    /// The blocks both ranges have; empty when they have none in common.
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        Self::new(
            FileBlock(self.start.max(other.start)),
            FileBlock(self.end.min(other.end)),
        )
    }

    /// The blocks, in order.
    pub fn blocks(self) -> impl DoubleEndedIterator<Item = FileBlock> {
        (self.start..self.end).map(FileBlock)
    }
}

/// A run of consecutive blocks of the volume.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct DiskRun {
    /// The first block.
    pub start: DiskBlock,
    /// How many blocks.
    pub len: u64,
}

impl fmt::Debug for DiskRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "disk blocks {}..{}", self.start.0, self.end().0)
    }
}

impl DiskRun {
    /// `len` blocks from `start` on.
    pub const fn new(start: DiskBlock, len: u64) -> Self {
        Self { start, len }
    }

    /// The block behind the last one.
    pub const fn end(self) -> DiskBlock {
        DiskBlock(self.start.0.saturating_add(self.len))
    }
}

/// Bytes in one block: a power of two from 512 to [`PAGE_SIZE`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u64", into = "u64"))]
pub struct BlockSize {
    log2: u8,
}

/// As [`BlockSize::new`].
impl TryFrom<u64> for BlockSize {
    type Error = Error;

    fn try_from(bytes: u64) -> Result<Self> {
        Self::new(bytes)
    }
}

impl From<BlockSize> for u64 {
    fn from(size: BlockSize) -> Self {
        size.bytes()
    }
}

impl BlockSize {
    /// A block size of `bytes` bytes.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] unless `bytes` is a power of two from 512 to [`PAGE_SIZE`].
    pub fn new(bytes: u64) -> Result<Self> {
        if bytes.is_power_of_two() && (512..=PAGE_SIZE).contains(&bytes) {
            Ok(Self {
                log2: bytes.trailing_zeros() as u8,
            })
        } else {
            Err(Error::InvalidInput(
                "block size must be a power of two from 512 to 4096 bytes",
            ))
        }
    }

    /// The block size in bytes.
    pub const fn bytes(self) -> u64 {
        1 << self.log2
    }

    /// Blocks in one page of the page cache.
    pub const fn blocks_per_page(self) -> u64 {
        PAGE_SIZE >> self.log2
    }

    /// The block that holds the byte at `offset`.
    pub const fn block_of(self, offset: u64) -> FileBlock {
        FileBlock(offset >> self.log2)
    }

    /// How many blocks it takes to hold `bytes` bytes.
    pub const fn blocks_for(self, bytes: u64) -> u64 {
        (bytes >> self.log2) + (bytes & (self.bytes() - 1) != 0) as u64
    }

    /// The byte offset at which `block` starts. Exact for every block below [`MAX_FILE_BLOCKS`].
    pub const fn offset_of(self, block: FileBlock) -> u64 {
        block.0 << self.log2
    }

    /// The byte offset on the device at which `block` starts; saturates far behind any device.
    pub const fn disk_offset_of(self, block: DiskBlock) -> u64 {
        block.0.saturating_mul(self.bytes())
    }

    /// Every block touched by the bytes `start..end`.
    pub const fn covering(self, start: u64, end: u64) -> FileRange {
        FileRange::new(self.block_of(start), FileBlock(self.blocks_for(end)))
    }

    /// The blocks that lie wholly inside the bytes `start..end`.
    pub const fn inside(self, start: u64, end: u64) -> FileRange {
        FileRange::new(FileBlock(self.blocks_for(start)), self.block_of(end))
    }
}

/// Blocks in one allocation cluster (ext4 calls more than one "bigalloc"): a power of two up to 2^16.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "u64", into = "u64"))]
pub struct ClusterRatio {
    log2: u8,
}

/// As [`ClusterRatio::new`].
impl TryFrom<u64> for ClusterRatio {
    type Error = Error;

    fn try_from(blocks: u64) -> Result<Self> {
        Self::new(blocks)
    }
}

impl From<ClusterRatio> for u64 {
    fn from(ratio: ClusterRatio) -> Self {
        ratio.blocks()
    }
}

impl ClusterRatio {
    /// A cluster is one block.
    pub const ONE: Self = Self { log2: 0 };

    /// Clusters of `blocks` blocks.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] unless `blocks` is a power of two up to 2^16.
    pub fn new(blocks: u64) -> Result<Self> {
        if blocks.is_power_of_two() && blocks <= 1 << 16 {
            Ok(Self {
                log2: blocks.trailing_zeros() as u8,
            })
        } else {
            Err(Error::InvalidInput(
                "cluster ratio must be a power of two up to 65536 blocks",
            ))
        }
    }

    /// Blocks in one cluster.
    pub const fn blocks(self) -> u64 {
        1 << self.log2
    }

    /// Whether a cluster is one block.
    pub const fn is_one(self) -> bool {
        self.log2 == 0
    }

    /// The logical cluster that holds `block`.
    pub const fn cluster_of(self, block: FileBlock) -> u64 {
        block.0 >> self.log2
    }

    /// The blocks of logical cluster `cluster`.
    pub const fn range_of(self, cluster: u64) -> FileRange {
        FileRange::at(FileBlock(cluster << self.log2), self.blocks())
    }

    /// How far `block` lies behind the start of its cluster, in blocks.
    pub const fn offset_in_cluster(self, block: FileBlock) -> u64 {
        block.0 & (self.blocks() - 1)
    }

    /// The logical clusters that `range` touches, as a half-open range of cluster numbers.
    pub const fn clusters_touched(self, range: FileRange) -> (u64, u64) {
        if range.is_empty() {
            let cluster = range.start >> self.log2;
            return (cluster, cluster);
        }
        (range.start >> self.log2, ((range.end - 1) >> self.log2) + 1)
    }

    /// `range` grown to whole clusters; cut at the end of the `u64` space.
    pub const fn align_out(self, range: FileRange) -> FileRange {
        let (first, end) = self.clusters_touched(range);
        let end = if end > u64::MAX >> self.log2 {
            u64::MAX
        } else {
            end << self.log2
        };
        FileRange::new(FileBlock(first << self.log2), FileBlock(end))
    }

    /// The whole clusters inside `range`.
    pub const fn align_in(self, range: FileRange) -> FileRange {
        let mask = self.blocks() - 1;
        let start = FileBlock(range.start.saturating_add(mask) & !mask);
        FileRange::new(start, FileBlock(range.end & !mask))
    }

    /// How many whole clusters `blocks` blocks take.
    pub const fn clusters_for(self, blocks: u64) -> u64 {
        (blocks >> self.log2) + (blocks & (self.blocks() - 1) != 0) as u64
    }
}

/// The shape of a volume: its block size and how many blocks one allocation cluster has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Geometry {
    /// Bytes in one block.
    pub block_size: BlockSize,
    /// Blocks in one cluster.
    pub cluster: ClusterRatio,
}

impl Geometry {
    /// Blocks of `block_bytes` bytes in clusters of `cluster_blocks` blocks; one where there are to be no clusters.
    ///
    /// # Errors
    /// As [`BlockSize::new`] and [`ClusterRatio::new`].
    pub fn new(block_bytes: u64, cluster_blocks: u64) -> Result<Self> {
        Ok(Self {
            block_size: BlockSize::new(block_bytes)?,
            cluster: ClusterRatio::new(cluster_blocks)?,
        })
    }

    /// Bytes in one cluster.
    pub const fn cluster_bytes(self) -> u64 {
        self.block_size.bytes() << self.cluster.log2
    }

    /// The largest size a file can have, in bytes.
    pub const fn max_file_size(self) -> u64 {
        MAX_FILE_BLOCKS << self.block_size.log2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covering_and_inside_differ_by_the_partial_edges() {
        let size = BlockSize::new(1024).unwrap();
        assert_eq!(
            size.covering(1000, 3100),
            FileRange::new(FileBlock(0), FileBlock(4))
        );
        assert_eq!(
            size.inside(1000, 3100),
            FileRange::new(FileBlock(1), FileBlock(3))
        );
        assert!(size.inside(1100, 1900).is_empty());
        assert!(size.covering(2048, 2048).is_empty());
    }

    #[test]
    fn clusters_touched_by_ranges() {
        let ratio = ClusterRatio::new(4).unwrap();
        assert_eq!(
            ratio.clusters_touched(FileRange::at(FileBlock(3), 2)),
            (0, 2)
        );
        assert_eq!(
            ratio.clusters_touched(FileRange::at(FileBlock(3), 0)),
            (0, 0)
        );
        assert_eq!(
            ratio.align_out(FileRange::at(FileBlock(5), 1)),
            FileRange::at(FileBlock(4), 4)
        );
        assert_eq!(
            ratio.align_in(FileRange::at(FileBlock(3), 6)),
            FileRange::at(FileBlock(4), 4)
        );
        assert!(ratio.align_in(FileRange::at(FileBlock(1), 6)).is_empty());
        assert_eq!(ratio.clusters_for(5), 2);
        let last = FileRange::new(FileBlock(u64::MAX - 2), FileBlock(u64::MAX));
        assert_eq!(ratio.align_out(last).end(), FileBlock(u64::MAX));
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        for bytes in [0, 1, 256, 1000, 8192, u64::MAX] {
            assert!(BlockSize::new(bytes).is_err());
        }
        for blocks in [0, 3, 1 << 17] {
            assert!(ClusterRatio::new(blocks).is_err());
        }
        let refused =
            |block_bytes, cluster_blocks| Geometry::new(block_bytes, cluster_blocks).err();
        assert_eq!(refused(3, 16), BlockSize::new(3).err());
        assert_eq!(refused(1024, 3), ClusterRatio::new(3).err());
        let geometry = Geometry::new(1024, 16).unwrap();
        let sizes = (geometry.block_size.bytes(), geometry.cluster.blocks());
        assert_eq!(sizes, (1024, 16));
    }
}
