//! A run that is taken but not yet anybody's.

use std::fmt;
use std::ops::Deref;

use crate::error::Result;
use crate::probe::Mutation;
use crate::units::DiskRun;

use super::span::Span;
use super::{Allocator, Ledger, Reservation};

/// A run of clusters taken from the groups, still counted as promised. [`commit`](Self::commit) makes
/// it used; [`cancel`](Self::cancel) or a drop gives the clusters back.
#[must_use = "a dropped allocation is cancelled"]
pub struct Allocation<'a> {
    extent: Extent,
    /// As many clusters as the run has; none once committed or cancelled.
    space: Reservation<&'a Ledger>,
    allocator: &'a Allocator,
}

/// Clusters of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) group: usize,
    /// Counted from the start of the group.
    pub(super) span: Span,
}

impl Extent {
    /// Another span of the same group.
    pub(super) const fn with(self, span: Span) -> Self {
        Self { span, ..self }
    }
}

impl Allocator {
    /// An extent that was just taken, with as many clusters out of `space`, which has them.
    pub(super) fn promised<L: Deref<Target = Ledger>>(
        &self,
        extent: Extent,
        space: &mut Reservation<L>,
    ) -> Result<Allocation<'_>> {
        Ok(Allocation {
            extent,
            space: space.split_for(&*self.ledger, extent.span.len())?,
            allocator: self,
        })
    }
}

impl Allocation<'_> {
    /// The run, in blocks; made of whole clusters.
    pub fn run(&self) -> DiskRun {
        self.allocator.run_of(self.extent.group, self.extent.span)
    }

    /// How many clusters the run has.
    pub fn clusters(&self) -> u64 {
        self.extent.span.len()
    }
}

impl<'a> Allocation<'a> {
    /// Makes the clusters used: they stay allocated until [`Allocator::free`].
    #[must_use = "a committed run must be remembered, or its clusters are lost"]
    pub fn commit(mut self) -> DiskRun {
        let mut group = self.allocator.group(self.extent.group);
        if self.allocator.probe.is(Mutation::SpendAfterCommit) {
            group.commit(self.extent.span);
            drop(group);
            self.space.take().spend();
            return self.run();
        }
        // Spent before the run can be freed: else its clusters would count as promised and available at once.
        self.space.take().spend();
        group.commit(self.extent.span);
        drop(group);
        self.run()
    }

    /// Gives the clusters back to the groups and the promise to the caller.
    pub fn cancel(mut self) -> Reservation<&'a Ledger> {
        self.release()
    }

    /// The bits first, then the promise: see promise 2 of this layer.
    fn release(&mut self) -> Reservation<&'a Ledger> {
        let mut group = self.allocator.group(self.extent.group);
        group.cancel(self.extent.span);
        if group.is_fenced() {
            self.allocator.ledger.withdraw(self.clusters());
        }
        drop(group);
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
            .field("run", &self.run())
            .finish_non_exhaustive()
    }
}
