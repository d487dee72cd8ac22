//! Flushes that many callers share.

use std::mem;
use std::time::Instant;

use crate::device::{Buffers, Completion, OperationKind};
use crate::error::Result;
use crate::probe::{Mutation, Probe};
use crate::sync::{Arc, Condvar, Mutex, Rank, begin_io};

use super::core::Core;
use super::outcome::Done;
use super::panics::Panics;
use super::timer::Clock;

/// Flushes of callers who wait in their own thread: one of them flushes for all who came before it began. They hear of
/// its end at once; the next flush holds up nobody but those it is for.
#[derive(Debug)]
pub(super) struct SharedFlush {
    turn: Mutex<Turn>,
    /// A flush has ended.
    ended: Condvar,
}

#[derive(Debug)]
struct Turn {
    /// Whether a caller is in the device.
    taken: bool,
    /// Of the flush that begins next.
    next: FlushOutcome,
}

/// Where all callers of one flush find the answer.
type FlushOutcome = Arc<Mutex<Option<Result<()>>>>;

fn no_answer_yet() -> FlushOutcome {
    Arc::new(Mutex::new(Rank::FlushOutcome, None))
}

impl SharedFlush {
    pub(super) fn new() -> Self {
        let turn = Turn {
            taken: false,
            next: no_answer_yet(),
        };
        Self {
            turn: Mutex::new(Rank::FlushTurn, turn),
            ended: Condvar::default(),
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
        let mut turn = self.turn.lock();
        let outcome = Arc::clone(&turn.next);
        while turn.taken {
            turn = self.ended.wait(turn);
            if let Some(result) = &*outcome.lock() {
                return result.clone();
            }
        }
        turn.taken = true;
        let for_latecomers = probe.is(Mutation::FlushForLatecomers);
        if !for_latecomers {
            turn.next = no_answer_yet();
        }
        drop(turn);
        let in_device = InDevice(self);
        let result = device_flush();
        if for_latecomers {
            self.turn.lock().next = no_answer_yet();
        }
        *outcome.lock() = Some(result.clone());
        drop(in_device);
        result
    }
}

/// The turn of a caller, also if the device panics: somebody else flushes then.
struct InDevice<'a>(&'a SharedFlush);

impl Drop for InDevice<'_> {
    fn drop(&mut self) {
        self.0.turn.lock().taken = false;
        self.0.ended.notify_all();
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
    /// When the first of them asked.
    asked: Option<Instant>,
    /// Whether there is a flush in the device; for whom, but for those who waited too long; and when the first of them asked.
    in_device: bool,
    covered: Vec<Waiter>,
    covered_asked: Option<Instant>,
    /// Memory for those who wait.
    spare: Vec<Waiter>,
    attempt: u32,
    /// Whether that flush is still to be started, once more or for the first time.
    due: bool,
    /// Whether a thread starts flushes.
    starting: bool,
}

/// Who waits for a flush, and its memory.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) done: Done,
    pub(super) buffers: Buffers,
    /// When its bio was submitted.
    since: Instant,
}

impl FlushMachine {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(Rank::FlushMachine, Flushes::default()),
        }
    }

    /// Lets the next flush tell `done`, which gets `buffers` then, of a bio that was submitted at `since`.
    pub(super) fn join(&self, core: &Core, done: Done, buffers: Buffers, since: Instant) {
        let mut state = self.state.lock();
        let waiter = Waiter {
            done,
            buffers,
            since,
        };
        if core.probe().is(Mutation::FlushForLatecomers) && state.in_device {
            return state.covered.push(waiter);
        }
        state.waiting.push(waiter);
        state.asked.get_or_insert_with(Instant::now);
        let begins = !state.in_device;
        if begins {
            state.begin();
        }
        drop(state);
        core.start_timer();
        if begins {
            self.start(core);
        }
    }

    /// Takes those who have waited too long. Their flush may still end.
    pub(super) fn late(&self, clock: &mut Clock) -> Vec<Waiter> {
        let mut state = self.state.lock();
        let Flushes {
            waiting, covered, ..
        } = &mut *state;
        let mut late = |waiters: &mut Vec<Waiter>| {
            let is_late = |waiter: &mut Waiter| clock.is_late(waiter.since);
            waiters.extract_if(.., is_late).collect::<Vec<_>>()
        };
        let mut all = late(covered);
        all.append(&mut late(waiting));
        if waiting.is_empty() {
            state.asked = None;
        }
        all
    }

    /// Starts the flush that is due, unless somebody else does. A device may end it at once, and who hears of that may
    /// ask for the next one: that is started here too, so that no stack grows.
    fn start(&self, core: &Core) {
        let mut state = self.state.lock();
        if mem::replace(&mut state.starting, true) {
            // That one looks again.
            return;
        }
        let mut panics = Panics::default();
        while mem::take(&mut state.due) {
            drop(state);
            panics.hold(|| core.start_flush());
            state = self.state.lock();
        }
        state.starting = false;
        drop(state);
        panics.go_on();
    }

    /// The flush in the device has ended.
    pub(super) fn ended(&self, core: &Core, result: &Result<()>) {
        let mut state = self.state.lock();
        // Somebody waits for it still.
        let wanted = !state.covered.is_empty();
        if wanted && core.policy().tries_again(state.attempt, result) {
            state.attempt += 1;
            state.due = true;
            drop(state);
            core.count_retry();
            return self.start(core);
        }
        if let Some(asked) = state.covered_asked.take() {
            core.latencies.record(OperationKind::Flush, asked.elapsed());
        }
        let mut covered = mem::take(&mut state.covered);
        let more = !state.waiting.is_empty();
        state.in_device = false;
        if more {
            state.begin();
        }
        drop(state);
        let mut panics = Panics::default();
        if more {
            panics.hold(|| self.start(core));
        }
        for waiter in covered.drain(..) {
            panics.hold(|| waiter.done.finish(waiter.buffers, result.clone()));
        }
        self.state.lock().spare = covered;
        panics.go_on();
    }
}

impl Flushes {
    fn begin(&mut self) {
        self.covered = mem::replace(&mut self.waiting, mem::take(&mut self.spare));
        self.covered_asked = self.asked.take();
        self.in_device = true;
        self.attempt = 1;
        self.due = true;
    }
}

/// Flushes once a write in several commands has ended, where a device has no writes that are durable by themselves: an
/// emulated FUA. Of a write in one command its [`Share`](super::command::Share) knows that.
pub(super) struct ThenFlush {
    core: Arc<Core>,
    done: Done,
    since: Instant,
}

impl ThenFlush {
    /// Who hears of the write, so that `done` hears of the flush behind it.
    pub(super) fn before(core: &Arc<Core>, done: Done, since: Instant) -> Done {
        let core = Arc::clone(core);
        Done {
            completion: Arc::new(Self { core, done, since }),
            tag: 0,
        }
    }
}

impl Completion for ThenFlush {
    fn completed(&self, _: u64, buffers: Buffers, result: Result<()>) {
        let done = self.done.clone();
        match result {
            Ok(()) => self.core.flush_then(done, buffers, self.since),
            Err(_) => done.finish(buffers, result),
        }
    }
}

#[cfg(all(test, not(any(loom, feature = "shuttle"))))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use crate::sync::thread;

    const CALLERS: u64 = 16;

    /// How many callers share the flush that begins next.
    fn sharing(flush: &SharedFlush) -> u64 {
        Arc::strong_count(&flush.turn.lock().next) as u64 - 1
    }

    /// Waits until it is so; not for ever, so that a test can end.
    fn becomes(is_so: impl Fn() -> bool) -> bool {
        let begin = Instant::now();
        while !is_so() && begin.elapsed() < Duration::from_secs(20) {
            thread::yield_now();
        }
        is_so()
    }

    #[test]
    fn one_flush_is_for_all_who_came_before_it_and_who_is_answered_waits_for_no_later_one() {
        for _ in 0..20 {
            let flush = SharedFlush::new();
            let [begun, allowed, answered] = [const { AtomicU64::new(0) }; 3];
            let device = || {
                let number = begun.fetch_add(1, SeqCst) + 1;
                while allowed.load(SeqCst) < number {
                    thread::yield_now();
                }
                Ok(())
            };
            let call = || flush.flush(&Probe::default(), device).unwrap();
            let (shared, answers_come) = thread::scope(|scope| {
                for _ in 0..CALLERS {
                    scope.spawn(|| {
                        call();
                        answered.fetch_add(1, SeqCst);
                        // Again, so that there is a third flush while the answer of the second is on its way.
                        call();
                    });
                }
                let shared = becomes(|| sharing(&flush) == CALLERS - 1);
                allowed.store(2, SeqCst);
                let answers_come = becomes(|| answered.load(SeqCst) == CALLERS);
                allowed.store(u64::MAX, SeqCst);
                (shared, answers_come)
            });
            assert!(shared, "not one flush for all of them");
            assert!(answers_come, "an answer waits for the third flush");
        }
    }

    #[test]
    fn a_device_that_panics_leaves_the_turn_to_others() {
        let flush = SharedFlush::new();
        let panics = || {
            flush.flush(&Probe::default(), || {
                std::panic::resume_unwind(Box::new(()))
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!(flush.flush(&Probe::default(), || Ok(())), Ok(()));
    }
}
