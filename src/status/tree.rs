//! The tree: lookups, and the doors to everything else.

use std::fmt;

use super::editor::State;
use super::{
    Accounting, CacheOutcome, Look, ReferenceHints, ShrinkOutcome, Status, StatusEditor,
    StatusExtent,
};
use crate::error::Result;
use crate::map::{ExtentMap, Pinned, Reclaimer};
use crate::probe::{Moment, Mutation, Probe};
use crate::stats::{Counter, Counters, Stats};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, Rank, uncounted};
use crate::units::{ClusterRatio, FileBlock, FileRange};

/// What the status trees of one volume share. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct StatusContext {
    pub(super) reclaimer: Reclaimer,
    pub(super) cluster: ClusterRatio,
    pub(super) counters: Arc<Counters>,
    pub(super) hints: Arc<ReferenceHints>,
    pub(super) probe: Probe,
}

impl StatusContext {
    /// The context of a volume whose clusters have `cluster` blocks.
    pub fn new(cluster: ClusterRatio) -> Self {
        Self::of_volume(cluster, Arc::default(), Probe::default())
    }

    /// The same; a test may change something.
    #[cfg(feature = "testing")]
    pub fn with_probe(cluster: ClusterRatio, probe: Probe) -> Self {
        Self::of_volume(cluster, Arc::default(), probe)
    }

    /// The same, counting in `counters`; a test may change something.
    pub(crate) fn of_volume(cluster: ClusterRatio, counters: Arc<Counters>, probe: Probe) -> Self {
        Self {
            reclaimer: Reclaimer::new(),
            cluster,
            counters,
            hints: Arc::default(),
            probe,
        }
    }

    /// What was counted: hits, misses and shrunk entries of all trees together.
    pub fn stats(&self) -> Stats {
        self.counters.snapshot()
    }
}

/// The extent status tree of one file.
///
/// Lookups never wait. Changes go through [`edit`](Self::edit), which takes the tree's writer lock,
/// or through the methods here that do so for one operation.
pub struct StatusTree {
    pub(super) map: ExtentMap<Status>,
    /// The writer lock. The map's own is only taken under it.
    state: Mutex<State>,
    pub(super) context: StatusContext,
    /// Tells the trees apart in the hints.
    pub(super) id: u64,
    pub(super) changes: AtomicU64,
    /// Written under the writer lock, read as statistics.
    pub(super) entries: uncounted::AtomicU64,
    /// Likewise.
    pub(super) reclaimable: uncounted::AtomicU64,
}

impl fmt::Debug for StatusTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusTree")
            .field("map", &self.map)
            .field("changes", &self.change_counter())
            .finish_non_exhaustive()
    }
}

impl StatusTree {
    /// An empty tree.
    pub fn new(context: &StatusContext) -> Self {
        static NEXT_ID: uncounted::AtomicU64 = uncounted::AtomicU64::new(0);
        Self {
            map: ExtentMap::with_reclaimer(&context.reclaimer),
            state: Mutex::new(Rank::Status, State::default()),
            context: context.clone(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            changes: AtomicU64::new(0),
            entries: uncounted::AtomicU64::new(0),
            reclaimable: uncounted::AtomicU64::new(0),
        }
    }

    /// The entry that holds `block`, whole; `None` when nothing is known about it. Never blocks;
    /// linearizable.
    ///
    /// Whether the answer is still true when the caller acts on it is for the caller's locks to
    /// ensure.
    pub fn lookup(&self, block: FileBlock) -> Option<StatusExtent> {
        let found = self.map.get(block.0).map(StatusExtent::from);
        self.used(found);
        found
    }

    /// A lookup that can be checked later with [`StatusEditor::revalidate`]. Never blocks;
    /// linearizable.
    pub fn look(&self, block: FileBlock) -> Look {
        // Before the map is read: then a change that the lookup misses is also missing in the
        // counter.
        let change_counter = self.change_counter();
        let look = Look {
            lookup: self.map.lookup(block.0),
            change_counter,
        };
        self.used(look.extent());
        look
    }

    /// How many changes the file's status has seen: inserts, delayed inserts and removals. Never
    /// blocks.
    ///
    /// A change counts after readers can see it.
    pub fn change_counter(&self) -> u64 {
        // Acquire, from the Release in `StatusEditor::changed`: who sees the number sees the
        // change.
        self.changes.load(Ordering::Acquire)
    }

    /// The entries that have a block in `range`, whole, in order. Never blocks.
    ///
    /// Up to 64 entries are one state of the tree; see [`Overlapping`](crate::map::Overlapping) for
    /// more.
    pub fn extents(&self, range: FileRange) -> Vec<StatusExtent> {
        walk(&self.map.pin(), range).collect()
    }

    /// The first entry with a block in `range` whose status `matches`, whole. Never blocks.
    ///
    /// Consistency as that of [`extents`](Self::extents).
    pub fn find_range(
        &self,
        range: FileRange,
        mut matches: impl FnMut(Status) -> bool,
    ) -> Option<StatusExtent> {
        walk(&self.map.pin(), range).find(|extent| matches(extent.status))
    }

    /// Whether the status of any block in `range` `matches`. Never blocks.
    pub fn scan_range(&self, range: FileRange, matches: impl FnMut(Status) -> bool) -> bool {
        self.find_range(range, matches).is_some()
    }

    /// Whether the status of any block in the cluster of `block` `matches`. Never blocks.
    pub fn scan_cluster(&self, block: FileBlock, matches: impl FnMut(Status) -> bool) -> bool {
        let cluster = self.context.cluster;
        self.scan_range(cluster.range_of(cluster.cluster_of(block)), matches)
    }

    /// How many entries there are. Exact while nobody edits.
    pub fn entry_count(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// How many of them the shrinker may drop: those not delayed. Exact while nobody edits.
    pub fn reclaimable_count(&self) -> u64 {
        self.reclaimable.load(Ordering::Relaxed)
    }

    /// Takes the writer lock, waiting for other writers of this tree; dropping the editor releases
    /// it. Not for a thread that has an editor of this tree already: it would wait for itself for ever, here and in each
    /// method that changes the tree or waits for writers.
    pub fn edit(&self) -> StatusEditor<'_> {
        StatusEditor::new(self, self.state.lock())
    }

    /// Takes the writer lock unless somebody has it.
    pub fn try_edit(&self) -> Option<StatusEditor<'_>> {
        self.state
            .try_lock()
            .map(|state| StatusEditor::new(self, state))
    }

    /// One [`StatusEditor::insert`] under the writer lock.
    ///
    /// # Errors
    /// As [`StatusEditor::insert`].
    pub fn insert(&self, range: FileRange, status: Status) -> Result<Accounting> {
        let ended = self.edit().insert(range, status);
        if self.context.probe.is(Mutation::CountChangesInTwoSteps) {
            self.count_in_two_steps();
        }
        ended
    }

    /// For [`Mutation::CountChangesInTwoSteps`]: what others count between the steps is lost.
    fn count_in_two_steps(&self) {
        let counted = self.changes.load(Ordering::Relaxed);
        self.context.probe.reached(Moment::Counting);
        self.changes.store(counted + 1, Ordering::Release);
    }

    /// One [`StatusEditor::insert_delayed`] under the writer lock.
    ///
    /// # Errors
    /// As [`StatusEditor::insert_delayed`].
    pub fn insert_delayed(
        &self,
        range: FileRange,
        first_cluster_allocated: bool,
        last_cluster_allocated: bool,
    ) -> Result<()> {
        self.edit()
            .insert_delayed(range, first_cluster_allocated, last_cluster_allocated)
    }

    /// One [`StatusEditor::cache`] under the writer lock.
    ///
    /// # Errors
    /// As [`StatusEditor::cache`].
    pub fn cache(&self, range: FileRange, status: Status) -> Result<CacheOutcome> {
        self.edit().cache(range, status)
    }

    /// One [`StatusEditor::remove`] under the writer lock.
    ///
    /// # Errors
    /// As [`StatusEditor::remove`].
    pub fn remove(&self, range: FileRange) -> Result<Accounting> {
        self.edit().remove(range)
    }

    /// One [`StatusEditor::clear`] under the writer lock.
    pub fn clear(&self) -> u64 {
        self.edit().clear()
    }

    /// One [`StatusEditor::shrink`] under the writer lock.
    pub fn shrink(&self, max_scan: u64) -> ShrinkOutcome {
        self.edit().shrink(max_scan)
    }

    /// One [`StatusEditor::shrink_where`] under the writer lock.
    pub fn shrink_where(&self, drop: impl FnMut(StatusExtent) -> bool) -> u64 {
        self.edit().shrink_where(drop)
    }

    /// Whether cluster `cluster` has a pending record. Waits for writers.
    pub fn is_pending(&self, cluster: u64) -> bool {
        self.edit().is_pending(cluster)
    }

    /// How many clusters have a pending record. Waits for writers.
    pub fn pending_count(&self) -> u64 {
        self.edit().pending_count()
    }

    /// One [`StatusEditor::take_pending`] under the writer lock.
    #[must_use = "on `true` the caller owes a reservation"]
    pub fn take_pending(&self, cluster: u64) -> bool {
        self.edit().take_pending(cluster)
    }

    /// Counts a lookup and hints the shrinker that its entry is in use.
    fn used(&self, found: Option<StatusExtent>) {
        let counter = match found {
            Some(extent) => {
                self.context.hints.set(self.id, extent.range.start().0);
                Counter::StatusHits
            }
            None => Counter::StatusMisses,
        };
        self.context.counters.count(counter);
    }
}

fn walk(pinned: &Pinned<'_, Status>, range: FileRange) -> impl Iterator<Item = StatusExtent> {
    pinned
        .overlapping(range.start().0..range.end().0)
        .map(StatusExtent::from)
}
