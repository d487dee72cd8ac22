//! What a device was asked for, with the data and in order.

use std::sync::Arc;

use crate::error::{Error, Result};

use super::{BlockDevice, ImageDevice, Operation, OperationKind, PowerCut, Survivors, check_range};

/// Bytes that a device writes as a whole or not at all.
pub const SECTOR: u64 = 512;

/// All operations of a device since a known state, and when each began and ended: a number of the beginnings and ends
/// before it. A *moment* lies between two of those; moment `n` is the one after the first `n`.
#[derive(Clone, Debug)]
pub struct Recording {
    start: ImageDevice,
    operations: Vec<Recorded>,
    events: Vec<Event>,
    epoch: u64,
}

/// One operation of a [`Recording`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recorded {
    /// What was asked.
    pub operation: Operation,
    /// The bytes of a write, all its buffers in one; else empty.
    pub data: Arc<[u8]>,
    /// Whether a write was to be durable once it had ended ("force unit access").
    pub fua: bool,
    /// How many flushes had ended well before it began.
    pub epoch: u64,
    /// The moment before it began.
    pub began: usize,
    /// How it ended, if it has.
    pub ended: Option<End>,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The moment before.
    pub moment: usize,
    /// Whether without an error.
    pub ok: bool,
}

/// The beginning or end of the operation with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Began(usize),
    Ended(usize),
}

impl Recorded {
    /// Whether it may leave other bytes behind than it found.
    pub(super) fn changes(&self) -> bool {
        !self.sectors().is_empty()
            && !matches!(
                self.operation.kind,
                OperationKind::Read | OperationKind::Flush
            )
    }

    /// Whether a flush that began at `moment` makes what it wrote durable. A discard writes nothing, and nobody knows
    /// what a failed write did.
    pub(super) fn can_be_flushed(&self, moment: usize) -> bool {
        let writes = matches!(
            self.operation.kind,
            OperationKind::Write | OperationKind::WriteZeroes
        );
        writes && self.ended.is_some_and(|end| end.ok && end.moment < moment)
    }

    /// Whether it had ended when `later` began.
    pub(super) fn precedes(&self, later: &Self) -> bool {
        self.ended.is_some_and(|end| end.moment < later.began)
    }

    /// The sectors that it touches.
    pub(super) fn sectors(&self) -> std::ops::Range<u64> {
        let Operation { offset, len, .. } = self.operation;
        offset / SECTOR..(offset + len) / SECTOR
    }
}

impl Recording {
    /// Nothing yet, on a device that holds `start`, durably.
    pub fn new(start: ImageDevice) -> Self {
        Self {
            start,
            operations: Vec::new(),
            events: Vec::new(),
            epoch: 0,
        }
    }

    /// An operation begins: `data` is what a write brings, `fua` whether that is durable once it has ended. Returns its
    /// number.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for what does not lie inside the device or on the borders of sectors, and for a write whose
    /// `data` is longer or shorter; it is not recorded.
    pub fn begin(&mut self, operation: Operation, data: Arc<[u8]>, fua: bool) -> Result<usize> {
        check_range(self.start.size(), operation.offset, operation.len)?;
        if !(operation.offset | operation.len).is_multiple_of(SECTOR) {
            return Err(Error::InvalidInput("not on the borders of sectors"));
        }
        if operation.kind == OperationKind::Write && operation.len != data.len() as u64 {
            return Err(Error::InvalidInput("a length that is not that of the data"));
        }
        let number = self.operations.len();
        self.operations.push(Recorded {
            operation,
            data,
            fua,
            epoch: self.epoch,
            began: self.moment(),
            ended: None,
        });
        self.events.push(Event::Began(number));
        Ok(number)
    }

    /// The operation with this number, which has not ended yet, ends.
    ///
    /// # Panics
    /// Where none has this number.
    pub fn end(&mut self, number: usize, ok: bool) {
        let moment = self.moment();
        let recorded = &mut self.operations[number];
        recorded.ended = Some(End { moment, ok });
        if ok && recorded.operation.kind == OperationKind::Flush {
            self.epoch += 1;
        }
        self.events.push(Event::Ended(number));
    }

    /// The operations in the order in which they began.
    pub fn operations(&self) -> &[Recorded] {
        &self.operations
    }

    /// The last moment: how often an operation began or ended.
    pub fn moment(&self) -> usize {
        self.events.len()
    }

    /// A power cut that can be moved from the first moment to the last.
    pub fn power_cut(&self) -> PowerCut<'_> {
        PowerCut::new(self)
    }

    /// What the device may hold when the power is cut at `moment`. For many images of one recording,
    /// [`power_cut`](Self::power_cut) is the cheap way.
    pub fn crash(&self, moment: usize, survivors: Survivors) -> ImageDevice {
        let mut cut = PowerCut::new(self);
        cut.advance_to(moment);
        cut.image(survivors)
    }

    pub(super) fn start(&self) -> &ImageDevice {
        &self.start
    }

    pub(super) fn event(&self, moment: usize) -> Option<Event> {
        self.events.get(moment).copied()
    }
}
