//! Admission of a write to blocks that nothing backs yet: look, lock, look again, reserve, delay.

use crate::error::{Error, Result};
use crate::probe::Mutation;
use crate::stats::Counter;
use crate::status::{Look, Status, StatusExtent};
use crate::sync::journal::note;
use crate::units::{FileBlock, FileRange};

use super::FileBlocks;
use super::allocate::Purpose;
use super::blocks::DataLocked;

/// What already costs or holds space in a cluster that is to get one more delayed block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ClusterState {
    /// Nothing: the cluster needs a reservation.
    Free,
    /// A delayed block: the cluster is reserved already.
    Delayed,
    /// Only allocated blocks: the cluster is paid for and becomes pending.
    Allocated,
}

impl FileBlocks {
    /// Makes sure that the start of `range` is backed: allocated, or delayed with its space promised.
    ///
    /// Returns the backed start of the range with its status, never a hole; call again for the rest. A
    /// hole is delayed as one extent for the whole run, or allocated at once (unwritten) when the policy
    /// or low space says so. A run for which there is not enough space is cut to what there is.
    ///
    /// Safe against every other operation on the file. What it returns stays true only while the caller
    /// holds something that keeps the blocks backed (inode lock, invalidate lock or folio lock).
    ///
    /// # Errors
    /// [`Error::NoSpace`] when not even one cluster can be promised; nothing is inserted or kept then.
    /// Errors of the mapping store.
    pub fn admit(&self, range: FileRange) -> Result<StatusExtent> {
        self.check_range(range)?;
        let look = self.first_look(range.start())?;
        note(|| {
            format!(
                "looks at {:?}, no data lock: {}",
                range.start(),
                told(look.extent())
            )
        });
        if let Some(found) = look.extent()
            && found.status != Status::Hole
        {
            return Ok(found.clip(range));
        }
        self.backing.probe.looked(self.file, range);
        let locked = self.lock_data_unless(Mutation::DelayBesideReaders);
        let hole = if self.backing.probe.is(Mutation::SkipSecondLook) {
            look.extent()
                .map_or(range, |hole| hole.range.intersect(range))
        } else {
            let found = self.second_look(&locked, &look, range.start())?;
            note(|| format!("looks again: {}", told(Some(found))));
            if found.status != Status::Hole {
                self.backing.counters.count(Counter::SecondLookChanged);
                return Ok(found.clip(range));
            }
            match self.backing.probe.is(Mutation::DelayUntrimmed) {
                false => found.range.intersect(range),
                true => range,
            }
        };
        self.back_hole(&locked, hole)
    }

    /// Backs the start of `hole`: delayed if the policy and free space allow it, else allocated.
    pub(super) fn back_hole(
        &self,
        locked: &DataLocked<'_>,
        hole: FileRange,
    ) -> Result<StatusExtent> {
        if self.backing.delays_now() {
            return self.delay(locked, hole);
        }
        if self.backing.policy.delayed {
            self.backing.counters.count(Counter::ImmediateAllocations);
        }
        self.allocate_start(locked, hole, Purpose::Data)
    }

    /// The lock-free look; asks the store, and caches what it says, only where the tree knows nothing.
    fn first_look(&self, block: FileBlock) -> Result<Look> {
        let look = self.status.look(block);
        if look.extent().is_some() {
            return Ok(look);
        }
        self.query(block)?;
        Ok(self.status.look(block))
    }

    /// What `block` is now, for certain: the first look's answer if nothing near it changed since.
    fn second_look(
        &self,
        locked: &DataLocked<'_>,
        first: &Look,
        block: FileBlock,
    ) -> Result<StatusExtent> {
        if let Some(found) = first.extent()
            && self.status.edit().revalidate(first)
        {
            return Ok(found);
        }
        self.find(locked, block)
    }

    /// Reserves space for `hole`, or for as much of its start as there is space for, and delays it.
    fn delay(&self, locked: &DataLocked<'_>, hole: FileRange) -> Result<StatusExtent> {
        let cluster = self.backing.geometry.cluster;
        let mut run = hole;
        loop {
            let (first_cluster, end_cluster) = cluster.clusters_touched(run);
            let one_cluster = end_cluster - first_cluster == 1;
            let first = self.cluster_state(locked, first_cluster)?;
            let last = match one_cluster {
                true => first,
                false => self.cluster_state(locked, end_cluster - 1)?,
            };
            let spanned = end_cluster - first_cluster;
            let edges = match (first != ClusterState::Free, last != ClusterState::Free) {
                (true, true) if !one_cluster => 2,
                (true, _) | (_, true) => 1,
                (false, false) => 0,
            };
            match self.backing.allocator.reserve(spanned - edges) {
                Ok(mut reservation) => {
                    note(|| format!("{} clusters are promised for {run:?}", spanned - edges));
                    if self.backing.probe.is(Mutation::SkipSecondLook) {
                        // What the bug did: whatever is there now is replaced unseen.
                        let _uncounted = self.status.remove(run)?;
                    }
                    if self.backing.probe.is(Mutation::AccountBeforeInsert) {
                        self.account.add(reservation.split(spanned - edges)?)?;
                    }
                    self.status.insert_delayed(
                        run,
                        first == ClusterState::Allocated,
                        !one_cluster && last == ClusterState::Allocated,
                    )?;
                    self.account.add(reservation)?;
                    note(|| format!("{run:?} is delayed"));
                    self.backing.counters.count(Counter::DelayedInserts);
                    return Ok(StatusExtent {
                        range: run,
                        status: Status::Delayed,
                    });
                }
                Err(Error::NoSpace) if spanned > 1 => {
                    let half = cluster
                        .range_of(first_cluster + spanned.div_ceil(2))
                        .start();
                    run = FileRange::new(run.start(), half);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What a new delayed block would find in `cluster`.
    fn cluster_state(&self, locked: &DataLocked<'_>, cluster: u64) -> Result<ClusterState> {
        if self.backing.geometry.cluster.is_one() {
            return Ok(ClusterState::Free);
        }
        if self.has_delayed(cluster) {
            return Ok(ClusterState::Delayed);
        }
        Ok(match self.allocated_cluster(locked, cluster)? {
            Some(_) => ClusterState::Allocated,
            None => ClusterState::Free,
        })
    }
}

/// A look, in the words of a story.
fn told(found: Option<StatusExtent>) -> String {
    let status = |found: StatusExtent| format!("{:?}", found.status).to_lowercase();
    found.map_or("nothing is known".into(), status)
}
