//! Reading and writing past the page cache, of which nothing stale is left behind.

use crate::delalloc::DirtyRun;
use crate::device::Buffer;
use crate::error::{Error, Result};
use crate::probe::Mutation;
use crate::spans::span;
use crate::status::Status;
use crate::units::{FileBlock, FileRange};

use super::File;
use super::inode::Inode;
use super::page_cache::pages_of;

/// Bytes given to the device at once.
const STEP: usize = 1 << 20;

impl File {
    /// As [`read_at`](Self::read_at), but from the device, past the page cache. `offset` and length are whole blocks;
    /// bytes of `buf` behind the end of the file are zeroed and not counted.
    ///
    /// Writes the dirty pages of the range back first, and sees every write that had ended when it began. Takes the
    /// inode lock shared: direct reads run side by side. A file inside the mapping store is read from there.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the range is not whole blocks; those of writing back; device errors.
    pub fn read_direct_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        span!(
            TRACE,
            "read_direct",
            file = self.inode.number.0,
            offset,
            len = buf.len()
        );
        let inode = &*self.inode;
        inode.check_alignment(offset, buf.len())?;
        let shared = inode.inode_lock.read();
        if inode.inline_bytes()?.is_some() {
            drop(shared);
            let len = self.read_at(offset, buf)?;
            buf[len..].fill(0);
            return Ok(len);
        }
        let wanted = offset.saturating_add(buf.len() as u64);
        let end = wanted.min(inode.size());
        let Some(len) = end.checked_sub(offset).filter(|len| *len > 0) else {
            buf.fill(0);
            return Ok(0);
        };
        let before = inode.errors.count();
        inode.write_back(pages_of(offset..end));
        inode.errors.since(before)?;
        let size = inode.block_size();
        let blocks = size.covering(offset, end);
        let mut rest = blocks;
        while !rest.is_empty() {
            let found = inode.blocks.query(rest.start())?.clip(rest);
            let from = (found.range.start().0 - blocks.start().0) * size.bytes();
            let part = &mut buf[from as usize..][..(found.range.len() * size.bytes()) as usize];
            match found.status {
                Status::Written(disk) => inode.backing.queue.read(disk, part)?,
                _ => part.fill(0),
            }
            rest = FileRange::new(found.range.end(), rest.end());
        }
        buf[len as usize..].fill(0);
        Ok(len as usize)
    }

    /// As [`write_at`](Self::write_at), but to the device, past the page cache. `offset` and length are whole blocks.
    /// Nothing is durable before a sync.
    ///
    /// Writes the dirty pages of the range back and drops them first, and keeps new ones out; holes are allocated,
    /// unwritten until their data has arrived. Takes the inode and the invalidate lock exclusively, over the I/O too: one
    /// direct write of a file at a time. A file inside the mapping store is written there, or leaves it, as by
    /// `write_at`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the range is not whole blocks; as [`write_at`](Self::write_at); those of writing
    /// back. What a block holds whose write failed is unspecified: its old or new bytes, or some of both.
    pub fn write_direct_at(&self, offset: u64, data: &[u8]) -> Result<usize> {
        span!(
            TRACE,
            "write_direct",
            file = self.inode.number.0,
            offset,
            len = data.len()
        );
        let inode = &*self.inode;
        inode.check_alignment(offset, data.len())?;
        if data.is_empty() {
            return Ok(0);
        }
        let exclusive = inode.inode_lock.write();
        if inode.inline_bytes()?.is_some() {
            drop(exclusive);
            return self.write_at(offset, data);
        }
        let limit = inode.backing.geometry.max_file_size();
        if offset >= limit {
            return Err(Error::FileTooBig);
        }
        let end = offset.saturating_add(data.len() as u64).min(limit);
        let _no_pages_come_in = inode.exclude_filling(Mutation::DirectBesideFaults);
        inode.zero_behind_end(offset, end)?;
        inode.settle(pages_of(offset..end))?;
        let blocks = inode.block_size().covering(offset, end);
        if !inode.backing.probe.is(Mutation::KeepPagesUnderDirectWrite) {
            inode.pages.drop_blocks(blocks);
        }
        let end = inode.preallocate(offset, end)?;
        // Where an extent cannot be split, the rest of it is zeroed on the device: nobody else may be writing.
        let _one_at_a_time = inode.writeback_lock.lock();
        let mut at = offset;
        for part in data[..(end - offset) as usize].chunks(STEP) {
            let (arrived, outcome) = inode.write_through(at, part);
            at += arrived;
            match outcome {
                Ok(()) => {}
                Err(error) => {
                    inode.take_back_behind_end(end)?;
                    match at > offset {
                        true => break,
                        false => return Err(error),
                    }
                }
            }
        }
        Ok((at - offset) as usize)
    }
}

impl Inode {
    fn check_alignment(&self, offset: u64, len: usize) -> Result<()> {
        let block = self.block_size().bytes();
        match offset.is_multiple_of(block) && (len as u64).is_multiple_of(block) {
            true => Ok(()),
            false => Err(Error::InvalidInput("direct access takes whole blocks")),
        }
    }

    /// After a write up to `end` that failed: what of it lies behind the end of the file is no part of the file.
    fn take_back_behind_end(&self, end: u64) -> Result<()> {
        match end > self.size() {
            true => {
                let behind = FileBlock(self.block_size().blocks_for(self.size()));
                self.blocks.truncate(behind)
            }
            false => Ok(()),
        }
    }

    /// Writes whole blocks, which are allocated and of which no page is in memory, to the device; the size follows.
    /// Returns how many bytes have arrived before the first that has not, and why that has not.
    fn write_through(&self, offset: u64, bytes: &[u8]) -> (u64, Result<()>) {
        let size = self.block_size();
        let range = size.covering(offset, offset + bytes.len() as u64);
        let bytes = Buffer::copy_of(bytes).into();
        let sent = self.blocks.send(vec![DirtyRun { range, bytes }]);
        // No crash may leave data behind the end of the file, to be seen when it grows.
        let _together = self.store().together();
        let mut arrived = offset;
        let mut outcome = Ok(());
        for piece in sent.make_readable() {
            if let Err(error) = piece.outcome {
                outcome = Err(error);
                break;
            }
            arrived = size.offset_of(piece.range.end());
        }
        // Where nothing has arrived, not even a gap up to it comes into being.
        if arrived > offset.max(self.size()) {
            self.set_size(arrived);
            self.extend_stored_size(arrived);
        }
        (arrived - offset, outcome)
    }
}
