//! Flushes that many callers share.

use std::mem;

use crate::device::{Buffers, Completion};
use crate::error::Result;
use crate::probe::{Mutation, Probe};
use crate::sync::{Arc, Mutex, Rank, begin_io};

use super::core::Core;
use super::outcome::Done;

/// Flushes of callers who wait in their own thread: one of them flushes for all who came before it began.
#[derive(Debug)]
pub(super) struct SharedFlush {
    /// Callers that no flush has taken on yet.
    waiting: Mutex<Vec<FlushOutcome>>,
    /// Held over the device's flush.
    flushing: Mutex<()>,
}

/// Where a caller finds the answer.
type FlushOutcome = Arc<Mutex<Option<Result<()>>>>;

impl SharedFlush {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::new(Rank::Flushers, Vec::new()),
            flushing: Mutex::new(Rank::Flushing, ()),
        }
    }

    /// Makes everything durable that was written before this call.
    pub(super) fn flush(
        &self,
        probe: &Probe,
        device_flush: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        // Also where another caller's flush will do.
        let _waiting_for_io = begin_io();
        let outcome: FlushOutcome = Arc::new(Mutex::new(Rank::FlushOutcome, None));
        self.waiting.lock().push(Arc::clone(&outcome));
        let _flushing = self.flushing.lock();
        // Whoever flushed last may have taken this caller on: its flush began after the push above.
        if let Some(result) = outcome.lock().take() {
            return result;
        }
        let mut covered = mem::take(&mut *self.waiting.lock());
        let result = device_flush();
        if probe.is(Mutation::FlushForLatecomers) {
            covered.append(&mut self.waiting.lock());
        }
        for caller in covered {
            *caller.lock() = Some(result.clone());
        }
        result
    }
}

/// Flushes that are started and not waited for: at most one is in the device, and those who come meanwhile share the
/// next.
#[derive(Debug)]
pub(super) struct FlushMachine {
    state: Mutex<Flushes>,
}

#[derive(Debug, Default)]
struct Flushes {
    /// No flush has taken them on yet.
    waiting: Vec<Waiter>,
    /// For whom the flush in the device is; nobody if there is none.
    covered: Vec<Waiter>,
    attempt: u32,
}

/// Who waits for a flush, and its memory.
#[derive(Debug)]
struct Waiter {
    done: Done,
    buffers: Buffers,
}

impl FlushMachine {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(Rank::FlushMachine, Flushes::default()),
        }
    }

    /// Lets the next flush tell `done`, which gets `buffers` then.
    pub(super) fn join(&self, core: &Core, done: Done, buffers: Buffers) {
        let mut state = self.state.lock();
        let waiter = Waiter { done, buffers };
        if core.probe().is(Mutation::FlushForLatecomers) && !state.covered.is_empty() {
            return state.covered.push(waiter);
        }
        state.waiting.push(waiter);
        if state.covered.is_empty() {
            state.begin();
            drop(state);
            core.start_flush();
        }
    }

    /// The flush in the device has ended.
    pub(super) fn ended(&self, core: &Core, result: &Result<()>) {
        let mut state = self.state.lock();
        if core.policy().tries_again(state.attempt, result) {
            state.attempt += 1;
            drop(state);
            core.count_retry();
            return core.start_flush();
        }
        let covered = mem::take(&mut state.covered);
        let more = !state.waiting.is_empty();
        if more {
            state.begin();
        }
        drop(state);
        if more {
            core.start_flush();
        }
        for waiter in covered {
            waiter.done.finish(waiter.buffers, result.clone());
        }
    }
}

impl Flushes {
    fn begin(&mut self) {
        self.covered = mem::take(&mut self.waiting);
        self.attempt = 1;
    }
}

/// Flushes once a write has ended, where a device has no writes that are durable by themselves: an emulated FUA.
pub(super) struct ThenFlush {
    core: Arc<Core>,
    done: Done,
}

impl ThenFlush {
    /// Who hears of the write, so that `done` hears of the flush behind it.
    pub(super) fn before(core: &Arc<Core>, done: Done) -> Done {
        let core = Arc::clone(core);
        Done {
            completion: Arc::new(Self { core, done }),
            tag: 0,
        }
    }
}

impl Completion for ThenFlush {
    fn completed(&self, _: u64, buffers: Buffers, result: Result<()>) {
        let done = self.done.clone();
        match result {
            Ok(()) => self.core.flush_then(done, buffers),
            Err(_) => done.finish(buffers, result),
        }
    }
}
