//! Delayed allocation under your own page cache: a write promises space, writeback finds one place for all of it.
//!
//! `cargo run --release --example delalloc`

use std::collections::BTreeMap;
use std::sync::Arc;

use extent_map::delalloc::{Backing, DirtyRun, FileBlocks};
use extent_map::units::*;
use extent_map::{Error, Result, allocator::Allocator, block::BlockQueue};
use extent_map::{device::MemoryDevice, mapping::MemoryStore};

/// A file and its dirty pages. Its owner has it alone, so there is no need for inode and folio locks.
struct CachedFile {
    blocks: FileBlocks,
    dirty: BTreeMap<FileBlock, Arc<[u8]>>,
}

impl CachedFile {
    fn write(&mut self, block: u64, byte: u8) -> Result<()> {
        let range = FileRange::at(FileBlock(block), 1);
        self.blocks.admit(range)?; // the only step that can find no space
        self.dirty.insert(range.start(), Arc::new([byte; 4096]));
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        let all = FileRange::starting_at(FileBlock(0)); // so in one piece
        if let Some(unplaced) = self.blocks.place(all).pop() {
            return Err(unplaced.error); // its promise is kept: try again
        }
        let runs = self.dirty.iter().map(|(block, page)| DirtyRun {
            range: FileRange::at(*block, 1),
            bytes: Arc::clone(page).into(), // shared with the device, not copied
        });
        for piece in self.blocks.send(runs.collect()).make_readable() {
            piece.outcome?; // else its pages stay dirty
        }
        self.dirty.clear();
        Ok(())
    }
}

fn main() -> Result<()> {
    let geometry = Geometry::new(4096, 1)?;
    let allocator = Allocator::new(256, geometry, 256, DiskBlock(1))?;
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let queue = BlockQueue::new(device, geometry.block_size, Arc::default());
    let store = Arc::new(MemoryStore::new());
    let backing = Arc::new(Backing::new(queue, store, allocator));
    let blocks = FileBlocks::open(FileNumber(1), Arc::clone(&backing))?;
    let dirty = BTreeMap::new();
    let mut file = CachedFile { blocks, dirty };
    let promised = || backing.allocator.space().promised();
    (0..100).try_for_each(|n| file.write(n * 37 % 100, n as u8))?; // 0, 37, 74, 11 ...
    assert_eq!((promised(), file.blocks.allocated_clusters()), (100, 0));
    file.sync()?;
    let (extents, stats) = (file.blocks.extents()?, backing.counters.snapshot());
    let counts = [stats.delayed_runs_placed, stats.device_requests];
    println!("synced:  {extents:?}; allocations and commands: {counts:?}");
    assert_eq!((extents.len(), counts), (1, [1, 1]));
    let refused = (100..).find_map(|block| file.write(block, 1).err());
    println!("full:    {refused:?}; {} blocks promised", promised());
    assert!(refused == Some(Error::NoSpace) && file.blocks.clusters() == 255);
    file.blocks.truncate(FileBlock(100))?; // promises end with their blocks
    assert_eq!((promised(), file.blocks.clusters()), (0, 100));
    Ok(())
}
