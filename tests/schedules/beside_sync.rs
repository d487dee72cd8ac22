//! A sync beside everything: whatever else goes on, it completes, and what was there before it is durable after it.

use extent_map::file::AllocateMode;
use extent_map::probe::Mutation;

use crate::model::{Case, Model, ensure};
use crate::world::{PAGE, World};

/// Pages 0 and 1 hold 1 and 2, and even the size is not stored yet; a sync runs beside `act`, after which the pages hold
/// `left`.
fn sync_beside<const N: usize>(case: &Case, act: fn(&World<'_>), left: [u8; N]) {
    let world = World::new(case, 16, 1);
    world.write(0, 1);
    world.write(1, 2);
    world.race([("sync", &|| world.sync()), ("act", &|| act(&world))]);
    ensure(12, world.file.size() == N as u64 * PAGE, || {
        format!("size {}", world.file.size())
    });
    world.expect_pages(&[left]);
    world.check();
}

fn verify(name: &'static str, broken: &'static [&'static [Mutation]], body: fn(&Case)) {
    Model {
        name,
        asserts: &[10, 12, 19, 22],
        broken,
        body,
    }
    .verify();
}

/// These calls wait for writeback in two ways.
const TWO_AT_ONCE: &[&[Mutation]] = &[&[
    Mutation::UnlockFoliosOverIo,
    Mutation::WritebackBesideWriteback,
]];

#[test]
fn a_write() {
    verify("sync, write", &[&[Mutation::UnlockFoliosOverIo]], |case| {
        sync_beside(case, |world| world.write(1, 3), [1, 3]);
    });
}

#[test]
fn a_store() {
    let broken: &[&[Mutation]] = &[
        &[Mutation::KeepMappingsWritable],
        &[Mutation::UnlockFoliosOverIo],
    ];
    verify("sync, store", broken, |case| {
        sync_beside(case, |world| world.store(1, 3), [1, 3]);
    });
}

#[test]
fn a_punch() {
    verify("sync, punch", &[&[Mutation::UnlockFoliosOverIo]], |case| {
        let punch = |world: &World<'_>| {
            world.allocate(AllocateMode::PunchHole, 0, 1);
            // What was freed has a new owner, over whose data no old write may come.
            assert_eq!(
                world.other.write_at(0, &[9; PAGE as usize]),
                Ok(PAGE as usize)
            );
            assert_eq!(world.other.sync_all(), Ok(()));
        };
        sync_beside(case, punch, [0, 2]);
    });
}

#[test]
fn a_zero_range() {
    verify(
        "sync, zero range",
        &[&[Mutation::UnlockFoliosOverIo]],
        |case| {
            let zero = |world: &World<'_>| world.allocate(AllocateMode::ZeroRange, 1, 2);
            sync_beside(case, zero, [1, 0, 0]);
        },
    );
}

#[test]
fn an_allocation() {
    verify(
        "sync, fallocate",
        &[&[Mutation::ExtendSizeInTwoSteps]],
        |case| {
            let allocate = |world: &World<'_>| world.allocate(AllocateMode::Allocate, 1, 3);
            sync_beside(case, allocate, [1, 2, 0, 0]);
        },
    );
}

#[test]
fn a_truncation() {
    verify(
        "sync, truncate",
        &[&[Mutation::StoreSizeBeforeDropping]],
        |case| {
            sync_beside(case, |world| world.set_pages(1), [1]);
        },
    );
}

#[test]
fn growing() {
    verify("sync, grow", &[&[Mutation::ExtendSizeInTwoSteps]], |case| {
        sync_beside(case, |world| world.set_pages(4), [1, 2, 0, 0]);
    });
}

#[test]
fn a_collapse() {
    verify("sync, collapse", TWO_AT_ONCE, |case| {
        let collapse = |world: &World<'_>| world.allocate(AllocateMode::CollapseRange, 0, 1);
        sync_beside(case, collapse, [2]);
    });
}

#[test]
fn an_insert() {
    verify("sync, insert", TWO_AT_ONCE, |case| {
        let insert = |world: &World<'_>| world.allocate(AllocateMode::InsertRange, 1, 1);
        sync_beside(case, insert, [1, 0, 2]);
    });
}

#[test]
fn reads_and_memory_pressure() {
    verify(
        "sync, read, shrinker",
        &[&[Mutation::ForgetDelayed]],
        |case| {
            let read = |world: &World<'_>| {
                world.forget();
                world.expect_pages(&[[1, 2]]);
            };
            sync_beside(case, read, [1, 2]);
        },
    );
}

#[test]
fn forgetting_all_pages_and_a_store() {
    verify(
        "sync, drop caches, store",
        &[&[Mutation::DropBesideFaults]],
        |case| {
            let world = World::new(case, 16, 1);
            world.write(0, 1);
            world.write(1, 2);
            world.race([
                ("sync", &|| world.sync()),
                ("drop caches", &|| {
                    ensure(19, world.volume.drop_caches() == Ok(()), || {
                        "caches stay".into()
                    });
                }),
                ("store", &|| world.store(1, 3)),
            ]);
            world.expect_pages(&[[1, 3]]);
            world.check();
        },
    );
}

#[test]
fn another_sync() {
    verify(
        "sync, sync, page fault",
        &[&[Mutation::KeepMappingsWritable]],
        |case| {
            let sync = |world: &World<'_>| {
                world.store(1, 3);
                world.sync();
            };
            sync_beside(case, sync, [1, 3]);
        },
    );
}
