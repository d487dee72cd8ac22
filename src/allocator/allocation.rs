//! A run that is taken but not yet anybody's.

use std::fmt;
use std::mem::ManuallyDrop;

use crate::probe::Mutation;
use crate::units::DiskRun;

use super::span::Span;
use super::{Allocator, Ledger, Reservation};

/// A run of clusters taken from the groups. [`commit`](Self::commit) hands it over; [`cancel`](Self::cancel) or a drop
/// gives the clusters back.
#[must_use = "a dropped allocation is cancelled"]
pub struct Allocation<'a> {
    extent: Extent,
    allocator: &'a Allocator,
}

/// Clusters of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) group: usize,
    /// Counted from the start of the group.
    pub(super) span: Span,
}

impl Allocator {
    /// An extent that was just taken and paid for.
    #[inline]
    pub(super) fn taken(&self, extent: Extent) -> Allocation<'_> {
        Allocation {
            extent,
            allocator: self,
        }
    }
}

impl Allocation<'_> {
    /// The run, in blocks; made of whole clusters. It must not be freed before it is committed.
    #[inline]
    pub fn run(&self) -> DiskRun {
        self.allocator.run_of(self.extent.group, self.extent.span)
    }

    /// How many clusters the run has.
    #[inline]
    pub fn clusters(&self) -> u64 {
        self.extent.span.len()
    }
}

impl<'a> Allocation<'a> {
    /// Hands the run over: it stays allocated until [`Allocator::free`]. Takes no lock.
    #[inline]
    #[must_use = "a committed run must be remembered, or its clusters are lost"]
    pub fn commit(self) -> DiskRun {
        ManuallyDrop::new(self).run()
    }

    /// Makes the clusters free and promises them to the caller, in one step that cannot fail for lack of space. If
    /// one of them has been freed already nothing is done, and the promise is empty.
    pub fn cancel(self) -> Reservation<&'a Ledger> {
        let this = ManuallyDrop::new(self);
        this.allocator.give_up(this.extent)
    }
}

impl Allocator {
    /// Makes an extent free and its clusters promised again.
    fn give_up(&self, extent: Extent) -> Reservation<&Ledger> {
        let mut group = self.group(extent.group);
        if group.is_fenced() {
            let space = self.ledger.release_into_reservation(extent.span.len());
            self.ledger.withdraw(extent.span.len());
            return space;
        }
        if !group.is_owned(extent.span) {
            return self.ledger.release_into_reservation(0);
        }
        group.clear(extent.span);
        let space = self.ledger.release_into_reservation(extent.span.len());
        if self.probe.is(Mutation::SpendOnCancel) {
            self.ledger.spend(extent.span.len());
        }
        space
    }
}

impl Drop for Allocation<'_> {
    fn drop(&mut self) {
        self.allocator.give_up(self.extent).give_back();
    }
}

impl fmt::Debug for Allocation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allocation")
            .field("run", &self.run())
            .finish_non_exhaustive()
    }
}
