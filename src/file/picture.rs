//! A picture of a whole volume at one instant, for the invariant checker.

use crate::error::Result;
use crate::mapping::{ExtentState, MappedExtent, Mapping};
use crate::status::StatusExtent;
use crate::units::{DiskRun, FileBlock, FileNumber, FileRange, Geometry};

use super::inode::Inode;
use super::{File, Statfs, Volume};

/// What a volume keeps in memory and in its mapping store.
#[derive(Clone, Debug)]
pub(crate) struct VolumePicture {
    pub(crate) geometry: Geometry,
    pub(crate) statfs: Statfs,
    /// What the allocator says about itself.
    pub(crate) allocator: Result<()>,
    /// The runs that are not free.
    pub(crate) allocated: Vec<DiskRun>,
    /// How many clusters of them were freed, which is not durable yet.
    pub(crate) held_back_clusters: u64,
    /// The mapping of every file that the store knows, opened or not.
    pub(crate) mapped: Vec<(FileNumber, Vec<MappedExtent>)>,
    /// Every file that was opened.
    pub(crate) files: Vec<FilePicture>,
}

/// What is kept for one opened file.
#[derive(Clone, Debug)]
pub(crate) struct FilePicture {
    pub(crate) number: FileNumber,
    pub(crate) size: u64,
    pub(crate) stored_size: u64,
    pub(crate) inline: bool,
    pub(crate) mapped: Vec<MappedExtent>,
    pub(crate) status: Vec<StatusExtent>,
    pub(crate) entry_count: u64,
    pub(crate) reclaimable_count: u64,
    pub(crate) pending: Vec<u64>,
    pub(crate) reserved_clusters: u64,
    pub(crate) allocated_clusters: u64,
    pub(crate) cached: Vec<CachedBlock>,
}

/// A block in the page cache.
#[derive(Clone, Debug)]
pub(crate) struct CachedBlock {
    pub(crate) block: FileBlock,
    pub(crate) bytes: Vec<u8>,
    /// What the block reads as on the volume; `None` when the device fails.
    pub(crate) stored: Option<Vec<u8>>,
    pub(crate) valid: bool,
    pub(crate) dirty: bool,
}

impl Volume {
    /// Takes a picture, with the inode, invalidate and writeback locks of every opened file held: no
    /// operation is half done in it.
    pub(crate) fn picture(&self) -> Result<VolumePicture> {
        let _no_new_files = self.opening.lock();
        let inodes = self.inodes();
        // Locks of one kind in order of number, then those of the next.
        let _no_calls: Vec<_> = inodes.iter().map(|i| i.inode_lock.write()).collect();
        let _no_filling: Vec<_> = inodes.iter().map(|i| i.invalidate_lock.write()).collect();
        let _no_writeback: Vec<_> = inodes.iter().map(|i| i.writeback_lock.lock()).collect();
        let store = &self.backing.store;
        let mapping = |file| {
            Ok((
                file,
                store.extents(file, FileRange::starting_at(FileBlock(0)))?,
            ))
        };
        Ok(VolumePicture {
            geometry: self.backing.geometry,
            statfs: self.statfs(),
            allocator: self.backing.allocator.check(),
            allocated: self.backing.allocator.allocated_runs(),
            held_back_clusters: self.backing.held_back_clusters(),
            mapped: store
                .files()?
                .into_iter()
                .map(mapping)
                .collect::<Result<_>>()?,
            files: inodes
                .iter()
                .map(|inode| inode.picture())
                .collect::<Result<_>>()?,
        })
    }
}

impl File {
    /// How often the file's mapping has changed; see
    /// [`StatusTree::change_counter`](crate::status::StatusTree::change_counter).
    pub(crate) fn change_counter(&self) -> u64 {
        self.inode.blocks.status().change_counter()
    }
}

impl Inode {
    fn picture(&self) -> Result<FilePicture> {
        let everything = FileRange::starting_at(FileBlock(0));
        let status = self.blocks.status();
        // A statement of its own, which releases the tree's lock: folio locks are taken further down.
        let pending = status.edit().pending_clusters().collect();
        Ok(FilePicture {
            number: self.number,
            size: self.size(),
            stored_size: self.store().size(self.number)?,
            inline: self.blocks.inline_data()?.is_some(),
            mapped: self.store().extents(self.number, everything)?,
            status: status.extents(everything),
            entry_count: status.entry_count(),
            reclaimable_count: status.reclaimable_count(),
            pending,
            reserved_clusters: self.blocks.reserved_clusters(),
            allocated_clusters: self.blocks.allocated_clusters(),
            cached: self.cached_blocks()?,
        })
    }

    fn cached_blocks(&self) -> Result<Vec<CachedBlock>> {
        let len = self.block_size().bytes() as usize;
        let mut cached = Vec::new();
        for page in self.pages.existing(0..u64::MAX, usize::MAX) {
            let state = page.lock();
            for (bit, block) in page.blocks(self.block_size()).blocks().enumerate() {
                cached.push(CachedBlock {
                    block,
                    bytes: state.bytes[bit * len..(bit + 1) * len].to_vec(),
                    stored: self.stored_bytes(block)?,
                    valid: state.valid & 1 << bit != 0,
                    dirty: state.dirty() & 1 << bit != 0,
                });
            }
        }
        Ok(cached)
    }

    fn stored_bytes(&self, block: FileBlock) -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; self.block_size().bytes() as usize];
        Ok(match self.store().query(self.number, block)? {
            Mapping::Mapped(extent) if extent.state == ExtentState::Written => {
                let read = self.backing.queue.read(extent.disk_of(block), &mut bytes);
                read.is_ok().then_some(bytes)
            }
            _ => Some(bytes),
        })
    }
}
