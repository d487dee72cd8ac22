//! A device whose requests the kernel works on while nobody waits: `io_uring`.
//!
//! `ring` has what is under way, `slots` the memory that the kernel knows beforehand. Besides the map, only these use
//! `unsafe`; their comments name the invariants U1 to U5 of `UNSAFE.md`.

mod flusher;
mod part;
mod ring;
mod slots;

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread::{self, JoinHandle};

use crate::error::{Error, Result};
use crate::sync::Arc;

use self::flusher::Flusher;
use self::ring::Ring;
use super::{BlockDevice, DirectDevice, Limits, OperationKind, Request};

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
/// requests by `io_uring`. They end in threads of the device.
///
/// Reads and writes (durable ones too) that are [started](BlockDevice::start) go to the kernel at once, all of
/// one [`start_all`](BlockDevice::start_all) by one call. A thread flushes, for all who wait for that. The operations that
/// block are those of a direct device, and so are the rare requests that the kernel would not take as they are: larger than
/// 16 KiB in memory that is not aligned or in more than 1024 buffers, discards and zeros. One whose
/// [`len`](Request::len) is not that of its buffers is refused. Where a durable write has failed, it counts as a flush that
/// has: all later flushes and durable writes fail.
pub struct UringDevice {
    ring: Arc<Ring>,
    reaper: Option<JoinHandle<()>>,
    flusher: Flusher,
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
        let flusher = Flusher::of(Arc::clone(&ring))?;
        let reaper = {
            let ring = Arc::clone(&ring);
            let named = thread::Builder::new().name("io_uring reaper".into());
            let spawned = named.spawn(move || ring.reap());
            spawned.map_err(|error| Error::io("start thread", 0, &error))?
        };
        Ok(Self {
            ring,
            reaper: Some(reaper),
            flusher,
        })
    }

    /// Whether small requests go through registered memory.
    pub fn is_registered(&self) -> bool {
        self.ring.is_registered()
    }
}

/// Ends a request in a thread of the device. Whoever hears of it must not take the thread along: others wait for it.
fn end(request: Request, outcome: Result<()>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| request.complete(outcome))) {
        // To drop it could panic once more.
        mem::forget(panic);
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
            match request.kind {
                OperationKind::Flush => self.flusher.start(request),
                _ => begun.any |= self.ring.begin(request),
            }
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

#[cfg(test)]
mod tests {
    use rustix::fs::OFlags;
    use rustix::io::Errno;

    use crate::sync::uncounted::{AtomicU64, Ordering::Relaxed};
    use crate::sync::{Condvar, Mutex, Rank};

    use super::super::backing::Backing;
    use super::super::{Buffer, Buffers, Completion};
    use super::*;

    /// How the last request has ended.
    struct Outcome(Mutex<Option<Result<()>>>, Condvar);

    impl Completion for Outcome {
        fn completed(&self, _tag: u64, _buffers: Buffers, result: Result<()>) {
            *self.0.lock() = Some(result);
            self.1.notify_all();
        }
    }

    impl Outcome {
        fn wait(&self) -> Result<()> {
            let mut outcome = self.0.lock();
            loop {
                match outcome.take() {
                    Some(result) => return result,
                    None => outcome = self.1.wait(outcome),
                }
            }
        }
    }

    #[test]
    fn a_flush_that_failed_is_the_last_that_is_tried_whoever_asks() {
        static SYNCS: AtomicU64 = AtomicU64::new(0);
        let folder = tempfile::tempdir().unwrap();
        let backing = Backing::create(&folder.path().join("image"), 1 << 16, OFlags::DIRECT);
        let backing = backing
            .unwrap()
            .with_sync(|_| match SYNCS.fetch_add(1, Relaxed) {
                0 => Err(Errno::IO.into()),
                _ => Ok(()),
            });
        let direct = DirectDevice::new(backing).unwrap();
        let device = match UringDevice::new(direct, UringOptions::default()) {
            Err(Error::NotSupported(why)) => return println!("not tested: {why}"),
            device => device.unwrap(),
        };
        let outcome = Arc::new(Outcome(Mutex::new(Rank::Outcome, None), Condvar::default()));
        let hears: Arc<dyn Completion> = outcome.clone();
        let by_request = || {
            device.start(Request::flush((hears.clone(), 0)));
            outcome.wait()
        };
        let failed = by_request();
        assert!(matches!(failed, Err(Error::Io(_))), "{failed:?}");
        assert_eq!(by_request(), failed);
        assert_eq!(device.flush(), failed);
        let durable = Request::write(0, vec![Buffer::zeroed(4096)].into(), (hears.clone(), 0));
        device.start(durable.with_fua(true));
        assert_eq!(outcome.wait(), failed);
        assert_eq!(device.write_at(0, &[7; 4096]), Ok(()));
        assert_eq!(SYNCS.load(Relaxed), 1);
    }
}
