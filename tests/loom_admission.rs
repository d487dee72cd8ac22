//! Loom models of the admission of a block: every interleaving, and every reordering that the memory orderings allow, of
//! the protocol *look, lock, look again* and of what runs beside it.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_admission`
//!
//! Epochs never end here; the snapshots of the mapping store change in one step. Each model has a broken twin which loom
//! must refute.
#![cfg(all(loom, not(crossbeam_loom)))]

use std::sync::Arc;

use extent_map::allocator::Allocator;
use extent_map::block::BlockQueue;
use extent_map::delalloc::{Backing, FileBlocks};
use extent_map::device::MemoryDevice;
use extent_map::mapping::MemoryStore;
use extent_map::probe::{Mutation, Probe};
use extent_map::status::Status;
use extent_map::units::{DiskBlock, FileBlock, FileNumber, FileRange, Geometry};

#[path = "common/explore.rs"]
#[allow(dead_code, reason = "some models need other parts")]
mod explore;
#[path = "common/roles.rs"]
mod roles;

use roles::{Main, proves, race};

/// A file of nothing on a volume of `clusters` clusters of one block.
fn blocks(clusters: u64, mutations: &[Mutation]) -> Arc<FileBlocks> {
    let geometry = Geometry::new(4096, 1).unwrap();
    let device = Arc::new(MemoryDevice::new((clusters + 1) * 4096));
    let probe = Probe::new().mutations(mutations.iter().copied());
    let allocator = Allocator::new(clusters + 1, geometry, 64, DiskBlock(1)).unwrap();
    let store = Arc::new(MemoryStore::new());
    let queue = BlockQueue::new(device, geometry.block_size, Arc::default());
    let backing = Backing::new(queue, store, allocator.with_probe(probe));
    Arc::new(FileBlocks::open(FileNumber(1), Arc::new(backing)).unwrap())
}

const BLOCK: FileRange = FileRange::at(FileBlock(0), 1);

/// What became of block 0: its status, and how many clusters are promised and allocated.
type Outcome = (Option<Status>, u64, u64);

fn outcome(blocks: &FileBlocks) -> Outcome {
    let status = blocks
        .status()
        .lookup(FileBlock(0))
        .map(|found| found.clip(BLOCK).status);
    (
        status,
        blocks.reserved_clusters(),
        blocks.allocated_clusters(),
    )
}

/// A page fault admits a block while fallocate allocates it.
fn admit_beside_allocate(mutations: &[Mutation], main: Main) -> Outcome {
    let blocks = blocks(4, mutations);
    // The hole is known: the first look needs no lock.
    blocks.query(FileBlock(0)).unwrap();
    let [fault, call] = [Arc::clone(&blocks), Arc::clone(&blocks)];
    let outcomes = race(
        main,
        move || fault.admit(BLOCK).map(drop),
        move || call.allocate(BLOCK),
    );
    assert_eq!(outcomes, (Ok(()), Ok(1)));
    outcome(&blocks)
}

/// Two page faults admit a block.
fn admit_beside_admit(mutations: &[Mutation], main: Main) -> Outcome {
    let blocks = blocks(4, mutations);
    blocks.query(FileBlock(0)).unwrap();
    let [one, two] = [Arc::clone(&blocks), Arc::clone(&blocks)];
    let outcomes = race(
        main,
        move || one.admit(BLOCK).map(drop),
        move || two.admit(BLOCK).map(drop),
    );
    assert_eq!(outcomes, (Ok(()), Ok(())));
    outcome(&blocks)
}

/// A page fault admits a block while the hole that it is part of is looked up and cached.
fn admit_beside_query(mutations: &[Mutation], main: Main) -> Outcome {
    let blocks = blocks(4, mutations);
    let [fault, read] = [Arc::clone(&blocks), Arc::clone(&blocks)];
    let outcomes = race(
        main,
        move || fault.admit(BLOCK).map(drop),
        move || read.query(FileBlock(1)).map(drop),
    );
    assert_eq!(outcomes, (Ok(()), Ok(())));
    outcome(&blocks)
}

/// Allocated, and nothing promised, whoever was first.
const ALLOCATED: &[Outcome] = &[(Some(Status::Unwritten(DiskBlock(1))), 0, 1)];
/// Delayed, and promised once.
const DELAYED: &[Outcome] = &[(Some(Status::Delayed), 1, 0)];

#[test]
fn a_block_that_is_admitted_and_allocated_at_once_is_allocated() {
    let broken = &[Mutation::SkipSecondLook];
    proves("admit, allocate", ALLOCATED, admit_beside_allocate, broken);
}

#[test]
fn a_block_that_is_admitted_twice_at_once_is_promised_once() {
    let broken = &[Mutation::DelayBesideReaders];
    proves("admit, admit", DELAYED, admit_beside_admit, broken);
}

#[test]
fn a_hole_that_is_cached_never_hides_a_block_that_is_admitted() {
    let broken = &[Mutation::QueryBesideChanges, Mutation::CacheReplaces];
    proves(
        "admit, query of a hole",
        DELAYED,
        admit_beside_query,
        broken,
    );
}
