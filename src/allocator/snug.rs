//! Where to take from on a rather full volume, so that files lie in few pieces and long free runs stay long.
//!
//! * Small wishes go as far to the start of the volume as they can, while some space is left: what is small and goes
//!   away soon then does not lie between large things.
//! * What a file is known to need is looked for as a whole, in halves and so on, but only where little is left over.
//! * Else the shortest run that is not long; else for a file one of at least half of the wish; and a long run only when
//!   nothing else will do, then the longest: that stays long.

use std::ops::RangeInclusive;

use super::Allocator;
use super::directory::{By, IN_DOUBT};
use super::free_runs::Alignment;
use super::request::Wanted;
use super::run_orders::{TOP, order_of};
use super::search::{Found, Start};

/// In how many groups a run is looked for that just fits.
const GROUPS: usize = 8;
/// Bytes of a small wish.
const SMALL: u64 = 64 << 10;
/// Percent of the volume that must be free for small wishes to go to its start.
const SOME: u64 = 10;
/// Bytes of a long run.
const LONG: u64 = 16 << 20;
/// What part of its length may be left over behind what a file is known to need.
const LEFT_OVER: u64 = 3;

impl Allocator {
    /// The whole wish.
    pub(super) fn snug(&self, wanted: &Wanted) -> Option<Found<'_>> {
        let small = self.bytes(wanted.length) <= SMALL;
        let found = match small && self.has_free(SOME) {
            true => self.lowest(wanted),
            false => self.shortest(wanted, self.long()),
        };
        found.or_else(|| self.longest(order_of(wanted.length)..=TOP, wanted.length, wanted))
    }

    /// A wish for a file that is known to need `known` clusters: more or less than that, as it fits.
    pub(super) fn snug_for_file(&self, wanted: &Wanted, known: u64) -> Option<Found<'_>> {
        let mut length = known;
        while length > wanted.length {
            let wish = Wanted { length, ..*wanted };
            let found = self.shortest(&wish, length + length / LEFT_OVER);
            if found.is_some() {
                return found;
            }
            length /= 2;
        }
        if wanted.length < self.long() {
            let half = wanted.minimum.max(wanted.length / 2);
            let orders = order_of(half)..=order_of(wanted.length);
            return self
                .shortest(wanted, self.long())
                .or_else(|| self.longest(orders, half, wanted));
        }
        None
    }

    /// Clusters of a long run.
    fn long(&self) -> u64 {
        LONG / self.geometry.cluster_bytes()
    }

    /// The whole wish, in the first run from the start of the volume on that will do.
    fn lowest(&self, wanted: &Wanted) -> Option<Found<'_>> {
        let start = Start { group: 0, from: 0 };
        let groups = self.directory.groups_with(By::Run, wanted.length, 0, 0);
        self.first_of(groups, start, |runs, at| {
            runs.first_fit(at.from, wanted.length, Alignment::ANY)
        })
    }

    /// The whole wish, in a run of at most `most` clusters in which about the least is left over: of the shortest runs
    /// by order that will do, those of the first few groups are looked at.
    fn shortest(&self, wanted: &Wanted, most: u64) -> Option<Found<'_>> {
        let look = |number| self.look(number, |runs| runs.snug_fit(wanted.length));
        let orders = order_of(wanted.length)..=order_of(most.max(wanted.length));
        let (number, len) = self.directory.known(orders).find_map(|order| {
            let groups = self.directory.with(order, 0).take(IN_DOUBT);
            let groups = groups.filter_map(look);
            let lens = groups.map(|found| (found.group.number(), found.span.len()));
            // The first of the shortest.
            lens.take(GROUPS).min_by_key(|(_, len)| *len)
        })?;
        match len <= most {
            true => look(number).map(|found| found.truncated(wanted.length)),
            false => None,
        }
    }

    /// The longest run that has one of `orders`, if that has `minimum` clusters, of all groups that nobody works on.
    pub(super) fn longest(
        &self,
        orders: RangeInclusive<u32>,
        minimum: u64,
        wanted: &Wanted,
    ) -> Option<Found<'_>> {
        let longest_of = |order| Some((self.longest_of(order, wanted.minimum)?, order));
        let (number, order) = self.directory.known(orders).rev().find_map(longest_of)?;
        let found = self.look(number, |runs| runs.longest_run_of(order))?;
        (found.span.len() >= minimum).then(|| found.truncated(wanted.length))
    }

    /// The group with the longest run of those of `order`, of some that have one and that nobody works on: no other is
    /// twice as long. Of all of them, as long as none has `minimum` clusters.
    fn longest_of(&self, order: u32, minimum: u64) -> Option<usize> {
        let most = self.clusters_per_group.min((2 << order) - 1);
        let look = |number| self.look(number, |runs| runs.longest_run_of(order));
        let groups = self.directory.with(order, 0).filter_map(look);
        let (mut best, mut longest) = (None, 0);
        for (looks, found) in (1..).zip(groups) {
            let len = found.span.len();
            if len > longest {
                (best, longest) = (Some(found.group.number()), len);
            }
            // None can be longer, or enough were looked at.
            if longest == most || looks >= IN_DOUBT && longest >= minimum {
                break;
            }
        }
        best
    }
}
