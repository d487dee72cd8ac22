//! The authoritative mapping of files to the volume: which block of a file lives where, and whether it
//! was ever written.
//!
//! The layer promises that every change is one step: a reader of a [`MappingStore`] sees a file's
//! mapping before or after it, never between. It rejects what would make a block belong twice to a file.
//!
//! It must not know what is delayed, reserved, cached or dirty, nor who owns which free space: blocks
//! come in with [`MappingStore::insert`] and go out with [`MappingStore::remove`]. Deciding when two
//! threads may change one file is the caller's business as well (the data lock of the layer above);
//! a store only keeps itself consistent.
//!
//! A store never caches anything in the status tree. The callers that hold no lock which keeps a mapping
//! still (writeback, I/O completion) must not cache what they happen to read here either: the rule
//! "do not cache unrelated extents" (the 2025 stale-extent fixes of Linux 6.16) is theirs to follow.

mod chunks;
mod extents;
mod log;
mod memory;
mod table;

use std::fmt::Debug;
use std::sync::Arc;

use crate::block::BlockQueue;
use crate::error::Result;
use crate::units::{DiskBlock, DiskRun, FileBlock, FileNumber, FileRange, Geometry};

pub use log::{Finding, LogStore};
pub use memory::MemoryStore;

/// Whether mapped blocks hold data or read as zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ExtentState {
    /// The blocks hold the file's data.
    Written,
    /// The blocks belong to the file but read as zeros, whatever is on the device.
    Unwritten,
}

/// A run of file blocks that lives in a run of disk blocks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MappedExtent {
    /// The blocks of the file.
    pub range: FileRange,
    /// Where the first of them lives.
    pub disk: DiskBlock,
    /// Whether they hold data.
    pub state: ExtentState,
}

impl MappedExtent {
    /// Where `block`, which must lie in the extent, lives.
    pub fn disk_of(&self, block: FileBlock) -> DiskBlock {
        self.disk
            .advance(block.0.saturating_sub(self.range.start().0))
    }

    /// The disk blocks of the extent.
    pub fn run(&self) -> DiskRun {
        DiskRun::new(self.disk, self.range.len())
    }

    /// The part of the extent inside `range`; empty when they do not meet.
    #[must_use]
    pub fn clip(&self, range: FileRange) -> Self {
        let range = self.range.intersect(range);
        Self {
            range,
            disk: self.disk_of(range.start()),
            state: self.state,
        }
    }
}

/// What a store knows about a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Mapping {
    /// The block is part of this extent.
    Mapped(MappedExtent),
    /// Nothing is mapped in this whole range around the block.
    Hole(FileRange),
}

/// Which way [`MappingStore::shift`] moves extents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Shift {
    /// Towards the start of the file by this many blocks; what they move over must be a hole.
    Left(u64),
    /// Towards the end of the file by this many blocks.
    Right(u64),
}

/// What a store has decided about the volume that it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct VolumeLayout {
    /// Block and cluster size.
    pub geometry: Geometry,
    /// How many bytes of its device the volume has.
    pub device_bytes: u64,
    /// The first block that files may use.
    pub first_usable: DiskBlock,
}

/// Changes of a [`MappingStore`] are being made that belong together, until this is dropped.
///
/// The default holds nothing: for a store whose changes do not survive, or become durable only by a call of its own.
#[derive(Debug, Default)]
#[must_use = "the changes belong together until this is dropped"]
pub struct Together<'a> {
    _commits_wait: Option<Box<dyn Debug + 'a>>,
}

impl<'a> Together<'a> {
    /// Holds `guard` as long: say, the shared side of a lock that commits take exclusively.
    ///
    /// ```
    /// # use extent_map::mapping::Together;
    /// let commits = std::sync::RwLock::new(());
    /// let together = Together::holding(commits.read().unwrap());
    /// assert!(commits.try_write().is_err());
    /// drop(together);
    /// assert!(commits.try_write().is_ok());
    /// ```
    pub fn holding(guard: impl Debug + 'a) -> Self {
        Self {
            _commits_wait: Some(Box::new(guard)),
        }
    }
}

/// The mapping, the size and the inline bytes of every file of a volume.
///
/// A file that was never mentioned before is empty. Methods block at most on the store's own short
/// locks and on its device, and all of them may be called from any thread. They must not panic: what was promised to
/// the file could be lost.
///
/// # Errors
/// Every method may return a device error when the store keeps its state on one. A method that returns
/// an error has changed nothing.
pub trait MappingStore: Send + Sync + Debug {
    /// What `block` of `file` is mapped to.
    fn query(&self, file: FileNumber, block: FileBlock) -> Result<Mapping>;

    /// The last extent that starts before `block`.
    fn last_before(&self, file: FileNumber, block: FileBlock) -> Result<Option<MappedExtent>>;

    /// Every extent that meets `range`, whole, in order.
    fn extents(&self, file: FileNumber, range: FileRange) -> Result<Vec<MappedExtent>>;

    /// Maps newly allocated blocks.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) when one of the blocks is mapped already;
    /// [`Error::NoSpace`](crate::Error::NoSpace) when the store has no room for one more extent.
    fn insert(&self, file: FileNumber, extent: MappedExtent) -> Result<()>;

    /// Maps blocks beside others that are about to be [removed](Self::remove), as [`insert`](Self::insert) does, but out of
    /// what the store keeps in reserve.
    fn insert_in_place(&self, file: FileNumber, extent: MappedExtent) -> Result<()> {
        self.insert(file, extent)
    }

    /// Gives every mapped block of `range` the state `to`; holes stay holes.
    ///
    /// # Errors
    /// [`Error::NoSpace`](crate::Error::NoSpace) when an extent would have to be split and the store has
    /// no room for the pieces. The caller then zeroes blocks instead (see `delalloc`).
    fn convert(&self, file: FileNumber, range: FileRange, to: ExtentState) -> Result<()>;

    /// Unmaps `range` and returns the extents, cut to the range, that were mapped there.
    ///
    /// A store keeps some room in reserve for the splits that this may take.
    ///
    /// # Errors
    /// [`Error::NoSpace`](crate::Error::NoSpace) when an extent would have to be split and the reserve is used up too.
    fn remove(&self, file: FileNumber, range: FileRange) -> Result<Vec<MappedExtent>>;

    /// Moves every mapping from block `from` on; an extent that contains `from` is split there.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) when extents would be moved over others or before block
    /// 0, [`Error::FileTooBig`](crate::Error::FileTooBig) when they would be moved past the last block.
    fn shift(&self, file: FileNumber, from: FileBlock, shift: Shift) -> Result<()>;

    /// The size in bytes that a crash would leave the file with.
    fn size(&self, file: FileNumber) -> Result<u64>;

    /// Sets that size.
    fn set_size(&self, file: FileNumber, bytes: u64) -> Result<()>;

    /// Raises that size to `bytes` if it is smaller, in one step: writeback and a call that grows the
    /// file may both do so at once.
    fn extend_size(&self, file: FileNumber, bytes: u64) -> Result<()>;

    /// The bytes of a file that lives inside the store, which has no extents then; `None` when its data lives in
    /// blocks.
    fn inline_data(&self, file: FileNumber) -> Result<Option<Arc<[u8]>>>;

    /// Replaces the inline bytes of a file and sets its size to their number; `None` ends its inline
    /// life and leaves the size alone.
    fn set_inline_data(&self, file: FileNumber, bytes: Option<Arc<[u8]>>) -> Result<()>;

    /// Every file the store knows, in order.
    fn files(&self) -> Result<Vec<FileNumber>>;

    /// Where the files of the store may have their blocks; `None` for a store that takes whatever it is given.
    fn layout(&self) -> Option<VolumeLayout> {
        None
    }

    /// Makes durable what `data` has completed before this call, and then everything done here so far: the data of a
    /// block comes before the mapping that exposes it.
    fn commit(&self, data: &BlockQueue) -> Result<()>;

    /// Keeps changes together: those that are made until what this returns is dropped become durable in one step. A
    /// commit waits for that, so nobody may commit meanwhile, or wait for somebody who does.
    fn together(&self) -> Together<'_> {
        Together::default()
    }

    /// The number of the change that everything done so far belongs to, or an earlier one; `None` for a store of which
    /// nothing survives, so that nothing must wait for a commit.
    fn running_change(&self) -> Option<u64> {
        None
    }

    /// The number of the last change that a [`commit`](Self::commit) has made durable.
    fn durable_change(&self) -> u64 {
        0
    }
}
