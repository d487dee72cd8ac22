//! A run that is taken but not yet anybody's.

use std::fmt;

use crate::probe::Mutation;
use crate::units::{DiskBlock, DiskRun};

use super::{Allocator, Ledger, Place, Reservation};

/// What a caller wants to have allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocRequest {
    /// Clusters wanted; the answer has from one up to this many.
    pub clusters: u64,
    /// The block at which the run should start, usually the one behind the file's previous extent; its
    /// cluster is meant. A block outside the volume is no goal.
    pub goal: Option<DiskBlock>,
}

impl AllocRequest {
    /// `clusters` clusters, anywhere.
    pub const fn anywhere(clusters: u64) -> Self {
        Self {
            clusters,
            goal: None,
        }
    }

    /// `clusters` clusters, best from the cluster of `goal` on.
    pub const fn near(goal: DiskBlock, clusters: u64) -> Self {
        Self {
            clusters,
            goal: Some(goal),
        }
    }
}

/// A run of clusters taken from the groups, still counted as promised. [`commit`](Self::commit) makes
/// it used; [`cancel`](Self::cancel) or a drop gives the clusters back.
#[must_use = "a dropped allocation is cancelled"]
pub struct Allocation<'a> {
    pub(super) run: DiskRun,
    pub(super) place: Place,
    /// As many clusters as the run has; none once committed or cancelled.
    pub(super) space: Reservation<&'a Ledger>,
    pub(super) allocator: &'a Allocator,
}

impl<'a> Allocation<'a> {
    /// The run, in blocks; made of whole clusters.
    pub fn run(&self) -> DiskRun {
        self.run
    }

    /// How many clusters the run has.
    pub fn clusters(&self) -> u64 {
        self.place.span.len()
    }

    /// Makes the clusters used: they stay allocated until [`Allocator::free`].
    #[must_use = "a committed run must be remembered, or its clusters are lost"]
    pub fn commit(mut self) -> DiskRun {
        let mut group = self.allocator.groups[self.place.group].lock();
        // Spent before the run can be freed: else its clusters would count as promised and available at once.
        self.space.take().spend();
        group.commit(self.place.span);
        drop(group);
        self.run
    }

    /// Gives the clusters back to the groups and the promise to the caller.
    pub fn cancel(mut self) -> Reservation<&'a Ledger> {
        self.release()
    }

    /// The bits first, then the promise: see promise 2 of this layer.
    fn release(&mut self) -> Reservation<&'a Ledger> {
        self.allocator.groups[self.place.group]
            .lock()
            .cancel(self.place.span);
        if self.allocator.probe.is(Mutation::SpendOnCancel) {
            self.allocator.ledger.spend(self.clusters());
        }
        self.space.take()
    }
}

impl Drop for Allocation<'_> {
    fn drop(&mut self) {
        if self.space.clusters() > 0 {
            drop(self.release());
        }
    }
}

impl fmt::Debug for Allocation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allocation")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}
