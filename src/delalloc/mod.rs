//! Delayed allocation: a write promises space at once and gets its place on the volume at writeback.
//!
//! The layer joins what lies below it - the status tree (what is known about a file's blocks), the
//! mapping store (what is true on the volume), the allocator and its ledger (what is free and promised),
//! the block queue (where data goes) - into one object per file, [`FileBlocks`], and promises:
//!
//! * *Look, lock, look again.* [`FileBlocks::admit`] looks a block up without a lock and decides nothing
//!   for good on that answer: before it inserts a delayed extent it looks again under the data lock, held
//!   exclusively. ext4 once did not (fixed May 2024 for Linux 6.11): a page fault, which holds no
//!   inode lock, raced with fallocate, which holds no folio lock; the delayed extent replaced a freshly
//!   allocated one and its reservation was never given back.
//! * A delayed cluster always has its space: `ENOSPC` comes when data is admitted, never at writeback.
//! * The file's reservation is exactly the number of clusters that hold a delayed block and no allocated
//!   one (invariant I1), whenever the data lock is free.
//! * Blocks become readable as data only after their data has reached the device (I10).
//!
//! It must not know about bytes of pages, file sizes, inode or folio locks, nor in which order files are
//! written back: the layer above tells it which blocks to back and hands it the bytes of a run.
//!
//! # Locks
//! The data lock of a file (shared: query and cache; exclusive: change) is taken below the folio lock and
//! above the status tree's writer lock. It is held over data I/O in two cases only: where the
//! store has no room to split an extent, the conversion zeroes blocks on the device under it, because
//! nothing else keeps the extent still (ext4 does the same); and the bytes of an inline file are written under it when they
//! move to their first block. An allocation may wait for a bitmap to be read besides.

mod account;
mod admit;
mod allocate;
mod blocks;
mod convert;
mod free;
mod inline;
mod writeback;

use std::fmt;
use std::sync::Arc;

use crate::allocator::{Allocator, Change, Space, Tier};
use crate::block::BlockQueue;
use crate::error::{Error, Result};
use crate::mapping::MappingStore;
use crate::probe::{Mutation, Probe};
use crate::stats::Counters;
use crate::status::{ShrinkerList, StatusContext};
use crate::units::Geometry;

pub use blocks::FileBlocks;
pub use writeback::{DirtyRun, Sent, Unplaced, WrittenPiece};

/// When blocks are allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Policy {
    /// Delay allocation until writeback. Off: every write to a hole allocates at once.
    pub delayed: bool,
    /// While fewer clusters than this are free beyond the promised ones, writes allocate at once.
    pub low_space_clusters: u64,
}

/// What all files of a volume share below the file layer.
#[non_exhaustive]
pub struct Backing {
    /// The volume's block size and cluster ratio.
    pub geometry: Geometry,
    /// The authoritative mapping.
    pub store: Arc<dyn MappingStore>,
    /// Free space and promises.
    pub allocator: Allocator,
    /// Where data goes.
    pub queue: BlockQueue,
    /// The volume's counters.
    pub counters: Arc<Counters>,
    /// What the status trees of the volume's files share.
    pub status: StatusContext,
    /// The status trees of the volume's files, for memory pressure.
    pub shrinker: ShrinkerList,
    /// When blocks are allocated.
    pub policy: Policy,
    /// Test-only switches, those of the allocator; empty without the feature `testing`.
    pub(crate) probe: Probe,
}

impl fmt::Debug for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backing")
            .field("geometry", &self.geometry)
            .field("policy", &self.policy)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Backing {
    /// A volume whose data goes to `queue`, whose files are those of `store` and whose free space is that of `allocator`.
    /// Everything counts in the counters of the queue. Allocation is delayed, but for the last sixty-fourth of the
    /// volume. What is to be otherwise is changed in the fields, before the first file is opened.
    ///
    /// The clusters that files of the store have already are for the caller to [claim](Allocator::claim).
    pub fn new(queue: BlockQueue, store: Arc<dyn MappingStore>, allocator: Allocator) -> Self {
        let (geometry, probe) = (allocator.geometry(), allocator.probe().clone());
        let counters = Arc::clone(queue.counters());
        let policy = Policy {
            delayed: true,
            low_space_clusters: allocator.space().total() / 64,
        };
        Self {
            status: StatusContext::of_volume(
                geometry.cluster,
                Arc::clone(&counters),
                probe.clone(),
            ),
            shrinker: ShrinkerList::new(),
            geometry,
            store,
            allocator,
            queue,
            counters,
            policy,
            probe,
        }
    }

    /// Makes everything written so far durable: data first, then the mapping that exposes it.
    ///
    /// # Errors
    /// Those of the device and the mapping store.
    pub fn make_durable(&self) -> Result<()> {
        self.store.commit(&self.queue)?;
        if self.change().is_some() {
            self.allocator.durable(Change(self.store.durable_change()));
        }
        Ok(())
    }

    /// What `work` answers; where that is [`Error::NoSpace`] and clusters wait, or waited, for their free to be durable,
    /// what it answers after a commit. The caller holds no lock that may not be held over I/O, and no page.
    ///
    /// # Errors
    /// Those of `work`, and of the commit.
    pub fn with_freed_space<T>(&self, work: impl FnMut() -> Result<T>) -> Result<T> {
        self.with_space_freed_by(|| self.make_durable(), work)
    }

    /// The same with another way to commit.
    pub(crate) fn with_space_freed_by<T>(
        &self,
        commit: impl FnOnce() -> Result<()>,
        mut work: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        match work() {
            Err(Error::NoSpace) if self.change().is_some() => {
                // Nothing waits any more where somebody else has committed since: then there is space as well.
                if self.held_back_clusters() > 0 {
                    commit()?;
                }
                work()
            }
            answer => answer,
        }
    }

    /// Clusters that were freed and will be available once that is durable.
    pub fn held_back_clusters(&self) -> u64 {
        self.change().map_or(0, |_| self.allocator.held_back())
    }

    /// The change that what is freed now must wait for, if it must.
    fn change(&self) -> Option<Change> {
        let at_once = self.probe.is(Mutation::ReuseBeforeDurable);
        let change = self.store.running_change();
        change.filter(|_| !at_once).map(Change)
    }

    /// Whether a write may be delayed now, or must allocate at once because space is low.
    ///
    /// Asked for each write, so what is certain without a look at all shares of the ledger, and then at all windows, is
    /// tried first.
    ///
    /// The thresholds are ext4's (its per-CPU slack aside, which an exact ledger does not need): at once
    /// when twice the free space is less than three times what is promised, or when free space is less
    /// than the promised plus a reserve.
    fn delays_now(&self) -> bool {
        if !self.policy.delayed {
            return false;
        }
        let roomy = |space: Space| {
            2 * space.free() >= 3 * space.promised()
                && space.available_to(Tier::Normal) >= self.policy.low_space_clusters
        };
        let ledger = self.allocator.ledger();
        roomy(ledger.at_worst()) || roomy(ledger.snapshot()) || roomy(self.allocator.space())
    }
}
