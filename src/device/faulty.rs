//! A device that records what it is asked for and fails on command.

use std::io::{self, IoSlice};
use std::mem;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::sync::{Arc, Mutex, Rank};

use super::{BlockDevice, total_len};

/// What a device is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// [`BlockDevice::read_at`].
    Read,
    /// [`BlockDevice::write_at`] and [`BlockDevice::write_vectored_at`].
    Write,
    /// [`BlockDevice::flush`].
    Flush,
    /// [`BlockDevice::discard`].
    Discard,
    /// [`BlockDevice::write_zeroes`].
    WriteZeroes,
}

impl OperationKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::WriteZeroes => "write zeroes",
        }
    }
}

/// One operation a device was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    /// What was asked.
    pub kind: OperationKind,
    /// Where, in bytes; 0 for a flush.
    pub offset: u64,
    /// How many bytes; 0 for a flush.
    pub len: u64,
}

/// A device that passes operations on to another one, records them, and fails the chosen ones with `EIO`.
///
/// A vectored write is one operation. Failed operations are recorded and do nothing. To inject an error at each
/// operation of a workload in turn: count its operations once, then run it again on fresh devices with
/// [`fail_at`](Self::fail_at) each of them.
#[derive(Debug)]
pub struct FaultyDevice {
    inner: Arc<dyn BlockDevice>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    operations: u64,
    log: Vec<Operation>,
    faults: Vec<Fault>,
}

#[derive(Debug)]
enum Fault {
    /// Fails one operation, `countdown` matching ones from now.
    Once {
        kind: Option<OperationKind>,
        countdown: u64,
    },
    /// Fails everything that touches these bytes.
    Range {
        kind: Option<OperationKind>,
        bytes: Range<u64>,
    },
}

impl Fault {
    /// Whether it strikes `operation`. Called once for each operation.
    fn strikes(&mut self, operation: Operation) -> bool {
        let (Self::Once { kind, .. } | Self::Range { kind, .. }) = self;
        if kind.is_some_and(|kind| kind != operation.kind) {
            return false;
        }
        match self {
            Self::Once { countdown, .. } => {
                // Below zero once it has struck.
                let strikes = *countdown == 0;
                *countdown = countdown.wrapping_sub(1);
                strikes
            }
            Self::Range { bytes, .. } => {
                let end = operation.offset.saturating_add(operation.len);
                operation.offset < bytes.end && bytes.start < end
            }
        }
    }
}

impl FaultyDevice {
    /// Passes everything on to `inner`, until told otherwise.
    pub fn new(inner: Arc<dyn BlockDevice>) -> Self {
        Self {
            inner,
            state: Mutex::new(Rank::Faults, State::default()),
        }
    }

    /// Fails one operation from now on: the next for `nth` 0, the one after it for 1. Only operations of
    /// `kind` count, if one is given.
    pub fn fail_at(&self, kind: Option<OperationKind>, nth: u64) {
        self.state.lock().faults.push(Fault::Once {
            kind,
            countdown: nth,
        });
    }

    /// Fails every operation (of `kind`, if one is given) that touches one of `bytes`, until
    /// [`clear_faults`](Self::clear_faults).
    pub fn fail_range(&self, kind: Option<OperationKind>, bytes: Range<u64>) {
        self.state.lock().faults.push(Fault::Range { kind, bytes });
    }

    /// Forgets all faults, those still to come too.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// How many operations were asked for so far, failed ones too.
    pub fn operation_count(&self) -> u64 {
        self.state.lock().operations
    }

    /// The operations since the last call, in the order in which they arrived.
    pub fn take_log(&self) -> Vec<Operation> {
        mem::take(&mut self.state.lock().log)
    }

    /// Records an operation and lets the faults decide about it.
    fn admit(&self, kind: OperationKind, offset: u64, len: u64) -> Result<()> {
        let operation = Operation { kind, offset, len };
        let mut state = self.state.lock();
        state.operations += 1;
        state.log.push(operation);
        // Every fault must count the operation, so no short cut.
        let struck = state
            .faults
            .iter_mut()
            .filter_map(|fault| fault.strikes(operation).then_some(()));
        if struck.count() > 0 {
            // An error without an errno of its own is `EIO`.
            return Err(Error::io(kind.name(), offset, &io::ErrorKind::Other.into()));
        }
        Ok(())
    }
}

impl BlockDevice for FaultyDevice {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.admit(OperationKind::Read, offset, buffer.len() as u64)?;
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.admit(OperationKind::Write, offset, data.len() as u64)?;
        self.inner.write_at(offset, data)
    }

    fn write_vectored_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<()> {
        self.admit(OperationKind::Write, offset, total_len(data))?;
        self.inner.write_vectored_at(offset, data)
    }

    fn flush(&self) -> Result<()> {
        self.admit(OperationKind::Flush, 0, 0)?;
        self.inner.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.admit(OperationKind::Discard, offset, len)?;
        self.inner.discard(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.admit(OperationKind::WriteZeroes, offset, len)?;
        self.inner.write_zeroes(offset, len)
    }
}
