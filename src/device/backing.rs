//! The regular file or block device of the system that holds the bytes of a device.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sync::{Mutex, Rank};

use super::{ZEROS, check_range};

/// An open file or block device of fixed size.
#[derive(Debug)]
pub(super) struct Backing {
    file: File,
    size: u64,
    /// The logical block size of a block device.
    block_size: Option<u64>,
    /// What makes durable what the system has of the file.
    sync: fn(&File) -> io::Result<()>,
    /// The right to sync.
    sync_turn: Mutex<()>,
    /// The first sync that failed. The system has forgotten by then what it could not write, and would say of the next
    /// one that all is well.
    failed_sync: Mutex<Option<Error>>,
}

/// What an open file or block device may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    ReadOnly,
    ReadWrite,
}

impl Backing {
    /// Makes a new sparse file of `size` bytes, all zero.
    pub(super) fn create(path: &Path, size: u64, flags: OFlags) -> Result<Self> {
        let mut options = options(Access::ReadWrite, flags);
        let open = options.create_new(true).open(path);
        let file = open.map_err(|error| Error::io("create", 0, &error))?;
        file.set_len(size)
            .map_err(|error| Error::io("create", size, &error))?;
        Ok(Self::of(file, size, None))
    }

    /// Opens what is at `path`: nothing that is neither a file nor a block device, no block device in use.
    pub(super) fn open(path: &Path, access: Access, flags: OFlags) -> Result<Self> {
        let failed = |error| Error::io("open", 0, &error);
        let is_block = fs::metadata(path)
            .map_err(failed)?
            .file_type()
            .is_block_device();
        // Exclusive: a block device that is mounted is refused.
        let exclusive = match is_block {
            true => OFlags::EXCL,
            false => OFlags::empty(),
        };
        let file = options(access, flags | exclusive)
            .open(path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_file() {
            return Ok(Self::of(file, metadata.len(), None));
        }
        if !metadata.file_type().is_block_device() {
            return Err(Error::NotSupported(
                "a device in anything but a regular file or block device",
            ));
        }
        #[cfg(target_os = "linux")]
        let block_size =
            rustix::fs::ioctl_blksszget(&file).map_err(|error| failed(error.into()))?;
        #[cfg(not(target_os = "linux"))]
        let block_size = 512;
        let size = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0));
        let size = size.map_err(|error| failed(error.into()))?;
        Ok(Self::of(file, size, Some(u64::from(block_size))))
    }

    fn of(file: File, size: u64, block_size: Option<u64>) -> Self {
        Self {
            file,
            size,
            block_size,
            sync: File::sync_data,
            sync_turn: Mutex::new(Rank::Device, ()),
            failed_sync: Mutex::new(Rank::Device.of(1), None),
        }
    }

    /// The same with another way to sync.
    #[cfg(test)]
    pub(super) fn with_sync(self, sync: fn(&File) -> io::Result<()>) -> Self {
        Self { sync, ..self }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The logical block size, where it is a block device.
    pub(super) fn block_size(&self) -> Option<u64> {
        self.block_size
    }

    /// Refuses what lies outside the device or, because it was truncated, outside the file.
    pub(super) fn check(&self, operation: &'static str, offset: u64, len: u64) -> Result<()> {
        check_range(self.size, offset, len)?;
        if self.block_size.is_some() {
            return Ok(());
        }
        let metadata = self
            .file
            .metadata()
            .map_err(|error| Error::io(operation, offset, &error))?;
        if metadata.len() < offset + len {
            return Err(ended(operation, offset));
        }
        Ok(())
    }

    /// Fills the buffers, all or nothing.
    pub(super) fn read(&self, offset: u64, buffers: &mut [IoSliceMut<'_>]) -> Result<()> {
        let len = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        check_range(self.size, offset, len)?;
        let (mut offset, mut rest) = (offset, buffers);
        IoSliceMut::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            // Passes on no more buffers than the system takes at once.
            match rustix::io::preadv(&self.file, rest, offset) {
                Ok(0) => return Err(ended("read", offset)),
                Ok(read) => {
                    offset += read as u64;
                    IoSliceMut::advance_slices(&mut rest, read);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io("read", offset, &error.into())),
            }
        }
        Ok(())
    }

    /// Writes the buffers, all or an unknown part.
    pub(super) fn write(&self, offset: u64, buffers: &mut [IoSlice<'_>]) -> Result<()> {
        let len = super::total_len(buffers);
        self.check("write", offset, len)?;
        let (mut offset, mut rest) = (offset, buffers);
        // Drops empty buffers in front: a write of nothing would be taken for a device that is full.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match rustix::io::pwritev(&self.file, rest, offset) {
                Ok(0) => {
                    let error = io::ErrorKind::WriteZero.into();
                    return Err(Error::io("write", offset, &error));
                }
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io("write", offset, &error.into())),
            }
        }
        Ok(())
    }

    /// Lets the system begin to write what its page cache has of a range, instead of at the next flush.
    pub(super) fn begin_writing(&self, offset: u64, len: u64) {
        // What is dirty cannot be let go of: Linux begins to write it, and keeps it. It is advice, so no error matters.
        #[cfg(target_os = "linux")]
        let _advised = rustix::fs::fadvise(
            &self.file,
            offset,
            std::num::NonZeroU64::new(len),
            rustix::fs::Advice::DontNeed,
        );
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, len);
    }

    /// Lets the system forget what its page cache has, so that reads show what the disk has.
    pub(super) fn forget_cache(&self) {
        // What is still to be written would be kept, and what was lost beside it in the same folio. If it cannot be
        // written either, it was nobody's yet.
        let _synced = (self.sync)(&self.file);
        #[cfg(target_os = "linux")]
        let _advised = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    /// Makes everything written before durable. Never again, once that has failed.
    pub(super) fn flush(&self) -> Result<()> {
        // Of those who sync at the same time the system tells one that it has failed, and the others that all is well.
        let _turn = self.sync_turn.lock();
        self.tell_synced(Ok(()))?;
        let synced = (self.sync)(&self.file);
        self.tell_synced(synced.map_err(|error| Error::io("flush", 0, &error)))
    }

    /// What to say of a sync that has ended so, or of a write that was to be durable.
    pub(super) fn tell_synced(&self, outcome: Result<()>) -> Result<()> {
        let mut failed = self.failed_sync.lock();
        match (&*failed, outcome) {
            (Some(first), Ok(())) => Err(first.clone()),
            (None, Err(error)) => {
                *failed = Some(error.clone());
                Err(error)
            }
            (_, outcome) => outcome,
        }
    }

    /// Gives the space of whole blocks back, where the system can.
    pub(super) fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.check("discard", offset, len)?;
        let (start, end) = self.whole_blocks(offset, len);
        #[cfg(target_os = "linux")]
        if start < end {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            self.fallocate("discard", flags, start, end)?;
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (start, end);
        Ok(())
    }

    /// Makes bytes zero: many by one command where the system can, else by `write`.
    pub(super) fn write_zeroes(
        &self,
        offset: u64,
        len: u64,
        write: impl Fn(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.check("write zeroes", offset, len)?;
        let write_range = |mut at: u64, end: u64| {
            while at < end {
                let part = (end - at).min(ZEROS.len() as u64);
                write(at, &ZEROS[..part as usize])?;
                at += part;
            }
            Ok(())
        };
        let end = offset + len;
        #[cfg(target_os = "linux")]
        // Fewer are written faster than a filesystem's metadata.
        if len > ZEROS.len() as u64 {
            let (first, last) = self.whole_blocks(offset, len);
            let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
            if self.fallocate("write zeroes", flags, first, last)? {
                write_range(offset, first)?;
                return write_range(last, end);
            }
        }
        write_range(offset, end)
    }

    /// The whole blocks between two bytes: first byte, and behind the last.
    fn whole_blocks(&self, offset: u64, len: u64) -> (u64, u64) {
        let size = self.block_size.unwrap_or(1);
        let end = (offset + len) / size * size;
        (offset.next_multiple_of(size).min(end), end)
    }

    /// Whether the system can do that here.
    #[cfg(target_os = "linux")]
    fn fallocate(
        &self,
        operation: &'static str,
        flags: FallocateFlags,
        start: u64,
        end: u64,
    ) -> Result<bool> {
        loop {
            match rustix::fs::fallocate(&self.file, flags, start, end - start) {
                Ok(()) => return Ok(true),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io(operation, start, &error.into())),
            }
        }
    }
}

#[cfg(target_os = "linux")]
use rustix::fs::FallocateFlags;

fn options(access: Access, flags: OFlags) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(access == Access::ReadWrite);
    options.custom_flags(flags.bits().cast_signed());
    options
}

/// That the file ends before `offset` and more.
fn ended(operation: &'static str, offset: u64) -> Error {
    Error::io(operation, offset, &io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use crate::sync::uncounted::{AtomicU64, Ordering::Relaxed};

    use super::*;

    fn backing(sync: fn(&File) -> io::Result<()>) -> (Backing, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let backing = Backing::create(&folder.path().join("image"), 4096, OFlags::empty());
        (backing.unwrap().with_sync(sync), folder)
    }

    #[test]
    fn a_sync_that_failed_is_the_last_that_is_tried_and_told_by_every_flush() {
        static SYNCS: AtomicU64 = AtomicU64::new(0);
        let (backing, _folder) = backing(|_| match SYNCS.fetch_add(1, Relaxed) {
            // As Linux does: it tells of what it could not write, and then no more.
            1 => Err(Errno::IO.into()),
            _ => Ok(()),
        });
        assert_eq!(backing.flush(), Ok(()));
        let failed = backing.flush();
        assert!(matches!(failed, Err(Error::Io(_))), "{failed:?}");
        for _ in 0..2 {
            assert_eq!(backing.flush(), failed);
        }
        assert_eq!(SYNCS.load(Relaxed), 2);
    }

    #[test]
    fn a_durable_write_that_failed_may_have_heard_what_the_next_flush_would_have() {
        let (backing, _folder) = backing(File::sync_data);
        assert_eq!(backing.tell_synced(Ok(())), Ok(()));
        let failed = backing.tell_synced(Err(Error::io("write", 512, &Errno::IO.into())));
        assert_eq!(backing.flush(), failed);
        assert_eq!(backing.tell_synced(Ok(())), failed);
        let other = Err(Error::io("write", 1024, &Errno::NOSPC.into()));
        assert_eq!(backing.tell_synced(other.clone()), other);
        assert_eq!(backing.flush(), failed);
    }
}
