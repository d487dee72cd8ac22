//! Taking blocks away from a file: punch, truncate, collapse; and making room for an insert.

use crate::allocator::{Ledger, Reservation};
use crate::error::{Error, Result};
use crate::mapping::{ExtentState, MappedExtent, Shift};
use crate::probe::Mutation;
use crate::spans::span;
use crate::status::{Status, StatusExtent};
use crate::sync::journal::note;
use crate::units::{DiskRun, FileBlock, FileRange};

use super::FileBlocks;
use super::blocks::{DataLocked, cluster_base, status_of};

/// The clusters at the two edges of what is removed.
struct Edges<'l> {
    /// Those that the file keeps.
    kept: [Option<u64>; 2],
    /// For delayed blocks that lose the space they lived on.
    space: Reservation<&'l Ledger>,
}

impl FileBlocks {
    /// Makes every block of `range` a hole: promises end, allocated clusters that no block uses any more
    /// become free.
    ///
    /// The caller holds inode and invalidate lock exclusively and has dropped the pages of the range.
    ///
    /// # Errors
    /// Those of the mapping store; [`Error::Corrupt`] when the allocator disagrees about what was used.
    pub fn punch(&self, range: FileRange) -> Result<()> {
        span!(DEBUG, "punch", file = self.file.0, ?range);
        if range.is_empty() {
            return Ok(());
        }
        self.check_range(range)?;
        let locked = self.lock_data();
        self.remove(&locked, range, range)?;
        self.note(&StatusExtent {
            range,
            status: Status::Hole,
        })
    }

    /// Drops every block from `start` on, as a truncation does. Locks and errors as for
    /// [`punch`](Self::punch).
    pub fn truncate(&self, start: FileBlock) -> Result<()> {
        span!(DEBUG, "truncate", file = self.file.0, ?start);
        let tail = FileRange::starting_at(start);
        self.remove(&self.lock_data(), tail, tail)
    }

    /// Takes `range`, which is cluster aligned, out of the file and moves everything behind it left.
    /// Locks and errors as for [`punch`](Self::punch), here for everything from the range on.
    pub fn collapse(&self, range: FileRange) -> Result<()> {
        self.check_range(range)?;
        let locked = self.lock_data_unless(Mutation::CollapseUnlocked);
        self.remove(&locked, FileRange::starting_at(range.start()), range)?;
        self.backing
            .store
            .shift(self.file, range.end(), Shift::Left(range.len()))
    }

    /// Moves everything from `at` on right by `len` blocks, both cluster aligned. Locks as for
    /// [`punch`](Self::punch), here for everything from `at` on; nothing there may be delayed.
    ///
    /// # Errors
    /// [`Error::FileTooBig`] when blocks would move past the last one a file can have; nothing is
    /// changed then. Those of the mapping store.
    pub fn insert_gap(&self, at: FileBlock, len: u64) -> Result<()> {
        let tail = FileRange::starting_at(at);
        let locked = self.lock_data();
        if self
            .status
            .scan_range(tail, |status| status == Status::Delayed)
        {
            return Err(Error::Corrupt("delayed blocks behind an inserted range"));
        }
        self.backing.store.shift(self.file, at, Shift::Right(len))?;
        self.forget(&locked, tail)
    }

    /// Makes the tree forget `forgotten` and the store give up `removed`, which lies in it.
    pub(super) fn remove(
        &self,
        locked: &DataLocked<'_>,
        forgotten: FileRange,
        removed: FileRange,
    ) -> Result<()> {
        self.end_windows();
        self.forget(locked, forgotten)?;
        let edges = self.edges(locked, removed)?;
        let extents = self.backing.store.remove(self.file, removed)?;
        self.free(&extents, edges)
    }

    /// What becomes of the clusters at the two edges of `removed`. All that may fail is done before the store gives `removed`
    /// up: were it to fail between that and the freeing, clusters or promises would be lost.
    fn edges(&self, locked: &DataLocked<'_>, removed: FileRange) -> Result<Edges<'_>> {
        let ratio = self.backing.geometry.cluster;
        let whole = ratio.align_out(removed);
        let outside = [
            FileRange::new(whole.start(), removed.start()),
            FileRange::new(removed.end(), whole.end()),
        ];
        let ledger = self.backing.allocator.ledger();
        let mut edges = Edges {
            kept: [None; 2],
            space: ledger.reserve(0)?,
        };
        let cut =
            outside.map(|outside| (!outside.is_empty()).then(|| ratio.cluster_of(outside.start())));
        for (edge, outside) in outside.into_iter().enumerate() {
            if cut[edge].is_some() && self.first_mapped(locked, outside)?.is_some() {
                edges.kept[edge] = cut[edge];
            }
        }
        for (edge, cluster) in cut.into_iter().enumerate() {
            let Some(cluster) = cluster else { continue };
            let seen = edge == 1 && cut[0] == cut[1];
            if seen || edges.kept.contains(&Some(cluster)) || !self.leaves_delayed(cluster) {
                continue;
            }
            match ledger.reserve(1) {
                Ok(space) => edges.space.merge(space)?,
                Err(Error::NoSpace) => {
                    self.keep_for_delayed(locked, cluster)?;
                    edges.kept[edge] = Some(cluster);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(edges)
    }

    /// Whether delayed blocks live on the space of `cluster`, and will need another one when it is freed: it is not theirs
    /// before that is durable.
    fn leaves_delayed(&self, cluster: u64) -> bool {
        let stays = self.backing.probe.is(Mutation::FreedStaysPending);
        self.backing.change().is_some() && !stays && self.status.is_pending(cluster)
    }

    /// Allocates one of the delayed blocks of `cluster` in its place there. One is enough: the others live beside an
    /// allocated block, as before.
    fn keep_for_delayed(&self, locked: &DataLocked<'_>, cluster: u64) -> Result<()> {
        let range = self.backing.geometry.cluster.range_of(cluster);
        let delayed = range.blocks().find(|block| self.is_delayed(*block));
        let base = self.allocated_cluster(locked, cluster)?;
        let (Some(block), Some(base)) = (delayed, base) else {
            return Err(Error::Corrupt("a pending cluster that has no need to be"));
        };
        let extent = MappedExtent {
            range: FileRange::at(block, 1),
            disk: base.advance(block.0 - range.start().0),
            state: ExtentState::Unwritten,
        };
        self.backing.store.insert_in_place(self.file, extent)?;
        self.note(&status_of(&extent))
    }

    /// Drops what the tree knows of `range`; delayed blocks end with their promises.
    fn forget(&self, _locked: &DataLocked<'_>, range: FileRange) -> Result<()> {
        let ended = self.status.remove(range)?;
        note(|| format!("forgets {range:?}; {} promises end", ended.released));
        let keeps = self.backing.probe.is(Mutation::ReleaseOnlyWhileDelaying);
        if keeps && !self.backing.delays_now() {
            return Ok(());
        }
        self.account.release(ended.released)
    }

    /// Frees the clusters of `extents`, which the store has just unmapped, but for those that are kept.
    fn free(&self, extents: &[MappedExtent], mut edges: Edges<'_>) -> Result<()> {
        let ratio = self.backing.geometry.cluster;
        let mut outcome = Ok(());
        let mut edges_done_to = 0;
        for extent in extents {
            let inner = ratio.align_in(extent.range);
            let (first, end) = ratio.clusters_touched(extent.range);
            let base = cluster_base(extent, ratio);
            let place = |blocks: FileRange| {
                let distance = blocks.start().0 - ratio.range_of(first).start().0;
                DiskRun::new(base.advance(distance), blocks.len())
            };
            for edge in [first, end - 1] {
                let whole = ratio.range_of(edge);
                if !inner.contains(whole.start()) && edge >= edges_done_to {
                    edges_done_to = edge + 1;
                    if !edges.kept.contains(&Some(edge)) {
                        let freed = self.free_edge(edge, place(whole), &mut edges.space);
                        outcome = outcome.and(freed);
                    }
                }
            }
            if !inner.is_empty() {
                self.count_freed(ratio.clusters_for(inner.len()));
                outcome = outcome.and(self.free_run(place(inner)));
            }
        }
        outcome
    }

    /// Frees a cluster of which only a part was mapped. If delayed blocks remain in it they lived on its space until
    /// now; in the same step it is promised to them, or one of `space`.
    fn free_edge(
        &self,
        cluster: u64,
        run: DiskRun,
        space: &mut Reservation<&Ledger>,
    ) -> Result<()> {
        let leaves_delayed = self.leaves_delayed(cluster);
        let stays = self.backing.probe.is(Mutation::FreedStaysPending);
        self.count_freed(1);
        if !stays && self.status.edit().take_pending(cluster) {
            if leaves_delayed {
                self.account.add(space.split(1)?)?;
                return self.free_run(run);
            }
            if self.backing.probe.is(Mutation::FreeThenReserve) {
                self.backing.allocator.free(run)?;
                return self.account.add(self.backing.allocator.reserve(1)?);
            }
            return self
                .account
                .add(self.backing.allocator.free_into_reservation(run)?);
        }
        self.free_run(run)
    }

    /// Frees a run that the store has just unmapped: at once, or when that is durable.
    fn free_run(&self, run: DiskRun) -> Result<()> {
        let allocator = &self.backing.allocator;
        match self.backing.change() {
            None => allocator.free(run),
            Some(change) => allocator.free_after(run, change),
        }
    }
}
