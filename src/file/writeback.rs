//! Writing dirty pages back, and the calls that ask for it.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::probe::Mutation;
use crate::sync::{Arc, MutexGuard};
use crate::units::{FileRange, PAGE_SIZE};

use super::File;
use super::inode::Inode;
use super::page_cache::{Page, PageState, bits, mask_of, pages_of, push_runs};

/// Pages whose folio locks are held at once while their dirty blocks are written.
const PAGES_AT_ONCE: usize = 256;

impl File {
    /// Writes the file's dirty pages back, waits for them and for the device to make them durable.
    /// Takes folio locks of dirty pages over the I/O, but not the inode lock.
    ///
    /// # Errors
    /// The last writeback error of the file, or the last failure to make anything of the volume durable, that this
    /// handle has not been told of yet. Blocks that the device failed to write are clean afterwards, as in Linux;
    /// others stay dirty.
    pub fn sync_data(&self) -> Result<()> {
        self.inode.write_back(0..u64::MAX);
        if let Err(error) = self.inode.backing.make_durable() {
            self.inode.flush_errors.record(error);
        }
        self.report_error()
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
        let end = match len {
            0 => u64::MAX,
            _ => offset.checked_add(len).ok_or(Error::FileTooBig)?,
        };
        if offset < end {
            self.inode.write_back(pages_of(offset..end));
        }
        self.report_error()
    }

    fn report_error(&self) -> Result<()> {
        let mut seen = self.opened.seen_errors.lock();
        let written = self.inode.errors.check(&mut seen.of_writeback);
        self.inode
            .flush_errors
            .check(&mut seen.of_flushes)
            .and(written)
    }
}

impl Inode {
    /// Writes the dirty pages of `pages` (page numbers) back and waits. Errors go to the error sequence.
    pub(super) fn write_back(&self, pages: Range<u64>) {
        let probe = &self.backing.probe;
        let _one_at_a_time = probe.unless(Mutation::WritebackBesideWriteback, || {
            self.writeback_lock.lock()
        });
        let mut next = pages.start;
        loop {
            let some = self.pages.existing(next..pages.end, PAGES_AT_ONCE);
            let Some(last) = some.last() else { break };
            next = last.index() + 1;
            self.write_back_some(&some);
        }
        self.give_up_space();
    }

    /// As [`write_back`](Self::write_back), failing when a page of the range could not be written or is still dirty
    /// afterwards. The caller keeps pages from becoming dirty.
    pub(super) fn settle(&self, pages: Range<u64>) -> Result<()> {
        let before = self.errors.count();
        self.write_back(pages.clone());
        self.errors.since(before)?;
        let bytes = [pages.start, pages.end].map(|page| page.saturating_mul(PAGE_SIZE));
        let blocks = self.block_size().covering(bytes[0], bytes[1]);
        match self.pages.first_dirty_run(blocks) {
            Some(_) => Err(Error::Corrupt("pages dirtied while the file was locked")),
            None => Ok(()),
        }
    }

    fn write_back_some(&self, pages: &[Arc<Page>]) {
        if self.backing.probe.is(Mutation::UnlockFoliosOverIo) {
            return pages.iter().for_each(|page| self.write_back_unlocked(page));
        }
        let mut locked: Vec<_> = pages
            .iter()
            .map(|page| (page.blocks(self.block_size()), page.lock()))
            .filter(|(_, state)| state.dirty != 0)
            .collect();
        let mut runs = Vec::new();
        for (blocks, state) in &mut locked {
            // A store through a mapping from here on would miss the I/O: it must fault again.
            if !self.backing.probe.is(Mutation::KeepMappingsWritable) {
                state.writable_to = 0;
            }
            push_runs(&mut runs, *blocks, state.dirty);
        }
        for run in runs {
            self.write_back_run(run, &mut locked);
        }
    }

    fn write_back_run(
        &self,
        run: FileRange,
        locked: &mut [(FileRange, MutexGuard<'_, PageState>)],
    ) {
        let size = self.block_size().bytes() as usize;
        let mut bytes = Vec::with_capacity(run.len() as usize * size);
        for (blocks, state) in pages_meeting(locked, run) {
            for bit in bits(mask_of(*blocks, run)) {
                bytes.extend_from_slice(&state.bytes[bit * size..(bit + 1) * size]);
            }
        }
        let sent = self.blocks.send(run, &bytes);
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
                state.dirty &= !mask_of(*blocks, piece.range);
            }
            self.extend_stored_size(self.block_size().offset_of(piece.range.end()));
        }
    }

    /// For [`Mutation::UnlockFoliosOverIo`]: what is stored meanwhile counts as written.
    fn write_back_unlocked(&self, page: &Page) {
        let size = self.block_size();
        let (blocks, len) = (page.blocks(size), size.bytes() as usize);
        let (bytes, dirty) = {
            let state = page.lock();
            (state.bytes.clone(), state.dirty)
        };
        for bit in bits(dirty) {
            let block = FileRange::at(blocks.start().advance(bit as u64), 1);
            let sent = self.blocks.send(block, &bytes[bit * len..][..len]);
            let _together = self.store().together();
            for piece in sent.make_readable() {
                if let Err(error) = piece.outcome {
                    self.errors.record(error);
                }
            }
            self.extend_stored_size(size.offset_of(block.end()));
        }
        page.lock().dirty &= !dirty;
    }

    /// Lets the stored size follow data that has been written up to `end`, within the file's size.
    fn extend_stored_size(&self, end: u64) {
        let end = match self.backing.probe.is(Mutation::StoreSizeUnclamped) {
            false => end.min(self.size()),
            true => end,
        };
        if let Err(error) = self.store().extend_size(self.number, end) {
            self.errors.record(error);
        }
    }
}

/// Those of the locked pages, which are in order, that hold blocks of `run`.
fn pages_meeting<'a, 'b>(
    locked: &'a mut [(FileRange, MutexGuard<'b, PageState>)],
    run: FileRange,
) -> &'a mut [(FileRange, MutexGuard<'b, PageState>)] {
    let first = locked.partition_point(|(blocks, _)| blocks.end() <= run.start());
    let end = locked.partition_point(|(blocks, _)| blocks.start() < run.end());
    &mut locked[first..end]
}
