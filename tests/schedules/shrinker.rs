//! Memory pressure, and reads that fill the status tree, beside what changes it.

use extent_map::file::AllocateMode;
use extent_map::probe::Mutation;
use extent_map::status::{Status, StatusContext, StatusTree};
use extent_map::units::{ClusterRatio, DiskBlock, FileBlock, FileRange};
use shuttle::thread;

use crate::model::{Case, Model, ensure, violated};
use crate::world::World;

#[test]
fn a_read_that_caches_a_hole_beside_a_write_hides_no_byte() {
    Model {
        name: "read of a hole, write, shrinker",
        asserts: &[4, 22],
        broken: &[
            &[Mutation::DelayBesideReaders, Mutation::CacheReplaces],
            &[Mutation::QueryBesideChanges, Mutation::CacheReplaces],
        ],
        body: |case| {
            let world = World::with_hole(case, 2);
            world.race([
                // What is read is a hole as far as nothing is known, over the page that is stored to.
                ("read", &|| {
                    ensure(22, world.first_byte_of(1) == 0, || "not a zero".into())
                }),
                ("page fault", &|| world.store(0, 3)),
                ("shrinker", &|| world.forget()),
            ]);
            world.expect_pages(&[[3, 0]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_read_beside_writeback_and_forgetting_sees_what_was_written() {
    Model {
        name: "read, writeback, shrinker",
        asserts: &[10, 22],
        broken: &[&[Mutation::ForgetDelayed]],
        body: |case| {
            let world = World::with_hole(case, 2);
            world.write(0, 4);
            world.race([
                ("read", &|| world.expect_pages(&[[4, 0]])),
                ("writeback", &|| world.sync()),
                ("shrinker", &|| world.forget()),
            ]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_read_beside_allocate_and_forgetting_remembers_no_hole_that_is_gone() {
    Model {
        name: "read, fallocate, shrinker",
        asserts: &[3, 22],
        broken: &[&[Mutation::QueryBesideChanges, Mutation::CacheReplaces]],
        body: |case| {
            let world = World::with_hole(case, 1);
            world.race([
                ("read", &|| world.expect_pages(&[[0]])),
                ("fallocate", &|| {
                    world.allocate(AllocateMode::Allocate, 0, 1)
                }),
                ("shrinker", &|| world.forget()),
            ]);
            world.write(0, 1);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_store_to_an_allocated_cluster_that_was_forgotten_promises_nothing() {
    Model {
        name: "store to an allocated cluster, shrinker",
        asserts: &[1, 5],
        broken: &[&[Mutation::ClusterStateFromTree]],
        body: |case| {
            let world = World::with_one_cluster(case, 2);
            world.race([
                ("page fault", &|| world.store(3, 2)),
                ("shrinker", &|| world.forget()),
            ]);
            ensure(1, world.file.reserved_blocks() == 0, || {
                "promised twice".into()
            });
            world.expect_pages(&[[1, 0, 0, 2]]);
            world.check();
        },
    }
    .verify();
}

/// Block 0 is written, 1 delayed, 2 a hole, nothing is known of 3.
fn tree(case: &Case) -> StatusTree {
    let cluster = ClusterRatio::new(1).unwrap();
    let tree = StatusTree::new(&StatusContext::with_probe(cluster, case.probe.clone()));
    let _nothing = tree.insert(at(0), Status::Written(DiskBlock(100))).unwrap();
    tree.insert_delayed(at(1), false, false).unwrap();
    let _nothing = tree.insert(at(2), Status::Hole).unwrap();
    tree
}

fn at(block: u64) -> FileRange {
    FileRange::at(FileBlock(block), 1)
}

/// What may be known of the four blocks at the end, each by itself, beside nothing.
type Known = [Option<Status>; 4];

/// One operation on the tree beside the shrinker, and what it leaves.
fn beside_the_shrinker(case: &Case, operation: fn(&StatusTree) -> Known) {
    let tree = tree(case);
    let known = thread::scope(|scope| {
        scope.spawn(|| {
            case.story
                .thread("shrinker", || tree.shrink_where(|_| true))
        });
        let operation = scope.spawn(|| case.story.thread("operation", || operation(&tree)));
        operation.join().unwrap()
    });
    for (block, expected) in (0..).zip(known) {
        let found = tree.lookup(FileBlock(block)).map(|extent| {
            let place = extent.clip(at(block)).status;
            ensure(2, extent.range.contains(FileBlock(block)), || {
                format!("{extent:?}")
            });
            place
        });
        let delayed = expected == Some(Status::Delayed);
        let right = found == expected || (found.is_none() && !delayed);
        ensure(4, right, || {
            format!("block {block}: {found:?}, not {expected:?}")
        });
    }
    let extents = tree.extents(FileRange::starting_at(FileBlock(0)));
    let reclaimable = extents
        .iter()
        .filter(|extent| !extent.status.is_delayed())
        .count() as u64;
    let counts = (tree.entry_count(), tree.reclaimable_count());
    ensure(18, counts == (extents.len() as u64, reclaimable), || {
        format!("{counts:?}")
    });
}

const W: Option<Status> = Some(Status::Written(DiskBlock(100)));
const U: Option<Status> = Some(Status::Unwritten(DiskBlock(200)));
const D: Option<Status> = Some(Status::Delayed);
const H: Option<Status> = Some(Status::Hole);

/// Gives each operation on a status tree its turn beside the shrinker.
fn verify(name: &'static str, body: fn(&Case)) {
    Model {
        name,
        asserts: &[2, 4, 18],
        broken: &[&[Mutation::ForgetDelayed]],
        body,
    }
    .verify();
}

#[test]
fn the_shrinker_beside_insert() {
    verify("shrinker, insert", |case| {
        beside_the_shrinker(case, |tree| {
            let ended = tree
                .insert(at(2), Status::Unwritten(DiskBlock(200)))
                .unwrap();
            ensure(1, ended.released == 0, || format!("{ended:?}"));
            [W, D, U, None]
        });
    });
}

#[test]
fn the_shrinker_beside_a_delayed_insert() {
    verify("shrinker, delayed insert", |case| {
        beside_the_shrinker(case, |tree| {
            tree.insert_delayed(at(2), false, false).unwrap();
            [W, D, D, None]
        });
    });
}

#[test]
fn the_shrinker_beside_caching() {
    verify("shrinker, cache", |case| {
        beside_the_shrinker(case, |tree| {
            tree.cache(at(3), Status::Hole).unwrap();
            // Of a block that is delayed nothing is ever taken over.
            tree.cache(at(1), Status::Hole).unwrap();
            [W, D, H, H]
        });
    });
}

#[test]
fn the_shrinker_beside_removal_counts_each_promise_once() {
    verify("shrinker, remove", |case| {
        beside_the_shrinker(case, |tree| {
            let all = FileRange::at(FileBlock(0), 4);
            let ended = tree.remove(all).unwrap();
            ensure(1, ended.released == 1, || format!("{ended:?}"));
            [None; 4]
        });
    });
}

#[test]
fn the_shrinker_beside_a_look_that_is_checked() {
    verify("shrinker, look and delayed insert", |case| {
        beside_the_shrinker(case, |tree| {
            let look = tree.look(FileBlock(2));
            let mut editor = tree.edit();
            match look.extent() {
                // Nobody but the shrinker is there: what was seen is so, or nothing is known.
                Some(seen) if seen.status == Status::Hole => {}
                None => {}
                Some(seen) => violated(22, format!("{seen:?}")),
            }
            if editor.revalidate(&look) && look.extent().is_some() {
                let now = editor.lookup(FileBlock(2));
                ensure(22, now == look.extent(), || format!("valid, but {now:?}"));
            }
            editor.insert_delayed(at(2), false, false).unwrap();
            [W, D, D, None]
        });
    });
}

#[test]
fn the_shrinker_beside_lookups() {
    verify("shrinker, lookups", |case| {
        beside_the_shrinker(case, |tree| {
            let all = FileRange::at(FileBlock(0), 4);
            let first = tree.lookup(FileBlock(0)).map(|extent| extent.status);
            ensure(22, [W, None].contains(&first), || format!("{first:?}"));
            let delayed = tree
                .find_range(all, Status::is_delayed)
                .map(|extent| extent.range);
            ensure(4, delayed == Some(at(1)), || format!("{delayed:?}"));
            let count = tree.extents(all).len();
            ensure(22, [1, 3].contains(&count), || {
                format!("{count} of three or one")
            });
            [W, D, H, None]
        });
    });
}
