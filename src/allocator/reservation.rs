//! A promise of clusters, held by value.

use std::mem;

use crate::error::{Error, Result};
use crate::sync::Arc;

use super::Ledger;

/// Clusters that the ledger has promised to the holder and to nobody else. A drop gives them back.
#[must_use = "a dropped reservation is given back"]
#[derive(Debug)]
pub struct Reservation {
    clusters: u64,
    ledger: Arc<Ledger>,
}

impl Reservation {
    /// A reservation of `clusters` that the ledger already counts as promised.
    pub(super) fn of_promised(ledger: &Arc<Ledger>, clusters: u64) -> Self {
        Self {
            clusters,
            ledger: Arc::clone(ledger),
        }
    }

    /// How many clusters are promised.
    pub fn clusters(&self) -> u64 {
        self.clusters
    }

    /// Moves `clusters` of them into a reservation of their own.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when fewer are held: the holder's books are wrong. Nothing is moved then.
    pub fn split(&mut self, clusters: u64) -> Result<Self> {
        let Some(rest) = self.clusters.checked_sub(clusters) else {
            return Err(Error::Corrupt(
                "a reservation holds fewer clusters than its holder thinks",
            ));
        };
        self.clusters = rest;
        Ok(Self::of_promised(&self.ledger, clusters))
    }

    /// Adds everything `other` holds to this reservation.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `other` is another ledger's: this reservation is unchanged and `other`
    /// is given back to its own ledger.
    pub fn merge(&mut self, mut other: Self) -> Result<()> {
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
    pub(super) fn take(&mut self) -> Self {
        Self::of_promised(&self.ledger, mem::take(&mut self.clusters))
    }

    /// Turns the promised clusters into used ones.
    pub(super) fn spend(mut self) {
        self.ledger.spend(mem::take(&mut self.clusters));
    }

    pub(super) fn is_of(&self, ledger: &Arc<Ledger>) -> bool {
        Arc::ptr_eq(&self.ledger, ledger)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.clusters > 0 {
            self.ledger.give_back(self.clusters);
        }
    }
}
