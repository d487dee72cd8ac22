//! The one exact account of free and promised space.
//!
//! Most calls change only a word that belongs to their thread's slot, a [`Share`], by one compare-and-swap. What is in
//! no share is in the [`Pool`], behind the innermost lock of the allocator. Clusters and promises move between words
//! only under that lock:
//!
//! * A share that has too few clusters for a request is emptied into the pool, which serves both, and filled again.
//!   One that has too many, or is off by too many promises, is emptied and filled as well.
//! * When the pool has too few, every share is *closed*, one after the other, and what they held is taken into the pool.
//!   A closed share refuses every step, so whoever comes by waits for the lock. When the last one is closed nothing is
//!   in flight, and the request is decided on exact numbers: this is why nothing is ever refused that is available.
//!   (Emptying without closing would overlook what is given back into a share that was emptied a moment ago.)
//! * Shares stay closed while clusters are scarce. Each call then takes the lock, and each number is exact.
//!
//! What is promised is never more than what there is, because no word is ever taken below zero.

mod options;
mod pool;
mod share;
mod space;
#[cfg(all(test, not(any(loom, feature = "shuttle"))))]
mod tests;

use std::fmt;

use crossbeam_utils::CachePadded;

use crate::error::{Error, Result};
use crate::probe::{Mutation, Probe};
use crate::sync::uncounted::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, Rank};

use super::Reservation;

use pool::Pool;
use share::{Bounds, Change, Share};
use space::Reserves;

pub use options::LedgerOptions;
pub use space::{Space, Tier};

/// Free and promised clusters. A promise is one exact step for delayed and direct allocation alike: callers are never
/// promised more than is free together, and none is refused while enough is available.
///
/// A step is one compare-and-swap on a word that other threads rarely touch; now and then, and always while space is
/// scarce, it takes a lock that is held for a few instructions and a look at each share.
///
/// A [`Reservation`] that is leaked (`mem::forget`) stays promised for ever. As it is a value without a number, nobody
/// can say which one it was; [`close`](Self::close) says how many clusters it had, and a drop says so in a tracing event.
pub struct Ledger {
    reserves: Reserves,
    /// While fewer clusters are left beyond the reserves, shares stay closed; they open again at twice as many.
    exact_below: u64,
    bounds: Bounds,
    shares: Box<[CachePadded<Share>]>,
    pool: CachePadded<Mutex<Pool>>,
    at_worst: CachePadded<AtWorst>,
    probe: Probe,
}

/// What the pool alone can say, for those who must not wait for its lock. Written under it.
#[derive(Debug, Default)]
struct AtWorst {
    total: AtomicU64,
    available: AtomicU64,
    promised: AtomicU64,
}

impl Ledger {
    /// A ledger of `total` clusters, all available, in as many shares as there are processors.
    ///
    /// # Errors
    /// [`Error::NotSupported`] when `total` is above 2^32 - 1.
    pub fn new(total: u64) -> Result<Self> {
        Self::with_options(&LedgerOptions::new(total))
    }

    /// A ledger whose clusters are all available.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for more than 2^32 - 1 clusters, [`Error::InvalidInput`] for a number of shares that
    /// cannot be.
    pub fn with_options(options: &LedgerOptions) -> Result<Self> {
        let shares = options.share_count()?;
        let ledger = Self {
            reserves: options.reserves,
            exact_below: options.exact_limit(shares),
            bounds: options.share_bounds(shares),
            shares: (0..shares).map(|_| Share::new().into()).collect(),
            pool: Mutex::new(Rank::Ledger, Pool::new(options.checked_total()?)).into(),
            at_worst: CachePadded::default(),
            probe: Probe::default(),
        };
        ledger.in_pool(0, |_| {});
        Ok(ledger)
    }

    /// The same ledger, not in use yet, in which a test changes something.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_probe(mut self, probe: Probe) -> Self {
        self.set_probe(probe);
        self
    }

    /// Lets a test change something.
    pub(super) fn set_probe(&mut self, probe: Probe) {
        self.probe = probe;
    }

    /// Does `work` in a share that the caller chooses instead of that of its thread.
    #[cfg(feature = "testing")]
    pub fn on_share<T>(share: usize, work: impl FnOnce() -> T) -> T {
        share::with_number(share, work)
    }

    /// Promises `clusters` clusters to the caller. Exact: concurrent callers are never promised more than is
    /// free together, and none is refused while enough is available.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when fewer are available; nothing is promised then.
    #[inline]
    pub fn reserve(&self, clusters: u64) -> Result<Reservation<&Self>> {
        self.reserve_as(clusters, Tier::Normal)
    }

    /// The same, out of what `tier` may have.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    #[inline]
    pub fn reserve_as(&self, clusters: u64, tier: Tier) -> Result<Reservation<&Self>> {
        self.promise(clusters, tier)?;
        Ok(Reservation::of_promised(self, clusters))
    }

    /// As [`reserve`](Self::reserve), for a holder that keeps the ledger alive.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn reserve_owned(self: &Arc<Self>, clusters: u64) -> Result<Reservation> {
        self.promise(clusters, Tier::Normal)?;
        Ok(Reservation::of_promised(Arc::clone(self), clusters))
    }

    /// What is available and promised.
    ///
    /// Exact while nobody else calls, and while space is scarce. Otherwise shares change while they are added up:
    /// [`free`](Space::free) is then exact as long as nothing is freed or taken meanwhile, and how
    /// much of it is promised may be off by what others reserve and give back meanwhile.
    pub fn snapshot(&self) -> Space {
        let pool = self.pool.lock();
        let open = if pool.open { &*self.shares } else { &[] };
        let in_shares = open.iter().map(|share| share.content());
        let in_shares = in_shares.fold(Change::NONE, Change::plus);
        let deficit = pool.deficit as i64;
        let available = pool.available as i64 + in_shares.available;
        let free = available + pool.promised + in_shares.promised - deficit;
        // Sums of shares that change may be anything.
        let free = free.clamp(0, pool.total as i64);
        let available = available.min(free);
        Space {
            total: pool.total,
            available: available as u64,
            promised: (free - available + deficit) as u64,
            deficit: pool.deficit,
            reserves: self.reserves,
        }
    }

    /// A picture that errs on the safe side, without a lock and without looking at the shares: when it was taken, no
    /// fewer clusters were available and no more were promised. Exact while space is scarce.
    pub fn at_worst(&self) -> Space {
        let AtWorst {
            total,
            available,
            promised,
        } = &*self.at_worst;
        Space {
            total: total.load(Ordering::Relaxed),
            available: available.load(Ordering::Relaxed),
            promised: promised.load(Ordering::Relaxed),
            deficit: 0,
            reserves: self.reserves,
        }
    }

    /// Ends the ledger.
    ///
    /// # Errors
    /// [`Error::PromiseLeak`] when clusters are still promised: somebody leaked a reservation.
    pub fn close(self) -> Result<()> {
        match self.snapshot().promised() {
            0 => Ok(()),
            clusters => Err(Error::PromiseLeak { clusters }),
        }
    }

    /// Available to promised.
    #[inline]
    fn promise(&self, clusters: u64, tier: Tier) -> Result<()> {
        if self.probe.is(Mutation::ReserveLooksThenActs) {
            return self.promise_in_two_steps(clusters, tier);
        }
        self.take(clusters, Change::reserve, tier)
    }

    /// Available to used, for [`Tier::Normal`].
    ///
    /// # Errors
    /// [`Error::NoSpace`] when fewer are available.
    #[inline]
    pub(super) fn buy(&self, clusters: u64) -> Result<()> {
        self.take(clusters, Change::buy, Tier::Normal)
    }

    /// A step that takes available clusters.
    #[inline]
    fn take(&self, clusters: u64, step: impl Fn(u64) -> Change, tier: Tier) -> Result<()> {
        match self.in_share(clusters, &step) {
            true => Ok(()),
            false => self.take_from_pool(clusters, step, tier),
        }
    }

    #[cold]
    fn take_from_pool(
        &self,
        clusters: u64,
        step: impl Fn(u64) -> Change,
        tier: Tier,
    ) -> Result<()> {
        let kept = self.reserves.kept_from(tier);
        self.in_pool(clusters, |pool| pool.take(clusters, step, kept))
    }

    /// For [`Mutation::ReserveLooksThenActs`]: what others do between the steps is not seen.
    fn promise_in_two_steps(&self, clusters: u64, tier: Tier) -> Result<()> {
        if self.snapshot().available_to(tier) < clusters {
            return Err(Error::NoSpace);
        }
        self.in_pool(clusters, |pool| pool.add(Change::reserve(clusters)));
        Ok(())
    }

    /// Promised to available.
    #[inline]
    pub(super) fn give_back(&self, clusters: u64) {
        self.change(clusters, Change::give_back);
    }

    /// Promised to used.
    pub(super) fn spend(&self, clusters: u64) {
        self.change(clusters, Change::spend);
    }

    /// Used to available. The caller has cleared the bits.
    pub(super) fn release(&self, clusters: u64) {
        self.change(clusters, Change::release);
    }

    /// Used to promised. The caller has cleared the bits.
    pub(super) fn release_into_reservation(&self, clusters: u64) -> Reservation<&Self> {
        self.change(clusters, Change::promise_again);
        Reservation::of_promised(self, clusters)
    }

    /// Takes `clusters` free ones, of which some may be promised, out of the account: nobody can use them any more.
    /// As far as they are not available now, the next ones that become available make up for them.
    pub(super) fn withdraw(&self, clusters: u64) {
        self.in_pool(clusters, |pool| pool.withdraw(clusters));
    }

    /// A step that takes nothing that may not be there.
    #[inline]
    fn change(&self, clusters: u64, step: impl Fn(u64) -> Change) {
        if !self.in_share(clusters, &step) {
            self.change_in_pool(step(clusters));
        }
    }

    #[cold]
    fn change_in_pool(&self, by: Change) {
        self.in_pool(0, |pool| pool.add(by));
    }

    /// Does a step in the share of the calling thread, if that can.
    #[inline]
    fn in_share(&self, clusters: u64, step: impl Fn(u64) -> Change) -> bool {
        clusters <= self.bounds.limit() && self.own_share().change(step(clusters), &self.bounds)
    }

    /// The share of the calling thread. There are a power of two of them.
    #[inline]
    fn own_share(&self) -> &Share {
        &self.shares[share::own_number() & (self.shares.len() - 1)]
    }

    /// Does `work` with the pool, in which there are at least `wanted` clusters beyond the reserves, or all there are.
    fn in_pool<T>(&self, wanted: u64, work: impl FnOnce(&mut Pool) -> T) -> T {
        let mut pool = self.pool.lock();
        let own = self.own_share();
        if pool.open {
            pool.add(own.empty(true));
            let enough = wanted.saturating_add(self.exact_below);
            if self.spare(&pool).is_none_or(|spare| spare < enough) {
                self.collect(&mut pool);
            }
        }
        let done = work(&mut pool);
        let batch = self.take_batch(&mut pool);
        self.note(&pool);
        if self.probe.is(Mutation::FillShareUnlocked) {
            drop(pool);
        }
        if let Some(batch) = batch {
            own.open(batch);
        }
        done
    }

    /// Closes every share. Everything is in the pool then, and stays there.
    fn collect(&self, pool: &mut Pool) {
        let close = !self.probe.is(Mutation::SweepOpenShares);
        for share in &self.shares {
            pool.add(share.empty(close));
        }
        pool.open = false;
    }

    /// What is in the pool beyond the reserves; nothing is when they are not complete.
    fn spare(&self, pool: &Pool) -> Option<u64> {
        pool.available
            .checked_sub(self.reserves.kept_from(Tier::Normal))
    }

    /// What the caller's share is to be opened with, if shares are open, or enough is there to open them again.
    fn take_batch(&self, pool: &mut Pool) -> Option<u32> {
        let shares = self.shares.len() as u64;
        let spare = self.spare(pool)?;
        pool.open |= pool.deficit == 0 && spare >= self.exact_below.saturating_mul(2);
        if !pool.open {
            return None;
        }
        let batch = (spare / (8 * shares)).clamp(1, self.bounds.limit() / 2);
        let batch = batch.min(spare - self.exact_below);
        pool.available -= batch;
        Some(batch as u32)
    }

    /// Says what is certain for the time until the pool changes again.
    fn note(&self, pool: &Pool) {
        let off_by = match pool.open {
            true => self.shares.len() as u64 * self.bounds.limit(),
            false => 0,
        };
        let promised = pool.promised.saturating_add_unsigned(off_by);
        let AtWorst {
            total,
            available,
            promised: promised_at_most,
        } = &*self.at_worst;
        total.store(pool.total, Ordering::Relaxed);
        available.store(pool.available, Ordering::Relaxed);
        promised_at_most.store(promised.max(0) as u64, Ordering::Relaxed);
    }
}

#[cfg(feature = "tracing")]
impl Drop for Ledger {
    fn drop(&mut self) {
        // A model that failed has no locks and atomics any more.
        if std::thread::panicking() {
            return;
        }
        let clusters = self.snapshot().promised();
        if clusters > 0 {
            tracing::warn!(clusters, "ledger dropped with promised clusters");
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}
