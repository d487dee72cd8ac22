//! A device that records what it is asked for and does harm on command.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sync::{Arc, Mutex, Rank};

use super::chance::Chance;
use super::fault::{Fault, Harm};
use super::{BlockDevice, Limits, Operation, OperationKind, Request, SECTOR, relay, total_len};

/// A device that passes operations on to another one, records them, and harms the chosen ones: they fail with `EIO`,
/// arrive in part, are late, or end in another order.
///
/// A vectored operation is one. Failed operations are recorded and do nothing. To inject an error at each
/// operation of a workload in turn: count its operations once, then run it again on fresh devices with
/// [`fail_at`](Self::fail_at) each of them. What a power cut may lose that had ended well tells a
/// [`Recorder`](super::Recorder).
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
    /// Which requests wait for their release; those that do, as they came.
    holds: Vec<Fault>,
    held: Vec<Request>,
    /// Whether requests have ever been held.
    asynchronous: bool,
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
        self.inject(Fault::once(kind, nth, Harm::Fail));
    }

    /// Fails every operation (of `kind`, if one is given) that touches one of `bytes`, until
    /// [`clear_faults`](Self::clear_faults).
    pub fn fail_range(&self, kind: Option<OperationKind>, bytes: Range<u64>) {
        self.inject(Fault::range(kind, bytes));
    }

    /// Tears one operation, counted as for [`fail_at`](Self::fail_at): of a write, discard or write of zeroes only those
    /// 512-byte sectors arrive that `seed` says, then it fails; another one just fails.
    pub fn tear_at(&self, kind: Option<OperationKind>, nth: u64, seed: u64) {
        self.inject(Fault::once(kind, nth, Harm::Tear(Chance::new(seed))));
    }

    /// Cuts the power within one operation, counted as for [`fail_at`](Self::fail_at): it is torn, and all behind it
    /// fail, until [`clear_faults`](Self::clear_faults). What had ended before is all there.
    pub fn cut_power_at(&self, nth: u64, seed: u64) {
        let torn = Fault::once(None, nth, Harm::Tear(Chance::new(seed)));
        self.inject(torn);
        self.inject(Fault::from(nth.saturating_add(1), Harm::Fail));
    }

    /// Lets the thread that brings an operation (of `kind`, if one is given) wait before the operation begins, until
    /// [`clear_faults`](Self::clear_faults).
    pub fn delay(&self, kind: Option<OperationKind>, by: Duration) {
        self.inject(Fault::always(kind, Harm::Delay(by)));
    }

    /// Lets the thread that brings one operation, counted as for [`fail_at`](Self::fail_at), wait before the operation
    /// begins.
    pub fn delay_at(&self, kind: Option<OperationKind>, nth: u64, by: Duration) {
        self.inject(Fault::once(kind, nth, Harm::Delay(by)));
    }

    /// Forgets all faults, those still to come too. Requests are held as before.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    fn inject(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// From now on the device is [asynchronous](Limits::asynchronous), and a request that is started does not begin
    /// before it is released.
    pub fn hold_requests(&self) {
        self.hold(Fault::always(None, Harm::Hold));
    }

    /// Holds one request: of those that are started from now on, counted as for [`fail_at`](Self::fail_at). The device is
    /// [asynchronous](Limits::asynchronous), and what is started behind the request passes it until it is released.
    pub fn hold_at(&self, kind: Option<OperationKind>, nth: u64) {
        self.hold(Fault::once(kind, nth, Harm::Hold));
    }

    fn hold(&self, fault: Fault) {
        let mut state = self.state.lock();
        state.asynchronous = true;
        state.holds.push(fault);
    }

    /// How many requests wait for their release.
    pub fn held_requests(&self) -> usize {
        self.state.lock().held.len()
    }

    /// Carries out the requests that are held, in the order that `seed` says.
    pub fn release_requests(&self, seed: u64) {
        let mut chance = Chance::new(seed);
        let mut held = mem::take(&mut self.state.lock().held);
        while !held.is_empty() {
            let next = chance.below(held.len() as u64) as usize;
            self.begin(held.swap_remove(next));
        }
    }

    /// How many operations were asked for so far, failed ones too.
    pub fn operation_count(&self) -> u64 {
        self.state.lock().operations
    }

    /// The operations since the last call, in the order in which they began.
    pub fn take_log(&self) -> Vec<Operation> {
        mem::take(&mut self.state.lock().log)
    }

    /// Records an operation and lets the faults decide about it: says in which way it fails, if it does.
    fn admit(&self, operation: Operation) -> Option<Harm> {
        let mut state = self.state.lock();
        state.operations += 1;
        state.log.push(operation);
        let mut harms: Vec<_> = state
            .faults
            .iter_mut()
            .filter_map(|fault| fault.strike(operation))
            .collect();
        drop(state);
        harms.retain(|harm| match harm {
            Harm::Delay(by) => {
                thread::sleep(*by);
                false
            }
            Harm::Hold => false,
            Harm::Fail | Harm::Tear(_) => true,
        });
        // What fails altogether cannot arrive in part.
        let fails = harms.iter().position(|harm| matches!(harm, Harm::Fail));
        (!harms.is_empty()).then(|| harms.swap_remove(fails.unwrap_or(0)))
    }

    /// Carries out an operation by `whole`, or what a fault leaves of it by `part` (first byte, number of bytes).
    fn carry_out(
        &self,
        (kind, offset, len): (OperationKind, u64, u64),
        part: impl Fn(u64, usize) -> Result<()>,
        whole: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let operation = Operation { kind, offset, len };
        match self.admit(operation) {
            None => whole(),
            Some(harm) => suffer(harm, operation, part),
        }
    }

    /// Begins with a request, now that it is its turn.
    fn begin(&self, mut request: Request) {
        let limits = self.inner.limits();
        if !limits.asynchronous || request.fua && !limits.native_fua {
            let result = request.carry_out(self);
            return request.complete(result);
        }
        let operation = relay::operation(&request);
        let Some(harm) = self.admit(operation) else {
            return self.inner.start(request);
        };
        let bytes = request.buffers.to_vec();
        let failed = suffer(harm, operation, |at, len| match operation.kind {
            OperationKind::Write => {
                let from = (at - operation.offset) as usize;
                self.inner.write_at(at, &bytes[from..from + len])
            }
            OperationKind::Discard => self.inner.discard(at, len as u64),
            OperationKind::WriteZeroes => self.inner.write_zeroes(at, len as u64),
            OperationKind::Read | OperationKind::Flush => Ok(()),
        });
        request.complete(failed);
    }
}

/// Lets an operation fail, after that of it which arrives is carried out by `part`.
fn suffer(harm: Harm, operation: Operation, part: impl Fn(u64, usize) -> Result<()>) -> Result<()> {
    if let Harm::Tear(mut chance) = harm {
        let mut at = operation.offset;
        let end = at.saturating_add(operation.len);
        while at < end {
            let next = (at - at % SECTOR).saturating_add(SECTOR).min(end);
            if chance.coin() {
                part(at, (next - at) as usize)?;
            }
            at = next;
        }
    }
    // An error without an errno of its own is `EIO`.
    let error = io::ErrorKind::Other.into();
    Err(Error::io(operation.kind.name(), operation.offset, &error))
}

/// What a part of an operation does that changes nothing.
fn nothing(_: u64, _: usize) -> Result<()> {
    Ok(())
}

impl BlockDevice for FaultyDevice {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let operation = (OperationKind::Read, offset, buffer.len() as u64);
        self.carry_out(operation, nothing, || self.inner.read_at(offset, buffer))
    }

    fn read_vectored_at(&self, offset: u64, buffers: &mut [IoSliceMut<'_>]) -> Result<()> {
        let len = buffers.iter().map(|part| part.len() as u64).sum();
        let operation = (OperationKind::Read, offset, len);
        self.carry_out(operation, nothing, || {
            self.inner.read_vectored_at(offset, buffers)
        })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let operation = (OperationKind::Write, offset, data.len() as u64);
        let part = |at, len| {
            let from = (at - offset) as usize;
            self.inner.write_at(at, &data[from..from + len])
        };
        self.carry_out(operation, part, || self.inner.write_at(offset, data))
    }

    fn write_vectored_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<()> {
        let operation = (OperationKind::Write, offset, total_len(data));
        let part = |at, len| {
            let bytes = data.iter().flat_map(|part| part.iter().copied());
            let part: Vec<_> = bytes.skip((at - offset) as usize).take(len).collect();
            self.inner.write_at(at, &part)
        };
        self.carry_out(operation, part, || {
            self.inner.write_vectored_at(offset, data)
        })
    }

    fn flush(&self) -> Result<()> {
        self.carry_out((OperationKind::Flush, 0, 0), nothing, || self.inner.flush())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        let part = |at, len| self.inner.discard(at, len as u64);
        self.carry_out((OperationKind::Discard, offset, len), part, || {
            self.inner.discard(offset, len)
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        let part = |at, len| self.inner.write_zeroes(at, len as u64);
        self.carry_out((OperationKind::WriteZeroes, offset, len), part, || {
            self.inner.write_zeroes(offset, len)
        })
    }

    fn start(&self, request: Request) {
        let operation = relay::operation(&request);
        let mut state = self.state.lock();
        // Each counts it.
        let struck = state
            .holds
            .iter_mut()
            .filter_map(|hold| hold.strike(operation));
        if struck.count() > 0 {
            return state.held.push(request);
        }
        drop(state);
        self.begin(request);
    }

    fn limits(&self) -> Limits {
        let limits = self.inner.limits();
        Limits {
            asynchronous: limits.asynchronous || self.state.lock().asynchronous,
            ..limits
        }
    }
}
