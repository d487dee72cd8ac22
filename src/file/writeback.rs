//! Writing dirty pages back, and the calls that ask for it.

use std::ops::Range;

use crate::delalloc::DirtyRun;
use crate::error::{Error, Result};
use crate::probe::Mutation;
use crate::spans::span;
use crate::sync::uncounted::Ordering::Relaxed;
use crate::sync::{Arc, MutexGuard};
use crate::units::{FileRange, PAGE_SIZE};

use super::inode::Inode;
use super::page_cache::{BlockMask, Page, PageState, mask_of, pages_meeting, pages_of, runs_of};
use super::plan::{Batch, Plan, meeting};
use super::{ErrorCounts, File};

impl File {
    /// Writes the file's dirty pages back, waits for them and for the device to make them durable.
    /// Takes folio locks of dirty pages over the I/O, but not the inode lock.
    ///
    /// # Errors
    /// The last writeback error of the file, or the last failure to make anything of the volume durable, if it came
    /// during this call, whoever met it, or if no call on this handle has told of it yet. So of syncs that run at once
    /// each fails whose data or commit did, and a later one is told once. Blocks that the device failed to write are clean
    /// afterwards, as in Linux; others stay dirty.
    pub fn sync_data(&self) -> Result<()> {
        span!(DEBUG, "sync", file = self.inode.number.0);
        let begun = self.count_errors();
        self.inode.write_back(0..u64::MAX);
        let _told_below = self.inode.make_durable();
        self.tell_errors(&begun)
    }

    /// As [`sync_data`](Self::sync_data); size and mapping are durable in either case.
    ///
    /// # Errors
    /// As [`sync_data`](Self::sync_data).
    pub fn sync_all(&self) -> Result<()> {
        self.sync_data()
    }

    /// Writes the dirty pages that hold the bytes `offset..offset + len` back and waits for them, as
    /// `sync_file_range` with all its flags: whole pages; nothing is made durable. No length means to
    /// the end of the file.
    ///
    /// # Errors
    /// As [`sync_data`](Self::sync_data); [`Error::FileTooBig`] when the range overflows.
    pub fn sync_range(&self, offset: u64, len: u64) -> Result<()> {
        span!(DEBUG, "sync_range", file = self.inode.number.0, offset, len);
        let end = match len {
            0 => u64::MAX,
            _ => offset.checked_add(len).ok_or(Error::FileTooBig)?,
        };
        let begun = self.count_errors();
        if offset < end {
            self.inode.write_back(pages_of(offset..end));
        }
        self.tell_errors(&begun)
    }

    fn count_errors(&self) -> ErrorCounts {
        // Whoever shares the handle may hear of what happens from here on, and mark it as seen.
        match self.inode.backing.probe.is(Mutation::TellOnlyUnseen) {
            false => ErrorCounts {
                of_writeback: self.inode.errors.count(),
                of_flushes: self.inode.flush_errors.count(),
            },
            true => ErrorCounts {
                of_writeback: u64::MAX,
                of_flushes: u64::MAX,
            },
        }
    }

    /// Fails if there was an error since a call `begun`, or one that the handle has not seen.
    fn tell_errors(&self, begun: &ErrorCounts) -> Result<()> {
        let inode = &*self.inode;
        let mut seen = self.opened.seen_errors.lock();
        let written = inode
            .errors
            .check(&mut seen.of_writeback, begun.of_writeback);
        let flushed = inode
            .flush_errors
            .check(&mut seen.of_flushes, begun.of_flushes);
        flushed.and(written)
    }
}

impl Inode {
    /// Writes the dirty pages of `pages` (page numbers) back and waits. Errors go to the error sequence.
    ///
    /// Delayed runs are allocated first, each as a whole, so that it is known which blocks can go to the device
    /// together. That is a plan; what is still dirty is seen under the folio locks.
    pub(super) fn write_back(&self, pages: Range<u64>) {
        self.write_back_blocks(self.blocks_of(pages));
    }

    /// The same for blocks.
    pub(super) fn write_back_blocks(&self, blocks: FileRange) {
        span!(DEBUG, "write_back", file = self.number.0);
        let probe = &self.backing.probe;
        let _one_at_a_time = probe.unless(Mutation::WritebackBesideWriteback, || {
            self.writeback_lock.lock()
        });
        if probe.is(Mutation::UnlockFoliosOverIo) {
            let pages = self.pages.holding(blocks);
            return pages.iter().for_each(|page| self.write_back_unlocked(page));
        }
        let unstored = self.unstored_size.swap(0, Relaxed);
        if unstored > 0 {
            self.extend_stored_size(unstored);
        }
        if self.pages.dirty_pages.count() > 0 {
            // What lies outside of the blocks is as old as before.
            if blocks == self.blocks_of(0..u64::MAX) {
                self.pages.dirty_pages.begin_anew();
            }
            for batch in self.plan(blocks) {
                self.write_batch(&batch);
                self.background.progressed();
            }
            self.background.memory().trim();
        }
        self.give_up_space();
    }

    fn blocks_of(&self, pages: Range<u64>) -> FileRange {
        let [start, end] = [pages.start, pages.end].map(|page| page.saturating_mul(PAGE_SIZE));
        self.block_size().covering(start, end)
    }

    /// Gives every dirty block of `range` its place, and says which of them go to the device together. What finds no
    /// place stays dirty.
    fn plan(&self, range: FileRange) -> Vec<Batch> {
        let mut unplaced = Vec::new();
        // What is delayed and not dirty is about to be written: it is placed with its bytes.
        let dirty = self.pages.dirty_runs(range);
        for run in dirty.into_iter().flat_map(|run| self.blocks.place(run)) {
            self.errors.record(run.error);
            unplaced.push(run.range);
        }
        let gives_up =
            !unplaced.is_empty() && self.backing.probe.is(Mutation::CountMappedAsWritten);
        let mut plan = Plan::new(self.backing.queue.limits(), self.block_size());
        for mut rest in self.pages.dirty_runs(range) {
            while !rest.is_empty() {
                let found = self.blocks.peek(rest);
                let found_to = found.as_ref().map_or(rest.end(), |found| found.range.end());
                let part = FileRange::new(rest.start(), found_to);
                match found.ok().and_then(|found| found.status.disk_block()) {
                    Some(_) if gives_up => self.pages.mark_clean(part),
                    Some(disk) => plan.add(part, disk),
                    // Delayed since: to be placed when it is sent.
                    None if !unplaced.iter().any(|run| run.contains(part.start())) => {
                        plan.add_unplaced(part);
                    }
                    None => {}
                }
                rest = FileRange::new(found_to, rest.end());
            }
        }
        plan.batches()
    }

    /// As [`write_back`](Self::write_back), failing when a page of the range could not be written or is still dirty
    /// afterwards. The caller keeps pages from becoming dirty.
    pub(super) fn settle(&self, pages: Range<u64>) -> Result<()> {
        let before = self.errors.count();
        self.write_back(pages.clone());
        self.errors.since(before)?;
        let blocks = self.blocks_of(pages);
        match self.pages.first_dirty_run(blocks) {
            Some(_) => Err(Error::Corrupt("pages dirtied while the file was locked")),
            None => Ok(()),
        }
    }

    /// Writes what is dirty of the blocks of one batch.
    fn write_batch(&self, batch: &Batch) {
        let mut pages: Vec<Arc<Page>> = Vec::new();
        for range in batch {
            pages.extend(self.pages.holding(*range));
        }
        // Two ranges may meet in one page.
        pages.dedup_by_key(|page| page.index());
        let mut locked: Vec<_> = pages
            .iter()
            .map(|page| (page.blocks(self.block_size()), page.lock()))
            .collect();
        let mut runs = Vec::new();
        for (blocks, state) in &mut locked {
            let ranges = meeting(batch, *blocks);
            let planned = ranges
                .iter()
                .fold(0, |mask, range| mask | mask_of(*blocks, *range));
            let dirty = match self.backing.probe.is(Mutation::WriteWhatWasPlanned) {
                false => state.dirty() & planned,
                true => planned,
            };
            if dirty == 0 {
                continue;
            }
            // A store through a mapping from here on would miss the I/O: it must fault again.
            if !self.backing.probe.is(Mutation::KeepMappingsWritable) {
                state.writable_to = 0;
            }
            add_runs(&mut runs, *blocks, dirty, state);
        }
        self.send(runs, &mut locked);
    }

    /// Writes `runs`, whose pages are `locked`.
    fn send(&self, runs: Vec<DirtyRun>, locked: &mut [(FileRange, MutexGuard<'_, PageState>)]) {
        let sent = self.blocks.send(runs);
        // No crash may leave data behind the end of the file, to be seen when it grows.
        let _together = self.store().together();
        for piece in sent.make_readable() {
            let tried = match piece.outcome {
                Ok(()) => true,
                Err(error) => {
                    let tried = matches!(error, Error::Io(_));
                    self.errors.record(error);
                    tried
                }
            };
            if !tried {
                continue;
            }
            for (blocks, state) in pages_meeting(locked, piece.range) {
                state.mark_clean(mask_of(*blocks, piece.range));
            }
            self.extend_stored_size(self.block_size().offset_of(piece.range.end()));
        }
    }

    /// For [`Mutation::UnlockFoliosOverIo`]: what is stored meanwhile counts as written.
    fn write_back_unlocked(&self, page: &Page) {
        let size = self.block_size();
        let mut runs = Vec::new();
        let dirty = {
            let mut state = page.lock();
            let dirty = state.dirty();
            add_runs(&mut runs, page.blocks(size), dirty, &mut state);
            dirty
        };
        for run in runs {
            let end = run.range.end();
            let sent = self.blocks.send(vec![run]);
            let _together = self.store().together();
            for piece in sent.make_readable() {
                if let Err(error) = piece.outcome {
                    self.errors.record(error);
                }
            }
            self.extend_stored_size(size.offset_of(end));
        }
        page.lock().mark_clean(dirty);
    }

    /// Lets the stored size follow data that has been written up to `end`, within the file's size; under the writeback
    /// lock. A failure goes to the error sequence.
    pub(super) fn extend_stored_size(&self, end: u64) {
        let end = match self.backing.probe.is(Mutation::StoreSizeUnclamped) {
            false => end.min(self.size()),
            true => end,
        };
        if let Err(error) = self.store().extend_size(self.number, end) {
            self.errors.record(error);
            self.unstored_size.fetch_max(end, Relaxed);
        }
    }
}

/// Adds the `dirty` blocks of a page whose blocks are `page` to the runs, which share its bytes.
fn add_runs(runs: &mut Vec<DirtyRun>, page: FileRange, dirty: BlockMask, state: &mut PageState) {
    let block = PAGE_SIZE / page.len();
    for range in runs_of(page, dirty) {
        let from = (range.start().0 - page.start().0) * block;
        let bytes = state
            .bytes
            .share(from as usize..(from + range.len() * block) as usize);
        match runs.last_mut() {
            Some(last) if last.range.end() == range.start() => {
                last.range = FileRange::new(last.range.start(), range.end());
                last.bytes.push(bytes);
            }
            _ => runs.push(DirtyRun {
                range,
                bytes: bytes.into(),
            }),
        }
    }
}
