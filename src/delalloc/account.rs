//! How much of the volume's free space is promised to one file.

use crate::allocator::{LedgerRef, Reservation};
use crate::error::Result;
use crate::sync::{Mutex, Rank};

/// The promise the ledger made to one file, in clusters: one reservation that grows and shrinks.
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
    pub(super) fn add<L: LedgerRef>(&self, reservation: Reservation<L>) -> Result<()> {
        self.0.lock().merge(reservation)
    }

    /// Takes `clusters` out of the account, to use them or to give them back.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) when the account has fewer: then nothing is taken.
    pub(super) fn take(&self, clusters: u64) -> Result<Reservation> {
        self.0.lock().split(clusters)
    }

    /// Gives `clusters` back to the ledger.
    pub(super) fn release(&self, clusters: u64) -> Result<()> {
        self.take(clusters).map(drop)
    }
}
