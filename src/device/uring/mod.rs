//! A device whose requests the kernel works on while nobody waits: `io_uring`.
//!
//! `ring` has what is under way, `slots` the memory that the kernel knows beforehand. Besides the map, only these use
//! `unsafe`; their comments name the invariants U1 to U5 of `UNSAFE.md`.

mod part;
mod ring;
mod slots;

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::thread::{self, JoinHandle};

use crate::error::{Error, Result};
use crate::sync::Arc;

use self::ring::Ring;
use super::{BlockDevice, DirectDevice, Limits, Request};

/// How a [`UringDevice`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UringOptions {
    /// Requests that the kernel has at the same time, at least 1; further ones wait.
    pub depth: usize,
    /// Whether requests of up to 16 KiB are copied to and from memory that the kernel knows beforehand, which spares it
    /// finding the pages of each. Where it refuses to know memory (it counts as locked), it is not used.
    pub registered: bool,
    /// Whether the kernel asks the disk instead of waiting to be told. Takes a processor while anything is under way, and
    /// a disk and driver made for it.
    pub polled: bool,
}

impl Default for UringOptions {
    /// 128 requests, registered memory, no polling.
    fn default() -> Self {
        Self {
            depth: 128,
            registered: true,
            polled: false,
        }
    }
}

/// A device in a regular file or on a block device, like [`DirectDevice`] and with the same rules, that carries out
/// requests by `io_uring`. They end in a thread of the device.
///
/// Reads, writes (durable ones too) and flushes that are [started](BlockDevice::start) go to the kernel at once, all of
/// one [`start_all`](BlockDevice::start_all) by one call. The operations that block are those of a direct device, and
/// so are the rare requests that the kernel would not take as they are: larger than 16 KiB in memory that is not
/// aligned or in more than 1024 buffers, discards, zeros, and flushes of a polled device. One whose
/// [`len`](Request::len) is not that of its buffers is refused.
pub struct UringDevice {
    ring: Arc<Ring>,
    reaper: Option<JoinHandle<()>>,
}

impl UringDevice {
    /// Opens the file or block device at `path`.
    ///
    /// # Errors
    /// Those of [`DirectDevice::open`]; [`Error::NotSupported`] where the kernel does not let this process use
    /// `io_uring` (containers often forbid it) or cannot poll this disk: a [`DirectDevice`] does the same there.
    /// [`Error::InvalidInput`] for a depth of 0 or above 4096.
    pub fn open(path: impl AsRef<Path>, options: UringOptions) -> Result<Self> {
        Self::new(DirectDevice::open(path)?, options)
    }

    /// Works on what `direct` has open.
    ///
    /// # Errors
    /// As with [`open`](Self::open).
    pub fn new(direct: DirectDevice, options: UringOptions) -> Result<Self> {
        if !(1..=4096).contains(&options.depth) {
            return Err(Error::InvalidInput("depth of an io_uring"));
        }
        let ring = Arc::new(Ring::new(direct, options)?);
        let reaper = {
            let ring = Arc::clone(&ring);
            let named = thread::Builder::new().name("io_uring reaper".into());
            let spawned = named.spawn(move || ring.reap());
            spawned.map_err(|error| Error::io("start thread", 0, &error))?
        };
        Ok(Self {
            ring,
            reaper: Some(reaper),
        })
    }

    /// Whether small requests go through registered memory.
    pub fn is_registered(&self) -> bool {
        self.ring.is_registered()
    }
}

/// Requests laid out for the kernel, which sees them when this is dropped: also if whoever brings them, or hears of one that
/// was refused, panics.
struct Begun<'a> {
    device: &'a UringDevice,
    any: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let Some(reaper) = self.device.reaper.as_ref().filter(|_| self.any) else {
            return;
        };
        let on_reaper = reaper.thread().id() == thread::current().id();
        self.device.ring.submit_from(on_reaper);
        if !on_reaper {
            reaper.thread().unpark();
        }
    }
}

impl Drop for UringDevice {
    /// Waits until everything under way has ended.
    fn drop(&mut self) {
        self.ring.stop();
        if let Some(reaper) = self.reaper.take() {
            reaper.thread().unpark();
            // The reaper itself may end the last one that has the device, and ends by itself.
            if reaper.thread().id() != thread::current().id() {
                let _ = reaper.join();
            }
        }
    }
}

impl BlockDevice for UringDevice {
    fn size(&self) -> u64 {
        self.ring.direct().size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.ring.direct().read_at(offset, buffer)
    }

    fn read_vectored_at(&self, offset: u64, buffers: &mut [IoSliceMut<'_>]) -> Result<()> {
        self.ring.direct().read_vectored_at(offset, buffers)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.ring.direct().write_at(offset, data)
    }

    fn write_vectored_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<()> {
        self.ring.direct().write_vectored_at(offset, data)
    }

    fn flush(&self) -> Result<()> {
        self.ring.direct().flush()
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.ring.direct().discard(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.ring.direct().write_zeroes(offset, len)
    }

    fn start(&self, request: Request) {
        self.start_all(&mut std::iter::once(request));
    }

    fn start_all(&self, requests: &mut dyn Iterator<Item = Request>) {
        let mut begun = Begun {
            device: self,
            any: false,
        };
        for request in requests {
            begun.any |= self.ring.begin(request);
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            depth: self.ring.options().depth,
            asynchronous: true,
            native_fua: true,
            ..self.ring.direct().limits()
        }
    }
}

impl fmt::Debug for UringDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UringDevice")
            .field("direct", self.ring.direct())
            .field("options", &self.ring.options())
            .finish_non_exhaustive()
    }
}
