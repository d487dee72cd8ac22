//! The page cache of one file: real bytes per page, with per-block state for blocks smaller than a page.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::probe::{Mutation, Probe};
use crate::sync::journal::note;
use crate::sync::{Arc, Mutex, MutexGuard, Rank, RwLock};
use crate::units::{BlockSize, FileBlock, FileRange, PAGE_SIZE};

/// One bit for each block of a page, the lowest for the first.
pub(super) type BlockMask = u8;

/// A page of a file. Its lock is the *folio lock*.
#[derive(Debug)]
pub(super) struct Page {
    index: u64,
    state: Mutex<PageState>,
}

/// What the folio lock protects.
pub(super) struct PageState {
    /// The content; blocks that are not valid hold zeros.
    pub(super) bytes: Box<[u8; PAGE_SIZE as usize]>,
    /// Blocks whose bytes are the file's.
    pub(super) valid: BlockMask,
    /// Blocks whose bytes must get to the device; always valid ones.
    pub(super) dirty: BlockMask,
    /// The byte of the file up to which a mapping may store into the page without a page fault: every
    /// block of the page below it is backed and dirty. The file may since have grown beyond it.
    pub(super) writable_to: u64,
    /// Still in the cache. A page that was dropped is never used again.
    attached: bool,
}

impl fmt::Debug for PageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageState")
            .field("valid", &format_args!("{:#010b}", self.valid))
            .field("dirty", &format_args!("{:#010b}", self.dirty))
            .field("writable_to", &self.writable_to)
            .field("attached", &self.attached)
            .finish()
    }
}

impl Page {
    /// Locks the page, whether or not it is still in the cache.
    pub(super) fn lock(&self) -> MutexGuard<'_, PageState> {
        self.state.lock()
    }

    /// The number of the page in its file.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// The blocks of the file that the page holds.
    pub(super) fn blocks(&self, size: BlockSize) -> FileRange {
        page_blocks(self.index, size)
    }
}

/// The blocks of a file that page `index` holds.
pub(super) fn page_blocks(index: u64, size: BlockSize) -> FileRange {
    let per_page = size.blocks_per_page();
    FileRange::at(FileBlock(index * per_page), per_page)
}

/// The pages that hold the bytes `start..end`.
pub(super) fn pages_of(bytes: Range<u64>) -> Range<u64> {
    bytes.start / PAGE_SIZE..bytes.end.div_ceil(PAGE_SIZE)
}

impl PageState {
    /// Forgets the content of the blocks in `mask`: they read as what is on the volume, or as zeros.
    pub(super) fn forget(&mut self, mask: BlockMask, size: BlockSize) {
        for block in bits(mask) {
            let start = block * size.bytes() as usize;
            self.bytes[start..start + size.bytes() as usize].fill(0);
        }
        self.valid &= !mask;
        self.dirty &= !mask;
        self.writable_to = 0;
    }

    /// Marks blocks as holding new bytes.
    pub(super) fn mark_dirty(&mut self, mask: BlockMask) {
        self.valid |= mask;
        self.dirty |= mask;
    }
}

/// The numbers of the set bits.
pub(super) fn bits(mask: BlockMask) -> impl Iterator<Item = usize> {
    (0..BlockMask::BITS as usize).filter(move |bit| mask & (1 << bit) != 0)
}

/// The bits of those blocks of `range` that lie in a page whose blocks are `page`.
pub(super) fn mask_of(page: FileRange, range: FileRange) -> BlockMask {
    let inside = page.intersect(range);
    inside
        .blocks()
        .fold(0, |mask, block| mask | 1 << (block.0 - page.start().0))
}

/// The pages of one file.
#[derive(Debug)]
pub(super) struct PageCache {
    block_size: BlockSize,
    /// A leaf lock, held for a look or a change of the tree only.
    pages: RwLock<BTreeMap<u64, Arc<Page>>>,
    probe: Probe,
}

impl PageCache {
    pub(super) fn new(block_size: BlockSize, probe: Probe) -> Self {
        Self {
            block_size,
            pages: RwLock::new(Rank::PageIndex, BTreeMap::new()),
            probe,
        }
    }

    /// Runs `work` on page `index` with its folio lock held, bringing an empty page in if there is none.
    pub(super) fn with_page<T>(&self, index: u64, work: impl FnOnce(&mut PageState) -> T) -> T {
        loop {
            let page = self.get_or_insert(index);
            let mut state = page.lock();
            // Dropped between finding and locking it: the cache may have a newer one.
            if state.attached {
                return work(&mut state);
            }
        }
    }

    /// As [`with_page`](Self::with_page), but does nothing when the page is not in the cache.
    pub(super) fn with_existing<T>(
        &self,
        index: u64,
        work: impl FnOnce(&mut PageState) -> T,
    ) -> Option<T> {
        let page = self.pages.read().get(&index).cloned()?;
        let mut state = page.lock();
        state.attached.then(|| work(&mut state))
    }

    fn get_or_insert(&self, index: u64) -> Arc<Page> {
        if let Some(page) = self.pages.read().get(&index) {
            return Arc::clone(page);
        }
        let empty = || {
            let state = PageState {
                bytes: Box::new([0; PAGE_SIZE as usize]),
                valid: 0,
                dirty: 0,
                writable_to: 0,
                attached: true,
            };
            Arc::new(Page {
                index,
                state: Mutex::new(Rank::Folio.of(index), state),
            })
        };
        Arc::clone(self.pages.write().entry(index).or_insert_with(empty))
    }

    /// The pages in `range` (page numbers) that are in the cache, at most `limit` of them.
    pub(super) fn existing(&self, range: Range<u64>, limit: usize) -> Vec<Arc<Page>> {
        if range.is_empty() {
            return Vec::new();
        }
        self.pages
            .read()
            .range(range)
            .take(limit)
            .map(|(_, page)| Arc::clone(page))
            .collect()
    }

    /// Lets no store through a mapping into the pages that hold blocks of `range`: the next one must fault first.
    pub(super) fn unmap(&self, range: FileRange) {
        for page in self.existing(self.pages_meeting(range), usize::MAX) {
            page.lock().writable_to = 0;
        }
    }

    /// Forgets the blocks of `range`: whole pages leave the cache, blocks of others are cleared. Waits for
    /// writeback of those pages. The caller keeps new ones from coming in (invalidate lock).
    pub(super) fn drop_blocks(&self, range: FileRange) {
        for page in self.existing(self.pages_meeting(range), usize::MAX) {
            let mut state = page.lock();
            let blocks = page.blocks(self.block_size);
            let marks = state.dirty;
            state.forget(mask_of(blocks, range), self.block_size);
            if self.probe.is(Mutation::LeaveDirtyMarks) {
                state.dirty = marks;
            }
            if blocks.intersect(range) == blocks {
                state.attached = false;
                note(|| format!("drops page {}", page.index));
                self.pages.write().remove(&page.index);
            }
        }
    }

    /// The first of the dirty runs of `range`; looks at no page behind its end.
    pub(super) fn first_dirty_run(&self, range: FileRange) -> Option<FileRange> {
        let mut runs = Vec::new();
        let mut pages = self.pages_meeting(range);
        while let Some(page) = self.existing(pages.clone(), 1).pop() {
            pages.start = page.index + 1;
            let blocks = page.blocks(self.block_size);
            let dirty = page.lock().dirty & mask_of(blocks, range);
            push_runs(&mut runs, blocks, dirty);
            if runs.last().is_some_and(|run| run.end() < blocks.end()) {
                break;
            }
        }
        runs.first().copied()
    }

    /// The pages that hold blocks of `range`.
    fn pages_meeting(&self, range: FileRange) -> Range<u64> {
        let per_page = self.block_size.blocks_per_page();
        range.start().0 / per_page..range.end().0.div_ceil(per_page)
    }
}

/// Appends the blocks in `mask` of a page whose blocks are `page` to a list of runs.
pub(super) fn push_runs(runs: &mut Vec<FileRange>, page: FileRange, mask: BlockMask) {
    for bit in bits(mask) {
        let block = page.start().advance(bit as u64);
        match runs.last_mut() {
            Some(last) if last.end() == block => {
                *last = FileRange::new(last.start(), block.advance(1));
            }
            _ => runs.push(FileRange::at(block, 1)),
        }
    }
}
