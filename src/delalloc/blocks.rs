//! One file's blocks: what is known, true, promised and allocated, under one data lock.

use std::sync::Arc;

use crate::allocator::FileSpace;
use crate::error::{Error, Result};
use crate::mapping::{ExtentState, MappedExtent, Mapping};
use crate::probe::Mutation;
use crate::status::{Status, StatusExtent, StatusTree};
use crate::sync::uncounted::{AtomicU64, Ordering};
use crate::sync::{Rank, RwLock, RwLockWriteGuard};
use crate::units::{ClusterRatio, DiskBlock, FileBlock, FileNumber, FileRange, MAX_FILE_BLOCKS};

use super::Backing;
use super::account::Account;

/// Proof that the data lock is held exclusively; a test may forge it.
#[derive(Debug)]
pub(super) struct DataLocked<'a> {
    _exclusive: Option<RwLockWriteGuard<'a, ()>>,
}

/// The blocks of one file; see the [module](super) for what is promised. Any thread may call anything.
#[derive(Debug)]
pub struct FileBlocks {
    pub(super) file: FileNumber,
    pub(super) backing: Arc<Backing>,
    /// Shared: what the store says stays true. Exclusive: status tree, store and account may change.
    data_lock: RwLock<()>,
    pub(super) status: Arc<StatusTree>,
    pub(super) account: Account,
    /// Space kept near the file.
    pub(super) windows: FileSpace,
    /// Clusters the store maps for the file; changed under the data lock only.
    allocated: AtomicU64,
}

impl FileBlocks {
    /// The blocks of `file` as the store knows them: nothing delayed, nothing reserved.
    ///
    /// # Errors
    /// Those of the mapping store.
    pub fn open(file: FileNumber, backing: Arc<Backing>) -> Result<Self> {
        let status = Arc::new(StatusTree::new(&backing.status));
        backing.shrinker.register(&status);
        let nothing = backing.allocator.ledger().reserve_owned(0)?;
        let blocks = Self {
            file,
            backing,
            data_lock: RwLock::new(Rank::Data.of(file.0), ()),
            status,
            account: Account::new(nothing),
            windows: FileSpace::new(file.0),
            allocated: AtomicU64::new(0),
        };
        blocks
            .allocated
            .store(blocks.count_allocated()?, Ordering::Relaxed);
        Ok(blocks)
    }

    /// The status tree, for reading and for the shrinker.
    pub fn status(&self) -> &StatusTree {
        &self.status
    }

    /// Clusters promised to the file and not yet allocated.
    pub fn reserved_clusters(&self) -> u64 {
        self.account.clusters()
    }

    /// Clusters allocated to the file.
    pub fn allocated_clusters(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Clusters allocated and promised to the file, at one moment.
    pub fn clusters(&self) -> u64 {
        let probe = &self.backing.probe;
        let _shared = probe.unless(Mutation::SumBesideChanges, || self.data_lock.read());
        self.allocated_clusters() + self.reserved_clusters()
    }

    /// What `block` is: the whole extent or hole around it, as far as it is known to be uniform.
    ///
    /// Reads the tree without a lock; only where it knows nothing the store is asked, under the data
    /// lock shared, and the answer cached. The caller must hold the inode lock, the invalidate lock or
    /// the folio lock of the block if the answer is to stay true (and so that what is cached is true).
    ///
    /// # Errors
    /// [`Error::FileTooBig`] for a block no file can have; those of the mapping store.
    pub fn query(&self, block: FileBlock) -> Result<StatusExtent> {
        if block.0 >= MAX_FILE_BLOCKS {
            return Err(Error::FileTooBig);
        }
        if let Some(found) = self.status.lookup(block) {
            return Ok(found);
        }
        let probe = &self.backing.probe;
        let _shared = probe.unless(Mutation::QueryBesideChanges, || self.data_lock.read());
        let (found, cacheable) = self.find_stable(block)?;
        if cacheable {
            self.status.cache(found.range, found.status)?;
        }
        Ok(found)
    }

    /// Everything that is not a hole from block 0 on, in order and in as few extents as possible.
    ///
    /// The caller holds the inode lock if it wants a picture of one instant.
    ///
    /// # Errors
    /// Those of the mapping store.
    pub fn extents(&self) -> Result<Vec<StatusExtent>> {
        self.extents_as(|block| self.query(block))
    }

    /// The same, of what `look` says that is around a block.
    pub(crate) fn extents_as(
        &self,
        look: impl Fn(FileBlock) -> Result<StatusExtent>,
    ) -> Result<Vec<StatusExtent>> {
        let mut extents = Vec::new();
        let mut next = FileBlock(0);
        while next.0 < MAX_FILE_BLOCKS {
            let found = look(next)?.clip(FileRange::starting_at(next));
            next = found.range.end();
            if found.status != Status::Hole {
                // The tree may have known one run of one kind in two pieces.
                match extents.pop_if(|last: &mut StatusExtent| last.join(found).is_some()) {
                    Some(last) => extents.extend(last.join(found)),
                    None => extents.push(found),
                }
            }
        }
        Ok(extents)
    }

    /// Takes the data lock exclusively.
    pub(super) fn lock_data(&self) -> DataLocked<'_> {
        DataLocked {
            _exclusive: Some(self.data_lock.write()),
        }
    }

    /// The same where a test can take the lock away.
    pub(super) fn lock_data_unless(&self, missing: Mutation) -> DataLocked<'_> {
        DataLocked {
            _exclusive: self
                .backing
                .probe
                .unless(missing, || self.data_lock.write()),
        }
    }

    /// What `block` is, with the data lock held exclusively; caches nothing, so callers that hold no
    /// outer lock on the range may use it.
    pub(super) fn find(&self, _locked: &DataLocked<'_>, block: FileBlock) -> Result<StatusExtent> {
        self.find_stable(block).map(|(found, _)| found)
    }

    /// What `block` is, for a caller who may hold no lock at all; caches nothing.
    pub(super) fn find_shared(&self, block: FileBlock) -> Result<StatusExtent> {
        let _shared = self.data_lock.read();
        self.find_stable(block).map(|(found, _)| found)
    }

    /// What `block` is while the data lock is held in either mode, and whether it came from the store and
    /// may be cached. A file that lives inline has no mapping to query and nothing to cache.
    fn find_stable(&self, block: FileBlock) -> Result<(StatusExtent, bool)> {
        // The data lock keeps delayed blocks from coming and going, so what the tree does not know now
        // is not delayed; trimming to the gap keeps a hole from covering delayed neighbours.
        let look = self.status.look(block);
        if let Some(found) = look.extent() {
            return Ok((found, false));
        }
        let Some(gap) = look.gap() else {
            return Err(Error::InvalidInput("no file has a block of that number"));
        };
        if self.backing.store.inline_data(self.file)?.is_some() {
            return Ok((
                StatusExtent {
                    range: gap,
                    status: Status::Hole,
                },
                false,
            ));
        }
        let found = match self.backing.store.query(self.file, block)? {
            Mapping::Mapped(extent) => status_of(&extent.clip(gap)),
            Mapping::Hole(hole) => StatusExtent {
                range: hole.intersect(gap),
                status: Status::Hole,
            },
        };
        Ok((found, true))
    }

    /// Rejects ranges no file can have.
    pub(super) fn check_range(&self, range: FileRange) -> Result<()> {
        match range.end().0 <= MAX_FILE_BLOCKS {
            true if range.is_empty() => Err(Error::InvalidInput("an empty range of blocks")),
            true => Ok(()),
            false => Err(Error::FileTooBig),
        }
    }

    /// Whether a block of the logical cluster is delayed.
    pub(super) fn has_delayed(&self, cluster: u64) -> bool {
        let range = self.backing.geometry.cluster.range_of(cluster);
        self.status
            .scan_range(range, |status| status == Status::Delayed)
    }

    /// Whether a block is delayed.
    pub(super) fn is_delayed(&self, block: FileBlock) -> bool {
        let range = FileRange::at(block, 1);
        self.status
            .scan_range(range, |status| status == Status::Delayed)
    }

    /// Where the logical cluster starts on the volume, if a block of it is mapped.
    pub(super) fn allocated_cluster(
        &self,
        locked: &DataLocked<'_>,
        cluster: u64,
    ) -> Result<Option<DiskBlock>> {
        let ratio = self.backing.geometry.cluster;
        let first = self.first_mapped(locked, ratio.range_of(cluster))?;
        Ok(first.map(|part| cluster_base(&part, ratio)))
    }

    /// The first part of `range` that is mapped. Asks the store, for the status tree may have forgotten the block that
    /// tells.
    pub(super) fn first_mapped(
        &self,
        _locked: &DataLocked<'_>,
        range: FileRange,
    ) -> Result<Option<MappedExtent>> {
        if self.backing.probe.is(Mutation::ClusterStateFromTree)
            && !self.status.scan_range(range, Status::is_allocated)
        {
            return Ok(None);
        }
        let extents = self.backing.store.extents(self.file, range)?;
        Ok(extents.first().map(|extent| extent.clip(range)))
    }

    /// Records a change of state in the tree, and ends the promises it makes pointless.
    pub(super) fn note(&self, changed: &StatusExtent) -> Result<()> {
        let ended = self.status.insert(changed.range, changed.status)?;
        self.account.release(ended.released)
    }

    /// Notes that the file has `clusters` more.
    pub(super) fn count_allocation(&self, clusters: u64) {
        self.allocated.fetch_add(clusters, Ordering::Relaxed);
    }

    /// Notes that the file has `clusters` fewer.
    pub(super) fn count_freed(&self, clusters: u64) {
        self.allocated.fetch_sub(clusters, Ordering::Relaxed);
    }

    /// Clusters the store maps for the file, counted anew.
    pub(crate) fn count_allocated(&self) -> Result<u64> {
        let everything = FileRange::starting_at(FileBlock(0));
        let mut counted_to = 0;
        let mut clusters = 0;
        for extent in self.backing.store.extents(self.file, everything)? {
            let (first, end) = self.backing.geometry.cluster.clusters_touched(extent.range);
            clusters += end - first.max(counted_to);
            counted_to = end;
        }
        Ok(clusters)
    }
}

impl Drop for FileBlocks {
    fn drop(&mut self) {
        self.end_windows();
        let clusters = self.account.clusters();
        if clusters > 0 {
            self.backing
                .counters
                .report_reservation_leak(self.file, clusters);
        }
    }
}

/// Where the cluster of the extent's first block starts on the volume.
pub(super) fn cluster_base(extent: &MappedExtent, ratio: ClusterRatio) -> DiskBlock {
    let offset = ratio.offset_in_cluster(extent.range.start());
    DiskBlock(extent.disk.0.saturating_sub(offset))
}

/// What the status tree says of blocks that the store maps so.
pub(super) fn status_of(extent: &MappedExtent) -> StatusExtent {
    let status = match extent.state {
        ExtentState::Written => Status::Written(extent.disk),
        ExtentState::Unwritten => Status::Unwritten(extent.disk),
    };
    StatusExtent {
        range: extent.range,
        status,
    }
}
