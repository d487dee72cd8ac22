//! Loom models of the status tree: every interleaving, and every reordering that the memory orderings allow, of what
//! readers see beside changes and beside the shrinker.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_status`
//!
//! Each model has a broken twin which loom must refute.
#![cfg(all(loom, not(crossbeam_loom)))]

use std::sync::Arc;

use extent_map::probe::{Mutation, Probe};
use extent_map::status::{Status, StatusContext, StatusTree};
use extent_map::units::{ClusterRatio, DiskBlock, FileBlock, FileRange};

#[path = "common/explore.rs"]
#[allow(dead_code, reason = "some models need other parts")]
mod explore;
#[path = "common/roles.rs"]
mod roles;

use roles::{proves, race};

fn at(block: u64) -> FileRange {
    FileRange::at(FileBlock(block), 1)
}

/// Block 0 is written, block 1 delayed.
fn tree(mutations: &[Mutation]) -> Arc<StatusTree> {
    let probe = Probe::new().mutations(mutations.iter().copied());
    let context = StatusContext::with_probe(ClusterRatio::new(1).unwrap(), probe);
    let tree = StatusTree::new(&context);
    let _nothing = tree.insert(at(0), Status::Written(DiskBlock(100))).unwrap();
    tree.insert_delayed(at(1), false, false).unwrap();
    Arc::new(tree)
}

fn status(tree: &StatusTree, block: u64) -> Option<Status> {
    tree.lookup(FileBlock(block)).map(|found| found.status)
}

#[test]
fn readers_see_a_delayed_block_all_the_time_beside_the_shrinker() {
    let delayed = Some(Status::Delayed);
    let written = Some(Status::Written(DiskBlock(100)));
    let allowed = [(delayed, written), (delayed, None)];
    let model = |mutations: &[Mutation], main| {
        let tree = tree(mutations);
        let shrunk = Arc::clone(&tree);
        let read = move || (status(&tree, 1), status(&tree, 0));
        race(main, read, move || shrunk.clear()).0
    };
    proves(
        "lookup, shrinker",
        &allowed,
        model,
        &[Mutation::ForgetDelayed],
    );
}

#[test]
fn who_sees_the_number_of_a_change_sees_the_change() {
    // Two changes made the tree; the third may not be counted yet although it is seen.
    let allowed = [(2, false), (2, true), (3, true)];
    let model = |mutations: &[Mutation], main| {
        let tree = tree(mutations);
        let changed = Arc::clone(&tree);
        let read = move || {
            (
                tree.change_counter(),
                status(&tree, 1) != Some(Status::Delayed),
            )
        };
        let change = move || changed.insert(at(1), Status::Unwritten(DiskBlock(7)));
        let (seen, accounting) = race(main, read, change);
        assert_eq!(accounting.unwrap().released, 1);
        seen
    };
    proves(
        "counter, lookup",
        &allowed,
        model,
        &[Mutation::CountChangesRelaxed],
    );
}
