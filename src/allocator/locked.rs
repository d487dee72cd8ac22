//! A group under its lock, whose changes the directory hears of.

use std::ops::{Deref, DerefMut};

use crate::probe::Mutation;
use crate::sync::MutexGuard;

use super::Allocator;
use super::directory::Summary;
use super::group::Group;

/// A locked group; giving it back tells the directory what it has now.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    allocator: &'a Allocator,
    number: usize,
    group: MutexGuard<'a, Group>,
    /// What the directory knows, once something may have changed.
    before: Option<Summary>,
}

impl Allocator {
    /// Waits for the lock of a group, which is read first if nobody has.
    #[inline]
    pub(super) fn group(&self, number: usize) -> Locked<'_> {
        self.read(number);
        self.locked(number)
    }

    /// Waits for the lock of a group, read or not.
    #[inline]
    pub(super) fn locked(&self, number: usize) -> Locked<'_> {
        self.with(number, self.groups[number].lock())
    }

    /// The lock of a group, unless somebody has it.
    pub(super) fn try_group(&self, number: usize) -> Option<Locked<'_>> {
        let group = self.groups[number].try_lock()?;
        Some(self.with(number, group))
    }

    /// The locks of all groups. All are read before the first is locked.
    pub(super) fn lock_all(&self) -> Vec<Locked<'_>> {
        let numbers = 0..self.groups.len();
        numbers.clone().for_each(|number| self.read(number));
        numbers.map(|number| self.locked(number)).collect()
    }

    #[inline]
    fn with<'a>(&'a self, number: usize, group: MutexGuard<'a, Group>) -> Locked<'a> {
        Locked {
            allocator: self,
            number,
            group,
            before: None,
        }
    }
}

impl Locked<'_> {
    pub(super) fn number(&self) -> usize {
        self.number
    }
}

impl Deref for Locked<'_> {
    type Target = Group;

    #[inline]
    fn deref(&self) -> &Group {
        &self.group
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Group {
        if self.before.is_none() {
            self.before = Some(self.group.summary());
        }
        &mut self.group
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(before) = self.before {
            let mut now = self.group.summary();
            if self.allocator.probe.is(Mutation::StayInList) {
                now.orders = now.orders.or(before.orders);
            }
            if now != before {
                self.allocator.directory.update(self.number, now);
            }
        }
    }
}
