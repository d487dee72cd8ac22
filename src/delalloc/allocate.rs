//! Allocation: holes and delayed blocks become unwritten ones.

use crate::allocator::{FileRequest, Goal, Ledger, Reservation};
use crate::error::{Error, Result};
use crate::mapping::{ExtentState, MappedExtent, Mapping};
use crate::probe::Mutation;
use crate::status::{Status, StatusExtent};
use crate::sync::journal::note;
use crate::units::{DiskBlock, FileRange};

use super::FileBlocks;
use super::blocks::{DataLocked, status_of};

/// A run of clusters that is to be allocated for blocks of one kind.
struct ClusterRun {
    first: u64,
    /// All blocks of the run are delayed, so every cluster of it is reserved.
    delayed: bool,
    purpose: Purpose,
}

/// What blocks are allocated for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Data, and more may follow behind it: a window is kept for that.
    Data,
    /// A caller who has said how much is needed.
    Fallocate,
}

impl FileBlocks {
    /// Backs every block of `range` that is a hole or delayed with unwritten blocks, as `fallocate` does.
    /// Written and unwritten blocks stay; delayed ones hand their reservation to their allocation.
    ///
    /// Returns how many blocks from the start of the range on are allocated: all of them, or fewer when
    /// space ran out. The data lock is given up between extents.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when nothing at all could be allocated; errors of the mapping store.
    pub fn allocate(&self, range: FileRange) -> Result<u64> {
        let mut rest = range;
        while !rest.is_empty() {
            self.check_range(rest)?;
            match self.allocate_start(&self.lock_data(), rest, Purpose::Fallocate) {
                Ok(done) => rest = FileRange::new(done.range.end(), rest.end()),
                Err(Error::NoSpace) if rest != range => break,
                Err(error) => return Err(error),
            }
        }
        Ok(range.len() - rest.len())
    }

    /// Makes every written block of `range` unwritten.
    ///
    /// The caller holds inode and invalidate lock exclusively and has dropped the pages of the range.
    ///
    /// # Errors
    /// Those of the mapping store, and device errors where blocks had to be zeroed instead.
    pub fn zero(&self, range: FileRange) -> Result<()> {
        match range.is_empty() {
            true => Ok(()),
            false => self.convert(&self.lock_data(), range, ExtentState::Unwritten, &[]),
        }
    }

    /// Allocates the start of `range` unless it is allocated already; returns what it is now.
    pub(super) fn allocate_start(
        &self,
        locked: &DataLocked<'_>,
        range: FileRange,
        purpose: Purpose,
    ) -> Result<StatusExtent> {
        let found = self.find(locked, range.start())?.clip(range);
        if found.status.is_allocated() {
            return Ok(found);
        }
        let ratio = self.backing.geometry.cluster;
        let (first, mut end) = ratio.clusters_touched(found.range);
        if !ratio.is_one() {
            // A cluster that holds an allocated block has its place; the others of it go there too.
            if let Some(base) = self.allocated_cluster(locked, first)? {
                let part = found.range.intersect(ratio.range_of(first));
                let disk = base.advance(ratio.offset_in_cluster(part.start()));
                return self.map_unwritten(part, disk, 0);
            }
            if end - first > 1 && self.allocated_cluster(locked, end - 1)?.is_some() {
                end -= 1;
            }
        }
        let run = ClusterRun {
            first,
            delayed: found.status == Status::Delayed,
            purpose,
        };
        self.allocate_clusters(found.range, &run, end - first)
    }

    /// Allocates up to `wanted` clusters for the start of `blocks` and maps them.
    fn allocate_clusters(
        &self,
        blocks: FileRange,
        run: &ClusterRun,
        wanted: u64,
    ) -> Result<StatusExtent> {
        let ratio = self.backing.geometry.cluster;
        let (mut space, wanted) = self.space_for(run, wanted)?;
        let allocator = &self.backing.allocator;
        let allocation = self
            .request(blocks, run, wanted)
            .and_then(|request| allocator.allocate_for(&self.windows, request, &mut space));
        let allocation = match allocation {
            Ok(allocation) => allocation,
            Err(error) => {
                self.account
                    .add(space.split(self.reserved_in(run, wanted))?)?;
                return Err(error);
            }
        };
        // Fewer clusters than wanted: the reserved ones among the rest go back to the file's account.
        let clusters = allocation.clusters();
        let used = self.reserved_in(run, clusters);
        self.account
            .add(space.split(self.reserved_in(run, wanted) - used)?)?;
        let clusters_end = ratio.range_of(run.first + clusters).start();
        let part = FileRange::new(blocks.start(), blocks.end().min(clusters_end));
        let offset = match self.backing.probe.is(Mutation::IgnoreClusterOffset) {
            false => ratio.offset_in_cluster(part.start()),
            true => 0,
        };
        let disk = allocation.run().start.advance(offset);
        match self.map_unwritten(part, disk, used) {
            Ok(mapped) => {
                let _remembered_by_the_store = allocation.commit();
                self.count_allocation(clusters);
                Ok(mapped)
            }
            Err(error) => {
                let mut space = allocation.cancel();
                if !self.backing.probe.is(Mutation::LoseTakenPromise) {
                    self.account.add(space.split(used)?)?;
                }
                Err(error)
            }
        }
    }

    /// Space for `wanted` clusters of `run`, or for as many as there is space for: the reserved ones out
    /// of the file's account, the others new out of the ledger. Returns it with the number of clusters.
    fn space_for(&self, run: &ClusterRun, mut wanted: u64) -> Result<(Reservation<&Ledger>, u64)> {
        let allocator = &self.backing.allocator;
        loop {
            let reserved = self.reserved_in(run, wanted);
            match allocator.reserve(wanted - reserved) {
                Ok(mut space) => {
                    space.merge(self.account.take(reserved, allocator.ledger())?)?;
                    return Ok((space, wanted));
                }
                Err(Error::NoSpace) if wanted > 1 => wanted = wanted.div_ceil(2),
                Err(error) => return Err(error),
            }
        }
    }

    /// How many of the first `clusters` clusters of `run`, at least one and none of them allocated, are reserved. In
    /// a hole only its first and last cluster can hold delayed blocks.
    fn reserved_in(&self, run: &ClusterRun, clusters: u64) -> u64 {
        if run.delayed {
            return clusters;
        }
        if self.backing.geometry.cluster.is_one() {
            return 0;
        }
        let last = run.first + clusters - 1;
        let first_reserved = self.has_delayed(run.first);
        u64::from(first_reserved) + u64::from(last != run.first && self.has_delayed(last))
    }

    /// Tells store and status tree that `part` is now unwritten at `disk`. `used` is how many clusters of
    /// the file's reservation that uses up.
    pub(super) fn map_unwritten(
        &self,
        part: FileRange,
        disk: DiskBlock,
        used: u64,
    ) -> Result<StatusExtent> {
        let extent = MappedExtent {
            range: part,
            disk,
            state: ExtentState::Unwritten,
        };
        self.backing.store.insert(self.file, extent)?;
        let mapped = status_of(&extent);
        let ended = self.status.insert(part, mapped.status)?;
        let used = match self.backing.probe.is(Mutation::ReleaseUsedToo) {
            false => used,
            true => 0,
        };
        self.account.release(ended.released.saturating_sub(used))?;
        note(|| format!("{part:?} is allocated, unwritten; {used} promises used"));
        Ok(mapped)
    }

    /// What to ask the allocator for: `wanted` clusters of `run`, next to what the file has around `blocks`.
    fn request(&self, blocks: FileRange, run: &ClusterRun, wanted: u64) -> Result<FileRequest> {
        let ratio = self.backing.geometry.cluster;
        let store = &self.backing.store;
        let behind = match store.query(self.file, blocks.start())? {
            Mapping::Hole(hole) => hole.end(),
            Mapping::Mapped(_) => blocks.end(),
        };
        let room = ratio.cluster_of(behind).saturating_sub(run.first);
        let goal = match store.last_before(self.file, blocks.start())? {
            Some(before) => Some(Goal::From(before.disk_of(blocks.start()))),
            None => match store.query(self.file, behind)? {
                Mapping::Mapped(next) => {
                    let distance =
                        behind.0 - ratio.range_of(run.first + wanted).start().0.min(behind.0);
                    next.disk
                        .0
                        .checked_sub(distance)
                        .map(|end| Goal::UpTo(DiskBlock(end)))
                }
                Mapping::Hole(_) => None,
            },
        };
        let room = match run.purpose {
            Purpose::Data => room,
            Purpose::Fallocate => wanted,
        };
        Ok(FileRequest::at(run.first, wanted).goal(goal).room(room))
    }

    /// Gives up the space that is kept near the file for what it will write next.
    pub fn end_windows(&self) {
        self.backing.allocator.end_windows(&self.windows);
    }
}
