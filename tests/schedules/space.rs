//! Promises of space: near the last cluster, and in clusters of several blocks.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use extent_map::Error;
use extent_map::file::{AllocateMode, File};
use extent_map::probe::Mutation;
use extent_map::testing;

use crate::model::{Case, Model, checked, ensure};
use crate::world::{PAGE, World};

/// Fills the first page of `file`; whether there was space.
fn fill(file: &File, byte: u8) -> bool {
    let outcome = file.write_at(0, &[byte; PAGE as usize]);
    let allowed = [Ok(PAGE as usize), Err(Error::NoSpace)].contains(&outcome);
    ensure(21, allowed, || format!("write: {outcome:?}"));
    outcome.is_ok()
}

#[test]
fn the_last_cluster_goes_to_exactly_one_writer_and_writeback_has_room() {
    Model {
        name: "reserve, reserve, one cluster left",
        asserts: &[21],
        broken: &[&[Mutation::ReserveLooksThenActs]],
        body: |case| {
            let world = World::new(case, 1, 1);
            let winners = AtomicUsize::new(0);
            let write = |file: &File| {
                if fill(file, 1) {
                    winners.fetch_add(1, Relaxed);
                    ensure(21, file.sync_all() == Ok(()), || {
                        "no room for writeback".into()
                    });
                }
            };
            world.race([
                ("file 1", &|| write(&world.file)),
                ("file 2", &|| write(&world.other)),
            ]);
            let winners = winners.into_inner();
            ensure(21, winners == 1, || {
                format!("{winners} writers have the last cluster")
            });
            world.check();
        },
    }
    .verify();
}

#[test]
fn space_given_back_beside_a_write_is_neither_lost_nor_doubled() {
    Model {
        name: "reserve, release, one cluster left",
        asserts: &[21],
        broken: &[&[Mutation::ReserveLooksThenActs]],
        body: |case| {
            let world = World::new(case, 1, 1);
            world.write(0, 1);
            world.race([
                ("truncate, write", &|| {
                    world.set_pages(0);
                    let _won = fill(&world.file, 3);
                }),
                ("other file", &|| {
                    let _won = fill(&world.other, 2);
                }),
            ]);
            checked(testing::check(&world.volume));
            world.set_pages(0);
            ensure(21, fill(&world.other, 4), || {
                "space that is free is refused".into()
            });
            world.check();
        },
    }
    .verify();
}

/// Two stores to one cluster of four blocks, and a writeback.
fn two_stores_in_one_cluster(case: &Case) {
    let world = World::new(case, 2, 4);
    world.set_pages(4);
    world.race([
        ("store 0", &|| world.store(0, 1)),
        ("store 3", &|| world.store(3, 2)),
        ("writeback", &|| world.sync()),
    ]);
    ensure(1, world.file.blocks() == 4 * PAGE / 512, || {
        format!("{} sectors for one cluster", world.file.blocks())
    });
    world.expect_pages(&[[1, 0, 0, 2]]);
    world.check();
}

#[test]
fn two_stores_to_one_cluster_promise_it_once() {
    Model {
        name: "store, store in one cluster, writeback",
        asserts: &[1, 5],
        broken: &[&[Mutation::DelayBesideReaders]],
        body: two_stores_in_one_cluster,
    }
    .verify();
}

#[test]
fn punching_an_allocated_block_beside_a_store_to_its_cluster_keeps_the_promise() {
    Model {
        name: "store, punch, writeback in one cluster",
        asserts: &[1, 5],
        broken: &[&[Mutation::FreedStaysPending]],
        body: |case| {
            let world = World::with_one_cluster(case, 2);
            world.race([
                ("store", &|| world.store(3, 2)),
                ("punch", &|| world.allocate(AllocateMode::PunchHole, 0, 1)),
                ("writeback", &|| world.sync()),
            ]);
            world.expect_pages(&[[0, 0, 0, 2]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_pending_cluster_that_is_freed_is_promised_again_before_anybody_can_take_it() {
    Model {
        name: "pending cluster freed, write of another file, one cluster",
        asserts: &[1, 21],
        broken: &[&[Mutation::FreeThenReserve]],
        body: |case| {
            let world = World::with_one_cluster(case, 1);
            // Allocated, and with a delayed block: pending.
            world.store(3, 2);
            world.race([
                ("punch", &|| world.allocate(AllocateMode::PunchHole, 0, 1)),
                ("other file", &|| {
                    ensure(21, !fill(&world.other, 3), || {
                        "a promised cluster is given away".into()
                    });
                }),
            ]);
            world.expect_pages(&[[0, 0, 0, 2]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_read_beside_punch_never_sees_what_another_file_put_there() {
    Model {
        name: "read, punch and reuse by another file",
        asserts: &[10, 11],
        broken: &[&[Mutation::PunchBesideFaults]],
        body: |case| {
            let world = World::new(case, 1, 1);
            world.write(0, 1);
            assert_eq!(world.volume.drop_caches(), Ok(()));
            world.race([
                ("read", &|| {
                    let byte = world.byte_of(0);
                    ensure(11, [0, 1].contains(&byte), || format!("byte {byte}"));
                }),
                ("punch, other file", &|| {
                    world.allocate(AllocateMode::PunchHole, 0, 1);
                    ensure(21, fill(&world.other, 2), || {
                        "freed space is refused".into()
                    });
                    assert_eq!(world.other.sync_all(), Ok(()));
                }),
            ]);
            world.expect_pages(&[[0]]);
            world.check();
        },
    }
    .verify();
}
