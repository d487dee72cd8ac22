//! Truncation, down and up.

use crate::error::{Error, Result};
use crate::probe::{Moment, Mutation};
use crate::spans::span;
use crate::units::{FileBlock, FileRange};

use super::File;
use super::inode::Inode;

impl File {
    /// Sets the size in bytes. Shrinking, or setting the size the file has, drops every block behind the
    /// end, preallocated ones too; growing leaves a hole, or what was preallocated there.
    ///
    /// Takes the inode lock and, unless growing in blocks, the invalidate lock exclusively; waits for writeback of
    /// the pages that go.
    ///
    /// # Errors
    /// [`Error::FileTooBig`]; device errors when the old or new last block must be read, with nothing changed;
    /// [`Error::NoSpace`] when an inline file grows out of the mapping store; those of the mapping store. Where that
    /// fails to shrink a file, the size may be smaller and what lies behind it still there: set it anew.
    pub fn set_len(&self, size: u64) -> Result<()> {
        span!(DEBUG, "set_len", file = self.inode.number.0, size);
        let inode = &*self.inode;
        if size > inode.backing.geometry.max_file_size() {
            return Err(Error::FileTooBig);
        }
        let _exclusive = inode.inode_lock.write();
        if inode.resize_inline(size)? {
            return Ok(());
        }
        inode.leave_inline()?;
        if size > inode.size() {
            inode.zero_behind_end(size, size)?;
            return inode.grow(size);
        }
        inode.shrink(size)
    }
}

impl Inode {
    /// Resizes a file that lives, and will still fit, inside the mapping store; returns whether it did.
    fn resize_inline(&self, size: u64) -> Result<bool> {
        if size > self.inline_limit || self.inline_bytes()?.is_none() {
            return Ok(false);
        }
        // Or a fault backs blocks up to the old size, of a file that has the new one.
        let _no_faults = self.exclude_filling(Mutation::ChangeInlineBesideFaults);
        let resized = self
            .blocks
            .change_inline(|bytes| bytes.resize(size as usize, 0))?
            || self.backing.probe.is(Mutation::ResizeConvertedInline);
        if resized {
            self.set_size(size);
        }
        Ok(resized)
    }

    fn shrink(&self, size: u64) -> Result<()> {
        let _exclusive = self.exclude_filling(Mutation::ShrinkBesideFaults);
        let first_gone = FileBlock(self.block_size().blocks_for(size));
        // The device may fail before anything has changed; but only behind the new size no store through a
        // mapping can put bytes any more, so that what is zeroed stays zero.
        let _kept = self.read_partial_blocks(size, size)?;
        let late = self.backing.probe.is(Mutation::ShrinkSizeLast);
        let before = self.size();
        if !late {
            self.set_size(size);
        }
        let zeroed = self.zero_edge(size, self.block_size().offset_of(first_gone));
        // The pages that would have gone are still there.
        zeroed.inspect_err(|_| self.set_size(before))?;
        if self.backing.probe.is(Mutation::StoreSizeBeforeDropping) {
            self.store().set_size(self.number, size)?;
            self.pages.drop_blocks(FileRange::starting_at(first_gone));
            return self.blocks.truncate(first_gone);
        }
        if self.backing.probe.is(Mutation::FreeBeforeDropping) {
            self.blocks.truncate(first_gone)?;
        }
        self.pages.drop_blocks(FileRange::starting_at(first_gone));
        let _together = self.store().together();
        self.blocks.truncate(first_gone)?;
        self.backing.probe.reached(Moment::Truncated);
        if late {
            self.set_size(size);
        }
        // After the pages: writeback that still saw the old size has ended by now.
        self.store().set_size(self.number, size)
    }
}
