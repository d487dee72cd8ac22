//! Giving clusters back: at once, or once the change that frees them is durable.

use crate::error::{Error, Result};
use crate::probe::Mutation;
use crate::units::{DiskBlock, DiskRun};

use super::group::{Change, Group};
use super::locked::Locked;
use super::span::Span;
use super::{Allocator, Ledger, Reservation};

/// The groups of a run, locked, each with the part of the run that lies in it.
pub(super) struct Parts<'a> {
    first: (Locked<'a>, Span),
    /// A run rarely crosses a border.
    others: Vec<(Locked<'a>, Span)>,
}

impl<'a> Parts<'a> {
    /// Whether `holds` of every part.
    pub(super) fn all(&self, holds: impl Fn(&Group, Span) -> bool) -> bool {
        let holds = |(group, part): &(Locked<'_>, Span)| holds(group, *part);
        holds(&self.first) && self.others.iter().all(holds)
    }

    /// Does `work` to every part.
    pub(super) fn for_each(&mut self, mut work: impl FnMut(&mut Locked<'a>, Span)) {
        let mut work = |(group, part): &mut (Locked<'a>, Span)| work(group, *part);
        work(&mut self.first);
        self.others.iter_mut().for_each(work);
    }
}

impl Allocator {
    /// Makes the allocated clusters of `run` available to everybody at once.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `run` is empty, not made of whole clusters, or reaches out of the usable part of
    /// the volume; [`Error::Corrupt`] when one of its clusters is not allocated (a double free, for example) or its
    /// group is fenced off. Nothing is changed then.
    pub fn free(&self, run: DiskRun) -> Result<()> {
        self.clear(run, |clusters| self.ledger.release(clusters))
    }

    /// Frees the clusters of `run` but keeps their space promised to the caller, in one step that cannot
    /// fail for lack of space, however full the volume is.
    ///
    /// # Errors
    /// As [`free`](Self::free).
    pub fn free_into_reservation(&self, run: DiskRun) -> Result<Reservation<&Ledger>> {
        self.clear(run, |clusters| {
            self.ledger.release_into_reservation(clusters)
        })
    }

    /// Frees the clusters of `run` as soon as `change` is [durable](Self::durable): they stay used until then, for a
    /// crash may bring their owner back.
    ///
    /// # Errors
    /// As [`free`](Self::free).
    pub fn free_after(&self, run: DiskRun, change: Change) -> Result<()> {
        let (mut parts, _) = self.owned_parts(run)?;
        parts.for_each(|group, part| {
            group.hold_back(part, change);
            self.holding_back.insert(group.number());
        });
        Ok(())
    }

    /// `change` and all before it are durable: what they freed can be allocated again. Returns those runs, in no order,
    /// for an owner that wants to [discard](Self::discard) them.
    pub fn durable(&self, change: Change) -> Vec<DiskRun> {
        let mut freed = Vec::new();
        for number in self.holding_back.iter() {
            let mut group = self.locked(number);
            let spans = group.let_go(change);
            if group.held_back() == 0 {
                self.holding_back.remove(number);
            }
            if group.is_fenced() {
                continue;
            }
            self.ledger
                .release(spans.iter().map(|span| span.len()).sum());
            freed.extend(spans.into_iter().map(|span| self.run_of(number, span)));
        }
        freed
    }

    /// Clusters that wait for their free to be [durable](Self::durable). Who finds no space can hope for these.
    pub fn held_back(&self) -> u64 {
        let groups = self.holding_back.iter();
        groups.map(|number| self.locked(number).held_back()).sum()
    }

    /// Clears the bits of `run` if all its clusters are allocated, then tells `account` how many
    /// clusters that were, still under the locks: [`check`](Self::check) must see both or neither.
    fn clear<T>(&self, run: DiskRun, account: impl FnOnce(u64) -> T) -> Result<T> {
        if self.probe.is(Mutation::ReleaseBeforeClearing) {
            let outcome = account(run.len / self.geometry.cluster.blocks());
            let (mut parts, _) = self.owned_parts(run)?;
            parts.for_each(|group, part| group.clear(part));
            return Ok(outcome);
        }
        let (mut parts, clusters) = match self.owned_parts(run) {
            Err(error) if self.probe.is(Mutation::FreeBeforeChecking) => {
                account(run.len / self.geometry.cluster.blocks());
                return Err(error);
            }
            parts => parts?,
        };
        parts.for_each(|group, part| group.clear(part));
        Ok(account(clusters))
    }

    /// The parts of a run that is allocated, and how many clusters that are.
    fn owned_parts(&self, run: DiskRun) -> Result<(Parts<'_>, u64)> {
        let clusters = self.clusters_of(run)?;
        let parts = self.parts_of(clusters);
        match parts.all(Group::is_owned) {
            true => Ok((parts, clusters.len())),
            false => Err(Error::Corrupt("freeing clusters that are not allocated")),
        }
    }

    /// Locks the groups of a run that is not empty.
    pub(super) fn parts_of<'a>(&'a self, clusters: Span) -> Parts<'a> {
        let first = (clusters.start / self.clusters_per_group) as usize;
        let part = |group: Locked<'a>| {
            let base = group.number() as u64 * self.clusters_per_group;
            let part = Span {
                start: clusters.start.max(base) - base,
                end: clusters.end.min(base + self.clusters_per_group) - base,
            };
            (group, part)
        };
        if clusters.end <= (first as u64 + 1) * self.clusters_per_group {
            return Parts {
                first: part(self.group(first)),
                others: Vec::new(),
            };
        }
        let last = ((clusters.end - 1) / self.clusters_per_group) as usize;
        (first..=last).for_each(|number| self.read(number));
        Parts {
            first: part(self.locked(first)),
            others: (first + 1..=last)
                .map(|number| part(self.locked(number)))
                .collect(),
        }
    }

    /// The clusters of a run that is made of whole, usable ones.
    pub(super) fn clusters_of(&self, run: DiskRun) -> Result<Span> {
        let ratio = self.geometry.cluster.blocks();
        let end = run.start.0.checked_add(run.len);
        let Some(end) = end.filter(|_| run.len > 0) else {
            return Err(Error::InvalidInput("the run has no blocks or too many"));
        };
        if !run.start.0.is_multiple_of(ratio) || !end.is_multiple_of(ratio) {
            return Err(Error::InvalidInput("the run is not made of whole clusters"));
        }
        let clusters = Span {
            start: run.start.0 / ratio,
            end: end / ratio,
        };
        if !self.usable.contains(clusters) {
            return Err(Error::InvalidInput(
                "the run reaches out of the volume's usable part",
            ));
        }
        Ok(clusters)
    }

    /// A span of a group, in blocks of the volume.
    #[inline]
    pub(super) fn run_of(&self, group: usize, span: Span) -> DiskRun {
        let ratio = self.geometry.cluster.blocks();
        let start = group as u64 * self.clusters_per_group + span.start;
        DiskRun::new(DiskBlock(start * ratio), span.len() * ratio)
    }
}
