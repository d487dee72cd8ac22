//! One file of a volume: its locks, size, pages and blocks, and the steps that operations share.

use crate::delalloc::{Backing, FileBlocks};
use crate::error::{Error, Result};
use crate::mapping::MappingStore;
use crate::probe::Mutation;
use crate::status::Status;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::uncounted::{self, AtomicUsize, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, Rank, RwLock, RwLockWriteGuard};
use crate::units::{
    BlockSize, DiskBlock, FileBlock, FileNumber, FileRange, MAX_FILE_BLOCKS, PAGE_SIZE,
};

use super::background::Background;
use super::error_sequence::ErrorSequence;
use super::page_cache::{BlockMask, PageCache, PageState, bits, mask_of, page_blocks};

/// What all open handles of a file share. The order of its locks, outermost first, is
/// `inode_lock`, `invalidate_lock`, `writeback_lock`, the folio locks by rising page number, and then
/// those of [`FileBlocks`].
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) number: FileNumber,
    pub(super) backing: Arc<Backing>,
    /// Exclusive: changes of content or size by calls. Shared: pictures of one instant.
    pub(super) inode_lock: RwLock<()>,
    /// Exclusive: blocks go away under the page cache. Shared: pages are filled or faulted in.
    pub(super) invalidate_lock: RwLock<()>,
    /// One writeback of the file at a time: converting an extent that cannot be split zeroes the rest of
    /// it on the device, where nobody else may be writing.
    pub(super) writeback_lock: Mutex<()>,
    /// Bytes. Stored under the inode lock; loaded anywhere.
    size: AtomicU64,
    /// How far data has been written that the store failed to show, or 0: its pages are clean, so writeback tries again.
    /// Under the writeback lock.
    pub(super) unstored_size: uncounted::AtomicU64,
    /// Whether the device has zeros behind the end of the file, in its last block, as far as no error was told. Under the
    /// inode lock.
    ends_in_zeros: uncounted::AtomicBool,
    pub(super) pages: Arc<PageCache>,
    /// Who writes pages back that nobody has asked for.
    pub(super) background: Arc<Background>,
    pub(super) blocks: FileBlocks,
    /// How many open files there are.
    open_files: AtomicUsize,
    /// Of writing the file back.
    pub(super) errors: ErrorSequence,
    /// Of making the volume durable: whatever any file has written may be lost.
    pub(super) flush_errors: Arc<ErrorSequence>,
    /// The longest a file may get inside the mapping store, in bytes.
    pub(super) inline_limit: u64,
    /// Cleared once the file is known to have left the mapping store, which it never re-enters.
    may_be_inline: AtomicBool,
}

impl Inode {
    /// Somebody opened the file.
    pub(super) fn opened(&self) {
        self.open_files.fetch_add(1, Relaxed);
    }

    /// Somebody closed it.
    pub(super) fn closed(&self) {
        self.open_files.fetch_sub(1, Relaxed);
        self.give_up_space();
    }

    /// Ends the windows of a file that nobody has open and that has nothing more to write.
    pub(super) fn give_up_space(&self) {
        if self.open_files.load(Relaxed) == 0 && self.blocks.reserved_clusters() == 0 {
            self.blocks.end_windows();
        }
    }

    /// The file as the store has it. Where inline data is allowed, a file that has nothing yet starts its
    /// life inside the store; the caller opens one file at a time.
    pub(super) fn open(
        number: FileNumber,
        backing: Arc<Backing>,
        flush_errors: Arc<ErrorSequence>,
        background: Arc<Background>,
        inline_limit: u64,
    ) -> Result<Self> {
        let size = backing.store.size(number)?;
        Ok(Self {
            number,
            inode_lock: RwLock::new(Rank::Inode.of(number.0), ()),
            invalidate_lock: RwLock::new(Rank::Invalidate.of(number.0), ()),
            writeback_lock: Mutex::new(Rank::Writeback.of(number.0), ()),
            size: AtomicU64::new(size),
            ends_in_zeros: uncounted::AtomicBool::new(size == 0),
            unstored_size: uncounted::AtomicU64::new(0),
            open_files: AtomicUsize::new(0),
            pages: PageCache::new(
                backing.geometry.block_size,
                Arc::clone(background.memory()),
                backing.probe.clone(),
            ),
            background,
            blocks: FileBlocks::open(number, Arc::clone(&backing))?,
            errors: ErrorSequence::default(),
            flush_errors,
            inline_limit,
            may_be_inline: AtomicBool::new(starts_inline(number, &backing, inline_limit)?),
            backing,
        })
    }

    pub(super) fn block_size(&self) -> BlockSize {
        self.backing.geometry.block_size
    }

    pub(super) fn store(&self) -> &dyn MappingStore {
        &*self.backing.store
    }

    /// The size in bytes.
    pub(super) fn size(&self) -> u64 {
        // Acquire pairs with the Release in `set_size`: who sees the size sees the bytes below it.
        self.size.load(Ordering::Acquire)
    }

    /// Changes the size; the caller holds the inode lock exclusively, and has put the bytes in place.
    pub(super) fn set_size(&self, bytes: u64) {
        // Release pairs with the Acquire in `size`.
        self.size.store(bytes, Ordering::Release);
    }

    /// Makes durable what was written to the volume. If that fails, the data of any file may be lost, so every open file
    /// hears of it.
    pub(super) fn make_durable(&self) -> Result<()> {
        let durable = self.backing.make_durable();
        durable.inspect_err(|error| self.flush_errors.record(error.clone()))
    }

    /// As [`Backing::with_freed_space`].
    pub(super) fn with_freed_space<T>(&self, work: impl FnMut() -> Result<T>) -> Result<T> {
        self.backing
            .with_space_freed_by(|| self.make_durable(), work)
    }

    /// Keeps pages from being filled and faulted in; not where a test wants that `missing`.
    pub(super) fn exclude_filling(&self, missing: Mutation) -> Option<RwLockWriteGuard<'_, ()>> {
        let probe = &self.backing.probe;
        probe.unless(missing, || self.invalidate_lock.write())
    }

    /// Keeps pages from being filled and faulted in, and those that hold the bytes `start..end` from being stored into:
    /// what changes in several steps changes at one instant for mappings.
    pub(super) fn exclude_mappings(
        &self,
        start: u64,
        end: u64,
    ) -> Option<RwLockWriteGuard<'_, ()>> {
        let exclusive = self.exclude_filling(Mutation::PunchBesideFaults);
        if !self.backing.probe.is(Mutation::PunchMappedPages) {
            self.pages.unmap(self.block_size().covering(start, end));
        }
        exclusive
    }

    /// Clusters promised to the file although it has nothing to write: none, unless the accounting is wrong.
    pub(super) fn promised_for_nothing(&self) -> u64 {
        let _no_calls = self.inode_lock.write();
        let _no_faults = self.invalidate_lock.write();
        let everything = FileRange::starting_at(FileBlock(0));
        match self.pages.first_dirty_run(everything) {
            Some(_) => 0,
            None => self.blocks.reserved_clusters(),
        }
    }

    /// Checks that `len` bytes (not none) at `offset` are a range a file can have; returns its end.
    pub(super) fn checked_end(&self, offset: u64, len: u64) -> Result<u64> {
        if len == 0 {
            return Err(Error::InvalidInput("length must not be zero"));
        }
        match offset.checked_add(len) {
            Some(end) if end <= self.backing.geometry.max_file_size() => Ok(end),
            _ => Err(Error::FileTooBig),
        }
    }

    /// The bits of those blocks of `range` that lie in page `index`.
    pub(super) fn mask_in_page(&self, index: u64, range: FileRange) -> BlockMask {
        mask_of(page_blocks(index, self.block_size()), range)
    }

    /// Makes the blocks in `mask` of a page valid: from the device where they are written, else zeros.
    /// The folio lock is held, as `page` shows.
    pub(super) fn fill(&self, index: u64, page: &mut PageState, mask: BlockMask) -> Result<()> {
        let size = self.block_size();
        let blocks = page_blocks(index, size);
        for bit in bits(mask & !page.valid) {
            let block = blocks.start().advance(bit as u64);
            let found = self.blocks.query(block)?;
            let wrongly = self.backing.probe.is(Mutation::FillUnwrittenFromDevice);
            let stored = match found.status {
                Status::Written(disk) => Some(disk),
                Status::Unwritten(disk) if wrongly => Some(disk),
                _ => None,
            };
            if let Some(disk) = stored {
                let disk = disk.advance(block.0 - found.range.start().0);
                let len = size.bytes() as usize;
                let bytes = &mut page.bytes[bit * len..(bit + 1) * len];
                self.read_block(disk, bytes)?;
                // What was cut off is still there if the write that zeroed it has failed.
                let inside = self.size().saturating_sub(size.offset_of(block));
                bytes[len.min(inside as usize)..].fill(0);
            }
            page.valid |= 1 << bit;
        }
        Ok(())
    }

    fn read_block(&self, disk: DiskBlock, into: &mut [u8]) -> Result<()> {
        let len = self.block_size().bytes() as usize;
        // A failed read may leave anything in its buffer; the page keeps zeros then.
        let mut bytes = [0; PAGE_SIZE as usize];
        self.backing.queue.read(disk, &mut bytes[..len])?;
        into[..len].copy_from_slice(&bytes[..len]);
        Ok(())
    }

    /// Zeroes the bytes `start..end`, which lie in one block, in the cache, as the edge of a punched,
    /// zeroed or truncated range. Holes and clean unwritten blocks stay clean: the volume has zeros there.
    pub(super) fn zero_edge(&self, start: u64, end: u64) -> Result<()> {
        if start >= end {
            return Ok(());
        }
        let size = self.block_size();
        let block = size.block_of(start);
        let index = start / PAGE_SIZE;
        let mask = self.mask_in_page(index, FileRange::at(block, 1));
        self.pages.with_page(index, |page| {
            let mut is_data = page.dirty() & mask != 0;
            if !is_data
                && let Status::Written(_) | Status::Delayed = self.blocks.query(block)?.status
            {
                self.fill(index, page, mask)?;
                is_data = true;
            }
            // Also where the device has zeros: after a failed write the cache has other bytes.
            page.bytes[(start % PAGE_SIZE) as usize..][..(end - start) as usize].fill(0);
            if is_data {
                page.mark_dirty(mask);
            }
            Ok(())
        })
    }

    /// Before the file grows to `to` with bytes from `from` on: zeroes the rest of its last block. The cache has zeros there
    /// already, but the device may have what was cut off, if the write of those zeros has failed, or what a crash has left
    /// there. In that case they are written first: the size may be durable before anything else is.
    pub(super) fn zero_behind_end(&self, from: u64, to: u64) -> Result<()> {
        let size = self.size();
        let block_end = size.next_multiple_of(self.block_size().bytes());
        let (leaves_gap, leaves_block) = (from > size, to > block_end);
        // Otherwise the new bytes bring the zeros behind them.
        if leaves_gap || leaves_block && !self.ends_in_zeros.load(Relaxed) {
            self.zero_edge(size, block_end)?;
            if size < block_end && !self.ends_in_zeros.load(Relaxed) {
                let last = FileRange::at(self.block_size().block_of(size), 1);
                // Any other block comes to the device with its zeros.
                if let Status::Written(_) = self.blocks.peek(last)?.status {
                    self.write_back_blocks(last);
                }
            }
            self.ends_in_zeros.store(true, Relaxed);
        }
        Ok(())
    }

    /// Zeroes the parts of `start..end` that do not fill a block.
    pub(super) fn zero_partial_edges(&self, start: u64, end: u64) -> Result<()> {
        let block = self.block_size().bytes();
        let first_end = start.next_multiple_of(block).min(end);
        let last_start = (end - end % block).max(first_end);
        self.zero_edge(start, first_end)?;
        self.zero_edge(last_start, end)
    }

    /// The bytes of a file that lives inside the mapping store.
    pub(super) fn inline_bytes(&self) -> Result<Option<Arc<[u8]>>> {
        // Acquire pairs with the Release below; who sees false finds the bytes in the page cache, or waits
        // for them on the folio lock under which it was stored.
        if !self.may_be_inline.load(Ordering::Acquire) {
            return Ok(None);
        }
        let bytes = self.blocks.inline_data()?;
        if bytes.is_none() {
            // Release pairs with the Acquire above.
            self.may_be_inline.store(false, Ordering::Release);
        }
        Ok(bytes)
    }

    /// Brings a file that lives inside the mapping store out into blocks, whoever comes first.
    pub(super) fn leave_inline(&self) -> Result<()> {
        if self.inline_bytes()?.is_none() {
            return Ok(());
        }
        let size = self.block_size();
        self.with_freed_space(|| {
            self.pages.with_page(0, |page| {
                if let Some(bytes) = self.blocks.leave_inline()? {
                    let end = bytes.len() as u64;
                    page.bytes[..bytes.len()].copy_from_slice(&bytes);
                    page.mark_dirty(self.mask_in_page(0, size.covering(0, end)));
                }
                Ok(())
            })
        })
    }
}

/// Whether a file that is opened lives inside the mapping store; puts a file that has nothing there.
fn starts_inline(number: FileNumber, backing: &Backing, inline_limit: u64) -> Result<bool> {
    let store = &backing.store;
    if store.inline_data(number)?.is_some() {
        return Ok(true);
    }
    let nothing = store.size(number)? == 0
        && store
            .last_before(number, FileBlock(MAX_FILE_BLOCKS))?
            .is_none();
    if inline_limit > 0 && nothing {
        store.set_inline_data(number, Some(Arc::from([])))?;
        return Ok(true);
    }
    Ok(false)
}
