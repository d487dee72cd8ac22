//! The page cache of one file: real bytes per page, with per-block state for blocks smaller than a page.

use std::collections::BTreeMap;
use std::fmt;
use std::iter;
use std::ops::Range;

use crate::device::Buffer;
use crate::probe::{Mutation, Probe};
use crate::sync::journal::note;
use crate::sync::uncounted::{AtomicBool, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, MutexGuard, Rank, RwLock};
use crate::units::{BlockSize, FileBlock, FileRange, PAGE_SIZE};

use super::dirty_pages::DirtyPages;
use super::memory::PageMemory;

/// One bit for each block of a page, the lowest for the first.
pub(super) type BlockMask = u8;

/// A page of a file. Its lock is the *folio lock*. As long as somebody holds it, it is not evicted.
#[derive(Debug)]
pub(super) struct Page {
    index: u64,
    /// Used since the clock came by last.
    used: AtomicBool,
    state: Mutex<PageState>,
}

/// What the folio lock protects.
pub(super) struct PageState {
    index: u64,
    /// The content; blocks that are not valid hold zeros. Lent to the device while it is written back.
    pub(super) bytes: Buffer,
    /// Blocks whose bytes are the file's.
    pub(super) valid: BlockMask,
    /// Blocks whose bytes must get to the device; always valid ones.
    dirty: BlockMask,
    /// The byte of the file up to which a mapping may store into the page without a page fault: every
    /// block of the page below it is backed and dirty. The file may since have grown beyond it.
    pub(super) writable_to: u64,
    /// Still in the cache. A page that was dropped is never used again.
    attached: bool,
    /// Those of the file.
    dirty_pages: Arc<DirtyPages>,
}

impl fmt::Debug for PageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageState")
            .field("valid", &format_args!("{:#010b}", self.valid))
            .field("dirty", &format_args!("{:#010b}", self.dirty))
            .field("writable_to", &self.writable_to)
            .field("attached", &self.attached)
            .finish_non_exhaustive()
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
        self.mark_clean(mask);
        self.writable_to = 0;
    }

    /// Blocks whose bytes must get to the device.
    pub(super) fn dirty(&self) -> BlockMask {
        self.dirty
    }

    /// Whether the page is still in the cache.
    pub(super) fn is_attached(&self) -> bool {
        self.attached
    }

    /// Marks blocks as holding new bytes.
    pub(super) fn mark_dirty(&mut self, mask: BlockMask) {
        self.valid |= mask;
        self.set_dirty(self.dirty | mask);
    }

    /// Marks blocks as holding nothing that must get to the device.
    pub(super) fn mark_clean(&mut self, mask: BlockMask) {
        self.set_dirty(self.dirty & !mask);
    }

    fn set_dirty(&mut self, mask: BlockMask) {
        match (self.dirty != 0, mask != 0) {
            (false, true) => self.dirty_pages.add(self.index),
            (true, false) => self.dirty_pages.remove(self.index),
            _ => {}
        }
        self.dirty = mask;
    }
}

fn empty_bytes() -> Buffer {
    let bytes: Arc<[u8]> = Arc::new([0; PAGE_SIZE as usize]);
    Buffer::from(bytes)
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

/// The blocks in `mask` of a page whose blocks are `page`, as runs with gaps between them.
pub(super) fn runs_of(page: FileRange, mut mask: BlockMask) -> impl Iterator<Item = FileRange> {
    iter::from_fn(move || {
        let from = mask.trailing_zeros();
        let len = mask.checked_shr(from)?.trailing_ones();
        // Carries through the run, and leaves nothing of it.
        mask &= mask.wrapping_add(1 << from);
        Some(FileRange::at(
            page.start().advance(u64::from(from)),
            u64::from(len),
        ))
    })
}

/// The pages of one file.
#[derive(Debug)]
pub(super) struct PageCache {
    block_size: BlockSize,
    /// A leaf lock, held for a look or a change of the tree only.
    pages: RwLock<BTreeMap<u64, Arc<Page>>>,
    pub(super) dirty_pages: Arc<DirtyPages>,
    memory: Arc<PageMemory>,
    probe: Probe,
}

impl PageCache {
    pub(super) fn new(block_size: BlockSize, memory: Arc<PageMemory>, probe: Probe) -> Arc<Self> {
        let cache = Arc::new(Self {
            block_size,
            pages: RwLock::new(Rank::PageIndex, BTreeMap::new()),
            dirty_pages: Arc::new(DirtyPages::new(Arc::clone(&memory))),
            memory,
            probe,
        });
        cache.memory.register(&cache);
        cache
    }

    /// Runs `work` on page `index` with its folio lock held, bringing an empty page in if there is none.
    pub(super) fn with_page<T>(&self, index: u64, work: impl FnOnce(&mut PageState) -> T) -> T {
        self.with_held_page(index, work).0
    }

    /// As [`with_page`](Self::with_page); as long as the caller holds the page that comes with the answer, what `work` has
    /// brought into it stays.
    pub(super) fn with_held_page<T>(
        &self,
        index: u64,
        work: impl FnOnce(&mut PageState) -> T,
    ) -> (T, Arc<Page>) {
        loop {
            let page = self.get_or_insert(index);
            let mut state = page.lock();
            // Dropped between finding and locking it: the cache may have a newer one.
            if state.attached {
                let answer = work(&mut state);
                drop(state);
                return (answer, page);
            }
        }
    }

    /// As [`with_page`](Self::with_page), but does nothing when the page is not in the cache.
    pub(super) fn with_existing<T>(
        &self,
        index: u64,
        work: impl FnOnce(&mut PageState) -> T,
    ) -> Option<T> {
        let page = self.find(index)?;
        let mut state = page.lock();
        state.attached.then(|| work(&mut state))
    }

    /// Page `index`, if it is in the cache.
    fn find(&self, index: u64) -> Option<Arc<Page>> {
        let page = self.pages.read().get(&index).cloned()?;
        // Not written where it says so already: the line is shared.
        if !page.used.load(Relaxed) {
            page.used.store(true, Relaxed);
        }
        Some(page)
    }

    /// Page `index`; an empty one if it is not in the cache.
    fn get_or_insert(&self, index: u64) -> Arc<Page> {
        if let Some(page) = self.find(index) {
            return page;
        }
        let mut is_new = false;
        let empty = || {
            is_new = true;
            let state = PageState {
                index,
                bytes: empty_bytes(),
                valid: 0,
                dirty: 0,
                writable_to: 0,
                attached: true,
                dirty_pages: Arc::clone(&self.dirty_pages),
            };
            Arc::new(Page {
                index,
                used: AtomicBool::new(false),
                state: Mutex::new(Rank::Folio.of(index), state),
            })
        };
        let page = Arc::clone(self.pages.write().entry(index).or_insert_with(empty));
        if is_new {
            self.memory.came_in();
        }
        page
    }

    /// Lets a page of this cache leave that is clean, not in use and was not used lately; returns whether it has left.
    pub(super) fn evict(&self, page: &Arc<Page>, probe: &Probe) -> bool {
        if page.used.swap(false, Relaxed) {
            return false;
        }
        let Some(mut state) = page.state.try_lock() else {
            return false;
        };
        if !state.attached || state.dirty != 0 && !probe.is(Mutation::EvictDirtyPages) {
            return false;
        }
        let mut pages = self.pages.write();
        // The index has one and the clock another. Nobody else gets one meanwhile; who has one relies on the page.
        if Arc::strong_count(page) > 2 {
            return false;
        }
        note(|| format!("evicts page {}", page.index));
        state.set_dirty(0);
        state.attached = false;
        pages.remove(&page.index);
        self.memory.left();
        true
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
        for page in self.holding(range) {
            page.lock().writable_to = 0;
        }
    }

    /// Forgets the blocks of `range`: whole pages leave the cache, blocks of others are cleared. Waits for
    /// writeback of those pages. The caller keeps new ones from coming in (invalidate lock).
    pub(super) fn drop_blocks(&self, range: FileRange) {
        for page in self.holding(range) {
            let mut state = page.lock();
            let blocks = page.blocks(self.block_size);
            let marks = state.dirty;
            state.forget(mask_of(blocks, range), self.block_size);
            if self.probe.is(Mutation::LeaveDirtyMarks) {
                state.set_dirty(marks);
            }
            if blocks.intersect(range) == blocks {
                state.attached = false;
                note(|| format!("drops page {}", page.index));
                if self.pages.write().remove(&page.index).is_some() {
                    self.memory.left();
                }
            }
        }
    }

    /// The first of the dirty runs of `range`; looks at no page behind its end.
    pub(super) fn first_dirty_run(&self, range: FileRange) -> Option<FileRange> {
        let has_ended = |runs: &[FileRange], page: FileRange| match runs {
            [] => false,
            [run] => run.end() < page.end(),
            _ => true,
        };
        let runs = self.dirty_runs_until(range, has_ended);
        runs.first().copied()
    }

    /// The dirty runs of `range`.
    pub(super) fn dirty_runs(&self, range: FileRange) -> Vec<FileRange> {
        self.dirty_runs_until(range, |_, _| false)
    }

    /// The dirty runs of `range`, until those that were found and the page that they were found up to are `enough`.
    /// Looks at no clean page.
    fn dirty_runs_until(
        &self,
        range: FileRange,
        enough: impl Fn(&[FileRange], FileRange) -> bool,
    ) -> Vec<FileRange> {
        let mut runs = Vec::new();
        let mut pages = self.pages_meeting(range);
        while let Some(next) = self.dirty_pages.first_run(pages.clone()) {
            pages.start = next.end;
            for page in self.existing(next, usize::MAX) {
                let blocks = page.blocks(self.block_size);
                let dirty = page.lock().dirty & mask_of(blocks, range);
                push_runs(&mut runs, blocks, dirty);
                if enough(&runs, blocks) {
                    return runs;
                }
            }
        }
        runs
    }

    /// The pages in the cache that hold blocks of `range`, in order.
    pub(super) fn holding(&self, range: FileRange) -> Vec<Arc<Page>> {
        self.existing(self.pages_meeting(range), usize::MAX)
    }

    /// The pages that hold blocks of `range`, in order, empty ones where there were none.
    pub(super) fn brought_in(&self, range: FileRange) -> Vec<Arc<Page>> {
        let pages = self.pages_meeting(range);
        pages.map(|index| self.get_or_insert(index)).collect()
    }

    /// Marks the blocks of `range` as holding nothing that must get to the device.
    pub(super) fn mark_clean(&self, range: FileRange) {
        for page in self.holding(range) {
            let blocks = page.blocks(self.block_size);
            page.lock().mark_clean(mask_of(blocks, range));
        }
    }

    /// The pages that hold blocks of `range`.
    fn pages_meeting(&self, range: FileRange) -> Range<u64> {
        let per_page = self.block_size.blocks_per_page();
        range.start().0 / per_page..range.end().0.div_ceil(per_page)
    }
}

/// Appends the blocks in `mask` of a page whose blocks are `page` to a list of runs.
pub(super) fn push_runs(runs: &mut Vec<FileRange>, page: FileRange, mask: BlockMask) {
    for run in runs_of(page, mask) {
        match runs.last_mut() {
            Some(last) if last.end() == run.start() => {
                *last = FileRange::new(last.start(), run.end());
            }
            _ => runs.push(run),
        }
    }
}

/// Those of the locked pages, which are in order, that hold blocks of `run`.
pub(super) fn pages_meeting<'a, 'b>(
    locked: &'a mut [(FileRange, MutexGuard<'b, PageState>)],
    run: FileRange,
) -> &'a mut [(FileRange, MutexGuard<'b, PageState>)] {
    let first = locked.partition_point(|(blocks, _)| blocks.end() <= run.start());
    let end = locked.partition_point(|(blocks, _)| blocks.start() < run.end());
    &mut locked[first..end]
}

#[cfg(all(test, not(any(loom, feature = "shuttle"))))]
mod tests {
    use super::*;

    #[test]
    fn a_look_for_what_is_dirty_waits_for_no_clean_page() {
        let memory = Arc::new(PageMemory::new(100, Arc::default(), Probe::default()));
        let size = BlockSize::new(1024).unwrap();
        let cache = PageCache::new(size, memory, Probe::default());
        let everything = FileRange::starting_at(FileBlock(0));
        // Clean ones in front: folio locks are taken in order.
        let masks = [0, 0, 0b1111, 0b0110, 0b1000];
        for (index, mask) in (0..).zip(masks) {
            cache.with_page(index, |page| page.mark_dirty(mask));
        }
        let clean = [0, 1].map(|index| cache.get_or_insert(index));
        let _held = clean.each_ref().map(|page| page.lock());
        let run = |start, len| FileRange::at(FileBlock(start), len);
        let runs = [run(8, 4), run(13, 2), run(19, 1)];
        assert_eq!(cache.dirty_runs(everything), runs);
        assert_eq!(cache.first_dirty_run(everything), Some(runs[0]));
        assert_eq!(cache.first_dirty_run(run(12, 90)), Some(runs[1]));
        assert_eq!(cache.first_dirty_run(run(14, 90)), Some(run(14, 1)));
        assert_eq!(cache.first_dirty_run(run(20, 90)), None);
    }

    #[test]
    fn no_page_is_asked_to_leave_while_all_are_dirty() {
        let memory = Arc::new(PageMemory::new(1, Arc::default(), Probe::default()));
        let size = BlockSize::new(4096).unwrap();
        let cache = PageCache::new(size, Arc::clone(&memory), Probe::default());
        (0..200).for_each(|index| cache.with_page(index, |page| page.mark_dirty(1)));
        let pages: Vec<_> = (0..200).filter_map(|index| cache.find(index)).collect();
        memory.trim();
        cache.get_or_insert(200);
        // The clock would have gone by.
        assert!(pages.iter().all(|page| page.used.load(Relaxed)));
    }
}
