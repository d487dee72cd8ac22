//! The operations that change a tree.

use std::fmt;
use std::ops::RangeInclusive;

use super::extent::check;
use super::pending::PendingClusters;
use super::{Look, Status, StatusExtent, StatusTree};
use crate::error::{Error, Result};
use crate::map::{Editor, Replaced};
use crate::probe::Mutation;
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use crate::sync::uncounted::AtomicU64;
use crate::units::{FileBlock, FileRange};

/// What the writer lock of a tree guards besides its map.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) pending: PendingClusters,
    /// Where the shrinker goes on.
    pub(super) cursor: u64,
    /// Whether a user asked for the whole mapping to be cached.
    pub(super) precached: bool,
}

/// What a change means for the file's reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "reservations that are not given back are lost"]
pub struct Accounting {
    /// How many reserved clusters are reserved no longer, because their delayed blocks are gone or
    /// because their space is now allocated.
    pub released: u64,
}

/// What became of an offer to remember what was read from the mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheOutcome {
    /// Nothing in the range was known, now it is.
    Inserted,
    /// Something in the range was known; nothing was changed.
    Kept,
}

/// The writer lock of a tree, and what it allows. Dropping it releases the lock.
///
/// The ranges of all operations lie below [`MAX_FILE_BLOCKS`](crate::units::MAX_FILE_BLOCKS). An
/// empty range is allowed and does nothing: nothing changes, not even the change counter.
#[must_use = "an editor holds the writer lock and does nothing by itself"]
pub struct StatusEditor<'t> {
    pub(super) tree: &'t StatusTree,
    // Before `state`, hence released first: the map's lock is only taken under the tree's.
    pub(super) map: Editor<'t, Status>,
    pub(super) state: MutexGuard<'t, State>,
}

impl fmt::Debug for StatusEditor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusEditor")
            .field("state", &*self.state)
            .finish_non_exhaustive()
    }
}

impl<'t> StatusEditor<'t> {
    pub(super) fn new(tree: &'t StatusTree, state: MutexGuard<'t, State>) -> Self {
        Self {
            tree,
            map: tree.map.edit(),
            state,
        }
    }

    /// Whether what `look` saw is certainly still so: true only if nothing in this tree changed
    /// since; false for a look into another tree. O(1).
    pub fn revalidate(&self, look: &Look) -> bool {
        self.map.revalidate(&look.lookup)
    }

    /// The entry that holds `block`, whole; `None` when nothing is known about it.
    pub fn lookup(&self, block: FileBlock) -> Option<StatusExtent> {
        self.map.get(block.0).map(StatusExtent::from)
    }

    /// The entries that have a block in `range`, whole, in order.
    pub fn extents(&self, range: FileRange) -> impl Iterator<Item = StatusExtent> + '_ {
        self.map
            .overlapping(range.start().0..range.end().0)
            .map(StatusExtent::from)
    }

    /// Records that the blocks of `range` now have `status`: written, unwritten or hole.
    ///
    /// Replaces what was known about them. Clusters that lose their last delayed block end their
    /// reservation, and so do clusters that keep one beside newly allocated blocks: those become
    /// pending. Counts as a change.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the range or the disk blocks are too large, or `status` is
    /// delayed.
    pub fn insert(&mut self, range: FileRange, status: Status) -> Result<Accounting> {
        check(range, status)?;
        if status.is_delayed() {
            return Err(Error::InvalidInput("delayed blocks have their own insert"));
        }
        if range.is_empty() {
            return Ok(Accounting::default());
        }
        let replaced = self.put(range, Some(status));
        let mut released = self.settle(range, &replaced);
        if status.is_allocated() {
            released += self.revise_pending(range);
        }
        self.changed();
        Ok(Accounting { released })
    }

    /// Records that the blocks of `range` have data in memory and promised space.
    ///
    /// The caller has reserved a cluster for each cluster of the range that had no delayed block
    /// yet and is not allocated, and says whether the first and the last cluster are allocated:
    /// those become pending. When both are one cluster, only the first flag tells. Counts as a
    /// change.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the range is too large, or the second flag is set although
    /// first and last cluster are one. [`Error::Corrupt`] when a block in the range is delayed or
    /// allocated already: then the caller has not looked under the lock, and its reservation is for
    /// nothing. Nothing is changed.
    pub fn insert_delayed(
        &mut self,
        range: FileRange,
        first_cluster_allocated: bool,
        last_cluster_allocated: bool,
    ) -> Result<()> {
        check(range, Status::Delayed)?;
        let cluster = self.tree.context.cluster;
        let (first, end) = cluster.clusters_touched(range);
        if last_cluster_allocated && end - first <= 1 {
            return Err(Error::InvalidInput("one cluster cannot be first and last"));
        }
        if range.is_empty() {
            return Ok(());
        }
        let replaces = self.tree.context.probe.is(Mutation::DelayedInsertReplaces);
        if !replaces && self.extents(range).any(|extent| !extent.status.is_hole()) {
            return Err(Error::Corrupt(
                "delayed insert over delayed or allocated blocks",
            ));
        }
        self.put(range, Some(Status::Delayed));
        if !cluster.is_one() {
            if first_cluster_allocated {
                self.state.pending.insert(first);
            }
            if last_cluster_allocated {
                self.state.pending.insert(end - 1);
            }
        }
        self.changed();
        Ok(())
    }

    /// Remembers what was read from the mapping, if nothing at all in `range` is known yet. Not a
    /// change: the mapping has said so before. So what a tree knows is never overwritten by what
    /// was read before it changed.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the range or the disk blocks are too large, or `status` is
    /// delayed.
    pub fn cache(&mut self, range: FileRange, status: Status) -> Result<CacheOutcome> {
        check(range, status)?;
        if status.is_delayed() {
            return Err(Error::InvalidInput(
                "delayed blocks are never read from the mapping",
            ));
        }
        let known = self.extents(range).next().is_some();
        if range.is_empty() || known && !self.tree.context.probe.is(Mutation::CacheReplaces) {
            return Ok(CacheOutcome::Kept);
        }
        self.put(range, Some(status));
        Ok(CacheOutcome::Inserted)
    }

    /// Forgets everything about the blocks of `range`, because the file does not have them any
    /// more. Counts as a change.
    ///
    /// Clusters that lose their last delayed block end their reservation.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the range is too large.
    pub fn remove(&mut self, range: FileRange) -> Result<Accounting> {
        check(range, Status::Hole)?;
        if range.is_empty() {
            return Ok(Accounting::default());
        }
        let replaced = self.put(range, None);
        let released = self.settle(range, &replaced);
        self.changed();
        Ok(Accounting { released })
    }

    /// Drops everything that is not delayed; how many entries that were. Not a change.
    pub fn clear(&mut self) -> u64 {
        self.state.precached = false;
        self.shrink_where(|_| true)
    }

    /// Asks the shrinker to spare this tree while others have something to give; until
    /// [`clear`](Self::clear).
    pub fn set_precached(&mut self) {
        self.state.precached = true;
    }

    /// Whether cluster `cluster` has a pending record: it is allocated and has delayed blocks.
    pub fn is_pending(&self, cluster: u64) -> bool {
        self.state.pending.contains(cluster)
    }

    /// How many clusters have a pending record.
    pub fn pending_count(&self) -> u64 {
        self.state.pending.len()
    }

    /// The clusters that have a pending record, in order.
    pub fn pending_clusters(&self) -> impl Iterator<Item = u64> + '_ {
        self.state.pending.iter()
    }

    /// Drops the pending record of `cluster`; whether there was one. For a caller that frees the
    /// cluster's space: on `true` delayed blocks remain, and the caller must reserve one cluster
    /// for them again.
    #[must_use = "on `true` the caller owes a reservation"]
    pub fn take_pending(&mut self, cluster: u64) -> bool {
        self.state.pending.remove(cluster)
    }

    /// Puts one status, or nothing, in place of whatever is known about `range`, which is not
    /// empty.
    fn put(&mut self, range: FileRange, status: Option<Status>) -> Replaced<Status> {
        let blocks = range.start().0..range.end().0;
        self.counted(range, |map| match status {
            Some(status) => map.insert(blocks, status),
            None => map.remove(blocks),
        })
    }

    /// Does an edit inside `range`, which is not empty, and keeps the entry counts.
    pub(super) fn counted(
        &mut self,
        range: FileRange,
        edit: impl FnOnce(&mut Editor<'t, Status>) -> Result<Replaced<Status>>,
    ) -> Replaced<Status> {
        // The edit can merge with one entry on either side.
        let around = range.start().0.saturating_sub(1)..=range.end().0;
        let (entries, reclaimable) = self.tally(around.clone());
        let replaced = edit(&mut self.map).expect("a range that is not empty");
        let (entries_after, reclaimable_after) = self.tally(around);
        let adjust = |count: &AtomicU64, before: u64, after: u64| {
            // Only writers store, under the lock.
            count.store(
                count.load(Ordering::Relaxed) + after - before,
                Ordering::Relaxed,
            );
        };
        adjust(&self.tree.entries, entries, entries_after);
        adjust(&self.tree.reclaimable, reclaimable, reclaimable_after);
        replaced
    }

    /// How many entries `blocks` touches, and how many of them are not delayed.
    fn tally(&self, blocks: RangeInclusive<u64>) -> (u64, u64) {
        self.map
            .overlapping(blocks)
            .fold((0, 0), |(entries, reclaimable), extent| {
                (
                    entries + 1,
                    reclaimable + u64::from(!extent.value().is_delayed()),
                )
            })
    }

    /// Counts the reservations that ended because the delayed blocks among `replaced` are gone, and
    /// drops the pending records that ended with them. `range`, where they were, has no delayed
    /// block now.
    fn settle(&mut self, range: FileRange, replaced: &Replaced<Status>) -> u64 {
        let cluster = self.tree.context.cluster;
        let delayed = replaced.iter().filter(|extent| extent.value().is_delayed());
        if cluster.is_one() {
            return delayed.map(|extent| extent.len()).sum();
        }
        let (first, end) = cluster.clusters_touched(range);
        let first_stays = self.has_delayed(first);
        let last_stays = self.has_delayed(end - 1) || self.counts_the_trimmed(range);
        let mut released = 0;
        let mut counted_to = first + u64::from(first_stays);
        for extent in delayed {
            let (from, mut to) = cluster.clusters_touched(StatusExtent::from(*extent).range);
            // Two delayed entries can share a cluster.
            let from = from.max(counted_to);
            if to == end && last_stays {
                to -= 1;
            }
            if from < to {
                // Pending clusters are paid for by their allocated blocks: nothing was reserved.
                released += to - from - self.state.pending.remove_range(from, to);
                counted_to = to;
            }
        }
        released
    }

    /// For [`Mutation::CountTrimmedEntry`]: what is left of an entry behind `range` counts as part of its last cluster.
    fn counts_the_trimmed(&self, range: FileRange) -> bool {
        self.tree.context.probe.is(Mutation::CountTrimmedEntry)
            && self
                .lookup(range.end())
                .is_some_and(|extent| extent.status.is_delayed())
    }

    /// After space was allocated in `range`: records which of its clusters still have delayed
    /// blocks; how many were not recorded yet, each of which ends a reservation. Only the outer
    /// clusters can have any.
    fn revise_pending(&mut self, range: FileRange) -> u64 {
        let cluster = self.tree.context.cluster;
        if cluster.is_one() {
            return 0;
        }
        let (first, end) = cluster.clusters_touched(range);
        let mut recorded = 0;
        for cluster in [first, end - 1] {
            // A cluster without delayed blocks has lost its record with the last of them.
            if self.has_delayed(cluster) {
                recorded += u64::from(self.state.pending.insert(cluster));
            }
        }
        recorded
    }

    /// Whether cluster `cluster` has a delayed block.
    fn has_delayed(&self, cluster: u64) -> bool {
        let blocks = self.tree.context.cluster.range_of(cluster);
        self.extents(blocks)
            .any(|extent| extent.status.is_delayed())
    }

    /// Counts a change that readers can see already.
    fn changed(&self) {
        if self.tree.context.probe.is(Mutation::CountChangesInTwoSteps) {
            return;
        }
        // Release, to the Acquire in `StatusTree::change_counter`. Only writers add, under the
        // lock.
        let order = match self.tree.context.probe.is(Mutation::CountChangesRelaxed) {
            true => Ordering::Relaxed,
            false => Ordering::Release,
        };
        self.tree.changes.fetch_add(1, order);
    }
}
