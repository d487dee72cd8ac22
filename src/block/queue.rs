//! The queue in front of a device.

use std::io::IoSlice;
use std::mem;
use std::ops::Range;

use crate::device::{BlockDevice, check_range};
use crate::error::{Error, Result};
use crate::stats::{Counter, Counters};
use crate::sync::{Arc, Mutex, Rank, begin_io};
use crate::units::{BlockSize, DiskBlock, DiskRun};

use super::bio::Request;
use super::{Batch, Bio, SubmittedBio};

/// Bytes in a merged request unless the queue is told otherwise.
const MAX_REQUEST_BYTES: u64 = 1 << 20;

/// The way to a device: checks, counts and carries out bios. All methods take `&self` and block until the
/// device is done.
#[derive(Debug)]
pub struct BlockQueue {
    device: Arc<dyn BlockDevice>,
    block_size: BlockSize,
    max_request_bytes: u64,
    counters: Arc<Counters>,
    /// Callers of [`flush`](Self::flush) that no flush has taken on yet.
    waiting: Mutex<Vec<FlushOutcome>>,
    /// Held over the device's flush.
    flushing: Mutex<()>,
}

/// Where a caller of flush finds the answer.
type FlushOutcome = Arc<Mutex<Option<Result<()>>>>;

impl BlockQueue {
    /// A queue in front of `device` that counts into `counters`.
    pub fn new(
        device: Arc<dyn BlockDevice>,
        block_size: BlockSize,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            device,
            block_size,
            max_request_bytes: MAX_REQUEST_BYTES,
            counters,
            waiting: Mutex::new(Rank::Flushers, Vec::new()),
            flushing: Mutex::new(Rank::Flushing, ()),
        }
    }

    /// Merges writes into requests of at most `bytes` bytes (1 MiB unless called). A single larger bio
    /// still goes as one request.
    #[must_use]
    pub fn max_request_bytes(mut self, bytes: u64) -> Self {
        self.max_request_bytes = bytes;
        self
    }

    /// Bytes in one block.
    pub fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// The device behind the queue.
    pub fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }

    /// Reads whole blocks from block `start` on into `buffer`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `buffer` is not whole blocks or does not lie inside the device;
    /// [`Error::Io`], and `buffer` is unspecified then.
    pub fn read(&self, start: DiskBlock, buffer: &mut [u8]) -> Result<()> {
        self.counters.count(Counter::Bios);
        let offset = self.bytes_of_data(start, buffer.len())?.start;
        self.to_device(|device| device.read_at(offset, buffer))
    }

    /// Writes `data`, whole blocks, from block `start` on.
    ///
    /// # Errors
    /// As [`read`](Self::read); what the blocks hold after [`Error::Io`] is unspecified.
    pub fn write(&self, start: DiskBlock, data: &[u8]) -> Result<()> {
        self.counters.count(Counter::Bios);
        let offset = self.bytes_of_data(start, data.len())?.start;
        self.to_device(|device| device.write_at(offset, data))
    }

    /// Makes the blocks of `run` read as zeros.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn zero(&self, run: DiskRun) -> Result<()> {
        self.submit(Bio::write_zeroes(run)).wait().map(drop)
    }

    /// Says that the contents of `run` are no longer needed.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn discard(&self, run: DiskRun) -> Result<()> {
        self.submit(Bio::discard(run)).wait().map(drop)
    }

    /// Makes everything durable that was written before this call. Callers that arrive while the device is
    /// flushing share the next flush.
    ///
    /// # Errors
    /// [`Error::Io`] when the flush that covers this caller failed; each caller hears of it.
    pub fn flush(&self) -> Result<()> {
        // Also where another caller's flush will do.
        let _waiting_for_io = begin_io();
        let outcome: FlushOutcome = Arc::new(Mutex::new(Rank::FlushOutcome, None));
        self.waiting.lock().push(Arc::clone(&outcome));
        self.counters.count(Counter::Bios);
        let _flushing = self.flushing.lock();
        // Whoever flushed last may have taken this caller on: its flush began after the push above.
        if let Some(result) = outcome.lock().take() {
            return result;
        }
        let covered = mem::take(&mut *self.waiting.lock());
        self.counters.count(Counter::DeviceFlushes);
        let result = {
            let _doing_io = begin_io();
            self.device.flush()
        };
        for caller in covered {
            *caller.lock() = Some(result.clone());
        }
        result
    }

    /// Submits one bio.
    pub fn submit(&self, bio: Bio) -> SubmittedBio {
        SubmittedBio::ended(match bio.0 {
            Request::Read(run) => self.read_run(run),
            Request::Write { start, data } => self.write(start, &data).map(|()| Vec::new()),
            Request::Discard(run) => {
                self.ranged(run, |device, offset, len| device.discard(offset, len))
            }
            Request::WriteZeroes(run) => {
                self.ranged(run, |device, offset, len| device.write_zeroes(offset, len))
            }
            Request::Flush => self.flush().map(|()| Vec::new()),
        })
    }

    /// An empty batch; what is pushed to it is merged and ordered when it is submitted.
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(self)
    }

    /// Writes neighbouring bios' data, checked by the caller, as one request.
    pub(super) fn write_merged(&self, offset: u64, parts: &[IoSlice<'_>]) -> Result<()> {
        self.counters.add(Counter::Bios, parts.len() as u64);
        self.counters
            .add(Counter::BiosMerged, parts.len() as u64 - 1);
        self.to_device(|device| device.write_vectored_at(offset, parts))
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_request_bytes
    }

    /// The bytes of the device that a request touches, if it is made of whole blocks inside the device.
    pub(super) fn bytes_of(&self, request: &Request) -> Result<Range<u64>> {
        match request {
            Request::Read(run) | Request::Discard(run) | Request::WriteZeroes(run) => {
                self.bytes_of_run(*run)
            }
            Request::Write { start, data } => self.bytes_of_data(*start, data.len()),
            Request::Flush => Ok(0..0),
        }
    }

    fn bytes_of_run(&self, run: DiskRun) -> Result<Range<u64>> {
        let offset = self.block_size.disk_offset_of(run.start);
        let len = run.len.saturating_mul(self.block_size.bytes());
        check_range(self.device.size(), offset, len)?;
        Ok(offset..offset + len)
    }

    fn bytes_of_data(&self, start: DiskBlock, len: usize) -> Result<Range<u64>> {
        let block = self.block_size.bytes();
        if !(len as u64).is_multiple_of(block) {
            return Err(Error::InvalidInput("not a whole number of blocks"));
        }
        self.bytes_of_run(DiskRun::new(start, len as u64 / block))
    }

    fn read_run(&self, run: DiskRun) -> Result<Vec<u8>> {
        let bytes = self.bytes_of_run(run)?;
        let len = usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX);
        let mut data = Vec::new();
        if data.try_reserve_exact(len).is_err() {
            return Err(Error::InvalidInput("a read larger than memory"));
        }
        data.resize(len, 0);
        self.read(run.start, &mut data)?;
        Ok(data)
    }

    fn ranged(
        &self,
        run: DiskRun,
        operation: impl FnOnce(&dyn BlockDevice, u64, u64) -> Result<()>,
    ) -> Result<Vec<u8>> {
        self.counters.count(Counter::Bios);
        let bytes = self.bytes_of_run(run)?;
        self.to_device(|device| operation(device, bytes.start, bytes.end - bytes.start))
            .map(|()| Vec::new())
    }

    fn to_device(&self, operation: impl FnOnce(&dyn BlockDevice) -> Result<()>) -> Result<()> {
        let _doing_io = begin_io();
        self.counters.count(Counter::DeviceRequests);
        operation(&*self.device)
    }
}
