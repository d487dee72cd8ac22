//! By block, so that a head moves little; but what has waited too long goes first. After `mq-deadline` of Linux.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::device::{Limits, OperationKind};

use super::super::Priority;
use super::super::command::Command;

/// How the scheduler weighs order against waiting. The default is that of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Deadline {
    /// How long a read, or a write that is waited for ([`Bio::sync`](crate::block::Bio::sync)), should wait at most.
    pub read_expiry: Duration,
    /// How long any other command should wait at most.
    pub write_expiry: Duration,
    /// Commands of one direction that go by block before the deadlines are looked at again.
    pub batch: u32,
    /// How many batches of reads go before waiting writes get one.
    pub writes_starved: u32,
    /// How long a command waits at most because of its [`Priority`].
    pub aging: Duration,
}

impl Default for Deadline {
    fn default() -> Self {
        Self {
            read_expiry: Duration::from_millis(500),
            write_expiry: Duration::from_secs(5),
            batch: 16,
            writes_starved: 2,
            aging: Duration::from_secs(10),
        }
    }
}

/// A longer expiry is not told from it: an [`Instant`] has an end.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Reads, and everything that changes something.
const DIRECTIONS: usize = 2;
const READS: usize = 0;
const WRITES: usize = 1;

/// The commands that wait, and whose turn it is.
#[derive(Debug)]
pub(crate) struct Sorted {
    options: Deadline,
    /// Urgent ones first.
    classes: [Class; 3],
}

/// The commands of one priority.
#[derive(Debug, Default)]
struct Class {
    directions: [Direction; DIRECTIONS],
    /// In which direction the batch goes, how far it has come, and how many went.
    going: usize,
    position: u64,
    gone: u32,
    /// Batches of reads that went while writes waited.
    starved: u32,
}

/// The commands of one direction.
#[derive(Debug, Default)]
struct Direction {
    /// By first byte.
    sorted: Vec<Waiter>,
    /// The deadlines of all of them, the first one first.
    deadlines: VecDeque<(Instant, u64)>,
    next_number: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    command: Command,
}

impl Direction {
    fn place_of(&self, offset: u64) -> usize {
        self.sorted
            .partition_point(|waiter| waiter.command.offset < offset)
    }

    fn insert(&mut self, mut command: Command, deadline: Instant, limits: &Limits) -> bool {
        let place = self.place_of(command.offset);
        if place > 0 {
            let before = &mut self.sorted[place - 1].command;
            if before.takes(&command, limits) {
                before.take(command);
                return true;
            }
        }
        if let Some(behind) = self.sorted.get_mut(place)
            && command.takes(&behind.command, limits)
        {
            std::mem::swap(&mut behind.command, &mut command);
            behind.command.take(command);
            return true;
        }
        let number = self.next_number;
        self.next_number += 1;
        let at = self
            .deadlines
            .partition_point(|(other, _)| *other <= deadline);
        self.deadlines.insert(at, (deadline, number));
        self.sorted.insert(place, Waiter { number, command });
        false
    }

    /// The first deadline, and where its command stands.
    fn oldest(&self) -> Option<(Instant, usize)> {
        let (deadline, number) = *self.deadlines.front()?;
        let place = self
            .sorted
            .iter()
            .position(|waiter| waiter.number == number)?;
        Some((deadline, place))
    }

    fn remove(&mut self, place: usize) -> Command {
        let gone = self.sorted.remove(place);
        self.deadlines.retain(|(_, number)| *number != gone.number);
        gone.command
    }
}

impl Class {
    fn is_empty(&self) -> bool {
        self.directions.iter().all(|d| d.sorted.is_empty())
    }

    fn next(&mut self, options: &Deadline, now: Instant) -> Option<Command> {
        let behind = self.directions[self.going].place_of(self.position);
        let more = behind < self.directions[self.going].sorted.len();
        let place = if more && self.gone > 0 && self.gone < options.batch {
            behind
        } else {
            self.begin_batch(options, now)?
        };
        let command = self.directions[self.going].remove(place);
        self.position = command.end();
        self.gone += 1;
        Some(command)
    }

    /// Chooses a direction, and where to begin in it.
    fn begin_batch(&mut self, options: &Deadline, now: Instant) -> Option<usize> {
        let [reads, writes] = [READS, WRITES].map(|d| !self.directions[d].sorted.is_empty());
        let turn = match (reads, writes) {
            (false, false) => return None,
            (true, false) => READS,
            (false, true) => WRITES,
            (true, true) if self.starved >= options.writes_starved => WRITES,
            (true, true) => {
                self.starved += 1;
                READS
            }
        };
        if turn == WRITES {
            self.starved = 0;
        }
        let same = turn == self.going;
        self.going = turn;
        self.gone = 0;
        let direction = &self.directions[turn];
        let (deadline, oldest) = direction.oldest()?;
        let behind = direction.place_of(self.position);
        let goes_on = same && behind < direction.sorted.len();
        Some(if deadline <= now || !goes_on {
            oldest
        } else {
            behind
        })
    }
}

impl Sorted {
    pub(super) fn new(options: Deadline) -> Self {
        Self {
            options,
            classes: Default::default(),
        }
    }

    pub(super) fn insert(&mut self, command: Command, limits: &Limits) -> bool {
        let expiry = match command.prompt {
            true => self.options.read_expiry,
            false => self.options.write_expiry,
        };
        let deadline = command.since + expiry.min(FOR_EVER);
        let direction = match command.kind {
            OperationKind::Read => READS,
            _ => WRITES,
        };
        let class = &mut self.classes[command.priority as usize];
        class.directions[direction].insert(command, deadline, limits)
    }

    pub(super) fn next(&mut self, now: Instant) -> Option<Command> {
        let options = self.options;
        let aged = |class: &Class| {
            let mut waiting = class.directions.iter().flat_map(|d| &d.sorted);
            waiting
                .any(|waiter| now.saturating_duration_since(waiter.command.since) >= options.aging)
        };
        let first = Priority::Urgent as usize;
        // Only those that others go before can age.
        let old = (first + 1..self.classes.len()).find(|class| aged(&self.classes[*class]));
        let class = match old {
            Some(class) => class,
            None => self.classes.iter().position(|class| !class.is_empty())?,
        };
        self.classes[class].next(&options, now)
    }

    pub(super) fn len(&self) -> usize {
        let all = self.classes.iter().flat_map(|class| &class.directions);
        all.map(|direction| direction.sorted.len()).sum()
    }
}
