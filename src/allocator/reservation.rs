//! A promise of clusters, held by value.

use std::mem;
use std::ops::Deref;

use crate::error::{Error, Result};
use crate::sync::Arc;

use super::Ledger;

/// How a reservation reaches its ledger.
pub trait LedgerRef: Deref<Target = Ledger> {}
impl<L: Deref<Target = Ledger>> LedgerRef for L {}

/// Clusters that the ledger has promised to the holder and to nobody else. A drop gives them back.
#[must_use = "a dropped reservation is given back"]
#[derive(Debug)]
pub struct Reservation<L: LedgerRef = Arc<Ledger>> {
    clusters: u64,
    ledger: L,
}

impl<L: LedgerRef> Reservation<L> {
    /// A reservation of `clusters` that the ledger already counts as promised.
    pub(super) fn of_promised(ledger: L, clusters: u64) -> Self {
        Self { clusters, ledger }
    }

    /// How many clusters are promised.
    pub fn clusters(&self) -> u64 {
        self.clusters
    }

    /// Moves `clusters` of them into a reservation of their own.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when fewer are held: the holder's books are wrong. Nothing is moved then.
    pub fn split(&mut self, clusters: u64) -> Result<Self>
    where
        L: Clone,
    {
        let ledger = self.ledger.clone();
        self.split_for(ledger, clusters)
    }

    /// The same for another way to the ledger
    pub fn split_for<M: LedgerRef>(&mut self, ledger: M, clusters: u64) -> Result<Reservation<M>> {
        let Some(rest) = self.clusters.checked_sub(clusters) else {
            return Err(Error::Corrupt(
                "a reservation holds fewer clusters than its holder thinks",
            ));
        };
        self.clusters = rest;
        Ok(Reservation::of_promised(ledger, clusters))
    }

    /// Adds everything `other` holds to this reservation.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `other` is another ledger's: this reservation is unchanged and `other`
    /// is given back to its own ledger.
    pub fn merge<M: LedgerRef>(&mut self, mut other: Reservation<M>) -> Result<()> {
        if !other.is_of(&self.ledger) {
            return Err(Error::InvalidInput("reservation of another ledger"));
        }
        self.clusters += mem::take(&mut other.clusters);
        Ok(())
    }

    /// Makes the clusters available to everybody; the same as a drop, but says so.
    pub fn give_back(self) {
        drop(self);
    }

    /// Everything held, leaving this reservation empty.
    pub(super) fn take(&mut self) -> Self
    where
        L: Clone,
    {
        Self::of_promised(self.ledger.clone(), mem::take(&mut self.clusters))
    }

    /// Turns the promised clusters into used ones.
    pub(super) fn spend(mut self) {
        let n = mem::take(&mut self.clusters);
        self.ledger.spend(n);
    }

    pub(super) fn is_of(&self, ledger: &Ledger) -> bool {
        std::ptr::eq(&*self.ledger, ledger)
    }
}

impl<L: LedgerRef> Drop for Reservation<L> {
    fn drop(&mut self) {
        if self.clusters > 0 {
            self.ledger.give_back(self.clusters);
        }
    }
}
