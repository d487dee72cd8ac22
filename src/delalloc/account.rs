//! How much of the volume's free space is promised to one file.

use std::ops::Deref;

use crate::allocator::{Ledger, Reservation};
use crate::error::Result;
use crate::sync::{Mutex, Rank};

/// The promise the ledger made to one file, in clusters: one reservation that grows and shrinks. It keeps the ledger;
/// what is taken out of it only borrows it.
#[derive(Debug)]
pub(super) struct Account(Mutex<Reservation>);

impl Account {
    /// An account that starts with what `reservation` holds (normally nothing).
    pub(super) fn new(reservation: Reservation) -> Self {
        Self(Mutex::new(Rank::Account, reservation))
    }

    /// Clusters promised to the file.
    pub(super) fn clusters(&self) -> u64 {
        self.0.lock().clusters()
    }

    /// Adds a new promise.
    pub(super) fn add<L>(&self, reservation: Reservation<L>) -> Result<()>
    where
        L: Deref<Target = Ledger>,
    {
        self.0.lock().merge(reservation)
    }

    /// Takes `clusters` of `ledger`, which is the account's, out of the account to use them.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) when the account has fewer: then nothing is taken.
    pub(super) fn take<'l>(
        &self,
        clusters: u64,
        ledger: &'l Ledger,
    ) -> Result<Reservation<&'l Ledger>> {
        self.0.lock().split_for(ledger, clusters)
    }

    /// Gives `clusters` back to the ledger.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(super) fn release(&self, clusters: u64) -> Result<()> {
        self.0.lock().shrink(clusters)
    }
}
