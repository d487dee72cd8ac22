//! A device that remembers everything it was asked for.

use std::io::{IoSlice, IoSliceMut};

use crate::error::Result;
use crate::sync::{Arc, Mutex, Rank};

use super::{
    BlockDevice, ImageDevice, Limits, Operation, OperationKind, Recording, Request, SECTOR, relay,
    total_len,
};

/// A device that passes operations on to another one and keeps a [`Recording`] of them, data and all: what the other
/// one might hold after a power cut at any moment can be had from that.
///
/// It is a disk of 512-byte sectors: what does not begin and end on the border of one is refused with
/// [`Error::InvalidInput`](crate::Error::InvalidInput).
#[derive(Debug)]
pub struct Recorder {
    inner: Arc<dyn BlockDevice>,
    recording: Arc<Mutex<Recording>>,
}

impl Recorder {
    /// Records what is done to `inner` from now on. Reads all of it first: what is there now counts as durable.
    ///
    /// # Errors
    /// Those of reading.
    pub fn new(inner: Arc<dyn BlockDevice>) -> Result<Self> {
        let recording = Recording::new(ImageDevice::copy_of(&*inner)?);
        Ok(Self {
            inner,
            recording: Arc::new(Mutex::new(Rank::Faults, recording)),
        })
    }

    /// What happened so far.
    pub fn recording(&self) -> Recording {
        self.recording.lock().clone()
    }

    /// The moment it is: all that happened so far happened before it. See [`Recording`].
    pub fn moment(&self) -> usize {
        self.recording.lock().moment()
    }

    /// Does `work` and records when it begins and ends.
    fn record(
        &self,
        operation: Operation,
        data: std::sync::Arc<[u8]>,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let number = self.recording.lock().begin(operation, data, false)?;
        let outcome = work();
        self.recording.lock().end(number, outcome.is_ok());
        outcome
    }

    /// The same for an operation that brings no data.
    fn record_bare(
        &self,
        kind: OperationKind,
        offset: u64,
        len: u64,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.record(
            Operation { kind, offset, len },
            std::sync::Arc::default(),
            work,
        )
    }
}

impl BlockDevice for Recorder {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let len = buffer.len() as u64;
        self.record_bare(OperationKind::Read, offset, len, || {
            self.inner.read_at(offset, buffer)
        })
    }

    fn read_vectored_at(&self, offset: u64, buffers: &mut [IoSliceMut<'_>]) -> Result<()> {
        let len = buffers.iter().map(|part| part.len() as u64).sum();
        self.record_bare(OperationKind::Read, offset, len, || {
            self.inner.read_vectored_at(offset, buffers)
        })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let operation = Operation {
            kind: OperationKind::Write,
            offset,
            len: data.len() as u64,
        };
        self.record(operation, data.into(), || self.inner.write_at(offset, data))
    }

    fn write_vectored_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<()> {
        let operation = Operation {
            kind: OperationKind::Write,
            offset,
            len: total_len(data),
        };
        let mut bytes = Vec::with_capacity(operation.len as usize);
        data.iter().for_each(|part| bytes.extend_from_slice(part));
        self.record(operation, bytes.into(), || {
            self.inner.write_vectored_at(offset, data)
        })
    }

    fn flush(&self) -> Result<()> {
        self.record_bare(OperationKind::Flush, 0, 0, || self.inner.flush())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.record_bare(OperationKind::Discard, offset, len, || {
            self.inner.discard(offset, len)
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.record_bare(OperationKind::WriteZeroes, offset, len, || {
            self.inner.write_zeroes(offset, len)
        })
    }

    fn start(&self, request: Request) {
        let data = match request.kind {
            OperationKind::Write => request.buffers.to_vec(),
            _ => Vec::new(),
        };
        let operation = relay::operation(&request);
        let begun = self
            .recording
            .lock()
            .begin(operation, data.into(), request.fua);
        match begun {
            Ok(number) => {
                let recording = Arc::clone(&self.recording);
                relay::pass_on(request, &*self.inner, move |outcome| {
                    recording.lock().end(number, outcome.is_ok());
                });
            }
            Err(refused) => request.complete(Err(refused)),
        }
    }

    fn limits(&self) -> Limits {
        let limits = self.inner.limits();
        Limits {
            alignment: limits.alignment.max(SECTOR as usize),
            ..limits
        }
    }
}
