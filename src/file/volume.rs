//! A volume: a device, what is free on it, and its files.

use std::fmt;
use std::ops::Range;

use crossbeam_skiplist::SkipMap;
use rayon::prelude::*;

use crate::allocator::Allocator;
use crate::block::BlockQueue;
use crate::delalloc::Backing;
use crate::device::BlockDevice;
use crate::error::{Error, Result};
use crate::mapping::{Finding, LogStore, MappingStore, MemoryStore, VolumeLayout};
use crate::probe::Mutation;
use crate::spans::span;
use crate::stats::Stats;
use crate::status::ShrinkOutcome;
use crate::sync::{Arc, Mutex, Rank};
use crate::units::{BlockSize, DiskBlock, DiskRun, FileBlock, FileNumber, FileRange, PAGE_SIZE};

use super::background::{Background, Files, WhileOpen};
use super::error_sequence::ErrorSequence;
use super::inode::Inode;
use super::memory::PageMemory;
use super::{File, VolumeOptions};

/// Space of a volume, in blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Statfs {
    /// Bytes in one block.
    pub block_size: u64,
    /// Blocks that files can ever have.
    pub blocks: u64,
    /// Blocks that are neither allocated nor promised; those included that can be used as soon as it is durable that
    /// they were freed.
    pub free_blocks: u64,
    /// Blocks promised to delayed data (whole clusters).
    pub delayed_blocks: u64,
    /// Files that were ever opened.
    pub files: u64,
}

/// A volume of files over a block device. All methods may be called from any thread at any time.
pub struct Volume {
    /// Before the rest: it ends first.
    background: WhileOpen,
    pub(super) backing: Arc<Backing>,
    /// Entries are inserted once and never replaced.
    files: Arc<Files>,
    /// Shared with the files.
    flush_errors: Arc<ErrorSequence>,
    inline_limit: u64,
    /// Held while a file is opened for the first time.
    pub(super) opening: Mutex<()>,
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume")
            .field("statfs", &self.statfs())
            .finish_non_exhaustive()
    }
}

impl Volume {
    /// Makes an empty volume on `device`, with its mapping kept in memory.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for options that make no sense, also on this device: blocks that are no multiple of its
    /// [alignment](crate::device::Limits::alignment), or larger than what it takes at once; [`Error::DeviceTooSmall`].
    pub fn format(device: Arc<dyn BlockDevice>, options: &VolumeOptions) -> Result<Self> {
        let store = MemoryStore::new().probed(options.probe.clone());
        Self::with_store(device, Arc::new(store), options)
    }

    /// Makes an empty volume on `device`, with its mapping kept there too: it can be closed and [opened](Self::open)
    /// again, and survives a crash. What was on the device is lost.
    ///
    /// After a crash a file is as the last sync of it left it that has returned, or as it was later. The mapping takes
    /// about a hundredth of the device, and 56 KiB at least; how many extents that is enough for, says
    /// [`limitations`](crate::guide::limitations).
    ///
    /// # Errors
    /// As [`format`](Self::format); those of the device.
    pub fn format_persistent(
        device: Arc<dyn BlockDevice>,
        options: &VolumeOptions,
    ) -> Result<Self> {
        let (bytes, geometry) = (device.size(), options.geometry()?);
        Self::check_limits(&*device, geometry.block_size)?;
        // Where there can be no volume, what is on the device is left alone.
        Self::allocator(bytes, LogStore::first_usable_of(bytes, geometry), options)?;
        let store = LogStore::format(Arc::clone(&device), geometry)?;
        let store = store.probed(options.probe.clone());
        Self::with_store(device, Arc::new(store), options)
    }

    /// Opens the volume that [`format_persistent`](Self::format_persistent) made on `device`, as it was closed or as a crash
    /// has left it. Block and cluster size are the volume's own, whatever `options` say. Nobody else may have
    /// the volume open.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the device holds no volume or a damaged one; [`Error::NotSupported`] for another
    /// format version, and for more than [`MAX_VOLUME_CLUSTERS`](crate::units::MAX_VOLUME_CLUSTERS);
    /// [`Error::InvalidInput`] where the device does not take blocks as small, or as large, as the volume's; those of
    /// the device.
    pub fn open(device: Arc<dyn BlockDevice>, options: &VolumeOptions) -> Result<Self> {
        span!(DEBUG, "open_volume");
        let store = LogStore::open_probed(Arc::clone(&device), options.probe.clone())?;
        Self::with_store(device, Arc::new(store), options)
    }

    /// What is wrong with the volume on `device`, which nobody has open: `fsck`. Nothing, if all is well. Changes nothing.
    ///
    /// # Errors
    /// Those of the device.
    pub fn check(device: &dyn BlockDevice) -> Result<Vec<Finding>> {
        LogStore::check(device)
    }

    /// Makes a volume on `device` whose files are those of `store`. Their blocks are marked allocated. What the store has
    /// [decided](MappingStore::layout), block size and usable blocks, holds whatever `options` say.
    ///
    /// # Errors
    /// As [`format`](Self::format); those of the store; [`Error::Corrupt`] when two files of the store
    /// claim one cluster, or one that the device does not have, and when a file is longer than one can be, or lives
    /// inside the store and is longer than a page.
    pub fn with_store(
        device: Arc<dyn BlockDevice>,
        store: Arc<dyn MappingStore>,
        options: &VolumeOptions,
    ) -> Result<Self> {
        let layout = match store.layout() {
            Some(layout) => layout,
            None => VolumeLayout {
                geometry: options.geometry()?,
                device_bytes: device.size(),
                // The first cluster is the volume's own: no file block lives at disk block 0.
                first_usable: DiskBlock(options.geometry()?.cluster.blocks()),
            },
        };
        let (have, need) = (device.size(), layout.device_bytes);
        if have < need {
            return Err(Error::DeviceTooSmall { have, need });
        }
        let geometry = layout.geometry;
        let options = options
            .clone()
            .block_size(geometry.block_size.bytes())
            .cluster_blocks(geometry.cluster.blocks());
        Self::check_limits(&*device, geometry.block_size)?;
        for file in store.files()? {
            let inline = store.inline_data(file)?.map_or(0, |bytes| bytes.len());
            if inline as u64 > PAGE_SIZE || store.size(file)? > geometry.max_file_size() {
                return Err(Error::Corrupt("a file is longer than one can be"));
            }
        }
        let allocator = Self::allocator(layout.device_bytes, layout.first_usable, &options)?;
        Self::assemble(device, store, allocator, &options)
    }

    /// Fails where the device would refuse every command that is a whole number of blocks, or some of them.
    fn check_limits(device: &dyn BlockDevice, block: BlockSize) -> Result<()> {
        let (limits, block) = (device.limits(), block.bytes());
        // A device without an alignment may as well say 0.
        if !block.is_multiple_of(limits.alignment.max(1) as u64) {
            return Err(Error::InvalidInput(
                "blocks are no multiple of the device's alignment",
            ));
        }
        match limits.max_bytes < block {
            true => Err(Error::InvalidInput("the device takes less than a block")),
            false => Ok(()),
        }
    }

    /// The space of a volume on the first `bytes` bytes of a device, of which files may use what lies behind
    /// `first_usable`; fails if there can be no such volume.
    fn allocator(
        bytes: u64,
        first_usable: DiskBlock,
        options: &VolumeOptions,
    ) -> Result<Allocator> {
        let geometry = options.geometry()?;
        if options.inline_limit > PAGE_SIZE {
            return Err(Error::InvalidInput("inline data is limited to one page"));
        }
        let own = geometry.cluster.clusters_for(first_usable.0);
        let (have, need) = (bytes, (own + 1) * geometry.cluster_bytes());
        if have < need {
            return Err(Error::DeviceTooSmall { have, need });
        }
        let blocks = have / geometry.block_size.bytes();
        let allocator = Allocator::new(blocks, geometry, options.group_clusters, first_usable)?;
        Ok(allocator.probed(options.probe.clone()))
    }

    /// A volume on `device` with the files of `store` and the space of `allocator`.
    fn assemble(
        device: Arc<dyn BlockDevice>,
        store: Arc<dyn MappingStore>,
        allocator: Allocator,
        options: &VolumeOptions,
    ) -> Result<Self> {
        let queue = BlockQueue::new(device, allocator.geometry().block_size, Arc::default());
        let mut backing = Backing::new(queue, store, allocator);
        backing.policy.delayed = options.delayed;
        if let Some(clusters) = options.low_space_clusters {
            backing.policy.low_space_clusters = clusters;
        }
        let files = Arc::new(SkipMap::new());
        let background = Arc::new(Background::new(
            Arc::new(PageMemory::new(
                options.cached_pages,
                Arc::clone(&backing.counters),
                backing.probe.clone(),
            )),
            options.dirty_limits(),
            Arc::downgrade(&files),
            Arc::clone(&backing.counters),
            backing.probe.clone(),
        ));
        let volume = Self {
            backing: Arc::new(backing),
            files,
            background: WhileOpen(background),
            flush_errors: Arc::default(),
            inline_limit: options.inline_limit,
            opening: Mutex::new(Rank::Opening, ()),
        };
        volume.claim_stored_blocks()?;
        Ok(volume)
    }

    /// Marks allocated what the files of the store have.
    fn claim_stored_blocks(&self) -> Result<()> {
        let cluster = self.backing.geometry.cluster;
        for file in self.backing.store.files()? {
            let everything = FileRange::starting_at(FileBlock(0));
            let mut claimed_to = FileBlock(0);
            for extent in self.backing.store.extents(file, everything)? {
                let whole = cluster.align_out(extent.range);
                let fresh = FileRange::new(whole.start().max(claimed_to), whole.end());
                if fresh.is_empty() {
                    continue;
                }
                let first = extent
                    .disk
                    .0
                    .checked_sub(cluster.offset_in_cluster(extent.range.start()));
                let Some(first) = first else {
                    return Err(Error::Corrupt(
                        "an extent starts in the middle of a cluster",
                    ));
                };
                let start = DiskBlock(first).advance(fresh.start().0 - whole.start().0);
                self.backing
                    .allocator
                    .claim(DiskRun::new(start, fresh.len()))?;
                claimed_to = whole.end();
            }
        }
        Ok(())
    }

    /// Opens the file of that number, making an empty one if the volume has none.
    ///
    /// # Errors
    /// Those of the mapping store.
    pub fn file(&self, number: FileNumber) -> Result<File> {
        let known = || Some(File::open(Arc::clone(self.files.get(&number)?.value())));
        if let Some(file) = known() {
            return Ok(file);
        }
        let _one_at_a_time = self.opening.lock();
        if let Some(file) = known() {
            return Ok(file);
        }
        let (backing, flush_errors) = (self.backing.clone(), self.flush_errors.clone());
        let background = Arc::clone(&self.background.0);
        let inode = Inode::open(number, backing, flush_errors, background, self.inline_limit)?;
        let inode = Arc::new(inode);
        self.files.insert(number, Arc::clone(&inode));
        Ok(File::open(inode))
    }

    /// The numbers of the files that have bytes or blocks, in order. Takes as long as there are files.
    ///
    /// # Errors
    /// Those of the mapping store.
    pub fn files(&self) -> Result<Vec<FileNumber>> {
        let mut numbers = self.backing.store.files()?;
        numbers.extend(self.files.iter().map(|entry| *entry.key()));
        numbers.sort_unstable();
        numbers.dedup();
        let mut files = Vec::with_capacity(numbers.len());
        for number in numbers {
            if self.has_content(number)? {
                files.push(number);
            }
        }
        Ok(files)
    }

    fn has_content(&self, number: FileNumber) -> Result<bool> {
        let store = &self.backing.store;
        let size = match self.files.get(&number) {
            Some(open) => open.value().size(),
            None => store.size(number)?,
        };
        let everything = FileRange::starting_at(FileBlock(0));
        Ok(size > 0 || !store.extents(number, everything)?.is_empty())
    }

    /// Looks at up to `max_scan` entries of the files' status trees, tree by tree, and forgets those that
    /// were not used lately and can be found again, as memory pressure does. Answers do not change.
    pub fn shrink_status(&self, max_scan: u64) -> ShrinkOutcome {
        self.backing.shrinker.shrink(max_scan)
    }

    /// Space of the volume now.
    pub fn statfs(&self) -> Statfs {
        let cluster = self.backing.geometry.cluster.blocks();
        let space = self.backing.allocator.space();
        // Seen later than the rest: what was promised then may have been placed and freed since.
        let held_back = self.backing.held_back_clusters().min(space.used());
        Statfs {
            block_size: self.backing.geometry.block_size.bytes(),
            blocks: space.total() * cluster,
            free_blocks: (space.available() + held_back) * cluster,
            delayed_blocks: space.promised() * cluster,
            files: self.files.len() as u64,
        }
    }

    /// Tells the device which free runs of at least `minimum` bytes lie in `range` (bytes of the device), as `fstrim`
    /// does; returns how many bytes that were. Both are rounded to whole clusters, inwards and up. A run cannot be
    /// allocated while the device discards it.
    ///
    /// # Errors
    /// Those of the device, which end the work.
    pub fn trim(&self, range: Range<u64>, minimum: u64) -> Result<u64> {
        let geometry = self.backing.geometry;
        let blocks = geometry
            .block_size
            .inside(range.start, range.end.max(range.start));
        let run = DiskRun::new(DiskBlock(blocks.start().0), blocks.len());
        let clusters = minimum.div_ceil(geometry.cluster_bytes());
        let trimmed = self
            .backing
            .allocator
            .discard(run, clusters, |run| self.backing.queue.discard(run))?;
        Ok(trimmed * geometry.block_size.bytes())
    }

    /// The volume's counters.
    pub fn stats(&self) -> Stats {
        self.backing.counters.snapshot()
    }

    /// Writes the dirty pages of all files back, several files at a time, and makes them durable.
    ///
    /// # Errors
    /// A writeback error that occurred meanwhile. Open files still hear of theirs.
    ///
    /// # Panics
    /// Where the system has no thread to give to the global pool of `rayon`, which the first use in a process starts.
    pub fn sync(&self) -> Result<()> {
        span!(DEBUG, "sync_volume");
        let inodes = self.inodes();
        let before: Vec<_> = inodes.iter().map(|inode| inode.errors.count()).collect();
        inodes
            .par_iter()
            .for_each(|inode| inode.write_back(0..u64::MAX));
        self.make_durable()?;
        inodes
            .iter()
            .zip(before)
            .try_for_each(|(inode, before)| inode.errors.since(before))
    }

    /// Writes everything back and forgets all cached pages and all knowledge of extents: what unmounting
    /// and mounting again does.
    ///
    /// # Errors
    /// A writeback error that occurred meanwhile. Pages that could not be given to the device stay.
    pub fn drop_caches(&self) -> Result<()> {
        span!(DEBUG, "drop_caches");
        let mut outcome = Ok(());
        for inode in self.inodes() {
            let _exclusive = inode.inode_lock.write();
            let _invalidating = inode.exclude_filling(Mutation::DropBesideFaults);
            let everything = FileRange::starting_at(FileBlock(0));
            outcome = outcome.and(inode.settle(0..u64::MAX));
            if inode.pages.first_dirty_run(everything).is_some() {
                continue;
            }
            inode.pages.drop_blocks(everything);
            inode.blocks.status().clear();
        }
        outcome.and(self.make_durable())
    }

    /// Makes what was written durable. If that fails, the data of any file may be lost, so every open file hears of
    /// it: the device may well say yes the next time it is asked.
    fn make_durable(&self) -> Result<()> {
        let durable = self.backing.make_durable();
        durable.inspect_err(|error| self.flush_errors.record(error.clone()))
    }

    /// Writes everything back and ends the volume. Dropping a volume without closing it loses what is
    /// not written back, and reports it; so is what an open file writes from now on, unless it is synced.
    ///
    /// # Errors
    /// A writeback error; [`Error::ReservationLeak`] when a file ends with promised space although
    /// nothing is left to write: an accounting defect.
    pub fn close(self) -> Result<Stats> {
        self.sync()?;
        for inode in self.inodes() {
            let clusters = inode.promised_for_nothing();
            if clusters > 0 {
                return Err(Error::ReservationLeak {
                    file: inode.number.0,
                    clusters,
                });
            }
        }
        Ok(self.stats())
    }

    /// Every file that was opened, in order of number.
    pub(super) fn inodes(&self) -> Vec<Arc<Inode>> {
        self.files
            .iter()
            .map(|entry| Arc::clone(entry.value()))
            .collect()
    }
}
