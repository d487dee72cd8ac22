//! The search for a free run, level by level, from the best answer to any.
//!
//! | level | takes |
//! |---|---|
//! | goal | what is free exactly at the goal, or in the goal's group behind it |
//! | power of two | a wish of 2^n clusters, n at least 8, or for a stripe: an aligned run |
//! | fast | the whole wish near the goal, in a group whose average free run is of its order |
//! | slow | the whole wish, in any group; on a rather full volume as said in [`snug`](super::snug) |
//! | best available | the longest run there is, but not below the minimum |
//! | any | a run of the highest order there is |
//! | exhaustive | whatever is free, group by group under its lock |
//!
//! All but the first and the last two skip groups that somebody works on. The levels are ext4's (its `mballoc`), over another
//! index: because it is known which orders of runs each group has, "best available" needs no tries with shrinking wishes.

use crate::error::{Error, Result};
use crate::probe::{Moment, Mutation};

use super::Allocator;
use super::directory::By;
use super::free_runs::{Alignment, FreeRuns};
use super::locked::Locked;
use super::request::{Place, Wanted};
use super::run_orders::{TOP, order_of};
use super::span::Span;

/// Percent of a volume that are free while long runs are no treasure.
const ROOMY: u64 = 30;
/// The shortest wish that is aligned to itself.
const SHORTEST_ALIGNED: u64 = 256;

/// A free span, under the lock of its group.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) group: Locked<'a>,
    pub(super) span: Span,
}

/// Where a search begins.
#[derive(Clone, Copy)]
pub(super) struct Start {
    pub(super) group: usize,
    /// The cluster in that group.
    pub(super) from: u64,
}

impl Allocator {
    /// Finds a free run of 1 to `wanted.length` clusters. The caller holds promises for them, so one exists.
    pub(super) fn find(&self, wanted: &Wanted) -> Result<Found<'_>> {
        let found = self
            .find_whole(wanted)
            .or_else(|| self.best_available(wanted))
            .or_else(|| self.any(wanted));
        match found {
            Some(found) => Ok(found),
            None => self.exhaustive(wanted),
        }
    }

    /// A run with the whole wish, or what there is at the goal.
    pub(super) fn find_whole(&self, wanted: &Wanted) -> Option<Found<'_>> {
        if let Some(found) = wanted.goal.and_then(|goal| self.at_goal(goal, wanted)) {
            return Some(found);
        }
        let start = self.start(wanted);
        // Near the goal if long runs are no treasure; else wherever the wish just fits.
        let goal = wanted.goal.filter(|_| self.is_roomy());
        let wanted = &Wanted { goal, ..*wanted };
        self.aligned(wanted, start)
            .or_else(|| self.fast(wanted, start))
            .or_else(|| self.slow(wanted, start))
    }

    /// Whether so much of the volume is free that long runs are no treasure.
    pub(super) fn is_roomy(&self) -> bool {
        self.has_free(ROOMY)
    }

    /// Whether so many percent of the volume are free, at the worst.
    pub(super) fn has_free(&self, percent: u64) -> bool {
        let space = self.ledger.at_worst();
        space.available() >= space.total() * percent / 100
    }

    /// Where to search: near the goal, else where the stream has its place.
    fn start(&self, wanted: &Wanted) -> Start {
        let goal = wanted.goal.map(Place::cluster);
        match goal.filter(|cluster| *cluster < self.usable.end) {
            Some(cluster) => Start {
                group: (cluster / self.clusters_per_group) as usize,
                from: cluster % self.clusters_per_group,
            },
            None => Start {
                group: self.streams.group(wanted.stream),
                from: 0,
            },
        }
    }

    /// What is free at the goal itself, or, where that is enough and long runs are no treasure, in its group behind it.
    /// Waits for the group.
    pub(super) fn at_goal(&self, goal: Place, wanted: &Wanted) -> Option<Found<'_>> {
        if goal.cluster() >= self.usable.end {
            return None;
        }
        let number = goal.cluster() / self.clusters_per_group;
        let group = self.group(number as usize);
        let base = number * self.clusters_per_group;
        let align = self.alignment(number as usize, wanted.align);
        let span = group.search(|runs| match goal {
            Place::From(start) => runs
                .run_from(start - base)
                .map(|run| run.truncated(wanted.length))
                .filter(|run| run.len() >= wanted.minimum),
            Place::UpTo(end) => runs
                .run_before(end - base)
                .filter(|run| run.len() >= wanted.length)
                .map(|run| Span {
                    start: run.end - wanted.length,
                    ..run
                }),
            Place::Near(start) if self.is_roomy() => runs
                .first_fit(start - base, wanted.length, align)
                .map(|run| run.truncated(wanted.length)),
            Place::Near(start) => runs
                .run_from(start - base)
                .filter(|run| run.len() >= wanted.length)
                .map(|run| run.truncated(wanted.length)),
        })?;
        Some(Found { group, span })
    }

    fn aligned(&self, wanted: &Wanted, start: Start) -> Option<Found<'_>> {
        let multiple = match wanted.align {
            1 if wanted.length.is_power_of_two() && wanted.length >= SHORTEST_ALIGNED => {
                wanted.length
            }
            1 => return None,
            stripe => stripe,
        };
        let groups = self
            .directory
            .groups_with(By::Run, wanted.length, multiple - 1, start.group);
        self.first_of(groups, start, |runs, at| {
            runs.first_fit(at.from, wanted.length, self.alignment(at.group, multiple))
        })
        .map(|found| found.truncated(wanted.length))
    }

    /// Runs of a group that start at multiples of so many clusters of the volume.
    fn alignment(&self, group: usize, multiple: u64) -> Alignment {
        Alignment {
            multiple,
            base: group as u64 * self.clusters_per_group,
        }
    }

    fn fast(&self, wanted: &Wanted, start: Start) -> Option<Found<'_>> {
        wanted.goal?;
        let groups = self
            .directory
            .groups_with(By::Average, wanted.length, 0, start.group);
        self.whole(groups, wanted, start)
    }

    fn slow(&self, wanted: &Wanted, start: Start) -> Option<Found<'_>> {
        let found = match wanted.goal.is_some() || self.is_roomy() {
            true => {
                let groups = self
                    .directory
                    .groups_with(By::Run, wanted.length, 0, start.group);
                self.whole(groups, wanted, start)
            }
            false => self.snug(wanted),
        };
        found.or_else(|| self.in_unread(wanted, start))
    }

    /// The whole wish, in a group that nobody has read.
    fn in_unread(&self, wanted: &Wanted, start: Start) -> Option<Found<'_>> {
        std::iter::from_fn(|| self.read_another(start.group))
            .find_map(|group| self.whole(std::iter::once(group), wanted, start))
    }

    /// The whole wish, in the first group that has it: the first run behind the goal and around, or without a goal the
    /// shortest run that will do.
    fn whole(
        &self,
        groups: impl Iterator<Item = usize>,
        wanted: &Wanted,
        start: Start,
    ) -> Option<Found<'_>> {
        let fit = |runs: &FreeRuns, at: Start| match wanted.goal {
            Some(_) => runs.first_fit(at.from, wanted.length, Alignment::ANY),
            None => runs.snug_fit(wanted.length),
        };
        self.first_of(groups, start, fit)
            .map(|found| found.truncated(wanted.length))
    }

    /// What `fit` finds in the first of `groups`; in the group of `start` it looks from there on, and again from the
    /// group's beginning once it was everywhere else.
    pub(super) fn first_of(
        &self,
        groups: impl Iterator<Item = usize>,
        start: Start,
        fit: impl Fn(&FreeRuns, Start) -> Option<Span>,
    ) -> Option<Found<'_>> {
        let mut home = false;
        let look = |group, from| self.look(group, |runs| fit(runs, Start { group, from }));
        for number in groups {
            let from = match number == start.group {
                true => start.from,
                false => 0,
            };
            home |= number == start.group;
            if let Some(found) = look(number, from) {
                return Some(found);
            }
        }
        (home && start.from > 0).then(|| look(start.group, 0))?
    }

    /// What `fit` finds in a group, unless somebody works on it.
    pub(super) fn look(
        &self,
        number: usize,
        fit: impl FnOnce(&FreeRuns) -> Option<Span>,
    ) -> Option<Found<'_>> {
        self.probe.reached(Moment::LookingAtGroup);
        let group = self.try_group(number)?;
        let span = group.search(fit)?;
        Some(Found { group, span })
    }

    fn best_available(&self, wanted: &Wanted) -> Option<Found<'_>> {
        self.longest(order_of(wanted.minimum)..=TOP, wanted.minimum, wanted)
    }

    /// The longest run of a group that has one of the highest order.
    fn any(&self, wanted: &Wanted) -> Option<Found<'_>> {
        let orders = self.directory.known(0..=TOP).rev();
        let group = { orders }.find_map(|order| self.directory.with(order, 0).next())?;
        self.probe.reached(Moment::LookingAtGroup);
        let group = match self.probe.is(Mutation::PassByBusyGroups) {
            false => self.group(group),
            true => self.try_group(group)?,
        };
        let span = group.search(FreeRuns::longest_run)?;
        Some(Found { group, span }.truncated(wanted.length))
    }

    /// The longest run of all, with everything locked. Others may have taken what was free ahead of
    /// this search and freed behind it; now nothing moves, and promise 2 of this layer says that a free cluster is
    /// there.
    fn exhaustive(&self, wanted: &Wanted) -> Result<Found<'_>> {
        if self.probe.is(Mutation::SearchOnce) || self.probe.is(Mutation::PassByBusyGroups) {
            return Err(Error::NoSpace);
        }
        let _nothing_withheld = self.discarding.lock();
        let mut groups = self.lock_all();
        let spans = groups.iter().enumerate().rev().filter_map(|(at, group)| {
            let span = group.search(FreeRuns::longest_run)?;
            Some((at, span))
        });
        let (at, span) = spans
            .max_by_key(|(_, span)| span.len())
            .ok_or(Error::Corrupt("promised clusters are not in the bitmaps"))?;
        let group = groups.swap_remove(at);
        Ok(Found { group, span }.truncated(wanted.length))
    }
}

impl Found<'_> {
    pub(super) fn truncated(self, length: u64) -> Self {
        Self {
            span: self.span.truncated(length),
            ..self
        }
    }
}
