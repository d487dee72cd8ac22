//! The crate inside your own filesystem or virtual disk, step by step.
//!
//! Take the highest layer that fits. If you want files and do not mind our page cache, use a
//! [`Volume`](crate::file::Volume), perhaps over your own format ([step 1](#1-say-where-blocks-are)). If you have a page cache, use
//! [`FileBlocks`] under it ([step 2](#2-put-the-layers-together) and on). If you only want to know where blocks are, use an
//! [`ExtentMap`](crate::map::ExtentMap).
//!
//! # 1. Say where blocks are
//!
//! A [`MappingStore`] is the truth about files: which blocks they have, where, and whether those were ever written.
//! [`MemoryStore`] forgets, [`LogStore`] survives crashes, and yours speaks your format. This one has an entry for each block; it is
//! complete, and a volume runs on it:
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::{Arc, Mutex};
//!
//! use extent_map::block::BlockQueue;
//! use extent_map::device::MemoryDevice;
//! use extent_map::file::{Volume, VolumeOptions};
//! use extent_map::mapping::{ExtentState, MappedExtent, Mapping, MappingStore, Shift};
//! use extent_map::units::{DiskBlock, FileBlock, FileNumber, FileRange, MAX_FILE_BLOCKS};
//! use extent_map::{Error, Result};
//!
//! #[derive(Clone, Debug, Default)]
//! struct Inode {
//!     blocks: BTreeMap<u64, (u64, ExtentState)>,
//!     size: u64,
//! }
//!
//! impl Inode {
//!     /// Blocks that lie side by side in the file and on the disk are one extent.
//!     fn extents(&self) -> Vec<MappedExtent> {
//!         let mut all: Vec<MappedExtent> = Vec::new();
//!         for (&block, &(disk, state)) in &self.blocks {
//!             let (block, disk) = (FileBlock(block), DiskBlock(disk));
//!             match all.last_mut() {
//!                 Some(last) if (last.range.end(), last.run().end(), last.state) == (block, disk, state) => {
//!                     last.range = FileRange::at(last.range.start(), last.range.len() + 1);
//!                 }
//!                 _ => all.push(MappedExtent { range: FileRange::at(block, 1), disk, state }),
//!             }
//!         }
//!         all
//!     }
//! }
//!
//! #[derive(Debug, Default)]
//! struct BlockTable(Mutex<BTreeMap<FileNumber, Inode>>);
//!
//! impl BlockTable {
//!     /// One step: what fails changes nothing.
//!     fn change<T>(&self, file: FileNumber, change: impl FnOnce(&mut Inode) -> Result<T>) -> Result<T> {
//!         let mut files = self.0.lock().unwrap();
//!         let mut inode = files.get(&file).cloned().unwrap_or_default();
//!         let answer = change(&mut inode)?;
//!         files.insert(file, inode);
//!         Ok(answer)
//!     }
//!
//!     fn look(&self, file: FileNumber) -> Inode {
//!         self.0.lock().unwrap().get(&file).cloned().unwrap_or_default()
//!     }
//! }
//!
//! impl MappingStore for BlockTable {
//!     fn query(&self, file: FileNumber, block: FileBlock) -> Result<Mapping> {
//!         let mut hole = FileRange::starting_at(FileBlock(0));
//!         for extent in self.look(file).extents() {
//!             if extent.range.contains(block) {
//!                 return Ok(Mapping::Mapped(extent));
//!             } else if extent.range.start() > block {
//!                 hole = FileRange::new(hole.start(), extent.range.start());
//!                 break;
//!             }
//!             hole = FileRange::starting_at(extent.range.end());
//!         }
//!         Ok(Mapping::Hole(hole))
//!     }
//!
//!     fn last_before(&self, file: FileNumber, block: FileBlock) -> Result<Option<MappedExtent>> {
//!         let extents = self.look(file).extents();
//!         Ok(extents.into_iter().rfind(|extent| extent.range.start() < block))
//!     }
//!
//!     fn extents(&self, file: FileNumber, range: FileRange) -> Result<Vec<MappedExtent>> {
//!         let mut extents = self.look(file).extents();
//!         extents.retain(|extent| !extent.range.intersect(range).is_empty());
//!         Ok(extents)
//!     }
//!
//!     fn insert(&self, file: FileNumber, extent: MappedExtent) -> Result<()> {
//!         self.change(file, |inode| {
//!             for block in extent.range.blocks() {
//!                 let place = (extent.disk_of(block).0, extent.state);
//!                 if inode.blocks.insert(block.0, place).is_some() {
//!                     return Err(Error::Corrupt("a block that is mapped already"));
//!                 }
//!             }
//!             Ok(())
//!         })
//!     }
//!
//!     fn convert(&self, file: FileNumber, range: FileRange, to: ExtentState) -> Result<()> {
//!         self.change(file, |inode| {
//!             let blocks = inode.blocks.range_mut(range.start().0..range.end().0);
//!             blocks.for_each(|(_, (_, state))| *state = to);
//!             Ok(())
//!         })
//!     }
//!
//!     fn remove(&self, file: FileNumber, range: FileRange) -> Result<Vec<MappedExtent>> {
//!         self.change(file, |inode| {
//!             let mut gone = inode.blocks.split_off(&range.start().0);
//!             inode.blocks.append(&mut gone.split_off(&range.end().0));
//!             Ok(Inode { blocks: gone, size: 0 }.extents())
//!         })
//!     }
//!
//!     fn shift(&self, file: FileNumber, from: FileBlock, shift: Shift) -> Result<()> {
//!         self.change(file, |inode| {
//!             for (block, place) in inode.blocks.split_off(&from.0) {
//!                 let to = match shift {
//!                     Shift::Left(by) => block.checked_sub(by).ok_or(Error::Corrupt("before block 0"))?,
//!                     Shift::Right(by) => block + by,
//!                 };
//!                 if to >= MAX_FILE_BLOCKS {
//!                     return Err(Error::FileTooBig);
//!                 } else if inode.blocks.insert(to, place).is_some() {
//!                     return Err(Error::Corrupt("over another block"));
//!                 }
//!             }
//!             Ok(())
//!         })
//!     }
//!
//!     fn size(&self, file: FileNumber) -> Result<u64> {
//!         Ok(self.look(file).size)
//!     }
//!
//!     fn set_size(&self, file: FileNumber, bytes: u64) -> Result<()> {
//!         self.change(file, |inode| Ok(inode.size = bytes))
//!     }
//!
//!     fn extend_size(&self, file: FileNumber, bytes: u64) -> Result<()> {
//!         self.change(file, |inode| Ok(inode.size = inode.size.max(bytes)))
//!     }
//!
//!     fn inline_data(&self, _: FileNumber) -> Result<Option<Arc<[u8]>>> {
//!         Ok(None) // no file lives in its inode here
//!     }
//!
//!     fn set_inline_data(&self, _: FileNumber, bytes: Option<Arc<[u8]>>) -> Result<()> {
//!         bytes.map_or(Ok(()), |_| Err(Error::NotSupported("inline data")))
//!     }
//!
//!     fn files(&self) -> Result<Vec<FileNumber>> {
//!         Ok(self.0.lock().unwrap().keys().copied().collect())
//!     }
//!
//!     fn commit(&self, data: &BlockQueue) -> Result<()> {
//!         data.flush() // then write your own blocks, and flush again
//!     }
//! }
//!
//! let device = Arc::new(MemoryDevice::new(1 << 20));
//! let table = Arc::new(BlockTable::default());
//! let volume = Volume::with_store(device, table.clone(), &VolumeOptions::new())?;
//! let file = volume.file(FileNumber(1))?;
//! file.write_at(8192, &[7; 10_000])?;
//! assert!(table.look(FileNumber(1)).blocks.is_empty()); // promised only
//! file.sync_all()?;
//! assert_eq!(table.look(FileNumber(1)).extents().len(), 1);
//! assert_eq!(table.look(FileNumber(1)).size, 18_192);
//!
//! volume.drop_caches()?; // what is read now was found by way of the table
//! let mut bytes = [0; 10_000];
//! assert_eq!(file.read_at(8192, &mut bytes)?, 10_000);
//! assert_eq!(bytes, [7; 10_000]);
//! # use extent_map::file::AllocateMode;
//! # file.allocate(AllocateMode::CollapseRange, 0, 4096)?;
//! # file.set_len(5_000)?;
//! # volume.drop_caches()?;
//! # assert_eq!((file.read_at(0, &mut bytes)?, &bytes[4095..4097]), (5_000, &[0, 7][..]));
//! # assert_eq!(table.look(FileNumber(1)).extents()[0].range, FileRange::at(FileBlock(1), 1));
//! # let behind = Mapping::Hole(FileRange::starting_at(FileBlock(2)));
//! # assert_eq!(table.query(FileNumber(1), FileBlock(9))?, behind);
//! volume.close()?;
//! # Ok::<(), Error>(())
//! ```
//!
//! A store that keeps blocks of the device to itself says in [`layout`](crate::mapping::MappingStore::layout) which are left for files.
//! A store whose changes survive a crash also answers [`running_change`](crate::mapping::MappingStore::running_change) and
//! [`durable_change`](crate::mapping::MappingStore::durable_change): what is freed is not used again before that is durable. And
//! [`together`](crate::mapping::MappingStore::together), so that a truncation and its new size are one change: it hands out a
//! [`Together::holding`](crate::mapping::Together::holding) the shared side of a lock, say, that its commits take exclusively.
//!
//! # 2. Put the layers together
//!
//! One [`Backing`] for the volume, one [`FileBlocks`] for each open file. What [`Backing::new`] makes may be changed in its fields, such as the
//! policy. The clusters that files of the store have already are made known by
//! [`Allocator::claim`](crate::allocator::Allocator::claim).
//!
//! # 3. Admit, dirty, send, convert
//!
//! The order of these calls is the whole protocol, and which of your locks you hold:
//!
//! | you | hold | call | then |
//! |---|---|---|---|
//! | read | the page's lock | [`query`](crate::delalloc::FileBlocks::query); [`read`](crate::block::BlockQueue::read) what is written | fill the rest with zeros |
//! | write | inode lock | [`admit`](crate::delalloc::FileBlocks::admit), run by run | copy, mark dirty |
//! | take a page fault | the page's lock | `admit` | mark dirty |
//! | write back | nothing, then the locks of the pages | [`place`](crate::delalloc::FileBlocks::place), then [`send`](crate::delalloc::FileBlocks::send) and [`make_readable`](crate::delalloc::Sent::make_readable) | mark clean, [`extend_size`](crate::mapping::MappingStore::extend_size) |
//! | truncate | inode lock, and a lock that keeps faults out | drop the pages, [`truncate`](crate::delalloc::FileBlocks::truncate), [`set_size`](crate::mapping::MappingStore::set_size) | |
//! | punch, zero, collapse, insert | the same | drop the pages (write those back first that move), [`punch`](crate::delalloc::FileBlocks::punch), [`zero`](crate::delalloc::FileBlocks::zero), [`collapse`](crate::delalloc::FileBlocks::collapse), [`insert_gap`](crate::delalloc::FileBlocks::insert_gap) | |
//! | sync | | write back, [`make_durable`](crate::delalloc::Backing::make_durable) | |
//!
//! You need no lock of yours between a write and a page fault, or between either and
//! [`allocate`](crate::delalloc::FileBlocks::allocate): `admit` looks again under the data lock. You do need one between `truncate` and its like and all others.
//!
//! ```
//! # use std::sync::Arc;
//! # use extent_map::{allocator::Allocator, block::BlockQueue, device::MemoryDevice, mapping::MemoryStore};
//! # use extent_map::units::{DiskBlock, FileBlock, FileNumber, FileRange, Geometry};
//! use extent_map::delalloc::{Backing, DirtyRun, FileBlocks};
//! use extent_map::status::Status;
//!
//! # let device = Arc::new(MemoryDevice::new(1 << 20));
//! let geometry = Geometry::new(4096, 1)?; // clusters of one block
//! let allocator = Allocator::new(256, geometry, 256, DiskBlock(1))?; // block 0 is your superblock
//! let store = Arc::new(MemoryStore::new()); // or yours
//! let queue = BlockQueue::new(device, geometry.block_size, Arc::default());
//! let backing = Arc::new(Backing::new(queue, store, allocator));
//! let (number, store) = (FileNumber(1), &backing.store);
//! let blocks = FileBlocks::open(number, Arc::clone(&backing))?;
//!
//! // A write of blocks 0..8: admitted run by run, so that what is short of space is known before a byte is copied.
//! let mut rest = FileRange::at(FileBlock(0), 8);
//! while !rest.is_empty() {
//!     let backed = blocks.admit(rest)?;
//!     rest = FileRange::new(backed.range.end(), rest.end());
//! }
//! let pages: Arc<[u8]> = Arc::new([7; 8 * 4096]); // your page cache
//! assert_eq!(blocks.reserved_clusters(), 8);
//!
//! // Writeback: a place for all of it at once, then the data, and only then what makes it readable.
//! let range = FileRange::at(FileBlock(0), 8);
//! assert!(blocks.place(range).is_empty(), "what was promised has its place");
//! let bytes = Arc::clone(&pages).into(); // lent to the device, not copied
//! let sent = blocks.send(vec![DirtyRun { range, bytes }]);
//! for piece in sent.make_readable() {
//!     piece.outcome?; // the pages of a piece that failed stay dirty
//! }
//! store.extend_size(number, 8 * 4096)?;
//! assert!(matches!(blocks.query(FileBlock(3))?.status, Status::Written(_)));
//!
//! // Truncate to three blocks; what they say to a crash in between is the store's `together`.
//! {
//!     let _one_change = store.together();
//!     blocks.truncate(FileBlock(3))?;
//!     store.set_size(number, 3 * 4096)?;
//! }
//! assert_eq!(blocks.allocated_clusters(), 3);
//!
//! backing.make_durable()?; // sync: the data, then the mapping
//! # assert_eq!((store.size(number)?, blocks.reserved_clusters()), (3 * 4096, 0));
//! # Ok::<(), extent_map::Error>(())
//! ```
//!
//! # 4. When space is short
//!
//! Where [`admit`](crate::delalloc::FileBlocks::admit) or [`allocate`](crate::delalloc::FileBlocks::allocate) finds none, clusters may still wait for their
//! freeing to be durable: call it through [`Backing::with_freed_space`], which commits and tries again. Hold no page then.
//!
//! # 5. When memory is short
//!
//! [`Backing::shrinker`] forgets what status trees can read again from the store. Delayed blocks are never forgotten.
//!
//! [`Backing`]: crate::delalloc::Backing
//! [`Backing::new`]: crate::delalloc::Backing::new
//! [`Backing::shrinker`]: crate::delalloc::Backing::shrinker
//! [`Backing::with_freed_space`]: crate::delalloc::Backing::with_freed_space
//! [`FileBlocks`]: crate::delalloc::FileBlocks
//! [`LogStore`]: crate::mapping::LogStore
//! [`MappingStore`]: crate::mapping::MappingStore
//! [`MemoryStore`]: crate::mapping::MemoryStore
