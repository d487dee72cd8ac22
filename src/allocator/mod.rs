//! Space: who may use which clusters of the volume, and how many are left.
//!
//! The layer keeps two things. The [`Ledger`] is the one account of free and promised clusters; it alone
//! decides about `ENOSPC`, exactly, and mostly in a word of the thread that asks. The groups hold one bit for each
//! cluster and decide *which* clusters a promise turns into. A cluster moves in a circle:
//!
//! ```text
//!     +--------- allocate_direct, or a window opens ---------+
//!     |                                                      v
//! available --reserve--> promised --------allocate--------> used, bit set
//!     ^                     | ^                              |
//!     +------ give back ----+ +-- cancel, free_into_reservation
//!     +---------------- free, or a window ends --------------+
//! ```
//!
//! Promises:
//!
//! 1. The ledger never promises more than is free and refuses nothing that is available.
//! 2. Whoever holds a [`Reservation`] gets a cluster for each one it holds: [`Allocator::allocate`] never
//!    fails for lack of space. Bits and ledger change together, under the lock of the group: at every moment at which no
//!    group is locked the clear bits and those withheld for a discard are the available and the promised clusters; and
//!    a search that finds no clear bit waits for the discard.
//! 3. No cluster is handed out twice, and none that is not allocated is ever freed.
//! 4. A dropped [`Reservation`] or uncommitted [`Allocation`] gives everything back.
//! 5. Windows are used in the eyes of the ledger, so taking from one changes nothing but a word of its own; and they
//!    end, all of them, before anything is refused.
//!
//! The layer must **not** know files (but for the numbers that its callers give them), extents, delayed allocation or
//! devices, and it does not decide when a change is durable: it is told.
//!
//! Lock order: the windows of a file, the right to discard, the groups by ascending number, the ledger's pool. Only the
//! right to discard is held over I/O.

mod allocation;
mod directory;
mod discard;
mod file_space;
mod free;
mod free_runs;
mod group;
mod group_set;
mod ledger;
mod locked;
mod request;
mod reservation;
mod rest;
mod run_orders;
mod search;
mod snug;
mod source;
mod span;
mod streams;
mod window;
mod windows;

pub use allocation::Allocation;
pub use file_space::{FileRequest, FileSpace};
pub use group::Change;
pub use ledger::{Ledger, LedgerOptions, Space, Tier};
pub use request::{AllocRequest, Goal};
pub use reservation::Reservation;
pub use source::GroupSource;

use std::ops::Deref;

use crossbeam_utils::CachePadded;

use crate::error::{Error, Result};
use crate::probe::{Mutation, Probe};
use crate::sync::{Arc, Mutex, Rank};
use crate::units::{DiskBlock, DiskRun, Geometry};

use allocation::Extent;
use directory::Directory;
use file_space::{SharedWindow, shared_windows};
use group::Group;
use group_set::GroupSet;
use locked::Locked;
use search::Found;
use span::Span;
use streams::Streams;
use window::Census;

/// A multi-block allocator: groups of clusters, and one exact ledger.
///
/// An allocation is one run inside one group: what is free at the goal; else a run that is long enough, on a roomy volume the
/// first behind the goal, on a fuller one where it breaks no long run; else the longest run there is. All methods take `&self`; they block
/// only on the locks of the groups they look at, and a search passes by groups that somebody works on as long as there
/// are others.
#[derive(Debug)]
pub struct Allocator {
    geometry: Geometry,
    clusters_per_group: u64,
    /// The clusters that can be handed out, counted from the start of the volume.
    usable: Span,
    groups: Box<[CachePadded<Mutex<Group>>]>,
    directory: Directory,
    /// Where unread groups come from.
    source: Option<Box<dyn GroupSource>>,
    unread: GroupSet,
    /// Those with clusters that wait for a change to be durable; put in and taken out under their locks.
    holding_back: GroupSet,
    ledger: Arc<Ledger>,
    streams: Streams,
    /// Small files lie together: a window for each of a few threads.
    shared_windows: Box<[CachePadded<SharedWindow>]>,
    /// Of the windows of each group.
    census: Box<[Census]>,
    /// The right to withhold a run for a discard.
    discarding: Mutex<()>,
    probe: Probe,
}

impl Allocator {
    /// An allocator for a volume of `total_blocks` blocks on which everything from `first_usable` on is free.
    ///
    /// The clusters before `first_usable` (rounded up to a cluster) are the volume's own and are neither
    /// counted nor handed out; blocks behind the last whole cluster are left unused. Memory for a group is used from
    /// its first change on: about 1.4 bits for a cluster.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when a group would have no cluster or `first_usable` lies behind the volume;
    /// [`Error::NotSupported`] when more than 2^32 - 1 clusters are usable, the volume's own, or in one group.
    pub fn new(
        total_blocks: u64,
        geometry: Geometry,
        clusters_per_group: u64,
        first_usable: DiskBlock,
    ) -> Result<Self> {
        Self::with_source(
            total_blocks,
            geometry,
            clusters_per_group,
            first_usable,
            None,
        )
    }

    /// An allocator for a volume that has been used: its groups are read from `source` when they are first needed, and
    /// those that cannot be read or contradict their descriptors are fenced off.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::Corrupt`] when a descriptor promises more free clusters than its group has.
    pub fn open(
        total_blocks: u64,
        geometry: Geometry,
        clusters_per_group: u64,
        first_usable: DiskBlock,
        source: Box<dyn GroupSource>,
    ) -> Result<Self> {
        let allocator = Self::with_source(
            total_blocks,
            geometry,
            clusters_per_group,
            first_usable,
            Some(source),
        )?;
        let mut used = allocator.usable.len();
        for number in 0..allocator.groups.len() {
            let free = allocator
                .source
                .as_ref()
                .map_or(0, |source| source.free_clusters(number as u64));
            let own = allocator.own_clusters(number);
            if free > allocator.locked(number).len() - own {
                return Err(Error::Corrupt("a group descriptor promises too much"));
            }
            used -= free;
            allocator.unread.insert(number);
        }
        allocator.reserve(used)?.spend(used)?;
        Ok(allocator)
    }

    fn with_source(
        total_blocks: u64,
        geometry: Geometry,
        clusters_per_group: u64,
        first_usable: DiskBlock,
        source: Option<Box<dyn GroupSource>>,
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
        let longest_group = clusters_per_group.min(usable.end);
        if usable.start.max(longest_group) > u64::from(u32::MAX) {
            return Err(Error::NotSupported(
                "more than 2^32 - 1 clusters in a group or of the volume's own",
            ));
        }
        let ledger = Arc::new(Ledger::new(usable.len())?);
        let groups: Box<[_]> = (0..usable.end.div_ceil(clusters_per_group))
            .map(|number| {
                let start = number * clusters_per_group;
                let len = clusters_per_group.min(usable.end - start);
                let own = usable.start.saturating_sub(start).min(len);
                let group = match source {
                    Some(_) => Group::unread(len),
                    None => Group::new(len, own),
                };
                CachePadded::new(Mutex::new(Rank::Group.of(number), group))
            })
            .collect();
        let directory = Directory::new(groups.len());
        for (number, group) in groups.iter().enumerate() {
            directory.update(number, group.lock().summary());
        }
        let shared_windows = (0..shared_windows())
            .map(|_| CachePadded::new(SharedWindow::new()))
            .collect();
        Ok(Self {
            geometry,
            clusters_per_group,
            usable,
            directory,
            source,
            unread: GroupSet::new(groups.len()),
            holding_back: GroupSet::new(groups.len()),
            ledger,
            streams: Streams::new(groups.len()),
            census: groups.iter().map(|_| Census::default()).collect(),
            groups,
            shared_windows,
            discarding: Mutex::new(Rank::Discarding, ()),
            probe: Probe::default(),
        })
    }

    /// How many clusters of a group are the volume's own.
    fn own_clusters(&self, group: usize) -> u64 {
        let start = group as u64 * self.clusters_per_group;
        self.usable
            .start
            .saturating_sub(start)
            .min(self.clusters_per_group)
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

    pub(crate) fn probe(&self) -> &Probe {
        &self.probe
    }

    /// The block size and cluster ratio the allocator was made with.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The account of free and promised clusters, in which windows are used: who reserves here and not
    /// [there](Self::reserve) is refused what windows have.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Free, promised and used clusters; what windows have is available. Exact as [`Ledger::snapshot`] is, and while no
    /// window begins or ends.
    pub fn space(&self) -> Space {
        let space = self.ledger.snapshot();
        space.with_available(self.in_windows())
    }

    /// Promises `clusters` clusters to the caller; see [`Ledger::reserve`]. Where that refuses, all windows end first.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when fewer are available; nothing is promised then.
    #[inline]
    pub fn reserve(&self, clusters: u64) -> Result<Reservation<&Ledger>> {
        match self.ledger.reserve(clusters) {
            Err(Error::NoSpace) => self.without_windows(|| self.ledger.reserve(clusters)),
            outcome => outcome,
        }
    }

    /// Takes one run of 1 to `request.clusters()` clusters (but no more than `space` holds) and as many clusters
    /// out of `space`. What was not found in one run stays in `space`: ask again.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the request or `space` is of 0 clusters, or `space` is another ledger's. `space`
    /// is unchanged then. Never [`Error::NoSpace`].
    pub fn allocate<L: Deref<Target = Ledger>>(
        &self,
        request: AllocRequest,
        space: &mut Reservation<L>,
    ) -> Result<Allocation<'_>> {
        let want = self.allowed(request.clusters(), space)?;
        let wanted = request.wanted(want, self.geometry.cluster);
        let Found { mut group, span } = self.find(&wanted)?;
        if self.probe.is(Mutation::SpendAfterTaking) {
            group.take(span);
            let number = group.number();
            drop(group);
            space.spend(span.len())?;
            return Ok(self.taken(Extent {
                group: number,
                span,
            }));
        }
        space.spend(span.len())?;
        Ok(self.take(group, span))
    }

    /// Takes what was found and paid for.
    fn take(&self, mut group: Locked<'_>, span: Span) -> Allocation<'_> {
        group.take(span);
        self.taken(Extent {
            group: group.number(),
            span,
        })
    }

    /// Takes as many runs as it needs for `request.clusters()` clusters, all of which `space` must hold: each as long as
    /// possible, and each next to the one before it where that is free.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate), and [`Error::InvalidInput`] when `space` holds fewer clusters.
    pub fn allocate_runs<L: Deref<Target = Ledger>>(
        &self,
        request: AllocRequest,
        space: &mut Reservation<L>,
    ) -> Result<Vec<Allocation<'_>>> {
        let mut rest = request.clusters();
        if self.allowed(rest, space)? < rest {
            return Err(Error::InvalidInput(
                "more clusters are wanted than are reserved",
            ));
        }
        let mut runs: Vec<Allocation<'_>> = Vec::new();
        while rest > 0 {
            let part = match runs.last() {
                None => request,
                Some(last) => request.goal(Goal::From(last.run().end())),
            };
            let run = self.allocate(part.of(rest), space)?;
            rest -= run.clusters();
            runs.push(run);
        }
        Ok(runs)
    }

    /// Allocates one run without a promise beforehand: of all `request.clusters()` clusters, or shorter where there is no
    /// such run.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when fewer clusters than that are available, however they lie;
    /// [`Error::InvalidInput`] when the request is of 0 clusters.
    pub fn allocate_direct(&self, request: AllocRequest) -> Result<Allocation<'_>> {
        let clusters = request.clusters();
        if (1..=self.usable.len()).contains(&clusters) {
            let wanted = request.wanted(clusters, self.geometry.cluster);
            if let Some(Found { group, span }) = self.find_whole(&wanted)
                && span.len() == clusters
                && self.ledger.buy(clusters).is_ok()
            {
                return Ok(self.take(group, span));
            }
        }
        let mut space = self.reserve(clusters)?;
        self.allocate(request, &mut space)
    }

    /// Makes the free clusters of `run` used, as when a volume is opened whose files own them already.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when `run` is empty, not made of whole clusters of the usable part of the volume,
    /// or has a cluster in use; [`Error::NoSpace`] when its space is promised. Nothing is changed then.
    pub fn claim(&self, run: DiskRun) -> Result<()> {
        // Before the groups are locked: where space is short, windows end.
        let space = self.reserve(run.len / self.geometry.cluster.blocks());
        let clusters = self
            .clusters_of(run)
            .map_err(|_| Error::Corrupt("claiming clusters that the volume does not have"))?;
        let mut parts = self.parts_of(clusters);
        if !parts.all(Group::is_all_free) {
            return Err(Error::Corrupt("claiming clusters that are in use"));
        }
        let mut space = space?;
        parts.for_each(|group, part| group.take(part));
        space.spend(clusters.len())
    }

    /// Whether the cluster of `block` is in use: allocated (committed or not), freed and not durably so, or the
    /// volume's own. A block behind the last whole cluster is not.
    pub fn is_allocated(&self, block: DiskBlock) -> bool {
        let cluster = block.0 / self.geometry.cluster.blocks();
        if cluster >= self.usable.end {
            return false;
        }
        let group = (cluster / self.clusters_per_group) as usize;
        self.group(group)
            .is_allocated(cluster % self.clusters_per_group)
    }

    /// All allocated runs (committed or not, or freed and not durably so) in ascending order, merged where they touch,
    /// without the volume's own clusters. Each group is seen at one moment, the whole only while nobody else allocates or
    /// frees.
    pub fn allocated_runs(&self) -> Vec<DiskRun> {
        let mut runs: Vec<DiskRun> = Vec::new();
        for number in 0..self.groups.len() {
            let own = self
                .usable
                .start
                .saturating_sub(number as u64 * self.clusters_per_group);
            for span in self.group(number).allocated() {
                let start = span.start.max(own);
                if start >= span.end {
                    continue;
                }
                let run = self.run_of(number, Span { start, ..span });
                match runs.last_mut() {
                    Some(last) if last.end() == run.start => last.len += run.len,
                    _ => runs.push(run),
                }
            }
        }
        runs
    }

    /// Recounts every group and compares with the ledger: clusters free or set aside are what the ledger has available
    /// and promised. Holds all groups, so it is exact at any time, also while other threads work.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a counter, an index or a list contradicts a bitmap.
    pub fn check(&self) -> Result<()> {
        let groups = self.lock_all();
        if !groups.iter().all(|group| group.is_sound()) {
            return Err(Error::Corrupt("a group's counter differs from its bitmap"));
        }
        let listed =
            |(number, group): (usize, &Locked<'_>)| self.directory.agrees(number, group.summary());
        if !groups.iter().enumerate().all(listed) {
            return Err(Error::Corrupt("a group is in the wrong list"));
        }
        let unspent: u64 = groups.iter().map(|group| group.unspent()).sum();
        if unspent != self.ledger.snapshot().free() {
            return Err(Error::Corrupt(
                "the ledger's free clusters differ from the bitmaps",
            ));
        }
        Ok(())
    }

    /// How many clusters a request may have out of `space`.
    fn allowed<L: Deref<Target = Ledger>>(
        &self,
        clusters: u64,
        space: &Reservation<L>,
    ) -> Result<u64> {
        space.expect_of(&self.ledger)?;
        match clusters.min(space.clusters()) {
            0 => Err(Error::InvalidInput(
                "an allocation needs at least one cluster",
            )),
            allowed => Ok(allowed),
        }
    }
}
