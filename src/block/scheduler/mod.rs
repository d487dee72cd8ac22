//! In which order waiting commands go to the device.

mod deadline;
mod fifo;

pub use deadline::Deadline;

use std::time::Instant;

use crate::device::Limits;

use super::command::Command;
use super::timer::Clock;
use deadline::Sorted;
use fifo::Fifo;

/// How a queue orders what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Scheduler {
    /// As it comes.
    #[default]
    None,
    /// By block, but none waits forever.
    Deadline(Deadline),
}

/// The commands that wait.
#[derive(Debug)]
pub(super) enum Waiting {
    Fifo(Fifo),
    Sorted(Box<Sorted>),
}

impl Waiting {
    pub(super) fn new(scheduler: Scheduler) -> Self {
        match scheduler {
            Scheduler::None => Self::Fifo(Fifo::default()),
            Scheduler::Deadline(deadline) => Self::Sorted(Box::new(Sorted::new(deadline))),
        }
    }

    /// Adds a command, to one that waits already if both are neighbours: says whether it was.
    pub(super) fn insert(&mut self, command: Command, limits: &Limits) -> bool {
        match self {
            Self::Fifo(waiting) => waiting.insert(command, limits),
            Self::Sorted(waiting) => waiting.insert(command, limits),
        }
    }

    /// The one that goes next.
    pub(super) fn next(&mut self) -> Option<Command> {
        match self {
            Self::Fifo(waiting) => waiting.next(),
            Self::Sorted(waiting) => waiting.next(Instant::now()),
        }
    }

    /// Takes what is late.
    pub(super) fn late(&mut self, clock: &mut Clock) -> Vec<Command> {
        match self {
            Self::Fifo(waiting) => waiting.late(clock),
            Self::Sorted(waiting) => waiting.late(clock),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Fifo(waiting) => waiting.len(),
            Self::Sorted(waiting) => waiting.len(),
        }
    }
}
