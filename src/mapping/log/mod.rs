//! A mapping store that survives crashes: the mapping in memory, a log of its changes and two images on the device.
//!
//! Promises, for a device that writes each sector of 512 bytes whole or not at all:
//!
//! 1. After a crash the mapping is that of a commit which had begun: of the last one that returned, or a later one. Changes
//!    made [`together`](MappingStore::together) are there together or not at all.
//! 2. The data of a block is durable before a mapping that says it is written.
//! 3. What a device no longer holds as it was written is an [`Error::Corrupt`], not another mapping; but for a sector of the
//!    last transaction that reads as zeros or as in an earlier generation: that is what a torn write looks like, and the
//!    transaction counts as never written.
//!
//! # How
//! Every change is applied in memory and its record appended to the running change. A commit closes the running
//! change and writes it as one *transaction* into the log, behind the one before it; callers that arrive meanwhile share the
//! next. Three things must not be reordered by the device, so there are two flushes: the data of the files, *flush*, the
//! transaction, *flush*, the answer. Within one transaction the device may do what it likes: its sectors are tagged, and
//! without all of them it counts for nothing.
//!
//! When the log is full, or what it holds is in doubt (a write failed, or a crash came before), the commit is a *checkpoint*:
//! the image that is not in use is written, *flush*, then a copy of the superblock that names it, *flush*, then the other,
//! *flush*. The log begins anew, under a new generation number: sectors of earlier ones are as good as empty. Until the first
//! copy is durable the old image and the old log hold; nothing of either is overwritten before both copies are.
//!
//! Free space is not stored: it is what no file has. So there is nothing that could contradict it.
//!
//! `ARCHITECTURE.md` has the format byte by byte.

mod commit;
mod finding;
mod image;
mod layout;
mod record;
mod recover;
mod sector;
mod superblock;
mod wire;

use std::fmt;
use std::sync::Arc;

use crate::block::BlockQueue;
use crate::device::BlockDevice;
use crate::error::{Error, Result};
use crate::probe::{Mutation, Probe};
use crate::sync::atomic::AtomicU64;
use crate::sync::{Mutex, Rank, RwLock, uncounted};
use crate::units::{DiskBlock, FileBlock, FileNumber, FileRange, Geometry, MAX_FILE_BLOCKS};

use super::table::FileTable;
use super::{ExtentState, MappedExtent, Mapping, MappingStore, Shift, Together, VolumeLayout};

pub use finding::Finding;

use commit::{Running, Tail};
use layout::{Layout, UNIT};
use record::Change;
use recover::Recovered;
use superblock::{ImageSummary, Superblock};

/// A [`MappingStore`] on a device: that of the data, which lies behind the store's own blocks, or another one of that size. It keeps the whole mapping in memory, as [`MemoryStore`](super::MemoryStore) does, and
/// never reads what it has written until it is opened again.
///
/// A volume's mapping is limited by the size of an image, 1/256 of the device (16 KiB at least, 256 MiB at most): what would need more fails with
/// [`Error::NoSpace`]. An eighth of that is kept for changes that only remove, move or resize; they fail when
/// that is used up too. An extent without blocks, or from disk block 2^63 on, and more inline bytes than a page are an
/// [`Error::InvalidInput`].
pub struct LogStore {
    device: Arc<dyn BlockDevice>,
    geometry: Geometry,
    device_bytes: u64,
    layout: Layout,
    table: FileTable,
    /// Exclusive: the right to commit, held over its I/O. Shared: waits for the commit under way.
    tail: RwLock<Tail>,
    /// Shared: changes are being made that belong together. Exclusive: the running change is closed.
    together: RwLock<()>,
    running: Mutex<Running>,
    /// How many callers are inside a commit: a hint for how long to wait for others.
    committing: uncounted::AtomicU64,
    /// The number of the last change that is durable.
    durable: AtomicU64,
    probe: Probe,
}

impl fmt::Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore")
            .field("files", &self.table.len())
            .field("geometry", &self.geometry)
            .finish_non_exhaustive()
    }
}

impl LogStore {
    /// Writes an empty store to `device`, whatever was there.
    ///
    /// # Errors
    /// [`Error::DeviceTooSmall`] when not one cluster would be left for files, [`Error::NotSupported`] when it would be more
    /// than [`MAX_VOLUME_CLUSTERS`](crate::units::MAX_VOLUME_CLUSTERS); [`Error::Io`].
    pub fn format(device: Arc<dyn BlockDevice>, geometry: Geometry) -> Result<Self> {
        let device_bytes = device.size();
        let layout = Layout::of(device_bytes);
        let (have, need) = (device_bytes, layout.least_device(geometry));
        if have < need {
            return Err(Error::DeviceTooSmall { have, need });
        }
        layout.check_clusters(device_bytes, geometry)?;
        // The copies of a smaller volume lie elsewhere.
        let before =
            recover::superblocks(&*device).map_or_else(|_| layout.clone(), |found| found.1);
        for copy in before.superblocks.into_iter().chain(layout.superblocks) {
            device.write_zeroes(copy, UNIT)?;
        }
        // What was a volume ends before anything of it does, and no sector of its log is taken for one of the new.
        device.flush()?;
        device.write_zeroes(layout.log.start, layout.log.end - layout.log.start)?;
        let superblock = Superblock {
            geometry,
            device_bytes,
            generation: 1,
            image: ImageSummary::default(),
        };
        device.flush()?;
        for copy in layout.superblocks {
            device.write_at(copy, &superblock.encode())?;
            device.flush()?;
        }
        let store = Recovered::empty(superblock, layout);
        Ok(Self::of(device, store))
    }

    /// Opens the store on `device`, recovers what a crash has left, and makes durable what it has found. Writes nothing;
    /// the first commit makes a checkpoint where that was necessary.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is no store, or not all of one; [`Error::NotSupported`] for another format
    /// version, or more than [`MAX_VOLUME_CLUSTERS`](crate::units::MAX_VOLUME_CLUSTERS); [`Error::Io`].
    pub fn open(device: Arc<dyn BlockDevice>) -> Result<Self> {
        Self::open_probed(device, Probe::default())
    }

    pub(crate) fn open_probed(device: Arc<dyn BlockDevice>, probe: Probe) -> Result<Self> {
        let recovered = recover::recover(&*device, &probe)?;
        // A process that was killed may have left it in the device's cache, and what it frees will be used again.
        device.flush()?;
        let contradicts = |finding: &Finding| !matches!(finding, Finding::DamagedSuperblock { .. });
        let looks = !probe.is(Mutation::OpenContradictions);
        if looks && recovered.findings().iter().any(contradicts) {
            return Err(Error::Corrupt("the mapping contradicts itself"));
        }
        Ok(Self::of(device, recovered).probed(probe))
    }

    /// What is wrong with the store on `device`; nothing, if it is as it should be. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Io`] when the device cannot be read.
    pub fn check(device: &dyn BlockDevice) -> Result<Vec<Finding>> {
        match recover::recover(device, &Probe::default()) {
            Ok(recovered) => Ok(recovered.findings()),
            Err(error @ Error::Io(_)) => Err(error),
            Err(error) => Ok(vec![Finding::Unreadable(error)]),
        }
    }

    fn of(device: Arc<dyn BlockDevice>, recovered: Recovered) -> Self {
        let table = FileTable::default();
        let mut image_bytes = 0;
        for (number, file) in recovered.files {
            image_bytes += image::bytes_of(&file);
            table.put(number, file);
        }
        Self {
            device,
            geometry: recovered.superblock.geometry,
            device_bytes: recovered.superblock.device_bytes,
            layout: recovered.layout,
            table,
            tail: RwLock::new(
                Rank::Committing,
                Tail::behind(recovered.superblock, recovered.in_doubt),
            ),
            together: RwLock::new(Rank::Together, ()),
            running: Mutex::new(Rank::Running, Running::with(image_bytes)),
            committing: uncounted::AtomicU64::new(0),
            durable: AtomicU64::new(0),
            probe: Probe::default(),
        }
    }

    /// The same with something changed.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_probe(self, probe: Probe) -> Self {
        self.probed(probe)
    }

    /// The same; a test may change something.
    pub(crate) fn probed(self, probe: Probe) -> Self {
        Self { probe, ..self }
    }

    /// Block and cluster size of the volume.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// What the volume uses of its device, which may have grown since.
    pub fn device_bytes(&self) -> u64 {
        self.device_bytes
    }

    /// The first block that files may use.
    pub fn first_usable(&self) -> DiskBlock {
        Self::first_usable_of(self.device_bytes, self.geometry)
    }

    /// The same of a volume that is not formatted yet.
    pub(crate) fn first_usable_of(device_bytes: u64, geometry: Geometry) -> DiskBlock {
        DiskBlock(Layout::of(device_bytes).end / geometry.block_size.bytes())
    }

    fn change(&self, file: FileNumber, change: &Change) -> Result<Vec<MappedExtent>> {
        change.check()?;
        self.table.change(file, |record| {
            let before = record.state();
            let (after, removed) = change.apply(&before)?;
            let moved = change.moves(&before);
            let mut running = self.running.lock();
            running.add(file, change, &before, &after, &self.layout)?;
            running.moved += moved;
            // Before the lock is given back: a checkpoint sees what the running change has, and no more.
            record.publish(after);
            Ok(removed)
        })
    }
}

/// What of `range` a file can have.
fn possible(range: FileRange) -> FileRange {
    range.intersect(FileRange::starting_at(FileBlock(0)))
}

impl MappingStore for LogStore {
    fn query(&self, file: FileNumber, block: FileBlock) -> Result<Mapping> {
        Ok(self.table.query(file, block))
    }

    fn last_before(&self, file: FileNumber, block: FileBlock) -> Result<Option<MappedExtent>> {
        Ok(self.table.last_before(file, block))
    }

    fn extents(&self, file: FileNumber, range: FileRange) -> Result<Vec<MappedExtent>> {
        Ok(self.table.extents(file, range))
    }

    fn insert(&self, file: FileNumber, extent: MappedExtent) -> Result<()> {
        self.change(file, &Change::Insert(extent)).map(drop)
    }

    fn insert_in_place(&self, file: FileNumber, extent: MappedExtent) -> Result<()> {
        self.change(file, &Change::InsertInPlace(extent)).map(drop)
    }

    fn convert(&self, file: FileNumber, range: FileRange, to: ExtentState) -> Result<()> {
        self.change(file, &Change::Convert(possible(range), to))
            .map(drop)
    }

    fn remove(&self, file: FileNumber, range: FileRange) -> Result<Vec<MappedExtent>> {
        self.change(file, &Change::Remove(possible(range)))
    }

    fn shift(&self, file: FileNumber, from: FileBlock, shift: Shift) -> Result<()> {
        let from = FileBlock(from.0.min(MAX_FILE_BLOCKS));
        self.change(file, &Change::Shift(from, shift)).map(drop)
    }

    fn size(&self, file: FileNumber) -> Result<u64> {
        Ok(self.table.size(file))
    }

    fn set_size(&self, file: FileNumber, bytes: u64) -> Result<()> {
        self.change(file, &Change::Resize(bytes)).map(drop)
    }

    fn extend_size(&self, file: FileNumber, bytes: u64) -> Result<()> {
        match self.table.size(file) >= bytes {
            true => Ok(()),
            false => self.change(file, &Change::Extend(bytes)).map(drop),
        }
    }

    fn inline_data(&self, file: FileNumber) -> Result<Option<Arc<[u8]>>> {
        Ok(self.table.inline_data(file))
    }

    fn set_inline_data(&self, file: FileNumber, bytes: Option<Arc<[u8]>>) -> Result<()> {
        self.change(file, &Change::Inline(bytes)).map(drop)
    }

    fn files(&self) -> Result<Vec<FileNumber>> {
        Ok(self.table.numbers())
    }

    fn layout(&self) -> Option<VolumeLayout> {
        Some(VolumeLayout {
            geometry: self.geometry,
            device_bytes: self.device_bytes,
            first_usable: self.first_usable(),
        })
    }

    fn commit(&self, data: &BlockQueue) -> Result<()> {
        self.commit_with(data)
    }

    fn together(&self) -> Together<'_> {
        match self.probe.is(Mutation::CommitInBetween) {
            false => Together::holding(self.together.read()),
            true => Together::default(),
        }
    }

    fn running_change(&self) -> Option<u64> {
        Some(self.running.lock().number)
    }

    fn durable_change(&self) -> u64 {
        self.durable_number()
    }
}
