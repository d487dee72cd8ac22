//! Stores through a shared mapping, and the page fault that precedes them.

use crate::error::{Error, Result};
use crate::spans::span;
use crate::units::{FileRange, PAGE_SIZE};

use super::File;
use super::inode::Inode;
use super::page_cache::{PageState, mask_of, page_blocks};

impl File {
    /// Makes the page of `offset` writable through a mapping, as the kernel's `page_mkwrite`: every block
    /// of it below the end of the file is brought in, backed and dirtied.
    ///
    /// Takes the invalidate lock shared and the folio lock, *not* the inode lock: it runs beside
    /// fallocate, and that is the race this crate is built around.
    ///
    /// # Errors
    /// [`Error::BeyondEnd`] when the page lies wholly behind the end of the file, [`Error::NoSpace`]
    /// (a process would get `SIGBUS` for both), device errors, [`Error::Interrupted`] as for [`write_at`](Self::write_at).
    pub fn page_fault(&self, offset: u64) -> Result<()> {
        span!(TRACE, "page_fault", file = self.inode.number.0, offset);
        let inode = &*self.inode;
        inode.background.before_dirtying(&self.opened.waits)?;
        let _filling = inode.invalidate_lock.read();
        if offset >= inode.size().next_multiple_of(PAGE_SIZE) {
            return Err(Error::BeyondEnd);
        }
        inode.leave_inline()?;
        let index = offset / PAGE_SIZE;
        inode.with_freed_space(|| {
            inode
                .pages
                .with_page(index, |page| inode.make_writable(index, page))
        })
    }

    /// Stores `data` at `offset` through a mapping, faulting pages in as needed; returns how many bytes
    /// of the file were stored. Bytes of the last page behind the end of the file are not part of it and
    /// are ignored. The size never changes.
    ///
    /// # Errors
    /// As [`page_fault`](Self::page_fault), if nothing could be stored before.
    pub fn store_mapped(&self, offset: u64, data: &[u8]) -> Result<usize> {
        let mut done = 0;
        while done < data.len() {
            let at = offset.checked_add(done as u64).ok_or(Error::FileTooBig)?;
            let in_page = (PAGE_SIZE - at % PAGE_SIZE).min((data.len() - done) as u64) as usize;
            match self.store_in_page(at, &data[done..done + in_page]) {
                Ok(stored) if stored < in_page => return Ok(done + stored),
                Ok(stored) => done += stored,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn store_in_page(&self, offset: u64, data: &[u8]) -> Result<usize> {
        let index = offset / PAGE_SIZE;
        loop {
            let stored = self.inode.pages.with_existing(index, |page| {
                let size = self.inode.size();
                let len = data.len().min(size.saturating_sub(offset) as usize);
                let start = (offset % PAGE_SIZE) as usize;
                // Where the file has grown since the fault, the page must be faulted in again.
                let (page_start, page_end) = (index * PAGE_SIZE, (index + 1) * PAGE_SIZE);
                let below_end = size.min(page_end);
                (page_start < below_end && below_end <= page.writable_to).then(|| {
                    page.bytes[start..start + len].copy_from_slice(&data[..len]);
                    len
                })
            });
            match stored.flatten() {
                Some(stored) => return Ok(stored),
                None => self.page_fault(offset)?,
            }
        }
    }
}

impl Inode {
    fn make_writable(&self, index: u64, page: &mut PageState) -> Result<()> {
        let size = self.block_size();
        let blocks = page_blocks(index, size);
        let below_end = blocks.intersect(size.covering(0, self.size()));
        if below_end.is_empty() {
            return Err(Error::BeyondEnd);
        }
        self.fill(index, page, mask_of(blocks, below_end))?;
        let mut rest = below_end;
        while !rest.is_empty() {
            let backed = self.blocks.admit(rest)?.range;
            page.mark_dirty(mask_of(blocks, backed));
            rest = FileRange::new(backed.end(), rest.end());
        }
        page.writable_to = size.offset_of(below_end.end());
        Ok(())
    }
}
