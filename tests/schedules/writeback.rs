//! Writeback beside what changes pages, size and mapping.

use extent_map::file::{AllocateMode, VolumeOptions};
use extent_map::probe::Mutation;
use extent_map::testing;

use crate::model::{Model, checked};
use crate::world::{PAGE, World};

#[test]
fn a_write_beside_writeback_is_never_lost() {
    Model {
        name: "write, writeback",
        asserts: &[10, 22],
        broken: &[&[Mutation::UnlockFoliosOverIo]],
        body: |case| {
            let world = World::with_hole(case, 1);
            world.write(0, 1);
            world.race([
                ("write", &|| world.write(0, 2)),
                ("writeback", &|| world.sync()),
            ]);
            world.expect_pages(&[[2]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_store_through_a_mapping_beside_writeback_is_never_lost() {
    Model {
        name: "store, writeback",
        asserts: &[10, 22],
        broken: &[&[Mutation::KeepMappingsWritable]],
        body: |case| {
            let world = World::with_hole(case, 1);
            world.store(0, 1);
            world.race([
                ("store", &|| world.store(0, 2)),
                ("writeback", &|| world.sync()),
            ]);
            world.expect_pages(&[[2]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn writeback_beside_truncation_brings_nothing_back() {
    Model {
        name: "writeback, truncate",
        asserts: &[10, 12, 22],
        broken: &[&[Mutation::StoreSizeBeforeDropping]],
        body: |case| {
            let world = World::new(case, 16, 1);
            world.write(0, 1);
            world.write(1, 2);
            world.race([
                ("writeback", &|| world.sync()),
                ("truncate", &|| world.set_pages(1)),
            ]);
            checked(testing::check(&world.volume));
            world.set_pages(2);
            world.expect_pages(&[[1, 0]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn writeback_beside_growing_stores_no_size_that_is_too_small() {
    Model {
        name: "writeback, grow",
        asserts: &[12],
        broken: &[&[Mutation::ExtendSizeInTwoSteps]],
        body: |case| {
            let world = World::with_hole(case, 0);
            world.write(0, 1);
            world.race([
                ("writeback", &|| world.sync()),
                ("grow", &|| world.set_pages(2)),
            ]);
            world.expect_pages(&[[1, 0]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn writeback_beside_fallocate_writes_each_block_to_one_place() {
    Model {
        name: "writeback, fallocate",
        asserts: &[10, 22],
        broken: &[&[Mutation::SkipSecondLook]],
        body: |case| {
            let world = World::with_hole(case, 2);
            world.write(0, 1);
            world.race([
                ("writeback", &|| world.sync()),
                ("fallocate", &|| {
                    world.allocate(AllocateMode::Allocate, 0, 2)
                }),
                ("page fault", &|| world.store(1, 2)),
            ]);
            world.expect_pages(&[[1, 2]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn two_writebacks_where_no_extent_can_be_split_zero_nothing_that_was_written() {
    Model {
        name: "writeback, writeback, no room to split",
        asserts: &[10],
        broken: &[&[Mutation::WritebackBesideWriteback]],
        body: |case| {
            let world = World::shaped(case, 16, 1, 1, VolumeOptions::new());
            world.allocate(AllocateMode::Allocate, 0, 2);
            world.write(0, 1);
            world.write(1, 2);
            let first = || assert_eq!(world.file.sync_range(0, PAGE), Ok(()));
            let second = || assert_eq!(world.file.sync_range(PAGE, PAGE), Ok(()));
            world.race([("page 0", &first), ("page 1", &second)]);
            world.expect_pages(&[[1, 2]]);
            world.check();
        },
    }
    .verify();
}
