//! Devices: a fixed number of bytes that can be read, written, flushed and discarded.
//!
//! A [`BlockDevice`] promises that an operation that returned `Ok` was carried out as a whole, that a read sees
//! what was last written (zeros where nothing ever was), and that what was written before a
//! [`flush`](BlockDevice::flush) began survives a crash once the flush has returned `Ok`. It never makes up data: when
//! the bytes cannot be had, that is an error.
//!
//! That holds after a flush that failed as well, and an implementer must see to it: what it was to make durable is still
//! "written before" the next flush, which may return `Ok` only if all of that survives too. A system that forgets what it
//! could not write (Linux does: it marks the pages clean) cannot say so, and the devices here that are made of its files
//! fail every later flush with the first error, until they are opened anew. What reads return of such bytes is
//! unspecified, as after a failed write.
//!
//! The layer must **not** know bios, queues, blocks, files or the meaning of any byte. It works on byte
//! offsets and buffers; the layer above merges neighbouring requests and passes them as one.
//!
//! Every device has operations that block. One that can have requests under way beside the threads that ask for them
//! also implements [`start`](BlockDevice::start), and says so in its [`Limits`].

#[cfg(unix)]
mod backing;
mod buffer;
mod chance;
#[cfg(target_os = "linux")]
mod direct;
mod fault;
mod faulty;
#[cfg(unix)]
mod file;
mod image;
mod limits;
mod memory;
mod operation;
mod parts;
mod power_cut;
mod recorder;
mod recording;
mod relay;
mod request;
#[cfg(all(target_os = "linux", feature = "uring"))]
mod uring;

pub use buffer::{Buffer, Buffers};
#[cfg(target_os = "linux")]
pub use direct::DirectDevice;
pub use faulty::FaultyDevice;
#[cfg(unix)]
pub use file::FileDevice;
pub use image::ImageDevice;
pub use limits::Limits;
pub use memory::MemoryDevice;
pub use operation::{Operation, OperationKind};
pub use power_cut::{PowerCut, Survivors};
pub use recorder::Recorder;
pub use recording::{End, Recorded, Recording, SECTOR};
pub use request::{Completion, Request};
pub(crate) use request::{operate, unanswered};
#[cfg(all(target_os = "linux", feature = "uring"))]
pub use uring::{UringDevice, UringOptions};

use std::fmt::Debug;
use std::io::{IoSlice, IoSliceMut};

use crate::error::{Error, Result};

/// A random-access device of [`size`](Self::size) bytes.
///
/// Every operation must lie inside the device as a whole; one that does not is refused with
/// [`Error::InvalidInput`] before anything is done. What the device itself cannot do is [`Error::Io`]; the bytes of a
/// failed write are unspecified (old, new, or some of each). Operations block until they are
/// done. Concurrent operations on separate ranges do not influence each other; on overlapping ranges
/// the outcome is some interleaving of their bytes.
pub trait BlockDevice: Send + Sync + Debug {
    /// The size in bytes; it never changes.
    fn size(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::Io`]; `buffer` is unspecified then.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// Fills the buffers one behind the other with the bytes from `offset` on: one request made of several. The
    /// default fills them one by one.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::Io`]; the buffers are unspecified then.
    fn read_vectored_at(&self, offset: u64, buffers: &mut [IoSliceMut<'_>]) -> Result<()> {
        let len = buffers.iter().map(|part| part.len() as u64).sum();
        check_range(self.size(), offset, len)?;
        let mut offset = offset;
        for part in buffers {
            self.read_at(offset, part)?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    /// Writes all of `data` from `offset` on.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::Io`].
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()>;

    /// Writes the buffers one behind the other from `offset` on: one request made of several. The default
    /// writes them one by one.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::Io`].
    fn write_vectored_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<()> {
        check_range(self.size(), offset, total_len(data))?;
        let mut offset = offset;
        for part in data {
            self.write_at(offset, part)?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    /// Makes everything written before this call durable, also what a flush that failed has not.
    ///
    /// # Errors
    /// [`Error::Io`]; which of the earlier writes are durable is unknown then. A device that cannot make up for that fails
    /// every later flush too.
    fn flush(&self) -> Result<()>;

    /// Says that the contents of `len` bytes from `offset` on are no longer needed. What they read as afterwards is
    /// unspecified (old contents or zeros) until they are written again.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::Io`].
    fn discard(&self, offset: u64, len: u64) -> Result<()>;

    /// Makes `len` bytes from `offset` on read as zeros. The default writes zeros.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::Io`].
    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        check_range(self.size(), offset, len)?;
        let (mut offset, end) = (offset, offset + len);
        while offset < end {
            let part = (end - offset).min(ZEROS.len() as u64);
            self.write_at(offset, &ZEROS[..part as usize])?;
            offset += part;
        }
        Ok(())
    }

    /// Begins with a request, which the device ends by [`Request::complete`]: now or later, in this thread or another
    /// one, requests in any order. The default carries it out at once.
    ///
    /// No request waits for another: one that must see what another one does is started after that has ended.
    fn start(&self, mut request: Request) {
        let result = request.carry_out(self);
        request.complete(result);
    }

    /// Begins with several requests, in this order: cheaper than one by one where a device can be told of many at once.
    fn start_all(&self, requests: &mut dyn Iterator<Item = Request>) {
        requests.for_each(|request| self.start(request));
    }

    /// What a queue should know about the device.
    fn limits(&self) -> Limits {
        Limits::default()
    }
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Refuses what does not lie inside a device of `size` bytes.
#[inline]
pub(crate) fn check_range(size: u64, offset: u64, len: u64) -> Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(Error::InvalidInput("outside the device")),
    }
}

fn total_len(data: &[IoSlice<'_>]) -> u64 {
    data.iter().map(|part| part.len() as u64).sum()
}
