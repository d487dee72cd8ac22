//! A device in a file or on a block device, through the system's page cache.

use std::io::{IoSlice, IoSliceMut};
use std::path::Path;

use rustix::fs::OFlags;
use smallvec::SmallVec;

use crate::error::Result;
use crate::sync::uncounted::{AtomicU64, Ordering::Relaxed};

use super::backing::{Access, Backing};
use super::{BlockDevice, Limits, total_len};

/// The disk begins with a write of so many bytes at once, so that it has little left to do when a flush comes: whoever
/// sends so much in one command is writing back.
const BEGUN_AT_ONCE: u64 = 1 << 20;
/// But of what is written between two flushes not with more than about this: who does not flush need not be slowed
/// down by the disk.
const MOST_BEGUN: u64 = 128 << 20;

/// A device in a regular file or on a block device, through the operating system's page cache; a flush is `fdatasync`.
/// When one has failed, all later ones fail: the system takes for written what it could not write, and its page cache
/// may go on to show it.
///
/// A file must keep its size. When somebody truncates it, operations behind its new end fail with
/// [`Error::Io`](crate::Error::Io): reads make up no zeros, and writes do not make the file grow again (short of a
/// truncation during the write).
#[derive(Debug)]
pub struct FileDevice {
    backing: Backing,
    /// Bytes that the disk was to begin with since the last flush.
    begun: AtomicU64,
}

impl FileDevice {
    /// Makes a new sparse file of `size` bytes, all zero.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), also when something is at `path` already.
    pub fn create(path: impl AsRef<Path>, size: u64) -> Result<Self> {
        Backing::create(path.as_ref(), size, OFlags::empty()).map(Self::over)
    }

    /// Opens the file or block device at `path` as a device of its size. What the system has of it in its page cache is
    /// written and then (on Linux) forgotten: some of it may have been taken for written before, and the disk not have it.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when it cannot be opened to read and write, a block device also while it is mounted or
    /// otherwise in use; [`Error::NotSupported`](crate::Error::NotSupported) when it is something else.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let backing = Backing::open(path.as_ref(), Access::ReadWrite, OFlags::empty())?;
        backing.forget_cache();
        Ok(Self::over(backing))
    }

    /// The same to read only: every operation that would change something fails with [`Error::Io`](crate::Error::Io).
    ///
    /// # Errors
    /// As [`open`](Self::open), but what cannot be opened to write is no error.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self> {
        let backing = Backing::open(path.as_ref(), Access::ReadOnly, OFlags::empty())?;
        backing.forget_cache();
        Ok(Self::over(backing))
    }

    fn over(backing: Backing) -> Self {
        let begun = AtomicU64::new(0);
        Self { backing, begun }
    }
}

impl BlockDevice for FileDevice {
    fn size(&self) -> u64 {
        self.backing.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.backing.read(offset, &mut [IoSliceMut::new(buffer)])
    }

    fn read_vectored_at(&self, offset: u64, buffers: &mut [IoSliceMut<'_>]) -> Result<()> {
        self.backing.read(offset, buffers)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.write_vectored_at(offset, &[IoSlice::new(data)])
    }

    fn write_vectored_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<()> {
        let mut parts: SmallVec<[_; 16]> = data.into();
        self.backing.write(offset, &mut parts)?;
        let len = total_len(data);
        if len >= BEGUN_AT_ONCE && self.begun.fetch_add(len, Relaxed) < MOST_BEGUN {
            self.backing.begin_writing(offset, len);
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.begun.store(0, Relaxed);
        self.backing.flush()
    }

    /// Gives back the space of whole blocks where the system can, which then read as zeros; does nothing elsewhere.
    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.backing.discard(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        let write = |at, zeros: &[u8]| self.write_at(at, zeros);
        self.backing.write_zeroes(offset, len, write)
    }

    fn limits(&self) -> Limits {
        Limits {
            cheap_discard: cfg!(target_os = "linux"),
            cheap_zeroes: cfg!(target_os = "linux"),
            ..Limits::default()
        }
    }
}
