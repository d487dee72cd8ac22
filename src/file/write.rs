//! Writing through the page cache.

use crate::error::{Error, Result};
use crate::probe::{Moment, Mutation};
use crate::spans::span;
use crate::sync::Arc;
use crate::units::{FileRange, PAGE_SIZE};

use super::File;
use super::inode::Inode;
use super::page_cache::{Page, PageState};

impl File {
    /// Writes `data` at `offset`, growing the file if need be; returns how many bytes were written, fewer
    /// than given only when space or the largest file size ran out on the way.
    ///
    /// The bytes are in the page cache afterwards, their blocks allocated or delayed with their space
    /// promised: later writeback cannot run out of space. Takes the inode lock exclusively; blocks on the
    /// device where a block that is written in part only, or the last one before a gap, must be read first; before it
    /// takes any lock, on writeback where more is dirty than [may be](super::VolumeOptions::dirty_pages).
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::FileTooBig`] or a device error if not one byte could be written;
    /// [`Error::Interrupted`] when [`cancel_waits`](Self::cancel_waits) has ended the wait for writeback. Nothing has
    /// changed then.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<usize> {
        span!(
            TRACE,
            "write",
            file = self.inode.number.0,
            offset,
            len = data.len()
        );
        let inode = &*self.inode;
        inode.background.before_dirtying(&self.opened.waits)?;
        let _exclusive = inode.inode_lock.write();
        if data.is_empty() {
            return Ok(0);
        }
        let limit = inode.backing.geometry.max_file_size();
        if offset >= limit {
            return Err(Error::FileTooBig);
        }
        let end = offset.saturating_add(data.len() as u64).min(limit);
        if inode.write_inline(offset, data)? {
            return Ok(data.len());
        }
        inode.leave_inline()?;
        inode.zero_behind_end(offset, end)?;
        let _kept = inode.read_partial_blocks(offset, end)?;
        let written_end = inode.back(offset, end)?;
        inode.copy_in(offset, &data[..(written_end - offset) as usize]);
        Ok((written_end - offset) as usize)
    }

    /// Ends the waits of calls on this open file, clones included, that are held up because more is dirty than
    /// [may be](super::VolumeOptions::dirty_pages): [`write_at`](Self::write_at) and [`page_fault`](Self::page_fault) return
    /// [`Error::Interrupted`] and have done nothing, [`store_mapped`](Self::store_mapped) may return what it has stored before.
    /// For a caller who does not want to wait any more for a device that does not answer, as when the request of a process
    /// is interrupted. Never blocks.
    ///
    /// It concerns the waits that have begun ([`Stats::writers_throttled`](crate::stats::Stats) counts them at their
    /// beginning); later calls wait as ever. Who wants one call to end, and cannot know whether it waits yet, cancels until it
    /// has returned. Other open files of the same file are not concerned, and no wait is that has begun to use
    /// the device: of a sync, or of a write for a block that it changes in part.
    pub fn cancel_waits(&self) {
        self.inode.background.cancel(&self.opened.waits);
    }
}

impl Inode {
    /// Writes into a file that lives, and still fits, inside the mapping store; returns whether it did.
    fn write_inline(&self, offset: u64, data: &[u8]) -> Result<bool> {
        let Some(end) = offset.checked_add(data.len() as u64) else {
            return Ok(false);
        };
        if end > self.inline_limit || self.inline_bytes()?.is_none() {
            return Ok(false);
        }
        // Or a fault brings the new bytes out while the size is the old one.
        let _no_faults = self.exclude_filling(Mutation::ChangeInlineBesideFaults);
        let (start, end) = (offset as usize, end as usize);
        let written = self.blocks.change_inline(|bytes| {
            bytes.resize(bytes.len().max(end), 0);
            bytes[start..end].copy_from_slice(data);
        })?;
        if written {
            self.set_size(self.size().max(end as u64));
        }
        Ok(written)
    }

    /// Makes the blocks valid that the bytes `start..end` fill only in part, before anything is promised:
    /// a device error must leave no block delayed that no page will ever hold. They stay so as long as the caller holds
    /// the pages.
    pub(super) fn read_partial_blocks(&self, start: u64, end: u64) -> Result<Vec<Arc<Page>>> {
        let block = self.block_size().bytes();
        let mut held = Vec::new();
        for offset in [start, end]
            .into_iter()
            .filter(|offset| offset % block != 0)
        {
            let index = offset / PAGE_SIZE;
            let blocks = FileRange::at(self.block_size().block_of(offset), 1);
            let mask = self.mask_in_page(index, blocks);
            let fill = |page: &mut PageState| self.fill(index, page, mask);
            let (filled, page) = self.pages.with_held_page(index, fill);
            filled?;
            if !self.backing.probe.is(Mutation::LetGoOfEdges) {
                held.push(page);
            }
        }
        Ok(held)
    }

    /// Backs the blocks of the bytes `start..end`; returns the end of the bytes that are backed.
    fn back(&self, start: u64, end: u64) -> Result<u64> {
        let wanted = self.block_size().covering(start, end);
        let mut rest = wanted;
        while !rest.is_empty() {
            match self.with_freed_space(|| self.blocks.admit(rest)) {
                Ok(backed) => rest = FileRange::new(backed.range.end(), rest.end()),
                Err(_) if rest != wanted => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.block_size().offset_of(rest.start()).clamp(start, end))
    }

    /// Copies `data` into pages whose blocks are backed, page by page, the size following.
    fn copy_in(&self, mut offset: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let index = offset / PAGE_SIZE;
            let start = (offset % PAGE_SIZE) as usize;
            let len = data.len().min(PAGE_SIZE as usize - start);
            let end = offset + len as u64;
            let mask = self.mask_in_page(index, self.block_size().covering(offset, end));
            if self.backing.probe.is(Mutation::SizeBeforeBytes) {
                self.set_size(self.size().max(end));
            }
            self.backing.probe.reached(Moment::Copying);
            self.pages.with_page(index, |page| {
                page.bytes[start..start + len].copy_from_slice(&data[..len]);
                page.mark_dirty(mask);
                // Under the folio lock, so that whoever writes the page back knows how far the file goes.
                self.set_size(self.size().max(end));
            });
            offset = end;
            data = &data[len..];
        }
    }
}
