//! One request that a device has in its hands.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};

use smallvec::SmallVec;

use crate::error::{Error, IoError, Result};
use crate::sync::Arc;

use super::{BlockDevice, Buffer, Buffers, OperationKind};

/// Who hears of the end of requests.
pub trait Completion: Send + Sync {
    /// The request that was given `tag` has ended, in whatever thread this is. Its buffers come back; after a
    /// successful read they hold what was read, after a failed one anything.
    ///
    /// Called once for each request, and possibly before [`BlockDevice::start`] has returned. It must not wait for
    /// another request of the same device.
    fn completed(&self, tag: u64, buffers: Buffers, result: Result<()>);
}

/// A request that owns its memory, so that a device may take its time with it. Whoever has it ends it by
/// [`complete`](Self::complete); one that is dropped ends as failed.
///
/// The bytes are `len` from `offset` on: those of the buffers, for a read or write; none, for a flush.
#[must_use = "dropping it fails it"]
pub struct Request {
    /// What is asked for.
    pub kind: OperationKind,
    /// Where, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
    /// What is written, or where that goes which is read.
    pub buffers: Buffers,
    /// Force unit access: a write is durable when it has ended.
    pub fua: bool,
    /// In which of the [queues](super::Limits::queues) of the device.
    pub queue: usize,
    /// Who waits, and under which tag; `None` once told.
    waiting: Option<(Arc<dyn Completion>, u64)>,
}

impl Request {
    /// A read into all of `buffers`.
    pub fn read(offset: u64, buffers: Buffers, waiting: (Arc<dyn Completion>, u64)) -> Self {
        let len = buffers.byte_len();
        Self::new(OperationKind::Read, offset, len, buffers, waiting)
    }

    /// A write of all of `buffers`.
    pub fn write(offset: u64, buffers: Buffers, waiting: (Arc<dyn Completion>, u64)) -> Self {
        let len = buffers.byte_len();
        Self::new(OperationKind::Write, offset, len, buffers, waiting)
    }

    /// A flush.
    pub fn flush(waiting: (Arc<dyn Completion>, u64)) -> Self {
        Self::new(OperationKind::Flush, 0, 0, Buffers::default(), waiting)
    }

    /// A discard of `len` bytes.
    pub fn discard(offset: u64, len: u64, waiting: (Arc<dyn Completion>, u64)) -> Self {
        let buffers = Buffers::default();
        Self::new(OperationKind::Discard, offset, len, buffers, waiting)
    }

    /// Makes `len` bytes zero.
    pub fn write_zeroes(offset: u64, len: u64, waiting: (Arc<dyn Completion>, u64)) -> Self {
        let buffers = Buffers::default();
        Self::new(OperationKind::WriteZeroes, offset, len, buffers, waiting)
    }

    fn new(
        kind: OperationKind,
        offset: u64,
        len: u64,
        buffers: Buffers,
        waiting: (Arc<dyn Completion>, u64),
    ) -> Self {
        Self {
            kind,
            offset,
            len,
            buffers,
            fua: false,
            queue: 0,
            waiting: Some(waiting),
        }
    }

    /// Asks for a write that is durable when it has ended.
    pub fn with_fua(mut self, fua: bool) -> Self {
        self.fua = fua;
        self
    }

    /// Ends the request.
    pub fn complete(mut self, result: Result<()>) {
        self.end(result);
    }

    /// Does what is asked for by the operations of `device` that block. The request has not ended with that.
    ///
    /// # Errors
    /// Those of the operations.
    pub fn carry_out<D: BlockDevice + ?Sized>(&mut self, device: &D) -> Result<()> {
        let (offset, len) = (self.offset, self.len);
        operate(device, self.kind, offset, len, &mut self.buffers)?;
        if self.fua { device.flush() } else { Ok(()) }
    }

    fn end(&mut self, result: Result<()>) {
        if let Some((completion, tag)) = self.waiting.take() {
            completion.completed(tag, std::mem::take(&mut self.buffers), result);
        }
    }
}

/// Does something by the operations of `device` that block.
// Always: a call costs a command in memory a tenth of its instructions.
#[inline(always)]
pub(crate) fn operate<D: BlockDevice + ?Sized>(
    device: &D,
    kind: OperationKind,
    offset: u64,
    len: u64,
    buffers: &mut [Buffer],
) -> Result<()> {
    match (kind, buffers) {
        (OperationKind::Read, [buffer]) => device.read_at(offset, buffer),
        (OperationKind::Read, buffers) => {
            let parts = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer));
            let mut parts: SmallVec<[_; 16]> = parts.collect();
            device.read_vectored_at(offset, &mut parts)
        }
        (OperationKind::Write, [buffer]) => device.write_at(offset, buffer),
        (OperationKind::Write, buffers) => {
            let parts = buffers.iter().map(|buffer| IoSlice::new(buffer));
            let parts: SmallVec<[_; 16]> = parts.collect();
            device.write_vectored_at(offset, &parts)
        }
        (OperationKind::Flush, _) => device.flush(),
        (OperationKind::Discard, _) => device.discard(offset, len),
        (OperationKind::WriteZeroes, _) => device.write_zeroes(offset, len),
    }
}

/// How a request ends that nobody has ended.
pub(crate) fn unanswered(kind: OperationKind, offset: u64) -> Error {
    Error::Io(IoError {
        operation: kind.name(),
        offset,
        // `EIO`, as for every error that has no number of its own.
        errno: 5,
    })
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.waiting.is_some() {
            self.end(Err(unanswered(self.kind, self.offset)));
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("kind", &self.kind)
            .field("offset", &self.offset)
            .field("len", &self.len)
            .field("fua", &self.fua)
            .finish_non_exhaustive()
    }
}
