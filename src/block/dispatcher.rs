//! The way to one queue of the hardware: what waits for it, and what is under way.

use std::time::{Duration, Instant};

use crate::device::{Buffers, Limits};
use crate::sync::{Condvar, Mutex, MutexGuard, Rank};

use super::command::Command;
use super::scheduler::{Scheduler, Waiting};
use super::timer::Clock;

/// Commands that wait for one hardware queue, and the places of those that it may have at once.
///
/// Of a device that blocks, a thread takes a place while it is in the device. Of one that does not, a command has one
/// until it has ended; whoever finds that nobody starts commands starts all that may be, and looks once more
/// before it stops.
#[derive(Debug)]
pub(super) struct Dispatcher {
    state: Mutex<State>,
    /// A place, or room for a waiting command, has become free.
    freed: Condvar,
}

/// What a [`Dispatcher`] keeps under its lock.
#[derive(Debug)]
pub(super) struct State {
    waiting: Waiting,
    in_flight: usize,
    most_in_flight: usize,
    /// How often places were taken.
    turns: u64,
    /// Whether a thread starts commands.
    pub(super) starting: bool,
    /// Commands under way, by their tag.
    slots: Vec<Option<Command>>,
    free: Vec<usize>,
    /// Slots of commands that are to be started once more.
    again: Vec<usize>,
}

/// What became of a command that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    /// It is part of another one.
    Merged,
    Alone,
}

/// How busy a queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Depth {
    /// Commands that wait for the device.
    pub waiting: usize,
    /// Commands, or threads with a batch of them, in the device.
    pub in_flight: usize,
    /// The most that were there at once, per hardware queue.
    pub most_in_flight: usize,
}

impl Dispatcher {
    pub(super) fn new(scheduler: Scheduler) -> Self {
        let state = State {
            waiting: Waiting::new(scheduler),
            in_flight: 0,
            most_in_flight: 0,
            turns: 0,
            starting: false,
            slots: Vec::new(),
            free: Vec::new(),
            again: Vec::new(),
        };
        Self {
            state: Mutex::new(Rank::Dispatcher, state),
            freed: Condvar::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Exchanges the order of what waits, too.
    pub(super) fn set_scheduler(&self, scheduler: Scheduler, limits: &Limits) {
        let mut state = self.lock();
        let mut waiting = Waiting::new(scheduler);
        while let Some(command) = state.waiting.next() {
            waiting.insert(command, limits);
        }
        state.waiting = waiting;
    }

    pub(super) fn depth(&self) -> Depth {
        let state = self.lock();
        Depth {
            waiting: state.waiting.len(),
            in_flight: state.in_flight,
            most_in_flight: state.most_in_flight,
        }
    }

    /// Waits for one of `depth` places and takes it, or says that there is none. How many turns there were before.
    pub(super) fn enter(&self, depth: usize, wait: bool) -> Option<u64> {
        let state = self.with_place(self.lock(), depth, wait)?;
        Some(state.turns)
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.in_flight -= 1;
        drop(state);
        self.freed.notify_one();
    }

    /// Waits for a place and takes it, with the command that goes next. Nothing waits: no place either.
    pub(super) fn enter_with_next(&self, depth: usize) -> Option<Command> {
        let mut state = self.with_place(self.lock(), depth, true)?;
        let next = state.waiting.next();
        if next.is_none() {
            state.in_flight -= 1;
            drop(state);
            self.freed.notify_one();
        }
        next
    }

    fn with_place<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        depth: usize,
        wait: bool,
    ) -> Option<MutexGuard<'a, State>> {
        while state.in_flight >= depth {
            if !wait {
                return None;
            }
            state = self.freed.wait(state);
        }
        state.take_place();
        Some(state)
    }

    /// Lets a command wait for the device. It comes back where `room` commands wait already and there was no room in as
    /// long as `patience` says; nothing says for ever.
    pub(super) fn insert(
        &self,
        command: Command,
        limits: &Limits,
        room: usize,
        patience: Option<Duration>,
    ) -> Result<Inserted, Box<Command>> {
        let mut state = self.lock();
        let mut since = None;
        while state.waiting.len() >= room {
            let Some(patience) = patience else {
                state = self.freed.wait(state);
                continue;
            };
            let waited = since.get_or_insert_with(Instant::now).elapsed();
            let left = patience.saturating_sub(waited);
            if left.is_zero() {
                return Err(Box::new(command));
            }
            state = self.freed.wait_for(state, left).0;
        }
        Ok(match state.waiting.insert(command, limits) {
            true => Inserted::Merged,
            false => Inserted::Alone,
        })
    }

    /// Takes what is late: commands that wait, and of those under way, whose memory the device has, those who are to hear.
    pub(super) fn late(&self, clock: &mut Clock) -> Vec<Command> {
        let mut state = self.lock();
        let mut late = state.waiting.late(clock);
        let left = late.len();
        for command in state.slots.iter_mut().flatten() {
            if !command.shares.is_empty() && clock.is_late(command.since) {
                late.push(command.give_up());
            }
        }
        drop(state);
        (0..left).for_each(|_| self.freed());
        late
    }

    /// A command has left those that wait, or a place has become free.
    pub(super) fn freed(&self) {
        self.freed.notify_one();
    }
}

impl State {
    fn take_place(&mut self) {
        self.turns += 1;
        self.in_flight += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
    }

    /// The command that is started next, and which slot it has: one that is tried again, which has a place, or one that
    /// gets one. Its buffers are for the device.
    pub(super) fn begin_next(&mut self, depth: usize) -> Option<(usize, &mut Command)> {
        if let Some(slot) = self.again.pop() {
            return Some((slot, self.slots[slot].as_mut()?));
        }
        if self.in_flight >= depth {
            return None;
        }
        let command = self.waiting.next()?;
        self.take_place();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        Some((slot, self.slots[slot].insert(command)))
    }

    /// The command in a slot.
    pub(super) fn under_way(&mut self, slot: usize) -> Option<&mut Command> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Has the command in a slot started once more.
    pub(super) fn try_again(&mut self, slot: usize) {
        self.again.push(slot);
    }

    /// Takes a command that has ended off its place.
    pub(super) fn end(&mut self, slot: usize) -> Option<Command> {
        let command = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        self.in_flight -= 1;
        Some(command)
    }
}

/// Memory of a command, as the device gets it.
pub(super) fn memory_of(command: &mut Command) -> Buffers {
    std::mem::take(&mut command.buffers)
}
