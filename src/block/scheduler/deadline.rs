//! By block, so that a head moves little; but what has waited too long goes first. After `mq-deadline` of Linux.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use crate::device::{Limits, OperationKind};

use super::super::Priority;
use super::super::command::Command;
use super::super::timer::Clock;

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

/// The commands of one direction. They mostly come and leave in order, at the ends of the lists, and elsewhere a list moves only
/// a few words for each command. Everything keeps its memory.
#[derive(Debug, Default)]
struct Direction {
    /// First byte, number and slot of each.
    sorted: VecDeque<(u64, u64, usize)>,
    /// Deadline, number and first byte of each.
    deadlines: VecDeque<(Instant, u64, u64)>,
    /// When each was submitted, and its number.
    ages: VecDeque<(Instant, u64)>,
    next_number: u64,
    slots: Vec<Option<Waiter>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    deadline: Instant,
    command: Command,
}

fn add<T: Ord>(list: &mut VecDeque<T>, item: T) {
    list.insert(list.partition_point(|other| *other < item), item);
}

fn strike<T: Ord>(list: &mut VecDeque<T>, item: &T) {
    if let Ok(at) = list.binary_search(item) {
        list.remove(at);
    }
}

impl Direction {
    /// Where a command stands; with number 0, the first one from byte `offset` on.
    fn place_of(&self, offset: u64, number: u64) -> usize {
        self.sorted
            .partition_point(|waiter| *waiter < (offset, number, 0))
    }

    fn at(&self, place: usize) -> Option<&Command> {
        let (_, _, slot) = self.sorted.get(place)?;
        Some(&self.slots[*slot].as_ref()?.command)
    }

    /// The first command from byte `offset` on.
    fn first_from(&self, offset: u64) -> Option<usize> {
        let place = self.place_of(offset, 0);
        (place < self.sorted.len()).then_some(place)
    }

    /// Whether the command has become part of one that waits.
    fn insert(&mut self, mut command: Command, deadline: Instant, limits: &Limits) -> bool {
        let place = self.place_of(command.offset, 0);
        let is_before = |other: &Command| other.takes(&command, limits);
        let before = place.checked_sub(1);
        let before = before.filter(|place| self.at(*place).is_some_and(is_before));
        let is_behind = |other: &Command| command.takes(other, limits);
        let behind = before.is_none() && self.at(place).is_some_and(is_behind);
        let Some(mut other) = before
            .or(behind.then_some(place))
            .and_then(|at| self.remove(at))
        else {
            let number = self.next_number;
            self.next_number += 1;
            self.put(Waiter {
                number,
                deadline,
                command,
            });
            return false;
        };
        if behind {
            mem::swap(&mut other.command, &mut command);
        }
        other.command.take(command);
        // Both were promised theirs. Of priorities there is but one: neighbours of others are not merged.
        other.deadline = other.deadline.min(deadline);
        self.put(other);
        true
    }

    fn put(&mut self, waiter: Waiter) {
        let (offset, number) = (waiter.command.offset, waiter.number);
        add(&mut self.deadlines, (waiter.deadline, number, offset));
        add(&mut self.ages, (waiter.command.since, number));
        let slot = self.free.pop().unwrap_or(self.slots.len());
        self.slots
            .resize_with(self.slots.len().max(slot + 1), || None);
        self.slots[slot] = Some(waiter);
        add(&mut self.sorted, (offset, number, slot));
    }

    fn remove(&mut self, place: usize) -> Option<Waiter> {
        let (offset, number, slot) = self.sorted.remove(place)?;
        let gone = self.slots[slot].take()?;
        self.free.push(slot);
        strike(&mut self.deadlines, &(gone.deadline, number, offset));
        strike(&mut self.ages, &(gone.command.since, number));
        Some(gone)
    }

    /// The first deadline, and where its command stands.
    fn oldest(&self) -> Option<(Instant, usize)> {
        let (deadline, number, offset) = *self.deadlines.front()?;
        Some((deadline, self.place_of(offset, number)))
    }

    /// Whether a command has waited so long.
    fn is_aged(&self, now: Instant, aging: Duration) -> bool {
        let oldest = self.ages.front();
        oldest.is_some_and(|(since, _)| now.saturating_duration_since(*since) >= aging)
    }
}

impl Class {
    fn is_empty(&self) -> bool {
        self.directions.iter().all(|d| d.sorted.is_empty())
    }

    fn next(&mut self, options: &Deadline, now: Instant) -> Option<Command> {
        let behind = self.directions[self.going].first_from(self.position);
        let goes_on = self.gone > 0 && self.gone < options.batch;
        let place = match behind.filter(|_| goes_on) {
            Some(behind) => behind,
            None => self.begin_batch(options, now)?,
        };
        let command = self.directions[self.going].remove(place)?.command;
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
        let behind = direction.first_from(self.position);
        let behind = behind.filter(|_| same && deadline > now);
        Some(behind.unwrap_or(oldest))
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
            let mut directions = class.directions.iter();
            directions.any(|direction| direction.is_aged(now, options.aging))
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

    pub(super) fn late(&mut self, clock: &mut Clock) -> Vec<Command> {
        let mut late = Vec::new();
        let classes = self.classes.iter_mut();
        for direction in classes.flat_map(|class| &mut class.directions) {
            let mut place = 0;
            while let Some(command) = direction.at(place) {
                match clock.is_late(command.since) {
                    true => late.extend(direction.remove(place).map(|waiter| waiter.command)),
                    false => place += 1,
                }
            }
        }
        late
    }

    pub(super) fn len(&self) -> usize {
        let all = self.classes.iter().flat_map(|class| &class.directions);
        all.map(|direction| direction.sorted.len()).sum()
    }
}
