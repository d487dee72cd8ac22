//! Reading through the page cache.

use crate::error::{Error, Result};
use crate::probe::Mutation;
use crate::spans::span;
use crate::units::PAGE_SIZE;

use super::File;
use super::inode::Inode;

impl File {
    /// Reads bytes from `offset` on into `buf`; returns how many: fewer than asked at the end of the
    /// file, none behind it. Holes and unwritten blocks read as zeros.
    ///
    /// Blocks on the folio locks of the pages and on the device where a page must be filled. Each page is
    /// read at one instant; a read of several pages may see a concurrent write in part, by whole pages.
    ///
    /// # Errors
    /// Device errors, if nothing could be read before them. Never fails for any `offset`.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        span!(
            TRACE,
            "read",
            file = self.inode.number.0,
            offset,
            len = buf.len()
        );
        let inode = &*self.inode;
        if let Some(bytes) = inode.inline_bytes()? {
            let start = usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let len = buf.len().min(bytes.len() - start);
            buf[..len].copy_from_slice(&bytes[start..start + len]);
            return Ok(len);
        }
        let again = inode.backing.probe.is(Mutation::ReadBeyondSeenEnd);
        let end = offset.saturating_add(buf.len() as u64);
        let ahead_to = self.opened.read_ahead.until(offset..end);
        let mut brought_to = offset;
        let mut done = 0;
        while done < buf.len() {
            let at = offset.saturating_add(done as u64);
            if at >= brought_to {
                brought_to = inode.bring_in(at..end, ahead_to);
            }
            let in_page = (PAGE_SIZE - at % PAGE_SIZE).min((buf.len() - done) as u64) as usize;
            match inode.read_in_page(at, &mut buf[done..done + in_page]) {
                // The end of the file. Were it to grow now, the rest of the page would be of another instant.
                Ok(len) if len < in_page && !(again && len > 0) => return Ok(done + len),
                Ok(len) => done += len,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Loads bytes from a page of a mapping, as [`read_at`](Self::read_at).
    ///
    /// # Errors
    /// [`Error::BeyondEnd`] when the page of `offset` lies wholly behind the end of the file; device
    /// errors.
    pub fn load_mapped(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        if offset - offset % PAGE_SIZE >= self.size() {
            return Err(Error::BeyondEnd);
        }
        self.read_at(offset, buf)
    }
}

impl Inode {
    /// Reads what lies in the page of `offset`; none at or behind the end of the file.
    fn read_in_page(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let probe = &self.backing.probe;
        let _filling = probe.unless(Mutation::ReadBesidePunch, || self.invalidate_lock.read());
        if offset >= self.size() {
            return Ok(0);
        }
        let index = offset / PAGE_SIZE;
        self.pages.with_page(index, |page| {
            let page_end = (index + 1) * PAGE_SIZE;
            let wanted_end = offset.saturating_add(buf.len() as u64);
            let end = wanted_end.min(page_end).min(self.size());
            let Some(len) = end.checked_sub(offset) else {
                return Ok(0);
            };
            let blocks = self.block_size().covering(offset, end);
            self.fill(index, page, self.mask_in_page(index, blocks))?;
            let start = (offset % PAGE_SIZE) as usize;
            buf[..len as usize].copy_from_slice(&page.bytes[start..start + len as usize]);
            Ok(len as usize)
        })
    }
}
