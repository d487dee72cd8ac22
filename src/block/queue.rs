//! The queue in front of a device.

use std::iter::once;

use crate::device::{BlockDevice, Completion, Limits, OperationKind};
use crate::error::{Error, Result};
#[cfg(feature = "testing")]
use crate::probe::Probe;
use crate::stats::{Counter, Counters};
use crate::sync::{Arc, begin_io};
use crate::units::{BlockSize, DiskBlock, DiskRun};

use super::core::{Core, Settings};
use super::cut::in_commands;
use super::outcome::{Done, outcome};
use super::push::{self, Desk};
use super::pushed::Pushed;
use super::{Batch, Bio, Depth, Latency, Policy, Scheduler, SubmittedBio};

/// The way to a device: checks, merges, orders, counts and carries out bios. All methods take `&self`.
#[derive(Debug)]
pub struct BlockQueue {
    core: Arc<Core>,
}

impl BlockQueue {
    /// A queue in front of `device` that counts into `counters`.
    pub fn new(
        device: Arc<dyn BlockDevice>,
        block_size: BlockSize,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            core: Core::new(device, block_size, counters, Settings::default()),
        }
    }

    /// The same queue, set up in another way.
    fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.core.settings.clone();
        change(&mut settings);
        let (device, counters) = (
            Arc::clone(&self.core.device),
            Arc::clone(&self.core.counters),
        );
        Self {
            core: Core::new(device, self.core.block_size, counters, settings),
        }
    }

    /// Sends commands of at most `bytes` bytes (1 MiB unless called), or less where the device takes less. Larger bios
    /// are split.
    #[must_use]
    pub fn max_request_bytes(self, bytes: u64) -> Self {
        self.with(|settings| settings.max_request_bytes = bytes)
    }

    /// Lets at most `commands` (256 unless called) wait at each queue of a device that works by itself. Who submits more
    /// waits for room, but not inside a completion: what is submitted there comes on top.
    #[must_use]
    pub fn max_waiting(self, commands: usize) -> Self {
        self.with(|settings| settings.room = commands.max(1))
    }

    /// What is done about requests that fail or do not end.
    #[must_use]
    pub fn policy(self, policy: Policy) -> Self {
        self.with(|settings| settings.policy = policy)
    }

    /// Orders what waits by `scheduler`; see [`set_scheduler`](Self::set_scheduler).
    #[must_use]
    pub fn scheduler(self, scheduler: Scheduler) -> Self {
        self.with(|settings| settings.scheduler = scheduler)
    }

    /// With protections taken away by a test.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_probe(self, probe: Probe) -> Self {
        self.with(|settings| settings.probe = probe)
    }

    /// Orders what waits, and what comes from now on, by `scheduler`.
    pub fn set_scheduler(&self, scheduler: Scheduler) {
        self.core.set_scheduler(scheduler);
    }

    /// Bytes in one block.
    pub fn block_size(&self) -> BlockSize {
        self.core.block_size
    }

    /// What commands are cut to: the limits of the device, at most what the queue was told, in whole blocks.
    pub(crate) fn limits(&self) -> &Limits {
        &self.core.limits
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.core.counters
    }

    /// The device behind the queue.
    pub fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.core.device
    }

    /// How busy the device is.
    pub fn depth(&self) -> Depth {
        let depths = self.core.dispatchers.iter().map(|queue| queue.depth());
        depths.fold(Depth::default(), |all, one| Depth {
            waiting: all.waiting + one.waiting,
            in_flight: all.in_flight + one.in_flight,
            most_in_flight: all.most_in_flight.max(one.most_in_flight),
        })
    }

    /// How long requests of this kind took, from when they were submitted; of those that a thread carries out by
    /// itself, some, and how long the device took. A request that several share, merged bios or a flush, counts once, from
    /// when the first of them was submitted.
    pub fn latency(&self, kind: OperationKind) -> Latency {
        self.core.latencies.of(kind)
    }

    /// Reads whole blocks from block `start` on into `buffer`. Past everything that waits.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `buffer` is not whole blocks or does not lie inside the device;
    /// [`Error::Io`], and `buffer` is unspecified then.
    pub fn read(&self, start: DiskBlock, buffer: &mut [u8]) -> Result<()> {
        let mut offset = self.first_byte(start, buffer.len())?;
        let mut result = Ok(());
        in_commands(
            once(buffer),
            &self.core.limits,
            self.core.block_size,
            |pieces, len| {
                for piece in pieces.drain(..) {
                    if result.is_ok() {
                        result = self
                            .at_once(OperationKind::Read, |device| device.read_at(offset, piece));
                    }
                }
                offset += len;
            },
        );
        result
    }

    /// Writes `data`, whole blocks, from block `start` on. Past everything that waits.
    ///
    /// # Errors
    /// As [`read`](Self::read); what the blocks hold after [`Error::Io`] is unspecified.
    pub fn write(&self, start: DiskBlock, data: &[u8]) -> Result<()> {
        let mut offset = self.first_byte(start, data.len())?;
        let mut result = Ok(());
        in_commands(
            once(data),
            &self.core.limits,
            self.core.block_size,
            |pieces, len| {
                for piece in pieces.drain(..) {
                    if result.is_ok() {
                        result = self.at_once(OperationKind::Write, |device| {
                            device.write_at(offset, piece)
                        });
                    }
                }
                offset += len;
            },
        );
        result
    }

    /// Makes the blocks of `run` read as zeros.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn zero(&self, run: DiskRun) -> Result<()> {
        self.submit(Bio::write_zeroes(run)).finish().1
    }

    /// Says that the contents of `run` are no longer needed.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn discard(&self, run: DiskRun) -> Result<()> {
        self.submit(Bio::discard(run)).finish().1
    }

    /// Makes everything durable that was written before this call. Callers that arrive while the device is
    /// flushing share the next flush.
    ///
    /// The queue keeps no memory of flushes that failed: that one which ends well behind them covers what they left open,
    /// too, is what the [device](BlockDevice::flush) promises. One that cannot know must fail from then on.
    ///
    /// # Errors
    /// [`Error::Io`] when the flush that covers this caller failed; each caller hears of it.
    pub fn flush(&self) -> Result<()> {
        self.core.counters.count(Counter::Bios);
        self.core.flush()
    }

    /// Submits one bio.
    pub fn submit(&self, bio: Bio) -> SubmittedBio {
        let kind = bio.kind;
        match self.push(Pushed::new(bio, None)) {
            Some(handle) => handle,
            // Every bio without a completion has one.
            None => SubmittedBio::ended(kind, Default::default(), None),
        }
    }

    /// Submits one bio whose end `completion` will hear of, under `tag`, in whatever thread it ends. The completion may
    /// submit others, but none that has to wait for one: with a [`preflush`](Bio::preflush), or in a batch behind a
    /// flush or what it overlaps.
    pub fn submit_with(&self, bio: Bio, completion: Arc<dyn Completion>, tag: u64) {
        let done = Done { completion, tag };
        self.push(Pushed::new(bio, Some(done)));
    }

    fn push(&self, pushed: Pushed) -> Option<SubmittedBio> {
        let mut pushed = [pushed];
        push::submit(&self.core, &mut pushed, &mut Desk::default());
        let [mut pushed] = pushed;
        pushed.tell();
        pushed.end()
    }

    /// An empty batch; what is pushed to it is merged and ordered when it is submitted.
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(&self.core)
    }

    /// Counts a bio, which must be whole blocks inside the device.
    fn first_byte(&self, start: DiskBlock, len: usize) -> Result<u64> {
        self.core.counters.count(Counter::Bios);
        let block = self.core.block_size.bytes();
        if !(len as u64).is_multiple_of(block) {
            return Err(Error::InvalidInput("not a whole number of blocks"));
        }
        let run = DiskRun::new(start, len as u64 / block);
        self.core.bytes_of_run(run).map(|bytes| bytes.start)
    }

    fn at_once(
        &self,
        kind: OperationKind,
        operation: impl FnMut(&dyn BlockDevice) -> Result<()>,
    ) -> Result<()> {
        self.core.counters.count(Counter::DeviceRequests);
        // The places of a device that works by itself are those of its commands.
        if self.core.limits.asynchronous {
            let _doing_io = begin_io();
            return outcome(self.core.blocking(kind, true, operation));
        }
        let place = self.core.enter(true);
        let timed = place.as_ref().is_some_and(|place| place.timed);
        outcome(self.core.blocking(kind, timed, operation))
    }
}
