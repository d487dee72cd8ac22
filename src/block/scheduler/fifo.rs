//! No order but that of arrival.

use std::collections::VecDeque;
use std::mem;

use crate::device::Limits;

use super::super::command::Command;
use super::super::timer::Clock;

/// Commands as they came; one that borders the last is merged with it.
#[derive(Debug, Default)]
pub(crate) struct Fifo(VecDeque<Command>);

impl Fifo {
    pub(super) fn insert(&mut self, mut command: Command, limits: &Limits) -> bool {
        if let Some(last) = self.0.back_mut() {
            if last.takes(&command, limits) {
                last.take(command);
                return true;
            }
            if command.takes(last, limits) {
                mem::swap(last, &mut command);
                last.take(command);
                return true;
            }
        }
        self.0.push_back(command);
        false
    }

    pub(super) fn next(&mut self) -> Option<Command> {
        self.0.pop_front()
    }

    pub(super) fn late(&mut self, clock: &mut Clock) -> Vec<Command> {
        let all = mem::take(&mut self.0).into_iter();
        let (late, others): (VecDeque<_>, _) =
            all.partition(|command| clock.is_late(command.since));
        self.0 = others;
        late.into()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
