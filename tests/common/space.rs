//! Small volumes for the allocator.

use std::ops::Deref;

use extent_map::allocator::{AllocRequest, Allocator, Ledger, Reservation};
use extent_map::units::{DiskBlock, DiskRun, Geometry};

/// A shape of volume.
pub(crate) fn geometry(block_size: u64, cluster: u64) -> Geometry {
    Geometry::new(block_size, cluster).unwrap()
}

/// Clusters of one block; cluster 0 is the volume's own.
pub(crate) fn allocator(clusters: u64, per_group: u64) -> Allocator {
    Allocator::new(clusters, geometry(4096, 1), per_group, DiskBlock(1)).unwrap()
}

/// `len` blocks from `start` on.
pub(crate) fn run(start: u64, len: u64) -> DiskRun {
    DiskRun::new(DiskBlock(start), len)
}

/// Turns a whole reservation into committed runs, however many it takes.
pub(crate) fn allocate_all<L: Deref<Target = Ledger>>(
    allocator: &Allocator,
    mut space: Reservation<L>,
    goal: u64,
) -> Vec<DiskRun> {
    let mut runs = Vec::new();
    while space.clusters() > 0 {
        let request = AllocRequest::near(DiskBlock(goal), space.clusters());
        let allocation = allocator.allocate(request, &mut space);
        runs.push(allocation.expect("reserved space is always there").commit());
    }
    runs
}
