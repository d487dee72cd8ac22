//! A device in a file or on a block device, past the system's page cache.

use std::io::{IoSlice, IoSliceMut};
use std::path::Path;

use rustix::fs::{AtFlags, OFlags, StatxFlags, statx};

use crate::error::{Error, Result};

use super::backing::{Access, Backing};
use super::{BlockDevice, Buffer, Limits, total_len};

/// A device in a regular file or on a block device that is read and written directly (`O_DIRECT`): nothing is copied
/// and nothing kept by the operating system. A flush is `fdatasync` and still needed; when one has failed, all later ones
/// fail.
///
/// Offsets and lengths must be multiples of the [alignment](Limits::alignment), else they are refused with
/// [`Error::InvalidInput`]. Memory that does not lie at a multiple of it is copied: callers who care
/// use a [`Buffer`].
#[derive(Debug)]
pub struct DirectDevice {
    backing: Backing,
    alignment: usize,
}

impl DirectDevice {
    /// Makes a new sparse file of `size` bytes, all zero.
    ///
    /// # Errors
    /// [`Error::Io`], also when something is at `path` already, and where the filesystem has no direct I/O.
    pub fn create(path: impl AsRef<Path>, size: u64) -> Result<Self> {
        Self::new(Backing::create(path.as_ref(), size, OFlags::DIRECT)?)
    }

    /// Opens the file or block device at `path`. What is behind its last whole block cannot be reached.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be opened to read and write directly, a block device also while it is mounted or
    /// otherwise in use; [`Error::NotSupported`] when it is something else.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let backing = Backing::open(path.as_ref(), Access::ReadWrite, OFlags::DIRECT)?;
        Self::new(backing)
    }

    pub(super) fn new(backing: Backing) -> Result<Self> {
        let alignment = match backing.block_size() {
            Some(block_size) => block_size as usize,
            None => file_alignment(&backing)?,
        };
        if !alignment.is_power_of_two() || alignment > Buffer::ALIGNMENT {
            return Err(Error::NotSupported("direct I/O of this file"));
        }
        Ok(Self { backing, alignment })
    }

    #[cfg(feature = "uring")]
    pub(super) fn backing(&self) -> &Backing {
        &self.backing
    }

    /// Refuses an operation that is not aligned.
    #[inline]
    pub(super) fn check(&self, offset: u64, len: u64) -> Result<()> {
        match (offset | len).is_multiple_of(self.alignment as u64) {
            true => Ok(()),
            false => Err(Error::InvalidInput("not aligned for direct I/O")),
        }
    }

    /// Whether memory from here on can be used as it is.
    pub(super) fn takes(&self, memory: &[u8]) -> bool {
        let aligned = |number: usize| number.is_multiple_of(self.alignment);
        aligned(memory.as_ptr().addr()) && aligned(memory.len())
    }
}

/// What offsets, lengths and memory must be multiples of for direct I/O of a regular file.
fn file_alignment(backing: &Backing) -> Result<usize> {
    let status = statx(
        backing.file(),
        c"",
        AtFlags::EMPTY_PATH,
        StatxFlags::DIOALIGN,
    );
    match status {
        Ok(status)
            if StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::DIOALIGN) =>
        {
            Ok(status.stx_dio_offset_align.max(status.stx_dio_mem_align) as usize)
        }
        // Filesystems that do not tell are content with this.
        _ => Ok(Buffer::ALIGNMENT),
    }
}

impl BlockDevice for DirectDevice {
    fn size(&self) -> u64 {
        let size = self.backing.size();
        size - size % self.alignment as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read_vectored_at(offset, &mut [IoSliceMut::new(buffer)])
    }

    fn read_vectored_at(&self, offset: u64, buffers: &mut [IoSliceMut<'_>]) -> Result<()> {
        let len: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        self.check(offset, len as u64)?;
        if buffers.iter().all(|buffer| self.takes(buffer)) {
            return self.backing.read(offset, buffers);
        }
        super::check_range(self.size(), offset, len as u64)?;
        let mut copy = Buffer::zeroed(len);
        self.backing
            .read(offset, &mut [IoSliceMut::new(&mut copy)])?;
        let mut rest = &copy[..];
        for buffer in buffers {
            let (part, behind) = rest.split_at(buffer.len());
            buffer.copy_from_slice(part);
            rest = behind;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.write_vectored_at(offset, &[IoSlice::new(data)])
    }

    fn write_vectored_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<()> {
        self.check(offset, total_len(data))?;
        if data.iter().all(|part| self.takes(part)) {
            return self.backing.write(offset, &mut data.to_vec());
        }
        super::check_range(self.size(), offset, total_len(data))?;
        let mut copy = Buffer::zeroed(total_len(data) as usize);
        let mut rest = &mut copy[..];
        for part in data {
            let (target, behind) = rest.split_at_mut(part.len());
            target.copy_from_slice(part);
            rest = behind;
        }
        self.backing.write(offset, &mut [IoSlice::new(&copy)])
    }

    fn flush(&self) -> Result<()> {
        self.backing.flush()
    }

    /// As with [`FileDevice`](super::FileDevice).
    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.check(offset, len)?;
        self.backing.discard(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.check(offset, len)?;
        let write = |at, zeros: &[u8]| self.write_at(at, zeros);
        self.backing.write_zeroes(offset, len, write)
    }

    fn limits(&self) -> Limits {
        Limits {
            alignment: self.alignment,
            cheap_discard: true,
            cheap_zeroes: true,
            ..Limits::default()
        }
    }
}
