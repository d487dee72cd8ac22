//! The one exact account of free and promised space.

use crate::error::{Error, Result};
use crate::probe::{Mutation, Probe};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};

use super::Reservation;

/// Clusters of a volume at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    total: u64,
    available: u64,
    promised: u64,
}

impl Space {
    /// Clusters that can hold data.
    pub const fn total(self) -> u64 {
        self.total
    }

    /// Clusters that are free and promised to nobody.
    pub const fn available(self) -> u64 {
        self.available
    }

    /// Clusters that are promised to somebody: free, or taken by an uncommitted allocation.
    pub const fn promised(self) -> u64 {
        self.promised
    }

    /// Clusters not used: available and promised. Never more than the total.
    pub const fn free(self) -> u64 {
        self.available + self.promised
    }

    /// Clusters that hold data.
    pub const fn used(self) -> u64 {
        self.total - self.free()
    }
}

/// Free and promised clusters in one atomic word, so that promising is a single exact step for delayed
/// and direct allocation alike and a snapshot is never torn. Wait-free but for [`reserve`](Self::reserve),
/// which is lock-free.
///
/// The price of one word is a limit of 2^32 - 1 clusters (16 TiB of 4 KiB clusters).
#[derive(Debug)]
pub struct Ledger {
    total: u32,
    /// Available clusters in the upper 32 bits, promised ones in the lower; their sum is at most `total`.
    account: AtomicU64,
    probe: Probe,
}

/// One available cluster in the account.
const AVAILABLE: u64 = 1 << 32;

impl Ledger {
    /// A ledger of `total` clusters, all available.
    ///
    /// # Errors
    /// [`Error::NotSupported`] when `total` is above 2^32 - 1.
    pub fn new(total: u64) -> Result<Self> {
        let total = u32::try_from(total)
            .map_err(|_| Error::NotSupported("a volume of more than 2^32 - 1 clusters"))?;
        Ok(Self {
            total,
            account: AtomicU64::new(u64::from(total) * AVAILABLE),
            probe: Probe::default(),
        })
    }

    /// Lets a test change something.
    pub(super) fn set_probe(&mut self, probe: Probe) {
        self.probe = probe;
    }

    /// Promises `clusters` clusters to the caller. Exact: concurrent callers are never promised more than is
    /// free together, and none is refused while enough is available.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when fewer are available; nothing is promised then.
    pub fn reserve(&self, clusters: u64) -> Result<Reservation<&Self>> {
        self.promise(clusters)?;
        Ok(Reservation::of_promised(self, clusters))
    }

    /// The same, for a holder that keeps the ledger alive.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn reserve_owned(self: &Arc<Self>, clusters: u64) -> Result<Reservation> {
        self.promise(clusters)?;
        Ok(Reservation::of_promised(Arc::clone(self), clusters))
    }

    /// Available to promised.
    fn promise(&self, clusters: u64) -> Result<()> {
        if self.probe.is(Mutation::ReserveLooksThenActs) {
            return self.promise_in_two_steps(clusters);
        }
        // Acquire: pairs with the Release in `give_back` and `release`; the bits of the clusters that these
        // made available were cleared before, and the holder of this promise must find them.
        self.account
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |account| {
                (account / AVAILABLE >= clusters).then(|| account - clusters * AVAILABLE + clusters)
            })
            .map_err(|_| Error::NoSpace)?;
        Ok(())
    }

    /// For [`Mutation::ReserveLooksThenActs`]: what others do between the steps is not seen.
    fn promise_in_two_steps(&self, clusters: u64) -> Result<()> {
        if self.account.load(Ordering::Acquire) / AVAILABLE < clusters {
            return Err(Error::NoSpace);
        }
        self.account
            .fetch_sub(clusters * AVAILABLE - clusters, Ordering::AcqRel);
        Ok(())
    }

    /// What is available and promised, both at the same moment.
    pub fn snapshot(&self) -> Space {
        let account = self.account.load(Ordering::Relaxed);
        Space {
            total: u64::from(self.total),
            available: account / AVAILABLE,
            promised: account % AVAILABLE,
        }
    }

    /// Promised to available.
    pub(super) fn give_back(&self, clusters: u64) {
        // Release: pairs with the Acquire in `reserve`.
        self.account
            .fetch_add(clusters * AVAILABLE - clusters, Ordering::Release);
    }

    /// Free clusters are lost. (Temporary.)
    pub(super) fn withdraw(&self, clusters: u64) {
        self.account
            .fetch_sub(clusters * AVAILABLE, Ordering::Relaxed);
    }

    /// Promised to used.
    pub(super) fn spend(&self, clusters: u64) {
        self.account.fetch_sub(clusters, Ordering::Relaxed);
    }

    /// Used to available. The caller has cleared the bits.
    pub(super) fn release(&self, clusters: u64) {
        // Release: pairs with the Acquire in `reserve`.
        self.account
            .fetch_add(clusters * AVAILABLE, Ordering::Release);
    }

    /// Used to promised. The caller has cleared the bits.
    pub(super) fn release_into_reservation(&self, clusters: u64) -> Reservation<&Self> {
        self.account.fetch_add(clusters, Ordering::Relaxed);
        Reservation::of_promised(self, clusters)
    }
}
