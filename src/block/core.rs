//! What all handles of a queue share: its device, its dispatchers, and the end of what the device works on.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::sync::Weak;
use std::time::Instant;

use crate::device::{
    BlockDevice, Buffer, Buffers, Completion, Limits, OperationKind, Request, check_range, operate,
    unanswered,
};
use crate::error::{Error, Result};
use crate::probe::{Mutation, Probe};
use crate::spans::span;
use crate::stats::{Counter, Counters};
use crate::sync::uncounted::{AtomicBool, Ordering};
use crate::sync::{Arc, DoingIo, begin_io, thread_local, thread_slot};
use crate::units::{BlockSize, DiskRun};

use super::bio::Content;
use super::command::Command;
use super::dispatcher::{Dispatcher, memory_of};
use super::flush::{FlushMachine, SharedFlush};
use super::latency::Latencies;
use super::outcome::{Done, Failure, Outcomes, outcome, timed_out};
use super::panics::Panics;
use super::scheduler::Scheduler;
use super::timer::{Clock, Late, Timer};
use super::{Bio, Policy};

/// Bytes in a merged request unless the queue is told otherwise.
const MAX_REQUEST_BYTES: u64 = 1 << 20;

/// Commands that may wait at a device that works by itself.
const ROOM: usize = 256;

/// The tag of a flush.
const FLUSH: u64 = u64::MAX;

/// Of so many turns at a device that blocks, one is timed: reading the clock takes as long as a small copy.
const TURNS_PER_TIMED: u64 = 64;

/// What a queue is told when it is made.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_request_bytes: u64,
    pub(super) room: usize,
    pub(super) scheduler: Scheduler,
    pub(super) policy: Policy,
    pub(super) probe: Probe,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_request_bytes: MAX_REQUEST_BYTES,
            room: ROOM,
            scheduler: Scheduler::None,
            policy: Policy::new(),
            probe: Probe::default(),
        }
    }
}

/// See [`BlockQueue`](super::BlockQueue).
pub(super) struct Core {
    pub(super) device: Arc<dyn BlockDevice>,
    /// Of the device, in bytes.
    size: u64,
    pub(super) block_size: BlockSize,
    pub(super) counters: Arc<Counters>,
    pub(super) settings: Settings,
    /// Those of the device, at most what the settings say.
    pub(super) limits: Limits,
    pub(super) dispatchers: Box<[Dispatcher]>,
    /// Whether a scheduler orders what waits.
    scheduled: AtomicBool,
    pub(super) outcomes: Arc<Outcomes>,
    pub(super) latencies: Latencies,
    shared_flush: SharedFlush,
    flush_machine: FlushMachine,
    /// Where a device ends requests later, and there is an end to patience.
    timer: Option<Arc<Timer>>,
    /// What requests under way hold on to.
    me: Weak<Self>,
}

impl Core {
    pub(super) fn new(
        device: Arc<dyn BlockDevice>,
        block_size: BlockSize,
        counters: Arc<Counters>,
        settings: Settings,
    ) -> Arc<Self> {
        let mut limits = device.limits();
        let block = block_size.bytes();
        let max = limits.max_bytes.min(settings.max_request_bytes);
        // Whole blocks, and never nothing at all.
        limits.max_bytes = (max - max % block).max(block);
        limits.max_segments = limits.max_segments.max(1);
        limits.depth = limits.depth.max(1);
        let scheduler = settings.scheduler;
        let patience = settings.policy.how_long();
        let timer = patience.filter(|_| limits.asynchronous).map(Timer::new);
        let dispatchers = (0..limits.queues.max(1)).map(|_| Dispatcher::new(scheduler));
        Arc::new_cyclic(|me| Self {
            size: device.size(),
            device,
            block_size,
            counters,
            limits,
            dispatchers: dispatchers.collect(),
            scheduled: AtomicBool::new(scheduler != Scheduler::None),
            outcomes: Outcomes::new(patience),
            latencies: Latencies::default(),
            shared_flush: SharedFlush::new(),
            flush_machine: FlushMachine::new(),
            timer,
            settings,
            me: Weak::clone(me),
        })
    }

    pub(super) fn probe(&self) -> &Probe {
        &self.settings.probe
    }

    pub(super) fn policy(&self) -> Policy {
        self.settings.policy
    }

    /// Whether a thread carries out by itself what it submits, in its own order.
    pub(super) fn is_direct(&self) -> bool {
        !self.limits.asynchronous && !self.scheduled.load(Ordering::Relaxed)
    }

    pub(super) fn set_scheduler(&self, scheduler: Scheduler) {
        let scheduled = scheduler != Scheduler::None;
        self.scheduled.store(scheduled, Ordering::Relaxed);
        for dispatcher in &self.dispatchers {
            dispatcher.set_scheduler(scheduler, &self.limits);
        }
    }

    /// The queue of the hardware that this thread uses.
    pub(super) fn queue_of_thread(&self) -> usize {
        match self.dispatchers.len() {
            1 => 0,
            queues => thread_slot::current() % queues,
        }
    }

    /// The bytes of the device that a bio touches, if it is made of whole blocks inside the device. A read gets its
    /// memory.
    #[inline]
    pub(super) fn admit(&self, bio: &mut Bio) -> Result<Range<u64>> {
        match &bio.content {
            Content::Blocks(len) => {
                let bytes = self.bytes_of_run(DiskRun::new(bio.start, *len))?;
                if bio.kind == OperationKind::Read {
                    let memory = memory_for(bytes.end - bytes.start)?;
                    bio.content = Content::Memory(memory.into());
                }
                Ok(bytes)
            }
            Content::Memory(buffers) => {
                let (offset, len) = (
                    self.block_size.disk_offset_of(bio.start),
                    buffers.byte_len(),
                );
                // A power of two, so that this takes no division.
                if len & (self.block_size.bytes() - 1) != 0 {
                    return Err(Error::InvalidInput("not a whole number of blocks"));
                }
                check_range(self.size, offset, len)?;
                Ok(offset..offset + len)
            }
        }
    }

    pub(super) fn bytes_of_run(&self, run: DiskRun) -> Result<Range<u64>> {
        let offset = self.block_size.disk_offset_of(run.start);
        let len = run.len.saturating_mul(self.block_size.bytes());
        check_range(self.size, offset, len)?;
        Ok(offset..offset + len)
    }

    // --- devices that block -----------------------------------------------------------------------------

    /// Does one command in this thread, which does I/O, as often as the policy says.
    #[inline]
    pub(super) fn blocking(
        &self,
        kind: OperationKind,
        timed: bool,
        mut operation: impl FnMut(&dyn BlockDevice) -> Result<()>,
    ) -> Failure {
        let start = timed.then(Instant::now);
        let mut attempt = 1;
        let failure = loop {
            let result = operation(&*self.device);
            if result.is_ok() {
                break None;
            }
            if !self.tries_again(attempt, &result) {
                break result.err().map(Box::new);
            }
            attempt += 1;
        };
        if let Some(start) = start {
            self.latencies.record(kind, start.elapsed());
        }
        failure
    }

    /// Whether the policy has a command tried again that ended like this at the `attempt`th time.
    #[cold]
    fn tries_again(&self, attempt: u32, result: &Result<()>) -> bool {
        let again = self.policy().tries_again(attempt, result);
        if again {
            self.count_retry();
        }
        again
    }

    /// Waits for a place in the device and takes it: whether what is done there is to be timed. `None` where the
    /// device is full and nobody wants to wait.
    pub(super) fn enter(&self, wait: bool) -> Option<Place<'_>> {
        let doing_io = begin_io();
        let dispatcher = &self.dispatchers[self.queue_of_thread()];
        let turn = dispatcher.enter(self.depth(), wait)?;
        Some(Place {
            dispatcher,
            timed: turn % TURNS_PER_TIMED == 1,
            _doing_io: doing_io,
        })
    }

    /// Makes durable what was written, and waits for that.
    pub(super) fn flush(&self) -> Result<()> {
        span!(TRACE, "flush");
        if self.limits.asynchronous {
            let since = Instant::now();
            let (place, done) = self.outcomes.expect(0, since);
            self.flush_then(done, Buffers::default(), since);
            return place.wait(OperationKind::Flush).1;
        }
        self.shared_flush.flush(self.probe(), || {
            let _doing_io = begin_io();
            self.counters.count(Counter::DeviceFlushes);
            outcome(self.blocking(OperationKind::Flush, true, |device| device.flush()))
        })
    }

    /// Carries out as many of the waiting commands as this thread has brought, not necessarily its own: so nobody
    /// works for others without end, and each command has a thread that will come for one, whatever panics meanwhile.
    pub(super) fn serve(&self, queue: usize, brought: usize) {
        let _doing_io = begin_io();
        let dispatcher = &self.dispatchers[queue];
        let mut panics = Panics::default();
        for _ in 0..brought {
            // None where some were merged.
            let Some(mut command) = dispatcher.enter_with_next(self.depth()) else {
                break;
            };
            let (kind, offset, len) = (command.kind, command.offset, command.len);
            let mut buffers = memory_of(&mut command);
            let failure = panics.hold(|| {
                self.blocking(kind, true, |device| {
                    operate(device, kind, offset, len, &mut buffers)
                })
            });
            dispatcher.leave();
            let result = failure.map_or_else(|| Err(unanswered(kind, offset)), outcome);
            panics.hold(|| command.finish(self, buffers, &result));
        }
        panics.go_on();
    }

    // --- devices that do not ----------------------------------------------------------------------------

    /// Starts what may be started, unless somebody else does.
    pub(super) fn dispatch(&self, queue: usize) {
        let Some(me) = self.me.upgrade() else {
            return;
        };
        let dispatcher = &self.dispatchers[queue];
        let mut state = dispatcher.lock();
        if state.starting {
            // That one looks again.
            return;
        }
        state.starting = true;
        let mut panics = Panics::default();
        while let Some((slot, command)) = state.begin_next(self.depth()) {
            let request = self.request(command, queue, (Arc::clone(&me), tag(queue, slot)));
            drop(state);
            dispatcher.freed();
            panics.hold(|| self.start(request));
            state = dispatcher.lock();
        }
        if self.probe().is(Mutation::StopStartingUnseen) {
            drop(state);
            state = dispatcher.lock();
        }
        state.starting = false;
        drop(state);
        panics.go_on();
    }

    fn request(&self, command: &mut Command, queue: usize, waiting: (Arc<Self>, u64)) -> Request {
        let (offset, len) = (command.offset, command.len);
        let waiting = (waiting.0 as Arc<dyn Completion>, waiting.1);
        let buffers = memory_of(command);
        let mut request = match command.kind {
            OperationKind::Read => Request::read(offset, buffers, waiting),
            OperationKind::Write => Request::write(offset, buffers, waiting),
            OperationKind::Flush => Request::flush(waiting),
            OperationKind::Discard => Request::discard(offset, len, waiting),
            OperationKind::WriteZeroes => Request::write_zeroes(offset, len, waiting),
        };
        request.fua = command.durable && !self.emulates_fua();
        request.queue = queue;
        request
    }

    fn start(&self, request: Request) {
        let _doing_io = begin_io();
        self.device.start(request);
    }

    pub(super) fn start_flush(&self) {
        if let Some(me) = self.me.upgrade() {
            self.counters.count(Counter::DeviceFlushes);
            self.start(Request::flush((me, FLUSH)));
        }
    }

    /// Lets `done` hear of a flush that begins after this, for a bio that was submitted at `since`.
    pub(super) fn flush_then(&self, done: Done, buffers: Buffers, since: Instant) {
        match self.limits.asynchronous {
            true => self.flush_machine.join(self, done, buffers, since),
            false => done.finish(buffers, self.flush()),
        }
    }

    /// Whether writes that must be durable are followed by a flush.
    pub(super) fn emulates_fua(&self) -> bool {
        !(self.limits.asynchronous && self.limits.native_fua)
    }

    /// Commands, or threads, that a queue of the hardware may have at once.
    #[inline]
    fn depth(&self) -> usize {
        match self.probe().is(Mutation::IgnoreDepth) {
            true => usize::MAX,
            false => self.limits.depth,
        }
    }

    /// Commands that may wait at a queue of the hardware. Where threads carry them out, each brings one thread that
    /// will come for it, so that there is room for all.
    pub(super) fn room(&self) -> usize {
        match self.limits.asynchronous {
            true => self.settings.room,
            false => usize::MAX,
        }
    }

    fn ended(&self, queue: usize, slot: usize, buffers: Buffers, result: Result<()>) {
        let dispatcher = &self.dispatchers[queue];
        let mut state = dispatcher.lock();
        if let Some(command) = state.under_way(slot)
            && self.policy().tries_again(command.attempt, &result)
            // Somebody waits for it still.
            && !command.shares.is_empty()
            // Of a device that kept some there is nothing whole to try again.
            && command.segments() == buffers.len()
        {
            command.attempt += 1;
            command.buffers = buffers;
            state.try_again(slot);
            drop(state);
            self.count_retry();
            // Not from here: a device that ends it at once would be called from inside itself, as often as it fails.
            return self.dispatch(queue);
        }
        let command = state.end(slot);
        drop(state);
        let mut panics = Panics::default();
        if let Some(command) = command {
            self.latencies.record(command.kind, command.since.elapsed());
            panics.hold(|| command.finish(self, buffers, &result));
        }
        self.dispatch(queue);
        panics.go_on();
    }

    pub(super) fn count_retry(&self) {
        self.counters.count(Counter::DeviceRetries);
    }

    // --- patience ---------------------------------------------------------------------------------------

    /// A completion is to be told of what is submitted now.
    pub(super) fn has_completion(&self) {
        if let Some(timer) = &self.timer {
            timer.want();
        }
    }

    /// Something waits, or is under way, whose time may run out.
    pub(super) fn start_timer(&self) {
        if let Some(timer) = &self.timer {
            timer.start(&self.me);
        }
    }

    /// Takes those who are to hear of what is late, so that they hear of no other end.
    pub(super) fn late(&self, mut clock: Clock) -> Late {
        let dispatchers = self.dispatchers.iter();
        let commands = dispatchers
            .flat_map(|dispatcher| dispatcher.late(&mut clock))
            .collect();
        let flushes = self.flush_machine.late(&mut clock);
        clock.found(commands, flushes)
    }

    pub(super) fn tell_late(&self, late: Late) {
        let _telling = Telling::begin();
        // Its panics have been reported, and the others have to hear.
        let mut panics = Panics::default();
        for mut command in late.commands {
            let result = Err(timed_out(command.kind, command.offset));
            let buffers = memory_of(&mut command);
            panics.hold(|| command.finish(self, buffers, &result));
        }
        for waiter in late.flushes {
            let result = Err(timed_out(OperationKind::Flush, 0));
            panics.hold(|| waiter.done.finish(waiter.buffers, result));
        }
        panics.forget();
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.close();
        }
    }
}

impl Completion for Core {
    fn completed(&self, tag: u64, buffers: Buffers, result: Result<()>) {
        let _telling = Telling::begin();
        match tag {
            FLUSH => self.flush_machine.ended(self, &result),
            tag => self.ended((tag >> 32) as usize, tag as u32 as usize, buffers, result),
        }
    }
}

thread_local! {
    /// Whether this thread tells somebody of the end of a request. What would make room may be for this thread to do.
    static TELLS: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread must not wait for room.
pub(super) fn tells() -> bool {
    TELLS.with(Cell::get)
}

/// That this thread tells, and whether it did before.
struct Telling(bool);

impl Telling {
    fn begin() -> Self {
        Self(TELLS.with(|tells| tells.replace(true)))
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        TELLS.with(|tells| tells.set(self.0));
    }
}

/// Tells commands under way apart.
fn tag(queue: usize, slot: usize) -> u64 {
    (queue as u64) << 32 | slot as u64
}

/// Memory for a read, if there is as much.
fn memory_for(len: u64) -> Result<Buffer> {
    const TOO_LARGE: Error = Error::InvalidInput("a read larger than memory");
    let len = usize::try_from(len).map_err(|_| TOO_LARGE)?;
    let with_alignment = len.checked_add(Buffer::ALIGNMENT).ok_or(TOO_LARGE)?;
    // The allocation itself knows no failure.
    let mut trial: Vec<u8> = Vec::new();
    trial
        .try_reserve_exact(with_alignment)
        .map_err(|_| TOO_LARGE)?;
    drop(trial);
    Ok(Buffer::zeroed(len))
}

/// The right of a thread to be in the device.
pub(super) struct Place<'a> {
    dispatcher: &'a Dispatcher,
    pub(super) timed: bool,
    _doing_io: DoingIo,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.dispatcher.leave();
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("device", &self.device)
            .field("block_size", &self.block_size)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
