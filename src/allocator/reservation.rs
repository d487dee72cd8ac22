//! A promise of clusters, held by value.

use std::mem;
use std::ops::Deref;
use std::ptr;

use crate::error::{Error, Result};
use crate::sync::Arc;

use super::Ledger;

/// Clusters that the ledger has promised to the holder and to nobody else. A drop gives them back.
///
/// `L` is how it reaches its ledger: a reference costs nothing; an [`Arc`], the default, is for a holder that keeps it.
/// A promise has no number: it is this value, which nobody can copy, and any part of it is as good as any other.
#[must_use = "a dropped reservation is given back"]
#[derive(Debug)]
pub struct Reservation<L: Deref<Target = Ledger> = Arc<Ledger>> {
    clusters: u64,
    ledger: L,
}

impl<L: Deref<Target = Ledger>> Reservation<L> {
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
        self.remove(clusters)?;
        Ok(Self::of_promised(self.ledger.clone(), clusters))
    }

    /// The same, into a reservation that reaches the ledger by way of `ledger`.
    ///
    /// # Errors
    /// As [`split`](Self::split); [`Error::InvalidInput`] when `ledger` is another one. Nothing is moved then.
    pub fn split_for<M>(&mut self, ledger: M, clusters: u64) -> Result<Reservation<M>>
    where
        M: Deref<Target = Ledger>,
    {
        self.expect_of(&ledger)?;
        self.remove(clusters)?;
        Ok(Reservation::of_promised(ledger, clusters))
    }

    /// Adds everything `other` holds to this reservation.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `other` is another ledger's: this reservation is unchanged and `other`
    /// is given back to its own ledger.
    pub fn merge<M>(&mut self, mut other: Reservation<M>) -> Result<()>
    where
        M: Deref<Target = Ledger>,
    {
        other.expect_of(&self.ledger)?;
        self.clusters += mem::take(&mut other.clusters);
        Ok(())
    }

    /// Makes `clusters` of them available to everybody.
    ///
    /// # Errors
    /// As [`split`](Self::split); nothing is given back then.
    pub fn shrink(&mut self, clusters: u64) -> Result<()> {
        self.remove(clusters)?;
        self.ledger.give_back(clusters);
        Ok(())
    }

    /// Makes the clusters available to everybody; the same as a drop, but says so.
    pub fn give_back(self) {
        drop(self);
    }

    /// Turns `clusters` of them into used ones.
    ///
    /// # Errors
    /// As [`split`](Self::split).
    pub(super) fn spend(&mut self, clusters: u64) -> Result<()> {
        self.remove(clusters)?;
        self.ledger.spend(clusters);
        Ok(())
    }

    /// Fails unless this is a promise of `ledger`.
    pub(super) fn expect_of(&self, ledger: &Ledger) -> Result<()> {
        match ptr::eq(&*self.ledger, ledger) {
            true => Ok(()),
            false => Err(Error::InvalidInput("reservation of another ledger")),
        }
    }

    /// Counts `clusters` fewer, which the caller takes care of.
    fn remove(&mut self, clusters: u64) -> Result<()> {
        let rest = self.clusters.checked_sub(clusters);
        self.clusters = rest.ok_or(Error::Corrupt(
            "a reservation holds fewer clusters than its holder thinks",
        ))?;
        Ok(())
    }
}

impl<L: Deref<Target = Ledger>> Drop for Reservation<L> {
    fn drop(&mut self) {
        if self.clusters > 0 {
            self.ledger.give_back(self.clusters);
        }
    }
}
