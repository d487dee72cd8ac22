//! Taking blocks away from a file: punch, truncate, collapse; and making room for an insert.

use crate::error::{Error, Result};
use crate::mapping::{ExtentState, MappedExtent, Shift};
use crate::probe::Mutation;
use crate::spans::span;
use crate::status::{Status, StatusExtent};
use crate::sync::journal::note;
use crate::units::{DiskRun, FileBlock, FileRange};

use super::FileBlocks;
use super::blocks::{DataLocked, cluster_base, status_of};

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
        let kept = self.kept_edges(locked, removed)?;
        let extents = self.backing.store.remove(self.file, removed)?;
        self.free(&extents, kept)
    }

    /// The clusters at the two edges of `removed`, if blocks of them outside of it are mapped. Asked before the store
    /// gives `removed` up: were it to fail between that and the freeing, clusters would be lost.
    fn kept_edges(&self, locked: &DataLocked<'_>, removed: FileRange) -> Result<[Option<u64>; 2]> {
        let ratio = self.backing.geometry.cluster;
        let whole = ratio.align_out(removed);
        let kept = |outside: FileRange| match outside.is_empty() {
            true => Ok(None),
            false => self
                .first_mapped(locked, outside)
                .map(|found| found.map(|_| ratio.cluster_of(outside.start()))),
        };
        Ok([
            kept(FileRange::new(whole.start(), removed.start()))?,
            kept(FileRange::new(removed.end(), whole.end()))?,
        ])
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

    /// Frees the clusters of `extents`, which the store has just unmapped, but for those `kept`.
    fn free(&self, extents: &[MappedExtent], kept: [Option<u64>; 2]) -> Result<()> {
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
                    if !kept.contains(&Some(edge)) {
                        outcome = outcome.and(self.free_edge(edge, place(whole)));
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
    /// now; it is promised to them in the same step.
    fn free_edge(&self, cluster: u64, run: DiskRun) -> Result<()> {
        let stays = self.backing.probe.is(Mutation::FreedStaysPending);
        if self.backing.change().is_some() && self.status.edit().is_pending(cluster) && !stays {
            return self.free_under_delayed(cluster, run);
        }
        self.count_freed(1);
        if !stays && self.status.edit().take_pending(cluster) {
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

    /// Frees a cluster of which delayed blocks remain when its space is not theirs before that is durable: they are
    /// promised another one. Where there is none they stay, and one of them is allocated in the place of what was
    /// freed.
    fn free_under_delayed(&self, cluster: u64, run: DiskRun) -> Result<()> {
        match self.backing.allocator.ledger().reserve(1) {
            Ok(space) => {
                self.count_freed(1);
                self.status.edit().take_pending(cluster);
                self.account.add(space)?;
                self.free_run(run)
            }
            Err(Error::NoSpace) => {
                let range = self.backing.geometry.cluster.range_of(cluster);
                // One is enough: the others live beside an allocated block, as before.
                let delayed = range.blocks().find(|block| self.is_delayed(*block));
                let block =
                    delayed.ok_or(Error::Corrupt("a pending cluster without delayed blocks"))?;
                let extent = MappedExtent {
                    range: FileRange::at(block, 1),
                    disk: run.start.advance(block.0 - range.start().0),
                    state: ExtentState::Unwritten,
                };
                self.backing.store.insert_in_place(self.file, extent)?;
                self.note(&status_of(&extent))
            }
            Err(error) => Err(error),
        }
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
