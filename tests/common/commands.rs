//! A device that records the commands it gets, fails chosen ones, and ends them at once or later, in any order.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use extent_map::device::OperationKind::{self, Discard, Flush, Read, Write, WriteZeroes};
use extent_map::device::{BlockDevice, Limits, Request};
use extent_map::{Error, IoError, Result};

use super::io::EIO;
use super::random::Random;

/// One command, as the device got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) kind: OperationKind,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) segments: usize,
    pub(crate) fua: bool,
    pub(crate) ok: bool,
}

/// How the device ends what is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Before `start` returns.
    AtOnce,
    /// In another thread, in an order that depends on this seed.
    Later(u64),
    /// When [`Commands::end_oldest`] is called.
    WhenTold,
}

/// Passes commands on to another device.
pub(crate) struct Commands {
    shared: Arc<Shared>,
    ends: Ends,
    worker: Option<JoinHandle<()>>,
}

struct Shared {
    inner: Arc<dyn BlockDevice>,
    limits: Limits,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    log: Vec<Command>,
    /// Fails what touches these bytes; of this kind, if there is one.
    bad: Option<(Option<OperationKind>, Range<u64>)>,
    /// Fails the command after so many more.
    fails_at: Option<u64>,
    under_way: Vec<Request>,
    most_under_way: usize,
    closed: bool,
}

impl Commands {
    /// Passes everything on to `inner`. With `limits.asynchronous`, requests that are started end as `ends` says.
    pub(crate) fn new(inner: Arc<dyn BlockDevice>, limits: Limits, ends: Ends) -> Arc<Self> {
        let shared = Arc::new(Shared {
            inner,
            limits,
            state: Mutex::default(),
            arrived: Condvar::new(),
        });
        let worker = match ends {
            Ends::AtOnce | Ends::WhenTold => None,
            Ends::Later(seed) => {
                let shared = Arc::clone(&shared);
                Some(thread::spawn(move || shared.work(Random(seed))))
            }
        };
        Arc::new(Self {
            shared,
            ends,
            worker,
        })
    }

    /// The commands since the last call, in the order in which they ended.
    pub(crate) fn take_log(&self) -> Vec<Command> {
        std::mem::take(&mut self.shared.state.lock().unwrap().log)
    }

    /// Fails what touches `bytes`, of this kind if there is one; nothing, for no bytes.
    pub(crate) fn fail_range(&self, kind: Option<OperationKind>, bytes: Range<u64>) {
        self.shared.state.lock().unwrap().bad = (!bytes.is_empty()).then_some((kind, bytes));
    }

    /// Fails one command, after `nth` more.
    pub(crate) fn fail_at(&self, nth: u64) {
        self.shared.state.lock().unwrap().fails_at = Some(nth);
    }

    /// Ends the request that was started first, if there is one.
    pub(crate) fn end_oldest(&self) -> bool {
        let mut state = self.shared.state.lock().unwrap();
        if state.under_way.is_empty() {
            return false;
        }
        let request = state.under_way.remove(0);
        drop(state);
        self.shared.end(request);
        true
    }

    /// The most requests that were under way at once.
    pub(crate) fn most_under_way(&self) -> usize {
        self.shared.state.lock().unwrap().most_under_way
    }
}

impl Shared {
    fn command(
        &self,
        kind: OperationKind,
        bytes: Range<u64>,
        segments: usize,
        fua: bool,
        operation: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        let bad = state.bad.as_ref().is_some_and(|(of, bad)| {
            of.is_none_or(|of| of == kind) && bytes.start < bad.end && bad.start < bytes.end
        });
        let counted = state.fails_at.take();
        state.fails_at = counted.and_then(|left| left.checked_sub(1));
        let fails = bad || counted == Some(0);
        // Done under the lock: the order of the log is the order of what happened.
        let result = match fails {
            true => Err(Error::Io(IoError {
                operation: "command",
                offset: bytes.start,
                errno: EIO,
            })),
            false => operation(),
        };
        state.log.push(Command {
            kind,
            offset: bytes.start,
            len: bytes.end - bytes.start,
            segments,
            fua,
            ok: result.is_ok(),
        });
        result
    }

    fn end(&self, mut request: Request) {
        let bytes = request.offset..request.offset + request.len;
        let (segments, fua) = (request.buffers.len(), request.fua);
        // The device below need not know.
        request.fua = false;
        let result = self.command(request.kind, bytes, segments, fua, || {
            request.carry_out(&*self.inner)
        });
        request.complete(result);
    }

    fn work(&self, mut random: Random) {
        loop {
            let mut state = self.state.lock().unwrap();
            while state.under_way.is_empty() {
                if state.closed {
                    return;
                }
                state = self.arrived.wait(state).unwrap();
            }
            if random.below(4) == 0 {
                // Others may arrive.
                drop(state);
                thread::yield_now();
                continue;
            }
            let one = random.below(state.under_way.len() as u64) as usize;
            let request = state.under_way.swap_remove(one);
            drop(state);
            self.end(request);
        }
    }
}

impl BlockDevice for Commands {
    fn size(&self) -> u64 {
        self.shared.inner.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let bytes = offset..offset + buffer.len() as u64;
        let inner = &self.shared.inner;
        let read = || inner.read_at(offset, buffer);
        self.shared.command(Read, bytes, 1, false, read)
    }

    fn read_vectored_at(&self, offset: u64, buffers: &mut [IoSliceMut<'_>]) -> Result<()> {
        let len: usize = buffers.iter().map(|part| part.len()).sum();
        let (bytes, segments) = (offset..offset + len as u64, buffers.len());
        let inner = &self.shared.inner;
        let read = || inner.read_vectored_at(offset, buffers);
        self.shared.command(Read, bytes, segments, false, read)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let bytes = offset..offset + data.len() as u64;
        let write = || self.shared.inner.write_at(offset, data);
        self.shared.command(Write, bytes, 1, false, write)
    }

    fn write_vectored_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<()> {
        let len: usize = data.iter().map(|part| part.len()).sum();
        let bytes = offset..offset + len as u64;
        let write = || self.shared.inner.write_vectored_at(offset, data);
        self.shared.command(Write, bytes, data.len(), false, write)
    }

    fn flush(&self) -> Result<()> {
        let flush = || self.shared.inner.flush();
        self.shared.command(Flush, 0..0, 0, false, flush)
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        let discard = || self.shared.inner.discard(offset, len);
        let bytes = offset..offset + len;
        self.shared.command(Discard, bytes, 0, false, discard)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        let zero = || self.shared.inner.write_zeroes(offset, len);
        let bytes = offset..offset + len;
        self.shared.command(WriteZeroes, bytes, 0, false, zero)
    }

    fn start(&self, request: Request) {
        assert!(self.shared.limits.asynchronous, "it blocks");
        match self.ends {
            Ends::AtOnce => self.shared.end(request),
            Ends::Later(_) | Ends::WhenTold => {
                let mut state = self.shared.state.lock().unwrap();
                state.under_way.push(request);
                let data = |request: &&Request| request.kind != Flush;
                let now = state.under_way.iter().filter(data).count();
                state.most_under_way = state.most_under_way.max(now);
                self.shared.arrived.notify_one();
            }
        }
    }

    fn limits(&self) -> Limits {
        self.shared.limits
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().closed = true;
        self.shared.arrived.notify_one();
        // The last request may have had the last handle of this device.
        if let Some(worker) = self.worker.take()
            && worker.thread().id() != thread::current().id()
        {
            worker.join().unwrap();
        }
    }
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commands").finish_non_exhaustive()
    }
}
