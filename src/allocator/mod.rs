//! Space: who may use which clusters of the volume, and how many are left.
//!
//! The layer keeps two things. The [`Ledger`] is the one account of free and promised clusters; it alone
//! decides about `ENOSPC`, exactly, and mostly in a word of the thread that asks. The groups hold one bit for each cluster and decide
//! *which* clusters a promise turns into. A cluster moves in a circle:
//!
//! ```text
//! available --reserve--> promised --allocate--> promised, bit set --commit--> used
//!     ^                     ^                          |                       |
//!     +------ give back ----+--------- cancel ---------+                       |
//!     ^                     +------------------ free_into_reservation ---------+
//!     +---------------------------------------- free --------------------------+
//! ```
//!
//! Promises:
//!
//! 1. The ledger never promises more than is free and refuses nothing that is available.
//! 2. Whoever holds a [`Reservation`] gets a cluster for each one it holds: [`Allocator::allocate`] never
//!    fails for lack of space. Bits are cleared before the ledger hears of it and set before a promise is
//!    spent, so at every moment the clear bits are at least the available and the promised, unallocated clusters.
//! 3. No cluster is handed out twice, and none that is not allocated is ever freed.
//! 4. A dropped [`Reservation`] or uncommitted [`Allocation`] gives everything back.
//!
//! The layer must **not** know files, extents, delayed allocation, devices, or durability: it does not
//! decide when a freed cluster may be used again. A cluster given to [`Allocator::free`] can be handed out at once.
//!
//! Lock order: groups by ascending number, then the ledger; nothing else is locked below them, and none is held over I/O.

mod allocation;
mod bitmap;
mod group;
mod ledger;
mod reservation;
mod span;

pub use allocation::{AllocRequest, Allocation};
pub use ledger::{Ledger, LedgerOptions, Space, Tier};
pub use reservation::Reservation;

use std::ops::Deref;

use crate::error::{Error, Result};
use crate::probe::{Moment, Mutation, Probe};
use crate::sync::uncounted::{AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, Rank};
use crate::units::{DiskBlock, DiskRun, Geometry};

use group::Group;
use span::Span;

/// A multi-block allocator: groups of clusters with a bitmap each, and one exact ledger.
///
/// An allocation is one run inside one group. The goal is taken if it is free; otherwise the first run that
/// is long enough, from the goal on and around the volume; otherwise the longest run there is. All methods
/// take `&self`; they block only on the locks of the groups they look at.
#[derive(Debug)]
pub struct Allocator {
    geometry: Geometry,
    clusters_per_group: u64,
    /// The clusters that can be handed out, counted from the start of the volume.
    usable: Span,
    groups: Box<[Mutex<Group>]>,
    ledger: Arc<Ledger>,
    /// Where requests without a goal begin to look: the group that served last. Only a hint.
    last_group: AtomicUsize,
    probe: Probe,
}

/// Where an allocation was found.
#[derive(Clone, Copy, Debug)]
struct Place {
    group: usize,
    /// Clusters, counted from the start of the group.
    span: Span,
}

impl Allocator {
    /// An allocator for a volume of `total_blocks` blocks on which everything from `first_usable` on is free.
    ///
    /// The clusters before `first_usable` (rounded up to a cluster) are the volume's own and are neither
    /// counted nor handed out; blocks behind the last whole cluster are left unused.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when a group would have no cluster or `first_usable` lies behind the volume;
    /// [`Error::NotSupported`] when there are more than 2^32 - 1 usable clusters.
    pub fn new(
        total_blocks: u64,
        geometry: Geometry,
        clusters_per_group: u64,
        first_usable: DiskBlock,
    ) -> Result<Self> {
        if clusters_per_group == 0 {
            return Err(Error::InvalidInput("a group needs at least one cluster"));
        }
        let usable = Span {
            start: geometry.cluster.clusters_for(first_usable.0),
            end: total_blocks / geometry.cluster.blocks(),
        };
        if usable.start > usable.end {
            return Err(Error::InvalidInput(
                "the first usable block lies behind the volume",
            ));
        }
        let ledger = Arc::new(Ledger::new(usable.len())?);
        let groups = (0..usable.end.div_ceil(clusters_per_group)).map(|number| {
            let start = number * clusters_per_group;
            let len = clusters_per_group.min(usable.end - start);
            let own = usable.start.saturating_sub(start).min(len);
            Mutex::new(Rank::Group.of(number), Group::new(len, own))
        });
        Ok(Self {
            geometry,
            clusters_per_group,
            usable,
            groups: groups.collect(),
            ledger,
            last_group: AtomicUsize::new(0),
            probe: Probe::default(),
        })
    }

    /// The same allocator, not in use yet, in which a test changes something.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_probe(self, probe: Probe) -> Self {
        self.probed(probe)
    }

    /// The same; without the feature `testing` nothing changes.
    pub(crate) fn probed(mut self, probe: Probe) -> Self {
        if let Some(ledger) = Arc::get_mut(&mut self.ledger) {
            ledger.set_probe(probe.clone());
        }
        Self { probe, ..self }
    }

    /// The block size and cluster ratio the allocator was made with.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The account of free and promised clusters.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Free, promised and used clusters at one moment.
    pub fn space(&self) -> Space {
        self.ledger.snapshot()
    }

    /// Promises `clusters` clusters to the caller; see [`Ledger::reserve`].
    ///
    /// # Errors
    /// [`Error::NoSpace`] when fewer are available; nothing is promised then.
    pub fn reserve(&self, clusters: u64) -> Result<Reservation<&Ledger>> {
        self.ledger.reserve(clusters)
    }

    /// Takes one run of 1 to `request.clusters` clusters (but no more than `space` holds) and as many clusters
    /// out of `space`. What was not found in one run stays in `space`: ask again.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `request.clusters` or `space` is 0, or `space` is another ledger's. `space`
    /// is unchanged then. Never [`Error::NoSpace`].
    pub fn allocate<L: Deref<Target = Ledger>>(
        &self,
        request: AllocRequest,
        space: &mut Reservation<L>,
    ) -> Result<Allocation<'_>> {
        space.expect_of(&self.ledger)?;
        let want = request.clusters.min(space.clusters());
        if want == 0 {
            return Err(Error::InvalidInput(
                "an allocation needs at least one cluster",
            ));
        }
        let place = self.find(request.goal, want)?;
        self.last_group.store(place.group, Ordering::Relaxed);
        let start = place.group as u64 * self.clusters_per_group + place.span.start;
        let ratio = self.geometry.cluster.blocks();
        Ok(Allocation {
            run: DiskRun::new(DiskBlock(start * ratio), place.span.len() * ratio),
            space: space.split_for(&*self.ledger, place.span.len())?,
            place,
            allocator: self,
        })
    }

    /// Reserves exactly `request.clusters` clusters and allocates one run; what the run is shorter is given back.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when fewer than `request.clusters` clusters are available, however they lie;
    /// [`Error::InvalidInput`] when `request.clusters` is 0.
    pub fn allocate_direct(&self, request: AllocRequest) -> Result<Allocation<'_>> {
        let mut space = self.reserve(request.clusters)?;
        self.allocate(request, &mut space)
    }

    /// Makes the free clusters of `run` used, as when a volume is opened whose files own them already.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when `run` is empty, not made of whole clusters of the usable part of the volume,
    /// or has a cluster in use; [`Error::NoSpace`] when its space is promised. Nothing is changed then.
    pub fn claim(&self, run: DiskRun) -> Result<()> {
        let clusters = self
            .clusters_of(run)
            .map_err(|_| Error::Corrupt("claiming clusters that the volume does not have"))?;
        let mut parts = self.lock_parts(clusters);
        if !parts.iter().all(|(group, part)| group.is_all_free(*part)) {
            return Err(Error::Corrupt("claiming clusters that are in use"));
        }
        let space = self.reserve(clusters.len())?;
        for (group, part) in &mut parts {
            group.take(*part);
            group.commit(*part);
        }
        space.spend();
        Ok(())
    }

    /// Makes the allocated clusters of `run` available to everybody at once.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `run` is empty, not made of whole clusters, or reaches out of the usable part of
    /// the volume; [`Error::Corrupt`] when one of its clusters is not allocated and committed (a double
    /// free, for example). Nothing is changed then.
    pub fn free(&self, run: DiskRun) -> Result<()> {
        self.clear(run, |clusters| self.ledger.release(clusters))
    }

    /// Frees the clusters of `run` but keeps their space promised to the caller, in one step that cannot
    /// fail for lack of space, however full the volume is.
    ///
    /// # Errors
    /// As [`free`](Self::free).
    pub fn free_into_reservation(&self, run: DiskRun) -> Result<Reservation<&Ledger>> {
        self.clear(run, |clusters| {
            self.ledger.release_into_reservation(clusters)
        })
    }

    /// Whether the cluster of `block` is in use: allocated (committed or not) or the volume's own. A
    /// block behind the last whole cluster is not.
    pub fn is_allocated(&self, block: DiskBlock) -> bool {
        let cluster = block.0 / self.geometry.cluster.blocks();
        if cluster >= self.usable.end {
            return false;
        }
        let group = (cluster / self.clusters_per_group) as usize;
        !self.groups[group]
            .lock()
            .is_free(cluster % self.clusters_per_group)
    }

    /// All allocated runs (committed or not) in ascending order, merged where they touch, without the volume's
    /// own clusters. Each group is seen at one moment, the whole only while nobody else allocates or frees.
    pub fn allocated_runs(&self) -> Vec<DiskRun> {
        let ratio = self.geometry.cluster.blocks();
        let mut runs: Vec<DiskRun> = Vec::new();
        for (number, group) in self.groups.iter().enumerate() {
            let base = number as u64 * self.clusters_per_group;
            for span in group.lock().allocated() {
                let start = (base + span.start).max(self.usable.start);
                let len = (base + span.end).saturating_sub(start) * ratio;
                let start = DiskBlock(start * ratio);
                match runs.last_mut() {
                    _ if len == 0 => {}
                    Some(last) if last.end() == start => last.len += len,
                    _ => runs.push(DiskRun::new(start, len)),
                }
            }
        }
        runs
    }

    /// Recounts every group and compares with the ledger: clear bits and uncommitted clusters together are
    /// what the ledger has available and promised. Holds all groups, so it is exact at any time, also
    /// while other threads work.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a counter contradicts a bitmap.
    pub fn check(&self) -> Result<()> {
        let groups = self.lock_all();
        if !groups.iter().all(|group| group.counts_agree()) {
            return Err(Error::Corrupt("a group's counter differs from its bitmap"));
        }
        let unspent: u64 = groups
            .iter()
            .map(|group| group.free() + group.uncommitted())
            .sum();
        if unspent != self.space().free() {
            return Err(Error::Corrupt(
                "the ledger's free clusters differ from the bitmaps",
            ));
        }
        Ok(())
    }

    /// Finds and takes a run of 1 to `want` clusters. The caller holds a reservation, so one exists.
    fn find(&self, goal: Option<DiskBlock>, want: u64) -> Result<Place> {
        let goal = goal.map(|block| block.0 / self.geometry.cluster.blocks());
        let (first, from) = match goal.filter(|cluster| *cluster < self.usable.end) {
            Some(cluster) => {
                let group = (cluster / self.clusters_per_group) as usize;
                let goal = cluster % self.clusters_per_group;
                if let Some(span) = self.groups[group].lock().take_at(goal, want) {
                    return Ok(Place { group, span });
                }
                (group, goal)
            }
            None => (self.last_group.load(Ordering::Relaxed), 0),
        };

        // Once around the volume; the goal's group comes first from the goal on and last as a whole.
        let mut longest: Option<Place> = None;
        for step in 0..=self.groups.len() {
            self.probe.reached(Moment::LookingAtGroup);
            let group = (first + step) % self.groups.len();
            let from = if step == 0 { from } else { 0 };
            let mut locked = self.groups[group].lock();
            let Some(span) = locked.longest_up_to(from, want) else {
                continue;
            };
            if span.len() == want {
                locked.take(span);
                return Ok(Place { group, span });
            }
            if longest.is_none_or(|best| best.span.len() < span.len()) {
                longest = Some(Place { group, span });
            }
        }
        if let Some(Place { group, .. }) = longest {
            let mut locked = self.groups[group].lock();
            if let Some(span) = locked.longest_up_to(0, want) {
                locked.take(span);
                return Ok(Place { group, span });
            }
        }

        if self.probe.is(Mutation::SearchOnce) {
            return Err(Error::NoSpace);
        }
        // Others took what was free ahead of this search and freed behind it. With all groups held nothing
        // moves, and promise 2 of this module says that a free cluster is there.
        let mut groups = self.lock_all();
        let spans = groups.iter().enumerate().filter_map(|(number, group)| {
            group.longest_up_to(0, want).map(|span| Place {
                group: number,
                span,
            })
        });
        let place = spans
            .max_by_key(|place| place.span.len())
            .ok_or(Error::Corrupt("promised clusters are not in the bitmaps"))?;
        groups[place.group].take(place.span);
        Ok(place)
    }

    /// Clears the bits of `run` if all its clusters are allocated and committed, then tells `account` how many
    /// clusters that were, still under the locks: [`check`](Self::check) must see both or neither.
    fn clear<T>(&self, run: DiskRun, account: impl FnOnce(u64) -> T) -> Result<T> {
        let clusters = self.clusters_of(run)?;
        let mut parts = self.lock_parts(clusters);
        let clear = |parts: &mut [(MutexGuard<'_, Group>, Span)]| {
            for (group, part) in parts {
                group.clear(*part);
            }
        };
        if !parts.iter().all(|(group, part)| group.is_committed(*part)) {
            if self.probe.is(Mutation::FreeBeforeChecking) {
                clear(&mut parts);
            }
            return Err(Error::Corrupt("freeing clusters that are not allocated"));
        }
        clear(&mut parts);
        Ok(account(clusters.len()))
    }

    /// The clusters of a run that is made of whole, usable ones.
    fn clusters_of(&self, run: DiskRun) -> Result<Span> {
        let ratio = self.geometry.cluster.blocks();
        let end = run.start.0.checked_add(run.len);
        let Some(end) = end.filter(|_| run.len > 0) else {
            return Err(Error::InvalidInput("the run has no blocks or too many"));
        };
        if !run.start.0.is_multiple_of(ratio) || !end.is_multiple_of(ratio) {
            return Err(Error::InvalidInput("the run is not made of whole clusters"));
        }
        let clusters = Span {
            start: run.start.0 / ratio,
            end: end / ratio,
        };
        if clusters.start < self.usable.start || clusters.end > self.usable.end {
            return Err(Error::InvalidInput(
                "the run reaches out of the volume's usable part",
            ));
        }
        Ok(clusters)
    }

    /// Locks the groups of `clusters`, each with the part of the clusters that lies in it.
    fn lock_parts(&self, clusters: Span) -> Vec<(MutexGuard<'_, Group>, Span)> {
        let first = clusters.start / self.clusters_per_group;
        let last = (clusters.end - 1) / self.clusters_per_group;
        let parts = (first..=last).map(|number| {
            let base = number * self.clusters_per_group;
            let part = Span {
                start: clusters.start.max(base) - base,
                end: clusters.end.min(base + self.clusters_per_group) - base,
            };
            (self.groups[number as usize].lock(), part)
        });
        parts.collect()
    }

    fn lock_all(&self) -> Vec<MutexGuard<'_, Group>> {
        self.groups.iter().map(Mutex::lock).collect()
    }
}
