//! A device in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Result};

use super::{BlockDevice, check_range, total_len};

/// A device in a regular file, through the operating system's page cache; a flush is `fdatasync`.
///
/// The file must keep its size. When somebody truncates it, operations behind its new end fail with [`Error::Io`]:
/// reads make up no zeros, and writes do not make the file grow again (short of a truncation during the write).
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    size: u64,
}

impl FileDevice {
    /// Makes a new sparse file of `size` bytes, all zero.
    ///
    /// # Errors
    /// [`Error::Io`], also when something is at `path` already.
    pub fn create(path: impl AsRef<Path>, size: u64) -> Result<Self> {
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path);
        let file = open.map_err(|error| Error::io("create", 0, &error))?;
        file.set_len(size)
            .map_err(|error| Error::io("create", size, &error))?;
        Ok(Self { file, size })
    }

    /// Opens the file at `path` as a device of the file's size.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be opened to read and write; [`Error::NotSupported`] when it is no
    /// regular file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let open = OpenOptions::new().read(true).write(true).open(path);
        let file = open.map_err(|error| Error::io("open", 0, &error))?;
        let metadata = file
            .metadata()
            .map_err(|error| Error::io("open", 0, &error))?;
        if !metadata.is_file() {
            return Err(Error::NotSupported(
                "a device in anything but a regular file",
            ));
        }
        Ok(Self {
            file,
            size: metadata.len(),
        })
    }

    /// Refuses what lies outside the device or, because it was truncated, outside the file.
    fn check(&self, operation: &'static str, offset: u64, len: u64) -> Result<()> {
        check_range(self.size, offset, len)?;
        let metadata = self
            .file
            .metadata()
            .map_err(|error| Error::io(operation, offset, &error))?;
        if metadata.len() < offset + len {
            return Err(Error::io(
                operation,
                offset,
                &io::ErrorKind::UnexpectedEof.into(),
            ));
        }
        Ok(())
    }
}

impl BlockDevice for FileDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len() as u64)?;
        let read = self.file.read_exact_at(buffer, offset);
        read.map_err(|error| Error::io("read", offset, &error))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.check("write", offset, data.len() as u64)?;
        let write = self.file.write_all_at(data, offset);
        write.map_err(|error| Error::io("write", offset, &error))
    }

    fn write_vectored_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<()> {
        self.check("write", offset, total_len(data))?;
        let mut offset = offset;
        let mut buffers = data.to_vec();
        let mut rest = &mut buffers[..];
        // Drops empty buffers in front: a write of nothing would be taken for a device that is full.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            // Passes on no more buffers than the system takes at once.
            let written = match rustix::io::pwritev(&self.file, rest, offset) {
                Ok(0) => {
                    let error = io::ErrorKind::WriteZero.into();
                    return Err(Error::io("write", offset, &error));
                }
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(Error::io("write", offset, &error.into())),
            };
            offset += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|error| Error::io("flush", 0, &error))
    }

    /// Punches a hole where the system can, which then reads as zeros; does nothing elsewhere.
    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.check("discard", offset, len)?;
        #[cfg(target_os = "linux")]
        if len > 0 {
            use rustix::fs::{FallocateFlags, fallocate};
            use rustix::io::Errno;

            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match fallocate(&self.file, flags, offset, len) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(Error::io("discard", offset, &error.into())),
            }
        }
        Ok(())
    }
}
